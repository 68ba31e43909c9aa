//! Pure: where everything of a lab is: namespaces, addresses, ranges, folders.
//!
//! A bridge in a namespace `wan` plays the outside network. Each cluster has a namespace with one link to it, and in it
//! one node. What the outside gives has documentation addresses; pods and Services have the usual private ones, the
//! same in each cluster, except for pods where clusters share one network.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use super::options::{Name, Network, Options, Stack};

/// The outside network.
pub(crate) const WAN_BITS: [u8; 2] = [24, 64];
/// The bridge: everybody's default route, which leads nowhere, and the resolver of the world outside.
pub(crate) const WAN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const WAN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Where an API server listens.
pub(crate) const API_PORT: u16 = 6443;
const SERVICES_V4: &str = "10.96.0.0/16";
const SERVICES_V6: &str = "fd00:10:96::/112";
const API_SERVICE_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const API_SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1);
pub(crate) const DNS_SERVICE_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const DNS_SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa);

/// Where the state of all labs is: on a disk, since containers write there.
const STATE: &str = "/var/tmp";

/// A lab.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) places: Places,
    pub(crate) clusters: Vec<ClusterPlan>,
}

/// What a lab is found by, whatever it was made from.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The folder of all its files.
    pub(crate) folder: PathBuf,
    /// What the names of all its network namespaces begin with.
    pub(crate) namespaces: String,
    /// The control group of all its processes, below the root of each hierarchy.
    pub(crate) cgroup: String,
}

/// One cluster, which has one node.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPlan {
    /// From 1.
    pub(crate) number: u8,
    /// `c1`: its context, its link to the outside, its folder.
    pub(crate) name: String,
    /// Its network namespace.
    pub(crate) namespace: String,
    pub(crate) folder: PathBuf,
    /// Where containers are counted, and where everything else is.
    pub(crate) pods_cgroup: String,
    pub(crate) host_cgroup: String,
    pub(crate) v4: Addresses<Ipv4Addr>,
    pub(crate) v6: Option<Addresses<Ipv6Addr>>,
}

/// The addresses of one family.
#[derive(Clone, Debug)]
pub(crate) struct Addresses<T> {
    pub(crate) node: T,
    /// The range of all pods, and the part of it that the node has.
    pub(crate) pods: String,
    pub(crate) node_pods: String,
    pub(crate) services: &'static str,
    pub(crate) api_service: T,
    pub(crate) dns_service: T,
}

impl Places {
    pub(crate) fn of(name: &Name) -> Self {
        let prefix = format!("landbridge-{name}");
        Self {
            folder: Path::new(STATE).join(&prefix),
            namespaces: format!("{prefix}-"),
            cgroup: format!("/{prefix}"),
        }
    }

    pub(crate) fn wan(&self) -> String {
        format!("{}wan", self.namespaces)
    }

    pub(crate) fn wan_cgroup(&self) -> String {
        format!("{}/wan", self.cgroup)
    }

    /// Who runs, one line for each process.
    pub(crate) fn processes(&self) -> PathBuf {
        self.folder.join("processes")
    }

    /// What the lab was made from.
    pub(crate) fn options(&self) -> PathBuf {
        self.folder.join("options.json")
    }

    /// One file for all clusters.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig.yaml")
    }

    /// Programs under their own names.
    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }
}

impl Plan {
    pub(crate) fn new(options: Options) -> Self {
        let places = Places::of(&options.name);
        let clusters =
            (1..=options.clusters).map(|number| ClusterPlan::new(&options, &places, number));
        Self { clusters: clusters.collect(), options, places }
    }

    pub(crate) fn nodes_resolv_conf(&self) -> PathBuf {
        self.places.folder.join("resolv.conf")
    }
}

impl ClusterPlan {
    fn new(options: &Options, places: &Places, number: u8) -> Self {
        let name = format!("c{number}");
        let host = 10 + number;
        // The pods' range is the one that everybody has, unless clusters share one network.
        let range = match options.network {
            Network::Overlapping => 244,
            Network::Shared => 243 + number,
        };
        let v6 = Addresses {
            // Written with the digits of the IPv4 one.
            node: Ipv6Addr::from(u128::from(WAN_V6) + 0x10 + u128::from(number) - 1),
            pods: format!("fd00:10:{range}::/56"),
            node_pods: format!("fd00:10:{range}::/64"),
            services: SERVICES_V6,
            api_service: API_SERVICE_V6,
            dns_service: DNS_SERVICE_V6,
        };
        Self {
            number,
            namespace: format!("{}{name}", places.namespaces),
            folder: places.folder.join(&name),
            pods_cgroup: format!("{}/{name}/pods", places.cgroup),
            host_cgroup: format!("{}/{name}/host", places.cgroup),
            v4: Addresses {
                node: Ipv4Addr::new(192, 0, 2, host),
                pods: format!("10.{range}.0.0/16"),
                node_pods: format!("10.{range}.0.0/24"),
                services: SERVICES_V4,
                api_service: API_SERVICE_V4,
                dns_service: DNS_SERVICE_V4,
            },
            v6: (options.stack == Stack::Dual).then_some(v6),
            name,
        }
    }

    /// What its node is called.
    pub(crate) fn node(&self) -> String {
        format!("{}-node", self.name)
    }

    pub(crate) fn api_url(&self) -> String {
        format!("https://{}:{API_PORT}", self.v4.node)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(crate) fn log(&self, program: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{program}.log"))
    }

    /// What is asked of each family, comma-joined: IPv4 first, as the primary one.
    pub(crate) fn both(
        &self,
        v4: impl Fn(&Addresses<Ipv4Addr>) -> String,
        v6: impl Fn(&Addresses<Ipv6Addr>) -> String,
    ) -> String {
        let mut text = v4(&self.v4);
        if let Some(addresses) = &self.v6 {
            text.push(',');
            text.push_str(&v6(addresses));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(network: Network, stack: Stack) -> Plan {
        Plan::new(Options { network, stack, ..Options::default() })
    }

    #[test]
    fn overlapping_clusters_have_the_same_pods_and_nodes_of_their_own() {
        let plan = plan(Network::Overlapping, Stack::Dual);
        let [one, two] = &plan.clusters[..] else { panic!("two clusters") };
        assert_eq!([&one.v4.pods, &two.v4.pods], ["10.244.0.0/16"; 2]);
        assert_eq!([one, two].map(|c| c.v4.node.to_string()), ["192.0.2.11", "192.0.2.12"]);
        let v6 = |c: &ClusterPlan| c.v6.as_ref().unwrap().clone();
        assert_eq!([one, two].map(|c| v6(c).node.to_string()), ["2001:db8::11", "2001:db8::12"]);
        assert_eq!([one, two].map(|c| v6(c).pods), ["fd00:10:244::/56"; 2]);
        assert_eq!(two.namespace, "landbridge-lab-c2");
        assert!(one.folder.starts_with(&plan.places.folder));
    }

    #[test]
    fn clusters_of_one_network_have_pods_of_their_own() {
        let plan = plan(Network::Shared, Stack::V4);
        let pods: Vec<&str> = plan.clusters.iter().map(|c| c.v4.pods.as_str()).collect();
        assert_eq!(pods, ["10.244.0.0/16", "10.245.0.0/16"]);
        assert!(plan.clusters.iter().all(|cluster| cluster.v6.is_none()));
        let ranges = plan.clusters[0].both(|v4| v4.pods.clone(), |v6| v6.pods.clone());
        assert_eq!(ranges, "10.244.0.0/16");
    }
}
