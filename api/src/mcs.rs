//! The Multi-Cluster Services API, group `multicluster.x-k8s.io` (KEP-1645), as upstream's release v0.5.2 defines it.
//!
//! v1beta1 is stored; v1alpha1 is served beside it with the same schema, since CoreDNS and Karmada read it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "multicluster.x-k8s.io";

/// A port of a ServiceImport. There is no target port: what a port leads to is each exporter's own affair.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The name of the port, unique within the import. Optional if only one port is defined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// TCP, UDP or SCTP. Always written by Landbridge: the API has no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The application protocol, a hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// The number that clients connect to.
    pub port: i32,
}

/// The configuration of session affinity.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinityConfig {
    /// Of affinity by the client's address.
    #[serde(default, rename = "clientIP", skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<ClientIpConfig>,
}

/// The configuration of affinity by the client's address.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// For how long after its last call a client stays with an endpoint, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
}

/// A cluster that exports the service of an import.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// Its id.
    pub cluster: String,
}

/// Whether EndpointSlices for an import are there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum EndpointSliceObjects {
    /// They are not.
    Absent,
    /// They are.
    Present,
}

/// Defines the kinds in one version of the API. The schemas of the versions are identical.
macro_rules! version {
    ($module:ident, $version:tt, $doc:literal) => {
        #[doc = $doc]
        pub mod $module {
            use std::collections::BTreeMap;

            use kube::CustomResource;

            use super::*;

            /// All that a ServiceExport holds: a `spec` that may be left out, as most people do.
            #[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
            #[kube(
                group = "multicluster.x-k8s.io",
                version = $version,
                kind = "ServiceExport",
                namespaced,
                no_spec,
                status = "ServiceExportStatus",
                shortname = "svcex",
                shortname = "svcexport",
                derive = "Default",
                derive = "PartialEq",
                doc = "Declares that the Service of the same name is to be served to the whole set.",
                printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
            )]
            pub struct ServiceExportBody {
                /// What is asked.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub spec: Option<ServiceExportSpec>,
            }

            impl ServiceExport {
                /// What is asked, if anything.
                #[must_use]
                pub fn asked(&self) -> Option<&ServiceExportSpec> {
                    self.spec.spec.as_ref()
                }

                /// The conditions, none where no controller has told any.
                #[must_use]
                pub fn conditions(&self) -> &[Condition] {
                    self.status.as_ref().map_or(&[], |status| &status.conditions)
                }
            }

            impl ServiceImport {
                /// The conditions, none where no controller has told any.
                #[must_use]
                pub fn conditions(&self) -> &[Condition] {
                    self.status.as_ref().map_or(&[], |status| &status.conditions)
                }
            }

            /// What is asked of a ServiceExport: nothing is required.
            #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
            #[serde(rename_all = "camelCase")]
            pub struct ServiceExportSpec {
                /// Labels for the imports.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub exported_labels: Option<BTreeMap<String, String>>,
                /// Annotations for the imports.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub exported_annotations: Option<BTreeMap<String, String>>,
            }

            /// What became of a ServiceExport.
            #[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
            pub struct ServiceExportStatus {
                /// Valid, Ready, Conflict, and Landbridge's Degraded.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                pub conditions: Vec<Condition>,
            }

            /// A service of the set as this cluster sees it.
            #[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
            #[kube(
                group = "multicluster.x-k8s.io",
                version = $version,
                kind = "ServiceImport",
                namespaced,
                status = "ServiceImportStatus",
                shortname = "svcim",
                shortname = "svcimport",
                derive = "Default",
                derive = "PartialEq",
                doc = "A service that clusters of the set export, as this cluster sees it.",
                printcolumn = r#"{"name":"Type","type":"string","description":"The type of this ServiceImport","jsonPath":".spec.type"}"#,
                printcolumn = r#"{"name":"IP","type":"string","description":"The VIP for this ServiceImport","jsonPath":".spec.ips"}"#,
                printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
            )]
            #[serde(rename_all = "camelCase")]
            pub struct ServiceImportSpec {
                /// The ports that clients connect to.
                pub ports: Vec<ServicePort>,
                /// The addresses in this cluster, one a family; absent where headless.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                pub ips: Vec<String>,
                /// The families in which the service can be reached here, in the order of `ips`.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                pub ip_families: Vec<String>,
                /// `ClusterSetIP` or `Headless`.
                #[serde(rename = "type")]
                pub type_: String,
                /// `ClientIP` or `None`.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub session_affinity: Option<String>,
                /// How long affinity lasts.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub session_affinity_config: Option<SessionAffinityConfig>,
                /// As the oldest exporter's Service has it.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub internal_traffic_policy: Option<String>,
                /// As the oldest exporter's Service has it.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub traffic_distribution: Option<String>,
            }

            /// Where a ServiceImport comes from and whether it is usable.
            #[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
            #[serde(rename_all = "camelCase")]
            pub struct ServiceImportStatus {
                /// The exporting clusters, oldest export first.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                pub clusters: Vec<ClusterStatus>,
                /// Ready, and Landbridge's Encrypted.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                pub conditions: Vec<Condition>,
                /// Whether MCS EndpointSlices are there.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub endpoint_slice_objects: Option<EndpointSliceObjects>,
            }
        }
    };
}

version!(v1beta1, "v1beta1", "The stored version.");
version!(v1alpha1, "v1alpha1", "The version that CoreDNS and Karmada read.");

pub use v1beta1::{
    ServiceExport, ServiceExportBody, ServiceExportSpec, ServiceExportStatus, ServiceImport,
    ServiceImportSpec, ServiceImportStatus,
};
