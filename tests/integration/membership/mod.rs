//! Membership under load: `cargo xtask soak membership`.
//!
//! berlin calls oslo all the time. Meanwhile every credential of the gateways is rotated, the root with an overlap; tokyo is taken
//! off the list and put on it again, with a watch of the hub's API open; and the hub's cluster is away, API and gateway, while
//! something is exported. Members reach the hub through their gateways' link and in no other way. A usual run is a few seconds
//! long and rotates nothing, since gateways look at their files each ten seconds; `LANDBRIDGE_SOAK_SECONDS` makes it longer.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`set`] | the clusters, their gateways, controllers and certificates |
//! | [`load`] | calls, and what has become of them |

mod load;
mod set;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    load::Load,
    set::{BERLIN, HUB, MEMBERS, OSLO, Set, TOKYO},
};
use crate::{
    controller::{IMPORT, MEMBER, create, find},
    support::PATIENCE,
};

/// Design, "Joining, liveness, leaving": what must hold.
const REVOKED: Duration = Duration::from_secs(3);
const CAUGHT_UP: Duration = Duration::from_secs(5);
/// For how long the hub is away each time.
const AWAY: Duration = Duration::from_secs(4);
/// Longer than gateways take to look at their files.
const LOOKED: Duration = Duration::from_secs(11);

/// How long each of several took.
#[derive(Debug, Default)]
struct Took(Vec<Duration>);

impl Took {
    #[track_caller]
    fn note(&mut self, what: &str, took: Duration, most: Duration) {
        assert!(took <= most, "{what} took {took:?}, more than {most:?}");
        self.0.push(took);
    }

    fn told(&self) -> String {
        let most = self.0.iter().max().copied().unwrap_or_default();
        format!("{} times, the slowest {most:.2?}", self.0.len())
    }
}

/// Waits until something is so, and says how long that took.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// A watch of the hub's API, as a client in `member` has one.
async fn watch(set: &Set, member: usize) -> TcpStream {
    let mut watch = TcpStream::connect(set.to_the_hub(member)).await.unwrap();
    let path = "/apis/landbridge.dev/v1alpha1/members?watch=true";
    let request = format!("GET {path} HTTP/1.1\r\nhost: hub\r\naccept: application/json\r\n\r\n");
    watch.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    timeout(PATIENCE, watch.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    watch
}

/// Takes tokyo off the list: from then on it calls nobody, its exports are gone, and so is its watch. Then it returns.
async fn revoke(set: &Set) -> Duration {
    until("tokyo calls oslo", async || set.call(TOKYO).await.is_ok()).await;
    let imports = |at: usize| find(&set.clusters[at], IMPORT, ("shop", "zoo")).is_some();
    until("tokyo's export is imported", async || imports(BERLIN)).await;
    let mut watch = watch(set, TOKYO).await;
    let member = find(&set.clusters[HUB], MEMBER, ("", "tokyo")).unwrap();
    let begun = Instant::now();
    set.clusters[HUB].cluster.store().delete(MEMBER, ("", "tokyo")).unwrap();
    let ended = async {
        let mut buffer = [0; 4096];
        while let Ok(1..) = watch.read(&mut buffer).await {}
    };
    timeout(PATIENCE, ended).await.expect("the watch ends");
    until("oslo takes no call of it", async || set.call(TOKYO).await.is_err()).await;
    until("its export is gone", async || ![BERLIN, OSLO].into_iter().any(imports)).await;
    let took = begun.elapsed();
    let again = serde_json::json!({"apiVersion": MEMBER.0, "kind": MEMBER.1,
        "metadata": {"name": "tokyo"}, "spec": member["spec"]});
    create(&set.clusters[HUB], again);
    took
}

/// Takes the hub away while oslo exports something more, and says how long it takes, once it is there again, until berlin has
/// that.
async fn hub_away(set: &Set, number: usize) -> Duration {
    let name = format!("late-{number}");
    set.end_hub().await;
    sleep(AWAY / 2).await;
    set.export(OSLO, &name);
    sleep(AWAY / 2).await;
    set.begin_hub().await;
    let at = ("shop", name.as_str());
    until("it is caught up", async || find(&set.clusters[BERLIN], IMPORT, at).is_some()).await
}

async fn rotate(set: Arc<Set>, stop: CancellationToken) -> usize {
    let mut rotations = 0;
    loop {
        // Both roots everywhere, then certificates of the new one, then the new one alone.
        let steps: [fn(&Set); 3] = [Set::trust_another_root, Set::issue, Set::forget_the_old_root];
        for step in steps {
            step(&set);
            if stop.run_until_cancelled(sleep(LOOKED)).await.is_none() {
                return rotations;
            }
        }
        rotations += 1;
    }
}

/// "rotation of everything under 200 requests a second, not one failed; revocation ≤ 3 s with a watch open; hub away, not one
/// failed call, caught up in ≤ 5 s".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_no_call_is_lost_to_what_happens_to_members() {
    let seconds = std::env::var("LANDBRIDGE_SOAK_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|text| text.parse().ok()).unwrap_or(3);
    let set = Arc::new(Set::start().await);
    for member in MEMBERS {
        until("it calls oslo", async || set.call(member).await.is_ok()).await;
    }
    let (stop, load) = (CancellationToken::new(), Arc::new(Load::default()));
    let calling = Load::start(&load, &set, &stop);
    let rotating = tokio::spawn(rotate(Arc::clone(&set), stop.clone()));
    let begun = Instant::now();
    let (mut revoked, mut away) = (Took::default(), Took::default());
    // Each is done once at least, however short the run.
    while begun.elapsed() < Duration::from_secs(seconds) || away.0.is_empty() {
        revoked.note("revocation", revoke(&set).await, REVOKED);
        away.note("catching up", hub_away(&set, away.0.len()).await, CAUGHT_UP);
    }
    stop.cancel();
    let rotations = rotating.await.unwrap();
    calling.await;
    println!(
        "soak: {}; {rotations} rotations of everything; revoked {}; caught up with the hub {}",
        load.told(begun.elapsed()),
        revoked.told(),
        away.told()
    );
    load.judge();
    set.stop().await;
}
