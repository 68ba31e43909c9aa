//! Pure: which objects have gone lately, so that an answer which comes late does not bring one back.
//!
//! A write may be answered after the watch has told that its object was deleted. No object ever has the uid of another
//! one, so whatever speaks of such a uid speaks of what was.

use std::collections::{BTreeSet, VecDeque};

/// How many are remembered: an answer is waited for ten seconds at most, with 64 writes under way at once.
const MOST: usize = 1_024;

/// Uids of objects that have gone, the latest ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone {
    known: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Gone {
    /// Takes note of an object that has gone.
    pub(super) fn add(&mut self, uid: String) {
        if uid.is_empty() || !self.known.insert(uid.clone()) {
            return;
        }
        self.order.push_back(uid);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether the object with this uid has gone.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.known.contains(uid)
    }
}

/// What was is no part of what is: two tables that hold the same are the same, whatever else they once held.
impl PartialEq for Gone {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Gone {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_ones_are_remembered() {
        let mut gone = Gone::default();
        for number in 0..=MOST {
            gone.add(format!("uid-{number}"));
        }
        gone.add(String::new());
        assert!(!gone.has("uid-0"), "the oldest one is forgotten");
        assert!(gone.has("uid-1") && gone.has(&format!("uid-{MOST}")));
        assert!(!gone.has(""), "what has no uid is not told apart");
        assert_eq!((gone.known.len(), gone.order.len()), (MOST, MOST));
    }
}
