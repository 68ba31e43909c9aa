//! Pure: what are TrafficPolicies told?
//!
//! | condition | says |
//! | --- | --- |
//! | InForce | whether a policy holds for the calls to its service, for which of them, or which other one does |

use landbridge_api::{
    condition::{self, Wanted},
    traffic::{TrafficPolicySpec, TrafficPolicyStatus},
};
use landbridge_model::{ClusterId, Merged, ServiceKey, ServiceKind, Timestamp};
use serde_json::json;

use super::{Kind, Write};
use crate::observed::Observed;

/// The statuses of the policies for a service, which is imported as `merged` says if it is.
pub(super) fn statuses(
    observed: &Observed,
    service: &ServiceKey,
    merged: Option<&Merged>,
    now: Timestamp,
) -> Vec<Write> {
    let policies = observed.traffic(service);
    let mut first: Option<&str> = None;
    let mut writes = Vec::new();
    for (key, policy) in policies {
        let wanted = match first {
            Some(first) => Wanted::new(
                "InForce",
                false,
                "Superseded",
                format!("TrafficPolicy {first} for the same service is older: delete one of them."),
            ),
            None => in_force(&policy.spec, service, merged),
        };
        first = first.or(Some(&key.name));
        let current = policy.status.clone().unwrap_or_default().conditions;
        let conditions = condition::apply(&current, &[wanted], policy.metadata.generation, now);
        if conditions != current {
            writes.push(Write::Status {
                kind: Kind::TrafficPolicy,
                key: key.clone(),
                status: json!(TrafficPolicyStatus { conditions }),
            });
        }
    }
    writes
}

fn in_force(spec: &TrafficPolicySpec, service: &ServiceKey, merged: Option<&Merged>) -> Wanted {
    let Some(merged) = merged else {
        let message = format!("No cluster exports {service}, or it is not imported here.");
        return Wanted::new("InForce", false, "NotImported", message);
    };
    if merged.kind == ServiceKind::Headless && spec.weighs() {
        let message = "Clients of a headless service choose its endpoints themselves: clusters cannot be weighed.";
        return Wanted::new("InForce", false, "Headless", message);
    }
    if !spec.weighs() {
        let message = "It holds for calls that go through gateways.";
        return Wanted::new("InForce", true, "Gateways", message);
    }
    let serves = |name: &str| merged.clusters.iter().any(|cluster| cluster.as_str() == name);
    let strangers = spec.clusters.iter().map(|one| one.cluster.as_str());
    let strangers: Vec<&str> = strangers.filter(|name| !serves(name)).collect();
    let others: Vec<&str> = merged
        .clusters
        .iter()
        .map(ClusterId::as_str)
        .filter(|name| !spec.clusters.iter().any(|one| one.cluster == *name && one.weight > 0))
        .collect();
    let mut message = "All calls go to gateways, which spread them over clusters.".to_owned();
    if !strangers.is_empty() {
        message += &format!(" Not served by {}.", strangers.join(", "));
    }
    if !spec.clusters.is_empty() && !others.is_empty() {
        message += &format!(" Only called when nobody else takes calls: {}.", others.join(", "));
    }
    Wanted::new("InForce", true, "Weighed", message)
}
