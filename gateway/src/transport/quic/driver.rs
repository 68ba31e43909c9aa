//! QUIC over UDP sockets: `quinn-proto` decides what is said, and this is what carries it.
//!
//! A driver of our own, since most of what a gateway costs is here: how many datagrams go in one call to the kernel, and
//! how many tasks are woken on the way of one. There is a task for each socket, which receives, and one for each
//! connection, which sleeps until a timer is due or a full socket takes more. Everything else happens where it comes up:
//! whoever writes to a stream also sends what has become of it, and whoever has received a packet also answers it.
//!
//! ```text
//!   stream ── write ──▶ ┌ one lock ────────────────┐ ── up to 64 KiB a call ──▶ socket
//!                       │ a connection             │
//!   socket ── packets ▶ │ (its inbox while that is │ ── wakes ──▶ readers, writers
//!   timer ── due ─────▶ └ held by somebody else)───┘
//! ```
//!
//! Locks are taken in one order: a connection, its inbox, the endpoint.

mod connection;
mod drive;
mod endpoint;
mod receive;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use self::{
    connection::Connection,
    endpoint::{Endpoint, Incoming},
    stream::{ReadError, RecvStream, SendStream, WriteError},
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
