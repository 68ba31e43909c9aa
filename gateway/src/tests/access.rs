//! Who may call: what a policy keeps out never reaches a pod, and both sides can see why.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use landbridge_model::Namespace;
use serde_json::json;

use super::world::{named, pair, until};
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
