//! Pure: an EndpointSlice in the making.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::{
    watch::ObjectKey,
    wellknown::{LANDBRIDGE, MANAGED_BY},
};
use landbridge_model::{IpFamily, Protocol, ServiceKey};

use super::MOST_ENDPOINTS;

/// Name, protocol, number and application protocol of a port.
pub(in crate::plan) type Port = (String, Protocol, u16, Option<String>);
/// Ports, and the endpoints that serve all of them.
pub(in crate::plan) type Part = (Vec<Port>, Vec<Endpoint>);

/// What the slices of one purpose have in common. A slice names only ports that all its endpoints serve, and holds
/// so many endpoints: there may have to be several.
pub(in crate::plan) struct Draft {
    name: String,
    family: IpFamily,
    namespace: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Draft {
    pub(in crate::plan) fn new(service: &ServiceKey, family: IpFamily, name: String) -> Self {
        Self {
            name,
            family,
            namespace: service.namespace.to_string(),
            labels: BTreeMap::from([(MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())]),
            annotations: BTreeMap::new(),
        }
    }

    /// In another namespace than the service's.
    pub(in crate::plan) fn within(mut self, namespace: String) -> Self {
        self.namespace = namespace;
        self
    }

    pub(in crate::plan) fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(in crate::plan) fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The key of the first slice.
    pub(in crate::plan) fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Adds one slice for each part to `slices`, more where a part has more endpoints than a slice holds. The first
    /// has the name alone, the others a number after it.
    pub(in crate::plan) fn finish(&self, parts: Vec<Part>, slices: &mut Vec<EndpointSlice>) {
        let mut count = 0;
        for (ports, endpoints) in parts {
            if ports.is_empty() {
                continue;
            }
            let chunks = endpoints.chunks(MOST_ENDPOINTS);
            let chunks: Vec<&[Endpoint]> =
                if endpoints.is_empty() { vec![&[]] } else { chunks.collect() };
            for chunk in chunks {
                count += 1;
                slices.push(self.slice(count, &ports, chunk));
            }
        }
    }

    /// The family of its addresses.
    pub(super) fn family(&self) -> IpFamily {
        self.family
    }

    /// Which of the slices of this draft has this key.
    pub(super) fn number(&self, key: &ObjectKey) -> Option<usize> {
        if key.namespace != self.namespace {
            return None;
        }
        let rest = key.name.strip_prefix(&self.name)?;
        if rest.is_empty() {
            return Some(1);
        }
        let number = rest.strip_prefix('-')?.parse().ok()?;
        (number > 1 && rest == format!("-{number}")).then_some(number)
    }

    pub(super) fn slice(
        &self,
        count: usize,
        ports: &[Port],
        endpoints: &[Endpoint],
    ) -> EndpointSlice {
        let number = if count == 1 { String::new() } else { format!("-{count}") };
        EndpointSlice {
            address_type: self.family.as_str().to_owned(),
            endpoints: endpoints.to_vec(),
            metadata: ObjectMeta {
                annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
                labels: Some(self.labels.clone()),
                name: Some(format!("{}{number}", self.name)),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            ports: Some(endpoint_ports(ports)),
        }
    }
}

/// Ports as slices have them.
pub(super) fn endpoint_ports(ports: &[Port]) -> Vec<EndpointPort> {
    let port = |(name, protocol, number, app_protocol): &Port| EndpointPort {
        app_protocol: app_protocol.clone(),
        name: Some(name.clone()),
        port: Some(i32::from(*number)),
        protocol: Some(protocol.as_str().to_owned()),
    };
    ports.iter().map(port).collect()
}

/// Conditions that leave kube-proxy no choice: an endpoint that is not ready is not serving either, so that it is
/// not fallen back to.
pub(in crate::plan) fn conditions(ready: bool) -> EndpointConditions {
    EndpointConditions { ready: Some(ready), serving: Some(ready), terminating: Some(false) }
}
