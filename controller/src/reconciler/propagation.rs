//! Pure: how long exports take to get through.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use landbridge_api::watch::Change;
use landbridge_model::ServiceKey;

use super::told::Told;
use crate::observed::{Event, Observed, object_key};

/// How many exports are timed at once. More at the same moment is a cold start, which is not a propagation.
const MOST_TIMED: usize = 10_000;
/// For how long an export is waited for: those of namespaces that do not exist here never get through.
const LONGEST: Duration = Duration::from_secs(60);

/// How far an export has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// From the ClusterExport to the ServiceImport.
    Import,
    /// From the ServiceExport to the ClusterExport.
    Publish,
}

/// Since when exports are on their way. `creationTimestamp` has whole seconds, so the controller's first sight
/// counts.
#[derive(Debug, Default)]
pub(super) struct Propagation(BTreeMap<(Stage, ServiceKey), Instant>);

impl Propagation {
    /// News is about to be taken in: exports that are new start their time.
    pub(super) fn before(
        &mut self,
        event: &Event,
        observed: &Observed,
        now: Instant,
    ) -> Option<Told> {
        let new = match event {
            Event::ClusterExport(Change::Apply(object)) => {
                let service = &object.spec.service;
                let service = ServiceKey::parse(&service.namespace, &service.name).ok();
                let is_new = |service: &ServiceKey| observed.exports_of(service).next().is_none();
                service.filter(is_new).map(|service| (Stage::Import, service))
            }
            Event::ServiceExport(Change::Apply(object)) => {
                let meta = &object.metadata;
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                let service =
                    ServiceKey::parse(namespace, meta.name.as_deref().unwrap_or_default()).ok();
                let is_new = |service: &ServiceKey| {
                    let key = object_key(service, service.name.as_str());
                    observed.service_exports.find(&key).is_none()
                };
                service.filter(is_new).map(|service| (Stage::Publish, service))
            }
            _ => None,
        }?;
        if self.0.len() >= MOST_TIMED {
            return Some(Told::Untimed);
        }
        self.0.entry(new).or_insert(now);
        None
    }

    /// An API has answered a write: exports that have got through end their time.
    pub(super) fn answered(&mut self, event: &Event, now: Instant) -> Option<Told> {
        let (stage, service) = match event {
            Event::ClusterExport(Change::Apply(object)) => {
                let service = &object.spec.service;
                let service = ServiceKey::parse(&service.namespace, &service.name).ok();
                (Stage::Publish, service?)
            }
            Event::ServiceImport(Change::Apply(object)) => {
                let meta = &object.metadata;
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                let name = meta.name.as_deref().unwrap_or_default();
                (Stage::Import, ServiceKey::parse(namespace, name).ok()?)
            }
            _ => return None,
        };
        let since = self.0.remove(&(stage, service))?;
        Some(Told::Propagated(stage, now.saturating_duration_since(since)))
    }

    /// Forgets exports that are gone or will not get through.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, since| now.saturating_duration_since(*since) < LONGEST);
    }
}
