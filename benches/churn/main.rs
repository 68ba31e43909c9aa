//! How soon does a set of 20 members with 1,000 services stand, and how soon is it told that a pod is ready or not?
//!
//! Each service is exported by two members, each in a network of its own. The controllers start when everything that
//! users write is there (cold); then 200 pods a second become ready or stop being so, and each is timed until the
//! ClusterExport on the hub says so, and until both slices at home do, which kube-proxy and Gateway API controllers read.
//!
//! Unfair: 21 embedded APIs, 20 controllers, the churn and who times it share one process and this machine's cores;
//! members have clusters of their own. The gateways are played.

#[path = "../world/mod.rs"]
mod world;

mod flips;
mod set;

use std::{collections::BTreeMap, time::Duration};

use landbridge_benches::{
    figures::{Goal, percentile},
    process,
    report::Report,
    rounds::Rounds,
};
use serde_json::{Value, json};

use set::Set;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rounds = Rounds::from_args();
    let mut report = Report::new("churn", rounds);
    let (members, services) = rounds.pick((20, 1_000), (5, 60));
    let lasts = rounds.pick(Duration::from_secs(60), Duration::from_secs(3));
    let (mut colds, mut cold_writes) = (Vec::new(), Vec::new());
    let (mut hubs, mut homes, mut flip_writes) = (Vec::new(), Vec::new(), Vec::new());
    for round in rounds.each() {
        let own = std::process::id();
        let mut set = Set::start(members, services).await?;
        let before = process::cpu(own)?;
        let cold = set.settle().await?;
        let (needed, writes) = (set.needed()?, set.writes()?);
        let written = sum(&writes);
        colds.push(cold.as_secs_f64());
        cold_writes.push(written / needed as f64);
        report.row([
            ("round", json!(round)),
            ("phase", json!("cold")),
            ("seconds", json!(cold.as_secs_f64())),
            ("needed writes", json!(needed)),
            ("writes", json!(written)),
            ("failed writes", json!(set.failures()?)),
            ("CPU seconds", json!((process::cpu(own)? - before).as_secs_f64())),
            ("by kind", Value::String(told(&writes))),
        ]);
        let (before, failed) = (process::cpu(own)?, set.failures()?);
        let churn = flips::churn(&set, lasts).await?;
        let per_kind = difference(&set.writes()?, &writes);
        let written = sum(&per_kind);
        // The ClusterExport, and at home the slice that kube-proxy reads and the one that tools read.
        let changed = 3 * churn.flips;
        flip_writes.push(written / changed as f64);
        let p = |figures: &[f64], percent| percentile(figures, percent);
        hubs.extend(p(&churn.hub, 99));
        homes.extend(p(&churn.home, 99));
        report.row([
            ("round", json!(round)),
            ("phase", json!("flips")),
            ("seconds", json!(churn.took.as_secs_f64())),
            ("needed writes", json!(changed)),
            ("writes", json!(written)),
            ("failed writes", json!(set.failures()? - failed)),
            ("CPU seconds", json!((process::cpu(own)? - before).as_secs_f64())),
            ("flips a second", json!(churn.flips as f64 / churn.took.as_secs_f64())),
            ("hub p50 ms", json!(p(&churn.hub, 50))),
            ("hub p99 ms", json!(p(&churn.hub, 99))),
            ("hub worst ms", json!(p(&churn.hub, 100))),
            ("home p50 ms", json!(p(&churn.home, 50))),
            ("home p99 ms", json!(p(&churn.home, 99))),
            ("home worst ms", json!(p(&churn.home, 100))),
            ("by kind", Value::String(told(&per_kind))),
        ]);
        set.stop().await?;
    }
    report.promise("cold, seconds", Goal::AtMost(60.0), &colds);
    report.promise("a flip on the hub, p99 ms", Goal::AtMost(150.0), &hubs);
    report.promise("a flip in slices at home, p99 ms", Goal::AtMost(150.0), &homes);
    report.promise("cold: writes / needed ones", Goal::AtMost(1.05), &cold_writes);
    report.promise("flips: writes a changed object", Goal::AtMost(1.05), &flip_writes);
    report.finish()?;
    Ok(())
}

fn sum(writes: &BTreeMap<String, u64>) -> f64 {
    writes.values().sum::<u64>() as f64
}

fn difference(
    after: &BTreeMap<String, u64>,
    before: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let new = |(labels, count): (&String, &u64)| {
        (labels.clone(), count - before.get(labels).copied().unwrap_or_default())
    };
    after.iter().map(new).filter(|(_, count)| *count > 0).collect()
}

fn told(writes: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> =
        writes.iter().map(|(labels, count)| format!("{labels}: {count}")).collect();
    words.join("; ").replace("verb=", "").replace("kind=", "").replace('"', "")
}
