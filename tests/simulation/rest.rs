//! What holds when everything has been heard and done: the facts as people made them, and what every cluster must
//! have come to.

use std::collections::{BTreeMap, BTreeSet};

use landbridge_api::{
    convert,
    wellknown::{DERIVED_SERVICE, LANDBRIDGE, MANAGED_BY, SOURCE_CLUSTER, SYSTEM_NAMESPACE},
};
use landbridge_controller::{
    observed::Observed,
    plan::{Work, plan},
};
use landbridge_model::ServiceKey;
use serde_json::json;

use crate::{
    facts::Fact,
    people::SERVICES,
    rules::{OWN_ADDRESS, SEEN_WITHDRAWN, addresses, made_for, words},
    thing::{Sort, Thing},
    world::World,
};

/// "Running a plan that is already true writes nothing."
const NOTHING_TO_WRITE: &str = "a plan that is true writes nothing";
/// "Every member computes the merge of all exports with the same pure function": its revision "is published per
/// member, and the set uses the lowest one, so that an upgrade under way cannot split opinions."
const SAME_EVERYWHERE: &str = "the same facts give the same imports everywhere";
/// KEP-1645: "the conflict resolution policy": the oldest export wins.
const OLDEST_WINS: &str = "the oldest export wins";
/// KEP-1645: "Conflict" is told "on all ServiceExports for the conflicted service".
const CONFLICT_ON_ALL: &str = "Conflict is on all exports of a service or on none";
/// "Removing the last export removes the import everywhere." "All that the member gave goes, and nothing else."
const WHAT_IS_GIVEN: &str =
    "an import stands where and as long as somebody gives it, and nothing else does";
/// "Of two that claim one port the older import keeps it, the other is allotted anew."
const OWN_PORT: &str = "no two imports share an allotted port";
/// KEP-1645: "Valid" and "Ready" of a ServiceExport.
const TOLD: &str = "exports are told what became of them";
/// Nothing is left undone.
const COMES_TO_REST: &str = "when nothing happens any more, everything is done in the end";

/// How long it may take until everything is done: the longest retry, a proof of the gateways, and a resync.
const PATIENCE: u64 = 120_000;

impl World {
    /// Lets everything that was broken be mended, waits until all is done, and looks at the outcome.
    pub(crate) fn rest(&mut self) {
        self.heal();
        let (begun, mut quiet) = (self.now, 0);
        // Members that were not heard have fallen silent by then, and are heard again.
        while self.broken.is_none() && (quiet < 4 || self.now < begun + 12_000) {
            self.run(self.now + 500);
            quiet = if self.is_quiet() && self.is_well() { quiet + 1 } else { 0 };
            if self.now > begun + PATIENCE {
                let says = self.unrest();
                return self.violate(COMES_TO_REST, says, &[]);
            }
        }
        if self.broken.is_none() {
            self.look();
        }
        self.watcher.touched.clear();
    }

    /// Whether nobody is thought silent who is not.
    fn is_well(&self) -> bool {
        self.controllers.iter().all(|controller| {
            let snapshot = controller.reconciler.observed().snapshot();
            snapshot["muteGateways"] == json!([]) && snapshot["silentMembers"] == json!([])
        })
    }

    fn unrest(&self) -> String {
        let mut says = String::new();
        for controller in &self.controllers {
            let snapshot = controller.reconciler.observed().snapshot();
            let depth = controller.reconciler.queue_depth();
            says += &format!(
                "\n  {}: leads {}, {depth} plans wait, mute {}, silent {}",
                controller.name,
                controller.reconciler.leads(),
                snapshot["muteGateways"],
                snapshot["silentMembers"],
            );
        }
        for job in self.jobs.values().filter(|job| !job.is_heartbeat()) {
            says += &format!("\n  under way: {} of {}", job.work, job.controller);
        }
        says
    }

    fn look(&mut self) {
        let services: BTreeSet<ServiceKey> = SERVICES
            .iter()
            .map(|(namespace, name)| ServiceKey::parse(namespace, name).unwrap())
            .collect();
        let members = (0..self.clusters.len()).filter(|cluster| {
            let id = self.clusters[*cluster].id.as_str();
            self.hub.get(Sort::Member, "", id).is_some()
        });
        let members: BTreeSet<usize> = members.collect();
        for service in &services {
            let facts = self.facts(service);
            self.look_at_hub(service, &facts);
            self.look_at_exports(service, &facts);
            // A cluster that has been removed may know what it likes: nobody tells it anything.
            for &cluster in &members {
                self.look_at_import(cluster, service, &facts);
                self.look_at_slices(cluster, service, &facts);
            }
        }
        for cluster in members {
            self.look_at_cluster(cluster);
            self.look_at_plans(cluster);
        }
    }

    /// The hub has what clusters export, and nothing else.
    fn look_at_hub(&mut self, service: &ServiceKey, facts: &[Fact]) {
        let name = format!("{}.{}", service.namespace, service.name);
        let told = self.hub.all(Sort::ClusterExport).map(|thing| thing.key());
        let told = told.filter(|key| key.name == name).map(|key| key.namespace);
        let told: BTreeSet<String> = told.collect();
        let given = facts.iter().map(|fact| format!("cluster-{}", fact.id));
        let given: BTreeSet<String> = given.collect();
        if told != given {
            let says = format!("{service} is on the hub for {told:?} and exported by {given:?}");
            self.violate(WHAT_IS_GIVEN, says, &words(service));
        }
    }

    fn look_at_exports(&mut self, service: &ServiceKey, facts: &[Fact]) {
        let disagree = facts.iter().any(|fact| fact.differs(&facts[0]));
        let wanted = if disagree { "True" } else { "False" };
        let mut told: BTreeSet<String> = BTreeSet::new();
        for fact in facts {
            let api = &self.clusters[fact.cluster].api;
            let found =
                api.get(Sort::ServiceExport, service.namespace.as_str(), service.name.as_str());
            let conditions = found.and_then(|thing| thing.service_export());
            let conditions =
                conditions.map(|export| export.conditions().to_vec()).unwrap_or_default();
            let said = |type_: &str| {
                let found = conditions.iter().find(|one| one.type_ == type_);
                found.map_or_else(
                    || "not told".to_owned(),
                    |one| format!("{} {} {}", one.status, one.reason, one.message),
                )
            };
            told.insert(said("Conflict"));
            let ready = format!("{} / {}", said("Valid"), said("Ready"));
            if ready != "True Valid  / True Exported " {
                let says = format!("{service} in {} is {ready}", fact.id);
                return self.violate(TOLD, says, &words(service));
            }
        }
        if told.len() > 1 || told.iter().any(|said| !said.starts_with(wanted)) {
            let says = format!("{service} is told {told:?}; the exports differ: {disagree}");
            self.violate(CONFLICT_ON_ALL, says, &words(service));
        }
    }

    fn look_at_import(&mut self, cluster: usize, service: &ServiceKey, facts: &[Fact]) {
        let (namespace, name) = (service.namespace.as_str(), service.name.as_str());
        let api = &self.clusters[cluster].api;
        let wanted = api.is_open(namespace) && !facts.is_empty();
        let import = api.get(Sort::ServiceImport, namespace, name).cloned();
        let id = self.clusters[cluster].id.clone();
        let Some(import) = import.as_deref().and_then(Thing::import).filter(|_| wanted) else {
            if import.is_some() || wanted {
                let has = if wanted { "lacks" } else { "has" };
                let givers: Vec<&str> = facts.iter().map(|fact| fact.id.as_str()).collect();
                let says = format!("{id} {has} an import of {service}, given by {givers:?}");
                self.violate(WHAT_IS_GIVEN, says, &words(service));
            }
            return;
        };
        let oldest = &facts[0];
        let clusters = import.status.iter().flat_map(|status| &status.clusters);
        let clusters: Vec<&str> = clusters.map(|one| one.cluster.as_str()).collect();
        let givers: Vec<&str> = facts.iter().map(|fact| fact.id.as_str()).collect();
        let mut annotations = import.metadata.annotations.clone().unwrap_or_default();
        annotations.remove(DERIVED_SERVICE);
        let mut labels = import.metadata.labels.clone().unwrap_or_default();
        labels.remove("app.kubernetes.io/managed-by");
        let timeout = import.spec.session_affinity_config.as_ref();
        let timeout = timeout.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        let has = format!(
            "{clusters:?} {} {:?} {timeout:?} {:?} {labels:?} {annotations:?}",
            import.spec.type_, import.spec.session_affinity, import.spec.internal_traffic_policy
        );
        let should = format!(
            "{givers:?} {} {:?} {:?} {:?} {:?} {:?}",
            oldest.kind,
            Some(&oldest.affinity),
            oldest.timeout,
            oldest.policy,
            oldest.labels,
            oldest.annotations
        );
        if has != should {
            let says = format!("{service} in {id} is\n    {has}, and should be\n    {should}");
            return self.violate(OLDEST_WINS, says, &words(service));
        }
        let ports = import.spec.ports.iter();
        let ports: Vec<_> = ports
            .map(|port| (port.name.clone(), port.port, port.protocol.clone().unwrap_or_default()))
            .collect();
        let union = crate::facts::union(facts, self.revision());
        if ports != union {
            let says = format!(
                "{service} in {id} has ports {ports:?} and not {union:?}, by rules {}",
                self.revision()
            );
            self.violate(SAME_EVERYWHERE, says, &words(service));
        }
    }

    /// What is reached without a gateway is reached where it is, and nowhere else.
    fn look_at_slices(&mut self, cluster: usize, service: &ServiceKey, facts: &[Fact]) {
        let state = &self.clusters[cluster];
        let (id, network) = (state.id.clone(), state.network.clone());
        let is_open = state.api.is_open(service.namespace.as_str());
        let union = crate::facts::union(facts, 1);
        let (mut wrong, mut seen) = (None, BTreeMap::<String, BTreeSet<String>>::new());
        for thing in state.api.all(Sort::EndpointSlice) {
            let is_ours = thing.label(MANAGED_BY) == Some(LANDBRIDGE);
            if !is_ours || made_for(thing).as_ref() != Some(service) {
                continue;
            }
            match thing.label(SOURCE_CLUSTER) {
                Some(source) => seen.entry(source.to_owned()).or_default().extend(addresses(thing)),
                None => seen.entry(String::new()).or_default().extend(addresses(thing)),
            }
        }
        let policy =
            state.api.get(Sort::TrafficPolicy, service.namespace.as_str(), service.name.as_str());
        let is_weighed = matches!(policy.map(|policy| &**policy), Some(Thing::TrafficPolicy(policy)) if policy.spec.weighs());
        let gateways = state.gateways.iter().map(|gateway| gateway.ip().to_string());
        let gateways: BTreeSet<String> = gateways.collect();
        let mut near: BTreeSet<String> = gateways;
        for fact in facts {
            // "A member whose service has an AccessPolicy counts as another network for it."
            // "A TrafficPolicy that weighs clusters makes the slice name gateways only."
            let is_steered = is_weighed && fact.kind == "ClusterSetIP";
            let is_direct = !(fact.guarded || is_steered);
            let is_near = fact.cluster == cluster
                || (self.clusters[fact.cluster].network == network && is_direct);
            let serves = fact.kind == facts[0].kind && fact.serves(&union) && is_open;
            let pods = if serves { self.pods(fact.cluster, service) } else { BTreeSet::new() };
            let names = seen.remove(fact.id.as_str()).unwrap_or_default();
            if is_near && names != pods {
                wrong = Some(format!("{names:?} of {}, which has {pods:?}", fact.id));
            }
            if is_near {
                near.extend(pods);
            }
        }
        let derived = seen.remove("").unwrap_or_default();
        if let Some(stale) = derived.iter().find(|address| !near.contains(*address)) {
            wrong = Some(format!("{stale}, which is nobody's"));
        }
        if let Some((source, _)) = seen.first_key_value() {
            wrong = Some(format!("endpoints of {source}, which does not export it"));
        }
        if let Some(wrong) = wrong {
            let says = format!("slices of {service} in {id} name {wrong}");
            self.violate(SEEN_WITHDRAWN, says, &words(service));
        }
    }

    /// The pods of a service, as its own cluster tells of them.
    fn pods(&self, cluster: usize, service: &ServiceKey) -> BTreeSet<String> {
        let name = format!("{}-pods", service.name);
        let api = &self.clusters[cluster].api;
        let slice = api.get(Sort::EndpointSlice, service.namespace.as_str(), &name);
        slice.map(|slice| addresses(slice)).unwrap_or_default()
    }

    /// Peers are the other members; no two imports share a port or an address; nothing of ours is left behind.
    fn look_at_cluster(&mut self, cluster: usize) {
        let id = self.clusters[cluster].id.to_string();
        let names = |api: &crate::api::Api, sort| -> BTreeSet<String> {
            api.all(sort).map(|thing| thing.key().name).collect()
        };
        let mut members = names(&self.hub, Sort::Member);
        members.remove(&id);
        let peers = names(&self.clusters[cluster].api, Sort::Peer);
        if members != peers {
            let says = format!("{id} has peers {peers:?}, the members are {members:?}");
            self.violate(WHAT_IS_GIVEN, says, &[]);
        }
        let mut holders: BTreeMap<(String, u16), BTreeSet<ServiceKey>> = BTreeMap::new();
        for (target, numbers) in self.numbers(cluster) {
            for number in numbers {
                let at = (format!("{:?}", target.port.protocol), number);
                holders.entry(at).or_default().insert(target.service.clone());
            }
        }
        if let Some((at, all)) = holders.iter().find(|(_, all)| all.len() > 1) {
            let says = format!("{at:?} in {id} is for {all:?}");
            self.violate(OWN_PORT, says, &[]);
        }
        let mut ips: BTreeSet<String> = BTreeSet::new();
        let imports = self.clusters[cluster].api.all(Sort::ServiceImport);
        let all = imports.filter_map(|thing| Some(thing.import()?.spec.ips.clone()));
        let shared = all.flatten().find(|ip| !ips.insert(ip.clone()));
        if let Some(ip) = shared {
            self.violate(OWN_ADDRESS, format!("{ip} in {id}"), &[]);
        }
        let sorts = [Sort::EndpointSlice, Sort::Service, Sort::ServiceImport];
        let api = &self.clusters[cluster].api;
        let ours = sorts.iter().flat_map(|sort| api.all(*sort));
        let ours = ours.filter(|thing| thing.meta().namespace.as_deref() != Some(SYSTEM_NAMESPACE));
        let ours = ours.filter_map(|thing| made_for(thing).map(|service| (thing.key(), service)));
        let left = ours.filter(|(_, service)| {
            let (namespace, name) = (service.namespace.as_str(), service.name.as_str());
            api.get(Sort::ServiceImport, namespace, name).is_none()
        });
        let left: Vec<String> = left.map(|(key, _)| key.to_string()).collect();
        if !left.is_empty() {
            self.violate(WHAT_IS_GIVEN, format!("{left:?} is left in {id}"), &left);
        }
    }

    /// Neither a controller that has seen everything nor one that begins has anything to write.
    fn look_at_plans(&mut self, cluster: usize) {
        let Some(at) = self.leader(cluster) else { return };
        let wall = self.wall(self.clusters[cluster].ahead);
        let rules = self.controllers[at].reconciler.observed().rulebook();
        let mut fresh = Observed::with_rules(self.config(cluster), rules);
        for sort in Sort::ALL {
            let source = (!sort.is_on_hub()).then_some(cluster);
            let all = self.api(source).all(*sort);
            let all = all.filter(|thing| crate::world::is_watched(thing));
            let all = all.map(|thing| (**thing).clone()).collect();
            for event in sort.all(all) {
                fresh.take(event);
            }
        }
        let mut undone = None;
        let known = self.controllers[at].reconciler.observed();
        for (who, observed) in [("the leader", known), ("a newcomer", &fresh)] {
            let services = known.known_services().into_iter().chain(fresh.known_services());
            let works = services.flat_map(|service| {
                [Work::Publish(service.clone()), Work::Import(service.clone()), Work::Tell(service)]
            });
            for work in works.chain([Work::Home, Work::Peers]) {
                let steps = plan(observed, &work, wall).steps;
                if !steps.is_empty() {
                    undone = Some((format!("{who} of {cluster}: {work}: {steps:?}"), work));
                }
            }
        }
        if let Some((says, work)) = undone {
            let words = match work {
                Work::Import(service) | Work::Publish(service) | Work::Tell(service) => {
                    words(&service).to_vec()
                }
                _ => Vec::new(),
            };
            self.violate(NOTHING_TO_WRITE, says, &words);
        }
    }

    /// The rules that the set merges by.
    fn revision(&self) -> u32 {
        let told = self.hub.all(Sort::Member).filter_map(|thing| {
            let member = thing.member()?;
            member.status.as_ref()?.merge_revision
        });
        told.min().unwrap_or(1)
    }

    /// Since when an export counts.
    pub(crate) fn since(&self, cluster: usize, service: &ServiceKey) -> Option<i64> {
        let (namespace, name) = (service.namespace.as_str(), service.name.as_str());
        let api = &self.clusters[cluster].api;
        let export = api.get(Sort::ServiceExport, namespace, name)?;
        let hub = format!("cluster-{}", self.clusters[cluster].id);
        let told = self.hub.get(Sort::ClusterExport, &hub, &format!("{namespace}.{name}"));
        let at = |thing: &Thing| convert::created(thing.meta()).as_millis();
        let export = at(export);
        Some(told.map_or(export, |told| export.min(at(told))))
    }
}
