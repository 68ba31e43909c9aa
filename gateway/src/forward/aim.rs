//! What one client wants, and where that may be had now.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant as Moment},
};

use landbridge_model::{AllottedPort, ClusterId, Hostname, ServiceKey};
use tokio::time::{Instant, timeout_at};

use crate::{
    caller::{Caller, Source},
    core::Core,
    links::Link,
    metrics::Direction,
    open::About,
    pool::{Standing, Taken},
    route::{
        Asked, Candidate, Choice, Draws, LinkView, Place, Scope, Tried, affinity::Key, choose,
        rules::Capacity,
    },
    snapshot::{Route, Snapshot},
    wire::{self, Header, TraceParent},
};

/// How long a client waits in all until it is connected or reset, unless a policy says otherwise.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most tries for one client: every exporter of a large set once would be worse than a quick no.
const MAX_TRIES: usize = 5;
/// How long a client waits while nobody can be asked at all: for an object that is on its way to this gateway, or a
/// link that is being dialled.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same where links stand and none is heard: a machine without time or a path that is mended. A client that waits so
/// long is better off than one that is told to try again.
const HICCUP: Duration = Duration::from_secs(3);

/// A client, the port that it came to, and what that meant then.
#[derive(Debug)]
pub(crate) struct Aim {
    pub(crate) core: Arc<Core>,
    pub(crate) port: AllottedPort,
    pub(crate) route: Arc<Route>,
    pub(crate) client: SocketAddr,
}

impl Aim {
    pub(crate) fn new(
        core: &Arc<Core>,
        port: AllottedPort,
        route: &Arc<Route>,
        client: SocketAddr,
    ) -> Self {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        Self { core: Arc::clone(core), port, route: Arc::clone(route), client }
    }

    /// How long the client waits in all.
    pub(crate) fn deadline(&self) -> Duration {
        self.route.call.connect.unwrap_or(DEADLINE)
    }

    /// How often it is tried to bring the call somewhere.
    pub(crate) fn tries(&self) -> usize {
        self.route.call.retries.map_or(MAX_TRIES, |retries| (retries + 1).min(MAX_TRIES))
    }

    /// Chooses where to; while nobody can be asked, waits a little for that to change.
    pub(crate) async fn choose(
        &self,
        tried: &Tried,
        deadline: Instant,
    ) -> Option<(Choice, Arc<Snapshot>)> {
        let begun = Instant::now();
        let mut revisions = self.core.snapshots.subscribe();
        let mut links = self.core.links.subscribe();
        loop {
            let snapshot = self.core.snapshots.load();
            if let Some(choice) = self.choose_now(&snapshot, tried) {
                return Some((choice, snapshot));
            }
            if tried.exhausts(&self.current(&snapshot).clusters) {
                return None;
            }
            let patience = if self.is_silent(&snapshot, tried) { HICCUP } else { PATIENCE };
            let changed = timeout_at(deadline.min(begun + patience), async {
                tokio::select! {
                    _ = revisions.changed() => {}
                    _ = links.changed() => {}
                }
            });
            changed.await.ok()?;
        }
    }

    /// Whether a link stands that is only not heard at the moment.
    fn is_silent(&self, snapshot: &Snapshot, tried: &Tried) -> bool {
        let clusters = self.current(snapshot).clusters.iter();
        let mut links = clusters.flat_map(|cluster| self.core.links.to(cluster));
        links.any(|link| tried.may_return_to(&link.view()))
    }

    /// What the port means now; if it means something else, or nothing, what it meant when the client came.
    fn current<'a>(&'a self, snapshot: &'a Snapshot) -> &'a Route {
        let key = (self.route.target.port.protocol, self.port);
        let now = snapshot.routes.get(&key);
        now.filter(|now| now.target == self.route.target).unwrap_or(&self.route)
    }

    fn choose_now(&self, snapshot: &Snapshot, tried: &Tried) -> Option<Choice> {
        let route = self.current(snapshot);
        let own = self.own_capacity(snapshot);
        let servers = own.map(|_| &self.core.cluster).into_iter().chain(&route.clusters);
        let keys: Vec<(ServiceKey, ClusterId)> =
            servers.map(|cluster| (route.target.service.clone(), cluster.clone())).collect();
        let standings = self.core.servers.standings(keys.iter(), Moment::now());
        let candidates: Vec<Candidate<'_>> = keys
            .iter()
            .zip(standings)
            .map(|((_, cluster), standing)| self.candidate(snapshot, route, cluster, standing))
            .collect();
        let affinity = route.by_client.then(|| Key::of(self.client.ip()));
        let asked = Asked { candidates: &candidates, rules: &route.rules, affinity };
        choose(asked, tried, Draws(rand::random()))
    }

    fn candidate<'a>(
        &self,
        snapshot: &Snapshot,
        route: &Route,
        cluster: &'a ClusterId,
        Standing { load, out_until, warmth }: Standing,
    ) -> Candidate<'a> {
        let is_own = *cluster == self.core.cluster;
        let version = wire::version(route.target.port.protocol);
        let links = if is_own { Vec::new() } else { self.core.links.to(cluster) };
        let able = links.iter().filter(|link| link.reads(version));
        let region = snapshot.peers.get(cluster).and_then(|peer| peer.region.as_ref());
        let place = match (is_own, &self.core.region) {
            (true, _) => Place::Here,
            (false, Some(own)) if region == Some(own) => Place::Region,
            (false, _) => Place::Elsewhere,
        };
        let capacity = match place {
            Place::Here => self.own_capacity(snapshot),
            _ => route.capacity.get(cluster).copied(),
        };
        // Whoever is drained is called as one that is about to go: where nobody else is left.
        let is_drained = snapshot.peers.get(cluster).is_some_and(|peer| peer.drained);
        let view = |link: &Arc<Link>| {
            let view = link.view();
            LinkView { draining: view.draining || is_drained, ..view }
        };
        let links = able.map(view).collect();
        Candidate { cluster, place, links, capacity, calls: load, out_until, warmth }
    }

    /// The pods of this cluster that the call may be brought to; none where there are none that are ready.
    fn own_capacity(&self, snapshot: &Snapshot) -> Option<Capacity> {
        let exported = snapshot.exports.get(&self.route.target.service)?;
        let port = self.route.target.port;
        let ready = self.is_here() && exported.destinations(port, self.hostname()).is_ok();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        ready.then(|| Capacity {
            ready: count(exported.endpoints.len()),
            total: count(exported.total.max(exported.endpoints.len())),
        })
    }

    /// Counts the call for a cluster, until what is returned is dropped. It counts while it is tried already: what is stuck
    /// there keeps others away.
    pub(crate) fn take(&self, cluster: &ClusterId) -> Taken<(ServiceKey, ClusterId)> {
        self.core.servers.take(&(self.route.target.service.clone(), cluster.clone()))
    }

    /// A call to a cluster has gone well.
    pub(crate) fn succeeded(&self, taken: &Taken<(ServiceKey, ClusterId)>) {
        self.core.servers.succeeded(taken.key());
    }

    /// Counts a try that has failed for the cluster where that says something of it.
    pub(crate) fn failed(&self, cluster: &ClusterId, why: &'static str, scope: Scope) {
        // Who may not call, or too early, or over a link that is lost, says nothing of the pods.
        let of_pods = scope == Scope::Cluster && !matches!(why, "denied" | "not_exported");
        if of_pods || why == "timeout" {
            let key = (self.route.target.service.clone(), cluster.clone());
            if self.core.servers.failed(&key, 1, &self.route.rules.outliers) {
                self.core.metrics.ejected("cluster");
                tracing::warn!(
                    service = %key.0, cluster = %cluster, reason = why,
                    "calls to a cluster fail: others get them for a while"
                );
            }
        }
    }

    /// Whether this cluster may serve the call itself: an endpoint of another cluster it may not.
    fn is_here(&self) -> bool {
        let endpoint = self.route.target.endpoint.as_ref();
        endpoint.is_none_or(|endpoint| endpoint.cluster == self.core.cluster)
    }

    fn hostname(&self) -> Option<&Hostname> {
        self.route.target.endpoint.as_ref().map(|endpoint| &endpoint.hostname)
    }

    /// Who the client is, as far as `snapshot` tells.
    fn source(&self, snapshot: &Snapshot) -> Source {
        Source {
            workload: snapshot.callers.get(&self.client.ip()).cloned(),
            address: Some(self.client),
        }
    }

    /// What is told of the call, which `cluster` serves if any does.
    pub(crate) fn about(&self, cluster: Option<&ClusterId>) -> About {
        About {
            direction: Direction::Outbound,
            caller: Caller {
                cluster: self.core.cluster.clone(),
                source: self.source(&self.core.snapshots.load()),
            },
            service: self.route.target.service.clone(),
            port: self.route.target.port,
            endpoint: self.hostname().cloned(),
            cluster: cluster.cloned(),
            pod: None,
        }
    }

    /// What is told of the call to who serves it; `trace` is the call's span here.
    pub(crate) fn header(&self, snapshot: &Snapshot, trace: Option<TraceParent>) -> Header {
        Header {
            source: self.source(snapshot),
            trace,
            flow: None,
            service: self.route.target.service.clone(),
            endpoint: self.hostname().cloned(),
            port: self.route.target.port,
        }
    }
}
