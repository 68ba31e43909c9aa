//! How soon is an export an import in another cluster, on real API servers, alone and in a crowd?
//!
//! A hub and two members, each a kube-apiserver over one etcd, with the roles and policies of `deploy/rbac`; the
//! controllers run as they do anywhere. The crowd's peer is the same writes without a controller: all objects that 1,000
//! exports come to, status and all, made anew in another namespace with 32 requests in flight at each API. Between two
//! rounds all of it is deleted.
//!
//! Unfair: API servers, etcd without fsync, controllers and this benchmark share the cores of one machine. The gateways
//! are played, and listen at once. No quota is on the hub. Submariner's limiter is computed, not run.

#[path = "../world/mod.rs"]
mod world;

mod cluster;
mod crowd;
mod raw;
mod single;

use landbridge_benches::{
    figures::{Goal, Measured, percentile},
    report::Report,
    rounds::Rounds,
};
use landbridge_xtask::{apiserver, programs};
use serde_json::json;

use cluster::Set;

const OURS: &str = "landbridge";
const RAW: &str = "the same writes, raw";
/// "1,000 exports at once at ≥ 0.7 × the raw rate of the same writes".
const LATENCY: &str = "one export, p99 ms";
const RATE: &str = "many at once: rate / raw rate of the same writes";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rounds = Rounds::from_args();
    let mut report = Report::new("export", rounds);
    if let Err(missing) = find() {
        report.missing(&format!("kube-apiserver and etcd: {missing}"));
        report.promise(LATENCY, Goal::AtMost(250.0), &[]);
        report.promise(RATE, Goal::AtLeast(0.7), &[]);
        report.finish()?;
        return Ok(());
    }
    let (alone, at_once) = rounds.pick((300, 1_000), (20, 50));
    let set = Set::start().await?;
    let (mut p99, mut rates) = (Vec::new(), Measured::default());
    for round in rounds.each() {
        let controllers = set.control().await?;
        let took = single::exports(&set, round, alone).await?;
        p99.extend(percentile(&took, 99));
        report.row([
            ("round", json!(round)),
            ("system", json!(OURS)),
            ("exports", json!("one by one")),
            ("p50 ms", json!(percentile(&took, 50))),
            ("p99 ms", json!(percentile(&took, 99))),
            ("worst ms", json!(percentile(&took, 100))),
            (
                "worst is number",
                json!(took.iter().position(|ms| Some(*ms) == percentile(&took, 100))),
            ),
        ]);
        let crowd = crowd::exports(&set, &controllers, round, at_once).await?;
        for controller in controllers {
            controller.stop().await?;
        }
        let objects = raw::objects(&set, &crowd.namespace).await?;
        let raw = raw::writes(&set, round, objects).await?;
        for (system, seconds, writes) in
            [(OURS, crowd.seconds, crowd.writes), (RAW, raw.seconds, raw.writes)]
        {
            // The raw number of writes counts for both: whoever writes more is not faster for it.
            rates.add(system, raw.writes as f64 / seconds);
            report.row([
                ("round", json!(round)),
                ("system", json!(system)),
                ("exports", json!(at_once)),
                ("seconds", json!(seconds)),
                ("writes", json!(writes)),
                ("writes a second", json!(writes as f64 / seconds)),
            ]);
        }
        set.clear().await?;
    }
    report.row([
        ("system", json!("Submariner's limiter, a model: 10 a second after 500")),
        ("exports", json!(at_once)),
        ("seconds", json!(at_once.saturating_sub(500) as f64 / 10.0)),
    ]);
    report.promise(LATENCY, Goal::AtMost(250.0), &p99);
    report.compare(RATE, Goal::AtLeast(0.7), &rates, OURS, RAW);
    report.finish()?;
    Ok(())
}

fn find() -> Result<(), programs::Error> {
    apiserver::TOOLS.iter().try_for_each(|tool| tool.find().map(drop))
}
