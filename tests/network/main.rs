//! Gateways in network namespaces of their own: what loopback cannot show.
//!
//! | file | what is held |
//! | --- | --- |
//! | [`paths`] | clusters with the same addresses; a NAT that lets nobody in; a firewall that drops UDP; a cable that is cut |
//! | [`site`] | a cluster in a namespace: an API, a gateway, pods and clients |
//! | [`space`] | namespaces, cables and rules, which go with the test |
//!
//! It needs root, `ip` and `nft`. Elsewhere it says so and is skipped; `LANDBRIDGE_NETWORK=required` demands it.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod paths;
mod site;
mod space;
