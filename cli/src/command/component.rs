//! What the long-running commands share: settings, logs, signals, and the admin endpoint beside the component.

use std::{future::Future, net::SocketAddr};

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    admin::Admin,
    config::{self, Flags, Process, Settings, common::Common},
    shutdown,
};

/// A component that a command runs.
pub(crate) trait Component: Settings {
    /// The settings that all of them have.
    fn common(&self) -> &Common;

    /// Binds everything and runs until `shutdown` is cancelled.
    fn run(self, shutdown: CancellationToken) -> impl Future<Output = Result<()>>;
}

/// Runs a component until a signal ends it. Nothing is bound or sent before all settings are right.
///
/// # Errors
/// Wrong settings, what cannot be bound or reached, and what fails while running.
pub(crate) fn run<C: Component>(flags: &Flags<C>) -> Result<()> {
    let settings = config::load(flags, &Process)?;
    let _logging = settings.common().telemetry.start()?;
    runtime()?.block_on(async {
        let shutdown = shutdown::on_signal().context("cannot wait for signals")?;
        Box::pin(settings.run(shutdown)).await
    })
}

/// The threads that everything asynchronous runs on.
///
/// # Errors
/// As the operating system has it.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("landbridge")
        .build()
        .context("cannot start threads")
}

/// Runs a bound component and its admin endpoint, which stays until the component has drained.
///
/// # Errors
/// An admin address that is taken, and what fails in the component.
pub(super) async fn serve<E: Into<anyhow::Error>>(
    admin: Admin,
    address: SocketAddr,
    shutdown: CancellationToken,
    component: impl Future<Output = Result<(), E>>,
) -> Result<()> {
    let endpoint = admin.until(shutdown).bind(address).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        admin = %endpoint.address(),
        "running"
    );
    let drained = CancellationToken::new();
    let component = async {
        let ended = component.await;
        drained.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(component, endpoint.run(drained.clone()));
    ended.map_err(Into::into)
}
