//! How much memory do 250,000 endpoints take, and how much more while all of them are listed anew?
//!
//! Each keeper is a process of its own that watches one embedded API; what it holds without any endpoint is taken off.
//! The relist is forced: the API goes away, forgets its history, and returns.
//!
//! Unfair: slices are full and without `managedFields`, which the reflector would keep; real ones are half empty. What
//! the controller knows beside slices is in no figure here.

#![allow(clippy::print_stdout, reason = "a keeper talks to the benchmark")]

mod keeper;
mod slices;
#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

use anyhow::ensure;
use landbridge_benches::{
    child::{self, Child},
    figures::{Goal, Measured},
    process::{memory, reset_peak},
    report::Report,
    rounds::Rounds,
};
use landbridge_embedded::Cluster;
use serde_json::json;
use tokio::time::sleep;

use keeper::{OURS, REFLECTOR};
use slices::Kind;

/// Until what was freed is given back, and nothing is under way.
const SETTLED: Duration = Duration::from_millis(1_500);
const MIB: f64 = 1024.0 * 1024.0;

/// What a keeper holds, in MiB.
struct Held {
    steady: f64,
    /// The most while everything was listed anew.
    peak: f64,
    /// After that.
    again: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if let Some(role) = child::role() {
        return keeper::keep(&role).await;
    }
    let rounds = Rounds::from_args();
    let mut report = Report::new("controller-memory", rounds);
    let endpoints = rounds.pick(250_000, 25_000);
    let empty = world::embedded("empty", 1).await?;
    for (kind, number) in Kind::ALL.into_iter().zip(2..) {
        let full = world::embedded("full", number).await?;
        fill(&full, kind, endpoints)?;
        let (mut steady, mut growth) = (Measured::default(), Vec::new());
        for round in rounds.each() {
            for who in [OURS, REFLECTOR] {
                let base = held(&empty, who, kind, 0).await?.steady;
                let held = held(&full, who, kind, endpoints).await?;
                let above = held.steady - base;
                let times = (held.peak - base) / above;
                steady.add(who, above);
                if who == OURS {
                    growth.push(times);
                }
                report.row([
                    ("slices", json!(kind.name())),
                    ("system", json!(who)),
                    ("round", json!(round)),
                    ("endpoints", json!(endpoints)),
                    ("empty MiB", json!(base)),
                    ("steady MiB", json!(held.steady)),
                    ("bytes an endpoint", json!(above * MIB / endpoints as f64)),
                    ("relist peak MiB", json!(held.peak)),
                    ("after it MiB", json!(held.again)),
                    ("peak / steady, above empty", json!(times)),
                ]);
            }
        }
        let name = format!("{}: memory / kube's reflector's", kind.name());
        report.compare(&name, Goal::AtMost(0.1), &steady, OURS, REFLECTOR);
        let name = format!("{}: relist peak / steady", kind.name());
        report.promise(&name, Goal::AtMost(1.3), &growth);
        full.stop().await;
    }
    report.finish()?;
    Ok(())
}

fn fill(cluster: &Cluster, kind: Kind, endpoints: usize) -> anyhow::Result<()> {
    for name in kind.namespaces() {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        cluster.store().create(namespace)?;
    }
    for slice in kind.slices(endpoints) {
        cluster.store().create(slice)?;
    }
    Ok(())
}

/// Runs a keeper until it has listed everything twice.
async fn held(api: &Cluster, who: &str, kind: Kind, endpoints: usize) -> anyhow::Result<Held> {
    let mut keeper = Child::own(&[who, kind.name(), &world::url(api)])?;
    let pid = keeper.id();
    let listed = async |keeper: &mut Child| {
        let said = tokio::task::block_in_place(|| keeper.line())?;
        ensure!(said == format!("listed {endpoints}"), "{who} says: {said}");
        sleep(SETTLED).await;
        anyhow::Ok(memory(pid)?)
    };
    let steady = listed(&mut keeper).await?.resident;
    reset_peak(pid)?;
    api.pause().await;
    api.compact();
    api.resume().await?;
    let after = listed(&mut keeper).await?;
    let [steady, peak, again] =
        [steady, after.peak, after.resident].map(|bytes| bytes as f64 / MIB);
    Ok(Held { steady, peak, again })
}
