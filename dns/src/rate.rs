//! Pure: how many answers one source may have, so that nobody is flooded with answers to forged questions.
//!
//! Each source has an even flow with a second's worth of burst (the generic cell rate algorithm: one number a source,
//! the time at which it will have used up what it was given). Sources share a table of fixed size by a keyed hash:
//! two that fall together share their rate, and nothing that is sent makes the table grow.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use siphasher::sip::SipHasher13;

/// How many sources are told apart: a few for each pod of the largest cluster, in half a megabyte.
const PLACES: usize = 65_536;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is not sent.
    Drop,
    /// It is sent.
    Pass,
    /// Only that it is to be asked for over TCP is sent: whoever really asked still comes to an answer, and nobody
    /// gets more octets than were sent in his name.
    Slip,
}

/// What each source has had.
#[derive(Debug)]
pub(crate) struct Limiter {
    burst: u64,
    hasher: SipHasher13,
    interval: u64,
    limited: AtomicU64,
    places: Box<[AtomicU64]>,
}

impl Limiter {
    /// Lets a source have so many answers a second. `key` is drawn at random: nobody chooses whom to share with.
    pub(crate) fn new(per_second: NonZeroU32, key: &[u8; 16]) -> Self {
        let second = 1_000_000_000;
        Self {
            burst: second,
            hasher: SipHasher13::new_with_key(key),
            interval: (second / u64::from(per_second.get())).max(1),
            limited: AtomicU64::new(0),
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Takes an answer to `source`, at a time since the server's start.
    pub(crate) fn take(&self, source: IpAddr, now: Duration) -> Verdict {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let took = self.place(source).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            let until = until.max(now) + self.interval;
            (until - now <= self.burst.max(self.interval)).then_some(until)
        });
        if took.is_ok() {
            Verdict::Pass
        } else if self.limited.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            Verdict::Slip
        } else {
            Verdict::Drop
        }
    }

    /// An IPv6 source is a whole /64: that is what one host can choose of.
    fn place(&self, source: IpAddr) -> &AtomicU64 {
        let hash = match source {
            IpAddr::V4(address) => self.hasher.hash(&address.octets()),
            IpAddr::V6(address) => self.hasher.hash(&address.octets()[..8]),
        };
        let [high, low, ..] = hash.to_be_bytes();
        &self.places[usize::from(u16::from_be_bytes([high, low])) % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(limiter: &Limiter, source: &str, at: Duration, times: usize) -> [usize; 3] {
        let source = source.parse().unwrap();
        let mut counts = [0; 3];
        for _ in 0..times {
            counts[match limiter.take(source, at) {
                Verdict::Pass => 0,
                Verdict::Slip => 1,
                Verdict::Drop => 2,
            }] += 1;
        }
        counts
    }

    #[test]
    fn a_source_has_its_rate_and_a_second_of_it_at_once() {
        let limiter = Limiter::new(NonZeroU32::new(10).unwrap(), &[1; 16]);
        let second = Duration::from_secs(1);
        assert_eq!(taken(&limiter, "192.0.2.1", second, 30), [10, 10, 10]);
        assert_eq!(taken(&limiter, "192.0.2.2", second, 5), [5, 0, 0], "another has his own");
        assert_eq!(taken(&limiter, "192.0.2.1", second * 3 / 2, 30)[0], 5, "half a second later");
        assert_eq!(taken(&limiter, "192.0.2.1", second * 9, 30)[0], 10, "no more is saved up");
    }

    #[test]
    fn a_host_cannot_be_many_by_choosing_addresses_of_its_network() {
        let limiter = Limiter::new(NonZeroU32::new(10).unwrap(), &[1; 16]);
        let at = Duration::from_secs(5);
        let passed: usize =
            (0..30).map(|host| taken(&limiter, &format!("2001:db8::{host:x}"), at, 1)[0]).sum();
        assert_eq!(passed, 10);
    }

    #[test]
    fn one_a_second_is_one_a_second() {
        let limiter = Limiter::new(NonZeroU32::MIN, &[1; 16]);
        for second in 1..4 {
            let at = Duration::from_secs(second);
            assert_eq!(taken(&limiter, "192.0.2.1", at, 3)[0], 1);
        }
    }
}
