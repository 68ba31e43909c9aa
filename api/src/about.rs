//! ClusterProperty, group `about.k8s.io` (KEP-2149): who this cluster is.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A property of the cluster, by the name of the object.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "about.k8s.io",
    version = "v1beta1",
    kind = "ClusterProperty",
    plural = "clusterproperties",
    category = "multicluster",
    derive = "Default",
    derive = "PartialEq",
    doc = "A property of this cluster, such as its id in a clusterset.",
    printcolumn = r#"{"name":"value","type":"string","jsonPath":".spec.value"}"#,
    printcolumn = r#"{"name":"age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct ClusterPropertySpec {
    /// The value.
    #[schemars(length(min = 1))]
    pub value: String,
}
