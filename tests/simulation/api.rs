//! A simulated API server: objects with versions and uids, and what each verb does to them, as the real one has it:
//! conflicts, immutable fields, status apart, defaults and ClusterIPs of Services, namespaces that go.

use std::{collections::BTreeMap, net::Ipv4Addr, rc::Rc};

use k8s_openapi::{
    api::core::v1::{NamespaceStatus, Service},
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
    jiff,
};
use landbridge_api::watch::ObjectKey;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::thing::{Sort, Thing};

/// What an API answers that does not do what it is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: u16,
    pub(crate) message: String,
}

fn refused<T>(code: u16, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { code, message: message.into() })
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: ObjectKey,
    /// What it is now; none where it is gone.
    pub(crate) thing: Option<Rc<Thing>>,
}

type Written = Result<Rc<Thing>, Refused>;

/// One API server.
#[derive(Debug)]
pub(crate) struct Api {
    /// The cluster that it is of, or `hub`.
    pub(crate) name: String,
    things: BTreeMap<Sort, BTreeMap<ObjectKey, Rc<Thing>>>,
    logs: BTreeMap<Sort, Vec<Entry>>,
    version: u64,
    serial: u64,
    /// Its own clock, in milliseconds since 1970.
    pub(crate) wall: i64,
    /// ClusterIPs are drawn from so many, beginning here.
    first_ip: Ipv4Addr,
    addresses: u32,
    drawn: u32,
}

impl Api {
    pub(crate) fn new(name: &str, first_ip: Ipv4Addr, addresses: u32) -> Self {
        Self {
            name: name.to_owned(),
            things: BTreeMap::new(),
            logs: BTreeMap::new(),
            version: 1,
            serial: 0,
            wall: 0,
            first_ip,
            addresses,
            drawn: 0,
        }
    }

    pub(crate) fn find(&self, sort: Sort, key: &ObjectKey) -> Option<&Rc<Thing>> {
        self.things.get(&sort)?.get(key)
    }

    pub(crate) fn get(&self, sort: Sort, namespace: &str, name: &str) -> Option<&Rc<Thing>> {
        self.find(sort, &ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    pub(crate) fn all(&self, sort: Sort) -> impl Iterator<Item = &Rc<Thing>> {
        self.things.get(&sort).into_iter().flat_map(BTreeMap::values)
    }

    /// Every change of a kind so far.
    pub(crate) fn log(&self, sort: Sort) -> &[Entry] {
        self.logs.get(&sort).map_or(&[], Vec::as_slice)
    }

    /// Whether objects can be made in a namespace.
    pub(crate) fn is_open(&self, namespace: &str) -> bool {
        let found = self.get(Sort::Namespace, "", namespace);
        found.is_some_and(|found| found.meta().deletion_timestamp.is_none())
    }

    pub(crate) fn create(&mut self, mut thing: Thing) -> Written {
        let (sort, key) = (thing.sort(), thing.key());
        if sort.is_namespaced() && self.get(Sort::Namespace, "", &key.namespace).is_none() {
            return refused(404, format!("namespaces {:?} not found", key.namespace));
        }
        if sort.is_namespaced() && !self.is_open(&key.namespace) {
            return refused(403, format!("namespace {:?} is being terminated", key.namespace));
        }
        if self.find(sort, &key).is_some() {
            return refused(409, format!("{sort:?} {key} already exists"));
        }
        match &mut thing {
            Thing::ClusterProfile(object) => object.status = None,
            Thing::Member(object) => object.status = None,
            Thing::Namespace(object) => {
                let phase = Some("Active".to_owned());
                object.status = Some(NamespaceStatus { phase, ..NamespaceStatus::default() });
            }
            Thing::Peer(object) => object.status = None,
            Thing::Service(object) => self.complete(object, None)?,
            Thing::ServiceExport(object) => object.status = None,
            Thing::ServiceImport(object) => object.status = None,
            Thing::TrafficPolicy(object) => object.status = None,
            _ => {}
        }
        self.serial += 1;
        let created = Time(jiff::Timestamp::from_second(self.wall.div_euclid(1000)).unwrap());
        let meta = thing.meta_mut();
        meta.uid = Some(format!("{}-{}", self.name, self.serial));
        meta.creation_timestamp = Some(created);
        meta.generation = Some(1);
        Ok(self.commit(thing))
    }

    pub(crate) fn update(&mut self, mut thing: Thing) -> Written {
        let (sort, key) = (thing.sort(), thing.key());
        let Some(current) = self.find(sort, &key).cloned() else {
            return refused(404, format!("{sort:?} {key} not found"));
        };
        let (meta, known) = (thing.meta(), current.meta());
        if meta.resource_version.is_some() && meta.resource_version != known.resource_version {
            return refused(409, format!("{sort:?} {key} has been modified"));
        }
        if meta.uid.is_some() && meta.uid != known.uid {
            return refused(409, format!("{sort:?} {key} is another one"));
        }
        match (&mut thing, &*current) {
            (Thing::ClusterProfile(new), Thing::ClusterProfile(old)) => {
                new.status.clone_from(&old.status);
            }
            (Thing::Member(new), Thing::Member(old)) => new.status.clone_from(&old.status),
            (Thing::Namespace(new), Thing::Namespace(old)) => new.status.clone_from(&old.status),
            (Thing::Peer(new), Thing::Peer(old)) => new.status.clone_from(&old.status),
            (Thing::Service(new), Thing::Service(old)) => self.complete(new, Some(old))?,
            (Thing::ServiceExport(new), Thing::ServiceExport(old)) => {
                new.status.clone_from(&old.status);
            }
            (Thing::ServiceImport(new), Thing::ServiceImport(old)) => {
                new.status.clone_from(&old.status);
            }
            (Thing::TrafficPolicy(new), Thing::TrafficPolicy(old)) => {
                new.status.clone_from(&old.status);
            }
            (Thing::EndpointSlice(new), Thing::EndpointSlice(old))
            | (Thing::HubSlice(new), Thing::HubSlice(old))
                if new.address_type != old.address_type =>
            {
                return refused(422, "addressType: field is immutable");
            }
            _ => {}
        }
        thing.meta_mut().deletion_timestamp.clone_from(&current.meta().deletion_timestamp);
        Ok(self.replace(thing, &current))
    }

    /// Replaces the status of an object by a merge patch.
    pub(crate) fn patch_status(&mut self, sort: Sort, key: &ObjectKey, patch: &Value) -> Written {
        let Some(current) = self.find(sort, key).cloned() else {
            return refused(404, format!("{sort:?} {key} not found"));
        };
        let thing = with_status(&current, patch);
        Ok(self.replace(thing, &current))
    }

    pub(crate) fn delete(
        &mut self,
        sort: Sort,
        key: &ObjectKey,
        uid: Option<&str>,
    ) -> Result<(), Refused> {
        let Some(current) = self.find(sort, key).cloned() else {
            return refused(404, format!("{sort:?} {key} not found"));
        };
        if uid.is_some_and(|uid| uid != current.uid()) {
            return refused(409, format!("{sort:?} {key} is another one"));
        }
        if let Thing::Namespace(namespace) = &*current {
            let mut namespace = namespace.clone();
            let phase = Some("Terminating".to_owned());
            namespace.status = Some(NamespaceStatus { phase, ..NamespaceStatus::default() });
            let now = Time(jiff::Timestamp::from_second(self.wall.div_euclid(1000)).unwrap());
            namespace.metadata.deletion_timestamp.get_or_insert(now);
            self.replace(Thing::Namespace(namespace), &current);
            return Ok(());
        }
        self.remove(sort, key);
        Ok(())
    }

    /// Keeps something else than what was written, and tells nobody.
    pub(crate) fn tamper(&mut self, thing: Thing) {
        let things = self.things.entry(thing.sort()).or_default();
        things.insert(thing.key(), Rc::new(thing));
    }

    /// Does one step of what the controllers beside an API server do: empties namespaces that go, and takes away
    /// what belongs to objects that are gone. What was taken away, if there was anything to do.
    pub(crate) fn collect(&mut self) -> Option<(Sort, ObjectKey, Rc<Thing>)> {
        let going = self.all(Sort::Namespace);
        let going = going.filter(|namespace| namespace.meta().deletion_timestamp.is_some());
        let going: Vec<ObjectKey> = going.map(|namespace| namespace.key()).collect();
        let held = self.all(Sort::Service).find(|service| {
            let owners = service.meta().owner_references.iter().flatten();
            let mut owners = owners.filter(|owner| owner.kind == "ServiceImport");
            owners.any(|owner| {
                let namespace = service.meta().namespace.as_deref().unwrap_or_default();
                let import = self.get(Sort::ServiceImport, namespace, &owner.name);
                import.is_none_or(|import| import.uid() != owner.uid)
            })
        });
        if let Some(key) = held.map(|service| service.key()) {
            let gone = self.remove(Sort::Service, &key)?;
            return Some((Sort::Service, key, gone));
        }
        if let Some(namespace) = going.into_iter().next() {
            let within = self.things.iter().find_map(|(sort, things)| {
                let key = things.keys().find(|key| key.namespace == namespace.name)?;
                Some((*sort, key.clone()))
            });
            let (sort, key) = within.unwrap_or((Sort::Namespace, namespace));
            let gone = self.remove(sort, &key)?;
            return Some((sort, key, gone));
        }
        None
    }

    fn replace(&mut self, mut thing: Thing, current: &Rc<Thing>) -> Rc<Thing> {
        let known = current.meta();
        let changed = is_wished_otherwise(&thing, current);
        let meta = thing.meta_mut();
        meta.uid.clone_from(&known.uid);
        meta.creation_timestamp.clone_from(&known.creation_timestamp);
        meta.resource_version.clone_from(&known.resource_version);
        meta.generation = known.generation.map(|number| number + i64::from(changed));
        if thing == **current {
            return Rc::clone(current);
        }
        self.commit(thing)
    }

    fn commit(&mut self, mut thing: Thing) -> Rc<Thing> {
        self.version += 1;
        thing.meta_mut().resource_version = Some(self.version.to_string());
        let (sort, key, thing) = (thing.sort(), thing.key(), Rc::new(thing));
        self.things.entry(sort).or_default().insert(key.clone(), Rc::clone(&thing));
        let entry = Entry { key, thing: Some(Rc::clone(&thing)) };
        self.logs.entry(sort).or_default().push(entry);
        thing
    }

    fn remove(&mut self, sort: Sort, key: &ObjectKey) -> Option<Rc<Thing>> {
        self.version += 1;
        self.logs.entry(sort).or_default().push(Entry { key: key.clone(), thing: None });
        self.things.entry(sort).or_default().remove(key)
    }

    /// Gives a Service its defaults and its address.
    fn complete(&mut self, service: &mut Service, old: Option<&Service>) -> Result<(), Refused> {
        let old = old.and_then(|old| old.spec.as_ref());
        let spec = service.spec.get_or_insert_default();
        spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
        if spec.type_.as_deref() == Some("ExternalName") {
            return Ok(());
        }
        spec.session_affinity.get_or_insert_with(|| "None".to_owned());
        if spec.session_affinity.as_deref() == Some("None") {
            spec.session_affinity_config = None;
        }
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
        for port in spec.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
            port.target_port.get_or_insert(IntOrString::Int(port.port));
        }
        let had = old.and_then(|old| old.cluster_ip.clone());
        if spec.cluster_ip.is_some() && had.is_some() && spec.cluster_ip != had {
            return refused(422, "spec.clusterIPs[0]: may not change once set");
        }
        let asked = spec.cluster_ip.clone().or(had);
        let address = match asked {
            Some(address) => address,
            None => self.draw_address()?,
        };
        spec.cluster_ips = Some(vec![address.clone()]);
        spec.cluster_ip = Some(address);
        spec.ip_families = Some(vec!["IPv4".to_owned()]);
        Ok(())
    }

    /// The next free address; one that was given back is given out again as soon as its turn comes.
    fn draw_address(&mut self) -> Result<String, Refused> {
        for _ in 0..self.addresses {
            self.drawn = (self.drawn + 1) % self.addresses;
            let address = Ipv4Addr::from(u32::from(self.first_ip) + self.drawn).to_string();
            let is_taken = self.all(Sort::Service).any(|thing| {
                let spec = thing.service().and_then(|service| service.spec.as_ref());
                spec.is_some_and(|spec| spec.cluster_ip.as_ref() == Some(&address))
            });
            if !is_taken {
                return Ok(address);
            }
        }
        refused(500, "failed to allocate a serviceIP: range is full")
    }
}

/// What `metadata.generation` counts changes of.
fn is_wished_otherwise(new: &Thing, old: &Thing) -> bool {
    match (new, old) {
        (Thing::ClusterExport(new), Thing::ClusterExport(old)) => new.spec != old.spec,
        (Thing::ClusterProfile(new), Thing::ClusterProfile(old)) => new.spec != old.spec,
        (Thing::Member(new), Thing::Member(old)) => new.spec != old.spec,
        (Thing::Peer(new), Thing::Peer(old)) => new.spec != old.spec,
        (Thing::ServiceExport(new), Thing::ServiceExport(old)) => new.spec != old.spec,
        (Thing::ServiceImport(new), Thing::ServiceImport(old)) => new.spec != old.spec,
        (Thing::EndpointSlice(new), Thing::EndpointSlice(old))
        | (Thing::HubSlice(new), Thing::HubSlice(old)) => {
            new.ports != old.ports || new.endpoints != old.endpoints
        }
        _ => false,
    }
}

/// An object with its status patched.
pub(crate) fn with_status(current: &Thing, patch: &Value) -> Thing {
    let mut thing = current.clone();
    match &mut thing {
        Thing::ClusterProfile(object) => object.status = patched(object.status.as_ref(), patch),
        Thing::Member(object) => object.status = patched(object.status.as_ref(), patch),
        Thing::ServiceExport(object) => object.status = patched(object.status.as_ref(), patch),
        Thing::ServiceImport(object) => object.status = patched(object.status.as_ref(), patch),
        Thing::TrafficPolicy(object) => object.status = patched(object.status.as_ref(), patch),
        _ => {}
    }
    thing
}

fn patched<S: DeserializeOwned + Serialize>(status: Option<&S>, patch: &Value) -> Option<S> {
    let mut value = serde_json::to_value(status).unwrap();
    merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
