//! `landbridge drain` and `landbridge undrain`: a member gets no new calls while another one serves, for as long as it takes to
//! upgrade it or to find out what is wrong with it. Asks the hub.

use std::io::Write;

use anyhow::{Context, Result};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use landbridge_api::landbridge::Member;
use landbridge_model::ClusterId;
use serde_json::json;

use super::{
    api::ApiArguments,
    component::runtime,
    output::{Format, print, render},
};
use crate::{
    exit::Usage,
    init::{MANAGER, facts},
    kubernetes::answered,
    lives::shown,
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The member, as `landbridge status` calls it.
    cluster: ClusterId,
    /// The hub.
    #[command(flatten)]
    hub: ApiArguments,
    /// Print what was done for a program.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Does it, or takes it back.
///
/// # Errors
/// A hub that cannot be asked, or knows no such member.
pub(crate) fn run(arguments: &Arguments, drained: bool, out: &mut dyn Write) -> Result<()> {
    let Arguments { cluster, hub, output } = arguments;
    let text = runtime()?.block_on(answered(Box::pin(async {
        let client = hub.client().await?;
        let Some(before) = facts::member(&client, cluster).await? else {
            return Err(Usage(format!(
                "there is no Member {cluster} there: name the hub's API with --context or --kubeconfig, and see `kubectl get members`"
            ))
            .into());
        };
        let members: Api<Member> = Api::all(client);
        let spec = Patch::Merge(json!({"spec": {"drained": drained}}));
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let written = members.patch(cluster.as_str(), &params, &spec).await;
        written.with_context(|| format!("Member {cluster}"))?;
        let changed = before.spec.drained != drained;
        match output {
            Some(format) => render(*format, &shown::described(cluster, drained, changed)),
            None => Ok(shown::drained(cluster, drained, changed)),
        }
    })))?;
    print(out, &text)
}
