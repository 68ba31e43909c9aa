//! Pure: everything that is wrong with a configuration, told at once.

use std::fmt;

use thiserror::Error;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problem {
    /// Where the wrong text stands: a flag, a variable, a key of a file.
    pub(crate) culprit: String,
    /// What is wrong with it and what would be right.
    pub(crate) message: String,
}

/// All that is wrong with a configuration; the fault of whoever wrote it. Nothing has been started.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 setting is wrong, nothing was started:")?,
            n => write!(f, "{n} settings are wrong, nothing was started:")?,
        }
        for Problem { culprit, message } in &self.0 {
            write!(f, "\n  {culprit}: {message}")?;
        }
        Ok(())
    }
}
