//! What there is of Landbridge in a cluster, and what that means: for `landbridge status`, `check`, `diagnose` and `gather`.
//!
//! ```text
//! ask ─► Facts ─┬─► checks ─► Findings ─┬─► shown
//!               └─► report (status) ────┘
//! ```
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`ask`], [`components`], [`logs`] | what do a cluster's API, and what runs in it, say? |
//! | [`metrics`], [`certificates`], [`selects`] | what does a text, a certificate, a selector mean? |
//! | [`checks`] | what is wrong, and what is to be done? |
//! | [`report`] | how are members, links, exports, imports and certificates? |
//! | [`walk`] | where does a call to one service end? |
//! | [`archive`] | what goes into an archive, and what does not? |
//! | [`shown`] | what are people told of it? |

pub(crate) mod archive;
pub(crate) mod ask;
pub(crate) mod certificates;
pub(crate) mod checks;
mod components;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod report;
pub(crate) mod selects;
pub(crate) mod shown;
#[cfg(test)]
mod testing;
pub(crate) mod walk;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Node, Pod, Service},
        discovery::v1::EndpointSlice,
        networking::v1::NetworkPolicy,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use landbridge_api::{
    access::AccessPolicy,
    inventory::ClusterProfile,
    landbridge::{ClusterExport, Member, Peer},
    mcs::{ServiceExport, ServiceImport},
    traffic::TrafficPolicy,
    wellknown::CLUSTER_SET_PROPERTY,
};
use landbridge_model::Timestamp;
use serde_json::Value;

/// Why something is not known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Unread {
    /// Whoever asks may not know: this, as `list peers.landbridge.dev`.
    Denied(String),
    /// There is none of it: its kind is not served here.
    NoKind,
    /// It was not asked for.
    NotAsked,
    /// The API did not say.
    Trouble(String),
}

/// What an API has said to one question.
pub(crate) type Asked<T> = Result<T, Unread>;

/// A cluster as its API tells it. What nobody has asked for is [`Unread::NotAsked`].
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// When it was asked, by the clock of whoever asked.
    pub(crate) now: Timestamp,
    /// The version of its API server: major, minor, and as it writes it.
    pub(crate) server: (u32, u32, String),
    /// Its ClusterProperties.
    pub(crate) properties: Asked<BTreeMap<String, String>>,
    /// What was chosen by `init` or `join`.
    pub(crate) choice: Asked<Option<BTreeMap<String, String>>>,
    pub(crate) definitions: Asked<Vec<CustomResourceDefinition>>,
    /// What runs Landbridge.
    pub(crate) deployments: Asked<Vec<Deployment>>,
    pub(crate) pods: Asked<Vec<Pod>>,
    /// What its pods say of themselves, as far as they could be asked.
    pub(crate) components: Vec<Component>,
    pub(crate) profiles: Asked<Vec<ClusterProfile>>,
    pub(crate) peers: Asked<Vec<Peer>>,
    pub(crate) exports: Asked<Vec<ServiceExport>>,
    pub(crate) imports: Asked<Vec<ServiceImport>>,
    pub(crate) access: Asked<Vec<AccessPolicy>>,
    pub(crate) traffic: Asked<Vec<TrafficPolicy>>,
    /// Slices by which kube-proxy finds gateways: they say which ports are allotted.
    pub(crate) allotments: Asked<Vec<EndpointSlice>>,
    /// Where the controller finds this cluster's gateways.
    pub(crate) gateways: Asked<Vec<EndpointSlice>>,
    pub(crate) services: Asked<Vec<Service>>,
    pub(crate) namespaces: Asked<Vec<Namespace>>,
    pub(crate) policies: Asked<Vec<NetworkPolicy>>,
    pub(crate) nodes: Asked<Vec<Node>>,
    /// What the cluster's own DNS is told; none where that is not where it usually is.
    pub(crate) corefile: Asked<Option<String>>,
    /// What ends some day.
    pub(crate) certificates: Vec<Certificate>,
    /// What whoever asks may not do of what `init` and `join` do.
    pub(crate) denied: Asked<Vec<String>>,
    /// The hub, where it was asked: this cluster, or the one that was named.
    pub(crate) hub: Hub,
    /// Whether it was named, and so is another one.
    pub(crate) is_hub_elsewhere: bool,
}

/// What the hub says.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    pub(crate) members: Asked<Vec<Member>>,
    pub(crate) exports: Asked<Vec<ClusterExport>>,
}

/// A pod of ours, by what its admin endpoint says through the API server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Component {
    pub(crate) pod: String,
    /// `controller`, `dns` or `gateway`.
    pub(crate) part: String,
    /// Whether it is ready, and if not, for what it waits.
    pub(crate) ready: Option<Result<(), String>>,
    pub(crate) metrics: Option<String>,
    pub(crate) snapshot: Option<Value>,
    pub(crate) connections: Option<Value>,
    /// Why it could not be asked.
    pub(crate) trouble: Option<Unread>,
}

/// Something that ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Certificate {
    /// What it is.
    pub(crate) what: String,
    /// When it ends; or why that is not known.
    pub(crate) until: Asked<Timestamp>,
}

impl Facts {
    /// What a cluster is called, as it says.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.as_ref().ok()?.get(name).map(String::as_str)
    }

    /// Whether anybody has made it a member, or begun to.
    pub(crate) fn is_installed(&self) -> bool {
        let is_chosen = matches!(&self.choice, Ok(Some(_)));
        let runs = !known(&self.deployments).is_empty() || !known(&self.pods).is_empty();
        is_chosen || runs || self.property(CLUSTER_SET_PROPERTY).is_some()
    }

    /// Whether it keeps the set's Members: they are nowhere else.
    pub(crate) fn is_hub(&self, own: &str) -> bool {
        let names = known(&self.hub.members).iter().filter_map(|one| one.metadata.name.as_deref());
        !self.is_hub_elsewhere && names.into_iter().any(|name| name == own)
    }

    pub(crate) fn components_of<'a>(
        &'a self,
        part: &'a str,
    ) -> impl Iterator<Item = &'a Component> {
        self.components.iter().filter(move |one| one.part == part)
    }
}

/// What is known of a list; nothing where it could not be read.
pub(crate) fn known<T>(asked: &Asked<Vec<T>>) -> &[T] {
    asked.as_deref().unwrap_or_default()
}
