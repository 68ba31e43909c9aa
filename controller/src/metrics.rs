//! What the controller counts, and how long exports take to get through.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, Instant},
};

use landbridge_api::watch::Change;
use landbridge_model::ServiceKey;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::observed::{Event, Observed, object_key};

/// How many exports are timed at once. More at the same moment is a cold start, which is not a propagation.
const MOST_TIMED: usize = 10_000;

/// Text known when the program was built.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Word(pub(crate) &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct WriteLabels {
    pub(crate) verb: Word,
    pub(crate) kind: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct FailureLabels {
    pub(crate) verb: Word,
    pub(crate) kind: Word,
    /// `api` where it was away, `outdated` where something had changed, `refused` where it has said no.
    pub(crate) fault: Word,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct StageLabels {
    pub(crate) stage: Word,
}

/// How far an export has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// From the ClusterExport to the ServiceImport.
    Import,
    /// From the ServiceExport to the ClusterExport.
    Publish,
}

/// The controller's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) empty_plans: Counter,
    pub(crate) events_left_out: Counter,
    pub(crate) failures: Family<FailureLabels, Counter>,
    pub(crate) hub_reachable: Gauge,
    pub(crate) leading: Gauge,
    pub(crate) problems: Counter,
    pub(crate) probe_timeouts: Counter,
    pub(crate) queue_depth: Gauge,
    pub(crate) silent_members: Gauge,
    pub(crate) writes: Family<WriteLabels, Counter>,
    propagation: Family<StageLabels, Histogram>,
    untimed: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        // From 1 ms to 16 s: the promise is 250 ms, the embedded API answers within one.
        let buckets = || Histogram::new((0..15).map(|power| 0.001 * f64::from(1_u32 << power)));
        let metrics = Self {
            empty_plans: Counter::default(),
            events_left_out: Counter::default(),
            failures: Family::default(),
            hub_reachable: Gauge::default(),
            leading: Gauge::default(),
            probe_timeouts: Counter::default(),
            problems: Counter::default(),
            propagation: Family::new_with_constructor(buckets),
            queue_depth: Gauge::default(),
            silent_members: Gauge::default(),
            untimed: Counter::default(),
            writes: Family::default(),
        };
        let m = &metrics;
        // What all of Landbridge is measured by has no component in its name.
        registry.register(
            "export_propagation_seconds",
            "From the first sight of a ServiceExport until the hub has it (publish), and from the first sight of it there until the import exists (import)",
            m.propagation.clone(),
        );
        let registry = registry.sub_registry_with_prefix("controller");
        registry.register("writes", "Writes that an API took", m.writes.clone());
        registry.register("write_failures",
            "Writes that failed, by whose fault it was: objects that an API refused are those with fault=\"refused\"", m.failures.clone());
        registry.register(
            "empty_plans",
            "Plans that were already true: writes avoided because nothing would have changed",
            m.empty_plans.clone(),
        );
        registry.register(
            "problems",
            "Objects found that cannot be read or are in the way",
            m.problems.clone(),
        );
        registry.register(
            "probe_timeouts",
            "Imports written before every gateway said that it listens",
            m.probe_timeouts.clone(),
        );
        registry.register("queue_depth", "Plans that wait", m.queue_depth.clone());
        registry.register("hub_reachable", "Whether the hub can be read", m.hub_reachable.clone());
        registry.register(
            "events_left_out",
            "Events that were not written because there were too many at once",
            m.events_left_out.clone(),
        );
        registry.register(
            "leading",
            "Whether this controller is the one that writes, of those of its cluster",
            m.leading.clone(),
        );
        registry.register(
            "silent_members",
            "Members of whom nothing is heard",
            m.silent_members.clone(),
        );
        registry.register(
            "export_propagation_untimed",
            "Exports that were not timed because too many came at once",
            m.untimed.clone(),
        );
        metrics
    }

    fn propagated(&self, stage: Stage, took: Duration) {
        let stage = Word(match stage {
            Stage::Import => "import",
            Stage::Publish => "publish",
        });
        let histogram = self.propagation.get_or_create(&StageLabels { stage });
        histogram.observe(took.as_secs_f64());
    }
}

/// Since when exports are on their way. `creationTimestamp` has whole seconds, so the controller's first sight
/// counts.
#[derive(Debug, Default)]
pub(crate) struct Propagation(BTreeMap<(Stage, ServiceKey), Instant>);

impl Propagation {
    /// News is about to be taken in: exports that are new start their time.
    pub(crate) fn before(
        &mut self,
        event: &Event,
        observed: &Observed,
        metrics: &Metrics,
        now: Instant,
    ) {
        let new = match event {
            Event::ClusterExport(Change::Apply(object)) => {
                let service = &object.spec.service;
                let service = ServiceKey::parse(&service.namespace, &service.name).ok();
                let is_new = |service: &ServiceKey| observed.exports_of(service).next().is_none();
                service.filter(is_new).map(|service| (Stage::Import, service))
            }
            Event::ServiceExport(Change::Apply(object)) => {
                let meta = &object.metadata;
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                let service =
                    ServiceKey::parse(namespace, meta.name.as_deref().unwrap_or_default()).ok();
                let is_new = |service: &ServiceKey| {
                    let key = object_key(service, service.name.as_str());
                    observed.service_exports.find(&key).is_none()
                };
                service.filter(is_new).map(|service| (Stage::Publish, service))
            }
            _ => None,
        };
        match new {
            Some(_) if self.0.len() >= MOST_TIMED => {
                metrics.untimed.inc();
            }
            Some(stage) => {
                self.0.entry(stage).or_insert(now);
            }
            None => {}
        }
    }

    /// An API has answered a write: exports that have got through end their time.
    pub(crate) fn answered(&mut self, event: &Event, metrics: &Metrics, now: Instant) {
        let through = match event {
            Event::ClusterExport(Change::Apply(object)) => {
                let service = &object.spec.service;
                let service = ServiceKey::parse(&service.namespace, &service.name).ok();
                service.map(|service| (Stage::Publish, service))
            }
            Event::ServiceImport(Change::Apply(object)) => {
                let meta = &object.metadata;
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                let name = meta.name.as_deref().unwrap_or_default();
                ServiceKey::parse(namespace, name).ok().map(|service| (Stage::Import, service))
            }
            _ => None,
        };
        if let Some((stage, service)) = through
            && let Some(since) = self.0.remove(&(stage, service))
        {
            metrics.propagated(stage, now.saturating_duration_since(since));
        }
    }

    /// Forgets exports that are gone or will not get through, such as those of namespaces that do not exist here.
    pub(crate) fn expire(&mut self, now: Instant) {
        const LONGEST: Duration = Duration::from_secs(60);
        self.0.retain(|_, since| now.saturating_duration_since(*since) < LONGEST);
    }
}
