//! Pure: what a controller is told before it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use landbridge_model::{ClusterId, ClusterSetId, GatewayAddress, Namespace, NetworkName};

use crate::{liveness::LONGEST_BEAT, selector::Selector};

/// What a controller is told before it starts: values that have been checked, whatever they came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The cluster that it serves.
    pub cluster: ClusterId,
    /// The set that the cluster is a member of.
    pub set: ClusterSetId,
    /// The network that the cluster's pods are in.
    pub network: NetworkName,
    /// Where Landbridge itself lives in the cluster.
    pub system_namespace: Namespace,
    /// Where peers reach this cluster's gateways; none where it can only dial.
    pub advertise: Vec<GatewayAddress>,
    /// The region of the cluster, for locality.
    pub region: Option<String>,
    /// How often the controller tells the hub that it is alive.
    pub heartbeat: Duration,
    /// The namespaces that services are imported of; all, where none are named.
    pub import_namespaces: Option<BTreeSet<Namespace>>,
    /// Of those, the ones that services are imported of, by their labels; all, where it has no terms.
    pub import_namespace_selector: Selector,
    /// How many Services may be made for imports, each of which takes an address of the cluster.
    pub max_derived_services: usize,
    /// What this controller is called where several serve one cluster: the name of its pod or machine. What tells two
    /// of one name apart is added to it.
    pub replica: String,
}

impl Config {
    /// How often a controller tells that it is alive, unless told otherwise: three beats within the time after
    /// which silence counts.
    pub const HEARTBEAT: Duration = Duration::from_secs(3);

    /// How many Services are made for imports, unless told otherwise: half of the 4,096 addresses of a /20, which is
    /// the smallest range that managed clusters are usually given.
    pub const MAX_DERIVED_SERVICES: usize = 2_000;

    /// Settings with nothing but who the cluster is; everything else as it is unless told otherwise.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        set: ClusterSetId,
        network: NetworkName,
        system_namespace: Namespace,
    ) -> Self {
        Self {
            cluster,
            set,
            network,
            system_namespace,
            advertise: Vec::new(),
            region: None,
            heartbeat: Self::HEARTBEAT,
            import_namespaces: None,
            import_namespace_selector: Selector::default(),
            max_derived_services: Self::MAX_DERIVED_SERVICES,
            replica: "controller".to_owned(),
        }
    }

    /// Whether services of a namespace with these labels are wanted here.
    pub(crate) fn imports(
        &self,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> bool {
        let named = self.import_namespaces.as_ref();
        named.is_none_or(|named| named.iter().any(|one| one.as_str() == namespace))
            && self.import_namespace_selector.matches(labels)
    }

    /// Whether heartbeats come often enough to be missed only when something is wrong.
    pub(crate) fn heartbeat_is_usable(&self) -> bool {
        !self.heartbeat.is_zero() && self.heartbeat <= LONGEST_BEAT
    }
}
