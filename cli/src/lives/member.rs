//! Takes back what a member gave to its set, from its own side: its controller ends, so that nothing is given again; a pod with
//! the controller's account deletes what it has on the hub; and what was imported goes.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use landbridge_api::{
    landbridge::{ClusterExport, Peer},
    wellknown::{SYSTEM_NAMESPACE, hub_namespace},
};
use landbridge_model::ClusterId;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    leaving::{self, CONTROLLER, POD},
    parting::{self, GIVEN},
};
use crate::init::{Key, apply, progress, remove};

/// How long pods take to end and to start, on a busy node.
const PATIENCE: Duration = Duration::from_secs(120);
const ASKED: Duration = Duration::from_millis(250);
/// What the controller's pods are told by.
const CONTROLLERS: &str =
    "app.kubernetes.io/name=landbridge,app.kubernetes.io/component=controller";

/// Ends the controller, and waits until none of its pods is left.
///
/// # Errors
/// One that does not end; an API that refuses.
pub(crate) async fn quiet(client: &Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    match deployments.patch(CONTROLLER, &PatchParams::default(), &none).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        patched => drop(patched.context("its controller")?),
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let params = ListParams::default().labels(CONTROLLERS);
    let begun = Instant::now();
    while !pods.list(&params).await.context("the pods of its controller")?.items.is_empty() {
        if begun.elapsed() > PATIENCE {
            return Err(anyhow!(
                "its controller has not ended after {PATIENCE:?}: see its pods in {SYSTEM_NAMESPACE}"
            ));
        }
        sleep(ASKED).await;
    }
    Ok(())
}

/// Takes back what it has on the hub, by the way that its controller has there.
///
/// # Errors
/// A hub that cannot be reached from there, or refuses.
pub(crate) async fn withdraw(client: &Client, cluster: &ClusterId, image: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    gone(&pods).await?;
    apply::object(client, &leaving::pod(cluster, image), false).await?;
    let begun = Instant::now();
    let outcome = loop {
        let pod = pods.get(POD).await.with_context(|| format!("Pod {POD}"))?;
        if let Some(outcome) = leaving::outcome(&pod) {
            break outcome;
        }
        if begun.elapsed() > PATIENCE {
            let problem = progress::problem(&pod);
            break Err(problem.unwrap_or_else(|| format!("it has not ended after {PATIENCE:?}")));
        }
        sleep(ASKED).await;
    };
    gone(&pods).await?;
    outcome.map_err(|says| {
        anyhow!(
            "what it gave cannot be taken back on the hub by pod {POD}: {says}. Do it there with `landbridge remove {cluster}`, and then this again with --hub-removed"
        )
    })
}

async fn gone(pods: &Api<Pod>) -> Result<()> {
    let begun = Instant::now();
    loop {
        match pods.delete(POD, &DeleteParams::default().grace_period(0)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            deleted => drop(deleted.with_context(|| format!("Pod {POD}"))?),
        }
        if begun.elapsed() > PATIENCE {
            return Err(anyhow!("Pod {POD} does not end: delete it"));
        }
        sleep(ASKED).await;
    }
}

/// What the pod does: deletes every object that the member has written on the hub, one by one, since it may not do it otherwise.
/// How many there were.
///
/// # Errors
/// A hub that refuses, or cannot be reached.
pub(crate) async fn take_back(hub: &Client, cluster: &ClusterId) -> Result<usize> {
    let exports: Api<ClusterExport> = Api::namespaced(hub.clone(), &hub_namespace(cluster));
    exports.list(&ListParams::default()).await.context("the hub")?;
    let mut count = 0;
    for kind in GIVEN {
        let all = parting::given(cluster, kind);
        let listed = all.api(hub.clone()).list(&ListParams::default()).await;
        for object in listed.with_context(|| format!("{}s on the hub", all.kind))? {
            let name = object.metadata.name.unwrap_or_default();
            remove::one(hub, &Key { name, ..all.clone() }).await.context("the hub")?;
            count += 1;
        }
    }
    Ok(count)
}

/// What the controller has written of other members goes, and with it their names.
///
/// # Errors
/// An API that refuses.
pub(crate) async fn forget(client: &Client) -> Result<()> {
    remove::all_written(client).await?;
    let peers: Api<Peer> = Api::all(client.clone());
    let deleted =
        peers.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop).context("its Peers"),
    }
}
