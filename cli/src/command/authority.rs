//! `landbridge authority`: settings and a client of the hub's API become the set's running authority.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use anyhow::Result;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::component::{Component, serve};
use crate::{
    admin::{self, Admin},
    authority::{
        Authority, Place,
        serve::{Counts, Server},
    },
    config::{authority::Settings, common::Common},
    exit::line,
    init::joined,
    kubernetes,
};

/// What API servers call themselves in every cluster.
const IN_CLUSTER: &str = "kubernetes.default.svc";
/// How often the root is asked for until it is there.
const ASKED: Duration = Duration::from_secs(2);

impl Component for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let reach = &self.common.kubernetes;
        let config = kubernetes::config(reach).await?;
        let is_pod = reach.kubeconfig.is_none() && config.auth_info.token_file.is_some();
        let server_name = match (self.hub_server_name, &config.tls_server_name) {
            (Some(name), _) => name,
            (None, Some(name)) => name.clone(),
            (None, None) if is_pod => IN_CLUSTER.to_owned(),
            (None, None) => config.cluster_url.host().unwrap_or(IN_CLUSTER).to_owned(),
        };
        let ca = config.root_cert.iter().flatten().map(|der| joined::pem(der)).collect();
        let client = kubernetes::connect(config)?;
        let identity = kubernetes::identity(&client, &self.membership);
        let Some(identity) = shutdown.run_until_cancelled(identity).await else {
            return Ok(());
        };
        let (cluster, set) = identity?;
        info!(%cluster, %set, server_name, "authority");
        let authority = Arc::new(Authority::new(client, Place { cluster, ca, server_name }));
        let mut registry = Registry::with_prefix(admin::PREFIX);
        let counts = Counts::new(&mut registry);
        let server = Server::bind(Arc::clone(&authority), counts, self.listen).await?;
        info!(listen = %server.address()?, "listening");
        let ready = Arc::new(AtomicBool::new(false));
        let shown = Arc::clone(&ready);
        let admin = Admin::authority(registry, move || shown.load(Ordering::Relaxed));
        let running = async {
            let waited = wait(&authority, &ready);
            tokio::join!(server.run(shutdown.clone()), shutdown.run_until_cancelled(waited));
            anyhow::Ok(())
        };
        serve(admin, self.admin, shutdown.clone(), Box::pin(running)).await
    }
}

/// Until the root is there for the first time, it is not ready. From then on what it was does while the API is away.
async fn wait(authority: &Authority, ready: &AtomicBool) {
    while let Err(error) = authority.keys().await {
        warn!("the set's root cannot be read: {}", line(error.as_ref()));
        tokio::time::sleep(ASKED).await;
    }
    ready.store(true, Ordering::Relaxed);
}
