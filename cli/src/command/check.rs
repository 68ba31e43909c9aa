//! `landbridge check`: whether a cluster is as it should be; before it is a member, whether it could become one.

use std::io::Write;

use anyhow::Result;

use super::{
    component::runtime,
    output::{Format, print, render},
    seeing::Whom,
};
use crate::{
    exit::Unwell,
    seen::{ask::Depth, checks, report, shown},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// Print what was found for a program.
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Looks, and tells what was found.
///
/// # Errors
/// An API that cannot be reached or refuses; where something is wrong, that it is.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let facts = runtime()?.block_on(Box::pin(arguments.whom.ask(Depth::Thorough)))?;
    let found = checks::all(&facts);
    let text = match arguments.output {
        None => shown::checks(&found, facts.is_installed()),
        Some(format) => render(format, &report::findings(&found))?,
    };
    print(out, &text)?;
    match shown::wrong(&found) {
        Some(wrong) => Err(Unwell(wrong).into()),
        None => Ok(()),
    }
}
