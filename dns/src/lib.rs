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
//! | `compile`, `entry`, `table`, `snapshot` | what are the bytes of every answer? |
//! | `message` | what does this packet ask? |
//! | `answer` | which bytes go back? |
//! | `cookie`, `rate` | who is known to receive what is sent to him, and how much do others get? |
//! | `udp`, `tcp` | how do packets come and go? |
//! | `forward` | who has the answer for other zones? |
//! | `metrics`, `querylog` | what do operators see of it? |
//! | `server` | which tasks are there, and when do they end? |
//!
//! Names outside the zone are refused, unless there are resolvers to ask: this server is one to which others forward a
//! zone.

mod answer;
mod compile;
mod config;
mod cookie;
mod entry;
#[cfg(test)]
mod fixture;
mod forward;
mod message;
mod metrics;
mod name;
mod querylog;
mod rate;
mod server;
mod snapshot;
mod state;
mod table;
mod tcp;
mod udp;
mod zone;

pub use config::{Config, CookieSecret, Cookies, Ttl};
pub use server::{DnsServer, Handle, RunError, StartError};
pub use zone::{Zone, ZoneError};
