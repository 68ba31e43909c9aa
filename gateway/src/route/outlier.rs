//! Pure: when one of several is left out for a while, because calls to it fail, and how it comes back.
//!
//! ```text
//!            so many failures in a row                  its time is over
//!  in use ───────────────────────────────▶ left out ───────────────────▶ warming up ───▶ in use
//! ```
//!
//! The time grows each time, and is forgotten once it has served well for as long as it was left out. What comes back
//! gets a tenth of its share first, and all of it ten seconds later. Whatever has failed, never more than a share of all is
//! left out: when most seem to be bad, the fault is elsewhere, and the rest could not carry what all do.

use std::time::{Duration, Instant};

/// The longest that one is left out: something may have been put right that nobody tells of.
const LONGEST: Duration = Duration::from_secs(300);
/// How long one that comes back warms up.
const WARMING: Duration = Duration::from_secs(10);
/// What one that has just come back gets, of 100.
const COLD: u32 = 10;
/// What one in use gets.
pub(crate) const WARM: u32 = 100;

/// When one is left out, and how many of all may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Settings {
    /// Failures in a row after which one is left out; never, where 0.
    pub(crate) failures: u32,
    /// For how long, the first time.
    pub(crate) base: Duration,
    /// The most of all that are left out, of 100.
    pub(crate) most: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 3, base: Duration::from_secs(10), most: 50 }
    }
}

/// How one of several has done lately.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Record {
    failures: u32,
    /// How often it was left out of late.
    times: u32,
    /// How long it is, or was last, left out.
    length: Duration,
    until: Option<Instant>,
}

impl Record {
    /// A call to it has failed; `count` is how many failures that is worth. Says whether it is left out for that.
    pub(crate) fn failed(&mut self, count: u32, now: Instant, settings: &Settings) -> bool {
        self.failures = self.failures.saturating_add(count);
        // Calls that were under way when it was left out say nothing new.
        if settings.failures == 0 || self.failures < settings.failures || self.is_out(now) {
            return false;
        }
        self.failures = 0;
        self.times = self.times.saturating_add(1);
        self.length = settings.base.saturating_mul(self.times).min(LONGEST);
        self.until = Some(now + self.length);
        true
    }

    /// A call to it has gone well.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        if self.until.is_some_and(|until| now >= until + self.length.max(WARMING)) {
            *self = Self::default();
        }
    }

    /// Whether it is left out.
    pub(crate) fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Until when.
    pub(crate) fn out_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// Its share, of 100: less while it warms up.
    pub(crate) fn warmth(&self, now: Instant) -> u32 {
        let Some(back) = self.until.and_then(|until| now.checked_duration_since(until)) else {
            return WARM;
        };
        let part = back.as_millis() * u128::from(WARM) / WARMING.as_millis();
        u32::try_from(part).unwrap_or(WARM).clamp(COLD, WARM)
    }

    /// Whether nothing of it is worth remembering.
    pub(crate) fn is_clean(&self, now: Instant) -> bool {
        let over = |until: Instant| now >= until + LONGEST;
        self.failures == 0 && self.until.is_none_or(over)
    }
}

/// Which of all are used, given until when each is left out: those that are not; and of the others, where too many are,
/// those whose time is over first.
pub(crate) fn used(out_until: &[Option<Instant>], settings: &Settings) -> Vec<bool> {
    let mut out: Vec<(Instant, usize)> =
        out_until.iter().enumerate().filter_map(|(at, until)| Some(((*until)?, at))).collect();
    let most = out_until.len() * usize::from(settings.most.min(100)) / 100;
    let too_many = out.len().saturating_sub(most);
    out.sort_unstable();
    let mut used = vec![true; out_until.len()];
    for (_, at) in out.into_iter().skip(too_many) {
        used[at] = false;
    }
    used
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(record: &mut Record, times: u32, now: Instant) -> bool {
        (0..times).any(|_| record.failed(1, now, &Settings::default()))
    }

    #[test]
    fn failures_in_a_row_leave_one_out_and_a_success_between_them_does_not() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert!(!fail(&mut record, 2, now));
        record.succeeded(now);
        assert!(!fail(&mut record, 2, now) && !record.is_out(now));
        assert!(fail(&mut record, 1, now));
        assert!(record.is_out(now + 9 * SECOND) && !record.is_out(now + 10 * SECOND));
        assert!(Record::default().failed(3, now, &Settings::default()), "one may count for more");
        let never = Settings { failures: 0, ..Settings::default() };
        assert!(!Record::default().failed(99, now, &never));
    }

    #[test]
    fn the_time_grows_each_time_and_is_forgotten_after_as_much_good_service() {
        let (mut record, mut now) = (Record::default(), Instant::now());
        for length in [10, 20, 30] {
            assert!(fail(&mut record, 3, now));
            assert_eq!(record.out_until(now), Some(now + length * SECOND));
            now += length * SECOND;
        }
        record.succeeded(now + 29 * SECOND);
        assert_ne!(record, Record::default());
        record.succeeded(now + 30 * SECOND);
        assert_eq!(record, Record::default());
    }

    #[test]
    fn what_comes_back_warms_up() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert_eq!(record.warmth(now), WARM);
        fail(&mut record, 3, now);
        let back = now + 10 * SECOND;
        let warmth = [0, 5, 10, 60].map(|after| record.warmth(back + after * SECOND));
        assert_eq!(warmth, [COLD, 50, WARM, WARM]);
        assert!(!record.is_clean(back) && record.is_clean(back + LONGEST));
    }

    proptest! {
        /// "outlier ejection with a bound": never more than the share, and as many as may be.
        #[test]
        fn never_more_than_a_share_is_left_out(
            out in prop::collection::vec(prop::option::of(0_u32..100), 0..12),
            most in 0_u8..=100,
        ) {
            let now = Instant::now();
            let until: Vec<Option<Instant>> =
                out.iter().map(|after| after.map(|after| now + after * SECOND)).collect();
            let used = used(&until, &Settings { most, ..Settings::default() });
            let left = used.iter().filter(|used| !**used).count();
            let failed = out.iter().flatten().count();
            prop_assert_eq!(left, failed.min(out.len() * usize::from(most) / 100));
            for (at, until) in until.iter().enumerate() {
                prop_assert!(until.is_some() || used[at]);
            }
        }
    }
}
