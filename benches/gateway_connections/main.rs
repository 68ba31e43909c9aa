//! How many calls go through where each has a connection of its own, 16 at a time?
//!
//! Unfair: haproxy and stunnel make a TLS handshake for each connection, haproxy one that resumes a session where it can;
//! gateways have made theirs before. That is what a link is for.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::time::Duration;

use gateway::{
    ground::{self, HTTP},
    load::{Order, Requests},
    systems::{DIRECT, HAPROXY, OURS, STUNNEL, Scene, ZTUNNEL},
};
use landbridge_benches::{
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

const AT_ONCE: usize = 16;

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&[])?;
    let mut report = Report::new("gateway-connections", rounds);
    let mut scene = Scene::new()?;
    let (mut rates, mut lost) = (Measured::default(), Vec::new());
    for round in rounds.each() {
        for name in [DIRECT, OURS, HAPROXY, STUNNEL] {
            let Some(system) = scene.start(name)? else {
                report.missing(name);
                continue;
            };
            let mut ask = |lasts| -> anyhow::Result<Requests> {
                let at = system.at(&HTTP);
                let order = Order::Requests { at, connections: AT_ONCE, lasts, keep: false };
                scene.clients.carry_out(&order)
            };
            ask(Duration::from_millis(500))?;
            let before = system.cpu()?;
            let calls = ask(rounds.pick(Duration::from_secs(4), Duration::from_secs(1)))?;
            rates.add(name, calls.rate());
            if name == OURS {
                lost.push(calls.failed as f64);
            }
            report.row([
                ("system", json!(name)),
                ("round", json!(round)),
                ("calls a second", json!(calls.rate().round())),
                ("p50 µs", json!(calls.p50)),
                ("p99 µs", json!(calls.p99)),
                ("failed", json!(calls.failed)),
                ("CPU µs a call", json!((system.cpu()? - before) * 1e6 / calls.done as f64)),
            ]);
        }
    }
    for (peer, least) in [(ZTUNNEL, 1.3), (HAPROXY, 4.0)] {
        let name = format!("calls a second / {peer}'s");
        report.compare(&name, Goal::AtLeast(least), &rates, OURS, peer);
    }
    report.promise("failed calls", Goal::AtMost(0.0), &lost);
    report.finish()?;
    Ok(())
}
