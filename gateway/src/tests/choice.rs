//! Which pod and which cluster gets a call, where the choice is seen from outside.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use landbridge_model::RegionName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{
    failure::{stuck, three},
    world::{World, fresh_ip, id, named, pair, pod, until},
};
use crate::route::rules::Rules;

/// Asks from an address of one's own.
async fn ask_from(from: SocketAddr, to: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from).unwrap();
    let mut client = socket.connect(to).await.unwrap();
    client.write_all(b"?").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// KEP-1645, "Session Affinity": calls of one client go to one endpoint; the cluster and the pod are chosen by its address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_affinity_gets_one_pod() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("a", &heard).await).await;
    let mut pods = Vec::new();
    for name in ["a", "b", "c", "d"] {
        pods.push(named(name, &heard).await);
    }
    paris.exports(&pods, false);
    paris.stays_together();
    let mut all = HashSet::new();
    for _ in 0..12 {
        let from = SocketAddr::new(fresh_ip(), 0);
        let first = ask_from(from, berlin.entry()).await;
        for _ in 0..3 {
            assert_eq!(ask_from(from, berlin.entry()).await, first);
        }
        all.insert(first);
    }
    assert!(all.len() > 1, "clients are spread: {all:?}");
}

/// A pod that refuses costs nobody a call, and is left out before long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_refuses_is_left_out() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("good", &heard).await).await;
    let gone = SocketAddr::new(fresh_ip(), 9);
    paris.exports(&[gone, named("good", &heard).await], false);
    let mut calls = 0;
    while paris.core.pods.left_out() == 0 {
        assert_eq!(berlin.ask("?").await.unwrap(), "good");
        calls += 1;
        assert!(calls < 1_000, "it is never left out");
    }
    assert_eq!(paris.core.metrics.ejections("pod"), 1);
    assert_eq!(berlin.ask("?").await.unwrap(), "good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_the_own_region_is_called_first() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let world = World::new();
    let region = RegionName::parse("eu-west").unwrap();
    let berlin = world.site_in("berlin", &region);
    let (paris, tokyo) = (world.site("paris"), world.site("tokyo"));
    for (site, name) in [(&paris, "paris"), (&tokyo, "tokyo")] {
        site.knows("berlin", &[berlin.link_address()]);
        site.exports(&[named(name, &heard).await], false);
        berlin.knows(name, &[site.link_address()]);
    }
    berlin.knows_region("tokyo", &region);
    berlin.imports(&["paris", "tokyo"]).await;
    berlin.linked("paris").await;
    berlin.linked("tokyo").await;
    for _ in 0..8 {
        assert_eq!(berlin.ask("?").await.unwrap(), "tokyo");
    }
    tokyo.forgets("berlin");
    until("the links to tokyo are gone", || berlin.link_states("tokyo").is_empty()).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), berlin.ask("?")).await.unwrap();
    assert_eq!(answer.unwrap(), "paris");
}

/// A cluster that is drained gets no new call while another one serves; what is open goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_cluster_keeps_what_is_open_and_gets_nothing_new_while_another_serves() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let echo = pod(|mut client| async move {
        let (mut read, mut write) = client.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let world = World::new();
    let berlin = world.site("berlin");
    let (paris, tokyo) = (world.site("paris"), world.site("tokyo"));
    for (site, name, pod) in
        [(&paris, "paris", echo), (&tokyo, "tokyo", named("tokyo", &heard).await)]
    {
        site.knows("berlin", &[berlin.link_address()]);
        site.exports(&[pod], false);
        berlin.knows(name, &[site.link_address()]);
    }
    berlin.knows_drained("tokyo", true);
    berlin.imports(&["paris", "tokyo"]).await;
    berlin.linked("paris").await;
    berlin.linked("tokyo").await;
    let mut open = berlin.call().await;
    let mut answer = [0; 1];
    open.write_all(b"a").await.unwrap();
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"a");

    berlin.knows_drained("tokyo", false);
    berlin.knows_drained("paris", true);
    for _ in 0..8 {
        assert_eq!(berlin.ask("?").await.unwrap(), "tokyo");
    }
    open.write_all(b"b").await.unwrap();
    open.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"b");
    // Better than nobody.
    tokyo.forgets("berlin");
    until("the links to tokyo are gone", || berlin.link_states("tokyo").is_empty()).await;
    let asked = tokio::time::timeout(Duration::from_secs(20), berlin.ask("?")).await.unwrap();
    assert_eq!(asked.unwrap(), "?");
}

/// TrafficPolicy: "timeouts (connect, idle)".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_silent_for_too_long_is_cut_and_one_that_is_not_goes_on() {
    let echo = pod(|mut client| async move {
        let (mut read, mut write) = client.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let (_world, berlin, _paris) = pair(echo).await;
    berlin.steers(|route| route.call.idle = Some(Duration::from_secs(2)));
    let (mut silent, mut busy) = (berlin.call().await, berlin.call().await);
    for client in [&mut silent, &mut busy] {
        client.write_all(b"x").await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
    }
    let talk = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            busy.write_all(b"x").await.unwrap();
            busy.read_exact(&mut [0]).await.unwrap();
        }
    };
    let mut byte = [0];
    let cut = tokio::select! {
        read = silent.read(&mut byte) => read,
        () = talk => unreachable!("it goes on for ever"),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it is not cut"),
    };
    assert_eq!(cut.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(berlin.core.metrics.cuts("idle"), 1);
}

/// "payload outstanding resets the client, unless TrafficPolicy says that replaying is safe".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_be_sent_twice_is_sent_elsewhere() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let three = three(named("paris", &heard).await, named("tokyo", &heard).await).await;
    three.berlin.steers(|route| route.call.replay_safe = true);
    three.way.cut(true);
    // Some of them go to where nobody hears them, before that is known.
    let calls = (0..12).map(|_| three.berlin.ask("?"));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), "paris");
    }
    assert!(three.berlin.core.metrics.retries("tokyo", "suspect") > 0);
}

/// TrafficPolicy: "weights per cluster", this one among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_held_by_the_gateway() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, _paris) = pair(named("paris", &heard).await).await;
    berlin.exports(&[named("berlin", &heard).await], false);
    let weights = |berlin: u32, paris: u32| Rules {
        weights: Some([(id("berlin"), berlin), (id("paris"), paris)].into()),
        ..Rules::default()
    };
    for (rules, wanted) in [(weights(1, 0), "berlin"), (weights(0, 1), "paris")] {
        berlin.steers(|route| route.rules = Arc::new(rules.clone()));
        for _ in 0..5 {
            assert_eq!(berlin.ask("?").await.unwrap(), wanted);
        }
    }
}

/// Design, "Delivery": "What was sent (and FIN) is kept until connected". A peer has it, cannot deliver it and says so; the
/// own pod that takes the call gets all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_could_not_deliver_an_own_pod_gets_whole() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (full, _held) = stuck().await;
    let (_world, berlin, _paris) = pair(full).await;
    berlin.exports(&[named("berlin", &heard).await], false);
    let weights = Some([(id("berlin"), 1), (id("paris"), 100_000)].into());
    let rules = Arc::new(Rules { weights, ..Rules::default() });
    berlin.steers(|route| route.rules = Arc::clone(&rules));
    assert_eq!(berlin.ask("all of it?").await.unwrap(), "berlin");
    assert!(berlin.core.metrics.retries("paris", "connect_failed") > 0);
    assert_eq!(*heard.lock().unwrap(), ["all of it?"]);
}
