//! Pure: what belongs on the hub of this cluster's export of a service.

use landbridge_api::convert;
use landbridge_model::ServiceKey;

use super::{
    Kind, Object, Plan, Write,
    claim::{Claim, claim},
    versioned,
};
use crate::observed::Observed;

pub(super) fn plan(observed: &Observed, service: &ServiceKey) -> Plan {
    let mut plan = Plan::default();
    let key = observed.own_cluster_export(service);
    let current = observed.cluster_exports.row(&key);
    let wanted = match claim(observed, service) {
        Some(Claim::Valid(valid)) if valid.withheld.is_none() => {
            Some(convert::cluster_export(&valid.export))
        }
        _ => None,
    };
    // Somebody has spoilt it: it is made anew, since what it was cannot be updated without being read.
    if observed.cluster_exports.malformed().contains_key(&key) {
        plan.step([Write::Delete {
            kind: Kind::ClusterExport,
            key,
            uid: None,
        }]);
        return plan;
    }
    match (wanted, current) {
        (None, None) => {}
        (None, Some(row)) => plan.step([Write::Delete {
            kind: Kind::ClusterExport,
            key,
            uid: Some(row.uid.clone()),
        }]),
        (Some(wanted), None) => {
            plan.step([Write::Create(Object::ClusterExport(Box::new(wanted)))]);
        }
        (Some(wanted), Some(row)) if row.kept.spec == wanted.spec => {}
        (Some(mut wanted), Some(row)) => {
            versioned(&mut wanted.metadata, &row.version);
            plan.step([Write::Update(Object::ClusterExport(Box::new(wanted)))]);
        }
    }
    plan
}
