//! Peers that are who they should be, and behave badly: each hurts itself and nobody else.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    strangers::{answer, say},
    world::{Site, World, id, key, named, pair, pod, until, web},
};
use crate::{
    caller::{ObjectName, Source, Workload},
    metrics::Direction,
    wire::{self, Answer, Header, Refusal},
};

fn header(source: Source) -> Header {
    Header { service: web(), endpoint: None, port: key(80), source, trace: None, flow: None }
}

/// Design, "Identity and access": "The receiving gateway believes a cluster about itself only".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_speaks_for_callers_of_its_own_cluster_alone() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    let source = Source {
        workload: Some(Workload {
            namespace: landbridge_model::Namespace::parse("shop").unwrap(),
            account: ObjectName::parse("cart").unwrap(),
            pod: ObjectName::parse("cart-0").unwrap(),
        }),
        address: None,
    };
    let bytes = wire::encode_header(&header(source));
    // What berlin says of its pod is true of berlin's, whatever tokyo's of that name may do.
    paris.guards(&json!([{"clusters": ["tokyo"], "serviceAccounts": ["shop/cart"]}]));
    assert_eq!(say(&berlin, &bytes).await, Answer::Refused(Refusal::Denied));
    paris.guards(&json!([{"clusters": ["berlin"], "serviceAccounts": ["shop/cart"]}]));
    assert_eq!(say(&berlin, &bytes).await, Answer::Connected);
}

/// A third member, whose calls to paris must go on.
async fn bystander(world: &World, paris: &Site) -> Site {
    let tokyo = world.site("tokyo");
    paris.knows("tokyo", &[tokyo.link_address()]);
    tokyo.knows("paris", &[paris.link_address()]);
    tokyo.imports(&["paris"]).await;
    tokyo.linked("paris").await;
    tokyo
}

/// As many streams as a link may have, none of which ever says what it is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_say_nothing_hold_up_nobody_else_and_are_given_up() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (world, berlin, paris) = pair(named("paris", &heard).await).await;
    let tokyo = bystander(&world, &paris).await;
    let link = berlin.core.links.to(&id("paris")).remove(0);
    let mut held = Vec::new();
    // More than there may be at once: the last ones wait until others are given up.
    let opening = async {
        for _ in 0..100_000 {
            let (mut send, recv, load) = link.open().await.unwrap();
            if send.write_all(&[1]).await.is_err() {
                break;
            }
            held.push((send, recv, load));
        }
    };
    let begun = Instant::now();
    let _ = tokio::time::timeout(Duration::from_secs(4), opening).await;
    assert!(held.len() > 1_000, "{} streams in {:?}", held.len(), begun.elapsed());
    assert_eq!(tokyo.ask("still there?").await.unwrap(), "paris");
    // Nobody waits for a header for ever.
    until("one is given up", || paris.core.metrics.refusals("malformed") > 0).await;
    assert_eq!(tokyo.ask("and now?").await.unwrap(), "paris");
    drop(held);
    until("all are gone", || paris.core.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_comes_byte_by_byte_is_given_up() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    let link = berlin.core.links.to(&id("paris")).remove(0);
    let (mut send, mut recv, _load) = link.open().await.unwrap();
    let bytes = wire::encode_header(&header(Source::default()));
    let dribble = async {
        for byte in bytes {
            if send.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let told = tokio::select! {
        told = answer(&mut recv) => told,
        () = dribble => unreachable!("it is pending"),
        () = tokio::time::sleep(Duration::from_secs(18)) => panic!("nobody gives it up"),
    };
    assert_eq!(told, Answer::Refused(Refusal::Malformed));
    assert_eq!(paris.core.metrics.connections(Direction::Inbound, "malformed"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_ends_too_early_delivers_nothing() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    let link = berlin.core.links.to(&id("paris")).remove(0);
    let (mut send, _recv, _load) = link.open().await.unwrap();
    let bytes = wire::encode_header(&header(Source::default()));
    send.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
    send.finish();
    let lost = || paris.core.metrics.connections(Direction::Inbound, "header_lost") == 1;
    until("it is lost", lost).await;
    assert_eq!(berlin.ask("x").await.unwrap(), "paris");
    assert_eq!(*heard.lock().unwrap(), ["x"]);
}

/// A peer that takes nothing of what it has asked for fills its own stream's window, and no other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_holds_up_its_own_stream_alone() {
    let pod = pod(|mut client| async move {
        let mut kind = [0];
        if client.read_exact(&mut kind).await.is_ok() && kind == *b"f" {
            let flood = vec![0; 1 << 20];
            while client.write_all(&flood).await.is_ok() {}
        }
        let _ = client.write_all(b"done").await;
    })
    .await;
    let (_world, berlin, _paris) = pair(pod).await;
    let link = berlin.core.links.to(&id("paris")).remove(0);
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let (mut send, mut recv, load) = link.open().await.unwrap();
        let bytes = wire::encode_header(&header(Source::default()));
        send.write_all(&[&bytes[..], b"f"].concat()).await.unwrap();
        assert_eq!(answer(&mut recv).await, Answer::Connected);
        stuck.push((send, recv, load));
    }
    for _ in 0..10 {
        assert_eq!(berlin.ask("x").await.unwrap(), "done");
    }
}
