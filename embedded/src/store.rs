//! The cluster's objects behind one lock, for the HTTP server, the proxy and tests in the same
//! process. Every call is synchronous and short; only waiting for a change is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rand::RngExt;
use serde_json::Value;
use tokio::sync::watch;

use crate::admit;
use crate::error::{ApiError, Made};
use crate::object::{name, namespace, text};
use crate::resource::Served;
use crate::selector::Selector;
use crate::services::ClusterIps;
use crate::state::{Change, Key, State, To};

/// A handle on one cluster's objects. Clones share them.
#[derive(Clone, Debug)]
pub struct Store {
    state: Arc<Mutex<State>>,
    /// The newest version. Watchers wait on it and then read the history from where they stand,
    /// so that none needs a queue of its own.
    newest: watch::Sender<u64>,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened to the object.
    pub kind: EventKind,
    /// The object after it; for a deletion the last one.
    pub object: Arc<Value>,
}

/// What a watch tells of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// It is new, or is selected since now.
    Added,
    /// It is gone, or is not selected any more.
    Deleted,
    /// It has changed.
    Modified,
}

/// One kind's changes from a version on, in order. See [`Store::watch`].
#[derive(Debug)]
pub struct Watch {
    store: Store,
    at: Served,
    within: Option<String>,
    selector: Selector,
    cursor: u64,
    ready: VecDeque<Event>,
    newest: watch::Receiver<u64>,
}

/// What a kind is called, as `apiVersion` and `kind`; or an object, as namespace and name.
type Names<'a> = (&'a str, &'a str);

/// A list at one version.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The version that the list shows; a watch goes on from it.
    pub version: u64,
    /// The objects, by namespace and name.
    pub items: Vec<Arc<Value>>,
}

impl Store {
    pub(crate) fn new(ips: ClusterIps) -> Self {
        let newest = watch::Sender::new(0);
        let state = Arc::new(Mutex::new(State::new(ips)));
        Self { state, newest }
    }

    /// Creates an object of the kind that it says it is, as a POST to the API does; an absent
    /// namespace means `default`.
    ///
    /// # Errors
    /// What the API answers: 404 without the namespace, 409 when it exists, 422 when invalid.
    pub fn create(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let to = self.to(&object)?;
        self.write(&to, |state| state.create(&to, object))
    }

    /// Replaces an object, save for its status where the kind keeps that apart.
    ///
    /// # Errors
    /// What the API answers: 404 when it is not there, 409 when its resourceVersion is older.
    pub fn update(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let to = self.to(&object)?;
        self.write(&to, |state| state.update(&to, object))
    }

    /// Replaces an object's status and nothing else.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_status(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let mut to = self.to(&object)?;
        to.status = true;
        self.write(&to, |state| state.update(&to, object))
    }

    /// Deletes an object: of a kind by `apiVersion` and `kind`, by namespace and name. The
    /// namespace is ignored for kinds that have none.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub fn delete(&self, kind: Names<'_>, (within, name): Names<'_>) -> Result<(), ApiError> {
        let at = self.lock().served_kind(kind.0, kind.1)?;
        let to = to(at, within, name);
        self.write(&to, |state| state.delete(&to)).map(drop)
    }

    /// Reads an object, named as for [`Self::delete`].
    ///
    /// # Errors
    /// 404 when it is not there.
    pub fn get(&self, kind: Names<'_>, (within, name): Names<'_>) -> Result<Arc<Value>, ApiError> {
        let state = self.lock();
        let at = state.served_kind(kind.0, kind.1)?;
        let found = state.find(&at, &key(&at, within, name))?;
        Ok(present(&at, found))
    }

    /// Lists a kind, in one namespace or in all.
    ///
    /// # Errors
    /// 400 when the kind is not served.
    pub fn list(&self, kind: Names<'_>, within: Option<&str>) -> Result<Listing, ApiError> {
        let state = self.lock();
        let (at, version) = (state.served_kind(kind.0, kind.1)?, state.version);
        let found = state.list(&at, within, version)?;
        let items = found.values().map(|object| present(&at, object)).collect();
        Ok(Listing { version, items })
    }

    /// Watches a kind: first all objects that there are, as `Added`, then every change.
    ///
    /// # Errors
    /// 400 when the kind is not served.
    pub fn watch(&self, kind: Names<'_>, within: Option<&str>) -> Result<Watch, ApiError> {
        let at = self.lock().served_kind(kind.0, kind.1)?;
        self.watch_from(&at, within, Selector::default(), None)
    }

    /// Keeps an object as it is, without any check, so that a test can see what a watch makes of
    /// a malformed one.
    ///
    /// # Errors
    /// 400 when `apiVersion` and `kind` name nothing that is served.
    pub fn insert_unchecked(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let to = self.to(&object)?;
        self.write(&to, |state| state.insert_unchecked(&to, object))
    }

    /// Forgets the history and leaves every version behind, so that all watches end with 410.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.compact();
        self.newest.send_replace(state.version);
    }

    /// A watch from `from` on, or from what there is now.
    pub(crate) fn watch_from(
        &self,
        at: &Served,
        within: Option<&str>,
        selector: Selector,
        from: Option<u64>,
    ) -> Result<Watch, ApiError> {
        let state = self.lock();
        let cursor = from.unwrap_or(state.version);
        drop(state.since(cursor)?);
        let mut watch = Watch {
            store: self.clone(),
            at: at.clone(),
            within: within.map(str::to_owned),
            selector,
            cursor,
            ready: VecDeque::new(),
            newest: self.newest.subscribe(),
        };
        if from.is_none() {
            let mut found = state.list(at, within, cursor)?;
            found.retain(|_, object| watch.selector.matches(object));
            let (kind, objects) = (EventKind::Added, found.into_values());
            let objects = objects.map(|object| present(at, &object));
            watch.ready.extend(objects.map(|object| Event { kind, object }));
        }
        Ok(watch)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test's thread leaves at most one write undone; the maps stay whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one write under the lock, wakes the watchers, and shows the object as it is then.
    pub(crate) fn write(&self, to: &To, change: impl FnOnce(&mut State) -> Made) -> Made {
        let mut state = self.lock();
        let outcome = change(&mut state);
        self.newest.send_replace(state.version);
        drop(state);
        outcome.map(|object| present(&to.at, &object))
    }

    /// Where an object says that it belongs.
    fn to(&self, object: &Value) -> Result<To, ApiError> {
        let (api_version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        let at = self.lock().served_kind(api_version, kind)?;
        Ok(to(at, namespace(object), name(object)))
    }
}

impl Watch {
    /// The next event. Cancelling the wait loses nothing.
    ///
    /// # Errors
    /// 410 when this watch has fallen behind the history that is kept: list again.
    pub async fn next(&mut self) -> Result<Event, ApiError> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // The store that holds the sender lives at least as long as this watch.
            if self.newest.changed().await.is_err() {
                return Err(ApiError::new(410, "the cluster is gone"));
            }
        }
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn try_next(&mut self) -> Result<Option<Event>, ApiError> {
        if self.ready.is_empty() {
            self.newest.borrow_and_update();
            let store = self.store.clone();
            let state = store.lock();
            let changes = state.since(self.cursor)?;
            let told: Vec<Event> = changes.filter_map(|change| self.event(change)).collect();
            self.ready.extend(told);
            self.cursor = state.version;
        }
        Ok(self.ready.pop_front())
    }

    /// The version up to which this watch has told everything, once it has nothing more to tell.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.cursor
    }

    /// What a change means to those who see only what is selected.
    fn event(&self, change: &Change) -> Option<Event> {
        let within = self.within.as_ref();
        let elsewhere = within.is_some_and(|within| *within != change.key.0);
        if elsewhere || change.storage != self.at.resource.storage {
            return None;
        }
        let before = change.before.as_ref();
        let before = before.is_some_and(|before| self.selector.matches(before));
        let after = !change.deleted && self.selector.matches(&change.object);
        let kind = match (before, after) {
            (false, false) => return None,
            (false, true) => EventKind::Added,
            (true, false) => EventKind::Deleted,
            (true, true) => EventKind::Modified,
        };
        let object = present(&self.at, &change.object);
        Some(Event { kind, object })
    }
}

/// The object as the client's version of the kind shows it.
pub(crate) fn present(at: &Served, object: &Arc<Value>) -> Arc<Value> {
    if text(object, "/apiVersion") == at.api_version() {
        return Arc::clone(object);
    }
    let mut shown = (**object).clone();
    admit::convert(&at.api_version(), &mut shown);
    Arc::new(shown)
}

/// Where an object of the kind stands; no namespace given means `default`.
fn key(at: &Served, within: &str, name: &str) -> Key {
    let within = match (at.resource.namespaced, within) {
        (false, _) => "",
        (true, "") => "default",
        (true, given) => given,
    };
    (within.to_owned(), name.to_owned())
}

/// A plain write of one object, now.
pub(crate) fn to(at: Served, within: &str, name: &str) -> To {
    // The letters that Kubernetes generates names from: no vowels, so no words.
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let draw = |_| char::from(letters[rand::rng().random_range(0..letters.len())]);
    To {
        key: key(&at, within, name),
        at,
        status: false,
        insist: Vec::new(),
        now: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        uid: uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
        suffix: (0..5).map(draw).collect(),
    }
}
