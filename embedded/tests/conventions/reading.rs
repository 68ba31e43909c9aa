//! Reading: discovery, lists and their pages, watches and Tables.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{DynamicObject, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use super::{Case, config_map, widget};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

pub(crate) async fn discovery_names_the_kinds(case: &Case) {
    case.serve_widgets().await;
    let groups = case.get("/apis").await.ok();
    let mine = find(&groups["groups"], "name", &case.group);
    assert_eq!(mine["preferredVersion"]["version"], "v1", "v1 before v1beta1");
    assert_eq!(mine["versions"].as_array().unwrap().len(), 2);
    let kinds = case.get(&format!("/apis/{}/v1", case.group)).await.ok();
    let widgets = find(&kinds["resources"], "name", "widgets");
    assert_eq!((&widgets["kind"], &widgets["namespaced"]), (&json!("Widget"), &json!(true)));
    assert_eq!(widgets["shortNames"], json!(["wd"]));
    for verb in ["create", "delete", "get", "list", "patch", "update", "watch"] {
        assert!(widgets["verbs"].as_array().unwrap().contains(&json!(verb)), "{verb}");
    }
    assert_eq!(find(&kinds["resources"], "name", "widgets/status")["kind"], "Widget");
    let core = case.get("/api/v1").await.ok();
    let services = find(&core["resources"], "name", "services");
    assert_eq!(services["shortNames"], json!(["svc"]));
    assert!(services["categories"].as_array().unwrap().contains(&json!("all")));
    assert!(case.get("/version").await.ok()["gitVersion"].as_str().unwrap().starts_with("v1."));
    case.get("/apis/nothing.example.com/v1/things").await.refused_unknown();
}

pub(crate) async fn lists_are_selected_by_labels_and_fields(case: &Case) {
    let maps = case.core("configmaps");
    for (name, labels) in [
        ("a", json!({"case": "l", "tier": "front"})),
        ("b", json!({"case": "l", "tier": "back"})),
        ("c", json!({"case": "l"})),
    ] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = labels;
        case.post(&maps, &object).await.ok();
    }
    for (selector, expected) in [
        ("labelSelector=case%3Dl", "a b c"),
        ("labelSelector=tier%3Dfront", "a"),
        ("labelSelector=case,tier!%3Dfront", "b c"),
        ("labelSelector=tier+in+(front,back)", "a b"),
        ("labelSelector=case,tier+notin+(back)", "a c"),
        ("labelSelector=case,!tier", "c"),
        ("labelSelector=tier", "a b"),
        ("fieldSelector=metadata.name%3Db", "b"),
        ("labelSelector=case&fieldSelector=metadata.name!%3Db", "a c"),
    ] {
        assert_eq!(
            names(&case.get(&format!("{maps}?{selector}")).await.ok()),
            expected,
            "{selector}"
        );
    }
    let all = format!(
        "/api/v1/configmaps?fieldSelector=metadata.namespace%3D{}&labelSelector=case",
        case.namespace
    );
    assert_eq!(names(&case.get(&all).await.ok()), "a b c");
    case.get(&format!("{maps}?labelSelector=a+b")).await.refused(400, "BadRequest");
    case.get(&format!("{maps}?fieldSelector=data.a%3D1")).await.refused(400, "BadRequest");
}

/// "the server guarantees that the objects returned when using continue will be identical to
/// issuing a single list call without a limit - that is, no objects created, modified, or deleted
/// after the first request is issued will be included in any subsequent continued requests."
pub(crate) async fn pages_show_one_version(case: &Case) {
    let maps = case.core("configmaps");
    for name in ["p1", "p2", "p3", "p4", "p5"] {
        case.post(&maps, &labelled(name)).await.ok();
    }
    let maps = format!("{maps}?labelSelector=page");
    let first = case.get(&format!("{maps}&limit=2")).await.ok();
    assert_eq!(names(&first), "p1 p2");
    case.delete(&format!("{}/p4", case.core("configmaps")), &json!({})).await.ok();
    case.post(&case.core("configmaps"), &labelled("p3-later")).await.ok();
    let mut token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    let mut rest = String::new();
    while !token.is_empty() {
        let page = case.get(&format!("{maps}&limit=2&continue={token}")).await.ok();
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        rest = format!("{rest} {}", names(&page));
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(rest, " p3 p4 p5");
    case.get(&format!("{maps}&continue=nonsense")).await.refused(400, "BadRequest");
}

pub(crate) async fn a_list_says_which_versions_it_can_show(case: &Case) {
    let maps = case.core("configmaps");
    let list = case.get(&maps).await.ok();
    assert_eq!(list["kind"], "ConfigMapList");
    let version: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let at = |version: u64, matching: &str| format!("{maps}?resourceVersion={version}{matching}");
    case.get(&at(version, "")).await.ok();
    case.get(&at(0, "")).await.ok();
    case.get(&at(version, "&resourceVersionMatch=NotOlderThan")).await.ok();
    case.post(&maps, &config_map("later")).await.ok();
    let exact = case.get(&at(version, "&resourceVersionMatch=Exact")).await.ok();
    assert!(!names(&exact).contains("later"));
    case.get(&format!("{maps}?resourceVersion=x")).await.refused_with(400);
}

/// "A watch […] started at the resourceVersion of a list […] will see every change after it."
pub(crate) async fn a_watch_goes_on_from_a_list(case: &Case) {
    let maps = case.core("configmaps");
    let path = format!("{maps}/a");
    case.post(&maps, &config_map("before")).await.ok();
    let list = case.get(&maps).await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    case.post(&maps, &config_map("a")).await.ok();
    case.merge(&path, &json!({"data": {"a": "2"}})).await.ok();
    let last = case.get(&path).await.ok();
    case.delete(&path, &json!({})).await.ok();
    let events = case
        .watch(&format!("{maps}?watch=true&resourceVersion={from}&timeoutSeconds=1"), "*/*")
        .await;
    assert_eq!(told(&events), "ADDED a MODIFIED a DELETED a");
    let gone = &events[2]["object"];
    assert_eq!(gone["data"], last["data"], "a deletion shows the last state");
    assert_ne!(gone["metadata"]["resourceVersion"], last["metadata"]["resourceVersion"]);
    let future = format!("{maps}?watch=true&resourceVersion={}&timeoutSeconds=1", u64::MAX / 4);
    let refused = case.watch(&future, "*/*").await;
    assert!(refused.iter().all(|event| event["type"] == "ERROR"), "{refused:?}");
}

pub(crate) async fn a_watch_without_a_version_starts_with_what_there_is(case: &Case) {
    let maps = case.core("configmaps");
    case.post(&maps, &labelled("a")).await.ok();
    case.post(&maps, &labelled("b")).await.ok();
    for version in ["", "&resourceVersion=0"] {
        let path = format!("{maps}?watch=1&labelSelector=page&timeoutSeconds=1{version}");
        let mut events: Vec<String> = case
            .watch(&path, "*/*")
            .await
            .iter()
            .map(|event| told(std::slice::from_ref(event)))
            .collect();
        events.sort();
        assert_eq!(events, ["ADDED a", "ADDED b"]);
    }
}

pub(crate) async fn a_watch_sees_objects_enter_and_leave_its_selection(case: &Case) {
    let maps = case.core("configmaps");
    let from = case.post(&maps, &config_map("a")).await.ok();
    let from = from["metadata"]["resourceVersion"].as_str().unwrap();
    for labels in [json!({"page": "1"}), json!({"page": "2"}), json!({"page": null})] {
        case.merge(&format!("{maps}/a"), &json!({"metadata": {"labels": labels}})).await.ok();
    }
    let path =
        format!("{maps}?watch=true&labelSelector=page&resourceVersion={from}&timeoutSeconds=1");
    assert_eq!(told(&case.watch(&path, "*/*").await), "ADDED a MODIFIED a DELETED a");
}

/// "BOOKMARK events […] mark that all changes up to a given resourceVersion the client is
/// requesting have already been sent."
pub(crate) async fn a_watch_ends_in_time_and_bookmarks_where_it_was(case: &Case) {
    let maps = case.core("configmaps");
    let made = case.post(&maps, &config_map("a")).await.ok();
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!(
        "{maps}?watch=true&resourceVersion={from}&timeoutSeconds=4&allowWatchBookmarks=true"
    );
    let started = std::time::Instant::now();
    let events = case.watch(&path, "*/*").await;
    assert!((3..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert!(
        !events.is_empty() && events.iter().all(|event| event["type"] == "BOOKMARK"),
        "{events:?}"
    );
    let bookmark = &events[0]["object"];
    assert_eq!(bookmark["kind"], "ConfigMap");
    let version: u64 = bookmark["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(version >= from.parse().unwrap());
}

pub(crate) async fn tables_have_the_printer_columns(case: &Case) {
    case.serve_widgets().await;
    let spec = json!({"size": "S", "count": 3});
    case.post(&case.widgets(), &widget(case, "w", &spec)).await.ok();
    let status = json!({"status": {"conditions": [{"type": "Other", "status": "x"}, {"type": "Ready", "status": "True"}]}});
    case.merge(&format!("{}/w/status", case.widgets()), &status).await.ok();
    for path in [case.widgets(), format!("{}/w", case.widgets())] {
        let table = case.get_as(&path, TABLE).await.ok();
        assert_eq!(
            (&table["kind"], &table["apiVersion"]),
            (&json!("Table"), &json!("meta.k8s.io/v1"))
        );
        let columns = table["columnDefinitions"].as_array().unwrap();
        let titles: Vec<&str> = columns.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(titles, ["Name", "Size", "Ready", "Count", "Age"]);
        assert_eq!((&columns[0]["format"], &columns[3]["priority"]), (&json!("name"), &json!(1)));
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        assert_eq!(cells[..4], [json!("w"), json!("S"), json!("True"), json!(3)]);
        assert!(cells[4].as_str().unwrap().ends_with('s'), "{cells:?}");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}], "selector": {"app": "web"}}});
    case.post(&case.core("services"), &service).await.ok();
    let table = case.get_as(&case.core("services"), TABLE).await.ok();
    let cell = |title: &str| {
        let mut columns = table["columnDefinitions"].as_array().unwrap().iter();
        &table["rows"][0]["cells"][columns.position(|one| one["name"] == title).unwrap()]
    };
    assert_eq!((cell("Name"), cell("Type")), (&json!("web"), &json!("ClusterIP")));
    assert_eq!((cell("Port(s)"), cell("Selector")), (&json!("80/TCP,53/UDP"), &json!("app=web")));
    assert_eq!(cell("External-IP"), "<none>");
}

pub(crate) async fn a_watch_can_tell_tables(case: &Case) {
    let maps = case.core("configmaps");
    case.post(&maps, &labelled("a")).await.ok();
    let path = format!("{maps}?watch=true&labelSelector=page&timeoutSeconds=1");
    let events = case.watch(&path, TABLE).await;
    let table = &events[0]["object"];
    assert_eq!((&events[0]["type"], &table["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
}

pub(crate) async fn what_cannot_be_answered_is_said_so(case: &Case) {
    let maps = case.core("configmaps");
    case.get_as(&maps, "text/html").await.refused_with(406);
    case.post(&case.core("configmaps/a"), &config_map("a")).await.refused(405, "MethodNotAllowed");
    case.get(&case.core("nonsenses")).await.refused_unknown();
    case.get(&format!("{maps}/a/nonsense")).await.refused_unknown();
    let media = "application/x-unknown";
    case.write("POST", &maps, media, &config_map("a")).await.refused(415, "UnsupportedMediaType");
    let torn = case.send("POST", &maps, "*/*", "application/json", b"{\"kind\":".to_vec()).await;
    torn.refused(400, "BadRequest");
}

pub(crate) async fn kube_watchers_follow(case: &Case) {
    let api = case.api("", "v1", "ConfigMap");
    let object =
        |name: &str| -> DynamicObject { serde_json::from_value(config_map(name)).unwrap() };
    api.create(&PostParams::default(), &object("early")).await.unwrap();
    let fields = watcher::Config::default().fields("metadata.name!=kube-root-ca.crt");
    let mut seen = Box::pin(watcher(api.clone(), fields).touched_objects());
    let mut next = async || {
        let object = tokio::time::timeout(Duration::from_secs(30), seen.try_next());
        object.await.unwrap().unwrap().unwrap().metadata.name.unwrap()
    };
    assert_eq!(next().await, "early");
    api.create(&PostParams::default(), &object("late")).await.unwrap();
    assert_eq!(next().await, "late");
    api.delete("early", &kube::api::DeleteParams::default()).await.unwrap();
    assert_eq!(next().await, "early");
    assert!(futures::poll!(seen.next()).is_pending());
}

fn labelled(name: &str) -> Value {
    let mut object = config_map(name);
    object["metadata"]["labels"] = json!({"page": "x"});
    object
}

/// The names in a list, without what a real cluster's controllers add to every namespace.
fn names(list: &Value) -> String {
    let items = list["items"].as_array().unwrap().iter();
    let names = items.map(|item| item["metadata"]["name"].as_str().unwrap());
    names.filter(|name| *name != "kube-root-ca.crt").collect::<Vec<_>>().join(" ")
}

fn told(events: &[Value]) -> String {
    let shown =
        events.iter().filter(|event| event["object"]["metadata"]["name"] != "kube-root-ca.crt");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    shown
        .map(|event| {
            format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"]))
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn find<'a>(items: &'a Value, field: &str, wanted: &str) -> &'a Value {
    let found = items.as_array().unwrap().iter().find(|item| item[field] == wanted);
    found.unwrap_or_else(|| panic!("no {wanted} in {items}"))
}

impl super::Answer {
    /// A path that is not served: 404, though not always with a `Status`.
    #[track_caller]
    fn refused_unknown(self) {
        assert_eq!(self.code, 404, "{}", self.body);
    }

    #[track_caller]
    fn refused_with(self, code: u16) {
        assert_eq!(self.code, code, "{}", self.body);
    }
}
