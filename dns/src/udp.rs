//! Queries over UDP: a blocking loop for a thread and a socket of its own.
//!
//! Several sockets on one address share its queries (SO_REUSEPORT), so that no two threads wait for one another
//! and every core is used. Nothing is allocated for a query.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    answer::{Transport, respond},
    compile::MAX_UDP,
    metrics::Unanswered,
    server::Served,
    snapshot::Snapshot,
};

/// How long a socket waits before its thread looks whether it should end, and lets go of old snapshots.
const LOOK_UP: Duration = Duration::from_millis(100);
/// The largest query that is read whole. Those that people send stay below 512 octets; a longer one is cut, and
/// then refused as malformed.
const MAX_QUERY: usize = 4_096;
/// The most queries that are still answered after the end was called for: more than a socket's buffer of usual
/// size (212,992 octets, of which each small packet takes at least 768) holds.
const LAST_QUERIES: usize = 512;
/// How long to wait after an error that is not one packet's own, so that a lasting one does not take a core.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// What is added per answer: an odd number close to the golden section of 2^32, so that turns are spread evenly for
/// every number of records, even for clients that always ask A and AAAA in alternation.
const TURN: u32 = 0x9e37_79b9;

/// Which of several records comes first, from answer to answer.
#[derive(Debug, Default)]
pub(crate) struct Turn(u32);

impl Turn {
    /// The next one.
    pub(crate) fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_add(TURN);
        // The higher bits are the well-spread ones.
        usize::from((self.0 >> 16) as u16)
    }
}

/// Binds a socket that shares `address` with others of its kind.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    Ok(socket.into())
}

/// Answers queries until `stop`, and then those that had been received.
pub(crate) fn serve(socket: &UdpSocket, served: &Served, stop: &CancellationToken) {
    let mut worker = Worker {
        out: Vec::with_capacity(MAX_UDP),
        packet: vec![0; MAX_QUERY],
        served,
        snapshot: Cache::new(&served.current.snapshot),
        socket,
        turn: Turn::default(),
    };
    while !stop.is_cancelled() {
        worker.step();
    }
    if let Err(error) = socket.set_nonblocking(true) {
        debug!(%error, "queries that had been received go unanswered");
        return;
    }
    for _ in 0..LAST_QUERIES {
        if !worker.step() {
            break;
        }
    }
}

struct Worker<'a> {
    out: Vec<u8>,
    packet: Vec<u8>,
    served: &'a Served,
    snapshot: Cache<&'a ArcSwap<Snapshot>, Arc<Snapshot>>,
    socket: &'a UdpSocket,
    turn: Turn,
}

impl Worker<'_> {
    /// Waits for a packet and answers it. Tells whether there was one.
    fn step(&mut self) -> bool {
        match self.socket.recv_from(&mut self.packet) {
            Ok((length, from)) => {
                self.answer(length, from);
                true
            }
            Err(error) => {
                // An idle thread must not keep an old snapshot alive.
                self.snapshot.load();
                self.failed(&error);
                false
            }
        }
    }

    fn answer(&mut self, length: usize, from: SocketAddr) {
        let outcome = respond(
            &self.packet[..length],
            self.snapshot.load(),
            Transport::Udp,
            self.turn.next(),
            &mut self.out,
        );
        self.served.metrics.count(outcome, Transport::Udp);
        if self.out.is_empty() {
            return;
        }
        if let Err(error) = self.socket.send_to(&self.out, from) {
            debug!(%error, %from, "an answer could not be sent");
            self.served.metrics.dropped(Unanswered::Send);
        }
    }

    fn failed(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
        match error.kind() {
            // Nothing came; or some client did not wait for its answer.
            ConnectionRefused | Interrupted | TimedOut | WouldBlock => {}
            _ => {
                warn!(%error, "cannot receive queries over UDP; trying again");
                thread::sleep(AFTER_ERROR);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_even_for_clients_that_ask_in_alternation() {
        for records in [2, 3, 5, 10] {
            let mut turn = Turn::default();
            let mut first = vec![0_u32; records];
            for _ in 0..1000 {
                first[turn.next() % records] += 1;
                turn.next();
            }
            let share = 1000 / u32::try_from(records).unwrap();
            assert!(first.iter().all(|&times| times.abs_diff(share) <= share / 5), "{first:?}");
        }
    }
}
