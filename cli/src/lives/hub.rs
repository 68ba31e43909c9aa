//! Takes away on the hub what it has of a member, so that it is one no more, and waits until the hub's own cluster has
//! dropped it.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use landbridge_api::{
    landbridge::{ClusterExport, Member, Peer},
    wellknown::hub_namespace,
};
use landbridge_gateway::join::{Left, StoreError, Tokens};
use landbridge_model::ClusterId;
use tokio::time::{Instant, sleep};

use super::{
    parting::{self, GIVEN},
    shown::Parted,
};
use crate::{
    exit::Usage,
    init::{facts, remove},
    kubernetes,
};

/// How long is waited until the hub's own cluster has dropped it: it takes less than a second where its controller runs.
const DROPPED: Duration = Duration::from_secs(10);
const ASKED: Duration = Duration::from_millis(20);
/// Two heartbeats: one that lives has said something in this time.
const BEATS: Duration = Duration::from_secs(7);

/// What to do where the cluster that is asked is no hub.
const NO_HUB: &str = "name the hub's API with --context or --kubeconfig";

/// Takes everything away.
///
/// # Errors
/// A cluster that is no hub, or is asked to part with itself, or knows no such member; an API that refuses.
pub(crate) async fn part(client: &Client, cluster: &ClusterId) -> Result<Parted> {
    let member = known(client, cluster).await?;
    let is_peer = is_peer(client, cluster).await?;
    let exports: Api<ClusterExport> = Api::namespaced(client.clone(), &hub_namespace(cluster));
    let exports = exports.list(&ListParams::default()).await.context("its exports")?.items.len();
    // Before anything else: from here on, nobody comes back with what he has.
    let left = Left::new(client.clone());
    let generation = left.keep(cluster, parting::generation(member.as_ref())).await?;
    let store = Tokens::new(client.clone());
    let tokens = parting::tokens(&store.list().await?, cluster);
    for id in &tokens {
        store.revoke(id).await?;
    }
    let [before, after] = parting::order(cluster);
    for key in &before {
        remove::one(client, key).await?;
    }
    let begun = Instant::now();
    for kind in GIVEN {
        let key = parting::given(cluster, kind);
        let api = key.api(client.clone());
        match api.delete_collection(&DeleteParams::background(), &ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted.with_context(|| format!("{}s of {cluster}", key.kind))?),
        }
    }
    for key in &after {
        remove::one(client, key).await?;
    }
    let dropped = if is_peer { dropped(client, cluster, begun).await? } else { None };
    let cluster = cluster.clone();
    Ok(Parted { cluster, generation, exports, tokens, dropped })
}

/// The member, where there is anything of it.
async fn known(client: &Client, cluster: &ClusterId) -> Result<Option<Member>> {
    Tokens::new(client.clone()).root().await.map_err(|error| match error {
        StoreError::NoRoot => anyhow::Error::from(Usage(format!("{error}: {NO_HUB}"))),
        error => error.into(),
    })?;
    if kubernetes::cluster_id(client).await?.as_ref() == Some(cluster) {
        return Err(Usage(format!(
            "{cluster} is the hub's own cluster: `landbridge uninstall` takes it out, and ends the set"
        ))
        .into());
    }
    let member = facts::member(client, cluster).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let name = hub_namespace(cluster);
    let namespace = namespaces.get_opt(&name).await.with_context(|| format!("Namespace {name}"))?;
    if member.is_none() && namespace.is_none() {
        let members = facts::members(client).await?.join(", ");
        return Err(Usage(format!("the hub knows no {cluster}: its members are {members}")).into());
    }
    Ok(member)
}

/// Makes sure that a member is silent: one that lives leaves by itself, or is revoked.
///
/// # Errors
/// One that has said something in a few seconds.
pub(crate) async fn silent(client: &Client, cluster: &ClusterId) -> Result<()> {
    let Some(before) = known(client, cluster).await? else { return Ok(()) };
    sleep(BEATS).await;
    let after = facts::member(client, cluster).await?;
    if after.is_some_and(|after| parting::lives(&before, &after)) {
        return Err(Usage(format!(
            "{cluster} lives, it has just told its heartbeat: let it go with `landbridge leave` there, or cut it off with `landbridge revoke {cluster}`"
        ))
        .into());
    }
    Ok(())
}

/// How long it took until the hub's own cluster had dropped it; none where it has not.
async fn dropped(client: &Client, cluster: &ClusterId, begun: Instant) -> Result<Option<Duration>> {
    while begun.elapsed() < DROPPED {
        if !is_peer(client, cluster).await? {
            return Ok(Some(begun.elapsed()));
        }
        sleep(ASKED).await;
    }
    Ok(None)
}

/// Whether the hub's own cluster has it as a peer.
async fn is_peer(client: &Client, cluster: &ClusterId) -> Result<bool> {
    let peers: Api<Peer> = Api::all(client.clone());
    Ok(peers.get_opt(cluster.as_str()).await.context("its Peer")?.is_some())
}
