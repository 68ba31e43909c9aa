//! The access log: a line for each connection that ends, and for each call that is refused.
//!
//! Off unless it is asked for. Of connections every n-th is written, of refusals all are, and never more than so many a second:
//! the log must not cost more than the calls. What is left out is counted.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::About;
use crate::{hub, metrics::Metrics};

/// The most lines a second: 300 bytes each, what a log collector takes without trouble.
const MOST: u32 = 2_000;

/// Which connections have a line: one of so many; none where nothing is given.
pub(crate) type LogConfig = Option<NonZeroU32>;

#[derive(Debug)]
pub(super) struct Log {
    every: LogConfig,
    since: AtomicU32,
    budget: Mutex<Second>,
}

/// The lines of one second.
#[derive(Debug)]
struct Second {
    begun: Instant,
    lines: u32,
}

impl Second {
    fn takes(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.begun) >= Duration::from_secs(1) {
            *self = Self { begun: now, lines: 0 };
        }
        self.lines += 1;
        self.lines <= MOST
    }
}

impl Log {
    pub(super) fn new(every: LogConfig) -> Self {
        let budget = Second { begun: Instant::now(), lines: 0 };
        Self { every, since: AtomicU32::new(0), budget: Mutex::new(budget) }
    }

    /// Whether this one is written.
    fn is_due(&self, is_refusal: bool) -> bool {
        let Some(every) = self.every else { return false };
        is_refusal || self.since.fetch_add(1, Ordering::Relaxed).is_multiple_of(every.get())
    }

    /// Whether there is to be a line, and room for it.
    fn takes(&self, is_refusal: bool, metrics: &Metrics) -> bool {
        if !self.is_due(is_refusal) {
            return false;
        }
        let has_room =
            self.budget.lock().unwrap_or_else(PoisonError::into_inner).takes(Instant::now());
        if !has_room {
            metrics.access_log_dropped();
        }
        has_room
    }

    /// A line of a stream to the hub.
    pub(super) fn hub(
        &self,
        about: &hub::About,
        carried: Option<((u64, u64), Duration)>,
        outcome: &'static str,
        metrics: &Metrics,
    ) {
        if !self.takes(carried.is_none(), metrics) {
            return;
        }
        let ((sent, received), duration) = carried.unwrap_or_default();
        tracing::info!(
            target: "landbridge_gateway::access",
            direction = about.direction.as_str(),
            hub = about.service.as_str(),
            cluster = %about.peer,
            client = about.client.map_or_else(|| "-".to_owned(), |client| client.to_string()),
            sent,
            received,
            milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            outcome,
            "access"
        );
    }

    pub(super) fn line(
        &self,
        about: &About,
        (sent, received): (u64, u64),
        duration: Duration,
        outcome: &'static str,
        metrics: &Metrics,
    ) {
        let About { direction, caller, service, port, endpoint, cluster, pod } = about;
        if !self.takes(duration.is_zero(), metrics) {
            return;
        }
        let text = |given: Option<String>| given.unwrap_or_else(|| "-".to_owned());
        tracing::info!(
            target: "landbridge_gateway::access",
            direction = direction.as_str(),
            %caller,
            client = text(caller.source.address.map(|client| client.to_string())),
            %service,
            %port,
            endpoint = text(endpoint.as_ref().map(ToString::to_string)),
            cluster = text(cluster.as_ref().map(ToString::to_string)),
            pod = text(pod.map(|pod| pod.to_string())),
            sent,
            received,
            milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            outcome,
            "access"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_so_many_connections_has_a_line_and_every_refusal() {
        let log = Log::new(NonZeroU32::new(3));
        let due: Vec<bool> = (0..6).map(|_| log.is_due(false)).collect();
        assert_eq!(due, [true, false, false, true, false, false]);
        assert!(log.is_due(true) && log.is_due(true));
        assert!(!Log::new(None).is_due(true), "off unless it is asked for");
    }

    #[test]
    fn no_second_has_more_lines_than_a_log_takes() {
        let start = Instant::now();
        let mut second = Second { begun: start, lines: 0 };
        let taken = (0..3_000).filter(|_| second.takes(start)).count();
        assert_eq!(taken, MOST as usize);
        assert!(second.takes(start + Duration::from_secs(1)));
    }
}
