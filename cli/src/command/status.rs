//! `landbridge status`: how a cluster stands in its set, at a glance or for as long as somebody looks.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::Result;

use super::{
    component::runtime,
    output::{Format, print, render},
    seeing::{Whom, demand_member},
};
use crate::{
    exit::{self, Exit},
    seen::{ask::Depth, report, shown},
};

/// How often it is asked again: as often as people notice.
const AGAIN: Duration = Duration::from_secs(2);
/// Clears a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    whom: Whom,
    /// The form: for a program, or with everything for people.
    #[arg(short, long, value_enum)]
    output: Option<Form>,
    /// Ask again and again until it is interrupted.
    #[arg(short, long)]
    watch: bool,
}

/// A form of what is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Form {
    /// JSON.
    Json,
    /// For people: each export, import and gateway.
    Wide,
    /// YAML.
    Yaml,
}

/// Tells it, once or until it is interrupted.
///
/// # Errors
/// An API that cannot be reached or refuses; a cluster that is no member.
pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    runtime()?.block_on(Box::pin(async {
        let clear = if arguments.watch && io::stdout().is_terminal() { CLEAR } else { "" };
        let mut has_answered = false;
        loop {
            let text = match Box::pin(told(arguments)).await {
                Ok(text) => text,
                // One that is away for a while is no reason to look no more.
                Err(error) if has_answered && Exit::of(&error) == Exit::Kubernetes => {
                    format!("{}\n", exit::line(error.as_ref()))
                }
                Err(error) => return Err(error),
            };
            has_answered = true;
            print(out, &format!("{clear}{text}"))?;
            if !arguments.watch {
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }))
}

async fn told(arguments: &Arguments) -> Result<String> {
    let facts = arguments.whom.ask(Depth::Glance).await?;
    demand_member(&facts)?;
    let report = report::of(&facts);
    match arguments.output {
        None => Ok(shown::status(&report, facts.now, false)),
        Some(Form::Wide) => Ok(shown::status(&report, facts.now, true)),
        Some(Form::Json) => render(Format::Json, &report),
        Some(Form::Yaml) => render(Format::Yaml, &report),
    }
}
