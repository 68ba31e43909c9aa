//! The server: its configuration, its tasks and threads, and when they end.
//!
//! ```text
//!  follow (task)   watches ─► state ─► builder ─► Current
//!  udp    (thread per core and address)             ▲
//!  accept (task per address) ─► connection (task) ──┘ each query reads it once
//! ```
//!
//! This file is the only one that starts tasks and threads. Each has a name and ends on the token: a server that
//! is told to stop first says that it is not ready, then answers what it has received, then closes.

mod dump;
mod follow;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::{FutureExt, stream::BoxStream};
use kube::Client;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::{net::TcpStream, sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, info, info_span, warn};

use follow::{events, follow, serial};

use crate::{
    metrics::{Metrics, Unanswered},
    snapshot::{Builder, Current},
    state::Event,
    tcp, udp,
    zone::Zone,
};

/// The most connections over TCP at one address: half of the descriptors that a process usually may have.
const MAX_CONNECTIONS: usize = 512;
/// The most threads for UDP at one address. Beyond it the kernel's own work is the limit.
const MAX_WORKERS: usize = 64;
/// How often a free port is tried for, where any will do: the one that TCP got may be taken for UDP.
const PORT_TRIES: usize = 16;
/// How long to wait when no connection can be accepted, which is to say that descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, over UDP and TCP each. Port 0 is any free one, the same for both. Answers over UDP come
    /// from the address that was asked only where that address is named: prefer it to `0.0.0.0` and `[::]`.
    pub listen: Vec<SocketAddr>,
    /// How long answers may be cached; whole seconds are used.
    pub ttl: Duration,
    /// What to answer for.
    pub zone: Zone,
}

impl Default for Config {
    /// `clusterset.local`, five seconds (as CoreDNS has it), nowhere.
    fn default() -> Self {
        Self { listen: Vec::new(), ttl: Duration::from_secs(5), zone: Zone::default() }
    }
}

/// Why a server cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address is taken, not this machine's, or not allowed.
    #[error(
        "cannot listen at {address} over {transport}: {source}; name an address of this machine with a free port (ports below 1024 need a privilege)"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// `TCP` or `UDP`.
        transport: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is nowhere to listen.
    #[error("no address to listen at: name at least one")]
    NoAddress,
}

/// Why a running server ended by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// One of its tasks or threads ended although it should not have: a fault of this program.
    #[error("{0} ended unexpectedly: please report this with the log")]
    Ended(String),
    /// A thread could not be started: the machine or the container has too few.
    #[error("cannot start a thread for UDP: {0}; raise the limit on processes")]
    Thread(io::Error),
}

/// What every query needs.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) current: Arc<Current>,
    pub(crate) metrics: Metrics,
}

struct Listener {
    address: SocketAddr,
    tcp: TcpListener,
    udp: Vec<UdpSocket>,
}

/// A DNS server that has its sockets and does not serve yet.
pub struct DnsServer {
    builder: Builder,
    config: Config,
    connections: usize,
    events: BoxStream<'static, Event>,
    listeners: Vec<Listener>,
    served: Arc<Served>,
}

impl DnsServer {
    /// Binds all sockets. Nothing is answered, and nothing is asked of the Kubernetes API, before [`Self::run`].
    ///
    /// # Errors
    /// [`StartError`] names the address that cannot be had.
    #[expect(
        clippy::unused_async,
        reason = "every component is bound alike, and from within a runtime"
    )]
    pub async fn bind(
        config: Config,
        client: Client,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        Self::with_events(config, events(client), registry)
    }

    fn with_events(
        config: Config,
        events: BoxStream<'static, Event>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        if config.listen.is_empty() {
            return Err(StartError::NoAddress);
        }
        let workers =
            thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS));
        let listeners = config
            .listen
            .iter()
            .map(|address| listen(*address, workers))
            .collect::<Result<Vec<_>, _>>()?;
        let own: BTreeSet<_> = listeners
            .iter()
            .map(|listener| listener.address.ip())
            .filter(|address| !address.is_unspecified())
            .collect();
        let ttl = u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX >> 1);
        let mut builder = Builder::new(&config.zone, ttl, &own);
        let current = Arc::new(Current::new(builder.snapshot(false, serial(), Instant::now())));
        let metrics = Metrics::new(registry, Arc::clone(&current));
        Ok(Self {
            builder,
            config,
            connections: MAX_CONNECTIONS,
            events,
            listeners,
            served: Arc::new(Served { current, metrics }),
        })
    }

    /// What others may ask of it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            addresses: self.listeners.iter().map(|listener| listener.address).collect(),
            served: Arc::clone(&self.served),
            zone: self.config.zone.clone(),
        }
    }

    /// Serves until `shutdown`: then stops being ready, answers what was received, and closes.
    ///
    /// # Errors
    /// [`RunError`] where a part of it ends by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let span = info_span!("dns", zone = %self.config.zone.apex());
        self.serve(shutdown).instrument(span).await
    }

    async fn serve(self, shutdown: CancellationToken) -> Result<(), RunError> {
        // A token of its own, so that the server says that it is not ready before anything ends. Whatever way this
        // function ends, what it has started ends too.
        let stop = CancellationToken::new();
        let _end = stop.clone().drop_guard();
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            info!(address = %listener.address, "answering over UDP and TCP");
            start_listener(listener, self.connections, &self.served, &mut tasks, &stop)?;
        }
        let follow = follow(
            self.events,
            self.config.zone,
            self.builder,
            Arc::clone(&self.served),
            stop.clone(),
        );
        start(&mut tasks, "follow".into(), follow);
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            ended = tasks.join_next() => ended,
        };
        self.served.current.stop();
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        match ended {
            None => Ok(()),
            Some(name) => Err(RunError::Ended(name.unwrap_or_else(|error| error.to_string()))),
        }
    }
}

/// What can be asked of a server while it runs, from anywhere.
#[derive(Clone, Debug)]
pub struct Handle {
    addresses: Vec<SocketAddr>,
    served: Arc<Served>,
    zone: Zone,
}

impl Handle {
    /// Where it listens, over UDP and TCP each, in the order of [`Config::listen`], with the ports that it got.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// Whether imports and slices have been read in full once, and it is not going away.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.served.current.is_ready()
    }

    /// Every name and its records, as they are answered now, in order.
    #[must_use]
    pub fn snapshot(&self) -> serde_json::Value {
        let snapshot = self.served.current.snapshot.load();
        serde_json::json!({
            "addresses": self.addresses,
            "generation": snapshot.generation,
            "names": dump::names(&snapshot),
            "ready": self.is_ready(),
            "zone": self.zone.apex().to_string(),
        })
    }
}

/// Binds everything at one address. TCP comes first: its port cannot be shared, so a second server is noticed.
fn listen(address: SocketAddr, workers: usize) -> Result<Listener, StartError> {
    let error = |transport| move |source| StartError::Bind { address, transport, source };
    for _ in 1..PORT_TRIES {
        let listener = listen_once(address, workers, error("TCP"), error("UDP"));
        let taken = matches!(&listener, Err(StartError::Bind { source, .. })
            if source.kind() == io::ErrorKind::AddrInUse);
        if !(taken && address.port() == 0) {
            return listener;
        }
    }
    listen_once(address, workers, error("TCP"), error("UDP"))
}

fn listen_once(
    address: SocketAddr,
    workers: usize,
    tcp_error: impl Fn(io::Error) -> StartError,
    udp_error: impl Fn(io::Error) -> StartError,
) -> Result<Listener, StartError> {
    let tcp = tcp::bind(address).map_err(&tcp_error)?;
    let address = tcp.local_addr().map_err(&tcp_error)?;
    let udp = (0..workers).map(|_| udp::bind(address).map_err(&udp_error));
    Ok(Listener { address, udp: udp.collect::<Result<_, _>>()?, tcp })
}

fn start(
    tasks: &mut JoinSet<String>,
    name: String,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let span = info_span!("task", %name);
    tasks.spawn(
        async move {
            task.await;
            name
        }
        .instrument(span),
    );
}

/// Starts the threads and the task of one address, for at most so many `connections`.
fn start_listener(
    listener: Listener,
    connections: usize,
    served: &Arc<Served>,
    tasks: &mut JoinSet<String>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let address = listener.address;
    for (worker, socket) in listener.udp.into_iter().enumerate() {
        let (running, ended) = oneshot::channel::<()>();
        let (served, stop, span) = (Arc::clone(served), stop.clone(), Span::current());
        thread::Builder::new()
            .name(format!("dns-udp-{worker}"))
            .spawn(move || {
                let _running = running;
                span.in_scope(|| udp::serve(&socket, &served, &stop));
            })
            .map_err(RunError::Thread)?;
        start(tasks, format!("udp {address} {worker}"), async {
            // The sender is dropped with the thread, however that ends; nothing is ever sent.
            let _ = ended.await;
        });
    }
    let accept = accept(listener.tcp, connections, Arc::clone(served), stop.clone());
    start(tasks, format!("tcp {address}"), accept);
    Ok(())
}

/// Accepts connections, `most` at a time, and serves each in a task of its own.
async fn accept(listener: TcpListener, most: usize, served: Arc<Served>, stop: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "cannot listen over TCP");
            return;
        }
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => connect(accepted, &mut connections, most, &served, &stop),
            Err(error) => {
                warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    // Those that had come before the end was called for may have asked something.
    for _ in 0..most {
        let Some(Ok(accepted)) = listener.accept().now_or_never() else {
            break;
        };
        connect(accepted, &mut connections, most, &served, &stop);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves a connection in a task of its own, if there is a place for it.
fn connect(
    (stream, from): (TcpStream, SocketAddr),
    connections: &mut JoinSet<()>,
    most: usize,
    served: &Arc<Served>,
    stop: &CancellationToken,
) {
    if connections.len() >= most {
        served.metrics.dropped(Unanswered::Connections);
        return;
    }
    let crowded = connections.len() >= most / 2;
    let idle = if crowded { tcp::IDLE_CROWDED } else { tcp::IDLE };
    let (served, stop) = (Arc::clone(served), stop.clone());
    let connection = async move {
        if let Err(error) = tcp::serve(stream, &served, idle, &stop).await {
            debug!(%error, "the connection broke");
        }
    };
    connections.spawn(connection.instrument(info_span!("connection", %from)));
}
