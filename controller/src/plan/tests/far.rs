//! Worked example B: headless endpoints of other networks, line by line.

use serde_json::json;

use super::{
    hub_slices::{headless, pg, pods, stateful},
    world::{World, key},
};

/// paris (network a) exports shop/db; berlin (c, dual-stack) imports.
fn example() -> World {
    let mut world = World::example();
    let berlin = world.clusters.get_mut("berlin").unwrap();
    berlin.api.next_ip6 = Some("fd00:10:96::801".parse().unwrap());
    world.put(
        "berlin",
        json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "landbridge-system", "name": "gateways-v6",
                "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
            "addressType": "IPv6", "ports": [{"name": "admin", "protocol": "TCP", "port": 9901}],
            "endpoints": [{"addresses": ["fd00:10:244:3::10"], "conditions": {"ready": true}}],
        }),
    );
    stateful(&mut world, "paris");
    world.export("paris", "shop/db", 0);
    world
}

fn hostnames(world: &mut World, slice: &str) -> Vec<String> {
    let slice = world.object("berlin", "EndpointSlice", &format!("shop/{slice}"));
    let endpoints = slice["endpoints"].as_array().unwrap().iter();
    endpoints.map(|endpoint| endpoint["hostname"].as_str().unwrap().to_owned()).collect()
}

/// "spec: {type: Headless, ipFamilies: [IPv4, IPv6], ports: [{name: pg, protocol: TCP, port: 5432}]}}   # families
/// yes, ips absent (not [], not "None")".
#[test]
fn the_import_has_families_and_no_addresses() {
    let mut world = example();
    world.settle();
    let import = world.object("berlin", "ServiceImport", "shop/db");
    assert_eq!(import["spec"]["type"], "Headless");
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert!(import["spec"].get("ips").is_none());
    assert_eq!(import["spec"]["ports"], json!([{"name": "pg", "protocol": "TCP", "port": 5432}]));
    assert_eq!(import["status"]["endpointSliceObjects"], "Present");
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/db"), ["Ready=True/Ready"]);
}

/// "Service shop/derived-endjhegtnc: hash of "shop/db/paris/db-0"", "ports: [tcp-6432 6432]   # the endpoint's port",
/// "Service shop/derived-iip7hlvkla: … made while not ready, so that its address is stable".
#[test]
fn each_endpoint_has_a_service() {
    let mut world = example();
    world.settle();
    assert_eq!(world.names("berlin", "Service"), ["derived-endjhegtnc", "derived-iip7hlvkla"]);
    let service = world.object("berlin", "Service", "shop/derived-endjhegtnc");
    assert_eq!(service["spec"]["clusterIPs"], json!(["10.96.7.7", "fd00:10:96::801"]));
    let port = &service["spec"]["ports"][0];
    assert_eq!((&port["name"], &port["port"]), (&json!("tcp-6432"), &json!(6432)));
    assert_eq!(
        service["metadata"]["annotations"],
        json!({"landbridge.dev/import": "db", "landbridge.dev/endpoint": "paris/db-0"})
    );
    assert_eq!(service["metadata"]["ownerReferences"][0]["kind"], "ServiceImport");
    assert_eq!(
        world.names("paris", "Service"),
        [""; 0],
        "no derived Service for its own endpoints"
    );
}

/// "derived-endjhegtnc-gw-v4: {ports: [tcp-6432 -> 10010], endpoints: [… ready]}    # and -v6: same number, gateways'
/// v6", "derived-iip7hlvkla-gw-v4: … both ready: false".
#[test]
fn each_endpoint_has_a_number_of_its_own() {
    let mut world = example();
    world.settle();
    assert_eq!(
        world.slice("berlin", "derived-endjhegtnc-gw-v4"),
        "[tcp-6432 -> 10000] [10.244.3.10 ready, 10.244.3.11 ready]"
    );
    assert_eq!(
        world.slice("berlin", "derived-endjhegtnc-gw-v6"),
        "[tcp-6432 -> 10000] [fd00:10:244:3::10 ready]"
    );
    assert_eq!(
        world.slice("berlin", "derived-iip7hlvkla-gw-v4"),
        "[tcp-6432 -> 10001] [10.244.3.10 not ready, 10.244.3.11 not ready]"
    );
    let slice = world.object("berlin", "EndpointSlice", "shop/derived-endjhegtnc-gw-v4");
    assert_eq!(slice["metadata"]["annotations"]["landbridge.dev/endpoint"], "paris/db-0");
}

/// "EndpointSlice db-paris-v4: MCS labels: db, paris. All of paris in one slice per family (O8); ports: [pg -> 6432]
/// # not 10010: the address is a ClusterIP, the number is that Service's port".
#[test]
fn mcs_slices_have_the_addresses_that_work_here() {
    let mut world = example();
    let log = world.settle();
    assert_eq!(
        world.slice("berlin", "db-paris-v4"),
        "[pg -> 6432] [10.96.7.7 ready, 10.96.7.8 not ready]"
    );
    assert_eq!(
        world.slice("berlin", "db-paris-v6"),
        "[pg -> 6432] [fd00:10:96::801 ready, fd00:10:96::802 not ready]"
    );
    assert_eq!(hostnames(&mut world, "db-paris-v4"), ["db-0", "db-1"]);
    assert_eq!(hostnames(&mut world, "db-paris-v6"), ["db-0", "db-1"]);
    let at = |what: &str| {
        let line = log.iter().position(|line| line.contains(what));
        line.unwrap_or_else(|| panic!("{what}: {log:#?}"))
    };
    assert!(
        at("berlin: create EndpointSlice shop/derived-endjhegtnc-gw-v4")
            < at("berlin: probe 10000,10001")
    );
    assert!(at("berlin: probe") < at("berlin: create EndpointSlice shop/db-paris-v4"));
    assert!(
        at("berlin: create EndpointSlice shop/db-paris-v4") < at("berlin: create ServiceImport")
    );
}

/// "tokyo exports db-0 too: in berlin "shop/db/tokyo/db-0" = derived-e1srscme46, slice db-tokyo-v4; no conflict, names
/// differ by cluster".
#[test]
fn the_same_hostname_in_two_clusters_is_two_endpoints() {
    let mut world = example();
    headless(&mut world, "tokyo");
    pods(&mut world, "tokyo", "db", &pg(), &[("10.244.0.7", "db-0", "t0", true)]);
    world.export("tokyo", "shop/db", 5);
    world.settle();
    assert!(world.names("berlin", "Service").contains(&"derived-e1srscme46".to_owned()));
    assert_eq!(hostnames(&mut world, "db-tokyo-v4"), ["db-0"]);
    assert!(
        world.conditions("tokyo", "ServiceExport", "shop/db")[2]
            .starts_with("Conflict=False/NoConflicts")
    );
}

/// "db-0 restarts as 10.244.0.31: same hostname, so same Service, ClusterIPs, 10010 and name; only the hub slice
/// changes".
#[test]
fn a_pod_that_restarts_keeps_its_address_here() {
    let mut world = example();
    world.settle();
    pods(
        &mut world,
        "paris",
        "db",
        &pg(),
        &[("10.244.0.31", "db-0", "u31", true), ("10.244.0.8", "db-1", "u1", false)],
    );
    pods(
        &mut world,
        "paris",
        "db",
        &pg(),
        &[("fd00:10:244::31", "db-0", "u31", true), ("fd00:10:244::8", "db-1", "u1", false)],
    );
    let log = world.settle();
    assert!(log.iter().all(|line| line.starts_with("paris: ")), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("EndpointSlice cluster-paris/shop.db-v4")));
}

/// "the same with a Deployment's pod u9 [10.244.0.9, fd00:10:244::9]: no hostname, so home makes one per family …
/// one Service, hash of "shop/db/paris/10-244-0-9" (its first family) = derived-1mqoc0rdbs", "MCS v4: {10.96.8.3,
/// hostname: 10-244-0-9} · MCS v6: {"fd00:10:96::803", hostname: fd00-10-244--9}".
#[test]
fn two_addresses_of_one_pod_are_one_endpoint() {
    let mut world = example();
    pods(&mut world, "paris", "db", &pg(), &[("10.244.0.9", "", "u9", true)]);
    pods(&mut world, "paris", "db", &pg(), &[("fd00:10:244::9", "", "u9", true)]);
    world.settle();
    assert_eq!(world.names("berlin", "Service"), ["derived-1mqoc0rdbs"]);
    assert_eq!(hostnames(&mut world, "db-paris-v4"), ["10-244-0-9"]);
    assert_eq!(hostnames(&mut world, "db-paris-v6"), ["fd00-10-244--9"]);
}

/// KEP-1645: "All exports gone -> ServiceImport deleted everywhere."
#[test]
fn everything_goes_with_the_export_and_the_endpoint() {
    let mut world = example();
    world.settle();
    pods(&mut world, "paris", "db", &pg(), &[("10.244.0.7", "db-0", "u0", true)]);
    pods(&mut world, "paris", "db", &pg(), &[("fd00:10:244::7", "db-0", "u0", true)]);
    world.settle();
    assert_eq!(world.names("berlin", "Service"), ["derived-endjhegtnc"]);
    world.delete("paris", "ServiceExport", "shop/db");
    let log = world.settle();
    for kind in ["EndpointSlice", "Service", "ServiceImport"] {
        assert_eq!(world.names("berlin", kind), [""; 0], "{kind}");
    }
    let at = |what: &str| log.iter().position(|line| line.contains(what)).unwrap();
    assert!(at("berlin: delete ServiceImport") < at("berlin: delete EndpointSlice"));
    assert!(at("berlin: delete EndpointSlice") < at("berlin: delete Service shop/"));
}

/// An importer of one family reaches pods of the other: gateways carry the one to the other.
#[test]
fn pods_of_the_other_family_have_an_address_here() {
    let mut world = World::example();
    headless(&mut world, "paris");
    pods(&mut world, "paris", "db", &pg(), &[("fd00:10:244::7", "db-0", "u0", true)]);
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(world.slice("berlin", "db-paris-v4"), "[pg -> 6432] [10.96.7.7 ready]");
    let import = world.object("berlin", "ServiceImport", "shop/db");
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4"]));
}

/// "two ports on one target" are one port of the endpoint; TCP and UDP of one number are two; gateways carry no SCTP.
#[test]
fn ports_of_every_kind() {
    let mut world = World::example();
    let ports =
        ["pg 5432->6432", "alt 5433->6432", "dns 53->53/UDP", "dns-tcp 53->53", "sig 9->9/SCTP"];
    world.service("paris", "shop/db", &ports, json!({"spec": {"clusterIP": "None"}}));
    let named = |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "port": port});
    let slice = json!([
        named("pg", "TCP", 6432),
        named("alt", "TCP", 6432),
        named("dns", "UDP", 53),
        named("dns-tcp", "TCP", 53),
        named("sig", "SCTP", 9)
    ]);
    pods(&mut world, "paris", "db", &slice, &[("10.244.0.7", "db-0", "u0", true)]);
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(
        world.slice("berlin", "derived-endjhegtnc-gw-v4"),
        "[tcp-53 -> 10000, tcp-6432 -> 10001, udp-53 -> 10000] [10.244.3.10 ready, 10.244.3.11 ready]"
    );
    let mcs = world.slice("berlin", "db-paris-v4");
    for port in ["pg -> 6432", "alt -> 6432", "dns -> 53", "dns-tcp -> 53"] {
        assert!(mcs.contains(port), "{mcs}");
    }
    assert!(!mcs.contains("sig"), "{mcs}");
    let export = world.conditions("paris", "ServiceExport", "shop/db");
    assert!(
        export.iter().any(|text| text.starts_with("Degraded=True/PortNotCarried")),
        "{export:?}"
    );
}

/// Kubernetes tells pods of such a Service as ready, so they are.
#[test]
fn not_ready_addresses_are_published_where_the_service_asks_for_it() {
    let mut world = World::example();
    headless(&mut world, "paris");
    pods(&mut world, "paris", "db", &pg(), &[("10.244.0.7", "db-0", "u0", true)]);
    let mut slice = world.object("paris", "EndpointSlice", "shop/db-x7k24");
    slice["endpoints"][0]["conditions"] =
        json!({"ready": true, "serving": false, "terminating": false});
    world.put("paris", slice);
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(world.slice("berlin", "db-paris-v4"), "[pg -> 6432] [10.96.7.7 ready]");
}

/// Design, "Import": "at most 256 per import (then a condition)".
#[test]
fn an_import_has_at_most_256_addresses() {
    let mut world = World::example();
    headless(&mut world, "paris");
    let all: Vec<String> = (0..260).map(|n| format!("10.244.{}.{}", n / 250, n % 250)).collect();
    let all: Vec<_> = all.iter().map(|ip| (ip.as_str(), "", ip.as_str(), true)).collect();
    pods(&mut world, "paris", "db", &pg(), &all);
    world.export("paris", "shop/db", 0);
    world.settle();
    let before = world.names("berlin", "Service");
    assert_eq!(before.len(), 256);
    assert!(
        world.conditions("berlin", "ServiceImport", "shop/db")[0]
            .starts_with("Ready=False/AddressesExhausted: 4 endpoints")
    );
    let told = world.conditions("paris", "ServiceExport", "shop/db");
    let too_many = "Degraded=True/TooManyEndpoints: The Service has 260 endpoints; at most 256";
    assert!(told.iter().any(|one| one.starts_with(too_many)), "{told:?}");
    pods(&mut world, "paris", "db", &pg(), &all[..256]);
    world.settle();
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/db"), ["Ready=True/Ready"]);
    let told = world.conditions("paris", "ServiceExport", "shop/db");
    assert!(told.iter().any(|one| one.starts_with("Degraded=False/NothingLeftOut")), "{told:?}");
}

#[test]
fn a_controller_makes_no_more_services_than_it_may() {
    let mut world = example();
    let berlin = world.clusters.get_mut("berlin").unwrap();
    berlin.observed.config.max_derived_services = 1;
    world.settle();
    assert_eq!(world.names("berlin", "Service"), ["derived-endjhegtnc"]);
    assert_eq!(hostnames(&mut world, "db-paris-v4"), ["db-0"]);
    let told = world.conditions("berlin", "ServiceImport", "shop/db");
    assert!(
        told[0]
            .starts_with("Ready=False/Pending: 1 endpoints of other networks have no address here"),
        "{told:?}"
    );
}

#[test]
fn a_service_of_somebody_else_in_the_way_is_told_and_kept() {
    let mut world = World::example();
    world.service("berlin", "shop/derived-endjhegtnc", &["http 80->80"], json!({}));
    stateful(&mut world, "paris");
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(hostnames(&mut world, "db-paris-v4"), ["db-1"]);
    let told = world.conditions("berlin", "ServiceImport", "shop/db");
    assert!(told[0].starts_with("Ready=False/Pending: A Service derived-endjhegtnc"), "{told:?}");
    let objects = &world.api("berlin").objects;
    assert!(objects.contains_key(&("Service", key("shop/derived-endjhegtnc"))));
}

/// A member writes what it likes into its own namespace: a bad address is refused by itself, and named.
#[test]
fn a_bad_address_hurts_only_itself() {
    let mut world = example();
    world.settle();
    let mut slice = world.object("hub", "EndpointSlice", "cluster-paris/shop.db-v4");
    slice["endpoints"][1]["addresses"] = json!(["10.244.0.300"]);
    world.clusters.get_mut("paris").unwrap().queue = crate::queue::Queue::default();
    let event = crate::observed::Event::HubSlice(landbridge_api::watch::Change::Apply(
        serde_json::from_value(slice).unwrap(),
    ));
    world.clusters.get_mut("berlin").unwrap().news(event);
    let work = crate::plan::Work::Import(super::world::service("shop/db"));
    world.run("berlin", &work);
    let berlin = &world.clusters["berlin"];
    assert!(
        berlin.problems.iter().any(|problem| {
            problem.about.contains("cluster-paris/shop.db-v4")
                && problem.sentence.contains("10.244.0.300")
        }),
        "{:?}",
        berlin.problems
    );
    assert_eq!(hostnames(&mut world, "db-paris-v4"), ["db-0"]);
}
