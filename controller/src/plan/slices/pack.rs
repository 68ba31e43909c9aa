//! Pure: which endpoint stands in which slice.
//!
//! An endpoint stays in the slice that it is in for as long as it lives, new ones fill what is free, and a slice that
//! is empty goes: one pod that comes or goes costs one write, however many there are.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use landbridge_api::watch::ObjectKey;

use super::data::{Draft, Port, endpoint_ports};
use crate::observed::PackedSlice;

/// Ports, and the endpoints that serve all of them, by address.
pub(in crate::plan) type Group = (Vec<Port>, BTreeMap<String, Endpoint>);

/// Slices in the making, by number: which group each belongs to, and its endpoints.
type Slots = BTreeMap<usize, (usize, Vec<Endpoint>)>;

impl Draft {
    /// Adds to `slices` what holds all endpoints of `groups`, at most `most` in each. `current` are slices as they
    /// are, of this draft or of others.
    pub(in crate::plan) fn pack<'a>(
        &self,
        mut groups: Vec<Group>,
        most: usize,
        current: impl Iterator<Item = (&'a ObjectKey, &'a PackedSlice)>,
        slices: &mut Vec<EndpointSlice>,
    ) {
        let mut slots = Slots::new();
        for (key, slice) in current {
            let Some(number) = self.number(key) else {
                continue;
            };
            let slice = slice.whole();
            if slice.address_type != self.family().as_str() {
                continue;
            }
            let ports = slice.ports.as_deref().unwrap_or_default();
            let same = |group: &Group| endpoint_ports(&group.0) == ports;
            let Some(at) = groups.iter().position(same) else {
                continue;
            };
            let left = &mut groups[at].1;
            let stay = slice.endpoints.iter().take(most);
            let stay: Vec<Endpoint> =
                stay.filter_map(|endpoint| left.remove(endpoint.addresses.first()?)).collect();
            if !stay.is_empty() {
                slots.insert(number, (at, stay));
            }
        }
        for (at, (_, left)) in groups.iter_mut().enumerate() {
            fill(&mut slots, at, std::mem::take(left), most);
        }
        for (number, (at, endpoints)) in slots {
            slices.push(self.slice(number, &groups[at].0, &endpoints));
        }
    }
}

/// Puts what is `left` of group `at` where there is room, and into new slots.
fn fill(slots: &mut Slots, at: usize, left: BTreeMap<String, Endpoint>, most: usize) {
    let mut left = left.into_values().peekable();
    for (_, endpoints) in slots.values_mut().filter(|(of, _)| *of == at) {
        let room = most.saturating_sub(endpoints.len());
        endpoints.extend(left.by_ref().take(room));
    }
    let mut number = 1;
    while left.peek().is_some() {
        while slots.contains_key(&number) {
            number += 1;
        }
        let endpoints = left.by_ref().take(most).collect();
        slots.insert(number, (at, endpoints));
    }
}

#[cfg(test)]
mod tests {
    use landbridge_model::{IpFamily, Protocol, ServiceKey};

    use super::*;

    fn draft() -> Draft {
        let service = ServiceKey::parse("shop", "db").unwrap();
        Draft::new(&service, IpFamily::V4, "db-v4".to_owned())
    }

    fn group(port: u16, pods: impl IntoIterator<Item = u8>) -> Group {
        let pods = pods.into_iter().map(|pod| {
            let address = format!("10.0.0.{pod}");
            let endpoint = Endpoint { addresses: vec![address.clone()], ..Endpoint::default() };
            (address, endpoint)
        });
        let port = ("pg".to_owned(), Protocol::Tcp, port, None);
        (vec![port], pods.collect())
    }

    /// `db-v4: 1 2 3`.
    fn told(slices: &[EndpointSlice]) -> Vec<String> {
        let told = slices.iter().map(|slice| {
            let pods = slice.endpoints.iter();
            let pods: Vec<&str> =
                pods.filter_map(|pod| pod.addresses[0].rsplit('.').next()).collect();
            let name = slice.metadata.name.as_deref().unwrap();
            format!("{name}: {}", pods.join(" "))
        });
        told.collect()
    }

    fn pack(groups: Vec<Group>, current: &[EndpointSlice]) -> Vec<EndpointSlice> {
        let keep = |slice: &EndpointSlice| {
            (ObjectKey::of(&slice.metadata), PackedSlice::new(slice.clone()))
        };
        let current: Vec<(ObjectKey, PackedSlice)> = current.iter().map(keep).collect();
        let mut slices = Vec::new();
        draft().pack(groups, 3, current.iter().map(|(key, slice)| (key, slice)), &mut slices);
        slices
    }

    #[test]
    fn an_endpoint_stays_in_its_slice() {
        let first = pack(vec![group(6432, 1..=8)], &[]);
        assert_eq!(told(&first), ["db-v4: 1 2 3", "db-v4-2: 4 5 6", "db-v4-3: 7 8"]);
        let fewer = pack(vec![group(6432, [1, 3, 4, 5, 6, 7, 8])], &first);
        assert_eq!(told(&fewer), ["db-v4: 1 3", "db-v4-2: 4 5 6", "db-v4-3: 7 8"]);
        let other = pack(vec![group(6432, [1, 3, 7, 8, 9])], &fewer);
        assert_eq!(told(&other), ["db-v4: 1 3 9", "db-v4-3: 7 8"]);
        let more = pack(vec![group(6432, [1, 3, 7, 8, 9, 10, 11])], &other);
        assert_eq!(told(&more), ["db-v4: 1 3 9", "db-v4-2: 11", "db-v4-3: 7 8 10"]);
        assert_eq!(pack(vec![group(6432, [1, 3, 7, 8, 9, 10, 11])], &more), more);
    }

    #[test]
    fn a_slice_names_only_ports_that_all_its_endpoints_serve() {
        let both = pack(vec![group(1, [1, 2]), group(2, [3])], &[]);
        assert_eq!(told(&both), ["db-v4: 1 2", "db-v4-2: 3"]);
        let moved = pack(vec![group(2, [2, 3])], &both);
        assert_eq!(told(&moved), ["db-v4-2: 3 2"]);
        assert_eq!(told(&pack(vec![group(4, [1])], &both)), ["db-v4: 1"]);
        assert_eq!(told(&pack(vec![], &both)), [""; 0]);
    }
}
