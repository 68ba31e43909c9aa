//! A hub that takes no more of a member than its ResourceQuota says: what the member is told, and what comes of it.
//!
//! kube-controller-manager, which finds out at first and after deletions how much is used, does not run here: the test
//! says that in its place. The API server refuses, and counts what is made.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::members::{Cluster, MCS, api, becomes, control, export, is_ready};

const EXPORTS: &str = "count/clusterexports.landbridge.dev";

/// Lets the member have so many exports, of which one is there.
async fn allow(hub: &Cluster, number: u32) {
    let namespace = format!("cluster-{}", hub.server.name());
    let quotas = api(&hub.admin, "v1", "ResourceQuota", &namespace);
    let spec = Patch::Merge(json!({"spec": {"hard": {EXPORTS: number.to_string()}}}));
    let params = PatchParams::default();
    let quota = quotas.patch("landbridge-member", &params, &spec).await.unwrap();
    hub.count(&serde_json::to_value(quota).unwrap(), 1).await;
}

/// Design, "Joining, liveness, leaving": "ResourceQuota holds the number."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_beyond_the_quota_is_told_and_comes_when_there_is_room() {
    let hub = Cluster::start("quota").await;
    hub.apply("hub.yaml", "").await;
    hub.apply("hub-policies.yaml", "").await;
    let stop = CancellationToken::new();
    // It is its own hub.
    control(&hub, &hub, &stop).await;
    let exported = async |name: &str| {
        becomes("the export is told", async || {
            is_ready(hub.find(MCS, "ServiceExport", name).await?, "Ready")
        })
        .await
    };
    for object in export("web", MCS) {
        hub.create(object).await;
    }
    exported("web").await;
    allow(&hub, 1).await;
    for object in export("late", MCS) {
        hub.create(object).await;
    }
    let told = becomes("the refusal is told", async || {
        let export = hub.find(MCS, "ServiceExport", "late").await?;
        let conditions = export["status"]["conditions"].as_array()?.clone();
        let is_told = |one: &Value| one["type"] == "Ready" && one["reason"] == "Failed";
        conditions.into_iter().find(is_told)
    })
    .await;
    assert_eq!(told["status"], "False");
    assert_eq!(told["observedGeneration"], 1);
    let message = told["message"].as_str().unwrap();
    for part in ["The hub: ", "exceeded quota: landbridge-member", "limited: count/clusterexports"]
    {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert!(!message.contains("Status {"), "it is for people: {message}");
    assert!(hub.find(MCS, "ServiceImport", "late").await.is_none());

    allow(&hub, 2).await;
    exported("late").await;
    becomes("it is imported", async || hub.find(MCS, "ServiceImport", "late").await).await;
    stop.cancel();
}
