//! Logs: what is written to standard error, and how. Metrics are the registry's, served by [`crate::admin`].

mod lines;

use std::io::{self, IsTerminal};

use anyhow::{Context as _, anyhow};
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::EnvFilter;

use self::lines::LINES;

/// Which events are logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Filter(String);

impl Filter {
    /// Parses levels, by module or for all: `info,landbridge_dns=debug`.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        EnvFilter::try_new(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|error| {
                format!("is not a filter ({error}): give a level, or levels by module, such as info,landbridge_dns=debug")
            })
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// One JSON object a line, for machines.
    Json,
    /// One line for people, in colour on a terminal.
    Text,
}

impl Format {
    /// Parses `json` or `text`.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("is not a format: give text or json".into()),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Telemetry {
    pub(crate) filter: Filter,
    pub(crate) format: Format,
}

impl Telemetry {
    /// Begins to log, for the rest of the process. What is returned waits, when it is dropped, for what is yet to be
    /// written.
    ///
    /// # Errors
    /// Where the process logs already.
    pub(crate) fn start(&self) -> anyhow::Result<Logging> {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(&self.filter.0)?)
            // It would tell of trouble with standard error there, and end the process where that cannot be written.
            .log_internal_errors(false)
            .with_writer(LINES.clone());
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        match self.format {
            Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
            Format::Text => builder.with_ansi(colours).try_init(),
        }
        .map_err(|error| anyhow!("cannot begin to log: {error}"))?;
        LINES.start(io::stderr()).context("cannot begin to log")?;
        Ok(Logging(()))
    }
}

/// A process that logs.
#[derive(Debug)]
#[must_use = "the last lines are lost without it"]
pub(crate) struct Logging(());

impl Drop for Logging {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits a moment for what is yet to be written, for a process that is about to end.
pub(crate) fn flush() {
    LINES.flush();
}

/// Counts the lines that standard error did not take.
pub(crate) fn lost() -> Counter {
    LINES.lost.clone()
}
