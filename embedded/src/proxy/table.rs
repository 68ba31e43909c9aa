//! Pure: from Services and EndpointSlices to what the proxy listens on and where it sends, by
//! kube-proxy's rules: ports meet by name, a slice's port number is the target, readiness nil
//! means ready, and endpoints of several slices are one set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::object::{list, name, namespace, text};
use crate::{Event, EventKind};

/// The protocols that are carried. SCTP is not.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// One port of one ClusterIP.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Frontend {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
}

/// Where a port's traffic goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Backends {
    /// `namespace/name:port`, for people.
    pub(crate) service: String,
    /// Each address and port once, in order.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// How long a client stays with its endpoint, for `sessionAffinity: ClientIP`.
    pub(crate) affinity: Option<Duration>,
}

/// Services and slices as they are now, fed by watch events in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, Slice>,
}

type Key = (String, String);

/// What the proxy needs of a Service.
#[derive(Clone, Debug)]
struct Service {
    addresses: Vec<IpAddr>,
    affinity: Option<Duration>,
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug)]
struct ServicePort {
    name: String,
    number: u16,
    protocol: Protocol,
}

/// What the proxy needs of an EndpointSlice.
#[derive(Clone, Debug)]
struct Slice {
    service: Key,
    ports: Vec<ServicePort>,
    /// Addresses that are ready, and those that only serve on while they terminate.
    ready: Vec<IpAddr>,
    leaving: Vec<IpAddr>,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

impl Objects {
    /// Takes one event of a watch on Services.
    pub(crate) fn apply_service(&mut self, event: &Event) {
        let key = key(&event.object);
        match event.kind {
            EventKind::Deleted => self.services.remove(&key),
            _ => self.services.insert(key, Service::read(&event.object)),
        };
    }

    /// Takes one event of a watch on EndpointSlices.
    pub(crate) fn apply_slice(&mut self, event: &Event) {
        let key = key(&event.object);
        match event.kind {
            EventKind::Deleted => self.slices.remove(&key),
            _ => self.slices.insert(key, Slice::read(&event.object)),
        };
    }

    /// What to listen on now, and where to send.
    pub(crate) fn compile(&self) -> BTreeMap<Frontend, Backends> {
        let mut slices: BTreeMap<&Key, Vec<&Slice>> = BTreeMap::new();
        for slice in self.slices.values() {
            slices.entry(&slice.service).or_default().push(slice);
        }
        let mut table = BTreeMap::new();
        for (key, service) in &self.services {
            let slices = slices.get(key).map_or(&[][..], Vec::as_slice);
            for port in &service.ports {
                for address in &service.addresses {
                    let frontend = Frontend {
                        protocol: port.protocol,
                        address: SocketAddr::new(*address, port.number),
                    };
                    let backends = Backends {
                        service: format!("{}/{}:{}", key.0, key.1, port.number),
                        endpoints: endpoints(slices, port, *address),
                        affinity: service.affinity,
                    };
                    table.insert(frontend, backends);
                }
            }
        }
        table
    }
}

impl Service {
    fn read(service: &Value) -> Self {
        let addresses = match text(service, "/spec/type") {
            "ExternalName" => &[],
            _ => list(service, "/spec/clusterIPs"),
        };
        // Kubernetes's default is three hours; the API fills it in.
        let seconds = service.pointer("/spec/sessionAffinityConfig/clientIP/timeoutSeconds");
        let seconds = seconds.and_then(Value::as_u64).unwrap_or(10_800);
        let sticky = text(service, "/spec/sessionAffinity") == "ClientIP";
        Self {
            addresses: addresses
                .iter()
                .filter_map(|one| one.as_str()?.parse().ok())
                .collect(),
            affinity: sticky.then(|| Duration::from_secs(seconds)),
            ports: ports(list(service, "/spec/ports")),
        }
    }
}

impl Slice {
    fn read(slice: &Value) -> Self {
        let (mut ready, mut leaving) = (Vec::new(), Vec::new());
        for endpoint in list(slice, "/endpoints") {
            let condition = |name: &str| endpoint.pointer(&format!("/conditions/{name}"));
            let is = |name: &str, absent: bool| {
                condition(name).and_then(Value::as_bool).unwrap_or(absent)
            };
            // kube-proxy uses the first address only: all of an endpoint's mean the same pod.
            let first = list(endpoint, "/addresses").first();
            let Some(address) = first.and_then(|one| one.as_str()?.parse().ok()) else {
                continue;
            };
            let is_ready = is("ready", true);
            if is_ready {
                ready.push(address);
            } else if is("serving", is_ready) && is("terminating", false) {
                leaving.push(address);
            }
        }
        let service = text(slice, "/metadata/labels/kubernetes.io~1service-name").to_owned();
        Self {
            service: (namespace(slice).to_owned(), service),
            ports: ports(list(slice, "/ports")),
            ready,
            leaving,
        }
    }
}

/// The endpoints of one port in one family: the ready ones; when there are none, those that still
/// serve while they terminate (KEP-1669).
fn endpoints(slices: &[&Slice], port: &ServicePort, frontend: IpAddr) -> Vec<SocketAddr> {
    let of = |choose: fn(&Slice) -> &[IpAddr]| -> BTreeSet<SocketAddr> {
        let served = slices.iter().flat_map(|slice| {
            let same = |target: &&ServicePort| {
                target.name == port.name && target.protocol == port.protocol
            };
            slice
                .ports
                .iter()
                .filter(same)
                .map(move |target| (slice, target.number))
        });
        served
            .flat_map(|(slice, number)| {
                choose(slice)
                    .iter()
                    .map(move |ip| SocketAddr::new(*ip, number))
            })
            .filter(|endpoint| endpoint.is_ipv4() == frontend.is_ipv4())
            .collect()
    };
    let mut found = of(|slice| &slice.ready);
    if found.is_empty() {
        found = of(|slice| &slice.leaving);
    }
    found.into_iter().collect()
}

fn ports(ports: &[Value]) -> Vec<ServicePort> {
    let read = |port: &Value| {
        let number = port
            .get("port")?
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())?;
        let protocol = match text(port, "/protocol") {
            "" | "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => return None,
        };
        Some(ServicePort {
            name: text(port, "/name").to_owned(),
            number,
            protocol,
        })
    };
    ports
        .iter()
        .filter_map(read)
        .filter(|port| port.number != 0)
        .collect()
}

fn key(object: &Value) -> Key {
    (namespace(object).to_owned(), name(object).to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn added(object: Value) -> Event {
        Event {
            kind: EventKind::Added,
            object: Arc::new(object),
        }
    }

    fn service(spec: Value) -> Event {
        added(json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec}))
    }

    fn slice(name: &str, ports: Value, endpoints: Value) -> Event {
        added(json!({"metadata": {"namespace": "shop", "name": name,
            "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "ports": ports, "endpoints": endpoints}))
    }

    fn table(service: Event, slices: &[Event]) -> Vec<String> {
        let mut objects = Objects::default();
        for event in slices {
            objects.apply_slice(event);
        }
        objects.apply_service(&service);
        let rows = objects.compile().into_iter();
        rows.map(|(frontend, backends)| {
            format!(
                "{} {} -> {:?}",
                frontend.protocol, frontend.address, backends.endpoints
            )
        })
        .collect()
    }

    fn web() -> Event {
        service(json!({"clusterIPs": ["127.96.0.1"], "ports": [
            {"name": "http", "port": 80, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"}]}))
    }

    /// discovery/v1: "The name of this port. All ports in an EndpointSlice must have a unique
    /// name." The slice's number is the target, not the Service's targetPort.
    #[test]
    fn ports_meet_by_name() {
        let one = slice(
            "a",
            json!([{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"},
                {"name": "other", "port": 9}]),
            json!([{"addresses": ["127.1.0.1"]}]),
        );
        assert_eq!(
            table(web(), &[one]),
            [
                "TCP 127.96.0.1:80 -> [127.1.0.1:8080]",
                "UDP 127.96.0.1:53 -> [127.1.0.1:5353]"
            ]
        );
    }

    /// discovery/v1: "A nil value should be interpreted as "true"."
    #[test]
    fn readiness() {
        let http = json!([{"name": "http", "port": 8080}]);
        let check = |endpoints: Value, expected: &str| {
            let found = table(web(), &[slice("a", http.clone(), endpoints)]);
            assert_eq!(found[0], format!("TCP 127.96.0.1:80 -> {expected}"));
        };
        let condition = |ready: Value, serving: bool, terminating: bool| json!({"ready": ready, "serving": serving, "terminating": terminating});
        check(
            json!([{"addresses": ["127.1.0.1"], "conditions": {}}]),
            "[127.1.0.1:8080]",
        );
        check(
            json!([{"addresses": ["127.1.0.1"], "conditions": {"ready": null}}]),
            "[127.1.0.1:8080]",
        );
        check(
            json!([{"addresses": ["127.1.0.1"], "conditions": condition(json!(false), false, false)}]),
            "[]",
        );
        // KEP-1669: terminating endpoints that serve are used when there is no ready one.
        let leaving =
            json!({"addresses": ["127.1.0.1"], "conditions": condition(json!(false), true, true)});
        check(json!([leaving]), "[127.1.0.1:8080]");
        check(
            json!([leaving, {"addresses": ["127.1.0.2"]}]),
            "[127.1.0.2:8080]",
        );
    }

    #[test]
    fn slices_are_one_set_in_any_order() {
        let http = json!([{"name": "http", "port": 8080}]);
        let a = slice(
            "a",
            http.clone(),
            json!([{"addresses": ["127.1.0.2"]}, {"addresses": ["127.1.0.1"]}]),
        );
        let b = slice("b", http, json!([{"addresses": ["127.1.0.1"]}]));
        let other = slice(
            "c",
            json!([{"name": "http", "port": 9090}]),
            json!([{"addresses": ["127.1.0.1"]}]),
        );
        let expected = "TCP 127.96.0.1:80 -> [127.1.0.1:8080, 127.1.0.1:9090, 127.1.0.2:8080]";
        assert_eq!(
            table(web(), &[a.clone(), b.clone(), other.clone()])[0],
            expected
        );
        assert_eq!(table(web(), &[other, b, a])[0], expected);
    }

    #[test]
    fn what_has_no_address_is_not_listened_on() {
        let http = json!([{"port": 80}]);
        let headless = service(json!({"clusterIPs": ["None"], "ports": http}));
        assert!(table(headless, &[]).is_empty());
        let external = service(json!({"type": "ExternalName", "externalName": "x", "ports": http}));
        assert!(table(external, &[]).is_empty());
        let sctp = json!([{"port": 80, "protocol": "SCTP"}, {"port": 70_000}, {"port": "x"}]);
        assert!(
            table(
                service(json!({"clusterIPs": ["127.96.0.1"], "ports": sctp})),
                &[]
            )
            .is_empty()
        );
    }

    #[test]
    fn families_do_not_mix() {
        let both = service(json!({"clusterIPs": ["127.96.0.1", "::1"], "ports": [{"port": 80}]}));
        let v4 = slice(
            "a",
            json!([{"port": 1}]),
            json!([{"addresses": ["127.1.0.1"]}]),
        );
        let v6 = slice("b", json!([{"port": 2}]), json!([{"addresses": ["::1"]}]));
        assert_eq!(
            table(both, &[v4, v6]),
            [
                "TCP 127.96.0.1:80 -> [127.1.0.1:1]",
                "TCP [::1]:80 -> [[::1]:2]"
            ]
        );
    }
}
