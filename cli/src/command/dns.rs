//! `landbridge dns`: settings and a client become a running DNS server.

use anyhow::Result;
use landbridge_dns::{Config, DnsServer};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::component::{Component, serve};
use crate::{
    admin::{self, Admin},
    config::{common::Common, dns::Settings},
    kubernetes,
};

impl Component for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let client = kubernetes::client(&self.common.kubernetes).await?;
        let config = Config { listen: self.listen, ttl: self.ttl, zone: self.zone };
        let mut registry = Registry::with_prefix(admin::PREFIX);
        let server = DnsServer::bind(config, client, &mut registry).await?;
        let admin = Admin::dns(server.handle(), registry);
        let running = Box::pin(server.run(shutdown.clone()));
        serve(admin, self.admin, shutdown, running).await
    }
}
