//! Pure: the slices that lead to single endpoints of other networks, and to pods of this one in other clusters.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use landbridge_api::{
    watch::ObjectKey,
    wellknown::{ENDPOINT, GATEWAYS, IMPORT, KUBE_SERVICE_NAME},
};
use landbridge_model::{ClusterId, IpFamily, PortKey, allotment::EndpointRef};

use super::{
    Slices, Source,
    data::{Draft, Part, Port, conditions},
    named,
    pack::Group as Packed,
};
use crate::{
    observed::PackedSlice,
    plan::{address, headless::Place, home::Group},
    ports::Slot,
};

impl Source<'_> {
    /// The gateway slices of each remote endpoint: one number, in every family that gateways have.
    pub(super) fn endpoints(&self, slices: &mut Slices) {
        for place in &self.headless.places {
            for family in [IpFamily::V4, IpFamily::V6] {
                self.endpoint(place, family, &mut slices.wanted);
            }
        }
    }

    fn endpoint(&self, place: &Place<'_>, family: IpFamily, wanted: &mut Vec<EndpointSlice>) {
        let service = &self.merged.service;
        let EndpointRef { cluster, hostname } = &place.endpoint;
        let name = address::name(service, Some(&place.endpoint));
        let draft = Draft::new(service, family, format!("{name}-gw-{}", family.suffix()))
            .label(KUBE_SERVICE_NAME, name.as_str())
            .annotation(IMPORT, service.name.as_str())
            .annotation(ENDPOINT, &format!("{cluster}/{hostname}"))
            .annotation(GATEWAYS, "true");
        let gateways: Vec<IpAddr> = self.gateways.of(family).collect();
        // As for other services: without a gateway the slice stays as the memory of its numbers, but none is made.
        if gateways.is_empty() && self.observed.slices.find(&draft.key()).is_none() {
            return;
        }
        let ports = place.own_ports().into_iter().filter_map(|port| {
            let endpoint = Some(place.endpoint.clone());
            let number = self.numbers.get(&Slot { endpoint, port })?.number();
            let name = port.derived_port_name().to_string();
            Some((name, port.protocol, number, None))
        });
        let endpoints = named(&gateways, place.is_ready());
        draft.finish(vec![(ports.collect(), endpoints)], wanted);
    }

    /// What leads to the endpoints of a cluster of another network: the addresses that they have here, and their own
    /// ports under the import's names.
    pub(super) fn single(&self, cluster: &ClusterId, family: IpFamily) -> Vec<Part> {
        if self.gateways.of(family).next().is_none() {
            return Vec::new();
        }
        let mut parts: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
        let places = self.headless.places.iter();
        for place in places.filter(|place| place.endpoint.cluster == *cluster) {
            let Some((ip, hostname, ready)) = place.shown(family) else {
                continue;
            };
            let ports = place.ports.iter();
            let ports = ports.map(|(key, own)| self.import_port(*key, own.number.get()));
            parts.entry(ports.collect()).or_default().push(Endpoint {
                addresses: vec![ip.to_string()],
                conditions: Some(conditions(ready)),
                hostname: Some(hostname.to_string()),
                ..Endpoint::default()
            });
        }
        parts.into_iter().collect()
    }

    /// What leads to the pods of a cluster of this network.
    pub(super) fn direct(&self, cluster: &ClusterId, family: IpFamily) -> Vec<Packed> {
        let groups = self.remote.groups.iter();
        let groups = groups.filter(|(of, group)| of == cluster && group.family == family);
        pack(groups.map(|(_, group)| {
            let ports = group.ports.iter();
            let ports = ports.map(|(key, number)| self.import_port(*key, *number));
            (ports.collect(), group)
        }))
    }

    /// What kube-proxy should use of this network's pods in other clusters: for ports that no pod here takes calls to.
    pub(super) fn used(&self, family: IpFamily) -> Vec<Packed> {
        let is_used = |port: PortKey| !self.home.is_ready(family, port);
        let groups = self.remote.groups.iter().map(|(_, group)| group);
        pack(groups.filter(|group| group.family == family).map(|group| {
            let ports = group.ports.iter().filter(|(key, _)| is_used(*key));
            let ports = ports.map(|(key, number)| {
                let name = key.derived_port_name().to_string();
                (name, key.protocol, *number, None)
            });
            (ports.collect(), group)
        }))
    }

    /// The slices of the import as they are.
    pub(super) fn current(&self) -> impl Iterator<Item = (&ObjectKey, &PackedSlice)> {
        let slices = self.observed.our_slices(&self.merged.service);
        slices.map(|(key, row)| (key, &row.kept.slice))
    }
}

/// Puts together what serves the same ports, of whichever cluster.
fn pack<'a>(groups: impl Iterator<Item = (Vec<Port>, &'a Group)>) -> Vec<Packed> {
    let mut packed: BTreeMap<Vec<Port>, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for (ports, group) in groups {
        let endpoints = packed.entry(ports).or_default();
        for endpoint in &group.endpoints {
            if let Some(address) = endpoint.addresses.first() {
                endpoints.insert(address.clone(), endpoint.clone());
            }
        }
    }
    packed.into_iter().collect()
}
