//! The end of the process: a first signal asks for an orderly end, a second one does not wait for it.

use std::{io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use crate::{exit::Exit, telemetry};

/// A token that is cancelled by SIGINT or SIGTERM. A second signal ends the process at once.
///
/// # Errors
/// Where the operating system takes no signal handler.
pub(crate) fn on_signal() -> io::Result<CancellationToken> {
    let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let token = CancellationToken::new();
    tokio::spawn(watch(signals, token.clone()).instrument(info_span!("shutdown")));
    Ok(token)
}

async fn watch([mut interrupt, mut terminate]: [Signal; 2], token: CancellationToken) {
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    };
    let signal = next().await;
    info!(signal, "ending; once more ends at once");
    token.cancel();
    let signal = next().await;
    warn!(signal, "ending at once");
    telemetry::flush();
    process::exit(Exit::Interrupted.number().into());
}
