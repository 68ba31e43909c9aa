//! What queries are answered from: one immutable snapshot, and the builder that makes the next one of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use landbridge_model::ServiceKey;

use crate::{
    compile::{self, Soa, Ttls, record_type},
    entry::{Answer, Entry},
    name::{Name, label_starts},
    table::Table,
    zone::{Described, Zone},
};

/// Every answer there is at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// What ANY is answered with, whatever the name.
    any: Entry,
    apex: Name,
    /// When it was built.
    pub(crate) built: Instant,
    /// How many snapshots there were before it.
    pub(crate) generation: u64,
    /// Its SOA record.
    pub(crate) soa: Soa,
    /// Whether imports and slices had both been read in full. Until then the zone is unknown.
    pub(crate) synced: bool,
    table: Table,
}

/// What there is for a question.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// Records.
    Answer(Answer<'a>),
    /// The name exists and has no record of that type.
    NoData,
    /// The name does not exist.
    NoName,
    /// The name is not in the zone.
    Outside,
    /// The zone's SOA record is what was asked for.
    Soa,
    /// Nothing can be said yet.
    Unsynced,
}

impl Snapshot {
    /// Looks up a lower-cased name in wire form.
    pub(crate) fn find(&self, name: &[u8], record_type: u16) -> Found<'_> {
        let Some(entry) = self.table.entry(name) else {
            return match self.zone_at(name) {
                Some(_) if self.synced => Found::NoName,
                Some(_) => Found::Unsynced,
                None => Found::Outside,
            };
        };
        if !self.synced {
            return Found::Unsynced;
        }
        if record_type == record_type::SOA && name == self.apex.wire() {
            return Found::Soa;
        }
        if record_type == record_type::ANY && entry.types().next().is_some() {
            return self.any.answer(record_type).map_or(Found::NoData, Found::Answer);
        }
        entry.answer(record_type).map_or(Found::NoData, Found::Answer)
    }

    /// Has what is known of a name brought near, to be looked up soon.
    pub(crate) fn foresee(&self, name: &[u8]) {
        self.table.foresee(name);
    }

    /// Where in `name` the zone's name begins; none where the name is not in the zone.
    pub(crate) fn zone_at(&self, name: &[u8]) -> Option<usize> {
        let apex = self.apex.wire();
        let at = name.len().checked_sub(apex.len())?;
        // The root itself has no labels, and is never the zone.
        (name[at..] == *apex && label_starts(name).any(|start| start == at)).then_some(at)
    }

    /// How many names there are.
    pub(crate) fn names(&self) -> usize {
        self.table.len()
    }

    /// Every name, in order.
    pub(crate) fn sorted(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.table.iter().collect();
        all.sort_unstable_by_key(|entry| entry.name());
        all
    }
}

/// The snapshot that queries are answered from now. Replacing it is one pointer swap; a query reads it once.
#[derive(Debug)]
pub(crate) struct Current {
    /// Since when the API has been away; none while it is there.
    away: Mutex<Option<Instant>>,
    max_age: Option<Duration>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    stopping: AtomicBool,
}

impl Current {
    /// Begins with a snapshot, which may become as old as `max_age`.
    pub(crate) fn new(snapshot: Snapshot, max_age: Option<Duration>) -> Self {
        Self {
            away: Mutex::new(None),
            max_age,
            snapshot: ArcSwap::from_pointee(snapshot),
            stopping: AtomicBool::new(false),
        }
    }

    /// How long ago the snapshot was last known to be what the API has: nothing while it can be read.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let away = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Notes whether the API can be read.
    pub(crate) fn set_away(&self, away: bool, now: Instant) {
        let mut since = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        *since = away.then(|| since.unwrap_or(now));
    }

    /// Whether the zone is known, as new as was asked for, and the server is not going away.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        !self.stopping.load(Ordering::Relaxed)
            && self.snapshot.load().synced
            && self.max_age.is_none_or(|most| self.age(now) <= most)
    }

    /// Says that the server is going away.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Makes snapshots. Only what changed is compiled anew.
#[derive(Debug)]
pub(crate) struct Builder {
    generation: u64,
    namespaces: BTreeMap<Name, usize>,
    /// The names of each service, to be taken out when they go.
    services: BTreeMap<ServiceKey, Box<[Entry]>>,
    table: Table,
    ttls: Ttls,
    zone: Zone,
}

impl Builder {
    /// Begins with what is there whatever is imported. `addresses` are the server's own.
    pub(crate) fn new(zone: &Zone, ttls: Ttls, addresses: &BTreeSet<IpAddr>) -> Self {
        let mut table = Table::default();
        for (name, node) in zone.fixed(addresses) {
            table.insert(compile::entry(&name, &node, ttls));
        }
        Self {
            generation: 0,
            namespaces: BTreeMap::new(),
            services: BTreeMap::new(),
            table,
            ttls,
            zone: zone.clone(),
        }
    }

    /// Replaces the names of a service.
    pub(crate) fn set(&mut self, key: &ServiceKey, described: &Described) {
        let nodes = &described.nodes;
        let before = self.services.remove(key).unwrap_or_default();
        for entry in before.iter().filter(|entry| !nodes.contains_key(entry.name())) {
            self.table.remove(entry.name());
        }
        let compiled = nodes.iter().map(|(name, node)| compile::entry(name, node, self.ttls));
        let entries: Box<[Entry]> = compiled.map(|entry| self.table.insert(entry)).collect();
        let after = !entries.is_empty();
        if after {
            self.services.insert(key.clone(), entries);
        }
        self.count_namespace(key, !before.is_empty(), after);
    }

    /// A namespace's name exists while any service in it has names.
    fn count_namespace(&mut self, key: &ServiceKey, before: bool, after: bool) {
        let Some(name) = self.zone.namespace(key) else {
            return;
        };
        let count = self.namespaces.entry(name.clone()).or_default();
        *count = *count + usize::from(after) - usize::from(before);
        match (*count, before) {
            (0, _) => {
                self.namespaces.remove(&name);
                self.table.remove(name.wire());
            }
            (1, false) => {
                self.table.insert(Entry::new(&name, &[]));
            }
            _ => {}
        }
    }

    /// The snapshot of all this. `serial` goes into the SOA record.
    pub(crate) fn snapshot(&mut self, synced: bool, serial: u32, now: Instant) -> Snapshot {
        let generation = self.generation;
        self.generation += 1;
        Snapshot {
            any: compile::any(self.ttls.addresses),
            apex: self.zone.apex().clone(),
            built: now,
            generation,
            soa: Soa::new(&self.zone, self.ttls.negative, serial),
            synced,
            table: self.table.clone(),
        }
    }
}
