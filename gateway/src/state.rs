//! Pure: the objects that a gateway watches, and the snapshots that they add up to.
//!
//! Events come in by [`State::apply`], one owner calls it, and [`State::snapshot`] builds what has changed. Any order
//! of the same events, or one relist, gives the same snapshot.

mod exports;
mod policies;
mod routes;
mod slice;
mod store;
mod traffic;

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use landbridge_api::{
    access::AccessPolicy,
    convert::{self, ImportView},
    landbridge::Peer as PeerObject,
    mcs::v1beta1::{ServiceExport, ServiceImport},
    traffic::TrafficPolicy,
    watch::Change,
    wellknown::PROXY_PROTOCOL,
};
use landbridge_model::{ClusterId, Peer, ServiceKey};

use self::{
    exports::ServiceView,
    policies::{Policies, PolicyView},
    slice::SliceView,
    store::{Read, Store},
    traffic::{Traffic, TrafficView},
};
use crate::{
    pod::{PodView, SlimPod},
    snapshot::{Callers, Problem, Snapshot},
};

/// The most problems that a snapshot tells of: enough to see a pattern, and no flood.
const MAX_PROBLEMS: usize = 256;

/// Something that was seen in the API.
#[derive(Debug)]
pub(crate) enum Event {
    /// About an AccessPolicy.
    Access(Change<AccessPolicy>),
    /// About a ServiceExport.
    Export(Change<ServiceExport>),
    /// About a ServiceImport.
    Import(Change<ServiceImport>),
    /// About a Peer.
    Peer(Change<PeerObject>),
    /// About a Pod.
    Pod(Change<SlimPod>),
    /// About a Service.
    Service(Box<Change<Service>>),
    /// About an EndpointSlice.
    Slice(Change<EndpointSlice>),
    /// About a TrafficPolicy.
    Traffic(Change<TrafficPolicy>),
}

impl Event {
    /// Why the API could not be read, if that is what was seen.
    #[must_use]
    pub(crate) fn interrupted(&self) -> Option<&str> {
        match self {
            Self::Access(Change::Interrupted(error))
            | Self::Export(Change::Interrupted(error))
            | Self::Import(Change::Interrupted(error))
            | Self::Peer(Change::Interrupted(error))
            | Self::Pod(Change::Interrupted(error))
            | Self::Slice(Change::Interrupted(error))
            | Self::Traffic(Change::Interrupted(error)) => Some(error),
            Self::Service(change) => match &**change {
                Change::Interrupted(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A ServiceExport, as far as a gateway cares.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ExportView {
    service: ServiceKey,
    proxy_protocol: bool,
}

/// Which parts of the next snapshot differ from the last one's.
#[derive(Clone, Copy, Debug, Default)]
struct Dirty {
    callers: bool,
    exports: bool,
    peers: bool,
    routes: bool,
    synced: bool,
}

/// Everything that is known.
#[derive(Debug)]
pub(crate) struct State {
    cluster: ClusterId,
    exports: Store<ExportView>,
    imports: Store<ImportView>,
    peers: Store<Peer>,
    policies: Store<PolicyView>,
    pods: Store<PodView>,
    services: Store<ServiceView>,
    slices: Store<SliceView>,
    traffic: Store<TrafficView>,
    /// Whether TrafficPolicies could not be read when that was tried last.
    traffic_is_away: bool,
    route_problems: Vec<Problem>,
    dirty: Dirty,
    last: Snapshot,
}

impl State {
    /// Nothing is known yet. `cluster` is the member that this gateway belongs to.
    #[must_use]
    pub(crate) fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            exports: Store::default(),
            imports: Store::default(),
            peers: Store::default(),
            policies: Store::default(),
            pods: Store::default(),
            services: Store::default(),
            slices: Store::default(),
            traffic: Store::default(),
            traffic_is_away: false,
            route_problems: Vec::new(),
            dirty: Dirty::default(),
            last: Snapshot::default(),
        }
    }

    /// Takes in what was seen, and says whether that changes anything.
    pub(crate) fn apply(&mut self, event: Event) -> bool {
        let synced = self.is_synced();
        let changed = match event {
            Event::Access(change) => {
                let known = self.policies.is_listed();
                let changed = self.policies.apply(change, policies::read_policy);
                self.dirty.exports |= changed || known != self.policies.is_listed();
                changed
            }
            Event::Export(change) => {
                let changed = self.exports.apply(change, read_export);
                self.dirty.exports |= changed;
                changed
            }
            Event::Import(change) => {
                let changed = self.imports.apply(change, |object| convert::import(object).into());
                self.dirty.exports |= changed;
                self.dirty.routes |= changed;
                changed
            }
            Event::Peer(change) => {
                let changed = self.peers.apply(change, |object| convert::peer(object).into());
                self.dirty.peers |= changed;
                changed
            }
            Event::Pod(change) => {
                let changed = self.pods.apply(change, |pod| Read::from(pod.view()));
                self.dirty.callers |= changed;
                changed
            }
            Event::Service(change) => {
                let changed = self.services.apply(*change, exports::read_service);
                self.dirty.exports |= changed;
                changed
            }
            Event::Slice(change) => {
                let changed = self.slices.apply(change, slice::read);
                self.dirty.exports |= changed;
                self.dirty.routes |= changed;
                changed
            }
            Event::Traffic(change) => {
                self.traffic_is_away |= matches!(change, Change::Interrupted(_));
                let changed = self.traffic.apply(change, traffic::read_policy);
                self.dirty.routes |= changed;
                changed
            }
        };
        self.dirty.synced |= synced != self.is_synced();
        changed || self.dirty.synced
    }

    /// Whether every kind has been listed once.
    #[must_use]
    pub(crate) fn is_synced(&self) -> bool {
        self.exports.is_listed()
            && self.imports.is_listed()
            && self.peers.is_listed()
            && self.policies.is_listed()
            && self.pods.is_listed()
            && self.services.is_listed()
            && self.slices.is_listed()
            // A cluster whose definitions are older has none of them.
            && (self.traffic.is_listed() || self.traffic_is_away)
    }

    /// The next snapshot; none while nothing has changed. What has not changed is shared with the last one.
    pub(crate) fn snapshot(&mut self) -> Option<Snapshot> {
        let dirty = std::mem::take(&mut self.dirty);
        if !(dirty.callers || dirty.exports || dirty.peers || dirty.routes || dirty.synced) {
            return None;
        }
        if dirty.callers {
            self.last.callers = Arc::new(callers(&self.pods));
        }
        if dirty.exports {
            let policies = Policies::of(&self.policies);
            let mut built = exports::build(
                &self.exports,
                &self.services,
                &self.slices,
                &self.imports,
                &policies,
            );
            // Who may call is not known yet, so nobody may.
            if !self.policies.is_listed() {
                built.clear();
            }
            self.last.exports = Arc::new(built);
            let zones = exports::gateway_zones(&self.slices);
            if zones != *self.last.gateway_zones {
                self.last.gateway_zones = Arc::new(zones);
            }
        }
        if dirty.peers {
            let others = self.peers.iter().filter(|peer| peer.cluster != self.cluster);
            let peers = others.map(|peer| (peer.cluster.clone(), peer.clone()));
            self.last.peers = Arc::new(peers.collect());
        }
        if dirty.routes {
            let traffic = Traffic::of(&self.traffic);
            let (routes, problems) =
                routes::build(&self.cluster, &self.slices, &self.imports, &traffic);
            self.last.routes = Arc::new(routes);
            self.route_problems = problems;
            self.last.gateways = Arc::new(routes::gateways(&self.slices));
        }
        self.last.problems = Arc::new(self.problems());
        self.last.synced = self.is_synced();
        self.last.revision += 1;
        Some(self.last.clone())
    }

    fn problems(&self) -> Vec<Problem> {
        let unreadable = [
            self.exports.problems(),
            self.imports.problems(),
            self.peers.problems(),
            self.policies.problems(),
            self.pods.problems(),
            self.services.problems(),
            self.slices.problems(),
            self.traffic.problems(),
        ]
        .into_iter()
        .flatten()
        .map(|message| Problem { kind: "unreadable", message: message.clone() });
        let mut problems: Vec<Problem> = unreadable.collect();
        problems.extend_from_slice(&self.route_problems);
        problems.sort();
        problems.truncate(MAX_PROBLEMS);
        problems
    }
}

fn read_export(object: &ServiceExport) -> Read<ExportView> {
    let annotations = object.metadata.annotations.as_ref();
    let proxy = annotations.and_then(|annotations| annotations.get(PROXY_PROTOCOL));
    convert::service_key("ServiceExport", &object.metadata)
        .map(|service| ExportView {
            service,
            proxy_protocol: proxy.is_some_and(|version| version == "v2"),
        })
        .into()
}

/// Who has which address. Of an address that several pods claim nobody knows who it is.
fn callers(pods: &Store<PodView>) -> Callers {
    let mut claims: HashMap<_, Option<_>> = HashMap::new();
    for pod in pods.iter() {
        for ip in &pod.ips {
            claims
                .entry(*ip)
                .and_modify(|claim| *claim = None)
                .or_insert_with(|| pod.workload.clone());
        }
    }
    claims.into_iter().filter_map(|(ip, workload)| Some((ip, workload?))).collect()
}

#[cfg(test)]
mod tests;
