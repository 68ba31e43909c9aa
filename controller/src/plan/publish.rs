//! Pure: what belongs on the hub of this cluster's export of a service.

use landbridge_api::convert;
use landbridge_model::ServiceKey;

use super::{
    Kind, Object, Plan, Write,
    claim::{Claim, claim},
    hub_slices, versioned,
};
use crate::observed::{Observed, object_key};

pub(super) fn plan(observed: &Observed, service: &ServiceKey) -> Plan {
    let mut plan = Plan::default();
    let key = observed.own_cluster_export(service);
    let current = observed.cluster_exports.row(&key);
    if is_unreadable(observed, service) {
        return plan;
    }
    let export = match claim(observed, service) {
        Some(Claim::Valid(valid)) if valid.withheld.is_none() => Some(valid.export),
        _ => None,
    };
    let slices = hub_slices::writes(observed, service, export.as_ref());
    let wanted = export.as_ref().map(convert::cluster_export);
    // An export that comes has its pods with it; one that goes takes them along.
    plan.step(slices.save);
    // Somebody has spoilt it: it is made anew, since what it was cannot be updated without being read.
    if observed.cluster_exports.malformed().contains_key(&key) {
        plan.step([Write::Delete { kind: Kind::ClusterExport, key, uid: None }]);
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
    plan.step(slices.delete);
    plan
}

/// Whether there is an export of which nothing can be read and nothing is known: what an earlier controller made of
/// it stands.
fn is_unreadable(observed: &Observed, service: &ServiceKey) -> bool {
    let key = object_key(service, service.name.as_str());
    let export = observed.service_exports.malformed().contains_key(&key)
        && observed.service_exports.find(&key).is_none();
    let backend =
        observed.services.malformed().contains_key(&key) && observed.services.find(&key).is_none();
    export || backend
}
