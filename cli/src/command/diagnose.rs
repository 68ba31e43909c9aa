//! `landbridge diagnose`: the way of a call to one service, and the first thing on it that is wrong.

use std::io::Write;

use anyhow::Result;
use landbridge_model::ServiceKey;

use super::{
    component::runtime,
    output::{Format, print, render},
    seeing::{Whom, demand_member},
};
use crate::{
    exit::Unwell,
    seen::{ask::Depth, shown, walk},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// The service, as its namespace and its name.
    #[arg(value_name = "NAMESPACE/SERVICE")]
    service: ServiceKey,
    /// Print the steps for a program.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Walks it, and tells of each step.
///
/// # Errors
/// An API that cannot be reached or refuses; a cluster that is no member; where something is in the way, what that is.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let service = &arguments.service;
    let (facts, slices) = runtime()?.block_on(Box::pin(async {
        let facts = Box::pin(arguments.whom.ask(Depth::Thorough)).await?;
        demand_member(&facts)?;
        let slices = arguments.whom.slices(service.namespace.as_str()).await?;
        anyhow::Ok((facts, slices))
    }))?;
    let steps = walk::walk(&facts, service, &slices);
    let text = match arguments.output {
        None => shown::walk(&steps, service),
        Some(format) => render(format, &steps)?,
    };
    print(out, &text)?;
    match walk::first_wrong(&steps) {
        Some(step) => Err(Unwell(format!("{service} is not reached: {}", step.says)).into()),
        None => Ok(()),
    }
}
