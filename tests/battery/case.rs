//! What a case sees: clusters as their administrators see them, in a namespace that is the case's own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Client, ResourceExt,
    api::{
        Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
        PatchParams, PostParams, WatchEvent, WatchParams,
    },
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    objects::{
        CLUSTER_EXPORT, EXPORT, IMPORT, Kind, SERVICE, SLICE, TRAFFIC, conditions, export, merge,
        namespace, pods, service,
    },
    stage::{PATIENCE, Set, patiently},
};

/// What is shown of a case's namespace when it has waited in vain.
const SHOWN: [Kind; 4] = [EXPORT, IMPORT, SERVICE, SLICE];

/// One case: a hub and three members, with a namespace that nobody else uses.
pub(crate) struct Case {
    pub(crate) set: Arc<Set>,
    pub(crate) hub: At,
    pub(crate) paris: At,
    pub(crate) tokyo: At,
    pub(crate) berlin: At,
}

/// A cluster as its administrator sees it, with a namespace for whatever names none.
#[derive(Clone)]
pub(crate) struct At {
    pub(crate) name: &'static str,
    pub(crate) namespace: String,
    client: Client,
}

impl Case {
    /// A case whose namespace, named after it, exists in every member.
    pub(crate) async fn new(set: &Arc<Set>, name: &str) -> Self {
        // A namespace is part of names that have at most 63 characters.
        let namespace: String = name.replace('_', "-").chars().take(40).collect();
        let namespace = namespace.trim_matches('-');
        let case = Self::within(set, namespace).await;
        for at in case.members() {
            at.ensure(self::namespace(namespace)).await;
        }
        case
    }

    /// A case in a namespace that is yet to be made.
    pub(crate) async fn within(set: &Arc<Set>, namespace: &str) -> Self {
        Self {
            hub: set.at("hub", namespace).await,
            paris: set.at("paris", namespace).await,
            tokyo: set.at("tokyo", namespace).await,
            berlin: set.at("berlin", namespace).await,
            set: Arc::clone(set),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.paris.namespace
    }

    pub(crate) fn members(&self) -> [&At; 3] {
        [&self.paris, &self.tokyo, &self.berlin]
    }

    /// The namespace on the hub in which a member keeps its exports.
    pub(crate) fn hub_of(&self, member: &str) -> At {
        self.hub.within(&format!("cluster-{member}"))
    }

    /// What a member says on the hub of its export `name`.
    pub(crate) async fn told_by(&self, member: &str, name: &str) -> Option<Value> {
        let name = format!("{}.{name}", self.namespace());
        self.hub_of(member).find(CLUSTER_EXPORT, &name).await
    }

    /// Waits until `check` gives something, and shows the clusters when it does not.
    pub(crate) async fn becomes<T>(&self, what: &str, check: impl AsyncFnMut() -> Option<T>) -> T {
        match patiently(check).await {
            Some(found) => found,
            None => panic!("{what}: not within {PATIENCE:?}\n{}", self.state().await),
        }
    }

    /// Waits until a member imports `name` and says that it is ready.
    pub(crate) async fn imported(&self, at: &At, name: &str) -> Value {
        self.import_says(at, name, "Ready=True/Ready").await
    }

    /// Waits until the import `name` has a condition that begins so.
    pub(crate) async fn import_says(&self, at: &At, name: &str, condition: &str) -> Value {
        self.says(at, IMPORT, name, condition).await
    }

    /// Waits until the export `name` has a condition that begins so.
    pub(crate) async fn export_says(&self, at: &At, name: &str, condition: &str) -> Value {
        self.says(at, EXPORT, name, condition).await
    }

    /// Waits until the TrafficPolicy `name` has a condition that begins so.
    pub(crate) async fn policy_says(&self, at: &At, name: &str, condition: &str) -> Value {
        self.says(at, TRAFFIC, name, condition).await
    }

    async fn says(&self, at: &At, kind: Kind, name: &str, condition: &str) -> Value {
        let what = format!("{}: {} {name} says {condition}", at.name, kind.name);
        self.becomes(&what, async || {
            let object = at.find(kind, name).await?;
            conditions(&object).iter().any(|told| told.starts_with(condition)).then_some(object)
        })
        .await
    }

    /// Waits until a member imports `name` as `check` wants it.
    pub(crate) async fn import_becomes(
        &self,
        at: &At,
        name: &str,
        what: &str,
        check: impl Fn(&Value) -> bool,
    ) -> Value {
        let what = format!("{}: import {name}: {what}", at.name);
        self.becomes(&what, async || at.find(IMPORT, name).await.filter(|import| check(import)))
            .await
    }

    /// Waits until a slice is told so, in the notation of [`told`](super::objects::told).
    pub(crate) async fn slice_is(&self, at: &At, name: &str, wanted: &str) -> Value {
        let what = format!("{}: slice {name} is {wanted}", at.name);
        self.becomes(&what, async || {
            let slice = at.find(SLICE, name).await?;
            (super::objects::told(&slice) == wanted).then_some(slice)
        })
        .await
    }

    /// Waits until an object is gone.
    pub(crate) async fn goes(&self, at: &At, kind: Kind, name: &str) {
        let what = format!("{}: {} {name} goes", at.name, kind.name);
        self.becomes(&what, async || at.find(kind, name).await.is_none().then_some(())).await;
    }

    /// Waits until nothing of ours is left in the case's namespace of a member.
    pub(crate) async fn empties(&self, at: &At) {
        let what = format!("{}: nothing of ours is left", at.name);
        self.becomes(&what, async || {
            let mut left = at.list(IMPORT, "").await;
            left.extend(at.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await);
            left.extend(
                at.list(SLICE, "endpointslice.kubernetes.io/managed-by=landbridge.dev").await,
            );
            left.is_empty().then_some(())
        })
        .await;
    }

    /// Waits until every controller has taken in all that was written before, by an export that comes after it.
    ///
    /// Each API tells one watch of what was written in order, and what is told is planned in that order.
    pub(crate) async fn passes(&self, mark: &str) {
        for at in self.members() {
            at.create(service(mark, &["80"], json!({}))).await;
            at.create(export(mark)).await;
        }
        for at in self.members() {
            self.import_becomes(at, mark, "names all members", |import| {
                import["status"]["clusters"].as_array().is_some_and(|all| all.len() == 3)
            })
            .await;
        }
        for at in self.members() {
            self.export_says(at, mark, "Ready=True").await;
        }
    }

    /// Returns when exports made from now on are younger than `export`, whose time is told in whole seconds.
    pub(crate) async fn older(&self, export: &Value) {
        let made = export["metadata"]["creationTimestamp"].as_str().unwrap();
        let made: Timestamp = made.parse().unwrap();
        let is_past = async || (Timestamp::now().as_second() > made.as_second()).then_some(());
        self.becomes("a second passes", is_past).await;
    }

    /// What stands in the case's namespace, a line for each object.
    async fn state(&self) -> String {
        let mut text = String::new();
        for at in self.members() {
            writeln!(text, "── {}", at.name).unwrap();
            for kind in SHOWN {
                for object in at.list(kind, "").await {
                    writeln!(text, "{}", line(kind, object)).unwrap();
                }
            }
        }
        writeln!(text, "── hub").unwrap();
        for object in self.hub.within("").list(CLUSTER_EXPORT, "").await {
            if object["spec"]["service"]["namespace"] == self.namespace() {
                writeln!(text, "{}", line(CLUSTER_EXPORT, object)).unwrap();
            }
        }
        text
    }
}

fn line(kind: Kind, mut object: Value) -> String {
    let name = object["metadata"]["name"].to_string();
    let fields = object.as_object_mut().unwrap();
    fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
    let metadata = fields["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    let text = object.to_string();
    let short: String = text.chars().take(2_000).collect();
    format!("{} {name}: {short}", kind.name)
}

impl At {
    pub(crate) fn new(name: &'static str, client: Client, namespace: String) -> Self {
        Self { name, namespace, client }
    }

    /// The same cluster, with another namespace.
    pub(crate) fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// A client that may do everything.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        self.api_in(kind, &self.namespace)
    }

    fn api_in(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = kind.version.split_once('/').unwrap_or(("", kind.version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name));
        if namespace.is_empty() || kind.is_cluster_scoped() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    /// Creates an object, or says why it cannot be.
    pub(crate) async fn attempt(&self, object: Value) -> kube::Result<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, name) = (text(&object["apiVersion"]), text(&object["kind"]));
        let namespace = text(&object["metadata"]["namespace"]);
        let namespace = if namespace.is_empty() { self.namespace.clone() } else { namespace };
        let (group, short) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, short, &name));
        let is_scoped = ["Namespace", "Member", "Peer"].contains(&name.as_str());
        let api: Api<DynamicObject> = if is_scoped {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &namespace, &resource)
        };
        let object = serde_json::from_value(object).unwrap();
        let made = api.create(&PostParams::default(), &object).await?;
        Ok(serde_json::to_value(made).unwrap())
    }

    /// Creates an object.
    pub(crate) async fn create(&self, object: Value) -> Value {
        let shown: String = object.to_string().chars().take(400).collect();
        match self.attempt(object).await {
            Ok(made) => made,
            Err(error) => panic!("{}: {shown}: {error}", self.name),
        }
    }

    /// Creates an object unless there is one of its name.
    pub(crate) async fn ensure(&self, object: Value) {
        match self.attempt(object).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            made => drop(made.unwrap()),
        }
    }

    pub(crate) async fn find(&self, kind: Kind, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await.unwrap()?;
        Some(serde_json::to_value(found).unwrap())
    }

    /// An object that must be there.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Value {
        let found = self.find(kind, name).await;
        found.unwrap_or_else(|| panic!("{}: there is no {} {name}", self.name, kind.name))
    }

    /// The objects of a kind that labels select, in the namespace or, where it is empty, in all.
    pub(crate) async fn list(&self, kind: Kind, labels: &str) -> Vec<Value> {
        let found = self.api(kind).list(&ListParams::default().labels(labels)).await.unwrap();
        found.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
    }

    /// Merges a patch into an object.
    pub(crate) async fn edit(&self, kind: Kind, name: &str, patch: Value) -> Value {
        let patch = Patch::Merge(patch);
        let edited = self.api(kind).patch(name, &PatchParams::default(), &patch).await;
        serde_json::to_value(edited.unwrap()).unwrap()
    }

    /// Merges a patch into the status of an object.
    pub(crate) async fn edit_status(&self, kind: Kind, name: &str, patch: Value) {
        self.try_status(kind, name, patch).await.unwrap();
    }

    /// The same, or says why it cannot be done.
    pub(crate) async fn try_status(
        &self,
        kind: Kind,
        name: &str,
        patch: Value,
    ) -> kube::Result<()> {
        let api = self.api(kind);
        let patch = Patch::Merge(json!({ "status": patch }));
        api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Puts a slice of the pods of a Service in the place of the one that is there.
    pub(crate) async fn replace_pods(&self, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let parts = json!({"ports": object["ports"], "endpoints": object["endpoints"]});
        self.edit(SLICE, &name, parts).await;
    }

    pub(crate) async fn delete(&self, kind: Kind, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Deletes an object if it is there.
    pub(crate) async fn remove(&self, kind: Kind, name: &str) {
        match self.api(kind).delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.reason == "NotFound" => {}
            gone => drop(gone.unwrap()),
        }
    }

    /// A Service with ready pods, one slice for each family.
    pub(crate) async fn serve(&self, name: &str, ports: &[&str], spec: Value, endpoints: &[&str]) {
        self.create(service(name, ports, spec)).await;
        for family in ["IPv4", "IPv6"] {
            let of = |endpoint: &&&str| super::objects::family(endpoint) == family;
            let endpoints: Vec<&str> = endpoints.iter().filter(of).copied().collect();
            if !endpoints.is_empty() {
                self.create(pods(name, ports, &endpoints)).await;
            }
        }
    }

    /// Exports a Service.
    pub(crate) async fn export(&self, name: &str) -> Value {
        self.create(export(name)).await
    }

    /// Exports a Service with labels and annotations.
    pub(crate) async fn export_with(&self, name: &str, spec: Value) -> Value {
        let mut object = export(name);
        merge(&mut object, &json!({ "spec": spec }));
        self.create(object).await
    }

    /// Follows the objects of a kind from now on.
    pub(crate) async fn follow(&self, kind: Kind) -> Following {
        let api = self.api(kind);
        let listed = api.list(&ListParams::default()).await.unwrap();
        let version = listed.metadata.resource_version.unwrap();
        let before = listed
            .items
            .iter()
            .map(|object| (object.name_any(), object.resource_version().unwrap().parse().unwrap()));
        let before = before.collect();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let sink = Arc::clone(&seen);
        let watch = WatchParams::default().timeout(290);
        let mut events = Box::pin(api.watch(&watch, &version).await.unwrap());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let (what, object) = match event.unwrap() {
                    WatchEvent::Added(object) => (What::Added, object),
                    WatchEvent::Modified(object) => (What::Modified, object),
                    WatchEvent::Deleted(object) => (What::Deleted, object),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(status) => panic!("{status:?}"),
                };
                let name = object.name_any();
                let object = serde_json::to_value(object).unwrap();
                sink.lock().unwrap().push(Seen { what, name, object });
            }
        });
        Following { before, seen, task }
    }
}

/// What has become of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    Added,
    Deleted,
    Modified,
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) what: What,
    pub(crate) name: String,
    pub(crate) object: Value,
}

/// A watch: it sees what happens between two looks as well.
pub(crate) struct Following {
    /// The versions in which objects were there when it began.
    before: BTreeMap<String, u64>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Following {
    /// Everything that has happened to an object, once what is there now has been seen as well.
    pub(crate) async fn of(&self, at: &At, kind: Kind, name: &str) -> Vec<Seen> {
        let now = at.find(kind, name).await;
        let version = |object: &Value| -> u64 {
            object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        };
        let caught_up = async || {
            let all = self.all(name);
            let has = match (&now, all.last()) {
                (None, None) => !self.before.contains_key(name),
                (None, Some(last)) => last.what == What::Deleted,
                // It was there before, and nothing has happened to it.
                (Some(now), None) => self.before.get(name) == Some(&version(now)),
                (Some(now), Some(last)) => version(&last.object) >= version(now),
            };
            has.then_some(())
        };
        patiently(caught_up).await.expect("the watch falls behind");
        self.all(name)
    }

    fn all(&self, name: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.name == name).cloned().collect()
    }

    /// How often each object of a name was written.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for seen in self.seen.lock().unwrap().iter() {
            *counts.entry(seen.name.clone()).or_default() += 1;
        }
        counts
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}
