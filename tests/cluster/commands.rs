//! "From two clusters to a call across them: four commands": `init`, `token issue`, `join`, `verify`, and nothing else
//! typed, on clusters that had nothing of Landbridge before.
//!
//! No cluster reaches the API server of the other one: a wall in front of each lets in whoever types commands, and its own
//! pods. In the second test nobody reaches the new member at all, and its packets come from an address that is not its own.

#![expect(clippy::print_stderr, reason = "how long it took is for whoever runs it")]

use std::{
    process::Output,
    time::{Duration, Instant},
};

use landbridge_xtask::lab::{Cluster, Lab, install, options::Network};

use crate::remains::Other;

/// "from two bare clusters to `landbridge verify` green: … ≤ 90 s in all".
const ALL: Duration = Duration::from_secs(90);
/// Where commands are typed: the network between the clusters, as the lab has it.
const PEOPLE: &str = "192.0.2.1";
const HUB: &str = "192.0.2.11";
const MEMBER: &str = "192.0.2.12";
/// What the member's packets come from, behind its NAT.
const TRANSLATED: &str = "192.0.2.99";
const LINK_PORT: &str = "30433";

/// Runs a command where people are; it has to succeed, and what it printed comes back.
fn types(lab: &Lab, command: &[&str]) -> String {
    let begun = Instant::now();
    let words: Vec<String> = command.iter().map(ToString::to_string).collect();
    let output: Output = lab.command(&words).unwrap().output().unwrap();
    let [said, told] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let took = begun.elapsed();
    eprintln!("── {} ({took:.1?})\n{told}", command[..2].join(" "));
    if !output.status.success() {
        let folder = std::env::current_dir().unwrap().join("../target/cluster/four-commands");
        let _ = lab.gather(&folder);
        panic!("{command:?}: {}\n{said}\n{told}\nsee {}", output.status, folder.display());
    }
    said
}

fn root(cluster: Cluster<'_>, command: &str) {
    let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let output = cluster.command(&words).unwrap().output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Nobody but people, and what runs in the cluster, reaches its API server.
fn wall(lab: &Lab) {
    for cluster in lab.clusters() {
        let port = "INPUT -i eth0 -p tcp --dport 6443";
        root(cluster, &format!("iptables -I {port} -j DROP"));
        root(cluster, &format!("iptables -I {port} -s {PEOPLE} -j ACCEPT"));
    }
    for (from, to) in [(1, MEMBER), (2, HUB)] {
        let knock = format!("timeout 2 bash -c </dev/tcp/{to}/6443");
        let (program, script) = knock.split_once(" -c ").unwrap();
        let mut words: Vec<String> = program.split(' ').map(str::to_owned).collect();
        words.extend(["-c".to_owned(), script.to_owned()]);
        let output = lab.cluster(from).unwrap().command(&words).unwrap().output().unwrap();
        assert!(!output.status.success(), "c{from} reaches the API server at {to}");
    }
}

/// Nobody but people can begin to talk to the cluster, and what it says of links comes from another address.
fn nat(cluster: Cluster<'_>) {
    root(cluster, &format!("ip address add {TRANSLATED}/24 dev eth0"));
    let new = "PREROUTING -t mangle -i eth0 -m conntrack --ctstate NEW";
    root(cluster, &format!("iptables -A {new} ! -s {PEOPLE} -j DROP"));
    for protocol in ["udp", "tcp"] {
        let out = format!("POSTROUTING -t nat -o eth0 -p {protocol} --dport {LINK_PORT}");
        root(cluster, &format!("iptables -I {out} -j SNAT --to-source {TRANSLATED}"));
    }
}

/// The four commands, and how long they took. `open` is what the member says of where it can be dialled.
fn four(lab: &Lab, image: &str, open: &[&str]) {
    let begun = Instant::now();
    let expose = ["--image", image, "--expose", "nodeport"];
    let init =
        ["landbridge", "init", "--context", "c1", "--cluster", "c1", "--cluster-set", "four"];
    types(lab, &[&init[..], &expose, &["--advertise", HUB]].concat());
    let token = types(lab, &["landbridge", "token", "issue", "--context", "c1"]);
    let join = ["landbridge", "join", token.trim(), "--context", "c2", "--cluster", "c2"];
    types(lab, &[&join[..], &expose, open].concat());
    let told = types(lab, &["landbridge", "verify", "--context", "c1", "--context", "c2"]);
    let took = begun.elapsed();
    eprintln!("{told}\nfour commands took {took:.1?}");
    assert!(took <= ALL, "it took {took:?}");
}

/// Bare clusters in overlapping networks, whatever the lab that is up is like.
fn bare(other: &Other) -> (Lab, String) {
    let options = other.arranged();
    let lab = Lab::up(&landbridge_xtask::lab::options::Options {
        network: Network::Overlapping,
        ..options
    });
    let lab = lab.unwrap();
    let image = lab.image(&install::built().unwrap()).unwrap();
    wall(&lab);
    (lab, image)
}

#[test]
fn four_commands() {
    let other = Other::new("four");
    let (lab, image) = bare(&other);
    four(&lab, &image, &["--advertise", MEMBER]);
}

#[test]
fn four_commands_behind_nat() {
    let other = Other::new("fournat");
    let (lab, image) = bare(&other);
    nat(lab.cluster(2).unwrap());
    four(&lab, &image, &[]);
}
