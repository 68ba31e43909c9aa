//! Pure: another member, as this one's controller and gateways see it.

use std::{fmt, net::SocketAddr};

use crate::name::{ClusterId, NetworkName, RegionName};

/// Where one replica of a peer's gateway is reached: UDP, and TCP where UDP does not pass, on the same number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GatewayAddress(pub SocketAddr);

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Another member of the set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Which.
    pub cluster: ClusterId,
    /// How often it has joined. A certificate of an earlier generation is not believed.
    pub generation: u64,
    /// Its network: where it is this member's own, pods are reached directly.
    pub network: NetworkName,
    /// Its region, where it tells one: near ones are called first.
    pub region: Option<RegionName>,
    /// Whether it gets no new calls while another member serves.
    pub drained: bool,
    /// The addresses of its gateways; none where it can only dial.
    pub gateways: Vec<GatewayAddress>,
}
