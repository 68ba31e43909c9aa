//! TrafficPolicies: when only gateways are called, and what policies are told.

use serde_json::{Value, json};

use super::world::World;

const GW: &str = "derived-isrlchlhrq-gw-v4";
const PODS: &str = "derived-isrlchlhrq-pods-v4";

/// paris and tokyo export; lyon shares paris's network and exports too.
fn example() -> World {
    let mut world = World::example();
    world.join("lyon", "a", &["10.244.1.30"], [10, 96, 4, 4]);
    for (cluster, pod) in [("paris", "10.244.0.5"), ("tokyo", "10.244.0.5"), ("lyon", "10.244.9.9")]
    {
        world.service(cluster, "shop/web", &["http 80->8080"], json!({}));
        world.pods(cluster, "shop/web", &["http 80->8080"], &[(pod, true)]);
        world.export(cluster, "shop/web", 0);
    }
    world.settle();
    world
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

fn weights(clusters: &[(&str, u8)]) -> Value {
    let clusters = clusters.iter().map(|(name, weight)| json!({"cluster": name, "weight": weight}));
    json!({"service": "web", "clusters": clusters.collect::<Vec<_>>()})
}

fn told(world: &mut World, name: &str) -> String {
    world.conditions("lyon", "TrafficPolicy", &format!("shop/{name}")).join(" ")
}

/// Design, "Import": "A TrafficPolicy that weighs clusters makes the slice name gateways only, which then dial local pods
/// too."
#[test]
fn where_clusters_are_weighed_every_call_goes_to_a_gateway() {
    let mut world = example();
    assert_eq!(world.slice("lyon", PODS), "[tcp-80 -> 8080] [10.244.9.9 ready]");
    assert_eq!(world.slice("lyon", "web-paris-v4"), "[http -> 8080] [10.244.0.5 ready]");
    world.put("lyon", policy("web", &weights(&[("lyon", 70), ("paris", 30)])));
    world.settle();
    let through = "[tcp-80 -> 10000] [10.244.1.30 ready]";
    assert_eq!(world.slice("lyon", GW), through);
    let names = world.names("lyon", "EndpointSlice");
    assert_eq!(names, [GW, "web-lyon-v4", "web-paris-v4", "web-tokyo-v4"]);
    // The neighbour is called through its gateways as well, so that they can count its calls.
    assert_eq!(world.slice("lyon", "web-paris-v4"), "[http -> 10000] [10.244.1.30 ready]");
    assert_eq!(
        told(&mut world, "web"),
        "InForce=True/Weighed: All calls go to gateways, which spread them over clusters. Only called when nobody else takes calls: tokyo."
    );
    // Gateways are ready as long as anybody is, this cluster included.
    for cluster in ["paris", "tokyo"] {
        world.delete(cluster, "ServiceExport", "shop/web");
    }
    world.settle();
    assert_eq!(world.slice("lyon", GW), through);

    world.delete("lyon", "TrafficPolicy", "shop/web");
    world.settle();
    assert_eq!(world.slice("lyon", PODS), "[tcp-80 -> 8080] [10.244.9.9 ready]");
    assert!(!world.names("lyon", "EndpointSlice").contains(&GW.to_owned()));
}

#[test]
fn gateways_listen_before_anyone_is_sent_to_them() {
    let mut world = example();
    // Nobody of another network is left, so that gateways have no port for it.
    world.delete("tokyo", "ServiceExport", "shop/web");
    world.settle();
    world.put("lyon", policy("web", &weights(&[("lyon", 70), ("paris", 30)])));
    let log = world.settle();
    let at = |what: &str| {
        let found = log.iter().position(|line| line.starts_with(what));
        found.unwrap_or_else(|| panic!("{what} is not in {log:#?}"))
    };
    let standby = at("lyon: create EndpointSlice shop/derived-isrlchlhrq-standby-v4");
    let asked = at("lyon: probe");
    let turned = at(&format!("lyon: delete EndpointSlice shop/{PODS}"));
    assert!(standby < asked && asked < turned, "{log:#?}");
    // The number that it had before rests for a while.
    assert_eq!(world.slice("lyon", GW), "[tcp-80 -> 10001] [10.244.1.30 ready]");
}

/// A policy that weighs nothing changes no slice: kube-proxy goes on calling pods.
#[test]
fn a_policy_that_weighs_nothing_leaves_the_slices_as_they_are() {
    let mut world = example();
    let before = world.names("lyon", "EndpointSlice");
    world.put("lyon", policy("web", &json!({"service": "web", "retries": 1})));
    world.settle();
    assert_eq!(world.names("lyon", "EndpointSlice"), before);
    assert_eq!(
        told(&mut world, "web"),
        "InForce=True/Gateways: It holds for calls that go through gateways."
    );
}

#[test]
fn without_a_gateway_nobody_weighs_and_pods_are_called() {
    let mut world = example();
    world.gateways("lyon", &[]);
    world.put("lyon", policy("web", &weights(&[("lyon", 70), ("paris", 30)])));
    world.settle();
    assert_eq!(world.slice("lyon", PODS), "[tcp-80 -> 8080] [10.244.9.9 ready]");
}

/// Endpoint churn stays at home, unless a policy asks how many endpoints are ready.
#[test]
fn how_many_endpoints_are_ready_is_told_where_a_policy_asks_for_it() {
    let mut world = example();
    let endpoints = |world: &mut World| {
        let slice = world.object("lyon", "EndpointSlice", "shop/web-tokyo-v4");
        slice["metadata"]["annotations"]["landbridge.dev/endpoints"].clone()
    };
    world.put("lyon", policy("web", &weights(&[("lyon", 1)])));
    world.settle();
    assert_eq!(endpoints(&mut world), Value::Null);
    let mut spec = weights(&[("lyon", 1)]);
    spec["spillOver"] = json!({"healthyPercent": 70});
    world.put("lyon", policy("web", &spec));
    world.pods(
        "tokyo",
        "shop/web",
        &["http 80->8080"],
        &[("10.244.0.5", true), ("10.244.0.6", false)],
    );
    world.settle();
    assert_eq!(endpoints(&mut world), "1/2");
}

/// "two policies for one service: older wins, told".
#[test]
fn a_younger_policy_for_the_same_service_is_told_that_it_is_not_in_force() {
    let mut world = example();
    let mut old = policy("old", &json!({"service": "web"}));
    old["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut young = policy("a", &weights(&[("paris", 1)]));
    young["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    world.put("lyon", young);
    world.put("lyon", old);
    world.settle();
    assert!(told(&mut world, "old").starts_with("InForce=True/Gateways"));
    assert_eq!(
        told(&mut world, "a"),
        "InForce=False/Superseded: TrafficPolicy old for the same service is older: delete one of them."
    );
    assert_eq!(world.slice("lyon", PODS), "[tcp-80 -> 8080] [10.244.9.9 ready]");
    world.delete("lyon", "TrafficPolicy", "shop/old");
    world.settle();
    assert!(told(&mut world, "a").starts_with("InForce=True/Weighed"));
}

#[test]
fn a_policy_for_what_is_not_imported_is_told_so() {
    let mut world = example();
    world.put("lyon", policy("typo", &json!({"service": "wbe"})));
    world.settle();
    assert_eq!(
        told(&mut world, "typo"),
        "InForce=False/NotImported: No cluster exports shop/wbe, or it is not imported here."
    );
    // And again after a restart, without another write.
    world.restart("lyon");
    assert_eq!(world.settle(), [""; 0]);
}
