//! How soon do calls come through again when a cluster that serves is lost, and is any call delivered twice?
//!
//! berlin's clients make 200 calls a second, each on a connection of its own, that paris and tokyo serve. Then paris's
//! gateway is stopped (SIGSTOP: nothing is closed), its cable is pulled, or it is
//! killed and the cable pulled: the cluster is gone. A call that had
//! been sent and may have been delivered is reset and not sent again: those are counted apart, with the last moment at
//! which one was made. Of all others it is told how long they took.
//!
//! A gateway of berlin's own is stopped too, where berlin has two: its controller probes them, and the clients follow the
//! slices a second late, as kube-proxy may. What is sent to the stopped one meanwhile is lost.
//!
//! Nobody runs beside us here: the timers of others are known from their documentation.

#[path = "../gateway/mod.rs"]
mod gateway;
mod local;
mod relay;
mod trial;

use std::time::Duration;

use gateway::ground;
use landbridge_benches::{
    figures::{Goal, percentile},
    report::Report,
    rounds::Rounds,
};
use serde_json::json;

use trial::{Loss, Told, Trial};

const LOCAL: &str = "own gateway stopped";

fn main() -> anyhow::Result<()> {
    if let Some(played) = gateway::play() {
        return played;
    }
    let rounds = Rounds::from_args();
    ground::prepare(&[])?;
    let mut report = Report::new("failover", rounds);
    let mut twice = Vec::new();
    for round_trip in [1, 80].map(Duration::from_millis) {
        for loss in rounds.pick(&Loss::ALL[..], &Loss::ALL[..1]) {
            let (mut lasts, mut answers) = (Vec::new(), Vec::new());
            for round in rounds.each() {
                for _ in 0..rounds.pick(3, 1) {
                    let told = Trial::start(round_trip)?.lose(*loss)?;
                    row(&mut report, loss.name(), round_trip, round, &told);
                    lasts.push(told.last_failed);
                    answers.extend(percentile(&told.answered, 99));
                    twice.push(told.twice as f64);
                }
            }
            let milliseconds = round_trip.as_millis();
            let name = format!("{}, {milliseconds} ms: good answer, p99 s", loss.name());
            report.promise(&name, Goal::AtMost(bound(round_trip)), &answers);
            let name = format!("{}, {milliseconds} ms: last call that failed, s", loss.name());
            report.promise(&name, Goal::AtMost(bound(round_trip)), &lasts);
        }
    }
    let mut lasts = Vec::new();
    for round in rounds.each() {
        let told = local::lose()?;
        row(&mut report, LOCAL, Duration::ZERO, round, &told);
        lasts.push(told.last_failed);
        twice.push(told.twice as f64);
    }
    report.promise(&format!("{LOCAL}: last call that failed, s"), Goal::AtMost(4.0), &lasts);
    report.promise("calls delivered twice", Goal::AtMost(0.0), &twice);
    report.finish()?;
    Ok(())
}

/// Half a second, or what QUIC waits three times for a probe on a long way: RFC 9002, section 6.2.1, with a variation of
/// half the round trip at most and an acknowledgement that may come 25 ms late.
fn bound(round_trip: Duration) -> f64 {
    let probe = round_trip.as_secs_f64() * 3.0 + 0.025;
    f64::max(0.5, 3.0 * probe)
}

fn row(report: &mut Report, loss: &str, round_trip: Duration, round: usize, told: &Told) {
    report.row([
        ("lost", json!(loss)),
        ("round trip ms", json!(round_trip.as_millis())),
        ("round", json!(round)),
        ("calls", json!(told.answered.len() + told.failed)),
        ("failed", json!(told.failed)),
        ("last that failed s", json!(told.last_failed)),
        ("reset after s", json!(told.reset_after)),
        ("p50 s", json!(percentile(&told.answered, 50))),
        ("p99 s", json!(percentile(&told.answered, 99))),
        ("worst s", json!(percentile(&told.answered, 100))),
        ("delivered twice", json!(told.twice)),
    ]);
}
