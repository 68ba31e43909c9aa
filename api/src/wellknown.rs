//! Labels, annotations and object names that several parts must agree on.

use landbridge_model::{ClusterId, ServiceKey};

/// Which ServiceImport an MCS EndpointSlice belongs to (KEP-1645).
pub const SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";
/// Which cluster the endpoints of an MCS EndpointSlice come from (KEP-1645).
pub const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// On a ServiceImport: the Service that gives it its addresses.
pub const DERIVED_SERVICE: &str = "multicluster.kubernetes.io/derived-service";
/// Which Service an EndpointSlice belongs to; kube-proxy reads these and no others.
pub const KUBE_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who writes an EndpointSlice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// On other objects that we write.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Us, as the value of [`MANAGED_BY`] and [`APP_MANAGED_BY`].
pub const LANDBRIDGE: &str = "landbridge.dev";

/// On derived Services and their slices: the name of the import that they were made for.
pub const IMPORT: &str = "landbridge.dev/import";
/// On derived Services and slices for one endpoint of a headless import: `<cluster>/<hostname>`.
pub const ENDPOINT: &str = "landbridge.dev/endpoint";
/// On EndpointSlices in a member's namespace on the hub: the member, so that they can be told from others' slices.
pub const CLUSTER: &str = "landbridge.dev/cluster";
/// On the same: the service whose endpoints they hold, as `<namespace>/<name>`.
pub const EXPORT: &str = "landbridge.dev/export";
/// On MCS slices of other clusters, where a TrafficPolicy asks for it: how many endpoints of the cluster are ready, of how many,
/// as `3/4`.
pub const ENDPOINTS: &str = "landbridge.dev/endpoints";
/// On Secrets of the hub's trust: the join token that they are the record of, by its id.
pub const JOIN_TOKEN: &str = "landbridge.dev/join-token";
/// On a Member: the roots that the cluster trusts, by their SHA-256, as it has said when it renewed what it has.
pub const TRUSTED_ROOTS: &str = "landbridge.dev/trusted-roots";
/// On a Member: the root that has signed for the cluster, the same.
pub const SIGNED_BY: &str = "landbridge.dev/signed-by";
/// `true` on derived slices whose endpoints are this cluster's gateways: those slices are the allotment.
pub const GATEWAYS: &str = "landbridge.dev/gateways";
/// On a ServiceExport: `v2` asks the exporting cluster's gateways to open each connection to a pod with a PROXY
/// protocol header that tells who calls.
pub const PROXY_PROTOCOL: &str = "landbridge.dev/proxy-protocol";

/// The ClusterProperty that holds the id of a cluster (KEP-2149).
pub const CLUSTER_ID_PROPERTY: &str = "cluster.clusterset.k8s.io";
/// The ClusterProperty that names the set, present while a cluster is a member (KEP-2149).
pub const CLUSTER_SET_PROPERTY: &str = "clusterset.k8s.io";

/// On a ClusterProfile: who keeps it, the same as in its spec (KEP-4322).
pub const CLUSTER_MANAGER: &str = "x-k8s.io/cluster-manager";
/// On a ClusterProfile: the set that its cluster is a member of (KEP-4322).
pub const CLUSTER_SET: &str = "multicluster.x-k8s.io/clusterset";
/// In a ClusterProfile, beside [`CLUSTER_ID_PROPERTY`] and [`CLUSTER_SET_PROPERTY`]: the member's network.
pub const NETWORK_PROPERTY: &str = "network.landbridge.dev";
/// In a ClusterProfile: the member's region.
pub const REGION_PROPERTY: &str = "region.landbridge.dev";
/// In a ClusterProfile: the version of Landbridge that the member runs.
pub const VERSION_PROPERTY: &str = "version.landbridge.dev";

/// Where Landbridge itself lives in each cluster, unless told otherwise.
pub const SYSTEM_NAMESPACE: &str = "landbridge-system";
/// On the hub: what lets clusters into the set. Nothing runs in it.
pub const TRUST_NAMESPACE: &str = "landbridge-trust";
/// In it: the Secret with the set's root and its key.
pub const ROOT_SECRET: &str = "landbridge-root";
/// The Service whose EndpointSlices name the local gateways.
pub const GATEWAY_SERVICE: &str = "landbridge-gateway";
/// In those slices: the UDP and TCP port that peers' gateways dial.
pub const GATEWAY_PORT_LINK: &str = "link";
/// The same port over TCP, for peers whose UDP does not pass.
pub const GATEWAY_PORT_LINK_TCP: &str = "link-tcp";
/// In those slices: the HTTP port that tells which allotted ports are being listened on, at `/listening`.
pub const GATEWAY_PORT_ADMIN: &str = "admin";

/// The name of the Lease, in each cluster's system namespace, that is renewed while something is heard of a member.
#[must_use]
pub fn member_lease(cluster: &str) -> String {
    format!("landbridge-member-{cluster}")
}

/// The namespace on the hub in which a member keeps its exports.
#[must_use]
pub fn hub_namespace(cluster: &ClusterId) -> String {
    format!("cluster-{cluster}")
}

/// The name of the ClusterExport of a service: `<namespace>.<name>`. Neither part can hold a dot.
#[must_use]
pub fn cluster_export_name(service: &ServiceKey) -> String {
    format!("{}.{}", service.namespace, service.name)
}
