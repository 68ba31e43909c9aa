//! How soon is TCP found where UDP does not pass, and how fast do bytes go over it?
//!
//! A firewall begins to drop UDP under a link that stands, while calls are made one after the other: how long it takes until
//! the next one is answered. Then one stream, and eight, over what was found.
//!
//! Unfair: what is unfair in `gateway-bulk`; and haproxy has a connection for each stream, where a gateway has one for all.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::time::Duration;

use gateway::{
    ground::{self, ASK, BULK},
    load::{Asked, Bulk, Entries, Order, clock},
    systems::{HAPROXY, OURS, Scene, System},
};
use landbridge_benches::{
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use landbridge_xtask::space::Space;
use serde_json::json;

const STREAMS: [usize; 2] = [1, 8];
/// How often it is asked, and for how long, while the firewall closes.
const EVERY: Duration = Duration::from_millis(10);
const LASTS: Duration = Duration::from_secs(3);
/// The firewall closes when it has been asked for so long.
const BEFORE: Duration = Duration::from_millis(500);

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&["nft"])?;
    let mut report = Report::new("gateway-fallback", rounds);
    let mut scene = Scene::new()?;
    let mut rates = STREAMS.map(|streams| (streams, Measured::default(), Measured::default()));
    let mut found = Vec::new();
    for round in rounds.each() {
        for name in [OURS, HAPROXY] {
            let Some(system) = scene.start(name)? else {
                report.missing(name);
                continue;
            };
            if name == OURS {
                let took = find(&mut scene, &system)?;
                report.row([("round", json!(round)), ("found after s", json!(took))]);
                found.push(took);
            }
            for (streams, rate, cost) in &mut rates {
                let (bulk, cpu) = run(&mut scene, &system, *streams, rounds)?;
                rate.add(name, bulk.rate());
                cost.add(name, cpu / bulk.gigabits());
                report.row([
                    ("system", json!(name)),
                    ("round", json!(round)),
                    ("streams", json!(*streams)),
                    ("Gbit/s", json!(bulk.rate())),
                    ("CPU seconds a Gbit", json!(cpu / bulk.gigabits())),
                ]);
            }
            if name == OURS {
                scene.ground.paris.exec(&["nft", "delete", "table", "inet", "wall"])?;
            }
        }
    }
    for (streams, rate, _) in &rates {
        let name = format!("Gbit/s / haproxy's, {streams} at a time");
        report.compare(&name, Goal::AtLeast(1.0), rate, OURS, HAPROXY);
    }
    report.promise("seconds until TCP is found", Goal::AtMost(1.0), &found);
    report.finish()?;
    Ok(())
}

/// Lets no UDP through between the clusters any more.
fn close(paris: &Space) -> anyhow::Result<()> {
    let rules = "add table inet wall; \
         add chain inet wall in { type filter hook input priority 0; }; \
         add chain inet wall out { type filter hook output priority 0; }; \
         add rule inet wall in iif wan meta l4proto udp drop; \
         add rule inet wall out oif wan meta l4proto udp drop";
    Ok(paris.exec(&["nft", rules])?)
}

/// Closes the firewall while calls are made, and tells how many seconds later one came through.
fn find(scene: &mut Scene, system: &System) -> anyhow::Result<f64> {
    let at = Entries::Fixed(system.at(&ASK));
    scene.clients.begin(&Order::Ask { at, prefix: String::new(), every: EVERY, lasts: LASTS })?;
    std::thread::sleep(BEFORE);
    close(&scene.ground.paris)?;
    let closed = clock();
    let asked: Vec<Asked> = scene.clients.end()?;
    let after = asked.iter().filter(|one| one.begun >= closed && one.answer.is_ok());
    let first = after.map(|one| one.begun + one.took - closed).min_by(f64::total_cmp);
    first.ok_or_else(|| anyhow::anyhow!("no call came through once UDP was dropped"))
}

/// What comes through, and the CPU seconds that it takes.
fn run(
    scene: &mut Scene,
    system: &System,
    streams: usize,
    rounds: Rounds,
) -> anyhow::Result<(Bulk, f64)> {
    let read = |scene: &mut Scene, lasts| -> anyhow::Result<Bulk> {
        scene.clients.carry_out(&Order::Bulk { at: system.at(&BULK), streams, lasts })
    };
    read(scene, Duration::from_millis(500))?;
    let before = system.cpu()?;
    let bulk = read(scene, rounds.pick(Duration::from_secs(4), Duration::from_secs(1)))?;
    Ok((bulk, system.cpu()? - before))
}
