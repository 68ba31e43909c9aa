//! Pure: the two kinds of EndpointSlice in which Landbridge's parts meet.
//!
//! *MCS slices* tell which endpoints of a service come from which cluster, for anyone. *Derived slices* that name
//! gateways are the allotment: they tell kube-proxy where a derived Service leads, and gateways what to listen on.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::discovery::v1::{Endpoint as KubeEndpoint, EndpointPort, EndpointSlice};
use landbridge_model::{
    AllottedPort, ClusterId, DerivedName, Hostname, IpFamily, PortKey, PortName, Protocol,
    ServiceKey, Target, Timestamp,
    allotment::{EndpointRef, port_number},
    derived,
};

use super::{ConvertError, Reading, created};
use crate::wellknown::{
    ENDPOINT, GATEWAYS, IMPORT, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY, SERVICE_NAME,
    SOURCE_CLUSTER,
};

/// A port of an EndpointSlice.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SlicePort {
    /// Its name, by which it belongs to a port of the Service or import.
    pub name: Option<PortName>,
    /// Where the endpoints listen.
    pub key: PortKey,
}

/// An endpoint of an EndpointSlice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Its address. Kubernetes demands that all of an endpoint's addresses be the same endpoint: the first is used.
    pub address: IpAddr,
    /// Its hostname, where it has one.
    pub hostname: Option<Hostname>,
    /// Whether it takes new calls. Not saying is yes.
    pub ready: bool,
}

/// An MCS EndpointSlice, of ours or of any other implementation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct McsSlice {
    /// The name of the object.
    pub name: String,
    /// The import that it belongs to.
    pub service: ServiceKey,
    /// The cluster that its endpoints come from.
    pub cluster: ClusterId,
    /// The family of its addresses.
    pub family: IpFamily,
    /// Its ports, named as the import's.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A derived slice that names gateways.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Allotment {
    /// The name of the object.
    pub name: String,
    /// The derived Service that it belongs to.
    pub derived: DerivedName,
    /// When the slice was made.
    pub created: Timestamp,
    /// What each allotted port means.
    pub targets: BTreeMap<(Protocol, AllottedPort), Target>,
    /// The addresses of the gateways that it names, and whether kube-proxy should use them.
    pub gateways: Vec<(IpAddr, bool)>,
}

pub(super) fn label<'a>(slice: &'a EndpointSlice, name: &str) -> Option<&'a str> {
    slice.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn annotation<'a>(slice: &'a EndpointSlice, name: &str) -> Option<&'a str> {
    slice.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(super) fn family(
    reading: &Reading<'_>,
    slice: &EndpointSlice,
) -> Result<IpFamily, ConvertError> {
    let family = slice.address_type.as_str();
    family
        .parse()
        .map_err(|()| reading.error("addressType", format!("{family:?}: use IPv4 or IPv6")))
}

/// Reads an MCS EndpointSlice; none where the slice does not carry the labels of one.
///
/// # Errors
/// [`ConvertError`] names the field that is at fault.
pub fn mcs_slice(slice: &EndpointSlice) -> Result<Option<McsSlice>, ConvertError> {
    let (Some(service), Some(cluster)) = (label(slice, SERVICE_NAME), label(slice, SOURCE_CLUSTER))
    else {
        return Ok(None);
    };
    let reading = Reading { kind: "EndpointSlice", metadata: &slice.metadata };
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let ports = slice.ports.as_deref().unwrap_or_default();
    let endpoints = slice.endpoints.iter().map(|endpoint| read_endpoint(&reading, endpoint));
    Ok(Some(McsSlice {
        name: slice.metadata.name.clone().unwrap_or_default(),
        service: reading.name(SERVICE_NAME, ServiceKey::parse(namespace, service))?,
        cluster: reading.name(SOURCE_CLUSTER, ClusterId::parse(cluster))?,
        family: family(&reading, slice)?,
        // A port without a number means "all ports": nothing that a call could be sent to.
        ports: ports
            .iter()
            .filter(|port| port.port.is_some())
            .map(|port| read_port(&reading, port))
            .collect::<Result<_, _>>()?,
        endpoints: endpoints.collect::<Result<_, _>>()?,
    }))
}

pub(super) fn read_port(
    reading: &Reading<'_>,
    port: &EndpointPort,
) -> Result<SlicePort, ConvertError> {
    let name = port.name.as_deref().filter(|name| !name.is_empty());
    let number = port.port.and_then(port_number);
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    Ok(SlicePort {
        name: name.map(|name| reading.name("ports.name", PortName::parse(name))).transpose()?,
        key: PortKey {
            protocol: protocol
                .parse()
                .map_err(|problem| reading.error("ports.protocol", problem))?,
            number: number.ok_or_else(|| {
                reading.error("ports.port", "is not a port number: use 1 to 65535")
            })?,
        },
    })
}

fn read_endpoint(reading: &Reading<'_>, endpoint: &KubeEndpoint) -> Result<Endpoint, ConvertError> {
    let address = reading.required("endpoints.addresses", endpoint.addresses.first())?;
    let hostname = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty());
    Ok(Endpoint {
        address: address.parse().map_err(|_| {
            reading.error("endpoints.addresses", format!("{address:?} is not an IP address"))
        })?,
        hostname: hostname
            .map(|name| reading.name("endpoints.hostname", Hostname::parse(name)))
            .transpose()?,
        ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true),
    })
}

/// Reads a derived slice that names gateways; none where the slice is another one.
///
/// A slice is one of ours when it is managed by Landbridge and belongs to a Service whose name is the hash of the
/// import, and endpoint, that it says it was made for. Slices of derived Services that name pods carry no
/// [`AllottedPort`]s and mean nothing to a gateway.
///
/// # Errors
/// [`ConvertError`] where a slice says that it is of ours and does not agree with itself.
pub fn allotment(slice: &EndpointSlice) -> Result<Option<Allotment>, ConvertError> {
    let reading = Reading { kind: "EndpointSlice", metadata: &slice.metadata };
    let (Some(LANDBRIDGE), Some(derived), Some(import)) =
        (label(slice, MANAGED_BY), label(slice, KUBE_SERVICE_NAME), annotation(slice, IMPORT))
    else {
        return Ok(None);
    };
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let service = reading.name(IMPORT, ServiceKey::parse(namespace, import))?;
    let endpoint =
        annotation(slice, ENDPOINT).map(|text| endpoint_ref(&reading, text)).transpose()?;
    let expected = match &endpoint {
        Some(endpoint) => derived::endpoint(&service, &endpoint.cluster, &endpoint.hostname),
        None => derived::service(&service),
    };
    if derived != expected.as_str() {
        return Err(
            reading.error(KUBE_SERVICE_NAME, format!("is {derived}, but {service} has {expected}"))
        );
    }
    if annotation(slice, GATEWAYS).is_none_or(|value| value != "true") {
        return Ok(None);
    }
    let mut targets = BTreeMap::new();
    for port in slice.ports.as_deref().unwrap_or_default() {
        let (allotted, key) = allotted(&reading, port)?;
        let target = Target { service: service.clone(), port: key, endpoint: endpoint.clone() };
        targets.insert((key.protocol, allotted), target);
    }
    let gateways = slice.endpoints.iter().map(|endpoint| read_endpoint(&reading, endpoint));
    Ok(Some(Allotment {
        name: slice.metadata.name.clone().unwrap_or_default(),
        derived: expected,
        created: created(&slice.metadata),
        targets,
        gateways: gateways
            .map(|endpoint| endpoint.map(|endpoint| (endpoint.address, endpoint.ready)))
            .collect::<Result<_, _>>()?,
    }))
}

fn endpoint_ref(reading: &Reading<'_>, text: &str) -> Result<EndpointRef, ConvertError> {
    let (cluster, hostname) = text.split_once('/').unwrap_or((text, ""));
    Ok(EndpointRef {
        cluster: reading.name(ENDPOINT, ClusterId::parse(cluster))?,
        hostname: reading.name(ENDPOINT, Hostname::parse(hostname))?,
    })
}

/// A port of the allotment: its number says where gateways listen, its name which service port that means.
fn allotted(
    reading: &Reading<'_>,
    port: &EndpointPort,
) -> Result<(AllottedPort, PortKey), ConvertError> {
    let read = read_port(reading, port)?;
    let number = AllottedPort::new(read.key.number.get())
        .map_err(|problem| reading.error("ports.port", problem))?;
    let key = read.name.as_ref().and_then(PortKey::from_derived_port_name);
    match key {
        Some(key) if key.protocol == read.key.protocol => Ok((number, key)),
        _ => Err(reading.error(
            "ports.name",
            format!(
                "{:?} is not protocol and number of the service port, such as tcp-80",
                port.name
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(json: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json).unwrap()
    }

    /// Worked example A, in berlin: "10000 = (TCP, shop/web, 80) and so on".
    fn example(change: impl Fn(&mut serde_json::Value)) -> EndpointSlice {
        let mut object = json!({
            "metadata": {
                "name": "derived-isrlchlhrq-gw-v4", "namespace": "shop",
                "labels": {KUBE_SERVICE_NAME: "derived-isrlchlhrq", MANAGED_BY: LANDBRIDGE},
                "annotations": {IMPORT: "web", GATEWAYS: "true"},
            },
            "addressType": "IPv4",
            "ports": [
                {"name": "tcp-80", "protocol": "TCP", "port": 10000},
                {"name": "tcp-9090", "protocol": "TCP", "port": 10001},
            ],
            "endpoints": [
                {"addresses": ["10.244.3.10"], "conditions": {"ready": true}},
                {"addresses": ["10.244.3.11"], "conditions": {"ready": false}},
            ],
        });
        change(&mut object);
        slice(object)
    }

    #[test]
    fn a_slice_that_names_gateways_is_the_allotment() {
        let read = allotment(&example(|_| ())).unwrap().unwrap();
        let told: Vec<String> = read
            .targets
            .iter()
            .map(|((protocol, port), target)| {
                format!("{protocol} {port} = {} {}", target.service, target.port)
            })
            .collect();
        assert_eq!(told, ["TCP 10000 = shop/web 80/TCP", "TCP 10001 = shop/web 9090/TCP"]);
        assert_eq!(read.gateways[1], ("10.244.3.11".parse().unwrap(), false));
    }

    /// Design, "Import": "Only slices whose managed-by, derived name and import agree are believed".
    #[test]
    fn a_slice_that_does_not_agree_with_itself_is_not_believed() {
        let foreign = example(|o| o["metadata"]["labels"][MANAGED_BY] = json!("someone"));
        assert_eq!(allotment(&foreign), Ok(None));
        let other = example(|o| o["metadata"]["annotations"][IMPORT] = json!("db"));
        assert!(
            allotment(&other)
                .unwrap_err()
                .to_string()
                .contains("is derived-isrlchlhrq, but shop/db has")
        );
        let low = example(|o| o["ports"][0]["port"] = json!(443));
        assert!(
            allotment(&low)
                .unwrap_err()
                .to_string()
                .contains("port 443 is not one that gateways listen on")
        );
        let mixed = example(|o| o["ports"][0]["name"] = json!("udp-80"));
        assert!(allotment(&mixed).is_err());
        let bad = example(|o| o["endpoints"][0]["addresses"] = json!(["x"]));
        assert!(allotment(&bad).is_err());
    }

    /// KEP-1645, "Using EndpointSlice objects to track endpoints": a slice holds one source cluster's endpoints.
    #[test]
    fn an_mcs_slice_tells_whose_endpoints_it_holds() {
        let read = mcs_slice(&slice(json!({
            "metadata": {"name": "db-paris-v4", "namespace": "shop",
                "labels": {SERVICE_NAME: "db", SOURCE_CLUSTER: "paris"}},
            "addressType": "IPv4",
            "ports": [{"name": "pg", "port": 6432, "protocol": "TCP"}, {"name": "any"}],
            "endpoints": [{"addresses": ["10.96.8.1"], "hostname": "db-0"},
                {"addresses": ["10.96.8.2"], "hostname": "db-1", "conditions": {"ready": false}}],
        })))
        .unwrap()
        .unwrap();
        assert_eq!(
            (read.service.to_string().as_str(), read.cluster.as_str()),
            ("shop/db", "paris")
        );
        assert_eq!(read.ports.len(), 1);
        assert!(read.endpoints[0].ready, "a condition that is not told counts as ready");
        assert!(!read.endpoints[1].ready);
        assert_eq!(mcs_slice(&example(|_| ())), Ok(None), "derived slices carry no MCS labels");
    }
}
