//! How long do small requests take beside a stream that fills the link?
//!
//! The cable carries 1 Gbit/s each way and has a queue of 20 ms; 100 requests a second go over twenty connections, and a pod
//! sends as much as the link takes over another. A request is timed from when it was due.
//!
//! Unfair: each of haproxy's connections is a flow of its own, and they share the queue as the kernel has it; ours are streams of one.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::time::Duration;

use gateway::{
    ground::{self, BULK, HTTP},
    load::{Beside, Order},
    systems::{DIRECT, HAPROXY, OURS, STUNNEL, Scene, ZTUNNEL},
};
use landbridge_benches::{
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

const EVERY: Duration = Duration::from_millis(10);
/// Tokens for 1 ms, and what waits for more than 20 ms is dropped.
const LINK: [&str; 11] =
    ["qdisc", "add", "dev", "wan", "root", "tbf", "rate", "1gbit", "burst", "128kb", "latency"];
const QUEUE: &str = "20ms";

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&["tc"])?;
    let mut report = Report::new("gateway-tail", rounds);
    let mut scene = Scene::new()?;
    for space in [&scene.ground.berlin, &scene.ground.paris] {
        space.exec(&[&["tc"][..], &LINK, &[QUEUE]].concat())?;
    }
    let mut tail = Measured::default();
    for round in rounds.each() {
        for name in [DIRECT, OURS, HAPROXY, STUNNEL] {
            let Some(system) = scene.start(name)? else {
                report.missing(name);
                continue;
            };
            let order = Order::Beside {
                bulk: system.at(&BULK),
                at: system.at(&HTTP),
                every: EVERY,
                lasts: rounds.pick(Duration::from_secs(8), Duration::from_secs(2)),
            };
            let Beside { bulk, requests } = scene.clients.carry_out(&order)?;
            tail.add(name, requests.p99);
            report.row([
                ("system", json!(name)),
                ("round", json!(round)),
                ("requests", json!(requests.done)),
                ("failed", json!(requests.failed)),
                ("p50 ms", json!(requests.p50 / 1e3)),
                ("p99 ms", json!(requests.p99 / 1e3)),
                ("bulk Gbit/s", json!(bulk.rate())),
            ]);
        }
    }
    for peer in [HAPROXY, ZTUNNEL] {
        let name = format!("p99 of a request / {peer}'s");
        report.compare(&name, Goal::AtMost(0.5), &tail, OURS, peer);
    }
    report.finish()?;
    Ok(())
}
