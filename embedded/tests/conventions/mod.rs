//! The Kubernetes API's conventions as one battery of cases, the same for every server.
//!
//! A test binary includes this file by path and writes one line for each server:
//! `conventions!(embedded, crate::start_embedded);`, where the second is an async function that
//! returns something with a `client()`. Every case works in a namespace of its own, with kinds of
//! its own, and with addresses from documentation ranges, so that all run at once against a real
//! kube-apiserver as well. Sentences from the conventions are quoted above the cases that hold
//! them.

#![allow(clippy::panic, clippy::unwrap_used)]

pub(crate) mod kinds;
pub(crate) mod objects;
pub(crate) mod reading;

use http_body_util::BodyExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::client::Body;
use serde_json::{Value, json};

/// Lists the cases for one server.
macro_rules! conventions {
    ($server:ident, $start:path) => {
        mod $server {
            $crate::conventions::conventions!(@cases $start,
                objects: a_create_fills_in_what_only_a_server_knows
                    a_generated_name_starts_with_its_prefix
                    a_create_is_refused_with_the_right_status
                    an_update_needs_the_newest_version
                    of_many_writers_each_round_has_one_winner
                    a_write_that_changes_nothing_writes_nothing
                    generation_counts_changes_of_the_spec
                    status_and_spec_are_written_apart
                    merge_patches_set_and_remove
                    json_patches_test_and_change
                    a_delete_can_insist_on_an_identity
                    finalizers_hold_an_object_back
                    what_a_server_set_cannot_be_changed;
                reading: discovery_names_the_kinds
                    lists_are_selected_by_labels_and_fields
                    pages_show_one_version
                    a_list_says_which_versions_it_can_show
                    a_watch_goes_on_from_a_list
                    a_watch_without_a_version_starts_with_what_there_is
                    a_watch_sees_objects_enter_and_leave_its_selection
                    a_watch_ends_in_time_and_bookmarks_where_it_was
                    tables_have_the_printer_columns
                    a_watch_can_tell_tables
                    what_cannot_be_answered_is_said_so
                    kube_watchers_follow;
                kinds: a_crd_is_served_in_all_its_versions
                    custom_objects_are_checked_against_their_schema
                    unknown_fields_are_pruned
                    a_crd_that_goes_takes_its_kind_along
                    services_get_what_they_left_out
                    cluster_ips_are_unique_stable_and_released
                    headless_and_external_services_have_no_cluster_ip
                    malformed_services_are_refused
                    slices_are_checked
                    metadata_has_limits
                    bodies_have_limits
                    events_can_be_told
                    leases_are_taken_by_one
                    new_pods_and_namespaces_start_with_a_status
            );
        }
    };
    (@cases $start:path, $($module:ident: $($case:ident)+);+) => {
        $($(
            #[tokio::test]
            async fn $case() {
                let server = $start().await;
                let case = $crate::conventions::Case::new(server.client(), stringify!($case)).await;
                $crate::conventions::$module::$case(&case).await;
            }
        )+)+
    };
}
pub(crate) use conventions;

/// One case: a client, and a namespace that nobody else uses.
pub(crate) struct Case {
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
    /// The API group of the case's own kind, which no other case or run has.
    pub(crate) group: String,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// The body, if the server did what was asked.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.body);
        self.body
    }

    /// Holds that the server refused, with a real `Status`; returns the message.
    ///
    /// "Kubernetes will always return the Status kind from any API endpoint when an error occurs."
    #[track_caller]
    pub(crate) fn refused(self, code: u16, reason: &str) -> String {
        let body = &self.body;
        assert_eq!((self.code, body["reason"].as_str()), (code, Some(reason)), "{body}");
        assert_eq!((&body["kind"], &body["apiVersion"]), (&json!("Status"), &json!("v1")));
        assert_eq!((&body["status"], &body["code"]), (&json!("Failure"), &json!(code)));
        body["message"].as_str().unwrap().to_owned()
    }
}

impl Case {
    pub(crate) async fn new(client: kube::Client, name: &str) -> Self {
        let prefix: String = name.replace('_', "-").chars().take(40).collect();
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"generateName": format!("{prefix}-")}});
        let mut case = Self { client, namespace: String::new(), group: String::new() };
        let made = case.post("/api/v1/namespaces", &object).await.ok();
        case.namespace = made["metadata"]["name"].as_str().unwrap().to_owned();
        case.group = format!("{}.example.com", case.namespace);
        case
    }

    /// The path of a core kind in the case's namespace.
    pub(crate) fn core(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// The path of a kind of another group in the case's namespace.
    pub(crate) fn path(&self, group_version: &str, plural: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{plural}", self.namespace)
    }

    /// The path of the case's own kind, once [`Self::serve_widgets`] was called.
    pub(crate) fn widgets(&self) -> String {
        self.path(&format!("{}/v1", self.group), "widgets")
    }

    /// kube's view of a kind in the case's namespace.
    pub(crate) fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "application/json", "", Vec::new()).await
    }

    /// A GET with another `Accept`.
    pub(crate) async fn get_as(&self, path: &str, form: &str) -> Answer {
        self.send("GET", path, form, "", Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> Answer {
        self.write("POST", path, "application/json", object).await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Answer {
        self.write("PUT", path, "application/json", object).await
    }

    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Answer {
        self.write("PATCH", path, "application/merge-patch+json", patch).await
    }

    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.write("DELETE", path, "application/json", options).await
    }

    pub(crate) async fn write(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Answer {
        let body = serde_json::to_vec(body).unwrap();
        self.send(method, path, "application/json", media, body).await
    }

    /// All events of a watch that ends by itself.
    pub(crate) async fn watch(&self, path: &str, form: &str) -> Vec<Value> {
        let (code, text) = self.read("GET", path, form, "", Vec::new()).await;
        assert_eq!(code, 200, "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        media: &str,
        body: Vec<u8>,
    ) -> Answer {
        let (code, text) = self.read(method, path, accept, media, body).await;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { code, body }
    }

    async fn read(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        media: &str,
        body: Vec<u8>,
    ) -> (u16, String) {
        let mut request =
            http::Request::builder().method(method).uri(path).header("accept", accept);
        if !media.is_empty() {
            request = request.header("content-type", media);
        }
        let request = request.body(Body::from(body)).unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status().as_u16();
        let whole = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(whole.to_vec()).unwrap())
    }

    /// Serves a kind `Widget` of the case's own group, in `v1` (stored) and `v1beta1`, with a
    /// status, a schema and printer columns.
    pub(crate) async fn serve_widgets(&self) {
        let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let name = format!("widgets.{}", self.group);
        self.post(crds, &widget_crd(&self.group)).await.ok();
        for _ in 0..500 {
            let crd = self.get(&format!("{crds}/{name}")).await.ok();
            let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let established = conditions
                .iter()
                .any(|one| one["type"] == "Established" && one["status"] == "True");
            if established && self.get(&self.widgets()).await.code == 200 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{name} is not served within ten seconds");
    }
}

/// A ConfigMap.
pub(crate) fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

/// A Widget of the case's group.
pub(crate) fn widget(case: &Case, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{}/v1", case.group), "kind": "Widget",
        "metadata": {"name": name}, "spec": spec})
}

fn widget_crd(group: &str) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "string", "enum": ["S", "L"]},
            "code": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
            "ips": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
            "count": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"conditions": {"type": "array", "items": {
            "type": "object", "required": ["type", "status"], "properties": {
                "type": {"type": "string"}, "status": {"type": "string"}}}}}}}}});
    let columns = json!([
        {"name": "Size", "type": "string", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Count", "type": "integer", "jsonPath": ".spec.count", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema,
            "subresources": {"status": {}}, "additionalPrinterColumns": columns})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [version("v1beta1", false), version("v1", true)]}})
}
