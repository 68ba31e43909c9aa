//! Pure: the cluster's objects, their history, and what each verb does to them. Time and
//! randomness come in with [`Stamp`]; the lock and the waking of watchers are in `store.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::{ApiError, Cause};
use crate::object::{as_map, keep, keep_meta, list, map, name, namespace, seconds, set_meta, text};
use crate::patch::Patch;
use crate::resource::{Resource, Served};
use crate::services::ClusterIps;
use crate::{admit, resource};

/// How many changes a watch can be behind before it has to list again. Several thousand exports
/// made at once write about four objects each; a watcher that is busy with the first still finds
/// the last. At 2 kB an object this holds some 30 MB.
pub(crate) const HISTORY: usize = 16_384;

/// Where an object stands within its kind. Ordered as lists are.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What the outside gives to a write: the time, and randomness for a uid and a generated name.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) now: Timestamp,
    pub(crate) uid: String,
    pub(crate) suffix: String,
}

/// How a write is meant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WriteOptions {
    /// Check and answer, but keep nothing.
    pub dry_run: bool,
    /// Refuse unknown fields of custom resources instead of dropping them.
    pub strict: bool,
}

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Everything but the status, where the kind keeps that apart.
    Main,
    /// The status alone.
    Status,
}

/// All that a write of an existing object comes with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    pub(crate) part: Part,
    pub(crate) options: WriteOptions,
    pub(crate) stamp: &'a Stamp,
}

/// What a delete insists on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
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
    resources: BTreeMap<(String, String), Arc<Resource>>,
    objects: BTreeMap<Arc<str>, BTreeMap<Key, Arc<Value>>>,
    history: VecDeque<Change>,
    version: u64,
    ips: ClusterIps,
}

impl State {
    pub(crate) fn new(ips: ClusterIps) -> Self {
        let kinds = resource::core_kinds().into_iter();
        let resources = kinds
            .map(|kind| ((kind.group.clone(), kind.plural.clone()), Arc::new(kind)))
            .collect();
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

    pub(crate) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// The kind that a path names.
    pub(crate) fn served(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Result<Served, ApiError> {
        let resource = self.resources.get(&(group.to_owned(), plural.to_owned()));
        resource
            .and_then(|resource| Served::new(resource, version))
            .ok_or_else(ApiError::unknown_path)
    }

    /// The kind that an object says it is.
    pub(crate) fn served_kind(&self, api_version: &str, kind: &str) -> Result<Served, ApiError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut known = self.resources.values();
        let found = known.find(|known| known.group == group && known.kind == kind);
        found
            .and_then(|resource| Served::new(resource, version))
            .ok_or_else(|| {
                ApiError::bad_request(format!(
                    "no matches for kind \"{kind}\" in version \"{api_version}\""
                ))
            })
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
        let set = self.objects.get(&at.resource.storage);
        let mut then: BTreeMap<Key, Arc<Value>> = set.cloned().unwrap_or_default();
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
            let message = format!("too old resource version: {version} ({oldest})");
            return Err(ApiError::expired(message));
        };
        Ok(self.history.range(skip..))
    }

    /// Forgets every change, and leaves every version handed out so far behind.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.version += 1;
    }

    pub(crate) fn create(
        &mut self,
        at: &Served,
        within: &str,
        mut object: Value,
        options: WriteOptions,
        stamp: &Stamp,
    ) -> Result<Arc<Value>, ApiError> {
        admit::check_type(at, &mut object)?;
        let key = self.place(at, within, &mut object, stamp)?;
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
        set_meta(&mut object, "creationTimestamp", seconds(stamp.now));
        if at.resource.generation {
            set_meta(&mut object, "generation", 1);
        }
        admit::reset_status(at, &mut object);
        self.finish(at, &mut object, None, options)?;
        if self.find(at, &key).is_ok() {
            return Err(ApiError::already_exists(&at.resource, &key.name));
        }
        let registered = self.prepare_crd(at, &mut object, stamp)?;
        if options.dry_run {
            return Ok(Arc::new(object));
        }
        let kept = self.commit(&at.resource.storage, key, None, object, false);
        self.register(registered);
        Ok(kept)
    }

    pub(crate) fn update(
        &mut self,
        at: &Served,
        key: &Key,
        mut object: Value,
        how: How<'_>,
    ) -> Result<Arc<Value>, ApiError> {
        let current = Arc::clone(self.find(at, key)?);
        admit::check_type(at, &mut object)?;
        if text(&object, "/metadata/resourceVersion").is_empty() && !at.resource.unconditional {
            let message = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &json!("0x0"), message);
            return Err(ApiError::invalid(&at.resource, &key.name, &[cause]));
        }
        self.replace(at, key, &current, object, how)
    }

    pub(crate) fn patch(
        &mut self,
        at: &Served,
        key: &Key,
        patch: &Patch,
        how: How<'_>,
    ) -> Result<Arc<Value>, ApiError> {
        let current = Arc::clone(self.find(at, key)?);
        let mut object = (*current).clone();
        admit::from_stored(at, &mut object);
        patch.apply(at, &mut object)?;
        admit::check_type(at, &mut object)?;
        self.replace(at, key, &current, object, how)
    }

    /// Deletes one object and says what is left of it: an object with finalizers stays, marked.
    pub(crate) fn delete(
        &mut self,
        at: &Served,
        key: &Key,
        insist: &Preconditions,
        options: WriteOptions,
        stamp: &Stamp,
    ) -> Result<(Arc<Value>, bool), ApiError> {
        let current = Arc::clone(self.find(at, key)?);
        for (wanted, field) in [(&insist.uid, "uid"), (&insist.version, "resourceVersion")] {
            let found = text(&current, &format!("/metadata/{field}"));
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
                let why = format!(
                    "Precondition failed: {field} in precondition: {wanted}, in object meta: {found}"
                );
                return Err(ApiError::conflict(&at.resource, &key.name, &why));
            }
        }
        let mut object = (*current).clone();
        let held = !list(&object, "/metadata/finalizers").is_empty();
        if options.dry_run {
            return Ok((current, held));
        }
        if held {
            if text(&object, "/metadata/deletionTimestamp").is_empty() {
                set_meta(&mut object, "deletionTimestamp", seconds(stamp.now));
                set_meta(&mut object, "deletionGracePeriodSeconds", 0);
                return Ok((self.commit_change(at, key, &current, object, false), true));
            }
            return Ok((current, true));
        }
        Ok((self.commit_change(at, key, &current, object, true), false))
    }

    /// Keeps an object as it is, in place of one of the same name, without looking at it.
    pub(crate) fn insert_unchecked(&mut self, at: &Served, object: Value) -> Arc<Value> {
        let key = Key {
            namespace: namespace(&object).to_owned(),
            name: name(&object).to_owned(),
        };
        let before = self.find(at, &key).ok().cloned();
        self.commit(&at.resource.storage, key, before, object, false)
    }

    fn replace(
        &mut self,
        at: &Served,
        key: &Key,
        current: &Arc<Value>,
        mut object: Value,
        how: How<'_>,
    ) -> Result<Arc<Value>, ApiError> {
        check_identity(at, key, current, &object)?;
        let mut presented = (**current).clone();
        admit::from_stored(at, &mut presented);
        if how.part == Part::Status {
            let status = object.get("status").cloned();
            object = presented.clone();
            keep(
                as_map(&mut object),
                status.map(|status| json!({"status": status})).as_ref(),
                "status",
            );
        } else if at.version().status {
            keep(as_map(&mut object), Some(&presented), "status");
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
            keep_meta(&mut object, current, field);
        }
        self.finish(at, &mut object, Some(current), how.options)?;
        if at.resource.generation && wishes(&object) != wishes(current) {
            let generation = current["metadata"]["generation"].as_i64().unwrap_or(0);
            set_meta(&mut object, "generation", generation + 1);
        }
        let registered = self.prepare_crd(at, &mut object, how.stamp)?;
        if object == **current {
            return Ok(Arc::clone(current));
        }
        if how.options.dry_run {
            return Ok(Arc::new(object));
        }
        let leaving = !text(&object, "/metadata/deletionTimestamp").is_empty();
        let deleted = leaving && list(&object, "/metadata/finalizers").is_empty();
        let kept = self.commit_change(at, key, current, object, deleted);
        if !deleted {
            self.register(registered);
        }
        Ok(kept)
    }

    /// Checks and completes an object and brings it into the form that is kept.
    fn finish(
        &self,
        at: &Served,
        object: &mut Value,
        old: Option<&Value>,
        options: WriteOptions,
    ) -> Result<(), ApiError> {
        admit::check_object(at, object, old, options.strict)?;
        if at.is_core("services") {
            self.ips.complete(&at.resource, object, old)?;
        }
        admit::to_stored(at, object);
        Ok(())
    }

    /// Gives a new object its name and namespace; 404 when the namespace is not there.
    fn place(
        &self,
        at: &Served,
        within: &str,
        object: &mut Value,
        stamp: &Stamp,
    ) -> Result<Key, ApiError> {
        let prefix = text(object, "/metadata/generateName").to_owned();
        if name(object).is_empty() {
            if prefix.is_empty() {
                let cause = Cause::required("metadata.name", "name or generateName is required");
                return Err(ApiError::invalid(&at.resource, "", &[cause]));
            }
            // kube-apiserver's own cut, so that prefix and suffix fit into a label.
            let prefix: String = prefix.chars().take(58).collect();
            set_meta(object, "name", format!("{prefix}{}", stamp.suffix));
        }
        let given = namespace(object);
        if !given.is_empty() && given != within {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(message));
        }
        let name = name(object).to_owned();
        if !at.resource.namespaced {
            return Ok(Key {
                namespace: String::new(),
                name,
            });
        }
        let namespaces = self.served("", "v1", "namespaces")?;
        let home = Key {
            namespace: String::new(),
            name: within.to_owned(),
        };
        self.find(&namespaces, &home)?;
        set_meta(object, "namespace", within);
        Ok(Key {
            namespace: within.to_owned(),
            name,
        })
    }

    fn commit_change(
        &mut self,
        at: &Served,
        key: &Key,
        current: &Arc<Value>,
        object: Value,
        deleted: bool,
    ) -> Arc<Value> {
        if deleted && at.is_core("namespaces") {
            self.delete_all(|_, within| within.namespace == key.name);
        }
        if deleted && at.resource.is_crd() {
            self.delete_all(|storage, _| storage == key.name);
            self.resources
                .retain(|_, resource| *resource.storage != *key.name);
        }
        let before = Some(Arc::clone(current));
        self.commit(&at.resource.storage, key.clone(), before, object, deleted)
    }

    /// Deletes what stands in a namespace or of a kind that goes. Finalizers do not hold it back:
    /// nothing here would ever come to remove them in time.
    fn delete_all(&mut self, goes: impl Fn(&str, &Key) -> bool) {
        let sets = self.objects.iter();
        let gone: Vec<(Arc<str>, Key, Arc<Value>)> = sets
            .flat_map(|(storage, set)| set.iter().map(move |(key, object)| (storage, key, object)))
            .filter(|(storage, key, _)| goes(storage, key))
            .map(|(storage, key, object)| (Arc::clone(storage), key.clone(), Arc::clone(object)))
            .collect();
        for (storage, key, object) in gone {
            let last = (*object).clone();
            self.commit(&storage, key, Some(object), last, true);
        }
    }

    /// The only place where anything changes: one version, one entry of the history.
    fn commit(
        &mut self,
        storage: &Arc<str>,
        key: Key,
        before: Option<Arc<Value>>,
        mut object: Value,
        deleted: bool,
    ) -> Arc<Value> {
        self.version += 1;
        set_meta(&mut object, "resourceVersion", self.version.to_string());
        let object = Arc::new(object);
        let set = self.objects.entry(Arc::clone(storage)).or_default();
        if deleted {
            set.remove(&key);
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
        let storage = Arc::clone(storage);
        self.history.push_back(Change {
            storage,
            key,
            before,
            object: Arc::clone(&object),
            deleted,
        });
        object
    }

    /// For a CRD: reads it, and writes the status that kube-apiserver's own controllers would.
    fn prepare_crd(
        &self,
        at: &Served,
        crd: &mut Value,
        stamp: &Stamp,
    ) -> Result<Option<Resource>, ApiError> {
        if !at.resource.is_crd() {
            return Ok(None);
        }
        let invalid = |why: String| {
            let (field, message) = why.split_once(": ").unwrap_or(("spec", &why));
            let cause = Cause::invalid(field, &Value::Null, message);
            ApiError::invalid(&at.resource, name(crd), &[cause])
        };
        let made = Resource::from_crd(crd).map_err(invalid)?;
        let place = (made.group.clone(), made.plural.clone());
        if self
            .resources
            .get(&place)
            .is_some_and(|known| known.storage != made.storage)
        {
            return Err(invalid("spec.group: is served already".into()));
        }
        let known = list(crd, "/status/conditions");
        let since = known
            .first()
            .map_or("", |one| text(one, "/lastTransitionTime"));
        let since = if since.is_empty() {
            seconds(stamp.now)
        } else {
            since.to_owned()
        };
        let condition = |kind: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": since})
        };
        let stored: Vec<&str> = list(crd, "/spec/versions")
            .iter()
            .filter(|version| version["storage"] == true)
            .map(|version| text(version, "/name"))
            .collect();
        let mut names = crd.pointer("/spec/names").cloned().unwrap_or_default();
        as_map(&mut names).insert("singular".into(), json!(made.singular));
        as_map(&mut names)
            .entry("listKind")
            .or_insert(json!(format!("{}List", made.kind)));
        let status = json!({"acceptedNames": names, "storedVersions": stored, "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]});
        as_map(crd).insert("status".into(), status);
        Ok(Some(made))
    }

    fn register(&mut self, made: Option<Resource>) {
        if let Some(made) = made {
            self.resources
                .insert((made.group.clone(), made.plural.clone()), Arc::new(made));
        }
    }
}

/// Refuses a write that means another object, or one that has moved on since.
fn check_identity(at: &Served, key: &Key, current: &Value, object: &Value) -> Result<(), ApiError> {
    let (named, within) = (name(object), namespace(object));
    if named != key.name {
        let message = format!(
            "the name of the object ({named}) does not match the name on the URL ({})",
            key.name
        );
        return Err(ApiError::bad_request(message));
    }
    if !within.is_empty() && within != key.namespace {
        let message = format!(
            "the namespace of the object ({within}) does not match the namespace on the request ({})",
            key.namespace
        );
        return Err(ApiError::bad_request(message));
    }
    let differs = |field: &str| {
        let (found, given) = (text(current, field), text(object, field));
        !given.is_empty() && found != given
    };
    if differs("/metadata/uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            text(object, "/metadata/uid"),
            text(current, "/metadata/uid"),
        );
        return Err(ApiError::conflict(&at.resource, &key.name, &why));
    }
    if differs("/metadata/resourceVersion") {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        return Err(ApiError::conflict(&at.resource, &key.name, why));
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
