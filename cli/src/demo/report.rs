//! Pure: what the demo measured, as `-o json` prints it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

/// Milliseconds, with microseconds behind the point.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub(super) struct Millis(f64);

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self((duration.as_secs_f64() * 1e6).round() / 1e3)
    }
}

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places = if self.0 < 10.0 { 1 } else { 0 };
        f.pad(&format!("{:.places$} ms", self.0))
    }
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Whether everything went as the story has it.
    pub(super) ok: bool,
    /// What did not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// The clusters' names.
    pub(super) clusters: Vec<String>,
    /// From the start until every component of every cluster was ready.
    pub(super) ready_ms: Option<Millis>,
    /// Per importing cluster, from creating the ServiceExport until its ServiceImport was seen.
    pub(super) import_ms: BTreeMap<String, Millis>,
    /// … until the name was resolved.
    pub(super) answer_ms: BTreeMap<String, Millis>,
    /// … until the first call was answered.
    pub(super) call_ms: BTreeMap<String, Millis>,
    /// Which cluster answered how many calls.
    pub(super) calls: BTreeMap<String, u32>,
    /// Who called, as the pod that was called is told.
    pub(super) caller: Option<String>,
    /// What happened when a cluster was cut off.
    pub(super) failover: Option<Failover>,
    /// From its return until the cluster that was cut off answered again.
    pub(super) return_ms: Option<Millis>,
    /// From deleting the last ServiceExport until the name was gone in every cluster.
    pub(super) unexport_ms: Option<Millis>,
}

/// What happened under steady calls when a cluster was cut off.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failover {
    /// From the cut to the answer of the first call after which none failed any more.
    pub(super) ms: Option<Millis>,
    /// Calls that failed.
    pub(super) failed: u32,
    /// The longest that a call which failed had to wait until it was told so.
    pub(super) told_ms: Option<Millis>,
    /// Calls that were made.
    pub(super) of: u32,
    /// Calls that reached a workload more than once.
    pub(super) duplicates: u32,
}

/// One call of a steady stream of them.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// When it began, since the stream did.
    pub(super) begun: Duration,
    /// When it ended.
    pub(super) ended: Duration,
    /// Which cluster answered; none where it failed.
    pub(super) by: Option<String>,
}

/// Judges a stream of calls in which a cluster was cut off at `cut`.
pub(super) fn failover(outcomes: &[Outcome], cut: Duration, duplicates: u32) -> Failover {
    let failed = outcomes.iter().filter(|call| call.by.is_none());
    let last_failed = failed.clone().map(|call| call.begun).max();
    let good_since = last_failed.map_or(cut, |last| last.max(cut));
    let good = outcomes.iter().filter(|call| call.by.is_some() && call.begun >= good_since);
    Failover {
        ms: good.map(|call| call.ended).min().map(|ended| ended.saturating_sub(cut).into()),
        told_ms: failed
            .clone()
            .map(|call| call.ended.saturating_sub(call.begun))
            .max()
            .map(Millis::from),
        failed: count(failed),
        of: count(outcomes.iter()),
        duplicates,
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(begun: u64, ended: u64, good: bool) -> Outcome {
        Outcome {
            begun: Duration::from_millis(begun),
            ended: Duration::from_millis(ended),
            by: good.then(|| "tokyo".to_owned()),
        }
    }

    /// A lucky call right after the cut does not count: others were still failing.
    #[test]
    fn failing_over_lasts_until_no_call_fails_any_more() {
        let calls = [
            call(0, 1, true),
            call(101, 400, false),
            call(105, 106, true),
            call(300, 405, false),
            call(305, 307, true),
            call(310, 311, true),
        ];
        let told = failover(&calls, Duration::from_millis(100), 0);
        assert_eq!((told.failed, told.of), (2, 6));
        assert_eq!(told.ms, Some(Duration::from_millis(207).into()));
        assert_eq!(told.told_ms, Some(Duration::from_millis(299).into()));
    }

    #[test]
    fn where_nothing_fails_the_first_answer_after_the_cut_counts() {
        let calls = [call(0, 1, true), call(100, 103, true), call(105, 106, true)];
        let told = failover(&calls, Duration::from_millis(100), 0);
        assert_eq!(told.ms, Some(Duration::from_millis(3).into()));
    }

    #[test]
    fn where_nothing_is_good_again_there_is_no_time_to_tell() {
        let told =
            failover(&[call(0, 1, true), call(101, 400, false)], Duration::from_millis(100), 0);
        assert_eq!(told.ms, None);
    }
}
