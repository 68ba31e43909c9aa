//! Calls that go well: bytes, ends and resets arrive as they were sent.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use landbridge_model::Namespace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{self, fresh_ip, id, pair, pod, until};
use crate::{
    caller::{ObjectName, Workload},
    copy, proxy,
};

const MIB: usize = 1 << 20;

/// Bytes that are never the same twice in a row, so that none is lost, doubled or swapped unseen.
fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mebibyte_each_way_arrives_whole() {
    let pod = pod(|mut client| async move {
        let (mut read, mut write) = client.split();
        let mut question = vec![0; MIB];
        let answer = pattern(2, MIB);
        let (read, written) =
            tokio::join!(read.read_exact(&mut question), write.write_all(&answer));
        read.unwrap();
        written.unwrap();
        assert_eq!(question, pattern(1, MIB));
    })
    .await;
    let (_world, berlin, _paris) = pair(pod).await;
    let mut client = berlin.call().await;
    let (mut read, mut write) = client.split();
    let question = pattern(1, MIB);
    let mut answer = Vec::new();
    let (written, read) = tokio::join!(write.write_all(&question), read.read_to_end(&mut answer));
    written.unwrap();
    assert_eq!(read.unwrap(), MIB);
    assert_eq!(answer, pattern(2, MIB));
}

/// Design, "Gateway": the header "goes out when the client is accepted, so that servers may speak first".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_speak_first() {
    let pod = pod(|mut client| async move {
        client.write_all(b"220 ready\r\n").await.unwrap();
        let mut line = [0; 4];
        client.read_exact(&mut line).await.unwrap();
        client.write_all(&line).await.unwrap();
    })
    .await;
    let (_world, berlin, _paris) = pair(pod).await;
    let mut client = berlin.call().await;
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    client.write_all(b"HELO").await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"HELO");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_ends_by_itself() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let pod = world::named("paris", &heard).await;
    let (_world, berlin, _paris) = pair(pod).await;
    assert_eq!(berlin.ask("who is there?").await.unwrap(), "paris");
    assert_eq!(berlin.ask("").await.unwrap(), "paris");
    assert_eq!(*heard.lock().unwrap(), ["who is there?", ""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_server_is_one_for_the_client() {
    let pod = pod(|mut client| async move {
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        copy::reset(client);
    })
    .await;
    let (_world, berlin, _paris) = pair(pod).await;
    let mut client = berlin.call().await;
    client.write_all(b"x").await.unwrap();
    let error = client.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_the_client_is_one_for_the_server() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seen_by_pod = Arc::clone(&seen);
    let pod = pod(move |mut client| {
        let seen = Arc::clone(&seen_by_pod);
        async move {
            let mut byte = [0];
            client.read_exact(&mut byte).await.unwrap();
            client.write_all(&byte).await.unwrap();
            let end = client.read(&mut byte).await.map_err(|error| error.kind());
            seen.lock().unwrap().push(end);
        }
    })
    .await;
    let (_world, berlin, _paris) = pair(pod).await;
    let mut client = berlin.call().await;
    client.write_all(b"x").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    copy::reset(client);
    until("the server sees an end", || !seen.lock().unwrap().is_empty()).await;
    assert_eq!(*seen.lock().unwrap(), [Err(ErrorKind::ConnectionReset)]);
}

/// Only one side dials, the other has no address to be dialled at: streams open both ways all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_dialled_serves_and_calls() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let world = world::world();
    let (home, cloud) = (world.site("home"), world.site("cloud"));
    cloud.knows("home", &[]);
    home.knows("cloud", &[cloud.link_address()]);
    home.exports(&[world::named("home", &heard).await], false);
    cloud.exports(&[world::named("cloud", &heard).await], false);
    home.imports(&["cloud"]).await;
    cloud.imports(&["home"]).await;
    home.linked("cloud").await;
    cloud.linked("home").await;
    assert_eq!(home.ask("?").await.unwrap(), "cloud");
    assert_eq!(cloud.ask("?").await.unwrap(), "home");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_asks_is_told_who_calls() {
    let told = Arc::new(Mutex::new(None));
    let told_by_pod = Arc::clone(&told);
    let pod = pod(move |mut client| {
        let told = Arc::clone(&told_by_pod);
        async move {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).await.unwrap();
            let (header, length) = proxy::decode(&bytes).unwrap();
            *told.lock().unwrap() = Some((header, bytes[length..].to_vec()));
        }
    })
    .await;
    let (_world, berlin, paris) = pair(pod).await;
    paris.exports(&[pod], true);
    let workload = Workload {
        namespace: Namespace::parse("shop").unwrap(),
        account: ObjectName::parse("cart").unwrap(),
        pod: ObjectName::parse("cart-0").unwrap(),
    };
    let ip = fresh_ip();
    berlin.has_pod(ip, workload);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip, 0)).unwrap();
    let mut client = socket.connect(berlin.entry()).await.unwrap();
    let from = client.local_addr().unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    until("the pod is told", || told.lock().unwrap().is_some()).await;
    let (header, rest) = told.lock().unwrap().take().unwrap();
    assert_eq!(header.caller.as_deref(), Some("berlin/shop/cart/cart-0"));
    assert_eq!(header.addresses, Some((from, pod)));
    assert_eq!(rest, b"hello");
}

/// A reader that stops holds up its own connection and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_read_holds_up_nobody_else() {
    let pod = pod(|mut client| async move {
        let mut kind = [0];
        client.read_exact(&mut kind).await.unwrap();
        if kind == *b"s" {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let _ = client.write_all(b"done").await;
    })
    .await;
    let (_world, berlin, _paris) = pair(pod).await;
    let mut stuck = berlin.call().await;
    stuck.write_all(b"s").await.unwrap();
    // More than the buffers of two connections and a stream between them hold.
    let flood = vec![0; 96 * MIB];
    let written = tokio::time::timeout(Duration::from_millis(700), stuck.write_all(&flood)).await;
    assert!(written.is_err(), "what nobody reads is not taken without end: {written:?}");
    for _ in 0..10 {
        assert_eq!(berlin.ask("x").await.unwrap(), "done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_pods_are_the_last_resort() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(world::named("paris", &heard).await).await;
    berlin.exports(&[world::named("berlin", &heard).await], false);
    assert_eq!(berlin.ask("1").await.unwrap(), "paris");
    paris.forgets("berlin");
    until("the link is cut", || berlin.core.links.to(&id("paris")).is_empty()).await;
    assert_eq!(berlin.ask("2").await.unwrap(), "berlin");
}
