//! The objects that cases write, in the notation of the worked examples: ports as `http 80->8080/UDP`, endpoints as
//! `198.51.100.5 not ready`.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A kind of object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kind {
    pub(crate) version: &'static str,
    pub(crate) name: &'static str,
}

const fn kind(version: &'static str, name: &'static str) -> Kind {
    Kind { version, name }
}

pub(crate) const CLUSTER_EXPORT: Kind = kind("landbridge.dev/v1alpha1", "ClusterExport");
pub(crate) const EVENT: Kind = kind("events.k8s.io/v1", "Event");
pub(crate) const EXPORT: Kind = kind("multicluster.x-k8s.io/v1beta1", "ServiceExport");
pub(crate) const IMPORT: Kind = kind("multicluster.x-k8s.io/v1beta1", "ServiceImport");
pub(crate) const LEASE: Kind = kind("coordination.k8s.io/v1", "Lease");
pub(crate) const MEMBER: Kind = kind("landbridge.dev/v1alpha1", "Member");
pub(crate) const NAMESPACE: Kind = kind("v1", "Namespace");
pub(crate) const POLICY: Kind = kind("landbridge.dev/v1alpha1", "AccessPolicy");
pub(crate) const PEER: Kind = kind("landbridge.dev/v1alpha1", "Peer");
pub(crate) const SERVICE: Kind = kind("v1", "Service");
pub(crate) const SLICE: Kind = kind("discovery.k8s.io/v1", "EndpointSlice");
pub(crate) const TRAFFIC: Kind = kind("landbridge.dev/v1alpha1", "TrafficPolicy");

impl Kind {
    /// Whether its objects are in no namespace.
    pub(crate) fn is_cluster_scoped(self) -> bool {
        [MEMBER, NAMESPACE, PEER].contains(&self)
    }
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// What users write to export a Service.
pub(crate) fn export(name: &str) -> Value {
    json!({"apiVersion": EXPORT.version, "kind": EXPORT.name, "metadata": {"name": name}})
}

/// A Service with ports such as `http 80->8080`; `spec` is added to it.
#[expect(clippy::needless_pass_by_value, reason = "callers write it on the spot")]
pub(crate) fn service(name: &str, ports: &[&str], spec: Value) -> Value {
    let ports = ports.iter().map(|text| {
        let port = Port::read(text);
        let mut object =
            json!({"port": port.number, "protocol": port.protocol, "targetPort": port.target});
        if !port.name.is_empty() {
            object["name"] = json!(port.name);
        }
        object
    });
    let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports.collect::<Vec<_>>()}});
    merge(&mut object["spec"], &spec);
    object
}

/// What Kubernetes' own controller makes of a Service and its pods, in the family of the first of them. An endpoint is
/// `<address> [not ready] [as <hostname>] [of <uid>]`.
pub(crate) fn pods(service: &str, ports: &[&str], endpoints: &[&str]) -> Value {
    let ports = ports.iter().map(|text| {
        let port = Port::read(text);
        json!({"name": port.name, "protocol": port.protocol, "port": port.target})
    });
    let family = family(endpoints.first().copied().unwrap_or("192.0.2.1"));
    let suffix = if family == "IPv4" { "x7k2p" } else { "x7k6p" };
    json!({
        "apiVersion": SLICE.version, "kind": SLICE.name, "addressType": family,
        "metadata": {"name": format!("{service}-{suffix}"), "labels": {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": endpoints.iter().map(|text| endpoint(text)).collect::<Vec<_>>(),
    })
}

fn endpoint(text: &str) -> Value {
    let word_after = |word: &str| {
        let mut words = text.split(' ').skip_while(|is| *is != word);
        words.nth(1)
    };
    let address = text.split(' ').next().unwrap();
    let ready = !text.contains("not ready");
    let uid = word_after("of").map_or_else(|| format!("uid-{address}"), str::to_owned);
    let mut endpoint = json!({
        "addresses": [address], "nodeName": "node-1", "zone": "z1",
        "conditions": {"ready": ready, "serving": ready, "terminating": false},
        "targetRef": {"kind": "Pod", "name": "pod", "uid": uid},
    });
    if let Some(hostname) = word_after("as") {
        endpoint["hostname"] = json!(hostname);
    }
    endpoint
}

/// A slice of the gateways' Service for each family.
///
/// It names no admin port, so gateways are not asked what they listen on: a real API server takes no loopback address
/// for an endpoint, and tests call nothing else. That imports wait for gateways is held where gateways can answer.
pub(crate) fn gateways(addresses: &[&str]) -> Vec<Value> {
    let families = ["IPv4", "IPv6"].into_iter();
    let slices = families.filter_map(|of| {
        let mut addresses = addresses.iter().filter(|address| family(address) == of).peekable();
        addresses.peek()?;
        let endpoints = addresses.map(|address| json!({"addresses": [address]}));
        Some(json!({
            "apiVersion": SLICE.version, "kind": SLICE.name, "addressType": of,
            "metadata": {"name": format!("gateways-{}", of.to_lowercase()),
                "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
            "ports": [{"name": "link", "protocol": "UDP", "port": 4433}],
            "endpoints": endpoints.collect::<Vec<_>>(),
        }))
    });
    slices.collect()
}

/// `IPv4` or `IPv6`, of an endpoint.
pub(crate) fn family(endpoint: &str) -> &'static str {
    let address: IpAddr = endpoint.split(' ').next().unwrap().parse().unwrap();
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// `name 80->8080[/UDP]`; `80->8080` has no name, and `name 80` leads to 80.
struct Port<'a> {
    name: &'a str,
    number: u16,
    target: u16,
    protocol: &'a str,
}

impl<'a> Port<'a> {
    fn read(text: &'a str) -> Self {
        let (text, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let (name, numbers) = text.split_once(' ').unwrap_or(("", text));
        let (number, target) = numbers.split_once("->").unwrap_or((numbers, numbers));
        Self { name, number: number.parse().unwrap(), target: target.parse().unwrap(), protocol }
    }
}

/// `[tcp-80 -> 10000] [10.244.3.10 ready]`, the notation of the worked examples; ports and endpoints in the order in
/// which the slice has them.
pub(crate) fn told(slice: &Value) -> String {
    let items = |name: &str| slice[name].as_array().cloned().unwrap_or_default().into_iter();
    let ports: Vec<String> = items("ports")
        .map(|port| format!("{} -> {}", port["name"].as_str().unwrap_or_default(), port["port"]))
        .collect();
    let endpoints: Vec<String> = items("endpoints")
        .map(|endpoint| {
            let address = endpoint["addresses"][0].as_str().unwrap();
            let hostname = endpoint["hostname"].as_str();
            let hostname = hostname.map(|name| format!(" as {name}")).unwrap_or_default();
            let ready =
                if endpoint["conditions"]["ready"] == json!(false) { "not ready" } else { "ready" };
            format!("{address} {ready}{hostname}")
        })
        .collect();
    format!("[{}] [{}]", ports.join(", "), endpoints.join(", "))
}

/// `Valid=True/Valid`, with the message where there is one.
pub(crate) fn conditions(object: &Value) -> Vec<String> {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text =
        |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<String> = conditions
        .iter()
        .map(|condition| {
            let message = text(condition, "message");
            let separator = if message.is_empty() { "" } else { ": " };
            let [type_, status, reason] =
                ["type", "status", "reason"].map(|name| text(condition, name));
            format!("{type_}={status}/{reason}{separator}{message}")
        })
        .collect();
    told.sort();
    told
}

/// One condition, as [`conditions`] has it; empty where there is none.
pub(crate) fn condition(object: &Value, type_: &str) -> String {
    let prefix = format!("{type_}=");
    let mut all = conditions(object).into_iter();
    all.find(|condition| condition.starts_with(&prefix)).unwrap_or_default()
}

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Holds that `object` has what `expected` has, whatever else it has.
#[track_caller]
pub(crate) fn has(object: &Value, expected: &Value) {
    let mut merged = object.clone();
    merge(&mut merged, expected);
    assert_eq!(&merged, object);
}

/// The ports of the Service that the conformance suite exports.
pub(crate) const HELLO: [&str; 2] = ["tcp 42", "udp 42/UDP"];
/// Its endpoints here: a pod of two families.
pub(crate) const HELLO_PODS: [&str; 2] = ["198.51.100.42 of u42", "2001:db8:1::42 of u42"];

/// The rest of the Service that the conformance suite exports.
pub(crate) fn hello() -> Value {
    json!({"ipFamilyPolicy": "PreferDualStack", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}})
}
