//! The east-west gateway: listeners, links, identity and routing.

pub mod identity;
pub mod pki;
