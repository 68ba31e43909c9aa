//! The names of a snapshot: a hash table in shards, so that a change copies the shards that it touches and no more.
//!
//! Cloning a table shares all shards. The one that is being built and the ones that queries read differ only by
//! what has changed between them.

use std::{hash::BuildHasher as _, hint::black_box, sync::Arc};

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

use crate::entry::Entry;

/// How many shards: at 100,000 names a change copies some 400 pointers, which takes microseconds.
const SHARDS: usize = 256;

/// Names and what they have, by the bytes of the lower-cased name.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Keyed at random: whoever asks cannot choose names that collide.
    hasher: DefaultHashBuilder,
    shards: Box<[Arc<HashTable<Entry>>]>,
    names: usize,
}

impl Default for Table {
    fn default() -> Self {
        let shard = Arc::new(HashTable::new());
        Self { hasher: DefaultHashBuilder::default(), shards: vec![shard; SHARDS].into(), names: 0 }
    }
}

impl Table {
    /// What a name has; none where it does not exist.
    pub(crate) fn entry(&self, name: &[u8]) -> Option<&Entry> {
        let hash = self.hasher.hash_one(name);
        self.shards[shard(hash)].find(hash, |entry| entry.name() == name)
    }

    /// Reads a little of everything that [`Self::entry`] reads for this name. Where that is done for several names one after
    /// the other, and nothing in between, the processor waits for all of them together.
    pub(crate) fn foresee(&self, name: &[u8]) {
        let hash = self.hasher.hash_one(name);
        // What lies at the hash is the name, but for one time in thousands.
        let near = self.shards[shard(hash)].find(hash, |_| true);
        black_box(near.map(Entry::foresee));
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.names
    }

    /// Every name, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Puts a name in, in place of what it had, and returns what is there now: where that is the same, what was there
    /// before, so that nothing of it is copied.
    pub(crate) fn insert(&mut self, entry: Entry) -> Entry {
        if let Some(own) = self.entry(entry.name()).filter(|own| **own == entry) {
            return own.clone();
        }
        let hasher = &self.hasher;
        let hash = hasher.hash_one(entry.name());
        let shard = Arc::make_mut(&mut self.shards[shard(hash)]);
        let is_it = |own: &Entry| own.name() == entry.name();
        match shard.entry(hash, is_it, |own| hasher.hash_one(own.name())) {
            hash_table::Entry::Occupied(mut own) => *own.get_mut() = entry.clone(),
            hash_table::Entry::Vacant(place) => {
                place.insert(entry.clone());
                self.names += 1;
            }
        }
        entry
    }

    /// Takes a name out.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        if self.entry(name).is_none() {
            return;
        }
        let hash = self.hasher.hash_one(name);
        let shard = Arc::make_mut(&mut self.shards[shard(hash)]);
        if let Ok(found) = shard.find_entry(hash, |own| own.name() == name) {
            found.remove();
            self.names -= 1;
        }
    }
}

/// The lowest bits of a hash choose the place within a shard, and by the highest ones names at one place are told apart:
/// those of one shard must not have them in common.
fn shard(hash: u64) -> usize {
    let [_, _, middle, ..] = hash.to_be_bytes();
    usize::from(middle) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    #[test]
    fn a_clone_keeps_what_the_original_gives_up() {
        let mut table = Table::default();
        let names: Vec<Name> =
            (0..1000).map(|number| Name::root().child(&format!("n{number}")).unwrap()).collect();
        for name in &names {
            table.insert(Entry::new(name, &[]));
        }
        table.insert(Entry::new(&names[0], &[]));
        let before = table.clone();
        for name in &names[..500] {
            table.remove(name.wire());
        }
        table.remove(names[0].wire());
        assert_eq!((before.len(), table.len()), (1000, 500));
        assert_eq!(table.iter().count(), 500);
        assert!(names.iter().all(|name| before.entry(name.wire()).is_some()));
        assert!(table.entry(names[0].wire()).is_none());
        assert!(table.entry(names[999].wire()).is_some());
    }

    #[test]
    fn what_stays_as_it_is_is_not_copied() {
        let (mut table, name) = (Table::default(), Name::root().child("web").unwrap());
        table.insert(Entry::new(&name, &[]));
        let before = table.clone();
        table.insert(Entry::new(&name, &[]));
        table.remove(Name::root().child("none").unwrap().wire());
        let shards = before.shards.iter().zip(&table.shards);
        assert!(shards.into_iter().all(|(before, after)| Arc::ptr_eq(before, after)));
    }
}
