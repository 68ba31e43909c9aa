//! Pure: medians, percentiles, ratios, and whether a promise holds.

use std::collections::BTreeMap;

/// What is promised of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Not less than this.
    AtLeast(f64),
    /// Not more than this.
    AtMost(f64),
}

impl Goal {
    /// Whether a figure is as promised.
    #[must_use]
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(goal) => figure >= goal,
            Self::AtMost(goal) => figure <= goal,
        }
    }

    /// The figure that is farthest from what is promised.
    #[must_use]
    pub fn worst(self, figures: &[f64]) -> Option<f64> {
        let figures = figures.iter().copied();
        match self {
            Self::AtLeast(_) => figures.min_by(f64::total_cmp),
            Self::AtMost(_) => figures.max_by(f64::total_cmp),
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, "≥ {goal}"),
            Self::AtMost(goal) => write!(f, "≤ {goal}"),
        }
    }
}

/// The middle of some figures: the mean of the two middle ones, where their number is even.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[middle - 1], upper))
}

/// The smallest figure that at least `percent` of all are not above: one that was measured, never one in between.
#[must_use]
pub fn percentile(figures: &[f64], percent: u32) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let percent = usize::try_from(percent.min(100)).unwrap_or(100);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// What each system has shown in each round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured(BTreeMap<String, Vec<f64>>);

impl Measured {
    /// A system has shown this in the round after its last one.
    pub fn add(&mut self, system: &str, figure: f64) {
        self.0.entry(system.to_owned()).or_default().push(figure);
    }

    /// What a system has shown, by round; nothing where it is not there.
    #[must_use]
    pub fn of(&self, system: &str) -> &[f64] {
        self.0.get(system).map_or(&[], Vec::as_slice)
    }

    /// A system's figure as a part of its peer's in the same round, for each round that both have made.
    #[must_use]
    pub fn ratios(&self, system: &str, peer: &str) -> Vec<f64> {
        self.of(system).iter().zip(self.of(peer)).map(|(own, peers)| own / peers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_percentile_is_a_figure_that_was_measured() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&[], 99), None);
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&hundred, 50), Some(50.0));
        assert_eq!(percentile(&hundred, 100), Some(100.0));
        assert_eq!(percentile(&hundred, 0), Some(1.0));
        assert_eq!(percentile(&[5.0, 7.0], 99), Some(7.0), "of few, the worst");
    }

    #[test]
    fn the_worst_figure_is_the_one_farthest_from_the_goal() {
        assert_eq!(Goal::AtMost(1.0).worst(&[0.5, 2.0, 1.0]), Some(2.0));
        assert_eq!(Goal::AtLeast(1.0).worst(&[0.5, 2.0, 1.0]), Some(0.5));
        assert_eq!(Goal::AtMost(1.0).worst(&[]), None);
        assert!(Goal::AtMost(1.0).holds(1.0) && !Goal::AtMost(1.0).holds(1.01));
        assert!(Goal::AtLeast(1.0).holds(1.0) && !Goal::AtLeast(1.0).holds(0.99));
        assert_eq!(Goal::AtMost(0.1).to_string(), "≤ 0.1");
    }

    #[test]
    fn a_ratio_is_between_figures_of_one_round() {
        let mut measured = Measured::default();
        for (system, figure) in [("ours", 1.0), ("peer", 2.0), ("ours", 3.0), ("peer", 4.0)] {
            measured.add(system, figure);
        }
        assert_eq!(measured.ratios("ours", "peer"), [0.5, 0.75]);
        assert!(measured.ratios("ours", "nobody").is_empty());
        measured.add("ours", 9.0);
        assert_eq!(measured.ratios("ours", "peer").len(), 2, "a round that one has not made");
    }
}
