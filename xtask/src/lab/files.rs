//! Pure: the configuration files of a cluster, as text.

use data_encoding::BASE64;
use kube::config::{
    AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use serde_json::{Value, json};

use super::{
    options::{Proxy, Stack},
    plan::{ClusterPlan, Plan, WAN_V4},
};

/// The image of a pod's sandbox.
pub(crate) const PAUSE: &str = "landbridge.dev/lab/pause:1";

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// One user of a cluster, as a kubeconfig whose context is called like the cluster.
pub(crate) fn kubeconfig(cluster: &ClusterPlan, ca: &str, user: &Pair) -> Kubeconfig {
    let user = AuthInfo {
        client_certificate_data: Some(BASE64.encode(user.cert.as_bytes())),
        client_key_data: Some(BASE64.encode(user.key.as_bytes()).into()),
        ..AuthInfo::default()
    };
    kubeconfig_of(cluster, ca, user)
}

/// The same of a service account.
pub(crate) fn kubeconfig_with_token(cluster: &ClusterPlan, ca: &str, token: &str) -> Kubeconfig {
    let user = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    kubeconfig_of(cluster, ca, user)
}

fn kubeconfig_of(cluster: &ClusterPlan, ca: &str, user: AuthInfo) -> Kubeconfig {
    Kubeconfig {
        api_version: Some("v1".into()),
        kind: Some("Config".into()),
        clusters: vec![NamedCluster {
            name: cluster.name.clone(),
            cluster: Some(Cluster {
                server: Some(cluster.api_url()),
                certificate_authority_data: Some(BASE64.encode(ca.as_bytes())),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: cluster.name.clone(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: cluster.name.clone(),
            context: Some(Context {
                cluster: cluster.name.clone(),
                user: Some(cluster.name.clone()),
                ..Context::default()
            }),
            ..NamedContext::default()
        }],
        current_context: Some(cluster.name.clone()),
        ..Kubeconfig::default()
    }
}

/// One file for all: the first one's context is the current one.
pub(crate) fn merged(kubeconfigs: Vec<Kubeconfig>) -> Kubeconfig {
    let mut all = kubeconfigs.into_iter();
    let mut merged = all.next().unwrap_or_default();
    for other in all {
        merged.clusters.extend(other.clusters);
        merged.auth_infos.extend(other.auth_infos);
        merged.contexts.extend(other.contexts);
    }
    merged
}

pub(crate) fn kubelet(plan: &Plan, cluster: &ClusterPlan) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": cluster.file("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        // All containers are in a control group of the lab, by which they are found when it goes.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cluster.pods_cgroup,
        "clusterDNS": [cluster.v4.dns_service],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "enforceNodeAllocatable": [],
        // The machine's disk is not the lab's to judge, and an image that is collected comes from nowhere again.
        "evictionHard": {"imagefs.available": "1%", "memory.available": "50Mi", "nodefs.available": "1%"},
        "failCgroupV1": false,
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "readOnlyPort": 0,
        "resolvConf": plan.nodes_resolv_conf(),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
}

pub(crate) fn kube_proxy(plan: &Plan, cluster: &ClusterPlan) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": cluster.file("kube-proxy.kubeconfig")},
        "clusterCIDR": cluster.both(|v4| v4.pods.clone(), |v6| v6.pods.clone()),
        // The kernel's limits are the machine's, and a namespace may not change them.
        "conntrack": {"maxPerCore": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "hostnameOverride": cluster.node(),
        "mode": match plan.options.proxy {
            Proxy::Iptables => "iptables",
            Proxy::Nftables => "nftables",
        },
    })
}

pub(crate) fn cni(cluster: &ClusterPlan) -> Value {
    let range = |subnet: &str| json!([{"subnet": subnet}]);
    let mut ranges = vec![range(&cluster.v4.node_pods)];
    let mut routes = vec![json!({"dst": "0.0.0.0/0"})];
    if let Some(v6) = &cluster.v6 {
        ranges.push(range(&v6.node_pods));
        routes.push(json!({"dst": "::/0"}));
    }
    json!({
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "hairpinMode": true,
                // What leaves the node has its address by rules of the lab.
                "ipMasq": false,
                "isGateway": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/var/lib/cni/networks",
                    "ranges": ranges,
                    "routes": routes,
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// Paths below `/run` and `/var/lib` are the cluster's own: its mount namespace has these folders to itself.
pub(crate) fn containerd() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "/run/containerd/containerd.sock"

[ttrpc]
address = "/run/containerd/containerd.sock.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Containers want a better score than ours, which a machine may forbid.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/var/lib/cni/net.d"
"#
    )
}

/// What nodes ask, and pods through the cluster's DNS: the outside.
pub(crate) fn resolv_conf() -> String {
    format!("nameserver {WAN_V4}\n")
}

/// The resolver of the world outside, which has no names: an answer comes at once, as it does on the internet.
pub(crate) fn wan_corefile() -> String {
    format!(
        ".:53 {{\n    bind {WAN_V4}\n    template ANY ANY {{\n        rcode NXDOMAIN\n    }}\n}}\n"
    )
}

/// The Corefile that kubeadm writes, but for three lines: the API is reached by a file, the outside is asked directly,
/// and changes are seen within seconds.
pub(crate) fn corefile(cluster: &ClusterPlan) -> String {
    let kubeconfig = cluster.file("coredns.kubeconfig");
    format!(
        ".:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
    forward . {WAN_V4} {{
        max_concurrent 1000
    }}
    cache 30
    loop
    reload 2s 1s
    loadbalance
}}
"
    )
}

/// Writes the Corefile of the ConfigMap to the file that CoreDNS reads, each time that it changes.
///
/// In a pod the kubelet does it, within a minute.
pub(crate) fn corefile_follower(cluster: &ClusterPlan) -> String {
    let [config, kubeconfig] = ["Corefile", "admin.kubeconfig"].map(|name| cluster.file(name));
    format!(
        r#"export KUBECONFIG={kubeconfig}
while :; do
    kubectl get configmap coredns --namespace kube-system --watch --output name | while read -r _; do
        kubectl get configmap coredns --namespace kube-system --output 'jsonpath={{.data.Corefile}}' >{config}.new &&
            mv {config}.new {config}
    done
    # The API server is away, or ended the watch.
    sleep 1
done
"#
    )
}

/// Objects of the cluster's DNS: what kubeadm makes, with a plain process in place of pods.
pub(crate) fn dns_objects(plan: &Plan, cluster: &ClusterPlan) -> Vec<Value> {
    let reads = |groups: &[&str], resources: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": ["list", "watch"]});
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"});
    let port = |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "port": port});
    let ports = [port("dns", "UDP", 53), port("dns-tcp", "TCP", 53), port("metrics", "TCP", 9153)];
    let mut addresses = vec![cluster.v4.dns_service.to_string()];
    let mut slices = vec![("IPv4", cluster.v4.node.to_string())];
    if let Some(v6) = &cluster.v6 {
        addresses.push(v6.dns_service.to_string());
        slices.push(("IPv6", v6.node.to_string()));
    }
    let policy = match plan.options.stack {
        Stack::Dual => "RequireDualStack",
        Stack::V4 => "SingleStack",
    };
    let families: Vec<&str> = slices.iter().map(|(family, _)| *family).collect();
    let mut objects = vec![
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            reads(&[""], &["endpoints", "services", "pods", "namespaces"]),
            reads(&["discovery.k8s.io"], &["endpointslices"]),
        ]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}]}),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "kube-system", "name": "coredns"},
            "data": {"Corefile": corefile(cluster)}}),
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "kube-system", "name": "kube-dns", "labels": labels},
            "spec": {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": families,
                "ipFamilyPolicy": policy, "ports": ports}}),
    ];
    objects.extend(slices.iter().map(|(family, address)| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"namespace": "kube-system", "name": format!("kube-dns-{}", family.to_lowercase()),
                "labels": {"kubernetes.io/service-name": "kube-dns",
                    "endpointslice.kubernetes.io/managed-by": "landbridge-lab"}},
            "ports": ports,
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}, "nodeName": cluster.node()}]})
    }));
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::options::Options;

    fn plan(stack: Stack) -> Plan {
        Plan::new(Options { stack, ..Options::default() })
    }

    #[test]
    fn one_kubeconfig_holds_a_context_for_each_cluster() {
        let plan = plan(Stack::Dual);
        let pair = Pair { cert: "cert".into(), key: "key".into() };
        let all = plan.clusters.iter().map(|cluster| kubeconfig(cluster, "ca", &pair));
        let text = serde_norway::to_string(&merged(all.collect())).unwrap();
        let read = Kubeconfig::from_yaml(&text).unwrap();
        let names: Vec<&str> = read.contexts.iter().map(|context| context.name.as_str()).collect();
        assert_eq!(names, ["c1", "c2"]);
        assert_eq!(read.current_context.as_deref(), Some("c1"));
        let servers: Vec<_> =
            read.clusters.iter().map(|c| c.cluster.clone().unwrap().server.unwrap()).collect();
        assert_eq!(servers, ["https://192.0.2.11:6443", "https://192.0.2.12:6443"]);
        // "a2V5" is "key": what is secret is written out here, and only here.
        assert!(text.contains("client-key-data: a2V5"), "{text}");
    }

    #[test]
    fn pods_get_addresses_of_the_families_that_the_cluster_has() {
        let ranges = |stack| {
            let plan = plan(stack);
            let ipam = cni(&plan.clusters[0])["plugins"][0]["ipam"].clone();
            ipam["ranges"].as_array().unwrap().len()
        };
        assert_eq!([ranges(Stack::Dual), ranges(Stack::V4)], [2, 1]);
    }

    #[test]
    fn the_clusters_dns_is_the_usual_service_with_the_node_behind_it() {
        let plan = plan(Stack::Dual);
        let objects = dns_objects(&plan, &plan.clusters[1]);
        let of = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
        let service = of("Service").next().unwrap();
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.96.0.10", "fd00:10:96::a"]));
        assert!(service["spec"].get("selector").is_none());
        let addresses: Vec<&Value> =
            of("EndpointSlice").map(|slice| &slice["endpoints"][0]["addresses"][0]).collect();
        assert_eq!(addresses, ["192.0.2.12", "2001:db8::12"]);
    }
}
