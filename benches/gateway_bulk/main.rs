//! How fast do bytes go from a pod to a client of another cluster, and what do they cost?
//!
//! One stream, eight, and eight where everything has one core. The CPU time is that of both ends together.
//!
//! `--jumbo` makes the cable carry packets of 9,000 bytes, as the networks of clouds do.
//!
//! Unfair: clients, pods and both ends share two cores, so that a faster system also feeds its own load; the cable is a
//! veth pair, which loses nothing and sends segments of 64 KiB where TCP asks for it.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::time::Duration;

use gateway::{
    ground::{self, BULK},
    load::{Bulk, Order},
    systems::{DIRECT, HAPROXY, OURS, STUNNEL, Scene, System, ZTUNNEL},
};
use landbridge_benches::{
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

/// How much there is at once, and on how many cores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Case {
    streams: usize,
    alone: bool,
}

const ONE: Case = Case { streams: 1, alone: false };
const EIGHT: Case = Case { streams: 8, alone: false };
const CONFINED: Case = Case { streams: 8, alone: true };

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&[])?;
    let mut report = Report::new("gateway-bulk", rounds);
    let mut scene = Scene::new()?;
    let mut rates =
        [ONE, EIGHT, CONFINED].map(|case| (case, Measured::default(), Measured::default()));
    for round in rounds.each() {
        for name in [DIRECT, OURS, HAPROXY, STUNNEL] {
            let Some(system) = scene.start(name)? else {
                report.missing(name);
                continue;
            };
            for (case, rate, cost) in &mut rates {
                let (bulk, cpu) = run(&mut scene, &system, *case, rounds)?;
                rate.add(name, bulk.rate());
                cost.add(name, cpu / bulk.gigabits());
                report.row([
                    ("system", json!(name)),
                    ("round", json!(round)),
                    ("MTU", json!(ground::mtu())),
                    ("streams", json!(case.streams)),
                    ("cores", json!(if case.alone { 1 } else { 2 })),
                    ("Gbit/s", json!(bulk.rate())),
                    ("CPU seconds a Gbit", json!(cpu / bulk.gigabits())),
                ]);
            }
        }
    }
    for (case, rate, cost) in &rates[..2] {
        let streams = case.streams;
        let name = |what: &str| format!("{what}, {streams} at a time");
        report.compare(&name("Gbit/s / haproxy's"), Goal::AtLeast(1.2), rate, OURS, HAPROXY);
        report.compare(&name("CPU a Gbit / haproxy's"), Goal::AtMost(0.85), cost, OURS, HAPROXY);
        report.compare(&name("Gbit/s / ztunnel's"), Goal::AtLeast(1.05), rate, OURS, ZTUNNEL);
    }
    let [_, (_, two, _), (_, one, _)] = &rates;
    let scaled: Vec<f64> =
        two.of(OURS).iter().zip(one.of(OURS)).map(|(two, one)| two / one).collect();
    report.promise("Gbit/s on two cores / on one", Goal::AtLeast(1.6), &scaled);
    report.finish()?;
    Ok(())
}

/// What comes through, and the CPU seconds that it takes.
fn run(
    scene: &mut Scene,
    system: &System,
    case: Case,
    rounds: Rounds,
) -> anyhow::Result<(Bulk, f64)> {
    system.confine(scene, case.alone)?;
    let read = |scene: &mut Scene, lasts| -> anyhow::Result<Bulk> {
        let order = Order::Bulk { at: system.at(&BULK), streams: case.streams, lasts };
        scene.clients.carry_out(&order)
    };
    read(scene, Duration::from_millis(500))?;
    let before = system.cpu()?;
    let bulk = read(scene, rounds.pick(Duration::from_secs(4), Duration::from_secs(1)))?;
    let cpu = system.cpu()? - before;
    system.confine(scene, false)?;
    Ok((bulk, cpu))
}
