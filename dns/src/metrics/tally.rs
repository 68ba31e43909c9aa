//! Counts of packets that come together.
//!
//! Most of them go alike. Adding to a counter that others read makes the processor finish whatever it was waiting for, so
//! what goes alike is added once for all.

use super::Metrics;
use crate::answer::{Outcome, Transport};

/// How many packets in a row went alike.
#[derive(Debug)]
pub(crate) struct Tally {
    alike: Option<(Outcome, u64)>,
    transport: Transport,
}

impl Tally {
    /// Of packets that come so.
    pub(crate) fn new(transport: Transport) -> Self {
        Self { alike: None, transport }
    }

    /// Takes note of what became of a packet.
    pub(crate) fn note(&mut self, outcome: Outcome, metrics: &Metrics) {
        match &mut self.alike {
            Some((last, packets)) if *last == outcome => *packets += 1,
            _ => {
                self.settle(metrics);
                self.alike = Some((outcome, 1));
            }
        }
    }

    /// Adds what was noted to the counters.
    pub(crate) fn settle(&mut self, metrics: &Metrics) {
        if let Some((outcome, packets)) = self.alike.take() {
            metrics.count(outcome, self.transport, packets);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;
    use crate::{fixture, message::Rcode, snapshot::Current};

    #[test]
    fn each_packet_is_counted_once_whatever_came_beside_it() {
        let mut registry = Registry::default();
        let current = Arc::new(Current::new(fixture::snapshot(""), None));
        let metrics = Metrics::new(&mut registry, current);
        let answered = |record_type| Outcome::Answered {
            known: false,
            rcode: Rcode::NoError,
            record_type: Some(record_type),
            truncated: false,
        };
        let mut tally = Tally::new(Transport::Udp);
        for outcome in
            [answered(1), answered(1), answered(28), answered(1), Outcome::Response, Outcome::Short]
        {
            tally.note(outcome, &metrics);
        }
        tally.settle(&metrics);
        tally.settle(&metrics);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "dns_queries_total{transport=\"udp\",type=\"A\",rcode=\"NOERROR\"} 3",
            "dns_queries_total{transport=\"udp\",type=\"AAAA\",rcode=\"NOERROR\"} 1",
            "dns_dropped_total{reason=\"response\"} 1",
            "dns_malformed_packets_total{transport=\"udp\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
