//! Pure: what to do about what was seen.
//!
//! A plan makes every choice; what runs it makes none. Each [`Work`] is planned alone, from what it touches, so
//! that one changed object costs the same among ten services as among ten thousand. A plan that is already true has
//! no steps.
//!
//! | file | question it answers |
//! | --- | --- |
//! | [`claim`] | is this ServiceExport one, and what does it export? |
//! | [`labels`] | which exported labels and annotations can every importer take? |
//! | [`publish`] | what belongs on the hub? |
//! | [`hub_slices`] | which pods are told there? |
//! | [`tell`] | which conditions does a ServiceExport have? |
//! | [`import`] | what belongs into this cluster, and in which order? |
//! | [`address`] | which Service gives the import its addresses? |
//! | [`room`] | may a Service be made for it? |
//! | [`home`] | which pods of this cluster serve which port? |
//! | [`remote`] | which pods of this network's other clusters serve which port? |
//! | [`headless`] | which address has each endpoint of another network? |
//! | [`gateways`](mod@gateways) | which gateways does this cluster have? |
//! | [`slices`] | where does each port lead? |
//! | [`traffic`] | what are TrafficPolicies told? |
//! | [`inventory`] | what are tools told of members? |
//! | [`membership`] | who are the peers, and what does this member say of itself? |

mod address;
mod claim;
mod gateways;
mod headless;
mod home;
mod hub_slices;
mod import;
mod inventory;
pub(crate) mod labels;
mod membership;
mod publish;
mod remote;
mod room;
mod slices;
mod tell;
#[cfg(test)]
mod tests;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use landbridge_api::{
    inventory::ClusterProfile,
    landbridge::{ClusterExport, Peer},
    mcs::ServiceImport,
    watch::ObjectKey,
};
use landbridge_model::{AllottedPort, Export, Merged, ServiceKey, Timestamp};

use crate::{
    notes::Note,
    observed::{Observed, Problem, Said, object_key},
    ports::{Number, Slot},
};
pub(crate) use gateways::{asked, gateways};

/// Something to plan. Two plans for the same work never run at the same time.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Work {
    /// The namespace that Landbridge lives in.
    Home,
    /// What this cluster imports of a service.
    Import(ServiceKey),
    /// What tools are told of the set's members.
    Inventory,
    /// What this member says of itself.
    Member,
    /// The peers that gateways are told of.
    Peers,
    /// What the hub has of this cluster's export of a service.
    Publish(ServiceKey),
    /// What a ServiceExport is told.
    Tell(ServiceKey),
}

/// Which API a piece of work is done at. Trouble with one must not hold up the other.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The hub's.
    Hub,
    /// This cluster's own.
    Local,
}

impl Work {
    /// Where it is done.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Self::Member | Self::Publish(_) => Side::Hub,
            Self::Home | Self::Import(_) | Self::Inventory | Self::Peers | Self::Tell(_) => {
                Side::Local
            }
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home => f.write_str("home"),
            Self::Import(service) => write!(f, "import {service}"),
            Self::Inventory => f.write_str("inventory"),
            Self::Member => f.write_str("member"),
            Self::Peers => f.write_str("peers"),
            Self::Publish(service) => write!(f, "publish {service}"),
            Self::Tell(service) => write!(f, "tell {service}"),
        }
    }
}

/// A kind of object that the controller writes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// On the hub.
    ClusterExport,
    /// In this cluster.
    ClusterProfile,
    /// In this cluster.
    EndpointSlice,
    /// On the hub: an EndpointSlice.
    HubSlice,
    /// In this cluster: of a member.
    Lease,
    /// On the hub.
    Member,
    /// In this cluster.
    Namespace,
    /// In this cluster.
    Peer,
    /// In this cluster.
    Service,
    /// In this cluster.
    ServiceExport,
    /// In this cluster.
    ServiceImport,
    /// In this cluster.
    TrafficPolicy,
}

impl Kind {
    /// As Kubernetes calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterExport => "ClusterExport",
            Self::ClusterProfile => "ClusterProfile",
            Self::EndpointSlice | Self::HubSlice => "EndpointSlice",
            Self::Lease => "Lease",
            Self::Member => "Member",
            Self::Namespace => "Namespace",
            Self::Peer => "Peer",
            Self::Service => "Service",
            Self::ServiceExport => "ServiceExport",
            Self::ServiceImport => "ServiceImport",
            Self::TrafficPolicy => "TrafficPolicy",
        }
    }
}

/// A whole object, as it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// One of this cluster's exports, on the hub.
    ClusterExport(Box<ClusterExport>),
    /// A member, for tools.
    ClusterProfile(Box<ClusterProfile>),
    /// A derived slice or an MCS slice.
    EndpointSlice(Box<EndpointSlice>),
    /// Pods of one of this cluster's exports, on the hub.
    HubSlice(Box<EndpointSlice>),
    /// A member that something is heard of.
    Lease(Box<Lease>),
    /// The namespace that Landbridge lives in.
    Namespace(Box<Namespace>),
    /// Another member.
    Peer(Box<Peer>),
    /// A derived Service.
    Service(Box<Service>),
    /// An import.
    ServiceImport(Box<ServiceImport>),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make an object that is not there.
    Create(Object),
    /// Take an object away, if it is still the one that was seen.
    Delete {
        /// What it is.
        kind: Kind,
        /// Which.
        key: ObjectKey,
        /// Its uid; none where it could not be read and is to go whatever it is.
        uid: Option<String>,
    },
    /// Ask gateways until they listen on these numbers of a service, or for long enough.
    Probe {
        /// Whose numbers.
        service: ServiceKey,
        /// The numbers.
        numbers: BTreeSet<Number>,
        /// Where gateways answer.
        gateways: Vec<SocketAddr>,
    },
    /// Replace the status of an object by a merge patch.
    Status {
        /// What it is.
        kind: Kind,
        /// Which.
        key: ObjectKey,
        /// The whole status.
        status: serde_json::Value,
    },
    /// Replace an object, if it is still in the version that was seen.
    Update(Object),
}

impl Write {
    /// What it is done to; for a probe, the import that waits for it.
    #[must_use]
    pub fn target(&self) -> (Kind, ObjectKey) {
        match self {
            Self::Create(object) | Self::Update(object) => object.target(),
            Self::Delete { kind, key, .. } | Self::Status { kind, key, .. } => (*kind, key.clone()),
            Self::Probe { service, .. } => {
                (Kind::ServiceImport, object_key(service, service.name.as_str()))
            }
        }
    }
}

impl Object {
    fn target(&self) -> (Kind, ObjectKey) {
        let (kind, metadata) = match self {
            Self::ClusterExport(object) => (Kind::ClusterExport, &object.metadata),
            Self::ClusterProfile(object) => (Kind::ClusterProfile, &object.metadata),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, &object.metadata),
            Self::HubSlice(object) => (Kind::HubSlice, &object.metadata),
            Self::Lease(object) => (Kind::Lease, &object.metadata),
            Self::Namespace(object) => (Kind::Namespace, &object.metadata),
            Self::Peer(object) => (Kind::Peer, &object.metadata),
            Self::Service(object) => (Kind::Service, &object.metadata),
            Self::ServiceImport(object) => (Kind::ServiceImport, &object.metadata),
        };
        (kind, ObjectKey::of(metadata))
    }
}

/// What to do, step after step. What stands in one step may be done at the same time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps. If one fails, those after it wait for the next plan.
    pub steps: Vec<Vec<Write>>,
    /// What is not as it should be, and cannot be put right from here.
    pub problems: Vec<Problem>,
    /// The numbers that the service has from now on; none where the plan says nothing about them.
    pub numbers: Option<(ServiceKey, BTreeMap<Slot, AllottedPort>)>,
    /// What people are told once the plan is carried out.
    pub notes: Vec<Note>,
    /// What it asks for where an API may keep less, whether that was asked before or not.
    pub says: Vec<Said>,
    /// A malformed ServiceExport that this plan tells so.
    pub tells_malformed: Option<(ObjectKey, String)>,
}

impl Plan {
    fn step(&mut self, writes: impl IntoIterator<Item = Write>) {
        let writes: Vec<Write> = writes.into_iter().collect();
        if !writes.is_empty() {
            self.steps.push(writes);
        }
    }

    /// Asks for something, unless it was asked for before and is not to be had: an older definition has no place for
    /// it.
    fn ask(&mut self, observed: &Observed, write: Option<Write>) -> Option<Write> {
        let write = write?;
        let said = match &write {
            Write::Status { kind, key, status } => Said::of_status(*kind, key.clone(), status),
            Write::Update(Object::ServiceImport(wanted)) => {
                let key = ObjectKey::of(&wanted.metadata);
                Said::of(Kind::ServiceImport, key, &(&wanted.metadata, &wanted.spec))
            }
            _ => return Some(write),
        };
        let is_new = !observed.has_said(&said);
        self.says.push(said);
        is_new.then_some(write)
    }

    /// Tells the TrafficPolicies for a service what became of them.
    fn policies(
        &mut self,
        observed: &Observed,
        service: &ServiceKey,
        merged: Option<&Merged>,
        now: Timestamp,
    ) {
        let statuses = traffic::statuses(observed, service, merged, now).into_iter();
        let statuses: Vec<Write> =
            statuses.filter_map(|status| self.ask(observed, Some(status))).collect();
        self.step(statuses);
    }

    fn problem(&mut self, about: impl Into<String>, sentence: impl Into<String>) {
        self.problems.push(Problem { about: about.into(), sentence: sentence.into() });
    }

    /// Whether it makes a Service.
    #[must_use]
    pub fn makes_service(&self) -> bool {
        let mut writes = self.steps.iter().flatten();
        writes.any(|write| matches!(write, Write::Create(Object::Service(_))))
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Plans `work` from what was seen. `now` becomes the time of conditions that change and of the heartbeat.
#[must_use]
pub fn plan(observed: &Observed, work: &Work, now: Timestamp) -> Plan {
    if !observed.is_local_synced() {
        return Plan::default();
    }
    match work {
        Work::Home => membership::home(observed),
        Work::Inventory => inventory::plan(observed, now),
        Work::Tell(service) => tell::plan(observed, service, now),
        _ if !observed.is_hub_synced() => Plan::default(),
        // Another cluster lives under this one's id: until that is settled, neither takes anything from the other.
        Work::Import(_) | Work::Publish(_) if observed.duplicate().is_some() => Plan::default(),
        Work::Import(service) => import::plan(observed, service, now),
        Work::Member => membership::member(observed, now),
        Work::Peers => membership::peers(observed),
        Work::Publish(service) => publish::plan(observed, service),
    }
}

/// The exports of a service that count: of members that there are, that are not suspended, and that may export its
/// namespace. Importers check what the source has checked, since they have no reason to trust it.
fn exports<'a>(
    observed: &'a Observed,
    service: &'a ServiceKey,
) -> impl Iterator<Item = &'a Export> {
    observed.exports_of(service).map(|view| &view.export).filter(|export| {
        observed
            .member(&export.cluster)
            .is_some_and(|member| !member.suspended && member.may_export(&service.namespace))
    })
}

fn merged(observed: &Observed, service: &ServiceKey) -> Option<Merged> {
    let exports: Vec<&Export> = exports(observed, service).collect();
    observed.rulebook().merge(observed.lowest_revision(), &exports)
}

/// What each row of a table must have back before it is written.
fn versioned(
    metadata: &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    version: &str,
) {
    metadata.resource_version = Some(version.to_owned());
}
