//! Pure: one controller without its wires: it takes in news, says what is to be done, and when it wants to be asked
//! again.
//!
//! ```text
//!   watches of the cluster ─┐
//!   watches of the hub ─────┴─► apply ──► Observed ──► Queue ──► plan ──► poll ──► jobs
//!                                            ▲           ▲                          │
//!                                            └───────────┴──────── answered ◄───────┘
//! ```
//!
//! Of several controllers of one cluster all observe, and the one that holds the Lease plans. What to log and to
//! count is in [`Told`]; `run.rs` gives it clocks, streams and APIs, the simulation gives it worse ones.

mod awaited;
mod pace;
mod propagation;
mod resync;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event as News};
use kube::ResourceExt;
use landbridge_api::{landbridge::Member, watch::Change};
use landbridge_model::{Rulebook, Timestamp};
use serde_json::{Value, json};

use crate::{
    config::Config,
    election::{Bid, Election, LEASE},
    liveness::{GATEWAY_SILENCE, Liveness, MEMBER_SILENCE},
    notes::{Note, Notebook, notes},
    observed::{Event, Observed, Problem, Refusal, Touched},
    outcome::{Failure, Fault, Outcome},
    plan::{self, Plan, Work, plan},
    presence::Presence,
    queue::{LONGEST_APPEAL, LONGEST_RETRY, Queue},
};
use awaited::Awaited;
use pace::Pace;
use propagation::Propagation;
pub use propagation::Stage;
use resync::Resync;
pub use told::{IsNews, Told, Who};

/// How often silence is looked for: a tenth of the silence that counts.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the local gateways are asked whether they live: three times within the second after which one counts
/// as silent.
const ASK: Duration = Duration::from_millis(300);
/// How long changes of the gateways are gathered before every service is planned anew: what rolls or fails together
/// costs one write of each slice, and the calls of this time would have been lost all the same.
const GATHER: Duration = Duration::from_millis(200);
/// How many plans are made before news is looked at again: some milliseconds' worth.
const MOST_PLANS: usize = 128;

/// Something to do out there. Each is answered once, except for [`Job::Note`].
#[derive(Debug)]
pub enum Job {
    /// Ask these gateways whether they live.
    Ask(Vec<SocketAddr>),
    /// Write the Lease that this member's controllers share.
    Bid(Box<Bid>),
    /// Tell people.
    Note(Vec<News>),
    /// Carry out a plan.
    Work {
        /// What was planned.
        work: Work,
        /// What is to be done.
        plan: Box<Plan>,
        /// Whether it may be done only while the Lease is held.
        fenced: bool,
    },
}

/// What a job has come to.
#[derive(Debug)]
pub enum Answer {
    /// These gateways live.
    Asked(BTreeSet<SocketAddr>),
    /// The Lease as it is now, or why it could not be written.
    Bid(Result<Box<Lease>, Failure>),
    /// A plan was carried out.
    Work(Work, Outcome),
}

/// All that one controller knows and decides.
#[derive(Debug)]
pub struct Reconciler {
    ask: Pace,
    awaited: Awaited,
    /// What is told once the plans that are under way are carried out: their notes.
    carried: BTreeMap<Work, Plan>,
    election: Election,
    /// What each work has failed with, so that it is told once.
    failures: BTreeMap<Work, String>,
    gateways: Liveness,
    /// When every service is planned anew because gateways have changed.
    gathered: Option<Instant>,
    heartbeat: Pace,
    is_asking: bool,
    /// Whether planning has stopped to look at news, with more to plan.
    is_busy: bool,
    jobs: Vec<Job>,
    leads: bool,
    members: Liveness,
    notebook: Notebook,
    observed: Observed,
    presence: Presence,
    /// What each work has found wrong, so that it is told once.
    problems: BTreeMap<Work, Vec<Problem>>,
    propagation: Propagation,
    queue: Queue,
    resync: Resync,
    sweep: Pace,
    told: Vec<Told>,
}

impl Reconciler {
    /// A controller that has seen nothing yet and knows these merge rules. No other one of its cluster may have its
    /// `name`.
    #[must_use]
    pub fn new(config: Config, rules: Rulebook, name: String, now: Instant) -> Self {
        Self {
            ask: Pace::new(ASK, now),
            awaited: Awaited::default(),
            carried: BTreeMap::new(),
            election: Election::new(name.clone(), config.system_namespace.clone()),
            failures: BTreeMap::new(),
            gateways: Liveness::new(GATEWAY_SILENCE),
            gathered: None,
            heartbeat: Pace::new(config.heartbeat, now),
            is_asking: false,
            is_busy: false,
            jobs: Vec::new(),
            leads: false,
            members: Liveness::new(MEMBER_SILENCE),
            notebook: Notebook::new(name, now),
            observed: Observed::with_rules(config, rules),
            presence: Presence::default(),
            problems: BTreeMap::new(),
            propagation: Propagation::default(),
            queue: Queue::default(),
            resync: Resync::new(now),
            sweep: Pace::new(SWEEP, now),
            told: Vec::new(),
        }
    }

    /// Takes in news.
    pub fn apply(&mut self, event: Event, now: Instant) {
        self.told.extend(self.propagation.before(&event, &self.observed, now));
        self.awaited.hear(&event);
        self.listen(&event, now);
        let hub_was = self.observed.hub_trouble().is_none();
        let touched = self.observed.take(event);
        match self.observed.hub_trouble() {
            Some(trouble) if hub_was => self.told.push(Told::HubAway(trouble.to_owned())),
            None if !hub_was => self.told.push(Told::HubBack),
            _ => {}
        }
        self.touch(touched, now);
    }

    /// Takes in what came of a job. `draw`, between 0 and 1, spreads what failed together.
    pub fn answered(&mut self, answer: Answer, now: Instant, wall: Timestamp, draw: f64) {
        match answer {
            Answer::Asked(answers) => {
                self.is_asking = false;
                self.presence.heard(&answers, now);
                let silent = self.presence.silent();
                let names = |gateways: &BTreeSet<SocketAddr>| -> BTreeSet<String> {
                    gateways.iter().map(ToString::to_string).collect()
                };
                let before = names(&self.observed.mute_gateways);
                self.tell_silence(Who::Gateway, &before, &names(&silent));
                let touched = self.observed.mute(silent);
                self.touch(touched, now);
            }
            Answer::Bid(answer) => {
                let failure = answer.as_ref().err();
                if let Some(failure) = failure.filter(|failure| failure.fault == Fault::Refused) {
                    self.told.push(Told::BidRefused(failure.message.clone()));
                }
                self.election.answered(answer.as_deref().ok(), now);
            }
            Answer::Work(work, outcome) => {
                let plan = self.carried.remove(&work).unwrap_or_default();
                self.finish(&work, plan, outcome, (now, wall), draw);
            }
        }
    }

    /// Does what is due and gives out what is to be done now. `wall` becomes the time that objects show.
    pub fn poll(&mut self, now: Instant, wall: Timestamp) -> Vec<Job> {
        self.queue.poll(now);
        if self.gathered.is_some_and(|at| at <= now) {
            self.gathered = None;
            self.touch_everything(now);
        }
        if self.heartbeat.is_due(now) {
            self.queue.touch(Work::Member);
            self.queue.touch(Work::Inventory);
        }
        if self.sweep.is_due(now) {
            self.sweep(now);
        }
        if self.ask.is_due(now) {
            self.ask(now);
        }
        if let Some(due) = self.resync.poll(now, || self.observed.known_services()) {
            let services = due.services.into_iter().collect();
            self.touch(Touched { members: due.begins, services, ..Touched::default() }, now);
        }
        self.campaign(now, wall);
        self.is_busy = self.plan(now, wall);
        std::mem::take(&mut self.jobs)
    }

    /// When [`Self::poll`] has something to do, unless news or answers come before.
    #[must_use]
    pub fn next_wakeup(&self, now: Instant) -> Instant {
        if self.is_busy || !self.jobs.is_empty() {
            return now;
        }
        let held = self.election.held_until().filter(|_| self.leads);
        let election = self.election.next_wakeup(now);
        let times = [self.queue.next_wakeup(), self.gathered, election, held];
        let paces = [&self.heartbeat, &self.sweep, &self.ask].map(Pace::next);
        let paces = paces.into_iter().chain([self.resync.next()]);
        let first = paces.chain(times.into_iter().flatten()).min();
        first.unwrap_or(now)
    }

    /// What has happened since this was asked last, for logs and metrics.
    pub fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Until when this controller may write what is fenced; none where it may not.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        self.election.held_until()
    }

    /// What gives the Lease back at the end, where it is this controller's: the next one need not wait.
    pub fn release(&mut self, wall: Timestamp) -> Option<Bid> {
        self.election.release(wall)
    }

    /// Everything that was seen.
    #[must_use]
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Whether this controller plans and writes.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// How many plans wait.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.queue.depth()
    }

    /// Whether nothing waits to be planned or to be carried out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle() && self.gathered.is_none() && self.jobs.is_empty()
    }

    /// What the controller knows.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let mut snapshot = self.observed.snapshot();
        snapshot["queueDepth"] = json!(self.queue.depth());
        snapshot["leads"] = json!(self.leads);
        snapshot["leader"] = json!(self.election.holder());
        snapshot
    }

    /// Bids for the Lease where that is due, and takes note of who holds it.
    fn campaign(&mut self, now: Instant, wall: Timestamp) {
        let bid = self.election.poll(now, wall);
        self.jobs.extend(bid.map(|bid| Job::Bid(Box::new(bid))));
        let leads = self.election.leads(now);
        if leads == self.leads {
            return;
        }
        self.leads = leads;
        let holder = self.election.holder().unwrap_or("nobody").to_owned();
        self.told.push(Told::Leads(leads, holder));
        if leads {
            self.touch_everything(now);
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
        self.jobs.push(Job::Ask(gateways.into_iter().collect()));
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

    /// Plans what waits. Whether more is waiting that may be planned now.
    fn plan(&mut self, now: Instant, wall: Timestamp) -> bool {
        for _ in 0..MOST_PLANS {
            let Some(work) = self.next_work() else {
                return false;
            };
            let mut plan = plan(&self.observed, &work, wall);
            if let Some((service, numbers)) = plan.numbers.take() {
                self.observed.ports.hold(&service, numbers, wall);
            }
            self.tell(&work, std::mem::take(&mut plan.problems));
            if plan.is_empty() {
                self.told.push(Told::EmptyPlan);
                self.finish(&work, plan, Outcome::default(), (now, wall), 0.0);
            } else {
                self.carry_out(work, plan);
            }
        }
        true
    }

    fn carry_out(&mut self, work: Work, plan: Plan) {
        let fenced = !matches!(work, Work::Home | Work::Member);
        if let Work::Import(service) = &work
            && plan.makes_service()
        {
            self.observed.making(service);
        }
        let remark = Plan {
            notes: notes(&self.observed, &plan),
            says: plan.says.clone(),
            tells_malformed: plan.tells_malformed.clone(),
            ..Plan::default()
        };
        self.awaited.begin(&work, &plan);
        self.carried.insert(work.clone(), remark);
        self.jobs.push(Job::Work { work, plan: Box::new(plan), fenced });
    }

    fn finish(
        &mut self,
        work: &Work,
        plan: Plan,
        outcome: Outcome,
        (now, wall): (Instant, Timestamp),
        draw: f64,
    ) {
        for answer in outcome.answers {
            self.told.extend(self.propagation.answered(&answer, now));
            if self.awaited.is_overtaken(&answer) {
                // What was written may be undone already.
                self.queue.touch(work.clone());
                continue;
            }
            let touched = self.observed.take(answer);
            self.touch(touched, now);
        }
        self.awaited.end(work);
        self.note_refusals(work, outcome.failure.as_ref(), now);
        match outcome.failure {
            None => {
                let touched = self.observed.said(plan.says);
                self.touch(touched, now);
                if let Some((key, error)) = plan.tells_malformed {
                    self.observed.told(key, error);
                }
                self.note(plan.notes, now, wall);
                self.failures.remove(work);
                self.queue.done(work);
            }
            Some(failure) => {
                let longest = match failure.fault {
                    Fault::Api | Fault::Outdated => LONGEST_RETRY,
                    Fault::Refused => LONGEST_APPEAL,
                };
                self.queue.failed(work, longest, now, draw);
                self.tell_failure(work, failure);
            }
        }
    }

    /// Takes note of what an API will not do, which the next plan tells whoever it concerns.
    fn note_refusals(&mut self, work: &Work, failure: Option<&Failure>, now: Instant) {
        if let Work::Import(service) = work {
            self.observed.made(service);
            let full = failure.filter(|failure| failure.is_exhaustion());
            if failure.is_none() || full.is_some() {
                let said = full.map(|failure| failure.message.clone());
                let touched = self.observed.exhaust(service, said);
                self.touch(touched, now);
            }
        }
        if let Work::Publish(service) = work {
            let refusal = failure.and_then(refusal);
            let is_settled = failure.is_none() || refusal.is_some();
            if is_settled {
                let touched = self.observed.refuse(service, refusal);
                self.touch(touched, now);
            }
        }
    }

    fn note(&mut self, notes: Vec<Note>, now: Instant, wall: Timestamp) {
        let (events, left_out) = self.notebook.events(&self.observed, notes, now, wall);
        if left_out > 0 {
            self.told.push(Told::EventsLeftOut(left_out));
        }
        if !events.is_empty() {
            self.jobs.push(Job::Note(events));
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
            None => {
                let Config { cluster, heartbeat, .. } = &self.observed.config;
                let before = &self.observed.silent_members;
                self.members.silent_beside(cluster.as_str(), *heartbeat, before, now)
            }
        };
        let before = self.observed.silent_gateways.clone();
        self.tell_silence(Who::Gateway, &before, &gateways);
        let before = self.observed.silent_members.clone();
        self.tell_silence(Who::Member, &before, &members);
        let touched = self.observed.silence(gateways, members);
        self.touch(touched, now);
        self.propagation.expire(now);
    }

    fn touch_everything(&mut self, now: Instant) {
        self.touch(Touched { everything: true, ..Touched::default() }, now);
    }

    fn touch(&mut self, touched: Touched, now: Instant) {
        self.told.extend(touched.problems.into_iter().map(Told::Problem));
        if touched.gateways {
            self.gathered.get_or_insert(now + GATHER);
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
