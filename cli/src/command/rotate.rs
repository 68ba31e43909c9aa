//! `landbridge rotate root`: another root takes the place of the set's, in three steps, each once all members are ready for it.

use std::io::Write;

use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use landbridge_api::{
    landbridge::Member,
    wellknown::{ROOT_SECRET, TRUST_NAMESPACE},
};
use landbridge_gateway::{
    join::{
        StoreError,
        rotation::{Stage, advanced, awaited, stage},
        trust,
    },
    pki::Root,
};

use super::{api::ApiArguments, component::runtime, install::now, output::print};
use crate::kubernetes::answered;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Have another root take the place of the set's. Goes one step at a time: run it until it says that it is done.
    Root {
        #[command(flatten)]
        hub: ApiArguments,
        /// Go on although some members are not ready: those are cut off, and have to join again.
        #[arg(long)]
        now: bool,
    },
}

/// Goes one step, and says what comes next.
///
/// # Errors
/// A cluster that is no hub, and members that are not ready for the step.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let What::Root { hub, now } = &arguments.what;
    let told = runtime()?.block_on(answered(async { root(&hub.client().await?, *now).await }))?;
    print(out, &told)
}

async fn root(client: &Client, at_once: bool) -> Result<String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), TRUST_NAMESPACE);
    let what = || format!("Secret {TRUST_NAMESPACE}/{ROOT_SECRET}");
    let kept = secrets.get_opt(ROOT_SECRET).await.with_context(what)?;
    let kept = kept.ok_or(StoreError::NoRoot)?;
    let members: Api<Member> = Api::all(client.clone());
    let members = members.list(&ListParams::default()).await.context("the hub's Members")?.items;
    let before = stage(&kept)?;
    let late = awaited(&before, &members);
    if !late.is_empty() && !at_once {
        return Err(anyhow!(waiting(&before, &late)));
    }
    let set = trust::read(&kept)?.set().clone();
    let after = advanced(&kept, &Root::generate(&set, now())?)?;
    // On the very version that was read: two that do this at once go one step.
    let written = secrets.replace(ROOT_SECRET, &PostParams::default(), &after).await;
    written.with_context(what)?;
    Ok(told(&stage(&after)?))
}

/// Who is waited for.
fn waiting(stage: &Stage, late: &[String]) -> String {
    let what = match stage {
        Stage::Signs(_) => "no certificate of the new root yet",
        Stage::Prepared(_) | Stage::Stands => "not said yet that they trust the new root",
    };
    format!(
        "{} have {what}: each asks once an hour; run this again then, see why with `kubectl logs` of their controllers, or go on without them with --now",
        late.join(", ")
    )
}

/// What was done, and what comes next.
fn told(stage: &Stage) -> String {
    match stage {
        Stage::Prepared(root) => format!(
            "A second root is trusted from now on: SHA-256 {root}.\nMembers hear of it within an hour. Run this again then: it is to sign once all of them trust it.\n"
        ),
        Stage::Signs(root) => format!(
            "The new root signs from now on: SHA-256 {root}. Tokens that were issued before are of the old one: issue others.\nMembers have their authorities renewed within an hour. Run this again then: the old root goes once none of them needs it.\n"
        ),
        Stage::Stands => "The old root is gone. That is all.\n".to_owned(),
    }
}

#[test]
fn each_step_says_what_comes_next() {
    use landbridge_gateway::join::token::Fingerprint;

    let root = Fingerprint::of(b"new");
    assert!(told(&Stage::Prepared(root)).contains("Run this again then: it is to sign once"));
    assert!(
        told(&Stage::Signs(root)).contains("Tokens that were issued before are of the old one")
    );
    assert!(told(&Stage::Stands).ends_with("That is all.\n"));
    let late = ["berlin".to_owned(), "rome".to_owned()];
    let told = waiting(&Stage::Prepared(root), &late);
    assert!(told.starts_with("berlin, rome have not said yet that they trust"), "{told}");
}
