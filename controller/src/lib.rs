//! Exports and imports services across the clusters of a set.
//!
//! One controller serves one cluster. It watches the cluster and the hub, plans what belongs where, and writes it:
//! exports to the hub, imports with their Services and slices into the cluster, peers for the gateways. Everything
//! that decides is in [`reconciler`], [`plan`] and what they use, and is pure; [`run`](Controller::run) is the only task.

pub mod config;
pub mod election;
mod execute;
pub mod liveness;
mod metrics;
pub mod notes;
pub mod observed;
pub mod outcome;
pub mod plan;
pub mod ports;
pub mod presence;
mod probe;
pub mod queue;
pub mod reconciler;
mod run;
pub mod selector;
mod start;
pub mod watches;

pub use config::Config;
pub use selector::Selector;
pub use start::{Controller, Handle, RunError, StartError};
