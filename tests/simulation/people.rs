//! What people do: to their own services, to ours, to members, and to the machines that all of it runs on.

use landbridge_api::{
    watch::ObjectKey,
    wellknown::{
        GATEWAY_PORT_ADMIN, GATEWAY_SERVICE, IMPORT, LANDBRIDGE, MANAGED_BY, SYSTEM_NAMESPACE,
    },
};
use landbridge_controller::election::LEASE;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    rules::By,
    thing::{Sort, Thing},
    versions,
    work::Op,
    world::{Cluster, Mischief, Weather, World},
};

/// The services that there may be.
pub(crate) const SERVICES: [(&str, &str); 5] =
    [("shop", "web"), ("shop", "db"), ("shop", "api"), ("ops", "web"), ("ops", "log")];
/// The ports that they may have: name, number, protocol.
const PORTS: [(&str, i32, &str); 8] = [
    ("http", 80, "TCP"),
    ("http", 81, "TCP"),
    ("grpc", 9090, "TCP"),
    ("web", 80, "TCP"),
    ("admin", 9000, "TCP"),
    ("dns", 53, "UDP"),
    ("http", 80, "UDP"),
    ("pg", 5432, "TCP"),
];

fn typed<T: DeserializeOwned>(value: Value) -> Box<T> {
    Box::new(serde_json::from_value(value).unwrap())
}

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

impl World {
    /// People write; what an API refuses them, they leave.
    fn write(&mut self, api: Option<usize>, op: Op) {
        drop(self.change(api, By::People, op));
    }

    fn put(&mut self, api: Option<usize>, mut thing: Thing) {
        let current = self.api(api).find(thing.sort(), &thing.key()).cloned();
        let op = match current {
            None => Op::Create(thing),
            Some(current) => {
                let meta = thing.meta_mut();
                meta.uid.clone_from(&current.meta().uid);
                meta.resource_version.clone_from(&current.meta().resource_version);
                Op::Update(thing)
            }
        };
        self.write(api, op);
    }

    fn namespace(&mut self, api: Option<usize>, name: &str) {
        let thing = json!({"metadata": {"name": name}});
        self.put(api, Thing::Namespace(typed(thing)));
    }

    /// A cluster begins: its namespaces, its gateways, and its place in the set.
    pub(crate) fn found(&mut self, cluster: usize) {
        for name in ["kube-system", SYSTEM_NAMESPACE, "shop", "ops"] {
            self.namespace(Some(cluster), name);
        }
        self.gateways(cluster);
        self.join(cluster);
    }

    fn gateways(&mut self, cluster: usize) {
        let endpoints = self.clusters[cluster].gateways.iter();
        let endpoints: Vec<Value> = endpoints
            .map(|at| json!({"addresses": [at.ip()], "conditions": {"ready": true}}))
            .collect();
        let slice = json!({
            "metadata": {"namespace": SYSTEM_NAMESPACE, "name": "gateways",
                "labels": {"kubernetes.io/service-name": GATEWAY_SERVICE}},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": GATEWAY_PORT_ADMIN, "protocol": "TCP", "port": 9901}],
        });
        self.put(Some(cluster), Thing::EndpointSlice(typed(slice)));
    }

    fn join(&mut self, cluster: usize) {
        let id = self.clusters[cluster].id.to_string();
        self.namespace(None, &format!("cluster-{id}"));
        self.member(cluster, false, None);
    }

    fn member(&mut self, cluster: usize, suspended: bool, namespaces: Option<&[&str]>) {
        let Cluster { id, network, .. } = &self.clusters[cluster];
        let member = json!({
            "metadata": {"name": id.as_str()},
            "spec": {"generation": 1, "network": network, "suspended": suspended, "namespaces": namespaces},
        });
        self.put(None, Thing::Member(typed(member)));
    }

    /// Somebody does something.
    pub(crate) fn act(&mut self) {
        let cluster = usize::try_from(self.chance.below(self.clusters.len() as u64)).unwrap();
        let (namespace, name) = *self.chance.pick(&SERVICES);
        match self.chance.below(100) {
            0..=14 => self.put_service(cluster, namespace, name),
            15..=30 => self.export(cluster, namespace, name),
            31..=33 => self.guard(cluster, namespace, name),
            34 => self.steer(cluster, namespace, name),
            35..=42 => self.unexport(cluster, namespace, name),
            43..=58 => self.scale(cluster, namespace, name),
            59..=62 => self.remove_service(cluster, namespace, name),
            63..=66 => self.turn_namespace(cluster, namespace),
            67..=74 => self.meddle(cluster),
            75..=80 => self.turn_member(cluster),
            81..=84 => self.turn_gateway(cluster),
            85..=88 => self.cut(),
            89..=90 => self.hush(),
            91..=95 => {
                let at = self.chance.below(self.controllers.len() as u64);
                let at = usize::try_from(at).unwrap();
                // Whoever begins when somebody has just deleted the Lease cannot know that there was one.
                let begun = self.clusters[self.controllers[at].cluster].unleased;
                if begun == 0 || self.now > begun + 4_000 {
                    self.restart(at);
                }
            }
            96..=97 => self.upgrade(cluster),
            _ => self.weather = self.draw_weather(),
        }
    }

    pub(crate) fn draw_weather(&mut self) -> Weather {
        Weather {
            latency: *self.chance.pick(&[5, 50, 300, 1_500]),
            errors: *self.chance.pick(&[0, 2, 10]),
            lost: *self.chance.pick(&[0, 2, 10]),
            expired: *self.chance.pick(&[0, 1, 3]),
            twice: *self.chance.pick(&[0, 5]),
        }
    }

    /// Everything that is broken is mended; what people have decided stays.
    pub(crate) fn heal(&mut self) {
        self.trace.note(self.now, "all is calm".to_owned());
        self.weather = Weather::CALM;
        for controller in &mut self.controllers {
            controller.cut = [0, 0];
            controller.hushed = [(0, 0); 2];
        }
        self.hear_all();
        for cluster in 0..self.clusters.len() {
            self.clusters[cluster].mute.clear();
        }
    }

    fn put_service(&mut self, cluster: usize, namespace: &str, name: &str) {
        let kind = match self.chance.below(10) {
            0..=5 => "ClusterIP",
            6 => "NodePort",
            7..=8 => "None",
            _ => "ExternalName",
        };
        let current = self.clusters[cluster].api.get(Sort::Service, namespace, name);
        let is_headless = current.and_then(|thing| thing.service()).is_some_and(|service| {
            let spec = service.spec.as_ref();
            spec.is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
        });
        let is_external = |kind: &str| kind == "ExternalName";
        if current.is_some() && (is_headless != (kind == "None") || is_external(kind)) {
            self.write(Some(cluster), Op::Delete(Sort::Service, key(namespace, name), None));
        }
        let ports = self.draw_ports();
        let affinity = *self.chance.pick(&["None", "None", "None", "ClientIP"]);
        let timeout = *self.chance.pick(&[10, 10_800]);
        let mut spec = json!({
            "type": kind, "ports": ports, "sessionAffinity": affinity,
            "internalTrafficPolicy": *self.chance.pick(&["Cluster", "Cluster", "Local"]),
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}},
        });
        match kind {
            "ExternalName" => spec = json!({"type": kind, "externalName": "a.example"}),
            "None" => {
                spec["type"] = json!("ClusterIP");
                spec["clusterIP"] = json!("None");
            }
            _ => {}
        }
        let thing = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        self.put(Some(cluster), Thing::Service(typed(thing)));
        self.scale(cluster, namespace, name);
    }

    fn draw_ports(&mut self) -> Vec<Value> {
        let count = self.chance.between(1, 3);
        let mut ports: Vec<(&str, i32, &str)> = Vec::new();
        for _ in 0..count {
            let port = *self.chance.pick(&PORTS);
            let is_new = |(name, number, protocol): &(&str, i32, &str)| {
                *name != port.0 && (*number, *protocol) != (port.1, port.2)
            };
            if ports.iter().all(is_new) {
                ports.push(port);
            }
        }
        let unnamed = ports.len() == 1 && self.chance.percent(20);
        let ports = ports.into_iter().map(|(name, port, protocol)| {
            let name = if unnamed { Value::Null } else { json!(name) };
            json!({"name": name, "port": port, "protocol": protocol})
        });
        ports.collect()
    }

    /// Pods of a service come, go, and become ready or not, as the cluster's own controllers tell it.
    fn scale(&mut self, cluster: usize, namespace: &str, name: &str) {
        let found = self.clusters[cluster].api.get(Sort::Service, namespace, name).cloned();
        let spec = found.as_deref().and_then(Thing::service).and_then(|one| one.spec.clone());
        let Some(spec) = spec.filter(|spec| spec.type_.as_deref() != Some("ExternalName")) else {
            let gone = key(namespace, &format!("{name}-pods"));
            return self.write(Some(cluster), Op::Delete(Sort::EndpointSlice, gone, None));
        };
        let ports = spec.ports.iter().flatten().map(|port| {
            let name = port.name.clone().unwrap_or_default();
            json!({"name": name, "port": port.port + 8_000, "protocol": port.protocol})
        });
        let ports: Vec<Value> = ports.collect();
        let count = self.chance.below(4);
        let part = cluster;
        let endpoints = (0..count).map(|at| {
            let pod = self.clusters[cluster].pods;
            self.clusters[cluster].pods += 1;
            json!({
                "addresses": [format!("10.{}.{}.{}", 100 + part, pod / 200, pod % 200 + 1)],
                "conditions": {"ready": self.chance.percent(80)},
                "hostname": format!("pod-{at}"),
                "targetRef": {"kind": "Pod", "uid": format!("pod-{part}-{pod}")},
            })
        });
        let endpoints: Vec<Value> = endpoints.collect();
        let slice = json!({
            "metadata": {"namespace": namespace, "name": format!("{name}-pods"),
                "labels": {"kubernetes.io/service-name": name, (MANAGED_BY): "endpointslice-controller.k8s.io"}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        });
        self.put(Some(cluster), Thing::EndpointSlice(typed(slice)));
    }

    fn export(&mut self, cluster: usize, namespace: &str, name: &str) {
        if self.clusters[cluster].api.get(Sort::Service, namespace, name).is_none() {
            self.put_service(cluster, namespace, name);
        }
        let labels = *self.chance.pick(&["red", "red", "blue"]);
        let spec = if self.chance.percent(30) {
            json!({"exportedLabels": {"team": labels}, "exportedAnnotations": {"note": labels}})
        } else {
            Value::Null
        };
        let thing = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        self.put(Some(cluster), Thing::ServiceExport(typed(thing)));
    }

    fn unexport(&mut self, cluster: usize, namespace: &str, name: &str) {
        self.write(Some(cluster), Op::Delete(Sort::ServiceExport, key(namespace, name), None));
    }

    fn remove_service(&mut self, cluster: usize, namespace: &str, name: &str) {
        self.write(Some(cluster), Op::Delete(Sort::Service, key(namespace, name), None));
        self.scale(cluster, namespace, name);
    }

    fn turn_namespace(&mut self, cluster: usize, namespace: &str) {
        if self.clusters[cluster].api.get(Sort::Namespace, "", namespace).is_some() {
            self.write(Some(cluster), Op::Delete(Sort::Namespace, key("", namespace), None));
        } else {
            self.namespace(Some(cluster), namespace);
        }
    }

    /// People edit and delete what is ours.
    fn meddle(&mut self, cluster: usize) {
        let is_ours = |thing: &Thing| match thing {
            Thing::ServiceImport(_) => true,
            Thing::EndpointSlice(_) => thing.label(MANAGED_BY) == Some(LANDBRIDGE),
            Thing::Service(_) => thing.annotation(IMPORT).is_some(),
            _ => false,
        };
        if self.chance.percent(10) {
            self.clusters[cluster].unleased = self.now;
            let lease = key(SYSTEM_NAMESPACE, LEASE);
            return self.write(Some(cluster), Op::Delete(Sort::Lease, lease, None));
        }
        let sorts = [Sort::EndpointSlice, Sort::Service, Sort::ServiceImport];
        let ours = sorts.iter().flat_map(|sort| self.clusters[cluster].api.all(*sort));
        let ours: Vec<Thing> =
            ours.filter(|thing| is_ours(thing)).map(|thing| (**thing).clone()).collect();
        if ours.is_empty() {
            return;
        }
        let mut thing = self.chance.pick(&ours).clone();
        if self.chance.percent(40) {
            return self.write(Some(cluster), Op::Delete(thing.sort(), thing.key(), None));
        }
        match &mut thing {
            Thing::EndpointSlice(slice) => slice.endpoints.clear(),
            Thing::Service(service) => {
                let spec = service.spec.get_or_insert_default();
                spec.internal_traffic_policy = Some("Local".to_owned());
            }
            Thing::ServiceImport(import) => import.spec.ports.clear(),
            _ => {}
        }

        self.put(Some(cluster), thing);
    }

    /// Members are suspended, restricted, removed, and return.
    fn turn_member(&mut self, cluster: usize) {
        let id = self.clusters[cluster].id.to_string();
        let home = format!("cluster-{id}");
        let found = self.hub.get(Sort::Member, "", &id).is_some();
        match self.chance.below(4) {
            _ if !found => {
                if self.hub.is_open(&home) || self.hub.get(Sort::Namespace, "", &home).is_none() {
                    self.join(cluster);
                }
            }
            0 => self.member(cluster, true, None),
            1 => self.member(cluster, false, Some(&["shop"])),
            2 => self.member(cluster, false, None),
            _ => {
                self.write(None, Op::Delete(Sort::Member, key("", &id), None));
                if self.chance.percent(50) {
                    self.write(None, Op::Delete(Sort::Namespace, key("", &home), None));
                }
            }
        }
    }

    /// An AccessPolicy for a service or for all of a namespace comes, or goes. What it allows is the gateways' affair.
    fn guard(&mut self, cluster: usize, namespace: &str, name: &str) {
        let (policy, service) =
            if self.chance.percent(70) { (name, Some(name)) } else { ("everything", None) };
        let key = key(namespace, policy);
        if self.clusters[cluster].api.find(Sort::AccessPolicy, &key).is_some() {
            return self.write(Some(cluster), Op::Delete(Sort::AccessPolicy, key, None));
        }
        let thing = json!({"metadata": {"namespace": namespace, "name": policy}, "spec": {"service": service}});
        self.put(Some(cluster), Thing::AccessPolicy(typed(thing)));
    }

    /// A TrafficPolicy for a service comes, or goes. Only whether it weighs clusters is the controller's affair.
    fn steer(&mut self, cluster: usize, namespace: &str, name: &str) {
        let key = key(namespace, name);
        if self.clusters[cluster].api.find(Sort::TrafficPolicy, &key).is_some() {
            return self.write(Some(cluster), Op::Delete(Sort::TrafficPolicy, key, None));
        }
        let spec = if self.chance.percent(70) {
            json!({"service": name, "locality": "Anywhere"})
        } else {
            json!({"service": name, "retries": 1})
        };
        let thing = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        self.put(Some(cluster), Thing::TrafficPolicy(typed(thing)));
    }

    fn turn_gateway(&mut self, cluster: usize) {
        let all = self.clusters[cluster].gateways.clone();
        let gateway = *self.chance.pick(&all);
        let state = &mut self.clusters[cluster];
        let is_back = state.mute.remove(&gateway);
        if !is_back {
            state.mute.insert(gateway);
        }
        let says = if is_back { "answers again" } else { "falls silent" };
        self.trace.note(self.now, format!("gateway {gateway} of {id} {says}", id = state.id));
    }

    /// A controller does not reach the hub, or its own API, for some seconds.
    fn cut(&mut self) {
        let at = usize::try_from(self.chance.below(self.controllers.len() as u64)).unwrap();
        let side = usize::try_from(self.chance.below(2)).unwrap();
        let seconds = self.chance.between(1, 15);
        self.controllers[at].cut[side] = self.now + seconds * 1_000;
        let name = self.controllers[at].name.clone();
        let far = ["the hub", "its API"][side];
        self.trace.note(self.now, format!("{name} does not reach {far} for {seconds} s"));
    }

    /// The hub, or its own API, vanishes for a controller without a word: no connection ends, and nothing comes.
    fn hush(&mut self) {
        let at = usize::try_from(self.chance.below(self.controllers.len() as u64)).unwrap();
        let side = usize::try_from(self.chance.below(2)).unwrap();
        let seconds = self.chance.between(5, 15);
        self.controllers[at].hushed[side] = (self.now, self.now + seconds * 1_000);
        let name = self.controllers[at].name.clone();
        let far = ["the hub", "its API"][side];
        self.trace.note(self.now, format!("{name} hears nothing of {far} for {seconds} s"));
    }

    /// The controllers of a cluster are replaced by those of the other version, one after the other or at once.
    fn upgrade(&mut self, cluster: usize) {
        let is_old = self.clusters[cluster].rules.newest() == versions::OLD.newest();
        let unleased = self.clusters[cluster].unleased;
        let is_soon = unleased > 0 && self.now <= unleased + 4_000;
        if is_soon || self.mischief != Mischief::None {
            return;
        }
        self.clusters[cluster].rules = if is_old { versions::NEW } else { versions::OLD };
        let id = self.clusters[cluster].id.clone();
        let way = if is_old { "upgraded" } else { "downgraded" };
        self.trace.note(self.now, format!("{id} is {way}"));
        for at in 0..self.controllers.len() {
            let is_ours = self.controllers[at].cluster == cluster;
            if is_ours && self.chance.percent(85) {
                self.restart(at);
            }
        }
    }
}
