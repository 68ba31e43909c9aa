//! Worked example B: "Headless StatefulSet across networks", line by line, and what a DNS server makes of it.
//!
//! "paris (network a) exports shop/db; berlin (c, dual-stack) imports." In berlin ten gateway ports are taken before, so
//! that the example's are 10010 and 10011. ClusterIPs are the API server's to choose; every other value is the example's.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::convert;
use landbridge_dns::{Config, DnsServer, Handle};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    case::Case,
    objects::{EXPORT, IMPORT, SERVICE, SLICE, conditions, namespace, pods, told as told_as},
    recording::Recording,
    stage::{Seat, Set},
};

pub(crate) const SEATS: [Seat; 3] = [
    Seat { name: "paris", network: "a", gateways: &["10.244.1.10"] },
    Seat { name: "tokyo", network: "b", gateways: &["10.244.1.20"] },
    Seat {
        name: "berlin",
        network: "c",
        gateways: &["10.244.3.10", "10.244.3.11", "fd00:10:244:3::10", "fd00:10:244:3::11"],
    },
];

const PG: [&str; 1] = ["pg 5432->6432"];
/// Of "shop/db/paris/db-0" and "shop/db/paris/db-1".
const DB_0: &str = "derived-endjhegtnc";
const DB_1: &str = "derived-iip7hlvkla";
/// Of "shop/db/tokyo/db-0" and "shop/db/paris/10-244-0-9".
const OF_TOKYO: &str = "derived-e1srscme46";
const OF_U9: &str = "derived-1mqoc0rdbs";

/// What was seen when paris had exported, when db-0 had restarted, when tokyo exported too, and when a Deployment had
/// taken the StatefulSet's place.
pub(crate) struct Told {
    first: Recording,
    restarted: Recording,
    both: Recording,
    deployment: Recording,
    /// The names that berlin's DNS server knew at first and at last.
    names: [Value; 2],
}

/// The StatefulSet's pods in both families, the first of them at the given last part of its addresses.
fn stateful(last: &str, uid: &str) -> [Value; 2] {
    let of = |prefix: &str| {
        let first = format!("{prefix}{last} as db-0 of {uid}");
        let second = format!("{prefix}8 not ready as db-1 of u1");
        pods("db", &PG, &[&first, &second])
    };
    ["10.244.0.", "fd00:10:244::"].map(of)
}

pub(crate) async fn tell(set: &Arc<Set>) -> Told {
    let case = &Case::within(set, "shop").await;
    let Case { paris, tokyo, berlin, .. } = case;
    for at in case.members() {
        at.ensure(namespace("shop")).await;
    }
    let filler: Vec<String> = (0..10).map(|at| format!("p{at} {}", 100 + at)).collect();
    let filler: Vec<&str> = filler.iter().map(String::as_str).collect();
    tokyo.serve("filler", &filler, json!({}), &["10.244.0.99"]).await;
    tokyo.export("filler").await;
    case.imported(berlin, "filler").await;

    let spec = json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack",
        "ipFamilies": ["IPv4", "IPv6"]});
    paris.create(super::objects::service("db", &PG, spec.clone())).await;
    for slice in stateful("7", "u0") {
        paris.create(slice).await;
    }
    paris.export("db").await;
    case.imported(berlin, "db").await;
    settled(case, &["db-0", "db-1"], &["db-0", "db-1"]).await;
    let dns = Dns::start(case).await;
    let before = dns.names(case, "db-0.paris.db.shop.svc.clusterset.local.").await;
    let first = Recording::take(case).await;

    for slice in stateful("31", "u31") {
        paris.replace_pods(slice).await;
    }
    hub_names(case, "fd00:10:244::31").await;
    hub_names(case, "10.244.0.31").await;
    case.passes("mark").await;
    let restarted = Recording::take(case).await;

    tokyo.create(super::objects::service("db", &PG, spec)).await;
    for slice in stateful("7", "t0") {
        tokyo.create(slice).await;
    }
    tokyo.export("db").await;
    case.becomes("berlin has tokyo's", async || berlin.find(SLICE, "db-tokyo-v4").await).await;
    case.export_says(tokyo, "db", "Conflict=False").await;
    settled(case, &["db-0", "db-1"], &["db-0", "db-1"]).await;
    let both = Recording::take(case).await;
    tokyo.delete(EXPORT, "db").await;
    case.goes(berlin, SLICE, "db-tokyo-v4").await;

    // "the same with a Deployment's pod u9 […]: no hostname, so home makes one per family"
    for address in ["10.244.0.9 of u9", "fd00:10:244::9 of u9"] {
        paris.replace_pods(pods("db", &PG, &[address])).await;
    }
    settled(case, &["10-244-0-9"], &["fd00-10-244--9"]).await;
    for gone in [DB_0, DB_1, OF_TOKYO] {
        case.goes(berlin, SERVICE, gone).await;
    }
    let after = dns.names(case, "fd00-10-244--9.paris.db.shop.svc.clusterset.local.").await;
    let deployment = Recording::take(case).await;
    dns.stop().await;
    Told { first, restarted, both, deployment, names: [before, after] }
}

/// Waits until berlin names paris's endpoints so, in each family, and until their Services have their owner.
async fn settled(case: &Case, v4: &[&str], v6: &[&str]) {
    let berlin = &case.berlin;
    for (slice, wanted) in [("db-paris-v4", v4), ("db-paris-v6", v6)] {
        case.becomes(&format!("berlin: {slice} names {wanted:?}"), async || {
            let slice = berlin.find(SLICE, slice).await?;
            (hostnames(&slice) == wanted).then_some(())
        })
        .await;
    }
    case.becomes("Services have their owner", async || {
        let made = berlin.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
        let mut made = made.iter();
        made.all(|service| service["metadata"].get("ownerReferences").is_some()).then_some(())
    })
    .await;
}

async fn hub_names(case: &Case, address: &str) {
    let family = if address.contains(':') { "v6" } else { "v4" };
    case.becomes(&format!("the hub names {address}"), async || {
        let slice = case.hub_of("paris").find(SLICE, &format!("shop.db-{family}")).await?;
        slice.to_string().contains(address).then_some(())
    })
    .await;
}

fn hostnames(slice: &Value) -> Vec<&str> {
    let endpoints = slice["endpoints"].as_array().unwrap().iter();
    let mut names: Vec<&str> =
        endpoints.map(|endpoint| endpoint["hostname"].as_str().unwrap_or_default()).collect();
    names.sort_unstable();
    names
}

/// A DNS server of berlin.
struct Dns {
    handle: Handle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Dns {
    async fn start(case: &Case) -> Self {
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let config = Config { listen, ..Config::default() };
        let mut registry = Registry::default();
        let server = DnsServer::bind(config, case.berlin.client(), &mut registry).await.unwrap();
        let (handle, stop) = (server.handle(), CancellationToken::new());
        let until = stop.clone();
        let task = tokio::spawn(async move { server.run(until).await.unwrap() });
        Self { handle, stop, task }
    }

    /// Every name with the records that are answered, once `name` is among them.
    async fn names(&self, case: &Case, name: &str) -> Value {
        case.becomes(&format!("DNS knows {name}"), async || {
            let names = self.handle.snapshot()["names"].clone();
            (self.handle.is_ready() && names.get(name).is_some()).then_some(names)
        })
        .await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// The records of a type that are answered; none where there is no such name.
fn records<'a>(names: &'a Value, name: &str, type_: &str) -> Option<Vec<&'a str>> {
    let node = names.get(format!("{name}.clusterset.local."))?;
    let records = node.get(type_).and_then(Value::as_array);
    Some(records.into_iter().flatten().map(|record| record.as_str().unwrap()).collect())
}

/// The ClusterIPs of a derived Service in berlin, v4 first.
fn ips<'a>(told: &'a Recording, service: &str) -> [&'a str; 2] {
    let ips = &told.get("berlin", SERVICE, service)["spec"]["clusterIPs"];
    [&ips[0], &ips[1]].map(|ip| ip.as_str().unwrap())
}

/// "hub, namespace cluster-paris, beside the ClusterExport: one slice per family, targetRef.uid kept".
pub(crate) fn the_hub_has_one_slice_per_family(told: &Told) {
    for (family, first, second) in
        [("v4", "10.244.0.7", "10.244.0.8"), ("v6", "fd00:10:244::7", "fd00:10:244::8")]
    {
        let name = format!("cluster-paris/shop.db-{family}");
        let wanted = format!("[pg -> 6432] [{first} ready as db-0, {second} not ready as db-1]");
        told.first.slice_is("hub", &name, &wanted);
        let slice = told.first.get("hub", SLICE, &name);
        let uids: Vec<&Value> = slice["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| &endpoint["targetRef"]["uid"])
            .collect();
        assert_eq!(uids, [&json!("u0"), &json!("u1")]);
    }
}

/// "ServiceImport shop/db: {spec: {type: Headless, ipFamilies: [IPv4, IPv6], ports: […]}}   # families yes, ips absent
/// (not [], not "None")".
pub(crate) fn the_import_has_families_and_no_address(told: &Told) {
    let import = told.first.get("berlin", IMPORT, "db");
    assert_eq!(import["spec"]["type"], "Headless");
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let ports = json!([{"name": "pg", "protocol": "TCP", "port": 5432}]);
    assert_eq!(import["spec"]["ports"], ports);
    assert_eq!(import["spec"].get("ips"), None);
    assert_eq!(conditions(import), ["Ready=True/Ready"]);
}

/// "Service shop/derived-endjhegtnc: hash of "shop/db/paris/db-0"", "ports: [tcp-6432 6432]   # the endpoint's port",
/// "shop/derived-iip7hlvkla: […] made while not ready, so that its address is stable".
pub(crate) fn each_endpoint_has_a_service_of_two_families(told: &Told) {
    for (name, endpoint) in [(DB_0, "paris/db-0"), (DB_1, "paris/db-1")] {
        let service = told.first.get("berlin", SERVICE, name);
        assert_eq!(service["metadata"]["annotations"]["landbridge.dev/endpoint"], endpoint);
        let port =
            json!([{"name": "tcp-6432", "port": 6432, "protocol": "TCP", "targetPort": 6432}]);
        assert_eq!(service["spec"]["ports"], port);
        let [v4, v6] = ips(&told.first, name);
        assert!(v4.starts_with("10.96.") && v6.starts_with("fd00:10:96:"), "{v4} {v6}");
    }
}

/// "derived-endjhegtnc-gw-v4: {ports: [tcp-6432 -> 10010], […]}    # and -v6: same number, gateways' v6",
/// "derived-iip7hlvkla-gw-v4: {ports: [tcp-6432 -> 10011], endpoints: […, both ready: false]}".
pub(crate) fn each_endpoint_has_a_gateway_port(told: &Told) {
    for (name, number, ready) in [(DB_0, 10_010, "ready"), (DB_1, 10_011, "not ready")] {
        for (family, [first, second]) in [
            ("v4", ["10.244.3.10", "10.244.3.11"]),
            ("v6", ["fd00:10:244:3::10", "fd00:10:244:3::11"]),
        ] {
            let wanted = format!("[tcp-6432 -> {number}] [{first} {ready}, {second} {ready}]");
            told.first.slice_is("berlin", &format!("{name}-gw-{family}"), &wanted);
        }
    }
}

/// "EndpointSlice db-paris-v4: MCS labels: db, paris. All of paris in one slice per family (O8); pg -> 6432: not 10010:
/// the address is a ClusterIP, the number is that Service's port", and "db-paris-v6".
pub(crate) fn mcs_slices_name_the_addresses_that_work_here(told: &Told) {
    let [first, second] = [DB_0, DB_1].map(|name| ips(&told.first, name));
    for (at, family) in ["v4", "v6"].into_iter().enumerate() {
        let wanted =
            format!("[pg -> 6432] [{} ready as db-0, {} not ready as db-1]", first[at], second[at]);
        let name = format!("db-paris-{family}");
        told.first.slice_is("berlin", &name, &wanted);
        let labels = &told.first.get("berlin", SLICE, &name)["metadata"]["labels"];
        assert_eq!(labels["multicluster.kubernetes.io/service-name"], "db");
        assert_eq!(labels["multicluster.kubernetes.io/source-cluster"], "paris");
        assert_eq!(labels.get("kubernetes.io/service-name"), None);
    }
}

/// "stream header for 10010: {service: shop/db, endpoint: db-0, port: 6432, protocol: TCP, source: …}".
pub(crate) fn what_gateways_read_in_the_allotment(told: &Told) {
    for (name, number, endpoint) in [(DB_0, 10_010, "db-0"), (DB_1, 10_011, "db-1")] {
        let slice = told.first.get("berlin", SLICE, &format!("{name}-gw-v4")).clone();
        let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
        let allotment = convert::allotment(&slice).unwrap().unwrap();
        let ((_, at), target) = allotment.targets.first_key_value().unwrap();
        assert_eq!(at.number(), number);
        let of = target.endpoint.as_ref().unwrap();
        assert_eq!((of.cluster.as_str(), of.hostname.as_str()), ("paris", endpoint));
        assert_eq!(target.service.to_string(), "shop/db");
        assert_eq!(target.port.number.get(), 6432);
    }
}

/// "in paris itself: MCS db-paris-v4/-v6 with the pods' own addresses and pg -> 6432; no derived Service for its own
/// endpoints".
pub(crate) fn at_home_endpoints_are_pods(told: &Told) {
    let v4 = "[pg -> 6432] [10.244.0.7 ready as db-0, 10.244.0.8 not ready as db-1]";
    told.first.slice_is("paris", "db-paris-v4", v4);
    let v6 = "[pg -> 6432] [fd00:10:244::7 ready as db-0, fd00:10:244::8 not ready as db-1]";
    told.first.slice_is("paris", "db-paris-v6", v6);
    assert_eq!(told.first.names("paris", SERVICE, "landbridge.dev/endpoint"), [""; 0]);
}

/// "tokyo exports db-0 too: in berlin "shop/db/tokyo/db-0" = derived-e1srscme46, slice db-tokyo-v4; no conflict, names
/// differ by cluster".
pub(crate) fn the_same_hostname_in_two_clusters_is_two_endpoints(told: &Told) {
    let service = told.both.get("berlin", SERVICE, OF_TOKYO);
    assert_eq!(service["metadata"]["annotations"]["landbridge.dev/endpoint"], "tokyo/db-0");
    let slice = told.both.get("berlin", SLICE, "db-tokyo-v4");
    assert!(hostnames(slice).contains(&"db-0"), "{}", told_as(slice));
    for at in ["paris", "tokyo"] {
        let told = conditions(told.both.get(at, EXPORT, "db"));
        assert!(told.contains(&"Conflict=False/NoConflicts".to_owned()), "{at}: {told:?}");
    }
}

/// "db.shop.svc A: 10.96.8.1           # AAAA fd00:10:96::801; ready ones only".
pub(crate) fn dns_answers_ready_endpoints_for_the_service(told: &Told) {
    let [v4, v6] = ips(&told.first, DB_0);
    let names = &told.names[0];
    assert_eq!(records(names, "db.shop.svc", "A"), Some(vec![v4]));
    assert_eq!(records(names, "db.shop.svc", "AAAA"), Some(vec![v6]));
}

/// "db-0.paris.db.shop.svc A: 10.96.8.1"; "db-1.paris.db.shop.svc: NXDOMAIN # not ready"; "paris.db.shop.svc: NXDOMAIN #
/// although it has children".
pub(crate) fn dns_answers_single_endpoints_that_are_ready(told: &Told) {
    let [v4, v6] = ips(&told.first, DB_0);
    let names = &told.names[0];
    assert_eq!(records(names, "db-0.paris.db.shop.svc", "A"), Some(vec![v4]));
    assert_eq!(records(names, "db-0.paris.db.shop.svc", "AAAA"), Some(vec![v6]));
    assert_eq!(records(names, "db-1.paris.db.shop.svc", "A"), None);
    assert_eq!(records(names, "paris.db.shop.svc", "A"), None);
}

/// "_pg._tcp.db.shop.svc SRV: 6432 db-0.paris.db.shop.svc   # once: v4 and v6 share the target", "db.shop.svc SRV: 6432
/// db-0.paris.db.shop.svc".
pub(crate) fn dns_answers_where_ports_are_served(told: &Told) {
    for name in ["_pg._tcp.db.shop.svc", "db.shop.svc"] {
        let srv = records(&told.names[0], name, "SRV").unwrap();
        let [one] = srv[..] else { panic!("{name}: {srv:?}") };
        assert!(one.ends_with(" 6432 db-0.paris.db.shop.svc.clusterset.local."), "{one}");
    }
}

/// "db-0 restarts as 10.244.0.31: same hostname, so same Service, ClusterIPs, 10010 and name; only the hub slice
/// changes".
pub(crate) fn a_pod_that_restarts_changes_the_hub_slice_alone(told: &Told) {
    let hub = told.restarted.get("hub", SLICE, "cluster-paris/shop.db-v4");
    let said = told_as(hub);
    assert!(said.contains("10.244.0.31 ready as db-0"), "{said}");
    let [before, after] = [&told.first, &told.restarted];
    for kind in [IMPORT, SERVICE, SLICE] {
        for name in before.names("berlin", kind, "landbridge.dev") {
            assert_eq!(after.get("berlin", kind, name), before.get("berlin", kind, name));
        }
    }
}

/// "hub v4 endpoint: {10.244.0.9, hostname: 10-244-0-9, uid: u9}", "hub v6 endpoint: […]"; "berlin: one Service, hash of
/// "shop/db/paris/10-244-0-9" (its first family) = derived-1mqoc0rdbs"; "MCS v4: […] · MCS v6: […]".
pub(crate) fn two_addresses_of_a_pod_without_a_hostname_are_one_endpoint(told: &Told) {
    let told = &told.deployment;
    let v4 = "[pg -> 6432] [10.244.0.9 ready as 10-244-0-9]";
    told.slice_is("hub", "cluster-paris/shop.db-v4", v4);
    let v6 = "[pg -> 6432] [fd00:10:244::9 ready as fd00-10-244--9]";
    told.slice_is("hub", "cluster-paris/shop.db-v6", v6);
    assert_eq!(told.names("berlin", SERVICE, "landbridge.dev/endpoint"), [OF_U9]);
    let [ip4, ip6] = ips(told, OF_U9);
    told.slice_is("berlin", "db-paris-v4", &format!("[pg -> 6432] [{ip4} ready as 10-244-0-9]"));
    told.slice_is(
        "berlin",
        "db-paris-v6",
        &format!("[pg -> 6432] [{ip6} ready as fd00-10-244--9]"),
    );
}

/// "dns: SRV lists both targets (O9 counts 4 for 2 dual-stack pods); 10-244-0-9.paris… has A and AAAA NODATA,
/// fd00-10-244--9.paris… the reverse".
pub(crate) fn dns_has_a_name_for_each_family_of_such_a_pod(told: &Told) {
    let names = &told.names[1];
    let [v4, v6] = ips(&told.deployment, OF_U9);
    let none = Some(Vec::new());
    assert_eq!(records(names, "10-244-0-9.paris.db.shop.svc", "A"), Some(vec![v4]));
    assert_eq!(records(names, "10-244-0-9.paris.db.shop.svc", "AAAA"), none);
    assert_eq!(records(names, "fd00-10-244--9.paris.db.shop.svc", "AAAA"), Some(vec![v6]));
    assert_eq!(records(names, "fd00-10-244--9.paris.db.shop.svc", "A"), none);
    let mut targets: Vec<&str> = records(names, "_pg._tcp.db.shop.svc", "SRV")
        .unwrap()
        .into_iter()
        .map(|srv| srv.split(' ').next_back().unwrap())
        .collect();
    targets.sort_unstable();
    let of = |name: &str| format!("{name}.paris.db.shop.svc.clusterset.local.");
    assert_eq!(targets, [of("10-244-0-9"), of("fd00-10-244--9")]);
}
