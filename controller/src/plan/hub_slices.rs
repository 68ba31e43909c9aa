//! Pure: which pods of this cluster's exports the hub is told of.
//!
//! Between networks an export tells how many pods are ready and no more: endpoint churn stays at home. Two kinds of
//! importers need the pods themselves: those of headless services, whose clients address single pods, and members of
//! this network, which reach pods without a gateway. A pod stays in the slice that it is in, so that one which comes
//! or goes changes one slice.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::ObjectReference,
    discovery::v1::{Endpoint, EndpointSlice},
};
use landbridge_api::{
    watch::ObjectKey,
    wellknown::{CLUSTER, EXPORT, cluster_export_name, hub_namespace},
};
use landbridge_model::{Export, Hostname, IpFamily, Protocol, ServiceKey, ServiceKind};

use super::{
    Kind, Object, Write,
    slices::{
        data::{Draft, Port},
        reshaped,
    },
};
use crate::observed::Observed;

/// "addresses, at most 100 a slice": what Kubernetes' own controller has as its default, so that one changed pod costs
/// a hundred members some ten kilobytes each and not a hundred.
pub(super) const MOST_ENDPOINTS: usize = 100;

/// What makes the hub's slices of a service right.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Slices to make or change.
    pub(super) save: Vec<Write>,
    /// Slices to take away.
    pub(super) delete: Vec<Write>,
}

/// What is to be done so that the hub has the pods of `export` that importers need, and no others.
pub(super) fn writes(observed: &Observed, service: &ServiceKey, export: Option<&Export>) -> Writes {
    let mut writes = Writes::default();
    let mut kept: BTreeSet<ObjectKey> = BTreeSet::new();
    for wanted in export.map(|export| slices(observed, export)).unwrap_or_default() {
        let key = ObjectKey::of(&wanted.metadata);
        // Somebody has spoilt it: it is made anew, since what it was cannot be updated without being read.
        if observed.hub_slices.malformed().contains_key(&key) {
            writes.delete.push(delete(key.clone(), None));
            kept.insert(key);
            continue;
        }
        let current = observed.hub_slices.row(&key).filter(|row| row.kept.is_own);
        match current.map(|row| (row, row.kept.slice.whole())) {
            Some((_, current)) if current.address_type != wanted.address_type => {}
            Some((row, current)) => {
                kept.insert(key);
                let update = reshaped(current, &wanted, &row.version);
                let update = update.map(|slice| Write::Update(Object::HubSlice(Box::new(slice))));
                writes.save.extend(update);
            }
            None => {
                let create = Write::Create(Object::HubSlice(Box::new(wanted)));
                writes.save.push(create);
            }
        }
    }
    for (key, row) in observed.hub_slices(service) {
        if row.kept.is_own && !kept.contains(key) {
            writes.delete.push(delete(key.clone(), Some(row.uid.clone())));
        }
    }
    writes
}

fn delete(key: ObjectKey, uid: Option<String>) -> Write {
    Write::Delete { kind: Kind::HubSlice, key, uid }
}

/// Whether any other member has this cluster's network.
fn is_shared(observed: &Observed) -> bool {
    let members = observed.members.rows().map(|(_, row)| &row.kept);
    let mut others = members.filter(|member| member.peer.cluster != observed.config.cluster);
    others.any(|member| member.peer.network == observed.config.network)
}

fn slices(observed: &Observed, export: &Export) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    // Pods of what is guarded are called through gateways alone.
    let are_called = is_shared(observed) && !export.guarded;
    if export.kind != ServiceKind::Headless && !are_called {
        return slices;
    }
    let service = &export.service;
    let mut parts: BTreeMap<(IpFamily, Vec<Port>), BTreeMap<String, Endpoint>> = BTreeMap::new();
    for slice in observed.pod_slices(service) {
        let Ok(family) = slice.address_type.parse::<IpFamily>() else {
            continue;
        };
        let ports = ports(export, &slice);
        if ports.is_empty() && !export.ports.is_empty() {
            continue;
        }
        let part = parts.entry((family, ports)).or_default();
        for endpoint in slice.endpoints {
            if let Some(address) = endpoint.addresses.first() {
                part.insert(address.clone(), told(export.kind, address, &endpoint));
            }
        }
    }
    for family in [IpFamily::V4, IpFamily::V6] {
        let name = format!("{}-{}", cluster_export_name(service), family.suffix());
        let draft = Draft::new(service, family, name)
            .within(hub_namespace(&export.cluster))
            .label(CLUSTER, export.cluster.as_str())
            .annotation(EXPORT, &service.to_string());
        let parts = parts.iter().filter(|((of, _), _)| *of == family);
        let parts = parts.map(|((_, ports), endpoints)| (ports.clone(), endpoints.clone()));
        let current = observed.hub_slices(service);
        let current = current.filter(|(_, row)| row.kept.is_own);
        let current = current.map(|(key, row)| (key, &row.kept.slice));
        draft.pack(parts.collect(), MOST_ENDPOINTS, current, &mut slices);
    }
    slices
}

/// Where the pods of a slice listen for the ports of the export. Kubernetes names the ports of a slice as the
/// Service's.
fn ports(export: &Export, slice: &EndpointSlice) -> Vec<Port> {
    let exported = export.ports.iter().filter_map(|port| {
        let name = port.name.as_ref().map_or("", |name| name.as_str());
        let at = slice.ports.iter().flatten().find(|at| {
            let protocol = at.protocol.as_deref().unwrap_or(Protocol::Tcp.as_str());
            at.name.as_deref().unwrap_or_default() == name && protocol == port.key.protocol.as_str()
        })?;
        let number = u16::try_from(at.port?).ok()?;
        let app = port.app_protocol.as_ref().map(|app| app.as_str().to_owned());
        Some((name.to_owned(), port.key.protocol, number, app))
    });
    exported.collect()
}

/// A pod as the hub has it: nothing of its node, and of itself what pairs its addresses.
fn told(kind: ServiceKind, address: &str, endpoint: &Endpoint) -> Endpoint {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
    let made = || Some(Hostname::of_address(address.parse().ok()?).to_string());
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: endpoint.conditions.clone(),
        hostname: match kind {
            ServiceKind::ClusterSetIp => None,
            ServiceKind::Headless => hostname.or_else(made),
        },
        target_ref: uid.map(|uid| ObjectReference {
            kind: Some("Pod".to_owned()),
            uid: Some(uid),
            ..ObjectReference::default()
        }),
        zone: endpoint.zone.clone(),
        ..Endpoint::default()
    }
}
