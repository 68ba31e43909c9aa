//! Pure: one of several, by weight and by load.
//!
//! Two are drawn by weight, and the one that has less to do for its weight is taken: nearly as good as looking at all of
//! them, and gateways that do not know of each other's calls do not all run to the same one.

/// What one of several is given, and what it has already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Share {
    /// How often it is drawn, compared with the others; never where 0.
    pub(crate) weight: u32,
    /// What it has to do now.
    pub(crate) load: usize,
}

/// Draws two different ones by weight and takes the one that has less to do for its weight; of equals the first drawn.
pub(crate) fn less_loaded<T>(
    among: &[T],
    share: impl Fn(&T) -> Share,
    [first, second]: [u64; 2],
) -> Option<&T> {
    let shares: Vec<Share> = among.iter().map(share).collect();
    let mut weights: Vec<u32> = shares.iter().map(|share| share.weight).collect();
    let one = by_weight(&weights, first)?;
    weights[one] = 0;
    let taken = match by_weight(&weights, second) {
        // a/b < c/d without dividing.
        Some(other) if burden(shares[other], shares[one]) < burden(shares[one], shares[other]) => {
            other
        }
        _ => one,
    };
    among.get(taken)
}

/// The load of one, as large as it is to compare with another's.
fn burden(of: Share, against: Share) -> u128 {
    of.load as u128 * u128::from(against.weight)
}

/// Draws by weight; none where there is no weight at all.
pub(crate) fn by_weight(weights: &[u32], draw: u64) -> Option<usize> {
    let all: u64 = weights.iter().copied().map(u64::from).sum();
    let mut at = draw.checked_rem(all)?;
    weights.iter().position(|weight| {
        let is_it = at < u64::from(*weight);
        at = at.saturating_sub(u64::from(*weight));
        is_it
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(weight: u32, load: usize) -> Share {
        Share { weight, load }
    }

    /// How often each of them is taken, of 1,000 draws that are spread evenly.
    fn check(shares: &[Share]) -> Vec<usize> {
        let mut taken = vec![0; shares.len()];
        let numbered: Vec<(usize, Share)> = shares.iter().copied().enumerate().collect();
        for draw in 0..1_000_u64 {
            let draws = [draw, draw / 7];
            let (at, _) = less_loaded(&numbered, |(_, share)| *share, draws).unwrap();
            taken[*at] += 1;
        }
        taken
    }

    #[test]
    fn of_two_the_one_with_less_to_do_for_its_weight_is_taken() {
        assert_eq!(check(&[share(1, 5), share(1, 4)]), [0, 1_000]);
        assert_eq!(check(&[share(10, 5), share(1, 4)]), [1_000, 0]);
        assert_eq!(check(&[share(1, 0), share(0, 0)]), [1_000, 0], "without weight, never");
    }

    #[test]
    fn who_has_nothing_to_do_is_taken_by_weight() {
        assert_eq!(check(&[share(1, 0), share(1, 0)]), [500, 500]);
        assert_eq!(check(&[share(9, 0), share(1, 0)]), [900, 100]);
    }

    proptest! {
        #[test]
        fn somebody_with_weight_is_taken_if_there_is_one(
            weights in prop::collection::vec(0_u32..4, 0..6),
            draws in any::<[u64; 2]>(),
        ) {
            let taken = less_loaded(&weights, |weight| share(*weight, 1), draws);
            prop_assert_eq!(taken.is_some(), weights.iter().any(|weight| *weight > 0));
            prop_assert_ne!(taken, Some(&0));
        }
    }
}
