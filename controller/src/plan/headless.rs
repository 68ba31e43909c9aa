//! Pure: the endpoints of a headless import that are in other networks, and the address that each has here.
//!
//! Their own addresses mean nothing here. Each gets a Service of its own, whose ClusterIPs lead through the gateways
//! to that one pod, made while the pod is not ready and kept for as long as its hostname is told, so that a name and
//! its address outlive the pod's restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use landbridge_api::{convert::HubSlice, mcs::ServiceImport};
use landbridge_model::{
    ClusterId, Export, Hostname, IpFamily, Merged, PortKey, Protocol, ServiceKind, SessionAffinity,
    allotment::EndpointRef,
};

use super::{
    Write,
    address::{self, Address, Asked},
    gateways::family_of,
    slices::{Route, route},
};
use crate::{
    observed::{Observed, object_key},
    ports::Slot,
};

/// "at most 256 per import": an eighth of the derived Services that a cluster has room for by default.
pub(super) const MOST_PLACES: usize = 256;

/// The endpoints of a headless import that have addresses here.
#[derive(Default)]
pub(super) struct Headless<'a> {
    pub(super) places: Vec<Place<'a>>,
    /// How many endpoints more there are than can have addresses.
    pub(super) too_many: usize,
    /// How many Services more there would be than this cluster's controller may make.
    pub(super) no_room: usize,
    /// What the API server says where it has no address left for one of them.
    pub(super) exhausted: Option<&'a str>,
}

/// What goes by one hostname in another cluster: a pod, as a rule.
pub(super) struct Place<'a> {
    pub(super) endpoint: EndpointRef,
    /// Which port of the import the endpoint serves at which of its own.
    pub(super) ports: BTreeSet<(PortKey, PortKey)>,
    families: BTreeMap<IpFamily, (Hostname, bool)>,
    pub(super) address: Address<'a>,
}

impl Place<'_> {
    /// The endpoint's own ports.
    pub(super) fn own_ports(&self) -> BTreeSet<PortKey> {
        own(&self.ports)
    }

    /// Whether it takes calls, at whichever address.
    pub(super) fn is_ready(&self) -> bool {
        self.families.values().any(|(_, ready)| *ready)
    }

    /// Address, hostname and readiness in a family: in those that the endpoint has at home, or in all that there are
    /// here where it has none of those, since gateways carry the one to the other.
    pub(super) fn shown(&self, family: IpFamily) -> Option<(IpAddr, &Hostname, bool)> {
        let ips = self.address.ips.as_ref()?;
        let ip = ips.iter().copied().find(|ip| family_of(*ip) == family)?;
        let is_common = ips.iter().any(|ip| self.families.contains_key(&family_of(*ip)));
        let (_, shown) = match self.families.get_key_value(&family) {
            Some(shown) => shown,
            None if is_common => return None,
            None => self.families.first_key_value()?,
        };
        Some((ip, &shown.0, shown.1))
    }
}

impl Headless<'_> {
    /// What is to be allotted a number.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let slots = self.places.iter().flat_map(|place| {
            let slot = |port| Slot { endpoint: Some(place.endpoint.clone()), port };
            place.own_ports().into_iter().map(slot)
        });
        slots.collect()
    }

    /// Whether there are endpoints and the API server has yet to give the first of them an address.
    pub(super) fn is_pending(&self) -> bool {
        let is_new = |place: &Place<'_>| {
            place.address.ips.is_none() && matches!(place.address.write, Some(Write::Create(_)))
        };
        self.exhausted.is_none() && !self.places.is_empty() && self.places.iter().all(is_new)
    }
}

/// "two ports on one target" are one of the endpoint's own.
fn own(ports: &BTreeSet<(PortKey, PortKey)>) -> BTreeSet<PortKey> {
    ports.iter().map(|(_, own)| *own).collect()
}

/// Ports and readiness of one pod in each family that it has.
#[derive(Default)]
struct Pod {
    ports: BTreeSet<(PortKey, PortKey)>,
    families: BTreeMap<IpFamily, (Hostname, bool)>,
}

/// The endpoints of `merged` in other networks; none where it is not headless.
pub(super) fn headless<'a>(
    observed: &'a Observed,
    merged: &Merged,
    exports: &BTreeMap<&ClusterId, &Export>,
    import: Option<&ServiceImport>,
) -> Headless<'a> {
    if merged.kind != ServiceKind::Headless {
        return Headless::default();
    }
    let mut places: BTreeMap<EndpointRef, Pod> = BTreeMap::new();
    for ((cluster, _), pod) in pods(observed, merged, exports) {
        let first = exports.get(&cluster).into_iter().flat_map(|e| &e.families);
        let first = first.chain(&[IpFamily::V4, IpFamily::V6]);
        let mut first = first.filter_map(|family| pod.families.get(family));
        let Some((hostname, _)) = first.next().cloned() else {
            continue;
        };
        let place = places.entry(EndpointRef { cluster, hostname }).or_default();
        place.ports.extend(pod.ports);
        for (family, (hostname, ready)) in pod.families {
            let known = place.families.entry(family).or_insert((hostname, ready));
            known.1 |= ready;
        }
    }
    let name = |endpoint: &EndpointRef| address::name(&merged.service, Some(endpoint));
    let is_there = |endpoint: &EndpointRef| {
        let key = object_key(&merged.service, name(endpoint).as_str());
        observed.services.find(&key).is_some()
    };
    let (old, new): (Vec<_>, Vec<_>) = places.into_iter().partition(|(at, _)| is_there(at));
    let too_many = (old.len() + new.len()).saturating_sub(MOST_PLACES);
    let chosen = old.into_iter().chain(new).take(MOST_PLACES);
    let mut places: Vec<Place<'a>> = chosen
        .map(|(endpoint, pod)| {
            let asked = Asked {
                service: &merged.service,
                endpoint: Some(&endpoint),
                ports: own(&pod.ports).into_iter().collect(),
                affinity: SessionAffinity::None,
            };
            let address = address::address(observed, &asked, import);
            Place { endpoint, ports: pod.ports, families: pod.families, address }
        })
        .collect();
    places.sort_by(|one, other| one.endpoint.cmp(&other.endpoint));
    let no_room = limit(&mut places, observed.room_for(&merged.service));
    let lacks = |place: &Place<'_>| place.address.ips.is_none();
    let said = observed.exhausted.get(&merged.service);
    let exhausted = said.filter(|_| places.iter().any(lacks));
    Headless { places, too_many, no_room, exhausted: exhausted.map(String::as_str) }
}

/// Takes back the making of Services beyond `room`, and says of how many. Those that are there stay.
fn limit(places: &mut [Place<'_>], room: usize) -> usize {
    let made =
        places.iter_mut().filter(|place| matches!(place.address.write, Some(Write::Create(_))));
    let withheld = made.skip(room).map(|place| place.address.write = None);
    withheld.count()
}

/// The pods of other networks: "v4 and v6 of one pod paired by its UID".
fn pods(
    observed: &Observed,
    merged: &Merged,
    exports: &BTreeMap<&ClusterId, &Export>,
) -> BTreeMap<(ClusterId, String), Pod> {
    let mut pods: BTreeMap<(ClusterId, String), Pod> = BTreeMap::new();
    for (_, row) in observed.hub_slices(&merged.service) {
        let Some(read) = row.kept.read() else {
            continue;
        };
        let Some(export) = exports.get(&read.cluster) else {
            continue;
        };
        if export.kind != merged.kind
            || route(observed, &merged.service, &read.cluster) != Route::Gateways
        {
            continue;
        }
        let ports: Vec<(PortKey, PortKey)> = ports(merged, export, &read)
            .into_iter()
            .filter(|(key, _)| key.protocol != Protocol::Sctp)
            .collect();
        if ports.is_empty() {
            continue;
        }
        for endpoint in &read.endpoints {
            let hostname = endpoint.hostname.clone();
            let hostname = hostname.unwrap_or_else(|| Hostname::of_address(endpoint.address));
            let pair = endpoint.uid.clone();
            let pair = pair.unwrap_or_else(|| hostname.to_string());
            let pod = pods.entry((read.cluster.clone(), pair)).or_default();
            pod.ports.extend(ports.iter().copied());
            let known = pod.families.entry(read.family);
            known.or_insert((hostname, false)).1 |= endpoint.ready;
        }
    }
    pods
}

/// Which port of the import the pods of a slice serve, and where: the exporter's Service has a port of that protocol
/// and number, and the slice has its name.
pub(super) fn ports(merged: &Merged, export: &Export, read: &HubSlice) -> Vec<(PortKey, PortKey)> {
    let ports = merged.ports_of(&export.cluster).filter_map(|port| {
        let key = port.port.key;
        let own = export.ports.iter().find(|own| own.key == key)?;
        let at =
            read.ports.iter().find(|at| at.name == own.name && at.key.protocol == key.protocol)?;
        Some((key, at.key))
    });
    ports.collect()
}
