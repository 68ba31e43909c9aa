//! `landbridge gateway`: settings, certificates and a client become a running gateway.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use anyhow::Result;
use landbridge_gateway::{Config, Gateway, Register};
use landbridge_model::Hostname;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::component::{Component, serve};
use crate::{
    admin::{self, Admin},
    config::{common::Common, gateway::Settings},
    exit::Usage,
    kubernetes,
};

/// A certificate that a gateway has issued for itself is good for 24 hours: it is started again in between, and has
/// hours to spare where that fails.
const RENEWED_AFTER: Duration = Duration::from_secs(16 * 60 * 60);
/// Replicas end at times of their own within so long.
const RENEWED_WITHIN: Duration = Duration::from_secs(4 * 60 * 60);

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
        let ends = self.issued.then(|| renewed_after(&self.name));
        let config = Config {
            cluster,
            set,
            name: self.name,
            system_namespace: self.membership.system_namespace,
            listen: self.listen,
            link: self.link,
            identity: self.identity,
            register: self.register.then_some(Register { admin_port }),
        };
        let mut registry = Registry::with_prefix(admin::PREFIX);
        let gateway = Gateway::bind(config, client, &mut registry).await?;
        let admin = Admin::gateway(gateway.handle(), registry);
        let until = shutdown.child_token();
        let running = Box::pin(gateway.run(until.clone()));
        let mut running = Box::pin(serve(admin, self.admin, until.clone(), running));
        let Some(ends) = ends else {
            return running.await;
        };
        tokio::select! {
            ended = &mut running => return ended,
            () = tokio::time::sleep(ends) => {}
        }
        info!("ending in order, to be started again with a new certificate");
        until.cancel();
        running.await
    }
}

/// When a replica ends for a new certificate: the same for one name, different for each.
fn renewed_after(name: &Hostname) -> Duration {
    let mut hasher = DefaultHasher::new();
    name.as_str().hash(&mut hasher);
    RENEWED_AFTER + Duration::from_secs(hasher.finish() % RENEWED_WITHIN.as_secs())
}

#[test]
fn replicas_renew_their_certificates_well_before_a_day_is_over_and_not_together() {
    let [one, two] = ["landbridge-gateway-7c9d-x2v5k", "landbridge-gateway-7c9d-q8w4z"]
        .map(|name| renewed_after(&Hostname::parse(name).unwrap()));
    let most = RENEWED_AFTER + RENEWED_WITHIN;
    assert!([one, two].iter().all(|after| (RENEWED_AFTER..most).contains(after)));
    assert!(one.abs_diff(two) > Duration::from_secs(60));
}
