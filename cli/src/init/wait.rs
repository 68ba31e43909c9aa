//! Waits until everything that runs does, and says what is waited for.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{Api, Client, api::ListParams};
use landbridge_api::wellknown::SYSTEM_NAMESPACE;
use tokio::time::{Instant, sleep};

use super::progress::{Balancer, Progress, balancer, problem, progress};
use crate::manifests::LINK_SERVICE;

/// How often a cluster is asked: a pod takes seconds to start.
const ASKED: Duration = Duration::from_millis(500);
/// What our pods are told by.
pub(crate) const OURS: &str = "app.kubernetes.io/name=landbridge";

/// Waits until all Deployments of ours are ready; `tell` hears what is still waited for.
///
/// # Errors
/// Those that are not ready in time, and why, as far as the cluster says.
pub(crate) async fn ready(
    client: &Client,
    timeout: Duration,
    mut tell: impl FnMut(&str),
) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let begun = Instant::now();
    loop {
        let listed = deployments.list(&ListParams::default().labels(OURS)).await;
        let all: Vec<Progress> = listed.context("its Deployments")?.iter().map(progress).collect();
        let waited: Vec<String> = all
            .iter()
            .filter(|one| !one.is_done)
            .map(|one| format!("{} {} of {}", one.name, one.ready, one.wanted))
            .collect();
        if waited.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > timeout {
            return Err(late(client, timeout, &waited).await);
        }
        tell(&waited.join(", "));
        sleep(ASKED).await;
    }
}

/// Waits until the load balancer of the gateways has an address; `tell` hears that this is waited for.
///
/// # Errors
/// An API that does not answer.
pub(crate) async fn address(
    client: &Client,
    timeout: Duration,
    mut tell: impl FnMut(&str),
) -> Result<Balancer> {
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let begun = Instant::now();
    loop {
        let service = services.get(LINK_SERVICE).await.context("the Service of its gateways")?;
        let found = balancer(&service);
        if found != Balancer::Nothing || begun.elapsed() > timeout {
            return Ok(found);
        }
        tell("the load balancer of the gateways");
        sleep(ASKED).await;
    }
}

async fn late(client: &Client, timeout: Duration, waited: &[String]) -> anyhow::Error {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let listed = pods.list(&ListParams::default().labels(OURS)).await;
    let problems: Vec<String> =
        listed.map(|pods| pods.iter().filter_map(problem).take(1).collect()).unwrap_or_default();
    let why = problems
        .first()
        .cloned()
        .unwrap_or_else(|| format!("see `kubectl --namespace {SYSTEM_NAMESPACE} get pods`"));
    anyhow!(
        "everything is applied, but not ready after {} s ({}); {why}. Run this again to go on waiting",
        timeout.as_secs(),
        waited.join(", ")
    )
}
