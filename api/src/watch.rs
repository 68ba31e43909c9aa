//! Watch streams that survive malformed objects, relists and 410, as events for a state with one owner.
//!
//! ```text
//!   Course (pure): what is asked for next ◄── what the answers mean
//!      │ page, watch                              ▲
//!      ▼                                          │
//!   Follower ──► API server ──► bytes ──► decode (pure) ──► Change ──► apply, delete, sweep
//! ```
//!
//! A listing comes page by page and object by object, so that whoever keeps little of an object never holds more
//! than one page of them whole. A watch that is lost is taken up where it was: a returning API server is not listed
//! by everybody. "Unknown" is not "gone": what cannot be read for a while stands, and it is told when it can again.

mod course;
mod decode;
mod follow;
mod pages;

use std::{collections::BTreeSet, fmt};

use futures::Stream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use follow::Follower;

/// How many objects are listed at once at most, where nothing else is asked for: [`pages`] asks for fewer where they are
/// large.
const PAGE: u32 = 500;

/// Namespace and name of an object; the namespace is empty for cluster-scoped ones.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
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
    /// An object is there: it is new, has changed, or is listed.
    Apply(K),
    /// An object is gone.
    Delete(ObjectKey),
    /// The API cannot be read at the moment: what was seen last stands. [`Change::Resumed`] or [`Change::Listed`]
    /// follows when it can.
    Interrupted(String),
    /// The listing is complete: what was known before [`Change::Listing`] and was not told since is gone.
    Listed,
    /// All that there is is about to be told, object by object. A listing that was begun before is void.
    Listing,
    /// An object is there, and cannot be read. What was known of it stands.
    Malformed(Malformed),
    /// The API can be read again, and everything that was missed meanwhile is about to be told.
    Resumed,
}

impl<K> Change<K> {
    /// A whole listing as a watch tells it.
    pub fn listing(
        objects: impl IntoIterator<Item = K>,
        malformed: impl IntoIterator<Item = Malformed>,
    ) -> impl Iterator<Item = Self> {
        let told = objects.into_iter().map(Self::Apply);
        let told = told.chain(malformed.into_iter().map(Self::Malformed));
        [Self::Listing].into_iter().chain(told).chain([Self::Listed])
    }
}

/// What a listing has not told yet of what was known before it: whoever keeps objects sweeps by it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unlisted(BTreeSet<ObjectKey>);

impl Unlisted {
    /// A listing begins, and these objects are known.
    pub fn begin(&mut self, known: impl IntoIterator<Item = ObjectKey>) {
        self.0 = known.into_iter().collect();
    }

    /// An object is there.
    pub fn told(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }

    /// The listing is complete: these objects are gone.
    pub fn end(&mut self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.0)
    }
}

/// Which objects are watched, and how many are listed at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WatchConfig {
    labels: Option<String>,
    page_size: u32,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { labels: None, page_size: PAGE }
    }
}

impl WatchConfig {
    /// Only objects that a label selector selects.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = Some(selector.to_owned());
        self
    }

    /// At most so many objects at once while listing.
    #[must_use]
    pub fn page_size(mut self, objects: u32) -> Self {
        self.page_size = objects;
        self
    }
}

/// Watches all objects that `api`, for example `Api::<Service>::all(client)`, and `config` select. The stream never
/// ends and never fails: trouble is [`Change::Interrupted`], and is tried again after 0.1 to 5 seconds with jitter.
/// The first [`Change::Listed`] ends the first complete picture.
pub fn watch<K>(api: Api<K>, config: WatchConfig) -> impl Stream<Item = Change<K>> + Send
where
    K: Resource + DeserializeOwned + Send + 'static,
{
    let follower = Follower::new(api, config);
    futures::stream::unfold(follower, |mut follower| async move {
        let change = follower.next().await;
        Some((change, follower))
    })
}
