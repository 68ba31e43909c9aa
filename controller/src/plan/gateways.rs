//! Pure: which gateways this cluster has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::wellknown::GATEWAY_PORT_ADMIN;
use landbridge_model::IpFamily;

use super::home::is_ready;
use crate::observed::Observed;

/// The gateways of this cluster, by address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Gateways(BTreeMap<IpAddr, Option<u16>>);

impl Gateways {
    /// Their addresses of one family, in order.
    pub(super) fn of(&self, family: IpFamily) -> impl Iterator<Item = IpAddr> {
        let addresses = self.0.keys().copied();
        addresses.filter(move |address| family_of(*address) == family)
    }

    /// Where each tells what it listens on. A gateway with two addresses is asked at both.
    pub(super) fn admin(&self) -> Vec<SocketAddr> {
        let known = self.0.iter();
        known
            .filter_map(|(address, port)| Some(SocketAddr::new(*address, (*port)?)))
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every address, in order.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.keys().copied()
    }
}

pub(super) fn family_of(address: IpAddr) -> IpFamily {
    if address.is_ipv4() {
        IpFamily::V4
    } else {
        IpFamily::V6
    }
}

/// The gateways that take calls: those that are ready, without those whose Lease has run out, unless that would be
/// all of them: then the observer is the more likely one to be wrong.
pub(crate) fn gateways(observed: &Observed) -> Gateways {
    let silent: &BTreeSet<String> = &observed.silent_gateways;
    let all: Vec<(bool, Gateways)> = observed
        .gateway_slices()
        .map(|(key, slice)| (silent.contains(&key.name), read(slice)))
        .collect();
    let join = |with_silent: bool| {
        let chosen = all.iter().filter(|(silent, _)| with_silent || !silent);
        Gateways(
            chosen
                .flat_map(|(_, gateways)| gateways.0.clone())
                .collect(),
        )
    };
    let living = join(false);
    if living.is_empty() {
        join(true)
    } else {
        living
    }
}

fn read(slice: &EndpointSlice) -> Gateways {
    let ports = slice.ports.iter().flatten();
    let admin = ports
        .filter(|port| port.name.as_deref() == Some(GATEWAY_PORT_ADMIN))
        .find_map(|port| u16::try_from(port.port?).ok());
    let ready = slice.endpoints.iter().filter(|endpoint| is_ready(endpoint));
    let addresses = ready.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok());
    Gateways(addresses.map(|address| (address, admin)).collect())
}
