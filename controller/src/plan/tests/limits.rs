//! How much is imported: as many Services as there is room for, of the namespaces that are here and selected.

use std::collections::BTreeSet;

use landbridge_api::watch::Change;
use landbridge_model::{Namespace, Timestamp};
use serde_json::json;

use super::{
    super::{Object, Work, Write, plan},
    world::{World, service},
};
use crate::{notes::notes, observed::Event};

const NAMES: [&str; 3] = ["shop/a", "shop/b", "shop/c"];

/// Paris exports three services to a berlin whose controller was told `change`.
fn world(change: impl FnOnce(&mut crate::Config)) -> World {
    let mut world = World::example();
    let berlin = world.clusters.get_mut("berlin").unwrap();
    change(&mut berlin.observed.config);
    // What was seen before was seen by another one's settings.
    world.restart("berlin");
    for name in NAMES {
        world.service("paris", name, &["http 80->8080"], json!({}));
        world.pods("paris", name, &["http 80->8080"], &[("10.244.0.5", true)]);
        world.export("paris", name, 0);
    }
    world
}

/// "At most `--max-derived-services`; beyond it the import is `Ready=False/Pending` with the reason."
#[test]
fn beyond_the_limit_imports_wait_and_say_why() {
    let mut world = world(|config| config.max_derived_services = 2);
    world.settle();
    assert_eq!(world.names("berlin", "Service").len(), 2);
    assert_eq!(world.names("berlin", "ServiceImport"), ["a", "b", "c"]);
    let told = world.conditions("berlin", "ServiceImport", "shop/c");
    assert!(told[0].starts_with("Ready=False/Pending: This cluster has 2 Services"), "{told:?}");
    let import = world.object("berlin", "ServiceImport", "shop/c");
    assert_eq!(import["spec"].get("ips"), None);
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/a"), ["Ready=True/Ready"]);

    // One that goes makes room.
    world.delete("paris", "ServiceExport", "shop/a");
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), ["b", "c"]);
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/c"), ["Ready=True/Ready"]);
    assert_eq!(world.names("berlin", "Service").len(), 2);
}

/// Plans that run at the same time do not share the last room.
#[test]
fn room_is_taken_before_the_service_is_there() {
    let mut world = world(|config| config.max_derived_services = 1);
    for name in NAMES {
        world.run("paris", &Work::Publish(service(name)));
    }
    let berlin = world.clusters.get_mut("berlin").unwrap();
    let makes = |berlin: &super::world::Cluster, name: &str| {
        let work = Work::Import(service(name));
        plan(&berlin.observed, &work, Timestamp::from_millis(0)).makes_service()
    };
    assert!(makes(berlin, "shop/a"));
    assert!(makes(berlin, "shop/b"));
    berlin.observed.making(&service("shop/a"));
    assert!(makes(berlin, "shop/a"));
    assert!(!makes(berlin, "shop/b"));
    berlin.observed.made(&service("shop/a"));
    assert!(makes(berlin, "shop/b"));
}

#[test]
fn an_import_without_an_address_says_so_and_asks_again() {
    let mut world = world(|_| {});
    world.run("paris", &Work::Publish(service("shop/a")));
    let berlin = world.clusters.get_mut("berlin").unwrap();
    let work = Work::Import(service("shop/a"));
    let said = "failed to allocate a serviceIP: range is full".to_owned();
    berlin.observed.exhaust(&service("shop/a"), Some(said));
    let steps = plan(&berlin.observed, &work, Timestamp::from_millis(0)).steps;
    let Some([Write::Create(Object::Service(_))]) = steps.last().map(Vec::as_slice) else {
        panic!("the Service is asked for last: {steps:#?}")
    };
    let status = steps.concat().into_iter().find_map(|write| match write {
        Write::Status { status, .. } => Some(status),
        _ => None,
    });
    let ready = &status.unwrap()["conditions"][0];
    assert_eq!(ready["reason"], "AddressesExhausted");
    assert!(ready["message"].as_str().unwrap().contains("range is full"));
    berlin.observed.exhaust(&service("shop/a"), None);
    world.settle();
    assert_eq!(world.conditions("berlin", "ServiceImport", "shop/a"), ["Ready=True/Ready"]);
}

/// "Of those only what its selector allows (all, by default)."
#[test]
fn only_selected_namespaces_are_imported() {
    let selected = |names: &[&str]| -> Option<BTreeSet<Namespace>> {
        Some(names.iter().map(|name| Namespace::parse(name).unwrap()).collect())
    };
    let mut world = world(|config| config.import_namespaces = selected(&["bank"]));
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), [""; 0]);
    assert_eq!(world.names("berlin", "Service"), [""; 0]);
    let snapshot = world.clusters["berlin"].observed.snapshot();
    assert_eq!(snapshot["imports"]["shop/a"]["withheld"], "NotSelected");
    assert_eq!(world.names("tokyo", "ServiceImport"), ["a", "b", "c"]);

    let berlin = world.clusters.get_mut("berlin").unwrap();
    berlin.observed.config.import_namespaces = selected(&["bank", "shop"]);
    world.restart("berlin");
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), ["a", "b", "c"]);
}

/// "Of those only what its selector allows": by labels, and a namespace whose labels change gains or loses its imports
/// without error.
#[test]
fn a_namespace_whose_labels_change_gains_and_loses_its_imports() {
    let selector = "team in (red, blue), !private";
    let mut world = world(|config| config.import_namespace_selector = selector.parse().unwrap());
    let label = |world: &mut World, labels: serde_json::Value| {
        let metadata = json!({"name": "shop", "labels": labels});
        world.put("berlin", json!({"kind": "Namespace", "metadata": metadata}));
        world.settle();
        world.names("berlin", "ServiceImport").len()
    };
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), [""; 0]);
    assert_eq!(label(&mut world, json!({"team": "red"})), 3);
    assert_eq!(label(&mut world, json!({"team": "blue", "note": "x"})), 3);
    let kept = world.object("berlin", "ServiceImport", "shop/a");

    // What goes is told as what it is.
    let berlin = &world.clusters["berlin"];
    let work = Work::Import(service("shop/a"));
    let mut observed = world.observer("berlin");
    let private = json!({"metadata": {"name": "shop", "labels": {"team": "red", "private": ""}}});
    let private = serde_json::from_value(private).unwrap();
    observed.take(Event::Namespace(Change::Apply(private)));
    let told = notes(&observed, &plan(&observed, &work, Timestamp::from_millis(0)));
    assert!(format!("{told:?}").contains("reason: \"NotSelected\""), "{told:?}");
    assert_eq!(berlin.problems, []);

    assert_eq!(label(&mut world, json!({"team": "red", "private": ""})), 0);
    for kind in ["Service", "EndpointSlice"] {
        assert_eq!(world.names("berlin", kind), [""; 0], "{kind}");
    }
    let snapshot = world.clusters["berlin"].observed.snapshot();
    assert_eq!(snapshot["imports"]["shop/a"]["withheld"], "NotSelected");
    assert_eq!(label(&mut world, json!({"team": "red"})), 3);
    let anew = world.object("berlin", "ServiceImport", "shop/a");
    assert_ne!(anew["metadata"]["uid"], kept["metadata"]["uid"]);
    assert_eq!(world.clusters["berlin"].problems, []);
    assert_eq!(world.names("tokyo", "ServiceImport"), ["a", "b", "c"]);
}

/// "A namespace that appears later gets its imports, one that goes loses them without error."
#[test]
fn namespaces_come_and_go() {
    let mut world = world(|_| {});
    world.delete("berlin", "Namespace", "shop");
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), [""; 0]);
    let namespace = json!({"kind": "Namespace", "metadata": {"name": "shop"}});
    world.put("berlin", namespace.clone());
    world.settle();
    assert_eq!(world.names("berlin", "ServiceImport"), ["a", "b", "c"]);
    assert_eq!(world.names("berlin", "Service").len(), 3);

    let mut going = namespace;
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T10:00:00Z");
    world.put("berlin", going);
    // What goes is not told there: an API server takes no Event in a namespace on its way out.
    let work = Work::Import(service("shop/a"));
    let plan = plan(&world.clusters["berlin"].observed, &work, Timestamp::from_millis(0));
    assert!(!plan.is_empty());
    assert_eq!(notes(&world.clusters["berlin"].observed, &plan), []);
    world.settle();
    for kind in ["ServiceImport", "Service", "EndpointSlice"] {
        assert_eq!(world.names("berlin", kind), [""; 0], "{kind}");
    }
    assert_eq!(world.clusters["berlin"].problems, []);
}
