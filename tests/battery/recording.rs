//! What the clusters of a story hold at one moment: a worked example is told once, and each of its lines is read in
//! what was recorded.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    case::Case,
    objects::{CLUSTER_EXPORT, EXPORT, IMPORT, Kind, SERVICE, SLICE, has, told},
};

/// The objects of all clusters, by cluster, kind and name; on the hub by `<namespace>/<name>`.
#[derive(Clone, Debug)]
pub(crate) struct Recording(BTreeMap<(&'static str, &'static str, String), Value>);

impl Recording {
    /// What there is of the case's namespace.
    pub(crate) async fn take(case: &Case) -> Self {
        let mut objects = BTreeMap::new();
        for at in case.members() {
            for kind in [EXPORT, IMPORT, SERVICE, SLICE] {
                for object in at.list(kind, "").await {
                    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                    objects.insert((at.name, kind.name, name), object);
                }
            }
            let hub = case.hub_of(at.name);
            for kind in [CLUSTER_EXPORT, SLICE] {
                for object in hub.list(kind, "").await {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    let name = format!("{}/{name}", hub.namespace);
                    objects.insert(("hub", kind.name, name), object);
                }
            }
        }
        Self(objects)
    }

    pub(crate) fn find(&self, at: &'static str, kind: Kind, name: &str) -> Option<&Value> {
        self.0.get(&(at, kind.name, name.to_owned()))
    }

    /// An object that must be there.
    #[track_caller]
    pub(crate) fn get(&self, at: &'static str, kind: Kind, name: &str) -> &Value {
        self.find(at, kind, name).unwrap_or_else(|| {
            let names: Vec<_> = self.0.keys().filter(|key| key.0 == at).collect();
            panic!("{at}: there is no {} {name} among {names:#?}", kind.name)
        })
    }

    /// Holds that a slice says so, in the notation of the worked examples.
    #[track_caller]
    pub(crate) fn slice_is(&self, at: &'static str, name: &str, wanted: &str) {
        assert_eq!(told(self.get(at, SLICE, name)), wanted, "{at}: {name}");
    }

    /// Holds that an object has what `expected` has.
    #[track_caller]
    pub(crate) fn has(&self, at: &'static str, kind: Kind, name: &str, expected: &Value) {
        has(self.get(at, kind, name), expected);
    }

    /// The names of the objects of a kind whose text holds `mark`.
    pub(crate) fn names(&self, at: &'static str, kind: Kind, mark: &str) -> Vec<&str> {
        let all = self.0.iter();
        let of_kind = all.filter(|((cluster, of, _), _)| *cluster == at && *of == kind.name);
        let marked = of_kind.filter(|(_, object)| object.to_string().contains(mark));
        marked.map(|((_, _, name), _)| name.as_str()).collect()
    }
}
