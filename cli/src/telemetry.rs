//! Logs: what is written to standard error, and how. Metrics are the registry's, served by [`crate::admin`].

use std::io::{self, IsTerminal};

use anyhow::anyhow;
use tracing_subscriber::EnvFilter;

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
    /// Begins to log, for the rest of the process.
    ///
    /// # Errors
    /// Where the process logs already.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(&self.filter.0)?)
            .with_writer(io::stderr);
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        match self.format {
            Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
            Format::Text => builder.with_ansi(colours).try_init(),
        }
        .map_err(|error| anyhow!("cannot begin to log: {error}"))
    }
}
