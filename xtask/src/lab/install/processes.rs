//! Pure: what each component of a cluster is started with, as a process on its node.

use std::{net::SocketAddr, path::Path};

use super::{
    super::plan::{ClusterPlan, Plan},
    PROGRAM, objects,
};

/// Beside the cluster's own DNS, which has port 53 of every address.
const DNS_PORT: u16 = 5300;
const LINK_PORT: u16 = 4433;
const CONTROLLER_ADMIN: u16 = 9401;
const DNS_ADMIN: u16 = 9402;
const GATEWAY_ADMIN: u16 = 9403;

/// A component of Landbridge in one cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Component {
    Controller,
    Dns,
    /// Pods reach a gateway at one address, so that there is one for each family.
    Gateway(Family),
}

/// Which address of the node a gateway has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Component {
    /// Those that a cluster has.
    pub(crate) fn of(cluster: &ClusterPlan) -> Vec<Self> {
        let mut all = vec![Self::Controller, Self::Dns, Self::Gateway(Family::V4)];
        all.extend(cluster.v6.as_ref().map(|_| Self::Gateway(Family::V6)));
        all
    }

    /// The name of a gateway, as it is in its certificate.
    pub(crate) fn gateway(self) -> Option<&'static str> {
        match self {
            Self::Gateway(Family::V4) => Some("gw-v4"),
            Self::Gateway(Family::V6) => Some("gw-v6"),
            Self::Controller | Self::Dns => None,
        }
    }

    /// Its process and its log.
    pub(crate) fn name(self) -> String {
        let name = match self {
            Self::Controller => "controller",
            Self::Dns => "dns",
            Self::Gateway(Family::V4) => "gateway-v4",
            Self::Gateway(Family::V6) => "gateway-v6",
        };
        format!("{PROGRAM}-{name}")
    }

    /// As it is written down among the processes of the lab.
    pub(crate) fn process(self, cluster: &ClusterPlan) -> String {
        format!("{}/{}", cluster.name, self.name())
    }

    /// Where metrics, health and state are asked for, on the node.
    pub(crate) fn admin(self, cluster: &ClusterPlan) -> Option<SocketAddr> {
        let node = std::net::IpAddr::from(cluster.v4.node);
        Some(match self {
            Self::Controller => (node, CONTROLLER_ADMIN).into(),
            Self::Dns => (node, DNS_ADMIN).into(),
            Self::Gateway(Family::V4) => (node, GATEWAY_ADMIN).into(),
            Self::Gateway(Family::V6) => (cluster.v6.as_ref()?.node, GATEWAY_ADMIN).into(),
        })
    }

    /// Where it listens for links of other clusters. All are dialled over IPv4, which every lab has.
    fn link(self, cluster: &ClusterPlan) -> Option<SocketAddr> {
        let port = match self {
            Self::Gateway(Family::V4) => LINK_PORT,
            Self::Gateway(Family::V6) => LINK_PORT + 1,
            Self::Controller | Self::Dns => return None,
        };
        Some((cluster.v4.node, port).into())
    }

    /// Its whole command.
    pub(crate) fn command(self, plan: &Plan, cluster: &ClusterPlan, pki: &Path) -> Vec<String> {
        let [controller, dns, gateway, member] =
            objects::USERS.map(|user| user.kubeconfig(cluster).display().to_string());
        let mut flags: Vec<(&str, String)> =
            self.admin(cluster).iter().map(|admin| ("admin-listen", admin.to_string())).collect();
        let name = match self {
            Self::Controller => {
                flags.push(("kubeconfig", controller));
                flags.push(("hub-kubeconfig", member));
                flags.extend(this(cluster));
                flags.push(("network", objects::network(plan, cluster)));
                let links = Self::of(cluster).into_iter().filter_map(|one| one.link(cluster));
                flags.extend(links.map(|link| ("advertise", link.to_string())));
                "controller"
            }
            Self::Dns => {
                flags.push(("kubeconfig", dns));
                flags.extend(dns_addresses(cluster).into_iter().map(|address| ("listen", address)));
                "dns"
            }
            Self::Gateway(family) => {
                let folder = pki.join(&cluster.name).join(self.gateway().unwrap_or_default());
                let file = |name: &str| folder.join(name).display().to_string();
                flags.push(("kubeconfig", gateway));
                flags.extend(this(cluster));
                flags.push(("listen", node(cluster, family)));
                flags.extend(self.link(cluster).map(|link| ("link-listen", link.to_string())));
                flags.extend(self.gateway().map(|name| ("name", name.to_owned())));
                flags.push(("register", "true".into()));
                flags.push(("tls-ca", file("ca.crt")));
                flags.push(("tls-cert", file("tls.crt")));
                flags.push(("tls-key", file("tls.key")));
                "gateway"
            }
        };
        let flags = flags.into_iter().map(|(flag, value)| format!("--{flag}={value}"));
        [PROGRAM.to_owned(), name.to_owned()].into_iter().chain(flags).collect()
    }
}

/// Which cluster it is.
fn this(cluster: &ClusterPlan) -> [(&'static str, String); 2] {
    [("cluster", cluster.name.clone()), ("cluster-set", objects::SET.into())]
}

fn node(cluster: &ClusterPlan, family: Family) -> String {
    match (family, &cluster.v6) {
        (Family::V6, Some(v6)) => v6.node.to_string(),
        _ => cluster.v4.node.to_string(),
    }
}

/// Where the cluster's DNS finds the component.
pub(crate) fn dns_addresses(cluster: &ClusterPlan) -> Vec<String> {
    let v4 = SocketAddr::from((cluster.v4.node, DNS_PORT));
    let v6 = cluster.v6.as_ref().map(|v6| SocketAddr::from((v6.node, DNS_PORT)));
    [v4].into_iter().chain(v6).map(|address| address.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::options::{Options, Stack};

    fn commands(options: Options) -> Vec<String> {
        let plan = Plan::new(options);
        let cluster = &plan.clusters[1];
        let all = Component::of(cluster).into_iter();
        all.map(|one| one.command(&plan, cluster, Path::new("/pki")).join(" ")).collect()
    }

    #[test]
    fn each_component_has_its_own_account_and_no_administrators() {
        let all = commands(Options::default());
        for (command, account) in all.iter().zip(["controller", "dns", "gateway", "gateway"]) {
            let own =
                format!(" --kubeconfig=/var/tmp/landbridge-lab/c2/landbridge-{account}.kubeconfig");
            assert!(command.contains(&own), "{command}");
            assert!(!command.contains("admin.kubeconfig"), "{command}");
        }
        assert!(
            all[0].contains(
                " --hub-kubeconfig=/var/tmp/landbridge-lab/c2/landbridge-member.kubeconfig"
            )
        );
    }

    #[test]
    fn there_is_a_gateway_for_each_family_and_all_are_advertised() {
        let dual = commands(Options::default());
        assert!(dual[0].contains(" --advertise=192.0.2.12:4433 --advertise=192.0.2.12:4434"));
        assert!(dual[3].contains(" --listen=2001:db8::12 --link-listen=192.0.2.12:4434"));
        let v4 = commands(Options { stack: Stack::V4, ..Options::default() });
        assert_eq!(v4.len(), 3);
        assert!(v4.iter().all(|command| !command.contains("2001:")), "{v4:?}");
    }
}
