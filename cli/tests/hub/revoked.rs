//! A member that is revoked, comes back as another, and is removed: what it may do on the hub, and for how long.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::core::v1::{Namespace, Secret, ServiceAccount},
    jiff,
};
use kube::{
    Client,
    api::{Api, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use landbridge_api::landbridge::{ClusterExport, Member};
use serde_json::json;

use crate::{Bare, FIRST, SYSTEM, err, export, out};

const NAMESPACE: &str = "cluster-berlin";

pub(crate) async fn token(hub: &Bare) -> String {
    let asked = ["token", "issue", "--cluster=berlin", "--address=192.0.2.1:30433"];
    out(&hub.run(&asked).await).trim().to_owned()
}

pub(crate) async fn join(hub: &Bare, berlin: &Bare, token: &str) -> std::process::Output {
    let kubeconfig = hub.folder.path().join("kubeconfig").display().to_string();
    let there = format!("--hub-kubeconfig={kubeconfig}");
    let image = "--image=registry.example/landbridge:1";
    let flags = [
        "join",
        token,
        &there,
        image,
        "--expose=nodeport",
        "--advertise=192.0.2.2",
        "--timeout=0s",
    ];
    berlin.run(&flags).await
}

/// What the member's controller comes to the hub by.
pub(crate) async fn credential(berlin: &Bare) -> Client {
    let secrets: Api<Secret> = Api::namespaced(berlin.admin.clone(), SYSTEM);
    let data = secrets.get("landbridge-hub").await.unwrap().data.unwrap();
    let config = String::from_utf8(data["kubeconfig"].0.clone()).unwrap();
    let config = Kubeconfig::from_yaml(&config).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

async fn generation(hub: &Bare) -> Option<i64> {
    let members: Api<Member> = Api::all(hub.admin.clone());
    Some(members.get_opt("berlin").await.unwrap()?.spec.generation)
}

/// What the namespace controller would do, which does not run here.
async fn emptied(hub: &Bare) {
    let namespaces: Api<Namespace> = Api::all(hub.admin.clone());
    let mut namespace = namespaces.get(NAMESPACE).await.unwrap();
    assert!(namespace.metadata.deletion_timestamp.is_some());
    namespace.spec = None;
    namespaces
        .replace_subresource("finalize", NAMESPACE, &PostParams::default(), &namespace)
        .await
        .unwrap();
}

/// "Its credentials void; it can't come back with old ones (generation)."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_member_has_no_rights_within_three_seconds_and_comes_back_as_another() {
    let (hub, berlin) = tokio::join!(Bare::start("revoking"), Bare::start("revoked"));
    out(&hub.init(&[&FIRST[..], &["--timeout=0s"]].concat()).await);
    let first = token(&hub).await;
    out(&join(&hub, &berlin, &first).await);
    let there = credential(&berlin).await;
    let exports: Api<ClusterExport> = Api::namespaced(there.clone(), NAMESPACE);
    exports.create(&PostParams::default(), &export()).await.unwrap();

    for (at, arguments, code, told) in [
        (
            &hub,
            ["revoke", "tokyo"],
            2,
            "error: the hub knows no tokyo: its members are berlin, paris\n",
        ),
        (
            &hub,
            ["remove", "paris"],
            2,
            "error: paris is the hub's own cluster: `landbridge uninstall`",
        ),
        (&berlin, ["revoke", "berlin"], 2, "error: this cluster is not the hub of a set"),
    ] {
        let answer = at.run(&arguments).await;
        assert_eq!(answer.status.code(), Some(code), "{}", err(&answer));
        assert!(err(&answer).starts_with(told), "{}", err(&answer));
    }
    exports.list(&ListParams::default()).await.unwrap();

    let told = out(&hub.run(&["revoke", "berlin"]).await);
    let expected =
        "berlin is no member of the set any more: 1 export is gone, and its rights on the hub.\n";
    assert!(told.starts_with(expected), "{told}");
    assert!(told.contains("its certificates are of generation 1"), "{told}");
    let begun = Instant::now();
    let refused = loop {
        match exports.create(&PostParams::default(), &export()).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => break status.code,
            other => assert!(begun.elapsed() < Duration::from_secs(3), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    println!("refused with {refused} after {:?}", begun.elapsed());
    let members: Api<Member> = Api::all(there.clone());
    assert!(members.list(&ListParams::default()).await.is_err());
    assert!(members.get("paris").await.is_err());
    let accounts: Api<ServiceAccount> = Api::namespaced(hub.admin.clone(), NAMESPACE);
    assert!(accounts.get_opt("landbridge-member").await.unwrap().is_none());
    let all: Api<ClusterExport> = Api::all(hub.admin.clone());
    assert_eq!(all.list(&ListParams::default()).await.unwrap().items.len(), 0);
    assert_eq!(generation(&hub).await, None);

    // What it has used lets it in no more, though its hour is not over.
    let again = join(&hub, &berlin, &first).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("the hub knows no such token"), "{}", err(&again));
    emptied(&hub).await;
    let second = token(&hub).await;
    out(&join(&hub, &berlin, &second).await);
    assert_eq!(generation(&hub).await, Some(2));
    // Neither do the rights of before come back with the account's name, once the API server has forgotten, after ten seconds,
    // that the token was good.
    let begun = Instant::now();
    while exports.list(&ListParams::default()).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "a token of the account that is gone");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    credential(&berlin).await;

    one_that_lives_is_not_removed(&hub).await;
    let removed = out(&hub.run(&["remove", "berlin", "-o", "json"]).await);
    let removed: serde_json::Value = serde_json::from_str(&removed).unwrap();
    assert_eq!((&removed["cluster"], &removed["generation"]), (&json!("berlin"), &json!(2)));
    assert_eq!(generation(&hub).await, None);
}

async fn one_that_lives_is_not_removed(hub: &Bare) {
    let members: Api<Member> = Api::all(hub.admin.clone());
    let beats = async {
        loop {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            let status = Patch::Merge(json!({"status": {"heartbeat": now}}));
            members.patch_status("berlin", &PatchParams::default(), &status).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let told = tokio::select! {
        told = hub.run(&["remove", "berlin"]) => told,
        () = beats => unreachable!(),
    };
    assert_eq!(told.status.code(), Some(2));
    assert!(
        err(&told).starts_with("error: berlin lives, it has just told its heartbeat"),
        "{}",
        err(&told)
    );
}
