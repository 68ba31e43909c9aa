//! What runs over QUIC runs over TCP as well: the same tests in a world where UDP does not pass.

#![expect(clippy::duplicate_mod, reason = "each is a battery for both ways")]

#[path = "abuse.rs"]
mod abuse;
#[path = "calls.rs"]
mod calls;
#[path = "udp.rs"]
mod udp;

use super::strangers;

/// As [`crate::tests::world`], where UDP does not pass.
mod world {
    use std::net::SocketAddr;

    pub(super) use crate::tests::world::*;

    pub(super) fn world() -> World {
        World::over_tcp()
    }

    pub(super) async fn pair(pod: SocketAddr) -> (World, Site, Site) {
        pair_of(world(), pod).await
    }
}
