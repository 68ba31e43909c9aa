//! Pure: what is done again and again.

use std::time::{Duration, Instant};

/// When something that is done again and again is due next.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    /// Due at `now` and `every` so long after it.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every, next: now }
    }

    /// Whether it is due. One that comes late is not made up for: the next is due the whole time later.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now;
        if is_due {
            self.next = now + self.every;
        }
        is_due
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_done_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(Duration::from_secs(3), start);
        let due = [0, 1, 2, 3, 4, 11, 12, 13, 14].map(|seconds| pace.is_due(at(seconds)));
        assert_eq!(due, [true, false, false, true, false, true, false, false, true]);
        assert_eq!(pace.next(), at(17));
    }
}
