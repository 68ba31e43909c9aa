//! A controller that runs as a task of the tests.

use kube::Client;
use landbridge_controller::{Config, Controller, Handle};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running controller.
pub(crate) struct Controlling {
    pub(crate) handle: Handle,
    pub(crate) registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Controlling {
    /// Starts one. It is not ready yet.
    pub(crate) async fn start(config: Config, local: Client, hub: Client) -> Self {
        let mut registry = Registry::with_prefix("landbridge");
        let controller = Controller::bind(config, local, hub, &mut registry).await.unwrap();
        let (handle, stop) = (controller.handle(), CancellationToken::new());
        let until = stop.clone();
        let task = tokio::spawn(async move { controller.run(until).await.unwrap() });
        Self { handle, registry, stop, task }
    }

    /// Lets it end as it would be told to by a signal.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends it without a word, as a machine does that loses its power.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Whether it holds the Lease.
    pub(crate) fn leads(&self) -> bool {
        self.count("leading", &[]) == 1
    }

    /// The sum of all samples of a metric whose line begins so and holds every one of `labels`.
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        let mut metrics = String::new();
        encode(&mut metrics, &self.registry).unwrap();
        let name = format!("landbridge_controller_{name}");
        let lines = metrics.lines().filter(|line| {
            line.starts_with(&name) && labels.iter().all(|label| line.contains(label))
        });
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }
}
