//! What carries connections: links, listeners and the state between them, all driven by snapshots.
//!
//! It knows no Kubernetes API, so that tests drive it as the watches do.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use landbridge_model::{ClusterId, ClusterSetId, Protocol, RegionName, ServiceKey};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    caller::Caller,
    credentials::{Credentials, Keeper},
    door::Door,
    hub::{self, Access},
    links::{self, Link, Links},
    listen::{self, Listeners},
    metrics::Metrics,
    open::{self, LogConfig, Opened},
    pki::Identity,
    pool::Pool,
    refusals::{self, Refused},
    room::Room,
    shared::Snapshots,
    spans::Tracer,
    tasks::Tasks,
    transport::{SendStream, Transport},
    udp::Places,
    verifier::Trust,
};

/// Streams that peers may have open for connections: more than one of them may open on a link. Each costs a task, and no
/// descriptor before it is brought to a pod.
const MAX_INBOUND: usize = 24_576;
/// UDP flows of clients of this cluster: each costs a task and 2 KiB, and a client with many questions may have
/// thousands. Those of one port are bounded besides, and evicted.
const MAX_OUTBOUND_FLOWS: usize = 16_384;
/// What may be kept of payload that no answer has confirmed, over all connections: a thousand at their limit of
/// 64 KiB.
const KEPT: usize = 64 << 20;
/// How long a gateway that goes waits at most until no slice names it: the controller and the API may be away.
const LEAVE: Duration = Duration::from_secs(10);
/// How long it takes new calls after that: kube-proxies have yet to hear of it, and peers to hold another replica, which
/// takes them no longer than the longest wait between two tries to dial.
const LINGER: Duration = Duration::from_secs(3);
/// How long connections may go on then. All three are less than the 30 s that Kubernetes gives a pod.
const DRAIN: Duration = Duration::from_secs(15);

/// What all parts of a running gateway share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) cluster: ClusterId,
    pub(crate) region: Option<RegionName>,
    pub(crate) listen: Vec<IpAddr>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) transport: Transport,
    pub(crate) links: Links,
    pub(crate) listeners: Listeners,
    /// Who is being let in that has no certificate yet.
    pub(crate) door: Arc<Door>,
    /// What the hub gives, to peers or to the controller here.
    pub(crate) hub: Access,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
    /// The connections and flows that are open.
    pub(crate) opened: Arc<Opened>,
    /// Calls that a policy does not allow, for whoever tells of them.
    refused: (mpsc::Sender<Refused>, Mutex<Option<mpsc::Receiver<Refused>>>),
    /// The pods of this cluster that calls are brought to.
    pub(crate) pods: Pool<(Protocol, SocketAddr)>,
    /// The clusters that calls to a service are brought to, this one among them.
    pub(crate) servers: Pool<(ServiceKey, ClusterId)>,
    /// Where the UDP flows of peers have been brought.
    pub(crate) places: Places,
    pub(crate) kept: Budget,
    /// How many connections there may be, of which these are what is left.
    pub(crate) room: Room,
    pub(crate) outbound: Arc<Semaphore>,
    pub(crate) inbound: Arc<Semaphore>,
    /// Connections to pods, of peers and of own clients.
    pub(crate) to_pods: Arc<Semaphore>,
    pub(crate) outbound_flows: Arc<Semaphore>,
    pub(crate) inbound_flows: Arc<Semaphore>,
    /// Cancelled when others are to send new calls elsewhere. What comes all the same is served.
    pub(crate) leaving: CancellationToken,
    /// Cancelled when no new connections are to be taken.
    pub(crate) draining: CancellationToken,
    /// Cancelled when everything is to end.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: Tasks,
}

/// What a core is made from.
#[derive(Debug)]
pub(crate) struct CoreConfig {
    pub(crate) cluster: ClusterId,
    pub(crate) set: ClusterSetId,
    pub(crate) listen: Vec<IpAddr>,
    pub(crate) link: SocketAddr,
    pub(crate) identity: Identity,
    pub(crate) region: Option<RegionName>,
    pub(crate) access_log: LogConfig,
    pub(crate) tracer: Tracer,
    pub(crate) hub: Access,
    pub(crate) span: Span,
}

impl Core {
    /// Binds the sockets of the links. Nothing runs yet.
    pub(crate) fn bind(config: CoreConfig, metrics: Metrics) -> io::Result<Arc<Self>> {
        let snapshots = Arc::new(Snapshots::new());
        let credentials = Credentials::new(config.identity).map_err(io::Error::other)?;
        let credentials = Arc::new(credentials);
        let trust = Trust::new(
            config.set,
            Arc::clone(&credentials),
            Arc::clone(&snapshots),
            metrics.clone(),
        );
        let tasks = Tasks::new(config.span);
        let trust = Arc::new(trust);
        let has_door = config.hub.authority().is_some();
        let of_links = Arc::clone(&credentials);
        let transport = Transport::bind(config.link, of_links, trust, &tasks, has_door)?;
        let (room, stop) = (Room::take(), CancellationToken::new());
        let (refused, to_tell) = mpsc::channel(refusals::MOST_WAITING);
        Ok(Arc::new(Self {
            cluster: config.cluster,
            region: config.region,
            listen: config.listen,
            snapshots,
            credentials,
            transport,
            links: Links::default(),
            listeners: Listeners::default(),
            door: Arc::default(),
            hub: config.hub,
            opened: Arc::new(Opened::new(config.access_log, metrics.clone())),
            refused: (refused, Mutex::new(Some(to_tell))),
            kept: Budget::new(KEPT, metrics.kept.clone()),
            metrics,
            tracer: config.tracer,
            pods: Pool::default(),
            servers: Pool::default(),
            places: Places::default(),
            outbound: Arc::new(Semaphore::new(room.bounds.outbound)),
            inbound: Arc::new(Semaphore::new(MAX_INBOUND)),
            to_pods: Arc::new(Semaphore::new(room.bounds.to_pods)),
            outbound_flows: Arc::new(Semaphore::new(MAX_OUTBOUND_FLOWS)),
            inbound_flows: Arc::new(Semaphore::new(room.bounds.inbound_flows)),
            room,
            // Whoever waits for one of them does not outlive a gateway that ends without a word.
            leaving: stop.child_token(),
            draining: stop.child_token(),
            stop,
            tasks,
        }))
    }

    /// Starts everything that runs as long as the gateway does.
    pub(crate) fn start(self: &Arc<Self>) {
        self.tasks.spawn("accept-links", links::accept(Arc::clone(self)));
        self.tasks.spawn("dial-links", links::dial(Arc::clone(self)));
        self.tasks.spawn("watch-links", links::watch_health(Arc::clone(self)));
        self.tasks.spawn("renew-links", links::renew(Arc::clone(self)));
        self.tasks.spawn("renew-certificates", Keeper::new(self).run());
        self.tasks.spawn("listen", listen::manage(Arc::clone(self)));
        self.tasks.spawn("hold-policies", open::hold_policies(Arc::clone(self)));
        hub::start(self);
    }

    /// A policy does not allow a call. Where too many wait to be told of, metrics and logs have to do.
    pub(crate) fn denied(&self, service: &ServiceKey, caller: &Caller) {
        let _ = self.refused.0.try_send(Refused::new(service, caller));
    }

    /// The calls that policies do not allow; once.
    pub(crate) fn refusals(&self) -> Option<mpsc::Receiver<Refused>> {
        self.refused.1.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells everybody to send new calls elsewhere, and waits until they do. Snapshots must go on meanwhile.
    pub(crate) async fn leave(&self) {
        self.leaving.cancel();
        self.transport.refuse_new();
        let most = tokio::time::Instant::now() + LEAVE;
        let mut revisions = self.snapshots.subscribe();
        while self.is_named() {
            tokio::select! {
                _ = revisions.changed() => {}
                () = tokio::time::sleep_until(most) => break,
            }
        }
        let linger = tokio::time::Instant::now() + LINGER;
        let mut links = self.links.subscribe();
        while self.is_missed() {
            tokio::select! {
                _ = links.changed() => {}
                () = tokio::time::sleep_until(linger) => break,
            }
        }
    }

    /// Whether slices send clients here, and could send them elsewhere: where this gateway is the only one, nobody waits
    /// for its place.
    fn is_named(&self) -> bool {
        let snapshot = self.snapshots.load();
        let (own, others): (Vec<&IpAddr>, _) =
            snapshot.gateways.iter().partition(|address| self.is_own(**address));
        !own.is_empty() && !others.is_empty()
    }

    /// Whether somebody may send calls here who has yet to hear, or to find another way.
    fn is_missed(&self) -> bool {
        let snapshot = self.snapshots.load();
        let others = snapshot.gateways.iter().any(|address| !self.is_own(*address));
        let hears = |link: &Arc<Link>| !link.going.is_cancelled() && link.state().takes_streams();
        others || self.links.all().values().flatten().any(hears)
    }

    /// Whether this gateway listens at an address.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        let any = self.listen.iter().any(IpAddr::is_unspecified);
        // A machine binds its own addresses and no others.
        self.listen.contains(&address) || any && std::net::UdpSocket::bind((address, 0)).is_ok()
    }

    /// Takes no new connections, lets open ones go on for a while, and ends.
    pub(crate) async fn drain(&self) {
        self.leaving.cancel();
        self.draining.cancel();
        self.transport.refuse_new();
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.open_connections() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.stop.cancel();
        self.transport.close().await;
        if !self.tasks.wait(Duration::from_secs(2)).await {
            tracing::warn!("some tasks have not ended in time");
        }
    }

    /// A connection is over when its last bytes have been handed on. While this gateway goes, that is when they have
    /// arrived: the link that carries them is about to be closed.
    pub(crate) async fn arrived(&self, mut send: SendStream) {
        if self.leaving.is_cancelled() {
            send.acknowledged().await;
        }
    }

    /// Connections that go through this gateway in either direction. UDP flows, which have no end that could be waited
    /// for, do not count.
    pub(crate) fn open_connections(&self) -> usize {
        let free = self.outbound.available_permits() + self.inbound.available_permits();
        (self.room.bounds.outbound + MAX_INBOUND).saturating_sub(free)
    }
}

/// A number of bytes that many share.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
    /// What is taken.
    taken: Gauge,
}

impl Budget {
    fn new(bytes: usize, taken: Gauge) -> Self {
        Self { left: AtomicUsize::new(bytes), taken }
    }

    /// Takes `bytes`, all or none.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let is_taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        if is_taken {
            self.taken.inc_by(i64::try_from(bytes).unwrap_or_default());
        }
        is_taken
    }

    /// Gives `bytes` back.
    pub(crate) fn give(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
        self.taken.dec_by(i64::try_from(bytes).unwrap_or_default());
    }
}
