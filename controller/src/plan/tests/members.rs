//! Peers for the gateways, and what members say of themselves and of those who are silent.

use std::collections::BTreeSet;

use landbridge_model::Timestamp;
use serde_json::json;

use super::{
    super::{Plan, Work, Write, plan},
    world::{World, merge},
};

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
        (json!({"heartbeat": beat, "mergeRevision": 0}), "RevisionTooOld", 0),
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
