//! Objects in the way, restarts, gateways that come and go, and bounds.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::world::World;

const PORTS: [&str; 2] = ["http 80->8080", "grpc 9090->9090"];

const DERIVED: &str = "shop/derived-isrlchlhrq";

fn exported() -> World {
    let mut world = World::example();
    world.service("paris", "shop/web", &PORTS, json!({}));
    world.pods("paris", "shop/web", &PORTS, &[("10.244.0.5", true)]);
    world.export("paris", "shop/web", 0);
    world
}

fn has_problem(world: &World, cluster: &str, about: &str) -> bool {
    world.clusters[cluster].problems.iter().any(|problem| problem.about == about)
}

#[test]
fn a_foreign_service_of_the_derived_name_is_left_alone_and_told() {
    let mut world = exported();
    world.service("berlin", "shop/derived-isrlchlhrq", &["x 1->1"], json!({}));
    let theirs = world.object("berlin", "Service", "shop/derived-isrlchlhrq");
    world.settle();
    assert_eq!(world.object("berlin", "Service", "shop/derived-isrlchlhrq"), theirs);
    assert!(has_problem(&world, "berlin", "Service shop/derived-isrlchlhrq"));
    let conditions = world.conditions("berlin", "ServiceImport", "shop/web");
    assert!(
        conditions[0].contains("derived-isrlchlhrq that is not Landbridge's is in the way"),
        "{conditions:?}"
    );
    assert!(world.object("berlin", "ServiceImport", "shop/web")["spec"].get("ips").is_none());
    assert_eq!(world.conditions("tokyo", "ServiceImport", "shop/web"), ["Ready=True/Ready"]);
}

#[test]
fn a_foreign_import_is_left_alone_and_told() {
    let mut world = exported();
    world.put(
        "berlin",
        json!({
            "kind": "ServiceImport", "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"type": "ClusterSetIP", "ports": []},
        }),
    );
    world.settle();
    assert!(has_problem(&world, "berlin", "ServiceImport shop/web"));
    assert_eq!(world.names("berlin", "Service"), [""; 0]);
    world.delete("berlin", "ServiceImport", "shop/web");
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), ["web"]);
}

#[test]
fn a_foreign_slice_of_a_derived_name_is_left_alone_and_told() {
    let mut world = exported();
    world.put(
        "berlin",
        json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "derived-isrlchlhrq-gw-v4"},
            "addressType": "IPv4", "endpoints": [],
        }),
    );
    world.settle();
    assert!(has_problem(&world, "berlin", "EndpointSlice shop/derived-isrlchlhrq-gw-v4"));
    let slice = world.object("berlin", "EndpointSlice", "shop/derived-isrlchlhrq-gw-v4");
    assert_eq!(slice["endpoints"], json!([]));
}

/// `web` of `eu-paris` and `web-eu` of `paris` come to the same name.
#[test]
fn slices_of_two_services_that_come_to_one_name_are_told_apart() {
    let mut world = exported();
    world.join("eu-paris", "d", &["10.244.9.10"], [10, 96, 9, 9]);
    world.service("eu-paris", "shop/web", &PORTS, json!({}));
    world.export("eu-paris", "shop/web", 1);
    world.service("paris", "shop/web-eu", &PORTS, json!({}));
    world.export("paris", "shop/web-eu", 1);
    world.settle();
    let names = world.names("berlin", "EndpointSlice");
    let alike: Vec<&String> =
        names.iter().filter(|name| name.starts_with("web-eu-paris-v4")).collect();
    assert_eq!(alike.len(), 2, "{names:?}");
}

/// Design, "Import": "**The slice is the allotment.** … stable for the import's life".
#[test]
fn a_controller_that_restarts_keeps_numbers_and_addresses() {
    let mut world = exported();
    world.settle();
    world.service("tokyo", "shop/aaa", &["http 80->8080"], json!({}));
    world.export("tokyo", "shop/aaa", 0);
    world.settle();
    let before =
        (world.slice("berlin", "derived-isrlchlhrq-gw-v4"), world.slice("berlin", "aaa-tokyo-v4"));
    assert!(before.0.starts_with("[tcp-80 -> 10000, tcp-9090 -> 10001]"), "{}", before.0);
    assert!(before.1.starts_with("[http -> 10002]"), "{}", before.1);
    world.restart("berlin");
    assert_eq!(world.settle(), [""; 0]);
    // What comes after the restart takes none of them.
    world.service("tokyo", "shop/abc", &["http 80->8080"], json!({}));
    world.export("tokyo", "shop/abc", 0);
    world.restart("berlin");
    world.settle();
    assert!(world.slice("berlin", "abc-tokyo-v4").starts_with("[http -> 10003]"));
    assert_eq!(world.slice("berlin", "aaa-tokyo-v4"), before.1);
}

#[test]
fn gateways_come_and_go_and_numbers_stay() {
    let mut world = exported();
    world.settle();
    world.gateways("berlin", &[]);
    world.settle();
    assert_eq!(
        world.slice("berlin", "derived-isrlchlhrq-gw-v4"),
        "[tcp-80 -> 10000, tcp-9090 -> 10001] []"
    );
    let conditions = world.conditions("berlin", "ServiceImport", "shop/web");
    assert!(conditions[0].starts_with("Ready=False/Pending: No gateway"), "{conditions:?}");
    let ips = world.object("berlin", "ServiceImport", "shop/web")["spec"]["ips"].clone();
    assert_eq!(ips, json!(["10.96.7.7"]));
    world.gateways("berlin", &["10.244.3.12"]);
    world.settle();
    assert_eq!(
        world.slice("berlin", "derived-isrlchlhrq-gw-v4"),
        "[tcp-80 -> 10000, tcp-9090 -> 10001] [10.244.3.12 ready]"
    );
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/web"), ["Ready=True/Ready"]);
}

/// Design, "Import": a silent gateway "leaves the slices, never the last one".
#[test]
fn a_gateway_whose_lease_has_run_out_leaves_but_never_the_last() {
    let mut world = exported();
    for (name, ip) in [("one", "10.244.3.21"), ("two", "10.244.3.22")] {
        world.put("berlin", json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "landbridge-system", "name": format!("landbridge-gateway-{name}"),
                "labels": {"kubernetes.io/service-name": "landbridge-gateway", "endpointslice.kubernetes.io/managed-by": "landbridge.dev"}},
            "addressType": "IPv4", "ports": [{"name": "link", "protocol": "UDP", "port": 4433}],
            "endpoints": [{"addresses": [ip]}],
        }));
    }
    world.delete("berlin", "EndpointSlice", "landbridge-system/gateways");
    world.settle();
    let mut silence = |names: &[&str]| {
        let berlin = world.clusters.get_mut("berlin").unwrap();
        let names = names.iter().map(|name| format!("landbridge-gateway-{name}")).collect();
        let touched = berlin.observed.silence(names, BTreeSet::new());
        berlin.touch(touched);
        // A planner that starts from the objects alone does not know who is silent yet.
        while let Some(work) = world.clusters.get_mut("berlin").unwrap().queue.take() {
            world.run("berlin", &work);
        }
        world.slice("berlin", "web-paris-v4")
    };
    let ports = "[http -> 10000, grpc -> 10001]";
    assert_eq!(silence(&["one"]), format!("{ports} [10.244.3.22 ready]"));
    let both = format!("{ports} [10.244.3.21 ready, 10.244.3.22 ready]");
    assert_eq!(silence(&["one", "two"]), both);
    assert_eq!(silence(&[]), both);
}

/// Design, "Import": ClusterIPs "become `spec.ips`, stable for the import's life". Pods have an address of each family,
/// and a busy machine may leave the questions to all of one family without an answer.
#[test]
fn gateways_that_do_not_answer_leave_but_never_the_last_of_a_family() {
    let mut world = exported();
    for (name, family, ips) in [
        ("v4", "IPv4", ["10.244.3.21", "10.244.3.22"]),
        ("v6", "IPv6", ["fd00:3::21", "fd00:3::22"]),
    ] {
        world.put("berlin", json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "landbridge-system", "name": format!("pods-{name}"),
                "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
            "addressType": family, "ports": [{"name": "admin", "protocol": "TCP", "port": 9403}],
            "endpoints": ips.map(|ip| json!({"addresses": [ip]})),
        }));
    }
    world.delete("berlin", "EndpointSlice", "landbridge-system/gateways");
    world.settle();
    let mut mute = |gateways: &[&str]| {
        let berlin = world.clusters.get_mut("berlin").unwrap();
        let gateways = gateways.iter().map(|gateway| gateway.parse().unwrap()).collect();
        let touched = berlin.observed.mute(gateways);
        berlin.touch(touched);
        while let Some(work) = world.clusters.get_mut("berlin").unwrap().queue.take() {
            world.run("berlin", &work);
        }
        ["v4", "v6"].map(|family| {
            let slice = world.slice("berlin", &format!("derived-isrlchlhrq-gw-{family}"));
            slice.split("] ").last().unwrap_or_default().to_owned()
        })
    };
    let [v4, v6] =
        ["[10.244.3.21 ready, 10.244.3.22 ready]", "[fd00:3::21 ready, fd00:3::22 ready]"];
    assert_eq!(mute(&["10.244.3.21:9403"]), ["[10.244.3.22 ready]", v6]);
    assert_eq!(mute(&["10.244.3.21:9403", "10.244.3.22:9403"]), [v4, v6]);
    assert_eq!(
        mute(&["10.244.3.21:9403", "[fd00:3::22]:9403"]),
        ["[10.244.3.22 ready]", "[fd00:3::21 ready]"]
    );
}

/// Design, "Import": "the families that have a serving address here".
#[test]
fn an_import_has_the_families_that_lead_somewhere() {
    let mut world = exported();
    world.service("berlin", "shop/taken", &PORTS, json!({}));
    world.settle();
    let mut service = world.object("berlin", "Service", "shop/derived-isrlchlhrq");
    service["spec"]["clusterIPs"] = json!(["fd00::7", "10.96.7.7"]);
    service["spec"]["clusterIP"] = json!("fd00::7");
    world.put("berlin", service);
    world.settle();
    let spec = world.object("berlin", "ServiceImport", "shop/web")["spec"].clone();
    assert_eq!((&spec["ips"], &spec["ipFamilies"]), (&json!(["10.96.7.7"]), &json!(["IPv4"])));
    world.put(
        "berlin",
        json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": "landbridge-system", "name": "gateways-v6",
                "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
            "addressType": "IPv6", "ports": [{"name": "link", "protocol": "UDP", "port": 4433}],
            "endpoints": [{"addresses": ["fd00:3::10"]}],
        }),
    );
    world.settle();
    let spec = world.object("berlin", "ServiceImport", "shop/web")["spec"].clone();
    assert_eq!(spec["ips"], json!(["fd00::7", "10.96.7.7"]));
    assert_eq!(spec["ipFamilies"], json!(["IPv6", "IPv4"]));
    assert_eq!(
        world.slice("berlin", "derived-isrlchlhrq-gw-v6"),
        "[tcp-80 -> 10000, tcp-9090 -> 10001] [fd00:3::10 ready]"
    );
}

#[test]
fn a_service_of_many_pods_has_several_slices() {
    let mut world = exported();
    let pods: Vec<String> = (0..1_500).map(|n| format!("10.244.{}.{}", n / 250, n % 250)).collect();
    let pods: Vec<(&str, bool)> = pods.iter().map(|ip| (ip.as_str(), true)).collect();
    world.pods("paris", "shop/web", &PORTS, &pods);
    world.settle();
    let names = world.names("paris", "EndpointSlice");
    assert_eq!(
        names,
        [
            "derived-isrlchlhrq-pods-v4",
            "derived-isrlchlhrq-pods-v4-2",
            "web-paris-v4",
            "web-paris-v4-2",
        ]
    );
    let second = world.object("paris", "EndpointSlice", "shop/web-paris-v4-2");
    assert_eq!(second["endpoints"].as_array().unwrap().len(), 500);
}

/// Pods that do not listen on the same ports are not in one slice: "A slice names only ports that its endpoints
/// serve."
#[test]
fn ports_that_own_pods_do_not_serve_at_the_moment_go_through_gateways() {
    let mut world = exported();
    world.service("tokyo", "shop/web", &PORTS, json!({}));
    world.pods("tokyo", "shop/web", &PORTS, &[("10.244.0.5", true)]);
    world.export("tokyo", "shop/web", 5);
    world.pods("paris", "shop/web", &["http 80->8080"], &[("10.244.0.5", true)]);
    world.settle();
    assert_eq!(
        world.slice("paris", "derived-isrlchlhrq-gw-v4"),
        "[tcp-9090 -> 10001] [10.244.1.10 ready]"
    );
    assert_eq!(
        world.slice("paris", "derived-isrlchlhrq-standby-v4"),
        "[tcp-80 -> 10000] [10.244.1.10 not ready]"
    );
}

#[test]
fn what_somebody_has_changed_or_deleted_is_put_right() {
    let mut world = exported();
    world.settle();
    let mut slice = world.object("berlin", "EndpointSlice", "shop/web-paris-v4");
    slice["endpoints"] = json!([]);
    world.put("berlin", slice);
    world.delete("berlin", "EndpointSlice", "shop/derived-isrlchlhrq-gw-v4");
    world.delete("berlin", "ServiceImport", "shop/web");
    world.settle();
    let gateways = "[10.244.3.10 ready, 10.244.3.11 ready]";
    assert_eq!(
        world.slice("berlin", "web-paris-v4"),
        format!("[http -> 10000, grpc -> 10001] {gateways}")
    );
    assert_eq!(
        world.slice("berlin", "derived-isrlchlhrq-gw-v4"),
        format!("[tcp-80 -> 10000, tcp-9090 -> 10001] {gateways}")
    );
    let import = world.object("berlin", "ServiceImport", "shop/web");
    assert_eq!(import["spec"]["ips"], json!(["10.96.7.7"]));
}

/// A derived Service that is there from an earlier import would be collected with that one: it is set free before the
/// next one has its address (design, "Import": "stable for the import's life").
#[test]
fn the_service_of_an_import_that_is_gone_is_not_built_on() {
    let mut world = exported();
    world.settle();
    let owner = |world: &mut World| {
        world.object("berlin", "Service", DERIVED)["metadata"]["ownerReferences"][0]["uid"].clone()
    };
    let before = owner(&mut world);
    world.delete("berlin", "ServiceImport", "shop/web");
    let written = world.settle();
    let derived = format!("berlin: update Service {DERIVED}");
    let made = "berlin: create ServiceImport shop/web";
    let order: Vec<&String> =
        written.iter().filter(|line| **line == derived || *line == made).collect();
    assert_eq!(order, [&derived, made, &derived], "{written:#?}");
    assert_ne!(owner(&mut world), before);
}

/// A cluster in which exports, imports and gateways stand.
fn busy() -> World {
    let mut world = exported();
    world.service("tokyo", "shop/web", &PORTS, json!({}));
    world.pods("tokyo", "shop/web", &PORTS, &[("10.244.0.5", false)]);
    world.export("tokyo", "shop/web", 5);
    world.service("paris", "shop/db", &["80->80"], json!({"spec": {"clusterIP": "None"}}));
    world.export("paris", "shop/db", 5);
    world.settle();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Design, "The house", rule 3: "Any order, or one relist, gives the same state."
    #[test]
    fn any_order_of_news_or_one_relist_gives_the_same_state(
        draws in prop::collection::vec(any::<u32>(), 200),
    ) {
        let world = busy();
        let relisted = world.observer("paris");
        let mut heard = world.observer_of_nothing("paris");
        let mut news = world.news_for("paris");
        let mut draws = draws.into_iter().cycle();
        news.sort_by_cached_key(|_| draws.next());
        for event in news {
            heard.take(event);
        }
        prop_assert_eq!(relisted.snapshot().to_string(), heard.snapshot().to_string());
        prop_assert_eq!(relisted, heard);
    }
}

/// "`/debug/snapshot` sorted and stable": what people compare differs only where something differs.
#[test]
fn the_snapshot_is_sorted_and_says_the_same_of_the_same() {
    fn check(value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                let keys: Vec<&String> = map.keys().collect();
                assert!(keys.is_sorted(), "{keys:?}");
                map.values().for_each(check);
            }
            serde_json::Value::Array(items) if items.iter().all(serde_json::Value::is_string) => {
                let items: Vec<&str> = items.iter().filter_map(|item| item.as_str()).collect();
                assert!(items.is_sorted(), "{items:?}");
            }
            serde_json::Value::Array(items) => items.iter().for_each(check),
            _ => {}
        }
    }
    let mut world = busy();
    let snapshot = world.clusters["berlin"].observed.snapshot();
    check(&snapshot);
    assert!(snapshot["imports"]["shop/web"]["slices"].as_array().unwrap().len() > 1);
    let member = world.object("hub", "Member", "tokyo");
    world.put("hub", member);
    world.settle();
    let again = world.clusters["berlin"].observed.snapshot();
    assert_eq!(again.to_string(), snapshot.to_string(), "what is written anew says the same");
}

/// What one changed object costs does not grow with the number of services.
#[test]
fn a_change_touches_one_service_among_many() {
    let mut world = exported();
    for number in 0..50 {
        let key = format!("shop/s{number}");
        world.service("paris", &key, &PORTS, json!({}));
        world.export("paris", &key, 0);
    }
    world.settle();
    world.pods("paris", "shop/web", &PORTS, &[("10.244.0.5", false)]);
    let berlin = &world.clusters["berlin"].queue;
    let paris = &world.clusters["paris"].queue;
    assert_eq!((paris.depth(), berlin.depth()), (3, 0));
    let writes = world.settle();
    assert!(
        writes.iter().all(|write| write.contains("web") || write.contains("isrlchlhrq")),
        "{writes:?}"
    );
}
