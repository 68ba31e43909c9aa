//! How those have done lately that calls are brought to, pods and clusters: one table for all connections of a gateway.
//!
//! Only those are in it that have calls now, or of which failures are remembered.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::route::outlier::{Record, Settings, WARM};

/// The most that are kept: more than a gateway may have connections open. Nothing is known of others.
const MOST: usize = 65_536;

/// A table of pods, or of clusters.
#[derive(Debug)]
pub(crate) struct Pool<K> {
    known: Arc<Mutex<HashMap<K, Member>>>,
}

#[derive(Debug, Default)]
struct Member {
    load: usize,
    record: Record,
}

/// How one has done lately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    /// The calls that it has now.
    pub(crate) load: usize,
    /// Until when it is left out.
    pub(crate) out_until: Option<Instant>,
    /// Its share, of 100.
    pub(crate) warmth: u32,
}

impl<K> Default for Pool<K> {
    fn default() -> Self {
        Self { known: Arc::default() }
    }
}

impl<K: Clone + Eq + Hash> Pool<K> {
    /// How each of these has done.
    pub(crate) fn standings<'a>(
        &self,
        keys: impl Iterator<Item = &'a K>,
        now: Instant,
    ) -> Vec<Standing>
    where
        K: 'a,
    {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = |key: &K| match known.get(key) {
            None => Standing { load: 0, out_until: None, warmth: WARM },
            Some(member) => Standing {
                load: member.load,
                out_until: member.record.out_until(now),
                warmth: member.record.warmth(now),
            },
        };
        keys.map(standing).collect()
    }

    /// Counts a call to it, until what is returned is dropped.
    pub(crate) fn take(&self, key: &K) -> Taken<K> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if make_room(&mut known, key) {
            known.entry(key.clone()).or_default().load += 1;
        }
        Taken { key: key.clone(), known: Arc::clone(&self.known) }
    }

    /// A call to it has failed; `count` is how many failures that is worth. Says whether it is left out for that.
    pub(crate) fn failed(&self, key: &K, count: u32, settings: &Settings) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut known, key)
            && known.entry(key.clone()).or_default().record.failed(count, Instant::now(), settings)
    }

    /// A call to it has gone well.
    pub(crate) fn succeeded(&self, key: &K) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = known.get_mut(key) {
            member.record.succeeded(Instant::now());
        }
    }

    /// How many are left out now.
    pub(crate) fn left_out(&self) -> usize {
        let now = Instant::now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|member| member.record.is_out(now)).count()
    }
}

/// Whether there is room for `key`, if need be in place of those of which nothing is worth remembering.
fn make_room<K: Eq + Hash>(known: &mut HashMap<K, Member>, key: &K) -> bool {
    if known.len() >= MOST && !known.contains_key(key) {
        let now = Instant::now();
        known.retain(|_, member| member.load > 0 || member.record.is_out(now));
    }
    known.len() < MOST || known.contains_key(key)
}

/// A call that counts for one of a table, until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken<K: Eq + Hash> {
    key: K,
    known: Arc<Mutex<HashMap<K, Member>>>,
}

impl<K: Eq + Hash> Taken<K> {
    /// Whom it counts for.
    pub(crate) fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash> Drop for Taken<K> {
    fn drop(&mut self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = known.get_mut(&self.key) {
            member.load = member.load.saturating_sub(1);
            if member.load == 0 && member.record.is_clean(Instant::now()) {
                known.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_calls_or_has_failed_is_remembered() {
        let pool = Pool::<u8>::default();
        let now = Instant::now();
        let (one, two) = (pool.take(&1), pool.take(&1));
        assert_eq!(pool.standings([1, 2].iter(), now).map_load(), [2, 0]);
        drop((one, two));
        assert!(pool.known.lock().unwrap().is_empty());
        assert!(pool.failed(&1, 3, &Settings::default()));
        drop(pool.take(&1));
        assert_eq!(pool.left_out(), 1);
        pool.succeeded(&1);
        assert!(pool.standings([1].iter(), Instant::now())[0].out_until.is_some());
    }

    trait Loads {
        fn map_load(&self) -> Vec<usize>;
    }

    impl Loads for Vec<Standing> {
        fn map_load(&self) -> Vec<usize> {
            self.iter().map(|standing| standing.load).collect()
        }
    }
}
