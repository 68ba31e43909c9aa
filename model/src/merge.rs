//! Pure: what all the exports of one service add up to, and who disagrees (KEP-1645 "Conflict Resolution Policy").
//!
//! The hub stores, it does not decide: every member runs this function over the same exports and comes to the same
//! import. The oldest export wins, ties go to the lower cluster id, and the order in which exports are given does
//! not matter. `ports` answers which ports there are and who serves each, `properties` everything else.

mod ports;
mod properties;
mod rules;

use std::collections::BTreeMap;

use crate::{
    export::{Export, IpFamily, ServiceKind, SessionAffinity},
    name::{ClusterId, PortName, ServiceKey},
    port::{PortKey, ServicePort},
    time::Timestamp,
};

pub use rules::{Rulebook, Rules};

/// Why exports conflict: the reasons of the condition `Conflict` of a ServiceExport, in the order in which several
/// are joined.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ConflictReason {
    /// The ports are not the same.
    Port,
    /// Some are headless, some are not.
    Type,
    /// `sessionAffinity` differs.
    SessionAffinity,
    /// The timeout of a ClientIP affinity differs.
    SessionAffinityConfig,
    /// The exported labels differ.
    Labels,
    /// The exported annotations differ.
    Annotations,
    /// `internalTrafficPolicy` differs.
    InternalTrafficPolicy,
    /// `trafficDistribution` differs.
    TrafficDistribution,
    /// The address families differ.
    IpFamily,
}

impl ConflictReason {
    /// The reason as the standard's constants have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Annotations => "AnnotationsConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::IpFamily => "IPFamilyConflict",
            Self::Labels => "LabelsConflict",
            Self::Port => "PortConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
            Self::Type => "TypeConflict",
        }
    }
}

/// One way in which exports of a service disagree. Told on every export of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// About what.
    pub reason: ConflictReason,
    /// A sentence that names both sides and counts those who disagree.
    pub message: String,
}

/// A port of the import, and who serves it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MergedPort {
    /// The port as clients see it.
    pub port: ServicePort,
    /// The oldest cluster that exports it so.
    pub from: ClusterId,
    /// Every cluster whose Service has this protocol and number, whatever the name, oldest first.
    pub served_by: Vec<ClusterId>,
}

/// What all the exports of one service add up to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Merged {
    /// Which service.
    pub service: ServiceKey,
    /// The exporting clusters, oldest export first.
    pub clusters: Vec<ClusterId>,
    /// With one virtual address, or headless.
    pub kind: ServiceKind,
    /// The union of all ports without those that lost a conflict.
    pub ports: Vec<MergedPort>,
    /// Every family that some export has, those of the oldest first.
    pub families: Vec<IpFamily>,
    /// Whether calls of one client go to one endpoint. [`SessionAffinity::None`] where headless.
    pub affinity: SessionAffinity,
    /// From the oldest export.
    pub internal_traffic_policy: Option<String>,
    /// From the oldest export.
    pub traffic_distribution: Option<String>,
    /// The whole set of the oldest export.
    pub labels: BTreeMap<String, String>,
    /// The whole set of the oldest export.
    pub annotations: BTreeMap<String, String>,
    /// Every disagreement, at most one per reason, in the order of [`ConflictReason`].
    pub conflicts: Vec<Conflict>,
}

impl Merged {
    /// The port with this protocol and number.
    #[must_use]
    pub fn port(&self, key: PortKey) -> Option<&MergedPort> {
        self.ports.iter().find(|port| port.port.key == key)
    }

    /// The ports that `cluster` serves.
    pub fn ports_of<'a>(&'a self, cluster: &'a ClusterId) -> impl Iterator<Item = &'a MergedPort> {
        self.ports.iter().filter(move |port| port.served_by.contains(cluster))
    }

    /// The name that the import gives to the port with this protocol and number.
    #[must_use]
    pub fn port_name(&self, key: PortKey) -> Option<&PortName> {
        self.port(key).and_then(|port| port.port.name.as_ref())
    }
}

/// Merges all exports of one service by the newest rules; none where there are none. Exports of other services than
/// the first one's are left out.
#[must_use]
pub fn merge<'a>(exports: impl IntoIterator<Item = &'a Export>) -> Option<Merged> {
    let exports: Vec<&Export> = exports.into_iter().collect();
    Rulebook::OURS.merge(u32::MAX, &exports)
}

/// Revision 1.
fn by_oldest(exports: &[&Export]) -> Option<Merged> {
    let mut exports = exports.to_vec();
    exports.sort_by(|a, b| age(a).cmp(&age(b)));
    let oldest = *exports.first()?;
    exports.retain(|export| export.service == oldest.service);
    exports.dedup_by(|a, b| a.cluster == b.cluster);
    let (ports, port_conflict) = ports::merge(&exports);
    let mut conflicts: Vec<Conflict> = properties::conflicts(&exports);
    conflicts.extend(port_conflict);
    conflicts.sort_by_key(|conflict| conflict.reason);
    Some(Merged {
        service: oldest.service.clone(),
        clusters: exports.iter().map(|export| export.cluster.clone()).collect(),
        kind: oldest.kind,
        ports,
        families: families(&exports),
        affinity: properties::affinity(oldest),
        internal_traffic_policy: oldest.internal_traffic_policy.clone(),
        traffic_distribution: oldest.traffic_distribution.clone(),
        labels: oldest.labels.clone(),
        annotations: oldest.annotations.clone(),
        conflicts,
    })
}

/// Older exports come first; of two made at the same time, the lower cluster id.
fn age(export: &Export) -> (Timestamp, &ClusterId) {
    (export.since, &export.cluster)
}

fn families(exports: &[&Export]) -> Vec<IpFamily> {
    let mut families = Vec::new();
    for family in exports.iter().flat_map(|export| &export.families) {
        if !families.contains(family) {
            families.push(*family);
        }
    }
    families
}

#[cfg(test)]
mod tests;
