//! Pure: the names of headless services, from the ready endpoints of all clusters.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use landbridge_api::convert::{Endpoint, McsSlice, SlicePort};
use landbridge_model::{ClusterId, Hostname};

use super::{Data, Described, Node};
use crate::name::Name;

/// The most addresses of one family that the name of a service has. An AAAA record takes 28 octets of the 65,535 that
/// a message over TCP holds; A and AAAA records must tell of the same endpoints, so the larger one sets the limit, and
/// an endpoint that goes by different names in the two families is not counted twice.
const MAX_ADDRESSES: usize = 2_000;
/// The most octets of the SRV records of one name: what a message over TCP holds, less header, question and OPT
/// record (12 + 259 + 11), rounded down.
const MAX_SRV_OCTETS: usize = 65_000;
/// What an SRV record takes besides its target: a pointer, type, class, time to live, length, and three numbers.
const SRV_OCTETS: usize = 2 + 10 + 6;

/// What goes by one hostname in one cluster: a pod with an address in each family, as a rule.
#[derive(Default)]
struct Place<'a> {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<&'a SlicePort>,
}

impl Place<'_> {
    /// Whether there is room for all of its addresses beside those of `families`, IPv4 and IPv6, which it then joins.
    fn fits(&self, families: &mut [usize; 2]) -> bool {
        let v4 = self.addresses.iter().filter(|address| address.is_ipv4()).count();
        let with = [families[0] + v4, families[1] + self.addresses.len() - v4];
        let fits = with.iter().all(|count| *count <= MAX_ADDRESSES);
        if fits {
            *families = with;
        }
        fits
    }
}

/// The names of the headless service `name`.
///
/// Not-ready endpoints have no records at all. Where no endpoint is ready "the answer should be NXDOMAIN" (MCS DNS
/// specification), so nothing is there.
pub(super) fn describe<'a>(name: &Name, slices: impl Iterator<Item = &'a McsSlice>) -> Described {
    let mut described = Described::default();
    let mut places = places(slices);
    let all = places.len();
    let mut families = [0; 2];
    places.retain(|_, place| place.fits(&mut families));
    if places.len() < all {
        described.problem(format!(
            "{} of {all} ready endpoints have no names: a DNS message holds no more",
            all - places.len(),
        ));
    }
    let mut bare = Node::default();
    for ((hostname, cluster), place) in &places {
        bare.records.extend(place.addresses.iter().copied().map(Data::from));
        let target =
            name.child(cluster.as_str()).and_then(|cluster| cluster.child(hostname.as_str()));
        let Some(target) = target else {
            described.problem(format!(
                "endpoint {hostname} of cluster {cluster} has no name of its own: it would be too long for the DNS"
            ));
            continue;
        };
        for port in &place.ports {
            let number = port.key.number.get();
            bare.add_target(&target, number, &place.addresses);
            if let Some(port_name) = &port.name {
                let key = (port_name.as_str(), port.key.protocol.lower());
                described.named_port(name, key, &target, number, &place.addresses);
            }
        }
        described.nodes.insert(target, Node::addresses(&place.addresses));
    }
    if !bare.records.is_empty() {
        described.nodes.insert(name.clone(), bare);
    }
    let unnamed: usize = described.nodes.values_mut().map(bound_targets).sum();
    if unnamed > 0 {
        described
            .problem(format!("{unnamed} SRV records are left out: a DNS message holds no more"));
    }
    described
}

/// The ready endpoints by hostname, then cluster: if not all can be told of, every cluster is among the first.
fn places<'a>(
    slices: impl Iterator<Item = &'a McsSlice>,
) -> BTreeMap<(Hostname, &'a ClusterId), Place<'a>> {
    let mut places: BTreeMap<_, Place<'a>> = BTreeMap::new();
    for slice in slices {
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
            let place = places.entry((hostname(endpoint), &slice.cluster)).or_default();
            place.addresses.insert(endpoint.address);
            place.ports.extend(&slice.ports);
        }
    }
    places
}

/// The hostname of an endpoint, or the one made of its address.
fn hostname(endpoint: &Endpoint) -> Hostname {
    let own = endpoint.hostname.clone();
    own.unwrap_or_else(|| Hostname::of_address(endpoint.address))
}

/// Leaves as many SRV records as a message holds, and tells how many went.
fn bound_targets(node: &mut Node) -> usize {
    let mut octets = 0;
    let before = node.records.len();
    node.records.retain(|record| match record {
        Data::Srv { target, .. } => {
            octets += SRV_OCTETS + target.wire().len();
            octets <= MAX_SRV_OCTETS
        }
        _ => true,
    });
    before - node.records.len()
}
