//! Pure: what the set and the cluster allow: whose cluster id it is, by which rules exports are merged, and how many
//! Services may be made.

use std::collections::BTreeSet;

use landbridge_api::watch::ObjectKey;
use landbridge_model::{Rulebook, ServiceKey};

use super::{Observed, Touched};

/// The namespace whose uid stands for a cluster: it is there from the beginning to the end of each.
const FIRST_NAMESPACE: &str = "kube-system";

impl Observed {
    /// What tells this cluster from every other one, also from one that has its id by mistake.
    pub(crate) fn cluster_uid(&self) -> Option<&str> {
        let key = ObjectKey { namespace: String::new(), name: FIRST_NAMESPACE.to_owned() };
        self.namespaces.row(&key).map(|row| row.uid.as_str())
    }

    /// The uid of the cluster that has this one's id, where that is another cluster which lives. One that has been
    /// silent for long enough has been replaced by this one.
    pub(crate) fn duplicate(&self) -> Option<&str> {
        let own = self.cluster_uid()?;
        let id = &self.config.cluster;
        let said = self.member(id)?.status.cluster_uid.as_deref()?;
        (said != own && !self.silent_members.contains(id.as_str())).then_some(said)
    }

    /// The merge rules that this controller knows.
    #[must_use]
    pub fn rulebook(&self) -> Rulebook {
        self.rules
    }

    /// The merge rules that the set uses: the newest that all of its members know, and this controller.
    #[must_use]
    pub fn merge_revision(&self) -> u32 {
        self.rules.used(self.lowest_revision())
    }

    /// The lowest of the revisions that members publish, and never more than this controller knows, whatever an
    /// earlier version of it has published. One that has just joined counts from when it first speaks.
    pub(crate) fn lowest_revision(&self) -> u32 {
        let told = self.members.rows();
        let told = told.filter_map(|(_, row)| row.kept.status.merge_revision);
        told.chain([self.rules.newest()]).min().unwrap_or_default()
    }

    /// Members that have spoken, but know no merge rules that this controller knows too.
    pub(crate) fn too_old(&self) -> impl Iterator<Item = &str> {
        let told = self.members.rows().filter(|(_, row)| {
            let status = &row.kept.status;
            status.heartbeat.is_some()
                && status.merge_revision.is_none_or(|revision| revision < self.rules.oldest())
        });
        told.map(|(key, _)| key.name.as_str())
    }

    /// Whether one more Service may be made for an import of `service`.
    pub(crate) fn has_room_for(&self, service: &ServiceKey) -> bool {
        self.room_for(service) > 0
    }

    /// How many more Services may be made for an import of `service`.
    pub(crate) fn room_for(&self, service: &ServiceKey) -> usize {
        let others = self.making.iter().filter(|making| *making != service);
        let taken = self.derived.len() + others.count();
        self.config.max_derived_services.saturating_sub(taken)
    }

    /// A Service is about to be made for an import, so its room is taken.
    pub fn making(&mut self, service: &ServiceKey) {
        self.making.insert(service.clone());
    }

    /// The Service was made, and is known like any other, or was not.
    pub fn made(&mut self, service: &ServiceKey) {
        self.making.remove(service);
    }

    /// Takes note of a derived Service that is there or gone. Where that makes room, everything that waits for it is
    /// thought about again.
    pub(super) fn count_derived(&mut self, key: &ObjectKey, is_there: bool, touched: &mut Touched) {
        let was_full = self.derived.len() >= self.config.max_derived_services;
        if is_there {
            self.derived.insert(key.clone());
        } else {
            self.derived.remove(key);
        }
        let is_full = self.derived.len() >= self.config.max_derived_services;
        touched.everything |= was_full && !is_full;
    }

    /// Records that the API server has no address for the Service of an import, in its words, or that it has.
    pub fn exhaust(&mut self, service: &ServiceKey, message: Option<String>) -> Touched {
        if self.exhausted.get(service) == message.as_ref() {
            return Touched::default();
        }
        match message {
            Some(message) => self.exhausted.insert(service.clone(), message),
            None => self.exhausted.remove(service),
        };
        Touched { services: BTreeSet::from([service.clone()]), ..Touched::default() }
    }
}
