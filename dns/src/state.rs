//! Pure: what is known of imports and endpoints, from watch events.
//!
//! Any order of the same events, or one relist, gives the same state. An object that cannot be read changes nothing:
//! what was known of it stands, and nothing else is touched.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::{
    convert::{self, ConvertError, ImportView, McsSlice},
    mcs::ServiceImport,
    watch::{Change, Malformed, ObjectKey, Unlisted},
};
use landbridge_model::ServiceKey;

/// Something that one of the two watches told.
#[derive(Debug)]
pub(crate) enum Event {
    /// Of ServiceImports.
    Import(Change<ServiceImport>),
    /// Of MCS EndpointSlices.
    Slice(Change<EndpointSlice>),
}

/// What is wrong with an object, or with the watch itself.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Problem {
    /// The API cannot be read at the moment.
    Interrupted(String),
    /// An object cannot be read.
    Malformed(String),
}

/// Imports and slices, by service.
#[derive(Debug, Default)]
pub(crate) struct State {
    imports: BTreeMap<ServiceKey, ImportView>,
    imports_away: bool,
    imports_synced: bool,
    imports_unlisted: Unlisted,
    /// By name. Most services have one or two, for which a map of their own would take two kilobytes.
    slices: BTreeMap<ServiceKey, Vec<McsSlice>>,
    /// To which service each slice belongs: a deletion tells only the slice's own name.
    slice_services: BTreeMap<ObjectKey, ServiceKey>,
    slices_away: bool,
    slices_synced: bool,
    slices_unlisted: Unlisted,
    touched: BTreeSet<ServiceKey>,
}

impl State {
    /// Takes an event in. The services that it changed are told by [`Self::take_touched`].
    pub(crate) fn apply(&mut self, event: Event) -> Vec<Problem> {
        match event {
            Event::Import(change) => self.imports(change),
            Event::Slice(change) => self.slices(change),
        }
    }

    /// Whether imports and slices have both been read in full.
    pub(crate) fn is_synced(&self) -> bool {
        self.imports_synced && self.slices_synced
    }

    /// Whether something may have changed unseen: one of the two watches cannot be read at the moment.
    pub(crate) fn is_away(&self) -> bool {
        self.imports_away || self.slices_away
    }

    /// The services that changed since this was last asked.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.touched)
    }

    /// What is known of a service; none where it is not imported.
    pub(crate) fn service(
        &self,
        key: &ServiceKey,
    ) -> Option<(&ImportView, impl Iterator<Item = &McsSlice>)> {
        let import = self.imports.get(key)?;
        let slices = self.slices.get(key).into_iter().flatten();
        Some((import, slices))
    }

    fn imports(&mut self, change: Change<ServiceImport>) -> Vec<Problem> {
        match change {
            Change::Apply(object) => {
                self.imports_unlisted.told(&ObjectKey::of(&object.metadata));
                return self.import(&object).err().into_iter().collect();
            }
            Change::Delete(key) => self.remove_import(&key),
            Change::Interrupted(reason) => {
                self.imports_away = true;
                return vec![Problem::Interrupted(reason)];
            }
            Change::Listed => {
                self.imports_away = false;
                for gone in self.imports_unlisted.end() {
                    self.remove_import(&gone);
                }
                self.imports_synced = true;
            }
            Change::Listing => self.imports_unlisted.begin(self.imports.keys().map(object_key)),
            Change::Malformed(malformed) => {
                self.imports_unlisted.told(&malformed.key);
                return vec![unreadable("ServiceImport", &malformed)];
            }
            Change::Resumed => self.imports_away = false,
        }
        Vec::new()
    }

    fn import(&mut self, object: &ServiceImport) -> Result<(), Problem> {
        let view = convert::import(object)?;
        let key = view.service.clone();
        if self.imports.get(&key) != Some(&view) {
            self.imports.insert(key.clone(), view);
            self.touched.insert(key);
        }
        Ok(())
    }

    fn remove_import(&mut self, key: &ObjectKey) {
        let Ok(key) = ServiceKey::parse(&key.namespace, &key.name) else {
            return;
        };
        if self.imports.remove(&key).is_some() {
            self.touched.insert(key);
        }
    }

    fn slices(&mut self, change: Change<EndpointSlice>) -> Vec<Problem> {
        match change {
            Change::Apply(object) => {
                self.slices_unlisted.told(&ObjectKey::of(&object.metadata));
                return self.slice(&object).err().into_iter().collect();
            }
            Change::Delete(key) => self.remove_slice(&key),
            Change::Interrupted(reason) => {
                self.slices_away = true;
                return vec![Problem::Interrupted(reason)];
            }
            Change::Listed => {
                self.slices_away = false;
                for gone in self.slices_unlisted.end() {
                    self.remove_slice(&gone);
                }
                self.slices_synced = true;
            }
            Change::Listing => self.slices_unlisted.begin(self.slice_services.keys().cloned()),
            Change::Malformed(malformed) => {
                self.slices_unlisted.told(&malformed.key);
                return vec![unreadable("EndpointSlice", &malformed)];
            }
            Change::Resumed => self.slices_away = false,
        }
        Vec::new()
    }

    fn slice(&mut self, object: &EndpointSlice) -> Result<(), Problem> {
        let key = ObjectKey::of(&object.metadata);
        let Some(slice) = convert::mcs_slice(object)? else {
            // It has lost the labels that made it an MCS slice.
            self.remove_slice(&key);
            return Ok(());
        };
        let service = slice.service.clone();
        if self.slice_services.get(&key) != Some(&service) {
            self.remove_slice(&key);
        }
        let slices = self.slices.entry(service.clone()).or_default();
        match slices.binary_search_by(|own| own.name.cmp(&slice.name)) {
            Ok(at) if slices[at] == slice => return Ok(()),
            Ok(at) => slices[at] = slice,
            Err(at) => {
                slices.reserve_exact(1);
                slices.insert(at, slice);
            }
        }
        self.slice_services.insert(key, service.clone());
        self.touched.insert(service);
        Ok(())
    }

    fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(service) = self.slice_services.remove(key) else {
            return;
        };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.retain(|slice| slice.name != key.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.touched.insert(service);
    }
}

impl From<ConvertError> for Problem {
    fn from(error: ConvertError) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn unreadable(kind: &str, malformed: &Malformed) -> Problem {
    Problem::Malformed(format!("{kind} {}: {}", malformed.key, malformed.error))
}

fn object_key(key: &ServiceKey) -> ObjectKey {
    ObjectKey { namespace: key.namespace.to_string(), name: key.name.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn import(name: &str, ip: &str) -> ServiceImport {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"type": "ClusterSetIP", "ips": [ip], "ports": []},
        }))
        .unwrap()
    }

    fn slice(name: &str, service: &str, address: &str) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name, "labels": {
                "multicluster.kubernetes.io/service-name": service,
                "multicluster.kubernetes.io/source-cluster": "paris",
            }},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
        }))
        .unwrap()
    }

    fn malformed(name: &str) -> Malformed {
        Malformed {
            key: ObjectKey { namespace: "shop".into(), name: name.into() },
            error: "spec: not a map".into(),
        }
    }

    /// What is known, one line a service: its addresses, then those of its slices.
    fn known(state: &State) -> Vec<String> {
        let told = |key| {
            let (import, slices) = state.service(key).unwrap();
            let endpoints: Vec<_> = slices
                .flat_map(|slice| &slice.endpoints)
                .map(|endpoint| endpoint.address)
                .collect();
            format!("{key} {:?} {endpoints:?}", import.ips)
        };
        state.imports.keys().map(told).collect()
    }

    fn touched(state: &mut State) -> Vec<String> {
        let touched = state.take_touched();
        touched.iter().map(ToString::to_string).collect()
    }

    /// Tells of all imports that there are.
    fn relist(
        state: &mut State,
        imports: Vec<ServiceImport>,
        malformed: Vec<Malformed>,
    ) -> Vec<Problem> {
        let changes = Change::listing(imports, malformed).map(Event::Import);
        changes.flat_map(|event| state.apply(event)).collect()
    }

    /// Tells of all slices that there are.
    fn relist_slices(state: &mut State, slices: Vec<EndpointSlice>) {
        for change in Change::listing(slices, []) {
            state.apply(Event::Slice(change));
        }
    }

    #[test]
    fn it_is_synced_once_both_watches_have_told_everything() {
        let mut state = State::default();
        state.apply(Event::Import(Change::Apply(import("web", "10.96.7.7"))));
        assert!(!state.is_synced());
        relist(&mut state, vec![], vec![]);
        assert!(!state.is_synced(), "slices are still unknown");
        relist_slices(&mut state, vec![]);
        assert!(state.is_synced());
        state.apply(Event::Slice(Change::Interrupted("refused".into())));
        assert!(state.is_synced(), "unknown is not gone");
    }

    #[test]
    fn it_is_away_while_either_watch_is() {
        let mut state = State::default();
        let interrupted = || "refused".to_owned();
        state.apply(Event::Import(Change::Interrupted(interrupted())));
        state.apply(Event::Slice(Change::Interrupted(interrupted())));
        state.apply(Event::Import(Change::Resumed));
        assert!(state.is_away(), "slices still are");
        relist_slices(&mut state, vec![]);
        assert!(!state.is_away(), "a listing is as good");
        state.apply(Event::Import(Change::Interrupted(interrupted())));
        assert!(state.is_away());
    }

    /// Design section 4, rule 7: "One bad object hurts only itself".
    #[test]
    fn what_was_known_of_a_malformed_object_stands() {
        let mut state = State::default();
        let (db, old) = (import("db", "10.96.0.1"), import("old", "10.96.0.2"));
        relist(&mut state, vec![db, old, import("web", "10.96.0.3")], vec![]);
        touched(&mut state);
        let problems = state.apply(Event::Import(Change::Malformed(malformed("db"))));
        assert_eq!(problems, [Problem::Malformed("ServiceImport shop/db: spec: not a map".into())]);
        let problems = relist(&mut state, vec![import("web", "nowhere")], vec![malformed("db")]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(known(&state), ["shop/db [10.96.0.1] []", "shop/web [10.96.0.3] []"]);
        assert_eq!(touched(&mut state), ["shop/old"]);
    }

    #[test]
    fn a_slice_that_changes_its_service_leaves_the_old_one() {
        let mut state = State::default();
        relist(&mut state, vec![import("db", "10.96.0.1"), import("web", "10.96.0.2")], vec![]);
        state.apply(Event::Slice(Change::Apply(slice("s", "db", "10.0.0.1"))));
        touched(&mut state);
        state.apply(Event::Slice(Change::Apply(slice("s", "db", "10.0.0.1"))));
        assert!(touched(&mut state).is_empty(), "nothing changed");
        state.apply(Event::Slice(Change::Apply(slice("s", "web", "10.0.0.1"))));
        assert_eq!(touched(&mut state), ["shop/db", "shop/web"]);
        assert_eq!(known(&state), ["shop/db [10.96.0.1] []", "shop/web [10.96.0.2] [10.0.0.1]"]);
        let mut unlabelled = slice("s", "web", "10.0.0.1");
        unlabelled.metadata.labels = None;
        state.apply(Event::Slice(Change::Apply(unlabelled)));
        assert_eq!(touched(&mut state), ["shop/web"]);
    }

    proptest! {
        /// Design section 4, rule 3: "Any order, or one relist, gives the same state."
        #[test]
        fn a_relist_gives_what_the_events_gave(
            events in proptest::collection::vec((0..4_u8, 0..4_u8, 0..3_u8), 0..40),
        ) {
            let mut followed = State::default();
            let mut imports = BTreeMap::new();
            let mut slices = BTreeMap::new();
            for (kind, object, value) in events {
                let (name, address) = (format!("s{object}"), format!("10.0.0.{value}"));
                let key = malformed(&name).key;
                let event = match kind {
                    0 => {
                        imports.insert(name.clone(), import(&name, &address));
                        Event::Import(Change::Apply(import(&name, &address)))
                    }
                    1 => {
                        imports.remove(&name);
                        Event::Import(Change::Delete(key))
                    }
                    2 => {
                        let slice = slice(&name, &format!("s{value}"), &address);
                        slices.insert(name, slice.clone());
                        Event::Slice(Change::Apply(slice))
                    }
                    _ => {
                        slices.remove(&name);
                        Event::Slice(Change::Delete(key))
                    }
                };
                followed.apply(event);
            }
            let mut listed = State::default();
            relist_slices(&mut listed, vec![slice("gone", "s0", "10.0.0.9")]);
            relist_slices(&mut listed, slices.into_values().collect());
            relist(&mut listed, imports.into_values().collect(), vec![]);
            prop_assert_eq!(known(&followed), known(&listed));
        }
    }
}
