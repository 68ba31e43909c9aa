//! How many datagrams a second go to a pod of another cluster and back, and how many are lost?
//!
//! Four flows have 32 datagrams under way each; the next one is sent when one has come back, or is given up after 300 ms.
//! Small ones of 64 bytes, and large ones of 1,200.
//!
//! Unfair: WireGuard in userspace stands for the kernel's; it moves packets between networks and knows nothing of
//! services or pods. Clients, pods and both ends share two cores.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::time::Duration;

use gateway::{
    ground::{self, DATAGRAMS},
    load::{Datagrams, Order},
    systems::{BORINGTUN, DIRECT, GOTATUN, OURS, Scene},
};
use landbridge_benches::{
    figures::{Goal, Measured},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

const SIZES: [usize; 2] = [64, 1_200];

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&[])?;
    let mut report = Report::new("gateway-udp", rounds);
    let mut scene = Scene::new()?;
    let mut rates = SIZES.map(|size| (size, Measured::default(), Vec::new()));
    for round in rounds.each() {
        for name in [DIRECT, OURS, GOTATUN, BORINGTUN] {
            let Some(system) = scene.start(name)? else {
                report.missing(name);
                continue;
            };
            for (size, rate, lost) in &mut rates {
                let mut send = |lasts| -> anyhow::Result<Datagrams> {
                    let at = system.at(&DATAGRAMS);
                    scene.clients.carry_out(&Order::Datagrams { at, size: *size, lasts })
                };
                send(Duration::from_millis(500))?;
                let before = system.cpu()?;
                let datagrams = send(rounds.pick(Duration::from_secs(4), Duration::from_secs(1)))?;
                rate.add(name, datagrams.rate());
                if name == OURS {
                    lost.push(datagrams.loss());
                }
                report.row([
                    ("system", json!(name)),
                    ("round", json!(round)),
                    ("bytes", json!(*size)),
                    ("there and back a second", json!(datagrams.rate().round())),
                    ("lost %", json!(datagrams.loss())),
                    ("CPU µs each", json!((system.cpu()? - before) * 1e6 / datagrams.back as f64)),
                ]);
            }
        }
    }
    for (size, rate, lost) in &rates {
        for peer in [GOTATUN, BORINGTUN] {
            let name = format!("datagrams a second / {peer}'s, {size} bytes");
            report.compare(&name, Goal::AtLeast(2.0), rate, OURS, peer);
        }
        report.promise(&format!("lost %, {size} bytes"), Goal::AtMost(0.1), lost);
    }
    report.finish()?;
    Ok(())
}
