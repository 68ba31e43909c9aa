//! What only the embedded cluster can do, and tests need: pause, forget, hold malformed objects;
//! and what it does without controllers.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::runtime::watcher;
use landbridge_embedded::{Cluster, ClusterConfig, EventKind, StartError};
use serde_json::{Value, json};

use crate::conventions::{Case, config_map};
use crate::support::{client, cluster_with, eventually};

async fn cluster() -> Cluster {
    cluster_with("192.0.2.0/24", Vec::new()).await
}

fn maps(client: &kube::Client) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
    Api::default_namespaced_with(client.clone(), &kind)
}

fn in_default(name: &str) -> Value {
    config_map(name)
}

#[tokio::test]
async fn a_pause_severs_and_refuses_and_keeps_the_objects() {
    let cluster = cluster().await;
    let client = client(&cluster).await;
    cluster.store().create(in_default("a")).unwrap();
    let mut watch = Box::pin(watcher(maps(&client), watcher::Config::default()));
    eventually("the watch", async || watch.try_next().await.ok()).await;
    cluster.pause().await;
    assert!(maps(&client).get("a").await.is_err(), "refused");
    assert!(tokio::net::TcpStream::connect(cluster.address()).await.is_err());
    cluster.store().create(in_default("b")).unwrap();
    cluster.resume().await.unwrap();
    cluster.resume().await.unwrap();
    let names = maps(&client).list(&ListParams::default()).await.unwrap();
    assert_eq!(names.items.len(), 2);
    eventually("the watch goes on", async || match watch.try_next().await {
        Ok(Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
            (object.metadata.name.as_deref() == Some("b")).then_some(())
        }
        _ => None,
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn forgotten_history_ends_watches_with_410() {
    let cluster = cluster().await;
    let case = Case::new(client(&cluster).await, "forget").await;
    let list = case.get("/api/v1/configmaps").await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("/api/v1/configmaps?watch=true&resourceVersion={from}");
    let (events, ()) = tokio::join!(case.watch(&path, "*/*"), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.compact();
    });
    for events in [events, case.watch(&path, "*/*").await] {
        let [error] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
        assert_eq!(error["object"]["reason"], "Expired");
    }
    let exact = format!("/api/v1/configmaps?resourceVersion={from}&resourceVersionMatch=Exact");
    case.get(&exact).await.refused(410, "Expired");
    cluster.stop().await;
}

#[tokio::test]
async fn a_watcher_of_kube_survives_pauses_and_forgetting() {
    let cluster = cluster().await;
    let client = client(&cluster).await;
    let mut watch = Box::pin(watcher(maps(&client), watcher::Config::default()));
    for round in 0..3 {
        let name = format!("m{round}");
        cluster.store().create(in_default(&name)).unwrap();
        eventually("the object", async || match watch.try_next().await {
            Ok(Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                (object.metadata.name.as_deref() == Some(&name)).then_some(())
            }
            _ => None,
        })
        .await;
        cluster.compact();
        cluster.pause().await;
        cluster.resume().await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test]
async fn malformed_objects_can_be_put_in_and_are_told_as_they_are() {
    let cluster = cluster().await;
    let store = cluster.store();
    let mut watch = store.watch(("v1", "Service"), None).unwrap();
    let bad = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "Bad_Name", "namespace": "default"}, "spec": "nonsense"});
    let kept = cluster.insert_unchecked(bad).unwrap();
    let event = watch.next().await.unwrap();
    assert_eq!((event.kind, &event.object), (EventKind::Added, &kept));
    assert_eq!(kept["spec"], "nonsense");
    store.delete(("v1", "Service"), ("default", "Bad_Name")).unwrap();
    assert_eq!(watch.next().await.unwrap().kind, EventKind::Deleted);
    let unknown = json!({"apiVersion": "v9", "kind": "Thing"});
    assert_eq!(cluster.insert_unchecked(unknown).unwrap_err().code(), 400);
}

#[tokio::test]
async fn a_namespace_takes_its_objects_along() {
    let cluster = cluster().await;
    let case = Case::new(client(&cluster).await, "gone").await;
    case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let spec = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"clusterIP": "192.0.2.9", "ports": [{"port": 1}]}});
    case.post(&case.core("services"), &spec).await.ok();
    case.delete(&format!("/api/v1/namespaces/{}", case.namespace), &json!({})).await.ok();
    assert_eq!(case.get(&case.core("configmaps")).await.ok()["items"], json!([]));
    case.post(&case.core("configmaps"), &config_map("a")).await.refused(404, "NotFound");
    let again = case.post("/api/v1/namespaces/default/services", &spec).await.ok();
    assert_eq!(again["spec"]["clusterIP"], "192.0.2.9");
}

/// Design section 7: server-side apply is not served, and says so.
#[tokio::test]
async fn server_side_apply_is_refused_with_a_way_out() {
    let cluster = cluster().await;
    let case = Case::new(client(&cluster).await, "apply").await;
    let path = format!("{}/a?fieldManager=me", case.core("configmaps"));
    let media = "application/apply-patch+yaml";
    case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let message = case.write("PATCH", &path, media, &config_map("a")).await;
    assert!(message.refused(415, "UnsupportedMediaType").contains("merge patch"));
}

#[tokio::test]
async fn dual_stack_services_get_an_address_of_each_family() {
    let config = ClusterConfig {
        name: "dual".into(),
        listen: "127.0.0.1:0".parse().unwrap(),
        service_range_v4: "192.0.2.0/24".parse().unwrap(),
        service_range_v6: Some("2001:db8:96::/112".parse().unwrap()),
        crds: Vec::new(),
    };
    let cluster = Cluster::start(config).await.unwrap();
    let spec = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 1}]}});
    let made = cluster.store().create(spec).unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!(["192.0.2.1", "2001:db8:96::1"]));
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
}

#[tokio::test]
async fn the_store_speaks_without_http() {
    let cluster = cluster().await;
    let store = cluster.store();
    let kind = ("v1", "ConfigMap");
    let made = store.create(in_default("a")).unwrap();
    assert_eq!(store.get(kind, ("default", "a")).unwrap(), made);
    assert_eq!(store.create(in_default("a")).unwrap_err().reason(), "AlreadyExists");
    let mut wanted = (*made).clone();
    wanted["data"]["b"] = json!("2");
    let patched = store.update(wanted).unwrap();
    assert_eq!(patched["data"], json!({"a": "1", "b": "2"}));
    let stale = Arc::unwrap_or_clone(made);
    assert_eq!(store.update(stale).unwrap_err().reason(), "Conflict");
    let listing = store.list(kind, None).unwrap();
    assert_eq!((listing.items.len(), listing.items[0].clone()), (1, patched));
    assert!(listing.version > 1);
    store.delete(kind, ("default", "a")).unwrap();
    assert_eq!(store.get(kind, ("default", "a")).unwrap_err().code(), 404);
    let status = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"},
        "status": {"phase": "Terminating"}});
    assert_eq!(store.update_status(status).unwrap()["status"]["phase"], "Terminating");
}

#[tokio::test]
async fn an_address_that_is_open_or_taken_is_refused() {
    let config = |listen: &str| ClusterConfig {
        name: "x".into(),
        listen: listen.parse().unwrap(),
        service_range_v4: "192.0.2.0/24".parse().unwrap(),
        service_range_v6: None,
        crds: Vec::new(),
    };
    let open = Cluster::start(config("0.0.0.0:0")).await.unwrap_err();
    assert!(matches!(open, StartError::NotLoopback(_)), "{open}");
    let first = cluster().await;
    let taken = Cluster::start(config(&first.address().to_string())).await.unwrap_err();
    assert!(taken.to_string().contains("choose a free loopback address"), "{taken}");
}
