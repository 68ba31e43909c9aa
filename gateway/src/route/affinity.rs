//! Pure: which of several serves a client whose calls are to stay together (KEP-1645 "Session Affinity").
//!
//! By rendezvous hashing: client and name give each of them a number, and the one with the best is it. So every gateway
//! comes to the same one, after a restart too, and when one comes or goes only the clients move that are or were its own.
//! Nothing is remembered, so the affinity lasts for at least as long as the timeout asks.

use std::net::IpAddr;

/// What a client is known by, wherever it calls from next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Key(u64);

impl Key {
    /// By the client's address.
    pub(crate) fn of(client: IpAddr) -> Self {
        let octets = match client.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        Self(hash(START, &octets))
    }

    /// A draw that is the client's own, for choices that are to be the same each time.
    pub(crate) fn draw(self, about: &str) -> u64 {
        mixed(hash(self.0, about.as_bytes()))
    }

    /// What one of several gets; the least is the client's own. Its weight says which share of all clients it has.
    pub(crate) fn cost(self, name: &str, weight: u32) -> f64 {
        // From 2^-53 to 1: the 53 bits that a float holds.
        #[expect(clippy::cast_precision_loss, reason = "53 bits are held exactly")]
        let even = ((self.draw(name) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -even.ln() / f64::from(weight)
    }
}

/// FNV-1a, written out: what the standard library hashes with may change from one version to the next, and gateways of
/// two versions must agree.
const START: u64 = 0xcbf2_9ce4_8422_2325;

fn hash(start: u64, octets: &[u8]) -> u64 {
    octets
        .iter()
        .fold(start, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Spreads what differs little over all bits (the finalizer of splitmix64).
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn own<'a>(client: u32, names: &[(&'a str, u32)]) -> &'a str {
        let key = Key::of(Ipv4Addr::from(client).into());
        let cost = |(name, weight): &&(&str, u32)| key.cost(name, *weight);
        names.iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap().0
    }

    /// Gateways of two versions, and one before and after a restart, must agree: these values never change.
    #[test]
    fn the_same_client_gets_the_same_one_for_ever() {
        let key = Key::of("10.244.1.7".parse().unwrap());
        assert_eq!(key, Key::of("::ffff:10.244.1.7".parse().unwrap()));
        assert_eq!(key.draw("10.244.0.5:8080"), 892_181_061_722_406_329);
        assert_eq!(key.draw("paris"), 10_822_464_295_242_710_653);
    }

    #[test]
    fn clients_are_spread_by_weight() {
        let count = |names: &[(&str, u32)], name: &str| {
            (0..10_000).filter(|client| own(0x0af4_0000 + client, names) == name).count()
        };
        let even = count(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)], "c");
        assert!((2_300..2_700).contains(&even), "{even}");
        let few = count(&[("paris", 90), ("tokyo", 10)], "tokyo");
        assert!((850..1_150).contains(&few), "{few}");
    }

    proptest! {
        /// Whoever comes or goes, no client moves between two that stay.
        #[test]
        fn only_the_clients_of_the_one_that_goes_move(client in any::<u32>(), gone in 0_usize..5) {
            let all = [("a", 1), ("b", 1), ("c", 1), ("d", 3), ("e", 1)];
            let mut rest = all.to_vec();
            let (gone, _) = rest.remove(gone);
            let (before, after) = (own(client, &all), own(client, &rest));
            prop_assert!(before == after || before == gone);
        }
    }
}
