//! Pure: from Services and EndpointSlices to what the proxy listens on and where it sends, by
//! kube-proxy's rules: ports meet by name, a slice's port number is the target, readiness nil
//! means ready, and endpoints of several slices are one set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::object::{list, name, namespace, strings, text};
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

/// Services or slices as they are now, by namespace and name, fed by watch events in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects(BTreeMap<(String, String), Arc<Value>>);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "TCP" } else { "UDP" })
    }
}

impl Objects {
    /// Takes one event of a watch.
    pub(crate) fn apply(&mut self, event: Event) {
        let object = event.object;
        let key = (namespace(&object).to_owned(), name(&object).to_owned());
        match event.kind {
            EventKind::Deleted => self.0.remove(&key),
            _ => self.0.insert(key, object),
        };
    }
}

/// What to listen on now, and where to send.
pub(crate) fn compile(services: &Objects, slices: &Objects) -> BTreeMap<Frontend, Backends> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for slice in slices.0.values() {
        let service = text(slice, "/metadata/labels/kubernetes.io~1service-name");
        by_service.entry((namespace(slice), service)).or_default().push(slice);
    }
    let mut table = BTreeMap::new();
    for service in services.0.values() {
        let (within, called) = (namespace(service), name(service));
        let slices = by_service.get(&(within, called)).map_or(&[][..], Vec::as_slice);
        let addresses = strings(service, "/spec/clusterIPs").filter_map(|one| one.parse().ok());
        for address in addresses.filter(|_| text(service, "/spec/type") != "ExternalName") {
            for (port, protocol, number) in ports(service, "/spec/ports") {
                let address = SocketAddr::new(address, number);
                let endpoints = endpoints(slices, (port, protocol), address.ip());
                let service_port = format!("{within}/{called}:{number}");
                let affinity = affinity(service);
                let backends = Backends { service: service_port, endpoints, affinity };
                table.insert(Frontend { protocol, address }, backends);
            }
        }
    }
    table
}

/// The endpoints of one port in one family: the ready ones; when there are none, those that still
/// serve while they terminate (KEP-1669).
fn endpoints(slices: &[&Value], port: (&str, Protocol), frontend: IpAddr) -> Vec<SocketAddr> {
    let (mut ready, mut leaving) = (BTreeSet::new(), BTreeSet::new());
    for slice in slices {
        let targets = ports(slice, "/ports");
        let targets = targets.filter(|target| (target.0, target.1) == port);
        for (_, _, number) in targets {
            for endpoint in list(slice, "/endpoints") {
                let is = |name: &str, absent| {
                    let condition = endpoint.pointer(&format!("/conditions/{name}"));
                    condition.and_then(Value::as_bool).unwrap_or(absent)
                };
                // Only the first address is used: all of an endpoint's mean the same pod.
                let first = strings(endpoint, "/addresses").next();
                let address: Option<IpAddr> = first.and_then(|first| first.parse().ok());
                let same_family = |ip: &IpAddr| ip.is_ipv4() == frontend.is_ipv4();
                let Some(address) = address.filter(same_family) else {
                    continue;
                };
                if is("ready", true) {
                    ready.insert(SocketAddr::new(address, number));
                } else if is("serving", false) && is("terminating", false) {
                    leaving.insert(SocketAddr::new(address, number));
                }
            }
        }
    }
    let used = if ready.is_empty() { leaving } else { ready };
    used.into_iter().collect()
}

fn affinity(service: &Value) -> Option<Duration> {
    let seconds = service.pointer("/spec/sessionAffinityConfig/clientIP/timeoutSeconds");
    // Kubernetes's default is three hours; the API fills it in.
    let seconds = seconds.and_then(Value::as_u64).unwrap_or(10_800);
    let sticky = text(service, "/spec/sessionAffinity") == "ClientIP";
    sticky.then(|| Duration::from_secs(seconds))
}

/// The ports of a Service or a slice: name, protocol and number.
fn ports<'a>(object: &'a Value, at: &str) -> impl Iterator<Item = (&'a str, Protocol, u16)> {
    list(object, at).iter().filter_map(|port| {
        let protocol = match text(port, "/protocol") {
            "" | "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => return None,
        };
        let number = port.get("port").and_then(Value::as_u64);
        let number = u16::try_from(number?).ok().filter(|number| *number != 0)?;
        Some((text(port, "/name"), protocol, number))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn added(object: Value) -> Event {
        Event { kind: EventKind::Added, object: Arc::new(object) }
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
        let (mut services, mut known) = (Objects::default(), Objects::default());
        for event in slices {
            known.apply(event.clone());
        }
        services.apply(service);
        let rows = compile(&services, &known).into_iter();
        rows.map(|(frontend, backends)| {
            format!("{} {} -> {:?}", frontend.protocol, frontend.address, backends.endpoints)
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
            ["TCP 127.96.0.1:80 -> [127.1.0.1:8080]", "UDP 127.96.0.1:53 -> [127.1.0.1:5353]"]
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
        check(json!([{"addresses": ["127.1.0.1"], "conditions": {}}]), "[127.1.0.1:8080]");
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
        check(json!([leaving, {"addresses": ["127.1.0.2"]}]), "[127.1.0.2:8080]");
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
        assert_eq!(table(web(), &[a.clone(), b.clone(), other.clone()])[0], expected);
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
            table(service(json!({"clusterIPs": ["127.96.0.1"], "ports": sctp})), &[]).is_empty()
        );
    }

    #[test]
    fn families_do_not_mix() {
        let both = service(json!({"clusterIPs": ["127.96.0.1", "::1"], "ports": [{"port": 80}]}));
        let v4 = slice("a", json!([{"port": 1}]), json!([{"addresses": ["127.1.0.1"]}]));
        let v6 = slice("b", json!([{"port": 2}]), json!([{"addresses": ["::1"]}]));
        assert_eq!(
            table(both, &[v4, v6]),
            ["TCP 127.96.0.1:80 -> [127.1.0.1:1]", "TCP [::1]:80 -> [[::1]:2]"]
        );
    }
}
