//! How long does it take from the writing of an object to the first answer by it, idle and at 50 changes a second under
//! half load?
//!
//! Ours and CoreDNS follow one kube-apiserver. The time begins when the API has said that a change is written; the new
//! answer is looked for every tenth of a millisecond, so that whoever looks leaves the API its time. Under load dnsperf
//! asks for half of what it gets answered when it asks for all it can. That is several times as much of ours: where the two
//! are compared, ours is asked for as much as CoreDNS.
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
/// How often an answer is looked for.
const LOOK: Duration = Duration::from_micros(50);
/// The longest that an answer is looked for.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(role) = child::role() {
        return roles::serve(&role).await;
    }
    let rounds = Rounds::from_args();
    let mut report = Report::new("dns-propagation", rounds);
    let mut p99 = P99::default();
    if scene::is_there(&mut report) {
        measure(&mut report, rounds, &mut p99).await?;
    }
    let (ours, peer) = (System::Ours.name(), System::CoreDns.name());
    report.compare("idle p99 / CoreDNS's", Goal::AtMost(1.0), &p99.idle, ours, peer);
    report.promise("p99 ms at half load", Goal::AtMost(20.0), p99.half.of(ours));
    let name = "p99 at half of CoreDNS's load / CoreDNS's";
    report.compare(name, Goal::AtMost(1.0), &p99.alike, ours, peer);
    report.finish()?;
    Ok(())
}

/// What is compared, by system.
#[derive(Default)]
struct P99 {
    idle: Measured,
    /// At half of what the system itself answers.
    half: Measured,
    /// At half of what CoreDNS answers.
    alike: Measured,
}

async fn measure(report: &mut Report, rounds: Rounds, p99: &mut P99) -> anyhow::Result<()> {
    systems::leave_the_servers_core()?;
    let services = rounds.pick(10_000, 1_000);
    let count = rounds.pick(300, 50);
    let scene = Scene::filled(services).await?;
    let mut changes = Changes { scene: &scene, made: 0 };
    for round in rounds.each() {
        let mut peers = None;
        for system in [System::CoreDns, System::Ours] {
            let name = system.name();
            let Some(server) = block_in_place(|| systems::start(system, &scene, services))? else {
                report.missing(name);
                continue;
            };
            let times = changes.follow(&server, count, PACE / 4).await?;
            p99.idle.add(name, row(report, name, "none", round, &times));
            if !load::is_there() {
                report.missing(load::DNSPERF);
                continue;
            }
            let whole = Duration::from_secs(2);
            let whole = block_in_place(|| load::run(&server, Kind::A, services, whole, None))?.rate;
            let mut loaded = |rate| {
                let times =
                    block_in_place(|| changes.follow_loaded(&server, services, count, rate))?;
                let load = format!("50 changes, {rate:.0} queries a second");
                anyhow::Ok(row(report, name, &load, round, &times))
            };
            let half = loaded(whole / 2.0)?;
            p99.half.add(name, half);
            match (system, peers) {
                (System::CoreDns, _) => {
                    peers = Some(whole / 2.0);
                    p99.alike.add(name, half);
                }
                (_, Some(rate)) => p99.alike.add(name, loaded(rate)?),
                (_, None) => {}
            }
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
                    thread::sleep(LOOK);
                }
                Ok(())
            })?;
            times.push(written.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }

    /// The same while others ask so much a second.
    fn follow_loaded(
        &mut self,
        server: &Running,
        services: usize,
        count: usize,
        rate: f64,
    ) -> anyhow::Result<Vec<f64>> {
        let time = PACE * u32::try_from(count)? + Duration::from_secs(3);
        let runtime = Handle::current();
        thread::scope(|scope| {
            let load = scope.spawn(move || load::run(server, Kind::A, services, time, Some(rate)));
            let times = runtime.block_on(async {
                sleep(Duration::from_secs(1)).await;
                self.follow(server, count, PACE).await
            });
            let ran = load.join().ok().context("the load has ended by itself")?;
            ran.and(times)
        })
    }
}
