//! Real components, and the conventions that the embedded API holds, on real API servers: kube-apiserver and etcd.
//!
//! | file | what is held |
//! | --- | --- |
//! | [`battery`], [`world`] | the Multi-Cluster Services API: the same cases as on the embedded API |
//! | [`components`] | the DNS server and a gateway with the roles of `deploy/rbac` |
//! | [`conventions`] | the embedded API's own battery: where a real one differs, the embedded one is wrong |
//! | [`manifests`] | what `landbridge manifests` prints: every object is taken, and pods are let in |
//! | [`members`] | a hub and two members: controllers with the roles of `deploy/rbac`, and what the hub refuses |
//! | [`older`] | a cluster that serves v1alpha1 alone, and its upgrade |
//! | [`others`] | imports and slices of another implementation |
//! | [`people`] | the roles for people: who may export, and that nobody writes imports |
//! | [`rights`] | what a member may do on the hub, verb by verb, and that it poses as no other |
//! | [`quota`] | a hub that takes no more of a member than its quota says |

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../battery/mod.rs"]
mod battery;
mod components;
#[path = "../../embedded/tests/conventions/mod.rs"]
mod conventions;
mod manifests;
mod members;
mod older;
mod others;
mod people;
mod quota;
mod rights;
mod world;

use landbridge_xtask::{
    apiserver::{self, ApiServer},
    rung::CONTROL_PLANE,
};

/// An API server, the same one for every test that names it; ends the process where there can be none.
async fn api_server(name: &'static str) -> &'static ApiServer {
    CONTROL_PLANE.need(&apiserver::TOOLS);
    ApiServer::shared(name).await.unwrap()
}

/// The same of a cluster whose Services have IPv4 addresses alone.
async fn single_stack(name: &'static str) -> &'static ApiServer {
    CONTROL_PLANE.need(&apiserver::TOOLS);
    ApiServer::shared_with(name, "10.96.0.0/16").await.unwrap()
}

/// A real API server for the battery of conventions: one for all cases, as each has a namespace to itself.
struct Real(&'static ApiServer);

impl Real {
    async fn start() -> Self {
        Self(api_server("conventions").await)
    }

    fn client(&self) -> kube::Client {
        self.0.admin()
    }
}

battery::battery!(kubernetes, crate::world::start);
battery::tokens::tokens!(tokens_kubernetes, crate::Real::start);
conventions::conventions!(real, crate::Real::start);
