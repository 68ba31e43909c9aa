//! Pure: the cluster's objects, their history, and what each verb does to them. Time and
//! randomness come in with [`Stamp`]; the lock and the waking of watchers are in `store.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::admit;
use crate::error::{ApiError, Cause};
use crate::object::{as_map, keep, list, map, name, namespace, set_meta, text};
use crate::patch::Patch;
use crate::resource::{Resource, Served, core_kinds};
use crate::services::ClusterIps;

/// How many changes a watch can be behind before it has to list again. Several thousand exports
/// made at once write about four objects each; a watcher that is busy with the first still finds
/// the last. At 2 kB an object this holds some 30 MB.
const HISTORY: usize = 16_384;

/// Where an object stands within its kind. Ordered as lists are.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What the outside gives to a write: the time, and randomness for a uid and a generated name.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// RFC 3339 in UTC and whole seconds, as `metav1.Time` is written.
    pub(crate) now: String,
    pub(crate) uid: String,
    pub(crate) suffix: String,
}

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Part {
    /// Everything but the status, where the kind keeps that apart.
    #[default]
    Main,
    /// The status alone.
    Status,
}

/// How a write is meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Check and answer, but keep nothing.
    pub(crate) dry_run: bool,
    /// Refuse unknown fields of custom resources instead of dropping them.
    pub(crate) strict: bool,
    pub(crate) part: Part,
    /// What a delete insists on, as `/metadata/…` pointers and values.
    pub(crate) insist: Vec<(&'static str, String)>,
}

/// One write: of what, where, how and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    pub(crate) at: &'a Served,
    pub(crate) key: &'a Key,
    pub(crate) options: &'a Options,
    pub(crate) stamp: &'a Stamp,
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
    objects: BTreeMap<Arc<str>, BTreeMap<Key, Arc<Value>>>,
    history: VecDeque<Change>,
    version: u64,
    ips: ClusterIps,
}

impl State {
    pub(crate) fn new(ips: ClusterIps) -> Self {
        let resources = core_kinds().into_iter().map(Arc::new).collect();
        // Version 0 means "any" in requests, so that the first change is number 2, as with etcd.
        Self {
            resources,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            version: 1,
            ips,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The kind that a path names.
    pub(crate) fn served(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Result<Served, ApiError> {
        let found = self
            .resources
            .iter()
            .find(|resource| resource.is(group, plural));
        found
            .and_then(|found| Served::new(found, version))
            .ok_or_else(ApiError::unknown_path)
    }

    /// The kind that an object says it is.
    pub(crate) fn served_kind(&self, api_version: &str, kind: &str) -> Result<Served, ApiError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut known = self.resources.iter();
        let found = known.find(|known| known.group == group && known.kind == kind);
        let message = || format!("no matches for kind \"{kind}\" in version \"{api_version}\"");
        let refuse = || ApiError::bad_request(message());
        found
            .and_then(|resource| Served::new(resource, version))
            .ok_or_else(refuse)
    }

    pub(crate) fn find(&self, at: &Served, key: &Key) -> Result<&Arc<Value>, ApiError> {
        let set = self.objects.get(&at.resource.storage);
        set.and_then(|set| set.get(key))
            .ok_or_else(|| ApiError::not_found(&at.resource, &key.name))
    }

    /// The objects of one kind as they were at `version`, in order. 410 when that is forgotten.
    pub(crate) fn list(
        &self,
        at: &Served,
        within: Option<&str>,
        version: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, ApiError> {
        let mut then = self
            .objects
            .get(&at.resource.storage)
            .cloned()
            .unwrap_or_default();
        for change in self
            .since(version)?
            .rev()
            .filter(|one| one.storage == at.resource.storage)
        {
            match &change.before {
                Some(before) => then.insert(change.key.clone(), Arc::clone(before)),
                None => then.remove(&change.key),
            };
        }
        then.retain(|key, _| within.is_none_or(|within| key.namespace == within));
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
        let wanted = usize::try_from(self.version - version).unwrap_or(usize::MAX);
        let Some(skip) = self.history.len().checked_sub(wanted) else {
            let oldest = self.version - self.history.len() as u64;
            return Err(ApiError::new(
                410,
                format!("too old resource version: {version} ({oldest})"),
            ));
        };
        Ok(self.history.range(skip..))
    }

    /// Forgets every change, and leaves every version handed out so far behind.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.version += 1;
    }

    /// Creates an object in the namespace of the key; its name is its own.
    pub(crate) fn create(
        &mut self,
        to: Write<'_>,
        mut object: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let Write {
            at, options, stamp, ..
        } = to;
        admit::check_type(at, &mut object)?;
        let key = self.place(to, &mut object)?;
        if !text(&object, "/metadata/resourceVersion").is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::bad_request(message));
        }
        for gone in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ] {
            map(&mut object, "metadata").remove(gone);
        }
        set_meta(&mut object, "uid", stamp.uid.as_str());
        set_meta(&mut object, "creationTimestamp", stamp.now.as_str());
        if at.resource.generation {
            set_meta(&mut object, "generation", 1);
        }
        admit::reset_status(at, &mut object);
        let kind = self.finish(to, &mut object, None)?;
        if self.find(at, &key).is_ok() {
            return Err(ApiError::already_exists(&at.resource, &key.name));
        }
        if options.dry_run {
            return Ok(Arc::new(object));
        }
        self.resources.extend(kind.map(Arc::new));
        Ok(self.commit(&at.resource.storage, &key, None, object, false))
    }

    pub(crate) fn update(
        &mut self,
        to: Write<'_>,
        mut object: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let current = Arc::clone(self.find(to.at, to.key)?);
        admit::check_type(to.at, &mut object)?;
        let blind = text(&object, "/metadata/resourceVersion").is_empty();
        if blind && !to.at.resource.unconditional {
            let message = "Invalid value: 0x0: must be specified for an update";
            let cause = Cause::new("metadata.resourceVersion", message);
            return Err(ApiError::invalid(&to.at.resource, &to.key.name, &[cause]));
        }
        self.replace(to, &current, object)
    }

    pub(crate) fn patch(&mut self, to: Write<'_>, patch: &Patch) -> Result<Arc<Value>, ApiError> {
        let current = Arc::clone(self.find(to.at, to.key)?);
        let mut object = (*current).clone();
        admit::from_stored(to.at, &mut object);
        patch.apply(&mut object)?;
        admit::check_type(to.at, &mut object)?;
        self.replace(to, &current, object)
    }

    /// Deletes one object. Says what it was last, and whether finalizers hold it, marked.
    pub(crate) fn delete(&mut self, to: Write<'_>) -> Result<(Arc<Value>, bool), ApiError> {
        let current = Arc::clone(self.find(to.at, to.key)?);
        for (field, wanted) in &to.options.insist {
            let found = text(&current, field);
            if found != wanted {
                let why = format!("Precondition failed: {field} is {found}, not {wanted}");
                return Err(ApiError::conflict(&to.at.resource, &to.key.name, &why));
            }
        }
        let held = !list(&current, "/metadata/finalizers").is_empty();
        let marked = !text(&current, "/metadata/deletionTimestamp").is_empty();
        if to.options.dry_run || (held && marked) {
            return Ok((current, held));
        }
        let mut object = (*current).clone();
        if held {
            set_meta(&mut object, "deletionTimestamp", to.stamp.now.as_str());
            set_meta(&mut object, "deletionGracePeriodSeconds", 0);
        }
        Ok((self.commit_change(to, &current, object, !held), held))
    }

    /// Keeps an object as it is, in place of one of the same name, without looking at it.
    pub(crate) fn insert_unchecked(&mut self, at: &Served, mut object: Value) -> Arc<Value> {
        admit::to_stored(at, &mut object);
        let key = Key {
            namespace: namespace(&object).to_owned(),
            name: name(&object).to_owned(),
        };
        let before = self.find(at, &key).ok().cloned();
        self.commit(&at.resource.storage, &key, before, object, false)
    }

    fn replace(
        &mut self,
        to: Write<'_>,
        current: &Arc<Value>,
        mut object: Value,
    ) -> Result<Arc<Value>, ApiError> {
        check_identity(to, current, &object)?;
        let mut before = (**current).clone();
        admit::from_stored(to.at, &mut before);
        if to.options.part == Part::Status {
            std::mem::swap(&mut object, &mut before);
        }
        if to.options.part == Part::Status || to.at.version().status {
            keep(as_map(&mut object), Some(&before), "status");
        }
        for field in [
            "creationTimestamp",
            "deletionGracePeriodSeconds",
            "deletionTimestamp",
            "generation",
            "namespace",
            "resourceVersion",
            "uid",
        ] {
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
        if to.options.dry_run {
            return Ok(Arc::new(object));
        }
        if let Some(kind) = kind {
            self.resources.retain(|known| known.storage != kind.storage);
            self.resources.push(Arc::new(kind));
        }
        let leaving = !text(&object, "/metadata/deletionTimestamp").is_empty();
        let deleted = leaving && list(&object, "/metadata/finalizers").is_empty();
        Ok(self.commit_change(to, current, object, deleted))
    }

    /// Checks and completes an object and brings it into the form that is kept. Of a CRD, returns
    /// the kind that it defines.
    fn finish(
        &self,
        to: Write<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Resource>, ApiError> {
        let resource = &to.at.resource;
        admit::check_object(to.at, object, to.options.strict)?;
        if resource.is("", "services") {
            self.ips.complete(resource, object, old)?;
        }
        admit::to_stored(to.at, object);
        if !is_crd(resource) {
            return Ok(None);
        }
        let kind = self.establish(object, &to.stamp.now).map_err(|why| {
            let (field, message) = why.split_once(": ").unwrap_or(("spec", &why));
            ApiError::invalid(resource, name(object), &[Cause::new(field, message)])
        })?;
        Ok(Some(kind))
    }

    /// Reads a CRD, and writes the status that kube-apiserver's own controllers would.
    fn establish(&self, crd: &mut Value, now: &str) -> Result<Resource, String> {
        let kind = Resource::from_crd(crd)?;
        let mut known = self.resources.iter();
        if known.any(|known| known.is(&kind.group, &kind.plural) && known.storage != kind.storage) {
            return Err("spec.group: Invalid value: is served already".into());
        }
        let since = text(crd, "/status/conditions/0/lastTransitionTime");
        let since = if since.is_empty() { now } else { since }.to_owned();
        let conditions = ["NamesAccepted", "Established"].map(|condition| {
            json!({"type": condition, "status": "True", "reason": "Accepted", "message": "",
                "lastTransitionTime": since})
        });
        let stored = kind.stored_api_version.rsplit('/').next();
        let mut names = crd["spec"]["names"].clone();
        as_map(&mut names).insert("singular".into(), json!(kind.singular));
        as_map(&mut names)
            .entry("listKind")
            .or_insert_with(|| json!(format!("{}List", kind.kind)));
        let status =
            json!({"acceptedNames": names, "storedVersions": [stored], "conditions": conditions});
        as_map(crd).insert("status".into(), status);
        Ok(kind)
    }

    /// Gives a new object its name and namespace; 404 when the namespace is not there.
    fn place(&self, to: Write<'_>, object: &mut Value) -> Result<Key, ApiError> {
        let (resource, within) = (&to.at.resource, &to.key.namespace);
        if name(object).is_empty() {
            // kube-apiserver's own cut, so that prefix and suffix fit into a label.
            let prefix: String = text(object, "/metadata/generateName")
                .chars()
                .take(58)
                .collect();
            if prefix.is_empty() {
                let cause = Cause::new(
                    "metadata.name",
                    "Required value: name or generateName is required",
                );
                return Err(ApiError::invalid(resource, "", &[cause]));
            }
            set_meta(object, "name", format!("{prefix}{}", to.stamp.suffix));
        }
        let given = namespace(object);
        if !given.is_empty() && given != within {
            let message = "the namespace of the provided object does not match the request's";
            return Err(ApiError::bad_request(message));
        }
        let key = Key {
            namespace: within.clone(),
            name: name(object).to_owned(),
        };
        if resource.namespaced {
            let home = Key {
                namespace: String::new(),
                name: within.clone(),
            };
            self.find(&self.served("", "v1", "namespaces")?, &home)?;
            set_meta(object, "namespace", within.as_str());
        }
        Ok(key)
    }

    fn commit_change(
        &mut self,
        to: Write<'_>,
        current: &Arc<Value>,
        object: Value,
        deleted: bool,
    ) -> Arc<Value> {
        let name = &to.key.name;
        if deleted && to.at.resource.is("", "namespaces") {
            self.delete_all(|_, key| key.namespace == *name);
        }
        if deleted && is_crd(&to.at.resource) {
            self.delete_all(|storage, _| storage == name);
            self.resources
                .retain(|resource| *resource.storage != **name);
        }
        let before = Some(Arc::clone(current));
        self.commit(&to.at.resource.storage, to.key, before, object, deleted)
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
        let object = Arc::new(object);
        let set = self.objects.entry(Arc::clone(storage)).or_default();
        if deleted {
            set.remove(key);
        } else {
            set.insert(key.clone(), Arc::clone(&object));
        }
        if &**storage == "services" {
            self.ips
                .settle(before.as_deref(), (!deleted).then_some(&*object));
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let (storage, key, kept) = (Arc::clone(storage), key.clone(), Arc::clone(&object));
        self.history.push_back(Change {
            storage,
            key,
            before,
            object: kept,
            deleted,
        });
        object
    }
}

fn is_crd(resource: &Resource) -> bool {
    resource.is("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Refuses a write that means another object, or one that has moved on since.
fn check_identity(to: Write<'_>, current: &Value, object: &Value) -> Result<(), ApiError> {
    let (named, within) = (name(object), namespace(object));
    if named != to.key.name || (!within.is_empty() && *within != to.key.namespace) {
        let message =
            format!("the object's name {within}/{named} does not match the one on the URL");
        return Err(ApiError::bad_request(message));
    }
    let moved = "the object has been modified; please apply your changes to the latest version and \
                 try again";
    for (field, why) in [
        ("/metadata/uid", "Precondition failed: the UID is another"),
        ("/metadata/resourceVersion", moved),
    ] {
        let given = text(object, field);
        if !given.is_empty() && given != text(current, field) {
            return Err(ApiError::conflict(&to.at.resource, &to.key.name, why));
        }
    }
    Ok(())
}

/// What `metadata.generation` counts changes of: everything but metadata and status.
fn wishes(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "metadata" | "status"))
        .collect()
}
