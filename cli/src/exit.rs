//! Exit codes by kind, and the last line that a failing command writes. The one place where they are decided:
//!
//! | code | kind |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed while running |
//! | 2 | usage or configuration is wrong: nothing was started |
//! | 3 | a Kubernetes API cannot be reached, or refuses |
//! | 4 | an address to listen on is taken, or is not this machine's |
//! | 5 | what was looked at is not as it should be |
//! | 130 | ended by a second signal, without waiting for what was under way |

use std::{error::Error, io, net::SocketAddr, process::ExitCode, time::Duration};

use crate::config::Problems;

/// The same table for `--help`.
pub(crate) const HELP: &str = "Exit codes: 0 done, 1 failed while running, 2 usage or configuration is wrong, \
     3 a Kubernetes API cannot be reached or refuses, 4 an address to listen on is taken, 5 what was looked at is not as it should be, 130 ended by a second signal.";

/// How the process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Address,
    Failure,
    Interrupted,
    Kubernetes,
    Success,
    Unwell,
    Usage,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Kubernetes => 3,
            Self::Address => 4,
            Self::Unwell => 5,
            Self::Interrupted => 130,
        }
    }

    /// The kind of an error, by what stands in its chain.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let kind = |cause: &(dyn Error + 'static)| {
            if cause.is::<Problems>() || cause.is::<Usage>() {
                Some(Self::Usage)
            } else if cause.is::<kube::Error>()
                || cause.is::<Box<kube::Error>>()
                || cause.is::<Refused>()
                || cause.is::<Unanswered>()
            {
                Some(Self::Kubernetes)
            } else if cause.is::<AddressTaken>() {
                Some(Self::Address)
            } else if cause.is::<Unwell>() {
                Some(Self::Unwell)
            } else {
                match cause.downcast_ref::<io::Error>()?.kind() {
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => {
                        Some(Self::Address)
                    }
                    _ => None,
                }
            }
        };
        error.chain().find_map(kind).unwrap_or(Self::Failure)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Something that the user asked for in a way that cannot be done, with the remedy in the message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({problem}): end what uses it, or choose another")]
pub(crate) struct AddressTaken {
    /// The address that was asked for.
    pub(crate) address: SocketAddr,
    /// As the operating system has it.
    pub(crate) problem: String,
}

/// The error for an address that the system does not let us listen on.
pub(crate) fn address_taken(address: SocketAddr, problem: &io::Error) -> anyhow::Error {
    let problem = problem.to_string();
    AddressTaken { address, problem }.into()
}

/// A Kubernetes API that took the question and did not answer it.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}: is the server of the kubeconfig up and reachable from here?")]
pub(crate) struct Unanswered(pub(crate) Duration);

/// A Kubernetes API that does not let whoever asks know what he has to know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// What was looked at, and was told, is not as it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unwell(pub(crate) String);

/// An error with its causes on one line. A cause that the line tells already is not told again.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn the_kind_is_found_behind_any_context() {
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        let error = anyhow::Error::from(taken).context("cannot listen").context("gateway");
        assert_eq!(Exit::of(&error), Exit::Address);
        let error = anyhow::Error::from(Problems(Vec::new())).context("gateway");
        assert_eq!(Exit::of(&error), Exit::Usage);
        assert_eq!(Exit::of(&anyhow!("link lost")), Exit::Failure);
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(Exit::of(&error), Exit::Failure);
    }

    #[test]
    fn the_last_line_tells_every_cause_once() {
        let error = Err::<(), _>(anyhow!("address in use"))
            .context("cannot listen: address in use")
            .context("gateway")
            .unwrap_err();
        assert_eq!(line(error.as_ref()), "gateway: cannot listen: address in use");
    }
}
