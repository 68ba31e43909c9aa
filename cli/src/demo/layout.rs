//! Pure: who has which loopback address in the demo.
//!
//! A cluster's network is one /16 of 127.0.0.0/8, so that addresses tell at a glance whose they are and nothing has
//! to be set up: on Linux the whole range answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;
use landbridge_model::ClusterId;

/// The names of the demo's clusters, in the order in which they are used.
const NAMES: [&str; 10] =
    ["paris", "tokyo", "berlin", "lisbon", "oslo", "cairo", "lima", "quito", "seoul", "delhi"];

/// The most clusters that the demo has names and addresses for.
pub(super) const MOST_CLUSTERS: usize = NAMES.len();

/// The highest second octet of the hub: the clusters follow it, and 127.255.255.255 is no host.
pub(super) const HIGHEST_OCTET: u8 = 254 - 10;

/// Where the hub and every cluster of the demo live.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    octet: u8,
}

/// The addresses of one cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// Which cluster, counted from 0.
    pub(super) index: usize,
    /// Its id.
    pub(super) name: ClusterId,
    octet: u8,
}

impl Layout {
    /// The hub at `127.<octet>`, the clusters at the second octets after it.
    pub(super) fn new(octet: u8) -> Self {
        Self { octet }
    }

    /// The hub's Kubernetes API.
    pub(super) fn hub(self) -> SocketAddr {
        (Ipv4Addr::new(127, self.octet, 0, 1), 6443).into()
    }

    /// The places of the first `count` clusters.
    pub(super) fn places(self, count: usize) -> Vec<Place> {
        let named = NAMES.iter().zip(self.octet + 1..).enumerate().take(count);
        named
            .filter_map(|(index, (name, octet))| {
                Some(Place { index, name: ClusterId::parse(name).ok()?, octet })
            })
            .collect()
    }

    /// Which cluster an address belongs to.
    pub(super) fn cluster_of(self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(address) if address.octets()[0] == 127 => {
                usize::from(address.octets()[1]).checked_sub(usize::from(self.octet) + 1)
            }
            _ => None,
        }
    }
}

impl Place {
    fn at(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, third, fourth)
    }

    /// Its Kubernetes API.
    pub(super) fn api(&self) -> SocketAddr {
        (self.at(0, 1), 6443).into()
    }

    /// Where the other clusters reach its gateway: the address that a load balancer or NAT would have.
    pub(super) fn public(&self) -> SocketAddr {
        (self.at(0, 2), 4433).into()
    }

    /// Where it reaches the hub: its own end of the wide area network.
    pub(super) fn to_hub(&self) -> SocketAddr {
        (self.at(0, 2), 6443).into()
    }

    /// Its gateway, on this side of the network.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.at(0, 10)
    }

    /// Where its gateway speaks QUIC.
    pub(super) fn link(&self) -> SocketAddr {
        (self.gateway(), 4433).into()
    }

    /// The admin endpoint of its gateway.
    pub(super) fn gateway_admin(&self) -> SocketAddr {
        (self.gateway(), 8080).into()
    }

    /// The admin endpoint of its controller.
    pub(super) fn controller_admin(&self) -> SocketAddr {
        (self.at(0, 20), 8080).into()
    }

    /// Its DNS server. Port 53 is for root alone on most systems.
    pub(super) fn dns(&self) -> SocketAddr {
        (self.at(0, 53), 1053).into()
    }

    /// The admin endpoint of its DNS server.
    pub(super) fn dns_admin(&self) -> SocketAddr {
        (self.at(0, 53), 8080).into()
    }

    /// One of its pods.
    pub(super) fn pod(&self, number: u8) -> Ipv4Addr {
        self.at(1, number)
    }

    /// The range of its ClusterIPs.
    pub(super) fn services(&self) -> Ipv4Net {
        Ipv4Net::new_assert(self.at(96, 0), 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_its_cluster() {
        let layout = Layout::new(80);
        let places = layout.places(MOST_CLUSTERS);
        assert_eq!(places.len(), MOST_CLUSTERS);
        for place in &places {
            assert_eq!(layout.cluster_of(place.link().ip()), Some(place.index));
            assert_eq!(layout.cluster_of(place.pod(3).into()), Some(place.index));
        }
        assert_eq!(layout.cluster_of(layout.hub().ip()), None);
        assert_eq!(layout.cluster_of("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn the_last_cluster_fits_below_the_broadcast_address() {
        let last = Layout::new(HIGHEST_OCTET).places(MOST_CLUSTERS).pop().unwrap();
        assert_eq!(last.pod(1), Ipv4Addr::new(127, 254, 1, 1));
    }
}
