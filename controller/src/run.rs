//! The one task that owns what was seen: it takes in news, has plans made, and lets them run.
//!
//! ```text
//!   watches of the cluster ─┐              ┌─► plan ─► job ─► APIs
//!   watches of the hub ─────┼─► Observed ──┤            │
//!   answers to writes ──────┘   (Event)    └─ Queue ◄───┘ answers, failures
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, stream};
use kube::{Api, Client, Resource};
use landbridge_api::{
    landbridge::Member,
    watch::{Change, Guard, ObjectKey, WatchConfig, watch},
    wellknown::{CLUSTER, LANDBRIDGE, MANAGED_BY},
};
use landbridge_model::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    sync::watch as latest,
    task::{JoinError, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::{
    config::Config,
    execute::{Executor, Failure, Fault, Outcome},
    liveness::{GATEWAY_SILENCE, Liveness, MEMBER_SILENCE},
    metrics::{Metrics, Propagation},
    observed::{Event, Observed, Problem, Refusal, Touched},
    plan::{Plan, Work, plan},
    queue::{LONGEST_APPEAL, LONGEST_RETRY, Queue},
};

/// How often silence is looked for and the snapshot renewed: a tenth of the silence that counts.
const SWEEP: Duration = Duration::from_secs(1);
/// How often everything is planned again though nothing has changed: heals what no watch tells, such as the name of
/// a derived slice that somebody has taken and given back. Plans that are true cost no write.
const RESYNC: Duration = Duration::from_secs(60);
/// How long running jobs are waited for at the end: an API answers within one second or not soon.
const DRAIN: Duration = Duration::from_secs(5);
/// How much news is taken in before planning: the more comes at once, the less is planned twice.
const MOST_NEWS: usize = 1_024;
/// How many plans are made before news is looked at again: some milliseconds' worth.
const MOST_PLANS: usize = 128;

/// Why a controller cannot be started.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum StartError {
    /// The configuration asks for heartbeats that would be missed, or that never pause.
    #[error(
        "a heartbeat every {0:?} is not usable: choose more than nothing and less than half of {MEMBER_SILENCE:?}, after which a member counts as silent"
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
    snapshot: latest::Sender<Arc<Value>>,
}

/// What others may ask a running controller.
#[derive(Clone, Debug)]
pub struct Handle {
    ready: Arc<AtomicBool>,
    snapshot: latest::Receiver<Arc<Value>>,
}

impl Handle {
    /// Whether the cluster and the hub have been read once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What the controller knows, at most a second old, in an order that does not change.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        self.snapshot.borrow().as_ref().clone()
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
        let state = json!({"cluster": config.cluster.as_str(), "state": "starting"});
        Ok(Self {
            config,
            local,
            hub,
            metrics: Metrics::register(registry),
            ready: Arc::default(),
            snapshot: latest::Sender::new(Arc::new(state)),
        })
    }

    /// What others may ask it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            ready: Arc::clone(&self.ready),
            snapshot: self.snapshot.subscribe(),
        }
    }

    /// Runs until `shutdown`, then lets what is under way come to its end. What was written stays: other clusters
    /// go on calling a cluster whose controller is away.
    ///
    /// # Errors
    /// [`RunError`] where it has ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let span = info_span!("controller", cluster = %self.config.cluster);
        let events = events(&self.local, &self.hub, &self.config);
        let owner = Owner {
            executor: Executor::new(self.local, self.hub, self.metrics.clone()),
            failures: BTreeMap::new(),
            gateways: Liveness::new(GATEWAY_SILENCE),
            jobs: JoinSet::new(),
            members: Liveness::new(MEMBER_SILENCE),
            metrics: self.metrics,
            observed: Observed::new(self.config),
            problems: BTreeMap::new(),
            propagation: Propagation::default(),
            queue: Queue::default(),
            ready: self.ready,
            snapshot: self.snapshot,
            snapshot_is_old: true,
        };
        Box::pin(owner.run(events, shutdown)).instrument(span).await
    }
}

/// All that there is to watch, as one stream.
fn events(
    local: &Client,
    hub: &Client,
    config: &Config,
) -> impl Stream<Item = Event> + Send + use<> {
    fn all<K>(client: &Client, event: fn(Change<K>) -> Event) -> stream::BoxStream<'static, Event>
    where
        K: Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<Guard<K>> = Api::all(client.clone());
        watch(api, WatchConfig::default()).map(event).boxed()
    }
    let leases = Api::namespaced(local.clone(), config.system_namespace.as_str());
    let members = format!("{MANAGED_BY}={LANDBRIDGE},{CLUSTER}");
    let members = WatchConfig::default().labels(&members);
    let hub_slices = watch(Api::all(hub.clone()), members).map(Event::HubSlice);
    let hub_slices = hub_slices.boxed();
    stream::select_all([
        all(hub, Event::ClusterExport),
        hub_slices,
        all(hub, Event::Member),
        all(local, Event::EndpointSlice),
        all(local, Event::Namespace),
        all(local, Event::Peer),
        all(local, Event::Service),
        all(local, Event::ServiceExport),
        all(local, Event::ServiceImport),
        watch(leases, WatchConfig::default())
            .map(Event::Lease)
            .boxed(),
    ])
}

/// The owner of what was seen.
struct Owner {
    executor: Arc<Executor>,
    /// What each work has failed with, so that it is told once.
    failures: BTreeMap<Work, String>,
    gateways: Liveness,
    jobs: JoinSet<(Work, Plan, Outcome)>,
    members: Liveness,
    metrics: Metrics,
    observed: Observed,
    /// What each work has found wrong, so that it is told once.
    problems: BTreeMap<Work, Vec<Problem>>,
    propagation: Propagation,
    queue: Queue,
    ready: Arc<AtomicBool>,
    snapshot: latest::Sender<Arc<Value>>,
    snapshot_is_old: bool,
}

impl Owner {
    async fn run(
        mut self,
        events: impl Stream<Item = Event> + Send,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let mut events = std::pin::pin!(events);
        let mut heartbeat = every(self.observed.config.heartbeat);
        let mut sweep = every(SWEEP);
        let mut resync = every(RESYNC);
        loop {
            let more = self.start();
            let wakeup = self.queue.next_wakeup();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(finished) = self.jobs.join_next() => {
                    let (work, plan, outcome) = finished?;
                    self.finish(&work, plan, outcome);
                }
                event = events.next() => {
                    self.news(event.ok_or(RunError::WatchesEnded)?);
                    for _ in 0..MOST_NEWS {
                        let Some(Some(event)) = events.next().now_or_never() else { break };
                        self.news(event);
                    }
                }
                () = sleep_until(wakeup), if wakeup.is_some() => self.queue.poll(Instant::now()),
                _ = heartbeat.tick() => self.queue.touch(Work::Member),
                _ = sweep.tick() => self.sweep(Instant::now()),
                _ = resync.tick() => self.touch(Touched { everything: true, ..Touched::default() }),
                () = std::future::ready(()), if more => {}
            }
        }
        let drained = async { while self.jobs.join_next().await.is_some() {} };
        if time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(
                jobs = self.jobs.len(),
                "writes were still under way at the end"
            );
        }
        Ok(())
    }

    /// Plans what waits, and lets what there is to do run as jobs. Whether more is waiting that may run now.
    fn start(&mut self) -> bool {
        for _ in 0..MOST_PLANS {
            let Some(work) = self.queue.take() else {
                self.metrics.queue_depth.set(count(self.queue.depth()));
                return false;
            };
            let now = wall_clock();
            let mut plan = plan(&self.observed, &work, now);
            if let Some((service, numbers)) = plan.numbers.take() {
                self.observed.ports.hold(&service, numbers, now);
            }
            self.tell(&work, std::mem::take(&mut plan.problems));
            if plan.is_empty() {
                self.metrics.empty_plans.inc();
                self.finish(&work, plan, Outcome::default());
            } else {
                self.spawn(work, plan);
            }
        }
        true
    }

    /// The one place where tasks are made: each carries one plan out.
    fn spawn(&mut self, work: Work, plan: Plan) {
        let executor = Arc::clone(&self.executor);
        let span = info_span!("job", %work);
        let job = async move {
            let remark = Plan {
                tells_malformed: plan.tells_malformed.clone(),
                ..Plan::default()
            };
            let outcome = executor.execute(plan).await;
            (work, remark, outcome)
        };
        self.jobs.spawn(job.instrument(span));
    }

    fn finish(&mut self, work: &Work, plan: Plan, outcome: Outcome) {
        let now = Instant::now();
        for answer in outcome.answers {
            self.propagation.answered(&answer, &self.metrics, now);
            let touched = self.observed.take(answer);
            self.touch(touched);
        }
        if let Work::Publish(service) = work {
            let refusal = outcome.failure.as_ref().and_then(refusal);
            let is_settled = outcome.failure.is_none() || refusal.is_some();
            if is_settled {
                let touched = self.observed.refuse(service, refusal);
                self.touch(touched);
            }
        }
        match outcome.failure {
            None => {
                if let Some((key, error)) = plan.tells_malformed {
                    self.observed.told(key, error);
                }
                self.failures.remove(work);
                self.queue.done(work);
            }
            Some(failure) => {
                let longest = match failure.fault {
                    Fault::Api | Fault::Outdated => LONGEST_RETRY,
                    Fault::Refused => LONGEST_APPEAL,
                };
                self.queue.failed(work, longest, now, rand::random());
                self.tell_failure(work, failure);
            }
        }
    }

    fn news(&mut self, event: Event) {
        let now = Instant::now();
        self.propagation
            .before(&event, &self.observed, &self.metrics, now);
        self.listen(&event, now);
        let hub_was = self.observed.hub_trouble().is_none();
        let touched = self.observed.take(event);
        let hub_is = self.observed.hub_trouble();
        match hub_is {
            Some(trouble) if hub_was => {
                tracing::warn!(%trouble, "the hub cannot be read: what was seen last stands");
            }
            None if !hub_was => tracing::info!("the hub can be read again"),
            _ => {}
        }
        self.metrics
            .hub_reachable
            .set(i64::from(self.observed.is_hub_synced() && hub_is.is_none()));
        self.touch(touched);
        if self.observed.is_local_synced() && self.observed.is_hub_synced() {
            self.ready.store(true, Ordering::Release);
        }
    }

    fn listen(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Lease(change) => hear(&mut self.gateways, change, now, |lease| {
                let renewed = lease
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.renew_time.as_ref());
                renewed.map(|time| time.0.to_string()).unwrap_or_default()
            }),
            Event::Member(change) => hear(&mut self.members, change, now, heartbeat_of),
            _ => {}
        }
    }

    fn sweep(&mut self, now: Instant) {
        // While an API cannot be read, nothing can be heard, and nobody is silent who was not before.
        let gateways = match self.observed.leases.trouble() {
            Some(_) => self.observed.silent_gateways.clone(),
            None => self.gateways.silent(now),
        };
        let members = match self.observed.members.trouble() {
            Some(_) => self.observed.silent_members.clone(),
            None => self.members.silent(now),
        };
        changed("gateway", &self.observed.silent_gateways, &gateways);
        changed("member", &self.observed.silent_members, &members);
        self.metrics.silent_members.set(count(members.len()));
        let touched = self.observed.silence(gateways, members);
        self.touch(touched);
        self.propagation.expire(now);
        if std::mem::take(&mut self.snapshot_is_old) {
            let mut snapshot = self.observed.snapshot();
            snapshot["queueDepth"] = json!(self.queue.depth());
            self.snapshot.send_replace(Arc::new(snapshot));
        }
    }

    fn touch(&mut self, touched: Touched) {
        self.snapshot_is_old = true;
        for problem in &touched.problems {
            self.metrics.problems.inc();
            tracing::warn!(about = %problem.about, "{}", problem.sentence);
        }
        if touched.everything || touched.members {
            for work in [Work::Home, Work::Liveness, Work::Member, Work::Peers] {
                self.queue.touch(work);
            }
        }
        let services = if touched.everything {
            self.observed.known_services()
        } else {
            touched.services
        };
        for service in services {
            self.queue.touch(Work::Publish(service.clone()));
            self.queue.touch(Work::Import(service.clone()));
            self.queue.touch(Work::Tell(service));
        }
    }

    /// Tells of a write that failed, once for as long as it fails in the same way. What the next plan mends is no
    /// trouble.
    fn tell_failure(&mut self, work: &Work, failure: Failure) {
        let Failure {
            write,
            message,
            fault,
        } = failure;
        let is_known = self.failures.get(work) == Some(&message);
        if fault == Fault::Outdated || is_known {
            tracing::debug!(%write, %message, ?fault, "a write failed, it is tried again");
        } else {
            tracing::warn!(%write, %message, ?fault, "a write failed, it is tried again");
            self.failures.insert(work.clone(), message);
        }
    }

    /// Tells what a plan has found wrong, where the plan before it did not.
    fn tell(&mut self, work: &Work, problems: Vec<Problem>) {
        let known = self.problems.remove(work).unwrap_or_default();
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            self.metrics.problems.inc();
            tracing::warn!(about = %problem.about, "{}", problem.sentence);
        }
        if !problems.is_empty() {
            self.problems.insert(work.clone(), problems);
        }
    }
}

fn hear<K: Resource>(
    liveness: &mut Liveness,
    change: &Change<K>,
    now: Instant,
    says: impl Fn(&K) -> String,
) {
    let mut one = |object: &K| {
        let name = object.meta().name.clone().unwrap_or_default();
        liveness.hear(&name, &says(object), now);
    };
    match change {
        Change::Apply(object) => one(object),
        Change::Delete(key) => liveness.retain(|who| who != key.name),
        Change::Interrupted(_) | Change::Malformed(_) => {}
        Change::Reset { objects, .. } => {
            objects.iter().for_each(one);
            let names: BTreeSet<String> = objects
                .iter()
                .map(|object| ObjectKey::of(object.meta()).name)
                .collect();
            liveness.retain(|who| names.contains(who));
            liveness.interrupted(now);
        }
    }
}

fn heartbeat_of(member: &Member) -> String {
    let heartbeat = member
        .status
        .as_ref()
        .and_then(|status| status.heartbeat.as_ref());
    heartbeat.map(|time| time.0.to_string()).unwrap_or_default()
}

/// What a ServiceExport is told of a failure; nothing of one that the next plan will mend.
fn refusal(failure: &Failure) -> Option<Refusal> {
    (failure.fault != Fault::Outdated).then(|| Refusal {
        refused: failure.fault == Fault::Refused,
        message: format!("The hub: {}", failure.message),
    })
}

fn changed(what: &str, before: &BTreeSet<String>, after: &BTreeSet<String>) {
    for name in after.difference(before) {
        tracing::warn!(%name, "nothing is heard of a {what}");
    }
    for name in before.difference(after) {
        tracing::info!(%name, "a {what} is heard again");
    }
}

fn every(period: Duration) -> time::Interval {
    let mut interval = time::interval(period);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    interval
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        time::sleep_until(at.into()).await;
    }
}

fn wall_clock() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
