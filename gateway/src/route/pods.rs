//! Pure: which pods of this cluster a call is brought to, one after the other.
//!
//! Those of the gateway's own zone come first, as long as that does not make one of them carry more than double of what
//! the others do: a zone with few pods must not drown because its gateway has many clients. Clients whose calls are to
//! stay together get the same pod whatever the zone and the load, since other gateways of the cluster must agree.

use std::{net::SocketAddr, time::Instant};

use super::{
    affinity::Key,
    outlier::{Settings, used},
    spread::{Share, less_loaded},
};

/// How much more than the double one of the own zone may have to do: what is nothing on either side.
const SLACK: usize = 8;

/// A pod as the choice sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PodChoice {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Whether it is in the gateway's own zone.
    pub(crate) is_near: bool,
    /// The calls that it has through this gateway.
    pub(crate) load: usize,
    /// Until when it is left out.
    pub(crate) out_until: Option<Instant>,
    /// Its share, of 100.
    pub(crate) warmth: u32,
}

/// The pods to try, the best first, at most `most`. Those that are left out come last: somebody must be tried.
pub(crate) fn order(
    pods: &[PodChoice],
    affinity: Option<Key>,
    settings: &Settings,
    most: usize,
    mut draw: impl FnMut() -> u64,
) -> Vec<SocketAddr> {
    let until: Vec<_> = pods.iter().map(|pod| pod.out_until).collect();
    let used = used(&until, settings);
    let of = |wanted: bool| {
        let pods = pods.iter().zip(&used).filter(move |(_, used)| **used == wanted);
        pods.map(|(pod, _)| *pod).collect::<Vec<PodChoice>>()
    };
    let mut order = Vec::with_capacity(most.min(pods.len()));
    for mut rest in [of(true), of(false)] {
        while order.len() < most {
            let next = match affinity {
                Some(key) => of_client(&rest, key),
                None => nearest(&rest, [draw(), draw(), draw(), draw()]),
            };
            let Some(next) = next else { break };
            order.push(next);
            rest.retain(|pod| pod.address != next);
        }
    }
    order
}

fn of_client(pods: &[PodChoice], key: Key) -> Option<SocketAddr> {
    let cost = |pod: &PodChoice| key.cost(&pod.address.to_string(), 1);
    let costs = pods.iter().map(|pod| (cost(pod), pod.address));
    costs.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, address)| address)
}

fn nearest(pods: &[PodChoice], [a, b, c, d]: [u64; 4]) -> Option<SocketAddr> {
    let (near, far): (Vec<PodChoice>, Vec<PodChoice>) = pods.iter().partition(|pod| pod.is_near);
    let share = |pod: &PodChoice| Share { weight: pod.warmth, load: pod.load };
    let near = less_loaded(&near, share, [a, b]);
    let far = less_loaded(&far, share, [c, d]);
    let taken = match (near, far) {
        (Some(near), Some(far)) if near.load > 2 * far.load + SLACK => far,
        (near, far) => near.or(far)?,
    };
    Some(taken.address)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    const NONE: Settings = Settings { failures: 3, base: Duration::from_secs(10), most: 50 };

    /// Reads `near:4 far:0!`: zone, load, and whether it is left out. The first is 10.0.0.1, the next 10.0.0.2.
    fn pods(text: &str) -> Vec<PodChoice> {
        let now = Instant::now();
        let read = |(at, word): (usize, &str)| {
            let (zone, load) = word.trim_end_matches('!').split_once(':').unwrap();
            PodChoice {
                address: format!("10.0.0.{}:80", at + 1).parse().unwrap(),
                is_near: zone == "near",
                load: load.parse().unwrap(),
                out_until: word.ends_with('!').then_some(now),
                warmth: 100,
            }
        };
        text.split_whitespace().enumerate().map(read).collect()
    }

    /// The last octets of those that came first, each with how often, of 256 draws.
    fn check(text: &str) -> BTreeMap<u8, usize> {
        let mut first = BTreeMap::new();
        for seed in 0..256_u64 {
            let mut state = seed;
            let draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x9e37);
                state >> 33
            };
            let order = order(&pods(text), None, &NONE, 3, draw);
            *first.entry(last(order[0])).or_default() += 1;
        }
        first
    }

    fn last(address: SocketAddr) -> u8 {
        match address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    /// Design, "Gateway": "locality first (zone, region, elsewhere), least-loaded of two".
    #[test]
    fn the_own_zone_comes_first_and_of_two_the_less_loaded() {
        assert_eq!(check("near:3 far:0"), BTreeMap::from([(1, 256)]));
        assert_eq!(check("near:3 near:2 far:0"), BTreeMap::from([(2, 256)]));
        assert_eq!(check("far:0 far:1"), BTreeMap::from([(1, 256)]));
        let even = check("near:0 near:0");
        assert!(even[&1] > 80 && even[&2] > 80, "{even:?}");
    }

    #[test]
    fn a_zone_with_few_pods_does_not_drown() {
        assert_eq!(check("near:28 far:10 far:10"), BTreeMap::from([(1, 256)]));
        let far = check("near:29 far:10 far:10");
        assert!(!far.contains_key(&1), "{far:?}");
    }

    #[test]
    fn one_that_is_left_out_comes_last() {
        assert_eq!(check("near:0! far:5"), BTreeMap::from([(2, 256)]));
        let order = order(&pods("near:0! far:5"), None, &NONE, 3, || 0);
        assert_eq!(order.iter().map(|pod| last(*pod)).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(check("near:9!"), BTreeMap::from([(1, 256)]), "nobody else is there");
    }

    /// KEP-1645, "Session Affinity"; every gateway of the cluster must agree, so that zones and loads say nothing.
    #[test]
    fn a_client_with_affinity_gets_the_same_pod_from_every_gateway() {
        let key = Key::of("10.244.1.7".parse().unwrap());
        let one = order(&pods("near:0 far:0 far:9"), Some(key), &NONE, 3, || 1);
        let other = order(&pods("far:7 near:0 near:0"), Some(key), &NONE, 3, || 2);
        assert_eq!(one, other);
    }

    proptest! {
        #[test]
        fn every_pod_is_there_once_while_there_is_room(
            loads in prop::collection::vec((0_usize..40, any::<bool>(), any::<bool>()), 0..8),
            most in 0_usize..5,
            seed in any::<u64>(),
            by_client in any::<bool>(),
        ) {
            let words = loads.iter().map(|(load, near, out)| {
                format!("{}:{load}{} ", if *near { "near" } else { "far" }, if *out { "!" } else { "" })
            });
            let pods = pods(&words.collect::<String>());
            let affinity = by_client.then(|| Key::of("10.244.1.7".parse().unwrap()));
            let mut found = order(&pods, affinity, &NONE, most, || seed);
            prop_assert_eq!(found.len(), pods.len().min(most));
            found.sort();
            found.dedup();
            prop_assert_eq!(found.len(), pods.len().min(most));
        }
    }
}
