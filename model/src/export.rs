//! Pure: one cluster's claim "I serve this Service to the set".

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use crate::{
    name::{ClusterId, ServiceKey, ZoneName},
    port::ServicePort,
    time::Timestamp,
};

/// An address family.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// As Kubernetes writes it: `IPv4` or `IPv6`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// As the names of our slices end: `v4` or `v6`.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IpFamily {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "IPv4" => Ok(Self::V4),
            "IPv6" => Ok(Self::V6),
            _ => Err(()),
        }
    }
}

/// What clients of a service are given (KEP-1645 "Service Types").
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ServiceKind {
    /// One virtual address for all endpoints: from Services of type ClusterIP, NodePort and LoadBalancer.
    ClusterSetIp,
    /// The addresses of the endpoints themselves: from Services with `clusterIP: None`.
    Headless,
}

impl ServiceKind {
    /// As `ServiceImport.spec.type` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterSetIp => "ClusterSetIP",
            Self::Headless => "Headless",
        }
    }
}

impl FromStr for ServiceKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "ClusterSetIP" => Ok(Self::ClusterSetIp),
            "Headless" => Ok(Self::Headless),
            _ => Err(()),
        }
    }
}

/// Whether calls of one client go to one endpoint (KEP-1645 "Session Affinity").
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SessionAffinity {
    /// By the client's address, for as long after its last call.
    ClientIp {
        /// How long; Kubernetes' default is three hours.
        timeout: Duration,
    },
    /// Each call anew.
    None,
}

impl SessionAffinity {
    /// The timeout that kube-apiserver gives a ClientIP affinity which names none.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10_800);

    /// As `spec.sessionAffinity` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientIp { .. } => "ClientIP",
            Self::None => "None",
        }
    }
}

/// The ready endpoints of an export in one failure zone. What importers need for choosing, and all they are told
/// between networks: endpoint churn stays at home.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ZoneCapacity {
    /// Endpoints that are ready.
    pub ready: u32,
    /// All endpoints, ready or not.
    pub total: u32,
}

/// One cluster's export of one service, as every member reads it from the hub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Export {
    /// Who exports.
    pub cluster: ClusterId,
    /// What it exports.
    pub service: ServiceKey,
    /// Since when: the earlier of the ServiceExport's creation and the hub object's. The oldest export wins
    /// conflicts (KEP-1645 "Conflict Resolution Policy").
    pub since: Timestamp,
    /// With one virtual address, or headless.
    pub kind: ServiceKind,
    /// Its ports, in the order of the Service.
    pub ports: Vec<ServicePort>,
    /// The families of its Service, the primary one first.
    pub families: Vec<IpFamily>,
    /// Whether calls of one client go to one endpoint; not used where headless.
    pub affinity: SessionAffinity,
    /// `spec.internalTrafficPolicy` of the Service, passed on unread.
    pub internal_traffic_policy: Option<String>,
    /// `spec.trafficDistribution` of the Service, passed on unread.
    pub traffic_distribution: Option<String>,
    /// Labels for the import, from `ServiceExport.spec.exportedLabels`.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the import, from `ServiceExport.spec.exportedAnnotations`.
    pub annotations: BTreeMap<String, String>,
    /// Whether only gateways may be called for it, since they hold who may call.
    pub guarded: bool,
    /// Ready endpoints per zone.
    pub zones: BTreeMap<ZoneName, ZoneCapacity>,
}

impl Export {
    /// Whether any endpoint is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.zones.values().any(|zone| zone.ready > 0)
    }
}
