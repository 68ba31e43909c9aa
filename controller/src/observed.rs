//! Pure: everything that the controller has seen, of its own cluster and of the hub, and what each news touches.
//!
//! News enters as [`Event`]s, from watches and from the answers to the controller's own writes alike, with one
//! owner. The order in which news of different objects comes does not matter, and a relist says the same as the
//! changes that led to it. Nothing is decided here.

mod access;
mod bounds;
mod hub;
mod inventory;
mod namespaces;
mod packed;
mod said;
mod services;
mod slices;
mod snapshot;
mod table;
mod traffic;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use kube::Resource;
use landbridge_api::{
    access::AccessPolicy,
    inventory::ClusterProfile,
    landbridge::{ClusterExport, Member, Peer, PeerSpec},
    mcs::{ServiceExport, ServiceImport},
    served::McsVersion,
    traffic::TrafficPolicy,
    watch::{Change, ObjectKey},
    wellknown::{cluster_export_name, hub_namespace},
};
use landbridge_model::{ClusterId, Rulebook, ServiceKey};

use crate::{
    config::Config,
    plan::Kind,
    ports::{Number, Ports},
};
pub(crate) use hub::HubSliceView;
pub(crate) use packed::PackedSlice;
pub use said::Said;
use table::Taken;
pub(crate) use table::{Row, Table};
pub(crate) use view::{
    ClusterExportView, ExportView, Form, MemberView, NamespaceView, ServiceView, SliceRole,
    SliceView, is_ours,
};

/// News of one kind of object.
#[derive(Clone, Debug)]
pub enum Event {
    /// Who may call what this cluster exports.
    AccessPolicy(Change<AccessPolicy>),
    /// From the hub: what members export.
    ClusterExport(Change<ClusterExport>),
    /// What tools are told of members.
    ClusterProfile(Change<ClusterProfile>),
    /// Endpoints: of pods, of gateways, and the slices that we make.
    EndpointSlice(Change<EndpointSlice>),
    /// From the hub: the pods of what members export, where they are told.
    HubSlice(Change<EndpointSlice>),
    /// What the cluster's API server says which version it has.
    Kubernetes(String),
    /// Leases in the system namespace, by which gateways show that they live.
    Lease(Change<Lease>),
    /// From the hub: who is a member.
    Member(Change<Member>),
    /// The Leases that tell tools of which members something is heard.
    MemberLease(Change<Lease>),
    /// Which namespaces exist.
    Namespace(Change<Namespace>),
    /// The peers that gateways are told of.
    Peer(Change<Peer>),
    /// Gateways were asked whether they listen on these numbers, and there is nothing more to wait for.
    Probed(ServiceKey, BTreeSet<Number>),
    /// Services: of users, and those that we make.
    Service(Change<Service>),
    /// Which version of the Multi-Cluster Services API is served here.
    Served(McsVersion),
    /// What this cluster wants to export.
    ServiceExport(Change<ServiceExport>),
    /// What this cluster imports.
    ServiceImport(Change<ServiceImport>),
    /// How calls to what it imports are spread.
    TrafficPolicy(Change<TrafficPolicy>),
}

/// Something that is not as it should be, told once when it is found.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// What it is about: a kind, and an object's name.
    pub about: String,
    /// A sentence that says whose fault it is and what to do.
    pub sentence: String,
}

/// What has to be thought about again after some news.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Touched {
    /// Every service, every peer.
    pub everything: bool,
    /// The gateways of this cluster: every service, but not for each gateway anew where many come and go.
    pub gateways: bool,
    /// What tools are told of members.
    pub inventory: bool,
    /// Members, and the peers that they become.
    pub members: bool,
    /// These services.
    pub services: BTreeSet<ServiceKey>,
    /// What was found to be wrong.
    pub problems: Vec<Problem>,
}

/// Why the hub does not have an export as it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Whether the hub has said no, rather than nothing.
    pub refused: bool,
    /// What it said.
    pub message: String,
}

/// Why services of a namespace are not imported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Withheld {
    /// It is not here, or about to go.
    NoNamespace,
    /// It is here, and the controller was told to import of others.
    NotSelected,
}

/// Everything that was seen.
#[derive(Debug, PartialEq)]
pub struct Observed {
    access_policies: Table<access::AccessView>,
    pub(crate) config: Config,
    pub(crate) cluster_exports: Table<ClusterExportView>,
    pub(crate) cluster_profiles: Table<ClusterProfile>,
    /// Imports for whose Service the API server has no address, and what it said.
    pub(crate) exhausted: BTreeMap<ServiceKey, String>,
    pub(crate) hub_slices: Table<HubSliceView>,
    /// The version of Kubernetes here, once its API server has said it.
    pub(crate) kubernetes: Option<String>,
    pub(crate) leases: Table<String>,
    /// The version of the Multi-Cluster Services API that objects here are read and written in.
    pub(crate) mcs: McsVersion,
    pub(crate) member_leases: Table<Lease>,
    pub(crate) members: Table<MemberView>,
    /// Gateways that do not answer, by where they are asked.
    pub(crate) mute_gateways: BTreeSet<SocketAddr>,
    pub(crate) namespaces: Table<NamespaceView>,
    pub(crate) peers: Table<(PeerSpec, Peer)>,
    pub(crate) ports: Ports,
    pub(crate) refusals: BTreeMap<ServiceKey, Refusal>,
    rules: Rulebook,
    pub(crate) service_exports: Table<ExportView>,
    pub(crate) service_imports: Table<ServiceImport>,
    pub(crate) services: Table<ServiceView>,
    pub(crate) silent_gateways: BTreeSet<String>,
    pub(crate) silent_members: BTreeSet<String>,
    pub(crate) slices: Table<SliceView>,
    /// Malformed ServiceExports that have been told so, and what they were told.
    pub(crate) told_malformed: BTreeMap<ObjectKey, String>,
    traffic_policies: Table<TrafficPolicy>,
    exports: BTreeMap<ServiceKey, BTreeSet<ObjectKey>>,
    /// The Services that we have made.
    derived: BTreeSet<ObjectKey>,
    gateway_slices: BTreeSet<ObjectKey>,
    /// Imports for which a Service is being made.
    making: BTreeSet<ServiceKey>,
    our_services: BTreeMap<ServiceKey, BTreeSet<ObjectKey>>,
    our_slices: BTreeMap<ServiceKey, BTreeSet<ObjectKey>>,
    pod_slices: BTreeMap<ServiceKey, BTreeSet<ObjectKey>>,
    /// What was last asked of objects, and in which version the answer was.
    said: BTreeMap<said::About, (String, u64)>,
    slices_on_hub: BTreeMap<ServiceKey, BTreeSet<ObjectKey>>,
}

impl Observed {
    /// Nothing yet, in the cluster that `config` names.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_rules(config, Rulebook::OURS)
    }

    /// The same, by a controller that knows these merge rules.
    #[must_use]
    pub fn with_rules(config: Config, rules: Rulebook) -> Self {
        Self {
            access_policies: Table::default(),
            config,
            cluster_exports: Table::default(),
            cluster_profiles: Table::default(),
            exports: BTreeMap::new(),
            derived: BTreeSet::new(),
            exhausted: BTreeMap::new(),
            gateway_slices: BTreeSet::new(),
            making: BTreeSet::new(),
            hub_slices: Table::default(),
            kubernetes: None,
            leases: Table::default(),
            mcs: McsVersion::default(),
            member_leases: Table::default(),
            members: Table::default(),
            mute_gateways: BTreeSet::new(),
            namespaces: Table::default(),
            our_services: BTreeMap::new(),
            our_slices: BTreeMap::new(),
            peers: Table::default(),
            pod_slices: BTreeMap::new(),
            ports: Ports::default(),
            refusals: BTreeMap::new(),
            rules,
            said: BTreeMap::new(),
            service_exports: Table::default(),
            service_imports: Table::default(),
            services: Table::default(),
            silent_gateways: BTreeSet::new(),
            silent_members: BTreeSet::new(),
            slices: Table::default(),
            slices_on_hub: BTreeMap::new(),
            told_malformed: BTreeMap::new(),
            traffic_policies: Table::default(),
        }
    }

    /// Takes in news and says what it touches.
    pub fn take(&mut self, event: Event) -> Touched {
        let before = (self.is_local_synced(), self.is_hub_synced());
        let mut touched = match event {
            Event::AccessPolicy(change) => self.take_access_policy(change),
            Event::ClusterExport(change) => self.take_cluster_export(change),
            Event::ClusterProfile(change) => self.take_cluster_profile(change),
            Event::EndpointSlice(change) => self.take_slice(change),
            Event::HubSlice(change) => self.take_hub_slice(change),
            Event::Kubernetes(version) => self.take_kubernetes(version),
            Event::Lease(change) => {
                let taken = self.leases.take(change, |object| Ok(view::lease(&object)));
                problems::<_, Lease>(taken).0
            }
            Event::Member(change) => self.take_member(change),
            Event::MemberLease(change) => self.take_member_lease(change),
            Event::Namespace(change) => self.take_namespace(change),
            Event::Peer(change) => {
                let taken = self.peers.take(change, |mut object: Peer| {
                    object.status = None;
                    Ok((object.spec.clone(), object))
                });
                let (mut touched, steps) = problems::<_, Peer>(taken);
                touched.members = !steps.is_empty();
                touched
            }
            Event::Probed(service, numbers) => {
                self.ports.probed(numbers);
                Touched::service(service)
            }
            Event::Served(version) => {
                let is_news = std::mem::replace(&mut self.mcs, version) != version;
                Touched { everything: is_news, ..Touched::default() }
            }
            Event::Service(change) => self.take_service(change),
            Event::ServiceExport(change) => self.take_service_export(change),
            Event::ServiceImport(change) => {
                let taken = self.service_imports.take(change, Ok);
                let (mut touched, steps) = problems::<_, ServiceImport>(taken);
                touched.services.extend(steps.iter().filter_map(|(key, _)| named(key)));
                for (key, _) in steps {
                    if self.service_imports.find(&key).is_none() {
                        self.unsay(Kind::ServiceImport, &key);
                    }
                }
                touched
            }
            Event::TrafficPolicy(change) => self.take_traffic_policy(change),
        };
        touched.everything |= before != (self.is_local_synced(), self.is_hub_synced());
        touched
    }

    fn take_cluster_export(&mut self, change: Change<ClusterExport>) -> Touched {
        let taken = self.cluster_exports.take(change, view::cluster_export);
        let turned = taken.turned;
        let malformed: Vec<ObjectKey> =
            taken.malformed.iter().map(|malformed| malformed.key.clone()).collect();
        let (mut touched, steps) = problems::<_, ClusterExport>(taken);
        touched.everything |= turned;
        for (key, before) in &steps {
            let after = self.cluster_exports.find(key);
            let services = [before.as_ref(), after].into_iter().flatten();
            touched.services.extend(services.map(|view| view.export.service.clone()));
            if let Some(before) = before {
                unindex(&mut self.exports, &before.export.service, key);
            }
            if let Some(after) = after {
                index(&mut self.exports, &after.export.service, key);
            }
        }
        // One of our own that somebody has spoilt is to be written anew.
        let spoilt = malformed.iter().chain(steps.iter().map(|(key, _)| key));
        let services = spoilt.filter_map(|key| view::cluster_export_key(&key.namespace, &key.name));
        touched.services.extend(services.map(|(_, service)| service));
        touched
    }

    fn take_member(&mut self, change: Change<Member>) -> Touched {
        let taken = self.members.take(change, view::member);
        let turned = taken.turned;
        let (mut touched, steps) = problems::<_, Member>(taken);
        touched.members = turned || !steps.is_empty();
        touched.everything |= turned;
        touched.everything |=
            steps.iter().any(|(key, before)| match (before, self.members.find(key)) {
                (Some(before), Some(after)) => !before.agrees(after),
                _ => true,
            });
        touched
    }

    /// Records why the hub does not have an export as it should be, or that it has.
    pub fn refuse(&mut self, service: &ServiceKey, refusal: Option<Refusal>) -> Touched {
        if self.refusals.get(service) == refusal.as_ref() {
            return Touched::default();
        }
        match refusal {
            Some(refusal) => self.refusals.insert(service.clone(), refusal),
            None => self.refusals.remove(service),
        };
        Touched::service(service.clone())
    }

    /// Records which gateways and members are silent.
    pub fn silence(&mut self, gateways: BTreeSet<String>, members: BTreeSet<String>) -> Touched {
        let touched = Touched {
            gateways: self.silent_gateways != gateways,
            members: self.silent_members != members,
            // Whoever has this cluster's id may have gone, and left it to this one.
            everything: {
                let own = self.config.cluster.as_str();
                self.silent_members.contains(own) != members.contains(own)
            },
            services: self.services_told_by(self.silent_members.symmetric_difference(&members)),
            ..Touched::default()
        };
        self.silent_gateways = gateways;
        self.silent_members = members;
        touched
    }

    /// Records which gateways do not answer, by where they are asked.
    pub fn mute(&mut self, gateways: BTreeSet<SocketAddr>) -> Touched {
        let touched = Touched { gateways: self.mute_gateways != gateways, ..Touched::default() };
        self.mute_gateways = gateways;
        touched
    }

    /// Records that a malformed ServiceExport has been told so.
    pub fn told(&mut self, export: ObjectKey, error: String) {
        self.told_malformed.insert(export, error);
    }

    /// Whether everything that this cluster's API has was read once.
    #[must_use]
    pub fn is_local_synced(&self) -> bool {
        self.access_policies.is_synced()
            && self.leases.is_synced()
            && self.namespaces.is_synced()
            && self.peers.is_synced()
            && self.service_exports.is_synced()
            && self.service_imports.is_synced()
            && self.services.is_synced()
            && self.slices.is_synced()
            // A cluster whose definitions are older has none of them.
            && (self.traffic_policies.is_synced() || self.traffic_policies.trouble().is_some())
    }

    /// Whether everything that the hub has was read once.
    #[must_use]
    pub fn is_hub_synced(&self) -> bool {
        self.cluster_exports.is_synced() && self.hub_slices.is_synced() && self.members.is_synced()
    }

    /// Why the hub cannot be read at the moment.
    #[must_use]
    pub fn hub_trouble(&self) -> Option<&str> {
        let exports = self.cluster_exports.trouble();
        let slices = exports.or_else(|| self.hub_slices.trouble());
        slices.or_else(|| self.members.trouble())
    }

    /// Every service that there is something to do or to undo for.
    #[must_use]
    pub fn known_services(&self) -> BTreeSet<ServiceKey> {
        let exports = self.service_exports.rows().filter_map(|(key, _)| named(key));
        let malformed = self.service_exports.malformed().keys().filter_map(named);
        let imports = self.service_imports.rows();
        let imports = imports.filter(|(_, row)| is_ours(&row.kept.metadata));
        let made = self.services.rows().filter_map(|(_, row)| row.kept.ours.as_ref());
        exports
            .chain(malformed)
            .chain(self.exports.keys().cloned())
            .chain(self.our_slices.keys().cloned())
            .chain(self.services_on_hub().cloned())
            .chain(imports.filter_map(|(key, _)| named(key)))
            .chain(made.map(|(import, _)| import.clone()))
            .chain(self.steered())
            .collect()
    }

    /// What this cluster's ServiceExport has on the hub.
    pub(crate) fn own_cluster_export(&self, service: &ServiceKey) -> ObjectKey {
        cluster_export_key(&self.config.cluster, service)
    }

    pub(crate) fn exports_of(
        &self,
        service: &ServiceKey,
    ) -> impl Iterator<Item = &ClusterExportView> {
        let keys = self.exports.get(service).into_iter().flatten();
        keys.filter_map(|key| self.cluster_exports.find(key))
    }

    pub(crate) fn our_slices(
        &self,
        service: &ServiceKey,
    ) -> impl Iterator<Item = (&ObjectKey, &Row<SliceView>)> {
        let keys = self.our_slices.get(service).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.slices.row(key)?)))
    }

    /// The slices of a Service's pods, without what is nothing to us: their metadata and hints.
    pub(crate) fn pod_slices(&self, service: &ServiceKey) -> impl Iterator<Item = EndpointSlice> {
        let keys = self.pod_slices.get(service).into_iter().flatten();
        keys.filter_map(|key| Some(self.slices.find(key)?.slice.whole()))
    }

    pub(crate) fn gateway_slices(&self) -> impl Iterator<Item = (&ObjectKey, &EndpointSlice)> {
        let keys = self.gateway_slices.iter();
        keys.filter_map(|key| Some((key, self.slices.find(key)?.gateways.as_deref()?)))
    }

    pub(crate) fn member(&self, cluster: &ClusterId) -> Option<&MemberView> {
        self.members.find(&ObjectKey { namespace: String::new(), name: cluster.to_string() })
    }
}

impl Touched {
    fn service(service: ServiceKey) -> Self {
        Self { services: BTreeSet::from([service]), ..Self::default() }
    }

    fn slice(&mut self, role: &SliceRole) {
        match role {
            SliceRole::Gateways => self.gateways = true,
            SliceRole::Other => {}
            SliceRole::Ours(service) | SliceRole::Pods(service) => {
                self.services.insert(service.clone());
            }
        }
    }
}

/// The key of an object in a service's namespace.
pub(crate) fn object_key(service: &ServiceKey, name: &str) -> ObjectKey {
    ObjectKey { namespace: service.namespace.to_string(), name: name.to_owned() }
}

/// What a member's export of a service is called on the hub.
pub(crate) fn cluster_export_key(cluster: &ClusterId, service: &ServiceKey) -> ObjectKey {
    ObjectKey { namespace: hub_namespace(cluster), name: cluster_export_name(service) }
}

/// The service that an object is named after.
fn named(key: &ObjectKey) -> Option<ServiceKey> {
    ServiceKey::parse(&key.namespace, &key.name).ok()
}

/// Makes problems of what could not be read.
fn problems<T, K: Resource<DynamicType = ()>>(
    taken: Taken<T>,
) -> (Touched, Vec<(ObjectKey, Option<T>)>) {
    let problem = |malformed: landbridge_api::watch::Malformed| Problem {
        about: format!("{} {}", K::kind(&()), malformed.key),
        sentence: format!("cannot be read, what was known of it stands: {}", malformed.error),
    };
    let touched = Touched {
        problems: taken.malformed.into_iter().map(problem).collect(),
        ..Touched::default()
    };
    (touched, taken.steps)
}

type Index = BTreeMap<ServiceKey, BTreeSet<ObjectKey>>;

fn index(index: &mut Index, service: &ServiceKey, key: &ObjectKey) {
    index.entry(service.clone()).or_default().insert(key.clone());
}

fn unindex(index: &mut Index, service: &ServiceKey, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(service) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(service);
        }
    }
}
