//! Room for connections: as many as the process has descriptors for, less what everything else needs.
//!
//! A process without descriptors can neither keep its links nor read the Kubernetes API. So connections are refused
//! before the last ones go, with a reason, and those that stand go on. What fails here for want of room is no fault of
//! the pod that was called, or of the peer.

use std::{
    io,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// Connections that clients of this cluster may have open through this gateway, and those that there may be to pods of
/// it: what fits the 65,536 descriptors that a process commonly may have.
const MOST_CONNECTIONS: usize = 24_576;
/// UDP flows of peers: each holds a descriptor, of those that connections leave.
const MOST_FLOWS: usize = 8_192;
/// Of seven descriptors that connections get, those of clients have this many, those to pods as many, and flows of peers
/// the last one.
const SHARE: u64 = 3;
const SHARES: u64 = 7;
/// One descriptor of so many is kept for all that is no connection: listeners, of which each import has some, a socket
/// for each link that was dialled, and the Kubernetes API.
const KEPT_ONE_IN: u64 = 8;
/// As many of them at least: with one import and one peer a gateway has about twenty.
const KEPT: u64 = 64;
/// What a process may have where the system does not say: what most say.
const USUAL: u64 = 1_024;
/// The most that systems give whose hard limit is endless and not meant (`OPEN_MAX` of macOS).
const ENDLESS: u64 = 10_240;
/// How often trouble is told that goes on.
const TOLD: Duration = Duration::from_secs(10);

/// How many connections there may be, by the number of descriptors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bounds {
    /// What the process may have.
    pub(crate) descriptors: u64,
    /// Connections of clients of this cluster.
    pub(crate) outbound: usize,
    /// Connections to pods, of peers and of own clients.
    pub(crate) to_pods: usize,
    /// UDP flows of peers.
    pub(crate) inbound_flows: usize,
    /// The first descriptor that is not for connections.
    kept_from: u64,
}

impl Bounds {
    /// Those of a process that may have so many descriptors.
    pub(crate) fn of(descriptors: u64) -> Self {
        let kept = (descriptors / KEPT_ONE_IN).max(KEPT).min(descriptors / 2);
        let kept_from = descriptors - kept;
        let one = kept_from / SHARES;
        let bounded =
            |share: u64, most| usize::try_from(share).map_or(most, |share| share.min(most));
        Self {
            descriptors,
            outbound: bounded(SHARE * one, MOST_CONNECTIONS),
            to_pods: bounded(SHARE * one, MOST_CONNECTIONS),
            inbound_flows: bounded(one, MOST_FLOWS),
            kept_from,
        }
    }
}

/// Says when trouble that goes on is told again.
#[derive(Debug, Default)]
struct Telling {
    last: Option<Instant>,
    untold: u64,
}

impl Telling {
    /// How often it has happened since it was told last, this time included; none while that is too recent.
    fn tells(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        let is_recent = self.last.is_some_and(|last| now.saturating_duration_since(last) < TOLD);
        if is_recent {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The room that this process has.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) bounds: Bounds,
    refusals: Mutex<Telling>,
    accepts: Mutex<Telling>,
}

impl Room {
    /// Takes all the descriptors that the system lets this process have.
    pub(crate) fn take() -> Self {
        Self { bounds: Bounds::of(raise()), refusals: Mutex::default(), accepts: Mutex::default() }
    }

    /// Whether a socket that was just made has taken one of the descriptors that are kept for other things.
    ///
    /// POSIX gives the lowest number that is free, so that a number says how many are taken below it.
    pub(crate) fn is_kept(&self, socket: &impl AsRawFd) -> bool {
        u64::try_from(socket.as_raw_fd()).is_ok_and(|number| number >= self.bounds.kept_from)
    }

    /// Connects to a pod.
    ///
    /// # Errors
    /// As the system has it, or as it would have it with the last descriptor gone.
    pub(crate) async fn connect(&self, pod: SocketAddr) -> io::Result<TcpStream> {
        let socket = if pod.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        self.check(&socket)?;
        socket.connect(pod).await
    }

    /// A socket for a flow to a pod, bound to `from`.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn bind(&self, from: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(from).await?;
        self.check(&socket)?;
        Ok(socket)
    }

    fn check(&self, socket: &impl AsRawFd) -> io::Result<()> {
        if self.is_kept(socket) { Err(Errno::EMFILE.into()) } else { Ok(()) }
    }

    /// A connection is refused for want of room. Metrics count each; here it is told once in a while.
    pub(crate) fn refuses(&self, why: &str) {
        if let Some(times) = tells(&self.refusals) {
            let Bounds { descriptors, outbound, to_pods, .. } = self.bounds;
            tracing::warn!(
                times,
                descriptors,
                outbound,
                to_pods,
                "no room for more connections ({why}), new ones are refused: run more gateways, or raise the limit of open files"
            );
        }
    }

    /// Clients cannot be accepted, and wait in the system's queue.
    pub(crate) fn cannot_accept(&self, error: &io::Error) {
        if let Some(times) = tells(&self.accepts) {
            let descriptors = self.bounds.descriptors;
            tracing::warn!(times, descriptors, "cannot accept clients, it is tried again: {error}");
        }
    }
}

fn tells(telling: &Mutex<Telling>) -> Option<u64> {
    telling.lock().unwrap_or_else(PoisonError::into_inner).tells(Instant::now())
}

/// Whether an operation failed for want of something that this process or its machine has not got, whoever it was for:
/// descriptors, memory, ports to connect from, room to watch one more socket.
pub(crate) fn is_own(error: &io::Error) -> bool {
    use Errno::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC};
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(EADDRNOTAVAIL | EMFILE | ENFILE | ENOBUFS | ENOMEM | ENOSPC))
}

/// Raises the number of descriptors that this process may have as far as it can, and tells it. What is usual was chosen
/// for programs that keep sets of descriptors in bits (`select`), of which this is none.
fn raise() -> u64 {
    let kind = Resource::RLIMIT_NOFILE;
    let Ok((soft, hard)) = getrlimit(kind) else { return USUAL };
    let raised = [hard, ENDLESS.min(hard)]
        .into_iter()
        .find(|&number| number > soft && setrlimit(kind, number, hard).is_ok());
    raised.unwrap_or(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_descriptors_that_there_are() {
        let of = |descriptors| {
            let Bounds { outbound, to_pods, inbound_flows, kept_from, .. } =
                Bounds::of(descriptors);
            (outbound, to_pods, inbound_flows, kept_from)
        };
        assert_eq!(of(65_536), (24_576, 24_576, 8_192, 57_344));
        assert_eq!(of(1_048_576), (24_576, 24_576, 8_192, 917_504), "more would be of no use");
        assert_eq!(of(u64::MAX).0, 24_576);
        assert_eq!(of(1_024), (384, 384, 128, 896));
        assert_eq!(of(160), (39, 39, 13, 96));
        assert_eq!(of(20), (3, 3, 1, 10));
        assert_eq!(of(0), (0, 0, 0, 0));
    }

    #[test]
    fn connections_never_take_what_is_kept() {
        for descriptors in 0..70_000 {
            let Bounds { outbound, to_pods, inbound_flows, kept_from, .. } =
                Bounds::of(descriptors);
            let all = (outbound + to_pods + inbound_flows) as u64;
            assert!(all <= kept_from && kept_from <= descriptors, "{descriptors}");
        }
    }

    #[test]
    fn trouble_that_goes_on_is_told_once_in_a_while_with_how_often_it_was() {
        let start = Instant::now();
        let mut telling = Telling::default();
        let told: Vec<Option<u64>> =
            (0..5).map(|second| telling.tells(start + 5 * Duration::from_secs(second))).collect();
        assert_eq!(told, [Some(1), None, Some(2), None, Some(2)]);
    }

    #[test]
    fn want_of_room_is_no_fault_of_a_pod() {
        for errno in [Errno::EADDRNOTAVAIL, Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS] {
            assert!(is_own(&errno.into()), "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ETIMEDOUT] {
            assert!(!is_own(&errno.into()), "{errno}");
        }
        assert!(!is_own(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn a_new_descriptor_has_the_lowest_number_that_is_free() {
        let room = |kept_from| Room {
            bounds: Bounds { kept_from, ..Bounds::of(1_024) },
            refusals: Mutex::default(),
            accepts: Mutex::default(),
        };
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let number = u64::try_from(socket.as_raw_fd()).unwrap();
        assert!(room(number).is_kept(&socket));
        assert!(!room(number + 1).is_kept(&socket));
    }
}
