//! Pure: which pods of this cluster serve which port of an import.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use landbridge_model::{IpFamily, Merged, PortKey, PortName, ServiceKind};

use crate::observed::{Form, Observed, ServiceView, object_key};

/// Pods of one family that serve the same ports of an import at the same numbers of their own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) family: IpFamily,
    /// Which number pods serve each port of the import at, in the order of the import.
    pub(super) ports: Vec<(PortKey, u16)>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// The pods of this cluster that serve an import.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Home(pub(super) Vec<Group>);

impl Home {
    /// Whether a pod takes calls to a port, at addresses of a family.
    pub(super) fn is_ready(&self, family: IpFamily, port: PortKey) -> bool {
        self.0.iter().any(|group| {
            group.family == family
                && group.ports.iter().any(|(key, _)| *key == port)
                && group.endpoints.iter().any(is_ready)
        })
    }
}

/// "nil should be interpreted as true" (EndpointConditions.ready).
pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// The pods of this cluster that serve `merged`: none where this cluster does not export it, or exports something
/// of another kind.
pub(super) fn home(observed: &Observed, merged: &Merged) -> Home {
    let key = object_key(&merged.service, merged.service.name.as_str());
    let own = &observed.config.cluster;
    let Some(service) = observed.services.find(&key) else {
        return Home::default();
    };
    let kind = match service.form {
        Form::ClusterIp => ServiceKind::ClusterSetIp,
        Form::ExternalName => return Home::default(),
        Form::Headless => ServiceKind::Headless,
    };
    if kind != merged.kind || !merged.clusters.contains(own) {
        return Home::default();
    }
    type Ports = Vec<(PortKey, u16)>;
    let mut groups: BTreeMap<(IpFamily, Ports), BTreeMap<String, Endpoint>> = BTreeMap::new();
    for slice in observed.pod_slices(&merged.service) {
        let Ok(family) = slice.address_type.parse() else {
            continue;
        };
        let ports: Ports = merged
            .ports_of(own)
            .filter_map(|port| Some((port.port.key, served_at(service, &slice, port.port.key)?)))
            .collect();
        if ports.is_empty() || slice.endpoints.is_empty() {
            continue;
        }
        let group = groups.entry((family, ports)).or_default();
        for pod in slice.endpoints {
            if let Some(address) = pod.addresses.first() {
                group.insert(address.clone(), pod);
            }
        }
    }
    let groups = groups.into_iter().map(|((family, ports), endpoints)| Group {
        family,
        ports,
        endpoints: endpoints.into_values().collect(),
    });
    Home(groups.collect())
}

/// The number at which the endpoints of `slice` serve a port: the Service's port of that protocol and number has a
/// name, and the slice has a port of that name.
fn served_at(service: &ServiceView, slice: &EndpointSlice, key: PortKey) -> Option<u16> {
    let own = service.ports.iter().find(|port| port.key == key)?;
    let name = own.name.as_ref().map_or("", PortName::as_str);
    let port = slice.ports.iter().flatten().find(|port| {
        port.name.as_deref().unwrap_or_default() == name
            && port.protocol.as_deref().unwrap_or("TCP") == key.protocol.as_str()
    })?;
    u16::try_from(port.port?).ok()
}
