//! The east-west gateway: listeners, links, identity and routing.
//!
//! ```text
//!  client ─► listen ─► forward ─► route ─► links ═ transport ═ links ─► serve ─► pod
//!                         ▲                                               ▲
//!             state ─► snapshot (what means what, who is who, who is listed)
//! ```
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`join`] | what lets a cluster into the set? |
//! | [`pki`], [`identity`] | which certificates are there, and whom do they name? |
//! | `credentials`, `renewal` | which of them are in force, and when are they renewed? |
//! | `verifier` | may this one be on the other end of a link? |
//! | `transport` | how do bytes get there? All of QUIC is in here |
//! | `links`, `health` | which connections stand, and how are they? |
//! | `wire`, [`caller`], [`proxy`] | what do gateways tell each other, and pods, about a call? |
//! | `state`, `snapshot` | what do the objects of this cluster say? |
//! | `listen`, `route`, `forward` | what comes in from clients, and where does it go? |
//! | `serve` | what comes in from peers, and which pod gets it? |
//! | `udp`, `flows` | how are datagrams carried, and when does a flow end? |
//! | `door`, `hub` | what do those get that want to join, and members of the hub? |
//! | `access` | may this caller call that? |
//! | `pool` | how have pods and clusters done lately that calls are brought to? |
//! | `room` | how many connections may there be, and whose fault is it where there are no more? |
//! | `open`, `spans` | what is open now, and what do the access log and OpenTelemetry hear of it? |
//! | `register`, `status`, `refusals` | what is told to the Kubernetes API? |
//! | `run` | how does one of them start, run and end? |

mod access;
pub mod caller;
mod copy;
mod core;
mod credentials;
mod door;
mod flows;
mod forward;
mod health;
mod hub;
pub mod identity;
pub mod join;
mod links;
mod listen;
mod metrics;
mod open;
pub mod pki;
mod pod;
mod pool;
pub mod proxy;
mod refusals;
mod register;
mod renewal;
mod room;
mod route;
mod run;
mod serve;
mod shared;
mod snapshot;
mod spans;
mod state;
mod status;
mod tasks;
#[cfg(test)]
mod tests;
mod transport;
mod udp;
mod verifier;
mod wire;

pub use hub::{Hub, NoTarget, Target, Through};
pub use run::{Config, Gateway, Handle, Operation, Register, RunError, StartError};
pub use spans::Tracer;
