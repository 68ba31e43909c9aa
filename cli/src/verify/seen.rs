//! Pure: what is known of one cluster once its pods have reported, or have not.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};

use crate::{init::progress, probe::Called};

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) cluster: String,
    /// How it is named on the command line, to be named so again; empty where that is the current context.
    pub(crate) context: String,
    /// Why nothing could be made, or the pod that answers is not ready.
    pub(crate) server: Option<String>,
    /// What its export says where that is not exported.
    pub(crate) export: Option<String>,
    /// What its caller has reported, or why it has not.
    pub(crate) called: Option<Called>,
    pub(crate) caller: Option<String>,
    /// What it has of each other cluster.
    pub(crate) others: BTreeMap<String, Other>,
}

/// What one cluster has of another.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Other {
    /// Whether there is a ServiceImport, and what it says where it is not ready.
    pub(crate) is_imported: bool,
    pub(crate) import: Option<String>,
    /// Whether the links to it stand, and what is said of them; none where it is unknown.
    pub(crate) link: Option<(bool, String)>,
}

/// Why a pod is not ready, if it is not.
pub(crate) fn unready(pod: Option<&Pod>) -> Option<String> {
    let Some(pod) = pod else { return Some("its pod was not made".into()) };
    let status = pod.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|one| one.type_ == "Ready");
    if ready.is_some_and(|condition| condition.status == "True") {
        return None;
    }
    Some(unstarted(pod).unwrap_or_else(|| "its pod runs, and is not ready".into()))
}

/// Why a pod has not done what it was to do, if it has not.
pub(crate) fn unfinished(pod: Option<&Pod>) -> Option<String> {
    let Some(pod) = pod else { return Some("its pod was not made".into()) };
    match phase(pod) {
        "Succeeded" => None,
        _ => {
            Some(unstarted(pod).unwrap_or_else(|| "its pod runs, and has reported nothing".into()))
        }
    }
}

/// Whether nothing more will come of it.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn unstarted(pod: &Pod) -> Option<String> {
    if let Some(problem) = progress::problem(pod) {
        return Some(problem);
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref();
    let message = status.and_then(|status| status.message.as_deref());
    let ended = status.into_iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended = ended.filter_map(|one| one.state.as_ref()?.terminated.as_ref()).next();
    match (phase(pod), ended) {
        ("Running", _) => None,
        (_, Some(ended)) => {
            let reason = ended.reason.as_deref().unwrap_or("ended");
            Some(format!("pod {name}: {reason} with code {}", ended.exit_code))
        }
        (phase, None) => {
            let phase = if phase.is_empty() { "Pending" } else { phase };
            let message = message.map(|text| format!(": {text}")).unwrap_or_default();
            Some(format!("pod {name}: {phase}{message}"))
        }
    }
}

/// The first condition of these that is not true, as one line; none where all are.
pub(crate) fn untrue(conditions: &[Condition], types: &[&str]) -> Option<String> {
    let wrong = conditions
        .iter()
        .find(|one| types.contains(&one.type_.as_str()) && one.status != "True")
        .map(|one| format!("{}: {}", one.reason, one.message));
    let is_missing = || {
        let has = |type_: &&str| conditions.iter().any(|one| one.type_ == **type_);
        types.iter().find(|type_| !has(type_)).map(|type_| format!("nobody has said {type_} of it"))
    };
    wrong.or_else(is_missing)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "calls"}, "status": status})).unwrap()
    }

    #[test]
    fn a_pod_that_is_not_ready_says_why() {
        let ready =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(unready(Some(&pod(&ready))), None);
        let running = pod(&json!({"phase": "Running"}));
        assert_eq!(unready(Some(&running)).unwrap(), "its pod runs, and is not ready");
        assert_eq!(unready(Some(&pod(&json!({})))).unwrap(), "pod calls: Pending");
        assert_eq!(unready(None).unwrap(), "its pod was not made");
        let evicted = pod(&json!({"phase": "Failed", "message": "The node was low on memory."}));
        assert_eq!(
            unready(Some(&evicted)).unwrap(),
            "pod calls: Failed: The node was low on memory."
        );
    }

    #[test]
    fn a_pod_has_reported_when_it_has_ended_well() {
        assert_eq!(unfinished(Some(&pod(&json!({"phase": "Succeeded"})))), None);
        let failed = pod(
            &json!({"phase": "Failed", "containerStatuses": [{"name": "probe", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}),
        );
        assert_eq!(unfinished(Some(&failed)).unwrap(), "pod calls: Error with code 2");
        assert!(is_over(&failed));
    }

    #[test]
    fn of_conditions_the_one_that_is_untrue_or_missing_is_told() {
        let condition = |type_: &str, status: &str| -> Condition {
            serde_json::from_value(
                json!({"type": type_, "status": status, "reason": "Pending", "message": "It waits.",
                "lastTransitionTime": "2026-09-21T14:00:00Z"}),
            )
            .unwrap()
        };
        let [valid, ready] = [condition("Valid", "True"), condition("Ready", "False")];
        let types = ["Valid", "Ready"];
        assert_eq!(untrue(&[valid.clone(), ready], &types).unwrap(), "Pending: It waits.");
        assert_eq!(
            untrue(std::slice::from_ref(&valid), &types).unwrap(),
            "nobody has said Ready of it"
        );
        assert_eq!(untrue(&[valid, condition("Ready", "True")], &types), None);
    }
}
