//! Does a call fail while every gateway of two clusters is restarted, one after the other, and how long does that take?
//!
//! paris exports 1,000 services, both clusters have controllers and two replicas of the gateway, and berlin's clients
//! make 200 calls a second, to one service after the other, as the slices say a second before. A replica is told to end
//! (SIGTERM), is started again when it has, and the next one follows when it is ready.
//!
//! Unfair: the APIs are embedded ones, in the process that measures, and the pod is one.

#[path = "../gateway/mod.rs"]
mod gateway;

use std::time::{Duration, Instant};

use gateway::{
    ground::{self, Ground},
    load::{Asked, Clients, Entries, Order},
    mesh::Mesh,
    pki::Pki,
    pods::Pods,
};
use landbridge_benches::{
    figures::{Goal, percentile},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

/// 200 calls a second.
const EVERY: Duration = Duration::from_millis(5);
/// How long calls go on at a time: until the roll is over.
const STRETCH: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&[])?;
    let services = rounds.pick(1_000, 50);
    let mut report = Report::new("gateway-roll", rounds);
    let (mut failed, mut twice) = (Vec::new(), Vec::new());
    for round in rounds.each() {
        let ground = Ground::new()?;
        let pki = Pki::new(ground.folder.path(), &["berlin", "paris"])?;
        let mut pods = Pods::start(&ground.paris, "paris")?;
        let clients = Clients::start(&ground.berlin)?;
        let mesh = Mesh::start(&ground, &pki, services)?;
        let rolled = roll(&ground, mesh, clients)?;
        let bad = rolled.asked.iter().filter(|asked| asked.answer.is_err()).count();
        let repeated = pods.heard()?.values().filter(|times| **times > 1).count();
        failed.push(bad as f64);
        twice.push(repeated as f64);
        let took: Vec<f64> = rolled.asked.iter().map(|asked| asked.took * 1e3).collect();
        report.row([
            ("round", json!(round)),
            ("imports", json!(services)),
            ("calls", json!(rolled.asked.len())),
            ("failed", json!(bad)),
            ("such as", json!(rolled.asked.iter().find_map(|asked| asked.answer.as_ref().err()))),
            ("delivered twice", json!(repeated)),
            ("seconds a replica", json!(rolled.seconds / 4.0)),
            ("writes", json!(rolled.writes)),
            ("p50 ms", json!(percentile(&took, 50))),
            ("p99 ms", json!(percentile(&took, 99))),
            ("worst ms", json!(percentile(&took, 100))),
        ]);
    }
    report.promise("failed calls", Goal::AtMost(0.0), &failed);
    report.promise("calls delivered twice", Goal::AtMost(0.0), &twice);
    report.finish()?;
    Ok(())
}

struct Rolled {
    asked: Vec<Asked>,
    seconds: f64,
    writes: u64,
}

fn roll(ground: &Ground, mut mesh: Mesh, mut clients: Clients) -> anyhow::Result<Rolled> {
    let file = mesh.entries.clone();
    let mut order = {
        let mut stretch = 0;
        move || {
            stretch += 1;
            let at = Entries::Followed(file.clone());
            Order::Ask { at, prefix: format!("call-{stretch}"), every: EVERY, lasts: STRETCH }
        }
    };
    // Links stand, and nothing is being made any more.
    loop {
        let warm: Vec<Asked> = clients.carry_out(&order())?;
        if warm.iter().all(|asked| asked.answer.is_ok()) {
            break;
        }
    }
    let before = mesh.berlin.writes()? + mesh.paris.writes()?;
    let rolling = std::thread::scope(|scope| -> anyhow::Result<_> {
        let rolling = scope.spawn(|| -> anyhow::Result<f64> {
            let begun = Instant::now();
            for replica in 0..2 {
                mesh.paris.restart(&ground.paris, replica)?;
            }
            for replica in 0..2 {
                mesh.berlin.restart(&ground.berlin, replica)?;
            }
            Ok(begun.elapsed().as_secs_f64())
        });
        let mut asked = Vec::new();
        while !rolling.is_finished() {
            asked.extend(clients.carry_out::<Vec<Asked>>(&order())?);
        }
        let seconds = rolling.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))??;
        // What comes late is also of this roll.
        asked.extend(clients.carry_out::<Vec<Asked>>(&order())?);
        Ok((asked, seconds))
    });
    let (asked, seconds) = rolling?;
    let writes = mesh.berlin.writes()? + mesh.paris.writes()? - before;
    Ok(Rolled { asked, seconds, writes })
}
