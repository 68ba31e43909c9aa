//! `landbridge gateway`: settings, certificates and a client become a running gateway.

use anyhow::Result;
use landbridge_gateway::{Config, Gateway, Operation, Register};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::component::{Component, serve};
use crate::{
    admin::{self, Admin},
    config::{common::Common, gateway::Settings},
    exit::Usage,
    kubernetes,
    traces::Collecting,
};

impl Component for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let client = kubernetes::client(&self.common.kubernetes).await?;
        let identity = kubernetes::identity(&client, &self.membership);
        let Some(identity) = shutdown.run_until_cancelled(identity).await else {
            return Ok(());
        };
        let (cluster, set) = identity?;
        let id = self.identity.id();
        if (&cluster, &set) != (&id.cluster, &id.set) {
            let remedy = "issue one with `landbridge pki gateway`, or correct the cluster's ClusterProperties";
            return Err(Usage(format!(
                "the certificate is {id}, but this is cluster {cluster} of set {set}: {remedy}"
            ))
            .into());
        }
        info!(%cluster, %set, name = %self.name, "gateway");
        let admin_port = self.admin.port();
        let traces = self.traces.as_ref();
        let collecting =
            traces.map(|traces| traces.start(cluster.as_str(), self.name.as_str())).transpose()?;
        let config = Config {
            cluster,
            set,
            name: self.name,
            system_namespace: self.membership.system_namespace,
            listen: self.listen,
            link: self.link,
            identity: self.identity,
            register: self.register.then_some(Register { admin_port }),
            operation: Operation {
                region: self.region,
                access_log_one_in: self.access_log_one_in,
                tracer: collecting.as_ref().and_then(Collecting::tracer),
                hub: self.hub,
            },
        };
        let mut registry = Registry::with_prefix(admin::PREFIX);
        let gateway = Gateway::bind(config, client, &mut registry).await?;
        let admin = Admin::gateway(gateway.handle(), registry);
        let running = Box::pin(gateway.run(shutdown.clone()));
        let ended = serve(admin, self.admin, shutdown, running).await;
        if let Some(collecting) = collecting {
            collecting.end().await;
        }
        ended
    }
}
