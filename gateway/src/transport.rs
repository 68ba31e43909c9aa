//! How links are carried: over QUIC, and over TLS over TCP where UDP does not pass. Nothing of what does that is known
//! elsewhere.
//!
//! A [`Transport`] dials and is dialled, a [`Connection`] is an authenticated peer with streams in both directions,
//! and a stream that is dropped before it was finished is reset: half a transfer must never look like a whole one.

mod join;
mod quic;
mod stream;
mod tcp;
mod tls;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use landbridge_model::ClusterId;
use rustls_pki_types::CertificateDer;
use thiserror::Error;

#[cfg(test)]
pub(crate) use self::{join::ALPN as ALPN_JOIN, tcp::knock as knock_over_tcp};
pub(crate) use self::{
    join::{JoinStream, Joining, WINDOW as JOIN_WINDOW, dial as knock},
    stream::{Datagrams, Dropped, RecvStream, SendStream, StreamError},
    tls::{Knock, provider},
};
use self::{quic::Quic, tcp::Tcp, tls::Tls};
use crate::{
    credentials::{Credentials, InForce},
    identity::GatewayId,
    pki::Validity,
    renewal::Span,
    shared::now,
    tasks::Tasks,
    verifier::{self, Trust},
};

/// The application protocol of a link over QUIC.
pub(crate) const ALPN: &[u8] = b"landbridge/1";
/// How long QUIC has for itself before TCP is tried beside it: three round trips between far continents are longer, and
/// then QUIC is done first all the same; both together leave whoever waits well within a second.
const ALONE: Duration = Duration::from_millis(300);
/// Ports that are tried for both sockets where any will do.
const PORTS: usize = 16;
/// How long a handshake may take: three of the longest round trips, and then some.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection closes after so much silence: far beyond suspicion, so that a hiccup cuts nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Streams that a peer may have open at once on one connection: calls, not bytes, run out first.
const MAX_STREAMS: u32 = 16_384;
/// What one stream may have under way: 1 Gbit/s over 32 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// What all streams of a connection may have under way. A stream whose reader has stopped holds up to its own window
/// of it: 64 of those leave the others alone.
const CONNECTION_WINDOW: u32 = 256 << 20;
/// Datagrams that may wait for the path, and for this process: 7 ms at 5 Gbit/s. What waits longer is of no use to
/// those who chose UDP.
const DATAGRAMS: usize = 4 << 20;

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
    const ALL: [Self; 7] = [
        Self::Going,
        Self::NotListed,
        Self::Protocol,
        Self::TooMany,
        Self::Expired,
        Self::Replaced,
        Self::NotTrusted,
    ];

    /// The one with this number; none where this build knows of none.
    fn of(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.parts().0 == code)
    }

    fn parts(self) -> (u32, &'static str) {
        match self {
            Self::Going => (0, "going"),
            Self::NotListed => (1, "not listed"),
            Self::Protocol => (2, "protocol"),
            Self::TooMany => (3, "too many connections"),
            Self::Expired => (4, "certificates have expired"),
            Self::Replaced => (5, "replaced"),
            Self::NotTrusted => (6, "root no longer trusted"),
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

/// What carries a link.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Carrier {
    /// QUIC over UDP, wherever that passes.
    Quic,
    /// TLS over TCP.
    Tcp,
}

impl Carrier {
    /// One word for metrics and objects.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// What dials and is dialled.
#[derive(Debug)]
pub(crate) struct Transport {
    quic: Quic,
    tcp: Tcp,
    credentials: Arc<Credentials>,
    /// Whether nothing comes of dialling over QUIC.
    #[cfg(test)]
    udp_is_blocked: std::sync::atomic::AtomicBool,
}

impl Transport {
    /// Binds both sockets to the same port. Peers are judged by `trust`, and shown the certificate in force. With a door those
    /// may knock that have no certificate yet.
    pub(crate) fn bind(
        address: SocketAddr,
        credentials: Arc<Credentials>,
        trust: Arc<Trust>,
        tasks: &Tasks,
        has_door: bool,
    ) -> io::Result<Self> {
        let tls = Arc::new(Tls::new(Arc::clone(&credentials), trust, has_door));
        let mut tries = 0;
        let (quic, tcp) = loop {
            tries += 1;
            let quic = Quic::bind(address, Arc::clone(&tls))?;
            match Tcp::bind(quic.local_address()?, Arc::clone(&tls), tasks.clone()) {
                Ok(tcp) => break (quic, tcp),
                // Somebody has that port.
                Err(_) if address.port() == 0 && tries < PORTS => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            quic,
            tcp,
            credentials,
            #[cfg(test)]
            udp_is_blocked: false.into(),
        })
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.quic.local_address()
    }

    /// Lets dialling over QUIC come to nothing from now on, or no longer.
    #[cfg(test)]
    pub(crate) fn block_udp(&self, block: bool) {
        self.udp_is_blocked.store(block, std::sync::atomic::Ordering::Relaxed);
    }

    /// Dials a gateway of `expected`: over QUIC, and where that takes long over TCP beside it. The first that is done is
    /// the connection. Before the other side's first word it is not known whether it took this one.
    pub(crate) async fn dial(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
    ) -> Result<Connection, ConnectError> {
        let quic = self.dial_quic(address, expected);
        tokio::pin!(quic);
        let failed = match tokio::time::timeout(ALONE, &mut quic).await {
            Ok(Err(ConnectError::Unreachable(why))) => Some(ConnectError::Unreachable(why)),
            // Whoever refuses over one refuses over the other.
            Ok(done) => return done,
            Err(_) => None,
        };
        let tcp = self.dial_tcp(address, expected);
        tokio::pin!(tcp);
        let Some(failed) = failed else {
            return tokio::select! {
                biased;
                done = &mut quic => match done {
                    Err(ConnectError::Unreachable(why)) => {
                        tcp.await.map_err(|error| both(ConnectError::Unreachable(why), error))
                    }
                    done => done,
                },
                done = &mut tcp => match done {
                    Err(error) => quic.await.map_err(|quic| both(quic, error)),
                    done => done,
                },
            };
        };
        tcp.await.map_err(|error| both(failed, error))
    }

    /// Dials over QUIC alone.
    pub(crate) async fn dial_quic(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
    ) -> Result<Connection, ConnectError> {
        #[cfg(test)]
        if self.udp_is_blocked.load(std::sync::atomic::Ordering::Relaxed) {
            tokio::time::sleep(HANDSHAKE).await;
            return Err(ConnectError::Unreachable("UDP is blocked".to_owned()));
        }
        let shown = self.credentials.load();
        let connection = self.quic.dial(address, expected).await?;
        Connection::new(Inner::Quic(connection), &shown)
    }

    /// Dials over TCP alone.
    pub(crate) async fn dial_tcp(
        &self,
        address: SocketAddr,
        expected: &ClusterId,
    ) -> Result<Connection, ConnectError> {
        let shown = self.credentials.load();
        let connection = self.tcp.dial(address, expected).await?;
        Connection::new(Inner::Tcp(connection), &shown)
    }

    /// The next one that dials; none once this transport is closed.
    pub(crate) async fn accept(&self) -> Option<Incoming> {
        let incoming = tokio::select! {
            incoming = self.quic.accept() => Dialler::Quic(Box::new(incoming?)),
            incoming = self.tcp.accept() => Dialler::Tcp(incoming),
        };
        Some(Incoming { incoming, shown: self.credentials.load() })
    }

    /// Takes no more connections.
    pub(crate) fn refuse_new(&self) {
        self.quic.refuse_new();
        self.tcp.refuse_new();
    }

    /// Closes every connection and waits until that has been said. Those over TCP end with their links.
    pub(crate) async fn close(&self) {
        self.quic.close(CloseReason::Going).await;
    }
}

/// Why neither way led there. A refusal tells more than silence.
fn both(quic: ConnectError, tcp: ConnectError) -> ConnectError {
    match (quic, tcp) {
        (ConnectError::Unreachable(quic), ConnectError::Unreachable(tcp)) => {
            ConnectError::Unreachable(format!("over QUIC: {quic}; over TCP: {tcp}"))
        }
        (ConnectError::Unreachable(_), refused) | (refused, _) => refused,
    }
}

/// One that dials.
pub(crate) struct Incoming {
    incoming: Dialler,
    /// What it is shown, or what was in force just before.
    shown: Arc<InForce>,
}

/// What has come of a handshake.
pub(crate) enum Shaken {
    /// Somebody who has no certificate yet.
    Joins(Joining),
    /// A peer.
    Link(Connection),
    /// Nothing: it was half of what makes a connection and the other half has that, or whoever dialled has thought better of
    /// it.
    Nothing,
}

/// How it dials.
enum Dialler {
    Quic(Box<quic::Incoming>),
    Tcp(tcp::Incoming),
}

impl Incoming {
    pub(crate) fn remote_address(&self) -> SocketAddr {
        match &self.incoming {
            Dialler::Quic(incoming) => incoming.remote_address(),
            Dialler::Tcp(incoming) => incoming.remote_address(),
        }
    }

    pub(crate) fn carrier(&self) -> Carrier {
        match &self.incoming {
            Dialler::Quic(_) => Carrier::Quic,
            Dialler::Tcp(_) => Carrier::Tcp,
        }
    }

    /// Turns it away without a handshake.
    pub(crate) fn refuse(self) {
        match self.incoming {
            Dialler::Quic(incoming) => incoming.refuse(),
            Dialler::Tcp(incoming) => drop(incoming),
        }
    }

    /// Makes sure that it can be reached where it says it is, at no cost in memory. Says whether that was still to be
    /// done, and returns it where not. TCP has done so by itself.
    pub(crate) fn validated(self) -> Option<Self> {
        let Self { incoming, shown } = self;
        let incoming = match incoming {
            Dialler::Quic(incoming) => Dialler::Quic(Box::new(incoming.validated()?)),
            Dialler::Tcp(incoming) => Dialler::Tcp(incoming),
        };
        Some(Self { incoming, shown })
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// The reason as one word, and a sentence. Refusals of certificates have been counted where they were judged and
    /// carry no word.
    pub(crate) async fn handshake(self) -> Result<Shaken, (Option<&'static str>, ConnectError)> {
        let link = |inner: Inner, shown: &InForce| {
            Connection::new(inner, shown).map(Shaken::Link).map_err(|error| (None, error))
        };
        match self.incoming {
            Dialler::Quic(incoming) => {
                let connection = incoming.handshake().await?;
                if connection.joins() {
                    return Ok(Shaken::Joins(Joining::quic(connection)));
                }
                let shaken = link(Inner::Quic(connection.clone()), &self.shown)?;
                connection.widen();
                Ok(shaken)
            }
            Dialler::Tcp(incoming) => match incoming.handshake(self.shown).await? {
                tcp::Shaken::Joins(secured) => Ok(Shaken::Joins(Joining::tcp(secured))),
                tcp::Shaken::Link(connection, shown) => link(Inner::Tcp(connection), &shown),
                tcp::Shaken::Nothing => Ok(Shaken::Nothing),
            },
        }
    }
}

/// An authenticated peer.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    inner: Inner,
    about: Arc<About>,
}

/// What carries a connection.
#[derive(Clone, Debug)]
enum Inner {
    Quic(quic::Connection),
    Tcp(tcp::Connection),
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
    fn new(inner: Inner, shown: &InForce) -> Result<Self, ConnectError> {
        let chain = match &inner {
            Inner::Quic(inner) => inner.chain(),
            Inner::Tcp(inner) => Some(inner.chain()),
        };
        let about = chain.and_then(|chain| About::new(chain, shown));
        let nobody = || ConnectError::CertificateInvalid("the peer has no name".to_owned());
        Ok(Self { inner, about: Arc::new(about.ok_or_else(nobody)?) })
    }

    /// What carries it.
    pub(crate) fn carrier(&self) -> Carrier {
        match &self.inner {
            Inner::Quic(_) => Carrier::Quic,
            Inner::Tcp(_) => Carrier::Tcp,
        }
    }

    /// Goes on from another port, where this side has dialled: the connection stays, and whatever has forgotten the way of
    /// the old port finds one for the new. TCP has no other path.
    pub(crate) fn try_another_path(&self) {
        let moved = match &self.inner {
            Inner::Quic(inner) => inner.try_another_path(),
            Inner::Tcp(_) => Ok(()),
        };
        if let Err(error) = moved {
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
        match &self.inner {
            Inner::Quic(inner) => inner.remote_address(),
            Inner::Tcp(inner) => inner.remote_address(),
        }
    }

    /// Opens a stream; waits while the peer allows no more.
    pub(crate) async fn open(&self) -> Result<(SendStream, RecvStream), StreamError> {
        match &self.inner {
            Inner::Quic(inner) => {
                let (send, recv) = inner.open().await?;
                Ok((SendStream::quic(send, self.half()), RecvStream::quic(recv, self.half())))
            }
            Inner::Tcp(inner) => {
                let (send, recv) = inner.open().await?;
                Ok((SendStream::tcp(send, self.half()), RecvStream::tcp(recv, self.half())))
            }
        }
    }

    /// The next stream that the peer opens.
    pub(crate) async fn accept(&self) -> Result<(SendStream, RecvStream), StreamError> {
        match &self.inner {
            Inner::Quic(inner) => {
                let (send, recv) = inner.accept().await?;
                Ok((SendStream::quic(send, self.half()), RecvStream::quic(recv, self.half())))
            }
            Inner::Tcp(inner) => {
                let (send, recv) = inner.accept().await?;
                Ok((SendStream::tcp(send, self.half()), RecvStream::tcp(recv, self.half())))
            }
        }
    }

    fn half(&self) -> Option<Arc<()>> {
        Some(Arc::clone(&self.about.halves))
    }

    /// Opens the control stream to the peer.
    pub(crate) async fn open_control(&self) -> Result<SendStream, StreamError> {
        match &self.inner {
            Inner::Quic(inner) => Ok(SendStream::quic(inner.open_control().await?, None)),
            Inner::Tcp(inner) => Ok(SendStream::tcp(inner.open_control().await?, None)),
        }
    }

    /// The control stream of the peer.
    pub(crate) async fn accept_control(&self) -> Result<RecvStream, StreamError> {
        match &self.inner {
            Inner::Quic(inner) => Ok(RecvStream::quic(inner.accept_control().await?, None)),
            Inner::Tcp(inner) => Ok(RecvStream::tcp(inner.accept_control().await?, None)),
        }
    }

    /// Sends a datagram of a UDP flow, as [`crate::wire::encode_datagram`] writes it, at once or not at all.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn send_datagram(&self, datagram: &Bytes) -> Result<(), Dropped> {
        match &self.inner {
            Inner::Quic(inner) => inner.send_datagram(datagram),
            Inner::Tcp(inner) => inner.send_datagram(datagram),
        }
    }

    /// The datagrams that the peer sends. To be asked for once, after its control stream.
    pub(crate) fn datagrams(&self) -> Datagrams {
        match &self.inner {
            Inner::Quic(inner) => Datagrams::quic(inner.datagrams()),
            Inner::Tcp(inner) => Datagrams::tcp(inner.datagrams()),
        }
    }

    /// A number that changes whenever the peer is heard, and the smoothed round trip.
    pub(crate) fn heard(&self) -> (u64, Duration) {
        match &self.inner {
            Inner::Quic(inner) => inner.heard(),
            Inner::Tcp(inner) => inner.heard(),
        }
    }

    /// Closes it at once, with every stream.
    pub(crate) fn close(&self, reason: CloseReason) {
        match &self.inner {
            Inner::Quic(inner) => inner.close(reason),
            Inner::Tcp(inner) => inner.close(reason),
        }
    }

    /// Waits until it is closed, and says by what.
    pub(crate) async fn closed(&self) -> ConnectError {
        match &self.inner {
            Inner::Quic(inner) => inner.closed().await,
            Inner::Tcp(inner) => inner.closed().await,
        }
    }

    /// By what it was closed, if it is.
    pub(crate) fn close_reason(&self) -> Option<ConnectError> {
        match &self.inner {
            Inner::Quic(inner) => inner.close_reason(),
            Inner::Tcp(inner) => inner.close_reason(),
        }
    }
}
