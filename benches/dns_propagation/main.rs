//! How long does it take from the writing of an object to the first answer by it, idle and at 50 changes a second under
//! half load?
//!
//! Ours and CoreDNS follow one kube-apiserver. The time begins when the API has said that a change is written; whoever
//! looks for the new answer asks without a pause, which is one query more at a time in either case. Under load dnsperf
//! asks for half of what it gets answered when it asks for all it can: of ours more in a second, and of each as much of its
//! core.
//!
//! Unfair: the API, etcd and dnsperf share a core, and each system waits for them alike.

#![allow(clippy::print_stdout, reason = "a server tells the benchmark when it is ready")]

#[path = "../dns/mod.rs"]
mod dns;
#[path = "../world/mod.rs"]
mod world;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use landbridge_benches::{
    child,
    figures::{Goal, Measured, percentile},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;
use tokio::{
    runtime::Handle,
    task::block_in_place,
    time::{interval, sleep},
};

use dns::{
    ask::Asker,
    load, roles,
    scene::{self, Kind, Scene, changed},
    systems::{self, Running, System},
};

/// The pace of changes under load.
const PACE: Duration = Duration::from_millis(20);
/// The longest that an answer is looked for.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(role) = child::role() {
        return roles::serve(&role).await;
    }
    let rounds = Rounds::from_args();
    let mut report = Report::new("dns-propagation", rounds);
    let (mut idle, mut loaded) = (Measured::default(), Measured::default());
    if scene::is_there(&mut report) {
        measure(&mut report, rounds, &mut idle, &mut loaded).await?;
    }
    let (ours, peer) = (System::Ours.name(), System::CoreDns.name());
    report.compare("idle p99 / CoreDNS's", Goal::AtMost(1.0), &idle, ours, peer);
    report.promise("loaded p99 ms", Goal::AtMost(20.0), loaded.of(ours));
    report.compare("loaded p99 / CoreDNS's", Goal::AtMost(1.0), &loaded, ours, peer);
    report.finish()?;
    Ok(())
}

async fn measure(
    report: &mut Report,
    rounds: Rounds,
    idle: &mut Measured,
    loaded: &mut Measured,
) -> anyhow::Result<()> {
    systems::leave_the_servers_core()?;
    let services = rounds.pick(10_000, 1_000);
    let count = rounds.pick(300, 50);
    let scene = Scene::filled(services).await?;
    let mut changes = Changes { scene: &scene, made: 0 };
    for round in rounds.each() {
        for system in [System::Ours, System::CoreDns] {
            let name = system.name();
            let Some(server) = block_in_place(|| systems::start(system, &scene, services))? else {
                report.missing(name);
                continue;
            };
            let times = changes.follow(&server, count, PACE / 4).await?;
            idle.add(name, row(report, name, "idle", round, &times));
            if !load::is_there() {
                report.missing(load::DNSPERF);
                continue;
            }
            let times = block_in_place(|| changes.follow_loaded(&server, services, count))?;
            let p99 = row(report, name, "50 changes a second, half load", round, &times);
            loaded.add(name, p99);
        }
    }
    Ok(())
}

/// Tells of the times, in milliseconds; returns the 99th percentile.
fn row(report: &mut Report, system: &str, load: &str, round: usize, times: &[f64]) -> f64 {
    let at = |percent| percentile(times, percent).unwrap_or(f64::NAN);
    report.row([
        ("system", json!(system)),
        ("load", json!(load)),
        ("round", json!(round)),
        ("p50 ms", json!(at(50))),
        ("p99 ms", json!(at(99))),
        ("most ms", json!(at(100))),
    ]);
    at(99)
}

/// Who changes services, one after the other.
struct Changes<'a> {
    scene: &'a Scene,
    made: usize,
}

impl Changes<'_> {
    /// Changes the address of one service after another at a pace, and looks until each is answered: milliseconds.
    async fn follow(
        &mut self,
        server: &Running,
        count: usize,
        pace: Duration,
    ) -> anyhow::Result<Vec<f64>> {
        let mut asker = Asker::new(server.address)?;
        let (mut times, mut pace) = (Vec::with_capacity(count), interval(pace));
        for service in 0..count {
            pace.tick().await;
            // What it is changed to is never what it was.
            self.made += 1;
            let to = changed(self.made);
            let name = scene::service(service);
            self.scene.change(service, to).await?;
            let written = Instant::now();
            block_in_place(|| -> anyhow::Result<()> {
                while asker.ask(&name, 1)?.is_none_or(|answer| answer.last != to.octets()) {
                    ensure!(
                        written.elapsed() < PATIENCE,
                        "a change was not answered within {PATIENCE:?}"
                    );
                }
                Ok(())
            })?;
            times.push(written.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }

    /// The same while others ask for half of what the server can answer.
    fn follow_loaded(
        &mut self,
        server: &Running,
        services: usize,
        count: usize,
    ) -> anyhow::Result<Vec<f64>> {
        let whole = load::run(server, Kind::A, services, Duration::from_secs(2), None)?.rate;
        let time = PACE * u32::try_from(count)? + Duration::from_secs(3);
        let runtime = Handle::current();
        thread::scope(|scope| {
            let half = Some(whole / 2.0);
            let load = scope.spawn(move || load::run(server, Kind::A, services, time, half));
            let times = runtime.block_on(async {
                sleep(Duration::from_secs(1)).await;
                self.follow(server, count, PACE).await
            });
            let ran = load.join().ok().context("the load has ended by itself")?;
            ran.and(times)
        })
    }
}
