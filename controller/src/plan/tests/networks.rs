//! Members that share a network, and sets in which some do.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    hub_slices::{pods, stateful},
    world::{World, service},
};

/// lyon shares paris's network; both export, berlin is elsewhere.
fn example() -> World {
    let mut world = World::example();
    world.join("lyon", "a", &["10.244.1.30"], [10, 96, 4, 4]);
    for (cluster, pod) in [("paris", "10.244.0.5"), ("tokyo", "10.244.0.5")] {
        world.service(cluster, "shop/web", &["http 80->8080"], json!({}));
        world.pods(cluster, "shop/web", &["http 80->8080"], &[(pod, true)]);
    }
    world.export("paris", "shop/web", 0);
    world.settle();
    world
}

fn silence(world: &mut World, at: &str, silent: &[&str]) {
    let silent: BTreeSet<String> = silent.iter().map(|&name| name.to_owned()).collect();
    let cluster = world.clusters.get_mut(at).unwrap();
    let touched = cluster.observed.silence(BTreeSet::new(), silent);
    cluster.touch(touched);
    let work = crate::plan::Work::Import(service("shop/web"));
    world.run(at, &work);
}

/// Design, "Import": "else pods of same-network members (nodeName and targetRef stripped, hints on all or on none)".
#[test]
fn pods_of_the_same_network_are_called_directly() {
    let mut world = example();
    assert_eq!(
        world.names("lyon", "EndpointSlice"),
        ["derived-isrlchlhrq-remote-v4", "web-paris-v4"]
    );
    assert_eq!(
        world.slice("lyon", "derived-isrlchlhrq-remote-v4"),
        "[tcp-80 -> 8080] [10.244.0.5 ready]"
    );
    assert_eq!(world.slice("lyon", "web-paris-v4"), "[http -> 8080] [10.244.0.5 ready]");
    let slice = world.object("lyon", "EndpointSlice", "shop/derived-isrlchlhrq-remote-v4");
    let endpoint = slice["endpoints"][0].as_object().unwrap();
    for gone in ["nodeName", "targetRef", "hints"] {
        assert!(!endpoint.contains_key(gone), "{endpoint:?}");
    }
    assert_eq!(endpoint["zone"], "z1");
    let told = world.conditions("lyon", "ServiceImport", "shop/web");
    assert_eq!(told[0], "Ready=True/Ready");
    assert!(told[1].starts_with("Encrypted=False/DirectRoute: Pods of \"paris\""), "{told:?}");
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/web"), ["Ready=True/Ready"]);
}

fn drain(world: &mut World, cluster: &str, drained: bool) {
    let mut member = world.object("hub", "Member", cluster);
    member["spec"]["drained"] = json!(drained);
    world.put("hub", member);
    world.settle();
}

/// A member that is drained gets no new calls while another one serves: its peers are told, and its pods are not used in its own
/// network.
#[test]
fn pods_of_a_drained_member_are_used_where_nobody_else_serves() {
    const REMOTE: &str = "derived-isrlchlhrq-remote-v4";
    let mut world = example();
    let direct = world.slice("lyon", REMOTE);
    assert_eq!(direct, "[tcp-80 -> 8080] [10.244.0.5 ready]");
    drain(&mut world, "paris", true);
    assert_eq!(world.slice("lyon", REMOTE), direct, "nobody else serves");
    assert_eq!(world.object("berlin", "Peer", "paris")["spec"]["drained"], json!(true));

    world.export("tokyo", "shop/web", 1);
    world.settle();
    let rested = world.slice("lyon", REMOTE);
    assert!(rested.contains("10.244.0.5") && !rested.contains("10.244.0.5 ready"), "{rested}");
    // Its own pods call as ever.
    assert!(world.slice("paris", "derived-isrlchlhrq-pods-v4").contains("10.244.0.5 ready"));
    // Where everybody is drained, somebody serves.
    drain(&mut world, "tokyo", true);
    assert_eq!(world.slice("lyon", REMOTE), direct);
    for cluster in ["tokyo", "paris"] {
        drain(&mut world, cluster, false);
    }
    assert_eq!(world.slice("lyon", REMOTE), direct);
}

/// Design, "Import": "A member whose service has an AccessPolicy counts as another network for it."
#[test]
fn what_has_an_access_policy_is_called_through_gateways_within_its_network_too() {
    let policy = |name: &str, spec: serde_json::Value| {
        json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "AccessPolicy",
            "metadata": {"namespace": "shop", "name": name}, "spec": spec})
    };
    let guarded = |world: &mut World| {
        let told = world.conditions("paris", "ServiceExport", "shop/web");
        told.into_iter().find(|one| one.starts_with("Guarded")).unwrap_or_default()
    };
    let mut world = example();
    // One for another Service is nothing to this one.
    world.put("paris", policy("other", json!({"service": "other"})));
    world.settle();
    assert_eq!(guarded(&mut world), "");
    let direct = "[tcp-80 -> 8080] [10.244.0.5 ready]";
    assert_eq!(world.slice("lyon", "derived-isrlchlhrq-remote-v4"), direct);

    for (name, spec) in [("web", json!({"service": "web"})), ("nobody", json!({}))] {
        world.put("paris", policy(name, spec));
        world.settle();
        assert_eq!(
            guarded(&mut world),
            format!(
                "Guarded=True/AccessPolicy: Only who is allowed by these AccessPolicies may call it: {name}."
            )
        );
        assert_eq!(
            world.names("lyon", "EndpointSlice"),
            ["derived-isrlchlhrq-gw-v4", "web-paris-v4"]
        );
        for slice in ["derived-isrlchlhrq-gw-v4", "web-paris-v4"] {
            assert!(world.slice("lyon", slice).ends_with(" [10.244.1.30 ready]"), "{slice}");
        }
        let told = world.conditions("lyon", "ServiceImport", "shop/web");
        assert_eq!(told, ["Ready=True/Ready", "Encrypted=True/Gateways"]);
        assert_eq!(world.names("hub", "EndpointSlice"), [""; 0], "nobody may go around");
        // Its own pods are called by its own cluster as ever: what passes no gateway is not for gateways to hold.
        let own = world.slice("paris", "derived-isrlchlhrq-pods-v4");
        assert_eq!(own, direct);

        world.delete("paris", "AccessPolicy", &format!("shop/{name}"));
        world.settle();
        assert!(guarded(&mut world).starts_with("Guarded=False/NoPolicy"));
        assert_eq!(world.slice("lyon", "derived-isrlchlhrq-remote-v4"), direct);
    }
}

/// Whoever cannot read what is allowed must not take it for everything.
#[test]
fn an_access_policy_that_cannot_be_read_guards_its_whole_namespace() {
    let mut world = example();
    world.put(
        "paris",
        json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "AccessPolicy",
            "metadata": {"namespace": "shop", "name": "odd"}, "spec": {"allow": "everybody"}}),
    );
    world.settle();
    assert!(world.names("lyon", "EndpointSlice").contains(&"derived-isrlchlhrq-gw-v4".to_owned()));
    world.delete("paris", "AccessPolicy", "shop/odd");
    world.settle();
    assert!(world.names("lyon", "EndpointSlice").contains(&"derived-isrlchlhrq-remote-v4".into()));
}

/// KEP-1645: "IP protocol incompatibilities (i.e.: importing an IPv6 only service in an IPv4 cluster)". Another network
/// is reached through gateways, which carry the one to the other.
#[test]
fn pods_of_a_family_that_this_cluster_lacks_are_told() {
    let mut world = example();
    let port = json!([{"name": "http", "protocol": "TCP", "port": 8080}]);
    let only = json!({"spec": {"clusterIP": "fd00::9", "ipFamilies": ["IPv6"]}});
    world.service("paris", "shop/six", &["http 80->8080"], only);
    pods(&mut world, "paris", "six", &port, &[("fd00:10:244::7", "", "u7", true)]);
    world.export("paris", "shop/six", 0);
    world.settle();
    let told = world.conditions("lyon", "ServiceImport", "shop/six");
    assert!(
        told[0]
            .starts_with("Ready=False/IPFamilyNotSupported: The service is served over IPv6 alone"),
        "{told:?}"
    );
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/six"), ["Ready=True/Ready"]);
}

/// Design, "Import": "ready pods of an export **here**; else pods of same-network members …; else the local gateways
/// …; never mixed", "Mixed sets work".
#[test]
fn own_pods_come_first_then_the_network_then_gateways() {
    let mut world = example();
    world.export("tokyo", "shop/web", 5);
    world.settle();
    let remote = "derived-isrlchlhrq-remote-v4";
    let standby = "derived-isrlchlhrq-standby-v4";
    assert_eq!(world.slice("lyon", remote), "[tcp-80 -> 8080] [10.244.0.5 ready]");
    assert_eq!(world.slice("lyon", standby), "[tcp-80 -> 10000] [10.244.1.30 not ready]");
    assert_eq!(world.slice("lyon", "web-tokyo-v4"), "[http -> 10000] [10.244.1.30 ready]");

    world.service("lyon", "shop/web", &["http 80->8080"], json!({}));
    world.pods("lyon", "shop/web", &["http 80->8080"], &[("10.244.9.9", true)]);
    world.export("lyon", "shop/web", 9);
    world.settle();
    assert!(!world.names("lyon", "EndpointSlice").contains(&remote.to_owned()));
    assert_eq!(
        world.slice("lyon", "derived-isrlchlhrq-pods-v4"),
        "[tcp-80 -> 8080] [10.244.9.9 ready]"
    );
    world.pods("lyon", "shop/web", &["http 80->8080"], &[("10.244.9.9", false)]);
    world.settle();
    assert_eq!(world.slice("lyon", remote), "[tcp-80 -> 8080] [10.244.0.5 ready]");
    assert_eq!(world.slice("lyon", standby), "[tcp-80 -> 10000] [10.244.1.30 not ready]");
    world.pods("paris", "shop/web", &["http 80->8080"], &[("10.244.0.5", false)]);
    world.settle();
    assert_eq!(world.slice("lyon", standby), "[tcp-80 -> 10000] [10.244.1.30 ready]");
}

/// Design, "Joining, liveness, leaving": "For same-network slices the heartbeat decides (10 s)"; "A silent member's
/// endpoints go, but its export counts in the merge until it leaves."
#[test]
fn a_silent_members_pods_are_withdrawn_and_come_back() {
    let mut world = example();
    silence(&mut world, "lyon", &["paris"]);
    assert_eq!(world.names("lyon", "EndpointSlice"), [""; 0]);
    let import = world.object("lyon", "ServiceImport", "shop/web");
    assert_eq!(import["status"]["clusters"], json!([{"cluster": "paris"}]));
    silence(&mut world, "lyon", &[]);
    assert_eq!(
        world.slice("lyon", "derived-isrlchlhrq-remote-v4"),
        "[tcp-80 -> 8080] [10.244.0.5 ready]"
    );
}

/// Links, not heartbeats, decide about what goes through gateways.
#[test]
fn a_silent_member_of_another_network_keeps_its_slices() {
    let mut world = example();
    silence(&mut world, "berlin", &["paris"]);
    assert!(world.slice("berlin", "web-paris-v4").contains("10.244.3.10 ready"));
}

#[test]
fn headless_pods_of_the_same_network_keep_their_addresses() {
    let mut world = World::example();
    world.join("lyon", "a", &["10.244.1.30"], [10, 96, 4, 4]);
    stateful(&mut world, "paris");
    world.export("paris", "shop/db", 0);
    world.settle();
    assert_eq!(world.names("lyon", "Service"), [""; 0]);
    assert_eq!(world.names("lyon", "EndpointSlice"), ["db-paris-v4", "db-paris-v6"]);
    assert_eq!(
        world.slice("lyon", "db-paris-v4"),
        "[pg -> 6432] [10.244.0.7 ready, 10.244.0.8 not ready]"
    );
    let slice = world.object("lyon", "EndpointSlice", "shop/db-paris-v4");
    assert_eq!(slice["endpoints"][0]["hostname"], "db-0");
    let import = world.object("lyon", "ServiceImport", "shop/db");
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
}

#[test]
fn a_member_that_changes_networks_is_reached_through_gateways() {
    let mut world = example();
    let mut member = world.object("hub", "Member", "paris");
    member["spec"]["network"] = json!("z");
    world.put("hub", member);
    world.settle();
    assert_eq!(
        world.slice("lyon", "derived-isrlchlhrq-gw-v4"),
        "[tcp-80 -> 10000] [10.244.1.30 ready]"
    );
    assert!(
        !world.names("lyon", "EndpointSlice").contains(&"derived-isrlchlhrq-remote-v4".to_owned())
    );
    assert_eq!(world.conditions("lyon", "ServiceImport", "shop/web")[1], "Encrypted=True/Gateways");
}
