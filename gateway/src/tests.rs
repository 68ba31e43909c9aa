//! Two and three gateways in one process, over loopback addresses, driven by snapshots: what only works together.

mod api;
mod calls;
mod failure;
mod strangers;
mod world;

pub(crate) use world::route;
