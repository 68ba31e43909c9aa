//! `landbridge uninstall`: takes out of a cluster what `landbridge init` or `landbridge join` have put into it, and what the
//! controller has written there. What others have made stays.

use std::io::Write;

use anyhow::Result;
use kube::Client;
use landbridge_api::crds;

use super::{api::ApiArguments, component::runtime, dns, install, output::print};
use crate::{
    exit::Usage,
    init::{choice::Choice, facts, removal, remove, wanted},
    kubernetes::answered,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    api: ApiArguments,
    /// Do it. Without this, what would be removed is shown, and nothing is.
    #[arg(long)]
    yes: bool,
    /// Remove the kinds of the standard too, and with them every ServiceExport that people have made.
    #[arg(long)]
    standard_kinds: bool,
    /// Remove a hub although other clusters are members of its set: they can never be made members of it again.
    #[arg(long)]
    force: bool,
}

/// Shows what would be removed, or removes it.
///
/// # Errors
/// A cluster where there is nothing to remove, a hub that others rely on, an API that refuses.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    runtime()?.block_on(Box::pin(uninstall(arguments, out)))
}

async fn uninstall(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let client = arguments.api.client().await?;
    let choice = answered(Box::pin(install::chosen(&client, &Choice::default()))).await?;
    if choice == Choice::default() {
        let place = wanted::CHOICE_PLACE;
        return Err(Usage(format!(
            "there is no ConfigMap {place}: neither `landbridge init` nor `landbridge join` has made this cluster a member"
        ))
        .into());
    }
    let own_hub = facts::root(&client).await?.is_some();
    let settings = choice.settings(1, own_hub)?;
    if own_hub && !arguments.force {
        nobody_relies_on_it(&client, settings.cluster.as_str()).await?;
    }
    let wanted = wanted::all(&settings, &choice, crds::all())?;
    let keys = removal::order(&wanted, arguments.standard_kinds);
    let keys = facts::present(&client, keys).await?;
    print(out, &removal::shown(&keys, &settings.cluster))?;
    if !arguments.yes {
        return print(out, "Nothing was removed: give --yes to do it.\n");
    }
    print(out, &dns::disable(&client).await?)?;
    Box::pin(remove::all(&client, &keys)).await?;
    print(out, &format!("{} is a member no more.\n", settings.cluster))
}

async fn nobody_relies_on_it(client: &Client, own: &str) -> Result<()> {
    let others: Vec<String> =
        facts::members(client).await?.into_iter().filter(|name| name != own).collect();
    if others.is_empty() {
        return Ok(());
    }
    let (names, are) =
        (others.join(", "), if others.len() == 1 { "is a member" } else { "are members" });
    Err(Usage(format!(
        "{names} {are} of the set whose hub this is: uninstall them first, and delete their Members; --force removes the hub all the same"
    ))
    .into())
}
