//! `landbridge revoke` and `landbridge remove`: a member is one no more. The first cuts off one that lives, the second takes
//! away what one has left that was destroyed. Both ask the hub.

use std::io::Write;

use anyhow::Result;
use landbridge_model::ClusterId;

use super::{
    api::ApiArguments,
    component::runtime,
    output::{Format, print, render},
};
use crate::{
    kubernetes::{self, answered},
    lives::hub,
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

/// Whether a member is cut off that may live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    Remove,
    Revoke,
}

/// Does it, and says what was done.
///
/// # Errors
/// A cluster that is no hub, or knows no such member, or is it itself; one that is to be removed and lives.
pub(crate) fn run(arguments: &Arguments, manner: Manner, out: &mut dyn Write) -> Result<()> {
    let Arguments { cluster, hub, output } = arguments;
    let text = runtime()?.block_on(async {
        let client = hub.client().await?;
        if manner == Manner::Remove {
            answered(Box::pin(hub::silent(&client, cluster))).await?;
        }
        let parted = Box::pin(hub::part(&client, cluster)).await?;
        match output {
            Some(format) => render(*format, &parted.described()),
            None => {
                let own = kubernetes::cluster_id(&client).await?;
                let own = own.map_or_else(|| "the hub".to_owned(), |id| id.to_string());
                Ok(parted.text(&own))
            }
        }
    })?;
    print(out, &text)
}
