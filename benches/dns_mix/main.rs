//! What do other questions cost than the plain one: ports, headless services, what is not there?
//!
//! As `dns-hit`, with every kind of question in turn. Our kinds are compared with our own plain question of the same round,
//! and each with Knot's.
//!
//! Unfair: Knot answers from a file, and says less beside a port: no address of its target.

#![allow(clippy::print_stdout, reason = "a server tells the benchmark when it is ready")]

#[path = "../dns/mod.rs"]
mod dns;
#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

use landbridge_benches::{
    child,
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

use dns::{
    load::{self, Run},
    roles,
    scene::{self, Kind, Scene},
    systems::{self, System},
};

const SYSTEMS: [System; 5] =
    [System::Ours, System::Nsd, System::Knot, System::CoreDns, System::Hickory];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(role) = child::role() {
        return roles::serve(&role).await;
    }
    let rounds = Rounds::from_args();
    let mut report = Report::new("dns-mix", rounds);
    let mut cost = Measured::default();
    if !load::is_there() {
        report.missing(load::DNSPERF);
    } else if scene::is_there(&mut report) {
        measure(&mut report, &mut cost, rounds).await?;
    }
    let plain = key(System::Ours, Kind::A);
    for kind in Kind::ALL {
        let ours = key(System::Ours, kind);
        if kind != Kind::A {
            let name = format!("{}: CPU a query / own A", kind.name());
            report.promise(&name, Goal::AtMost(1.3), &cost.ratios(&ours, &plain));
        }
        let name = format!("{}: CPU a query / Knot's", kind.name());
        report.promise(&name, Goal::AtMost(1.0), &cost.ratios(&ours, &key(System::Knot, kind)));
    }
    report.finish()?;
    Ok(())
}

async fn measure(report: &mut Report, cost: &mut Measured, rounds: Rounds) -> anyhow::Result<()> {
    systems::leave_the_servers_core()?;
    let services = rounds.pick(10_000, 1_000);
    let scene = Scene::filled(services).await?;
    for round in rounds.each() {
        for system in SYSTEMS {
            let ran = tokio::task::block_in_place(|| answers(system, &scene, services, rounds))?;
            let Some(runs) = ran else {
                report.missing(system.name());
                continue;
            };
            for (kind, run) in runs {
                cost.add(&key(system, kind), run.micros);
                report.row([
                    ("system", json!(system.name())),
                    ("asked", json!(kind.name())),
                    ("round", json!(round)),
                    ("CPU µs a query", json!(run.micros)),
                    ("queries a second", json!(run.rate.round())),
                    ("lost", json!(run.lost)),
                ]);
            }
        }
    }
    Ok(())
}

/// Has a system answer each kind; none where its program is not there.
fn answers(
    system: System,
    scene: &Scene,
    services: usize,
    rounds: Rounds,
) -> anyhow::Result<Option<Vec<(Kind, Run)>>> {
    let Some(server) = systems::start(system, scene, services)? else {
        return Ok(None);
    };
    let time = Duration::from_secs(rounds.pick(3, 1));
    let run = |kind| load::run(&server, kind, services, time, None);
    run(Kind::A)?;
    let runs = Kind::ALL.into_iter().map(|kind| Ok((kind, run(kind)?)));
    runs.collect::<anyhow::Result<_>>().map(Some)
}

fn key(system: System, kind: Kind) -> String {
    format!("{} {}", system.name(), kind.name())
}
