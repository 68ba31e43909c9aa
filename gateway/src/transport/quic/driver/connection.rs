//! One connection: its lock, its task, and what can be asked of it.

use std::{
    any::Any,
    fmt, mem,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Instant,
};

use bytes::Bytes;
use quinn_proto::{
    ConnectionError, ConnectionEvent, ConnectionHandle, ConnectionStats, Dir, SendDatagramError,
    StreamId, VarInt, crypto::rustls::HandshakeData,
};
use tokio::sync::Notify;

use super::{
    drive::{ALONG, FAR, News, OWN, State, index},
    endpoint::Inner,
    lock,
    socket::Socket,
    stream::{RecvStream, SendStream},
};

/// Packets that wait while somebody else holds the connection: 1.4 MiB. With more the task that receives waits itself,
/// and the rest stays in the socket.
const INBOX: usize = 1024;

/// What the tasks of a connection and its streams share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Packets that came while the state was held by somebody, who looks here before and after it is given back.
    inbox: Mutex<Vec<ConnectionEvent>>,
    /// Whether there are any.
    waiting: AtomicBool,
    opened: [Notify; 2],
    available: [Notify; 2],
    datagram: Notify,
    changed: Notify,
    turn: Notify,
    endpoint: Arc<Inner>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        handle: ConnectionHandle,
        proto: quinn_proto::Connection,
        endpoint: Arc<Inner>,
    ) -> Self {
        Self {
            state: Mutex::new(State::new(handle, proto)),
            inbox: Mutex::new(Vec::new()),
            waiting: AtomicBool::new(false),
            opened: Default::default(),
            available: Default::default(),
            datagram: Notify::new(),
            changed: Notify::new(),
            turn: Notify::new(),
            endpoint,
        }
    }

    /// Does something with the connection, and then what has become of it: sends, and wakes.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = act(&mut state);
        self.settle(state, ALONG);
        result
    }

    /// Gives the connection back once there is nothing left to do.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, State>, calls: usize) {
        loop {
            if self.waiting.load(Ordering::Relaxed) {
                let packets = {
                    let mut inbox = lock(&self.inbox);
                    self.waiting.store(false, Ordering::Relaxed);
                    mem::take(&mut *inbox)
                };
                take(&mut state, packets);
            }
            if state.dirty {
                state.drive(&self.endpoint, Instant::now(), calls);
            }
            let news = mem::take(&mut state.news);
            drop(state);
            self.tell(news);
            // Whoever puts something in the inbox tries the lock afterwards: one of the two finds it.
            if lock(&self.inbox).is_empty() {
                return;
            }
            match self.try_lock() {
                Some(free) => state = free,
                None => return,
            }
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn tell(&self, news: News) {
        for direction in 0..2 {
            if news.opened[direction] {
                self.opened[direction].notify_waiters();
            }
            if news.available[direction] {
                self.available[direction].notify_waiters();
            }
        }
        if news.datagram {
            self.datagram.notify_waiters();
        }
        if news.changed {
            self.changed.notify_waiters();
        }
        if news.turn {
            self.turn.notify_one();
        }
        news.wakers.into_iter().for_each(Waker::wake);
    }

    /// Hands it packets that have come for it, or leaves them to whoever holds it.
    pub(super) fn deliver(&self, packets: Vec<ConnectionEvent>) {
        if let Some(mut state) = self.try_lock() {
            // What came before goes first.
            let before = mem::take(&mut *lock(&self.inbox));
            take(&mut state, before);
            take(&mut state, packets);
            return self.settle(state, ALONG);
        }
        let full = {
            let mut inbox = lock(&self.inbox);
            inbox.extend(packets);
            self.waiting.store(true, Ordering::Relaxed);
            inbox.len() >= INBOX
        };
        let state = if full { Some(lock(&self.state)) } else { self.try_lock() };
        if let Some(state) = state {
            self.settle(state, ALONG);
        }
    }

    /// Closes it, and tells everybody who waits for anything.
    pub(super) fn close(&self, code: VarInt, reason: &Bytes) {
        self.with(|state| {
            state.proto.close(Instant::now(), code, reason.clone());
            state.end(ConnectionError::LocallyClosed);
            state.dirty = true;
        });
    }

    /// Ends it without a word: nobody is there to say it.
    pub(super) fn abandon(&self) {
        self.with(|state| {
            state.end(ConnectionError::LocallyClosed);
            state.news.turn = true;
        });
    }

    /// Goes on from another address of this side.
    pub(super) fn moved(&self) {
        self.with(|state| {
            state.proto.local_address_changed();
            state.dirty = true;
            // What was stuck is sent over the new socket.
            state.news.turn = true;
        });
    }

    /// Waits until there is what `ready` looks for. `told` is told whenever there may be.
    async fn when<T>(&self, told: &Notify, mut ready: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // What happens once the lock is given back is not missed.
            let found = self.with(|state| ready(state).ok_or_else(|| told.notified()));
            match found {
                Ok(found) => return found,
                Err(told) => told.await,
            }
        }
    }

    /// What the connection's own task does when it wakes.
    fn take_turn(&self) -> Turn {
        let mut state = lock(&self.state);
        let socket = Arc::clone(&self.endpoint.socket());
        state.unstick(&socket);
        state.drive(&self.endpoint, Instant::now(), OWN);
        state.news.turn = false;
        let at = state.proto.poll_timeout();
        state.alarm.set(at);
        let turn = Turn {
            over: state.proto.is_drained(),
            more: mem::take(&mut state.dirty),
            at,
            full: state.is_stuck().then_some(socket),
        };
        self.settle(state, OWN);
        turn
    }
}

/// The packets of an inbox.
fn take(state: &mut State, packets: Vec<ConnectionEvent>) {
    for packet in packets {
        state.proto.handle_event(packet);
        state.dirty = true;
    }
}

/// What the connection's own task waits for next.
struct Turn {
    over: bool,
    /// There is more to send.
    more: bool,
    /// When a timer is due.
    at: Option<Instant>,
    /// The socket that takes no more for now.
    full: Option<Arc<Socket>>,
}

/// The task of a connection: keeps its timers, and sends what nobody else could.
pub(super) async fn run(shared: Arc<Shared>) {
    let far = || tokio::time::Instant::now() + FAR;
    let mut sleep = pin!(tokio::time::sleep_until(far()));
    loop {
        let turn = shared.take_turn();
        if turn.over {
            return;
        }
        if turn.more {
            tokio::task::yield_now().await;
            continue;
        }
        let at = turn.at.map_or_else(far, Into::into);
        if sleep.deadline() != at || sleep.is_elapsed() {
            sleep.as_mut().reset(at);
        }
        tokio::select! {
            () = shared.turn.notified() => {}
            () = sleep.as_mut() => {}
            () = writable(turn.full.as_deref()) => {}
        }
    }
}

async fn writable(socket: Option<&Socket>) {
    match socket {
        Some(socket) => socket.writable().await,
        None => std::future::pending().await,
    }
}

/// Holds a connection open: dropped by the last who could use it, it is closed.
#[derive(Debug)]
pub(super) struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.0.with(|state| state.proto.is_closed()) {
            self.0.close(VarInt::from_u32(0), &Bytes::new());
        }
    }
}

/// A connection that does not stand yet. Dropped, it is given up.
#[derive(Debug)]
pub(in crate::transport::quic) struct Connecting(Arc<Handle>);

impl Connecting {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // The first word is said at once.
        shared.with(|_| {});
        Self(Arc::new(Handle(shared)))
    }

    /// Waits until the handshake is done.
    pub(in crate::transport::quic) async fn established(
        self,
    ) -> Result<Connection, ConnectionError> {
        let shared = self.0.shared();
        let done = |state: &mut State| match &state.error {
            Some(error) => Some(Err(error.clone())),
            None => state.connected.then_some(Ok(())),
        };
        shared.when(&shared.changed, done).await?;
        Ok(Connection(self.0))
    }
}

/// A connection that stands. With the last that holds it or one of its streams, it is closed.
#[derive(Clone, Debug)]
pub(in crate::transport::quic) struct Connection(Arc<Handle>);

impl Connection {
    fn shared(&self) -> &Shared {
        self.0.shared()
    }

    /// Opens a stream in both directions. The peer knows of it when something is written.
    pub(in crate::transport::quic) async fn open_bi(
        &self,
    ) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.open(Dir::Bi).await?;
        Ok((self.sending(id), self.receiving(id)))
    }

    /// Opens a stream in this side's direction.
    pub(in crate::transport::quic) async fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        Ok(self.sending(self.open(Dir::Uni).await?))
    }

    async fn open(&self, direction: Dir) -> Result<StreamId, ConnectionError> {
        let shared = self.shared();
        let open = |state: &mut State| match &state.error {
            Some(error) => Some(Err(error.clone())),
            None => state.proto.streams().open(direction).map(Ok),
        };
        shared.when(&shared.available[index(direction)], open).await
    }

    /// The next stream that the peer opens in both directions.
    pub(in crate::transport::quic) async fn accept_bi(
        &self,
    ) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.accept(Dir::Bi).await?;
        Ok((self.sending(id), self.receiving(id)))
    }

    /// The next stream that the peer opens in its own direction.
    pub(in crate::transport::quic) async fn accept_uni(
        &self,
    ) -> Result<RecvStream, ConnectionError> {
        Ok(self.receiving(self.accept(Dir::Uni).await?))
    }

    async fn accept(&self, direction: Dir) -> Result<StreamId, ConnectionError> {
        let shared = self.shared();
        // What came before the end is still there.
        let accept = |state: &mut State| match state.proto.streams().accept(direction) {
            Some(id) => {
                // The peer may be allowed another in its place.
                state.dirty = true;
                Some(Ok(id))
            }
            None => state.error.clone().map(Err),
        };
        shared.when(&shared.opened[index(direction)], accept).await
    }

    fn sending(&self, id: StreamId) -> SendStream {
        SendStream::new(Arc::clone(&self.0), id)
    }

    fn receiving(&self, id: StreamId) -> RecvStream {
        RecvStream::new(Arc::clone(&self.0), id)
    }

    /// Takes a datagram to be sent, or refuses it. Several that are given one after the other go together.
    pub(in crate::transport::quic) fn send_datagram(
        &self,
        datagram: Bytes,
    ) -> Result<(), SendDatagramError> {
        self.shared().with(|state| {
            state.proto.datagrams().send(datagram, false)?;
            state.news.turn = true;
            Ok(())
        })
    }

    /// The next datagram that the peer has sent.
    pub(in crate::transport::quic) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        let shared = self.shared();
        let read = |state: &mut State| match state.proto.datagrams().recv() {
            Some(datagram) => Some(Ok(datagram)),
            None => state.error.clone().map(Err),
        };
        shared.when(&shared.datagram, read).await
    }

    /// Closes it at once, with every stream.
    pub(in crate::transport::quic) fn close(&self, code: VarInt, reason: &[u8]) {
        if self.close_reason().is_none() {
            self.shared().close(code, &Bytes::copy_from_slice(reason));
        }
    }

    /// Waits until it is over, and says why.
    pub(in crate::transport::quic) async fn closed(&self) -> ConnectionError {
        let shared = self.shared();
        shared.when(&shared.changed, |state| state.error.clone()).await
    }

    /// Why it is over, if it is.
    pub(in crate::transport::quic) fn close_reason(&self) -> Option<ConnectionError> {
        self.shared().with(|state| state.error.clone())
    }

    /// Where the peer is.
    pub(in crate::transport::quic) fn remote_address(&self) -> SocketAddr {
        self.shared().with(|state| state.proto.remote_address())
    }

    /// What it has carried, and how the path is.
    pub(in crate::transport::quic) fn stats(&self) -> ConnectionStats {
        self.shared().with(|state| state.proto.stats())
    }

    /// What the peer has shown of itself.
    pub(in crate::transport::quic) fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.shared().with(|state| state.proto.crypto_session().peer_identity())
    }

    /// The application protocol that both ends have agreed upon.
    pub(in crate::transport::quic) fn protocol(&self) -> Option<Vec<u8>> {
        let data = self.shared().with(|state| state.proto.crypto_session().handshake_data())?;
        data.downcast::<HandshakeData>().ok()?.protocol
    }

    /// Lets the peer have more under way from now on: so many bytes, and streams in both directions.
    pub(in crate::transport::quic) fn widen(&self, window: VarInt, streams: VarInt) {
        self.shared().with(|state| {
            state.proto.set_receive_window(window);
            state.proto.set_max_concurrent_streams(Dir::Bi, streams);
            state.dirty = true;
        });
    }
}
