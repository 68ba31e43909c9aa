//! Pure: what may come of a write, and whose fault it is where it failed.

use crate::observed::Event;

/// Why a write did not succeed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Verb, kind and name.
    pub write: String,
    /// What was said.
    pub message: String,
    /// Whose fault it is.
    pub fault: Fault,
}

/// Whose fault a failed write is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The API was away, or too busy.
    Api,
    /// Something has changed since it was seen: the next plan knows better.
    Outdated,
    /// The API has said no, and will say it again.
    Refused,
}

impl Fault {
    /// What an API means that answers with this HTTP status.
    #[must_use]
    pub fn of_status(code: u16) -> Self {
        match code {
            409 => Self::Outdated,
            429 | 500.. => Self::Api,
            _ => Self::Refused,
        }
    }

    /// As metrics have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Outdated => "outdated",
            Self::Refused => "refused",
        }
    }
}

impl Failure {
    /// Whether the API server has said that it has no ClusterIP left; it has no code of its own for that.
    pub(crate) fn is_exhaustion(&self) -> bool {
        self.message.contains("range is full")
    }
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the APIs answered: news like any other.
    pub answers: Vec<Event>,
    /// What went wrong; everything after it was left to the next plan.
    pub failure: Option<Failure>,
}
