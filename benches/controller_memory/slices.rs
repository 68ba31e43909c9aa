//! EndpointSlices as clusters have them: of pods, of what the controller has made, and of members on the hub.

use serde_json::{Value, json};

/// How many endpoints Kubernetes' own controller, and ours, put into a slice.
const FULL: usize = 100;
/// Slices of one service.
const SLICES: usize = 5;
/// Members that keep slices on the hub, this cluster included.
const MEMBERS: usize = 20;

/// Whose slices they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Written by Kubernetes for the pods of Services.
    Pods,
    /// Written by this controller for imports of its network's other clusters.
    Own,
    /// Written by the members of a set on the hub.
    Hub,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Pods, Self::Own, Self::Hub];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub slices",
            Self::Own => "own slices",
            Self::Pods => "pods' slices",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The namespaces that the slices stand in.
    pub(crate) fn namespaces(self) -> Vec<String> {
        match self {
            Self::Hub => (0..MEMBERS).map(|at| format!("cluster-{}", member(at))).collect(),
            Self::Own | Self::Pods => vec!["shop".to_owned()],
        }
    }

    /// Slices with so many endpoints in all.
    pub(crate) fn slices(self, endpoints: usize) -> impl Iterator<Item = Value> {
        (0..endpoints / FULL).map(move |at| self.slice(at))
    }

    fn slice(self, at: usize) -> Value {
        let (service, part) = (at / SLICES, at % SLICES);
        let web = format!("web-{service}");
        let endpoints: Vec<Value> = (0..FULL).map(|n| self.endpoint(&web, at * FULL + n)).collect();
        let metadata = match self {
            Self::Pods => json!({
                "namespace": "shop", "name": format!("{web}-{:05x}", at * 7919 % 0xf_ffff),
                "generateName": format!("{web}-"),
                "labels": {"kubernetes.io/service-name": web, "app": web,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": web,
                    "uid": uid(service), "controller": true, "blockOwnerDeletion": true}],
            }),
            Self::Own => json!({
                "namespace": "shop", "name": format!("{web}-tokyo-v4-{part}"),
                "labels": {"multicluster.kubernetes.io/service-name": web,
                    "multicluster.kubernetes.io/source-cluster": "tokyo",
                    "endpointslice.kubernetes.io/managed-by": "landbridge.dev"},
            }),
            Self::Hub => {
                let member = member(service % MEMBERS);
                json!({
                    "namespace": format!("cluster-{member}"), "name": format!("shop.{web}-v4-{part}"),
                    "labels": {"landbridge.dev/cluster": member,
                        "endpointslice.kubernetes.io/managed-by": "landbridge.dev"},
                    "annotations": {"landbridge.dev/export": format!("shop/{web}")},
                })
            }
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080},
                {"name": "metrics", "protocol": "TCP", "port": 9090}],
        })
    }

    fn endpoint(self, service: &str, at: usize) -> Value {
        let mut endpoint = json!({
            "addresses": [format!("10.{}.{}.{}", at >> 16, at >> 8 & 0xff, at & 0xff)],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "zone": format!("eu-central-1{}", ["a", "b", "c"][at % 3]),
        });
        match self {
            Self::Pods => {
                endpoint["nodeName"] =
                    json!(format!("ip-10-0-{}-{}.eu-central-1.compute.internal", at % 7, at % 250));
                endpoint["targetRef"] = json!({"kind": "Pod", "namespace": "shop", "uid": uid(at),
                    "name": format!("{service}-7d4b9c6f5d-{:05x}", at * 7919 % 0xf_ffff)});
            }
            Self::Own => {}
            Self::Hub => endpoint["targetRef"] = json!({"kind": "Pod", "uid": uid(at)}),
        }
        endpoint
    }
}

fn member(at: usize) -> String {
    if at == 0 { "paris".to_owned() } else { format!("member-{at}") }
}

/// A UUID as random as real ones: the same for the same thing.
fn uid(at: usize) -> String {
    let spread = |seed: u64| {
        let mut x = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let (high, low) = (spread(0), spread(0x5bd1_e995));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        0x8000 | low >> 48 & 0x3fff,
        low & 0xffff_ffff_ffff
    )
}
