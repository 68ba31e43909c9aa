//! The cluster's objects behind one lock, for the HTTP server, the proxy and tests in the same
//! process. Every call is synchronous and short; only waiting for a change is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rand::Rng;
use serde_json::Value;
use tokio::sync::watch;

use crate::admit;
use crate::error::ApiError;
use crate::object::{name, namespace, text};
use crate::patch::Patch;
use crate::resource::Served;
use crate::selector::Selector;
use crate::services::ClusterIps;
use crate::state::{Change, Key, Options, Part, Stamp, State, Write};

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
        let state = State::new(ips);
        let newest = watch::Sender::new(state.version());
        Self {
            state: Arc::new(Mutex::new(state)),
            newest,
        }
    }

    /// Creates an object of the kind that it says it is, as a POST to the API does; an absent
    /// namespace means `default`.
    ///
    /// # Errors
    /// What the API answers: 404 without the namespace, 409 when it exists, 422 when invalid.
    pub fn create(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (at, key) = self.place(&object)?;
        self.write(&at, &key, &Options::default(), |state, to| {
            state.create(to, object)
        })
    }

    /// Replaces an object, save for its status where the kind keeps that apart.
    ///
    /// # Errors
    /// What the API answers: 404 when it is not there, 409 when its resourceVersion is older.
    pub fn update(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (at, key) = self.place(&object)?;
        self.write(&at, &key, &Options::default(), |state, to| {
            state.update(to, object)
        })
    }

    /// Replaces an object's status and nothing else.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_status(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (at, key) = self.place(&object)?;
        let options = Options {
            part: Part::Status,
            ..Options::default()
        };
        self.write(&at, &key, &options, |state, to| state.update(to, object))
    }

    /// Applies a JSON merge patch to an object, or to its status.
    ///
    /// # Errors
    /// What the API answers: 404 when it is not there, 422 when the outcome is invalid.
    pub fn merge_patch(
        &self,
        kind: (&str, &str),
        (namespace, name): (&str, &str),
        patch: Value,
        part: Part,
    ) -> Result<Arc<Value>, ApiError> {
        let at = self.lock().served_kind(kind.0, kind.1)?;
        let (key, patch) = (key(&at, namespace, name), Patch::Merge(patch));
        let options = Options {
            part,
            ..Options::default()
        };
        self.write(&at, &key, &options, |state, to| state.patch(to, &patch))
    }

    /// Deletes an object. `namespace` is ignored for kinds that have none.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub fn delete(
        &self,
        kind: (&str, &str),
        (namespace, name): (&str, &str),
    ) -> Result<(), ApiError> {
        let at = self.lock().served_kind(kind.0, kind.1)?;
        let key = key(&at, namespace, name);
        self.write(&at, &key, &Options::default(), |state, to| {
            Ok(state.delete(to)?.0)
        })?;
        Ok(())
    }

    /// Reads an object. `kind` is its `apiVersion` and `kind`, the other its namespace and name.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub fn get(
        &self,
        kind: (&str, &str),
        (namespace, name): (&str, &str),
    ) -> Result<Arc<Value>, ApiError> {
        let state = self.lock();
        let at = state.served_kind(kind.0, kind.1)?;
        Ok(present(&at, state.find(&at, &key(&at, namespace, name))?))
    }

    /// Lists a kind, in one namespace or in all.
    ///
    /// # Errors
    /// 400 when the kind is not served.
    pub fn list(&self, kind: (&str, &str), namespace: Option<&str>) -> Result<Listing, ApiError> {
        let state = self.lock();
        let at = state.served_kind(kind.0, kind.1)?;
        let found = state.list(&at, namespace, state.version())?;
        let items = found.values().map(|object| present(&at, object)).collect();
        Ok(Listing {
            version: state.version(),
            items,
        })
    }

    /// Watches a kind: first all objects that there are, as `Added`, then every change.
    ///
    /// # Errors
    /// 400 when the kind is not served.
    pub fn watch(&self, kind: (&str, &str), namespace: Option<&str>) -> Result<Watch, ApiError> {
        let at = self.lock().served_kind(kind.0, kind.1)?;
        self.watch_from(&at, namespace, Selector::default(), None)
    }

    /// Keeps an object as it is, without any check, so that a test can see what a watch makes of
    /// a malformed one.
    ///
    /// # Errors
    /// 400 when `apiVersion` and `kind` name nothing that is served.
    pub fn insert_unchecked(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (at, key) = self.place(&object)?;
        let insert = |state: &mut State, _: Write<'_>| Ok(state.insert_unchecked(&at, object));
        self.write(&at, &key, &Options::default(), insert)
    }

    /// Forgets the history and leaves every version behind, so that all watches end with 410.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.compact();
        self.newest.send_replace(state.version());
    }

    /// A watch from `from` on, or from what there is now.
    pub(crate) fn watch_from(
        &self,
        at: &Served,
        within: Option<&str>,
        selector: Selector,
        from: Option<u64>,
    ) -> Result<Watch, ApiError> {
        let newest = self.newest.subscribe();
        let state = self.lock();
        let mut ready = VecDeque::new();
        let cursor = from.unwrap_or_else(|| state.version());
        drop(state.since(cursor)?);
        if from.is_none() {
            let found = state.list(at, within, cursor)?;
            let selected = found.values().filter(|object| selector.matches(object));
            let added = |object| Event {
                kind: EventKind::Added,
                object: present(at, object),
            };
            ready.extend(selected.map(added));
        }
        let (store, at, within) = (self.clone(), at.clone(), within.map(str::to_owned));
        Ok(Watch {
            store,
            at,
            within,
            selector,
            cursor,
            ready,
            newest,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test's thread leaves at most one write undone; the maps stay whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one write under the lock, wakes the watchers, and shows the object as it is then.
    pub(crate) fn write(
        &self,
        at: &Served,
        key: &Key,
        options: &Options,
        change: impl FnOnce(&mut State, Write<'_>) -> Result<Arc<Value>, ApiError>,
    ) -> Result<Arc<Value>, ApiError> {
        let stamp = stamp();
        let mut state = self.lock();
        let outcome = change(
            &mut state,
            Write {
                at,
                key,
                options,
                stamp: &stamp,
            },
        );
        self.newest.send_replace(state.version());
        drop(state);
        outcome.map(|object| present(at, &object))
    }

    fn place(&self, object: &Value) -> Result<(Served, Key), ApiError> {
        let at = self
            .lock()
            .served_kind(text(object, "/apiVersion"), text(object, "/kind"))?;
        let key = key(&at, namespace(object), name(object));
        Ok((at, key))
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
            let told: Vec<Event> = state
                .since(self.cursor)?
                .filter_map(|change| self.event(change))
                .collect();
            self.ready.extend(told);
            self.cursor = state.version();
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
        let mine = change.storage == self.at.resource.storage
            && self
                .within
                .as_ref()
                .is_none_or(|within| *within == change.key.namespace);
        let before = change
            .before
            .as_ref()
            .is_some_and(|before| self.selector.matches(before));
        let after = !change.deleted && self.selector.matches(&change.object);
        let kind = match (before, after) {
            _ if !mine => return None,
            (false, false) => return None,
            (false, true) => EventKind::Added,
            (true, false) => EventKind::Deleted,
            (true, true) => EventKind::Modified,
        };
        Some(Event {
            kind,
            object: present(&self.at, &change.object),
        })
    }
}

/// The object as the client's version of the kind shows it.
pub(crate) fn present(at: &Served, object: &Arc<Value>) -> Arc<Value> {
    if text(object, "/apiVersion") == at.api_version() {
        return Arc::clone(object);
    }
    let mut shown = (**object).clone();
    admit::from_stored(at, &mut shown);
    Arc::new(shown)
}

/// Where an object of the kind stands; no namespace given means `default`.
pub(crate) fn key(at: &Served, namespace: &str, name: &str) -> Key {
    let namespace = match (at.resource.namespaced, namespace) {
        (false, _) => "",
        (true, "") => "default",
        (true, given) => given,
    };
    Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn stamp() -> Stamp {
    let mut bytes: [u8; 16] = rand::rng().random();
    // Version 4, variant 1 (RFC 9562, section 5.4).
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let uid = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-");
    // The letters that Kubernetes generates names from: no vowels, so no words.
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let draw = |_| char::from(letters[rand::rng().random_range(0..letters.len())]);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Stamp {
        now,
        uid,
        suffix: (0..5).map(draw).collect(),
    }
}
