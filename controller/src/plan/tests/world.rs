//! Clusters and a hub that only keep objects, and planners that run as the real loop runs them: by what news
//! touches, one plan at a time.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use kube::Resource;
use landbridge_api::{
    landbridge::{ClusterExport, Peer},
    mcs::ServiceImport,
    watch::{Change, Malformed, ObjectKey},
    wellknown::{GATEWAY_SERVICE, SYSTEM_NAMESPACE},
};
use landbridge_model::{ClusterId, Namespace, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::super::*;
use crate::{
    config::Config,
    observed::{Event, Touched},
    queue::Queue,
};

/// 10:00:00Z, and so many seconds.
pub(super) fn clock(seconds: i64) -> String {
    jiff::Timestamp::from_second(1_767_261_600 + seconds).unwrap().to_string()
}

/// One API server.
#[derive(Default)]
pub(super) struct Api {
    pub(super) objects: BTreeMap<(&'static str, ObjectKey), Value>,
    next_ip: Option<Ipv4Addr>,
    /// Where Services have two families.
    pub(super) next_ip6: Option<Ipv6Addr>,
}

/// One member: its API and its controller.
pub(super) struct Cluster {
    pub(super) api: Api,
    pub(super) observed: Observed,
    pub(super) queue: Queue,
    pub(super) problems: Vec<Problem>,
}

/// A set.
pub(super) struct World {
    pub(super) hub: Api,
    pub(super) clusters: BTreeMap<String, Cluster>,
    pub(super) seconds: i64,
    serial: u64,
    /// Every write, as `paris: create Service shop/derived-…`.
    pub(super) log: Vec<String>,
    /// What definitions of kinds do not name, so that API servers drop it: kinds, and paths in their objects.
    pub(super) pruned: Vec<(&'static str, &'static [&'static str])>,
}

const KINDS: [&str; 14] = [
    "AccessPolicy",
    "ClusterExport",
    "ClusterProfile",
    "EndpointSlice",
    "HubSlice",
    "Lease",
    "Member",
    "MemberLease",
    "Namespace",
    "Peer",
    "Service",
    "ServiceExport",
    "ServiceImport",
    "TrafficPolicy",
];

fn interned(kind: &str) -> &'static str {
    KINDS.into_iter().find(|known| *known == kind).unwrap()
}

fn is_on_hub(kind: &str) -> bool {
    matches!(kind, "ClusterExport" | "HubSlice" | "Member")
}

/// What objects of a kind are kept as: EndpointSlices on the hub are a kind of their own.
fn kept_as(at: &str, kind: &str) -> &'static str {
    interned(match (at, kind) {
        ("hub", "EndpointSlice") => "HubSlice",
        // The only ones that plans write.
        (_, "Lease") => "MemberLease",
        _ => kind,
    })
}

pub(super) fn key(text: &str) -> ObjectKey {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    ObjectKey { namespace: namespace.into(), name: name.into() }
}

pub(super) fn service(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn to_event(kind: &str, change: Change<Value>) -> Event {
    fn typed<K: DeserializeOwned>(change: Change<Value>) -> Change<K> {
        let read = |value: Value| serde_json::from_value(value).map_err(|error| error.to_string());
        match change {
            Change::Apply(value) => {
                let key = value_key(&value);
                match read(value) {
                    Ok(object) => Change::Apply(object),
                    Err(error) => Change::Malformed(Malformed { key, error }),
                }
            }
            Change::Delete(key) => Change::Delete(key),
            Change::Interrupted(reason) => Change::Interrupted(reason),
            Change::Listed => Change::Listed,
            Change::Listing => Change::Listing,
            Change::Malformed(malformed) => Change::Malformed(malformed),
            Change::Resumed => Change::Resumed,
        }
    }
    match kind {
        "AccessPolicy" => Event::AccessPolicy(typed(change)),
        "ClusterExport" => Event::ClusterExport(typed(change)),
        "ClusterProfile" => Event::ClusterProfile(typed(change)),
        "EndpointSlice" => Event::EndpointSlice(typed(change)),
        "HubSlice" => Event::HubSlice(typed(change)),
        "Lease" => Event::Lease(typed(change)),
        "Member" => Event::Member(typed(change)),
        "MemberLease" => Event::MemberLease(typed(change)),
        "Namespace" => Event::Namespace(typed(change)),
        "Peer" => Event::Peer(typed(change)),
        "Service" => Event::Service(typed(change)),
        "ServiceExport" => Event::ServiceExport(typed(change)),
        "ServiceImport" => Event::ServiceImport(typed(change)),
        "TrafficPolicy" => Event::TrafficPolicy(typed(change)),
        other => panic!("kind {other} is not watched"),
    }
}

fn value_key(value: &Value) -> ObjectKey {
    let part = |name: &str| value["metadata"][name].as_str().unwrap_or_default().to_owned();
    ObjectKey { namespace: part("namespace"), name: part("name") }
}

pub(super) fn config(cluster: &str, network: &str) -> Config {
    Config::new(
        ClusterId::parse(cluster).unwrap(),
        "demo".parse().unwrap(),
        network.parse().unwrap(),
        Namespace::parse(SYSTEM_NAMESPACE).unwrap(),
    )
}

impl World {
    /// The set of worked example A: networks, gateways and the first ClusterIP of each cluster.
    pub(super) fn example() -> Self {
        let mut world = Self::empty();
        world.join("paris", "a", &["10.244.1.10"], [10, 96, 3, 3]);
        world.join("tokyo", "b", &["10.244.1.20"], [10, 96, 5, 5]);
        world.join("berlin", "c", &["10.244.3.10", "10.244.3.11"], [10, 96, 7, 7]);
        world.settle();
        world
    }

    /// A cluster that has a Peer which nobody of ours has made.
    pub(super) fn put_before_joining(&mut self, name: &str) {
        self.join(name, "a", &[], [10, 96, 3, 3]);
        self.put(
            name,
            json!({
                "kind": "Peer", "metadata": {"name": "tokyo"},
                "spec": {"generation": 1, "network": "by-hand"},
            }),
        );
        self.put(
            "hub",
            json!({
                "kind": "Member", "metadata": {"name": "tokyo"},
                "spec": {"generation": 1, "network": "b"},
            }),
        );
    }

    pub(super) fn empty() -> Self {
        Self {
            hub: Api::default(),
            clusters: BTreeMap::new(),
            seconds: 60,
            serial: 0,
            log: Vec::new(),
            pruned: Vec::new(),
        }
    }

    pub(super) fn join(&mut self, name: &str, network: &str, gateways: &[&str], ip: [u8; 4]) {
        let mut cluster = Cluster {
            api: Api { next_ip: Some(ip.into()), ..Api::default() },
            observed: Observed::new(config(name, network)),
            queue: Queue::default(),
            problems: Vec::new(),
        };
        cluster.relist(&self.hub);
        self.clusters.insert(name.into(), cluster);
        self.put(
            "hub",
            json!({
                "kind": "Member", "metadata": {"name": name},
                "spec": {"generation": 1, "network": network},
            }),
        );
        for namespace in ["shop", SYSTEM_NAMESPACE] {
            self.put(name, json!({"kind": "Namespace", "metadata": {"name": namespace}}));
        }
        self.gateways(name, gateways);
    }

    /// The controller of a cluster starts anew, and knows what it finds.
    pub(super) fn restart(&mut self, name: &str) {
        let cluster = self.clusters.get_mut(name).unwrap();
        cluster.observed = Observed::new(cluster.observed.config.clone());
        cluster.queue = Queue::default();
        cluster.relist(&self.hub);
    }

    pub(super) fn gateways(&mut self, cluster: &str, addresses: &[&str]) {
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
            .collect();
        self.put(cluster, json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": SYSTEM_NAMESPACE, "name": "gateways",
                "labels": {"kubernetes.io/service-name": GATEWAY_SERVICE}},
            "addressType": "IPv4",
            "ports": [{"name": "link", "protocol": "UDP", "port": 4433}, {"name": "admin", "protocol": "TCP", "port": 9901}],
            "endpoints": endpoints,
        }));
    }

    /// A Service with ports `http 80->8080`; `change` is merged into it.
    #[expect(clippy::needless_pass_by_value, reason = "callers write it on the spot")]
    pub(super) fn service(&mut self, cluster: &str, key: &str, ports: &[&str], change: Value) {
        let ports: Vec<Value> = ports
            .iter()
            .map(|text| {
                let (name, port, target, protocol) = port(text);
                let mut port = json!({"protocol": protocol, "port": port, "targetPort": target});
                if !name.is_empty() {
                    port["name"] = json!(name);
                }
                port
            })
            .collect();
        let key = self::key(key);
        let mut object = json!({
            "kind": "Service", "metadata": {"namespace": key.namespace, "name": key.name},
            "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "ports": ports,
                "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
        });
        merge(&mut object, &change);
        self.put(cluster, object);
    }

    /// What the cluster's own controllers make of a Service and its pods.
    pub(super) fn pods(&mut self, cluster: &str, key: &str, ports: &[&str], pods: &[(&str, bool)]) {
        let key = self::key(key);
        let ports: Vec<Value> = ports
            .iter()
            .map(|text| {
                let (name, _, target, protocol) = port(text);
                json!({"name": name, "protocol": protocol, "port": target})
            })
            .collect();
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|(ip, ready)| {
                json!({
                    "addresses": [ip], "nodeName": "node-1", "zone": "z1",
                    "conditions": {"ready": ready, "serving": ready, "terminating": false},
                    "targetRef": {"kind": "Pod", "name": format!("pod-{}", ip.replace('.', "-"))},
                })
            })
            .collect();
        self.put(cluster, json!({
            "kind": "EndpointSlice",
            "metadata": {"namespace": key.namespace, "name": format!("{}-x7k2p", key.name),
                "labels": {"kubernetes.io/service-name": key.name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        }));
    }

    pub(super) fn export(&mut self, cluster: &str, key: &str, seconds: i64) {
        let key = self::key(key);
        self.put(cluster, json!({
            "kind": "ServiceExport",
            "metadata": {"namespace": key.namespace, "name": key.name, "creationTimestamp": clock(seconds)},
        }));
    }

    /// Somebody writes an object, at `hub` or in a cluster.
    pub(super) fn put(&mut self, at: &str, mut object: Value) {
        self.serial += 1;
        let kind = kept_as(at, object["kind"].as_str().unwrap());
        let key = value_key(&object);
        for path in self.pruned.iter().filter(|(of, _)| *of == kind).map(|(_, path)| path) {
            let (last, parents) = path.split_last().unwrap();
            let parent = parents.iter().try_fold(&mut object, |at, name| at.get_mut(*name));
            if let Some(parent) = parent.and_then(Value::as_object_mut) {
                parent.remove(*last);
            }
        }
        let created = clock(self.seconds);
        let (serial, api) = (self.serial, self.api(at));
        let known = api.objects.get(&(kind, key.clone()));
        // What changes nothing has no new version, and is no news.
        if known.is_some_and(|known| same(known, &object)) {
            return;
        }
        let metadata = object["metadata"].as_object_mut().unwrap();
        let of = |name: &str| known.and_then(|known| known["metadata"].get(name).cloned());
        metadata.insert("resourceVersion".into(), json!(serial.to_string()));
        metadata.insert("uid".into(), of("uid").unwrap_or_else(|| json!(format!("uid-{serial}"))));
        let created = of("creationTimestamp").unwrap_or_else(|| json!(created));
        metadata.entry("creationTimestamp").or_insert(created);
        if matches!(kind, "ClusterProfile" | "Member" | "ServiceExport" | "ServiceImport") {
            let of = |name: &str| known.and_then(|known| known.get(name));
            let is_rewritten = known.is_some() && of("spec") != object.get("spec");
            let before = of("metadata").and_then(|known| known["generation"].as_i64());
            let generation = before.unwrap_or(1) + i64::from(is_rewritten);
            object["metadata"]["generation"] = json!(generation);
        }
        if let Some(status) = known.and_then(|known| known.get("status")).cloned() {
            object.as_object_mut().unwrap().entry("status").or_insert(status);
        }
        if kind == "Service" && object["spec"].get("clusterIP").is_none() {
            let ip = api.next_ip.unwrap();
            api.next_ip = Some(Ipv4Addr::from(u32::from(ip) + 1));
            merge(
                &mut object["spec"],
                &json!({
                    "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                }),
            );
            if let Some(ip6) = api.next_ip6 {
                api.next_ip6 = Some(Ipv6Addr::from(u128::from(ip6) + 1));
                let both = json!({"clusterIPs": [ip, ip6], "ipFamilies": ["IPv4", "IPv6"]});
                merge(&mut object["spec"], &both);
            }
        }
        api.objects.insert((kind, key), object.clone());
        self.tell(at, kind, &Change::Apply(object));
    }

    pub(super) fn delete(&mut self, at: &str, kind: &str, key: &str) {
        let (kind, key) = (kept_as(at, kind), self::key(key));
        let gone = self.api(at).objects.remove(&(kind, key.clone()));
        assert!(gone.is_some(), "{kind} {key} is not there");
        self.tell(at, kind, &Change::Delete(key));
    }

    pub(super) fn api(&mut self, at: &str) -> &mut Api {
        if at == "hub" { &mut self.hub } else { &mut self.clusters.get_mut(at).unwrap().api }
    }

    pub(super) fn tell(&mut self, at: &str, kind: &str, change: &Change<Value>) {
        for (name, cluster) in &mut self.clusters {
            if at == "hub" || at == name {
                cluster.news(to_event(kind, change.clone()));
            }
        }
    }

    /// Lets all planners run until there is nothing more to do; then planning everything anew writes nothing, and
    /// nor does a second planner that starts from the objects alone. Gives back what was written.
    pub(super) fn settle(&mut self) -> Vec<String> {
        let before = self.log.len();
        let mut left = 10_000;
        while left > 0 {
            let names: Vec<String> = self.clusters.keys().cloned().collect();
            let mut quiet = true;
            for name in &names {
                while let Some(work) = self.clusters.get_mut(name).unwrap().queue.take() {
                    quiet = false;
                    left -= 1;
                    assert!(left > 0, "no rest: {work}: {:#?}", &self.log[self.log.len() - 20..]);
                    self.run(name, &work);
                }
            }
            if quiet {
                self.assert_settled();
                return self.log[before..].to_vec();
            }
        }
        panic!("the planners do not come to rest: {:#?}", &self.log[self.log.len() - 20..]);
    }

    pub(super) fn run(&mut self, name: &str, work: &Work) {
        let now = self.now();
        let cluster = self.clusters.get_mut(name).unwrap();
        let mut plan = plan(&cluster.observed, work, now);
        if let Some((service, numbers)) = plan.numbers.take() {
            cluster.observed.ports.hold(&service, numbers, now);
        }
        cluster.problems.append(&mut plan.problems);
        if let Some((key, error)) = plan.tells_malformed.take() {
            cluster.observed.told(key, error);
        }
        let says = std::mem::take(&mut plan.says);
        for write in plan.steps.into_iter().flatten() {
            self.write(name, write);
        }
        let cluster = self.clusters.get_mut(name).unwrap();
        let touched = cluster.observed.said(says);
        cluster.touch(touched);
        self.clusters.get_mut(name).unwrap().queue.done(work);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis((1_767_261_600 + self.seconds) * 1000)
    }

    fn write(&mut self, name: &str, write: Write) {
        let at = |kind: &str, key: &ObjectKey| {
            let is_hub_slice = kind == "EndpointSlice" && key.namespace.starts_with("cluster-");
            if is_on_hub(kind) || is_hub_slice { "hub".to_owned() } else { name.to_owned() }
        };
        match write {
            Write::Create(object) => {
                let object = value(object);
                let (kind, key) = (object["kind"].as_str().unwrap().to_owned(), value_key(&object));
                self.log.push(format!("{name}: create {kind} {key}"));
                let at = at(&kind, &key);
                let slot = (kept_as(&at, &kind), key);
                assert!(!self.api(&at).objects.contains_key(&slot), "{slot:?} is there");
                self.put(&at, object);
            }
            Write::Update(object) => {
                let object = value(object);
                let (kind, key) = (object["kind"].as_str().unwrap().to_owned(), value_key(&object));
                self.log.push(format!("{name}: update {kind} {key}"));
                let at = at(&kind, &key);
                let known = &self.api(&at).objects[&(kept_as(&at, &kind), key)];
                assert_eq!(
                    known["metadata"]["resourceVersion"],
                    object["metadata"]["resourceVersion"]
                );
                self.put(&at, object);
            }
            Write::Delete { kind, key, uid } => {
                let kind = kind.as_str();
                self.log.push(format!("{name}: delete {kind} {key}"));
                let at = at(kind, &key);
                let known = &self.api(&at).objects[&(kept_as(&at, kind), key.clone())];
                assert!(uid.is_none_or(|uid| known["metadata"]["uid"] == json!(uid)));
                self.delete(&at, kind, &key.to_string());
            }
            Write::Probe { service, numbers, .. } => {
                let ports: Vec<String> = numbers.iter().map(|(_, port)| port.to_string()).collect();
                self.log.push(format!("{name}: probe {}", ports.join(",")));
                let cluster = self.clusters.get_mut(name).unwrap();
                cluster.news(Event::Probed(service, numbers));
            }
            Write::Status { kind, key, status } => {
                let kind = kind.as_str();
                self.log.push(format!("{name}: status {kind} {key}"));
                let at = at(kind, &key);
                let mut object = self.api(&at).objects[&(interned(kind), key)].clone();
                // As objects carry times: in whole seconds.
                merge(&mut object["status"], &status);
                self.put(&at, object);
            }
        }
    }

    /// What a controller of `name` knows that starts now.
    pub(super) fn observer(&self, name: &str) -> Observed {
        let mut fresh = self.newcomer(name);
        fresh.news_from(&self.clusters[name].api, &self.hub);
        fresh.observed
    }

    /// What a controller of `name` knows that has read APIs which hold nothing.
    pub(super) fn observer_of_nothing(&self, name: &str) -> Observed {
        let mut fresh = self.newcomer(name);
        fresh.news_from(&Api::default(), &Api::default());
        fresh.observed
    }

    /// What a controller of `name` knows that starts while the hub is away.
    pub(super) fn observer_without_hub(&self, name: &str) -> Observed {
        let mut fresh = self.newcomer(name);
        for kind in KINDS.into_iter().filter(|kind| !is_on_hub(kind)) {
            let objects = &self.clusters[name].api.objects;
            let objects = objects.iter().filter(|((of, _), _)| *of == kind);
            for change in Change::listing(objects.map(|(_, object)| object.clone()), []) {
                fresh.news(to_event(kind, change));
            }
        }
        fresh.observed
    }

    /// What there is to hear for a controller of `name`, one object after the other.
    pub(super) fn news_for(&self, name: &str) -> Vec<Event> {
        let objects = self.clusters[name].api.objects.iter();
        let all = objects.chain(&self.hub.objects);
        all.map(|((kind, _), object)| to_event(kind, Change::Apply(object.clone()))).collect()
    }

    fn newcomer(&self, name: &str) -> Cluster {
        Cluster {
            api: Api::default(),
            observed: Observed::new(self.clusters[name].observed.config.clone()),
            queue: Queue::default(),
            problems: Vec::new(),
        }
    }

    /// API conventions: `observedGeneration` "represents the .metadata.generation that the condition was set based
    /// upon".
    fn assert_judged(&self) {
        let apis = self.clusters.values().map(|cluster| &cluster.api);
        let objects = apis.chain([&self.hub]).flat_map(|api| api.objects.values());
        let conditions = objects.flat_map(|object| {
            let all = object["status"]["conditions"].as_array().into_iter().flatten();
            all.map(move |condition| (object, condition))
        });
        for (object, condition) in conditions {
            // What cannot be read has no generation that is known.
            if matches!(object["kind"].as_str(), Some("ServiceExport" | "ServiceImport"))
                && condition["reason"] != "Malformed"
            {
                let judged = &condition["observedGeneration"];
                assert_eq!(*judged, object["metadata"]["generation"], "{object}");
            }
        }
    }

    fn assert_settled(&mut self) {
        self.assert_judged();
        let now = self.now();
        for (name, cluster) in &self.clusters {
            let mut fresh = self.observer(name);
            // What is told once, and who is silent, is not known from objects.
            let silent = &cluster.observed.silent_members;
            fresh.silent_members.clone_from(silent);
            fresh.told_malformed.clone_from(&cluster.observed.told_malformed);
            fresh.recall(&cluster.observed);
            for observed in [&cluster.observed, &fresh] {
                let services = cluster.observed.known_services();
                let works = services.into_iter().flat_map(|service| {
                    [
                        Work::Publish(service.clone()),
                        Work::Import(service.clone()),
                        Work::Tell(service),
                    ]
                });
                for work in works.chain([Work::Home, Work::Peers]) {
                    let steps = plan(observed, &work, now).steps;
                    assert!(steps.is_empty(), "{name} is not settled: {work}: {steps:#?}");
                }
            }
        }
    }

    /// An object, which must be there.
    pub(super) fn object(&mut self, at: &str, kind: &str, key: &str) -> Value {
        let slot = (kept_as(at, kind), self::key(key));
        let objects = &self.api(at).objects;
        let names: Vec<String> =
            objects.keys().map(|(kind, key)| format!("{kind} {key}")).collect();
        objects.get(&slot).cloned().unwrap_or_else(|| panic!("{slot:?} is not among {names:#?}"))
    }

    /// Names of all objects of a kind that we made in namespace `shop`.
    pub(super) fn names(&mut self, at: &str, kind: &str) -> Vec<String> {
        let objects = self.api(at).objects.iter();
        let ours = objects.filter(|((of, key), object)| {
            *of == kind
                && key.namespace != SYSTEM_NAMESPACE
                && object.to_string().contains("landbridge.dev")
        });
        ours.map(|((_, key), _)| key.name.clone()).collect()
    }

    /// `[tcp-80 -> 10000] [10.244.3.10 ready]`, the notation of the worked examples.
    pub(super) fn slice(&mut self, at: &str, name: &str) -> String {
        let object = self.object(at, "EndpointSlice", &format!("shop/{name}"));
        let ports = object["ports"].as_array().unwrap().iter();
        let ports: Vec<String> =
            ports.map(|p| format!("{} -> {}", p["name"].as_str().unwrap(), p["port"])).collect();
        let endpoints = object["endpoints"].as_array().unwrap().iter().map(|endpoint| {
            let ip = endpoint["addresses"][0].as_str().unwrap();
            match (&endpoint["conditions"]["ready"], &endpoint["conditions"]["serving"]) {
                (Value::Bool(true), _) => format!("{ip} ready"),
                (Value::Bool(false), Value::Bool(false)) => format!("{ip} not ready"),
                (Value::Bool(false), Value::Bool(true)) => format!("{ip} serving"),
                other => panic!("{other:?}"),
            }
        });
        format!("[{}] [{}]", ports.join(", "), endpoints.collect::<Vec<_>>().join(", "))
    }

    /// `Valid=True/Valid`, with the message where there is one.
    pub(super) fn conditions(&mut self, at: &str, kind: &str, key: &str) -> Vec<String> {
        let object = self.object(at, kind, key);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .map(|c| {
                let text = |name: &str| c[name].as_str().unwrap_or_default().to_owned();
                let message = text("message");
                let separator = if message.is_empty() { "" } else { ": " };
                format!(
                    "{}={}/{}{separator}{message}",
                    text("type"),
                    text("status"),
                    text("reason")
                )
            })
            .collect()
    }
}

impl Cluster {
    /// Reads everything, as a controller does that starts.
    fn relist(&mut self, hub: &Api) {
        let api = std::mem::take(&mut self.api);
        self.news_from(&api, hub);
        self.api = api;
    }

    fn news_from(&mut self, local: &Api, hub: &Api) {
        for kind in KINDS {
            let api = if is_on_hub(kind) { hub } else { local };
            let objects = api.objects.iter().filter(|((of, _), _)| *of == kind);
            let objects: Vec<Value> = objects.map(|(_, object)| object.clone()).collect();
            for change in Change::listing(objects, []) {
                self.news(to_event(kind, change));
            }
        }
    }

    pub(super) fn news(&mut self, event: Event) {
        let touched = self.observed.take(event);
        self.touch(touched);
    }

    pub(super) fn touch(&mut self, touched: Touched) {
        self.problems.extend(touched.problems);
        if touched.everything || touched.members {
            for work in [Work::Home, Work::Peers] {
                self.queue.touch(work);
            }
        }
        let services = if touched.everything || touched.gateways {
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
}

fn value(object: Object) -> Value {
    fn of<K: Serialize + Resource<DynamicType = ()>>(object: &K) -> Value {
        let mut value = serde_json::to_value(object).unwrap();
        value["kind"] = json!(K::kind(&()));
        value
    }
    match object {
        Object::ClusterExport(object) => of::<ClusterExport>(&object),
        Object::ClusterProfile(object) => of(&*object),
        Object::EndpointSlice(object) => of(&*object),
        Object::HubSlice(object) => of(&*object),
        Object::Lease(object) => of(&*object),
        Object::Namespace(object) => of(&*object),
        Object::Peer(object) => of::<Peer>(&object),
        Object::Service(object) => of(&*object),
        Object::ServiceImport(object) => of::<ServiceImport>(&object),
    }
}

/// Whether an object says what it said before.
fn same(known: &Value, object: &Value) -> bool {
    let mut known = known.clone();
    let given = object["metadata"].as_object().unwrap();
    let meta = known["metadata"].as_object_mut().unwrap();
    meta.retain(|name, _| given.contains_key(name));
    let mut object = object.clone();
    for one in [&mut known, &mut object] {
        one["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    }
    if object.get("status").is_none() {
        known.as_object_mut().unwrap().remove("status");
    }
    known == object
}

/// RFC 7396.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// `name 80->8080[/UDP]`; `80->8080` has no name.
fn port(text: &str) -> (&str, u16, u16, &str) {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let (name, numbers) = text.split_once(' ').unwrap_or(("", text));
    let (port, target) = numbers.split_once("->").unwrap();
    (name, port.parse().unwrap(), target.parse().unwrap(), protocol)
}
