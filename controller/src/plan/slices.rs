//! Pure: where does each port of an import lead?
//!
//! Per family and port: ready pods of an export here; else pods of this network's other clusters; else the local gateways, at the number allotted to the port.
//! Never both. The other network's way is kept open all the same: its slice exists, its endpoints are not ready, and
//! gateways listen.
//!
//! | slice | names | for |
//! | --- | --- | --- |
//! | `<derived>-pods-v4` | pods of this cluster | kube-proxy |
//! | `<derived>-remote-v4` | pods of this network's other clusters, for what no pod here takes calls to | kube-proxy |
//! | `<derived>-gw-v4` | gateways, for what pods here do not serve | kube-proxy, gateways |
//! | `<derived>-standby-v4` | gateways, for what pods here serve too | kube-proxy, gateways |
//! | `<service>-<cluster>-v4` | what leads to one exporting cluster | Gateway API controllers, DNS |

pub(in crate::plan) mod data;
mod endpoints;
mod pack;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use landbridge_api::{
    traffic::Locality,
    watch::ObjectKey,
    wellknown::{ENDPOINTS, GATEWAYS, IMPORT, KUBE_SERVICE_NAME, SERVICE_NAME, SOURCE_CLUSTER},
};
use landbridge_model::{
    AllottedPort, ClusterId, Export, Hostname, IpFamily, Merged, MergedPort, PortKey, PortName,
    Protocol, ServiceKey, ServiceKind, derived,
};

use super::{
    Kind, Object, Write, gateways::Gateways, headless::Headless, home::Home,
    hub_slices::MOST_ENDPOINTS as MOST_PACKED, remote::Remote, versioned,
};
use crate::{
    observed::{Observed, PackedSlice, Problem, SliceRole, cluster_export_key, object_key},
    ports::Slot,
};
use data::{Draft, conditions};

/// An EndpointSlice holds at most 100 ports (its API reference).
const MOST_PORTS: usize = 100;
/// An EndpointSlice holds at most 1,000 endpoints (its API reference).
const MOST_ENDPOINTS: usize = 1_000;

/// The slices of an import, as they should be.
pub(super) struct Slices {
    pub(super) wanted: Vec<EndpointSlice>,
    /// The families in which kube-proxy has somewhere to send calls to.
    pub(super) serving: BTreeSet<IpFamily>,
    /// Whether any of them is an MCS slice.
    pub(super) has_mcs: bool,
}

/// How calls get to the pods of an exporting cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// To its pods: its network is this one.
    Direct,
    /// Through the gateways: its network is another one.
    Gateways,
    /// To pods of this cluster.
    Here,
}

/// How calls of `service` get from here to the pods of `cluster`. "A member whose service has an AccessPolicy counts as
/// another network for it": its gateways hold the policy. So it does where clusters are weighed, which only gateways can.
pub(super) fn route(observed: &Observed, service: &ServiceKey, cluster: &ClusterId) -> Route {
    if *cluster == observed.config.cluster {
        return Route::Here;
    }
    let is_near = observed
        .member(cluster)
        .is_some_and(|member| member.peer.network == observed.config.network);
    let export = observed.cluster_exports.find(&cluster_export_key(cluster, service));
    let export = export.map(|view| &view.export);
    let is_guarded = export.is_some_and(|export| export.guarded);
    let is_weighed = export.is_none_or(|export| export.kind != ServiceKind::Headless)
        && observed.weighs(service);
    if is_near && !is_guarded && !is_weighed { Route::Direct } else { Route::Gateways }
}

/// The ports of `merged` that are allotted numbers: those that another network serves, and that gateways can carry.
/// A headless import has addresses of its own for every endpoint, and no port of its own. Where clusters are weighed
/// gateways serve all of them.
pub(super) fn carried(observed: &Observed, merged: &Merged) -> Vec<Slot> {
    if merged.kind == ServiceKind::Headless {
        return Vec::new();
    }
    let is_weighed = observed.weighs(&merged.service);
    let ports = merged.ports.iter().filter(|port| {
        port.port.key.protocol != Protocol::Sctp
            && (is_weighed || elsewhere(observed, &merged.service, port).next().is_some())
    });
    ports.map(|port| port.port.key.into()).collect()
}

fn elsewhere<'a>(
    observed: &'a Observed,
    service: &'a ServiceKey,
    port: &'a MergedPort,
) -> impl Iterator<Item = &'a ClusterId> {
    let servers = port.served_by.iter();
    servers.filter(|cluster| route(observed, service, cluster) == Route::Gateways)
}

/// What slices are made from.
pub(super) struct Source<'a> {
    pub(super) observed: &'a Observed,
    pub(super) merged: &'a Merged,
    pub(super) exports: &'a BTreeMap<&'a ClusterId, &'a Export>,
    pub(super) numbers: &'a BTreeMap<Slot, AllottedPort>,
    /// The numbers that gateways have been told of already.
    pub(super) said: &'a BTreeMap<Slot, AllottedPort>,
    pub(super) gateways: &'a Gateways,
    pub(super) headless: &'a Headless<'a>,
    pub(super) home: &'a Home,
    pub(super) remote: &'a Remote,
}

impl Source<'_> {
    /// All slices of the import.
    pub(super) fn slices(&self) -> Slices {
        let mut slices = Slices { wanted: Vec::new(), serving: BTreeSet::new(), has_mcs: false };
        match self.merged.kind {
            ServiceKind::ClusterSetIp => self.derived(&mut slices),
            ServiceKind::Headless => self.endpoints(&mut slices),
        }
        let before = slices.wanted.len();
        self.mcs(&mut slices);
        slices.has_mcs = slices.wanted.len() > before;
        slices
    }

    fn derived(&self, slices: &mut Slices) {
        let derived = derived::service(&self.merged.service);
        let draft = |kind: &str, family| {
            Draft::new(
                &self.merged.service,
                family,
                format!("{derived}-{kind}-{family}", family = family.suffix()),
            )
            .label(KUBE_SERVICE_NAME, derived.as_str())
            .annotation(IMPORT, self.merged.service.name.as_str())
        };
        for family in [IpFamily::V4, IpFamily::V6] {
            let groups = self.home.0.iter().filter(|group| group.family == family);
            let mut pods = Vec::new();
            for group in groups {
                slices.serving.insert(family);
                // Never mixed: where gateways weigh this cluster's pods against others', kube-proxy knows gateways alone.
                let ports = group.ports.iter().filter(|(key, _)| !self.is_weighed(family, *key));
                let ports = ports.map(|(key, number)| {
                    (key.derived_port_name().to_string(), key.protocol, *number, None)
                });
                let ports: Vec<data::Port> = ports.collect();
                if !ports.is_empty() || group.ports.is_empty() {
                    pods.push((ports, group.endpoints.clone()));
                }
            }
            draft("pods", family).finish(pods, &mut slices.wanted);
            let used = self.used(family);
            if !used.is_empty() {
                slices.serving.insert(family);
            }
            let used = used.into_iter().filter(|(ports, _)| !ports.is_empty());
            let current = self.current();
            draft("remote", family).pack(used.collect(), MOST_PACKED, current, &mut slices.wanted);
            let (gw, standby, standby_is_used) = self.split(family);
            for (kind, ports, used) in [("gw", gw, true), ("standby", standby, standby_is_used)] {
                let draft = draft(kind, family).annotation(GATEWAYS, "true");
                let gateways: Vec<IpAddr> = self.gateways.of(family).collect();
                // Without a gateway the slice stays as the memory of its numbers, but none is made.
                let is_there = self.observed.slices.find(&draft.key()).is_some();
                if ports.is_empty() || (gateways.is_empty() && !is_there) {
                    continue;
                }
                if !gateways.is_empty() {
                    slices.serving.insert(family);
                }
                let is_ready = |port: &&MergedPort| {
                    let key = port.port.key;
                    let here = self.is_weighed(family, key) && self.is_ready_here(key);
                    here || self.is_ready_elsewhere(port)
                };
                let ready = used && ports.iter().any(is_ready);
                let parts = ports.chunks(MOST_PORTS).map(|ports| {
                    let ports = ports.iter().filter_map(|port| {
                        let number = self.number(port)?;
                        let name = port.port.key.derived_port_name().to_string();
                        Some((name, port.port.key.protocol, number, None))
                    });
                    (ports.collect(), named(&gateways, ready))
                });
                draft.finish(parts.collect(), &mut slices.wanted);
            }
        }
    }

    /// The allotted ports that gateways serve, those that they stand by for, and whether the latter are in use.
    /// When pods here serve some and not others of what gateways stand by for, the others are gateways' to serve.
    fn split(&self, family: IpFamily) -> (Vec<&MergedPort>, Vec<&MergedPort>, bool) {
        let allotted = self.merged.ports.iter();
        let allotted = allotted.filter(|port| self.number(port).is_some());
        let is_weighed = |port: &&MergedPort| self.is_weighed(family, port.port.key);
        let (weighed, allotted): (Vec<&MergedPort>, Vec<_>) = allotted.partition(is_weighed);
        if !weighed.is_empty() {
            // Where one port is weighed, all that gateways carry are.
            return (weighed, allotted, false);
        }
        let allotted = allotted.into_iter();
        let is_near = |cluster: &ClusterId| {
            route(self.observed, &self.merged.service, cluster) != Route::Gateways
        };
        let (shared, foreign): (Vec<_>, Vec<_>) =
            allotted.partition(|port| port.served_by.iter().any(is_near));
        let is_idle = |port: &&MergedPort| {
            let key = port.port.key;
            self.home.is_ready(family, key) || self.remote.is_ready(family, key)
        };
        let (idle, used): (Vec<_>, Vec<_>) = shared.iter().copied().partition(is_idle);
        if idle.is_empty() {
            return (foreign, shared, true);
        }
        let order = |port: &&MergedPort| {
            let at = self.merged.ports.iter().position(|other| other == *port);
            at.unwrap_or(usize::MAX)
        };
        let mut gw: Vec<&MergedPort> = foreign.into_iter().chain(used).collect();
        gw.sort_by_key(order);
        (gw, idle, false)
    }

    fn number(&self, port: &MergedPort) -> Option<u16> {
        let number = self.numbers.get(&Slot::from(port.port.key))?;
        Some(number.number())
    }

    /// Whether gateways weigh this cluster's pods against others' for a port. Without a gateway there is nobody to do it; and
    /// one that has not been told yet does not listen, so that at first they stand by.
    fn is_weighed(&self, family: IpFamily, port: PortKey) -> bool {
        let slot = Slot::from(port);
        let number = self.numbers.get(&slot);
        number.is_some()
            && number == self.said.get(&slot)
            && self.observed.weighs(&self.merged.service)
            && self.gateways.of(family).next().is_some()
    }

    /// Whether a pod of this cluster takes calls to a port, of whatever family: gateways carry the one to the other.
    fn is_ready_here(&self, port: PortKey) -> bool {
        [IpFamily::V4, IpFamily::V6].into_iter().any(|family| self.home.is_ready(family, port))
    }

    /// Whether any other cluster that serves a port has a ready pod.
    fn is_ready_elsewhere(&self, port: &MergedPort) -> bool {
        elsewhere(self.observed, &self.merged.service, port).any(|cluster| self.is_ready(cluster))
    }

    fn is_ready(&self, cluster: &ClusterId) -> bool {
        self.exports.get(cluster).is_some_and(|export| export.is_ready())
    }

    fn mcs(&self, slices: &mut Slices) {
        let is_headless = self.merged.kind == ServiceKind::Headless;
        for cluster in &self.merged.clusters {
            for family in [IpFamily::V4, IpFamily::V6] {
                let draft =
                    Draft::new(&self.merged.service, family, self.mcs_name(cluster, family))
                        .label(SERVICE_NAME, self.merged.service.name.as_str())
                        .label(SOURCE_CLUSTER, cluster.as_str());
                let draft = match self.told_capacity(cluster) {
                    Some(capacity) => draft.annotation(ENDPOINTS, &capacity),
                    None => draft,
                };
                let before = slices.wanted.len();
                let parts = match route(self.observed, &self.merged.service, cluster) {
                    Route::Direct => {
                        let groups = self.direct(cluster, family);
                        let current = self.current();
                        draft.pack(groups, MOST_PACKED, current, &mut slices.wanted);
                        Vec::new()
                    }
                    Route::Gateways if is_headless => self.single(cluster, family),
                    Route::Gateways => self.through_gateways(cluster, family),
                    Route::Here => self.here(family),
                };
                draft.finish(parts, &mut slices.wanted);
                if is_headless && slices.wanted.len() > before {
                    slices.serving.insert(family);
                }
            }
        }
    }

    /// How many endpoints of another cluster are ready, where a policy weighs by that. Not otherwise: endpoint churn stays
    /// at home.
    fn told_capacity(&self, cluster: &ClusterId) -> Option<String> {
        let is_elsewhere = *cluster != self.observed.config.cluster;
        let policies = self.observed.traffic(&self.merged.service);
        let spec = policies.first().map(|(_, policy)| &policy.spec);
        let is_asked = spec.is_some_and(|spec| {
            spec.spill_over.as_ref().is_some_and(|spill| spill.healthy_percent.is_some())
                || spec.locality == Some(Locality::Anywhere) && spec.clusters.is_empty()
        });
        let zones = self.exports.get(cluster)?.zones.values();
        let (ready, total) = zones.fold((0_u32, 0_u32), |(ready, total), zone| {
            (ready.saturating_add(zone.ready), total.saturating_add(zone.total))
        });
        (is_elsewhere && is_asked).then(|| format!("{ready}/{total}"))
    }

    /// Names of services and clusters hold dashes, so that two services may come to one name: then the one that
    /// finds it taken is told apart by its hash.
    fn mcs_name(&self, cluster: &ClusterId, family: IpFamily) -> String {
        let service = &self.merged.service;
        let plain = format!("{}-{cluster}-{}", service.name, family.suffix());
        let taken = self.observed.slices.find(&object_key(service, &plain));
        let is_own = |role: &SliceRole| *role == SliceRole::Ours(service.clone());
        let is_clusters = |slice: &PackedSlice| {
            let labels = slice.without_endpoints().metadata.labels.unwrap_or_default();
            labels.get(SOURCE_CLUSTER).map(String::as_str) == Some(cluster.as_str())
        };
        match taken {
            Some(view) if !(is_own(&view.role) && is_clusters(&view.slice)) => {
                let hash = derived::service(service);
                let hash = hash.as_str().trim_start_matches("derived-");
                format!("{plain}-{hash}")
            }
            _ => plain,
        }
    }

    fn through_gateways(&self, cluster: &ClusterId, family: IpFamily) -> Vec<data::Part> {
        let gateways: Vec<IpAddr> = self.gateways.of(family).collect();
        let ports: Vec<data::Port> = self
            .merged
            .ports_of(cluster)
            .filter_map(|port| {
                let number = self.number(port)?;
                Some(self.import_port(port.port.key, number))
            })
            .collect();
        if gateways.is_empty() {
            return Vec::new();
        }
        let ready = self.is_ready(cluster);
        ports.chunks(MOST_PORTS).map(|ports| (ports.to_vec(), named(&gateways, ready))).collect()
    }

    fn here(&self, family: IpFamily) -> Vec<data::Part> {
        let groups = self.home.0.iter().filter(|group| group.family == family);
        let parts = groups.map(|group| {
            let ports = group.ports.iter();
            let ports = ports.map(|(key, number)| self.import_port(*key, *number)).collect();
            let mut endpoints = group.endpoints.clone();
            if self.merged.kind == ServiceKind::Headless {
                endpoints.iter_mut().for_each(give_hostname);
            }
            (ports, endpoints)
        });
        parts.collect()
    }

    fn import_port(&self, key: PortKey, number: u16) -> data::Port {
        let port = self.merged.port(key);
        let name = self.merged.port_name(key).map_or("", PortName::as_str);
        let app_protocol = port.and_then(|port| port.port.app_protocol.as_ref());
        (
            name.to_owned(),
            key.protocol,
            number,
            app_protocol.map(|protocol| protocol.as_str().to_owned()),
        )
    }
}

fn named(gateways: &[IpAddr], ready: bool) -> Vec<Endpoint> {
    let endpoint = |address: &IpAddr| Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(conditions(ready)),
        ..Endpoint::default()
    };
    gateways.iter().map(endpoint).collect()
}

/// "An endpoint keeps its hostname, or the one made at home from its original address with dashes (a trailing dash
/// gets `0`), so that a name means the same pod in every cluster."
fn give_hostname(endpoint: &mut Endpoint) {
    if endpoint.hostname.as_ref().is_none_or(String::is_empty) {
        let address = endpoint.addresses.first().map_or("", String::as_str);
        let made = address.parse().map(Hostname::of_address);
        endpoint.hostname = made.ok().map(|hostname| hostname.to_string());
    }
}

/// What turns the slices that are there into those that are wanted, and whose slices are in the way.
pub(super) fn writes(
    observed: &Observed,
    merged: &Merged,
    wanted: &[EndpointSlice],
) -> (Vec<Write>, Vec<Problem>) {
    let (mut writes, mut problems) = (Vec::new(), Vec::new());
    let mut kept: BTreeSet<ObjectKey> = BTreeSet::new();
    for wanted in wanted {
        let key = ObjectKey::of(&wanted.metadata);
        match observed.slices.row(&key) {
            None => writes.push(Write::Create(Object::EndpointSlice(Box::new(wanted.clone())))),
            Some(row) if row.kept.role != SliceRole::Ours(merged.service.clone()) => {
                problems.push(Problem {
                    about: format!("EndpointSlice {key}"),
                    sentence: format!(
                        "is not ours and has the name of one that import {} needs: rename or delete it",
                        merged.service
                    ),
                });
            }
            Some(row) => {
                let current = row.kept.slice.whole();
                if current.address_type == wanted.address_type {
                    kept.insert(key);
                    writes.extend(update(current, wanted, &row.version));
                }
            }
        }
    }
    writes.extend(delete(observed, &merged.service, &kept));
    (writes, problems)
}

/// Whether a write makes or changes a slice that tells gateways what to listen on.
pub(super) fn is_allotment(write: &Write) -> bool {
    match write {
        Write::Create(Object::EndpointSlice(slice))
        | Write::Update(Object::EndpointSlice(slice)) => {
            let annotations = slice.metadata.annotations.as_ref();
            annotations.is_some_and(|all| all.contains_key(GATEWAYS))
        }
        _ => false,
    }
}

fn update(current: EndpointSlice, wanted: &EndpointSlice, version: &str) -> Option<Write> {
    let shaped = reshaped(current, wanted, version)?;
    Some(Write::Update(Object::EndpointSlice(Box::new(shaped))))
}

/// `current` with everything that is ours to say as `wanted` has it; none where it is so already.
pub(super) fn reshaped(
    mut current: EndpointSlice,
    wanted: &EndpointSlice,
    version: &str,
) -> Option<EndpointSlice> {
    let is_so = current.metadata.labels == wanted.metadata.labels
        && current.metadata.annotations == wanted.metadata.annotations
        && current.ports == wanted.ports
        && current.endpoints == wanted.endpoints;
    if is_so {
        return None;
    }
    current.metadata.labels.clone_from(&wanted.metadata.labels);
    current.metadata.annotations.clone_from(&wanted.metadata.annotations);
    current.ports.clone_from(&wanted.ports);
    current.endpoints.clone_from(&wanted.endpoints);
    versioned(&mut current.metadata, version);
    Some(current)
}

/// What takes away the slices of an import, except for `kept`.
pub(super) fn delete(
    observed: &Observed,
    service: &ServiceKey,
    kept: &BTreeSet<ObjectKey>,
) -> Vec<Write> {
    let stale = observed.our_slices(service).filter(|(key, _)| !kept.contains(*key));
    stale
        .map(|(key, row)| Write::Delete {
            kind: Kind::EndpointSlice,
            key: key.clone(),
            uid: Some(row.uid.clone()),
        })
        .collect()
}
