//! What a controller watches, as streams of events.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::{Api, Client, Resource};
use landbridge_api::{
    watch::{Change, WatchConfig, watch},
    wellknown::{CLUSTER, LANDBRIDGE, MANAGED_BY, SOURCE_CLUSTER},
};
use serde::de::DeserializeOwned;

use crate::{config::Config, observed::Event};

/// All that there is to watch, as one stream.
pub(crate) fn all(
    local: &Client,
    hub: &Client,
    config: &Config,
) -> impl Stream<Item = Event> + Send + use<> {
    let system = config.system_namespace.as_str();
    let leases = || Api::namespaced(local.clone(), system);
    let of_members = WatchConfig::default().labels(SOURCE_CLUSTER);
    let of_others = WatchConfig::default().labels(&format!("!{SOURCE_CLUSTER}"));
    let profiles = Api::namespaced(local.clone(), system);
    stream::select_all([
        every(hub, Event::ClusterExport),
        hub_slices(hub.clone()).boxed(),
        every(hub, Event::Member),
        slices(local.clone()).boxed(),
        every(local, Event::AccessPolicy),
        every(local, Event::Namespace),
        every(local, Event::Peer),
        every(local, Event::Service),
        every(local, Event::ServiceExport),
        every(local, Event::ServiceImport),
        every(local, Event::TrafficPolicy),
        watch(leases(), of_others).map(Event::Lease).boxed(),
        watch(leases(), of_members).map(Event::MemberLease).boxed(),
        watch(profiles, WatchConfig::default()).map(Event::ClusterProfile).boxed(),
        kubernetes(local.clone()).boxed(),
    ])
}

/// All slices of the cluster.
pub fn slices(local: Client) -> impl Stream<Item = Event> + Send {
    watch(Api::all(local), WatchConfig::default()).map(Event::EndpointSlice)
}

/// The slices that members keep on the hub.
pub fn hub_slices(hub: Client) -> impl Stream<Item = Event> + Send {
    let members = format!("{MANAGED_BY}={LANDBRIDGE},{CLUSTER}");
    let members = WatchConfig::default().labels(&members);
    watch(Api::all(hub), members).map(Event::HubSlice)
}

fn every<K>(client: &Client, event: fn(Change<K>) -> Event) -> stream::BoxStream<'static, Event>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + 'static,
{
    watch(Api::all(client.clone()), WatchConfig::default()).map(event).boxed()
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
