//! How a controller comes to be: what it is given, and what others may ask it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::Client;
use landbridge_api::served;
use landbridge_model::ClusterId;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::{
    config::Config,
    liveness::{LONGEST_BEAT, MEMBER_SILENCE},
    metrics::Metrics,
    observed::Event,
    run::{Owner, Question},
    watches,
};

/// People and tools who ask what the controller knows, at the same time. More of them wait.
const MOST_QUESTIONS: usize = 8;

/// Why a controller cannot be started.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum StartError {
    /// The configuration asks for heartbeats that would be missed, or that never pause.
    #[error(
        "a heartbeat every {0:?} is not usable: choose more than nothing and at most {LONGEST_BEAT:?}, since a member counts as silent after {MEMBER_SILENCE:?}"
    )]
    Heartbeat(Duration),
}

/// Why a controller has ended before it was told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A job has panicked: a bug. What was under way is not known, so a new start is due.
    #[error("a job of the controller has panicked, which is a bug: {0}")]
    Panicked(#[from] JoinError),
    /// All watches have ended, which they never do by themselves.
    #[error("all watches have ended, which is a bug: start the controller again")]
    WatchesEnded,
}

/// The controller of one cluster.
pub struct Controller {
    config: Config,
    local: Client,
    hub: Client,
    metrics: Metrics,
    ready: Arc<AtomicBool>,
    questions: (mpsc::Sender<Question>, mpsc::Receiver<Question>),
}

/// What others may ask a running controller.
#[derive(Clone, Debug)]
pub struct Handle {
    cluster: ClusterId,
    ready: Arc<AtomicBool>,
    questions: mpsc::Sender<Question>,
}

impl Handle {
    /// Whether the cluster and the hub have been read once. A controller that waits for another one of the same
    /// cluster to go is ready too: it knows all that it needs to take over, and a rollout must not wait for it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What the controller knows now, in an order that does not change, or that it has ended. One that
    /// is not run yet is waited for.
    pub async fn snapshot(&self) -> Value {
        let (question, answer) = oneshot::channel();
        // Whoever asks waits while many do; nobody is refused.
        let asked = self.questions.send(question).await;
        let answer = if asked.is_ok() { answer.await.ok() } else { None };
        answer.unwrap_or_else(|| json!({"cluster": self.cluster.as_str(), "state": "ended"}))
    }
}

impl Controller {
    /// Prepares a controller for the cluster that `local` reaches, and the set that `hub` holds. Nothing is read or
    /// written yet; an API that is away is waited for when it runs.
    ///
    /// # Errors
    /// [`StartError`] says which part of the configuration cannot be used.
    #[expect(
        clippy::unused_async,
        reason = "all components are started in the same way, and others bind sockets"
    )]
    pub async fn bind(
        config: Config,
        local: Client,
        hub: Client,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        if !config.heartbeat_is_usable() {
            return Err(StartError::Heartbeat(config.heartbeat));
        }
        Ok(Self {
            config,
            local,
            hub,
            metrics: Metrics::register(registry),
            ready: Arc::default(),
            questions: mpsc::channel(MOST_QUESTIONS),
        })
    }

    /// What others may ask it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            cluster: self.config.cluster.clone(),
            ready: Arc::clone(&self.ready),
            questions: self.questions.0.clone(),
        }
    }

    /// Runs until `shutdown`, then lets what is under way come to its end. What was written stays: other clusters
    /// go on calling a cluster whose controller is away.
    ///
    /// # Errors
    /// [`RunError`] where it has ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let span = info_span!("controller", cluster = %self.config.cluster);
        let (local, served) = served::adapt(self.local);
        let served = served.versions().map(Event::Served);
        let events = stream::select(watches::all(&local, &self.hub, &self.config), served);
        let owner = Owner::new(self.config, (local, self.hub), self.metrics, self.ready);
        Box::pin(owner.run(events, self.questions.1, shutdown)).instrument(span).await
    }
}
