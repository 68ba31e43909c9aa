//! The one task of a controller: it gives a [`Reconciler`] its clock, its news and its APIs, and tells what it tells.
//!
//! Nothing is decided here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt};
use kube::Client;
use landbridge_model::{Rulebook, Timestamp};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch as latest},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::{
    config::Config,
    execute::Executor,
    metrics::Metrics,
    observed::Event,
    outcome::Failure,
    probe,
    reconciler::{Answer, Job, Reconciler, Told},
    start::RunError,
};

/// How long running jobs are waited for at the end: an API answers within one second or not soon.
const DRAIN: Duration = Duration::from_secs(5);
/// How much news is taken in before planning: the more comes at once, the less is planned twice.
const MOST_NEWS: usize = 1_024;

/// The owner of a controller's state.
pub(crate) struct Owner {
    executor: Arc<Executor>,
    /// Until when the Lease is held, for those who write.
    held: latest::Sender<Option<Instant>>,
    jobs: JoinSet<Option<Answer>>,
    metrics: Metrics,
    ready: Arc<AtomicBool>,
    reconciler: Reconciler,
}

/// Asks for what the controller knows: thousands of objects are a few milliseconds' work, done for whoever asks and not
/// otherwise.
pub(crate) type Question = oneshot::Sender<Value>;

impl Owner {
    pub(crate) fn new(
        config: Config,
        (local, hub): (Client, Client),
        metrics: Metrics,
        ready: Arc<AtomicBool>,
    ) -> Self {
        let held = latest::Sender::new(None);
        let name = format!("{}-{:08x}", config.replica, rand::random::<u32>());
        Self {
            executor: Executor::new(local, hub, held.subscribe(), metrics.clone()),
            held,
            jobs: JoinSet::new(),
            metrics,
            ready,
            reconciler: Reconciler::new(config, Rulebook::OURS, name, Instant::now()),
        }
    }

    pub(crate) async fn run(
        mut self,
        events: impl Stream<Item = Event> + Send,
        mut questions: mpsc::Receiver<Question>,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let mut events = std::pin::pin!(events);
        loop {
            let jobs = self.reconciler.poll(Instant::now(), wall_clock());
            self.held.send_replace(self.reconciler.held_until());
            jobs.into_iter().for_each(|job| self.start(job));
            self.tell();
            let wakeup = self.reconciler.next_wakeup(Instant::now());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(question) = questions.recv() => {
                    // Whoever has asked may have gone.
                    let _ = question.send(self.reconciler.snapshot());
                }
                Some(done) = self.jobs.join_next() => self.done(done?),
                event = events.next() => {
                    self.reconciler.apply(event.ok_or(RunError::WatchesEnded)?, Instant::now());
                    for _ in 0..MOST_NEWS {
                        let Some(Some(event)) = events.next().now_or_never() else { break };
                        self.reconciler.apply(event, Instant::now());
                    }
                }
                () = time::sleep_until(wakeup.into()) => {}
            }
        }
        self.end().await;
        Ok(())
    }

    /// Lets what is under way come to its end, and gives the Lease to whoever comes next.
    async fn end(mut self) {
        let drained = async { while self.jobs.join_next().await.is_some() {} };
        if time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(jobs = self.jobs.len(), "writes were still under way at the end");
            self.jobs.abort_all();
        }
        if let Some(bid) = self.reconciler.release(wall_clock())
            && let Err(failure) = self.executor.bid(bid).await
        {
            tracing::warn!(message = %failure.message, "the Lease could not be given back: the next controller waits until it runs out");
        }
    }

    fn start(&mut self, job: Job) {
        let executor = Arc::clone(&self.executor);
        match job {
            Job::Ask(gateways) => self
                .spawn("ask", async move { Some(Answer::Asked(probe::answering(gateways).await)) }),
            Job::Bid(bid) => self.spawn("bid", async move {
                Some(Answer::Bid(executor.bid(*bid).await.map(Box::new)))
            }),
            Job::Note(events) => self.spawn("note", async move {
                executor.note(events).await;
                None
            }),
            Job::Work { work, plan, fenced } => self.spawn(&work.to_string(), async move {
                let outcome = executor.execute(*plan, fenced).await;
                Some(Answer::Work(work, outcome))
            }),
        }
    }

    /// The one place where tasks are made: each has a name and an end, and is waited for.
    fn spawn(&mut self, name: &str, job: impl Future<Output = Option<Answer>> + Send + 'static) {
        self.jobs.spawn(job.instrument(info_span!("job", %name)));
    }

    fn done(&mut self, answer: Option<Answer>) {
        if let Some(answer) = answer {
            self.reconciler.answered(answer, Instant::now(), wall_clock(), rand::random());
        }
    }

    /// Passes on to logs and metrics what the reconciler tells.
    fn tell(&mut self) {
        for told in self.reconciler.told() {
            self.metrics.count(&told);
            log(told);
        }
        let observed = self.reconciler.observed();
        let is_reachable = observed.is_hub_synced() && observed.hub_trouble().is_none();
        self.metrics.hub_reachable.set(i64::from(is_reachable));
        self.metrics.leading.set(i64::from(self.reconciler.leads()));
        self.metrics.queue_depth.set(count(self.reconciler.queue_depth()));
        self.metrics.silent_members.set(count(observed.silent_members.len()));
        if observed.is_local_synced() && observed.is_hub_synced() {
            self.ready.store(true, Ordering::Release);
        }
    }
}

fn log(told: Told) {
    match told {
        Told::BidRefused(message) => tracing::debug!(%message, "a bid for the Lease was refused"),
        Told::EmptyPlan | Told::EventsLeftOut(_) | Told::Propagated(..) | Told::Untimed => {}
        Told::Failed(failure, is_news) => {
            let Failure { write, message, fault } = failure;
            if is_news {
                tracing::warn!(%write, %message, ?fault, "a write failed, it is tried again");
            } else {
                tracing::debug!(%write, %message, ?fault, "a write failed, it is tried again");
            }
        }
        Told::Heard(who, name) => tracing::info!(%name, "a {} is heard again", who.as_str()),
        Told::HubAway(trouble) => {
            tracing::warn!(%trouble, "the hub cannot be read: what was seen last stands");
        }
        Told::HubBack => tracing::info!("the hub can be read again"),
        Told::Leads(true, holder) => {
            tracing::info!(%holder, "this controller plans and writes from now on");
        }
        Told::Leads(false, holder) => {
            tracing::warn!(%holder, "this controller only observes from now on");
        }
        Told::Problem(problem) => {
            tracing::warn!(about = %problem.about, "{}", problem.sentence);
        }
        Told::Silent(who, name) => {
            tracing::warn!(%name, "nothing is heard of a {}", who.as_str());
        }
    }
}

fn wall_clock() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
