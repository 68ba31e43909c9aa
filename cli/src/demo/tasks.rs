//! The demo's tasks: named, stopped together, and heard when one ends before its time.

use std::{fmt::Display, future::Future, net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow, bail};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::admin::Admin;

/// How long components may take to stop: longer than a gateway that lets open calls end.
const STOPPING: Duration = Duration::from_secs(25);

/// How long components may take to become ready.
const STARTING: Duration = Duration::from_secs(10);

type Readiness = Box<dyn Fn() -> bool + Send + Sync>;

/// All that runs.
pub(super) struct Tasks {
    running: JoinSet<(String, anyhow::Result<()>)>,
    shutdown: CancellationToken,
    ready: Vec<(String, Readiness)>,
}

impl Tasks {
    /// None yet; all will stop with `shutdown`.
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self { running: JoinSet::new(), shutdown, ready: Vec::new() }
    }

    /// Runs a task under a name.
    pub(super) fn spawn<F>(&mut self, name: String, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let task = task(self.shutdown.child_token());
        let span = tracing::info_span!("task", name = %name);
        self.running.spawn(async move { (name, task.await) }.instrument(span));
    }

    /// Runs a component and its admin endpoint.
    ///
    /// # Errors
    /// Where the endpoint's address cannot be taken.
    pub(super) async fn serve<F, E>(
        &mut self,
        name: String,
        address: SocketAddr,
        admin: Admin,
        component: impl FnOnce(CancellationToken) -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + Display + Send + 'static,
    {
        self.ready.push((name.clone(), admin.readiness()));
        let endpoint = admin.bind(address).await?;
        self.spawn(format!("{name}/admin"), |shutdown| async move {
            endpoint.run(shutdown).await;
            Ok(())
        });
        let component = component(self.shutdown.child_token());
        self.spawn(name, |_| async move { component.await.map_err(Into::into) });
        Ok(())
    }

    /// Waits until every component is ready.
    ///
    /// # Errors
    /// Names the ones that are not in time.
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTING;
        loop {
            let waiting: Vec<&str> = self
                .ready
                .iter()
                .filter(|(_, ready)| !ready())
                .map(|(name, _)| name.as_str())
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "not ready after {STARTING:?}: {}. LANDBRIDGE_LOG=info shows why",
                    waiting.join(", ")
                );
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
                ended = self.ended() => return Err(ended),
            }
        }
    }

    /// Waits for a task that ends before it was told to; forever, where none does.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("{name} ended before its time"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(error)) => anyhow!("a task failed: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Stops everything and waits until it has.
    ///
    /// # Errors
    /// What failed while stopping, or did not stop in time.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let all = async {
            let mut outcome = Ok(());
            while let Some(ended) = self.running.join_next().await {
                let (name, result) = ended.context("a task failed")?;
                outcome = outcome
                    .and_then(|()| result.with_context(|| format!("{name} failed while stopping")));
            }
            outcome
        };
        tokio::time::timeout(STOPPING, all)
            .await
            .with_context(|| format!("not everything stopped within {STOPPING:?}"))?
    }
}
