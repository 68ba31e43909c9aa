//! Links over QUIC: the transport that is used wherever UDP passes.
//!
//! Everything of quinn is in here and below: its state machine, and what drives that.

mod config;
mod datagram;
mod driver;
mod join;
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
use quinn_proto::{ConnectionError, ServerConfig, VarInt};
use rustls_pki_types::CertificateDer;

use self::{config::Configs, driver::Endpoint};
pub(super) use self::{
    datagram::Datagrams,
    join::{JoinStream, dial as knock},
    stream::{RecvStream, SendStream},
};
use super::{CloseReason, ConnectError, Dropped, HANDSHAKE, StreamError, tls::Tls};

/// The name that is asked for in a handshake. It is not sent and not checked: certificates name SPIFFE ids.
const SERVER_NAME: &str = "landbridge";
/// TLS alerts arrive as QUIC error codes from here on (RFC 9001 section 4.8).
const CRYPTO_ERROR: u64 = 0x100;
const ALERT_CERTIFICATE_REQUIRED: u64 = 116;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;
/// Asked of the kernel, which gives what `rmem_max` allows: 4 MiB are 3 ms at 10 Gbit/s, more than a task waits for
/// its turn.
const SOCKET_BUFFER: usize = 4 << 20;

/// A socket for those that dial, and one more for each connection that is dialled.
#[derive(Debug)]
pub(super) struct Quic {
    endpoint: Endpoint,
    /// Those with connections, and the latest; as many as there are links that were dialled.
    dialling: Mutex<Vec<Endpoint>>,
    configs: Configs,
}

impl Quic {
    /// Binds the socket.
    pub(super) fn bind(address: SocketAddr, tls: Arc<Tls>) -> io::Result<Self> {
        let configs = Configs::new(tls).map_err(io::Error::other)?;
        let server = configs.server().map_err(io::Error::other)?;
        let endpoint = endpoint(address, Some(server))?;
        Ok(Self { endpoint, dialling: Mutex::default(), configs })
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_address()
    }

    /// Dials a gateway of `expected`.
    ///
    /// Each time from a port of its own: whatever stands before several replicas, a load balancer or connection tracking,
    /// brings all packets of a port to the one that it has chosen for it.
    pub(super) async fn dial(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
    ) -> Result<Connection, ConnectError> {
        let unreachable = |problem: &dyn ToString| ConnectError::Unreachable(problem.to_string());
        let config = self.configs.client(expected).map_err(|problem| unreachable(&problem))?;
        let endpoint = self.dialling().map_err(|problem| unreachable(&problem))?;
        let connecting = endpoint
            .connect(config, address, SERVER_NAME)
            .map_err(|problem| unreachable(&problem))?;
        match tokio::time::timeout(HANDSHAKE, connecting.established()).await {
            Ok(Ok(inner)) => Ok(Connection { inner, own: Some(endpoint) }),
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

    /// The next one that dials; none once this is closed.
    pub(super) async fn accept(&self) -> Option<Incoming> {
        self.endpoint.accept().await.map(Incoming)
    }

    /// Takes no more connections.
    pub(super) fn refuse_new(&self) {
        self.endpoint.refuse_new();
    }

    /// Closes every connection and waits until that has been said.
    pub(super) async fn close(&self, reason: CloseReason) {
        let (code, reason) = reason.parts();
        let mut all = {
            let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *dialling)
        };
        all.push(self.endpoint.clone());
        for endpoint in &all {
            endpoint.close(VarInt::from_u32(code), reason.as_bytes());
        }
        let said = futures::future::join_all(all.iter().map(Endpoint::wait_idle));
        // Peers that are gone do not answer, and they need not.
        let _ = tokio::time::timeout(Duration::from_millis(500), said).await;
    }
}

fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    Endpoint::new(socket(address)?, server)
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
fn connect_error(error: ConnectionError) -> ConnectError {
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
pub(super) struct Incoming(driver::Incoming);

impl Incoming {
    pub(super) fn remote_address(&self) -> SocketAddr {
        self.0.remote_address()
    }

    pub(super) fn refuse(self) {
        self.0.refuse();
    }

    /// Makes sure that it can be reached where it says it is, at no cost in memory (RFC 9000 section 8.1.2). Says
    /// whether that was still to be done, and returns it where not.
    pub(super) fn validated(self) -> Option<Self> {
        self.0.validated().map(Self)
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// The reason as one word, and a sentence. Refusals of certificates carry no word.
    pub(super) async fn handshake(
        self,
    ) -> Result<Connection, (Option<&'static str>, ConnectError)> {
        let connecting = match self.0.accept() {
            Ok(connecting) => connecting,
            Err(error) => return Err((reason(&error), connect_error(error))),
        };
        match tokio::time::timeout(HANDSHAKE, connecting.established()).await {
            Ok(Ok(inner)) => Ok(Connection { inner, own: None }),
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

/// A connection whose handshake is done.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    inner: driver::Connection,
    /// Its own socket, where this side has dialled.
    own: Option<Endpoint>,
}

impl Connection {
    /// What the peer has shown.
    pub(super) fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        let identity: Box<dyn Any> = self.inner.peer_identity()?;
        identity.downcast::<Vec<CertificateDer<'static>>>().ok().map(|chain| *chain)
    }

    /// Goes on from another port, where this side has dialled.
    pub(super) fn try_another_path(&self) -> io::Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let address = own.local_address()?;
        own.rebind(socket(SocketAddr::new(address.ip(), 0))?)
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    pub(super) async fn open(&self) -> Result<(SendStream, RecvStream), StreamError> {
        let (send, recv) = self.inner.open_bi().await?;
        Ok((SendStream::new(send), RecvStream::new(recv)))
    }

    pub(super) async fn accept(&self) -> Result<(SendStream, RecvStream), StreamError> {
        let (send, recv) = self.inner.accept_bi().await?;
        Ok((SendStream::new(send), RecvStream::new(recv)))
    }

    pub(super) async fn open_control(&self) -> Result<SendStream, StreamError> {
        Ok(SendStream::new(self.inner.open_uni().await?))
    }

    pub(super) async fn accept_control(&self) -> Result<RecvStream, StreamError> {
        Ok(RecvStream::new(self.inner.accept_uni().await?))
    }

    pub(super) fn send_datagram(&self, datagram: &Bytes) -> Result<(), Dropped> {
        datagram::send(&self.inner, datagram)
    }

    pub(super) fn datagrams(&self) -> Datagrams {
        Datagrams::new(self.inner.clone())
    }

    /// Packets received so far, and the smoothed round trip.
    pub(super) fn heard(&self) -> (u64, Duration) {
        let stats = self.inner.stats();
        (stats.udp_rx.datagrams, stats.path.rtt)
    }

    pub(super) fn close(&self, reason: CloseReason) {
        let (code, reason) = reason.parts();
        self.inner.close(VarInt::from_u32(code), reason.as_bytes());
    }

    pub(super) async fn closed(&self) -> ConnectError {
        connect_error(self.inner.closed().await)
    }

    pub(super) fn close_reason(&self) -> Option<ConnectError> {
        self.inner.close_reason().map(connect_error)
    }
}
