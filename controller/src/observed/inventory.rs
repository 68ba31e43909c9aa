//! Pure: what tools are told of the set's members, and what its news touches.
//!
//! None of it is needed to import or export, so nothing waits for it: a cluster without the kind is served all the
//! same.

use k8s_openapi::api::coordination::v1::Lease;
use landbridge_api::{inventory::ClusterProfile, watch::Change};

use super::{Observed, Touched, problems};

impl Observed {
    pub(super) fn take_cluster_profile(&mut self, change: Change<ClusterProfile>) -> Touched {
        let taken = self.cluster_profiles.take(change, Ok);
        let is_news = taken.turned || !taken.steps.is_empty();
        let (touched, _) = problems::<_, ClusterProfile>(taken);
        Touched { inventory: is_news, ..touched }
    }

    pub(super) fn take_member_lease(&mut self, change: Change<Lease>) -> Touched {
        let taken = self.member_leases.take(change, Ok);
        let is_news = taken.turned || !taken.steps.is_empty();
        let (touched, _) = problems::<_, Lease>(taken);
        Touched { inventory: is_news, ..touched }
    }

    pub(super) fn take_kubernetes(&mut self, version: String) -> Touched {
        let is_news = self.kubernetes.as_ref() != Some(&version);
        self.kubernetes = Some(version);
        Touched { members: is_news, ..Touched::default() }
    }
}
