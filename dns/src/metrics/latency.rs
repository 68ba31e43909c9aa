//! How long queries take, counted without a lock.
//!
//! The library's histogram locks and takes one value at a time; a thread here counts a whole batch by two additions.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::TRANSPORTS;
use crate::answer::Transport;

/// Upper bounds in microseconds: from what one packet takes to what a client gives up at. The last is for all others.
const BOUNDS: [u64; 13] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 100_000, 1_000_000, u64::MAX];

/// Two histograms, by transport.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency(Arc<[Times; 2]>);

#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; BOUNDS.len()],
    nanoseconds: AtomicU64,
}

impl Latency {
    /// Counts packets that took so long together: each waited for all.
    pub(super) fn observe(&self, transport: Transport, time: Duration, packets: usize) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let packets = packets as u64;
        let times = &self.0[transport as usize];
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        times.buckets[bucket.min(BOUNDS.len() - 1)].fetch_add(packets, Ordering::Relaxed);
        times.nanoseconds.fetch_add(nanos.saturating_mul(packets), Ordering::Relaxed);
    }
}

impl Collector for Latency {
    #[expect(clippy::cast_precision_loss, reason = "a sum and bounds of times, told as seconds")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "query_seconds",
            "Time from a query's being received to its answer's being sent",
            None,
            MetricType::Histogram,
        )?;
        for (transport, name) in TRANSPORTS {
            let times = &self.0[transport as usize];
            let counts = times.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
            let buckets: Vec<(f64, u64)> = BOUNDS
                .iter()
                .map(|bound| if *bound == u64::MAX { f64::INFINITY } else { *bound as f64 / 1e6 })
                .zip(counts)
                .collect();
            let sum = times.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric
                .encode_family(&[("transport", name)])?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn each_packet_of_a_batch_took_as_long_as_all() {
        let latency = Latency::default();
        latency.observe(Transport::Udp, Duration::from_micros(8), 3);
        latency.observe(Transport::Udp, Duration::from_secs(9), 1);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(latency));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "query_seconds_count{transport=\"udp\"} 4",
            "query_seconds_bucket{le=\"0.000005\",transport=\"udp\"} 0",
            "query_seconds_bucket{le=\"0.00001\",transport=\"udp\"} 3",
            "query_seconds_bucket{le=\"1.0\",transport=\"udp\"} 3",
            "query_seconds_bucket{le=\"+Inf\",transport=\"udp\"} 4",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}
