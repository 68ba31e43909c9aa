//! What a ServiceExport comes to at its source, and what it is told (KEP-1645 "Exporting Services").

use landbridge_api::watch::Change;
use serde_json::json;

use super::world::{World, clock, key, service};
use crate::observed::Refusal;

const PORTS: [&str; 1] = ["http 80->8080"];

/// Paris exports `shop/web`; `change` is merged into its Service.
fn exported(change: serde_json::Value) -> World {
    let mut world = World::example();
    world.service("paris", "shop/web", &PORTS, change);
    world.export("paris", "shop/web", 0);
    world.settle();
    world
}

fn told(world: &mut World) -> Vec<String> {
    world.conditions("paris", "ServiceExport", "shop/web")
}

/// KEP-1645: "ServiceExport … Valid=False/NoService".
#[test]
fn an_export_needs_a_service() {
    let mut world = World::example();
    world.export("paris", "shop/web", 0);
    world.settle();
    let conditions = told(&mut world);
    assert!(
        conditions[0].starts_with("Valid=False/NoService: There is no Service shop/web"),
        "{conditions:?}"
    );
    world.service("paris", "shop/web", &PORTS, json!({}));
    world.settle();
    let good = ["Valid=True/Valid", "Ready=True/Exported", "Conflict=False/NoConflicts"];
    assert_eq!(told(&mut world), good);
    world.delete("paris", "Service", "shop/web");
    world.settle();
    assert!(told(&mut world)[0].starts_with("Valid=False/NoService"));
    assert_eq!(world.names("hub", "ClusterExport"), [""; 0]);
    assert_eq!(world.names("berlin", "ServiceImport"), [""; 0]);
}

/// KEP-1645: "ExternalName -> Valid=False/InvalidServiceType, no import".
#[test]
fn a_mere_name_cannot_be_exported() {
    let mut world =
        exported(json!({"spec": {"type": "ExternalName", "externalName": "example.com"}}));
    assert!(told(&mut world)[0].starts_with("Valid=False/InvalidServiceType"));
    assert_eq!(world.names("berlin", "ServiceImport"), [""; 0]);
}

#[test]
fn labels_that_importers_cannot_take_are_left_out_and_told() {
    let mut world = World::example();
    world.service("paris", "shop/web", &PORTS, json!({}));
    world.put(
        "paris",
        json!({
            "kind": "ServiceExport",
            "metadata": {"namespace": "shop", "name": "web", "creationTimestamp": clock(0)},
            "spec": {
                "exportedLabels": {"team": "red", "kubernetes.io/x": "y", "bad": "not a value"},
                "exportedAnnotations": {"note": "hello", "huge": "x".repeat(1 << 20)},
            },
        }),
    );
    world.settle();
    let conditions = told(&mut world);
    let degraded = conditions.last().unwrap();
    assert!(
        degraded.starts_with(
            "Degraded=True/ReservedKeysDropped,InvalidLabelsDropped,AnnotationsTooLarge: "
        ),
        "{degraded}"
    );
    assert!(
        degraded.contains("kubernetes.io/x") && degraded.contains("1048589 bytes"),
        "{degraded}"
    );
    assert!(degraded.len() < 1_000);
    let import = world.object("berlin", "ServiceImport", "shop/web");
    assert_eq!(
        import["metadata"]["labels"],
        json!({"team": "red", "app.kubernetes.io/managed-by": "landbridge.dev"})
    );
    assert_eq!(import["metadata"]["annotations"].as_object().unwrap().len(), 1);
    // Put right, it is told so.
    world.export("paris", "shop/web", 0);
    world.settle();
    assert_eq!(told(&mut world).last().unwrap(), "Degraded=False/NothingLeftOut");
}

/// Design, "Import": "A portless export, or SCTP across networks, gets a condition and no gateway endpoint."
#[test]
fn what_gateways_cannot_carry_is_told() {
    let mut world = World::example();
    world.service("paris", "shop/web", &["http 80->8080", "sig 80->8080/SCTP"], json!({}));
    world.export("paris", "shop/web", 0);
    world.settle();
    let conditions = told(&mut world);
    assert!(
        conditions[3].starts_with("Degraded=True/PortNotCarried: Port \"sig 80/SCTP\""),
        "{conditions:?}"
    );
    let slice = world.slice("berlin", "web-paris-v4");
    assert!(slice.starts_with("[http -> 10000] "), "{slice}");

    let mut portless = exported(json!({"spec": {"ports": []}}));
    assert!(told(&mut portless)[3].contains("has no port"));
    assert_eq!(portless.names("berlin", "EndpointSlice"), [""; 0]);
    assert_eq!(portless.names("berlin", "ServiceImport"), ["web"]);
}

/// Design, "Export": "A member exports only namespaces that its `Member.spec` allows (all, by default); importers
/// check it again."
#[test]
fn a_member_exports_what_it_may() {
    let mut world = exported(json!({}));
    let member = |spec| json!({"kind": "Member", "metadata": {"name": "paris"}, "spec": spec});
    world.put("hub", member(json!({"generation": 1, "network": "a", "namespaces": ["bank"]})));
    world.settle();
    assert!(told(&mut world)[1].starts_with("Ready=False/NamespaceNotAllowed"));
    assert_eq!(world.names("hub", "ClusterExport"), [""; 0]);
    // A source that does not check is checked by the importers.
    let mut berlin = exported(json!({}));
    let paris = berlin.clusters.remove("paris").unwrap();
    berlin.put("hub", member(json!({"generation": 1, "network": "a", "suspended": true})));
    berlin.settle();
    assert_eq!(berlin.names("hub", "ClusterExport"), ["shop.web"]);
    assert_eq!(berlin.names("berlin", "ServiceImport"), [""; 0]);
    drop(paris);

    world.put("hub", member(json!({"generation": 1, "network": "a", "suspended": true})));
    world.settle();
    assert!(told(&mut world)[1].starts_with("Ready=False/Pending: Member \"paris\" is suspended"));
    world.delete("hub", "Member", "paris");
    world.settle();
    assert!(told(&mut world)[1].contains("is no member of the set"));
    world.put("hub", member(json!({"generation": 1, "network": "a"})));
    world.settle();
    assert_eq!(told(&mut world)[1], "Ready=True/Exported");
}

#[test]
fn an_export_that_the_hub_does_not_have_is_pending_or_failed() {
    let mut world = World::example();
    world.tell("hub", "ClusterExport", &Change::Interrupted("connection refused".into()));
    world.service("paris", "shop/web", &PORTS, json!({}));
    world.export("paris", "shop/web", 0);
    let paris = world.clusters.get_mut("paris").unwrap();
    let mut told = |refusal: Option<Refusal>| {
        let key = service("shop/web");
        paris.observed.refuse(&key, refusal);
        let plan = super::super::plan(
            &paris.observed,
            &super::super::Work::Tell(key),
            landbridge_model::Timestamp::from_millis(0),
        );
        let super::super::Write::Status { status, .. } = &plan.steps[0][0] else { panic!() };
        let ready = &status["conditions"][1];
        format!("{}: {}", ready["reason"].as_str().unwrap(), ready["message"].as_str().unwrap())
    };
    assert_eq!(told(None), "Pending: The hub cannot be reached: connection refused");
    let refusal = |refused| Some(Refusal { refused, message: "The hub: quota".into() });
    assert_eq!(told(refusal(false)), "Pending: The hub: quota");
    assert_eq!(told(refusal(true)), "Failed: The hub: quota");
}

#[test]
fn a_malformed_export_hurts_no_other_and_is_told_once() {
    let mut world = exported(json!({}));
    world.service("paris", "shop/bad", &PORTS, json!({}));
    world.put(
        "paris",
        json!({
            "kind": "ServiceExport", "metadata": {"namespace": "shop", "name": "bad"},
            "spec": {"exportedLabels": ["not", "a", "map"]},
        }),
    );
    let writes = world.settle();
    assert_eq!(writes, ["paris: status ServiceExport shop/bad"]);
    let conditions = world.conditions("paris", "ServiceExport", "shop/bad");
    assert!(
        conditions[0].starts_with("Valid=False/Malformed: The object cannot be read: "),
        "{conditions:?}"
    );
    let problems = &world.clusters["paris"].problems;
    assert!(problems.iter().any(|problem| problem.about == "ServiceExport shop/bad"));
    assert_eq!(world.names("berlin", "ServiceImport"), ["web"]);

    // What was known of one that turns malformed stands.
    world.put(
        "paris",
        json!({
            "kind": "ServiceExport", "metadata": {"namespace": "shop", "name": "web"}, "spec": 7,
        }),
    );
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), ["web"]);
    assert_eq!(world.names("hub", "ClusterExport"), ["shop.web"]);
    world.delete("paris", "ServiceExport", "shop/web");
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), [""; 0]);
}

#[test]
fn what_somebody_has_spoilt_on_the_hub_is_made_anew() {
    let mut world = exported(json!({}));
    world.put(
        "hub",
        json!({
            "kind": "ClusterExport", "metadata": {"namespace": "cluster-paris", "name": "shop.web"},
            "spec": {"service": {"namespace": "shop", "name": "other"}, "type": "ClusterSetIP"},
        }),
    );
    world.settle();
    let object = world.object("hub", "ClusterExport", "cluster-paris/shop.web");
    assert_eq!(object["spec"]["service"]["name"], "web");
    assert_eq!(world.names("berlin", "ServiceImport"), ["web"]);
}

/// Design, "Joining, liveness, leaving": "A hub that cannot be read means unknown, never expired."
#[test]
fn a_hub_that_cannot_be_read_withdraws_nothing() {
    let mut world = exported(json!({}));
    for kind in ["ClusterExport", "Member"] {
        world.tell("hub", kind, &Change::Interrupted("gone".into()));
    }
    assert_eq!(world.settle(), [""; 0]);
    world.restart("berlin");
    assert_eq!(world.settle(), [""; 0]);
    assert!(world.clusters["berlin"].api.objects.contains_key(&("ServiceImport", key("shop/web"))));
}

/// A cluster whose clock runs an hour ahead makes no export younger than it is: "its time is the earlier of the
/// ServiceExport's creation and the hub object's".
#[test]
fn a_clock_that_runs_an_hour_ahead_loses_no_conflict() {
    let mut world = World::example();
    world.service("paris", "shop/web", &["http 80->8080"], json!({}));
    world.export("paris", "shop/web", 3_600);
    world.settle();
    world.seconds += 60;
    world.service("tokyo", "shop/web", &["http 81->8080"], json!({}));
    world.export("tokyo", "shop/web", 120);
    world.settle();
    let import = world.object("berlin", "ServiceImport", "shop/web");
    assert_eq!(import["spec"]["ports"], json!([{"name": "http", "protocol": "TCP", "port": 80}]));
    let conflict = told(&mut world).remove(2);
    assert!(conflict.contains("from oldest service export in \"paris\""), "{conflict}");
}
