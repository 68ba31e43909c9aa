//! Writing: create, update, patch, delete, and what each refuses.

use serde_json::{Value, json};

use super::{Case, config_map, widget};

/// "Every object […] should have the following metadata […]: uid, resourceVersion, generation,
/// creationTimestamp".
pub(crate) async fn a_create_fills_in_what_only_a_server_knows(case: &Case) {
    case.serve_widgets().await;
    let first = case.post(&case.core("configmaps"), &config_map("a")).await;
    assert_eq!(first.code, 201);
    let first = first.ok()["metadata"].clone();
    assert_eq!(first["namespace"], case.namespace.as_str());
    assert_eq!(first["uid"].as_str().unwrap().len(), 36);
    let created = first["creationTimestamp"].as_str().unwrap();
    assert_eq!((created.len(), &created[19..]), (20, "Z"), "RFC 3339, whole seconds");
    let second =
        case.post(&case.core("configmaps"), &config_map("b")).await.ok()["metadata"].clone();
    assert_ne!(first["uid"], second["uid"]);
    assert_ne!(first["resourceVersion"], second["resourceVersion"], "one counter for all");
    let made = case.post(&case.widgets(), &widget(case, "w", &json!({"size": "S"}))).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    let read = case.get(&format!("{}/w", case.widgets())).await.ok();
    assert_eq!(made, read);
}

/// "generateName is an optional prefix, used by the server, to generate a unique name ONLY IF the
/// Name field has not been provided."
pub(crate) async fn a_generated_name_starts_with_its_prefix(case: &Case) {
    let mut object = config_map("");
    object["metadata"] = json!({"generateName": "gen-"});
    let first = case.post(&case.core("configmaps"), &object).await.ok();
    let second = case.post(&case.core("configmaps"), &object).await.ok();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&first).starts_with("gen-") && name(&first).len() == 9, "{first}");
    assert_ne!(name(&first), name(&second));
    object["metadata"]["name"] = json!("given");
    assert_eq!(name(&case.post(&case.core("configmaps"), &object).await.ok()), "given");
}

pub(crate) async fn a_create_is_refused_with_the_right_status(case: &Case) {
    let maps = case.core("configmaps");
    case.post(&maps, &config_map("a")).await.ok();
    let twice = case.post(&maps, &config_map("a")).await;
    let details = &twice.body["details"];
    assert_eq!((&details["name"], &details["kind"]), (&json!("a"), &json!("configmaps")));
    assert_eq!(twice.refused(409, "AlreadyExists"), "configmaps \"a\" already exists");

    let nowhere = case.post("/api/v1/namespaces/nowhere-at-all/configmaps", &config_map("a")).await;
    assert_eq!(nowhere.refused(404, "NotFound"), "namespaces \"nowhere-at-all\" not found");

    let bad = case.post(&maps, &config_map("Not_A_Name")).await;
    assert_eq!(bad.body["details"]["causes"][0]["field"], "metadata.name");
    assert!(bad.refused(422, "Invalid").starts_with("ConfigMap \"Not_A_Name\" is invalid"));
    case.post(&maps, &config_map("")).await.refused(422, "Invalid");

    let mut elsewhere = config_map("b");
    elsewhere["metadata"]["namespace"] = json!("default");
    case.post(&maps, &elsewhere).await.refused(400, "BadRequest");
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}});
    case.post(&maps, &wrong).await.refused(400, "BadRequest");
    let gone = case.get(&format!("{maps}/none")).await;
    assert_eq!(gone.refused(404, "NotFound"), "configmaps \"none\" not found");
}

/// "If the resourceVersion is specified […] and it does not match, the server returns 409
/// Conflict."
pub(crate) async fn an_update_needs_the_newest_version(case: &Case) {
    case.serve_widgets().await;
    let path = format!("{}/a", case.core("configmaps"));
    let old = case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let mut new = old.clone();
    new["data"]["a"] = json!("2");
    let kept = case.put(&path, &new).await.ok();
    assert_ne!(kept["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"]);
    let message = case.put(&path, &new).await.refused(409, "Conflict");
    assert!(message.contains("the object has been modified"), "{message}");
    let stale = json!({"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"a": "3"}});
    case.merge(&path, &stale).await.refused(409, "Conflict");
    case.put(&path, &config_map("a")).await.ok();
    case.put(&path, &config_map("b")).await.refused(400, "BadRequest");
    case.put(&format!("{}/none", case.core("configmaps")), &config_map("none"))
        .await
        .refused(404, "NotFound");

    let spec = json!({"size": "S"});
    case.post(&case.widgets(), &widget(case, "w", &spec)).await.ok();
    let blind = case.put(&format!("{}/w", case.widgets()), &widget(case, "w", &spec)).await;
    assert!(blind.refused(422, "Invalid").contains("metadata.resourceVersion"));
}

pub(crate) async fn of_many_writers_each_round_has_one_winner(case: &Case) {
    let path = format!("{}/a", case.core("configmaps"));
    let mut object = case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    for round in 0..5 {
        let writes = (0..8).map(|writer| {
            let (mut mine, path) = (object.clone(), path.clone());
            mine["data"] = json!({"by": format!("{round}/{writer}")});
            async move { case.put(&path, &mine).await }
        });
        let answers = futures::future::join_all(writes).await;
        let codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
        assert_eq!(codes.iter().filter(|code| **code == 200).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == 409).count(), 7, "{codes:?}");
        object = case.get(&path).await.ok();
    }
}

pub(crate) async fn a_write_that_changes_nothing_writes_nothing(case: &Case) {
    let path = format!("{}/a", case.core("configmaps"));
    let object = case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let version = &object["metadata"]["resourceVersion"];
    assert_eq!(case.put(&path, &object).await.ok()["metadata"]["resourceVersion"], *version);
    let patched = case.merge(&path, &json!({"data": {"a": "1"}})).await.ok();
    assert_eq!(patched["metadata"]["resourceVersion"], *version);
}

/// "generation: a sequence number representing a specific generation of the desired state."
pub(crate) async fn generation_counts_changes_of_the_spec(case: &Case) {
    case.serve_widgets().await;
    let path = format!("{}/w", case.widgets());
    case.post(&case.widgets(), &widget(case, "w", &json!({"size": "S"}))).await.ok();
    let generation = async |path: &str, patch: Value| {
        case.merge(path, &patch).await.ok()["metadata"]["generation"].clone()
    };
    assert_eq!(generation(&path, json!({"metadata": {"labels": {"a": "b"}}})).await, 1);
    assert_eq!(generation(&path, json!({"spec": {"size": "L"}})).await, 2);
    assert_eq!(generation(&path, json!({"metadata": {"generation": 9}})).await, 2);
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(generation(&format!("{path}/status"), status).await, 2);
}

/// "PUT/POST/PATCH requests to the main resource ignore changes to the status stanza"; "the
/// /status subresource […] ignore changes to anything except the status stanza".
pub(crate) async fn status_and_spec_are_written_apart(case: &Case) {
    case.serve_widgets().await;
    let path = format!("{}/w", case.widgets());
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let mut object = widget(case, "w", &json!({"size": "S"}));
    object["status"] = ready.clone();
    let mut object = case.post(&case.widgets(), &object).await.ok();
    assert_eq!(object.get("status"), None, "a create has no status");
    object["status"] = ready.clone();
    object["spec"]["size"] = json!("L");
    let main = case.put(&path, &object).await.ok();
    assert_eq!((&main["spec"]["size"], main.get("status")), (&json!("L"), None));
    let mut object = main;
    object["status"] = ready.clone();
    object["spec"]["size"] = json!("S");
    let status = case.put(&format!("{path}/status"), &object).await.ok();
    assert_eq!((&status["spec"]["size"], &status["status"]), (&json!("L"), &ready));
    let both = json!({"spec": {"size": "S"}, "status": {"conditions": []}});
    let status = case.merge(&format!("{path}/status"), &both).await.ok();
    assert_eq!(
        (&status["spec"]["size"], &status["status"]),
        (&json!("L"), &json!({"conditions": []}))
    );
    assert_eq!(case.get(&format!("{path}/status")).await.ok(), status);
}

/// RFC 7386: "null values in the merge patch are given special meaning to indicate the removal of
/// existing values in the target."
pub(crate) async fn merge_patches_set_and_remove(case: &Case) {
    let path = format!("{}/a", case.core("configmaps"));
    case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let patch = json!({"metadata": {"labels": {"x": "y"}}, "data": {"a": null, "b": "2"}});
    let patched = case.merge(&path, &patch).await.ok();
    assert_eq!(patched["data"], json!({"b": "2"}));
    assert_eq!(patched["metadata"]["labels"], json!({"x": "y"}));
    case.merge(&format!("{}/none", case.core("configmaps")), &patch).await.refused(404, "NotFound");
    let media = "application/x-unknown";
    case.write("PATCH", &path, media, &patch).await.refused(415, "UnsupportedMediaType");
}

/// RFC 6902: "test […] the target location MUST be equal to the "value" value for the operation
/// to be considered successful."
pub(crate) async fn json_patches_test_and_change(case: &Case) {
    let (path, media) = (format!("{}/a", case.core("configmaps")), "application/json-patch+json");
    case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let good = json!([{"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "2"}, {"op": "add", "path": "/data/b", "value": "3"}]);
    let patched = case.write("PATCH", &path, media, &good).await.ok();
    assert_eq!(patched["data"], json!({"a": "2", "b": "3"}));
    case.write("PATCH", &path, media, &good).await.refused(422, "Invalid");
    assert_eq!(case.get(&path).await.ok(), patched);
}

pub(crate) async fn a_delete_can_insist_on_an_identity(case: &Case) {
    let path = format!("{}/a", case.core("configmaps"));
    let object = case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let other = json!({"preconditions": {"uid": "another"}});
    case.delete(&path, &other).await.refused(409, "Conflict");
    let older = json!({"preconditions": {"resourceVersion": "1"}});
    case.delete(&path, &older).await.refused(409, "Conflict");
    let same = json!({"preconditions": {"uid": object["metadata"]["uid"]}});
    let answer = case.delete(&path, &same).await.ok();
    assert_eq!((&answer["kind"], &answer["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(answer["details"]["uid"], object["metadata"]["uid"]);
    case.delete(&path, &json!({})).await.refused(404, "NotFound");
}

/// "The object will be […] deleted only when the finalizers list is empty."
pub(crate) async fn finalizers_hold_an_object_back(case: &Case) {
    let path = format!("{}/a", case.core("configmaps"));
    let mut object = config_map("a");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    case.post(&case.core("configmaps"), &object).await.ok();
    case.delete(&path, &json!({})).await.ok();
    let held = case.get(&path).await.ok();
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    case.merge(&path, &json!({"metadata": {"finalizers": null}})).await.ok();
    case.get(&path).await.refused(404, "NotFound");
}

pub(crate) async fn what_a_server_set_cannot_be_changed(case: &Case) {
    let path = format!("{}/a", case.core("configmaps"));
    let object = case.post(&case.core("configmaps"), &config_map("a")).await.ok();
    let patch =
        json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z"}, "data": {"a": "2"}});
    let patched = case.merge(&path, &patch).await.ok();
    assert_eq!(patched["metadata"]["creationTimestamp"], object["metadata"]["creationTimestamp"]);
    let uid = "00000000-0000-4000-8000-000000000000";
    let message = case.merge(&path, &json!({"metadata": {"uid": uid}})).await;
    assert!(message.refused(422, "Invalid").contains("field is immutable"));
    let mut other = object;
    other["metadata"]["uid"] = json!(uid);
    other["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    case.put(&path, &other).await.refused(409, "Conflict");
}
