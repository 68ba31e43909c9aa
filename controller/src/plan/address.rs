//! Pure: which Service gives an import its addresses.
//!
//! It has no selector: its slices are ours. The API server gives it its ClusterIPs, in every family that the cluster
//! has, and they stay for as long as it lives.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{
    api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig},
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::Resource;
use landbridge_api::{
    mcs::ServiceImport,
    wellknown::{APP_MANAGED_BY, IMPORT, LANDBRIDGE},
};
use landbridge_model::{Merged, SessionAffinity, derived};

use super::{Kind, Object, Write, versioned};
use crate::observed::{Observed, ServiceView, object_key};

/// The derived Service of an import.
pub(super) struct Address<'a> {
    /// What to do so that it is as it should be.
    pub(super) write: Option<Write>,
    /// Its addresses, the primary one first; none while it is not there.
    pub(super) ips: Option<Vec<IpAddr>>,
    /// A Service of somebody else that has its name.
    pub(super) foreign: Option<&'a ServiceView>,
}

/// The derived Service of `merged`, which belongs to `import` once that is there.
pub(super) fn address<'a>(
    observed: &'a Observed,
    merged: &Merged,
    import: Option<&ServiceImport>,
) -> Address<'a> {
    let key = object_key(&merged.service, derived::service(&merged.service).as_str());
    let Some(row) = observed.services.row(&key) else {
        let service = shape(Service::default(), merged, import);
        return Address {
            write: Some(Write::Create(Object::Service(Box::new(service)))),
            ips: None,
            foreign: None,
        };
    };
    let Some((_, current)) = row
        .kept
        .ours
        .as_ref()
        .filter(|(made_for, _)| *made_for == merged.service)
    else {
        return Address {
            write: None,
            ips: None,
            foreign: Some(&row.kept),
        };
    };
    let mut wanted = shape((**current).clone(), merged, import);
    let write = (wanted != **current).then(|| {
        versioned(&mut wanted.metadata, &row.version);
        Write::Update(Object::Service(Box::new(wanted)))
    });
    let ips = current
        .spec
        .iter()
        .flat_map(|spec| spec.cluster_ips.iter().flatten());
    let ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    Address {
        write,
        ips: (!ips.is_empty()).then_some(ips),
        foreign: None,
    }
}

/// What takes the derived Service away, where there is one of ours.
pub(super) fn remove(observed: &Observed, service: &landbridge_model::ServiceKey) -> Option<Write> {
    let key = object_key(service, derived::service(service).as_str());
    let row = observed.services.row(&key)?;
    let (made_for, _) = row.kept.ours.as_ref()?;
    (made_for == service).then(|| Write::Delete {
        kind: Kind::Service,
        key,
        uid: Some(row.uid.clone()),
    })
}

fn shape(mut service: Service, merged: &Merged, import: Option<&ServiceImport>) -> Service {
    let owner = service.metadata.owner_references.take();
    service.metadata = ObjectMeta {
        name: Some(derived::service(&merged.service).to_string()),
        namespace: Some(merged.service.namespace.to_string()),
        labels: Some(BTreeMap::from([(
            APP_MANAGED_BY.to_owned(),
            LANDBRIDGE.to_owned(),
        )])),
        annotations: Some(BTreeMap::from([(
            IMPORT.to_owned(),
            merged.service.name.to_string(),
        )])),
        owner_references: import
            .and_then(owned_by)
            .map_or(owner, |owner| Some(vec![owner])),
        ..service.metadata
    };
    let (affinity, config) = affinity(merged.affinity);
    let ports = merged.ports.iter().map(|port| {
        let number = i32::from(port.port.key.number.get());
        ServicePort {
            name: Some(port.port.key.derived_port_name().to_string()),
            port: number,
            protocol: Some(port.port.key.protocol.as_str().to_owned()),
            target_port: Some(IntOrString::Int(number)),
            ..ServicePort::default()
        }
    });
    service.spec = Some(ServiceSpec {
        // `Cluster` whatever the import says, else kube-proxy drops what has no endpoint on the caller's node.
        internal_traffic_policy: Some("Cluster".to_owned()),
        ip_family_policy: Some("PreferDualStack".to_owned()),
        ports: Some(ports.collect()),
        session_affinity: Some(affinity.to_owned()),
        session_affinity_config: config,
        type_: Some("ClusterIP".to_owned()),
        ..service.spec.unwrap_or_default()
    });
    service
}

fn owned_by(import: &ServiceImport) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: ServiceImport::api_version(&()).into_owned(),
        kind: ServiceImport::kind(&()).into_owned(),
        name: import.metadata.name.clone()?,
        uid: import.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}

fn affinity(affinity: SessionAffinity) -> (&'static str, Option<SessionAffinityConfig>) {
    let config = match affinity {
        SessionAffinity::ClientIp { timeout } => Some(SessionAffinityConfig {
            client_ip: Some(ClientIPConfig {
                timeout_seconds: i32::try_from(timeout.as_secs()).ok(),
            }),
        }),
        SessionAffinity::None => None,
    };
    (affinity.as_str(), config)
}
