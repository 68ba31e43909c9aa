//! Ways between clusters as they are: each with addresses that mean something else elsewhere, behind a NAT, behind a
//! firewall, over a cable that somebody pulls.

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    net::Shutdown,
    time::{Duration, Instant},
};

use landbridge_gateway::pki;

use crate::{
    site::{Site, now, until},
    space::{Space, switch},
};

const BERLIN: &str = "198.51.100.11";
const PARIS: &str = "198.51.100.12";
const TOKYO: &str = "198.51.100.13";
const NAT: &str = "198.51.100.20";

fn root() -> pki::Root {
    pki::Root::generate(&"demo".parse().unwrap(), now()).unwrap()
}

fn site(root: &pki::Root, name: &'static str, switch: &Space, address: &str) -> Site {
    Site::start(root, name, Site::space(switch, &format!("{address}/24"), name))
}

/// The bar: "pod and service ranges may overlap".
#[test]
fn the_same_address_means_each_clusters_own_pod() {
    let (root, switch) = (root(), switch());
    let berlin = site(&root, "berlin", &switch, BERLIN);
    let paris = site(&root, "paris", &switch, PARIS);
    berlin.knows("paris", &[PARIS]);
    paris.knows("berlin", &[BERLIN]);
    paris.exports();
    berlin.imports(&["paris"]);
    berlin.linked("paris");
    assert_eq!(berlin.ask_own_pod().unwrap(), "berlin");
    assert_eq!(paris.ask_own_pod().unwrap(), "paris");
    assert_eq!(berlin.ask("?").unwrap(), "paris");
    assert_eq!(berlin.ask_udp().unwrap(), "paris");
}

/// A NAT on a switch, and a place for a cluster behind it, where nobody can dial it.
fn behind_nat(switch: &Space) -> (Space, Space) {
    let nat = Space::new(&[]);
    nat.cable(("wan", &format!("{NAT}/24")), switch, "nat");
    switch.plug("nat");
    let home = Site::apart();
    home.cable(("wan", "192.168.0.2/24"), &nat, "lan");
    nat.ip(&["address", "add", "192.168.0.1/24", "dev", "lan"]);
    home.ip(&["route", "add", "default", "via", "192.168.0.1"]);
    nat.exec(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
    nat.exec(&["nft", "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; add rule ip nat out oif wan masquerade fully-random"]);
    (nat, home)
}

/// The bar: "no cluster's Kubernetes API is exposed to the others", and "one side may sit behind NAT". The hub's API listens on
/// its own cluster's loopback alone.
#[test]
fn a_member_behind_nat_reaches_the_hubs_api_through_its_link() {
    let (root, switch) = (root(), switch());
    let (_nat, home) = behind_nat(&switch);
    let home = Site::start_with(&root, "home", home, Site::member_of("cloud"));
    let cloud = Site::space(&switch, &format!("{PARIS}/24"), "cloud");
    let cloud = Site::start_with(&root, "cloud", cloud, Site::hub());
    cloud.serves_an_api();
    cloud.knows("home", &[]);
    home.knows("cloud", &[PARIS]);
    home.linked("cloud");
    let mut watch = home.reaches_the_hub().unwrap();
    watch.write_all(b"news?").unwrap();
    watch.read_exact(&mut [0; 5]).unwrap();
    switch.ip(&["link", "set", "nat", "down"]);
    let ended = watch.read(&mut [0; 5]);
    assert!(
        ended.is_err(),
        "a watch over a link that is lost is told from one that has ended: {ended:?}"
    );
    until("the link is gone", || home.links("cloud").is_empty());
    assert!(home.reaches_the_hub().is_err());
    switch.ip(&["link", "set", "nat", "up"]);
    until("the hub is reached again", || home.reaches_the_hub().is_ok());
    assert_eq!(cloud.gateway.snapshot()["hub"]["api"], "127.0.0.1:16443");
}

/// The bar: "one side may sit behind NAT". Nobody can dial it, and it has no open port: it serves and calls.
#[test]
fn a_cluster_that_nobody_can_dial_serves_and_calls() {
    let (root, switch) = (root(), switch());
    let (_nat, home) = behind_nat(&switch);
    let home = Site::start(&root, "home", home);
    let cloud = site(&root, "cloud", &switch, PARIS);
    // The cloud tries as well, at the only address that it sees. The NAT lends ports of its own choice: nobody is there.
    cloud.knows("home", &[NAT]);
    home.knows("cloud", &[PARIS]);
    for site in [&home, &cloud] {
        site.exports();
    }
    home.imports(&["cloud"]);
    cloud.imports(&["home"]);
    home.linked("cloud");
    cloud.linked("home");
    assert_eq!(cloud.links("home").len(), 1, "the one that home has dialled");
    assert_eq!(home.ask("?").unwrap(), "cloud");
    assert_eq!(cloud.ask("?").unwrap(), "home");
    assert_eq!(cloud.ask_udp().unwrap(), "home");
}

/// The bar: "A remote gateway, or a cluster reached through gateways, that dies gets no new connection after 0.5 s", and
/// "a call that may have been delivered is never sent twice".
#[test]
fn a_cable_that_is_pulled_costs_at_most_the_calls_under_way() {
    let (root, switch) = (root(), switch());
    let berlin = site(&root, "berlin", &switch, BERLIN);
    let others = [("paris", PARIS), ("tokyo", TOKYO)];
    let [paris, tokyo] = others.map(|(name, address)| {
        let other = site(&root, name, &switch, address);
        other.knows("berlin", &[]);
        other.exports();
        berlin.knows(name, &[address]);
        other
    });
    berlin.imports(&["paris", "tokyo"]);
    berlin.linked("paris");
    berlin.linked("tokyo");
    switch.ip(&["link", "set", "tokyo", "down"]);
    let cut = Instant::now();
    let (mut asked, mut failed) = (0, 0);
    while cut.elapsed() < Duration::from_secs(2) {
        let begun = cut.elapsed();
        let answer = berlin.ask(&format!("call {asked}"));
        asked += 1;
        match answer {
            Ok(answer) => assert!(answer == "paris" || begun.as_millis() < 50, "{answer}"),
            Err(error) => {
                failed += 1;
                assert!(begun < Duration::from_millis(700), "after {begun:?}: {error}");
            }
        }
    }
    assert!(failed <= 2, "{failed} of {asked} calls failed, asked one after the other");
    assert_eq!(berlin.links("tokyo"), ["suspect"]);
    let heard = [paris.heard.lock().unwrap().clone(), tokyo.heard.lock().unwrap().clone()].concat();
    let distinct: HashSet<&String> = heard.iter().collect();
    assert_eq!(distinct.len(), heard.len(), "a call was delivered twice");
    switch.ip(&["link", "set", "tokyo", "up"]);
    berlin.linked("tokyo");
    until("tokyo is called again", || berlin.ask("again").is_ok_and(|answer| answer == "tokyo"));
}

/// Lets no UDP through between `site` and others any more.
fn closes(site: &Site) {
    site.space.exec(&["nft", "add table inet wall; add chain inet wall in { type filter hook input priority 0; }; add chain inet wall out { type filter hook output priority 0; }; add rule inet wall in iif wan meta l4proto udp drop; add rule inet wall out oif wan meta l4proto udp drop"]);
}

fn opens(site: &Site) {
    site.space.exec(&["nft", "delete table inet wall"]);
}

/// berlin calls paris, which nobody else knows.
fn berlin_and_paris(root: &pki::Root, switch: &Space) -> (Site, Site) {
    let berlin = site(root, "berlin", switch, BERLIN);
    let paris = site(root, "paris", switch, PARIS);
    paris.knows("berlin", &[]);
    paris.exports();
    berlin.imports(&["paris"]);
    (berlin, paris)
}

/// Section 10, gateway-fallback: "found within 1 s", where UDP has never passed.
#[test]
fn a_firewall_that_drops_udp_is_found_out_within_a_second() {
    let (root, switch) = (root(), switch());
    let (berlin, paris) = berlin_and_paris(&root, &switch);
    closes(&paris);
    let begun = Instant::now();
    berlin.knows("paris", &[PARIS]);
    berlin.linked("paris");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(berlin.transports("paris"), ["tcp"]);
    assert_eq!(berlin.ask("?").unwrap(), "paris");
    assert_eq!(berlin.ask_udp().unwrap(), "paris");
    assert!(berlin.gateway.snapshot()["peers"]["paris"]["lastError"].is_null());
    opens(&paris);
    until("QUIC alone is there", || berlin.transports("paris") == ["quic"]);
    assert_eq!(berlin.ask("?").unwrap(), "paris");
    assert_eq!(berlin.ask_udp().unwrap(), "paris");
}

/// The same, of one that closes under a link, and opens again: "calls under way are reset, never sent twice", and those that
/// were begun over TCP end there.
#[test]
fn a_firewall_that_begins_to_drop_udp_costs_a_second_and_cuts_nothing_when_it_opens() {
    let (root, switch) = (root(), switch());
    let (berlin, paris) = berlin_and_paris(&root, &switch);
    berlin.knows("paris", &[PARIS]);
    berlin.linked("paris");
    assert_eq!(berlin.transports("paris"), ["quic"]);
    closes(&paris);
    let closed = Instant::now();
    let calls: Vec<_> = (0..40)
        .map(|number| {
            std::thread::sleep(Duration::from_millis(50));
            (closed.elapsed(), berlin.asks(&format!("call {number}")))
        })
        .collect();
    for (begun, call) in calls {
        let answer = call.join().unwrap();
        let late = begun > Duration::from_secs(1);
        assert!(!late || answer.is_ok(), "begun after {begun:?}: {answer:?}");
    }
    let heard = paris.heard.lock().unwrap().clone();
    assert_eq!(heard.iter().collect::<HashSet<_>>().len(), heard.len(), "delivered twice");
    let mut open = berlin.connect();
    open.write_all(b"before, ").unwrap();
    assert_eq!(berlin.ask_udp().unwrap(), "paris");
    opens(&paris);
    until("QUIC is there", || berlin.transports("paris").contains(&"quic".to_owned()));
    until("calls go over it", || {
        berlin.ask("?").unwrap();
        berlin.links("paris").iter().any(|state| state == "healthy")
    });
    open.write_all(b"after").unwrap();
    open.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "paris", "it ended where it had begun");
    assert!(paris.heard.lock().unwrap().contains(&"before, after".to_owned()));
    // A client that goes on sending datagrams keeps nothing where it is.
    until("QUIC alone is there", || {
        assert_eq!(berlin.ask_udp().unwrap(), "paris");
        berlin.transports("paris") == ["quic"]
    });
}
