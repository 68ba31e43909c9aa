//! The one task that owns what was seen: it takes in news, has plans made, and lets them run.
//!
//! ```text
//!   watches of the cluster ─┐              ┌─► plan ─► job ─► APIs
//!   watches of the hub ─────┼─► Observed ──┤            │
//!   answers to writes ──────┘   (Event)    └─ Queue ◄───┘ answers, failures
//! ```
//!
//! Of several controllers of one cluster all observe, and the one that holds the Lease plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Client, ResourceExt};
use landbridge_api::{landbridge::Member, watch::Change};
use landbridge_model::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::watch as latest, task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::{
    config::Config,
    election::{Election, LEASE},
    execute::{Executor, Failure, Fault, Outcome},
    liveness::{GATEWAY_SILENCE, Liveness, MEMBER_SILENCE},
    metrics::{Metrics, Propagation},
    notes::{Note, Notebook, notes},
    observed::{Event, Observed, Problem, Refusal, Touched},
    plan::{self, Plan, Work, plan},
    presence::Presence,
    probe,
    queue::{LONGEST_APPEAL, LONGEST_RETRY, Queue},
    start::RunError,
};

/// How often silence is looked for and the snapshot renewed: a tenth of the silence that counts.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the local gateways are asked whether they live: three times within the second after which one counts
/// as silent.
const ASK: Duration = Duration::from_millis(300);
/// How long changes of the gateways are gathered before every service is planned anew: what rolls or fails together
/// costs one write of each slice, and the calls of this time would have been lost all the same.
const GATHER: Duration = Duration::from_millis(200);
/// How often everything is planned again though nothing has changed: heals what no watch tells, such as the name of
/// a derived slice that somebody has taken and given back. Plans that are true cost no write.
const RESYNC: Duration = Duration::from_secs(60);
/// How long running jobs are waited for at the end: an API answers within one second or not soon.
const DRAIN: Duration = Duration::from_secs(5);
/// How much news is taken in before planning: the more comes at once, the less is planned twice.
const MOST_NEWS: usize = 1_024;
/// How many plans are made before news is looked at again: some milliseconds' worth.
const MOST_PLANS: usize = 128;

/// What a task has come to.
enum Done {
    /// A bid for the Lease was answered.
    Bid(Result<Lease, Failure>),
    /// These gateways have answered.
    Heard(BTreeSet<SocketAddr>),
    /// People were told.
    Noted,
    /// A plan was carried out.
    Work(Work, Plan, Outcome),
}

/// The owner of what was seen.
pub(crate) struct Owner {
    election: Election,
    executor: Arc<Executor>,
    /// What each work has failed with, so that it is told once.
    failures: BTreeMap<Work, String>,
    gateways: Liveness,
    /// When every service is planned anew because gateways have changed.
    gathered: Option<Instant>,
    /// Until when the Lease is held, for those who write.
    held: latest::Sender<Option<Instant>>,
    is_asking: bool,
    jobs: JoinSet<Done>,
    leads: bool,
    members: Liveness,
    metrics: Metrics,
    notebook: Notebook,
    observed: Observed,
    presence: Presence,
    /// What each work has found wrong, so that it is told once.
    problems: BTreeMap<Work, Vec<Problem>>,
    propagation: Propagation,
    queue: Queue,
    ready: Arc<AtomicBool>,
    snapshot: latest::Sender<Arc<Value>>,
    snapshot_is_old: bool,
}

impl Owner {
    pub(crate) fn new(
        config: Config,
        (local, hub): (Client, Client),
        metrics: Metrics,
        (ready, snapshot): (Arc<AtomicBool>, latest::Sender<Arc<Value>>),
    ) -> Self {
        let held = latest::Sender::new(None);
        let name = format!("{}-{:08x}", config.replica, rand::random::<u32>());
        Self {
            notebook: Notebook::new(name.clone(), Instant::now()),
            election: Election::new(name, config.system_namespace.clone()),
            executor: Executor::new(local, hub, held.subscribe(), metrics.clone()),
            failures: BTreeMap::new(),
            gateways: Liveness::new(GATEWAY_SILENCE),
            gathered: None,
            held,
            is_asking: false,
            jobs: JoinSet::new(),
            leads: false,
            members: Liveness::new(MEMBER_SILENCE),
            metrics,
            observed: Observed::new(config),
            presence: Presence::default(),
            problems: BTreeMap::new(),
            propagation: Propagation::default(),
            queue: Queue::default(),
            ready,
            snapshot,
            snapshot_is_old: true,
        }
    }

    pub(crate) async fn run(
        mut self,
        events: impl Stream<Item = Event> + Send,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let mut events = std::pin::pin!(events);
        let mut heartbeat = every(self.observed.config.heartbeat);
        let (mut sweep, mut ask, mut resync) = (every(SWEEP), every(ASK), every(RESYNC));
        loop {
            self.campaign();
            let more = self.start();
            let wakeup = self.next_wakeup();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.jobs.join_next() => self.done(done?),
                event = events.next() => {
                    self.news(event.ok_or(RunError::WatchesEnded)?);
                    for _ in 0..MOST_NEWS {
                        let Some(Some(event)) = events.next().now_or_never() else { break };
                        self.news(event);
                    }
                }
                () = sleep_until(wakeup), if wakeup.is_some() => self.wake(Instant::now()),
                _ = heartbeat.tick() => {
                    self.queue.touch(Work::Member);
                    self.queue.touch(Work::Inventory);
                }
                _ = sweep.tick() => self.sweep(Instant::now()),
                _ = ask.tick() => self.ask(Instant::now()),
                _ = resync.tick() => self.touch(Touched { everything: true, ..Touched::default() }),
                () = std::future::ready(()), if more => {}
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
        if let Some(bid) = self.election.release(wall_clock())
            && let Err(failure) = self.executor.bid(bid).await
        {
            tracing::warn!(message = %failure.message, "the Lease could not be given back: the next controller waits until it runs out");
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let held = self.election.held_until().filter(|_| self.leads);
        let times = [
            self.queue.next_wakeup(),
            self.gathered,
            self.election.next_wakeup(Instant::now()),
            held,
        ];
        times.into_iter().flatten().min()
    }

    fn wake(&mut self, now: Instant) {
        self.queue.poll(now);
        if self.gathered.is_some_and(|at| at <= now) {
            self.gathered = None;
            self.touch(Touched { everything: true, ..Touched::default() });
        }
    }

    /// Bids for the Lease where that is due, and takes note of who holds it.
    fn campaign(&mut self) {
        let now = Instant::now();
        if let Some(bid) = self.election.poll(now, wall_clock()) {
            let executor = Arc::clone(&self.executor);
            self.spawn("bid", async move { Done::Bid(executor.bid(bid).await) });
        }
        let leads = self.election.leads(now);
        self.held.send_replace(self.election.held_until());
        if leads == self.leads {
            return;
        }
        self.leads = leads;
        self.metrics.leading.set(i64::from(leads));
        let holder = self.election.holder().unwrap_or("nobody").to_owned();
        if leads {
            tracing::info!(%holder, "this controller plans and writes from now on");
            self.touch(Touched { everything: true, ..Touched::default() });
        } else {
            tracing::warn!(%holder, "this controller only observes from now on");
        }
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Bid(answer) => {
                let failure = answer.as_ref().err();
                if let Some(failure) = failure.filter(|failure| failure.fault == Fault::Refused) {
                    tracing::debug!(message = %failure.message, "a bid for the Lease was refused");
                }
                self.election.answered(answer.as_ref().ok(), now);
            }
            Done::Heard(answers) => {
                self.is_asking = false;
                self.presence.heard(&answers, now);
                let silent = self.presence.silent();
                let names = |gateways: &BTreeSet<SocketAddr>| {
                    gateways.iter().map(ToString::to_string).collect()
                };
                changed("gateway", &names(&self.observed.mute_gateways), &names(&silent));
                let touched = self.observed.mute(silent);
                self.touch(touched);
            }
            Done::Noted => {}
            Done::Work(work, plan, outcome) => self.finish(&work, plan, outcome),
        }
    }

    /// Asks the local gateways whether they live, unless that is under way.
    fn ask(&mut self, now: Instant) {
        let gateways = plan::asked(&self.observed);
        self.presence.expect(gateways.iter().copied(), now);
        if gateways.is_empty() || self.is_asking {
            return;
        }
        self.is_asking = true;
        let gateways: Vec<SocketAddr> = gateways.into_iter().collect();
        self.spawn("ask", async move { Done::Heard(probe::answering(gateways).await) });
    }

    /// The next work that this controller may do. One that does not lead makes the namespace that the Lease is in,
    /// and goes on saying that the member lives while the member's own API, and with it the Lease, is away.
    fn next_work(&mut self) -> Option<Work> {
        if self.leads {
            return self.queue.take();
        }
        let own = [Work::Home, Work::Member];
        let allowed = if self.election.held_last() { &own[..] } else { &own[..1] };
        allowed.iter().find(|work| self.queue.take_only(work)).cloned()
    }

    /// Plans what waits, and lets what there is to do run as jobs. Whether more is waiting that may run now.
    fn start(&mut self) -> bool {
        for _ in 0..MOST_PLANS {
            let Some(work) = self.next_work() else {
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
                self.carry_out(work, plan);
            }
        }
        true
    }

    fn carry_out(&mut self, work: Work, plan: Plan) {
        let executor = Arc::clone(&self.executor);
        let fenced = !matches!(work, Work::Home | Work::Member);
        if let Work::Import(service) = &work
            && plan.makes_service()
        {
            self.observed.making(service);
        }
        let remark = Plan {
            notes: notes(&self.observed, &plan),
            tells_malformed: plan.tells_malformed.clone(),
            ..Plan::default()
        };
        self.spawn(&work.to_string(), async move {
            let outcome = executor.execute(plan, fenced).await;
            Done::Work(work, remark, outcome)
        });
    }

    /// The one place where tasks are made: each has a name and an end, and is waited for.
    fn spawn(&mut self, name: &str, job: impl Future<Output = Done> + Send + 'static) {
        self.jobs.spawn(job.instrument(info_span!("job", %name)));
    }

    fn finish(&mut self, work: &Work, plan: Plan, outcome: Outcome) {
        let now = Instant::now();
        for answer in outcome.answers {
            self.propagation.answered(&answer, &self.metrics, now);
            let touched = self.observed.take(answer);
            self.touch(touched);
        }
        if let Work::Import(service) = work {
            self.observed.made(service);
            let failure = outcome.failure.as_ref();
            let full = failure.filter(|failure| failure.is_exhaustion());
            if failure.is_none() || full.is_some() {
                let said = full.map(|failure| failure.message.clone());
                let touched = self.observed.exhaust(service, said);
                self.touch(touched);
            }
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
                self.note(plan.notes, now);
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

    fn note(&mut self, notes: Vec<Note>, now: Instant) {
        let (events, left_out) = self.notebook.events(&self.observed, notes, now, wall_clock());
        self.metrics.events_left_out.inc_by(left_out);
        if !events.is_empty() {
            let executor = Arc::clone(&self.executor);
            self.spawn("note", async move {
                executor.note(events).await;
                Done::Noted
            });
        }
    }

    fn news(&mut self, event: Event) {
        let now = Instant::now();
        self.propagation.before(&event, &self.observed, &self.metrics, now);
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
            Event::Lease(change) => {
                self.election.take(change, now);
                if !matches!(change, Change::Apply(lease) if lease.name_any() == LEASE) {
                    self.gateways.take(change, now, |lease| {
                        let renewed = lease.spec.as_ref();
                        let renewed = renewed.and_then(|spec| spec.renew_time.as_ref());
                        renewed.map(|time| time.0.to_string()).unwrap_or_default()
                    });
                }
            }
            Event::Member(change) => self.members.take(change, now, heartbeat_of),
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
            snapshot["leads"] = json!(self.leads);
            snapshot["leader"] = json!(self.election.holder());
            self.snapshot.send_replace(Arc::new(snapshot));
        }
    }

    fn touch(&mut self, touched: Touched) {
        self.snapshot_is_old = true;
        for problem in &touched.problems {
            self.metrics.problems.inc();
            tracing::warn!(about = %problem.about, "{}", problem.sentence);
        }
        if touched.gateways {
            self.gathered.get_or_insert_with(|| Instant::now() + GATHER);
        }
        if touched.everything || touched.members {
            for work in [Work::Home, Work::Member, Work::Peers] {
                self.queue.touch(work);
            }
        }
        if touched.everything || touched.members || touched.inventory {
            self.queue.touch(Work::Inventory);
        }
        let services =
            if touched.everything { self.observed.known_services() } else { touched.services };
        for service in services {
            self.queue.touch(Work::Publish(service.clone()));
            self.queue.touch(Work::Import(service.clone()));
            self.queue.touch(Work::Tell(service));
        }
    }

    /// Tells of a write that failed, once for as long as it fails in the same way. What the next plan mends is no
    /// trouble.
    fn tell_failure(&mut self, work: &Work, failure: Failure) {
        let Failure { write, message, fault } = failure;
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

fn heartbeat_of(member: &Member) -> String {
    let heartbeat = member.status.as_ref().and_then(|status| status.heartbeat.as_ref());
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
