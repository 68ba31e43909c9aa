//! Pure: how calls of one service are spread over clusters: as a TrafficPolicy says, or as is usual.

use std::{collections::BTreeMap, time::Duration};

use landbridge_model::ClusterId;

use super::outlier;

/// Thousandths: shares are whole numbers.
pub(super) const WHOLE: u32 = 1_000;

/// How calls of one service are spread over clusters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Rules {
    /// What share each cluster gets; by nearness, where none is said. Who is not in it gets calls when nobody who is takes
    /// any.
    pub(crate) weights: Option<BTreeMap<ClusterId, u32>>,
    /// Whether all clusters are alike, near or not.
    pub(crate) anywhere: bool,
    /// When calls go on to others though there is somebody.
    pub(crate) spill: Option<Spill>,
    /// When a cluster is left out for a while.
    pub(crate) outliers: outlier::Settings,
}

impl Default for Rules {
    fn default() -> Self {
        // A cluster has tried three pods of its own before it says no.
        let outliers = outlier::Settings { failures: 5, ..outlier::Settings::default() };
        Self { weights: None, anywhere: false, spill: None, outliers }
    }
}

impl Rules {
    /// Whether this cluster's own pods are to be weighed against others': kube-proxy cannot, so gateways do.
    pub(crate) fn weighs(&self) -> bool {
        self.weights.is_some() || self.anywhere || self.spill.is_some()
    }
}

/// When calls go on to other clusters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Spill {
    /// The share of endpoints, of 100, that must be ready for a cluster to take all of its calls; with fewer it takes as
    /// many as are left of them.
    pub(crate) healthy: Option<u32>,
    /// The calls that a cluster takes at a time from this gateway.
    pub(crate) calls: Option<u32>,
}

/// The endpoints of a cluster, where they are known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Capacity {
    /// Those that are ready.
    pub(crate) ready: u32,
    /// All of them.
    pub(crate) total: u32,
}

impl Spill {
    /// Of so many calls, the thousandths that clusters take which have these endpoints together, and this many calls each
    /// on average.
    pub(super) fn taken(&self, capacity: Option<Capacity>, calls: usize) -> u32 {
        if self.calls.is_some_and(|most| calls >= most as usize) {
            return 0;
        }
        let (Some(healthy), Some(Capacity { ready, total })) = (self.healthy, capacity) else {
            return WHOLE;
        };
        let needed = u64::from(total) * u64::from(healthy);
        let has = u64::from(ready) * 100 * u64::from(WHOLE);
        let taken =
            has.checked_div(needed).map_or(WHOLE, |taken| u32::try_from(taken).unwrap_or(WHOLE));
        taken.min(WHOLE)
    }
}

/// What a TrafficPolicy says of the calls themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CallRules {
    /// How long a client waits in all until it is connected; as usual, where none is said.
    pub(crate) connect: Option<Duration>,
    /// How long a connection may be silent; for ever, where none is said.
    pub(crate) idle: Option<Duration>,
    /// How often a call is tried elsewhere; as usual, where none is said.
    pub(crate) retries: Option<usize>,
    /// Whether a call that may have been delivered may be sent again.
    pub(crate) replay_safe: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_takes_as_much_as_its_ready_endpoints_carry() {
        let spill = Spill { healthy: Some(80), calls: Some(100) };
        let of = |ready, total| Some(Capacity { ready, total });
        for (capacity, calls, taken) in [
            (of(10, 10), 99, 1_000),
            (of(8, 10), 0, 1_000),
            (of(4, 10), 0, 500),
            (of(0, 10), 0, 0),
            (of(0, 0), 0, 1_000),
            (None, 0, 1_000),
            (of(10, 10), 100, 0),
        ] {
            assert_eq!(spill.taken(capacity, calls), taken, "{capacity:?} with {calls} calls");
        }
        assert_eq!(Spill::default().taken(of(0, 10), 1_000), 1_000, "nothing is asked");
    }
}
