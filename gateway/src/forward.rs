//! The sending side: a client of this cluster has connected to an allotted port.
//!
//! The header goes out at once, so that servers may speak first, and payload may follow before the answer. The rule
//! of delivery: a call is tried elsewhere when the answer says that nothing was delivered, or when no payload has been
//! sent; once payload is out and no answer has come, a lost or silent link resets the client, for what may have been
//! delivered is never sent twice.

mod attempt;
mod early;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use landbridge_model::{AllottedPort, ClusterId};
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use self::{
    attempt::{Attempt, Connected, Scope, attempt},
    early::Early,
};
use crate::{
    caller::{Caller, Source},
    copy::{self, Counters},
    core::Core,
    metrics::{Direction, Open},
    route::{Candidate, Choice, Draws, Tried, choose},
    serve,
    snapshot::{Route, Snapshot},
    wire::{self, Header, Refusal},
};

/// How long a client waits in all until it is connected or reset.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a client waits while nobody can be asked at all: for an object that is on its way to this gateway, or a
/// link that is being dialled.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most tries for one client: every exporter of a large set once would be worse than a quick no.
const MAX_TRIES: usize = 5;

/// Takes a client in. It is refused by a reset where there are too many.
pub(crate) fn client(
    core: &Arc<Core>,
    client: TcpStream,
    address: SocketAddr,
    port: AllottedPort,
    route: &Arc<Route>,
) {
    let Ok(permit) = Arc::clone(&core.outbound).try_acquire_owned() else {
        core.metrics.connection(Direction::Outbound, "overloaded");
        return copy::reset(client);
    };
    let call = Call {
        core: Arc::clone(core),
        port,
        route: Arc::clone(route),
        address: SocketAddr::new(address.ip().to_canonical(), address.port()),
        _permit: permit,
        _open: core.metrics.open(Direction::Outbound),
    };
    core.tasks.spawn("client", async move {
        let stop = call.core.stop.clone();
        tokio::select! {
            () = call.run(client) => {}
            () = stop.cancelled() => {}
        }
    });
}

/// One client's connection.
struct Call {
    core: Arc<Core>,
    port: AllottedPort,
    route: Arc<Route>,
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
    _open: Open,
}

/// Where a call has been brought.
enum Brought {
    Here(TcpStream),
    Peer(ClusterId, Connected),
}

impl Call {
    async fn run(self, client: TcpStream) {
        copy::prepare(&client);
        let start = Instant::now();
        let mut early = Early::new(Arc::clone(&self.core));
        let brought = self.bring(&client, &mut early, start + DEADLINE).await;
        let result = brought.as_ref().map_or_else(|reason| *reason, |_| "connected");
        self.core.metrics.connection(Direction::Outbound, result);
        let target = &self.route.target;
        match brought {
            Ok(brought) => {
                self.core.metrics.connected_after(start.elapsed().as_secs_f64());
                self.carry(client, brought, early).await;
            }
            Err(reason) => {
                tracing::info!(
                    service = %target.service, port = %target.port, client = %self.address, reason,
                    "a call was not connected"
                );
                copy::reset(client);
            }
        }
    }

    /// Tries one destination after the other.
    ///
    /// # Errors
    /// One word, where none is left or none may be tried any more.
    async fn bring(
        &self,
        client: &TcpStream,
        early: &mut Early,
        deadline: Instant,
    ) -> Result<Brought, &'static str> {
        let mut tried = Tried::default();
        let mut reason = "no_route";
        for _ in 0..MAX_TRIES {
            let snapshot = self.core.snapshots.load();
            let Some((choice, snapshot)) = self.choose(snapshot, &tried, deadline).await else {
                return Err(reason);
            };
            let source = Source {
                workload: snapshot.callers.get(&self.address.ip()).cloned(),
                address: Some(self.address),
            };
            match choice {
                Choice::Here => match self.here(&snapshot, source).await {
                    Ok(pod) => return Ok(Brought::Here(pod)),
                    Err(refusal) => {
                        tried.here();
                        reason = refusal.reason();
                    }
                },
                Choice::Link { cluster, link } => {
                    let Some(link) = self.core.links.get(&cluster, link) else {
                        tried.link(link);
                        continue;
                    };
                    let header = wire::encode_header(&self.header(source));
                    match attempt(client, &link, &header, early, deadline).await {
                        Attempt::Connected(connected) => {
                            return Ok(Brought::Peer(cluster, connected));
                        }
                        Attempt::MaybeDelivered(reason) => return Err(reason),
                        Attempt::ClientGone => return Err("client_gone"),
                        Attempt::NotDelivered(why, scope) => {
                            reason = why;
                            match scope {
                                Scope::Cluster => tried.cluster(cluster),
                                Scope::Link => tried.link(link.id),
                            }
                        }
                    }
                }
            }
            self.core.metrics.retried(reason);
        }
        Err(reason)
    }

    /// Chooses where to; while nobody can be asked, waits a little for that to change.
    async fn choose(
        &self,
        mut snapshot: Arc<Snapshot>,
        tried: &Tried,
        deadline: Instant,
    ) -> Option<(Choice, Arc<Snapshot>)> {
        let patience = deadline.min(Instant::now() + PATIENCE);
        let mut revisions = self.core.snapshots.subscribe();
        let mut links = self.core.links.subscribe();
        loop {
            if let Some(choice) = self.choose_now(&snapshot, tried) {
                return Some((choice, snapshot));
            }
            if tried.exhausts(&self.current(&snapshot).clusters) {
                return None;
            }
            let changed = timeout_at(patience, async {
                tokio::select! {
                    _ = revisions.changed() => {}
                    _ = links.changed() => {}
                }
            });
            changed.await.ok()?;
            snapshot = self.core.snapshots.load();
        }
    }

    /// What the port means now; if it means something else, or nothing, what it meant when the client came.
    fn current<'a>(&'a self, snapshot: &'a Snapshot) -> &'a Route {
        let key = (self.route.target.port.protocol, self.port);
        let now = snapshot.routes.get(&key);
        now.filter(|now| now.target == self.route.target).unwrap_or(&self.route)
    }

    fn choose_now(&self, snapshot: &Snapshot, tried: &Tried) -> Option<Choice> {
        let route = self.current(snapshot);
        let candidates: Vec<Candidate<'_>> = route
            .clusters
            .iter()
            .map(|cluster| Candidate {
                cluster,
                links: self.core.links.to(cluster).iter().map(|link| link.view()).collect(),
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

    fn hostname(&self) -> Option<&landbridge_model::Hostname> {
        self.route.target.endpoint.as_ref().map(|endpoint| &endpoint.hostname)
    }

    fn header(&self, source: Source) -> Header {
        Header {
            service: self.route.target.service.clone(),
            endpoint: self.hostname().cloned(),
            port: self.route.target.port,
            source,
        }
    }

    /// Brings the call to a pod of this cluster.
    async fn here(&self, snapshot: &Snapshot, source: Source) -> Result<TcpStream, Refusal> {
        let caller = Caller { cluster: self.core.cluster.clone(), source: source.clone() };
        serve::connect(snapshot, &self.header(source), &caller).await
    }

    async fn carry(&self, mut client: TcpStream, brought: Brought, early: Early) {
        let ended = match brought {
            Brought::Peer(cluster, connected) => {
                let counters = Counters {
                    sent: self.core.metrics.bytes(Direction::Outbound, cluster.as_str()),
                    received: self.core.metrics.bytes(Direction::Inbound, cluster.as_str()),
                };
                let prefix = early.into_prefix();
                let Connected { send, recv, load } = connected;
                let ended = copy::both(&client, send, recv, prefix, &counters).await;
                drop(load);
                ended.map_err(|error| error.to_string())
            }
            Brought::Here(mut pod) => {
                let ended = copy::local(&mut client, &mut pod, early.into_prefix()).await;
                if ended.is_err() {
                    copy::reset(pod);
                }
                ended.map_err(|error| error.to_string())
            }
        };
        if let Err(error) = ended {
            tracing::debug!(service = %self.route.target.service, client = %self.address, "reset: {error}");
            copy::reset(client);
        }
    }
}
