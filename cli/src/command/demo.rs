//! `landbridge demo`: logs, threads and signals around the story that the demo tells.

use std::process::ExitCode;

use anyhow::{Context, Result};

use super::component::runtime;
use crate::{
    demo::{self, Arguments},
    shutdown,
    telemetry::{Filter, Format, Telemetry},
};

/// What the components of the demo log, unless the variable says more: the story tells what there is to know, and
/// a cluster that is cut off on purpose fills any log.
const QUIET: &str = "off";

/// The variable that says more.
const VARIABLE: &str = "LANDBRIDGE_LOG";

/// Runs the demo.
///
/// # Errors
/// What cannot be set up, with the remedy.
pub(super) fn run(arguments: Arguments) -> Result<ExitCode> {
    let filter = std::env::var(VARIABLE).unwrap_or_else(|_| QUIET.to_owned());
    let filter = Filter::parse(&filter)
        .map_err(|problem| crate::exit::Usage(format!("{VARIABLE}: {problem}")))?;
    let _logging = Telemetry { filter, format: Format::Text }.start()?;
    runtime()?.block_on(async {
        let interrupted = shutdown::on_signal().context("cannot wait for signals")?;
        Box::pin(demo::run(arguments, interrupted)).await
    })
}
