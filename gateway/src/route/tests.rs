//! Which cluster, and which link.

use std::{collections::BTreeMap, time::Instant};

use proptest::prelude::*;

use super::{rules::Spill, *};

fn id(name: &str) -> ClusterId {
    ClusterId::parse(name).unwrap()
}

fn link(id: u64, state: LinkState, streams: usize) -> LinkView {
    LinkView { id, state, draining: false, fallback: false, streams }
}

/// One cluster and what is known of it: `paris near calls=5 ready=3/4 out cold 1:healthy:0 2:suspect:3`.
fn read(line: &str) -> (ClusterId, Candidate<'static>) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap();
    let place = if name == "here" { Place::Here } else { Place::Elsewhere };
    let mut candidate = Candidate {
        cluster: Box::leak(Box::new(id(name))),
        place,
        links: Vec::new(),
        capacity: None,
        calls: 0,
        out_until: None,
        warmth: 100,
    };
    for word in words {
        match word.split_once('=') {
            Some(("calls", calls)) => candidate.calls = calls.parse().unwrap(),
            Some(("ready", of)) => {
                let (ready, total) = of.split_once('/').unwrap();
                let (ready, total) = (ready.parse().unwrap(), total.parse().unwrap());
                candidate.capacity = Some(Capacity { ready, total });
            }
            _ if word == "near" => candidate.place = Place::Region,
            _ if word == "out" => candidate.out_until = Some(Instant::now()),
            _ if word == "cold" => candidate.warmth = 10,
            _ => {
                let parts: Vec<&str> = word.split(':').collect();
                let state = match parts[1] {
                    "healthy" => LinkState::Healthy,
                    "quiet" => LinkState::Quiet,
                    "suspect" => LinkState::Suspect,
                    other => panic!("{other}"),
                };
                let link = link(parts[0].parse().unwrap(), state, parts[2].parse().unwrap());
                let fallback = parts.get(3) == Some(&"tcp");
                candidate.links.push(LinkView { fallback, ..link });
            }
        }
    }
    (id(name), candidate)
}

/// How often each is chosen of 1,000 draws, one cluster a line.
fn count(fixture: &str, rules: &Rules, tried: &Tried) -> BTreeMap<String, usize> {
    let lines = fixture.lines().map(str::trim).filter(|line| !line.is_empty());
    let candidates: Vec<Candidate<'_>> = lines.map(|line| read(line).1).collect();
    let asked = Asked { candidates: &candidates, rules, affinity: None };
    let mut chosen = BTreeMap::new();
    for n in 0..1_000_u64 {
        // Spread evenly, and independent enough.
        let draw = |by: u64| n.wrapping_mul(by) >> 24;
        let draws = Draws([
            n,
            draw(0x9e37_79b9_7f4a_7c15),
            draw(0xbf58_476d_1ce4_e5b9),
            draw(0x94d0_49bb_1331_11eb),
            draw(0xd6e8_feb8_6659_fd93),
        ]);
        let choice = match choose(asked, tried, draws) {
            None => "nobody".to_owned(),
            Some(Choice::Here) => "here".to_owned(),
            Some(Choice::Link { cluster, link }) => format!("{cluster} {link}"),
        };
        *chosen.entry(choice).or_default() += 1;
    }
    chosen
}

fn check(fixture: &str, tried: &Tried) -> Vec<String> {
    count(fixture, &Rules::default(), tried).into_keys().collect()
}

#[test]
fn of_two_the_less_loaded_is_taken() {
    let none = Tried::default();
    let two = "paris calls=5 1:healthy:5\n tokyo calls=1 2:healthy:1";
    assert_eq!(check(two, &none), ["tokyo 2"]);
    assert_eq!(check("paris 1:healthy:1\n tokyo 2:healthy:1", &none), ["paris 1", "tokyo 2"]);
    assert_eq!(check("paris 1:healthy:3 2:healthy:0", &none), ["paris 2"]);
}

/// Design, "Gateway": "Choice: locality first (zone, region, elsewhere), least-loaded of two".
#[test]
fn clusters_of_the_own_region_come_first() {
    let none = Tried::default();
    let two = "paris near calls=9 1:healthy:9\n tokyo 2:healthy:0";
    assert_eq!(check(two, &none), ["paris 1"]);
    assert_eq!(check("paris near 1:suspect:0\n tokyo 2:healthy:0", &none), ["tokyo 2"]);
    let anywhere = Rules { anywhere: true, ..Rules::default() };
    assert_eq!(count(two, &anywhere, &none), BTreeMap::from([("tokyo 2".into(), 1_000)]));
}

/// Design, "Gateway": suspect means "no new streams".
#[test]
fn suspect_links_get_no_new_streams() {
    let none = Tried::default();
    assert_eq!(check("paris 1:suspect:0\n tokyo 2:healthy:9", &none), ["tokyo 2"]);
    assert_eq!(check("paris 1:suspect:0 3:quiet:7", &none), ["paris 3"]);
    assert_eq!(check("paris 1:suspect:0", &none), ["nobody"]);
}

/// Design, "Gateway": TLS over TCP is "where UDP does not pass".
#[test]
fn links_over_tcp_are_used_where_there_is_no_other() {
    let none = Tried::default();
    assert_eq!(check("paris 1:quiet:9 2:healthy:0:tcp", &none), ["paris 1"]);
    assert_eq!(check("paris 1:suspect:0 2:healthy:9:tcp", &none), ["paris 2"]);
    let mut tried = Tried::default();
    tried.link(1);
    assert_eq!(check("paris 1:healthy:0 2:healthy:9:tcp", &tried), ["paris 2"]);
}

#[test]
fn a_peer_that_goes_is_the_last_resort() {
    let going = |id| LinkView { draining: true, ..link(id, LinkState::Healthy, 0) };
    let chosen = |links: &[LinkView], here: bool| {
        let paris = Candidate { links: links.to_vec(), ..read("paris").1 };
        let all = [paris, read("here").1];
        let candidates = if here { &all[..] } else { &all[..1] };
        let asked = Asked { candidates, rules: &Rules::default(), affinity: None };
        choose(asked, &Tried::default(), Draws([0; 5]))
    };
    let to = |link| Some(Choice::Link { cluster: id("paris"), link });
    assert_eq!(chosen(&[going(1), link(2, LinkState::Healthy, 9)], true), to(2));
    assert_eq!(chosen(&[going(1)], true), Some(Choice::Here));
    assert_eq!(chosen(&[going(1)], false), to(1));
}

#[test]
fn what_was_tried_is_not_tried_again_and_own_pods_come_last() {
    let mut tried = Tried::default();
    let two = "here\n paris 1:healthy:0\n tokyo 2:healthy:0 3:healthy:0";
    tried.learn(Scope::Cluster, id("paris"), 0);
    assert_eq!(check(two, &tried), ["tokyo 2", "tokyo 3"]);
    tried.link(2);
    assert_eq!(check(two, &tried), ["tokyo 3"]);
    tried.link(3);
    assert_eq!(check(two, &tried), ["here"]);
    tried.here();
    assert_eq!(check(two, &tried), ["nobody"]);
}

#[test]
fn a_cluster_that_is_left_out_gets_no_call_while_there_is_another() {
    let none = Tried::default();
    assert_eq!(check("paris out 1:healthy:0\n tokyo calls=9 2:healthy:0", &none), ["tokyo 2"]);
    assert_eq!(check("paris out 1:healthy:0", &none), ["paris 1"]);
}

#[test]
fn a_cluster_that_comes_back_gets_a_part_of_its_share() {
    let two = "paris cold 1:healthy:0\n tokyo 2:healthy:0";
    let chosen = count(two, &Rules::default(), &Tried::default());
    assert!(chosen["paris 1"] < 150, "{chosen:?}");
}

fn weighed(weights: &[(&str, u32)], spill: Option<Spill>) -> Rules {
    let weights = weights.iter().map(|(name, weight)| (id(name), *weight)).collect();
    Rules { weights: Some(weights), spill, ..Rules::default() }
}

/// Design, "Objects": TrafficPolicy: "locality, weights, spill-over".
#[test]
fn weights_say_how_many_calls_each_cluster_gets_this_one_among_them() {
    let none = Tried::default();
    let three = "here\n paris 1:healthy:0\n tokyo near 2:healthy:0";
    let rules = weighed(&[("here", 70), ("paris", 30)], None);
    let of = |fixture: &str, tried: &Tried| count(fixture, &rules, tried);
    let chosen = of(three, &none);
    assert!((670..=730).contains(&chosen["here"]) && chosen.len() == 2, "{chosen:?}");
    // Who is not named gets calls when nobody else takes any.
    let mut tried = Tried::default();
    tried.here();
    assert_eq!(of(three, &tried).into_keys().collect::<Vec<_>>(), ["paris 1"]);
    tried.link(1);
    assert_eq!(of(three, &tried).into_keys().collect::<Vec<_>>(), ["tokyo 2"]);
}

/// The "spill-over below a healthy threshold or above capacity".
#[test]
fn what_a_cluster_cannot_take_goes_on_to_the_next_nearest() {
    let none = Tried::default();
    let rules =
        Rules { spill: Some(Spill { healthy: Some(100), calls: Some(50) }), ..Rules::default() };
    let of = |fixture: &str| count(fixture, &rules, &none);
    let all = |name: &str| BTreeMap::from([(name.to_owned(), 1_000)]);
    assert_eq!(of("here ready=4/4\n paris near ready=1/1 1:healthy:0"), all("here"));
    let some = of("here ready=3/4\n paris near ready=1/1 1:healthy:0");
    assert_eq!(some, BTreeMap::from([("here".into(), 750), ("paris 1".into(), 250)]));
    assert_eq!(of("here ready=4/4 calls=50\n paris ready=1/1 1:healthy:0"), all("paris 1"));
    // Where nobody takes it, the nearest does.
    assert_eq!(of("here ready=4/4 calls=50\n paris calls=50 ready=1/1 1:healthy:0"), all("here"));
}

#[test]
fn a_cluster_gets_less_than_its_weight_where_fewer_of_its_endpoints_are_ready() {
    let spill = Spill { healthy: Some(50), calls: None };
    let rules = weighed(&[("paris", 50), ("tokyo", 50)], Some(spill));
    let chosen = count(
        "paris ready=1/4 1:healthy:0\n tokyo ready=4/4 2:healthy:0",
        &rules,
        &Tried::default(),
    );
    assert!((300..=365).contains(&chosen["paris 1"]), "{chosen:?}");
}

/// KEP-1645, "Session Affinity".
#[test]
fn a_client_with_affinity_gets_the_same_cluster_whatever_is_drawn() {
    let both = [read("paris calls=7 1:healthy:0").1, read("tokyo 2:healthy:0").1];
    let of = |client: &str, candidates: &[Candidate<'_>], draw: u64| {
        let affinity = Some(Key::of(client.parse().unwrap()));
        let asked = Asked { candidates, rules: &Rules::default(), affinity };
        choose(asked, &Tried::default(), Draws([draw; 5]))
    };
    let mut seen = std::collections::HashSet::new();
    for client in (1..=32).map(|last| format!("10.244.0.{last}")) {
        let chosen = of(&client, &both, 0);
        assert_eq!(chosen, of(&client, &both, 77));
        seen.insert(format!("{chosen:?}"));
        assert!(of(&client, &both[1..], 0).is_some(), "another one where its own is gone");
    }
    assert_eq!(seen.len(), 2);
}

proptest! {
    /// Any draws choose a link that takes streams, if there is one.
    #[test]
    fn no_draw_chooses_what_cannot_be_used(
        draws in any::<[u64; 5]>(),
        states in prop::collection::vec((0_u8..3, 0_usize..5, any::<bool>()), 1..8),
        out in any::<bool>(),
        most in 0_u8..=100,
        client in prop::option::of(any::<u32>()),
    ) {
        let links: Vec<LinkView> = states.iter().enumerate().map(|(at, (state, streams, draining))| LinkView {
            id: at as u64,
            state: [LinkState::Healthy, LinkState::Suspect, LinkState::Closed][usize::from(*state)],
            draining: *draining,
            fallback: at % 2 == 1,
            streams: *streams,
        }).collect();
        let out_until = out.then(Instant::now);
        let candidates = [Candidate { links: links.clone(), out_until, ..read("paris").1 }];
        let usable = |link: &LinkView| link.state.takes_streams();
        let outliers = outlier::Settings { most, ..outlier::Settings::default() };
        let rules = Rules { outliers, ..Rules::default() };
        let affinity = client.map(|client| Key::of(std::net::Ipv4Addr::from(client).into()));
        let asked = Asked { candidates: &candidates, rules: &rules, affinity };
        match choose(asked, &Tried::default(), Draws(draws)) {
            None => prop_assert!(!links.iter().any(usable)),
            Some(Choice::Here) => prop_assert!(false, "nothing is here"),
            Some(Choice::Link { link, .. }) => {
                prop_assert!(links.iter().any(|view| view.id == link && usable(view)));
            }
        }
    }
}
