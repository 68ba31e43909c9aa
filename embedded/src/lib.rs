//! A small Kubernetes API in process, and a userspace service proxy beside it, for the demo and
//! for tests in milliseconds; never for production.
//!
//! [`Cluster`] serves over HTTP on loopback what kube-rs and `kubectl get` need of core kinds and
//! of any CRD, from memory. It has no server-side apply, no OpenAPI documents, no dry runs, no
//! garbage collection, no controllers and no authentication. [`proxy::Proxy`] makes the cluster's
//! ClusterIPs work on loopback addresses.

#![cfg_attr(
    test,
    allow(clippy::needless_pass_by_value, reason = "fixtures are written where they are used")
)]

mod admit;
mod answer;
mod cluster;
mod columns;
mod discovery;
mod error;
mod handler;
mod object;
mod patch;
pub mod proxy;
mod request;
mod resource;
mod schema;
mod selector;
mod services;
mod state;
mod store;
mod stream;

pub use cluster::{Cluster, ClusterConfig, StartError};
pub use error::ApiError;
pub use store::{Event, EventKind, Listing, Store, Watch};
