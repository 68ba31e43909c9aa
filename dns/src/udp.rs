//! Queries over UDP: a blocking loop for a thread and a socket of its own.
//!
//! Several sockets on one address share its queries (SO_REUSEPORT), so that no two threads wait for one another
//! and every core is used. Where the system can receive and send many packets in one call it does; that loop is in
//! `batch`, the one that works everywhere in `single`. Nothing is allocated for a query.

#[cfg(target_os = "linux")]
mod batch;
#[cfg(any(test, not(target_os = "linux")))]
mod single;

use std::{
    cell::OnceCell,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Cache};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    answer::{self, Asked, Outcome, Transport, respond},
    forward::{Job, Reply},
    metrics::{Tally, Unanswered},
    querylog::Sampler,
    rate::Verdict,
    server::{Served, seconds},
    snapshot::Snapshot,
};

/// How long a socket waits before its thread looks whether it should end, and lets go of old snapshots.
const LOOK_UP: Duration = Duration::from_millis(100);
/// The largest query that is read whole: what an Ethernet frame carries of IPv4, more than the 1,232 octets that are
/// asked for. Those that people send stay below 512; a longer one is cut, and then refused as malformed.
///
/// It is 23 cache lines, an odd number: with a stride of 4,096 octets the headers of all packets of a batch would want
/// the same few places of a processor's first cache.
const MAX_QUERY: usize = 1_472;
/// The most queries that are still answered after the end was called for: more than a socket's buffer of usual
/// size (212,992 octets, of which each small packet takes at least 768) holds.
const LAST_QUERIES: usize = 512;
/// How long to wait after an error that is not one packet's own, so that a lasting one does not take a core.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// Where a header counts the records behind the question, of which a cookie would be one.
const ADDITIONAL: std::ops::Range<usize> = 10..12;
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

/// The best way that this system has, for a socket at `address`.
#[cfg(target_os = "linux")]
pub(crate) fn packets(address: SocketAddr) -> impl Way {
    batch::Batch::new(address)
}

/// The only way that this system has.
#[cfg(not(target_os = "linux"))]
pub(crate) fn packets(_: SocketAddr) -> impl Way {
    single::Single::default()
}

/// The way that every system has.
#[cfg(test)]
pub(crate) fn packet_by_packet() -> impl Way {
    single::Single::default()
}

/// A way of receiving and sending packets.
pub(crate) trait Way {
    /// Waits for packets, has `desk` answer them, and sends the answers. Tells how many packets there were.
    ///
    /// # Errors
    /// As the system has it; that nothing came in time is one.
    fn step(&mut self, socket: &UdpSocket, desk: &mut Desk<'_>) -> io::Result<usize>;
}

/// Answers queries until `stop`, and then those that had been received.
pub(crate) fn serve(
    socket: &Arc<UdpSocket>,
    served: &Served,
    stop: &CancellationToken,
    way: &mut impl Way,
) {
    let mut desk = Desk {
        log: Sampler::new(served.log_one_in),
        served,
        snapshot: Cache::new(&served.current.snapshot),
        socket,
        tally: Tally::new(Transport::Udp),
        turn: Turn::default(),
    };
    while !stop.is_cancelled() {
        if let Err(error) = way.step(socket, &mut desk) {
            // An idle thread must not keep an old snapshot alive.
            desk.snapshot.load();
            failed(&error);
        }
    }
    if let Err(error) = socket.set_nonblocking(true) {
        debug!(%error, "queries that had been received go unanswered");
        return;
    }
    let mut left = LAST_QUERIES;
    while let Ok(answered @ 1..) = way.step(socket, &mut desk) {
        let Some(rest) = left.checked_sub(answered) else {
            break;
        };
        left = rest;
    }
}

fn failed(error: &io::Error) {
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

/// Where a thread answers, whatever way packets come.
pub(crate) struct Desk<'a> {
    log: Sampler,
    served: &'a Served,
    snapshot: Cache<&'a ArcSwap<Snapshot>, Arc<Snapshot>>,
    socket: &'a Arc<UdpSocket>,
    tally: Tally,
    turn: Turn,
}

impl Desk<'_> {
    /// Begins with packets that came together: one reading of the clock is good for all.
    fn begin(&self) -> Moment {
        Moment { began: Instant::now(), now: OnceCell::new() }
    }

    /// Looks at one of several, all of which are answered afterwards.
    fn foresee(&mut self, packet: &[u8]) {
        answer::foresee(packet, self.snapshot.load());
    }

    /// Answers one of them into `out`, which is empty afterwards where nothing is to be sent.
    fn answer(&mut self, packet: &[u8], from: SocketAddr, moment: &Moment, out: &mut Vec<u8>) {
        let served = self.served;
        let asked = Asked {
            now: moment.now(packet),
            rules: &served.rules,
            snapshot: self.snapshot.load(),
            source: from.ip(),
            transport: Transport::Udp,
            turn: self.turn.next(),
        };
        let outcome = respond(packet, asked, out);
        self.tally.note(outcome, &served.metrics);
        match outcome {
            Outcome::Elsewhere => {
                let socket = Arc::clone(self.socket);
                served.forward(Job { packet: packet.to_vec(), reply: Reply { socket, from } });
            }
            Outcome::Answered { known: false, .. } => self.limit(from, moment, out),
            _ => {}
        }
        self.log.note(packet, outcome, from, Transport::Udp);
    }

    /// Holds back an answer that may go to somebody who never asked, where he gets too many.
    fn limit(&self, from: SocketAddr, moment: &Moment, out: &mut Vec<u8>) {
        let Some(limiter) = &self.served.limiter else {
            return;
        };
        let since = moment.began.saturating_duration_since(self.served.started);
        match limiter.take(from.ip(), since) {
            Verdict::Pass => {}
            Verdict::Slip => {
                answer::cut(out);
                self.served.metrics.limited(true);
            }
            Verdict::Drop => {
                out.clear();
                self.served.metrics.limited(false);
            }
        }
    }

    /// Counts what became of them, before anybody can have heard of it.
    fn count(&mut self) {
        self.tally.settle(&self.served.metrics);
    }

    /// Ends with packets whose answers have been sent, so many of them.
    fn end(&self, moment: &Moment, packets: usize) {
        self.served.metrics.took(Transport::Udp, moment.began.elapsed(), packets);
    }

    fn unsent(&self, error: &io::Error, to: SocketAddr) {
        debug!(%error, %to, "an answer could not be sent");
        self.served.metrics.dropped(Unanswered::Send);
    }
}

/// When packets came.
struct Moment {
    began: Instant,
    /// Seconds since 1970, once a packet has to know.
    now: OnceCell<u32>,
}

impl Moment {
    /// The time as far as `packet` needs it: only cookies do, which are behind the question.
    fn now(&self, packet: &[u8]) -> u32 {
        match packet.get(ADDITIONAL) {
            Some([0, 0]) | None => 0,
            Some(_) => *self.now.get_or_init(seconds),
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
