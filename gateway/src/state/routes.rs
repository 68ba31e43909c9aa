//! Pure: what each allotted port means, and which clusters serve it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use landbridge_api::convert::ImportView;
use landbridge_model::{
    AllottedPort, ClusterId, PortKey, PortName, Protocol, ServiceKey, SessionAffinity, Target,
    Timestamp,
};

use super::{slice::SliceView, store::Store, traffic::Traffic};
use crate::{
    route::rules::Capacity,
    snapshot::{Problem, Route},
};

type Routes = BTreeMap<(Protocol, AllottedPort), Arc<Route>>;

/// The gateways that any allotment sends clients to.
pub(super) fn gateways(slices: &Store<SliceView>) -> BTreeSet<IpAddr> {
    let named = slices.iter().filter_map(|slice| match slice {
        SliceView::Allotment { gateways, .. } => Some(gateways),
        _ => None,
    });
    named.flatten().copied().collect()
}

/// A slice's claim to a port. The order is that in which claims win: the older import, then the older slice, then
/// any order that is the same everywhere. A service without an import is about to get one, the youngest of all.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Claim<'a> {
    without_import: bool,
    import: Option<Timestamp>,
    slice: Timestamp,
    target: &'a Target,
    name: &'a str,
}

/// What each port means and who serves it; of two slices that claim one port the older import keeps it.
pub(super) fn build(
    own: &ClusterId,
    slices: &Store<SliceView>,
    imports: &Store<ImportView>,
    traffic: &Traffic<'_>,
) -> (Routes, Vec<Problem>) {
    let imports: HashMap<&ServiceKey, &ImportView> =
        imports.iter().map(|import| (&import.service, import)).collect();
    let served = served(own, slices);
    let known = known(slices);
    let mut problems = Vec::new();
    let mut routes = Routes::new();
    for ((protocol, port), mut claims) in claims(slices, &imports) {
        claims.sort();
        let target = claims[0].target;
        let name = claims[0].name;
        for other in claims.iter().filter(|claim| claim.target != target) {
            problems.push(Problem {
                kind: "port_conflict",
                message: format!(
                    "EndpointSlice {} claims {protocol} port {port} for {} {}, which EndpointSlice {name} of an \
                     older import has for {} {}: it needs another port",
                    other.name, other.target.service, other.target.port, target.service, target.port
                ),
            });
        }
        if protocol == Protocol::Sctp {
            problems.push(Problem {
                kind: "protocol_not_carried",
                message: format!(
                    "EndpointSlice {name} allots {protocol} port {port} to {} {}: only TCP and UDP are carried",
                    target.service, target.port
                ),
            });
        }
        let clusters = clusters(own, target, port, &imports, &served);
        let import = imports.get(&target.service);
        let by_client = import.is_some_and(|import| import.affinity != SessionAffinity::None);
        let (rules, call) = traffic.for_service(&target.service);
        let known = known.get(&target.service).cloned().unwrap_or_default();
        let route = Route {
            capacity: known,
            by_client,
            rules,
            call,
            ..Route::new(target.clone(), clusters)
        };
        routes.insert((protocol, port), Arc::new(route));
    }
    (routes, problems)
}

fn claims<'a>(
    slices: &'a Store<SliceView>,
    imports: &HashMap<&ServiceKey, &ImportView>,
) -> BTreeMap<(Protocol, AllottedPort), Vec<Claim<'a>>> {
    let mut claims: BTreeMap<_, Vec<Claim<'a>>> = BTreeMap::new();
    for slice in slices.iter() {
        let SliceView::Allotment { name, created, targets, .. } = slice else {
            continue;
        };
        for (key, target) in targets {
            let import = imports.get(&target.service).map(|import| import.created);
            claims.entry(*key).or_default().push(Claim {
                without_import: import.is_none(),
                import,
                slice: *created,
                target,
                name,
            });
        }
    }
    claims
}

/// The endpoints of each service's clusters, where their slices tell them.
fn known(slices: &Store<SliceView>) -> HashMap<&ServiceKey, BTreeMap<ClusterId, Capacity>> {
    let mut known: HashMap<&ServiceKey, BTreeMap<ClusterId, Capacity>> = HashMap::new();
    for slice in slices.iter() {
        if let SliceView::Remote { service, cluster, capacity: Some(capacity), .. } = slice {
            known.entry(service).or_default().insert(cluster.clone(), *capacity);
        }
    }
    known
}

/// What other clusters serve of each service.
type Served<'a> = HashMap<&'a ServiceKey, Vec<(&'a ClusterId, &'a [(Option<PortName>, PortKey)])>>;

fn served<'a>(own: &ClusterId, slices: &'a Store<SliceView>) -> Served<'a> {
    let mut served = Served::new();
    for slice in slices.iter() {
        if let SliceView::Remote { service, cluster, ports, ready: true, .. } = slice
            && cluster != own
        {
            served.entry(service).or_default().push((cluster, ports));
        }
    }
    served
}

/// The other clusters that serve a target and have a ready endpoint.
///
/// A port of an MCS slice belongs to the import's port of the same name. Slices are written before the import is, and
/// a call may come in between: then the allotted port itself, which those of other networks carry, tells as much.
fn clusters(
    own: &ClusterId,
    target: &Target,
    allotted: AllottedPort,
    imports: &HashMap<&ServiceKey, &ImportView>,
    served: &Served<'_>,
) -> Vec<ClusterId> {
    if let Some(endpoint) = &target.endpoint {
        let remote = endpoint.cluster != *own;
        return remote.then(|| endpoint.cluster.clone()).into_iter().collect();
    }
    let import = imports.get(&target.service);
    let port = import.and_then(|import| import.ports.iter().find(|port| port.key == target.port));
    let serves = |(name, key): &(Option<PortName>, PortKey)| {
        let same = match port {
            Some(port) => *name == port.name,
            None => key.number.get() == allotted.number(),
        };
        same && key.protocol == target.port.protocol
    };
    let slices = served.get(&target.service).map_or(&[][..], Vec::as_slice);
    let clusters: BTreeSet<&ClusterId> = slices
        .iter()
        .filter(|(_, ports)| ports.iter().any(serves))
        .map(|(cluster, _)| *cluster)
        .collect();
    clusters.into_iter().cloned().collect()
}
