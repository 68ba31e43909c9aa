//! Pure: which merge rules a version knows, and by which ones a set merges.
//!
//! Rules that have once been released do not change: what is to be otherwise becomes a new revision, beside the old
//! one for as long as members may run a version that knows no newer one.

use super::{Merged, by_oldest};
use crate::export::Export;

/// How exports are merged.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Which rules these are: a later one has a higher number.
    pub revision: u32,
    /// What exports of one service add up to; none where there are none.
    pub merge: fn(&[&Export]) -> Option<Merged>,
}

/// The rules that a version knows. Each member publishes its newest revision and the set uses the lowest that is
/// published, so that an upgrade under way cannot split opinions.
#[derive(Clone, Copy, Debug)]
pub struct Rulebook(&'static [Rules]);

impl Rulebook {
    /// What this version knows.
    pub const OURS: Self = Self::new(&[Rules { revision: 1, merge: by_oldest }]);

    /// A book of these rules, the oldest first.
    ///
    /// # Panics
    /// Where there are none, or they are not in order: a book is written down in a program, not read from outside.
    #[must_use]
    pub const fn new(rules: &'static [Rules]) -> Self {
        assert!(!rules.is_empty(), "a version that knows no rules cannot merge");
        let mut at = 1;
        while at < rules.len() {
            assert!(rules[at - 1].revision < rules[at].revision, "rules stand in order");
            at += 1;
        }
        Self(rules)
    }

    /// The oldest revision that it holds.
    #[must_use]
    pub const fn oldest(self) -> u32 {
        self.0[0].revision
    }

    /// The newest revision that it holds, which a member publishes.
    #[must_use]
    pub const fn newest(self) -> u32 {
        self.0[self.0.len() - 1].revision
    }

    /// The revision by which a set is merged of which `lowest` is the lowest that is published: the newest one up to
    /// it, or the oldest one where that is beyond it.
    #[must_use]
    pub fn used(self, lowest: u32) -> u32 {
        self.rules(lowest).revision
    }

    /// Merges all exports of one service as a set does of which `lowest` is the lowest revision that is published.
    #[must_use]
    pub fn merge(self, lowest: u32, exports: &[&Export]) -> Option<Merged> {
        (self.rules(lowest).merge)(exports)
    }

    fn rules(self, lowest: u32) -> &'static Rules {
        let known = self.0.iter().rev().find(|rules| rules.revision <= lowest);
        known.unwrap_or(&self.0[0])
    }
}

/// Two books are the same where they hold the same revisions: what a revision means does not change.
impl PartialEq for Rulebook {
    fn eq(&self, other: &Self) -> bool {
        let revisions = |book: &Self| book.0.iter().map(|rules| rules.revision).collect::<Vec<_>>();
        revisions(self) == revisions(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &[&Export]) -> Option<Merged> {
        None
    }

    const BOOK: Rulebook = Rulebook::new(&[
        Rules { revision: 2, merge: nothing },
        Rules { revision: 3, merge: nothing },
        Rules { revision: 5, merge: by_oldest },
    ]);

    /// Design, "The picture": "Its revision is published per member, and the set uses the lowest one."
    #[test]
    fn the_newest_rules_up_to_the_lowest_that_is_published_are_used() {
        assert_eq!((BOOK.oldest(), BOOK.newest()), (2, 5));
        let used = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|lowest| BOOK.used(lowest));
        assert_eq!(used, [2, 2, 2, 3, 3, 5, 5, 5]);
    }

    #[test]
    fn books_are_the_same_that_hold_the_same_revisions() {
        assert_eq!(BOOK, BOOK);
        assert_ne!(BOOK, Rulebook::OURS);
    }
}
