//! Pure: which Service gives an import its addresses.
//!
//! It has no selector: its slices are ours. The API server gives it its ClusterIPs, in every family that the cluster
//! has, and they stay for as long as it lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

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
    served::McsVersion,
    wellknown::{APP_MANAGED_BY, ENDPOINT, IMPORT, LANDBRIDGE},
};
use landbridge_model::{
    DerivedName, Merged, PortKey, ServiceKey, SessionAffinity, allotment::EndpointRef, derived,
};

use super::{Kind, Object, Write, versioned};
use crate::observed::{Observed, Row, ServiceView, object_key};

/// What a derived Service is asked to be.
pub(super) struct Asked<'a> {
    /// The import that it is made for.
    pub(super) service: &'a ServiceKey,
    /// The endpoint that it leads to, where the import is headless.
    pub(super) endpoint: Option<&'a EndpointRef>,
    pub(super) ports: Vec<PortKey>,
    pub(super) affinity: SessionAffinity,
}

/// The name of the Service that is made for an import, or for an endpoint of a headless one.
pub(super) fn name(service: &ServiceKey, endpoint: Option<&EndpointRef>) -> DerivedName {
    match endpoint {
        Some(endpoint) => derived::endpoint(service, &endpoint.cluster, &endpoint.hostname),
        None => derived::service(service),
    }
}

/// The derived Service of an import.
pub(super) struct Address<'a> {
    /// What to do so that it is as it should be.
    pub(super) write: Option<Write>,
    /// Its addresses, the primary one first; none while it is not there.
    pub(super) ips: Option<Vec<IpAddr>>,
    /// A Service of somebody else that has its name.
    pub(super) foreign: Option<&'a ServiceView>,
}

impl<'a> Asked<'a> {
    /// What gives a ClusterSetIP import its addresses.
    pub(super) fn of(merged: &'a Merged) -> Self {
        Self {
            service: &merged.service,
            endpoint: None,
            ports: merged.ports.iter().map(|port| port.port.key).collect(),
            affinity: merged.affinity,
        }
    }
}

/// The derived Service that is `asked` for, which belongs to `import` once that is there.
pub(super) fn address<'a>(
    observed: &'a Observed,
    asked: &Asked<'_>,
    import: Option<&ServiceImport>,
) -> Address<'a> {
    let key = object_key(asked.service, name(asked.service, asked.endpoint).as_str());
    let Some(row) = observed.services.row(&key) else {
        let service = shape(observed, Service::default(), asked, import);
        return Address {
            write: Some(Write::Create(Object::Service(Box::new(service)))),
            ips: None,
            foreign: None,
        };
    };
    let Some((_, current)) =
        row.kept.ours.as_ref().filter(|(made_for, _)| made_for == asked.service)
    else {
        return Address { write: None, ips: None, foreign: Some(&row.kept) };
    };
    let mut wanted = shape(observed, (**current).clone(), asked, import);
    let write = (wanted != **current).then(|| {
        versioned(&mut wanted.metadata, &row.version);
        Write::Update(Object::Service(Box::new(wanted)))
    });
    let ips = current.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    let ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    Address { write, ips: (!ips.is_empty()).then_some(ips), foreign: None }
}

/// What takes away the derived Services of an import, except for those named in `kept`.
pub(super) fn remove(
    observed: &Observed,
    service: &ServiceKey,
    kept: &BTreeSet<String>,
) -> Vec<Write> {
    let made = observed.our_services(service);
    let stale = made.filter(|(key, row)| !kept.contains(&key.name) && is_made_for(row, service));
    stale
        .map(|(key, row)| Write::Delete {
            kind: Kind::Service,
            key: key.clone(),
            uid: Some(row.uid.clone()),
        })
        .collect()
}

/// Whether a Service has the name of what it says it was made for: a copy that somebody has made is theirs.
fn is_made_for(row: &Row<ServiceView>, service: &ServiceKey) -> bool {
    let Some((_, made)) = &row.kept.ours else {
        return false;
    };
    let annotations = made.metadata.annotations.as_ref();
    let expected = match annotations.and_then(|all| all.get(ENDPOINT)) {
        None => Some(derived::service(service)),
        Some(text) => text.split_once('/').and_then(|(cluster, hostname)| {
            let (cluster, hostname) = (cluster.parse().ok()?, hostname.parse().ok()?);
            Some(derived::endpoint(service, &cluster, &hostname))
        }),
    };
    made.metadata.name.as_deref() == expected.as_ref().map(DerivedName::as_str)
}

fn shape(
    observed: &Observed,
    mut service: Service,
    asked: &Asked<'_>,
    import: Option<&ServiceImport>,
) -> Service {
    let owned_by = |import| owned_by(import, observed.mcs);
    let mut annotations = BTreeMap::from([(IMPORT.to_owned(), asked.service.name.to_string())]);
    if let Some(EndpointRef { cluster, hostname }) = asked.endpoint {
        annotations.insert(ENDPOINT.to_owned(), format!("{cluster}/{hostname}"));
    }
    service.metadata = ObjectMeta {
        name: Some(name(asked.service, asked.endpoint).to_string()),
        namespace: Some(asked.service.namespace.to_string()),
        labels: Some(BTreeMap::from([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())])),
        annotations: Some(annotations),
        // Without an import it belongs to nobody: one that was made for an earlier import would be collected with
        // that, under the feet of the next one.
        owner_references: import.and_then(owned_by).map(|owner| vec![owner]),
        ..service.metadata
    };
    let (affinity, config) = affinity(asked.affinity);
    let ports = asked.ports.iter().map(|port| {
        let number = i32::from(port.number.get());
        ServicePort {
            name: Some(port.derived_port_name().to_string()),
            port: number,
            protocol: Some(port.protocol.as_str().to_owned()),
            target_port: Some(IntOrString::Int(number)),
            ..ServicePort::default()
        }
    });
    service.spec = Some(ServiceSpec {
        // With a selector, Kubernetes would add slices of its own; with external addresses, nodes would take calls for
        // them.
        external_ips: None,
        selector: None,
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

fn owned_by(import: &ServiceImport, version: McsVersion) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: version.api_version().to_owned(),
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
