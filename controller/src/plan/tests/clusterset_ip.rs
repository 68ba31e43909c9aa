//! Worked example A: a ClusterSetIP across networks with one port conflict, line by line.

use serde_json::{Value, json};

use super::world::{World, clock, merge};

const CONFLICT: &str = "Conflict=True/PortConflict: Conflicting ports. Using \"http 80/TCP\" from oldest service export in \"paris\", not \"http 81/TCP\" from \"tokyo\". 1/2 clusters disagree.";

const PARIS: [&str; 2] = ["http 80->8080", "grpc 9090->9090"];
const TOKYO: [&str; 3] = ["http 81->8080", "grpc 9090->9191", "admin 9000->9000"];

/// "in:" of the example.
fn example() -> World {
    let mut world = World::example();
    world.service("paris", "shop/web", &PARIS, json!({}));
    world.pods("paris", "shop/web", &PARIS, &[("10.244.0.5", true)]);
    world.export("paris", "shop/web", 0);
    world.settle();
    world.service("tokyo", "shop/web", &TOKYO, json!({}));
    world.pods("tokyo", "shop/web", &TOKYO, &[("10.244.0.5", true)]);
    world.export("tokyo", "shop/web", 5);
    world.settle();
    world
}

/// The fields that `expected` names, and no others.
fn has(object: &Value, expected: &Value) {
    let mut merged = object.clone();
    merge(&mut merged, expected);
    assert_eq!(merged, *object, "expected {expected:#}");
}

fn slices(world: &mut World, cluster: &str, expected: &[(&str, &str)]) {
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(world.names(cluster, "EndpointSlice"), names, "in {cluster}");
    for (name, expected) in expected {
        assert_eq!(world.slice(cluster, name), *expected, "{name} in {cluster}");
    }
}

#[test]
fn both_exporters_are_told_of_the_conflict() {
    let mut world = example();
    for cluster in ["paris", "tokyo"] {
        assert_eq!(
            world.conditions(cluster, "ServiceExport", "shop/web"),
            ["Valid=True/Valid", "Ready=True/Exported", CONFLICT]
        );
    }
}

#[test]
fn the_hub_holds_both_exports() {
    let mut world = example();
    let object = world.object("hub", "ClusterExport", "cluster-tokyo/shop.web");
    has(
        &object,
        &json!({"spec": {
            "service": {"namespace": "shop", "name": "web"},
            "type": "ClusterSetIP",
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 81},
                {"name": "grpc", "protocol": "TCP", "port": 9090},
                {"name": "admin", "protocol": "TCP", "port": 9000},
            ],
            "ipFamilies": ["IPv4"],
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "exportedAt": clock(5),
            "zones": [{"zone": "z1", "ready": 1, "total": 1}],
        }}),
    );
}

#[test]
fn berlin_imports_through_its_gateways() {
    let mut world = example();
    let import = world.object("berlin", "ServiceImport", "shop/web");
    has(
        &import,
        &json!({
            "metadata": {"annotations": {"multicluster.kubernetes.io/derived-service": "derived-isrlchlhrq"}},
            "spec": {
                "type": "ClusterSetIP",
                "ips": ["10.96.7.7"],
                "ipFamilies": ["IPv4"],
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
                "ports": [
                    {"name": "http", "protocol": "TCP", "port": 80},
                    {"name": "grpc", "protocol": "TCP", "port": 9090},
                    {"name": "admin", "protocol": "TCP", "port": 9000},
                ],
            },
            "status": {"clusters": [{"cluster": "paris"}, {"cluster": "tokyo"}], "endpointSliceObjects": "Present"},
        }),
    );
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/web"), ["Ready=True/Ready"]);

    let service = world.object("berlin", "Service", "shop/derived-isrlchlhrq");
    has(
        &service,
        &json!({
            "metadata": {
                "labels": {"app.kubernetes.io/managed-by": "landbridge.dev"},
                "annotations": {"landbridge.dev/import": "web"},
                "ownerReferences": [{
                    "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
                    "name": "web", "uid": import["metadata"]["uid"],
                }],
            },
            "spec": {
                "clusterIPs": ["10.96.7.7"],
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [
                    {"name": "tcp-80", "protocol": "TCP", "port": 80, "targetPort": 80},
                    {"name": "tcp-9090", "protocol": "TCP", "port": 9090, "targetPort": 9090},
                    {"name": "tcp-9000", "protocol": "TCP", "port": 9000, "targetPort": 9000},
                ],
            },
        }),
    );
    assert!(service["spec"].get("selector").is_none());

    let gateways = "[10.244.3.10 ready, 10.244.3.11 ready]";
    slices(
        &mut world,
        "berlin",
        &[
            (
                "derived-isrlchlhrq-gw-v4",
                &format!("[tcp-80 -> 10000, tcp-9090 -> 10001, tcp-9000 -> 10002] {gateways}"),
            ),
            ("web-paris-v4", &format!("[http -> 10000, grpc -> 10001] {gateways}")),
            ("web-tokyo-v4", &format!("[grpc -> 10001, admin -> 10002] {gateways}")),
        ],
    );
}

#[test]
fn slices_carry_the_labels_that_their_readers_select_by() {
    let mut world = example();
    let derived = world.object("berlin", "EndpointSlice", "shop/derived-isrlchlhrq-gw-v4");
    assert_eq!(
        derived["metadata"]["labels"],
        json!({
            "kubernetes.io/service-name": "derived-isrlchlhrq",
            "endpointslice.kubernetes.io/managed-by": "landbridge.dev",
        })
    );
    assert_eq!(
        derived["metadata"]["annotations"],
        json!({
            "landbridge.dev/import": "web",
            "landbridge.dev/gateways": "true",
        })
    );
    let mcs = world.object("berlin", "EndpointSlice", "shop/web-tokyo-v4");
    assert_eq!(
        mcs["metadata"]["labels"],
        json!({
            "multicluster.kubernetes.io/service-name": "web",
            "multicluster.kubernetes.io/source-cluster": "tokyo",
            "endpointslice.kubernetes.io/managed-by": "landbridge.dev",
        })
    );
}

#[test]
fn an_exporter_prefers_its_own_pods() {
    let mut world = example();
    let import = world.object("paris", "ServiceImport", "shop/web");
    assert_eq!(import["spec"]["ips"], json!(["10.96.3.3"]));
    slices(
        &mut world,
        "paris",
        &[
            ("derived-isrlchlhrq-gw-v4", "[tcp-9000 -> 10001] [10.244.1.10 ready]"),
            ("derived-isrlchlhrq-pods-v4", "[tcp-80 -> 8080, tcp-9090 -> 9090] [10.244.0.5 ready]"),
            ("derived-isrlchlhrq-standby-v4", "[tcp-9090 -> 10000] [10.244.1.10 not ready]"),
            ("web-paris-v4", "[http -> 8080, grpc -> 9090] [10.244.0.5 ready]"),
            ("web-tokyo-v4", "[grpc -> 10000, admin -> 10001] [10.244.1.10 ready]"),
        ],
    );
    let standby = world.object("paris", "EndpointSlice", "shop/derived-isrlchlhrq-standby-v4");
    assert_eq!(
        standby["endpoints"][0]["conditions"],
        json!({"ready": false, "serving": false, "terminating": false})
    );
    let pods = world.object("paris", "EndpointSlice", "shop/derived-isrlchlhrq-pods-v4");
    has(
        &pods["endpoints"][0],
        &json!({
            "nodeName": "node-1", "zone": "z1", "targetRef": {"kind": "Pod", "name": "pod-10-244-0-5"},
        }),
    );
}

/// "its http 81 is nowhere"
#[test]
fn a_port_that_lost_leads_nowhere() {
    let mut world = example();
    slices(
        &mut world,
        "tokyo",
        &[
            ("derived-isrlchlhrq-gw-v4", "[tcp-80 -> 10000] [10.244.1.20 ready]"),
            (
                "derived-isrlchlhrq-pods-v4",
                "[tcp-9090 -> 9191, tcp-9000 -> 9000] [10.244.0.5 ready]",
            ),
            ("derived-isrlchlhrq-standby-v4", "[tcp-9090 -> 10001] [10.244.1.20 not ready]"),
            ("web-paris-v4", "[http -> 10000, grpc -> 10001] [10.244.1.20 ready]"),
            ("web-tokyo-v4", "[grpc -> 9191, admin -> 9000] [10.244.0.5 ready]"),
        ],
    );
}

/// "then paris un-exports"
#[test]
fn losing_the_oldest_export_updates_the_import_in_place() {
    let mut world = example();
    let before = world.object("berlin", "ServiceImport", "shop/web");
    world.delete("paris", "ServiceExport", "shop/web");
    let writes = world.settle();
    let import = world.object("berlin", "ServiceImport", "shop/web");
    assert_eq!(import["metadata"]["uid"], before["metadata"]["uid"]);
    has(
        &import,
        &json!({
            "spec": {"ips": ["10.96.7.7"], "ports": [
                {"name": "http", "protocol": "TCP", "port": 81},
                {"name": "grpc", "protocol": "TCP", "port": 9090},
                {"name": "admin", "protocol": "TCP", "port": 9000},
            ]},
            "status": {"clusters": [{"cluster": "tokyo"}]},
        }),
    );
    let gateways = "[10.244.3.10 ready, 10.244.3.11 ready]";
    slices(
        &mut world,
        "berlin",
        &[
            (
                "derived-isrlchlhrq-gw-v4",
                &format!("[tcp-81 -> 10003, tcp-9090 -> 10001, tcp-9000 -> 10002] {gateways}"),
            ),
            ("web-tokyo-v4", &format!("[http -> 10003, grpc -> 10001, admin -> 10002] {gateways}")),
        ],
    );
    assert_eq!(
        world.conditions("tokyo", "ServiceExport", "shop/web"),
        ["Valid=True/Valid", "Ready=True/Exported", "Conflict=False/NoConflicts"]
    );
    let gone: Vec<&String> =
        writes.iter().filter(|write| write.starts_with("berlin: delete")).collect();
    assert_eq!(gone, ["berlin: delete EndpointSlice shop/web-paris-v4"]);
    // Paris imports on, through its gateways alone.
    slices(
        &mut world,
        "paris",
        &[
            (
                "derived-isrlchlhrq-gw-v4",
                "[tcp-81 -> 10002, tcp-9090 -> 10000, tcp-9000 -> 10001] [10.244.1.10 ready]",
            ),
            ("web-tokyo-v4", "[http -> 10002, grpc -> 10000, admin -> 10001] [10.244.1.10 ready]"),
        ],
    );
}

/// "paris's pod turns unready: pods-v4 endpoint ready: false, standby-v4 endpoint ready: true (10000 stays)"
#[test]
fn when_own_pods_are_unready_the_standby_serves() {
    let mut world = example();
    world.pods("paris", "shop/web", &PARIS, &[("10.244.0.5", false)]);
    world.settle();
    slices(
        &mut world,
        "paris",
        &[
            ("derived-isrlchlhrq-gw-v4", "[tcp-9000 -> 10001] [10.244.1.10 ready]"),
            (
                "derived-isrlchlhrq-pods-v4",
                "[tcp-80 -> 8080, tcp-9090 -> 9090] [10.244.0.5 not ready]",
            ),
            ("derived-isrlchlhrq-standby-v4", "[tcp-9090 -> 10000] [10.244.1.10 ready]"),
            ("web-paris-v4", "[http -> 8080, grpc -> 9090] [10.244.0.5 not ready]"),
            ("web-tokyo-v4", "[grpc -> 10000, admin -> 10001] [10.244.1.10 ready]"),
        ],
    );
    let not_ready = "[10.244.3.10 not ready, 10.244.3.11 not ready]";
    assert_eq!(
        world.slice("berlin", "web-paris-v4"),
        format!("[http -> 10000, grpc -> 10001] {not_ready}")
    );
    world.pods("tokyo", "shop/web", &TOKYO, &[]);
    world.settle();
    assert_eq!(
        world.slice("berlin", "derived-isrlchlhrq-gw-v4"),
        format!("[tcp-80 -> 10000, tcp-9090 -> 10001, tcp-9000 -> 10002] {not_ready}"),
        "nobody is ready anywhere"
    );
}

/// Design, "Import": "It is written last: derived Service, then slices, then a probe that finds the allotted ports
/// listening (at most 1 s), then the import and with it the name".
#[test]
fn the_name_comes_last_and_goes_first() {
    let mut world = World::example();
    world.service("paris", "shop/web", &PARIS, json!({}));
    world.pods("paris", "shop/web", &PARIS, &[("10.244.0.5", true)]);
    world.export("paris", "shop/web", 0);
    let in_berlin = |writes: Vec<String>| -> Vec<String> {
        let writes = writes.into_iter();
        writes.filter_map(|write| write.strip_prefix("berlin: ").map(str::to_owned)).collect()
    };
    assert_eq!(
        in_berlin(world.settle()),
        [
            "create Service shop/derived-isrlchlhrq",
            "create EndpointSlice shop/derived-isrlchlhrq-gw-v4",
            "create EndpointSlice shop/web-paris-v4",
            "probe 10000,10001",
            "create ServiceImport shop/web",
            "status ServiceImport shop/web",
            "update Service shop/derived-isrlchlhrq",
        ]
    );
    world.delete("paris", "ServiceExport", "shop/web");
    assert_eq!(
        in_berlin(world.settle()),
        [
            "delete ServiceImport shop/web",
            "delete EndpointSlice shop/derived-isrlchlhrq-gw-v4",
            "delete EndpointSlice shop/web-paris-v4",
            "delete Service shop/derived-isrlchlhrq",
        ]
    );
    for cluster in ["berlin", "paris", "tokyo"] {
        for kind in ["EndpointSlice", "Service", "ServiceImport"] {
            assert_eq!(world.names(cluster, kind), [""; 0], "{kind} in {cluster}");
        }
    }
    assert_eq!(world.names("hub", "ClusterExport"), [""; 0]);
}

/// Design, "Import": "likewise for a port that is added".
#[test]
fn an_added_port_is_probed_before_it_is_named() {
    let mut world = example();
    let ports = ["http 80->8080", "grpc 9090->9090", "new 7000->7000"];
    world.service("paris", "shop/web", &ports, json!({}));
    world.pods("paris", "shop/web", &ports, &[("10.244.0.5", true)]);
    let writes = world.settle();
    let at = |text: &str| writes.iter().position(|write| write == text).unwrap();
    assert!(
        at("berlin: update EndpointSlice shop/derived-isrlchlhrq-gw-v4")
            < at("berlin: probe 10003")
    );
    assert!(at("berlin: probe 10003") < at("berlin: update ServiceImport shop/web"));
}

/// KEP-1645: "in every cluster where the namespace exists, the exporters included".
#[test]
fn only_clusters_with_the_namespace_import() {
    let mut world = example();
    world.delete("berlin", "Namespace", "shop");
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), [""; 0]);
    world.put("berlin", json!({"kind": "Namespace", "metadata": {"name": "shop"}}));
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), ["web"]);
}

/// KEP-1645, "Service Types": NodePort and LoadBalancer Services become ClusterSetIP imports.
#[test]
fn node_ports_and_load_balancers_are_clusterset_ips() {
    for kind in ["NodePort", "LoadBalancer"] {
        let mut world = World::example();
        let ports = ["http 80->8080"];
        world.service("paris", "shop/web", &ports, json!({"spec": {"type": kind}}));
        world.pods("paris", "shop/web", &ports, &[("10.244.0.5", true)]);
        world.export("paris", "shop/web", 0);
        world.settle();
        let import = world.object("berlin", "ServiceImport", "shop/web");
        assert_eq!(import["spec"]["type"], "ClusterSetIP", "{kind}");
        assert_eq!(import["spec"]["ips"], json!(["10.96.7.7"]), "{kind}");
        let port = &import["spec"]["ports"][0];
        assert!(port.get("nodePort").is_none(), "{port}");
    }
}

/// Design, "Import": "Its port names are ours (`tcp-80`), since a legal union may hold an unnamed port."
#[test]
fn ports_without_names_of_one_number_and_on_one_target() {
    for (ports, pods, gw, mcs) in [
        (&["80->8080"][..], "[tcp-80 -> 8080]", "[tcp-80 -> 10000]", "[ -> 10000]"),
        (
            &["dns 53->5353/UDP", "dns-tcp 53->5353"],
            "[udp-53 -> 5353, tcp-53 -> 5353]",
            "[udp-53 -> 10000, tcp-53 -> 10000]",
            "[dns -> 10000, dns-tcp -> 10000]",
        ),
        (
            &["http 80->8080", "alt 81->8080"],
            "[tcp-80 -> 8080, tcp-81 -> 8080]",
            "[tcp-80 -> 10000, tcp-81 -> 10001]",
            "[http -> 10000, alt -> 10001]",
        ),
    ] {
        let mut world = World::example();
        world.service("paris", "shop/web", ports, json!({}));
        world.pods("paris", "shop/web", ports, &[("10.244.0.5", true)]);
        world.export("paris", "shop/web", 0);
        world.settle();
        for (at, slice, says) in [
            ("paris", "derived-isrlchlhrq-pods-v4", pods),
            ("berlin", "derived-isrlchlhrq-gw-v4", gw),
            ("berlin", "web-paris-v4", mcs),
        ] {
            let told = world.slice(at, slice);
            assert!(told.starts_with(&format!("{says} ")), "{slice}: {told}");
        }
    }
}
