//! Too little of what a machine gives: descriptors and memory. Each test of descriptors runs in a process of its own,
//! which may have few.

use std::{
    env,
    fs::File,
    io::ErrorKind,
    process::Command,
    sync::{Arc, Mutex},
};

use landbridge_model::Protocol;
use nix::sys::resource::{Resource, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{
    strangers::say,
    world::{Site, id, key, named, pair, pod, until, web},
};
use crate::{
    caller::Source,
    health::LinkState,
    metrics::Direction,
    wire::{self, Answer, Header, Refusal},
};

/// Says to a process that it is the one of its own.
const ALONE: &str = "LANDBRIDGE_TEST_ALONE";
/// What such a process may have: a client, a gateway on each side and a pod all take their descriptors from it.
const FEW: u64 = 320;

/// Runs a test again in a process of its own. Says whether this is that process, which may have [`FEW`] descriptors.
fn is_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        setrlimit(Resource::RLIMIT_NOFILE, FEW, FEW).unwrap();
        return true;
    }
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", &format!("tests::room::{test}"), "--nocapture"]).env(ALONE, "1");
    let output = again.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Takes all descriptors up to one of this number.
fn fill(up_to: u64) -> Vec<File> {
    use std::os::fd::AsRawFd;
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        let number = u64::try_from(file.as_raw_fd()).unwrap();
        files.push(file);
        if number >= up_to {
            break;
        }
    }
    files
}

fn header(protocol: Protocol) -> Vec<u8> {
    let port = landbridge_model::PortKey { protocol, ..key(80) };
    let source = Source::default();
    wire::encode_header(&Header {
        service: web(),
        endpoint: None,
        port,
        source,
        trace: None,
        flow: None,
    })
}

/// One byte there and back.
async fn echoes(call: &mut TcpStream) -> std::io::Result<()> {
    call.write_all(b"x").await?;
    call.read_exact(&mut [0]).await?;
    Ok(())
}

fn refused(berlin: &Site) -> u64 {
    berlin.core.metrics.connections(Direction::Outbound, "overloaded")
}

/// New connections are refused before those that stand are in trouble.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_when_descriptors_run_out_and_new_ones_are_refused() {
    if !is_alone("calls_go_on_when_descriptors_run_out_and_new_ones_are_refused") {
        return;
    }
    let echo = pod(|mut client| async move {
        let mut byte = [0];
        while client.read_exact(&mut byte).await.is_ok() && client.write_all(&byte).await.is_ok() {}
    })
    .await;
    let (_world, berlin, paris) = pair(echo).await;
    let mut calls = Vec::new();
    while refused(&berlin) < 20 {
        assert!(calls.len() < 100, "there are not so many descriptors");
        let call = async {
            // Connecting itself may already tell.
            let mut call = TcpStream::connect(berlin.entry()).await?;
            echoes(&mut call).await.map(|()| call)
        };
        match call.await {
            Ok(call) => calls.push(call),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
    assert!(calls.len() > 20, "{} calls were taken", calls.len());
    for call in &mut calls {
        echoes(call).await.unwrap();
    }
    assert!(File::open("/dev/null").is_ok(), "some are left for everything else");
    assert!(berlin.link_states("paris").contains(&LinkState::Healthy), "links stand");
    assert_eq!(paris.core.pods.left_out(), 0, "no pod is blamed");
    drop(calls);
    until("clients have gone", || berlin.core.open_connections() == 0).await;
    until("pods are let go", || paris.core.open_connections() == 0).await;
    for _ in 0..20 {
        echoes(&mut berlin.call().await).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_cannot_be_dialled_for_want_of_descriptors_is_not_blamed() {
    if !is_alone("a_pod_that_cannot_be_dialled_for_want_of_descriptors_is_not_blamed") {
        return;
    }
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    let overloaded = Answer::Refused(Refusal::Overloaded);
    // Those that are kept are left, and then none.
    for up_to in [FEW - 64, FEW] {
        let files = fill(up_to);
        for _ in 0..5 {
            assert_eq!(say(&berlin, &header(Protocol::Tcp)).await, overloaded);
        }
        drop(files);
        assert_eq!(berlin.ask("x").await.unwrap(), "paris");
        let open = || berlin.core.open_connections() + paris.core.open_connections();
        until("nothing gives descriptors back", || open() == 0).await;
    }
    assert_eq!(paris.core.pods.left_out(), 0);
    assert_eq!(paris.core.metrics.refusals("overloaded"), 10);
    paris.exports_udp(&["127.0.0.1:9".parse().unwrap()]);
    let files = fill(FEW);
    assert_eq!(say(&berlin, &header(Protocol::Udp)).await, overloaded);
    drop(files);
    assert_eq!(say(&berlin, &header(Protocol::Udp)).await, Answer::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_cannot_be_accepted_wait_for_descriptors() {
    if !is_alone("clients_that_cannot_be_accepted_wait_for_descriptors") {
        return;
    }
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, _paris) = pair(named("paris", &heard).await).await;
    let client = TcpSocket::new_v4().unwrap();
    let files = fill(FEW);
    let mut client = client.connect(berlin.entry()).await.unwrap();
    until("it is tried", || berlin.core.metrics.accept_failures.get() > 2).await;
    drop(files);
    client.write_all(b"x").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "paris");
    assert!(berlin.core.metrics.accept_failures.get() < 20, "it is not tried without pause");
}

/// What is kept until it is answered has a budget. Calls that find nothing left of it wait for their answer before they
/// are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_when_nothing_more_can_be_kept_of_them() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, _paris) = pair(named("paris", &heard).await).await;
    let mut taken = 0;
    while berlin.core.kept.take(1 << 20) {
        taken += 1 << 20;
    }
    let question = "x".repeat(1 << 20);
    for _ in 0..5 {
        assert_eq!(berlin.ask(&question).await.unwrap(), "paris");
    }
    berlin.core.kept.give(taken);
    assert!(berlin.core.kept.take(taken), "all of it has been given back");
    assert_eq!(*heard.lock().unwrap(), vec![question; 5]);
}

/// A stream costs no descriptor before it says what it is for: however many a peer opens, they take no room of calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_say_nothing_take_no_room_of_calls() {
    if !is_alone("streams_that_say_nothing_take_no_room_of_calls") {
        return;
    }
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    let link = berlin.core.links.to(&id("paris")).remove(0);
    let mut held = Vec::new();
    for _ in 0..2 * paris.core.room.bounds.to_pods {
        let (mut send, recv, load) = link.open().await.unwrap();
        send.write_all(&[1]).await.unwrap();
        held.push((send, recv, load));
    }
    assert_eq!(berlin.ask("x").await.unwrap(), "paris");
}
