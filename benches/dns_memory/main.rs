//! How much memory do 10,000 services with 10 endpoints each take, and how much more while all are listed anew?
//!
//! Ours and CoreDNS follow one kube-apiserver for each type of service. The relist is forced: the API is killed and comes
//! back without its history; it is over when a change is answered that was made afterwards. What is compared is what each
//! process holds in all, which includes what it holds without a service.
//!
//! Unfair: CoreDNS keeps endpoints of ClusterSetIP services, whose names it also answers; the MCS DNS specification knows
//! none, and ours drops them.

#![allow(clippy::print_stdout, reason = "a server tells the benchmark when it is ready")]

#[path = "../dns/mod.rs"]
mod dns;
#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

use anyhow::Context as _;
use landbridge_benches::{
    child,
    figures::{Goal, Measured},
    process::{memory, reset_peak},
    report::Report,
    rounds::Rounds,
};
use serde_json::{Value, json};
use tokio::{task::block_in_place, time::sleep};

use dns::{
    roles,
    scene::{self, Scene, changed, headless, import, slice},
    systems::{self, Running, System},
};

/// Until what was freed is given back, and nothing is under way.
const SETTLED: Duration = Duration::from_secs(3);
const ENDPOINTS: usize = 10;
const MIB: f64 = 1024.0 * 1024.0;

/// Types of service.
#[derive(Clone, Copy, Debug)]
enum Kind {
    ClusterSetIp,
    Headless,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::ClusterSetIp => "ClusterSetIP",
            Self::Headless => "headless",
        }
    }

    /// All objects; the first service has an address in either case.
    fn objects(self, services: usize) -> Vec<Value> {
        let mut objects = Vec::with_capacity(2 * services);
        for number in 0..services {
            match self {
                Self::ClusterSetIp => {
                    objects.extend([import(number), slice("web", number, ENDPOINTS)]);
                }
                Self::Headless => {
                    objects.extend([headless(number), slice("db", number, ENDPOINTS)]);
                }
            }
        }
        if let Self::Headless = self {
            objects.push(import(0));
        }
        objects
    }

    /// Waits until a server has all of them: lists come in the order of names.
    fn await_all(self, server: &Running, services: usize) -> anyhow::Result<()> {
        let last = (0..services).max_by_key(ToString::to_string).unwrap_or(0);
        match self {
            Self::ClusterSetIp => server.await_records(&scene::service(last), 1),
            Self::Headless => {
                server.await_records(&format!("db-{last}.shop.svc.{}", scene::ZONE), 10)
            }
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(role) = child::role() {
        return roles::serve(&role).await;
    }
    let rounds = Rounds::from_args();
    let mut report = Report::new("dns-memory", rounds);
    let there = scene::is_there(&mut report);
    for kind in [Kind::ClusterSetIp, Kind::Headless] {
        let (mut steady, mut growth) = (Measured::default(), Vec::new());
        if there {
            measure(&mut report, kind, rounds, &mut steady, &mut growth).await?;
        }
        let (ours, peer) = (System::Ours.name(), System::CoreDns.name());
        let name = format!("{}: memory / CoreDNS's", kind.name());
        report.compare(&name, Goal::AtMost(0.3), &steady, ours, peer);
        let name = format!("{}: relist peak / steady", kind.name());
        report.promise(&name, Goal::AtMost(1.3), &growth);
    }
    report.finish()?;
    Ok(())
}

async fn measure(
    report: &mut Report,
    kind: Kind,
    rounds: Rounds,
    steady: &mut Measured,
    growth: &mut Vec<f64>,
) -> anyhow::Result<()> {
    let services = rounds.pick(10_000, 1_000);
    let scene = Scene::with(kind.name(), kind.objects(services)).await?;
    let mut changes = 0;
    for round in rounds.each() {
        for system in [System::Ours, System::CoreDns] {
            let Some(server) = block_in_place(|| systems::launch(system, &scene, services))? else {
                report.missing(system.name());
                continue;
            };
            block_in_place(|| kind.await_all(&server, services))?;
            sleep(SETTLED).await;
            let pid = *server.processes()?.first().context("a server is a process")?;
            let before = memory(pid)?.resident;
            reset_peak(pid)?;
            scene.forget().await?;
            changes += 1;
            scene.change(0, changed(changes)).await?;
            let now = changed(changes).octets();
            block_in_place(|| {
                server.await_answer(&scene::service(0), |answer| answer.last == now)
            })?;
            sleep(SETTLED).await;
            let after = memory(pid)?;
            let [before, peak, again] =
                [before, after.peak, after.resident].map(|bytes| bytes as f64 / MIB);
            steady.add(system.name(), before);
            if system == System::Ours {
                growth.push(peak / before);
            }
            report.row([
                ("services", json!(kind.name())),
                ("system", json!(system.name())),
                ("round", json!(round)),
                ("steady MiB", json!(before)),
                ("relist peak MiB", json!(peak)),
                ("after it MiB", json!(again)),
                ("peak / steady", json!(peak / before)),
            ]);
        }
    }
    scene.cluster.server.stop();
    Ok(())
}
