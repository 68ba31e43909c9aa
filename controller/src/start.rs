//! How a controller comes to be: what it is given, what it watches, and what others may ask it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::{Api, Client, Resource};
use landbridge_api::{
    served,
    watch::{Change, WatchConfig, watch},
    wellknown::{CLUSTER, LANDBRIDGE, MANAGED_BY, SOURCE_CLUSTER},
};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{sync::watch as latest, task::JoinError};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::{
    config::Config,
    liveness::{LONGEST_BEAT, MEMBER_SILENCE},
    metrics::Metrics,
    observed::Event,
    run::Owner,
};

/// How many slices are listed at once: each has a hundred endpoints or more, and what is kept of them is small beside a
/// page of their text.
const SLICES: u32 = 50;

/// Why a controller cannot be started.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum StartError {
    /// The configuration asks for heartbeats that would be missed, or that never pause.
    #[error(
        "a heartbeat every {0:?} is not usable: choose more than nothing and at most {LONGEST_BEAT:?}, since a member counts as silent after {MEMBER_SILENCE:?}"
    )]
    Heartbeat(Duration),
}

/// Why a controller has ended before it was told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A job has panicked: a bug. What was under way is not known, so a new start is due.
    #[error("a job of the controller has panicked, which is a bug: {0}")]
    Panicked(#[from] JoinError),
    /// All watches have ended, which they never do by themselves.
    #[error("all watches have ended, which is a bug: start the controller again")]
    WatchesEnded,
}

/// The controller of one cluster.
pub struct Controller {
    config: Config,
    local: Client,
    hub: Client,
    metrics: Metrics,
    ready: Arc<AtomicBool>,
    snapshot: latest::Sender<Arc<Value>>,
}

/// What others may ask a running controller.
#[derive(Clone, Debug)]
pub struct Handle {
    ready: Arc<AtomicBool>,
    snapshot: latest::Receiver<Arc<Value>>,
}

impl Handle {
    /// Whether the cluster and the hub have been read once. A controller that waits for another one of the same
    /// cluster to go is ready too: it knows all that it needs to take over, and a rollout must not wait for it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What the controller knows, at most a second old, in an order that does not change.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        self.snapshot.borrow().as_ref().clone()
    }
}

impl Controller {
    /// Prepares a controller for the cluster that `local` reaches, and the set that `hub` holds. Nothing is read or
    /// written yet; an API that is away is waited for when it runs.
    ///
    /// # Errors
    /// [`StartError`] says which part of the configuration cannot be used.
    #[expect(
        clippy::unused_async,
        reason = "all components are started in the same way, and others bind sockets"
    )]
    pub async fn bind(
        config: Config,
        local: Client,
        hub: Client,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        if !config.heartbeat_is_usable() {
            return Err(StartError::Heartbeat(config.heartbeat));
        }
        let state = json!({"cluster": config.cluster.as_str(), "state": "starting"});
        Ok(Self {
            config,
            local,
            hub,
            metrics: Metrics::register(registry),
            ready: Arc::default(),
            snapshot: latest::Sender::new(Arc::new(state)),
        })
    }

    /// What others may ask it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { ready: Arc::clone(&self.ready), snapshot: self.snapshot.subscribe() }
    }

    /// Runs until `shutdown`, then lets what is under way come to its end. What was written stays: other clusters
    /// go on calling a cluster whose controller is away.
    ///
    /// # Errors
    /// [`RunError`] where it has ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let span = info_span!("controller", cluster = %self.config.cluster);
        let (local, served) = served::adapt(self.local);
        let served = served.versions().map(Event::Served);
        let events = stream::select(events(&local, &self.hub, &self.config), served);
        let owner =
            Owner::new(self.config, (local, self.hub), self.metrics, (self.ready, self.snapshot));
        Box::pin(owner.run(events, shutdown)).instrument(span).await
    }
}

/// All that there is to watch, as one stream.
fn events(
    local: &Client,
    hub: &Client,
    config: &Config,
) -> impl Stream<Item = Event> + Send + use<> {
    fn all<K>(client: &Client, event: fn(Change<K>) -> Event) -> stream::BoxStream<'static, Event>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Send + 'static,
    {
        watch(Api::all(client.clone()), WatchConfig::default()).map(event).boxed()
    }
    let system = config.system_namespace.as_str();
    let leases = || Api::namespaced(local.clone(), system);
    let of_members = WatchConfig::default().labels(SOURCE_CLUSTER);
    let of_others = WatchConfig::default().labels(&format!("!{SOURCE_CLUSTER}"));
    let profiles = Api::namespaced(local.clone(), system);
    let members = format!("{MANAGED_BY}={LANDBRIDGE},{CLUSTER}");
    let members = WatchConfig::default().labels(&members);
    let hub_slices = watch(Api::all(hub.clone()), members).map(Event::HubSlice);
    let hub_slices = hub_slices.boxed();
    stream::select_all([
        all(hub, Event::ClusterExport),
        hub_slices,
        all(hub, Event::Member),
        watch(Api::all(local.clone()), WatchConfig::default().page_size(SLICES))
            .map(Event::EndpointSlice)
            .boxed(),
        all(local, Event::Namespace),
        all(local, Event::Peer),
        all(local, Event::Service),
        all(local, Event::ServiceExport),
        all(local, Event::ServiceImport),
        watch(leases(), of_others).map(Event::Lease).boxed(),
        watch(leases(), of_members).map(Event::MemberLease).boxed(),
        watch(profiles, WatchConfig::default()).map(Event::ClusterProfile).boxed(),
        kubernetes(local.clone()).boxed(),
    ])
}

/// The version of the cluster's API server, for tools: asked for at the start and now and then, since servers are
/// upgraded while controllers run.
fn kubernetes(local: Client) -> impl Stream<Item = Event> + Send {
    const AGAIN: Duration = Duration::from_secs(300);
    const RETRY: Duration = Duration::from_secs(10);
    stream::unfold((local, Duration::ZERO), |(local, mut wait)| async move {
        loop {
            tokio::time::sleep(wait).await;
            match local.apiserver_version().await {
                Ok(said) => return Some((Event::Kubernetes(said.git_version), (local, AGAIN))),
                Err(error) => tracing::debug!(%error, "the API server does not tell its version"),
            }
            wait = RETRY;
        }
    })
}
