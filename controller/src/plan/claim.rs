//! Pure: is this ServiceExport one, and what does it export?
//!
//! Whatever can be judged at the source is judged here, so that importers meet exports that they can take and the
//! team that exports is the one who reads what is wrong (KEP-1645 "Exporting Services").

use std::collections::BTreeMap;

use landbridge_model::{Export, Protocol, ServiceKey, ServiceKind, ZoneCapacity, ZoneName};

use super::{
    headless::MOST_PLACES,
    labels::{self, Carried},
};
use crate::observed::{ExportView, Form, Observed, ServiceView, object_key};

/// What a ServiceExport comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Claim {
    /// It is none: reason and message of `Valid=False`.
    Invalid(&'static str, String),
    /// It is one; the rest says how.
    Valid(Box<Valid>),
}

/// An export.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Valid {
    /// As it belongs on the hub.
    pub(super) export: Export,
    /// Why it may not be there: reason and message of `Ready=False`.
    pub(super) withheld: Option<(&'static str, String)>,
    /// What is left out of it: reasons and messages of `Degraded=True`.
    pub(super) degraded: Vec<(&'static str, String)>,
}

/// What this cluster's ServiceExport of `service` comes to; none where there is no ServiceExport.
pub(super) fn claim(observed: &Observed, service: &ServiceKey) -> Option<Claim> {
    let key = object_key(service, service.name.as_str());
    let asked = observed.service_exports.find(&key).filter(|asked| !asked.leaving)?;
    let Some(view) = observed.services.find(&key) else {
        let message =
            format!("There is no Service {service}: make one, or remove the ServiceExport.");
        return Some(Claim::Invalid("NoService", message));
    };
    let kind = match (view.form, &view.ours) {
        (Form::ExternalName, _) => {
            let message = format!(
                "Service {service} is of type ExternalName, a mere name, which cannot be exported."
            );
            return Some(Claim::Invalid("InvalidServiceType", message));
        }
        (_, Some((import, _))) => {
            let message = format!(
                "Service {service} was made for the import {import}, which its exporters export."
            );
            return Some(Claim::Invalid("InvalidServiceType", message));
        }
        (Form::ClusterIp, None) => ServiceKind::ClusterSetIp,
        (Form::Headless, None) => ServiceKind::Headless,
    };
    let carried = labels::carried(&asked.labels, &asked.annotations);
    let mut degraded = degraded(&carried, view);
    let export = export(observed, service, kind, asked, view, carried);
    degraded.extend(too_many_endpoints(&export));
    let withheld = withheld(observed, service);
    Some(Claim::Valid(Box::new(Valid { export, withheld, degraded })))
}

fn export(
    observed: &Observed,
    service: &ServiceKey,
    kind: ServiceKind,
    asked: &ExportView,
    view: &ServiceView,
    carried: Carried,
) -> Export {
    Export {
        cluster: observed.config.cluster.clone(),
        service: service.clone(),
        since: asked.created,
        kind,
        ports: view.ports.clone(),
        families: view.families.clone(),
        affinity: view.affinity,
        internal_traffic_policy: view.internal_traffic_policy.clone(),
        traffic_distribution: view.traffic_distribution.clone(),
        labels: carried.labels,
        annotations: carried.annotations,
        guarded: observed.guards(service).next().is_some(),
        zones: zones(observed, service),
    }
}

/// Counts endpoints per zone. A pod of two families stands in a slice of each: the family with more of them counts.
fn zones(observed: &Observed, service: &ServiceKey) -> BTreeMap<ZoneName, ZoneCapacity> {
    let mut families: BTreeMap<String, BTreeMap<ZoneName, ZoneCapacity>> = BTreeMap::new();
    for slice in observed.pod_slices(service) {
        let zones = families.entry(slice.address_type).or_default();
        for endpoint in slice.endpoints {
            let zone = ZoneName::parse(endpoint.zone.as_deref().unwrap_or_default());
            let Ok(zone) = zone.or_else(|_| ZoneName::parse("")) else {
                continue;
            };
            let capacity = zones.entry(zone).or_default();
            capacity.total = capacity.total.saturating_add(1);
            if super::home::is_ready(&endpoint) {
                capacity.ready = capacity.ready.saturating_add(1);
            }
        }
    }
    let mut most: BTreeMap<ZoneName, ZoneCapacity> = BTreeMap::new();
    for (zone, capacity) in families.into_values().flatten() {
        let most = most.entry(zone).or_default();
        most.ready = most.ready.max(capacity.ready);
        most.total = most.total.max(capacity.total);
    }
    most
}

fn withheld(observed: &Observed, service: &ServiceKey) -> Option<(&'static str, String)> {
    let cluster = &observed.config.cluster;
    if !observed.is_hub_synced() {
        return None;
    }
    if let Some(uid) = observed.duplicate() {
        let message = format!(
            "Another cluster, whose namespace kube-system has uid {uid}, is member {cluster:?} too: give one of the two another id."
        );
        return Some(("DuplicateClusterId", message));
    }
    let Some(member) = observed.member(cluster) else {
        let message =
            format!("{cluster:?} is no member of the set: the hub has no Member of this name.");
        return Some(("Pending", message));
    };
    if member.suspended {
        let message =
            format!("Member {cluster:?} is suspended: everything that it exports is withheld.");
        return Some(("Pending", message));
    }
    if !member.may_export(&service.namespace) {
        let message = format!(
            "Member {cluster:?} may not export services of namespace {:?}: an administrator of the set names the namespaces in the Member's spec.",
            service.namespace
        );
        return Some(("NamespaceNotAllowed", message));
    }
    None
}

fn degraded(carried: &Carried, view: &ServiceView) -> Vec<(&'static str, String)> {
    let mut degraded = Vec::new();
    if !carried.reserved.is_empty() {
        let keys = excerpt(&carried.reserved);
        let message =
            format!("Labels and annotations of reserved domains are not exported: {keys}.");
        degraded.push(("ReservedKeysDropped", message));
    }
    if !carried.invalid.is_empty() {
        let keys = excerpt(&carried.invalid);
        let message =
            format!("These labels and annotations are not valid and are not exported: {keys}.");
        degraded.push(("InvalidLabelsDropped", message));
    }
    if let Some(size) = carried.too_large {
        let message = format!(
            "The annotations have {size} bytes, more than an object can have, and are not exported."
        );
        degraded.push(("AnnotationsTooLarge", message));
    }
    let sctp = view.ports.iter().find(|port| port.key.protocol == Protocol::Sctp);
    if let Some(port) = sctp {
        let message = format!(
            "Port \"{port}\" is not carried to other networks: gateways carry TCP and UDP."
        );
        degraded.push(("PortNotCarried", message));
    } else if view.ports.is_empty() {
        let message = "The Service has no port, so nothing of it is carried to other networks.";
        degraded.push(("PortNotCarried", message.to_owned()));
    }
    degraded
}

/// What an import has room for, exports of other clusters may take a part of: that is told there.
fn too_many_endpoints(export: &Export) -> Option<(&'static str, String)> {
    if export.kind != ServiceKind::Headless {
        return None;
    }
    let totals = export.zones.values().map(|zone| u64::from(zone.total));
    let endpoints = totals.fold(0, u64::saturating_add);
    (endpoints > MOST_PLACES as u64).then(|| {
        let message = format!(
            "The Service has {endpoints} endpoints; at most {MOST_PLACES} of a headless service have addresses in other networks: split it."
        );
        ("TooManyEndpoints", message)
    })
}

/// The first few of many keys, short enough for a condition's message.
fn excerpt(keys: &[String]) -> String {
    const MOST: usize = 5;
    let short = |key: &String| key.chars().take(80).collect::<String>();
    let mut text = keys.iter().take(MOST).map(short).collect::<Vec<_>>().join(", ");
    if keys.len() > MOST {
        text += &format!(" and {} more", keys.len() - MOST);
    }
    text
}
