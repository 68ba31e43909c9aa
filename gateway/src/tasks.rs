//! The only place that spawns: every task of a gateway has a name, ends on a token, and can be waited for.

use std::{future::Future, time::Duration};

use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, info_span};

/// The tasks of one gateway. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    parent: Span,
}

impl Tasks {
    /// Tasks that log within `parent`.
    pub(crate) fn new(parent: Span) -> Self {
        Self { tracker: TaskTracker::new(), parent }
    }

    /// Runs `task` by itself under the name `name`.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let span = info_span!(parent: &self.parent, "task", name);
        // Nobody joins a single task: what it has to say it says in shared state, and the tracker waits for all.
        drop(tokio::spawn(self.tracker.track_future(task.instrument(span))));
    }

    /// Waits until every task has ended, at most so long. Says whether they all have.
    pub(crate) async fn wait(&self, most: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(most, self.tracker.wait()).await.is_ok()
    }
}
