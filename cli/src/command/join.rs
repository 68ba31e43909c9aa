//! `landbridge join`: a cluster becomes a member of the set that a token is of: by way of a gateway of the hub, which a Job in the
//! cluster dials, or of the hub's API, where whoever joins can reach it.

use std::{
    io::{self, Read as _, Write},
    path::PathBuf,
    time::Duration,
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
    install::{self, Effort, Progress},
    output::print,
};
use crate::{
    config::common::Reach,
    enroll::{job, rehome},
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

/// How long the Job that joins may take where nobody waits for what follows: an image is pulled, and a hub asked.
const ENROLLED: Duration = Duration::from_secs(120);
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
    /// Change nothing but where the hub's gateways are dialled, for a member whose hub has moved. The token is not used up.
    #[arg(long, conflicts_with_all = ["hub_kubeconfig", "hub_context", "dry_run"])]
    rehome: bool,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    hub: Option<HubArguments>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    effort: Effort,
}

/// How the hub's API is reached, by this command and by the member's controller, where it is not through a link.
#[derive(clap::Args, Debug)]
#[group(required = false, multiple = true)]
struct HubArguments {
    /// Reach the hub's Kubernetes API by this file and not through a link to its gateways [default: through a link].
    #[arg(long, value_name = "FILE")]
    hub_kubeconfig: Option<PathBuf>,
    /// The same by a context of that file, or of the one that kubectl reads [default: its current one].
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
    if arguments.rehome {
        let client = arguments.api.client().await?;
        answered(Box::pin(rehome::rehome(&client, &token))).await?;
        return print(out, &shown::rehomed(&token));
    }
    match &arguments.hub {
        Some(hub) => Box::pin(by_its_api(arguments, hub, token, out)).await,
        None => Box::pin(by_its_gateways(arguments, &token, out)).await,
    }
}

/// A Job in the cluster dials the hub, and the member's controller reaches the hub's API through the link.
async fn by_its_gateways(arguments: &Arguments, token: &Token, out: &mut dyn Write) -> Result<()> {
    let (client, effort) = (arguments.api.client().await?, arguments.effort);
    let asked = async {
        let choice = install::chosen(&client, &arguments.choice).await?;
        let choice = within(choice, token)?;
        let generation = job::generation(&client).await?.unwrap_or(1);
        let settings = choice.settings(generation, false)?;
        Ok((choice, Settings { hub: Some(token.hub.clone()), ..settings }))
    };
    let (choice, settings) = answered(Box::pin(asked)).await?;
    let role = Role::Member(token.hub.clone());
    let survey = install::survey(&client, &choice, settings, &role, effort.force_conflicts);
    let survey = Box::pin(survey).await?;
    if !install::show(&survey, effort, &role, out)? {
        return Ok(());
    }
    let secrets = async || {
        let mut progress = Progress::default();
        let timeout = effort.timeout.max(ENROLLED);
        let tell = |waited: &str| progress.tell(waited);
        let joined = Box::pin(job::run(&client, &survey.settings, token, timeout, tell)).await;
        progress.end();
        joined.map(Some)
    };
    Box::pin(install::carry_out(&client, &survey, effort, secrets, out)).await?;
    let Settings { cluster, set, .. } = &survey.settings;
    print(out, &shown::joined(cluster, set, None))
}

async fn by_its_api(
    arguments: &Arguments,
    hub: &HubArguments,
    token: Token,
    out: &mut dyn Write,
) -> Result<()> {
    let (client, effort) = (arguments.api.client().await?, arguments.effort);
    let hub = answered(Box::pin(self::hub(hub, token))).await.context("the hub")?;
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
        Ok(None)
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
fn within(mut choice: Choice, token: &Token) -> Result<Choice> {
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
    if let Some(bound) = token.cluster.as_ref().filter(|bound| **bound != cluster) {
        let problem = format!("the token is for cluster {bound}, not for {cluster}");
        return Err(Usage(format!("{problem}: join as {bound}, or issue another one")).into());
    }
    choice.cluster = Some(cluster);
    choice.cluster_set = Some(token.set.clone());
    Ok(choice)
}

/// The same, asking the hub's API whether it is let in.
async fn settings(
    client: &Client,
    hub: &Hub,
    flags: &Choice,
) -> Result<(Choice, Settings, String)> {
    let choice = within(install::chosen(client, flags).await?, &hub.token)?;
    let settings = choice.settings(1, false)?;
    let uid = facts::uid(client).await?;
    // Whoever is not let in is told before anything is changed.
    let tokens = Tokens::new(hub.client.clone());
    let claim = admit::claim(&settings.cluster, &uid);
    tokens.look(&hub.token.secret, &claim, install::now()).await?;
    let generation = generation(&hub.client, &settings.cluster, &uid).await?;
    Ok((choice, Settings { generation, ..settings }, uid))
}

async fn generation(hub: &Client, cluster: &ClusterId, uid: &str) -> Result<u64> {
    let before = facts::member(hub, cluster).await.context("the hub")?;
    let generation = joined::generation(before.as_ref(), cluster, uid).map_err(Usage)?;
    let generation = u64::try_from(generation).unwrap_or(1);
    // Whoever has left comes back as another: what it had before is not believed.
    let left = Left::new(hub.clone()).generation(cluster).await.context("the hub")?;
    Ok(generation.max(left.saturating_add(1)))
}
