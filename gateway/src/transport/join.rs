//! The door for those that have no certificate yet: one stream each, over QUIC or TCP, to wherever the gateway brings it.
//!
//! The outer TLS hides what is carried from those who only listen, and proves nothing: neither end knows the other by it.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Carrier, CloseReason, ConnectError, StreamError, both, quic, tcp};

/// The application protocol of the door, over QUIC and over TCP.
pub(crate) const ALPN: &[u8] = b"landbridge-join/1";
/// What may be under way to a gateway of somebody who has not shown a certificate: all that joining takes, which is some
/// tens of kilobytes, and then some.
pub(crate) const WINDOW: u32 = 256 << 10;
/// How long QUIC has for itself before TCP is tried beside it. Nobody waits for a joining but a person.
const ALONE: Duration = Duration::from_secs(1);

/// What a gateway without a door is told by.
pub(super) const NO_DOOR: &str = "it lets nobody in: it is no gateway of the hub";

/// Somebody who knocks.
#[derive(Debug)]
pub(crate) struct Joining(Knocks);

#[derive(Debug)]
enum Knocks {
    Quic(quic::Connection),
    Tcp(Box<tcp::Secured>),
}

impl Joining {
    pub(super) fn quic(connection: quic::Connection) -> Self {
        Self(Knocks::Quic(connection))
    }

    pub(super) fn tcp(secured: Box<tcp::Secured>) -> Self {
        Self(Knocks::Tcp(secured))
    }

    /// By what it has come.
    pub(crate) fn carrier(&self) -> Carrier {
        match &self.0 {
            Knocks::Quic(_) => Carrier::Quic,
            Knocks::Tcp(_) => Carrier::Tcp,
        }
    }

    /// Turns it away.
    pub(crate) fn refuse(self, reason: CloseReason) {
        match self.0 {
            Knocks::Quic(connection) => connection.close(reason),
            // Over TCP nothing but an end can be said.
            Knocks::Tcp(secured) => drop(secured),
        }
    }

    /// Waits for its stream.
    pub(crate) async fn stream(self) -> Result<JoinStream, StreamError> {
        Ok(match self.0 {
            Knocks::Quic(connection) => connection.joining().await?.into(),
            Knocks::Tcp(secured) => secured.into(),
        })
    }
}

/// What is carried of somebody who joins, at both ends.
#[derive(Debug)]
pub(crate) struct JoinStream(Carries);

#[derive(Debug)]
enum Carries {
    Quic(Box<quic::JoinStream>),
    Tcp(Box<tcp::Secured>),
}

impl From<quic::JoinStream> for JoinStream {
    fn from(stream: quic::JoinStream) -> Self {
        Self(Carries::Quic(Box::new(stream)))
    }
}

impl From<Box<tcp::Secured>> for JoinStream {
    fn from(stream: Box<tcp::Secured>) -> Self {
        Self(Carries::Tcp(stream))
    }
}

impl JoinStream {
    /// Ends it, once what was written last has arrived if it was finished.
    pub(crate) async fn end(self, reason: CloseReason) {
        match self.0 {
            Carries::Quic(stream) => stream.end(reason).await,
            Carries::Tcp(stream) => drop(stream),
        }
    }
}

impl AsyncRead for JoinStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Carries::Quic(stream) => pin!(stream).poll_read(cx, to),
            Carries::Tcp(stream) => pin!(stream).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for JoinStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Carries::Quic(stream) => pin!(stream).poll_write(cx, bytes),
            Carries::Tcp(stream) => pin!(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Carries::Quic(stream) => pin!(stream).poll_flush(cx),
            Carries::Tcp(stream) => pin!(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Carries::Quic(stream) => pin!(stream).poll_shutdown(cx),
            Carries::Tcp(stream) => pin!(stream).poll_shutdown(cx),
        }
    }
}

/// Knocks at the door of the gateway at an address: over QUIC, and over TCP where that takes long or comes to nothing.
pub(crate) async fn dial(address: SocketAddr) -> Result<JoinStream, ConnectError> {
    let mut quic = pin!(quic::knock(address));
    let failed = match tokio::time::timeout(ALONE, &mut quic).await {
        Ok(Ok(stream)) => return Ok(stream.into()),
        // Whoever refuses over one refuses over the other.
        Ok(Err(ConnectError::Unreachable(why))) => Some(ConnectError::Unreachable(why)),
        Ok(Err(refused)) => return Err(refused),
        Err(_) => None,
    };
    let over_tcp = async { tcp::knock(address).await.map(|secured| Box::new(secured).into()) };
    let Some(failed) = failed else {
        let mut over_tcp = pin!(over_tcp);
        return tokio::select! {
            biased;
            done = &mut quic => match done {
                Ok(stream) => Ok(stream.into()),
                Err(error) => over_tcp.await.map_err(|tcp| both(error, tcp)),
            },
            done = &mut over_tcp => match done {
                Ok(stream) => Ok(stream),
                Err(error) => quic.await.map(Into::into).map_err(|quic| both(quic, error)),
            },
        };
    };
    over_tcp.await.map_err(|error| both(failed, error))
}
