//! Clusters as facts, for tests: one that is bare, one where all is well, and their parts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use landbridge_api::{
    crds,
    landbridge::Peer,
    mcs::{ServiceExport, ServiceImport},
};
use landbridge_model::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Certificate, Component, Facts, Hub, Unread,
    checks::{Finding, Level},
};
use crate::corefile::{self, Stanza};

/// 2026-09-21T14:13:20Z.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const LONG_AGO: &str = "2026-09-19T14:13:20Z";
const COREFILE: &str = ".:53 {\n    reload\n}\n";

pub(crate) fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A cluster that nobody has made a member.
pub(crate) fn bare() -> Facts {
    let server = (1, 34, "v1.34.2".to_owned());
    Facts {
        properties: Ok([].into()),
        choice: Ok(None),
        definitions: Ok(Vec::new()),
        deployments: Ok(Vec::new()),
        pods: Ok(Vec::new()),
        profiles: Err(Unread::NoKind),
        peers: Err(Unread::NoKind),
        exports: Err(Unread::NoKind),
        imports: Err(Unread::NoKind),
        corefile: Ok(Some(COREFILE.into())),
        denied: Ok(Vec::new()),
        ..Facts::new(NOW, server)
    }
}

/// Types, statuses, reasons and messages.
pub(crate) fn conditions(all: &[(&str, &str, &str, &str)]) -> Vec<Condition> {
    let one = |(type_, status, reason, message): &(&str, &str, &str, &str)| {
        read(json!({"type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": LONG_AGO}))
    };
    all.iter().map(one).collect()
}

pub(crate) fn export(namespace: &str, name: &str, conditions: &[Condition]) -> ServiceExport {
    read(json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"namespace": namespace, "name": name, "creationTimestamp": LONG_AGO},
        "status": {"conditions": conditions}}))
}

pub(crate) fn import(
    namespace: &str,
    name: &str,
    ips: &[&str],
    clusters: &[&str],
    conditions: &[Condition],
) -> ServiceImport {
    let clusters: Vec<Value> = clusters.iter().map(|id| json!({"cluster": id})).collect();
    read(json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": {"namespace": namespace, "name": name, "creationTimestamp": LONG_AGO},
        "spec": {"type": "ClusterSetIP", "ips": ips, "ports": [{"port": 80, "protocol": "TCP"}]},
        "status": {"conditions": conditions, "clusters": clusters}}))
}

pub(crate) fn peer(name: &str, addresses: &[&str], status: &Value) -> Peer {
    let gateways: Vec<Value> = addresses.iter().map(|one| json!({"address": one})).collect();
    read(
        json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer", "metadata": {"name": name},
        "spec": {"generation": 1, "network": name, "gateways": gateways}, "status": status}),
    )
}

fn linked() -> Value {
    let link = |micros: u64| json!({"state": "Connected", "transport": "quic", "roundTripMicros": micros, "since": LONG_AGO});
    json!({"links": {"gateway-0": link(850), "gateway-1": link(12_400)},
        "conditions": conditions(&[("Connected", "True", "Connected", "gateway gateway-0 holds a link")])})
}

fn profile(name: &str) -> Value {
    let property = |name: &str, value: &str| json!({"name": name, "value": value});
    json!({"metadata": {"namespace": "landbridge-system", "name": name},
        "spec": {"clusterManager": {"name": "landbridge.dev"}},
        "status": {"version": {"kubernetes": "v1.34.2"},
            "conditions": conditions(&[("ControlPlaneHealthy", "True", "Alive", "")]),
            "properties": [property("network.landbridge.dev", name), property("version.landbridge.dev", "0.1.0")]}})
}

fn deployment(part: &str) -> Value {
    json!({"metadata": {"namespace": "landbridge-system", "name": format!("landbridge-{part}"), "generation": 1},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}})
}

fn component(part: &str, number: u32, metrics: &str, snapshot: Value) -> Component {
    let version = env!("CARGO_PKG_VERSION");
    Component {
        pod: format!("{part}-{number}"),
        part: part.to_owned(),
        ready: Some(Ok(())),
        metrics: Some(format!("landbridge_build_info{{version=\"{version}\"}} 1\n{metrics}")),
        snapshot: Some(snapshot),
        connections: (part == "gateway").then(|| json!({"connections": []})),
        trouble: None,
    }
}

fn components() -> Vec<Component> {
    let listening = || {
        let port = |number: u16| json!({"protocol": "TCP", "port": number});
        json!({"listening": [port(10_000), port(10_001)], "problems": []})
    };
    let leads = "landbridge_controller_leading 1\nlandbridge_controller_hub_reachable 1\n";
    vec![
        component("controller", 0, leads, json!({"malformed": {}, "hub": {"synced": true}})),
        component("dns", 0, "", json!({})),
        component("gateway", 0, "", listening()),
        component("gateway", 1, "", listening()),
    ]
}

fn member(name: &str) -> Value {
    json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Member", "metadata": {"name": name},
        "spec": {"generation": 1, "network": name},
        "status": {"version": "0.1.0", "kubernetesVersion": "v1.34.2", "heartbeat": "2026-09-21T14:13:17.000000Z",
            "gateways": [{"address": "192.0.2.11:4433"}]}})
}

/// paris, the hub, beside tokyo; it exports shop/web and imports two services.
pub(crate) fn healthy() -> Facts {
    let ready = conditions(&[("Valid", "True", "Valid", ""), ("Ready", "True", "Exported", "")]);
    let imported = conditions(&[("Ready", "True", "Ready", "")]);
    let service = |namespace: &str, name: &str, ip: &str, selector: Value| {
        read(json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": selector, "ports": [{"port": 80}]}}))
    };
    let servers = ["10.96.0.53:53".parse().unwrap()];
    let stanza = Stanza { zone: "clusterset.local", servers: &servers };
    let gateway = |name: &str, ip: &str| json!({"addresses": [ip], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": name}});
    let gateways = json!([gateway("gateway-0", "10.244.0.2"), gateway("gateway-1", "10.244.0.3")]);
    let pairs = |all: &[(&str, &str)]| {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let until = |days: i64| Ok(Timestamp::from_millis(NOW.as_millis() + days * 86_400_000));
    let certificate = |what: &str, days| Certificate { what: what.into(), until: until(days) };
    Facts {
        properties: Ok(pairs(&[
            ("cluster.clusterset.k8s.io", "paris"),
            ("clusterset.k8s.io", "prod"),
        ])),
        choice: Ok(Some(pairs(&[("cluster", "paris"), ("advertise", "192.0.2.11")]))),
        definitions: Ok(crds::all()),
        deployments: Ok(["controller", "dns", "gateway"].map(|part| read(deployment(part))).into()),
        pods: Ok(Vec::new()),
        components: components(),
        profiles: Ok(["paris", "tokyo"].map(|name| read(profile(name))).into()),
        peers: Ok(vec![peer("tokyo", &["198.51.100.7:4433"], &linked())]),
        exports: Ok(vec![export("shop", "web", &ready)]),
        imports: Ok(vec![
            import("shop", "db", &["10.96.12.8"], &["tokyo"], &imported),
            import("shop", "web", &["10.96.31.4"], &["paris", "tokyo"], &imported),
        ]),
        allotments: Ok(vec![read(json!({
            "metadata": {"namespace": "shop", "name": "derived-isrlchlhrq-gw", "annotations": {"landbridge.dev/import": "web"}},
            "addressType": "IPv4", "endpoints": gateways,
            "ports": [{"name": "tcp-80", "port": 10_000, "protocol": "TCP"}, {"name": "tcp-443", "port": 10_001, "protocol": "TCP"}]}))]),
        gateways: Ok(vec![read(
            json!({"metadata": {}, "addressType": "IPv4", "endpoints": gateways}),
        )]),
        services: Ok(vec![
            service("landbridge-system", "landbridge-dns", "10.96.0.53", json!({})),
            service("shop", "web", "10.96.7.7", json!({"app": "web"})),
        ]),
        namespaces: Ok(["landbridge-system", "shop"]
            .map(|name| read(json!({"metadata": {"name": name}})))
            .into()),
        policies: Ok(Vec::new()),
        nodes: Ok(vec![read(
            json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.11"}]}}),
        )]),
        corefile: Ok(Some(corefile::enabled(COREFILE, &stanza).unwrap())),
        certificates: vec![
            certificate("authority of the gateways", 71),
            certificate("root of the set", 3_640),
        ],
        hub: Hub {
            members: Ok(["paris", "tokyo"].map(|name| read(member(name))).into()),
            exports: Ok(Vec::new()),
        },
        access: Ok(Vec::new()),
        traffic: Ok(Vec::new()),
        ..bare()
    }
}

/// What a pod says of its state, in place of what it said.
pub(crate) fn pod_says(facts: &mut Facts, pod: &str, snapshot: Value) {
    let one = facts.components.iter_mut().find(|one| one.pod == pod).unwrap();
    one.snapshot = Some(snapshot);
}

/// A line each.
pub(crate) fn told(found: &[Finding]) -> Vec<String> {
    let line = |one: &Finding| {
        let level = match one.level {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Wrong => "WRONG",
        };
        let remedy =
            if one.remedy.is_empty() { String::new() } else { format!(" → {}", one.remedy) };
        format!("{level} {}{remedy}", one.says)
    };
    found.iter().map(line).collect()
}
