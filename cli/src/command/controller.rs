//! `landbridge controller`: settings and clients of both APIs become a running controller.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::OptionFuture;
use kube::{Api, Client};
use landbridge_api::{
    about::ClusterProperty,
    wellknown::{CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY},
};
use landbridge_controller::{Config, Controller};
use landbridge_model::{ClusterId, ClusterSetId, NetworkName};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::component::{Component, serve};
use crate::{
    admin::{self, Admin},
    config::{common::Common, controller::Settings},
    enroll::keeper::{Counts, Keeper},
    exit::Usage,
    kubernetes,
};

/// How long an API may take to say who its cluster is, where the controller has been told already.
const PATIENCE: Duration = Duration::from_secs(3);

impl Component for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let local = kubernetes::client(&self.common.kubernetes).await?;
        let hub = match &self.hub {
            Some(reach) => kubernetes::client(reach).await.context("the hub")?,
            None => local.clone(),
        };
        let identity = kubernetes::identity(&local, &self.membership);
        let Some(identity) = shutdown.run_until_cancelled(identity).await else {
            return Ok(());
        };
        let (cluster, set) = identity?;
        let agrees = agrees(&local, &cluster, &set);
        let Some(agrees) = shutdown.run_until_cancelled(agrees).await else {
            return Ok(());
        };
        agrees?;
        let network = match self.network {
            Some(network) => network,
            None => NetworkName::parse(cluster.as_str())?,
        };
        info!(%cluster, %set, %network, own_hub = self.hub.is_none(), "controller");
        let config = Config {
            advertise: self.advertise,
            region: self.region,
            heartbeat: self.heartbeat,
            import_namespaces: (!self.import_namespaces.is_empty())
                .then(|| self.import_namespaces.into_iter().collect()),
            import_namespace_selector: self.import_namespace_selector,
            max_derived_services: self.max_derived_services,
            replica: self.replica.unwrap_or_else(machine),
            ..Config::new(cluster, set, network, self.membership.system_namespace)
        };
        let mut registry = Registry::with_prefix(admin::PREFIX);
        let keeper = self.authority.map(|authority| Keeper {
            local: local.clone(),
            authority,
            set: config.set.clone(),
            generation: self.generation,
            namespace: config.system_namespace.to_string(),
            counts: Counts::new(&mut registry),
        });
        let controller = Controller::bind(config, local, hub, &mut registry).await?;
        let admin = Admin::controller(controller.handle(), registry);
        let running = Box::pin(controller.run(shutdown.clone()));
        let keeping =
            Box::pin(OptionFuture::from(keeper.map(|keeper| keeper.run(shutdown.clone()))));
        let both = async { tokio::join!(running, keeping).0 };
        serve(admin, self.admin, shutdown, both).await
    }
}

/// Refuses to start as a cluster other than the one that the API says it is: its exports would be taken for another
/// cluster's. An API that does not answer yet, or says nothing, is no reason to wait.
async fn agrees(local: &Client, cluster: &ClusterId, set: &ClusterSetId) -> Result<()> {
    let properties: Api<ClusterProperty> = Api::all(local.clone());
    for (name, setting, told) in [
        (CLUSTER_ID_PROPERTY, "cluster", cluster.as_str()),
        (CLUSTER_SET_PROPERTY, "cluster-set", set.as_str()),
    ] {
        let Ok(Ok(Some(property))) = tokio::time::timeout(PATIENCE, properties.get_opt(name)).await
        else {
            continue;
        };
        let said = property.spec.value;
        if said != told {
            return Err(Usage(format!(
                "this cluster says that it is {said:?} (ClusterProperty {name}), not {told:?}: correct --{setting}, or the kubeconfig that leads to it"
            ))
            .into());
        }
    }
    Ok(())
}

/// What the machine is called, which in Kubernetes is the name of the pod.
fn machine() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let told = told.map(|name| name.trim().to_owned());
    told.ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "controller".to_owned())
}
