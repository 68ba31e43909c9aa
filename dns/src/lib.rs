//! The DNS server for `clusterset.local`: the names of imported services, answered from an immutable snapshot of
//! ServiceImports and MCS EndpointSlices, of Landbridge's or of any other implementation of the MCS API.
//!
//! ```text
//!  watches ─► state ─► zone ─► compile ─► snapshot ══ one pointer swap ══► answer ◄─ message ◄─ udp, tcp
//!             facts    names   records     wire form                       (a query reads the snapshot once)
//! ```
//!
//! | module | question it answers |
//! | --- | --- |
//! | `state` | what is known of imports and endpoints? |
//! | `zone` | which names are there, and which records do they have? |
//! | `compile`, `table`, `snapshot` | what are the bytes of every answer? |
//! | `message` | what does this packet ask? |
//! | `answer` | which bytes go back? |
//! | `udp`, `tcp` | how do packets come and go? |
//! | `server` | which tasks are there, and when do they end? |
//!
//! Names outside the zone are refused: this server is one to which others forward a zone, not a resolver.

mod answer;
mod compile;
#[cfg(test)]
mod fixture;
mod message;
mod metrics;
mod name;
mod server;
mod snapshot;
mod state;
mod table;
mod tcp;
mod udp;
mod zone;

pub use server::{Config, DnsServer, Handle, RunError, StartError};
pub use zone::{Zone, ZoneError};
