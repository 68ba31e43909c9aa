//! What the hub gives its members through links: its Kubernetes API, and the set's authority.
//!
//! Each of the two is one address, which stands in the settings of the hub's gateways. A stream is joined to that and to
//! nothing else: what is said over it is TLS from end to end, and who says it is for the other end to judge.

mod target;

use std::io;

use tokio::net::{TcpStream, lookup_host};

pub use self::target::{NoTarget, Target};
use crate::{copy, room::Room};

/// What a gateway has to do with the hub; nothing, by default.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// At the hub: the set's authority, as this gateway reaches it. With it there is a door for clusters that join.
    pub authority: Option<Target>,
}

/// Connects to what a name stands for now: the first of its addresses that accepts.
pub(crate) async fn connect(room: &Room, target: &Target) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((target.host(), target.port())).await? {
        match room.connect(address).await {
            Ok(tcp) => {
                copy::prepare(&tcp);
                return Ok(tcp);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
