//! What the controller counts.

use std::{fmt::Write, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::reconciler::{Stage, Told};

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

/// The controller's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    empty_plans: Counter,
    pub(crate) events_left_out: Counter,
    pub(crate) failures: Family<FailureLabels, Counter>,
    pub(crate) hub_reachable: Gauge,
    pub(crate) leading: Gauge,
    problems: Counter,
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

    /// Counts what is told.
    pub(crate) fn count(&self, told: &Told) {
        match told {
            Told::EmptyPlan => {
                self.empty_plans.inc();
            }
            Told::EventsLeftOut(number) => {
                self.events_left_out.inc_by(*number);
            }
            Told::Problem(_) => {
                self.problems.inc();
            }
            Told::Propagated(stage, took) => self.propagated(*stage, *took),
            Told::Untimed => {
                self.untimed.inc();
            }
            Told::BidRefused(_)
            | Told::Failed(..)
            | Told::Heard(..)
            | Told::HubAway(_)
            | Told::HubBack
            | Told::Leads(..)
            | Told::Silent(..) => {}
        }
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
