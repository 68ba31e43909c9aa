//! Pure: which conditions a ServiceExport has.
//!
//! | condition | says |
//! | --- | --- |
//! | Valid | whether there is something to export |
//! | Ready | whether the hub has it |
//! | Conflict | whether the exporters of the service disagree; the same words on every export of it |
//! | Guarded | which AccessPolicies are in force for it; absent where none is |
//! | Degraded | what of it importers do not get; absent where they get all |

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use landbridge_api::{
    condition::{self, Wanted},
    convert,
    watch::ObjectKey,
};
use landbridge_model::{Conflict, ServiceKey, Timestamp};
use serde_json::json;

use super::{
    Kind, Plan, Write,
    claim::{Claim, Valid, claim},
    merged,
};
use crate::observed::{Observed, object_key};

pub(super) fn plan(observed: &Observed, service: &ServiceKey, now: Timestamp) -> Plan {
    let key = object_key(service, service.name.as_str());
    if let Some(error) = observed.service_exports.malformed().get(&key) {
        return malformed(observed, key, error, now);
    }
    let mut plan = Plan::default();
    let Some(view) = observed.service_exports.find(&key) else {
        return plan;
    };
    let wanted = match claim(observed, service) {
        None => return plan,
        Some(Claim::Invalid(reason, message)) => invalid(reason, message, &view.conditions),
        Some(Claim::Valid(valid)) => {
            match valid_export(observed, service, &valid, &view.conditions) {
                Some(wanted) => wanted,
                None => return plan,
            }
        }
    };
    let conditions = condition::apply(&view.conditions, &wanted, view.generation, now);
    if conditions != view.conditions {
        let write = plan.ask(observed, Some(status(key, &conditions)));
        plan.step(write);
    }
    plan
}

fn status(key: ObjectKey, conditions: &[Condition]) -> Write {
    Write::Status { kind: Kind::ServiceExport, key, status: json!({ "conditions": conditions }) }
}

/// An object that cannot be read is told so once: its own conditions cannot be read either, so they cannot be
/// compared with.
fn malformed(observed: &Observed, key: ObjectKey, error: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if observed.told_malformed.get(&key).is_some_and(|told| told == error) {
        return plan;
    }
    let message = format!("The object cannot be read: {}", excerpt(error));
    let wanted = [Wanted::new("Valid", false, "Malformed", message)];
    plan.tells_malformed = Some((key.clone(), error.to_owned()));
    plan.step([status(key, &condition::apply(&[], &wanted, None, now))]);
    plan
}

fn has(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_)
}

fn invalid(reason: &str, message: String, current: &[Condition]) -> Vec<Wanted> {
    let mut wanted = vec![
        Wanted::new("Valid", false, reason, message),
        Wanted::new("Ready", false, "Pending", "There is nothing to export."),
    ];
    if has(current, "Conflict") {
        wanted.push(Wanted::new("Conflict", false, "NoConflicts", ""));
    }
    wanted
}

/// None while the hub is about to be told: a word about it would be outdated when it is read.
fn valid_export(
    observed: &Observed,
    service: &ServiceKey,
    valid: &Valid,
    current: &[Condition],
) -> Option<Vec<Wanted>> {
    let mut wanted = vec![Wanted::new("Valid", true, "Valid", "")];
    wanted.push(ready(observed, service, valid)?);
    let own = observed.own_cluster_export(service);
    let merged = observed.cluster_exports.find(&own).and_then(|_| merged(observed, service));
    match merged {
        Some(merged) => wanted.push(conflict(&merged.conflicts)),
        None if has(current, "Conflict") => wanted.push(conflict(&[])),
        None => {}
    }
    wanted.extend(guarded(observed, service, current));
    if !valid.degraded.is_empty() {
        let reasons: Vec<&str> = valid.degraded.iter().map(|(reason, _)| *reason).collect();
        let messages: Vec<&str> = valid.degraded.iter().map(|(_, text)| text.as_str()).collect();
        wanted.push(Wanted::new("Degraded", true, reasons.join(","), messages.join(" ")));
    } else if has(current, "Degraded") {
        wanted.push(Wanted::new("Degraded", false, "NothingLeftOut", ""));
    }
    Some(wanted)
}

fn ready(observed: &Observed, service: &ServiceKey, valid: &Valid) -> Option<Wanted> {
    if let Some((reason, message)) = &valid.withheld {
        return Some(Wanted::new("Ready", false, *reason, message));
    }
    let own = observed.cluster_exports.find(&observed.own_cluster_export(service));
    let spec = convert::cluster_export(&valid.export).spec;
    if own.is_some_and(|own| own.spec == spec) {
        return Some(Wanted::new("Ready", true, "Exported", ""));
    }
    if let Some(refusal) = observed.refusals.get(service) {
        let reason = if refusal.refused { "Failed" } else { "Pending" };
        return Some(Wanted::new("Ready", false, reason, excerpt(&refusal.message)));
    }
    let trouble = observed.hub_trouble()?;
    let message = format!("The hub cannot be reached: {}", excerpt(trouble));
    Some(Wanted::new("Ready", false, "Pending", message))
}

fn guarded(observed: &Observed, service: &ServiceKey, current: &[Condition]) -> Option<Wanted> {
    /// Enough to find the others.
    const MOST: usize = 5;
    let names: Vec<&str> = observed.guards(service).collect();
    if names.is_empty() {
        let message = "Every member of the set may call it.";
        return has(current, "Guarded").then(|| Wanted::new("Guarded", false, "NoPolicy", message));
    }
    let mut named = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        named += &format!(" and {} more", names.len() - MOST);
    }
    let message = format!("Only who is allowed by these AccessPolicies may call it: {named}.");
    Some(Wanted::new("Guarded", true, "AccessPolicy", message))
}

/// "several joined by commas" (the reasons), and the messages by spaces.
fn conflict(conflicts: &[Conflict]) -> Wanted {
    if conflicts.is_empty() {
        return Wanted::new("Conflict", false, "NoConflicts", "");
    }
    let reasons: Vec<&str> = conflicts.iter().map(|conflict| conflict.reason.as_str()).collect();
    let messages: Vec<&str> = conflicts.iter().map(|conflict| conflict.message.as_str()).collect();
    Wanted::new("Conflict", true, reasons.join(","), messages.join(" "))
}

/// A condition's message holds 32,768 characters; people read the first few hundred.
fn excerpt(text: &str) -> String {
    const MOST: usize = 1_000;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
