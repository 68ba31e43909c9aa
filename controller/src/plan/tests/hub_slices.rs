//! What the hub is told of pods: worked example B, and who else needs them.

use serde_json::{Value, json};

use super::world::World;

/// One pod: address, hostname or "", uid, whether it is ready.
pub(super) type Pod<'a> = (&'a str, &'a str, &'a str, bool);

/// What a cluster's own controllers make of the pods of a Service, in one family.
pub(super) fn pods(
    world: &mut World,
    cluster: &str,
    service: &str,
    ports: &Value,
    pods: &[Pod<'_>],
) {
    let v6 = pods.iter().any(|(ip, ..)| ip.contains(':'));
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|(ip, hostname, uid, ready)| {
            let mut endpoint = json!({
                "addresses": [ip], "nodeName": "node-1", "zone": "z1",
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "targetRef": {"kind": "Pod", "name": "pod", "namespace": "shop", "uid": uid},
            });
            if !hostname.is_empty() {
                endpoint["hostname"] = json!(hostname);
            }
            endpoint
        })
        .collect();
    let (suffix, family) = if v6 { ("6", "IPv6") } else { ("4", "IPv4") };
    world.put(cluster, json!({
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": format!("{service}-x7k2{suffix}"),
            "labels": {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "addressType": family, "ports": ports, "endpoints": endpoints,
    }));
}

/// Worked example B: "Service db: {clusterIP: None, ipFamilies: [IPv4, IPv6], ports: [pg 5432 -> targetPort 6432]}".
pub(super) fn headless(world: &mut World, cluster: &str) {
    world.service(
        cluster,
        "shop/db",
        &["pg 5432->6432"],
        json!({"spec": {"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"]}}),
    );
}

/// Worked example B: "ports: [pg -> 6432]".
pub(super) fn pg() -> Value {
    json!([{"name": "pg", "protocol": "TCP", "port": 6432}])
}

/// Worked example B: db-0 is ready, db-1 is not.
pub(super) fn stateful(world: &mut World, cluster: &str) {
    headless(world, cluster);
    pods(
        world,
        cluster,
        "db",
        &pg(),
        &[("10.244.0.7", "db-0", "u0", true), ("10.244.0.8", "db-1", "u1", false)],
    );
    pods(
        world,
        cluster,
        "db",
        &pg(),
        &[("fd00:10:244::7", "db-0", "u0", true), ("fd00:10:244::8", "db-1", "u1", false)],
    );
}

/// `[pg -> 6432] 10.244.0.7 db-0 ready u0, …`
pub(super) fn told(world: &mut World, at: &str, name: &str) -> String {
    let object = world.object(at, "EndpointSlice", name);
    let ports = object["ports"].as_array().unwrap().iter();
    let ports: Vec<String> = ports
        .map(|port| format!("{} -> {}", port["name"].as_str().unwrap(), port["port"]))
        .collect();
    let endpoints = object["endpoints"].as_array().unwrap().iter();
    let endpoints: Vec<String> = endpoints
        .map(|endpoint| {
            assert!(endpoint.get("nodeName").is_none(), "{endpoint}");
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let ready = if endpoint["conditions"]["ready"] == true { "ready" } else { "not" };
            [
                text(&endpoint["addresses"][0]),
                text(&endpoint["hostname"]),
                ready.to_owned(),
                text(&endpoint["targetRef"]["uid"]),
            ]
            .join(" ")
        })
        .collect();
    format!("[{}] {}", ports.join(", "), endpoints.join(", "))
}

pub(super) fn hub_names(world: &mut World) -> Vec<String> {
    let objects = world.api("hub").objects.keys();
    let slices = objects.filter(|(kind, _)| *kind == "HubSlice");
    slices.map(|(_, key)| key.to_string()).collect()
}

/// Worked example B: "hub, namespace cluster-paris, beside the ClusterExport: one slice per family, targetRef.uid kept
/// (it pairs v4 with v6)".
#[test]
fn a_headless_export_has_its_pods_on_the_hub() {
    let mut world = World::example();
    stateful(&mut world, "paris");
    world.export("paris", "shop/db", 0);
    let log = world.settle();
    assert_eq!(hub_names(&mut world), ["cluster-paris/shop.db-v4", "cluster-paris/shop.db-v6"]);
    assert_eq!(
        told(&mut world, "hub", "cluster-paris/shop.db-v4"),
        "[pg -> 6432] 10.244.0.7 db-0 ready u0, 10.244.0.8 db-1 not u1"
    );
    assert_eq!(
        told(&mut world, "hub", "cluster-paris/shop.db-v6"),
        "[pg -> 6432] fd00:10:244::7 db-0 ready u0, fd00:10:244::8 db-1 not u1"
    );
    let slice = world.object("hub", "EndpointSlice", "cluster-paris/shop.db-v4");
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"endpointslice.kubernetes.io/managed-by": "landbridge.dev", "landbridge.dev/cluster": "paris"})
    );
    assert_eq!(slice["endpoints"][0]["zone"], "z1");
    let at = |what: &str| log.iter().position(|line| line.contains(what)).unwrap();
    assert!(
        at("create EndpointSlice cluster-paris/shop.db-v4") < at("create ClusterExport"),
        "{log:#?}"
    );

    world.delete("paris", "ServiceExport", "shop/db");
    let log = world.settle();
    assert_eq!(hub_names(&mut world), [""; 0]);
    let at = |what: &str| log.iter().position(|line| line.contains(what)).unwrap();
    assert!(
        at("delete ClusterExport") < at("delete EndpointSlice cluster-paris/shop.db-v4"),
        "{log:#?}"
    );
}

/// Worked example B: "hub v4 endpoint: {10.244.0.9, hostname: 10-244-0-9, uid: u9}", "hub v6 endpoint:
/// {"fd00:10:244::9", hostname: fd00-10-244--9, uid: u9}".
#[test]
fn a_pod_without_a_hostname_gets_one_at_home() {
    let mut world = World::example();
    headless(&mut world, "paris");
    pods(&mut world, "paris", "db", &pg(), &[("10.244.0.9", "", "u9", true)]);
    pods(&mut world, "paris", "db", &pg(), &[("fd00:10:244::9", "", "u9", true)]);
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(
        told(&mut world, "hub", "cluster-paris/shop.db-v4"),
        "[pg -> 6432] 10.244.0.9 10-244-0-9 ready u9"
    );
    assert_eq!(
        told(&mut world, "hub", "cluster-paris/shop.db-v6"),
        "[pg -> 6432] fd00:10:244::9 fd00-10-244--9 ready u9"
    );
}

/// Design, "The picture": "only headless services and same-network members need addresses."
#[test]
fn other_pods_are_told_only_where_a_member_shares_the_network() {
    let mut world = World::example();
    world.service("paris", "shop/web", &["http 80->8080"], json!({}));
    world.pods("paris", "shop/web", &["http 80->8080"], &[("10.244.0.5", true)]);
    world.export("paris", "shop/web", 0);
    world.settle();
    assert_eq!(hub_names(&mut world), [""; 0]);
    world.join("lyon", "a", &["10.244.1.30"], [10, 96, 4, 4]);
    world.settle();
    assert_eq!(hub_names(&mut world), ["cluster-paris/shop.web-v4"]);
    assert_eq!(
        told(&mut world, "hub", "cluster-paris/shop.web-v4"),
        "[http -> 8080] 10.244.0.5 - ready -"
    );
    world.delete("hub", "Member", "lyon");
    world.clusters.remove("lyon");
    world.settle();
    assert_eq!(hub_names(&mut world), [""; 0]);
}

/// Design, "Objects": "EndpointSlice beside it … at most 100 a slice".
#[test]
fn many_pods_take_many_slices_and_one_change_one_write() {
    let mut world = World::example();
    headless(&mut world, "paris");
    let address = |n: usize| format!("10.244.{}.{}", n / 250, n % 250);
    let all: Vec<String> = (0..250).map(address).collect();
    let put = |world: &mut World, all: &[String]| {
        let all: Vec<Pod<'_>> = all.iter().map(|ip| (ip.as_str(), "", ip.as_str(), true)).collect();
        pods(world, "paris", "db", &pg(), &all);
    };
    put(&mut world, &all);
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(
        hub_names(&mut world),
        ["cluster-paris/shop.db-v4", "cluster-paris/shop.db-v4-2", "cluster-paris/shop.db-v4-3"]
    );
    put(&mut world, &all[1..]);
    let log = world.settle();
    let slices = log.iter().filter(|line| line.contains("EndpointSlice cluster-"));
    assert_eq!(slices.count(), 1, "{log:#?}");
}

/// The hub's RBAC lets nobody else write there, but hands slip.
#[test]
fn a_spoilt_slice_of_ours_is_made_anew() {
    let mut world = World::example();
    stateful(&mut world, "paris");
    world.export("paris", "shop/db", 0);
    world.settle();
    let mut slice = world.object("hub", "EndpointSlice", "cluster-paris/shop.db-v4");
    slice["endpoints"] = json!([]);
    world.put("hub", slice.clone());
    world.settle();
    assert!(told(&mut world, "hub", "cluster-paris/shop.db-v4").contains("db-0"));
    slice["metadata"]["annotations"] = json!({"landbridge.dev/export": "no key"});
    world.put("hub", slice);
    let work = crate::plan::Work::Publish(super::world::service("shop/db"));
    world.run("paris", &work);
    world.settle();
    assert!(told(&mut world, "hub", "cluster-paris/shop.db-v4").contains("db-0"));
}
