//! TrafficPolicy: how calls to an imported service are spread over the clusters that serve it, and what holds for each call
//! (design: "Objects").

use std::cmp::Ordering;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::CustomResource;
use landbridge_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::convert::created;

/// An RFC-1123 label: what ids of clusters and Services are.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// How many clusters may be named: what a person can review.
const MOST: u32 = 64;

/// How calls to a service that this cluster imports are spread, and what holds for each of them.
///
/// One policy is in force for a service: of several the oldest, and the others say so. One that weighs clusters makes every
/// call go to a gateway, which then calls this cluster's own pods too; without that, kube-proxy calls pods of this cluster and
/// of its network directly, and what is said here holds for the calls that go through gateways.
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "landbridge.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    namespaced,
    status = "TrafficPolicyStatus",
    shortname = "tfp",
    category = "landbridge",
    derive = "Default",
    derive = "PartialEq",
    doc = "How calls to a service that this cluster imports are spread over clusters, and what holds for each of them.",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"In-Force","type":"string","jsonPath":".status.conditions[?(@.type==\"InForce\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"InForce\")].reason"}"#,
    printcolumn = r#"{"name":"Clusters","type":"string","priority":1,"jsonPath":".spec.clusters[*].cluster"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicySpec {
    /// The imported service of this namespace that it is for.
    #[schemars(regex(pattern = LABEL))]
    pub service: String,
    /// `Region`: clusters of this one's region are called before others. `Anywhere`: all that serve it are alike, this one
    /// among them, and each gets calls by its ready endpoints. `Region`, where absent; of no meaning where clusters have
    /// weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// What share of calls each cluster gets. One that is not named, or whose weight is 0, gets calls when nobody else takes
    /// any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["cluster"],
        "x-kubernetes-validations" = [{
            "rule": "self.size() == 0 || self.exists(c, c.weight > 0)",
            "message": "give at least one cluster a weight above 0",
        }],
    ))]
    pub clusters: Vec<ClusterWeight>,
    /// When calls go on to other clusters though there is somebody who could take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill_over: Option<SpillOver>,
    /// How long things may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// When a cluster whose calls fail is left out for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outliers: Option<Outliers>,
    /// How often a call that was not delivered is tried elsewhere; 4 times, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4))]
    pub retries: Option<u8>,
    /// Whether a call that may have been delivered may be sent again to another pod, as long as no byte of an answer has
    /// come: right for a service to which the same request twice is the same as once. False, where absent: then such a
    /// call is reset, and the client decides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay_safe: bool,
}

/// Which clusters come first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Locality {
    /// All are alike.
    Anywhere,
    /// Those of the own region.
    #[default]
    Region,
}

/// The share of one cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterWeight {
    /// Its id.
    #[schemars(regex(pattern = LABEL))]
    pub cluster: String,
    /// Its share, compared with the others' weights.
    #[schemars(range(min = 0, max = 100))]
    pub weight: u8,
}

/// When calls go on to others.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpillOver {
    /// The share of a cluster's endpoints, of 100, that must be ready for it to take all of its calls. With fewer it takes as
    /// much less as are missing, and the rest goes to the next nearest, or to the others by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_percent: Option<u8>,
    /// The connections that each gateway of this cluster brings to a cluster at a time; those above go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<u32>,
}

/// How long things may take.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// How many seconds a client waits in all until a pod has accepted; 10, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60))]
    pub connect_seconds: Option<u8>,
    /// After how many seconds without a byte in either direction a connection is cut; never, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub idle_seconds: Option<u32>,
}

/// When a cluster whose calls fail is left out.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outliers {
    /// After how many failures in a row; never, where 0; 5, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub failures: Option<u16>,
    /// For how many seconds the first time, and as many more each time that follows; 10, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 300))]
    pub seconds: Option<u16>,
    /// The most clusters that are left out at a time, of 100; 50, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub most_percent: Option<u8>,
}

/// What became of a policy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct TrafficPolicyStatus {
    /// InForce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl TrafficPolicySpec {
    /// Whether this cluster's own pods are weighed against those of others, which only gateways can.
    #[must_use]
    pub fn weighs(&self) -> bool {
        !self.clusters.is_empty()
            || self.locality == Some(Locality::Anywhere)
            || self.spill_over.is_some()
    }
}

/// The order in which policies for one service come: the first is in force. Controllers and gateways must agree.
#[must_use]
pub fn precedence(one: &ObjectMeta, other: &ObjectMeta) -> Ordering {
    let key = |metadata: &ObjectMeta| -> (Timestamp, String) {
        (created(metadata), metadata.name.clone().unwrap_or_default())
    };
    key(one).cmp(&key(other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_gateways_can_weigh_clusters() {
        for (spec, weighs) in [
            (json!({"service": "web"}), false),
            (json!({"service": "web", "locality": "Region", "retries": 1}), false),
            (json!({"service": "web", "locality": "Anywhere"}), true),
            (json!({"service": "web", "clusters": [{"cluster": "paris", "weight": 1}]}), true),
            (json!({"service": "web", "spillOver": {"connections": 5}}), true),
        ] {
            let read: TrafficPolicySpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(read.weighs(), weighs, "{spec}");
        }
    }

    #[test]
    fn the_older_policy_comes_first_and_of_equals_the_one_whose_name_does() {
        let of = |name: &str, created: &str| -> ObjectMeta {
            serde_json::from_value(json!({"name": name, "creationTimestamp": created})).unwrap()
        };
        let old = of("z", "2026-01-01T00:00:00Z");
        let [a, b] = ["a", "b"].map(|name| of(name, "2026-01-02T00:00:00Z"));
        assert_eq!(precedence(&old, &a), Ordering::Less);
        assert_eq!(precedence(&b, &a), Ordering::Greater);
    }
}
