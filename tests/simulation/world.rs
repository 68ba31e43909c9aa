//! A whole set in one thread: a hub, clusters with their API servers, controllers, and a network that is worse than
//! any real one. Time passes from one step to the next, and every draw comes from one seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use landbridge_api::wellknown::{CLUSTER, LANDBRIDGE, MANAGED_BY, SYSTEM_NAMESPACE};
use landbridge_controller::{
    Config,
    reconciler::{Answer, Reconciler},
};
use landbridge_model::{ClusterId, Namespace, Timestamp, merge::Rulebook};

use crate::{
    api::Api,
    chance::Chance,
    rules::{Broken, Watcher},
    thing::{Sort, Thing},
    trace::Trace,
    work::{Running, Step},
};

/// 2026-01-01T10:00:00Z, when every world begins.
pub(crate) const BEGINNING: i64 = 1_767_261_600_000;
/// How far ahead a clock is that is wrong.
const AHEAD: i64 = 3_600_000;

/// How often each says that it lives, in milliseconds: as seldom as is allowed.
pub(crate) const HEARTBEAT: u64 = 4_000;

/// What is made wrong on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Mischief {
    /// Nothing.
    #[default]
    None,
    /// The first cluster's API believes to have deleted what it keeps.
    KeptImports,
    /// The API says that it has taken endpoints out of slices, and has not.
    KeptEndpoints,
    /// The first cluster's API forgets what its exports are told of conflicts, and says that it has not.
    MutedConflicts,
    /// The API says that it has changed Services, and has not.
    KeptPorts,
    /// The first cluster's API forgets whether its exports are ready, and says that it has not.
    MutedReady,
    /// Imports are deleted and made again instead of being changed.
    Remade,
    /// A slice that changes has all of its gateway ports moved.
    Renumbered,
    /// All Services have one address.
    SharedAddress,
    /// All slices that name gateways name one port, and the API says that they do not.
    SharedPort,
    /// The API takes every bid for a Lease.
    TwoHolders,
    /// The API drops a label of every import that is written.
    Unlabelled,
    /// All members merge by the youngest export, and call it the usual rules.
    YoungestWins,
    /// The first member merges by other rules than it says.
    WrongRevision,
}

/// How bad the network and the APIs are, in percent of what is asked of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The longest that a message takes, in milliseconds.
    pub(crate) latency: u64,
    /// Requests that are answered by an error of the server and do nothing.
    pub(crate) errors: u64,
    /// Requests that do what they say and whose answer is lost.
    pub(crate) lost: u64,
    /// Watches that end with 410.
    pub(crate) expired: u64,
    /// News that is told twice.
    pub(crate) twice: u64,
}

impl Weather {
    pub(crate) const CALM: Self = Self { latency: 3, errors: 0, lost: 0, expired: 0, twice: 0 };
}

/// One cluster of the set.
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) network: String,
    pub(crate) api: Api,
    /// How far its clocks are ahead.
    pub(crate) ahead: i64,
    pub(crate) rules: Rulebook,
    pub(crate) gateways: Vec<SocketAddr>,
    /// Gateways that do not answer.
    pub(crate) mute: BTreeSet<SocketAddr>,
    /// When somebody last deleted its Lease.
    pub(crate) unleased: u64,
    /// Pods are numbered, so that no address comes twice.
    pub(crate) pods: u64,
}

/// How far a watch has come.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    cursor: usize,
    state: State,
    is_due: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Broken,
    Listing,
    Live,
}

/// One controller of a cluster.
pub(crate) struct Controller {
    pub(crate) cluster: usize,
    pub(crate) name: String,
    /// How often it was started; what was sent to an earlier one reaches nobody.
    pub(crate) epoch: u32,
    pub(crate) reconciler: Reconciler,
    streams: BTreeMap<Sort, Stream>,
    /// Until when it does not reach the hub, and its own API.
    pub(crate) cut: [u64; 2],
    /// Since and until when nothing comes from the hub, and from its own API, although every connection to it stands.
    pub(crate) hushed: [(u64, u64); 2],
    wake: u64,
    /// How often it was asked at this moment.
    asked: (u64, u32),
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) now: u64,
    start: Instant,
    steps: BTreeMap<(u64, u64), Step>,
    serial: u64,
    pub(crate) hub: Api,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) jobs: BTreeMap<u64, Running>,
    pub(crate) weather: Weather,
    pub(crate) mischief: Mischief,
    pub(crate) watcher: Watcher,
    pub(crate) trace: Trace,
    pub(crate) broken: Option<Broken>,
}

impl World {
    /// The world of a seed: its clusters, all of them members, with nothing exported yet.
    pub(crate) fn new(seed: u64, mischief: Mischief) -> Self {
        let mut chance = Chance::new(seed);
        let count = match chance.below(40) {
            0 => 20,
            1..=7 => chance.between(5, 8),
            _ => chance.between(2, 4),
        };
        let mut world = Self {
            chance,
            now: 0,
            start: Instant::now(),
            steps: BTreeMap::new(),
            serial: 0,
            hub: Api::new("hub", Ipv4Addr::new(10, 255, 0, 0), 16),
            clusters: Vec::new(),
            controllers: Vec::new(),
            jobs: BTreeMap::new(),
            weather: Weather::CALM,
            mischief,
            watcher: Watcher::default(),
            trace: Trace::default(),
            broken: None,
        };
        for number in 0..count {
            world.add_cluster(number);
        }
        world
    }

    fn add_cluster(&mut self, number: u64) {
        let part = u8::try_from(number).unwrap();
        let networks = if self.chance.percent(30) { 1 } else { 3 };
        let network = format!("net-{}", self.chance.below(networks));
        let gateways = self.chance.between(1, 2);
        let gateways = (1..=gateways).map(|last| {
            let ip = Ipv4Addr::new(172, 16, part, u8::try_from(last).unwrap());
            SocketAddr::new(IpAddr::V4(ip), 9901)
        });
        let cluster = Cluster {
            id: ClusterId::parse(&format!("c{number:02}")).unwrap(),
            network,
            api: Api::new(&format!("c{number:02}"), Ipv4Addr::new(10, 96, part, 0), 64),
            ahead: if self.chance.percent(20) { AHEAD } else { 0 },
            rules: crate::versions::of_start(self.mischief, number, &mut self.chance),
            gateways: gateways.collect(),
            mute: BTreeSet::new(),
            unleased: 0,
            pods: 0,
        };
        self.clusters.push(cluster);
        self.found(self.clusters.len() - 1);
        let count = if self.chance.percent(25) { 2 } else { 1 };
        for _ in 0..count {
            self.add_controller(self.clusters.len() - 1);
        }
    }

    fn add_controller(&mut self, cluster: usize) {
        let at = self.controllers.len();
        let letter =
            if self.controllers.iter().any(|other| other.cluster == cluster) { 'b' } else { 'a' };
        let name = format!("{}{letter}", self.clusters[cluster].id);
        let reconciler = self.newcomer(cluster, &name, 0);
        self.controllers.push(Controller {
            cluster,
            name,
            epoch: 0,
            reconciler,
            streams: BTreeMap::new(),
            cut: [0, 0],
            hushed: [(0, 0); 2],
            wake: u64::MAX,
            asked: (0, 0),
        });
        self.begin(at);
    }

    pub(crate) fn config(&self, cluster: usize) -> Config {
        let cluster = &self.clusters[cluster];
        let mut config = Config::new(
            cluster.id.clone(),
            "demo".parse().unwrap(),
            cluster.network.parse().unwrap(),
            Namespace::parse(SYSTEM_NAMESPACE).unwrap(),
        );
        // A beat of many members is told to each of them.
        config.heartbeat = Duration::from_millis(HEARTBEAT);
        config
    }

    fn newcomer(&self, cluster: usize, name: &str, epoch: u32) -> Reconciler {
        let rules = self.clusters[cluster].rules;
        Reconciler::new(self.config(cluster), rules, format!("{name}-{epoch}"), self.instant())
    }

    /// A controller dies, and one that knows nothing takes its place.
    pub(crate) fn restart(&mut self, at: usize) {
        let (cluster, name) = (self.controllers[at].cluster, self.controllers[at].name.clone());
        let epoch = self.controllers[at].epoch + 1;
        self.trace.note(self.now, format!("{name} restarts"));
        let reconciler = self.newcomer(cluster, &name, epoch);
        let controller = &mut self.controllers[at];
        controller.reconciler = reconciler;
        controller.epoch = epoch;
        controller.streams.clear();
        controller.wake = u64::MAX;
        self.watcher.forget(at);
        self.begin(at);
    }

    fn begin(&mut self, at: usize) {
        for sort in Sort::ALL {
            self.hear_soon(at, *sort);
        }
        self.wake(at, self.now);
    }

    pub(crate) fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    pub(crate) fn wall(&self, ahead: i64) -> Timestamp {
        Timestamp::from_millis(BEGINNING + i64::try_from(self.now).unwrap() + ahead)
    }

    /// The API of a cluster, or the hub's.
    pub(crate) fn api(&self, at: Option<usize>) -> &Api {
        at.map_or(&self.hub, |cluster| &self.clusters[cluster].api)
    }

    pub(crate) fn api_mut(&mut self, at: Option<usize>) -> &mut Api {
        let ahead = at.map_or(0, |cluster| self.clusters[cluster].ahead);
        let wall = self.wall(ahead).as_millis();
        let api = match at {
            None => &mut self.hub,
            Some(cluster) => &mut self.clusters[cluster].api,
        };
        api.wall = wall;
        api
    }

    /// How long a message is on its way.
    pub(crate) fn latency(&mut self) -> u64 {
        let most = self.weather.latency;
        // Most are fast, some are not.
        let most = if self.chance.percent(80) { most.min(20) } else { most };
        self.chance.between(1, most)
    }

    pub(crate) fn later(&mut self, after: u64, step: Step) {
        self.serial += 1;
        self.steps.insert((self.now + after, self.serial), step);
    }

    pub(crate) fn new_job(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Lets time pass, step by step, until `until` or until a rule is broken.
    pub(crate) fn run(&mut self, until: u64) {
        while self.broken.is_none() {
            let Some((&(at, serial), _)) = self.steps.first_key_value() else { break };
            if at > until {
                break;
            }
            let step = self.steps.remove(&(at, serial)).unwrap();
            self.now = at;
            self.step(step);
        }
        self.now = self.now.max(until);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Answer(at, epoch, answer) => {
                if self.is_same(at, epoch) {
                    self.answered(at, answer);
                }
            }
            Step::Arrive(job, write) => self.arrive(job, write),
            Step::Bid(at, epoch, bid) => self.bid(at, epoch, *bid),
            Step::Collect(cluster) => self.collect(cluster),
            Step::Hear(at, epoch, sort) => {
                if self.is_same(at, epoch) {
                    self.hear(at, sort);
                }
            }
            Step::Listed(at, epoch, sort, things) => {
                if self.is_same(at, epoch) {
                    self.listed(at, sort, things);
                }
            }
            Step::Respond(job, answer) => self.respond(job, answer),
            Step::Wake(at, epoch) => {
                if self.is_same(at, epoch) && self.controllers[at].wake == self.now {
                    self.poll(at);
                }
            }
        }
    }

    fn is_same(&self, at: usize, epoch: u32) -> bool {
        self.controllers[at].epoch == epoch
    }

    fn poll(&mut self, at: usize) {
        let (now, cluster) = (self.instant(), self.controllers[at].cluster);
        let wall = self.wall(self.clusters[cluster].ahead);
        let controller = &mut self.controllers[at];
        controller.wake = u64::MAX;
        let asked = if controller.asked.0 == self.now { controller.asked.1 } else { 0 };
        controller.asked = (self.now, asked + 1);
        let jobs = controller.reconciler.poll(now, wall);
        drop(controller.reconciler.told());
        let next = controller.reconciler.next_wakeup(now);
        // Timers have whole milliseconds here and must not fire early.
        let millis = next.saturating_duration_since(self.start).as_nanos().div_ceil(1_000_000);
        self.wake(at, u64::try_from(millis).unwrap());
        self.check_holders(cluster);
        self.check_pace(at, asked);
        self.check_silence(at);
        for job in jobs {
            self.start(at, job);
        }
    }

    fn wake(&mut self, at: usize, when: u64) {
        let when = when.max(self.now);
        let controller = &mut self.controllers[at];
        if when < controller.wake {
            controller.wake = when;
            let epoch = controller.epoch;
            self.later(when - self.now, Step::Wake(at, epoch));
        }
    }

    fn answered(&mut self, at: usize, answer: Answer) {
        let (now, draw) = (self.instant(), self.chance.draw());
        let wall = self.wall(self.clusters[self.controllers[at].cluster].ahead);
        self.controllers[at].reconciler.answered(answer, now, wall, draw);
        self.wake(at, self.now);
    }

    /// Gives a controller the outcome of a plan.
    pub(crate) fn finish(&mut self, job: Running) {
        self.answered(job.controller, Answer::Work(job.work, job.outcome));
    }

    /// Whether a controller does not reach the hub, or its own API.
    pub(crate) fn is_cut(&self, at: usize, hub: bool) -> bool {
        self.controllers[at].cut[usize::from(!hub)] > self.now
    }

    /// Until when nothing comes from the hub, or from a controller's own API.
    pub(crate) fn hushed_until(&self, at: usize, hub: bool) -> Option<u64> {
        let (_, until) = self.controllers[at].hushed[usize::from(!hub)];
        (until > self.now).then_some(until)
    }

    /// Whether a request would not be answered.
    pub(crate) fn is_away(&self, at: usize, hub: bool) -> bool {
        self.is_cut(at, hub) || self.hushed_until(at, hub).is_some()
    }

    fn source(&self, at: usize, sort: Sort) -> Option<usize> {
        (!sort.is_on_hub()).then_some(self.controllers[at].cluster)
    }

    /// Everybody who watches a kind of an API is about to hear.
    pub(crate) fn spread(&mut self, api: Option<usize>, sort: Sort) {
        for at in 0..self.controllers.len() {
            if sort.is_on_hub() == api.is_none() && self.source(at, sort) == api {
                self.hear_soon(at, sort);
            }
        }
    }

    /// Whoever has waited for something that was hushed need not wait any longer.
    pub(crate) fn hear_all(&mut self) {
        for at in 0..self.controllers.len() {
            for sort in Sort::ALL {
                self.controllers[at].streams.entry(*sort).or_default().is_due = false;
                self.hear_soon(at, *sort);
            }
        }
    }

    fn hear_soon(&mut self, at: usize, sort: Sort) {
        let after = self.latency();
        self.hear_after(at, sort, after);
    }

    fn hear_after(&mut self, at: usize, sort: Sort, after: u64) {
        let controller = &mut self.controllers[at];
        let stream = controller.streams.entry(sort).or_default();
        if !stream.is_due && stream.state != State::Listing {
            stream.is_due = true;
            let epoch = controller.epoch;
            self.later(after, Step::Hear(at, epoch, sort));
        }
    }

    fn hear(&mut self, at: usize, sort: Sort) {
        let (state, cursor) = {
            let stream = self.controllers[at].streams.get_mut(&sort).unwrap();
            stream.is_due = false;
            (stream.state, stream.cursor)
        };
        if let (State::Live, Some(until)) = (state, self.hushed_until(at, sort.is_on_hub())) {
            return self.hear_after(at, sort, until - self.now);
        }
        let is_lost = state == State::Live && self.chance.percent(self.weather.expired);
        if self.is_away(at, sort.is_on_hub()) || is_lost {
            return self.interrupt(at, sort);
        }
        let source = self.source(at, sort);
        match state {
            State::Listing => {}
            State::Broken => {
                let all = self.api(source).all(sort).filter(|thing| is_watched(thing));
                let all: Vec<Thing> = all.map(|thing| (**thing).clone()).collect();
                let cursor = self.api(source).log(sort).len();
                let stream = self.controllers[at].streams.get_mut(&sort).unwrap();
                (stream.state, stream.cursor) = (State::Listing, cursor);
                let (after, epoch) = (self.latency(), self.controllers[at].epoch);
                self.later(after, Step::Listed(at, epoch, sort, all));
            }
            State::Live => {
                let left = self.api(source).log(sort).len() - cursor;
                if left == 0 {
                    return;
                }
                let some = usize::try_from(self.chance.between(1, left as u64)).unwrap();
                let count = if self.weather.latency > 20 { some } else { left };
                let entries = self.api(source).log(sort)[cursor..cursor + count].to_vec();
                for entry in entries {
                    let times = if self.chance.percent(self.weather.twice) { 2 } else { 1 };
                    for _ in 0..times {
                        let event = match &entry.thing {
                            Some(thing) if is_watched(thing) => (**thing).clone().applied(),
                            Some(_) => continue,
                            None => sort.gone(entry.key.clone()),
                        };
                        self.tell(at, sort, &[(entry.key.clone(), entry.thing.as_deref())], false);
                        self.apply(at, event);
                    }
                }
                self.controllers[at].streams.get_mut(&sort).unwrap().cursor += count;
                if count < left {
                    self.hear_soon(at, sort);
                }
            }
        }
    }

    fn interrupt(&mut self, at: usize, sort: Sort) {
        let stream = self.controllers[at].streams.get_mut(&sort).unwrap();
        if stream.state == State::Live {
            self.apply(at, sort.interrupted());
        }
        self.controllers[at].streams.get_mut(&sort).unwrap().state = State::Broken;
        let after = self.chance.between(100, 2_000);
        self.hear_after(at, sort, after);
    }

    fn listed(&mut self, at: usize, sort: Sort, things: Vec<Thing>) {
        let is_cut = self.is_away(at, sort.is_on_hub());
        let stream = self.controllers[at].streams.get_mut(&sort).unwrap();
        stream.state = if is_cut { State::Broken } else { State::Live };
        if !is_cut {
            let all: Vec<_> = things.iter().map(|thing| (thing.key(), Some(thing))).collect();
            self.tell(at, sort, &all, true);
            for event in sort.all(things) {
                self.apply(at, event);
            }
        }
        self.hear_soon(at, sort);
    }

    fn apply(&mut self, at: usize, event: landbridge_controller::observed::Event) {
        let now = self.instant();
        self.controllers[at].reconciler.apply(event, now);
        let after = self.chance.below(3);
        self.wake(at, self.now + after);
    }

    /// Whether every controller has heard of everything and has nothing to do.
    pub(crate) fn is_quiet(&self) -> bool {
        let works = self.jobs.values().any(|job| !job.is_heartbeat());
        !works
            && (0..self.controllers.len()).all(|at| {
                let controller = &self.controllers[at];
                let has_heard = controller.streams.iter().all(|(sort, stream)| {
                    let news = &self.api(self.source(at, *sort)).log(*sort)[stream.cursor..];
                    // Heartbeats and Leases go on for ever.
                    let is_all = news.is_empty()
                        || matches!(sort, Sort::Lease | Sort::Member | Sort::MemberLease);
                    stream.state == State::Live && is_all
                });
                let leads = controller.reconciler.leads();
                has_heard && (!leads || controller.reconciler.queue_depth() == 0)
            })
            && (0..self.clusters.len()).all(|cluster| self.leader(cluster).is_some())
    }

    /// The controller of a cluster that holds the Lease.
    pub(crate) fn leader(&self, cluster: usize) -> Option<usize> {
        let mut all = 0..self.controllers.len();
        all.find(|at| {
            let controller = &self.controllers[*at];
            controller.cluster == cluster && controller.reconciler.leads()
        })
    }
}

/// What controllers ask for of each kind.
pub(crate) fn is_watched(thing: &Thing) -> bool {
    match thing.sort() {
        Sort::HubSlice => {
            thing.label(MANAGED_BY) == Some(LANDBRIDGE) && thing.label(CLUSTER).is_some()
        }
        Sort::ClusterProfile | Sort::Lease | Sort::MemberLease => {
            thing.meta().namespace.as_deref() == Some(SYSTEM_NAMESPACE)
        }
        _ => true,
    }
}
