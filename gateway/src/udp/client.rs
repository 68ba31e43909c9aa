//! The sending side: clients of this cluster send to an allotted port.
//!
//! The first datagram of a client opens a flow; those that follow wait until it is answered. What was sent with the
//! header of a stream that is lost before its answer is dropped, not sent again: it may have been delivered.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use landbridge_model::{AllottedPort, ClusterId, Protocol, ServiceKey};
use tokio::{
    net::UdpSocket,
    sync::OwnedSemaphorePermit,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{BURST, Listed, READ, Sink, readable, serve};
use crate::{
    core::Core,
    flows::{Activity, Ends, Table},
    forward::{Aim, SUSPECT, answer, scope},
    links::{Link, Load},
    metrics::{DatagramCounters, Direction},
    open::{About, Tally},
    pool,
    route::{Choice, Scope, Tried},
    snapshot::Route,
    spans::CallSpan,
    transport::{Carrier, RecvStream, SendStream},
    wire::{self, Answer, FlowName, Header},
};

/// Flows of one port at one address. A client that asks anew from a new port each time, as resolvers do, leaves one
/// behind for half a minute: room for 270 questions a second before any is evicted.
const MAX_PER_PORT: usize = 8_192;
/// How long a flow may take to move to a better link, and how long after that it is tried again.
const MOVE: Duration = Duration::from_secs(2);
/// What a flow that is not answered yet may keep waiting.
const MAX_EARLY: usize = 16;

/// Serves the clients of one port at one address.
pub(crate) async fn port(
    core: Arc<Core>,
    socket: UdpSocket,
    port: AllottedPort,
    route: Arc<Route>,
    token: CancellationToken,
) {
    // Sending without waiting needs the system's word that there is room.
    if let Err(error) = socket.writable().await {
        return tracing::error!(%port, "cannot send: {error}");
    }
    let mut port =
        Port { core, socket: Arc::new(socket), port, route, flows: Table::new(MAX_PER_PORT) };
    loop {
        let wake = port.flows.next_wakeup();
        tokio::select! {
            ready = port.socket.readable() => match ready {
                Ok(()) => port.burst(),
                Err(error) => return tracing::error!(port = %port.port, "cannot receive: {error}"),
            },
            () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {
                port.flows.expire(Instant::now());
            }
            () = token.cancelled() => return,
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// One allotted port at one address.
struct Port {
    core: Arc<Core>,
    socket: Arc<UdpSocket>,
    port: AllottedPort,
    route: Arc<Route>,
    flows: Table<SocketAddr, Entry>,
}

impl Port {
    /// Takes what has come, up to a burst.
    fn burst(&mut self) {
        READ.with_borrow_mut(|scratch| {
            for _ in 0..BURST {
                match self.socket.try_recv_from(scratch) {
                    Ok((count, client)) => self.take(client, &scratch[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    // What became of an answer to some client, which has gone.
                    Err(_) => {}
                }
            }
        });
    }

    fn take(&mut self, client: SocketAddr, payload: &[u8]) {
        let now = Instant::now();
        if let Some(Entry(flow)) = self.flows.get(&client)
            && flow.send(payload, now)
        {
            return;
        }
        let Some(permit) = self.room() else {
            self.core.metrics.flow(Direction::Outbound, "overloaded");
            self.core.room.refuses("too many flows of clients");
            return self.core.metrics.datagram_dropped("overloaded");
        };
        // Through its grace a port means what it last meant.
        let key = (self.route.target.port.protocol, self.port);
        if let Some(route) = self.core.snapshots.load().routes.get(&key) {
            self.route = Arc::clone(route);
        }
        let flow = Arc::new(Flow {
            aim: Aim::new(&self.core, self.port, &self.route, client),
            name: rand::random(),
            client,
            socket: Arc::clone(&self.socket),
            activity: Arc::new(Activity::new(now)),
            tally: Arc::default(),
            state: Mutex::new(State::Early(Vec::new())),
            end: self.core.stop.child_token(),
        });
        flow.send(payload, now);
        if self.flows.put(client, Entry(Arc::clone(&flow))).is_some() {
            self.core.metrics.flow_evicted();
        }
        self.core.tasks.spawn("flow", async move {
            flow.run().await;
            drop(permit);
        });
    }

    /// Room for one more flow, if need be in place of another one of this port.
    fn room(&mut self) -> Option<OwnedSemaphorePermit> {
        let flows = &self.core.outbound_flows;
        if let Ok(permit) = Arc::clone(flows).try_acquire_owned() {
            return Some(permit);
        }
        // The permit of the one that goes is given back in a moment: the client's next datagram finds it.
        if self.flows.evict().is_some() {
            self.core.metrics.flow_evicted();
        }
        None
    }
}

/// A flow as its port remembers it. It ends when it is forgotten.
#[derive(Debug)]
struct Entry(Arc<Flow>);

impl Ends for Entry {
    fn ends(&self) -> Instant {
        self.0.activity.ends()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.end.cancel();
    }
}

/// One client's flow.
#[derive(Debug)]
struct Flow {
    aim: Aim,
    /// What the peer's gateway knows it by, should it move from one link to another.
    name: FlowName,
    /// As the socket knows it.
    client: SocketAddr,
    socket: Arc<UdpSocket>,
    activity: Arc<Activity>,
    tally: Arc<Tally>,
    state: Mutex<State>,
    /// Cancelled when the flow is to end.
    end: CancellationToken,
}

/// Where a flow's datagrams go.
#[derive(Debug)]
enum State {
    /// They wait.
    Early(Vec<Bytes>),
    /// To a pod of this cluster.
    Here(Arc<UdpSocket>),
    /// To a peer.
    Link(Listed, DatagramCounters),
    /// Nowhere: the flow is over.
    Over,
}

/// A flow that a peer has taken.
struct Taken {
    listed: Listed,
    send: SendStream,
    recv: RecvStream,
    load: Load,
    /// How many of the early datagrams it has got.
    sent: usize,
}

impl Flow {
    /// Sends a datagram on its way. False where the flow is over: the datagram opens a new one.
    fn send(&self, payload: &[u8], now: Instant) -> bool {
        let metrics = &self.aim.core.metrics;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Early(early) if early.len() < MAX_EARLY => {
                if self.aim.core.kept.take(payload.len()) {
                    early.push(Bytes::copy_from_slice(payload));
                } else {
                    metrics.datagram_dropped("early");
                }
            }
            State::Early(_) => metrics.datagram_dropped("early"),
            State::Here(pod) => {
                if pod.try_send(payload).is_err() {
                    metrics.datagram_dropped("socket");
                } else {
                    self.tally.sent.fetch_add(payload.len() as u64, Ordering::Relaxed);
                }
            }
            State::Link(listed, counters) => listed.send(payload, metrics, counters),
            State::Over => return false,
        }
        self.activity.asked(now);
        true
    }

    /// Replaces the state. What still waits goes after what a peer has got already, or is dropped.
    fn turn(&self, next: State, sent: usize) {
        let core = &self.aim.core;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Early(early) = std::mem::replace(&mut *state, next) else {
            return;
        };
        core.kept.give(early.iter().map(Bytes::len).sum());
        if let State::Link(_, counters) = &*state {
            early.iter().take(sent).for_each(|payload| counters.count(payload.len()));
        }
        for payload in early.iter().skip(sent) {
            match &*state {
                State::Here(pod) => {
                    if pod.try_send(payload).is_ok() {
                        self.tally.sent.fetch_add(payload.len() as u64, Ordering::Relaxed);
                    }
                }
                State::Link(listed, counters) => listed.send(payload, &core.metrics, counters),
                State::Early(_) | State::Over => core.metrics.datagram_dropped("not_connected"),
            }
        }
    }

    /// What waits, as frames, and how many datagrams that is.
    fn early(&self) -> (Vec<u8>, usize) {
        let mut frames = Vec::new();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Early(early) = &*state else {
            return (frames, 0);
        };
        for payload in early {
            wire::encode_frame(&mut frames, payload);
        }
        (frames, early.len())
    }

    async fn run(&self) {
        let open = self.aim.core.metrics.open_flow(Direction::Outbound);
        tokio::select! {
            () = self.live() => {}
            () = self.end.cancelled() => {}
        }
        self.turn(State::Over, usize::MAX);
        drop(open);
    }

    async fn live(&self) {
        let mut span = CallSpan::outbound(&self.aim.core.tracer);
        let brought = self.bring(&mut span).await;
        let result = brought.as_ref().map_or_else(|reason| *reason, |_| "connected");
        self.aim.core.metrics.flow(Direction::Outbound, result);
        match brought {
            Ok(Brought::Here(pod, counts)) => {
                let ((_, address), own) = (*counts.0.key(), &counts.1.key().1);
                let about = About { pod: Some(address), ..self.aim.about(Some(own)) };
                let mut open = self.aim.core.opened.open_as(about, span, &self.tally);
                self.here(pod).await;
                open.ends("done");
            }
            Ok(Brought::Peer(taken, counts)) => {
                let about = self.aim.about(Some(&counts.key().1));
                let mut open = self.aim.core.opened.open_as(about, span, &self.tally);
                self.over_link(taken).await;
                open.ends("done");
            }
            Err(reason) => {
                self.aim.core.opened.refused(&self.aim.about(None), reason, span);
                let target = &self.aim.route.target;
                tracing::info!(
                    service = %target.service, port = %target.port, client = %self.client, reason,
                    "a flow was not connected"
                );
            }
        }
    }

    /// Tries one destination after the other.
    async fn bring(&self, span: &mut CallSpan) -> Result<Brought, &'static str> {
        let deadline = tokio::time::Instant::now() + self.aim.deadline();
        let mut tried = Tried::default();
        let mut reason = "no_route";
        for _ in 0..self.aim.tries() {
            let Some((choice, snapshot)) = self.aim.choose(&tried, deadline).await else {
                return Err(reason);
            };
            let header = self.aim.header(&snapshot, span.parent());
            let cluster = match choice {
                Choice::Here => match serve::connect(&self.aim.core, &snapshot, &header).await {
                    Ok((pod, taken)) => {
                        let server = self.aim.take(&self.aim.core.cluster);
                        return Ok(Brought::Here(Arc::new(pod), (taken, server)));
                    }
                    Err(refusal) => {
                        tried.here();
                        reason = refusal.reason();
                        self.aim.core.cluster.clone()
                    }
                },
                Choice::Link { cluster, link } => {
                    let Some(link) = self.aim.core.links.get(&cluster, link) else {
                        tried.link(link);
                        continue;
                    };
                    let server = self.aim.take(&cluster);
                    let header = self.named(&link, header);
                    match self.attempt(&link, &wire::encode_header(&header), deadline).await {
                        Ok(taken) => {
                            self.aim.succeeded(&server);
                            return Ok(Brought::Peer(taken, server));
                        }
                        Err((why, None)) => return Err(why),
                        Err((why, Some(scope))) => {
                            reason = why;
                            self.aim.failed(&cluster, why, scope);
                            tried.learn(scope, cluster.clone(), link.id);
                        }
                    }
                    cluster
                }
            };
            span.tried(cluster.as_str(), reason);
            self.aim.core.metrics.retried(cluster.as_str(), reason);
        }
        Err(reason)
    }

    /// Opens the flow on one link.
    ///
    /// # Errors
    /// Why not, and what is not to be tried again; none where no other try is allowed.
    async fn attempt(
        &self,
        link: &Arc<Link>,
        header: &[u8],
        deadline: tokio::time::Instant,
    ) -> Result<Taken, (&'static str, Option<Scope>)> {
        let mut state = link.watch();
        let silent = async {
            let _ = state.wait_for(|state| !state.takes_streams()).await;
        };
        tokio::pin!(silent);
        let opened = tokio::select! {
            opened = link.open() => opened,
            () = &mut silent => return Err((SUSPECT, Some(Scope::Silence))),
            () = sleep_until(deadline) => return Err(("timeout", Some(Scope::Link))),
        };
        let (mut send, mut recv, load) = opened.map_err(|_| ("link_lost", Some(Scope::Link)))?;
        // Answers may come before it is heard that the flow was taken.
        let sink = Arc::new(Sink {
            socket: Arc::clone(&self.socket),
            client: Some(self.client),
            activity: Arc::clone(&self.activity),
            refused: CancellationToken::new(),
            counters: self.counters(link, Direction::Inbound),
        });
        let listed = Listed::new(link, send.number(), sink);
        let (frames, sent) = self.early();
        let exchange = async {
            send.write_all(&[header, &frames].concat()).await?;
            answer(&mut recv).await
        };
        let answered = tokio::select! {
            answered = exchange => answered.map_err(|_| ("link_lost", None))?,
            () = &mut silent => return Err((SUSPECT, None)),
            () = sleep_until(deadline) => return Err(("timeout", None)),
        };
        match answered {
            Answer::Connected => Ok(Taken { listed, send, recv, load, sent }),
            Answer::Refused(refusal) => Err((refusal.reason(), Some(scope(&refusal)))),
        }
    }

    fn counters(&self, link: &Link, direction: Direction) -> DatagramCounters {
        let tally = Arc::clone(&self.tally);
        self.aim.core.metrics.datagrams(direction, link.peer().cluster.as_str(), tally)
    }

    /// A flow over TCP is to go on over QUIC once that is there, and has a name for that.
    fn named(&self, link: &Link, header: Header) -> Header {
        let may_move = link.connection.carrier() == Carrier::Tcp;
        Header { flow: may_move.then_some(self.name), ..header }
    }

    /// Lets datagrams go over a link until either side ends the flow, or the link falls silent: then the client's next
    /// datagram opens another one elsewhere. Where there comes to be a better link, the flow moves there, with its pod.
    async fn over_link(&self, mut taken: Taken) {
        loop {
            // The stream is given up with the flow: that is how the peer hears of its end.
            let Taken { listed, send: _send, mut recv, load: _load, sent } = taken;
            let link = Arc::clone(&listed.link);
            let mut state = link.watch();
            let counters = self.counters(&link, Direction::Outbound);
            self.turn(State::Link(listed, counters), sent);
            let mut nothing = [0];
            let asks = AtomicBool::new(false);
            let mut better = pin!(self.moves(&link, &asks));
            let silent = async {
                let _ = state.wait_for(|state| !state.takes_streams()).await;
            };
            tokio::select! {
                _ = recv.read_exact(&mut nothing) => {
                    // A peer that has taken it over elsewhere ends it here, which may be heard first.
                    if !asks.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(better) = timeout(MOVE, better).await else { return };
                    taken = better;
                }
                () = silent => return,
                better = &mut better => taken = better,
            }
        }
    }

    /// Waits for a better link, and opens the flow there. Says whether it has asked for that and has no answer yet.
    async fn moves(&self, link: &Arc<Link>, asks: &AtomicBool) -> Taken {
        loop {
            let better = self.aim.core.links.better_than(link).await;
            let header = self.aim.header(&self.aim.core.snapshots.load(), None);
            let header = wire::encode_header(&Header { flow: Some(self.name), ..header });
            let deadline = tokio::time::Instant::now() + MOVE;
            asks.store(true, Ordering::Relaxed);
            let answered = self.attempt(&better, &header, deadline).await;
            asks.store(false, Ordering::Relaxed);
            match answered {
                Ok(taken) => return taken,
                Err((why, _)) => {
                    tracing::debug!(client = %self.client, why, "a flow stays where it is");
                    sleep_until(deadline).await;
                }
            }
        }
    }

    /// Lets datagrams go to a pod of this cluster.
    async fn here(&self, pod: Arc<UdpSocket>) {
        self.turn(State::Here(Arc::clone(&pod)), 0);
        while readable(&pod).await.is_ok() {
            let end = READ.with_borrow_mut(|scratch| {
                for _ in 0..BURST {
                    match pod.try_recv(scratch) {
                        Ok(count) => {
                            self.activity.answered(Instant::now());
                            if self.socket.try_send_to(&scratch[..count], self.client).is_err() {
                                self.aim.core.metrics.datagram_dropped("socket_full");
                            } else {
                                self.tally.received.fetch_add(count as u64, Ordering::Relaxed);
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                        // The pod does not listen any more.
                        Err(_) => return true,
                    }
                }
                false
            });
            if end {
                return;
            }
        }
    }
}

/// The cluster that a flow counts for.
type Server = pool::Taken<(ServiceKey, ClusterId)>;

/// Where a flow has been brought.
enum Brought {
    Here(Arc<UdpSocket>, (pool::Taken<(Protocol, SocketAddr)>, Server)),
    Peer(Taken, Server),
}
