//! Pure: the cluster's objects, their history, and what each verb does to them. Time and
//! randomness come in with [`To`]; the lock and the waking of watchers are in `store.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::admit;
use crate::error::{ApiError, Cause, Made};
use crate::object::{as_map, keep, list, map, name, namespace, set_meta, text};
use crate::patch::Patch;
use crate::resource::{Resource, Served, core_kinds};
use crate::services::ClusterIps;

/// How many changes a watch can be behind before it has to list again. Several thousand exports
/// made at once write about four objects each; a watcher that is busy with the first still finds
/// the last. At 2 kB an object this holds some 30 MB.
const HISTORY: usize = 16_384;

/// Where an object stands within its kind: namespace and name. Ordered as lists are.
pub(crate) type Key = (String, String);

/// The objects of one kind.
pub(crate) type Set = BTreeMap<Key, Arc<Value>>;

/// One write: of what kind, where, how and when.
#[derive(Clone, Debug)]
pub(crate) struct To {
    pub(crate) at: Served,
    pub(crate) key: Key,
    /// Write the status and nothing else; otherwise everything else, where the kind keeps them apart.
    pub(crate) status: bool,
    /// What a delete insists on, as `/metadata/…` pointers and values.
    pub(crate) insist: Vec<(&'static str, String)>,
    /// RFC 3339 in UTC and whole seconds, as `metav1.Time` is written.
    pub(crate) now: String,
    /// The uid of an object that is created, and the end of its name if that is generated.
    pub(crate) uid: String,
    pub(crate) suffix: String,
}

/// One change of one object. The version of the n-th one is that of the first plus n.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) storage: Arc<str>,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    /// The new object; for a deletion the last one, with the deletion's own version.
    pub(crate) object: Arc<Value>,
    pub(crate) deleted: bool,
}

/// All there is.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) resources: Vec<Arc<Resource>>,
    objects: BTreeMap<Arc<str>, Set>,
    history: VecDeque<Change>,
    /// Version 0 means "any" in requests, so that the first change is number 2, as with etcd.
    pub(crate) version: u64,
    ips: ClusterIps,
}

impl State {
    pub(crate) fn new(ips: ClusterIps) -> Self {
        let resources = core_kinds().into_iter().map(Arc::new).collect();
        let (objects, history) = (BTreeMap::new(), VecDeque::new());
        Self { resources, objects, history, version: 1, ips }
    }

    /// The kind that a path names.
    pub(crate) fn served(&self, group: &str, version: &str, plural: &str) -> Option<Served> {
        let mut known = self.resources.iter();
        Served::new(known.find(|known| known.is(group, plural))?, version)
    }

    /// The kind that an object says it is.
    pub(crate) fn served_kind(&self, api_version: &str, kind: &str) -> Result<Served, ApiError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut known = self.resources.iter();
        let found = known.find(|known| known.group == group && known.kind == kind);
        let message = format!("no matches for kind \"{kind}\" in version \"{api_version}\"");
        let served = found.and_then(|found| Served::new(found, version));
        served.ok_or_else(|| ApiError::new(400, message))
    }

    pub(crate) fn find(&self, at: &Served, key: &Key) -> Result<&Arc<Value>, ApiError> {
        let set = self.objects.get(&at.resource.storage);
        let found = set.and_then(|set| set.get(key));
        found.ok_or_else(|| ApiError::not_found(&at.resource, &key.1))
    }

    /// The objects of one kind, in one namespace or in all, as they were at `version`. 410 when
    /// that is forgotten.
    pub(crate) fn list(
        &self,
        at: &Served,
        within: Option<&str>,
        version: u64,
    ) -> Result<Set, ApiError> {
        let storage = &at.resource.storage;
        let mut then = self.objects.get(storage).cloned().unwrap_or_default();
        let later = self.since(version)?.rev();
        for change in later.filter(|change| change.storage == *storage) {
            match &change.before {
                Some(before) => then.insert(change.key.clone(), Arc::clone(before)),
                None => then.remove(&change.key),
            };
        }
        then.retain(|key, _| within.is_none_or(|within| key.0 == within));
        Ok(then)
    }

    /// The changes after `version`, oldest first. 410 when some of them are forgotten.
    pub(crate) fn since(
        &self,
        version: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Change>, ApiError> {
        if version > self.version {
            return Err(ApiError::version_ahead(version, self.version));
        }
        let oldest = self.version - self.history.len() as u64;
        match version.checked_sub(oldest).map(usize::try_from) {
            Some(Ok(skip)) => Ok(self.history.range(skip..)),
            _ => {
                let message = format!("too old resource version: {version} ({oldest})");
                Err(ApiError::new(410, message))
            }
        }
    }

    /// Forgets every change, and leaves every version handed out so far behind.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.version += 1;
    }

    /// Creates an object in the namespace of the key; its name is its own.
    pub(crate) fn create(&mut self, to: &To, mut object: Value) -> Made {
        let resource = &to.at.resource;
        admit::check_type(&to.at, &mut object)?;
        let key = self.place(to, &mut object)?;
        for gone in ["deletionTimestamp", "generation", "resourceVersion"] {
            map(&mut object, "metadata").remove(gone);
        }
        set_meta(&mut object, "uid", to.uid.as_str());
        set_meta(&mut object, "creationTimestamp", to.now.as_str());
        if resource.generation {
            set_meta(&mut object, "generation", 1);
        }
        admit::reset_status(&to.at, &mut object);
        let kind = self.finish(to, &mut object, None)?;
        if self.find(&to.at, &key).is_ok() {
            return Err(ApiError::already_exists(resource, &key.1));
        }
        self.resources.extend(kind.map(Arc::new));
        Ok(self.commit(&resource.storage, &key, None, object, false))
    }

    pub(crate) fn update(&mut self, to: &To, mut object: Value) -> Made {
        let current = Arc::clone(self.find(&to.at, &to.key)?);
        let resource = &to.at.resource;
        admit::check_type(&to.at, &mut object)?;
        if text(&object, "/metadata/resourceVersion").is_empty() && !resource.unconditional {
            let message = "Invalid value: 0x0: must be specified for an update";
            let cause = Cause::new("metadata.resourceVersion", message);
            return Err(ApiError::invalid(resource, &to.key.1, &[cause]));
        }
        self.replace(to, &current, object)
    }

    pub(crate) fn patch(&mut self, to: &To, patch: &Patch) -> Made {
        let current = Arc::clone(self.find(&to.at, &to.key)?);
        let mut object = (*current).clone();
        admit::convert(&to.at.api_version(), &mut object);
        patch.apply(&mut object)?;
        admit::check_type(&to.at, &mut object)?;
        // An update that means another uid is a conflict; a patch has read what it changes.
        if object["metadata"]["uid"] != current["metadata"]["uid"] {
            let cause = Cause::new("metadata.uid", "Invalid value: field is immutable");
            return Err(ApiError::invalid(&to.at.resource, &to.key.1, &[cause]));
        }
        self.replace(to, &current, object)
    }

    /// Deletes one object, or marks it when finalizers hold it. Returns what it was last.
    pub(crate) fn delete(&mut self, to: &To) -> Made {
        let current = Arc::clone(self.find(&to.at, &to.key)?);
        for (field, wanted) in &to.insist {
            let found = text(&current, field);
            if found != wanted {
                let why = format!("Precondition failed: {field} is {found}, not {wanted}");
                return Err(ApiError::conflict(&to.at.resource, &to.key.1, &why));
            }
        }
        let mut object = (*current).clone();
        if is_held(&object) {
            let marked = map(&mut object, "metadata").entry("deletionTimestamp");
            marked.or_insert_with(|| json!(to.now));
        }
        if is_held(&object) && object == *current {
            return Ok(current);
        }
        let deleted = !is_held(&object);
        Ok(self.commit_change(to, &current, object, deleted))
    }

    /// Keeps an object as it is, in place of one of the same name, without looking at it.
    pub(crate) fn insert_unchecked(&mut self, to: &To, mut object: Value) -> Made {
        admit::convert(&to.at.resource.stored_api_version, &mut object);
        let before = self.find(&to.at, &to.key).ok().cloned();
        Ok(self.commit(&to.at.resource.storage, &to.key, before, object, false))
    }

    fn replace(&mut self, to: &To, current: &Arc<Value>, mut object: Value) -> Made {
        check_identity(to, current, &object)?;
        let mut before = (**current).clone();
        admit::convert(&to.at.api_version(), &mut before);
        if to.status {
            std::mem::swap(&mut object, &mut before);
        }
        if to.status || to.at.version().status {
            keep(as_map(&mut object), Some(&before), "status");
        }
        let identity = ["creationTimestamp", "namespace", "resourceVersion", "uid"];
        for field in identity.iter().chain(&["deletionTimestamp", "generation"]) {
            keep(map(&mut object, "metadata"), current.get("metadata"), field);
        }
        let kind = self.finish(to, &mut object, Some(current))?;
        if to.at.resource.generation && wishes(&object) != wishes(current) {
            let generation = current["metadata"]["generation"].as_i64().unwrap_or(0);
            set_meta(&mut object, "generation", generation + 1);
        }
        if object == **current {
            return Ok(Arc::clone(current));
        }
        if let Some(kind) = kind {
            self.resources.retain(|known| known.storage != kind.storage);
            self.resources.push(Arc::new(kind));
        }
        let leaving = !text(&object, "/metadata/deletionTimestamp").is_empty();
        let deleted = leaving && !is_held(&object);
        Ok(self.commit_change(to, current, object, deleted))
    }

    /// Checks and completes an object and brings it into the form that is kept. Of a CRD, returns
    /// the kind that it defines.
    fn finish(
        &self,
        to: &To,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Resource>, ApiError> {
        let resource = &to.at.resource;
        admit::check_object(&to.at, object)?;
        if resource.is("", "services") {
            self.ips.complete(resource, object, old)?;
        }
        admit::convert(&to.at.resource.stored_api_version, object);
        if !is_crd(resource) {
            return Ok(None);
        }
        let kind = self.establish(object, &to.now).map_err(|(field, why)| {
            ApiError::invalid(resource, name(object), &[Cause::new(field, why)])
        })?;
        Ok(Some(kind))
    }

    /// Reads a CRD, and writes the status that kube-apiserver's own controllers would.
    fn establish(&self, crd: &mut Value, now: &str) -> Result<Resource, (&'static str, String)> {
        let kind = Resource::from_crd(crd)?;
        let known = self.resources.iter().find(|known| known.is(&kind.group, &kind.plural));
        if known.is_some_and(|known| known.storage != kind.storage) {
            return Err(("spec.group", "Invalid value: is served already".into()));
        }
        let since = text(crd, "/status/conditions/0/lastTransitionTime");
        let since = if since.is_empty() { now } else { since };
        let conditions = ["NamesAccepted", "Established"].map(|condition| {
            json!({"type": condition, "status": "True", "reason": "Accepted", "message": "",
                "lastTransitionTime": since})
        });
        let stored = kind.stored_api_version.rsplit('/').next();
        let mut names = crd["spec"]["names"].clone();
        names["singular"] = json!(kind.singular);
        names["listKind"] = json!(format!("{}List", kind.kind));
        crd["status"] =
            json!({"acceptedNames": names, "storedVersions": [stored], "conditions": conditions});
        Ok(kind)
    }

    /// Gives a new object its name and namespace; 404 when the namespace is not there.
    fn place(&self, to: &To, object: &mut Value) -> Result<Key, ApiError> {
        let (resource, within) = (&to.at.resource, &to.key.0);
        if name(object).is_empty() {
            // kube-apiserver's own cut, so that prefix and suffix fit into a label.
            let prefix = text(object, "/metadata/generateName").chars().take(58);
            let prefix: String = prefix.collect();
            if prefix.is_empty() {
                let cause = Cause::new("metadata.name", "Required value: or generateName");
                return Err(ApiError::invalid(resource, "", &[cause]));
            }
            set_meta(object, "name", prefix + &to.suffix);
        }
        let given = namespace(object);
        if !given.is_empty() && given != within {
            let message = "the object's namespace does not match the request's";
            return Err(ApiError::new(400, message));
        }
        if resource.namespaced {
            let namespaces = self.served_kind("v1", "Namespace")?;
            self.find(&namespaces, &(String::new(), within.clone()))?;
            set_meta(object, "namespace", within.as_str());
        }
        Ok((within.clone(), name(object).to_owned()))
    }

    fn commit_change(
        &mut self,
        to: &To,
        current: &Arc<Value>,
        object: Value,
        deleted: bool,
    ) -> Arc<Value> {
        let (resource, name) = (&to.at.resource, &to.key.1);
        if deleted && resource.is("", "namespaces") {
            self.delete_all(|_, key| key.0 == *name);
        }
        if deleted && is_crd(resource) {
            self.delete_all(|storage, _| storage == name);
            self.resources.retain(|known| *known.storage != **name);
        }
        let before = Some(Arc::clone(current));
        self.commit(&resource.storage, &to.key, before, object, deleted)
    }

    /// Deletes what stands in a namespace or of a kind that goes. Finalizers do not hold it back:
    /// nothing here would ever come to remove them in time.
    fn delete_all(&mut self, goes: impl Fn(&str, &Key) -> bool) {
        for (storage, set) in self.objects.clone() {
            for (key, object) in set.into_iter().filter(|(key, _)| goes(&storage, key)) {
                let last = (*object).clone();
                self.commit(&storage, &key, Some(object), last, true);
            }
        }
    }

    /// The only place where anything changes: one version, one entry of the history.
    fn commit(
        &mut self,
        storage: &Arc<str>,
        key: &Key,
        before: Option<Arc<Value>>,
        mut object: Value,
        deleted: bool,
    ) -> Arc<Value> {
        self.version += 1;
        set_meta(&mut object, "resourceVersion", self.version.to_string());
        let kept = Arc::new(object);
        let set = self.objects.entry(Arc::clone(storage)).or_default();
        if deleted {
            set.remove(key);
        } else {
            set.insert(key.clone(), Arc::clone(&kept));
        }
        if &**storage == "services" {
            let after = (!deleted).then_some(&*kept);
            self.ips.settle(before.as_deref(), after);
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let (storage, key, object) = (Arc::clone(storage), key.clone(), Arc::clone(&kept));
        self.history.push_back(Change { storage, key, before, object, deleted });
        kept
    }
}

/// Whether finalizers hold an object back from its deletion.
pub(crate) fn is_held(object: &Value) -> bool {
    !list(object, "/metadata/finalizers").is_empty()
}

fn is_crd(resource: &Resource) -> bool {
    resource.is("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Refuses a write that means another object, or one that has moved on since.
fn check_identity(to: &To, current: &Value, object: &Value) -> Result<(), ApiError> {
    let differs = |field: &str| {
        let given = text(object, field);
        !given.is_empty() && given != text(current, field)
    };
    if differs("/metadata/namespace") || name(object) != to.key.1 {
        let message = "the object's name and namespace do not match those on the URL";
        return Err(ApiError::new(400, message));
    }
    let refuse = |why: &str| Err(ApiError::conflict(&to.at.resource, &to.key.1, why));
    if differs("/metadata/uid") {
        return refuse("Precondition failed: the UID is another");
    }
    if differs("/metadata/resourceVersion") {
        let remedy = "please apply your changes to the latest version and try again";
        return refuse(&format!("the object has been modified; {remedy}"));
    }
    Ok(())
}

/// What `metadata.generation` counts changes of: everything but metadata and status.
fn wishes(object: &Value) -> Vec<(&String, &Value)> {
    let others = ["apiVersion", "metadata", "status"];
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(name, _)| !others.contains(&name.as_str())).collect()
}
