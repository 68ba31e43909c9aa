//! Pure: which TrafficPolicy is in force for an import, and what news of one touches.
//!
//! How calls are spread is for gateways to know. Here it matters whether clusters are weighed, since only gateways can do
//! that: then every call goes to one. Of several policies for one service the oldest is in force, for gateways as for us.

use std::collections::BTreeSet;

use landbridge_api::{
    traffic::{TrafficPolicy, precedence},
    watch::{Change, ObjectKey},
};
use landbridge_model::ServiceKey;

use super::{Observed, Touched, problems};

impl Observed {
    pub(super) fn take_traffic_policy(&mut self, change: Change<TrafficPolicy>) -> Touched {
        let turned = self.traffic_policies.is_synced();
        let taken = self.traffic_policies.take(change, Ok);
        let (mut touched, steps) = problems::<_, TrafficPolicy>(taken);
        touched.everything = turned != self.traffic_policies.is_synced();
        for (key, before) in steps {
            let after = self.traffic_policies.find(&key);
            for policy in [before.as_ref(), after].into_iter().flatten() {
                touched.services.extend(service_of(&key, policy));
            }
        }
        touched
    }

    /// The policies for a service, the one in force first.
    pub(crate) fn traffic<'a>(
        &'a self,
        service: &'a ServiceKey,
    ) -> Vec<(&'a ObjectKey, &'a TrafficPolicy)> {
        let all = self.traffic_policies.rows_in(service.namespace.as_str());
        let all = all.filter(|(_, row)| row.kept.spec.service == service.name.as_str());
        let mut all: Vec<_> = all.map(|(key, row)| (key, &row.kept)).collect();
        all.sort_by(|(_, one), (_, other)| precedence(&one.metadata, &other.metadata));
        all
    }

    /// Whether the clusters that serve a service are weighed, so that only gateways may be called for it.
    pub(crate) fn weighs(&self, service: &ServiceKey) -> bool {
        self.traffic(service).first().is_some_and(|(_, policy)| policy.spec.weighs())
    }

    /// The services that there are policies for.
    pub(super) fn steered(&self) -> BTreeSet<ServiceKey> {
        let rows = self.traffic_policies.rows();
        rows.filter_map(|(key, row)| service_of(key, &row.kept)).collect()
    }
}

fn service_of(key: &ObjectKey, policy: &TrafficPolicy) -> Option<ServiceKey> {
    ServiceKey::parse(&key.namespace, &policy.spec.service).ok()
}
