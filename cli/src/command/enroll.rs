//! `landbridge enroll`: joins from inside the cluster, where the hub's gateways can be dialled: what the Job of `landbridge join`
//! does. What it says last is what whoever has typed join is told.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use landbridge_gateway::join::{
    dial,
    token::{Token, TokenError},
};
use landbridge_model::{ClusterId, NetworkName};
use tokio::net::TcpStream;

use super::{api::ApiArguments, component::runtime};
use crate::{enroll::Enrollment, exit::Usage, init::facts, kubernetes::answered};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    api: ApiArguments,
    /// The file with the token.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The id that the cluster is to have.
    #[arg(long, value_name = "ID")]
    cluster: ClusterId,
    /// Dial the authority itself, where it can be reached, in place of a gateway of the hub.
    #[arg(long, value_name = "HOST:PORT")]
    authority: Option<String>,
    /// Its network.
    #[arg(long, value_name = "NAME")]
    network: NetworkName,
}

/// Joins, and writes down what it was given.
///
/// # Errors
/// A token that is none or lets nobody in; a hub that is not reached; an API that refuses.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.token_file;
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let token: Token = text.parse().map_err(|error: TokenError| Usage(error.to_string()))?;
    runtime()?.block_on(Box::pin(enroll(arguments, &token)))
}

async fn enroll(arguments: &Arguments, token: &Token) -> Result<()> {
    let client = arguments.api.client().await?;
    let uid = answered(facts::uid(&client)).await?;
    let Arguments { cluster, network, .. } = arguments;
    let enrollment = Enrollment { member: &client, token, cluster, network, uid: &uid };
    let joined = match &arguments.authority {
        Some(authority) => {
            Box::pin(enrollment.carry_out(async || TcpStream::connect(authority).await)).await
        }
        None => Box::pin(enrollment.carry_out(async || dial(&token.addresses).await)).await,
    };
    joined.map(drop)
}
