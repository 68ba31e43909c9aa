//! Pure: the objects of one kind, as the gateway reads them, and which of them cannot be read.

use std::collections::BTreeMap;

use kube::Resource;
use landbridge_api::{
    convert::ConvertError,
    watch::{Change, Malformed, ObjectKey},
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
    listed: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), problems: BTreeMap::new(), listed: false }
    }
}

impl<T: PartialEq> Store<T> {
    /// Takes in what was seen, and says whether anything is other than before.
    pub(super) fn apply<K: Resource>(
        &mut self,
        change: Change<K>,
        read: impl Fn(&K) -> Read<T>,
    ) -> bool {
        match change {
            Change::Apply(object) => self.put(ObjectKey::of(object.meta()), read(&object)),
            Change::Delete(key) => {
                let known = self.objects.remove(&key).is_some();
                self.problems.remove(&key).is_some() || known
            }
            Change::Interrupted(_) => false,
            Change::Malformed(malformed) => self.malformed(malformed),
            Change::Reset { objects, malformed } => self.reset(&objects, malformed, read),
        }
    }

    fn put(&mut self, key: ObjectKey, read: Read<T>) -> bool {
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
        let message = format!("{}: {}", malformed.key, malformed.error);
        let told = self.problems.insert(malformed.key, message.clone());
        told != Some(message)
    }

    fn reset<K: Resource>(
        &mut self,
        objects: &[K],
        malformed: Vec<Malformed>,
        read: impl Fn(&K) -> Read<T>,
    ) -> bool {
        let mut before = std::mem::take(self);
        self.listed = true;
        let mut changed = false;
        for object in objects {
            let key = ObjectKey::of(object.meta());
            if let Some(known) = before.objects.remove(&key) {
                self.objects.insert(key.clone(), known);
            }
            if let Some(problem) = before.problems.remove(&key) {
                self.problems.insert(key.clone(), problem);
            }
            changed |= self.put(key, read(object));
        }
        for malformed in malformed {
            if let Some(known) = before.objects.remove(&malformed.key) {
                self.objects.insert(malformed.key.clone(), known);
            }
            if let Some(problem) = before.problems.remove(&malformed.key) {
                self.problems.insert(malformed.key.clone(), problem);
            }
            changed |= self.malformed(malformed);
        }
        changed || !before.objects.is_empty() || !before.problems.is_empty()
    }
}

impl<T> Store<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    pub(super) fn problems(&self) -> std::collections::btree_map::Values<'_, ObjectKey, String> {
        self.problems.values()
    }
}
