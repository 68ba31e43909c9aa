//! How many rounds a benchmark makes, and whether they are short.

/// Rounds of a whole run: the fewest that have a median and a worst one that differ.
const ROUNDS: usize = 3;

/// How much is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rounds {
    /// How many times each system runs, one after the other: A B A B.
    pub count: usize,
    /// Whether each is short, and only shows that the benchmark works.
    pub quick: bool,
}

impl Rounds {
    /// What the arguments of this process ask for.
    #[must_use]
    pub fn from_args() -> Self {
        Self::of(std::env::args())
    }

    fn of(args: impl IntoIterator<Item = String>) -> Self {
        let quick = args.into_iter().any(|arg| arg == "--quick");
        Self { count: if quick { 1 } else { ROUNDS }, quick }
    }

    /// The rounds, by number. Within one, systems run one after the other, so that whatever slows the machine for a
    /// minute slows all of them.
    pub fn each(self) -> impl Iterator<Item = usize> {
        1..=self.count
    }

    /// `whole` for a whole run, `short` for a quick one.
    pub fn pick<T>(self, whole: T, short: T) -> T {
        if self.quick { short } else { whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_is_one_short_round() {
        let rounds = Rounds::of(["bench".to_owned(), "--bench".to_owned(), "--quick".to_owned()]);
        assert_eq!((rounds.count, rounds.pick(60, 5)), (1, 5));
        let rounds = Rounds::of(["bench".to_owned(), "--bench".to_owned()]);
        assert_eq!((rounds.count, rounds.pick(60, 5)), (3, 60));
        assert_eq!(rounds.each().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
