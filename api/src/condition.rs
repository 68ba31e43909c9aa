//! Pure: conditions that change only when they change.
//!
//! `lastTransitionTime` moves with `status` alone (Kubernetes API conventions, "Typical status properties"), and a
//! condition that says the same again is left as it is, so that a reconcile which changes nothing writes nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use landbridge_model::Timestamp;

use crate::convert::time;

/// A condition as it should be, before it is known since when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Its type, for example `Valid`.
    pub type_: &'static str,
    /// Whether it holds; none for unknown.
    pub status: Option<bool>,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Wanted {
    /// A condition with `status`, `reason` and `message`.
    pub fn new(
        type_: &'static str,
        status: impl Into<Option<bool>>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status: status.into(), reason: reason.into(), message: message.into() }
    }
}

/// The conditions of an object as they should be: those of `wanted`, each since its status last changed, after the
/// ones in `current` that are of other types and so not ours to judge.
#[must_use]
pub fn apply(
    current: &[Condition],
    wanted: &[Wanted],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let of_others =
        current.iter().filter(|had| wanted.iter().all(|want| want.type_ != had.type_)).cloned();
    let ours = wanted.iter().map(|want| {
        let status = match want.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let had = current.iter().find(|had| had.type_ == want.type_ && had.status == status);
        Condition {
            last_transition_time: had
                .map_or_else(|| Time(time(now)), |had| had.last_transition_time.clone()),
            message: want.message.clone(),
            observed_generation: generation,
            reason: want.reason.clone(),
            status: status.to_owned(),
            type_: want.type_.to_owned(),
        }
    });
    of_others.chain(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saying_the_same_again_changes_nothing() {
        let ready = [Wanted::new("Ready", true, "Exported", "")];
        let first = apply(&[], &ready, Some(1), Timestamp::from_millis(1_000));
        assert_eq!(apply(&first, &ready, Some(1), Timestamp::from_millis(9_000)), first);
    }

    /// API conventions: lastTransitionTime is "the last time the condition transitioned from one status to another".
    #[test]
    fn only_a_new_status_is_a_transition() {
        let at = |millis| Timestamp::from_millis(millis);
        let first = apply(&[], &[Wanted::new("Ready", false, "Pending", "hub away")], None, at(0));
        let reworded =
            apply(&first, &[Wanted::new("Ready", false, "Failed", "refused")], None, at(5_000));
        assert_eq!(reworded[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(reworded[0].reason, "Failed");
        let changed =
            apply(&reworded, &[Wanted::new("Ready", true, "Exported", "")], None, at(6_000));
        assert_ne!(changed[0].last_transition_time, first[0].last_transition_time);
    }

    #[test]
    fn conditions_of_others_stay() {
        let theirs =
            apply(&[], &[Wanted::new("Audited", true, "Yes", "")], None, Timestamp::from_millis(0));
        let both = apply(
            &theirs,
            &[Wanted::new("Ready", None, "Pending", "")],
            None,
            Timestamp::from_millis(0),
        );
        let types: Vec<&str> = both.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Audited", "Ready"]);
        assert_eq!(both[1].status, "Unknown");
    }
}
