//! `landbridge dns`: settings and a client become a running DNS server.

use anyhow::Result;
use landbridge_dns::DnsServer;
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
        let mut registry = Registry::with_prefix(admin::PREFIX);
        let server = DnsServer::bind(self.server, client, &mut registry).await?;
        let admin = Admin::dns(server.handle(), registry);
        let running = Box::pin(server.run(shutdown.clone()));
        serve(admin, self.admin, shutdown, running).await
    }
}
