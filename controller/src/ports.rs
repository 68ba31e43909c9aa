//! Pure: which number gateways listen on for which service port.
//!
//! The derived slices that name gateways are the allotment, so a controller that starts finds in them what was
//! allotted before. Between planning a slice and seeing it, the number is *held*; a number that is given back
//! *rests*, since calls to its old meaning may still be under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use landbridge_api::watch::ObjectKey;
use landbridge_model::{
    AllottedPort, PortKey, Protocol, ServiceKey, Timestamp, allotment::EndpointRef,
};

/// How long a number that was given back is not used again: kube-proxy and gateways follow a slice within seconds,
/// and a client that resolved the old meaning gives up within a minute.
pub const REST: Duration = Duration::from_secs(60);

/// When a number was given back of which nobody knows when.
const LONG_AGO: Timestamp = Timestamp::from_millis(i64::MIN);

/// What a gateway listens on.
pub type Number = (Protocol, AllottedPort);

/// What a number of a service is for: one of its ports, or one of an endpoint of it where it is headless.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Slot {
    /// The endpoint of another network.
    pub endpoint: Option<EndpointRef>,
    /// The service's port; the endpoint's own where there is one.
    pub port: PortKey,
}

impl From<PortKey> for Slot {
    fn from(port: PortKey) -> Self {
        Self { endpoint: None, port }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Some(endpoint) => write!(f, "{}/{} {}", endpoint.cluster, endpoint.hostname, self.port),
            None => self.port.fmt(f),
        }
    }
}

/// Every number that is in use, and why.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ports {
    /// What planning has given out.
    held: BTreeMap<ServiceKey, BTreeMap<Slot, AllottedPort>>,
    holders: BTreeMap<Number, ServiceKey>,
    /// What slices say.
    claims: BTreeMap<Number, BTreeSet<(ServiceKey, ObjectKey)>>,
    /// Since when numbers that were given back rest, or have rested and wait to be used again.
    resting: BTreeMap<Number, Timestamp>,
    /// Per protocol the number below which every other one is used or was given back.
    fresh: BTreeMap<Protocol, u16>,
    /// Numbers on which gateways were found listening, or were waited for long enough.
    probed: BTreeSet<Number>,
}

/// Numbers for the ports of one service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Choice {
    /// The number of each port that has one.
    pub numbers: BTreeMap<Slot, AllottedPort>,
    /// Ports for which none is left.
    pub exhausted: Vec<Slot>,
    /// Numbers that an older import claims too, and so were given up.
    pub lost: Vec<Number>,
}

impl Ports {
    /// Chooses numbers for the ports `wanted` of `service`: those it has, which its own slices say (`said`) or
    /// planning gave it, unless `is_older` says that another claimant came first; for the rest the lowest ones that
    /// are free.
    #[must_use]
    pub fn choose(
        &self,
        service: &ServiceKey,
        wanted: &[Slot],
        said: &BTreeMap<Slot, AllottedPort>,
        is_older: impl Fn(&ServiceKey) -> bool,
        now: Timestamp,
    ) -> Choice {
        let mut choice = Choice::default();
        let mut taken: BTreeSet<Number> = BTreeSet::new();
        let held = self.held.get(service);
        let mut without = Vec::new();
        for port in wanted {
            let had = held.and_then(|held| held.get(port)).or_else(|| said.get(port));
            let number = had.map(|number| (port.port.protocol, *number));
            match number {
                Some(number) if taken.contains(&number) => without.push(port.clone()),
                Some(number) if self.is_contested(service, number, &is_older) => {
                    choice.lost.push(number);
                    without.push(port.clone());
                }
                Some(number) => {
                    taken.insert(number);
                    choice.numbers.insert(port.clone(), number.1);
                }
                None => without.push(port.clone()),
            }
        }
        for port in without {
            match self.free(port.port.protocol, &taken, now) {
                Some(number) => {
                    taken.insert((port.port.protocol, number));
                    choice.numbers.insert(port, number);
                }
                None => choice.exhausted.push(port),
            }
        }
        choice
    }

    fn is_contested(
        &self,
        service: &ServiceKey,
        number: Number,
        is_older: &impl Fn(&ServiceKey) -> bool,
    ) -> bool {
        if let Some(holder) = self.holders.get(&number) {
            return holder != service;
        }
        let claimants = self.claims.get(&number).into_iter().flatten();
        // Whoever holds other numbers has been planned since and has given this one up.
        claimants
            .filter(|(other, _)| other != service && !self.held.contains_key(other))
            .any(|(other, _)| is_older(other))
    }

    fn is_used(&self, number: Number) -> bool {
        self.holders.contains_key(&number) || self.claims.contains_key(&number)
    }

    /// The lowest number that nobody holds or claims and that does not rest; of resting ones the one that rests
    /// longest, where there is no other.
    fn free(
        &self,
        protocol: Protocol,
        taken: &BTreeSet<Number>,
        now: Timestamp,
    ) -> Option<AllottedPort> {
        let is_free = |number: Number| !taken.contains(&number) && !self.is_used(number);
        let first = (protocol, AllottedPort::FIRST);
        let last = (protocol, AllottedPort::LAST);
        let returned = || self.resting.range(first..=last).filter(|(number, _)| is_free(**number));
        let rested = returned().find(|(_, since)| now.since(**since) >= REST);
        if let Some((number, _)) = rested {
            return Some(number.1);
        }
        let fresh = (self.fresh(protocol)..=AllottedPort::LAST.number())
            .filter_map(|number| AllottedPort::new(number).ok())
            .find(|number| {
                let number = (protocol, *number);
                is_free(number) && !self.resting.contains_key(&number)
            });
        fresh.or_else(|| {
            let longest = returned().min_by_key(|(_, since)| **since);
            longest.map(|(number, _)| number.1)
        })
    }

    fn fresh(&self, protocol: Protocol) -> u16 {
        let fresh = self.fresh.get(&protocol).copied();
        fresh.unwrap_or_else(|| AllottedPort::FIRST.number())
    }

    /// Records what was chosen for `service`; what it had and has no more rests from `now` on.
    pub fn hold(
        &mut self,
        service: &ServiceKey,
        numbers: BTreeMap<Slot, AllottedPort>,
        now: Timestamp,
    ) {
        if self.held.get(service).map_or(numbers.is_empty(), |held| *held == numbers) {
            return;
        }
        let before = self.held.remove(service).unwrap_or_default();
        for (port, number) in &before {
            let number = (port.port.protocol, *number);
            self.holders.remove(&number);
            self.resting.insert(number, now);
        }
        for (port, number) in &numbers {
            let number = (port.port.protocol, *number);
            self.resting.remove(&number);
            self.holders.insert(number, service.clone());
            self.advance(port.port.protocol);
        }
        for (port, number) in &before {
            let number = (port.port.protocol, *number);
            if !self.holders.contains_key(&number) {
                self.probed.remove(&number);
            }
        }
        if !numbers.is_empty() {
            self.held.insert(service.clone(), numbers);
        }
    }

    /// Moves the mark below which every number is used or rests, so that a search need not start at the bottom.
    fn advance(&mut self, protocol: Protocol) {
        let mut fresh = self.fresh(protocol);
        while let Ok(number) = AllottedPort::new(fresh) {
            let number = (protocol, number);
            if !self.is_used(number) && !self.resting.contains_key(&number) {
                break;
            }
            fresh += 1;
        }
        self.fresh.insert(protocol, fresh);
    }

    /// A slice of `service` names a number, or does no more.
    pub fn claim(&mut self, number: Number, service: &ServiceKey, slice: &ObjectKey, stands: bool) {
        let claimant = (service.clone(), slice.clone());
        if stands {
            self.claims.entry(number).or_default().insert(claimant);
        } else if let Some(claims) = self.claims.get_mut(&number) {
            claims.remove(&claimant);
            if claims.is_empty() {
                self.claims.remove(&number);
                if number.1.number() < self.fresh(number.0) && !self.holders.contains_key(&number) {
                    self.resting.entry(number).or_insert(LONG_AGO);
                }
            }
        }
    }

    /// Gateways were asked whether they listen on `numbers`, and there is nothing more to wait for.
    pub fn probed(&mut self, numbers: impl IntoIterator<Item = Number>) {
        self.probed.extend(numbers);
    }

    /// Whether there is nothing to wait for before `number` is used.
    #[must_use]
    pub fn is_probed(&self, number: Number) -> bool {
        self.probed.contains(&number)
    }

    /// The numbers of `service`.
    #[must_use]
    pub fn of(&self, service: &ServiceKey) -> Option<&BTreeMap<Slot, AllottedPort>> {
        self.held.get(service)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn service(name: &str) -> ServiceKey {
        ServiceKey::parse("shop", name).unwrap()
    }

    fn port(number: u16) -> Slot {
        let number = NonZeroU16::new(number).unwrap();
        Slot::from(PortKey { protocol: Protocol::Tcp, number })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn take(ports: &mut Ports, name: &str, wanted: &[u16], now: Timestamp) -> Vec<u16> {
        let wanted: Vec<Slot> = wanted.iter().map(|number| port(*number)).collect();
        let choice = ports.choose(&service(name), &wanted, &BTreeMap::new(), |_| false, now);
        let numbers = wanted.iter().map(|port| choice.numbers[port].number());
        let numbers = numbers.collect();
        ports.hold(&service(name), choice.numbers, now);
        numbers
    }

    /// Worked example A: "kept ones keep their number; 10000 rests before it is used again".
    #[test]
    fn numbers_are_stable_and_rest_when_given_back() {
        let mut ports = Ports::default();
        assert_eq!(take(&mut ports, "web", &[80, 9090, 9000], at(0)), [10_000, 10_001, 10_002]);
        assert_eq!(take(&mut ports, "web", &[81, 9090, 9000], at(1)), [10_003, 10_001, 10_002]);
        assert_eq!(take(&mut ports, "db", &[5432], at(60)), [10_004]);
        assert_eq!(take(&mut ports, "api", &[443], at(61)), [10_000]);
    }

    #[test]
    fn protocols_have_ranges_of_their_own() {
        let mut ports = Ports::default();
        let udp = Slot::from(PortKey { protocol: Protocol::Udp, ..port(53).port });
        let choice = ports.choose(
            &service("dns"),
            &[port(53), udp.clone()],
            &BTreeMap::new(),
            |_| false,
            at(0),
        );
        assert_eq!(choice.numbers[&port(53)], choice.numbers[&udp]);
        ports.hold(&service("dns"), choice.numbers, at(0));
    }

    /// Design, "Import": "of two that claim one port the older import keeps it, the other is allotted anew and says
    /// so".
    #[test]
    fn the_older_of_two_claimants_keeps_the_number() {
        let mut ports = Ports::default();
        let number = (Protocol::Tcp, AllottedPort::FIRST);
        for name in ["old", "young"] {
            let slice = ObjectKey { namespace: "shop".into(), name: name.into() };
            ports.claim(number, &service(name), &slice, true);
        }
        let said = BTreeMap::from([(port(80), AllottedPort::FIRST)]);
        let older = |other: &ServiceKey| *other == service("old");
        let young = ports.choose(&service("young"), &[port(80)], &said, older, at(0));
        assert_eq!(young.lost, [number]);
        assert_eq!(young.numbers[&port(80)].number(), 10_001);
        ports.hold(&service("young"), young.numbers, at(0));
        let old = ports.choose(&service("old"), &[port(80)], &said, |_| true, at(0));
        assert_eq!(old.numbers[&port(80)].number(), 10_000);
        assert!(old.lost.is_empty());
    }

    #[test]
    fn when_all_are_taken_it_is_told_and_resting_ones_come_first() {
        let mut ports = Ports::default();
        let all = (10_000..29_999).map(|n| (port(n), AllottedPort::new(n).unwrap()));
        ports.hold(&service("big"), all.collect(), at(0));
        take(&mut ports, "last", &[80], at(0));
        let choice =
            ports.choose(&service("late"), &[port(80)], &BTreeMap::new(), |_| false, at(1));
        assert_eq!(choice.exhausted, [port(80)]);
        ports.hold(&service("last"), BTreeMap::new(), at(1));
        assert_eq!(take(&mut ports, "late", &[80], at(2)), [29_999]);
    }
}
