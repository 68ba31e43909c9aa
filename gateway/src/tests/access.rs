//! Who may call: what a policy keeps out never reaches a pod, and both sides can see why.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use landbridge_model::Namespace;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::world::{named, pair, pod, until};
use crate::caller::{ObjectName, Workload};

/// Design, "Identity and access": "The receiving gateway believes a cluster about itself only, and checks `AccessPolicy`";
/// "A refusal is a reason to the caller's side, a metric, a log line".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_no_policy_allows_reaches_no_pod() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    assert_eq!(berlin.ask("open").await.unwrap(), "paris");
    paris.guards(&json!([{"clusters": ["berlin"], "serviceAccounts": ["shop/cart"]}]));
    // Nobody knows which pod calls.
    assert!(berlin.ask("unknown").await.is_err());
    until("it is counted", || paris.core.metrics.refusals("denied") == 1).await;
    let workload = |account: &str| Workload {
        namespace: Namespace::parse("shop").unwrap(),
        account: ObjectName::parse(account).unwrap(),
        pod: ObjectName::parse("pod-0").unwrap(),
    };
    // Where calls to loopback addresses come from.
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    berlin.has_pod(client, workload("thief"));
    assert!(berlin.ask("thief").await.is_err());
    berlin.has_pod(client, workload("cart"));
    assert_eq!(berlin.ask("cart").await.unwrap(), "paris");
    paris.guards(&json!([{"clusters": ["tokyo"]}]));
    assert!(berlin.ask("berlin").await.is_err());
    assert_eq!(*heard.lock().unwrap(), ["open", "cart"], "a refused call delivers nothing");
}

/// Says something and has it said back.
async fn exchange(client: &mut TcpStream) {
    client.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

/// Nothing goes on that is not allowed: a policy that comes, or changes, holds for what is open as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_allowed_any_more_is_cut() {
    let echo = pod(|mut client| async move {
        let (mut read, mut write) = client.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let (_world, berlin, paris) = pair(echo).await;
    let mut client = berlin.call().await;
    exchange(&mut client).await;
    paris.guards(&json!([{"clusters": ["berlin"]}]));
    exchange(&mut client).await;
    let shown = paris.core.opened.shown();
    let one = &shown["connections"][0];
    assert_eq!((&one["service"], &one["caller"]), (&json!("shop/web"), &json!("berlin///")));
    assert_eq!((&one["direction"], &one["pod"]), (&json!("inbound"), &json!(echo.to_string())));
    assert_eq!((&one["sentBytes"], &one["receivedBytes"]), (&json!(8), &json!(8)));
    paris.guards(&json!([{"clusters": ["tokyo"]}]));
    let ended = client.read(&mut [0]).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(paris.core.metrics.cuts("denied"), 1);
    let is_empty = || paris.core.opened.shown()["connections"] == json!([]);
    until("nothing is open", is_empty).await;
}
