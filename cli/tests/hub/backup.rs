//! A hub that is lost and brought back in another cluster: the same root, the same members of the same generations, a later epoch.

use std::fs;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, Patch, PatchParams};
use landbridge_api::landbridge::Member;
use landbridge_gateway::join::Tokens;
use serde_json::json;

use crate::{Bare, FIRST, err, out};

/// The epoch of a hub's state.
async fn epoch(hub: &Bare) -> String {
    let secrets: Api<Secret> = Api::namespaced(hub.admin.clone(), "landbridge-trust");
    let data = secrets.get("landbridge-root").await.unwrap().data.unwrap();
    data.get("epoch").map(|epoch| String::from_utf8(epoch.0.clone()).unwrap()).unwrap_or_default()
}

/// "The hub's state, with the root key encrypted, can be backed up and restored; members follow the highest hub epoch."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_is_brought_back_in_another_cluster_with_its_root_and_members() {
    let (lost, new, other) =
        tokio::join!(Bare::start("lost"), Bare::start("found"), Bare::start("another"));
    out(&lost.init(&[&FIRST[..], &["--timeout=0s"]].concat()).await);
    let members: Api<Member> = Api::all(lost.admin.clone());
    let berlin = json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Member", "metadata": {"name": "berlin"},
        "spec": {"generation": 3, "network": "b", "suspended": true}});
    let berlin = Patch::Apply(&berlin);
    members.patch("berlin", &PatchParams::apply("somebody"), &berlin).await.unwrap();
    let status = Patch::Merge(json!({"status": {"clusterUid": "u1"}}));
    members.patch_status("berlin", &PatchParams::default(), &status).await.unwrap();

    let at = |name: &str| lost.folder.path().join(name).display().to_string();
    let file = at("backup");
    fs::write(at("passphrase"), "correct horse battery staple\n").unwrap();
    fs::write(at("wrong"), "incorrect horse battery staple\n").unwrap();
    fs::write(at("short"), "horse\n").unwrap();
    let [right, wrong, short] =
        ["passphrase", "wrong", "short"].map(|name| format!("--passphrase-file={}", at(name)));
    let to = format!("--out={file}");
    let told = lost.run(&["hub", "backup", &to, &short]).await;
    assert_eq!(told.status.code(), Some(2), "{}", err(&told));
    let told = new.run(&["hub", "backup", &to, &right]).await;
    assert_eq!(told.status.code(), Some(2));
    assert!(err(&told).contains("is not the hub of a set"), "{}", err(&told));
    let told = out(&lost.run(&["hub", "backup", &to, &right]).await);
    assert!(told.contains("the root and its key, 2 members, 0 that have left.\n"), "{told}");
    let text = fs::read_to_string(&file).unwrap();
    let root = Tokens::new(lost.admin.clone()).root().await.unwrap();
    assert!(!text.contains("PRIVATE KEY") && !text.contains("berlin"), "{text}");

    let told = new.run(&["hub", "restore", &file, &wrong]).await;
    assert_eq!(told.status.code(), Some(2));
    assert_eq!(err(&told), "error: the passphrase is another one, or the file was changed\n");
    let told = out(&new.run(&["hub", "restore", &file, &right]).await);
    assert!(told.contains("is there again, as epoch 1:"), "{told}");
    // What was chosen is known.
    out(&new.init(&["--timeout=0s"]).await);
    let again = Tokens::new(new.admin.clone()).root().await.unwrap();
    assert_eq!((again.cert_pem(), again.key_pem()), (root.cert_pem(), root.key_pem()));
    let members: Api<Member> = Api::all(new.admin.clone());
    let berlin = members.get("berlin").await.unwrap();
    assert_eq!((berlin.spec.generation, berlin.spec.suspended), (3, true));
    assert_eq!(berlin.status.unwrap().cluster_uid.as_deref(), Some("u1"));
    assert_eq!(members.get("paris").await.unwrap().spec.generation, 1);
    let accounts: Api<ServiceAccount> = Api::namespaced(new.admin.clone(), "cluster-berlin");
    accounts.get("landbridge-member").await.unwrap();
    assert_eq!(epoch(&new).await, "1");
    // Each time it is a later one.
    out(&new.run(&["hub", "restore", &file, &right]).await);
    assert_eq!(epoch(&new).await, "2");

    out(&other.init(&[&FIRST[..], &["--timeout=0s"]].concat()).await);
    let told = other.run(&["hub", "restore", &file, &right]).await;
    assert_eq!(told.status.code(), Some(2));
    assert!(err(&told).starts_with("error: the cluster has another root"), "{}", err(&told));
}
