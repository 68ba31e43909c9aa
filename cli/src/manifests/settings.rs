//! Pure: what a cluster's objects depend on, as people say it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use landbridge_model::{ClusterId, ClusterSetId, GatewayAddress, NetworkName};

/// What peers dial where nothing else was asked for.
pub(super) const LINK_PORT: u16 = 4433;
/// In the range that clusters have for ports of their nodes.
const NODE_PORT: u16 = 30433;

/// Validated.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cluster: ClusterId,
    pub(crate) set: ClusterSetId,
    pub(crate) network: NetworkName,
    /// Whether this cluster is the hub: then its controller needs no other way there.
    pub(crate) own_hub: bool,
    /// The member that is the hub, where its API is reached through the gateways' link to it.
    pub(crate) hub: Option<ClusterId>,
    pub(crate) region: Option<String>,
    pub(crate) generation: u64,
    pub(crate) image: String,
    pub(crate) expose: Expose,
    /// The port that is asked of a load balancer, or of nodes.
    pub(crate) link_port: u16,
    /// Where peers dial. None where this cluster only dials.
    pub(crate) advertise: Vec<GatewayAddress>,
    /// The ClusterIPs of the dns Service: one, or one of each family; as the API server chooses, where none is said.
    pub(crate) dns: Vec<IpAddr>,
    /// Whether the definitions are among the objects.
    pub(crate) crds: bool,
}

impl Settings {
    /// Whether peers cannot be told where to dial before a load balancer has said it.
    pub(crate) fn waits_for_an_address(&self) -> bool {
        self.expose == Expose::LoadBalancer && self.advertise.is_empty()
    }
}

/// How peers reach the gateways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expose {
    /// At an address that leads, by whatever way, to a port of every node.
    Address(Peers),
    /// At a port of each gateway's node.
    HostPort,
    /// At an address that the cloud gives.
    LoadBalancer,
    /// At a port of every node.
    NodePort,
}

/// An address that peers dial, and the port unless it is the usual one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Peers {
    address: IpAddr,
    port: Option<u16>,
}

impl Peers {
    fn or(self, port: u16) -> GatewayAddress {
        GatewayAddress(SocketAddr::new(self.address, self.port.unwrap_or(port)))
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = text.parse::<SocketAddr>().map(|address| (address.ip(), Some(address.port())));
        let parsed = whole.or_else(|_| text.parse().map(|address| (address, None)));
        match parsed {
            Ok((address, port)) if !address.is_unspecified() && port != Some(0) => {
                Ok(Self { address, port })
            }
            _ => Err("give an address that peers can dial, such as 192.0.2.11 or 192.0.2.11:4433; names are not looked up".into()),
        }
    }
}

impl Expose {
    /// The port of a load balancer or of nodes, where none was asked for.
    pub(crate) fn usual_port(self) -> u16 {
        match self {
            Self::Address(_) | Self::NodePort => NODE_PORT,
            Self::HostPort | Self::LoadBalancer => LINK_PORT,
        }
    }

    /// Where peers dial, by what was said of it.
    pub(crate) fn advertise(self, said: &[Peers], port: u16) -> Vec<GatewayAddress> {
        let own = match self {
            Self::Address(address) => Some(address.or(LINK_PORT)),
            Self::HostPort | Self::LoadBalancer | Self::NodePort => None,
        };
        let port = match self {
            Self::Address(_) => LINK_PORT,
            Self::HostPort | Self::LoadBalancer | Self::NodePort => port,
        };
        own.into_iter().chain(said.iter().map(|peers| peers.or(port))).collect()
    }
}

impl fmt::Display for Expose {
    /// As it is said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::HostPort => f.write_str("hostport"),
            Self::LoadBalancer => f.write_str("loadbalancer"),
            Self::NodePort => f.write_str("nodeport"),
        }
    }
}

impl FromStr for Expose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hostport" => Ok(Self::HostPort),
            "loadbalancer" => Ok(Self::LoadBalancer),
            "nodeport" => Ok(Self::NodePort),
            address => address.parse().map(Self::Address).map_err(|problem: String| {
                format!("is none of loadbalancer, nodeport and hostport: {problem}")
            }),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn settings(expose: &str) -> Settings {
        let expose: Expose = expose.parse().unwrap();
        Settings {
            advertise: expose.advertise(&[], expose.usual_port()),
            cluster: ClusterId::parse("paris").unwrap(),
            crds: true,
            dns: vec!["10.96.0.11".parse().unwrap()],
            expose,
            generation: 1,
            hub: None,
            image: "registry.example/landbridge:1".into(),
            link_port: expose.usual_port(),
            network: NetworkName::parse("paris").unwrap(),
            own_hub: false,
            region: None,
            set: ClusterSetId::parse("demo").unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_dial_what_was_said_at_the_port_that_is_open() {
        let dialled = |expose: &str, said: &[&str]| -> Vec<String> {
            let expose: Expose = expose.parse().unwrap();
            let said: Vec<Peers> = said.iter().map(|text| text.parse().unwrap()).collect();
            let all = expose.advertise(&said, expose.usual_port());
            all.iter().map(ToString::to_string).collect()
        };
        assert_eq!(dialled("loadbalancer", &["192.0.2.1"]), ["192.0.2.1:4433"]);
        assert_eq!(
            dialled("nodeport", &["192.0.2.1", "2001:db8::1"]),
            ["192.0.2.1:30433", "[2001:db8::1]:30433"]
        );
        assert_eq!(dialled("nodeport", &["192.0.2.1:1"]), ["192.0.2.1:1"]);
        assert_eq!(dialled("192.0.2.1", &[]), ["192.0.2.1:4433"]);
        assert_eq!(
            dialled("[2001:db8::1]:9", &["192.0.2.1"]),
            ["[2001:db8::1]:9", "192.0.2.1:4433"]
        );
        assert!(dialled("hostport", &[]).is_empty());
    }

    #[test]
    fn another_way_is_told_what_there_is() {
        for text in ["", "cloud", "0.0.0.0", "gw.example.org", "192.0.2.1:0"] {
            let told = text.parse::<Expose>().unwrap_err();
            assert!(told.contains("none of loadbalancer, nodeport and hostport"), "{told}");
            assert!(told.contains("192.0.2.11"), "{told}");
        }
    }
}
