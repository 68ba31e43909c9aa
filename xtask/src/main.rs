//! `cargo xtask`: what contributors run.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use landbridge_xtask::programs::{self, Tool};

/// What contributors to Landbridge run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build what tests and the lab run of others (etcd, Kubernetes, CoreDNS), and print where it lies.
    Programs {
        /// All of them where none is named.
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done where even standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Programs { names } => build(names),
    }
}

fn build(names: &[String]) -> Result<()> {
    let named = |name: &String| {
        let known = programs::ALL.map(|tool| tool.name).join(", ");
        Tool::named(name).with_context(|| format!("{name} is none of {known}"))
    };
    let tools: Result<Vec<Tool>> = if names.is_empty() {
        Ok(programs::ALL.to_vec())
    } else {
        names.iter().map(named).collect()
    };
    for tool in tools? {
        writeln!(io::stdout(), "{}", tool.pinned()?.display())?;
    }
    Ok(())
}
