//! QUIC at the door: one stream of a connection whose other end has no certificate.
//!
//! Until it is known that a certificate was shown, a peer may have one stream open and as much under way as all of a joining
//! is worth: what strangers send and nobody reads must not fill memory.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn_proto::{
    ConnectionError, ConnectionId, ServerConfig, TransportConfig, VarInt,
    crypto::{
        self, Keys, Session, UnsupportedVersion,
        rustls::{QuicClientConfig, QuicServerConfig},
    },
    transport_parameters::TransportParameters,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    ALERT_NO_APPLICATION_PROTOCOL, CRYPTO_ERROR, Connection, Endpoint, SERVER_NAME, config,
    connect_error,
    driver::{self, ReadError, WriteError},
    endpoint,
};
use crate::transport::{
    ALPN, CONNECTION_WINDOW, CloseReason, ConnectError, HANDSHAKE, MAX_STREAMS, StreamError, join,
    tls::{self, BoxedError, Tls},
};

/// How long the last bytes may take to arrive, once all has been said.
const LAST: Duration = Duration::from_secs(1);

/// Begins each connection with a configuration of its own, which learns what that one asks for.
struct WithDoor {
    tls: Arc<Tls>,
    /// What packets are read with before, and what a connection gets where the other cannot be made.
    base: Arc<QuicServerConfig>,
}

impl crypto::ServerConfig for WithDoor {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.base.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, original: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.base.retry_tag(version, original, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let own = self.tls.server_of_one(&[ALPN]).ok();
        let own = own.and_then(|tls| QuicServerConfig::try_from(tls).ok()).map(Arc::new);
        own.unwrap_or_else(|| Arc::clone(&self.base)).start_session(version, params)
    }
}

/// For being dialled by peers, and by those who want to become ones.
pub(super) fn server(
    tls: &Arc<Tls>,
    base: QuicServerConfig,
) -> Result<(ServerConfig, TransportConfig), BoxedError> {
    let with_door = WithDoor { tls: Arc::clone(tls), base: Arc::new(base) };
    let mut transport = config::transport()?;
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .receive_window(VarInt::from_u32(join::WINDOW));
    Ok((ServerConfig::with_crypto(Arc::new(with_door)), transport))
}

impl Connection {
    /// Whether it wants to join and has shown no certificate.
    pub(in crate::transport) fn joins(&self) -> bool {
        self.inner.protocol().as_deref() == Some(join::ALPN)
    }

    /// Gives a peer that has shown its certificate what a link has.
    pub(in crate::transport) fn widen(&self) {
        self.inner.widen(VarInt::from_u32(CONNECTION_WINDOW), VarInt::from_u32(MAX_STREAMS));
    }

    /// The one stream of somebody who joins.
    pub(in crate::transport) async fn joining(self) -> Result<JoinStream, StreamError> {
        let (send, recv) = self.inner.accept_bi().await?;
        Ok(JoinStream { send, recv, connection: self, finished: false })
    }
}

/// Knocks at the door of a gateway.
pub(in crate::transport) async fn dial(address: SocketAddr) -> Result<JoinStream, ConnectError> {
    match tokio::time::timeout(HANDSHAKE, connect(address)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Unreachable("the handshake took too long".to_owned())),
    }
}

async fn connect(address: SocketAddr) -> Result<JoinStream, ConnectError> {
    let problem = |problem: &dyn ToString| ConnectError::Unreachable(problem.to_string());
    let tls = tls::joining().map_err(|error| problem(&error))?;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| problem(&error))?;
    let mut config = quinn_proto::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(config::transport().map_err(|error| problem(&error))?));
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let own: Endpoint = endpoint(any, None).map_err(|error| problem(&error))?;
    let connecting = own.connect(config, address, SERVER_NAME).map_err(|error| problem(&error))?;
    let inner = connecting.established().await.map_err(refused)?;
    let (send, recv) = inner.open_bi().await.map_err(connect_error)?;
    let connection = Connection { inner, own: Some(own) };
    Ok(JoinStream { send, recv, connection, finished: false })
}

/// Why nobody is let in.
fn refused(error: ConnectionError) -> ConnectError {
    match &error {
        ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == CRYPTO_ERROR + ALERT_NO_APPLICATION_PROTOCOL =>
        {
            ConnectError::Refused(join::NO_DOOR.to_owned())
        }
        _ => connect_error(error),
    }
}

/// The one stream of a connection.
#[derive(Debug)]
pub(in crate::transport) struct JoinStream {
    send: driver::SendStream,
    recv: driver::RecvStream,
    connection: Connection,
    finished: bool,
}

impl JoinStream {
    /// Waits a little for what was written last to arrive, and says goodbye.
    pub(in crate::transport) async fn end(mut self, reason: CloseReason) {
        if self.finished {
            // Whoever is gone does not say that he has it.
            let _ = tokio::time::timeout(LAST, self.send.stopped()).await;
        }
        self.connection.close(reason);
    }
}

fn lost(error: &dyn ToString) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error.to_string())
}

impl AsyncRead for JoinStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let buffer = to.initialize_unfilled();
        let read: Result<_, ReadError> = ready!(self.get_mut().recv.poll_read(cx, buffer));
        to.advance(read.map_err(|error| lost(&error))?.unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for JoinStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written: Result<_, WriteError> = ready!(self.get_mut().send.poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| lost(&error)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.finished {
            this.finished = true;
            this.send.finish();
        }
        Poll::Ready(Ok(()))
    }
}
