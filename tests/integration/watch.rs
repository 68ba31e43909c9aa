//! `landbridge_api::watch` against a real watch: malformed objects, pages, 410, and an API that goes and returns.

use std::{collections::BTreeSet, pin::Pin, time::Instant};

use futures::Stream;
use kube::Api;
use landbridge_api::{
    mcs::v1beta1::ServiceImport,
    watch::{Change, Guard, Malformed, ObjectKey, WatchConfig, watch},
};
use serde_json::{Value, json};

use crate::support::{Running, next, start};

type Changes = Pin<Box<dyn Stream<Item = Change<ServiceImport>> + Send>>;

const IMPORT: (&str, &str) = ("multicluster.x-k8s.io/v1beta1", "ServiceImport");

fn changes(running: &Running, config: WatchConfig) -> Changes {
    let api = Api::<Guard<ServiceImport>>::all(running.client.clone());
    Box::pin(watch(api, config))
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

/// The next reset, and how often the API could not be read before it.
async fn reset(changes: &mut Changes) -> (Vec<ServiceImport>, Vec<Malformed>, usize) {
    let mut interrupted = 0;
    loop {
        match next(changes).await {
            Change::Interrupted(_) => interrupted += 1,
            Change::Reset { objects, malformed } => return (objects, malformed, interrupted),
            other => panic!("{other:?} before the reset"),
        }
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

    let (objects, malformed, interrupted) = reset(&mut changes).await;
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

/// "This is all there is": a consumer never sees half a listing.
#[tokio::test]
async fn a_listing_of_many_pages_is_one_reset() {
    let [paris] = &start(["paris"]).await;
    for n in 0..25 {
        paris.cluster.store().create(import(&format!("web-{n}"))).unwrap();
    }
    let mut changes = changes(paris, WatchConfig::default().page_size(10));
    let (objects, malformed, _) = reset(&mut changes).await;
    assert_eq!((objects.len(), names(&objects).len(), malformed.len()), (25, 25, 0));
}

/// Kubernetes API concepts, "410 Gone": "the client must handle the case by … performing a new get or list operation".
#[tokio::test]
async fn a_watch_that_fell_behind_starts_over_and_says_what_is_gone() {
    let [paris] = &start(["paris"]).await;
    let store = paris.cluster.store();
    store.create(import("stays")).unwrap();
    store.create(import("goes")).unwrap();
    let mut changes = changes(paris, WatchConfig::default());
    reset(&mut changes).await;

    delete(paris, "goes");
    store.create(import("comes")).unwrap();
    paris.cluster.compact();
    let objects = loop {
        match next(&mut changes).await {
            Change::Reset { objects, .. } => break objects,
            Change::Interrupted(said) => assert!(said.contains("old"), "the cause is told: {said}"),
            // What was told before the history was forgotten may still arrive.
            Change::Apply(_) | Change::Delete(_) => {}
            Change::Malformed(malformed) => panic!("{malformed:?}"),
        }
    };
    assert_eq!(names(&objects), ["comes", "stays"].into());
}

/// "A hub that cannot be read means unknown, never expired": nothing is taken back while the API is away, and what is
/// true afterwards is told whole.
#[tokio::test]
async fn an_api_that_goes_and_returns_is_told_and_then_read_anew() {
    let [paris] = &start(["paris"]).await;
    let store = paris.cluster.store();
    store.create(import("stays")).unwrap();
    store.create(import("goes")).unwrap();
    let mut changes = changes(paris, WatchConfig::default());
    reset(&mut changes).await;

    paris.cluster.pause().await;
    delete(paris, "goes");
    store.create(import("comes")).unwrap();
    let Change::Interrupted(said) = next(&mut changes).await else {
        panic!("an API that is away is told first")
    };
    assert!(said.contains("refused"), "the cause is told: {said}");
    paris.cluster.resume().await.unwrap();
    let (objects, ..) = reset(&mut changes).await;
    assert_eq!(names(&objects), ["comes", "stays"].into());
}

/// Whoever was told that the API is away must be told that it is back, although nothing has changed.
#[tokio::test]
async fn an_api_that_returns_unchanged_is_told_too() {
    let [paris] = &start(["paris"]).await;
    paris.cluster.store().create(import("stays")).unwrap();
    let mut changes = changes(paris, WatchConfig::default());
    reset(&mut changes).await;

    paris.cluster.pause().await;
    assert!(matches!(next(&mut changes).await, Change::Interrupted(_)));
    paris.cluster.resume().await.unwrap();
    let (objects, ..) = reset(&mut changes).await;
    assert_eq!(names(&objects), ["stays"].into());
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
    let (objects, ..) = reset(&mut changes).await;
    assert_eq!(names(&objects), ["late"].into());
}
