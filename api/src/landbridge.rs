//! Our own kinds, group `landbridge.dev/v1alpha1` (design: "Objects").

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mcs::ServicePort;

/// The API group.
pub const GROUP: &str = "landbridge.dev";

/// What joining and administrators decide about a member.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "landbridge.dev",
    version = "v1alpha1",
    kind = "Member",
    status = "MemberStatus",
    category = "landbridge",
    derive = "Default",
    derive = "PartialEq",
    doc = "One cluster of the set; kept on the hub, named by the cluster's id.",
    printcolumn = r#"{"name":"Network","type":"string","jsonPath":".spec.network"}"#,
    printcolumn = r#"{"name":"Healthy","type":"string","jsonPath":".status.conditions[?(@.type==\"Healthy\")].status"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
    printcolumn = r#"{"name":"Heartbeat","type":"date","jsonPath":".status.heartbeat"}"#,
    printcolumn = r#"{"name":"Gateways","type":"string","priority":1,"jsonPath":".status.gateways[*].address"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MemberSpec {
    /// How often this cluster id has joined; certificates of an earlier generation are not believed.
    #[schemars(range(min = 1))]
    pub generation: i64,
    /// Members with the same network name reach each other's pods directly.
    #[schemars(length(min = 1, max = 63))]
    pub network: String,
    /// The address ranges of the cluster, if declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// The namespaces that it may export; all, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Whether everything that it exports is withheld.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Whether other members send it no new calls while another one serves. What is open goes on, and its own pods call as ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

/// The address ranges of a cluster, in CIDR notation.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Ranges {
    /// Of its pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Of its Services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

/// What a member tells of itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Renewed every few seconds. Read as "it has changed", never against one's own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<MicroTime>,
    /// The version of Landbridge that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version of Kubernetes that its API server has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// The newest merge rules that it knows; the set uses the lowest of all members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_revision: Option<u32>,
    /// The uid of its namespace `kube-system`, by which two clusters of one id are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// Its region, for locality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where its gateways are reached by peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<GatewayEndpoint>,
    /// Healthy and Compatible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Where one gateway is reached.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct GatewayEndpoint {
    /// IP address and port, for example `192.0.2.11:4433` or `[2001:db8::11]:4433`.
    pub address: String,
}

/// A service.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ServiceReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One exported service of one member.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "landbridge.dev",
    version = "v1alpha1",
    kind = "ClusterExport",
    namespaced,
    shortname = "cex",
    category = "landbridge",
    derive = "Default",
    derive = "PartialEq",
    doc = "One service that a member exports; kept on the hub in the member's namespace, named `<namespace>.<name>`.",
    printcolumn = r#"{"name":"Service-Namespace","type":"string","jsonPath":".spec.service.namespace"}"#,
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service.name"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Exported","type":"date","jsonPath":".spec.exportedAt"}"#,
    printcolumn = r#"{"name":"Ports","type":"string","priority":1,"jsonPath":".spec.ports[*].port"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterExportSpec {
    /// Which service.
    pub service: ServiceReference,
    /// `ClusterSetIP` or `Headless`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its ports, in the order of the Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// The families of its Service, the primary one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<String>,
    /// `ClientIP` or `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<String>,
    /// How long affinity by the client's address lasts, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_timeout_seconds: Option<i32>,
    /// As the Service has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<String>,
    /// As the Service has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
    /// Labels for the imports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_labels: BTreeMap<String, String>,
    /// Annotations for the imports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_annotations: BTreeMap<String, String>,
    /// When the ServiceExport was made. The export's age is the earlier of this and the object's own creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported_at: Option<Time>,
    /// Whether AccessPolicies are in force for it. Then its pods are reached through the gateways, which hold them, by
    /// members of its own network too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guarded: bool,
    /// Its endpoints, counted per failure zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneEndpoints>,
}

/// The endpoints of an export in one failure zone.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ZoneEndpoints {
    /// The zone; empty where nodes have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Endpoints that are ready.
    pub ready: u32,
    /// All endpoints, ready or not.
    pub total: u32,
}

/// Another member, as the gateways of this one need it.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "landbridge.dev",
    version = "v1alpha1",
    kind = "Peer",
    status = "PeerStatus",
    category = "landbridge",
    derive = "Default",
    derive = "PartialEq",
    doc = "Another member of the set, named by its cluster id. Written by the controller; its status by the gateways.",
    printcolumn = r#"{"name":"Network","type":"string","jsonPath":".spec.network"}"#,
    printcolumn = r#"{"name":"Connected","type":"string","jsonPath":".status.conditions[?(@.type==\"Connected\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Connected\")].reason"}"#,
    printcolumn = r#"{"name":"Drained","type":"boolean","priority":1,"jsonPath":".spec.drained"}"#,
    printcolumn = r#"{"name":"Gateways","type":"string","priority":1,"jsonPath":".spec.gateways[*].address"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PeerSpec {
    /// How often it has joined; certificates of an earlier generation are not believed.
    #[schemars(range(min = 1))]
    pub generation: i64,
    /// Its network.
    pub network: String,
    /// Its region: of several clusters that serve a port, those of the own region are called first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether it gets no new calls while another member serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
    /// Where its gateways are reached; none where it can only dial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<GatewayEndpoint>,
}

/// How the links to a peer are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PeerStatus {
    /// Connected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The link of each local gateway, by the gateway's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, LinkStatus>,
}

/// The link between one local gateway and a peer.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// `Connected`, `Dialing`, `Suspect`, `Refused`.
    pub state: String,
    /// What carries new calls: `quic`, or `tcp` where UDP does not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// The smoothed round trip, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_micros: Option<u64>,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why it was last lost or could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
