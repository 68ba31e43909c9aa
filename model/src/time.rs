//! Pure: points in wall-clock time, as objects carry them. Nothing here reads a clock.

use std::{fmt, time::Duration};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. Kubernetes objects carry whole seconds (or
/// microseconds), all well within this.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it, since clocks of two machines may disagree.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0))
            .map_or(Duration::ZERO, Duration::from_millis)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.div_euclid(1000), self.0.rem_euclid(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards() {
        let (a, b) = (Timestamp::from_millis(1_000), Timestamp::from_millis(1_250));
        assert_eq!(b.since(a), Duration::from_millis(250));
        assert_eq!(a.since(b), Duration::ZERO);
    }
}
