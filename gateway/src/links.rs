//! The links to peers: who dials, which connections stand, and how each of them is.
//!
//! Each side dials each address of its peers. Connections from both sides are kept: streams open both ways on either.
//! A connection whose peer is no longer listed, or with another generation, is cut at once.

mod dial;
mod fresh;
mod hold;
mod run;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use landbridge_model::{ClusterId, Protocol};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    dial::{accept, dial},
    fresh::renew,
};
use crate::{
    core::Core,
    health::{Event, Health, LinkState},
    identity::GatewayId,
    route::LinkView,
    transport::{
        Carrier, CloseReason, ConnectError, Connection, RecvStream, SendStream, StreamError,
    },
    udp::Flows,
    wire,
};

/// The most connections to one peer: eight replicas on each side, dialled from both.
const MAX_PER_PEER: usize = 128;

/// One connection to a gateway of a peer that has taken it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) connection: Connection,
    /// The address that was dialled; none where the peer has dialled.
    pub(crate) dialled: Option<SocketAddr>,
    state: watch::Sender<LinkState>,
    streams: AtomicUsize,
    /// Cancelled when the peer says that it is about to go, and when the link is gone.
    pub(crate) going: CancellationToken,
    /// Cancelled when another link is to take the place of this one, which the peer is told.
    retired: CancellationToken,
    /// The versions of headers that the peer reads.
    spoken: Vec<u8>,
    /// The UDP flows that go over it.
    pub(crate) flows: Flows,
}

impl Link {
    pub(crate) fn peer(&self) -> &GatewayId {
        self.connection.peer()
    }

    pub(crate) fn state(&self) -> LinkState {
        *self.state.borrow()
    }

    /// Whether the peer reads headers of this version.
    pub(crate) fn reads(&self, version: u8) -> bool {
        self.spoken.contains(&version)
    }

    /// Tells of every change of the state.
    pub(crate) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// As the choice of a link sees it.
    pub(crate) fn view(&self) -> LinkView {
        LinkView {
            id: self.id,
            state: self.state(),
            draining: self.going.is_cancelled(),
            fallback: self.connection.carrier() == Carrier::Tcp,
            streams: self.streams.load(Ordering::Relaxed),
        }
    }

    /// Opens a stream, which counts as load until what comes with it is dropped.
    pub(crate) async fn open(
        self: &Arc<Self>,
    ) -> Result<(SendStream, RecvStream, Load), StreamError> {
        let load = Load::new(self);
        let (send, recv) = self.connection.open().await?;
        Ok((send, recv, load))
    }
}

/// Counts a stream of a link while it lives.
#[derive(Debug)]
pub(crate) struct Load(Arc<Link>);

impl Load {
    fn new(link: &Arc<Link>) -> Self {
        link.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(link))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

type Table = BTreeMap<ClusterId, Vec<Arc<Link>>>;

/// Every link, and what went wrong with the ones that there are not.
#[derive(Debug)]
pub(crate) struct Links {
    table: ArcSwap<Table>,
    /// Held while the table is replaced.
    replacing: Mutex<()>,
    /// The last failure to dial each peer. As many as there are peers.
    failures: Mutex<BTreeMap<ClusterId, ConnectError>>,
    next: AtomicU64,
    changes: watch::Sender<u64>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            table: ArcSwap::default(),
            replacing: Mutex::new(()),
            failures: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(0),
            changes: watch::Sender::new(0),
        }
    }
}

impl Links {
    /// The links to `cluster`.
    pub(crate) fn to(&self, cluster: &ClusterId) -> Vec<Arc<Link>> {
        self.table.load().get(cluster).cloned().unwrap_or_default()
    }

    /// The link with this id, if it still stands.
    pub(crate) fn get(&self, cluster: &ClusterId, id: u64) -> Option<Arc<Link>> {
        let table = self.table.load();
        table.get(cluster)?.iter().find(|link| link.id == id).cloned()
    }

    /// Waits until there is a link over QUIC in place of one over TCP.
    pub(crate) async fn better_than(&self, link: &Link) -> Arc<Link> {
        let mut changes = self.subscribe();
        let version = wire::version(Protocol::Udp);
        let is_better = |other: &Arc<Link>| {
            let view = other.view();
            view.state.takes_streams() && !view.draining && !view.fallback && other.reads(version)
        };
        while link.connection.carrier() == Carrier::Tcp {
            if let Some(better) = self.to(&link.peer().cluster).into_iter().find(is_better) {
                return better;
            }
            if changes.changed().await.is_err() {
                break;
            }
        }
        std::future::pending().await
    }

    /// Every link, by peer.
    pub(crate) fn all(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Tells of every link that comes, goes or changes its state.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Why `cluster` could not be dialled last, if that is so.
    pub(crate) fn failure(&self, cluster: &ClusterId) -> Option<ConnectError> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(cluster).cloned()
    }

    fn failed(&self, cluster: &ClusterId, error: ConnectError) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.insert(cluster.clone(), error);
        drop(failures);
        self.touch();
    }

    /// A peer has said that it is about to go.
    fn goes(&self, link: &Link) {
        link.going.cancel();
        self.touch();
    }

    /// Another link is to take the place of this one. What is open on it goes on.
    fn retire(&self, link: &Link) {
        link.retired.cancel();
        self.goes(link);
    }

    fn touch(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Puts a connection in the table; none where its peer has too many.
    fn add(
        &self,
        connection: Connection,
        dialled: Option<SocketAddr>,
        spoken: Vec<u8>,
        going: CancellationToken,
    ) -> Option<Arc<Link>> {
        let cluster = connection.peer().cluster.clone();
        let link = Arc::new(Link {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            connection,
            dialled,
            state: watch::Sender::new(LinkState::Healthy),
            streams: AtomicUsize::new(0),
            going,
            retired: CancellationToken::new(),
            spoken,
            flows: Flows::default(),
        });
        let added = self.replace(|table| {
            let links = table.entry(cluster.clone()).or_default();
            let room = links.len() < MAX_PER_PEER;
            if room {
                links.push(Arc::clone(&link));
            }
            room
        });
        if !added {
            link.connection.close(CloseReason::TooMany);
            return None;
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&cluster);
        drop(failures);
        self.touch();
        Some(link)
    }

    fn remove(&self, link: &Link) {
        link.state.send_replace(LinkState::Closed);
        link.going.cancel();
        self.replace(|table| {
            if let Some(links) = table.get_mut(&link.peer().cluster) {
                links.retain(|other| other.id != link.id);
                if links.is_empty() {
                    table.remove(&link.peer().cluster);
                }
            }
        });
    }

    fn replace<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let _held = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        let result = change(&mut table);
        self.table.store(Arc::new(table));
        self.touch();
        result
    }

    /// Cuts every link whose peer is not listed as `listed` has it, and forgets the failures of those.
    fn cut(&self, listed: impl Fn(&ClusterId) -> Option<u64>) {
        for link in self.table.load().values().flatten() {
            let peer = link.peer();
            if listed(&peer.cluster) != Some(peer.generation) {
                tracing::info!(peer = %peer, "the peer is no longer listed: its link is cut");
                link.connection.close(CloseReason::NotListed);
            }
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|cluster, _| listed(cluster).is_some());
    }
}

/// Looks at every link, over and over, and tells how it is.
pub(crate) async fn watch_health(core: Arc<Core>) {
    let mut known: HashMap<u64, Health> = HashMap::new();
    let mut changes = core.links.subscribe();
    loop {
        let table = core.links.all();
        known.retain(|id, _| table.values().flatten().any(|link| link.id == *id));
        let mut changed = changes.has_changed().unwrap_or(false);
        for link in table.values().flatten() {
            let health = known.entry(link.id).or_insert_with(|| Health::new(Instant::now()));
            changed |= look(&core, link, health);
        }
        if changed {
            count(&core, &table);
            changes.mark_unchanged();
        }
        let wake = known.values().filter_map(Health::next_wakeup).min();
        tokio::select! {
            () = wait_until(wake) => {}
            // With no link to look at there is nothing to do before there is one.
            _ = changes.changed(), if wake.is_none() => {}
            () = core.stop.cancelled() => return,
        }
    }
}

async fn wait_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// Looks at one link, and says whether it is other than before.
fn look(core: &Core, link: &Link, health: &mut Health) -> bool {
    let (datagrams, round_trip) = link.connection.heard();
    health.apply(Event::Heard { datagrams, round_trip });
    if link.connection.close_reason().is_some() {
        health.apply(Event::Closed);
    }
    let at = Instant::now();
    let (before, now) = (link.state(), health.poll(at));
    if health.moves(at) {
        link.connection.try_another_path();
    }
    if before == now {
        return false;
    }
    match (before, now) {
        (_, LinkState::Suspect) => {
            core.metrics.suspicion();
            tracing::warn!(peer = %link.peer(), "the peer is silent: new calls go elsewhere");
        }
        (LinkState::Suspect, LinkState::Healthy) => {
            tracing::info!(peer = %link.peer(), "the peer is heard again");
        }
        _ => {}
    }
    link.state.send_replace(now);
    // Being quiet for a moment is of no interest to anyone but the streams that are about to be opened.
    let seen = |state| matches!(state, LinkState::Suspect | LinkState::Closed);
    let seen = seen(before) || seen(now);
    if seen {
        core.links.touch();
    }
    seen
}

fn count(core: &Core, table: &Table) {
    let mut counts: BTreeMap<(&str, &'static str, &'static str), i64> = BTreeMap::new();
    for (cluster, links) in table {
        for link in links {
            let over = link.connection.carrier().as_str();
            let labels = (cluster.as_str(), link.state().as_str(), over);
            *counts.entry(labels).or_default() += 1;
        }
    }
    core.metrics.links(counts.into_iter());
}
