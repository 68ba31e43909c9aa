//! Everything quinn, behind this one module, so that another QUIC driver or TLS over TCP can come second.
//!
//! A [`Transport`] dials and is dialled, a [`Connection`] is an authenticated peer with streams in both directions,
//! and a stream that is dropped before it was finished is reset: half a transfer must never look like a whole one.

mod config;
mod datagram;
mod stream;

use std::{
    any::Any,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use landbridge_model::ClusterId;
use quinn::{ConnectionError, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use rustls_pki_types::CertificateDer;
use thiserror::Error;

use self::config::Configs;
pub(crate) use self::config::provider;
pub(crate) use self::datagram::{Datagrams, Dropped};
pub(crate) use self::stream::{RecvStream, SendStream, StreamError};
use crate::{
    credentials::{Credentials, InForce},
    identity::GatewayId,
    pki::Validity,
    renewal::Span,
    shared::now,
    verifier::{self, Trust},
};

/// The application protocol of a link.
pub(crate) const ALPN: &[u8] = b"landbridge/1";
/// How long a handshake may take: three of the longest round trips, and then some.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The name that is asked for in a handshake. It is not sent and not checked: certificates name SPIFFE ids.
const SERVER_NAME: &str = "landbridge";
/// TLS alerts arrive as QUIC error codes from here on (RFC 9001 section 4.8).
const CRYPTO_ERROR: u64 = 0x100;
const ALERT_CERTIFICATE_REQUIRED: u64 = 116;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;
/// Asked of the kernel, which gives what `rmem_max` allows: 4 MiB are 3 ms at 10 Gbit/s, more than a task waits for
/// its turn.
const SOCKET_BUFFER: usize = 4 << 20;

/// Why a link is closed, as its other end reads it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CloseReason {
    /// The gateway goes.
    Going,
    /// The peer is no longer listed, or with another generation.
    NotListed,
    /// What was said makes no sense.
    Protocol,
    /// There are more connections than anyone needs.
    TooMany,
    /// Its certificates have ended, and the time that was left to what was open.
    Expired,
    /// Another has taken its place.
    Replaced,
    /// The root of the peer's certificate is trusted no more.
    NotTrusted,
}

impl CloseReason {
    fn parts(self) -> (u32, &'static [u8]) {
        match self {
            Self::Going => (0, b"going"),
            Self::NotListed => (1, b"not listed"),
            Self::Protocol => (2, b"protocol"),
            Self::TooMany => (3, b"too many connections"),
            Self::Expired => (4, b"certificates have expired"),
            Self::Replaced => (5, b"replaced"),
            Self::NotTrusted => (6, b"root no longer trusted"),
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, Error)]
pub(crate) enum ConnectError {
    /// Its certificate was refused here.
    #[error("{0}")]
    CertificateInvalid(String),
    /// It refused the connection.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// It cannot be reached, or does not speak.
    #[error("{0}")]
    Unreachable(String),
}

/// A socket for those that dial, and one more for each connection that is dialled.
#[derive(Debug)]
pub(crate) struct Transport {
    endpoint: Endpoint,
    /// Those with connections, and the latest; as many as there are links that were dialled.
    dialling: Mutex<Vec<Endpoint>>,
    configs: Configs,
    credentials: Arc<Credentials>,
}

impl Transport {
    /// Binds the socket. Peers are judged by `trust`, and shown the certificate in force.
    pub(crate) fn bind(
        address: SocketAddr,
        credentials: Arc<Credentials>,
        trust: Arc<Trust>,
    ) -> io::Result<Self> {
        let configs = Configs::new(Arc::clone(&credentials), trust).map_err(io::Error::other)?;
        let server = configs.server().map_err(io::Error::other)?;
        let endpoint = endpoint(address, Some(server))?;
        Ok(Self { endpoint, dialling: Mutex::default(), configs, credentials })
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Dials a gateway of `expected`. Before the other side's first word it is not known whether it took this one.
    ///
    /// Each time from a port of its own: whatever stands before several replicas, a load balancer or connection tracking,
    /// brings all packets of a port to the one that it has chosen for it.
    pub(crate) async fn dial(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
    ) -> Result<Connection, ConnectError> {
        let unreachable = |problem: &dyn ToString| ConnectError::Unreachable(problem.to_string());
        let shown = self.credentials.load();
        let config = self.configs.client(expected).map_err(|problem| unreachable(&problem))?;
        let endpoint = self.dialling().map_err(|problem| unreachable(&problem))?;
        let connecting = endpoint
            .connect_with(config, address, SERVER_NAME)
            .map_err(|problem| unreachable(&problem))?;
        match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(Ok(connection)) => Connection::new(connection, Some(endpoint), &shown),
            Ok(Err(error)) => Err(connect_error(error)),
            Err(_) => Err(ConnectError::Unreachable("the handshake took too long".to_owned())),
        }
    }

    /// A socket for one connection, of the same address as the one that is dialled.
    fn dialling(&self) -> io::Result<Endpoint> {
        let new = endpoint(SocketAddr::new(self.local_address()?.ip(), 0), None)?;
        let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
        dialling.retain(|endpoint| endpoint.open_connections() > 0);
        dialling.push(new.clone());
        Ok(new)
    }

    /// The next one that dials; none once this transport is closed.
    pub(crate) async fn accept(&self) -> Option<Incoming> {
        let incoming = self.endpoint.accept().await?;
        Some(Incoming { incoming, shown: self.credentials.load() })
    }

    /// Takes no more connections.
    pub(crate) fn refuse_new(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Closes every connection and waits until that has been said.
    pub(crate) async fn close(&self) {
        let (code, reason) = CloseReason::Going.parts();
        let mut all = {
            let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *dialling)
        };
        all.push(self.endpoint.clone());
        for endpoint in &all {
            endpoint.close(VarInt::from_u32(code), reason);
        }
        let said = futures::future::join_all(all.iter().map(Endpoint::wait_idle));
        // Peers that are gone do not answer, and they need not.
        let _ = tokio::time::timeout(Duration::from_millis(500), said).await;
    }
}

fn endpoint(address: SocketAddr, server: Option<quinn::ServerConfig>) -> io::Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), server, socket(address)?, Arc::new(TokioRuntime))
}

fn socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    let options = socket2::SockRef::from(&socket);
    // Less is slower, not wrong.
    let _ = options.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = options.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket)
}

/// What a connection was lost by.
pub(crate) fn connect_error(error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::TransportError(error) if u64::from(error.code) >= CRYPTO_ERROR => {
            ConnectError::CertificateInvalid(error.to_string())
        }
        ConnectionError::ConnectionClosed(close) => ConnectError::Refused(close.to_string()),
        ConnectionError::ApplicationClosed(close) => ConnectError::Refused(close.to_string()),
        other => ConnectError::Unreachable(other.to_string()),
    }
}

/// One that dials.
pub(crate) struct Incoming {
    incoming: quinn::Incoming,
    /// What it is shown, or what was in force just before.
    shown: Arc<InForce>,
}

impl Incoming {
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Turns it away without a handshake.
    pub(crate) fn refuse(self) {
        self.incoming.refuse();
    }

    /// Makes sure that it can be reached where it says it is, at no cost in memory (RFC 9000 section 8.1.2). Says
    /// whether that was still to be done, and returns it where not.
    pub(crate) fn validated(self) -> Option<Self> {
        if self.incoming.remote_address_validated() || !self.incoming.may_retry() {
            return Some(self);
        }
        match self.incoming.retry() {
            Ok(()) => None,
            Err(error) => Some(Self { incoming: error.into_incoming(), ..self }),
        }
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// The reason as one word, and a sentence. Refusals of certificates have been counted where they were judged and
    /// carry no word.
    pub(crate) async fn handshake(
        self,
    ) -> Result<Connection, (Option<&'static str>, ConnectError)> {
        let connecting = match self.incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => return Err((reason(&error), connect_error(error))),
        };
        match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(Ok(connection)) => {
                Connection::new(connection, None, &self.shown).map_err(|error| (None, error))
            }
            Ok(Err(error)) => Err((reason(&error), connect_error(error))),
            Err(_) => {
                let slow = "the handshake took too long".to_owned();
                Err((Some("timeout"), ConnectError::Unreachable(slow)))
            }
        }
    }
}

fn reason(error: &ConnectionError) -> Option<&'static str> {
    match error {
        ConnectionError::TransportError(error) => {
            match u64::from(error.code).checked_sub(CRYPTO_ERROR) {
                Some(ALERT_CERTIFICATE_REQUIRED) => Some("no_certificate"),
                Some(ALERT_NO_APPLICATION_PROTOCOL) => Some("protocol"),
                Some(_) => None,
                None => Some("transport"),
            }
        }
        ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => {
            Some("refused_by_peer")
        }
        ConnectionError::TimedOut => Some("timeout"),
        _ => Some("transport"),
    }
}

/// An authenticated peer.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    inner: quinn::Connection,
    /// Its own socket, where this side has dialled.
    own: Option<Endpoint>,
    about: Arc<About>,
}

/// What both ends have shown.
#[derive(Debug)]
struct About {
    peer: GatewayId,
    chain: Vec<CertificateDer<'static>>,
    span: Span,
    serial: u64,
    /// Held by each half of each stream, and here.
    halves: Arc<()>,
}

impl About {
    /// None where the chain names no gateway.
    fn new(chain: Vec<CertificateDer<'static>>, shown: &InForce) -> Option<Self> {
        let peer = verifier::accepted(&chain)?;
        let until = Validity::of(&chain).ok()?.until.min(shown.identity.valid().until);
        let span = Span { made: now(), until };
        Some(Self { peer, chain, span, serial: shown.serial, halves: Arc::default() })
    }
}

impl Connection {
    fn new(
        inner: quinn::Connection,
        own: Option<Endpoint>,
        shown: &InForce,
    ) -> Result<Self, ConnectError> {
        let chain = inner.peer_identity().and_then(|identity: Box<dyn Any>| {
            identity.downcast::<Vec<CertificateDer<'static>>>().ok()
        });
        let about = chain.and_then(|chain| About::new(*chain, shown));
        let nobody = || ConnectError::CertificateInvalid("the peer has no name".to_owned());
        let about = Arc::new(about.ok_or_else(nobody)?);
        Ok(Self { inner, own, about })
    }

    /// Goes on from another port, where this side has dialled: the connection stays, and whatever has forgotten the way of
    /// the old port finds one for the new.
    pub(crate) fn try_another_path(&self) {
        let moved = self.own.as_ref().map(|own| {
            let address = own.local_addr()?;
            own.rebind(socket(SocketAddr::new(address.ip(), 0))?)
        });
        if let Some(Err(error)) = moved {
            tracing::debug!(peer = %self.peer(), "no other path: {error}");
        }
    }

    /// Who is on the other end.
    pub(crate) fn peer(&self) -> &GatewayId {
        &self.about.peer
    }

    /// When it was made, and when the first certificate of both ends expires.
    pub(crate) fn span(&self) -> Span {
        self.about.span
    }

    /// Which of this gateway's identities the peer was shown.
    pub(crate) fn serial(&self) -> u64 {
        self.about.serial
    }

    /// The certificates that the peer has shown.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.about.chain
    }

    /// Whether any stream is open, whoever has opened it; control streams do not count.
    pub(crate) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.about.halves) > 1
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Opens a stream; waits while the peer allows no more.
    pub(crate) async fn open(&self) -> Result<(SendStream, RecvStream), StreamError> {
        let (send, recv) = self.inner.open_bi().await?;
        Ok(self.stream(send, recv))
    }

    /// The next stream that the peer opens.
    pub(crate) async fn accept(&self) -> Result<(SendStream, RecvStream), StreamError> {
        let (send, recv) = self.inner.accept_bi().await?;
        Ok(self.stream(send, recv))
    }

    fn stream(&self, send: quinn::SendStream, recv: quinn::RecvStream) -> (SendStream, RecvStream) {
        let half = || Some(Arc::clone(&self.about.halves));
        (SendStream::new(send, half()), RecvStream::new(recv, half()))
    }

    /// Opens the control stream to the peer.
    pub(crate) async fn open_control(&self) -> Result<SendStream, StreamError> {
        Ok(SendStream::new(self.inner.open_uni().await?, None))
    }

    /// The control stream of the peer.
    pub(crate) async fn accept_control(&self) -> Result<RecvStream, StreamError> {
        Ok(RecvStream::new(self.inner.accept_uni().await?, None))
    }

    /// Sends a datagram of a UDP flow, as [`crate::wire::encode_datagram`] writes it, at once or not at all.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn send_datagram(&self, datagram: &Bytes) -> Result<(), Dropped> {
        datagram::send(&self.inner, datagram)
    }

    /// The datagrams that the peer sends. To be asked for once, after its control stream.
    pub(crate) fn datagrams(&self) -> Datagrams {
        Datagrams::new(self.inner.clone())
    }

    /// Packets received so far, and the smoothed round trip.
    pub(crate) fn heard(&self) -> (u64, Duration) {
        let stats = self.inner.stats();
        (stats.udp_rx.datagrams, stats.path.rtt)
    }

    /// Closes it at once, with every stream.
    pub(crate) fn close(&self, reason: CloseReason) {
        let (code, reason) = reason.parts();
        self.inner.close(VarInt::from_u32(code), reason);
    }

    /// Waits until it is closed, and says by what.
    pub(crate) async fn closed(&self) -> ConnectError {
        connect_error(self.inner.closed().await)
    }

    /// By what it was closed, if it is.
    pub(crate) fn close_reason(&self) -> Option<ConnectError> {
        self.inner.close_reason().map(connect_error)
    }
}
