//! `landbridge dns`: settings and a client become a running DNS server; with one of its commands, the cluster's own DNS
//! is told of it.

mod cluster;

pub(crate) use cluster::{SERVICE, ZONE, disable, enable};

use std::io::Write;

use anyhow::Result;
use landbridge_dns::DnsServer;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::component::{self, Component, serve};
use crate::{
    admin::{self, Admin},
    config::{Flags, common::Common, dns::Settings},
    kubernetes,
};

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: Flags<Settings>,
    #[command(subcommand)]
    what: Option<cluster::What>,
}

/// Runs the server, or changes what the cluster's own is told.
///
/// # Errors
/// Of either.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    match &arguments.what {
        Some(what) => cluster::run(what, out),
        None => component::run(&arguments.flags),
    }
}

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
