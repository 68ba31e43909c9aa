//! One gateway from start to end: what it is made from, the watches that feed its snapshots, and what others may ask.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::SelectAll};
use kube::{Api, Client, Resource};
use landbridge_api::{
    served,
    watch::{Change, WatchConfig, watch},
};
use landbridge_model::{
    ClusterId, ClusterSetId, Hostname, Namespace, Protocol, RegionName, ZoneName,
};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument, info_span};

use crate::{
    core::{Core, CoreConfig},
    hub::{Access, Hub},
    metrics::Metrics,
    pki::Identity,
    refusals,
    register::{self, Registration},
    room::Bounds,
    snapshot::Problem,
    spans::Tracer,
    state::{Event, State},
    status,
};

/// Events that may be taken in before a snapshot is built of them: a burst costs one snapshot, and no event waits for
/// more than a few milliseconds.
const MOST_AT_ONCE: usize = 1024;
/// How long a registration may take to be taken back.
const DEREGISTER: Duration = Duration::from_secs(2);

/// What a gateway is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member that it belongs to.
    pub cluster: ClusterId,
    /// The clusterset.
    pub set: ClusterSetId,
    /// The name of this replica.
    pub name: Hostname,
    /// Where Landbridge lives in the cluster.
    pub system_namespace: Namespace,
    /// The addresses on which the allotted ports are listened on, and no others: one of each family that clients use.
    pub listen: Vec<IpAddr>,
    /// Where peers dial, UDP and TCP; also where this gateway dials from.
    pub link: SocketAddr,
    /// What it proves who it is with.
    pub identity: Identity,
    /// How it registers itself, where no Service does that.
    pub register: Option<Register>,
    /// What may be left as it is.
    pub operation: Operation,
}

/// How a gateway is operated. The default is right for most.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// The region of the cluster: other clusters of it are called before those that are elsewhere.
    pub region: Option<RegionName>,
    /// The access log: one of so many connections has a line when it ends, and every refusal has; off, where none is given.
    pub access_log_one_in: Option<NonZeroU32>,
    /// What makes spans of calls; none are made where it is absent.
    pub tracer: Tracer,
    /// What it has to do with the hub.
    pub hub: Hub,
}

/// How a gateway that runs as a plain process registers itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Register {
    /// Where its HTTP admin endpoint listens, on the same address as the allotted ports.
    pub admin_port: u16,
}

/// Why a gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The sockets of the links cannot be had.
    #[error(
        "cannot bind {address} for links, UDP and TCP: {problem}; choose another address or end who holds it"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        problem: io::Error,
    },
    /// A socket for those who want something of the hub cannot be had.
    #[error(
        "cannot listen on {address} for the controller's way to the hub: {problem}; choose another address or end who holds it"
    )]
    BindHub {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        problem: io::Error,
    },
    /// The certificate is another cluster's or another replica's.
    #[error(
        "the certificate is of {found}, but this gateway is {name} of {cluster} in {set}: issue one for it"
    )]
    Identity {
        /// Whom the certificate names.
        found: String,
        /// The name of the replica.
        name: Hostname,
        /// The cluster.
        cluster: ClusterId,
        /// The set.
        set: ClusterSetId,
    },
}

/// Why a gateway ends before it is told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// The watches have ended, which they never should.
    #[error("the watch of the Kubernetes API has ended: start the gateway again")]
    WatchEnded,
}

/// One gateway.
pub struct Gateway {
    core: Arc<Core>,
    config: Config,
    client: Client,
    link: SocketAddr,
    /// Whatever becomes of this gateway, its tasks end with it.
    stop: DropGuard,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds the sockets of the links; nothing runs yet. Metrics go below `gateway` in `registry`.
    ///
    /// # Errors
    /// [`StartError`], before anything is bound wherever that is possible.
    #[expect(clippy::unused_async, reason = "all components start alike")]
    pub async fn bind(
        config: Config,
        client: Client,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let id = config.identity.id();
        if (&id.set, &id.cluster, &id.gateway) != (&config.set, &config.cluster, &config.name) {
            return Err(StartError::Identity {
                found: id.to_string(),
                name: config.name,
                cluster: config.cluster,
                set: config.set,
            });
        }
        let bind = |problem| StartError::Bind { address: config.link, problem };
        let hub = Access::bind(config.operation.hub.clone(), config.system_namespace.clone())
            .map_err(|(address, problem)| StartError::BindHub { address, problem })?;
        let core_config = CoreConfig {
            cluster: config.cluster.clone(),
            set: config.set.clone(),
            listen: config.listen.clone(),
            link: config.link,
            identity: config.identity.clone(),
            region: config.operation.region.clone(),
            access_log: config.operation.access_log_one_in,
            tracer: config.operation.tracer.clone(),
            hub,
            span: info_span!("gateway", cluster = %config.cluster, name = %config.name),
        };
        let core = Core::bind(core_config, Metrics::register(registry)).map_err(bind)?;
        let link = core.transport.local_address().map_err(bind)?;
        Ok(Self { stop: core.stop.clone().drop_guard(), core, config, client, link })
    }

    /// For asking the gateway while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { core: Arc::clone(&self.core), link: self.link }
    }

    /// Runs until `shutdown`, then leaves and drains: takes its registration back, tells peers, serves what still comes
    /// until nobody sends anything here, then lets open connections go on for a while. In all that takes less than the
    /// 30 seconds that Kubernetes gives a pod.
    ///
    /// # Errors
    /// [`RunError`], where it must end before.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let span = info_span!("gateway", cluster = %self.config.cluster, name = %self.config.name);
        self.run_inside(shutdown).instrument(span).await
    }

    async fn run_inside(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { core, config, client, link, stop: _stop } = self;
        let Bounds { descriptors, outbound, to_pods, .. } = core.room.bounds;
        tracing::info!(
            %link, listen = ?config.listen, descriptors, outbound, to_pods, "the gateway starts"
        );
        core.start();
        let keep = status::keep(Arc::clone(&core), client.clone(), config.name.clone());
        core.tasks.spawn("status", keep);
        if let Some(refused) = core.refusals() {
            let name = config.name.clone();
            let tell = refusals::tell(Arc::clone(&core), client.clone(), name, refused);
            core.tasks.spawn("refusals", tell);
        }
        let registered = CancellationToken::new();
        if let Some(Register { admin_port }) = config.register {
            let registration = Registration {
                namespace: config.system_namespace.clone(),
                gateway: config.name.clone(),
                addresses: config.listen.clone(),
                link_port: link.port(),
                admin_port,
            };
            let done = registered.clone().drop_guard();
            let task = register::register(Arc::clone(&core), client.clone(), registration);
            core.tasks.spawn("register", async move {
                task.await;
                drop(done);
            });
        } else {
            registered.cancel();
        }
        let mut feeding = Box::pin(feed(&core, &client));
        let result = tokio::select! {
            () = &mut feeding => Err(RunError::WatchEnded),
            () = shutdown.cancelled() => Ok(()),
        };
        tracing::info!("the gateway leaves: new calls go elsewhere");
        core.leaving.cancel();
        let leave = async {
            // Who is no longer named gets no new calls: that comes before anything is refused.
            let _ = tokio::time::timeout(DEREGISTER, registered.cancelled()).await;
            core.leave().await;
        };
        tokio::select! {
            // What slices say of this gateway is heard to the end.
            () = &mut feeding, if result.is_ok() => {}
            () = leave => {}
        }
        tracing::info!("the gateway drains: open connections end");
        core.drain().await;
        result
    }
}

/// Watches everything and publishes snapshots. Ends only if every watch does.
async fn feed(core: &Core, client: &Client) {
    let client = &served::adapt(client.clone()).0;
    let mut events = SelectAll::new();
    events.push(events_of(client, Event::Access));
    events.push(events_of(client, Event::Export));
    events.push(events_of(client, Event::Import));
    events.push(events_of(client, Event::Peer));
    events.push(events_of(client, Event::Pod));
    events.push(events_of(client, |change| Event::Service(Box::new(change))));
    events.push(events_of(client, Event::Slice));
    events.push(events_of(client, Event::Traffic));
    let mut state = State::new(core.cluster.clone());
    let mut problems = Arc::default();
    let (mut zones, mut zone) = (Arc::default(), None);
    while let Some(event) = events.next().await {
        take(core, &mut state, event);
        for _ in 0..MOST_AT_ONCE {
            match events.next().now_or_never() {
                Some(Some(event)) => take(core, &mut state, event),
                _ => break,
            }
        }
        if let Some(mut snapshot) = state.snapshot() {
            if !Arc::ptr_eq(&zones, &snapshot.gateway_zones) {
                zones = Arc::clone(&snapshot.gateway_zones);
                zone = own_zone(core, &zones);
            }
            snapshot.zone.clone_from(&zone);
            if snapshot.problems != problems {
                tell(core, &problems, &snapshot.problems);
                problems = Arc::clone(&snapshot.problems);
            }
            core.snapshots.publish(snapshot);
        }
    }
}

/// The zone that the slices of the gateways' Service give this one.
fn own_zone(core: &Core, zones: &BTreeMap<IpAddr, ZoneName>) -> Option<ZoneName> {
    let own = zones.iter().find(|(address, _)| core.is_own(**address));
    own.map(|(_, zone)| zone.clone())
}

fn events_of<K>(
    client: &Client,
    event: fn(Change<K>) -> Event,
) -> futures::stream::BoxStream<'static, Event>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + 'static,
{
    watch(Api::all(client.clone()), WatchConfig::default()).map(event).boxed()
}

fn take(core: &Core, state: &mut State, event: Event) {
    if let Some(error) = event.interrupted() {
        core.metrics.interruptions.inc();
        tracing::warn!("the Kubernetes API cannot be read, what was seen last stands: {error}");
    }
    state.apply(event);
}

/// Tells each problem once.
fn tell(core: &Core, before: &[Problem], now: &[Problem]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        tracing::warn!(kind = problem.kind, "{}", problem.message);
    }
    let mut counts: BTreeMap<&'static str, i64> = BTreeMap::new();
    for problem in now {
        *counts.entry(problem.kind).or_default() += 1;
    }
    core.metrics.problems(counts.into_iter());
}

/// Asks a gateway while it runs. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Handle {
    core: Arc<Core>,
    link: SocketAddr,
}

impl Handle {
    /// Whether everything has been read once and every allotted port is listened on, or has been tried.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.core.listeners.is_settled()
    }

    /// The allotted ports that are listened on, in order.
    #[must_use]
    pub fn listening(&self) -> Vec<(Protocol, u16)> {
        self.core.listeners.bound()
    }

    /// Where peers dial; the real port where 0 was asked for.
    #[must_use]
    pub fn link_address(&self) -> SocketAddr {
        self.link
    }

    /// The connections that are open, the oldest first, within a bound.
    #[must_use]
    pub fn connections(&self) -> Value {
        self.core.opened.shown()
    }

    /// What the gateway knows, in order and without secrets.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let snapshot = self.core.snapshots.load();
        let routes = snapshot.routes.iter().map(|((protocol, port), route)| {
            let endpoint = route.target.endpoint.as_ref();
            json!({
                "protocol": protocol.as_str(),
                "port": port.number(),
                "service": route.target.service.to_string(),
                "servicePort": route.target.port.to_string(),
                "endpoint": endpoint.map(|e| format!("{}/{}", e.cluster, e.hostname)),
                "clusters": route.clusters.iter().map(ClusterId::as_str).collect::<Vec<_>>(),
            })
        });
        let exports: BTreeMap<String, Value> = snapshot
            .exports
            .iter()
            .map(|(service, export)| {
                let ports: Vec<String> =
                    export.ports.iter().map(|port| port.key.to_string()).collect();
                let ready = export.endpoints.len();
                (service.to_string(), json!({"ports": ports, "readyEndpoints": ready}))
            })
            .collect();
        let bounds = self.core.room.bounds;
        let problems = snapshot.problems.iter().map(|problem| &problem.message);
        json!({
            "revision": snapshot.revision,
            "synced": snapshot.synced,
            "zone": snapshot.zone.as_ref().map(ZoneName::as_str),
            "leftOut": {"clusters": self.core.servers.left_out(), "pods": self.core.pods.left_out()},
            "link": self.link.to_string(),
            "listening": self.listening().iter()
                .map(|(protocol, port)| json!({"protocol": protocol.as_str(), "port": port}))
                .collect::<Vec<_>>(),
            "routes": routes.collect::<Vec<_>>(),
            "exports": exports,
            "callers": snapshot.callers.len(),
            "peers": self.peers(),
            "connections": self.core.open_connections(),
            "hub": self.core.hub.shown(),
            "room": {"descriptors": bounds.descriptors, "outbound": bounds.outbound, "toPods": bounds.to_pods},
            "problems": problems.collect::<Vec<_>>(),
        })
    }

    fn peers(&self) -> BTreeMap<String, Value> {
        let snapshot = self.core.snapshots.load();
        let links = |cluster: &ClusterId| -> Vec<Value> {
            let links = self.core.links.to(cluster);
            links
                .iter()
                .map(|link| {
                    let view = link.view();
                    json!({
                        "gateway": link.peer().gateway.as_str(),
                        "address": link.connection.remote_address().to_string(),
                        "dialled": link.dialled.is_some(),
                        "state": view.state.as_str(),
                        "transport": link.connection.carrier().as_str(),
                        "draining": view.draining,
                        "streams": view.streams,
                    })
                })
                .collect()
        };
        snapshot
            .peers
            .values()
            .map(|peer| {
                let failure = self.core.links.failure(&peer.cluster);
                let told = json!({
                    "generation": peer.generation,
                    "gateways": peer.gateways.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "links": links(&peer.cluster),
                    "lastError": failure.map(|error| error.to_string()),
                });
                (peer.cluster.to_string(), told)
            })
            .collect()
    }
}
