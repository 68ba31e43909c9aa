//! Two and three gateways in one process, over loopback addresses, driven by snapshots: what only works together.

mod calls;
mod failure;
mod strangers;
mod world;
