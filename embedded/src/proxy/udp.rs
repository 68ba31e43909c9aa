//! The UDP flows of one port: a client's datagrams keep their endpoint and have a socket of their
//! own, bound to the client's address, so that answers find back.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::table::Backends;

/// The largest datagram that IP carries.
pub(super) const MAX_DATAGRAM: usize = 65_535;

/// How many clients one port has at a time. A flow costs a descriptor, of which a process
/// usually may have 1,024.
const MAX_FLOWS: usize = 512;

/// How long a flow lasts without a datagram: Linux's `nf_conntrack_udp_timeout_stream`, which is
/// what kube-proxy's flows last.
const IDLE: Duration = Duration::from_secs(120);

/// All flows of one port, by client.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: BTreeMap<SocketAddr, Flow>,
}

#[derive(Debug)]
struct Flow {
    endpoint: SocketAddr,
    socket: Arc<UdpSocket>,
    /// When the last datagram passed, either way, in milliseconds since the proxy's start.
    used: Arc<AtomicU64>,
    /// Ends the task that brings the answers back.
    _answers: DropGuard,
}

impl Flows {
    /// Whether the client has a flow to an endpoint that still is one.
    pub(super) fn has(&self, client: SocketAddr, backends: &Backends) -> bool {
        let flow = self.flows.get(&client);
        flow.is_some_and(|flow| backends.endpoints.contains(&flow.endpoint))
    }

    /// Ends a client's flow, whose endpoint is no more.
    pub(super) fn remove(&mut self, client: SocketAddr) {
        self.flows.remove(&client);
    }

    pub(super) fn is_full(&self) -> bool {
        self.flows.len() >= MAX_FLOWS
    }

    /// Takes a new flow in, in place of the client's old one. Returns its clock.
    pub(super) fn insert(
        &mut self,
        client: SocketAddr,
        endpoint: SocketAddr,
        socket: Arc<UdpSocket>,
        answers: &CancellationToken,
    ) -> Arc<AtomicU64> {
        let used = Arc::new(AtomicU64::new(0));
        let (clock, answers) = (Arc::clone(&used), answers.clone().drop_guard());
        self.flows.insert(
            client,
            Flow {
                endpoint,
                socket,
                used: clock,
                _answers: answers,
            },
        );
        used
    }

    /// Sends a datagram along the client's flow. False when there is none or it does not pass.
    pub(super) fn send(&self, client: SocketAddr, datagram: &[u8], now: Duration) -> bool {
        let Some(flow) = self.flows.get(&client) else {
            return false;
        };
        flow.used.store(milliseconds(now), Ordering::Relaxed);
        flow.socket.try_send(datagram).is_ok()
    }

    /// Ends the flows that were not used for a while.
    pub(super) fn expire(&mut self, now: Duration) {
        let limit = milliseconds(now).saturating_sub(milliseconds(IDLE));
        self.flows
            .retain(|_, flow| flow.used.load(Ordering::Relaxed) >= limit);
    }
}

/// Opens a socket to `endpoint`, from `source` when that is a loopback address.
pub(super) async fn connect(source: IpAddr, endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let any = if endpoint.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = if source.is_loopback() && source.is_ipv4() == endpoint.is_ipv4() {
        UdpSocket::bind(SocketAddr::new(source, 0)).await?
    } else {
        UdpSocket::bind(any).await?
    };
    socket.connect(endpoint).await?;
    Ok(socket)
}

/// Brings answers back to the client, from the address that it wrote to, until cancelled.
pub(super) async fn answers(
    flow: &UdpSocket,
    port: &UdpSocket,
    client: SocketAddr,
    used: &AtomicU64,
    started: Instant,
) {
    while flow.readable().await.is_ok() {
        // Held only while there is something to read: most flows are idle most of the time.
        let mut buffer = vec![0; MAX_DATAGRAM];
        while let Some(length) = read(flow, &mut buffer) {
            used.store(milliseconds(started.elapsed()), Ordering::Relaxed);
            if let Err(error) = port.send_to(&buffer[..length], client).await {
                tracing::debug!(%client, %error, "an answer is lost");
            }
        }
    }
}

/// The length of the next datagram; `None` when there is none. An endpoint that is not there
/// shows as an error here, and the flow waits for it to come back.
fn read(flow: &UdpSocket, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match flow.try_recv(buffer) {
            Ok(length) => return Some(length),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
