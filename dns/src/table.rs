//! The names of a snapshot: a hash table in shards, so that a change copies the shards that it touches and no more.
//!
//! Cloning a table shares all shards. The one that is being built and the ones that queries read differ only by
//! what has changed between them.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use crate::{compile::Entry, name::Name};

/// How many shards: at 100,000 names a change copies some 400 entries, which takes microseconds.
const SHARDS: usize = 256;

type Shard = HashMap<Name, Arc<Entry>, RandomState>;

/// Names and what they have, by the bytes of the lower-cased name.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Keyed at random: whoever asks cannot choose names that collide.
    hasher: RandomState,
    shards: Box<[Arc<Shard>]>,
    names: usize,
}

impl Default for Table {
    fn default() -> Self {
        let hasher = RandomState::new();
        let shard = Arc::new(Shard::with_hasher(hasher.clone()));
        Self { hasher, shards: vec![shard; SHARDS].into(), names: 0 }
    }
}

impl Table {
    /// What a name has; none where it does not exist.
    pub(crate) fn entry(&self, name: &[u8]) -> Option<&Entry> {
        self.shards[self.shard(name)].get(name).map(AsRef::as_ref)
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.names
    }

    /// Every name, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.shards
            .iter()
            .flat_map(|shard| shard.iter())
            .map(|(name, entry)| (name, entry.as_ref()))
    }

    /// Puts a name in, in place of what it had.
    pub(crate) fn insert(&mut self, name: Name, entry: Entry) {
        let shard = self.shard(name.wire());
        let before = Arc::make_mut(&mut self.shards[shard]).insert(name, Arc::new(entry));
        self.names += usize::from(before.is_none());
    }

    /// Takes a name out.
    pub(crate) fn remove(&mut self, name: &Name) {
        let shard = self.shard(name.wire());
        let before = Arc::make_mut(&mut self.shards[shard]).remove(name.wire());
        self.names -= usize::from(before.is_some());
    }

    fn shard(&self, name: &[u8]) -> usize {
        // The lowest bits choose the bucket within a shard, so the highest choose the shard.
        usize::from(self.hasher.hash_one(name).to_be_bytes()[0]) % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_the_original_gives_up() {
        let mut table = Table::default();
        let names: Vec<Name> =
            (0..1000).map(|number| Name::root().child(&format!("n{number}")).unwrap()).collect();
        for name in &names {
            table.insert(name.clone(), Entry::default());
        }
        table.insert(names[0].clone(), Entry::default());
        let before = table.clone();
        for name in &names[..500] {
            table.remove(name);
        }
        table.remove(&names[0]);
        assert_eq!((before.len(), table.len()), (1000, 500));
        assert_eq!(table.iter().count(), 500);
        assert!(names.iter().all(|name| before.entry(name.wire()).is_some()));
        assert!(table.entry(names[0].wire()).is_none());
        assert!(table.entry(names[999].wire()).is_some());
    }
}
