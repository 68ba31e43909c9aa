//! What holds at every step, whatever the network does: each rule as the design or the KEP has it.

use std::collections::{BTreeMap, BTreeSet};

use landbridge_api::{
    convert,
    watch::ObjectKey,
    wellknown::{GATEWAYS, IMPORT, LANDBRIDGE, MANAGED_BY, SERVICE_NAME},
};
use landbridge_controller::plan::{Object, Plan, Work, Write};
use landbridge_model::{ServiceKey, Target, derived};
use serde_json::Value;

use crate::{
    thing::{Sort, Thing},
    world::{HEARTBEAT, World},
};

/// "Two controllers in one member: Lease election ... no double writes that differ."
const ONE_HOLDER: &str = "two controllers of one member never both write";
/// "Losing the oldest updates the import in place; it is never deleted and made again."
const NEVER_REMADE: &str = "an import is never deleted while an export stands";
/// "What has a state has `apply(event)`, `poll(now)`, `next_wakeup()`": which is later than what was done.
const NOT_IN_CIRCLES: &str = "a controller that has done what is due waits for something else";
/// KEP-1645: "consistent for the life of a ServiceImport from the perspective of the importing cluster".
const STABLE_ADDRESS: &str = "ClusterIPs never change for a living import";
/// "A derived Service whose ClusterIPs become `spec.ips`": each import's own.
pub(crate) const OWN_ADDRESS: &str = "no two imports share a ClusterIP";
/// "Ports 10000-29999, stable for the import's life."
const STABLE_PORTS: &str = "allotted ports never change for a living import";
/// "Stale endpoints of dead clusters kept for ever ... None of that here."
pub(crate) const SEEN_WITHDRAWN: &str =
    "no slice names an endpoint that its cluster withdrew, once seen";

/// "A hub that cannot be read means unknown, never expired."
const UNKNOWN_IS_NOT_SILENT: &str = "nobody is silent for a hub that has vanished";

/// A member that was heard so shortly before a hub vanished has not been silent for too long when the own word is missed:
/// ten seconds, less a beat of the own and the two seconds that it may take, less what timers are late.
const HEARD_LATELY: u64 = 10_000 - HEARTBEAT - 2_000 - 100;
/// How long an export must have stood for every controller to have heard of it: longer than anything is on its way.
const HEARD_BY_ALL: u64 = 25_000;
/// How often a controller may be asked at one moment, when much news comes in one by one.
const MOST_ASKED: u32 = 1_000;

/// Who writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum By {
    /// What stands beside an API server.
    Cluster,
    /// A controller of ours.
    Controller(usize),
    /// People.
    People,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) rule: &'static str,
    pub(crate) says: String,
    /// Which lines of the trace have to do with it.
    pub(crate) words: Vec<String>,
}

/// What the rules remember.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    /// Since when the hub has an export that counts.
    standing: BTreeMap<(ServiceKey, String), u64>,
    /// Since when objects can be made in a namespace.
    open: BTreeMap<(usize, String), u64>,
    /// The addresses that each controller was last told of, by slice.
    heard: BTreeMap<usize, BTreeMap<(Sort, ObjectKey), BTreeSet<String>>>,
    /// What each controller was last told by each member that it lives, and when.
    beats: BTreeMap<(usize, String), (String, u64)>,
    /// The number of each port that a slice names, or did until the plan that is being carried out.
    numbers: BTreeMap<(usize, Target), (u16, Named)>,
    /// The plan whose request an API is doing.
    pub(crate) plan: u64,
    /// Imports that people have laid hands on.
    pub(crate) touched: BTreeSet<(usize, ServiceKey)>,
}

/// Whether a slice names a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Named {
    Now,
    /// Not since this plan, which may be about to move it from one slice to another.
    Until(u64),
}

impl Watcher {
    /// A controller starts anew and has heard nothing.
    pub(crate) fn forget(&mut self, controller: usize) {
        self.heard.remove(&controller);
        self.beats.retain(|(at, _), _| *at != controller);
    }
}

/// The service that an object of ours was made for.
pub(crate) fn made_for(thing: &Thing) -> Option<ServiceKey> {
    let namespace = thing.meta().namespace.as_deref()?;
    let name = match thing {
        Thing::ServiceImport(_) => thing.meta().name.as_deref()?,
        _ => thing.annotation(IMPORT).or_else(|| thing.label(SERVICE_NAME))?,
    };
    ServiceKey::parse(namespace, name).ok()
}

/// What names a service in the trace: itself, its ClusterExport, and what is derived from it.
pub(crate) fn words(service: &ServiceKey) -> [String; 3] {
    let export = format!("{}.{}", service.namespace, service.name);
    [service.to_string(), export, derived::service(service).to_string()]
}

/// The addresses that a slice names.
pub(crate) fn addresses(thing: &Thing) -> BTreeSet<String> {
    let endpoints = thing.slice().into_iter().flat_map(|slice| &slice.endpoints);
    endpoints.flat_map(|endpoint| endpoint.addresses.clone()).collect()
}

impl World {
    pub(crate) fn violate(&mut self, rule: &'static str, says: String, words: &[String]) {
        if self.broken.is_none() {
            self.broken = Some(Broken { rule, says, words: words.to_vec() });
        }
    }

    /// At every moment at most one controller of a cluster may write.
    pub(crate) fn check_holders(&mut self, cluster: usize) {
        let now = self.instant();
        let holders = self.controllers.iter().filter(|controller| {
            let held = controller.reconciler.held_until();
            controller.cluster == cluster && held.is_some_and(|until| until > now)
        });
        let holders: Vec<String> = holders.map(|controller| controller.name.clone()).collect();
        if holders.len() > 1 {
            let says = format!("{} believe to hold the Lease", holders.join(" and "));
            self.violate(ONE_HOLDER, says, &holders);
        }
    }

    /// A controller comes to an end at each moment.
    pub(crate) fn check_pace(&mut self, at: usize, asked: u32) {
        if asked > MOST_ASKED {
            let name = self.controllers[at].name.clone();
            let says = format!("{name} wants to be asked at once for ever");
            self.violate(NOT_IN_CIRCLES, says, &[name]);
        }
    }

    /// Whose word could come while the hub was there has lived until then, as far as anybody can know.
    pub(crate) fn check_silence(&mut self, at: usize) {
        if self.hushed_until(at, true).is_none() {
            return;
        }
        let (since, _) = self.controllers[at].hushed[0];
        let snapshot = self.controllers[at].reconciler.observed().snapshot();
        let silent = snapshot["silentMembers"].as_array().into_iter().flatten();
        // Its own silence is how it knows.
        let own = self.clusters[self.controllers[at].cluster].id.as_str();
        let mut others = silent.filter_map(Value::as_str).filter(|member| *member != own);
        let wronged = others.find(|member| {
            let heard = self.watcher.beats.get(&(at, (*member).to_owned()));
            heard.is_some_and(|(_, when)| when + HEARD_LATELY >= since)
        });
        if let Some(member) = wronged.map(str::to_owned) {
            let name = self.controllers[at].name.clone();
            let says = format!("{name}, which hears nothing of the hub, takes {member} for silent");
            self.violate(UNKNOWN_IS_NOT_SILENT, says, &[name, member]);
        }
    }

    fn hear_beats(&mut self, at: usize, news: &[(ObjectKey, Option<&Thing>)]) {
        for (key, thing) in news {
            let who = (at, key.name.clone());
            let Some(member) = thing.and_then(Thing::member) else {
                self.watcher.beats.remove(&who);
                continue;
            };
            let beat = member.status.as_ref().and_then(|status| status.heartbeat.as_ref());
            let beat = beat.map(|time| time.0.to_string()).unwrap_or_default();
            if self.watcher.beats.get(&who).is_none_or(|(last, _)| *last != beat) {
                self.watcher.beats.insert(who, (beat, self.now));
            }
        }
    }

    /// A controller is told of objects: of all that there are, or of some.
    pub(crate) fn tell(
        &mut self,
        at: usize,
        sort: Sort,
        news: &[(ObjectKey, Option<&Thing>)],
        is_all: bool,
    ) {
        match sort {
            Sort::Member => return self.hear_beats(at, news),
            Sort::EndpointSlice | Sort::HubSlice => {}
            _ => return,
        }
        let heard = self.watcher.heard.entry(at).or_default();
        if is_all {
            heard.retain(|(known, _), _| *known != sort);
        }
        for (key, thing) in news {
            let thing = thing.filter(|thing| {
                sort == Sort::HubSlice || thing.label(MANAGED_BY) != Some(LANDBRIDGE)
            });
            heard.remove(&(sort, key.clone()));
            if let Some(thing) = thing {
                heard.insert((sort, key.clone()), addresses(thing));
            }
        }
    }

    /// What a controller is about to write names only what it knows to be there.
    pub(crate) fn check_plan(&mut self, at: usize, work: &Work, plan: &Plan) {
        let heard = self.watcher.heard.get(&at);
        let known: BTreeSet<&String> =
            heard.into_iter().flat_map(BTreeMap::values).flatten().collect();
        let slices = plan.steps.iter().flatten().filter_map(|write| match write {
            Write::Create(Object::EndpointSlice(slice))
            | Write::Update(Object::EndpointSlice(slice)) => Some(slice),
            _ => None,
        });
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        let mut named = endpoints.flat_map(|endpoint| &endpoint.addresses);
        // Endpoints of other networks have addresses of Services here.
        let stale = named.find(|ip| !ip.starts_with("10.96.") && !known.contains(ip));
        if let Some(stale) = stale.cloned() {
            let name = &self.controllers[at].name;
            let says = format!("{name} plans {work} with {stale}, of which nobody tells any more");
            self.violate(SEEN_WITHDRAWN, says, &[stale]);
        }
    }

    /// An object has changed.
    pub(crate) fn saw(
        &mut self,
        api: Option<usize>,
        by: By,
        (sort, key): (Sort, &ObjectKey),
        (before, after): (Option<&Thing>, Option<&Thing>),
    ) {
        let Some(cluster) = api else {
            if matches!(sort, Sort::ClusterExport | Sort::Member) {
                self.stand();
            }
            return;
        };
        let service = before.or(after).and_then(made_for);
        if let Some(service) = service.clone().filter(|_| by == By::People) {
            self.watcher.touched.insert((cluster, service));
        }
        match sort {
            Sort::EndpointSlice => {
                let mut both = [before, after].into_iter().flatten();
                let is_allotment = both.any(|thing| thing.annotation(GATEWAYS).is_some());
                if let Some(service) = service.filter(|_| is_allotment) {
                    self.check_numbers(cluster, &service);
                }
            }
            Sort::Namespace => {
                let at = (cluster, key.name.clone());
                if self.clusters[cluster].api.is_open(&key.name) {
                    self.watcher.open.entry(at).or_insert(self.now);
                } else {
                    self.watcher.open.remove(&at);
                }
            }
            Sort::ServiceImport => {
                if let Some(service) = service {
                    self.check_import(cluster, by, &service, (before, after));
                }
            }
            _ => {}
        }
    }

    /// Which exports the hub has that count.
    fn stand(&mut self) {
        let mut standing = BTreeMap::new();
        for thing in self.hub.all(Sort::ClusterExport) {
            let key = thing.key();
            let cluster = key.namespace.trim_start_matches("cluster-").to_owned();
            let member = self.hub.get(Sort::Member, "", &cluster).and_then(|one| one.member());
            let Some((namespace, name)) = key.name.split_once('.') else { continue };
            let counts = member.is_some_and(|member| {
                let allowed = member.spec.namespaces.as_ref();
                !member.spec.suspended
                    && allowed.is_none_or(|all| all.iter().any(|one| one == namespace))
            });
            if counts {
                let at = (ServiceKey::parse(namespace, name).unwrap(), cluster);
                let since = self.watcher.standing.get(&at).copied().unwrap_or(self.now);
                standing.insert(at, since);
            }
        }
        self.watcher.standing = standing;
    }

    fn check_import(
        &mut self,
        cluster: usize,
        by: By,
        service: &ServiceKey,
        (before, after): (Option<&Thing>, Option<&Thing>),
    ) {
        let words = words(service);
        let id = self.clusters[cluster].id.clone();
        let long_ago = self.now.checked_sub(HEARD_BY_ALL);
        let stands = |since: &u64| long_ago.is_some_and(|long_ago| *since <= long_ago);
        if after.is_none() && matches!(by, By::Controller(_)) {
            let open = self.watcher.open.get(&(cluster, service.namespace.to_string()));
            let mut exports = self.watcher.standing.iter();
            let export = exports.find(|((of, _), since)| of == service && stands(since));
            if let Some(((_, exporter), _)) = export.filter(|_| open.is_some_and(stands)) {
                let says = format!("{id} loses {service}, which {exporter} exports");
                return self.violate(NEVER_REMADE, says, &words);
            }
        }
        let ips = |thing: Option<&Thing>| {
            let import = thing.and_then(Thing::import);
            import.map(|import| import.spec.ips.clone()).unwrap_or_default()
        };
        let (had, has) = (ips(before), ips(after));
        let is_touched = self.watcher.touched.contains(&(cluster, service.clone()));
        if !had.is_empty() && !has.is_empty() && had != has && !is_touched {
            let says = format!("{service} in {id} had {had:?} and has {has:?}");
            self.violate(STABLE_ADDRESS, says, &words);
        }
        let api = &self.clusters[cluster].api;
        let shared = api.all(Sort::ServiceImport).find(|other| {
            let is_other = made_for(other).as_ref() != Some(service);
            is_other && ips(Some(other)).iter().any(|ip| has.contains(ip))
        });
        let shared = shared.map(|other| other.key());
        if let Some(other) = shared.filter(|_| !is_touched) {
            let says = format!("{service} and {other} have {has:?} in {id}");
            self.violate(OWN_ADDRESS, says, &words);
        }
    }

    /// The number of each port of a service in a cluster, as slices say it.
    pub(crate) fn numbers(&self, cluster: usize) -> BTreeMap<Target, BTreeSet<u16>> {
        let mut numbers: BTreeMap<Target, BTreeSet<u16>> = BTreeMap::new();
        for thing in self.clusters[cluster].api.all(Sort::EndpointSlice) {
            let slice = thing.slice().filter(|_| thing.annotation(GATEWAYS).is_some());
            let allotment = slice.and_then(|slice| convert::allotment(slice).ok().flatten());
            for ((_, number), target) in allotment.iter().flat_map(|all| &all.targets) {
                numbers.entry(target.clone()).or_default().insert(number.number());
            }
        }
        numbers
    }

    fn check_numbers(&mut self, cluster: usize, service: &ServiceKey) {
        let plan = self.watcher.plan;
        let mut numbers = self.numbers(cluster);
        numbers.retain(|target, _| target.service == *service);
        let import = self.clusters[cluster].api.get(
            Sort::ServiceImport,
            service.namespace.as_str(),
            service.name.as_str(),
        );
        let is_watched =
            import.is_some() && !self.watcher.touched.contains(&(cluster, service.clone()));
        let mut moved = None;
        for (target, has) in &numbers {
            let known = self.watcher.numbers.get(&(cluster, target.clone()));
            let known = known.filter(|(_, named)| [Named::Now, Named::Until(plan)].contains(named));
            let first = has.first().copied().unwrap_or_default();
            let number = known.map_or(first, |(number, _)| *number);
            if !has.contains(&number) && is_watched {
                moved = Some(format!("{target:?} had {number} and has {has:?}"));
            }
            let kept = if has.contains(&number) { number } else { first };
            self.watcher.numbers.insert((cluster, target.clone()), (kept, Named::Now));
        }
        let known = self.watcher.numbers.iter_mut();
        let gone = known.filter(|((at, target), (_, named))| {
            *at == cluster
                && target.service == *service
                && *named == Named::Now
                && !numbers.contains_key(target)
        });
        gone.for_each(|(_, (_, named))| *named = Named::Until(plan));
        if let Some(says) = moved {
            let says = format!("{says} in {}", self.clusters[cluster].id);
            self.violate(STABLE_PORTS, says, &words(service));
        }
    }
}
