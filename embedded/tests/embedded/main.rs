//! The embedded API and its proxy, seen from outside: over HTTP with kube-rs and kubectl, and over
//! sockets on loopback.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../conventions/mod.rs"]
mod conventions;
mod kubectl;
mod lifecycle;
mod proxy;
mod support;

conventions::conventions!(embedded, crate::support::Embedded::start);
