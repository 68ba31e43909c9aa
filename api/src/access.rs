//! AccessPolicy: who may call what a cluster exports (design: "Identity and access").

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An RFC-1123 label: what ids of clusters, namespaces and Services are.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// A namespace, a slash and the name of a service account.
const SERVICE_ACCOUNT: &str =
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$";
/// How many rules a policy, and how many names a list of one, may have: what a person can review, and what a gateway
/// looks through for each new connection.
const MOST: u32 = 64;

/// Who may call a service that this cluster exports.
///
/// Policies add up, as NetworkPolicies do: a call is let in if any rule of any policy for its service allows it. A service
/// without a policy is open to the whole set. So a policy that names no Service and has no rule is the switch by which
/// nothing of a namespace is open unless another policy says so. Which policies are in force for an export, its
/// ServiceExport tells (condition `Guarded`).
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "landbridge.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    namespaced,
    shortname = "acp",
    category = "landbridge",
    derive = "Default",
    derive = "PartialEq",
    doc = "Who may call, from other clusters, what this namespace exports; held by the gateways of this cluster.",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"Clusters","type":"string","priority":1,"jsonPath":".spec.allow[*].clusters"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicySpec {
    /// The exported Service of this namespace that it is for; all that the namespace exports, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = LABEL))]
    pub service: Option<String>,
    /// Who may call; nobody by this policy, where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub allow: Vec<AccessRule>,
}

/// Callers that are let in: those of whom everything holds that the rule names. A list that is absent or empty asks for
/// nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// The ids of the clusters that call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST), inner(regex(pattern = LABEL)))]
    pub clusters: Vec<String>,
    /// The namespaces of the pods that call. A caller that is not known is of none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST), inner(regex(pattern = LABEL)))]
    pub namespaces: Vec<String>,
    /// The service accounts of the pods that call, as `namespace/name`. A caller that is not known has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST), inner(regex(pattern = SERVICE_ACCOUNT)))]
    pub service_accounts: Vec<String>,
    /// The ports of the service that are called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST))]
    pub ports: Vec<AccessPort>,
}

/// A port of a service, as its clients know it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessPort {
    /// Its number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// `TCP` or `UDP`; TCP, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(TCP|UDP)$"))]
    pub protocol: Option<String>,
}
