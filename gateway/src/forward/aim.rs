//! What one client wants, and where that may be had now.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use landbridge_model::{AllottedPort, Hostname};
use tokio::time::{Instant, timeout_at};

use crate::{
    caller::Source,
    core::Core,
    route::{Candidate, Choice, Draws, Tried, choose},
    snapshot::{Route, Snapshot},
    wire::{self, Header},
};

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
        let version = wire::version(route.target.port.protocol);
        let candidates: Vec<Candidate<'_>> = route
            .clusters
            .iter()
            .map(|cluster| {
                let links = self.core.links.to(cluster);
                let able = links.iter().filter(|link| link.reads(version));
                Candidate { cluster, links: able.map(|link| link.view()).collect() }
            })
            .collect();
        let exported = snapshot.exports.get(&route.target.service);
        let here = exported.is_some_and(|exported| {
            self.is_here() && exported.destinations(route.target.port, self.hostname()).is_ok()
        });
        choose(&candidates, here, tried, Draws(rand::random()))
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
    pub(crate) fn source(&self, snapshot: &Snapshot) -> Source {
        Source {
            workload: snapshot.callers.get(&self.client.ip()).cloned(),
            address: Some(self.client),
        }
    }

    pub(crate) fn header(&self, source: Source) -> Header {
        Header {
            service: self.route.target.service.clone(),
            endpoint: self.hostname().cloned(),
            port: self.route.target.port,
            source,
        }
    }
}
