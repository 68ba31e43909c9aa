//! Pure: the three kinds of EndpointSlice that concern a gateway, each kept as slim as its use.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use landbridge_api::{
    convert::{self, ConvertError},
    watch::ObjectKey,
    wellknown::{ENDPOINTS, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY, SERVICE_NAME},
};
use landbridge_model::{
    AllottedPort, ClusterId, Hostname, PortKey, PortName, Protocol, ServiceKey, Target, Timestamp,
    ZoneName, allotment::port_number,
};

use super::{store::Read, traffic::capacity};
use crate::{
    route::rules::Capacity,
    snapshot::{ExportedPort, ReadyEndpoint},
};

/// A slice, as far as a gateway cares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum SliceView {
    /// What to listen on. That does not depend on its endpoints: that it is a derived slice of this cluster which names
    /// gateways already says that they are local ones, and a gateway that comes up in place of all those that went
    /// must listen before anyone names it. One that goes listens until nobody does.
    Allotment {
        /// Namespace and name of the object.
        name: String,
        /// When it was made.
        created: Timestamp,
        /// What each port means.
        targets: BTreeMap<(Protocol, AllottedPort), Target>,
        /// The gateways that clients are sent to.
        gateways: Vec<IpAddr>,
    },
    /// The endpoints of a Service of this cluster.
    Local {
        /// Which Service.
        service: ServiceKey,
        /// Those that are ready.
        endpoints: Vec<ReadyEndpoint>,
        /// How many there are, ready or not.
        total: usize,
    },
    /// What another cluster serves.
    Remote {
        /// Which service.
        service: ServiceKey,
        /// Which cluster.
        cluster: ClusterId,
        /// Its ports.
        ports: Vec<(Option<PortName>, PortKey)>,
        /// Whether any of its endpoints is ready.
        ready: bool,
        /// Its endpoints, where that is told.
        capacity: Option<Capacity>,
    },
}

pub(super) fn read(slice: &EndpointSlice) -> Read<SliceView> {
    match read_slice(slice) {
        Ok(view) => Read::from(view),
        Err(error) => Read::Unreadable(error),
    }
}

fn read_slice(slice: &EndpointSlice) -> Result<Option<SliceView>, ConvertError> {
    if let Some(allotment) = convert::allotment(slice)? {
        return Ok(Some(SliceView::Allotment {
            name: ObjectKey::of(&slice.metadata).to_string(),
            created: allotment.created,
            targets: allotment.targets,
            gateways: slice.endpoints.iter().filter_map(ready_address).collect(),
        }));
    }
    if label(slice, SERVICE_NAME).is_some() {
        let remote = convert::mcs_slice(slice)?;
        let told = slice.metadata.annotations.as_ref().and_then(|all| all.get(ENDPOINTS));
        return Ok(remote.map(|slice| SliceView::Remote {
            service: slice.service,
            cluster: slice.cluster,
            ports: slice.ports.into_iter().map(|port| (port.name, port.key)).collect(),
            ready: slice.endpoints.iter().any(|endpoint| endpoint.ready),
            capacity: told.and_then(|text| capacity(text)),
        }));
    }
    local(slice)
}

/// The address of an endpoint that is ready. One that cannot be read is nobody's.
fn ready_address(endpoint: &Endpoint) -> Option<IpAddr> {
    let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
    endpoint.addresses.first().filter(|_| ready.unwrap_or(true))?.parse().ok()
}

fn label<'a>(slice: &'a EndpointSlice, name: &str) -> Option<&'a str> {
    slice.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// The endpoints of a Service that somebody else than Landbridge keeps.
fn local(slice: &EndpointSlice) -> Result<Option<SliceView>, ConvertError> {
    let Some(service) = label(slice, KUBE_SERVICE_NAME) else {
        return Ok(None);
    };
    if label(slice, MANAGED_BY) == Some(LANDBRIDGE) || slice.address_type == "FQDN" {
        return Ok(None);
    }
    let error = |field: &str, problem: &dyn ToString| ConvertError {
        object: format!("EndpointSlice {}", ObjectKey::of(&slice.metadata)),
        field: field.to_owned(),
        problem: problem.to_string(),
    };
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let service = ServiceKey::parse(namespace, service)
        .map_err(|problem| error(KUBE_SERVICE_NAME, &problem))?;
    let ports = slice.ports.as_deref().unwrap_or_default();
    let ports: Result<Vec<ExportedPort>, ConvertError> = ports
        .iter()
        .filter(|port| port.port.is_some())
        .map(|port| read_port(port).map_err(|problem| error("ports", &problem)))
        .collect();
    let ports: Arc<[ExportedPort]> = ports?.into();
    let mut endpoints = Vec::new();
    for endpoint in &slice.endpoints {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let Some(address) = endpoint.addresses.first().filter(|_| ready) else {
            continue;
        };
        let ip: IpAddr = address
            .parse()
            .map_err(|_| error("endpoints", &format!("{address:?} is not an IP address")))?;
        let hostname = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty());
        endpoints.push(ReadyEndpoint {
            hostname: match hostname {
                Some(hostname) => Hostname::parse(hostname).ok(),
                None => Some(Hostname::of_address(ip)),
            },
            ip,
            zone: endpoint.zone.as_deref().and_then(|zone| ZoneName::parse(zone).ok()),
            ports: Arc::clone(&ports),
        });
    }
    let total = slice.endpoints.len();
    Ok(Some(SliceView::Local { service, endpoints, total }))
}

fn read_port(port: &EndpointPort) -> Result<ExportedPort, String> {
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let number = port.port.and_then(port_number).ok_or("use 1 to 65535")?;
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let protocol: Protocol = protocol
        .parse()
        .map_err(|problem: landbridge_model::port::UnknownProtocol| problem.to_string())?;
    let name = name.map(PortName::parse).transpose().map_err(|problem| problem.to_string())?;
    Ok(ExportedPort { name, key: PortKey { protocol, number } })
}
