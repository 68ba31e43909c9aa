//! What the parts of Landbridge share: names, keys, exports, their merge, and the names and ports derived from
//! them. Values in, values out: this crate knows no Kubernetes client, no socket, no clock and no randomness, so
//! that every cluster of a set computes the same answer from the same facts.
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`name`] | is this text a cluster id, a namespace, a port name…? |
//! | [`label`] | what does Kubernetes take as a label? |
//! | [`port`] | what is a service port, and which are the same one? |
//! | [`export`] | what does one cluster claim to serve? |
//! | [`merge`](mod@merge) | what do all the exports of one service add up to, and who disagrees? |
//! | [`derived`] | what are the objects called that are made for an import? |
//! | [`allotment`] | which gateway port means which service port? |
//! | [`peer`] | what is known of another cluster's gateways? |

pub mod allotment;
pub mod derived;
pub mod export;
pub mod label;
pub mod merge;
pub mod name;
pub mod peer;
pub mod port;
pub mod time;

pub use allotment::{AllottedPort, Target};
pub use export::{Export, IpFamily, ServiceKind, SessionAffinity, ZoneCapacity};
pub use merge::{Conflict, ConflictReason, Merged, MergedPort, Rulebook, merge};
pub use name::{
    ClusterId, ClusterSetId, DerivedName, Hostname, NameError, Namespace, NetworkName, PortName,
    RegionName, ServiceKey, ServiceName, ZoneName,
};
pub use peer::{GatewayAddress, Peer};
pub use port::{AppProtocol, PortKey, Protocol, ServicePort};
pub use time::Timestamp;
