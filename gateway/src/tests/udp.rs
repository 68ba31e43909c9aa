//! UDP services over two and three gateways: datagrams arrive whole, answers come back from where was asked, flows
//! keep their pod and move when it is gone.

use std::{
    collections::HashSet,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{net::UdpSocket, time::timeout};

use super::world::{self, Path, Site, World, fresh_ip, id, until};
use crate::{health::LinkState, metrics::Direction};

/// A pod that answers each datagram with its name and what was asked.
async fn pod(name: &'static str) -> SocketAddr {
    pod_at(name, SocketAddr::new(fresh_ip(), 0)).await
}

async fn pod_at(name: &'static str, address: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            let answer = [name.as_bytes(), &buffer[..count]].concat();
            let _ = socket.send_to(&answer[..answer.len().min(65_507)], from).await;
        }
    });
    address
}

/// A client whose socket hears of its cluster's gateway alone: answers from elsewhere are none.
async fn client(site: &Site) -> UdpSocket {
    let socket = UdpSocket::bind((fresh_ip(), 0)).await.unwrap();
    socket.connect(site.entry()).await.unwrap();
    socket
}

/// Asks until there is an answer, as clients of UDP do.
async fn ask(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    for _ in 0..40 {
        client.send(question).await.unwrap();
        if let Ok(Ok(count)) = timeout(Duration::from_millis(500), client.recv(&mut buffer)).await {
            return buffer[..count].to_vec();
        }
    }
    panic!("nobody answers");
}

async fn text(client: &UdpSocket, question: &str) -> String {
    String::from_utf8(ask(client, question.as_bytes()).await).unwrap()
}

/// berlin imports over UDP what paris exports.
async fn pair(pods: &[SocketAddr]) -> (World, Site, Site) {
    let world = world::world();
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    paris.knows("berlin", &[berlin.link_address()]);
    paris.exports_udp(pods);
    berlin.knows("paris", &[paris.link_address()]);
    berlin.imports_udp(&["paris"]).await;
    berlin.linked("paris").await;
    (world, berlin, paris)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_answered_from_where_it_was_asked() {
    let (_world, berlin, paris) = pair(&[pod("paris").await]).await;
    let client = client(&berlin).await;
    assert_eq!(text(&client, "?").await, "paris?");
    assert_eq!(text(&client, "").await, "paris", "an empty datagram is one");
    assert_eq!(text(&client, "!").await, "paris!");
    assert_eq!(berlin.core.metrics.flows(Direction::Outbound, "connected"), 1, "one flow");
    // "paris" comes back with each, so that 2 bytes go and 17 come.
    for (site, sent, received) in [(&berlin, 2, 17), (&paris, 17, 2)] {
        let shown = site.core.opened.shown();
        let one = &shown["connections"][0];
        assert_eq!((&one["sentBytes"], &one["receivedBytes"]), (&json!(sent), &json!(received)));
    }
    assert_eq!(paris.core.metrics.flows(Direction::Inbound, "connected"), 1);
}

/// Design, "Gateway": "larger than a datagram goes alone on a stream".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_of_every_size_arrive_whole() {
    let (_world, berlin, _paris) = pair(&[pod("").await]).await;
    let client = client(&berlin).await;
    for size in [1, 1_150, 1_200, 1_400, 1_500, 9_000, 65_507] {
        let question: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        assert!(ask(&client, &question).await == question, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_keeps_its_pod_and_each_client_has_its_own() {
    let (_world, berlin, _paris) = pair(&[pod("one").await, pod("two").await]).await;
    let mut answers = HashSet::new();
    for _ in 0..24 {
        let client = client(&berlin).await;
        let first = text(&client, "").await;
        for _ in 0..3 {
            assert_eq!(text(&client, "").await, first);
        }
        answers.insert(first);
    }
    assert_eq!(answers.len(), 2, "both pods have clients");
}

/// Design, "Gateway": "outlier ejection with a bound". What the system says of a datagram is all that tells of a pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_does_not_listen_is_left_out_for_a_while() {
    let gone = UdpSocket::bind((fresh_ip(), 0)).await.unwrap().local_addr().unwrap();
    let (_world, berlin, paris) = pair(&[gone, pod("there").await]).await;
    let mut clients = 0;
    while paris.core.metrics.ejections("pod") == 0 {
        clients += 1;
        assert!(clients < 64, "half of them have found nobody");
        assert_eq!(text(&client(&berlin).await, "").await, "there");
    }
    let refused = paris.core.opened.shown();
    assert_eq!(paris.core.metrics.ejections("pod"), 1, "never more than half are: {refused}");
}

/// What a client sends before its flow is answered waits, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_a_new_client_arrives() {
    let (_world, berlin, _paris) = pair(&[pod("").await]).await;
    let client = client(&berlin).await;
    for n in 0..10_u8 {
        client.send(&[n]).await.unwrap();
    }
    let mut answers = HashSet::new();
    let mut buffer = [0; 8];
    while answers.len() < 10 {
        let count = timeout(Duration::from_secs(15), client.recv(&mut buffer)).await;
        assert_eq!(count.expect("all arrive").unwrap(), 1);
        answers.insert(buffer[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_whose_pod_has_gone_finds_another() {
    let gone = UdpSocket::bind((fresh_ip(), 0)).await.unwrap().local_addr().unwrap();
    let (_world, berlin, paris) = pair(&[gone]).await;
    let client = client(&berlin).await;
    client.send(b"?").await.unwrap();
    let opened = || paris.core.metrics.flows(Direction::Inbound, "connected");
    until("the flow was there", || opened() == 1).await;
    paris.exports_udp(&[pod("back").await]);
    assert_eq!(text(&client, "?").await, "back?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_moves_when_its_link_falls_silent() {
    // The path is one of UDP.
    let world = World::new();
    let (berlin, paris, tokyo) = (world.site("berlin"), world.site("paris"), world.site("tokyo"));
    let way = Path::to(tokyo.link_address()).await;
    for (site, pod) in [(&paris, pod("paris").await), (&tokyo, pod("tokyo").await)] {
        site.knows("berlin", &[]);
        site.exports_udp(&[pod]);
    }
    berlin.knows("paris", &[paris.link_address()]);
    berlin.knows("tokyo", &[way.address]);
    berlin.imports_udp(&["tokyo"]).await;
    berlin.linked("paris").await;
    berlin.linked("tokyo").await;
    let client = client(&berlin).await;
    assert_eq!(text(&client, "").await, "tokyo");
    berlin.imports_udp(&["paris", "tokyo"]).await;
    way.cut(true);
    until("suspect", || berlin.link_states("tokyo") == [LinkState::Suspect]).await;
    assert_eq!(text(&client, "").await, "paris");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_pods_take_flows_that_nobody_else_does() {
    let (_world, berlin, paris) = pair(&[]).await;
    berlin.exports_udp(&[pod("berlin").await]);
    let client = client(&berlin).await;
    assert_eq!(text(&client, "1").await, "berlin1");
    assert_eq!(text(&client, "2").await, "berlin2");
    assert!(paris.core.metrics.refusals("no_endpoint") > 0);
}

/// "client v4 → pod v6 works", for both protocols.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_one_family_reaches_a_pod_of_the_other() {
    let six = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0);
    if UdpSocket::bind(six).await.is_err() {
        return eprintln!("skipped: this machine has no IPv6");
    }
    let (_world, berlin, paris) = pair(&[pod_at("six", six).await]).await;
    let client = client(&berlin).await;
    assert_eq!(text(&client, "?").await, "six?");
    let listener = tokio::net::TcpListener::bind(six).await.unwrap();
    paris.exports(&[listener.local_addr().unwrap()], false);
    berlin.imports(&["paris"]).await;
    let served = async {
        let (mut pod, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut pod, b"six").await.unwrap();
    };
    let (answer, ()) = tokio::join!(berlin.ask(""), served);
    assert_eq!(answer.unwrap(), "six");
}

/// Everything is bounded: a peer that can take no more flows says so, and goes on with those that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_too_many_is_refused_with_its_reason() {
    let (_world, berlin, paris) = pair(&[pod("paris").await]).await;
    let early = client(&berlin).await;
    assert_eq!(text(&early, "").await, "paris");
    let flows = Arc::clone(&paris.core.inbound_flows);
    let all = u32::try_from(flows.available_permits()).unwrap();
    let held = flows.try_acquire_many(all).unwrap();
    let late = client(&berlin).await;
    late.send(b"?").await.unwrap();
    until("refused", || paris.core.metrics.refusals("overloaded") > 0).await;
    assert_eq!(text(&early, "").await, "paris", "the rest goes on");
    drop(held);
    assert_eq!(text(&late, "?").await, "paris?");
}

/// A full gateway makes room by the flow that has been silent for longest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_takes_the_place_of_the_one_silent_for_longest() {
    let (_world, berlin, _paris) = pair(&[pod("paris").await]).await;
    let flows = Arc::clone(&berlin.core.outbound_flows);
    let all = u32::try_from(flows.available_permits()).unwrap();
    let _held = flows.try_acquire_many(all - 1).unwrap();
    let first = client(&berlin).await;
    assert_eq!(text(&first, "1").await, "paris1");
    let second = client(&berlin).await;
    assert_eq!(text(&second, "2").await, "paris2");
    assert!(berlin.core.metrics.dropped("overloaded") > 0, "the first datagram of it was lost");
    assert!(berlin.core.metrics.evictions() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_of_no_flow_are_counted_and_hurt_nobody() {
    let (_world, berlin, paris) = pair(&[pod("paris").await]).await;
    let link = berlin.core.links.to(&id("paris")).remove(0);
    for noise in [&b"\xff"[..], b"", b"\x25?"] {
        link.connection.send_datagram(&bytes::Bytes::from_static(noise)).unwrap();
    }
    until("counted", || {
        let metrics = &paris.core.metrics;
        metrics.dropped("malformed") == 2 && metrics.dropped("no_flow") == 1
    })
    .await;
    assert_eq!(text(&client(&berlin).await, "?").await, "paris?");
}
