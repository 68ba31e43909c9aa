//! Pure: objects as the controller keeps them: what it decides by, and nothing else.
//!
//! Objects that it writes are kept whole, since an update names everything; slices, of which there are many, are packed. Each reading says in a sentence what it
//! could not read; the table then lets stand what was known before.

use std::collections::BTreeMap;

use super::packed::PackedSlice;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use landbridge_api::{
    convert::{self, Allotment},
    landbridge::{ClusterExport, ClusterExportSpec, Member, MemberStatus},
    mcs::{self, ServiceExport},
    wellknown::{
        APP_MANAGED_BY, GATEWAY_SERVICE, IMPORT, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY,
        SERVICE_NAME,
    },
};
use landbridge_model::{
    ClusterId, Export, IpFamily, Namespace as NamespaceName, Peer, ServiceKey, ServicePort,
    SessionAffinity, Timestamp,
};

use crate::config::Config;

/// What a Service is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// With a virtual address: types ClusterIP, NodePort and LoadBalancer.
    ClusterIp,
    /// A CNAME, which cannot be exported.
    ExternalName,
    /// `clusterIP: None`.
    Headless,
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceView {
    pub(crate) form: Form,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) families: Vec<IpFamily>,
    pub(crate) affinity: SessionAffinity,
    pub(crate) internal_traffic_policy: Option<String>,
    pub(crate) traffic_distribution: Option<String>,
    /// The whole of it, and the import that it was made for, where it is ours.
    pub(crate) ours: Option<(ServiceKey, Box<Service>)>,
}

/// A namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NamespaceView {
    /// Whether objects can be made in it: one that is going takes no new ones.
    pub(crate) is_open: bool,
    /// Whether services of it are wanted here.
    pub(crate) is_selected: bool,
}

/// A ServiceExport.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExportView {
    pub(crate) created: Timestamp,
    pub(crate) generation: Option<i64>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) conditions: Vec<Condition>,
    /// Whether it is being deleted.
    pub(crate) leaving: bool,
}

/// A ClusterExport.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterExportView {
    pub(crate) export: Export,
    pub(crate) spec: ClusterExportSpec,
}

/// A Member.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberView {
    pub(crate) peer: Peer,
    /// The namespaces that it may export; all, where none are named.
    pub(crate) namespaces: Option<Vec<String>>,
    pub(crate) suspended: bool,
    pub(crate) generation: Option<i64>,
    pub(crate) status: MemberStatus,
}

impl MemberView {
    pub(crate) fn may_export(&self, namespace: &NamespaceName) -> bool {
        self.namespaces
            .as_ref()
            .is_none_or(|allowed| allowed.iter().any(|name| name == namespace.as_str()))
    }

    /// Whether both say the same of everything but how the member feels.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let says = |view: &Self| {
            let (peer, namespaces) = (view.peer.clone(), view.namespaces.clone());
            let cluster = view.status.cluster_uid.clone();
            let revision = view.status.merge_revision;
            (peer, namespaces, view.suspended, cluster, revision)
        };
        says(self) == says(other)
    }
}

/// What an EndpointSlice is to us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SliceRole {
    /// It names this cluster's gateways.
    Gateways,
    /// We made it for this import.
    Ours(ServiceKey),
    /// Nothing, but its name is taken.
    Other,
    /// It names the pods of this Service.
    Pods(ServiceKey),
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceView {
    pub(crate) role: SliceRole,
    /// The whole of it; of what names pods only what tells where they are, and nothing of what is nothing to us.
    pub(crate) slice: PackedSlice,
    /// The same where it names gateways: there are few, and every plan asks for them.
    pub(super) gateways: Option<Box<EndpointSlice>>,
    /// What it allots, where it is ours and names gateways.
    pub(crate) allotment: Option<Allotment>,
}

fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether an object other than an EndpointSlice is ours.
pub(crate) fn is_ours(metadata: &ObjectMeta) -> bool {
    label(metadata, APP_MANAGED_BY) == Some(LANDBRIDGE)
}

fn key_in(metadata: &ObjectMeta, name: &str) -> Result<ServiceKey, String> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    ServiceKey::parse(namespace, name).map_err(|problem| problem.to_string())
}

pub(super) fn service(object: Service) -> Result<ServiceView, String> {
    let import = match annotation(&object.metadata, IMPORT) {
        Some(import) if is_ours(&object.metadata) => Some(key_in(&object.metadata, import)?),
        _ => None,
    };
    let spec = object.spec.clone().unwrap_or_default();
    let form = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => Form::ExternalName,
        (_, Some("None")) => Form::Headless,
        _ => Form::ClusterIp,
    };
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        convert::service_port(&mcs::ServicePort {
            name: port.name.clone(),
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
            port: port.port,
        })
    };
    let ports = spec.ports.iter().flatten().map(port);
    let families = spec.ip_families.iter().flatten();
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(SessionAffinity::DEFAULT_TIMEOUT, std::time::Duration::from_secs);
    Ok(ServiceView {
        form,
        ports: ports.collect::<Result<_, _>>()?,
        families: families.filter_map(|family| family.parse().ok()).collect(),
        affinity: match spec.session_affinity.as_deref() {
            Some("ClientIP") => SessionAffinity::ClientIp { timeout },
            _ => SessionAffinity::None,
        },
        internal_traffic_policy: spec.internal_traffic_policy,
        traffic_distribution: spec.traffic_distribution,
        ours: import.map(|import| (import, Box::new(object))),
    })
}

pub(super) fn service_export(object: &ServiceExport) -> ExportView {
    let asked = object.asked().cloned().unwrap_or_default();
    ExportView {
        created: convert::created(&object.metadata),
        generation: object.metadata.generation,
        labels: asked.exported_labels.unwrap_or_default(),
        annotations: asked.exported_annotations.unwrap_or_default(),
        conditions: object.conditions().to_vec(),
        leaving: object.metadata.deletion_timestamp.is_some(),
    }
}

pub(super) fn cluster_export(object: ClusterExport) -> Result<ClusterExportView, String> {
    let export = convert::export(&object).map_err(|problem| problem.to_string())?;
    Ok(ClusterExportView { export, spec: object.spec })
}

pub(super) fn member(object: Member) -> Result<MemberView, String> {
    let peer = convert::member_peer(&object).map_err(|problem| problem.to_string())?;
    Ok(MemberView {
        peer,
        namespaces: object.spec.namespaces,
        suspended: object.spec.suspended,
        generation: object.metadata.generation,
        status: object.status.unwrap_or_default(),
    })
}

pub(super) fn namespace(object: &Namespace, config: &Config) -> NamespaceView {
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    let metadata = &object.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    NamespaceView {
        is_open: metadata.deletion_timestamp.is_none() && phase != Some("Terminating"),
        is_selected: config.imports(name, metadata.labels.as_ref()),
    }
}

/// What the holder of a Lease says to show that it lives.
pub(super) fn lease(object: &Lease) -> String {
    let renewed = object.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    renewed.map(|time| time.0.to_string()).unwrap_or_default()
}

pub(super) fn slice(
    mut object: EndpointSlice,
    system_namespace: &NamespaceName,
) -> Result<SliceView, String> {
    let metadata = &object.metadata;
    let owner = label(metadata, KUBE_SERVICE_NAME);
    let ours = label(metadata, MANAGED_BY) == Some(LANDBRIDGE);
    let import = annotation(metadata, IMPORT).or_else(|| label(metadata, SERVICE_NAME));
    let role = match (owner, import) {
        (Some(GATEWAY_SERVICE), _)
            if metadata.namespace.as_deref() == Some(system_namespace.as_str()) =>
        {
            SliceRole::Gateways
        }
        (_, Some(import)) if ours => SliceRole::Ours(key_in(metadata, import)?),
        (Some(service), _) if !ours => match key_in(metadata, service) {
            Ok(key) => SliceRole::Pods(key),
            Err(_) => SliceRole::Other,
        },
        _ => SliceRole::Other,
    };
    let allotment = match role {
        SliceRole::Ours(_) => convert::allotment(&object).map_err(|problem| problem.to_string())?,
        _ => None,
    };
    let (mut slice, mut gateways) = (PackedSlice::default(), None);
    match role {
        SliceRole::Gateways => gateways = Some(Box::new(object)),
        SliceRole::Other => {}
        SliceRole::Ours(_) => slice = PackedSlice::new(object),
        SliceRole::Pods(_) => {
            object.metadata = ObjectMeta::default();
            for endpoint in &mut object.endpoints {
                // Of no use to others: hints were computed for other traffic than what an import gets.
                endpoint.deprecated_topology = None;
                endpoint.hints = None;
            }
            slice = PackedSlice::new(object);
        }
    }
    Ok(SliceView { role, slice, gateways, allotment })
}

/// Whose ClusterExport has this key, and which service it is for, by name alone.
pub(super) fn cluster_export_key(namespace: &str, name: &str) -> Option<(ClusterId, ServiceKey)> {
    let cluster = ClusterId::parse(namespace.strip_prefix("cluster-")?).ok()?;
    let (namespace, name) = name.split_once('.')?;
    Some((cluster, ServiceKey::parse(namespace, name).ok()?))
}
