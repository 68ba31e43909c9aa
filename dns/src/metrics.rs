//! What the server counts.
//!
//! Counters that a query touches are made beforehand and found by index: a query takes no lock and looks up no
//! label.

mod latency;
mod tally;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::Registry,
};

use latency::Latency;
pub(crate) use tally::Tally;

use crate::{
    answer::{Outcome, Transport},
    compile::record_type,
    message::Rcode,
    snapshot::Current,
};

/// The types that are told apart, and what all others go by.
const TYPES: [(u16, &str); 8] = [
    (record_type::A, "A"),
    (record_type::AAAA, "AAAA"),
    (record_type::ANY, "ANY"),
    (record_type::NS, "NS"),
    (record_type::SOA, "SOA"),
    (record_type::SRV, "SRV"),
    (record_type::TXT, "TXT"),
    (0, "other"),
];
/// In the order of [`Transport`], by which counters are found.
const TRANSPORTS: [(Transport, &str); 2] = [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Upper bounds of the time from news to answer: from the pause between two looks at a queue to what people notice.
const PROPAGATION: [f64; 11] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0];

/// Why a packet or connection got no answer; in the order in which [`Metrics`] makes the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unanswered {
    /// There were as many connections as there may be.
    Connections,
    /// There were as many questions for others as there may be.
    Forwards,
    /// It was a response.
    Response,
    /// The answer could not be sent.
    Send,
    /// It was too short for a header.
    Short,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    dropped: [Counter; 5],
    forwarded: [Counter; 2],
    latency: Latency,
    limited: [Counter; 2],
    /// Objects that could not be read, and names that could not be made.
    pub(crate) problems: Counter,
    malformed: [Counter; 2],
    /// Seconds from news to answer.
    pub(crate) propagation: Histogram,
    queries: Vec<Counter>,
    truncated: Counter,
    /// Times that the API could not be read.
    pub(crate) interruptions: Counter,
}

impl Metrics {
    /// Makes and registers them all. `current` is read whenever someone asks for the metrics.
    pub(crate) fn new(registry: &mut Registry, current: Arc<Current>) -> Self {
        let registry = registry.sub_registry_with_prefix("dns");
        let queries = Family::<Labels<3>, Counter>::default();
        let dropped = Family::<Labels<1>, Counter>::default();
        let malformed = Family::<Labels<1>, Counter>::default();
        let forwarded = Family::<Labels<1>, Counter>::default();
        let limited = Family::<Labels<1>, Counter>::default();
        let metrics = Self {
            dropped: ["connections", "forwards", "response", "send", "short"]
                .map(|reason| dropped.get_or_create_owned(&[("reason", reason)])),
            forwarded: TRANSPORTS
                .map(|(_, transport)| forwarded.get_or_create_owned(&[("transport", transport)])),
            latency: Latency::default(),
            limited: ["drop", "slip"]
                .map(|action| limited.get_or_create_owned(&[("action", action)])),
            problems: Counter::default(),
            propagation: Histogram::new(PROPAGATION),
            malformed: TRANSPORTS
                .map(|(_, transport)| malformed.get_or_create_owned(&[("transport", transport)])),
            queries: every_query(&queries),
            truncated: Counter::default(),
            interruptions: Counter::default(),
        };
        registry.register("queries", "Questions that were answered", queries);
        registry.register(
            "dropped",
            "Packets and connections that got no answer, by reason",
            dropped,
        );
        registry.register(
            "forwarded_queries",
            "Questions for other zones that others were asked",
            forwarded,
        );
        registry.register(
            "limited_answers",
            "Answers held back from a source that had too many: not sent, or sent only to say that there is TCP",
            limited,
        );
        registry.register(
            "propagation_seconds",
            "Time from the news of a changed object to the first answer by it; how long the news took from the object's writing is the API's",
            metrics.propagation.clone(),
        );
        registry.register_collector(Box::new(metrics.latency.clone()));
        registry.register("malformed_packets", "Packets that could not be read", malformed);
        registry.register(
            "truncated_answers",
            "Answers that said by TC that there is more than they hold",
            metrics.truncated.clone(),
        );
        registry.register(
            "object_problems",
            "Objects that could not be read, and names that could not be made of them",
            metrics.problems.clone(),
        );
        registry.register(
            "watch_interruptions",
            "Times that the Kubernetes API could not be read",
            metrics.interruptions.clone(),
        );
        registry.register_collector(Box::new(SnapshotGauges(current)));
        metrics
    }

    /// Counts what became of so many packets that went alike.
    pub(crate) fn count(&self, outcome: Outcome, transport: Transport, packets: u64) {
        match outcome {
            Outcome::Answered { rcode, record_type, truncated, .. } => {
                if let Some(counter) = self.queries.get(query_index(record_type, rcode, transport))
                {
                    counter.inc_by(packets);
                }
                if truncated {
                    self.truncated.inc_by(packets);
                }
                if rcode == Rcode::FormErr {
                    self.malformed[transport as usize].inc_by(packets);
                }
            }
            Outcome::Elsewhere => {
                self.forwarded[transport as usize].inc_by(packets);
            }
            Outcome::Response => {
                self.dropped[Unanswered::Response as usize].inc_by(packets);
            }
            Outcome::Short => {
                self.malformed[transport as usize].inc_by(packets);
                self.dropped[Unanswered::Short as usize].inc_by(packets);
            }
        }
    }

    /// Counts `packets` that took so long together, from when they were received until they were answered.
    pub(crate) fn took(&self, transport: Transport, time: Duration, packets: usize) {
        self.latency.observe(transport, time, packets);
    }

    /// Counts an answer that was held back; `slip` where it was said that there is TCP.
    pub(crate) fn limited(&self, slip: bool) {
        self.limited[usize::from(slip)].inc();
    }

    /// Counts what got no answer.
    pub(crate) fn dropped(&self, reason: Unanswered) {
        self.dropped[reason as usize].inc();
    }
}

fn every_query(family: &Family<Labels<3>, Counter>) -> Vec<Counter> {
    let mut counters = Vec::with_capacity(TRANSPORTS.len() * TYPES.len() * Rcode::ALL.len());
    for (_, transport) in TRANSPORTS {
        for (_, record_type) in TYPES {
            for rcode in Rcode::ALL {
                counters.push(family.get_or_create_owned(&[
                    ("transport", transport),
                    ("type", record_type),
                    ("rcode", rcode.as_str()),
                ]));
            }
        }
    }
    counters
}

/// Where [`every_query`] put a counter.
fn query_index(record_type: Option<u16>, rcode: Rcode, transport: Transport) -> usize {
    let known = TYPES.iter().position(|(own, _)| Some(*own) == record_type);
    let record_type = known.unwrap_or(TYPES.len() - 1);
    let rcode = Rcode::ALL.iter().position(|own| *own == rcode).unwrap_or_default();
    (transport as usize * TYPES.len() + record_type) * Rcode::ALL.len() + rcode
}

/// What the current snapshot is, read when asked.
#[derive(Debug)]
struct SnapshotGauges(Arc<Current>);

impl Collector for SnapshotGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.snapshot.load();
        let now = Instant::now();
        let unchanged = now.saturating_duration_since(snapshot.built);
        let age = self.0.age(now);
        let names = u32::try_from(snapshot.names()).unwrap_or(u32::MAX);
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact up to 2^53 snapshots, which no server lives to see"
        )]
        let generation = snapshot.generation as f64;
        let ready = u8::from(self.0.is_ready(now));
        for (name, help, value) in [
            ("names", "Names that exist", f64::from(names)),
            (
                "ready",
                "Whether the zone is known, as new as it should be, and the server is not going away",
                f64::from(ready),
            ),
            (
                "snapshot_age_seconds",
                "How long ago what is answered was last known to be what the Kubernetes API has: 0 while that can be read",
                age.as_secs_f64(),
            ),
            (
                "snapshot_unchanged_seconds",
                "Time since anything that is answered last changed",
                unchanged.as_secs_f64(),
            ),
            ("snapshot_generation", "How many times what is answered has changed", generation),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
