//! A member that leaves of its own accord: what it gave is gone from the hub, by the rights of its own controller, and nothing is
//! left in it. No kubelet runs here: the test does what the pod would.

use std::{fs, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Secret},
};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use landbridge_api::landbridge::{ClusterExport, Member, Peer};
use serde_json::json;

use crate::{
    Bare, FIRST, SYSTEM, err, export, out,
    revoked::{credential, join, token},
};

/// Runs what the pod would run, with what is mounted in it, and says of the pod that it has ended well.
async fn kubelet(berlin: &Bare) {
    let pods: Api<Pod> = Api::namespaced(berlin.admin.clone(), SYSTEM);
    let arguments = loop {
        if let Some(pod) = pods.get_opt("landbridge-withdraw").await.unwrap() {
            break pod.spec.unwrap().containers.remove(0).args.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let secrets: Api<Secret> = Api::namespaced(berlin.admin.clone(), SYSTEM);
    let data = secrets.get("landbridge-hub").await.unwrap().data.unwrap();
    let file = berlin.folder.path().join("of-the-hub");
    fs::write(&file, &data["kubeconfig"].0).unwrap();
    let mounted = "/etc/landbridge/hub/kubeconfig";
    let arguments: Vec<String> =
        arguments.iter().map(|one| one.replace(mounted, &file.display().to_string())).collect();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_landbridge"));
    command.args(&arguments).env_clear();
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(out(&output), "2 objects of berlin are gone from the hub\n");
    let status = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("landbridge-withdraw", &PatchParams::default(), &status).await.unwrap();
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_leaves_takes_back_what_it_gave_and_nothing_of_it_is_left() {
    let (hub, berlin) = tokio::join!(Bare::start("stays"), Bare::start("leaves"));
    out(&hub.init(&[&FIRST[..], &["--timeout=0s"]].concat()).await);
    let told = hub.run(&["leave", "--yes"]).await;
    assert_eq!(told.status.code(), Some(2));
    assert!(err(&told).starts_with("error: this cluster is the hub"), "{}", err(&told));
    out(&join(&hub, &berlin, &token(&hub).await).await);
    let exports: Api<ClusterExport> = Api::namespaced(credential(&berlin).await, "cluster-berlin");
    exports.create(&PostParams::default(), &export()).await.unwrap();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "berlin", "namespace": "cluster-berlin"}, "spec": {}});
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(hub.admin.clone(), "cluster-berlin");
    let lease = serde_json::from_value(lease).unwrap();
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let peer = json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer", "metadata": {"name": "paris"},
        "spec": {"generation": 1, "network": "paris"}});
    let peers: Api<Peer> = Api::all(berlin.admin.clone());
    peers.create(&PostParams::default(), &serde_json::from_value(peer).unwrap()).await.unwrap();

    let shown = out(&berlin.run(&["leave"]).await);
    assert!(shown.starts_with("Takes berlin out of its set"), "{shown}");
    assert!(shown.ends_with("Nothing was changed: give --yes to do it.\n"), "{shown}");
    assert_eq!(exports.list(&ListParams::default()).await.unwrap().items.len(), 1);

    let leaving = async {
        tokio::select! {
            told = berlin.run(&["leave", "--stay", "--yes"]) => told,
            () = kubelet(&berlin) => unreachable!(),
        }
    };
    let told = out(&leaving.await);
    assert!(told.ends_with("with no controller: `landbridge join` brings it back.\n"), "{told}");
    assert_eq!(exports.list(&ListParams::default()).await.unwrap().items.len(), 0);
    assert_eq!(peers.list(&ListParams::default()).await.unwrap().items.len(), 0);
    let deployments: Api<Deployment> = Api::namespaced(berlin.admin.clone(), SYSTEM);
    let controller = deployments.get("landbridge-controller").await.unwrap();
    assert_eq!(controller.spec.unwrap().replicas, Some(0));

    // And then for good, with what the hub has of it.
    let kubeconfig = hub.folder.path().join("kubeconfig").display().to_string();
    let there = format!("--hub-kubeconfig={kubeconfig}");
    let told = out(&berlin.run(&["leave", "--yes", &there]).await);
    let expected = "Nothing of Landbridge is left in landbridge-system.\nberlin exports nothing and imports nothing any more.\n";
    assert!(told.ends_with(expected), "{told}");
    let namespaces: Api<Namespace> = Api::all(berlin.admin.clone());
    let namespace = namespaces.get_opt(SYSTEM).await.unwrap();
    assert!(namespace.is_none_or(|one| one.metadata.deletion_timestamp.is_some()));
    let members: Api<Member> = Api::all(hub.admin.clone());
    assert!(members.get_opt("berlin").await.unwrap().is_none());
}
