//! Pure: what `ip`, `iptables-restore` and the kernel are told, so that a lab's namespaces are one network.

use super::{
    options::Network,
    plan::{ClusterPlan, Plan, WAN_BITS, WAN_V4, WAN_V6},
};

/// What is set below `/proc/sys/net` of a cluster's namespace: it forwards, and Services work between its pods.
pub(crate) const CLUSTER_SYSCTLS: &[&str] = &[
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-iptables",
    "ipv4/conf/all/route_localnet",
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
];

/// What is set to 0 in the namespace between clusters: the outside network forwards nothing, and filters nothing.
pub(crate) const WAN_SYSCTLS: &[&str] =
    &["bridge/bridge-nf-call-ip6tables", "bridge/bridge-nf-call-iptables", "ipv4/ip_forward"];

/// Lines for `ip -batch` in the namespace between clusters.
pub(crate) fn wan(plan: &Plan) -> String {
    let [v4, v6] = WAN_BITS;
    let mut lines = vec![
        "link set lo up".into(),
        "link add br0 type bridge".into(),
        format!("addr add {WAN_V4}/{v4} dev br0"),
        format!("addr add {WAN_V6}/{v6} dev br0 nodad"),
        "link set br0 up".into(),
    ];
    for ClusterPlan { name, namespace, .. } in &plan.clusters {
        lines.push(format!("link add {name} type veth peer name eth0 netns {namespace}"));
        lines.push(format!("link set {name} master br0 up"));
    }
    lines.join("\n") + "\n"
}

/// Lines for `ip -batch` in a cluster's namespace.
pub(crate) fn cluster(plan: &Plan, cluster: &ClusterPlan) -> String {
    let [v4, v6] = WAN_BITS;
    let mut lines = vec![
        "link set lo up".into(),
        format!("addr add {}/{v4} dev eth0", cluster.v4.node),
        "link set eth0 up".into(),
        // kubelet and kube-proxy insist on one.
        format!("route add default via {WAN_V4}"),
    ];
    if let Some(addresses) = &cluster.v6 {
        lines.push(format!("addr add {}/{v6} dev eth0 nodad", addresses.node));
        lines.push(format!("route add ::/0 via {WAN_V6}"));
    }
    if plan.options.network == Network::Shared {
        for other in plan.clusters.iter().filter(|other| other.number != cluster.number) {
            lines.push(format!("route add {} via {}", other.v4.pods, other.v4.node));
            if let Some(addresses) = &other.v6 {
                lines.push(format!("route add {} via {}", addresses.pods, addresses.node));
            }
        }
    }
    lines.join("\n") + "\n"
}

/// For `iptables-restore` and `ip6tables-restore`: what leaves a cluster's pods has the node's address, except for what
/// goes to pods. Made here for both modes of kube-proxy, since the CNI's own knows one range only.
pub(crate) fn masquerade(plan: &Plan, cluster: &ClusterPlan) -> [Option<String>; 2] {
    let rules = |own: &str, ranges: Vec<&str>, multicast: &str| {
        let kept = ranges.into_iter().chain([multicast]);
        let kept: String =
            kept.map(|range| format!("-A LAB-MASQUERADE -d {range} -j RETURN\n")).collect();
        format!(
            "*nat\n:LAB-MASQUERADE - [0:0]\n-A POSTROUTING -s {own} -j LAB-MASQUERADE\n{kept}-A LAB-MASQUERADE -j MASQUERADE\nCOMMIT\n"
        )
    };
    let mut v4: Vec<&str> = plan.clusters.iter().map(|other| other.v4.pods.as_str()).collect();
    let mut v6: Vec<&str> =
        plan.clusters.iter().filter_map(|other| Some(other.v6.as_ref()?.pods.as_str())).collect();
    v4.dedup();
    v6.dedup();
    [
        Some(rules(&cluster.v4.pods, v4, "224.0.0.0/4")),
        cluster.v6.as_ref().map(|own| rules(&own.pods, v6, "ff00::/8")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::options::{Options, Stack};

    fn plan(network: Network) -> Plan {
        Plan::new(Options { network, ..Options::default() })
    }

    #[test]
    fn the_outside_is_a_bridge_with_a_link_to_each_cluster() {
        let lines = wan(&plan(Network::Overlapping));
        assert!(lines.contains("link add c2 type veth peer name eth0 netns landbridge-lab-c2\n"));
        assert!(lines.contains("addr add 192.0.2.1/24 dev br0\n"));
    }

    #[test]
    fn only_clusters_of_one_network_route_to_each_other() {
        let lines = |network| {
            let plan = plan(network);
            cluster(&plan, &plan.clusters[0])
        };
        assert!(!lines(Network::Overlapping).contains("10.24"));
        let shared = lines(Network::Shared);
        assert!(shared.contains("route add 10.245.0.0/16 via 192.0.2.12\n"), "{shared}");
        assert!(shared.contains("route add fd00:10:245::/56 via 2001:db8::12\n"), "{shared}");
        assert!(!shared.contains("10.244"), "{shared}");
    }

    #[test]
    fn pods_keep_their_address_towards_pods() {
        let plan = plan(Network::Shared);
        let [v4, v6] = masquerade(&plan, &plan.clusters[1]).map(Option::unwrap);
        assert!(v4.contains("-A POSTROUTING -s 10.245.0.0/16 -j"), "{v4}");
        for range in ["10.244.0.0/16", "10.245.0.0/16", "224.0.0.0/4"] {
            assert!(v4.contains(&format!("-d {range} -j RETURN\n")), "{v4}");
        }
        assert!(v6.contains("-d fd00:10:244::/56 -j RETURN\n"), "{v6}");
        let v4_only = Options { stack: Stack::V4, ..plan.options };
        let plan = Plan::new(v4_only);
        assert!(masquerade(&plan, &plan.clusters[0])[1].is_none());
    }
}
