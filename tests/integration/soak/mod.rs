//! A day of a gateway's life, squeezed: `cargo xtask soak gateway`.
//!
//! Clients of berlin call services of paris, tokyo and osaka over connections of all ages, while paris's gateway is
//! restarted with new certificates, and peers, policies and endpoints of paris and tokyo come and go. Osaka is left alone: what
//! berlin's clients have open there must outlive everything. A usual run is a few seconds long; `LANDBRIDGE_SOAK_SECONDS`
//! makes it longer, and has memory, sockets and tasks watched.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`set`] | the clusters, their pods and gateways |
//! | [`churn`] | what changes, and who serves what since when |
//! | [`clients`] | calls, and what is wrong with their answers |

mod churn;
mod clients;
mod set;

use std::{fs, sync::Arc, time::Duration};

use tokio::{runtime::Handle as Runtime, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use self::{
    churn::Serving,
    clients::Load,
    set::{CHURNED, STEADY, Set},
};
use crate::support::{eventually, within};

/// From when on memory, sockets and tasks are watched: what a shorter run takes says nothing.
const WATCHED: Duration = Duration::from_secs(20);
/// What may come on top of what is held after a third of the time: caches of the allocator, and of this test.
const GROWTH: u64 = 24 << 20;
/// Sockets and tasks that come and go by themselves: of watches and writes, and of links that both sides dial.
const BY_THEMSELVES: usize = 24;
/// Longer than a flow of datagrams lives without any.
const SILENCE: Duration = Duration::from_secs(60);
/// Connections that live as long as the soak.
const OLD: usize = 16;

/// What this process holds, in octets; nothing where the system does not say.
fn held() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
        * 1_024_u64
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn tasks() -> usize {
    Runtime::current().metrics().num_alive_tasks()
}

/// No wrong destination, no stuck connection, nothing that is left over; and what nobody touches is never cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_no_call_is_stuck_lost_or_misled_whatever_happens_around_it() {
    let seconds = std::env::var("LANDBRIDGE_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    let set = Arc::new(Set::start().await);
    let serving = Arc::new(Serving::default());
    set.settled().await;
    let before = (descriptors(), tasks());
    let load = Arc::new(Load::new(Arc::clone(&set), Arc::clone(&serving)));
    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    for seed in 0..4 {
        running.spawn(Arc::clone(&load).short(seed, stop.clone()));
        running.spawn(Arc::clone(&load).middling(seed, stop.clone()));
    }
    for _ in 0..OLD {
        running.spawn(Arc::clone(&load).old(stop.clone()));
    }
    running.spawn(Arc::clone(&load).rude(stop.clone()));
    running.spawn(Arc::clone(&load).datagrams(stop.clone()));
    running.spawn(churn::objects(Arc::clone(&set), Arc::clone(&serving), stop.clone()));
    running.spawn(churn::restarts(Arc::clone(&set), stop.clone()));
    sleep(time / 3).await;
    let early = held();
    sleep(time - time / 3).await;
    let late = held();
    stop.cancel();
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    println!("soak: {}; {} MiB, then {} MiB", load.told(), early >> 20, late >> 20);
    load.judge();
    set.settled().await;
    let none = async || nothing(&set.left(false));
    eventually("connections have ended", &set.clusters, none).await;
    if time >= WATCHED {
        assert!(late <= early + GROWTH, "{early} octets became {late}");
        let (sockets, alive) = before;
        let none = async || nothing(&set.left(true));
        within(SILENCE, "streams have ended", &set.clusters, none).await;
        eventually("sockets and tasks are as many as before", &set.clusters, async || {
            let now = (descriptors(), tasks());
            let good = now.0 <= sockets + BY_THEMSELVES && now.1 <= alive + BY_THEMSELVES;
            if good { Ok(()) } else { Err(format!("{before:?} became {now:?}")) }
        })
        .await;
    }
    set.stop().await;
}

fn nothing(left: &[String]) -> Result<(), String> {
    if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
}

#[test]
fn services_that_churn_and_the_one_that_does_not_are_different() {
    assert!(!CHURNED.contains(&STEADY));
}
