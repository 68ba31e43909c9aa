//! Two and three gateways in one process, over loopback addresses, driven by snapshots: what only works together.

mod abuse;
mod access;
mod api;
mod calls;
mod choice;
mod door;
mod failure;
mod fallback;
mod hub;
mod older;
mod over_tcp;
mod renewal;
mod roll;
mod room;
mod spans;
mod strangers;
mod udp;
mod world;

pub(crate) use world::route;
