//! How many HTTP requests go through, on connections that stay open, and how much later does each answer come?
//!
//! One connection at a time shows what the way adds, 32 show how much it takes. The answer is 1 KiB.
//!
//! Unfair: clients, pods and both ends share two cores. haproxy forwards TCP here, as the gateway does: it need not read
//! the requests.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::time::Duration;

use gateway::{
    ground::{self, HTTP},
    load::{Order, Requests},
    systems::{DIRECT, HAPROXY, OURS, STUNNEL, Scene, System, ZTUNNEL},
};
use landbridge_benches::{
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

const PEERS: [&str; 2] = [HAPROXY, STUNNEL];

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&[])?;
    let mut report = Report::new("gateway-requests", rounds);
    let mut scene = Scene::new()?;
    let (mut one, mut many, mut middle) =
        (Measured::default(), Measured::default(), Measured::default());
    for round in rounds.each() {
        for name in [DIRECT, OURS, HAPROXY, STUNNEL] {
            let Some(system) = scene.start(name)? else {
                report.missing(name);
                continue;
            };
            for (connections, rates) in [(1, &mut one), (32, &mut many)] {
                let (requests, cpu) = run(&mut scene, &system, connections, rounds)?;
                rates.add(name, requests.rate());
                if connections == 1 {
                    middle.add(name, requests.p50);
                }
                report.row([
                    ("system", json!(name)),
                    ("round", json!(round)),
                    ("connections", json!(connections)),
                    ("requests a second", json!(requests.rate().round())),
                    ("p50 µs", json!(requests.p50)),
                    ("p99 µs", json!(requests.p99)),
                    ("failed", json!(requests.failed)),
                    ("CPU µs a request", json!(cpu * 1e6 / requests.done as f64)),
                ]);
            }
        }
    }
    for (connections, rates) in [(1, &one), (32, &many)] {
        let name = format!("requests a second / the best peer's, {connections} at a time");
        report.promise(&name, Goal::AtLeast(1.15), &against_best(rates));
    }
    report.missing(ZTUNNEL);
    let added: Vec<f64> =
        middle.of(OURS).iter().zip(middle.of(DIRECT)).map(|(ours, direct)| ours - direct).collect();
    report.promise("added at p50, µs", Goal::AtMost(60.0), &added);
    report.finish()?;
    Ok(())
}

/// Our rate as a part of that of the peer that was best in the same round.
fn against_best(rates: &Measured) -> Vec<f64> {
    let best = |round: usize| {
        let of = |peer| rates.of(peer).get(round).copied();
        PEERS.into_iter().filter_map(of).max_by(f64::total_cmp)
    };
    let rounds = rates.of(OURS).iter().enumerate();
    rounds.filter_map(|(round, ours)| Some(ours / best(round)?)).collect()
}

fn run(
    scene: &mut Scene,
    system: &System,
    connections: usize,
    rounds: Rounds,
) -> anyhow::Result<(Requests, f64)> {
    let mut ask = |lasts| -> anyhow::Result<Requests> {
        let at = system.at(&HTTP);
        scene.clients.carry_out(&Order::Requests { at, connections, lasts, keep: true })
    };
    ask(Duration::from_millis(500))?;
    let before = system.cpu()?;
    let requests = ask(rounds.pick(Duration::from_secs(4), Duration::from_secs(1)))?;
    Ok((requests, system.cpu()? - before))
}
