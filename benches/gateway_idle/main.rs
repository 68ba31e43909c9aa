//! What does a connection cost that nobody uses: 5,000 of them, each of which was used once?
//!
//! It is the memory of both ends together, pages that are shared counted in parts, above what they held before. What the
//! kernel keeps of a socket is in no figure here: each system has the same number of sockets at its ends, and haproxy
//! one more between them for each connection.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::{thread, time::Duration};

use gateway::{
    ground::{self, ECHO},
    load::Order,
    systems::{HAPROXY, OURS, STUNNEL, Scene, ZTUNNEL},
};
use landbridge_benches::{
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

/// Until what was under way is over.
const SETTLED: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&[])?;
    let connections = rounds.pick(5_000, 500);
    let mut report = Report::new("gateway-idle", rounds);
    let mut scene = Scene::new()?;
    let mut held = Measured::default();
    for round in rounds.each() {
        for name in [OURS, HAPROXY, STUNNEL] {
            // A thread for each connection: that is told, and needs no thousands.
            let connections = if name == STUNNEL { connections / 10 } else { connections };
            let Some(system) = scene.start(name)? else {
                report.missing(name);
                continue;
            };
            thread::sleep(SETTLED);
            let before = system.memory()?;
            let order = Order::Hold { at: system.at(&ECHO), connections };
            let open: usize = scene.clients.carry_out(&order)?;
            thread::sleep(SETTLED);
            let each = (system.memory()? - before) / 1_024.0 / open as f64;
            let _: usize = scene.clients.carry_out(&Order::Release)?;
            held.add(name, each);
            report.row([
                ("system", json!(name)),
                ("round", json!(round)),
                ("connections", json!(open)),
                ("MiB before", json!(before / (1 << 20) as f64)),
                ("KiB a connection", json!(each)),
            ]);
        }
    }
    for peer in [HAPROXY, ZTUNNEL] {
        let name = format!("KiB a connection / {peer}'s");
        report.compare(&name, Goal::AtMost(0.7), &held, OURS, peer);
    }
    report.finish()?;
    Ok(())
}
