//! Pure: the objects of one kind, as the gateway reads them, and which of them cannot be read.

use std::collections::BTreeMap;

use kube::Resource;
use landbridge_api::{
    convert::ConvertError,
    watch::{Change, Malformed, ObjectKey, Unlisted},
};

/// What an object turned out to be.
pub(super) enum Read<T> {
    /// Of no concern to a gateway.
    Other,
    /// Something that a gateway needs.
    Ours(T),
    /// Something that a gateway would need if it could be read.
    Unreadable(ConvertError),
}

impl<T> From<Result<T, ConvertError>> for Read<T> {
    fn from(result: Result<T, ConvertError>) -> Self {
        result.map_or_else(Self::Unreadable, Self::Ours)
    }
}

impl<T> From<Option<T>> for Read<T> {
    fn from(option: Option<T>) -> Self {
        option.map_or(Self::Other, Self::Ours)
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Store<T> {
    objects: BTreeMap<ObjectKey, T>,
    problems: BTreeMap<ObjectKey, String>,
    unlisted: Unlisted,
    listed: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            problems: BTreeMap::new(),
            unlisted: Unlisted::default(),
            listed: false,
        }
    }
}

impl<T: PartialEq> Store<T> {
    /// Takes in what was seen, and says whether anything is other than before.
    pub(super) fn apply<K: Resource>(
        &mut self,
        change: Change<K>,
        read: impl FnOnce(&K) -> Read<T>,
    ) -> bool {
        match change {
            Change::Apply(object) => self.put(ObjectKey::of(object.meta()), read(&object)),
            Change::Delete(key) => self.remove(&key),
            Change::Interrupted(_) | Change::Resumed => false,
            Change::Listed => {
                self.listed = true;
                let gone = self.unlisted.end();
                gone.iter().filter(|key| self.remove(key)).count() > 0
            }
            Change::Listing => {
                let known = self.objects.keys().chain(self.problems.keys());
                self.unlisted.begin(known.cloned());
                false
            }
            Change::Malformed(malformed) => self.malformed(malformed),
        }
    }

    fn remove(&mut self, key: &ObjectKey) -> bool {
        let known = self.objects.remove(key).is_some();
        self.problems.remove(key).is_some() || known
    }

    fn put(&mut self, key: ObjectKey, read: Read<T>) -> bool {
        self.unlisted.told(&key);
        match read {
            Read::Ours(object) => {
                let healed = self.problems.remove(&key).is_some();
                let same = self.objects.get(&key) == Some(&object);
                if !same {
                    self.objects.insert(key, object);
                }
                healed || !same
            }
            Read::Other => {
                let healed = self.problems.remove(&key).is_some();
                self.objects.remove(&key).is_some() || healed
            }
            Read::Unreadable(error) => {
                let known = self.objects.remove(&key).is_some();
                let told = self.problems.insert(key, error.to_string());
                known || told.as_deref() != Some(&error.to_string())
            }
        }
    }

    /// What was known of the object stands.
    fn malformed(&mut self, malformed: Malformed) -> bool {
        self.unlisted.told(&malformed.key);
        let message = format!("{}: {}", malformed.key, malformed.error);
        let told = self.problems.insert(malformed.key, message.clone());
        told != Some(message)
    }
}

impl<T> Store<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }

    /// Objects of which nothing is known but that they cannot be read.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &ObjectKey> {
        self.problems.keys().filter(|key| !self.objects.contains_key(key))
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    pub(super) fn problems(&self) -> std::collections::btree_map::Values<'_, ObjectKey, String> {
        self.problems.values()
    }
}
