//! How what controllers ask for is done: requests that travel, fail, or are done and never answered.

use std::{collections::VecDeque, rc::Rc};

use landbridge_api::watch::ObjectKey;
use landbridge_controller::{
    election::Bid,
    observed::Event,
    outcome::{Failure, Fault, Outcome},
    plan::{Kind, Object, Work, Write},
    reconciler::{Answer, Job},
};
use serde_json::Value;

use crate::{
    api::Refused,
    rules::By,
    thing::{Sort, Thing},
    world::{Mischief, World},
};

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum Step {
    /// An answer reaches a controller.
    Answer(usize, u32, Answer),
    /// A request of a job reaches an API.
    Arrive(u64, Write),
    /// A bid for the Lease reaches the API.
    Bid(usize, u32, Box<Bid>),
    /// What stands beside an API server looks at it.
    Collect(Option<usize>),
    /// News reaches a controller.
    Hear(usize, u32, Sort),
    /// A list that was read reaches a controller.
    Listed(usize, u32, Sort, Vec<Thing>),
    /// The answer to a request reaches the job.
    Respond(u64, Result<Option<Box<Event>>, Failure>),
    /// A controller looks at its clock.
    Wake(usize, u32),
}

/// A plan that is being carried out.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) controller: usize,
    epoch: u32,
    pub(crate) work: Work,
    steps: VecDeque<Vec<Write>>,
    fenced: bool,
    waiting: usize,
    pub(crate) outcome: Outcome,
}

impl Running {
    pub(crate) fn is_heartbeat(&self) -> bool {
        matches!(self.work, Work::Inventory | Work::Member)
    }
}

/// What is done to an object.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(Thing),
    Delete(Sort, ObjectKey, Option<String>),
    Status(Sort, ObjectKey, Value),
    Update(Thing),
}

impl Op {
    fn of(write: Write) -> Option<Self> {
        Some(match write {
            Write::Create(object) => Self::Create(Thing::of(object)),
            Write::Delete { kind, key, uid } => Self::Delete(Sort::of(kind), key, uid),
            Write::Probe { .. } => return None,
            Write::Status { kind, key, status } => Self::Status(Sort::of(kind), key, status),
            Write::Update(object) => Self::Update(Thing::of(object)),
        })
    }

    pub(crate) fn target(&self) -> (Sort, ObjectKey) {
        match self {
            Self::Create(thing) | Self::Update(thing) => (thing.sort(), thing.key()),
            Self::Delete(sort, key, _) | Self::Status(sort, key, _) => (*sort, key.clone()),
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Delete(..) => "delete",
            Self::Status(..) => "tell",
            Self::Update(_) => "update",
        }
    }
}

fn is_for_hub(write: &Write) -> bool {
    let (Write::Create(object) | Write::Update(object)) = write else {
        let (Write::Delete { kind, .. } | Write::Status { kind, .. }) = write else {
            return false;
        };
        return matches!(kind, Kind::ClusterExport | Kind::HubSlice | Kind::Member);
    };
    matches!(object, Object::ClusterExport(_) | Object::HubSlice(_))
}

fn no_answer() -> Failure {
    Failure { write: "write".into(), message: "no answer".into(), fault: Fault::Api }
}

impl World {
    pub(crate) fn start(&mut self, at: usize, job: Job) {
        let epoch = self.controllers[at].epoch;
        let after = self.latency();
        match job {
            Job::Ask(gateways) => {
                let mute = &self.clusters[self.controllers[at].cluster].mute;
                let heard = gateways.into_iter().filter(|gateway| !mute.contains(gateway));
                let answer = Answer::Asked(heard.collect());
                self.later(after, Step::Answer(at, epoch, answer));
            }
            Job::Bid(bid) => self.later(after, Step::Bid(at, epoch, bid)),
            Job::Note(_) => {}
            Job::Work { work, plan, fenced } => {
                self.check_plan(at, &work, &plan);
                let job = self.new_job();
                let (steps, outcome) = (plan.steps.into(), Outcome::default());
                let running =
                    Running { controller: at, epoch, work, steps, fenced, waiting: 0, outcome };
                self.jobs.insert(job, running);
                self.advance(job);
            }
        }
    }

    /// Sends what the next step of a plan asks for, while the Lease is held.
    fn advance(&mut self, job: u64) {
        let now = self.instant();
        let Some(running) = self.jobs.get_mut(&job) else { return };
        let controller = &self.controllers[running.controller];
        if controller.epoch != running.epoch {
            self.jobs.remove(&job);
            return;
        }
        let held = controller.reconciler.held_until().is_some_and(|until| until > now);
        if running.fenced && !held {
            running.outcome.failure = Some(Failure {
                write: "plan".into(),
                message: "this controller does not hold the Lease any more".into(),
                fault: Fault::Outdated,
            });
        }
        let step = running.steps.pop_front().filter(|_| running.outcome.failure.is_none());
        let Some(step) = step else {
            let running = self.jobs.remove(&job).expect("it was found above");
            return self.finish(running);
        };
        running.waiting = step.len();
        for write in step {
            let after = self.latency();
            self.later(after, Step::Arrive(job, write));
        }
    }

    pub(crate) fn arrive(&mut self, job: u64, write: Write) {
        if let Write::Probe { service, numbers, .. } = write {
            let after = self.chance.between(1, 1_000);
            let probed = Ok(Some(Box::new(Event::Probed(service, numbers))));
            return self.later(after, Step::Respond(job, probed));
        }
        let Some(running) = self.jobs.get(&job) else { return };
        let (at, hub) = (running.controller, is_for_hub(&write));
        let cluster = self.controllers[at].cluster;
        let patience = self.chance.between(1, 2_000);
        if self.is_away(at, hub) {
            return self.later(patience, Step::Respond(job, Err(no_answer())));
        }
        let after = self.latency();
        if self.chance.percent(self.weather.errors) {
            let message = "the server is currently unable to handle the request".into();
            let failure = Failure { write: "write".into(), message, fault: Fault::of_status(503) };
            return self.later(after, Step::Respond(job, Err(failure)));
        }
        let api = (!hub).then_some(cluster);
        let op = Op::of(write).expect("a probe was answered above");
        self.watcher.plan = job;
        let answer = self.request(api, By::Controller(at), op);
        if self.chance.percent(self.weather.lost) {
            self.later(patience, Step::Respond(job, Err(no_answer())));
        } else {
            self.later(after, Step::Respond(job, answer));
        }
    }

    /// What an API makes of a request, as a controller hears it.
    fn request(
        &mut self,
        api: Option<usize>,
        by: By,
        op: Op,
    ) -> Result<Option<Box<Event>>, Failure> {
        let write = format!("{} {:?}", op.verb(), op.target());
        let (sort, key) = op.target();
        let is_delete = matches!(op, Op::Delete(..));
        match self.change(api, by, op) {
            Ok(Some(thing)) => Ok(Some(Box::new((*thing).clone().applied()))),
            Ok(None) => Ok(Some(Box::new(sort.gone(key)))),
            Err(Refused { code: 404, .. }) if is_delete => Ok(Some(Box::new(sort.gone(key)))),
            Err(Refused { code, message }) => {
                Err(Failure { write, message, fault: Fault::of_status(code) })
            }
        }
    }

    pub(crate) fn respond(&mut self, job: u64, answer: Result<Option<Box<Event>>, Failure>) {
        let Some(running) = self.jobs.get_mut(&job) else { return };
        running.waiting -= 1;
        match answer {
            Ok(event) => running.outcome.answers.extend(event.map(|event| *event)),
            Err(failure) => running.outcome.failure = Some(failure),
        }
        if running.waiting == 0 {
            self.advance(job);
        }
    }

    pub(crate) fn bid(&mut self, at: usize, epoch: u32, bid: Bid) {
        let after = self.latency();
        let cluster = self.controllers[at].cluster;
        let (mut lease, mut exists) = (bid.lease, bid.exists);
        if self.mischief == Mischief::TwoHolders {
            (lease.metadata.resource_version, lease.metadata.uid) = (None, None);
            exists = self.clusters[cluster].api.all(Sort::Lease).next().is_some();
        }
        let is_lost = self.is_away(at, false) || self.chance.percent(self.weather.errors);
        let answer = if is_lost {
            Err(no_answer())
        } else {
            let thing = Thing::Lease(Box::new(lease));
            let op = if exists { Op::Update(thing) } else { Op::Create(thing) };
            let answer = self.change(Some(cluster), By::Controller(at), op);
            match answer.map(|thing| thing.map(|thing| (*thing).clone())) {
                Ok(Some(Thing::Lease(lease))) => Ok(lease),
                Ok(_) => Err(no_answer()),
                Err(Refused { code, message }) => {
                    let fault = Fault::of_status(code);
                    Err(Failure { write: "bid".into(), message, fault })
                }
            }
        };
        let answer = if self.chance.percent(self.weather.lost) { Err(no_answer()) } else { answer };
        self.later(after, Step::Answer(at, epoch, Answer::Bid(answer)));
    }

    /// Changes an object, lets the rules look at it, and tells whoever watches. None where it is gone.
    pub(crate) fn change(
        &mut self,
        api: Option<usize>,
        by: By,
        op: Op,
    ) -> Result<Option<Rc<Thing>>, Refused> {
        let op = match self.twist(api, by, op) {
            Ok(op) => op,
            Err(op) => return self.pretend(api, op),
        };
        let (sort, key) = op.target();
        let verb = op.verb();
        let before = self.api(api).find(sort, &key).cloned();
        let held = self.api_mut(api);
        let done = match op {
            Op::Create(thing) => held.create(thing).map(Some),
            Op::Delete(sort, key, uid) => held.delete(sort, &key, uid.as_deref()).map(|()| None),
            Op::Status(sort, key, status) => held.patch_status(sort, &key, &status).map(Some),
            Op::Update(thing) => held.update(thing).map(Some),
        };
        let after = self.api(api).find(sort, &key).cloned();
        if let Err(refused) = &done {
            let says = format!(": {} {}", refused.code, refused.message);
            self.note(api, by, verb, sort, &key, &says);
        }
        if before != after {
            self.note(api, by, verb, sort, &key, "");
            self.saw(api, by, (sort, &key), (before.as_deref(), after.as_deref()));
            self.spread(api, sort);
            if matches!(sort, Sort::Namespace | Sort::ServiceImport) && !matches!(verb, "create") {
                let soon = self.chance.between(20, 500);
                self.later(soon, Step::Collect(api));
            }
        }
        done
    }

    fn note(
        &mut self,
        api: Option<usize>,
        by: By,
        verb: &str,
        sort: Sort,
        key: &ObjectKey,
        says: &str,
    ) {
        if matches!(sort, Sort::ClusterProfile | Sort::Lease | Sort::MemberLease)
            || (sort == Sort::Member && verb == "tell")
        {
            return;
        }
        let who = match by {
            By::Cluster => "garbage collector".to_owned(),
            By::Controller(at) => self.controllers[at].name.clone(),
            By::People => "people".to_owned(),
        };
        let at = self.api(api).name.clone();
        self.trace.note(self.now, format!("{who} {verb} {sort:?} {key} at {at}{says}"));
    }

    /// Empties namespaces that go, and takes away what belongs to what is gone.
    pub(crate) fn collect(&mut self, api: Option<usize>) {
        let Some((sort, key, before)) = self.api_mut(api).collect() else { return };
        self.note(api, By::Cluster, "delete", sort, &key, "");
        self.saw(api, By::Cluster, (sort, &key), (Some(&*before), None));
        self.spread(api, sort);
        let soon = self.chance.between(1, 200);
        self.later(soon, Step::Collect(api));
    }
}
