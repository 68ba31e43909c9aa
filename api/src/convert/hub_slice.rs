//! Pure: the EndpointSlices that a member keeps on the hub beside a ClusterExport.
//!
//! They hold the pods of headless services, and of any service for members of the same network. Another member wrote
//! them, so nothing of them is believed unread: an address that is none of a pod is refused by itself, and the rest
//! of the slice stands.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use landbridge_model::{ClusterId, Hostname, IpFamily, ServiceKey};

use super::{
    ConvertError, Reading,
    slice::{SlicePort, annotation, family, label, read_port},
};
use crate::wellknown::{EXPORT, LANDBRIDGE, MANAGED_BY};

/// How many refused endpoints of a slice are named: enough to see a pattern, and no flood.
const MOST_NAMED: usize = 8;

/// One pod of another cluster, in one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HubEndpoint {
    /// Its address, in its own network.
    pub address: IpAddr,
    /// Its hostname: its own, or one made from its address at home. Always there for headless services.
    pub hostname: Option<Hostname>,
    /// Its pod's uid, which pairs the two addresses of a pod.
    pub uid: Option<String>,
    /// Whether it takes new calls. Not saying is yes.
    pub ready: bool,
    /// Whether it still answers, though it may be on its way out.
    pub serving: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Its failure zone.
    pub zone: Option<String>,
}

/// A slice on the hub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HubSlice {
    /// Whose pods they are: stands in the namespace, which the hub's RBAC guards.
    pub cluster: ClusterId,
    /// Which of its services.
    pub service: ServiceKey,
    /// The family of the addresses.
    pub family: IpFamily,
    /// Where the pods listen, named as the ports of the exported Service.
    pub ports: Vec<SlicePort>,
    /// The pods.
    pub endpoints: Vec<HubEndpoint>,
    /// What was refused, each as a sentence that names it; the first few of many.
    pub refused: Vec<String>,
}

/// Reads a slice of a member's namespace on the hub; none where it is another one.
///
/// # Errors
/// [`ConvertError`] names the field that is at fault, where the slice as a whole cannot be read.
pub fn hub_slice(slice: &EndpointSlice) -> Result<Option<HubSlice>, ConvertError> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    let (Some(LANDBRIDGE), Some(cluster)) =
        (label(slice, MANAGED_BY), namespace.strip_prefix("cluster-"))
    else {
        return Ok(None);
    };
    let Some(service) = annotation(slice, EXPORT) else {
        return Ok(None);
    };
    let reading = Reading { kind: "EndpointSlice", metadata: &slice.metadata };
    let family = family(&reading, slice)?;
    let ports = slice.ports.iter().flatten();
    let ports = ports.filter(|port| port.port.is_some());
    let mut read = HubSlice {
        cluster: reading.name("metadata.namespace", ClusterId::parse(cluster))?,
        service: reading.name(EXPORT, service.parse::<ServiceKey>())?,
        family,
        ports: ports.map(|port| read_port(&reading, port)).collect::<Result<_, _>>()?,
        endpoints: Vec::with_capacity(slice.endpoints.len()),
        refused: Vec::new(),
    };
    for endpoint in &slice.endpoints {
        match read_endpoint(endpoint, family) {
            Ok(endpoint) => read.endpoints.push(endpoint),
            Err(sentence) if read.refused.len() < MOST_NAMED => read.refused.push(sentence),
            Err(_) => {}
        }
    }
    Ok(Some(read))
}

fn read_endpoint(endpoint: &Endpoint, family: IpFamily) -> Result<HubEndpoint, String> {
    let text = endpoint.addresses.first().map_or("", String::as_str);
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
    let hostname = hostname.map(Hostname::parse).transpose();
    Ok(HubEndpoint {
        address: address(text, family)
            .map_err(|problem| format!("endpoint {:?} is refused: {problem}", short(text)))?,
        hostname: hostname
            .map_err(|problem| format!("endpoint {:?} is refused: {problem}", short(text)))?,
        uid: endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        zone: endpoint.zone.clone(),
    })
}

/// What no pod has as its address would lead calls to a node's own services, or be refused by the API server with all
/// the slice that it stands in.
fn address(text: &str, family: IpFamily) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.parse().map_err(|_| "it is not an IP address")?;
    let (own, link_local) = match address {
        IpAddr::V4(v4) => (IpFamily::V4, v4.is_link_local() || v4.is_broadcast()),
        IpAddr::V6(v6) => (IpFamily::V6, v6.is_unicast_link_local()),
    };
    if own != family {
        return Err("it is of the other family than its slice");
    }
    if address.is_unspecified() || address.is_multicast() || link_local {
        return Err("no pod has an unspecified, multicast or link-local address");
    }
    Ok(address)
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(change: impl Fn(&mut serde_json::Value)) -> Result<Option<HubSlice>, ConvertError> {
        let mut object = json!({
            "metadata": {
                "name": "shop.db-v4", "namespace": "cluster-paris",
                "labels": {MANAGED_BY: LANDBRIDGE}, "annotations": {EXPORT: "shop/db"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "pg", "protocol": "TCP", "port": 6432}],
            "endpoints": [
                {"addresses": ["10.244.0.7"], "hostname": "db-0", "targetRef": {"uid": "u0"}},
                {"addresses": ["10.244.0.8"], "hostname": "db-1", "conditions": {"ready": false}, "zone": "z1"},
            ],
        });
        change(&mut object);
        hub_slice(&serde_json::from_value(object).unwrap())
    }

    /// Worked example B: "one slice per family, targetRef.uid kept (it pairs v4 with v6)".
    #[test]
    fn a_slice_on_the_hub_reads() {
        let slice = read(|_| ()).unwrap().unwrap();
        assert_eq!(slice.cluster.as_str(), "paris");
        assert_eq!(slice.service.to_string(), "shop/db");
        assert_eq!(slice.ports[0].key.number.get(), 6432);
        let [first, second] = &slice.endpoints[..] else { panic!("{slice:?}") };
        assert_eq!(first.uid.as_deref(), Some("u0"));
        assert!(first.ready && first.serving, "not saying is yes");
        assert!(!second.ready && !second.serving);
        assert_eq!(second.hostname.as_ref().unwrap().as_str(), "db-1");
        assert_eq!(second.zone.as_deref(), Some("z1"));
    }

    #[test]
    fn a_bad_address_is_refused_by_itself_and_named() {
        for (address, says) in [
            ("10.244.0.300", "it is not an IP address"),
            ("fd00::7", "of the other family"),
            ("0.0.0.0", "no pod has"),
            ("169.254.169.254", "no pod has"),
            ("224.0.0.1", "no pod has"),
            ("255.255.255.255", "no pod has"),
        ] {
            let slice = read(|o| o["endpoints"][0]["addresses"] = json!([address]));
            let slice = slice.unwrap().unwrap();
            assert_eq!(slice.endpoints.len(), 1, "{address}");
            assert!(slice.refused[0].contains(address), "{:?}", slice.refused);
            assert!(slice.refused[0].contains(says), "{:?}", slice.refused);
        }
        let slice = read(|o| o["endpoints"][1]["hostname"] = json!("Db_1"));
        assert!(slice.unwrap().unwrap().refused[0].contains("10.244.0.8"));
        let many = read(|o| {
            let bad = json!({"addresses": ["x"]});
            o["endpoints"] = json!(vec![bad; 1_000]);
        });
        assert_eq!(many.unwrap().unwrap().refused.len(), MOST_NAMED);
    }

    #[test]
    fn what_is_not_ours_is_another_one() {
        assert_eq!(read(|o| o["metadata"]["namespace"] = json!("shop")), Ok(None));
        assert_eq!(read(|o| o["metadata"]["labels"][MANAGED_BY] = json!("x")), Ok(None));
        let error = read(|o| o["metadata"]["annotations"][EXPORT] = json!("db")).unwrap_err();
        assert!(error.to_string().contains("cluster-paris/shop.db-v4"));
        assert!(read(|o| o["addressType"] = json!("FQDN")).is_err());
    }
}
