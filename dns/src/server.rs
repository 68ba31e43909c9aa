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
    fmt, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, stream::BoxStream};
use kube::Client;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, info, info_span, warn};

use follow::{events, follow};

use crate::{
    answer::{Rules, Transport},
    config::{Config, CookieSecret},
    cookie::Jar,
    forward::{Forwarder, Job, MAX_ASKING},
    metrics::{Metrics, Unanswered},
    rate::Limiter,
    snapshot::{Builder, Current, Snapshot},
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
    /// The resolvers for other zones cannot be asked: a fault of this program or of its surroundings.
    #[error("cannot ask other resolvers: {0}; leave them out to refuse other zones")]
    Forward(String),
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
pub(crate) struct Served {
    pub(crate) current: Arc<Current>,
    /// Who asks about other zones, if anybody does.
    pub(crate) forwarder: Option<Forwarder>,
    jobs: Option<mpsc::Sender<Job>>,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) log_one_in: Option<NonZeroU32>,
    pub(crate) metrics: Metrics,
    pub(crate) rules: Rules,
    /// What times of the limiter are counted from.
    pub(crate) started: Instant,
}

impl Served {
    /// Has others asked, if there is a place for it. A client whose question is dropped asks again.
    pub(crate) fn forward(&self, job: Job) {
        if self.jobs.as_ref().is_none_or(|jobs| jobs.try_send(job).is_err()) {
            self.metrics.dropped(Unanswered::Forwards);
        }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Seconds since 1970, which wrap around in 2106: what compares them knows (RFC 1982).
pub(crate) fn seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    u32::try_from(seconds % (1 << 32)).unwrap_or(0)
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
    jobs: mpsc::Receiver<Job>,
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
        let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = config.workers.map_or_else(cores, NonZeroUsize::get).min(MAX_WORKERS);
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
        let mut builder = Builder::new(&config.zone, config.ttl.into(), &own);
        let (waiting, jobs) = mpsc::channel(MAX_ASKING);
        let unknown = builder.snapshot(false, seconds(), Instant::now());
        let served = served(&config, unknown, waiting, registry)?;
        Ok(Self {
            builder,
            config,
            connections: MAX_CONNECTIONS,
            events,
            jobs,
            listeners,
            served: Arc::new(served),
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
        let forward = forward(self.jobs, Arc::clone(&self.served), stop.clone());
        start(&mut tasks, "forward".into(), forward);
        let follow = follow(
            self.events,
            self.config.zone.clone(),
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
        if ended.is_none() && !self.config.lame_duck.is_zero() {
            info!(lame_duck = ?self.config.lame_duck, "ending: not ready, and still answering");
            tokio::time::sleep(self.config.lame_duck).await;
        }
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

    /// Whether imports and slices have been read in full once, are as new as they should be, and the server is not going
    /// away.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.served.current.is_ready(Instant::now())
    }

    /// Every name and its records, as they are answered now, in order.
    #[must_use]
    pub fn snapshot(&self) -> serde_json::Value {
        let snapshot = self.served.current.snapshot.load();
        serde_json::json!({
            "addresses": self.addresses,
            "age_seconds": self.served.current.age(Instant::now()).as_secs(),
            "generation": snapshot.generation,
            "names": dump::names(&snapshot, &self.served.rules),
            "ready": self.is_ready(),
            "zone": self.zone.apex().to_string(),
        })
    }
}

/// What every query needs, for this configuration.
fn served(
    config: &Config,
    unknown: Snapshot,
    waiting: mpsc::Sender<Job>,
    registry: &mut Registry,
) -> Result<Served, StartError> {
    let current = Arc::new(Current::new(unknown, config.max_age));
    let secret = config.cookies.secret.unwrap_or_else(|| CookieSecret::new(rand::random()));
    let forwarder = match &config.upstream[..] {
        [] => None,
        upstream => {
            Some(Forwarder::new(upstream).map_err(|error| StartError::Forward(error.to_string()))?)
        }
    };
    Ok(Served {
        metrics: Metrics::new(registry, Arc::clone(&current)),
        current,
        jobs: forwarder.as_ref().map(|_| waiting),
        limiter: config.rate.map(|rate| Limiter::new(rate, &rand::random())),
        log_one_in: config.log_one_in,
        rules: Rules {
            forwards: forwarder.is_some(),
            jar: Jar::new(&secret, config.cookies.required),
        },
        forwarder,
        started: Instant::now(),
    })
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
                let mut packets = udp::packets(address);
                span.in_scope(|| udp::serve(&Arc::new(socket), &served, &stop, &mut packets));
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

/// Has others asked for what came over UDP, so many questions at a time, and sends what they answer.
async fn forward(mut jobs: mpsc::Receiver<Job>, served: Arc<Served>, stop: CancellationToken) {
    let mut asking = JoinSet::new();
    loop {
        let job = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = asking.join_next() => continue,
            Some(job) = jobs.recv(), if asking.len() < MAX_ASKING => job,
        };
        asking.spawn(ask(job, Arc::clone(&served)).instrument(Span::current()));
    }
    while asking.join_next().await.is_some() {}
}

async fn ask(job: Job, served: Arc<Served>) {
    let Some(forwarder) = &served.forwarder else {
        return;
    };
    let Some((answer, outcome)) = forwarder.answer(&job.packet, Transport::Udp).await else {
        return;
    };
    served.metrics.count(outcome, Transport::Udp, 1);
    if let Err(error) = job.reply.socket.send_to(&answer, job.reply.from) {
        debug!(%error, to = %job.reply.from, "an answer could not be sent");
        served.metrics.dropped(Unanswered::Send);
    }
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
        if let Err(error) = tcp::serve(stream, from, &served, idle, &stop).await {
            debug!(%error, "the connection broke");
        }
    };
    connections.spawn(connection.instrument(info_span!("connection", %from)));
}
