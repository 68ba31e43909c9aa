//! What there is in the zone, and what there is not: limits, and what is told of them. What is answered is tested
//! where answers are written.

use landbridge_model::ServiceKey;

use super::*;
use crate::{fixture, state::State};

/// The names of `key` below the zone, and the problems.
fn described(text: &str, key: &str) -> (Vec<String>, Vec<String>) {
    let mut state = State::default();
    for event in fixture::events(text) {
        assert_eq!(state.apply(event), []);
    }
    let key: ServiceKey = key.parse().unwrap();
    let (import, slices) = state.service(&key).unwrap();
    let described = service(&Zone::default(), import, slices);
    let names =
        described.nodes.keys().map(|name| name.to_string().replace(".svc.clusterset.local.", ""));
    (names.collect(), described.problems)
}

#[test]
fn a_zone_is_a_domain_name_that_leaves_room_for_services() {
    for good in ["clusterset.local", "clusterset.local.", "Set-1.example"] {
        assert!(Zone::parse(good).is_ok(), "{good}");
    }
    let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
    for bad in ["", ".", "a..b", "a b", "a_b", &long, &"a".repeat(64)] {
        let error = Zone::parse(bad).unwrap_err().to_string();
        assert!(error.contains("use "), "{bad:?}: {error}");
    }
}

/// Kubernetes allows names that the DNS cannot hold: 255 octets are soon full with a hostname, a cluster, a service
/// and a namespace of 63 characters each.
#[test]
fn a_name_that_is_too_long_is_told_and_hides_nothing_else() {
    let long = "a".repeat(63);
    let cluster = "c".repeat(55);
    let (names, problems) = described(
        &format!(
            "import {long}/{long} Headless | pg=5432/TCP
             slice {long}/{long} {cluster} IPv4 | pg=6432/TCP | {long}@10.96.8.1"
        ),
        &format!("{long}/{long}"),
    );
    assert_eq!(names, [format!("{long}.{long}")]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("too long for the DNS"), "{problems:?}");

    let (names, problems) = described(
        &format!("import shop/web ClusterSetIP 10.96.7.7 | {long}=80/TCP http=81/TCP"),
        "shop/web",
    );
    assert_eq!(names, ["web.shop", "_tcp.web.shop", "_http._tcp.web.shop"], "{problems:?}");
    assert!(problems[0].contains("no SRV record"), "{problems:?}");
}

/// More endpoints than a message holds: A and AAAA tell of the same ones, some of every cluster, and it is said.
#[test]
fn endpoints_beyond_what_a_message_holds_are_told() {
    let slice = |cluster: &str, net: u8| {
        let endpoints: Vec<String> = (0..1500)
            .map(|pod| {
                let (high, low) = (pod / 250, pod % 250);
                format!("db-{pod}@10.{net}.{high}.{low}")
            })
            .collect();
        format!("slice shop/db {cluster} IPv4 | pg=6432/TCP | {}\n", endpoints.join(" "))
    };
    let text = format!(
        "import shop/db Headless | pg=5432/TCP\n{}{}",
        slice("paris", 1),
        slice("tokyo", 2)
    );
    let (names, problems) = described(&text, "shop/db");
    let of = |cluster: &str| {
        let of = format!(".{cluster}.db.shop");
        names.iter().filter(|name| name.ends_with(&of)).count()
    };
    assert_eq!((of("paris"), of("tokyo")), (1000, 1000));
    assert!(problems[0].starts_with("1000 of 3000 ready endpoints have no names"), "{problems:?}");
    assert!(problems[1].contains("SRV records are left out"), "{problems:?}");
}

/// MCS DNS specification, headless: A and AAAA "must cover the same subset" of endpoints. Pods without a hostname go by
/// a name in each family, and the names of one family all come before the other's.
#[test]
fn the_bound_does_not_take_one_family_for_the_other() {
    let slice = |family: &str, of: &dyn Fn(usize) -> String| {
        let endpoints: Vec<String> = (0..1500).map(of).collect();
        format!("slice shop/db paris {family} | pg=6432/TCP | {}\n", endpoints.join(" "))
    };
    let v4 = slice("IPv4", &|pod| format!("10.1.{}.{}", pod / 250, pod % 250));
    let v6 = slice("IPv6", &|pod| format!("fd00::{pod:x}"));
    let text = format!("import shop/db Headless | pg=5432/TCP\n{v4}{v6}");
    let mut state = State::default();
    for event in fixture::events(&text) {
        assert_eq!(state.apply(event), []);
    }
    let key: ServiceKey = "shop/db".parse().unwrap();
    let (import, slices) = state.service(&key).unwrap();
    let nodes = service(&Zone::default(), import, slices).nodes;
    let bare = nodes.iter().find(|(name, _)| name.to_string().starts_with("db.shop.svc."));
    let addresses = |v4| {
        let records = &bare.unwrap().1.records;
        records
            .iter()
            .filter(|data| {
                matches!(data, Data::A(_)) == v4 && matches!(data, Data::A(_) | Data::Aaaa(_))
            })
            .count()
    };
    assert_eq!((addresses(true), addresses(false)), (1500, 1500));
}
