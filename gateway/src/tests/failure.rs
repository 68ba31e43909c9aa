//! Calls while something breaks: brought elsewhere where that is allowed, and never delivered twice.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use super::world::{Path, Site, World, fresh_ip, id, named, pair, pod, until};
use crate::health::LinkState;

/// An address at which nobody accepts.
pub(super) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((fresh_ip(), 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// The address of a pod that lets nobody connect and does not say so: its queue is full as long as what comes with it is
/// held.
pub(super) async fn stuck() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(fresh_ip(), 0)).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(client) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(client.unwrap());
    }
    (address, (listener, waiting))
}

/// berlin imports what paris and tokyo export; the way to tokyo can be cut, and there is no other.
pub(super) struct Three {
    _world: World,
    pub(super) berlin: Site,
    paris: Site,
    tokyo: Site,
    pub(super) way: Path,
}

pub(super) async fn three(paris_pod: SocketAddr, tokyo_pod: SocketAddr) -> Three {
    let world = World::new();
    let (berlin, paris, tokyo) = (world.site("berlin"), world.site("paris"), world.site("tokyo"));
    let way = Path::to(tokyo.link_address()).await;
    for (site, pod) in [(&paris, paris_pod), (&tokyo, tokyo_pod)] {
        site.knows("berlin", &[]);
        site.exports(&[pod], false);
    }
    berlin.knows("paris", &[paris.link_address()]);
    berlin.knows("tokyo", &[way.address]);
    berlin.imports(&["paris", "tokyo"]).await;
    berlin.linked("paris").await;
    berlin.linked("tokyo").await;
    Three { _world: world, berlin, paris, tokyo, way }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_not_delivered_is_brought_to_another_cluster() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let three = three(nobody().await, named("tokyo", &heard).await).await;
    for n in 0..20 {
        assert_eq!(three.berlin.ask(&n.to_string()).await.unwrap(), "tokyo");
    }
    assert_eq!(heard.lock().unwrap().len(), 20, "each was delivered once");
    assert!(three.berlin.core.metrics.retries("paris", "connect_failed") > 0);
    assert!(three.paris.core.metrics.refusals("connect_failed") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_ready_pods_or_without_the_export_is_passed_over() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let three = three(nobody().await, named("tokyo", &heard).await).await;
    three.paris.exports(&[], false);
    for n in 0..10 {
        assert_eq!(three.berlin.ask(&n.to_string()).await.unwrap(), "tokyo");
    }
    assert!(three.paris.core.metrics.refusals("no_endpoint") > 0);
}

/// Waiting would change nothing: the client learns it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_takes_is_refused_without_delay() {
    let (_world, berlin, paris) = pair(nobody().await).await;
    let start = Instant::now();
    assert!(berlin.ask("?").await.is_err());
    paris.exports(&[], false);
    assert!(berlin.ask("?").await.is_err());
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
}

/// A call may come before the gateway has heard of who serves it: it waits for that, within reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_an_exporter_that_is_on_its_way() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, _paris) = pair(named("paris", &heard).await).await;
    berlin.imports(&[]).await;
    let told = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        berlin.imports(&["paris"]).await;
    };
    let (answer, ()) = tokio::join!(berlin.ask("early"), told);
    assert_eq!(answer.unwrap(), "paris");
}

/// The bar: "A remote gateway … that dies gets no new connection after 0.5 s".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_suspect_within_half_a_second_and_calls_go_elsewhere() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let three = three(named("paris", &heard).await, named("tokyo", &heard).await).await;
    three.way.cut(true);
    let cut = Instant::now();
    until("suspect", || three.berlin.link_states("tokyo") == [LinkState::Suspect]).await;
    let took = cut.elapsed();
    assert!(took <= Duration::from_millis(500), "suspect after {took:?}");
    for n in 0..20 {
        let start = Instant::now();
        assert_eq!(three.berlin.ask(&format!("after {n}")).await.unwrap(), "paris");
        assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    }
    three.way.cut(false);
    until("healthy again", || three.berlin.link_states("tokyo") == [LinkState::Healthy]).await;
    let answers: HashSet<String> = futures::future::join_all(
        (0..40).map(|n| three.berlin.ask(if n % 2 == 0 { "a" } else { "b" })),
    )
    .await
    .into_iter()
    .map(Result::unwrap)
    .collect();
    assert_eq!(answers.len(), 2, "a hiccup over, both take calls: {answers:?}");
}

/// Design, "Gateway": "so that a hiccup cuts nothing". Where nobody else serves, a call waits for the peer to be heard,
/// and is not told to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_out_a_silence_of_the_only_peer_that_serves() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let three = three(nobody().await, named("tokyo", &heard).await).await;
    three.berlin.imports(&["tokyo"]).await;
    three.way.cut(true);
    until("suspect", || three.berlin.link_states("tokyo") == [LinkState::Suspect]).await;
    let silence = async {
        // Longer than a call waits where there is no link at all.
        tokio::time::sleep(Duration::from_secs(1)).await;
        three.way.cut(false);
    };
    let (answer, ()) = tokio::join!(three.berlin.ask("early"), silence);
    assert_eq!(answer.unwrap(), "tokyo");
    assert_eq!(*heard.lock().unwrap(), ["early"]);
}

/// Steady calls through the cut: none is delivered twice, and whatever failed was payload that may have arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_delivered_twice() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let three = three(named("paris", &heard).await, named("tokyo", &heard).await).await;
    let berlin = Arc::new(three.berlin);
    let mut calls = Vec::new();
    for n in 0..200 {
        if n == 60 {
            three.way.cut(true);
        }
        let berlin = Arc::clone(&berlin);
        calls.push(tokio::spawn(async move {
            let question = format!("call {n}");
            let answer = berlin.ask(&question).await;
            (question, answer.is_ok())
        }));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut failed = 0;
    for call in calls {
        failed += usize::from(!call.await.unwrap().1);
    }
    let heard = heard.lock().unwrap();
    let distinct: HashSet<&String> = heard.iter().collect();
    assert_eq!(distinct.len(), heard.len(), "a call was delivered twice");
    // What is stuck on the dead way counts as its load, so that few follow before the silence is noticed.
    assert!(failed <= 10, "{failed} of 200 failed");
}

/// "if it has sent no payload": a client that waits for the server's word is brought elsewhere though its stream was
/// open already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_said_nothing_is_brought_elsewhere_when_its_link_falls_silent() {
    let hello = |name: &'static [u8]| {
        pod(move |mut client| async move {
            client.write_all(name).await.unwrap();
        })
    };
    let (paris, tokyo) = (hello(b"paris").await, hello(b"tokyo").await);
    let three = three(paris, tokyo).await;
    three.berlin.imports(&["tokyo", "paris"]).await;
    three.way.cut(true);
    let calls = (0..16).map(|_| async {
        let mut client = three.berlin.call().await;
        let mut greeting = String::new();
        client.read_to_string(&mut greeting).await.map(|_| greeting)
    });
    for greeting in futures::future::join_all(calls).await {
        assert_eq!(greeting.unwrap(), "paris");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payload_that_may_have_arrived_is_not_sent_again() {
    let arrived = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&arrived);
    let (_world, berlin, paris) = {
        let pod = pod(move |mut client| {
            let arrived = Arc::clone(&counted);
            async move {
                let mut question = [0; 4];
                client.read_exact(&mut question).await.unwrap();
                *arrived.lock().unwrap() += 1;
                std::future::pending::<()>().await;
            }
        })
        .await;
        pair(pod).await
    };
    let mut client = berlin.call().await;
    client.write_all(b"once").await.unwrap();
    until("it has arrived", || *arrived.lock().unwrap() == 1).await;
    paris.core.stop.cancel();
    assert!(client.read(&mut [0; 8]).await.is_err(), "the client is reset");
    assert_eq!(*arrived.lock().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_goes_lets_open_calls_end_and_takes_no_new_ones() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let slow = pod(|mut client| async move {
        let mut question = Vec::new();
        client.read_to_end(&mut question).await.unwrap();
        let _ = client.write_all(b"paris").await;
    })
    .await;
    let three = three(slow, named("tokyo", &heard).await).await;
    three.berlin.imports(&["paris"]).await;
    let mut open = three.berlin.call().await;
    open.write_all(b"x").await.unwrap();
    until("it is open", || three.paris.core.open_connections() == 1).await;
    let going = Arc::clone(&three.paris.core);
    let drained = tokio::spawn(async move { going.drain().await });
    three.berlin.imports(&["paris", "tokyo"]).await;
    until("it is told", || {
        three.berlin.core.links.to(&id("paris")).iter().all(|link| link.view().draining)
    })
    .await;
    for _ in 0..5 {
        assert_eq!(three.berlin.ask("new").await.unwrap(), "tokyo");
    }
    open.shutdown().await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "paris", "the open call ends well");
    drained.await.unwrap();
    until("the link is gone", || three.berlin.core.links.to(&id("paris")).is_empty()).await;
    drop(three.tokyo);
}

/// The last bytes of an answer may be on their way when no connection is open any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_goes_waits_until_its_last_bytes_have_arrived() {
    let (go, written) = (Arc::new(tokio::sync::Notify::new()), Arc::new(Mutex::new(false)));
    let (told, tells) = (Arc::clone(&go), Arc::clone(&written));
    let slow = pod(move |mut client| {
        let (told, tells) = (Arc::clone(&told), Arc::clone(&tells));
        async move {
            let mut question = Vec::new();
            client.read_to_end(&mut question).await.unwrap();
            told.notified().await;
            client.write_all(&[7; 32_768]).await.unwrap();
            *tells.lock().unwrap() = true;
        }
    })
    .await;
    let three = three(nobody().await, slow).await;
    three.berlin.imports(&["tokyo"]).await;
    let mut open = three.berlin.call().await;
    open.write_all(b"x").await.unwrap();
    open.shutdown().await.unwrap();
    until("it is open", || three.tokyo.core.open_connections() == 1).await;
    let going = Arc::clone(&three.tokyo.core);
    let drained = tokio::spawn(async move { going.drain().await });
    until("it is told", || {
        three.berlin.core.links.to(&id("tokyo")).iter().all(|link| link.view().draining)
    })
    .await;
    three.way.cut(true);
    go.notify_one();
    until("it is written", || *written.lock().unwrap()).await;
    // Longer than the gateway takes to find that nothing is open.
    tokio::time::sleep(Duration::from_millis(100)).await;
    three.way.cut(false);
    let mut answer = Vec::new();
    open.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.len(), 32_768);
    drained.await.unwrap();
}

/// Connection tracking that is emptied, or a load balancer that is restarted, knows nothing any more of the port that a link
/// comes from: the link goes on from another, and what was under way arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_outlives_a_path_that_forgets_it() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let three = three(nobody().await, named("tokyo", &heard).await).await;
    three.berlin.imports(&["tokyo"]).await;
    let links = || three.berlin.core.links.to(&id("tokyo"));
    let link = links()[0].id;
    let mut open = three.berlin.call().await;
    open.write_all(b"under way").await.unwrap();
    three.way.forget();
    until("suspect", || three.berlin.link_states("tokyo") == [LinkState::Suspect]).await;
    until("heard again", || three.berlin.link_states("tokyo") == [LinkState::Healthy]).await;
    assert_eq!(links()[0].id, link, "it is the same link");
    open.shutdown().await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert_eq!(
        (answer.as_str(), &heard.lock().unwrap()[..]),
        ("tokyo", &["under way".to_owned()][..])
    );
}

/// Design, "Gateway": "A Peer lists replicas; the dialler goes on until it holds distinct replicas". Whatever stands before
/// several of them, such as kube-proxy, brings all packets of one port to the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_dial_comes_from_a_port_of_its_own() {
    let (_world, berlin, paris) = pair(nobody().await).await;
    let from = || {
        let links = paris.core.links.to(&id("berlin"));
        let dialled = links.iter().find(|link| link.dialled.is_none());
        dialled.map(|link| link.connection.remote_address().port())
    };
    until("berlin has dialled", || from().is_some()).await;
    let first = from();
    assert_ne!(first, Some(berlin.link_address().port()));
    paris.forgets("berlin");
    until("it is cut", || from().is_none()).await;
    paris.knows("berlin", &[berlin.link_address()]);
    until("berlin has dialled again", || from().is_some()).await;
    assert_ne!(from(), first);
}

/// "A peer that is no longer listed is cut at once", and one that has joined anew counts as another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_longer_listed_is_cut() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    berlin.knows_generation("paris", 2, &[paris.link_address()]);
    until("cut", || berlin.core.links.to(&id("paris")).is_empty()).await;
    assert!(berlin.ask("x").await.is_err());
    until("refused", || berlin.core.metrics.handshake_refusals("generation") > 0).await;
    berlin.knows("paris", &[paris.link_address()]);
    berlin.linked("paris").await;
    assert_eq!(berlin.ask("x").await.unwrap(), "paris");
}
