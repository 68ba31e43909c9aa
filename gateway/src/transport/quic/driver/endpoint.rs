//! A socket with its connections: those that dial, those that were dialled, and whose packets are whose.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{SocketAddr, SocketAddrV6},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, ConnectError, ConnectionError, ConnectionEvent, ConnectionHandle, DatagramEvent,
    EndpointEvent, ServerConfig, Transmit, VarInt,
};
use quinn_udp::RecvMeta;
use tokio::sync::Notify;
use tracing::{Instrument, Span};

use super::{
    super::config,
    connection::{self, Connecting, Shared},
    lock, receive,
    socket::{self, Socket},
};

/// After an error of a socket that is not about one packet: it may pass, and is not asked again at once.
const BROKEN: Duration = Duration::from_millis(10);

/// A socket with its connections. It goes with the last of those, and of what holds it.
#[derive(Clone, Debug)]
pub(in crate::transport::quic) struct Endpoint(Arc<Held>);

/// Dropped when nobody holds an endpoint any more.
#[derive(Debug)]
struct Held(Arc<Inner>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
        self.0.changed.notify_one();
    }
}

pub(super) struct Inner {
    socket: ArcSwap<Socket>,
    table: Mutex<Table>,
    /// Told of connections that come in, and of the end.
    incoming: Notify,
    /// Told when there is no connection any more.
    idle: Notify,
    /// Told when the task that receives has to look around.
    changed: Notify,
    abandoned: AtomicBool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Endpoint").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// What is known of packets and whose they are.
struct Table {
    proto: quinn_proto::Endpoint,
    /// By their handles, which count up from zero and are used again.
    connections: Vec<Option<Arc<Shared>>>,
    /// Not taken yet. The configuration says how many there may be.
    incoming: VecDeque<quinn_proto::Incoming>,
    /// What is said to all once it is closed.
    closed: Option<(VarInt, Bytes)>,
}

impl Table {
    fn connections(&self) -> Vec<Arc<Shared>> {
        self.connections.iter().flatten().cloned().collect()
    }

    fn is_idle(&self) -> bool {
        self.connections.iter().all(Option::is_none)
    }
}

impl Endpoint {
    /// Takes a socket into use. Without a configuration for it, nobody can dial it.
    pub(in crate::transport::quic) fn new(
        socket: std::net::UdpSocket,
        server: Option<ServerConfig>,
    ) -> io::Result<Self> {
        let socket = Socket::new(socket)?;
        let config = Arc::new(config::endpoint());
        let find_size = !socket.may_fragment();
        let proto = quinn_proto::Endpoint::new(config, server.map(Arc::new), find_size, None);
        let inner = Arc::new(Inner {
            socket: ArcSwap::from_pointee(socket),
            table: Mutex::new(Table {
                proto,
                connections: Vec::new(),
                incoming: VecDeque::new(),
                closed: None,
            }),
            incoming: Notify::new(),
            idle: Notify::new(),
            changed: Notify::new(),
            abandoned: AtomicBool::new(false),
        });
        let receiving = Receiving(Arc::clone(&inner));
        drop(tokio::spawn(receiving.run().instrument(Span::current())));
        Ok(Self(Arc::new(Held(inner))))
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Tells a test when it has gone.
    #[cfg(test)]
    pub(super) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(self.inner())
    }

    /// Dials.
    pub(in crate::transport::quic) fn connect(
        &self,
        config: ClientConfig,
        address: SocketAddr,
        name: &str,
    ) -> Result<Connecting, ConnectError> {
        let inner = self.inner();
        let mut table = lock(&inner.table);
        if table.closed.is_some() {
            return Err(ConnectError::EndpointStopping);
        }
        let local = inner.socket.load().local_address();
        let address = match local {
            Ok(SocketAddr::V6(_)) => SocketAddr::V6(mapped(address)),
            _ if address.is_ipv6() => return Err(ConnectError::InvalidRemoteAddress(address)),
            _ => address,
        };
        let (handle, proto) = table.proto.connect(Instant::now(), config, address, name)?;
        let shared = inner.insert(&mut table, handle, proto);
        drop(table);
        Ok(Connecting::new(shared))
    }

    /// The next one that dials; none once this is closed.
    pub(in crate::transport::quic) async fn accept(&self) -> Option<Incoming> {
        let inner = self.inner();
        loop {
            let told = {
                let mut table = lock(&inner.table);
                if let Some(incoming) = table.incoming.pop_front() {
                    let endpoint = Arc::clone(inner);
                    return Some(Incoming { incoming: Some(incoming), endpoint });
                }
                if table.closed.is_some() {
                    return None;
                }
                // Made while the lock is held: what comes from here on is not missed.
                inner.incoming.notified()
            };
            told.await;
        }
    }

    /// From now on nobody can dial it.
    pub(in crate::transport::quic) fn refuse_new(&self) {
        lock(&self.inner().table).proto.set_server_config(None);
    }

    pub(in crate::transport::quic) fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner().socket.load().local_address()
    }

    /// How many connections have not been closed.
    pub(in crate::transport::quic) fn open_connections(&self) -> usize {
        lock(&self.inner().table).proto.open_connections()
    }

    /// Goes on over another socket. The one that there was is read from until the new one has brought something.
    pub(in crate::transport::quic) fn rebind(&self, socket: std::net::UdpSocket) -> io::Result<()> {
        let inner = self.inner();
        inner.socket.store(Arc::new(Socket::new(socket)?));
        inner.changed.notify_one();
        let connections = lock(&inner.table).connections();
        for connection in connections {
            connection.moved();
        }
        Ok(())
    }

    /// Closes every connection and takes no more.
    pub(in crate::transport::quic) fn close(&self, code: VarInt, reason: &[u8]) {
        let inner = self.inner();
        let reason = Bytes::copy_from_slice(reason);
        let (connections, refused) = {
            let mut table = lock(&inner.table);
            table.closed = Some((code, reason.clone()));
            (table.connections(), std::mem::take(&mut table.incoming))
        };
        for incoming in refused {
            inner.refuse(incoming);
        }
        for connection in connections {
            connection.close(code, &reason);
        }
        inner.incoming.notify_waiters();
    }

    /// Waits until every connection is over, and whoever is on its other end has been told.
    pub(in crate::transport::quic) async fn wait_idle(&self) {
        let inner = self.inner();
        loop {
            let told = {
                let table = lock(&inner.table);
                if table.is_idle() {
                    return;
                }
                inner.idle.notified()
            };
            told.await;
        }
    }
}

/// An IPv4 address as a socket of IPv6 has it.
fn mapped(address: SocketAddr) -> SocketAddrV6 {
    match address {
        SocketAddr::V4(address) => {
            SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0)
        }
        SocketAddr::V6(address) => address,
    }
}

impl Inner {
    /// The socket to send on.
    pub(super) fn socket(&self) -> arc_swap::Guard<Arc<Socket>> {
        self.socket.load()
    }

    fn insert(
        self: &Arc<Self>,
        table: &mut Table,
        handle: ConnectionHandle,
        proto: quinn_proto::Connection,
    ) -> Arc<Shared> {
        let shared = Arc::new(Shared::new(handle, proto, Arc::clone(self)));
        if table.connections.len() <= handle.0 {
            table.connections.resize(handle.0 + 1, None);
        }
        table.connections[handle.0] = Some(Arc::clone(&shared));
        let task = connection::run(Arc::clone(&shared));
        drop(tokio::spawn(task.instrument(Span::current())));
        shared
    }

    /// What a connection has to say to its endpoint. What comes back is for the connection.
    pub(super) fn handle_event(
        &self,
        handle: ConnectionHandle,
        event: EndpointEvent,
    ) -> Option<ConnectionEvent> {
        let mut table = lock(&self.table);
        if event.is_drained() {
            // None is left where the task that receives has ended.
            if let Some(connection) = table.connections.get_mut(handle.0) {
                *connection = None;
            }
            if table.is_idle() {
                self.idle.notify_waiters();
                self.changed.notify_one();
            }
        }
        table.proto.handle_event(handle, event)
    }

    fn refuse(&self, incoming: quinn_proto::Incoming) {
        let mut answer = Vec::new();
        let transmit = lock(&self.table).proto.refuse(incoming, &mut answer);
        self.answer(&transmit, &answer);
    }

    /// Says something that belongs to no connection. Where the socket is full it is lost: whoever is to hear it asks
    /// again.
    fn answer(&self, transmit: &Transmit, contents: &[u8]) {
        let _ = self.socket.load().send(transmit, &contents[..transmit.size]);
    }

    /// Hands a datagram to whom it is for.
    fn sort(&self, table: &mut Table, about: &RecvMeta, datagram: BytesMut, sorted: &mut Sorted) {
        let mut answer = Vec::new();
        let ecn = about.ecn.map(socket::ecn);
        let event =
            table.proto.handle(sorted.now, about.addr, about.dst_ip, ecn, datagram, &mut answer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                sorted.push(handle, event, || table.connections.get(handle.0)?.clone());
            }
            Some(DatagramEvent::NewConnection(incoming)) if table.closed.is_none() => {
                table.incoming.push_back(incoming);
                sorted.incoming = true;
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let transmit = table.proto.refuse(incoming, &mut answer);
                self.answer(&transmit, &answer);
            }
            Some(DatagramEvent::Response(transmit)) => self.answer(&transmit, &answer),
            None => {}
        }
    }
}

/// What one call has received, by connection.
struct Sorted {
    now: Instant,
    packets: Vec<(ConnectionHandle, Arc<Shared>, Vec<ConnectionEvent>)>,
    /// Whether somebody dials.
    incoming: bool,
}

impl Sorted {
    fn push(
        &mut self,
        handle: ConnectionHandle,
        event: ConnectionEvent,
        find: impl FnOnce() -> Option<Arc<Shared>>,
    ) {
        // There are few connections in what one call has received, most often one.
        if let Some((_, _, events)) = self.packets.iter_mut().rev().find(|(of, ..)| *of == handle) {
            events.push(event);
        } else if let Some(shared) = find() {
            self.packets.push((handle, shared, vec![event]));
        }
    }
}

/// The task that receives.
struct Receiving(Arc<Inner>);

impl Receiving {
    async fn run(self) {
        let mut socket = self.0.socket.load_full();
        // One that was in use before, until something has come on the present one.
        let mut former: Option<Arc<Socket>> = None;
        loop {
            let came = tokio::select! {
                came = socket.readable() => came.and_then(|()| self.receive(&socket)),
                came = readable(former.as_deref()) => came.and_then(|()| self.receive_late(former.as_deref())),
                () = self.0.changed.notified() => Ok(Came::default()),
            };
            let present = self.0.socket.load_full();
            if !Arc::ptr_eq(&present, &socket) {
                former = Some(std::mem::replace(&mut socket, present));
            }
            match came {
                Ok(came) => {
                    if came.packets {
                        former = None;
                    }
                    // The tasks that were woken are to have their turn as well.
                    if came.more {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Anybody can send a message that says so.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => {
                    tracing::warn!("cannot receive from links: {error}");
                    tokio::time::sleep(BROKEN).await;
                }
            }
            if self.0.abandoned.load(Ordering::Acquire) && lock(&self.0.table).is_idle() {
                return;
            }
        }
    }

    /// Receives what still comes on a socket that is in use no more.
    fn receive_late(&self, socket: Option<&Socket>) -> io::Result<Came> {
        let Some(socket) = socket else {
            return Ok(Came::default());
        };
        Ok(Came { packets: false, ..self.receive(socket)? })
    }

    /// Receives what is there, once.
    fn receive(&self, socket: &Socket) -> io::Result<Came> {
        let mut sorted = Sorted { now: Instant::now(), packets: Vec::new(), incoming: false };
        let more = {
            let mut table = None;
            receive::receive(socket, |about, datagram| {
                let table = table.get_or_insert_with(|| lock(&self.0.table));
                self.0.sort(table, about, datagram, &mut sorted);
            })?
        };
        if sorted.incoming {
            self.0.incoming.notify_waiters();
        }
        let packets = !sorted.packets.is_empty();
        for (_, connection, events) in sorted.packets {
            connection.deliver(events);
        }
        Ok(Came { more, packets })
    }
}

impl Drop for Receiving {
    /// Where the runtime ends before the connections do, nobody waits for them in vain.
    fn drop(&mut self) {
        let (left, incoming) = {
            let mut table = lock(&self.0.table);
            table.closed.get_or_insert_with(|| (VarInt::from_u32(0), Bytes::new()));
            (std::mem::take(&mut table.connections), std::mem::take(&mut table.incoming))
        };
        for incoming in incoming {
            lock(&self.0.table).proto.ignore(incoming);
        }
        for connection in left.into_iter().flatten() {
            connection.abandon();
        }
        self.0.incoming.notify_waiters();
        self.0.idle.notify_waiters();
    }
}

/// What receiving once has brought.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    /// There may be more.
    more: bool,
    /// Something was for a connection.
    packets: bool,
}

async fn readable(socket: Option<&Socket>) -> io::Result<()> {
    match socket {
        Some(socket) => socket.readable().await,
        None => std::future::pending().await,
    }
}

/// One that dials.
#[derive(Debug)]
pub(in crate::transport::quic) struct Incoming {
    /// Taken when it is decided upon.
    incoming: Option<quinn_proto::Incoming>,
    endpoint: Arc<Inner>,
}

impl Incoming {
    pub(in crate::transport::quic) fn remote_address(&self) -> SocketAddr {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.incoming.as_ref().map_or(nowhere, quinn_proto::Incoming::remote_address)
    }

    /// Turns it away.
    pub(in crate::transport::quic) fn refuse(mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.endpoint.refuse(incoming);
        }
    }

    /// Makes it show that it can be reached where it says, if it has not yet; else it is what comes back.
    pub(in crate::transport::quic) fn validated(mut self) -> Option<Self> {
        let incoming = self.incoming.take()?;
        if incoming.remote_address_validated() || !incoming.may_retry() {
            self.incoming = Some(incoming);
            return Some(self);
        }
        let mut answer = Vec::new();
        let retried = lock(&self.endpoint.table).proto.retry(incoming, &mut answer);
        match retried {
            Ok(transmit) => {
                self.endpoint.answer(&transmit, &answer);
                None
            }
            Err(error) => {
                self.incoming = Some(error.into_incoming());
                Some(self)
            }
        }
    }

    /// Begins the handshake.
    pub(in crate::transport::quic) fn accept(mut self) -> Result<Connecting, ConnectionError> {
        let Some(incoming) = self.incoming.take() else {
            return Err(ConnectionError::LocallyClosed);
        };
        let mut answer = Vec::new();
        let mut table = lock(&self.endpoint.table);
        match table.proto.accept(incoming, Instant::now(), &mut answer, None) {
            Ok((handle, proto)) => {
                let shared = self.endpoint.insert(&mut table, handle, proto);
                let closed = table.closed.clone();
                drop(table);
                let connecting = Connecting::new(Arc::clone(&shared));
                if let Some((code, reason)) = closed {
                    shared.close(code, &reason);
                }
                Ok(connecting)
            }
            Err(error) => {
                drop(table);
                if let Some(transmit) = &error.response {
                    self.endpoint.answer(transmit, &answer);
                }
                Err(error.cause)
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            lock(&self.endpoint.table).proto.ignore(incoming);
        }
    }
}
