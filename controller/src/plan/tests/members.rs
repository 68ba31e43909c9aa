//! Peers for the gateways, and what members say of themselves and of those who are silent.

use std::collections::BTreeSet;

use landbridge_model::Timestamp;
use serde_json::json;

use super::{
    super::{Plan, Work, Write, plan},
    world::World,
};

fn member(name: &str, gateways: &[&str]) -> serde_json::Value {
    let gateways: Vec<_> = gateways
        .iter()
        .map(|address| json!({"address": address}))
        .collect();
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
    assert_eq!(
        world.settle(),
        ["berlin: update Peer tokyo", "paris: update Peer tokyo"]
    );
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
    assert!(
        world.clusters["paris"]
            .problems
            .iter()
            .any(|problem| problem.about == "Peer tokyo")
    );
}

fn planned(world: &World, name: &str, work: &Work, millis: i64) -> Plan {
    let now = Timestamp::from_millis(1_767_261_600_000 + millis);
    plan(&world.clusters[name].observed, work, now)
}

#[test]
fn a_heartbeat_is_said_when_it_is_due() {
    let mut world = World::example();
    let first = planned(&world, "paris", &Work::Member, 0);
    let Write::Status { status, .. } = &first.steps[0][0] else {
        panic!()
    };
    assert_eq!(status["heartbeat"], "2026-01-01T10:00:00.000000Z");
    assert_eq!(status["mergeRevision"], 1);
    assert_eq!(status["conditions"][0]["reason"], "Alive");
    let mut said = world.object("hub", "Member", "paris");
    said["status"] = status.clone();
    world.put("hub", said);
    assert!(planned(&world, "paris", &Work::Member, 2_000).is_empty());
    assert!(!planned(&world, "paris", &Work::Member, 2_990).is_empty());
    assert!(
        !planned(&world, "paris", &Work::Member, -60_000).is_empty(),
        "the clock was set back"
    );
    let mut suspended = world.object("hub", "Member", "paris");
    suspended["spec"]["suspended"] = json!(true);
    world.put("hub", suspended);
    let plan = planned(&world, "paris", &Work::Member, 1_000);
    let Write::Status { status, .. } = &plan.steps[0][0] else {
        panic!()
    };
    assert_eq!(status["conditions"][0]["reason"], "Suspended");
}

#[test]
fn one_of_those_who_are_heard_says_who_is_not() {
    let mut world = World::example();
    for cluster in world.clusters.values_mut() {
        cluster
            .observed
            .silence(BTreeSet::new(), BTreeSet::from(["tokyo".to_owned()]));
    }
    let plan = planned(&world, "berlin", &Work::Liveness, 0);
    let [Write::Status { key, status, .. }] = &plan.steps[0][..] else {
        panic!("{plan:?}")
    };
    assert_eq!(key.name, "tokyo");
    assert_eq!(status["conditions"][0]["reason"], "HeartbeatMissed");
    assert!(
        planned(&world, "paris", &Work::Liveness, 0).is_empty(),
        "berlin is the lowest"
    );
    let mut told = world.object("hub", "Member", "tokyo");
    told["status"] = status.clone();
    world.put("hub", told);
    assert!(
        planned(&world, "berlin", &Work::Liveness, 0).is_empty(),
        "it is said once"
    );
    let back = planned(&world, "tokyo", &Work::Member, 0);
    let Write::Status { status, .. } = &back.steps[0][0] else {
        panic!()
    };
    assert_eq!(status["conditions"][0]["status"], "True");
}

/// Design, "Joining, liveness, leaving": "for what goes through gateways, links decide".
#[test]
fn silence_takes_no_endpoint_away() {
    let mut world = World::example();
    world.service("paris", "shop/web", &["http 80->8080"], json!({}));
    world.pods(
        "paris",
        "shop/web",
        &["http 80->8080"],
        &[("10.244.0.5", true)],
    );
    world.export("paris", "shop/web", 0);
    world.settle();
    let berlin = world.clusters.get_mut("berlin").unwrap();
    let touched = berlin
        .observed
        .silence(BTreeSet::new(), BTreeSet::from(["paris".to_owned()]));
    berlin.touch(touched);
    assert_eq!(world.settle(), [""; 0]);
}
