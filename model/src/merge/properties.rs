//! Pure: everything but the ports, of which the oldest export's value is used and the others are told.

use std::collections::BTreeMap;

use super::{Conflict, ConflictReason};
use crate::export::{Export, IpFamily, ServiceKind, SessionAffinity};

/// The affinity of the import: that of the oldest export; a headless import has none.
pub(super) fn affinity(oldest: &Export) -> SessionAffinity {
    match oldest.kind {
        ServiceKind::ClusterSetIp => oldest.affinity,
        ServiceKind::Headless => SessionAffinity::None,
    }
}

/// Every disagreement among `exports`, which come oldest first.
pub(super) fn conflicts(exports: &[&Export]) -> Vec<Conflict> {
    let affinity_name = |export: &Export| affinity(export).as_str().to_owned();
    let affinity_timeout = |export: &Export| match affinity(export) {
        SessionAffinity::ClientIp { timeout } => format!("{}s", timeout.as_secs()),
        SessionAffinity::None => "none".to_owned(),
    };
    let optional = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    [
        conflict(exports, ConflictReason::Type, "type", |e| e.kind.as_str().to_owned()),
        conflict(exports, ConflictReason::SessionAffinity, "session affinity", affinity_name),
        conflict(
            exports,
            ConflictReason::SessionAffinityConfig,
            "session affinity timeout",
            affinity_timeout,
        ),
        conflict(exports, ConflictReason::Labels, "labels", |e| map_text(&e.labels)),
        conflict(exports, ConflictReason::Annotations, "annotations", |e| map_text(&e.annotations)),
        conflict(exports, ConflictReason::InternalTrafficPolicy, "internal traffic policy", |e| {
            optional(&e.internal_traffic_policy)
        }),
        conflict(exports, ConflictReason::TrafficDistribution, "traffic distribution", |e| {
            optional(&e.traffic_distribution)
        }),
        conflict(exports, ConflictReason::IpFamily, "IP families", |e| families_text(&e.families)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Compares one property, read as text, over all exports.
fn conflict(
    exports: &[&Export],
    reason: ConflictReason,
    field: &str,
    value: impl Fn(&Export) -> String,
) -> Option<Conflict> {
    let (oldest, younger) = exports.split_first()?;
    let wins = value(oldest);
    let mut disagreeing = younger.iter().filter(|export| value(export) != wins);
    let loser = disagreeing.next()?;
    let message = format!(
        "Conflicting {field}. Using \"{}\" from oldest service export in \"{}\", not \"{}\" from \"{}\". {}/{} clusters disagree.",
        excerpt(&wins),
        oldest.cluster,
        excerpt(&value(loser)),
        loser.cluster,
        1 + disagreeing.count(),
        exports.len()
    );
    Some(Conflict { reason, message })
}

/// A condition's message holds 32,768 characters and exported annotations may hold more: both sides together stay
/// far below.
fn excerpt(text: &str) -> String {
    const MOST: usize = 256;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn map_text(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// As a set: which family is primary is each cluster's own affair.
fn families_text(families: &[IpFamily]) -> String {
    let mut families: Vec<&str> = families.iter().map(|family| family.as_str()).collect();
    families.sort_unstable();
    families.join(",")
}
