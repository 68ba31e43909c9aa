//! Pure: what was last asked of objects of which an API server may keep less.
//!
//! An API server drops what a definition does not name, and older definitions name less. Such an object never becomes
//! what was asked for, and would be written anew by every plan. So what was asked is remembered, and not asked again
//! while the object is as the answer had it.

use std::hash::{DefaultHasher, Hash, Hasher};

use landbridge_api::watch::ObjectKey;
use serde::Serialize;
use serde_json::Value;

use super::{Observed, Touched, named};
use crate::plan::Kind;

/// Something that is asked of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    about: About,
    digest: u64,
}

/// An object, and whether its status is meant.
pub(super) type About = (Kind, ObjectKey, bool);

impl Said {
    /// That an object shall be as `wanted`, but for its status.
    pub(crate) fn of(kind: Kind, key: ObjectKey, wanted: &impl Serialize) -> Self {
        Self { about: (kind, key, false), digest: digest(wanted) }
    }

    /// That the status of an object shall be as `wanted`.
    pub(crate) fn of_status(kind: Kind, key: ObjectKey, wanted: &impl Serialize) -> Self {
        Self { about: (kind, key, true), digest: digest(wanted) }
    }
}

/// What differs from plan to plan without meaning is left out: times, and the version that an update names.
fn digest(wanted: &impl Serialize) -> u64 {
    fn strip(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Object(fields) => {
                for name in ["heartbeat", "lastTransitionTime", "resourceVersion"] {
                    fields.remove(name);
                }
                fields.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    let mut value = serde_json::to_value(wanted).unwrap_or_default();
    strip(&mut value);
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

impl Observed {
    /// Records that all of this was asked for, and answered. Where that is new its service is thought about again: an
    /// answer that keeps nothing of what was asked is no news.
    pub fn said(&mut self, said: Vec<Said>) -> Touched {
        let mut touched = Touched::default();
        for Said { about, digest } in said {
            let Some(version) = self.version_of(&about) else { continue };
            let service = named(&about.1).filter(|_| about.0 != Kind::Member);
            let told = (version, digest);
            if self.said.insert(about, told.clone()) != Some(told) {
                touched.services.extend(service);
            }
        }
        touched
    }

    /// Whether this was asked for before, and the object is as it was left.
    pub(crate) fn has_said(&self, said: &Said) -> bool {
        let known = self.said.get(&said.about);
        known.is_some_and(|(version, digest)| {
            *digest == said.digest && self.version_of(&said.about).as_ref() == Some(version)
        })
    }

    /// Remembers what another one of the same cluster does.
    #[cfg(test)]
    pub(crate) fn recall(&mut self, other: &Self) {
        self.said.clone_from(&other.said);
    }

    /// Forgets what was asked of an object that is gone.
    pub(super) fn unsay(&mut self, kind: Kind, key: &ObjectKey) {
        for is_status in [false, true] {
            self.said.remove(&(kind, key.clone(), is_status));
        }
    }

    /// A Member changes with each heartbeat, and nobody else writes its status: what was asked last counts.
    fn version_of(&self, (kind, key, _): &About) -> Option<String> {
        match kind {
            Kind::Member => self.members.row(key).map(|_| String::new()),
            Kind::ServiceExport => self.service_exports.row(key).map(|row| row.version.clone()),
            Kind::ServiceImport => self.service_imports.row(key).map(|row| row.version.clone()),
            _ => None,
        }
    }
}
