//! Headless services: the import, and the endpoints at home.

use serde_json::json;

use super::world::World;

fn example() -> World {
    let mut world = World::example();
    let ports = ["pg 5432->6432"];
    world.service("paris", "shop/db", &ports, json!({"spec": {"clusterIP": "None"}}));
    world.pods("paris", "shop/db", &ports, &[("10.244.0.7", true), ("10.244.0.9", false)]);
    let mut slice = world.object("paris", "EndpointSlice", "shop/db-x7k2p");
    slice["endpoints"][0]["hostname"] = json!("db-0");
    world.put("paris", slice);
    world.export("paris", "shop/db", 0);
    world.settle();
    world
}

/// Worked example B: "families yes, ips absent (not [], not "None")"; "in paris itself: MCS db-paris-v4/-v6 with the
/// pods' own addresses and pg -> 6432; no derived Service for its own endpoints".
#[test]
fn at_home_endpoints_are_pods_with_hostnames() {
    let mut world = example();
    let import = world.object("paris", "ServiceImport", "shop/db");
    assert_eq!(import["spec"]["type"], "Headless");
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4"]));
    assert!(import["spec"].get("ips").is_none());
    assert_eq!(world.names("paris", "Service"), [""; 0]);
    assert_eq!(world.names("paris", "EndpointSlice"), ["db-paris-v4"]);
    assert_eq!(
        world.slice("paris", "db-paris-v4"),
        "[pg -> 6432] [10.244.0.7 ready, 10.244.0.9 not ready]"
    );
    let slice = world.object("paris", "EndpointSlice", "shop/db-paris-v4");
    assert_eq!(slice["endpoints"][0]["hostname"], "db-0");
    assert_eq!(slice["endpoints"][1]["hostname"], "10-244-0-9");
    assert_eq!(world.conditions("paris", "ServiceImport", "shop/db"), ["Ready=True/Ready"]);
}

/// KEP-1645: headlessness is the oldest export's.
#[test]
fn an_import_that_turns_headless_gives_up_its_address() {
    let mut world = World::example();
    world.service("tokyo", "shop/db", &["pg 5432->6432"], json!({}));
    world.export("tokyo", "shop/db", 5);
    world.settle();
    assert_eq!(world.names("berlin", "Service").len(), 1);
    let ports = ["pg 5432->6432"];
    world.service("paris", "shop/db", &ports, json!({"spec": {"clusterIP": "None"}}));
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(world.names("berlin", "Service"), [""; 0]);
    let import = world.object("berlin", "ServiceImport", "shop/db");
    assert_eq!(import["spec"]["type"], "Headless");
    assert!(
        world.conditions("tokyo", "ServiceExport", "shop/db")[2]
            .starts_with("Conflict=True/TypeConflict")
    );
}
