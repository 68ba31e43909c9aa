//! Name servers that answer for the same services, and how they are asked.
//!
//! Ours and CoreDNS read one real kube-apiserver; NSD, Knot and hickory-server read the same records from a zone file; the
//! reflector only sends every packet back, which is what the kernel's part of the work costs. Servers have the first core,
//! whatever else there is has the others.

#![allow(dead_code, reason = "each benchmark uses its part")]

pub(crate) mod ask;
pub(crate) mod load;
pub(crate) mod roles;
pub(crate) mod scene;
pub(crate) mod systems;
