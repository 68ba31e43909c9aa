//! `landbridge leave`: a member goes of its own accord: what it gave goes, on the hub and everywhere, and then what is
//! installed in it. And `landbridge withdraw`, which it runs in a pod.

use std::{io::Write, path::PathBuf};

use anyhow::Result;
use landbridge_api::{crds, wellknown::SYSTEM_NAMESPACE};
use landbridge_model::ClusterId;

use super::{api::ApiArguments, component::runtime, dns, install, output::print};
use crate::{
    config::common::Reach,
    exit::Usage,
    init::{choice::Choice, facts, removal, remove, wanted},
    kubernetes::{self, answered},
    lives::{hub, leaving, member},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    api: ApiArguments,
    /// The hub's API, to take away there all that it has of the member [default: the member takes back itself what it may].
    #[arg(long, value_name = "FILE")]
    hub_kubeconfig: Option<PathBuf>,
    /// Context of the hub in that file, or in the one that kubectl reads.
    #[arg(long, value_name = "NAME")]
    hub_context: Option<String>,
    /// It was removed on the hub already, or the hub is gone for good: ask it for nothing.
    #[arg(long, conflicts_with_all = ["hub_kubeconfig", "hub_context"])]
    hub_removed: bool,
    /// Leave what is installed, with no controller.
    #[arg(long)]
    stay: bool,
    /// Do it. Without this, what would be done is shown, and nothing is.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Withdraw {
    /// This cluster.
    #[arg(long, value_name = "ID")]
    cluster: ClusterId,
    /// How the hub is reached.
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
}

/// Shows what would be done, or does it.
///
/// # Errors
/// A cluster that is no member, or is the hub; a hub that cannot be reached; an API that refuses. The same can be done again.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    runtime()?.block_on(Box::pin(leave(arguments, out)))
}

/// Deletes what a member has written on the hub.
///
/// # Errors
/// A hub that cannot be reached, or refuses.
pub(crate) fn withdraw(arguments: &Withdraw, out: &mut dyn Write) -> Result<()> {
    let Withdraw { cluster, kubeconfig } = arguments;
    let count = runtime()?.block_on(async {
        let reach = Reach { kubeconfig: Some(kubeconfig.clone()), context: None };
        let client = kubernetes::client(&reach).await?;
        Box::pin(member::take_back(&client, cluster)).await
    })?;
    print(out, &format!("{count} objects of {cluster} are gone from the hub\n"))
}

async fn leave(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let client = arguments.api.client().await?;
    let choice = answered(Box::pin(install::chosen(&client, &Choice::default()))).await?;
    if choice == Choice::default() {
        let place = wanted::CHOICE_PLACE;
        let problem = format!(
            "there is no ConfigMap {place}: `landbridge join` has not made this cluster a member"
        );
        return Err(Usage(problem).into());
    }
    if facts::root(&client).await?.is_some() {
        let remedy = "it does not leave its own set: see `landbridge uninstall`";
        return Err(Usage(format!("this cluster is the hub: {remedy}")).into());
    }
    let settings = choice.settings(1, false)?;
    let keys = removal::order(&wanted::all(&settings, &choice, crds::all())?, false);
    let keys = facts::present(&client, keys).await?;
    if !arguments.yes {
        let shown = if arguments.stay {
            format!(
                "Takes {} out of its set; what is installed stays, with no controller\n",
                settings.cluster
            )
        } else {
            removal::shown(&keys, &settings.cluster)
        };
        return print(out, &format!("{shown}Nothing was changed: give --yes to do it.\n"));
    }
    let cluster = &settings.cluster;
    member::quiet(&client).await?;
    let is_removed = given_back(arguments, &client, cluster, &settings.image).await?;
    member::forget(&client).await?;
    if !arguments.stay {
        print(out, &dns::disable(&client).await?)?;
        Box::pin(remove::all(&client, &keys)).await?;
        print(out, &format!("Nothing of Landbridge is left in {SYSTEM_NAMESPACE}.\n"))?;
    }
    print(out, &leaving::told(cluster, is_removed, arguments.stay))
}

/// What the member gave goes; whether the hub has nothing of it any more.
async fn given_back(
    arguments: &Arguments,
    client: &kube::Client,
    cluster: &ClusterId,
    image: &str,
) -> Result<bool> {
    if arguments.hub_removed {
        return Ok(true);
    }
    if arguments.hub_kubeconfig.is_none() && arguments.hub_context.is_none() {
        member::withdraw(client, cluster, image).await?;
        return Ok(false);
    }
    let reach = Reach {
        kubeconfig: arguments.hub_kubeconfig.clone(),
        context: arguments.hub_context.clone(),
    };
    let there = kubernetes::client(&reach).await?;
    Box::pin(hub::part(&there, cluster)).await?;
    Ok(true)
}
