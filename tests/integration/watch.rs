//! `landbridge_api::watch` against a real watch: malformed objects, pages, 410, and an API that goes and returns.

use std::{collections::BTreeSet, pin::Pin, time::Instant};

use futures::Stream;
use kube::Api;
use landbridge_api::{
    mcs::v1beta1::ServiceImport,
    watch::{Change, Malformed, ObjectKey, WatchConfig, watch},
};
use serde_json::{Value, json};

use crate::support::{Running, next, start};

type Changes = Pin<Box<dyn Stream<Item = Change<ServiceImport>> + Send>>;

const IMPORT: (&str, &str) = ("multicluster.x-k8s.io/v1beta1", "ServiceImport");

fn changes(running: &Running, config: WatchConfig) -> Changes {
    Box::pin(watch(Api::all(running.client.clone()), config))
}

fn import(name: &str) -> Value {
    json!({
        "apiVersion": IMPORT.0, "kind": IMPORT.1,
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "ClusterSetIP", "ports": [{"protocol": "TCP", "port": 80}]},
    })
}

/// What no schema would let in, as an older CRD may have.
fn unreadable(name: &str) -> Value {
    let mut object = import(name);
    object["spec"]["ports"] = json!("eighty");
    object
}

fn delete(running: &Running, name: &str) {
    let store = running.cluster.store();
    store.delete(IMPORT, ("default", name)).unwrap();
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "default".into(), name: name.into() }
}

fn names(objects: &[ServiceImport]) -> BTreeSet<&str> {
    objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect()
}

/// A whole listing, and how often the API could not be read before it was complete.
async fn listing(changes: &mut Changes) -> (Vec<ServiceImport>, Vec<Malformed>, usize) {
    let (mut objects, mut unreadable, mut interrupted) = (Vec::new(), Vec::new(), 0);
    let mut has_begun = false;
    loop {
        match next(changes).await {
            Change::Interrupted(_) => interrupted += 1,
            Change::Listing => {
                has_begun = true;
                objects.clear();
                unreadable.clear();
            }
            Change::Apply(object) if has_begun => objects.push(object),
            Change::Malformed(malformed) if has_begun => unreadable.push(malformed),
            Change::Listed if has_begun => return (objects, unreadable, interrupted),
            other => panic!("{other:?} in place of a listing"),
        }
    }
}

/// Waits until the API is told to be back, and says how it was told that it is away.
async fn resumed(changes: &mut Changes) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        match next(changes).await {
            Change::Interrupted(why) => said.push(why),
            Change::Resumed => return said,
            other => panic!("{other:?} while the API is away"),
        }
    }
}

/// What a change is about.
fn about(change: &Change<ServiceImport>) -> String {
    match change {
        Change::Apply(object) => format!("apply {}", ObjectKey::of(&object.metadata)),
        Change::Delete(key) => format!("delete {key}"),
        other => format!("{other:?}"),
    }
}

/// "One bad object hurts only itself: it becomes a condition or a problem, never an `Err` that stops a watch."
#[tokio::test]
async fn a_malformed_object_hurts_only_itself() {
    let [paris] = &start(["paris"]).await;
    let store = paris.cluster.store();
    store.create(import("good")).unwrap();
    store.insert_unchecked(unreadable("bad")).unwrap();
    let mut changes = changes(paris, WatchConfig::default());

    let (objects, malformed, interrupted) = listing(&mut changes).await;
    assert_eq!(names(&objects), ["good"].into());
    assert_eq!(malformed.len(), 1);
    assert_eq!(malformed[0].key, key("bad"));
    assert!(malformed[0].error.contains("eighty"), "{malformed:?}");
    assert_eq!(interrupted, 0);

    store.insert_unchecked(unreadable("worse")).unwrap();
    store.create(import("better")).unwrap();
    delete(paris, "bad");
    let Change::Malformed(worse) = next(&mut changes).await else {
        panic!("the malformed object is told")
    };
    assert_eq!(worse.key, key("worse"));
    let Change::Apply(better) = next(&mut changes).await else {
        panic!("the object after it is told")
    };
    assert_eq!(better.metadata.name.as_deref(), Some("better"));
    assert_eq!(next(&mut changes).await, Change::Delete(key("bad")));

    let mut mended = import("worse");
    mended["metadata"]["resourceVersion"] =
        store.get(IMPORT, ("default", "worse")).unwrap()["metadata"]["resourceVersion"].clone();
    store.update(mended).unwrap();
    let Change::Apply(mended) = next(&mut changes).await else {
        panic!("an object that was mended can be read")
    };
    assert_eq!(mended.metadata.name.as_deref(), Some("worse"));
}

/// A listing of many pages says once that it begins and once that it is complete, and each object once.
#[tokio::test]
async fn a_listing_of_many_pages_is_one_listing() {
    let [paris] = &start(["paris"]).await;
    for n in 0..25 {
        paris.cluster.store().create(import(&format!("web-{n}"))).unwrap();
    }
    let mut changes = changes(paris, WatchConfig::default().page_size(10));
    let (objects, malformed, _) = listing(&mut changes).await;
    assert_eq!((objects.len(), names(&objects).len(), malformed.len()), (25, 25, 0));
    paris.cluster.store().create(import("new")).unwrap();
    assert_eq!(about(&next(&mut changes).await), "apply default/new");
}

/// Kubernetes API concepts, "410 Gone": "the client must handle the case by … performing a new get or list operation".
#[tokio::test]
async fn a_watch_that_fell_behind_is_listed_once_and_says_what_is_gone() {
    let [paris] = &start(["paris"]).await;
    let store = paris.cluster.store();
    store.create(import("stays")).unwrap();
    store.create(import("goes")).unwrap();
    let mut changes = changes(paris, WatchConfig::default());
    listing(&mut changes).await;

    paris.cluster.pause().await;
    delete(paris, "goes");
    store.create(import("comes")).unwrap();
    paris.cluster.compact();
    paris.cluster.resume().await.unwrap();
    let mut told = Vec::new();
    while told.last().is_none_or(|change| !matches!(change, Change::Listed)) {
        let change = next(&mut changes).await;
        if !matches!(change, Change::Interrupted(_) | Change::Resumed) {
            told.push(change);
        }
    }
    store.create(import("after")).unwrap();
    told.push(next(&mut changes).await);
    let told: Vec<String> = told.iter().map(about).collect();
    assert_eq!(
        told,
        ["Listing", "apply default/comes", "apply default/stays", "Listed", "apply default/after"]
    );
}

/// "Hub or API server away: members go on, serve, and catch up by resourceVersion with jitter": nothing is taken back
/// while the API is away, nothing is listed anew, and what was missed is told.
#[tokio::test]
async fn an_api_that_goes_and_returns_is_taken_up_where_it_was() {
    let [paris] = &start(["paris"]).await;
    let store = paris.cluster.store();
    store.create(import("stays")).unwrap();
    store.create(import("goes")).unwrap();
    let mut changes = changes(paris, WatchConfig::default());
    listing(&mut changes).await;

    paris.cluster.pause().await;
    delete(paris, "goes");
    store.create(import("comes")).unwrap();
    let Change::Interrupted(said) = next(&mut changes).await else {
        panic!("an API that is away is told first")
    };
    assert!(said.contains("refused"), "the cause is told: {said}");
    paris.cluster.resume().await.unwrap();
    resumed(&mut changes).await;
    assert_eq!(about(&next(&mut changes).await), "delete default/goes");
    assert_eq!(about(&next(&mut changes).await), "apply default/comes");
}

/// Whoever was told that the API is away must be told that it is back, although nothing has changed.
#[tokio::test]
async fn an_api_that_returns_unchanged_is_told_too() {
    let [paris] = &start(["paris"]).await;
    paris.cluster.store().create(import("stays")).unwrap();
    let mut changes = changes(paris, WatchConfig::default());
    listing(&mut changes).await;

    paris.cluster.pause().await;
    assert!(matches!(next(&mut changes).await, Change::Interrupted(_)));
    paris.cluster.resume().await.unwrap();
    resumed(&mut changes).await;
    paris.cluster.store().create(import("new")).unwrap();
    assert_eq!(about(&next(&mut changes).await), "apply default/new");
}

/// A watch that begins while the API is away begins when it comes. Waits double from 0.1 s with jitter down to half:
/// five tries take at least 0.05 + 0.1 + 0.2 + 0.4 s.
#[tokio::test]
async fn an_api_that_stays_away_is_not_pestered() {
    let [paris] = &start(["paris"]).await;
    paris.cluster.store().create(import("late")).unwrap();
    paris.cluster.pause().await;
    let mut changes = changes(paris, WatchConfig::default());
    let begun = Instant::now();
    for _ in 0..5 {
        assert!(matches!(next(&mut changes).await, Change::Interrupted(_)));
    }
    let took = begun.elapsed().as_secs_f64();
    assert!(took >= 0.75, "five tries in {took} s");
    paris.cluster.resume().await.unwrap();
    let (objects, ..) = listing(&mut changes).await;
    assert_eq!(names(&objects), ["late"].into());
}
