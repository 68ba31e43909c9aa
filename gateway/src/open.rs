//! The connections and flows that are open: for people who ask what goes on, for policies that change while they last, and for
//! the access log, which has a line for each that ends.

mod log;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use landbridge_model::{ClusterId, Hostname, PortKey, ServiceKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::log::Log;
pub(crate) use self::log::LogConfig;
use crate::{
    caller::Caller,
    core::Core,
    hub,
    metrics::{Direction, Metrics},
    snapshot::Snapshot,
    spans::CallSpan,
};

/// Tables that connections are spread over, so that workers seldom wait for one another.
const SHARDS: usize = 16;
/// The most connections that are listed for people: more is for a metric to tell.
const SHOWN: usize = 1_000;

/// What one connection has carried.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// From the TCP connection here to the other side.
    pub(crate) sent: AtomicU64,
    /// From the other side to the TCP connection here.
    pub(crate) received: AtomicU64,
}

impl Tally {
    fn read(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }
}

/// Who calls what.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) direction: Direction,
    pub(crate) caller: Caller,
    pub(crate) service: ServiceKey,
    pub(crate) port: PortKey,
    pub(crate) endpoint: Option<Hostname>,
    /// The cluster that serves it, once that is known.
    pub(crate) cluster: Option<ClusterId>,
    /// The pod that serves it, where that is one of this cluster.
    pub(crate) pod: Option<SocketAddr>,
}

impl About {
    /// The cluster on the other side.
    fn peer(&self) -> &str {
        match self.direction {
            Direction::Inbound => self.caller.cluster.as_str(),
            Direction::Outbound => self.cluster.as_ref().map_or("", ClusterId::as_str),
        }
    }
}

/// One that is open.
#[derive(Debug)]
struct Entry {
    about: About,
    since: Instant,
    tally: Arc<Tally>,
    cut: CancellationToken,
}

/// All that are open.
pub(crate) struct Opened {
    shards: [Mutex<HashMap<u64, Arc<Entry>>>; SHARDS],
    next: AtomicU64,
    log: Log,
    metrics: Metrics,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Opened {
    pub(crate) fn new(log: LogConfig, metrics: Metrics) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, next: AtomicU64::new(0), log: Log::new(log), metrics }
    }

    /// Puts one in the table, until what is returned is dropped.
    pub(crate) fn open(self: &Arc<Self>, about: About, span: CallSpan) -> Guard {
        self.open_as(about, span, &Arc::default())
    }

    /// The same for one that is counted already.
    pub(crate) fn open_as(
        self: &Arc<Self>,
        about: About,
        mut span: CallSpan,
        tally: &Arc<Tally>,
    ) -> Guard {
        span.connected();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            about,
            since: Instant::now(),
            tally: Arc::clone(tally),
            cut: CancellationToken::new(),
        });
        self.shard(id)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&entry));
        Guard { id, entry, opened: Arc::clone(self), span, outcome: "given_up" }
    }

    /// One that was not opened.
    pub(crate) fn refused(&self, about: &About, reason: &'static str, mut span: CallSpan) {
        span.ends(about, (0, 0), reason);
        self.metrics.call(about.direction, about.peer(), &about.service, reason);
        self.log.line(about, (0, 0), Duration::ZERO, reason, &self.metrics);
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Arc<Entry>>> {
        &self.shards[usize::try_from(id % SHARDS as u64).unwrap_or_default()]
    }

    fn all(&self) -> Vec<(u64, Arc<Entry>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().map(|(id, entry)| (*id, Arc::clone(entry))));
        }
        all
    }

    /// Cuts what comes from other clusters and is not allowed any more. `is_news` says of which services the policies have
    /// changed.
    fn cut_denied(&self, snapshot: &Snapshot, is_news: impl Fn(&ServiceKey) -> bool) {
        for (_, entry) in self.all() {
            let About { direction, caller, service, port, endpoint, .. } = &entry.about;
            if *direction != Direction::Inbound || !is_news(service) {
                continue;
            }
            let exported = snapshot.exports.get(service);
            let denied = exported
                .is_some_and(|exported| exported.admit(caller, *port, endpoint.as_ref()).is_err());
            if denied && !entry.cut.is_cancelled() {
                tracing::info!(%service, %caller, "a call is cut: a policy does not allow it any more");
                self.metrics.cut("denied");
                entry.cut.cancel();
            }
        }
    }

    /// A stream to the hub has ended, which has carried something for so long; or it was refused.
    pub(crate) fn hub(
        &self,
        about: &hub::About,
        carried: Option<(&Tally, Duration)>,
        outcome: &'static str,
    ) {
        let carried = carried.map(|(tally, duration)| (tally.read(), duration));
        self.log.hub(about, carried, outcome, &self.metrics);
    }

    /// What is open, the oldest first.
    pub(crate) fn shown(&self) -> Value {
        let mut all = self.all();
        all.sort_by_key(|(id, _)| *id);
        let now = Instant::now();
        let one = |(id, entry): &(u64, Arc<Entry>)| {
            let About { direction, caller, service, port, endpoint, cluster, pod } = &entry.about;
            let (sent, received) = entry.tally.read();
            json!({
                "id": id,
                "direction": direction.as_str(),
                "caller": caller.to_string(),
                "client": caller.source.address.map(|address| address.to_string()),
                "service": service.to_string(),
                "port": port.to_string(),
                "endpoint": endpoint.as_ref().map(Hostname::as_str),
                "cluster": cluster.as_ref().map(ClusterId::as_str),
                "pod": pod.map(|pod| pod.to_string()),
                "seconds": now.saturating_duration_since(entry.since).as_secs(),
                "sentBytes": sent,
                "receivedBytes": received,
            })
        };
        json!({
            "connections": all.iter().take(SHOWN).map(one).collect::<Vec<_>>(),
            "notShown": all.len().saturating_sub(SHOWN),
        })
    }
}

/// Cuts calls that a policy does not allow any more, whenever policies change.
pub(crate) async fn hold_policies(core: Arc<Core>) {
    let mut revisions = core.snapshots.subscribe();
    let mut before = core.snapshots.load();
    loop {
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = core.stop.cancelled() => return,
        }
        let now = core.snapshots.load();
        if !Arc::ptr_eq(&before.exports, &now.exports) {
            let access = |snapshot: &Snapshot, service: &ServiceKey| {
                snapshot.exports.get(service).and_then(|exported| exported.access.clone())
            };
            core.opened
                .cut_denied(&now, |service| access(&before, service) != access(&now, service));
        }
        before = now;
    }
}

/// One that is open, until this is dropped: then it has its line in the access log.
#[derive(Debug)]
pub(crate) struct Guard {
    id: u64,
    entry: Arc<Entry>,
    opened: Arc<Opened>,
    span: CallSpan,
    outcome: &'static str,
}

impl Guard {
    /// Counts what it carries.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.entry.tally)
    }

    /// How it has ended, in a word.
    pub(crate) fn ends(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// Waits until it is to be cut, and says why: a policy does not allow it any more, or it was silent for as long as it may
    /// be.
    pub(crate) async fn cut(&self, idle: Option<Duration>) -> &'static str {
        tokio::select! {
            () = self.entry.cut.cancelled() => "denied",
            () = self.silence(idle) => "idle",
        }
    }

    async fn silence(&self, idle: Option<Duration>) {
        /// How often it is looked whether something was carried.
        const LOOKS: u32 = 4;
        let Some(idle) = idle else { return std::future::pending().await };
        let (mut before, mut silent) = (self.entry.tally.read(), 0);
        while silent < LOOKS {
            tokio::time::sleep(idle / LOOKS).await;
            let now = self.entry.tally.read();
            silent = if now == before { silent + 1 } else { 0 };
            before = now;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let shard = self.opened.shard(self.id);
        shard.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        let about = &self.entry.about;
        let Opened { metrics, log, .. } = &*self.opened;
        let carried = self.entry.tally.read();
        metrics.call(about.direction, about.peer(), &about.service, self.outcome);
        log.line(about, carried, self.entry.since.elapsed(), self.outcome, metrics);
        self.span.ends(about, carried, self.outcome);
    }
}
