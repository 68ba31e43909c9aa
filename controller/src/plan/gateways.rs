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
        known.filter_map(|(address, port)| Some(SocketAddr::new(*address, (*port)?))).collect()
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
    if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }
}

/// What is heard of one address of a gateway.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Heard {
    /// Nobody has taken it for anything but well.
    Well,
    /// It does not answer.
    Mute,
    /// Its Lease has run out.
    Dead,
}

/// The gateways that take calls: those that are ready, without those whose Lease has run out or that do not answer,
/// unless that would be all of them: then the observer is the more likely one to be wrong.
///
/// No answers may not take the last address of a family away either: with it every import would lose a ClusterSetIP
/// that stays for its life, because of one busy second.
pub(crate) fn gateways(observed: &Observed) -> Gateways {
    let slices = observed.gateway_slices();
    let all: Vec<(Heard, (IpAddr, Option<u16>))> = slices
        .flat_map(|(key, slice)| {
            let is_dead = observed.silent_gateways.contains(lease(slice).unwrap_or(&key.name));
            read(slice).map(move |(address, admin)| {
                let admin_at = admin.map(|port| SocketAddr::new(address, port));
                let is_mute = admin_at.is_some_and(|at| observed.mute_gateways.contains(&at));
                let heard = match (is_dead, is_mute) {
                    (true, _) => Heard::Dead,
                    (false, true) => Heard::Mute,
                    (false, false) => Heard::Well,
                };
                (heard, (address, admin))
            })
        })
        .collect();
    let of = |family: IpFamily, wanted: Heard| {
        let those = all
            .iter()
            .filter(move |(heard, (address, _))| *heard == wanted && family_of(*address) == family);
        those.map(|(_, gateway)| *gateway).collect::<BTreeMap<_, _>>()
    };
    let living = [IpFamily::V4, IpFamily::V6].into_iter().flat_map(|family| {
        let well = of(family, Heard::Well);
        if well.is_empty() { of(family, Heard::Mute) } else { well }
    });
    let living: BTreeMap<IpAddr, Option<u16>> = living.collect();
    if living.is_empty() {
        Gateways(all.into_iter().map(|(_, gateway)| gateway).collect())
    } else {
        Gateways(living)
    }
}

/// Where every gateway that is ready is asked whether it lives, whatever was heard of it.
pub(crate) fn asked(observed: &Observed) -> BTreeSet<SocketAddr> {
    let gateways = observed.gateway_slices().flat_map(|(_, slice)| read(slice));
    gateways.filter_map(|(address, admin)| Some(SocketAddr::new(address, admin?))).collect()
}

/// The Lease of a gateway that registers itself. A gateway with two addresses has two slices, and one Lease.
fn lease(slice: &EndpointSlice) -> Option<&str> {
    let target = slice.endpoints.first()?.target_ref.as_ref()?;
    target.name.as_deref().filter(|_| target.kind.as_deref() == Some("Lease"))
}

fn read(slice: &EndpointSlice) -> impl Iterator<Item = (IpAddr, Option<u16>)> {
    let ports = slice.ports.iter().flatten();
    let admin = ports
        .filter(|port| port.name.as_deref() == Some(GATEWAY_PORT_ADMIN))
        .find_map(|port| u16::try_from(port.port?).ok());
    let ready = slice.endpoints.iter().filter(|endpoint| is_ready(endpoint));
    ready.filter_map(move |endpoint| Some((endpoint.addresses.first()?.parse().ok()?, admin)))
}
