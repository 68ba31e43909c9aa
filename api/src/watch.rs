//! Watch streams that survive malformed objects, relists and 410, as events for a state with one owner.
//!
//! kube's watcher does listing, watching and starting over. This module turns what it says into [`Change`]s that a
//! state can `apply`, `delete` and `reset` by, keeps one unreadable object from hiding the readable ones, and says
//! when the API cannot be read, since "unknown" is not "gone".

use std::{fmt, time::Duration};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    core::error_boundary::InvalidObject,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher,
        watcher::{Config, Event},
    },
};
use serde::de::DeserializeOwned;

/// A kind whose objects may turn out to be unreadable, one by one.
pub use kube::core::DeserializeGuard as Guard;
pub use kube::runtime::watcher::Config as WatchConfig;

/// How soon a failed watch is tried again at first. A restarted API server is back within seconds, and whoever
/// waits for an endpoint should not wait for a timer.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Namespace and name of an object; the namespace is empty for cluster-scoped ones.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of the object with this metadata.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// An object that is there but cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Malformed {
    /// Which object.
    pub key: ObjectKey,
    /// What is wrong with it.
    pub error: String,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<K> {
    /// An object is new or has changed.
    Apply(K),
    /// An object is gone.
    Delete(ObjectKey),
    /// The API cannot be read at the moment: what was seen last stands. A [`Change::Reset`] follows when it can.
    Interrupted(String),
    /// An object is new or has changed, and cannot be read. What was known of it stands.
    Malformed(Malformed),
    /// This is all there is: whatever else was known is gone, except for what is malformed, of which what was known
    /// stands.
    Reset {
        /// Every object that can be read.
        objects: Vec<K>,
        /// Every object that cannot.
        malformed: Vec<Malformed>,
    },
}

/// Watches all objects that `api`, for example `Api::<Guard<Service>>::all(client)`, and `config` select. The stream
/// never ends and never fails: trouble is [`Change::Interrupted`], and is tried again after 0.1 to 5 seconds with
/// jitter. The first [`Change::Reset`] is the first complete picture.
pub fn watch<K>(api: Api<Guard<K>>, config: Config) -> impl Stream<Item = Change<K>> + Send
where
    K: Resource + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + fmt::Debug + Send + Sync,
{
    let begin = move || watcher(api.clone(), config.clone()).boxed();
    let state = (begin(), Listing::default(), begin);
    let changes = stream::unfold(state, |(mut events, mut listing, begin)| async move {
        loop {
            match events.next().await? {
                Ok(event) => {
                    // Only what is told counts as success, so that waits go on doubling while every listing begins
                    // and fails.
                    if let Some(change) = listing.read(event) {
                        return Some((Ok(change), (events, listing, begin)));
                    }
                }
                Err(error) => {
                    // kube's watcher would take up a lost watch where it was, and say nothing until something
                    // changes. Whoever was told that the API is away is told that it is back: by a new listing.
                    return Some((Err(error), (begin(), Listing::default(), begin)));
                }
            }
        }
    });
    changes
        .backoff(Retry::default())
        .map(|change| change.unwrap_or_else(|error| Change::Interrupted(reason(&error))))
}

/// Gathers a listing until it is complete.
struct Listing<K> {
    objects: Vec<K>,
    malformed: Vec<Malformed>,
}

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self { objects: Vec::new(), malformed: Vec::new() }
    }
}

impl<K: Resource> Listing<K> {
    fn read(&mut self, event: Event<Guard<K>>) -> Option<Change<K>> {
        match event {
            Event::Apply(Guard(Ok(object))) => Some(Change::Apply(object)),
            Event::Apply(Guard(Err(invalid))) => Some(Change::Malformed(malformed(&invalid))),
            Event::Delete(Guard(Ok(object))) => Some(Change::Delete(ObjectKey::of(object.meta()))),
            Event::Delete(Guard(Err(invalid))) => {
                Some(Change::Delete(ObjectKey::of(&invalid.metadata)))
            }
            Event::Init => {
                *self = Self::default();
                None
            }
            Event::InitApply(Guard(Ok(object))) => {
                self.objects.push(object);
                None
            }
            Event::InitApply(Guard(Err(invalid))) => {
                self.malformed.push(malformed(&invalid));
                None
            }
            Event::InitDone => {
                let Self { objects, malformed } = std::mem::take(self);
                Some(Change::Reset { objects, malformed })
            }
        }
    }
}

fn malformed(invalid: &InvalidObject) -> Malformed {
    Malformed { key: ObjectKey::of(&invalid.metadata), error: invalid.error.clone() }
}

/// The error with its causes: kube's outermost sentence alone does not say what happened.
fn reason(error: &watcher::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Doubling waits with jitter, so that a thousand watchers do not return to a restarted API server at once.
#[derive(Debug)]
struct Retry {
    next: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { next: FIRST_RETRY }
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST_RETRY);
        Some(wait)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.next = FIRST_RETRY;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str) -> Guard<ConfigMap> {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        Guard(Ok(ConfigMap { metadata, ..ConfigMap::default() }))
    }

    fn unreadable(name: &str) -> Guard<ConfigMap> {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        Guard(Err(InvalidObject { error: "spec: not a map".into(), metadata }))
    }

    fn read(events: Vec<Event<Guard<ConfigMap>>>) -> Vec<Change<ConfigMap>> {
        let mut listing = Listing::default();
        events.into_iter().filter_map(|event| listing.read(event)).collect()
    }

    #[test]
    fn a_listing_is_one_reset_and_an_unreadable_object_hides_no_other() {
        let changes = read(vec![
            Event::Init,
            Event::InitApply(object("a")),
            Event::InitApply(unreadable("b")),
            Event::InitApply(object("c")),
            Event::InitDone,
        ]);
        let [Change::Reset { objects, malformed }] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(objects.len(), 2);
        assert_eq!(malformed[0].key.to_string(), "b");
        assert_eq!(malformed[0].error, "spec: not a map");
    }

    #[test]
    fn a_listing_that_was_cut_short_is_forgotten() {
        let changes = read(vec![
            Event::Init,
            Event::InitApply(object("stale")),
            Event::Init,
            Event::InitApply(object("a")),
            Event::InitDone,
        ]);
        let [Change::Reset { objects, .. }] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(objects[0].metadata.name.as_deref(), Some("a"));
        assert_eq!(objects.len(), 1);
    }

    #[test]
    fn an_unreadable_object_can_still_be_deleted() {
        let changes = read(vec![Event::Apply(unreadable("b")), Event::Delete(unreadable("b"))]);
        assert!(matches!(&changes[0], Change::Malformed(malformed) if malformed.key.name == "b"));
        assert!(matches!(&changes[1], Change::Delete(key) if key.name == "b"));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut retry = Retry::default();
        let waits: Vec<Duration> = retry.by_ref().take(10).collect();
        assert!(waits[0] <= FIRST_RETRY && waits[0] >= FIRST_RETRY / 2);
        assert!(waits[9] <= LONGEST_RETRY && waits[9] >= LONGEST_RETRY / 2);
        retry.reset();
        assert!(retry.next().is_some_and(|wait| wait <= FIRST_RETRY));
    }
}
