//! Pure: what each program of a cluster is started with.
//!
//! Where a flag is not what everybody's cluster has, its reason stands beside it.

use super::plan::{API_PORT, ClusterPlan};

/// A program of a cluster.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Part {
    Containerd,
    Coredns,
    Corefile,
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeProxy,
    KubeScheduler,
    Kubelet,
}

/// What runs before the API answers.
pub(crate) const BEFORE_API: &[Part] = &[Part::Etcd, Part::KubeApiserver, Part::Containerd];
/// What needs the API.
pub(crate) const AFTER_API: &[Part] = &[
    Part::KubeControllerManager,
    Part::Kubelet,
    Part::KubeScheduler,
    Part::KubeProxy,
    Part::Corefile,
    Part::Coredns,
];

/// Before a command that gets a third of the time of others, where all want some.
pub(crate) const GIVES_WAY: [&str; 3] = ["nice", "--adjustment", "5"];

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Coredns => "coredns",
            Self::Corefile => "corefile",
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeProxy => "kube-proxy",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
        }
    }

    /// Whether it gives way. What elsewhere has a machine of its own does, here, to what runs on nodes: a gateway without
    /// time is silent, and its peers take it for dead. What a containerd or a kubelet starts is as they are.
    pub(crate) fn gives_way(self) -> bool {
        match self {
            Self::Etcd
            | Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler => true,
            Self::Containerd | Self::Coredns | Self::Corefile | Self::KubeProxy | Self::Kubelet => {
                false
            }
        }
    }

    /// Its program, by the name that the PATH knows, and its arguments.
    pub(crate) fn command(self, cluster: &ClusterPlan) -> Vec<String> {
        let flags = |program: &str, flags: Vec<(&str, String)>| -> Vec<String> {
            let flags = flags.into_iter().map(|(flag, value)| format!("--{flag}={value}"));
            [program.to_owned()].into_iter().chain(flags).collect()
        };
        let file = |name: &str| cluster.file(name);
        match self {
            Self::Containerd => flags("containerd", vec![("config", file("containerd.toml"))]),
            // The usual file of the usual ConfigMap names what it cannot know by variables.
            Self::Coredns => ["coredns".into(), "-conf".into(), file("Corefile")].into(),
            Self::Corefile => ["sh".into(), file("corefile.sh")].into(),
            Self::Etcd => flags("etcd", etcd(cluster)),
            Self::KubeApiserver => flags("kube-apiserver", kube_apiserver(cluster)),
            Self::KubeControllerManager => {
                flags("kube-controller-manager", kube_controller_manager(cluster))
            }
            Self::KubeProxy => flags("kube-proxy", vec![("config", file("kube-proxy.yaml"))]),
            Self::KubeScheduler => flags("kube-scheduler", kube_scheduler(cluster)),
            Self::Kubelet => flags("kubelet", kubelet(cluster)),
        }
    }
}

fn etcd(cluster: &ClusterPlan) -> Vec<(&'static str, String)> {
    let [clients, peers] = [2379, 2380].map(|port| format!("http://127.0.0.1:{port}"));
    vec![
        ("advertise-client-urls", clients.clone()),
        ("data-dir", cluster.file("etcd")),
        ("initial-advertise-peer-urls", peers.clone()),
        ("initial-cluster", format!("default={peers}")),
        ("listen-client-urls", clients),
        ("listen-peer-urls", peers),
        ("log-level", "warn".into()),
        // What a lab has written need not outlive the machine.
        ("unsafe-no-fsync", "true".into()),
    ]
}

fn kube_apiserver(cluster: &ClusterPlan) -> Vec<(&'static str, String)> {
    let file = |name: &str| cluster.file(name);
    vec![
        ("advertise-address", cluster.v4.node.to_string()),
        ("allow-privileged", "true".into()),
        ("authorization-mode", "Node,RBAC".into()),
        ("client-ca-file", file("ca.crt")),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("etcd-servers", "http://127.0.0.1:2379".into()),
        ("kubelet-client-certificate", file("kubelet-client.crt")),
        ("kubelet-client-key", file("kubelet-client.key")),
        // The node's name is in no DNS: exec and logs go to its address.
        ("kubelet-preferred-address-types", "InternalIP".into()),
        ("profiling", "false".into()),
        ("secure-port", API_PORT.to_string()),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".into()),
        ("service-account-key-file", file("accounts.pub")),
        ("service-account-signing-key-file", file("accounts.key")),
        ("service-cluster-ip-range", services(cluster)),
        ("tls-cert-file", file("apiserver.crt")),
        ("tls-private-key-file", file("apiserver.key")),
    ]
}

fn kube_controller_manager(cluster: &ClusterPlan) -> Vec<(&'static str, String)> {
    let file = |name: &str| cluster.file(name);
    let mut flags = own_ports(cluster, "controller-manager");
    flags.extend([
        ("allocate-node-cidrs", "true".into()),
        ("cluster-cidr", cluster.both(|v4| v4.pods.clone(), |v6| v6.pods.clone())),
        // It signs what asks for a certificate through the API.
        ("cluster-signing-cert-file", file("ca.crt")),
        ("cluster-signing-key-file", file("ca.key")),
        ("node-cidr-mask-size-ipv4", "24".into()),
        ("root-ca-file", file("ca.crt")),
        ("service-account-private-key-file", file("accounts.key")),
        ("service-cluster-ip-range", services(cluster)),
        ("use-service-account-credentials", "true".into()),
    ]);
    if cluster.v6.is_some() {
        flags.push(("node-cidr-mask-size-ipv6", "64".into()));
    }
    flags
}

fn kube_scheduler(cluster: &ClusterPlan) -> Vec<(&'static str, String)> {
    own_ports(cluster, "scheduler")
}

/// What a component without a peer has: no election, and its own port on loopback.
fn own_ports(cluster: &ClusterPlan, name: &str) -> Vec<(&'static str, String)> {
    let kubeconfig = cluster.file(&format!("{name}.kubeconfig"));
    vec![
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("bind-address", "127.0.0.1".into()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "false".into()),
    ]
}

fn kubelet(cluster: &ClusterPlan) -> Vec<(&'static str, String)> {
    vec![
        ("config", cluster.file("kubelet.yaml")),
        ("hostname-override", cluster.node()),
        ("kubeconfig", cluster.file("kubelet.kubeconfig")),
        ("node-ip", cluster.both(|v4| v4.node.to_string(), |v6| v6.node.to_string())),
    ]
}

fn services(cluster: &ClusterPlan) -> String {
    cluster.both(|v4| v4.services.into(), |v6| v6.services.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{
        options::{Options, Stack},
        plan::Plan,
    };

    fn command(part: Part, stack: Stack) -> String {
        let plan = Plan::new(Options { stack, ..Options::default() });
        part.command(&plan.clusters[1]).join(" ")
    }

    #[test]
    fn ranges_and_addresses_are_of_the_families_that_the_cluster_has() {
        let api = command(Part::KubeApiserver, Stack::Dual);
        assert!(api.contains("--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112 "), "{api}");
        let kubelet = command(Part::Kubelet, Stack::Dual);
        assert!(kubelet.contains("--node-ip=192.0.2.12,2001:db8::12"), "{kubelet}");
        for part in BEFORE_API.iter().chain(AFTER_API) {
            let text = command(*part, Stack::V4);
            assert!(!text.contains("::") && !text.contains("ipv6"), "{text}");
        }
    }

    #[test]
    fn a_part_is_started_once_and_by_its_own_name() {
        let mut parts: Vec<Part> = BEFORE_API.iter().chain(AFTER_API).copied().collect();
        parts.sort_unstable();
        parts.dedup();
        assert_eq!(parts.len(), BEFORE_API.len() + AFTER_API.len());
        for part in parts {
            let text = command(part, Stack::Dual);
            assert!(text.starts_with(part.name()) || part == Part::Corefile, "{text}");
        }
    }
}
