//! `landbridge init`: a cluster becomes the hub of a set, and its first member. Done again it changes what differs.

use std::{fmt::Write as _, io::Write};

use anyhow::Result;
use kube::Client;
use landbridge_api::crds;

use super::{
    api::ApiArguments,
    component::runtime,
    install::{self, Effort},
    output::{Format, print, render},
};
use crate::{
    init::{apply, checks::Role, choice::Choice, facts, shown, wanted},
    kubernetes::answered,
    manifests::settings::Settings,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    effort: Effort,
    /// Print the objects as YAML and ask no cluster: for a repository that something else applies. Secrets are not among
    /// them; they are made when this is run without --print.
    #[arg(long, conflicts_with = "dry_run")]
    print: bool,
}

/// Looks, shows, and does it.
///
/// # Errors
/// What stands in the way, before anything is changed; an API that cannot be reached; what is not ready in time.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    if arguments.print {
        return print(out, &printed(&arguments.choice)?);
    }
    runtime()?.block_on(Box::pin(init(arguments, out)))
}

async fn init(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let (client, effort) = (arguments.api.client().await?, arguments.effort);
    // Whether anybody answers is known soon; all that is asked then takes as long as it takes.
    let (choice, settings) = answered(Box::pin(settings(&client, &arguments.choice))).await?;
    let survey = install::survey(&client, &choice, settings, &Role::Hub, effort.force_conflicts);
    let survey = Box::pin(survey).await?;
    if !install::show(&survey, effort, &Role::Hub, out)? {
        return Ok(());
    }
    let Settings { cluster, set, .. } = &survey.settings;
    let secrets = async || {
        let now = install::now();
        let root = apply::root(&client, set, now).await?;
        apply::authority(&client, &root, cluster, now).await?;
        Ok(None)
    };
    Box::pin(install::carry_out(&client, &survey, effort, secrets, out)).await?;
    print(out, &shown::done(cluster, set))
}

async fn settings(client: &Client, flags: &Choice) -> Result<(Choice, Settings)> {
    let choice = install::chosen(client, flags).await?;
    let member = match &choice.cluster {
        Some(cluster) => facts::member(client, cluster).await?,
        None => None,
    };
    let generation = member.map_or(1, |member| member.spec.generation);
    let settings = choice.settings(u64::try_from(generation).unwrap_or(1), true)?;
    Ok((choice, settings))
}

/// The objects alone.
fn printed(choice: &Choice) -> Result<String> {
    let settings = choice.settings(1, true)?;
    let version = env!("CARGO_PKG_VERSION");
    let mut text = String::new();
    for line in [
        format!("Landbridge {version} for {}, the hub of set {}.", settings.cluster, settings.set),
        "Once these are applied, `landbridge init` makes the Secrets that are missing, and tells the cluster's DNS.".into(),
    ] {
        writeln!(text, "# {line}")?;
    }
    for object in wanted::all(&settings, choice, crds::all())? {
        text.push_str("---\n");
        text.push_str(&render(Format::Yaml, &object)?);
    }
    Ok(text)
}
