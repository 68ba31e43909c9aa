//! `landbridge join`: a cluster becomes a member of the set that a token is of, by way of the hub's API.

use std::{
    io::{self, Read as _, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use kube::Client;
use landbridge_gateway::{
    join::{
        Left, StoreError, Tokens,
        token::{Token, TokenError},
        trust,
    },
    pki::Root,
};
use landbridge_model::ClusterId;

use super::{
    api::ApiArguments,
    component::runtime,
    install::{self, Effort},
    output::print,
};
use crate::{
    config::common::Reach,
    exit::Usage,
    init::{
        admit::{self, Admission},
        checks::Role,
        choice::Choice,
        facts,
        joined::{self, Server},
        shown,
    },
    kubernetes::{self, answered},
    manifests::settings::Settings,
};

/// The longest token has some 420 characters; a file that is more is something else.
const MAX_INPUT: u64 = 4096;
/// What is to be done where the API that is asked is not the token's hub.
const OTHER_HUB: &str =
    "name the API of the hub that issued the token with --hub-kubeconfig or --hub-context";

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// What `landbridge token issue` has printed; - reads it from standard input, where no list of processes shows it.
    #[arg(value_name = "TOKEN")]
    token: String,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    effort: Effort,
}

/// How the hub's API is reached, by this command and by the member's controller.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = true)]
struct HubArguments {
    /// How to reach the hub's Kubernetes API [default: the file that kubectl reads].
    #[arg(long, value_name = "FILE")]
    hub_kubeconfig: Option<PathBuf>,
    /// Context of the hub in that file [default: its current one].
    #[arg(long, value_name = "NAME")]
    hub_context: Option<String>,
}

/// What is known before anything is asked of the member.
struct Hub {
    client: Client,
    server: Server,
    root: Root,
    token: Token,
}

/// Looks, shows, and does it.
///
/// # Errors
/// A token that is none, or lets nobody in; what stands in the way, before anything is changed; an API that cannot be
/// reached; what is not ready in time.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let token = token(&arguments.token)?;
    runtime()?.block_on(Box::pin(join(arguments, token, out)))
}

fn token(argument: &str) -> Result<Token> {
    let mut text = argument.to_owned();
    if argument == "-" {
        text.clear();
        let read = io::stdin().take(MAX_INPUT).read_to_string(&mut text);
        read.context("cannot read standard input")?;
    }
    text.parse().map_err(|error: TokenError| Usage(error.to_string()).into())
}

async fn join(arguments: &Arguments, token: Token, out: &mut dyn Write) -> Result<()> {
    let (client, effort) = (arguments.api.client().await?, arguments.effort);
    let hub = answered(Box::pin(hub(&arguments.hub, token))).await.context("the hub")?;
    let (choice, settings, uid) =
        answered(Box::pin(settings(&client, &hub, &arguments.choice))).await?;
    let role = Role::Member(hub.token.hub.clone());
    let survey = install::survey(&client, &choice, settings, &role, effort.force_conflicts);
    let survey = Box::pin(survey).await?;
    if !install::show(&survey, effort, &role, out)? {
        return Ok(());
    }
    let admission = Admission {
        member: &client,
        hub: &hub.client,
        server: &hub.server,
        root: &hub.root,
        token: &hub.token,
        settings: &survey.settings,
        uid: &uid,
    };
    let mut until = None;
    let secrets = async || {
        until = Some(admission.carry_out(install::now()).await?);
        Ok(())
    };
    Box::pin(install::carry_out(&client, &survey, effort, secrets, out)).await?;
    let Settings { cluster, set, .. } = &survey.settings;
    print(out, &shown::joined(cluster, set, until))
}

/// The hub that the token is of: the root there has the fingerprint that the token says.
async fn hub(arguments: &HubArguments, token: Token) -> Result<Hub> {
    let reach = Reach {
        kubeconfig: arguments.hub_kubeconfig.clone(),
        context: arguments.hub_context.clone(),
    };
    let config = kubernetes::config(&reach).await?;
    let server = Server {
        url: config.cluster_url.to_string(),
        roots: config.root_cert.clone().unwrap_or_default(),
        is_believed: config.accept_invalid_certs,
    };
    let client = kubernetes::connect(config)?;
    let root = Tokens::new(client.clone()).root().await.map_err(not_a_hub)?;
    if trust::fingerprint(&root.cert_pem())? != token.root {
        return Err(Usage(format!("it has another root than the token says: {OTHER_HUB}")).into());
    }
    Ok(Hub { client, server, root, token })
}

fn not_a_hub(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::NoRoot => {
            Usage(format!("it is no hub, since it has no root: {OTHER_HUB}")).into()
        }
        error => error.into(),
    }
}

/// What the cluster is to be: as it was chosen, within what the token says.
async fn settings(
    client: &Client,
    hub: &Hub,
    flags: &Choice,
) -> Result<(Choice, Settings, String)> {
    let mut choice = install::chosen(client, flags).await?;
    let token = &hub.token;
    if let Some(set) = choice.cluster_set.as_ref().filter(|set| **set != token.set) {
        let problem = format!("the token lets a cluster into set {}, not {set}", token.set);
        return Err(
            Usage(format!("{problem}: leave --cluster-set out, or take another token")).into()
        );
    }
    let cluster = choice.cluster.clone().or_else(|| token.cluster.clone());
    let Some(cluster) = cluster else {
        let problem = "the token says nothing of what the cluster is called";
        return Err(Usage(format!("{problem}: give --cluster")).into());
    };
    let uid = facts::uid(client).await?;
    // Whoever is not let in is told before anything is changed.
    let tokens = Tokens::new(hub.client.clone());
    tokens.look(&token.secret, &admit::claim(&cluster, &uid), install::now()).await?;
    let generation = generation(&hub.client, &cluster, &uid).await?;
    choice.cluster = Some(cluster);
    choice.cluster_set = Some(token.set.clone());
    let settings = choice.settings(generation, false)?;
    Ok((choice, settings, uid))
}

async fn generation(hub: &Client, cluster: &ClusterId, uid: &str) -> Result<u64> {
    let before = facts::member(hub, cluster).await.context("the hub")?;
    let generation = joined::generation(before.as_ref(), cluster, uid).map_err(Usage)?;
    let generation = u64::try_from(generation).unwrap_or(1);
    // Whoever has left comes back as another: what it had before is not believed.
    let left = Left::new(hub.clone()).generation(cluster).await.context("the hub")?;
    Ok(generation.max(left.saturating_add(1)))
}
