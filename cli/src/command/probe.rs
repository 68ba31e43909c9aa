//! `landbridge probe`: the two ends of `landbridge verify`, which runs them as pods. People have no need of it, so that it is
//! not listed.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};
use clap::Subcommand;
use landbridge_model::ClusterId;

use super::{component::runtime, output::print};
use crate::{
    config::value,
    probe::{
        PORT,
        call::{self, Target},
        serve::Server,
    },
    shutdown,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Answer over TCP and UDP with the name of this cluster.
    Serve {
        /// This cluster.
        #[arg(long, value_name = "ID")]
        cluster: ClusterId,
        /// Where, on every address; 0 lets the system choose.
        #[arg(long, value_name = "PORT", default_value_t = PORT)]
        port: u16,
    },
    /// Call clusters by name, and print as JSON how that went.
    Call {
        /// This cluster.
        #[arg(long, value_name = "ID")]
        cluster: ClusterId,
        /// Whom, and where.
        #[arg(long = "to", value_name = "ID=HOST:PORT", value_parser = Target::parse)]
        targets: Vec<Target>,
        /// How long to try.
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = value::duration)]
        within: Duration,
    },
}

/// Does either.
///
/// # Errors
/// A port that is taken; output that nobody takes.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    runtime()?.block_on(async {
        let stop = shutdown::on_signal().context("cannot wait for signals")?;
        match &arguments.what {
            What::Serve { cluster, port } => {
                let server = Server::bind(*port).await?;
                print(out, &format!("answers for {cluster} at port {}\n", server.port()?))?;
                tokio::select! {
                    () = server.run(cluster.as_str()) => {}
                    () = stop.cancelled() => {}
                }
            }
            What::Call { cluster, targets, within } => tokio::select! {
                called = call::all(cluster.as_str(), targets, *within) => {
                    print(out, &format!("{}\n", serde_json::to_string(&called)?))?;
                }
                () = stop.cancelled() => {}
            },
        }
        Ok(())
    })
}
