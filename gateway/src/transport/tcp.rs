//! Links over TLS over TCP, with HTTP/2: for where UDP does not pass.
//!
//! Everything of HTTP/2 is in here and below. The dialler makes two connections, since only the client side of HTTP/2 opens
//! streams: [`half`] tells how each of them is used, and [`pair`] how the other side finds out which two belong together.

mod accept;
mod datagram;
mod dial;
mod half;
mod io;
mod join;
mod pair;
mod shared;
mod stream;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub(crate) use self::join::dial as knock;
pub(super) use self::{
    accept::{Incoming, Shaken},
    datagram::Datagrams,
    io::Secured,
    stream::{RecvStream, SendStream},
};
use self::{datagram::Sender, half::Requests, pair::Pairs, shared::Shared};
use super::{CloseReason, ConnectError, Dropped, MAX_STREAMS, StreamError, tls::Tls};
use crate::tasks::Tasks;

/// The application protocols of the connection on which the dialler opens streams, and of the other one.
const FORWARD: &[u8] = b"landbridge-h2/1";
const BACK: &[u8] = b"landbridge-h2-back/1";
/// Connections that may wait to be accepted: a thousand members that come back at once.
const BACKLOG: u32 = 1024;
/// The pause after a failure to accept: there are no descriptors, for which time is the only remedy.
const PAUSE: Duration = Duration::from_millis(100);
/// Which side has opened a stream, as the last bit of its number.
const DIALLER: u64 = 0;
const DIALLED: u64 = 1;

/// A listener, and what dials.
#[derive(Debug)]
pub(super) struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
    /// What those get that dial, where there is no door.
    acceptor: Acceptor,
    tls: Arc<Tls>,
    pairs: Arc<Pairs>,
    tasks: Tasks,
    refusing: CancellationToken,
}

#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Tcp {
    /// Listens beside the socket of QUIC, at the same address and port.
    pub(super) fn bind(address: SocketAddr, tls: Arc<Tls>, tasks: Tasks) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let server = tls.server(&[FORWARD, BACK]).map_err(std::io::Error::other)?;
        Ok(Self {
            listener: socket.listen(BACKLOG)?,
            address,
            acceptor: Acceptor(TlsAcceptor::from(Arc::new(server))),
            tls,
            pairs: Arc::default(),
            tasks,
            refusing: CancellationToken::new(),
        })
    }

    /// The next one that dials.
    pub(super) async fn accept(&self) -> Incoming {
        loop {
            match self.listener.accept().await {
                Ok((tcp, remote)) if !self.refusing.is_cancelled() => {
                    let acceptor = self.acceptor();
                    let (pairs, tasks) = (Arc::clone(&self.pairs), self.tasks.clone());
                    return Incoming { tcp, remote, acceptor, pairs, tasks };
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("a link over TCP cannot be accepted: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// For the next one: with a door it is one that learns what that asks for.
    fn acceptor(&self) -> Acceptor {
        let own = self.tls.has_door().then(|| self.tls.server_of_one(&[FORWARD, BACK]).ok());
        let own = own.flatten().map(|tls| Acceptor(TlsAcceptor::from(Arc::new(tls))));
        own.unwrap_or_else(|| self.acceptor.clone())
    }

    /// Takes no more connections.
    pub(super) fn refuse_new(&self) {
        self.refusing.cancel();
    }
}

fn unreachable(problem: &(impl ToString + ?Sized)) -> ConnectError {
    ConnectError::Unreachable(problem.to_string())
}

/// What the peer opens, as the tasks that run the connections hand it on.
#[derive(Debug)]
struct Opened {
    streams: mpsc::Receiver<(SendStream, RecvStream)>,
    control: oneshot::Receiver<RecvStream>,
    datagrams: oneshot::Receiver<RecvStream>,
}

fn incoming(side: u64, link: Option<String>) -> (half::Incoming, Opened) {
    // No more than there may be at once.
    let (streams, of_streams) = mpsc::channel(MAX_STREAMS as usize);
    let (control, of_control) = oneshot::channel();
    let (datagrams, of_datagrams) = oneshot::channel();
    let sink = half::Incoming {
        streams,
        control: Some(control),
        datagrams: Some(datagrams),
        side,
        link,
        held: Vec::new(),
    };
    (sink, Opened { streams: of_streams, control: of_control, datagrams: of_datagrams })
}

/// What ends both connections when it is dropped.
#[derive(Debug)]
struct Ends {
    shared: Arc<Shared>,
    requests: Requests,
    side: u64,
}

impl Ends {
    /// Why something failed: what is below it knows best, and may take a moment to tell.
    async fn why(&self, error: StreamError) -> ConnectError {
        let _ = tokio::time::timeout(PAUSE, self.shared.ended()).await;
        self.shared.closed_by().unwrap_or_else(|| unreachable(&error))
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.shared.lost(unreachable("nobody uses it"));
    }
}

/// A link whose handshakes are done.
#[derive(Clone, Debug)]
pub(super) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ends: Ends,
    streams: AsyncMutex<mpsc::Receiver<(SendStream, RecvStream)>>,
    control: Mutex<Option<oneshot::Receiver<RecvStream>>>,
    datagrams: Mutex<Option<oneshot::Receiver<RecvStream>>>,
    sender: Sender,
    chain: Vec<CertificateDer<'static>>,
    remote: SocketAddr,
}

impl Connection {
    async fn new(
        ends: Ends,
        opened: Opened,
        chain: Vec<CertificateDer<'static>>,
        remote: SocketAddr,
    ) -> Result<Self, ConnectError> {
        let (send, recv) = match open(&ends, half::DATAGRAMS).await {
            Ok(stream) => stream,
            Err(error) => return Err(ends.why(error).await),
        };
        Ok(Self(Arc::new(Inner {
            ends,
            streams: AsyncMutex::new(opened.streams),
            control: Mutex::new(Some(opened.control)),
            datagrams: Mutex::new(Some(opened.datagrams)),
            sender: Sender::new(send, recv),
            chain,
            remote,
        })))
    }

    /// What the peer has shown.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.chain.clone()
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    pub(super) async fn open(&self) -> Result<(SendStream, RecvStream), StreamError> {
        open(&self.0.ends, half::STREAM).await
    }

    pub(super) async fn accept(&self) -> Result<(SendStream, RecvStream), StreamError> {
        let mut streams = self.0.streams.lock().await;
        tokio::select! {
            stream = streams.recv() => stream.ok_or_else(|| self.over()),
            () = self.0.ends.shared.ended() => Err(self.over()),
        }
    }

    pub(super) async fn open_control(&self) -> Result<SendStream, StreamError> {
        Ok(open(&self.0.ends, half::CONTROL).await?.0)
    }

    pub(super) async fn accept_control(&self) -> Result<RecvStream, StreamError> {
        let waits = self.0.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(waits) = waits else { return Err(StreamError::Ended) };
        waits.await.map_err(|_| self.over())
    }

    fn over(&self) -> StreamError {
        let by = self.0.ends.shared.closed_by();
        StreamError::Lost(by.map_or_else(|| "it has ended".to_owned(), |by| by.to_string()))
    }

    pub(super) fn send_datagram(&self, datagram: &Bytes) -> Result<(), Dropped> {
        self.0.sender.send(datagram)
    }

    pub(super) fn datagrams(&self) -> Datagrams {
        let waits = self.0.datagrams.lock().unwrap_or_else(PoisonError::into_inner).take();
        Datagrams::new(Arc::clone(&self.0.ends.shared), waits)
    }

    /// A number that changes whenever the peer is heard on both connections, and the smoothed round trip.
    pub(super) fn heard(&self) -> (u64, Duration) {
        let shared = &self.0.ends.shared;
        (shared.heard(), shared.round_trip())
    }

    pub(super) fn close(&self, reason: CloseReason) {
        self.0.ends.shared.close(reason);
    }

    pub(super) async fn closed(&self) -> ConnectError {
        let shared = &self.0.ends.shared;
        shared.ended().await;
        shared.closed_by().unwrap_or_else(|| unreachable("it has ended"))
    }

    pub(super) fn close_reason(&self) -> Option<ConnectError> {
        self.0.ends.shared.closed_by()
    }
}

async fn open(ends: &Ends, kind: &'static str) -> Result<(SendStream, RecvStream), StreamError> {
    if let Some(by) = ends.shared.closed_by() {
        return Err(StreamError::Lost(by.to_string()));
    }
    let (send, response) = half::open(&ends.requests, kind, None).await?;
    let number = half::number(send.stream_id(), ends.side);
    let send = SendStream::new(send, number, Arc::clone(&ends.shared));
    Ok((send, RecvStream::opened(response)))
}
