//! What does the answer to a plain question cost: the address of one of 10,000 services, from one thread?
//!
//! Each system answers dnsperf in turn, alone on the first core; its CPU time is the kernel's count for all of its
//! processes. CoreDNS and ours follow one kube-apiserver, which is quiet meanwhile; NSD, Knot and hickory-server have the
//! same records from a file. The reflector looks at nothing: it is what receiving and sending cost.
//!
//! Unfair: servers of a file need not be ready for changes. The answers of ours and NSD are whole before a question comes;
//! that is what they are compared for. dnsperf and the API share the other core.

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

const SYSTEMS: [System; 6] =
    [System::Ours, System::Nsd, System::Knot, System::Reflector, System::CoreDns, System::Hickory];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(role) = child::role() {
        return roles::serve(&role).await;
    }
    let rounds = Rounds::from_args();
    let mut report = Report::new("dns-hit", rounds);
    let mut cost = Measured::default();
    if !load::is_there() {
        report.missing(load::DNSPERF);
    } else if scene::is_there(&mut report) {
        measure(&mut report, &mut cost, rounds).await?;
    }
    let ours = System::Ours.name();
    for (peer, most) in [(System::Nsd, 1.0), (System::CoreDns, 0.2), (System::Reflector, 1.12)] {
        let peer = peer.name();
        let name = format!("CPU a query / {peer}'s");
        report.compare(&name, Goal::AtMost(most), &cost, ours, peer);
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
            let Some(run) = ran else {
                report.missing(system.name());
                continue;
            };
            cost.add(system.name(), run.micros);
            report.row([
                ("system", json!(system.name())),
                ("round", json!(round)),
                ("CPU µs a query", json!(run.micros)),
                ("queries a second", json!(run.rate.round())),
                ("lost", json!(run.lost)),
            ]);
        }
    }
    Ok(())
}

/// Has a system answer; none where its program is not there.
fn answers(
    system: System,
    scene: &Scene,
    services: usize,
    rounds: Rounds,
) -> anyhow::Result<Option<Run>> {
    let Some(server) = systems::start(system, scene, services)? else {
        return Ok(None);
    };
    let run = |seconds| load::run(&server, Kind::A, services, Duration::from_secs(seconds), None);
    run(rounds.pick(2, 1))?;
    run(rounds.pick(6, 2)).map(Some)
}
