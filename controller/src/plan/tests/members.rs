//! Peers for the gateways, and what members say of themselves and of those who are silent.

use std::collections::BTreeSet;

use landbridge_api::watch::Change;
use landbridge_model::Timestamp;
use serde_json::json;

use super::{
    super::{Object, Plan, Work, Write, plan},
    world::{World, merge},
};
use crate::observed::{Event, Observed};

fn member(name: &str, gateways: &[&str]) -> serde_json::Value {
    let gateways: Vec<_> = gateways.iter().map(|address| json!({"address": address})).collect();
    json!({
        "kind": "Member", "metadata": {"name": name},
        "spec": {"generation": 2, "network": "n"},
        "status": {"gateways": gateways},
    })
}

#[test]
fn every_other_member_is_a_peer() {
    let mut world = World::example();
    assert_eq!(world.names("paris", "Peer"), ["berlin", "tokyo"]);
    world.put("hub", member("tokyo", &["192.0.2.20:4433"]));
    assert_eq!(world.settle(), ["berlin: update Peer tokyo", "paris: update Peer tokyo"]);
    let peer = world.object("paris", "Peer", "tokyo");
    assert_eq!(
        peer["spec"],
        json!({"generation": 2, "network": "n", "gateways": [{"address": "192.0.2.20:4433"}]})
    );
    world.delete("hub", "Member", "tokyo");
    world.settle();
    assert_eq!(world.names("paris", "Peer"), ["berlin"]);
}

/// Somebody may have said where the hub has gone: what was read before it went is no reason to take that back.
#[test]
fn while_the_hub_is_away_a_peer_stays_as_somebody_has_put_it() {
    let mut world = World::example();
    world.put("hub", member("tokyo", &["192.0.2.20:4433"]));
    let mut observed = world.observer("paris");
    let written = |observed: &Observed| {
        let steps = plan(observed, &Work::Peers, Timestamp::from_millis(0)).steps.concat();
        steps.iter().filter(|write| matches!(write, Write::Update(Object::Peer(_)))).count()
    };
    assert_eq!(written(&observed), 1);
    observed.take(Event::Member(Change::Interrupted("refused".to_owned())));
    assert_eq!(written(&observed), 0);
    observed.take(Event::Member(Change::Resumed));
    assert_eq!(written(&observed), 1);
}

#[test]
fn a_member_that_cannot_be_read_stays_the_peer_that_it_was() {
    let mut world = World::example();
    world.put("hub", member("tokyo", &["nowhere"]));
    assert_eq!(world.settle(), [""; 0]);
    world.restart("paris");
    assert_eq!(world.settle(), [""; 0]);
    assert_eq!(world.names("paris", "Peer"), ["berlin", "tokyo"]);
}

#[test]
fn a_peer_of_somebody_else_is_left_alone() {
    let mut world = World::empty();
    world.put_before_joining("paris");
    world.settle();
    let peer = world.object("paris", "Peer", "tokyo");
    assert_eq!(peer["spec"]["network"], "by-hand");
    assert!(world.clusters["paris"].problems.iter().any(|problem| problem.about == "Peer tokyo"));
}

fn planned(world: &World, name: &str, work: &Work, millis: i64) -> Plan {
    let now = Timestamp::from_millis(1_767_261_600_000 + millis);
    plan(&world.clusters[name].observed, work, now)
}

#[test]
fn a_heartbeat_is_said_when_it_is_due() {
    let mut world = World::example();
    let first = planned(&world, "paris", &Work::Member, 0);
    let Write::Status { status, .. } = &first.steps[0][0] else { panic!() };
    assert_eq!(status["heartbeat"], "2026-01-01T10:00:00.000000Z");
    assert_eq!(status["mergeRevision"], 1);
    assert_eq!(status["conditions"][0]["reason"], "Alive");
    let mut said = world.object("hub", "Member", "paris");
    said["status"] = status.clone();
    world.put("hub", said);
    assert!(planned(&world, "paris", &Work::Member, 2_000).is_empty());
    assert!(!planned(&world, "paris", &Work::Member, 2_990).is_empty());
    assert!(!planned(&world, "paris", &Work::Member, -60_000).is_empty(), "the clock was set back");
    let mut suspended = world.object("hub", "Member", "paris");
    suspended["spec"]["suspended"] = json!(true);
    world.put("hub", suspended);
    let plan = planned(&world, "paris", &Work::Member, 1_000);
    let Write::Status { status, .. } = &plan.steps[0][0] else { panic!() };
    assert_eq!(status["conditions"][0]["reason"], "Suspended");
}

/// That a member is drained is told where people look for it, and that it is not any more.
#[test]
fn a_member_says_of_itself_that_it_is_drained() {
    let mut world = World::example();
    for (drained, told) in [(false, None), (true, Some("Drained")), (false, Some("Serving"))] {
        let mut member = world.object("hub", "Member", "paris");
        member["spec"]["drained"] = json!(drained);
        world.put("hub", member);
        let plan = planned(&world, "paris", &Work::Member, 0);
        let Write::Status { status, .. } = &plan.steps[0][0] else { panic!() };
        let conditions = status["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|one| one["type"] == "Drained");
        assert_eq!(found.map(|one| one["reason"].as_str().unwrap()), told);
        let mut said = world.object("hub", "Member", "paris");
        said["status"] = status.clone();
        // So that it is time to say it again.
        said["status"]["heartbeat"] = json!("2026-01-01T09:00:00.000000Z");
        world.put("hub", said);
    }
}

/// Design, "Joining, liveness, leaving": a member writes "its own `Member` status", and no other one's.
#[test]
fn nobody_writes_the_status_of_a_member_that_is_silent() {
    let mut world = World::example();
    for cluster in world.clusters.values_mut() {
        let touched =
            cluster.observed.silence(BTreeSet::new(), BTreeSet::from(["tokyo".to_owned()]));
        cluster.touch(touched);
    }
    assert_eq!(world.settle(), [""; 0]);
    for name in ["berlin", "paris"] {
        for write in planned(&world, name, &Work::Member, 0).steps.concat() {
            let Write::Status { key, .. } = write else { panic!("{write:?}") };
            assert_eq!(key.name, name);
        }
        let snapshot = world.clusters[name].observed.snapshot();
        assert_eq!(snapshot["silentMembers"], json!(["tokyo"]));
    }
}

/// What a Member is told, and by which rules the set then merges.
fn compatible(world: &mut World, status: &serde_json::Value) -> (String, u32) {
    let mut tokyo = world.object("hub", "Member", "tokyo");
    tokyo["status"] = status.clone();
    world.put("hub", tokyo);
    let plan = planned(world, "paris", &Work::Member, 0);
    let Write::Status { status, .. } = &plan.steps[0][0] else { panic!("{plan:?}") };
    let told = status["conditions"][1]["reason"].as_str().unwrap();
    let revision = world.clusters["paris"].observed.merge_revision();
    (told.to_owned(), revision)
}

/// Design, "The picture": the merge's "revision is published per member, and the set uses the lowest one".
#[test]
fn the_lowest_merge_revision_is_used_and_one_that_nobody_knows_is_told() {
    let mut world = World::example();
    let beat = "2026-01-01T10:00:00.000000Z";
    for (status, told, used) in [
        (json!({}), "Compatible", 1),
        (json!({"heartbeat": beat, "mergeRevision": 1}), "Compatible", 1),
        (json!({"heartbeat": beat, "mergeRevision": 7}), "Compatible", 1),
        (json!({"heartbeat": beat, "mergeRevision": 0}), "RevisionTooOld", 1),
        (json!({"heartbeat": beat}), "RevisionTooOld", 1),
    ] {
        assert_eq!(compatible(&mut world, &status), (told.to_owned(), used), "{status}");
    }
}

/// A member whose clock runs an hour ahead says a heartbeat of the future; others see that it changes, and that is
/// all that they read of it.
#[test]
fn a_heartbeat_from_the_future_is_a_heartbeat() {
    let mut world = World::example();
    let mut tokyo = world.object("hub", "Member", "tokyo");
    tokyo["status"] = json!({"heartbeat": "2026-01-01T11:00:00.000000Z", "mergeRevision": 1});
    world.put("hub", tokyo);
    assert_eq!(world.settle(), [""; 0]);
    assert_eq!(world.names("paris", "Peer"), ["berlin", "tokyo"]);
}

/// An id that no member can have: the object that bears it is told, and is nobody's peer.
#[test]
fn a_member_whose_id_is_too_long_is_nobody() {
    let mut world = World::example();
    let long = "x".repeat(56);
    world.put("hub", member(&long, &["192.0.2.20:4433"]));
    world.put("hub", member("rome", &["192.0.2.21:4433"]));
    world.settle();
    assert_eq!(world.names("paris", "Peer"), ["berlin", "rome", "tokyo"]);
    let problems = &world.clusters["paris"].problems;
    let about = format!("Member {long}");
    let told = problems.iter().find(|problem| problem.about == about).unwrap();
    assert!(told.sentence.contains("at most 55"), "{}", told.sentence);
}

/// Two clusters that were given one id, by mistake: the one that came second stands back and says so, until the
/// first one has been silent.
#[test]
fn of_two_clusters_with_one_id_the_second_is_told() {
    let mut world = World::example();
    world.service("paris", "shop/web", &["http 80->8080"], json!({}));
    world.export("paris", "shop/web", 0);
    world.settle();
    world.put("paris", json!({"kind": "Namespace", "metadata": {"name": "kube-system"}}));
    let mut member = world.object("hub", "Member", "paris");
    merge(
        &mut member,
        &json!({"status": {"clusterUid": "another", "heartbeat": "2026-01-01T10:00:00.000000Z"}}),
    );
    world.put("hub", member);
    assert_eq!(world.settle(), ["paris: status ServiceExport shop/web"], "nothing else is touched");
    let told = world.conditions("paris", "ServiceExport", "shop/web");
    assert!(told[1].starts_with("Ready=False/DuplicateClusterId: Another cluster"), "{told:?}");
    let plan = planned(&world, "paris", &Work::Member, 0);
    assert!(plan.is_empty(), "the other one's status is left alone");
    assert!(plan.problems[0].sentence.contains("uid another"));

    let paris = world.clusters.get_mut("paris").unwrap();
    let touched = paris.observed.silence(BTreeSet::new(), BTreeSet::from(["paris".to_owned()]));
    paris.touch(touched);
    world.settle();
    let told = world.conditions("paris", "ServiceExport", "shop/web");
    assert_eq!(told[1], "Ready=True/Exported");
    let plan = planned(&world, "paris", &Work::Member, 0);
    let Write::Status { status, .. } = &plan.steps[0][0] else { panic!("{plan:?}") };
    assert_ne!(status["clusterUid"], "another", "it is this one's id now");
}

/// Everything in namespace `shop` of a cluster that does not speak of `but`, without what changes with each write.
fn shop(world: &World, at: &str, but: &str) -> Vec<String> {
    let objects = world.clusters[at].api.objects.iter();
    let here = objects.filter(|((_, key), _)| key.namespace == "shop");
    let here = here.map(|(_, object)| object.to_string());
    here.filter(|object| !object.contains(but)).collect()
}

/// Paris and tokyo export one service, and each one of its own.
fn three_services() -> World {
    let mut world = World::example();
    for (cluster, name) in [
        ("paris", "shop/both"),
        ("tokyo", "shop/both"),
        ("paris", "shop/lent"),
        ("tokyo", "shop/zoo"),
    ] {
        world.service(cluster, name, &["http 80->8080"], json!({}));
        world.pods(cluster, name, &["http 80->8080"], &[("10.244.0.5", true)]);
        world.export(cluster, name, 0);
    }
    world.settle();
    world
}

/// Design, "Joining, liveness, leaving": "all that the member gave goes, and nothing else […] A member that returns is
/// restored from its own state."
#[test]
fn what_a_member_gave_goes_with_it_and_nothing_else_and_comes_again() {
    let mut world = three_services();
    let before: Vec<(String, String)> = world.clusters["berlin"]
        .api
        .objects
        .iter()
        .filter(|((_, key), _)| key.namespace == "shop")
        .map(|((kind, key), _)| ((*kind).to_owned(), key.to_string()))
        .collect();
    let own = |world: &World| {
        let all = shop(world, "berlin", "paris");
        all.into_iter().filter(|object| object.contains("zoo")).collect::<Vec<_>>()
    };
    let (untouched, address) =
        (own(&world), world.object("berlin", "ServiceImport", "shop/both")["spec"]["ips"].clone());
    assert!(untouched.len() >= 4, "{untouched:#?}");

    world.delete("hub", "Member", "paris");
    let written = world.settle();
    assert!(!written.iter().any(|write| write.contains("zoo")), "{written:#?}");
    for at in ["berlin", "tokyo"] {
        let left = shop(&world, at, "nothing is called so");
        assert!(!left.iter().any(|object| object.contains("paris")), "{at}: {left:#?}");
        assert_eq!(world.names(at, "ServiceImport"), ["both", "zoo"]);
        assert!(!world.names(at, "Peer").contains(&"paris".to_owned()));
        let both = world.object(at, "ServiceImport", "shop/both");
        assert_eq!(both["status"]["clusters"], json!([{"cluster": "tokyo"}]));
    }
    assert_eq!(own(&world), untouched);
    assert_eq!(world.object("berlin", "ServiceImport", "shop/both")["spec"]["ips"], address);
    // Paris sees it too, takes its exports back, and says why; its own Services are its own.
    assert_eq!(world.names("hub", "ClusterExport"), ["shop.both", "shop.zoo"]);
    let told = world.conditions("paris", "ServiceExport", "shop/lent");
    assert!(told[1].contains("is no member of the set"), "{told:?}");

    world.put(
        "hub",
        json!({"kind": "Member", "metadata": {"name": "paris"},
            "spec": {"generation": 2, "network": "a"}}),
    );
    world.settle();
    let after: Vec<(String, String)> = world.clusters["berlin"]
        .api
        .objects
        .iter()
        .filter(|((_, key), _)| key.namespace == "shop")
        .map(|((kind, key), _)| ((*kind).to_owned(), key.to_string()))
        .collect();
    assert_eq!(after, before);
    assert_eq!(world.object("berlin", "ServiceImport", "shop/both")["spec"]["ips"], address);
    assert_eq!(own(&world), untouched);
    assert_eq!(world.object("berlin", "Peer", "paris")["spec"]["generation"], 2);
}

/// Design, "Joining, liveness, leaving": "for what goes through gateways, links decide".
#[test]
fn silence_takes_no_endpoint_away() {
    let mut world = World::example();
    world.service("paris", "shop/web", &["http 80->8080"], json!({}));
    world.pods("paris", "shop/web", &["http 80->8080"], &[("10.244.0.5", true)]);
    world.export("paris", "shop/web", 0);
    world.settle();
    let berlin = world.clusters.get_mut("berlin").unwrap();
    let touched = berlin.observed.silence(BTreeSet::new(), BTreeSet::from(["paris".to_owned()]));
    berlin.touch(touched);
    assert_eq!(world.settle(), [""; 0]);
}

/// What one more plan for tools writes in berlin.
fn inventory(world: &mut World) -> Vec<String> {
    let before = world.log.len();
    world.run("berlin", &Work::Inventory);
    world.log[before..].to_vec()
}

/// Design, "Objects": "ClusterProfile (inventory, one per member, for tools)"; KEP-4322: "The value of the label MUST be
/// the same as the name of the cluster manager."
#[test]
fn tools_are_told_of_every_member() {
    let mut world = World::example();
    let mut tokyo = world.object("hub", "Member", "tokyo");
    tokyo["status"] = json!({"heartbeat": "2026-01-01T10:00:00.000000Z", "region": "asia",
        "version": "0.1.0", "kubernetesVersion": "v1.34.2"});
    world.put("hub", tokyo);
    inventory(&mut world);
    assert_eq!(inventory(&mut world), [""; 0], "what is true is not written again");
    // Gateways are told of the region as well: near clusters are called first.
    assert_eq!(world.settle(), ["berlin: update Peer tokyo", "paris: update Peer tokyo"]);
    assert_eq!(world.object("berlin", "Peer", "tokyo")["spec"]["region"], "asia");
    let profile = world.object("berlin", "ClusterProfile", "landbridge-system/tokyo");
    assert_eq!(
        profile["spec"],
        json!({"displayName": "tokyo", "clusterManager": {"name": "landbridge.dev"}})
    );
    assert_eq!(profile["metadata"]["labels"]["x-k8s.io/cluster-manager"], "landbridge.dev");
    assert_eq!(profile["metadata"]["labels"]["multicluster.x-k8s.io/clusterset"], "demo");
    assert_eq!(profile["status"]["version"], json!({"kubernetes": "v1.34.2"}));
    assert_eq!(
        profile["status"]["properties"],
        json!([
            {"name": "cluster.clusterset.k8s.io", "value": "tokyo"},
            {"name": "clusterset.k8s.io", "value": "demo"},
            {"name": "network.landbridge.dev", "value": "b"},
            {"name": "region.landbridge.dev", "value": "asia"},
            {"name": "version.landbridge.dev", "value": "0.1.0"},
        ])
    );
    assert_eq!(profile["status"]["conditions"][0]["observedGeneration"], 1);
    let healthy = |world: &mut World, name: &str| {
        let key = format!("landbridge-system/{name}");
        world.conditions("berlin", "ClusterProfile", &key).remove(0)
    };
    assert_eq!(healthy(&mut world, "tokyo"), "ControlPlaneHealthy=True/Alive");
    assert!(healthy(&mut world, "paris").starts_with("ControlPlaneHealthy=Unknown/NotHeardYet"));

    // What people and other programs add stays: a name, a property.
    let mut edited = profile;
    edited["spec"]["displayName"] = json!("Tokyo");
    let mine = json!({"name": "location", "value": "apac"});
    edited["status"]["properties"].as_array_mut().unwrap().insert(0, mine.clone());
    world.put("berlin", edited);
    inventory(&mut world);
    let edited = world.object("berlin", "ClusterProfile", "landbridge-system/tokyo");
    assert_eq!(edited["spec"]["displayName"], "Tokyo");
    assert_eq!(edited["status"]["properties"][0], mine);
    assert_eq!(inventory(&mut world), [""; 0]);
}

/// KEP-1645: "These leases should be periodically renewed by the mcs-controller while the connection with the source
/// cluster is confirmed alive."
#[test]
fn the_lease_of_a_member_is_renewed_while_it_is_heard() {
    let mut world = World::example();
    inventory(&mut world);
    let lease = |world: &mut World, name: &str| {
        world.object("berlin", "Lease", &format!("landbridge-system/landbridge-member-{name}"))
    };
    let first = lease(&mut world, "tokyo");
    assert_eq!(
        first["spec"],
        json!({"holderIdentity": "tokyo", "leaseDurationSeconds": 40,
            "renewTime": "2026-01-01T10:01:00.000000Z"})
    );
    let labels = &first["metadata"]["labels"];
    assert_eq!(labels["multicluster.kubernetes.io/source-cluster"], "tokyo");
    world.seconds += 8;
    assert_eq!(inventory(&mut world), [""; 0]);
    world.seconds += 2;
    let renewed = |name| format!("berlin: update Lease landbridge-system/landbridge-member-{name}");
    assert_eq!(inventory(&mut world), ["berlin", "paris", "tokyo"].map(renewed));
    assert_eq!(lease(&mut world, "tokyo")["spec"]["renewTime"], "2026-01-01T10:01:10.000000Z");

    // Tokyo falls silent, and the observer itself, which needs no word of its own, stays.
    let silence = |world: &mut World, names: &[&str]| {
        let names = names.iter().map(ToString::to_string).collect();
        let berlin = world.clusters.get_mut("berlin").unwrap();
        let touched = berlin.observed.silence(BTreeSet::new(), names);
        assert!(touched.members);
        world.seconds += 10;
        inventory(world)
    };
    let written = silence(&mut world, &["berlin", "tokyo"]);
    let told = "berlin: status ClusterProfile landbridge-system/tokyo".to_owned();
    assert_eq!(written, [renewed("berlin"), renewed("paris"), told.clone()]);
    let health = world.conditions("berlin", "ClusterProfile", "landbridge-system/tokyo");
    assert!(health[0].starts_with("ControlPlaneHealthy=Unknown/HeartbeatMissed"), "{health:?}");
    let written = silence(&mut world, &[]);
    assert_eq!(written, [renewed("berlin"), renewed("paris"), renewed("tokyo"), told]);

    // Design: "A hub that cannot be read means unknown, never expired", also for a controller that has just started.
    world.seconds += 10;
    let mut observed = world.observer("berlin");
    let mut blind = world.observer_without_hub("berlin");
    for observed in [&mut observed, &mut blind] {
        let trouble = Change::Interrupted("refused".to_owned());
        observed.take(Event::Member(trouble));
        let now = Timestamp::from_millis((1_767_261_600 + world.seconds) * 1000);
        let writes = plan(observed, &Work::Inventory, now).steps.concat();
        let renewed = |write: &Write| matches!(write, Write::Update(Object::Lease(_)));
        assert_eq!(writes.iter().filter(|write| renewed(write)).count(), 3, "{writes:?}");
        assert_eq!(writes.len(), 3, "nothing is made or taken away: {writes:?}");
    }
}

#[test]
fn what_tools_are_told_of_a_member_goes_with_it_and_what_is_of_others_stays() {
    let mut world = World::example();
    let foreign = [
        json!({"kind": "ClusterProfile", "metadata": {"namespace": "landbridge-system", "name": "oslo"},
            "spec": {"clusterManager": {"name": "another"}}}),
        json!({"kind": "ClusterProfile", "metadata": {"namespace": "fleet", "name": "tokyo",
            "labels": {"app.kubernetes.io/managed-by": "landbridge.dev"}},
            "spec": {"clusterManager": {"name": "another"}}}),
        json!({"kind": "ClusterProfile", "metadata": {"namespace": "landbridge-system", "name": "paris"},
            "spec": {"clusterManager": {"name": "another"}}}),
        json!({"kind": "Lease", "metadata": {"namespace": "landbridge-system", "name": "theirs",
            "labels": {"multicluster.kubernetes.io/source-cluster": "tokyo"}}}),
    ];
    for object in &foreign {
        world.put("berlin", object.clone());
    }
    inventory(&mut world);
    let problems = &world.clusters["berlin"].problems;
    let about = "ClusterProfile landbridge-system/paris";
    assert!(problems.iter().any(|problem| problem.about == about), "{problems:?}");
    world.delete("hub", "Member", "tokyo");
    assert_eq!(
        inventory(&mut world),
        [
            "berlin: delete Lease landbridge-system/landbridge-member-tokyo",
            "berlin: delete ClusterProfile landbridge-system/tokyo",
        ]
    );
    for object in foreign {
        let text = |part: &str| object["metadata"][part].as_str().unwrap().to_owned();
        let key = format!("{}/{}", text("namespace"), text("name"));
        let stands = world.object("berlin", object["kind"].as_str().unwrap(), &key);
        assert_eq!(
            stands["metadata"]["uid"].as_str().map(|uid| uid.starts_with("uid-")),
            Some(true)
        );
    }

    // One that cannot be read is still a member.
    world.put("hub", member("paris", &["nowhere"]));
    assert_eq!(inventory(&mut world), [""; 0]);
}
