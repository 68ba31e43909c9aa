//! `landbridge token` against a hub: what is printed, what is kept, and what is said where there is no hub.

use landbridge_embedded::Cluster;
use landbridge_gateway::{
    join::{token::Token, trust},
    pki::Root,
};
use landbridge_model::Timestamp;
use serde_json::{Value, json};

use crate::{err, landbridge, out, running::Surroundings};

const MEMBER: (&str, &str) = ("landbridge.dev/v1alpha1", "Member");

fn create(cluster: &Cluster, object: impl serde::Serialize) {
    cluster.store().create(serde_json::to_value(object).unwrap()).unwrap();
}

/// A hub as its administrator has made it: a root, an id, and a member with gateways that can be dialled.
async fn hub() -> Surroundings {
    let hub = Surroundings::new().await;
    create(&hub.cluster, trust::namespace());
    let root = Root::generate(&"prod".parse().unwrap(), Timestamp::from_millis(1_790_000_000_000));
    create(&hub.cluster, trust::to_secret(&root.unwrap()));
    create(
        &hub.cluster,
        json!({"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
        "metadata": {"name": "cluster.clusterset.k8s.io"}, "spec": {"value": "paris"}}),
    );
    create(
        &hub.cluster,
        json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Member",
        "metadata": {"name": "paris"}, "spec": {"generation": 1, "network": "paris"}}),
    );
    let store = hub.cluster.store();
    let mut member = (*store.get(MEMBER, ("", "paris")).unwrap()).clone();
    member["status"] = json!({"gateways": [{"address": "192.0.2.1:4433"}]});
    store.update_status(member).unwrap();
    hub
}

fn token(hub: &Surroundings, arguments: &[&str]) -> std::process::Output {
    let kubeconfig = hub.folder.path().join("kubeconfig").display().to_string();
    landbridge(&[&["token"], arguments, &["--kubeconfig", &kubeconfig]].concat())
}

fn kept(hub: &Surroundings) -> Vec<Value> {
    let all = hub.cluster.store().list(("v1", "Secret"), Some("landbridge-trust")).unwrap();
    let is_token = |secret: &Value| secret["type"] == "landbridge.dev/join-token";
    all.items.iter().map(|secret| (**secret).clone()).filter(is_token).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_printed_alone_and_its_hash_is_kept() {
    let hub = hub().await;
    let answer = token(&hub, &["issue", "--cluster", "berlin"]);
    let text = out(&answer);
    let made: Token = text.trim_end().parse().unwrap();
    assert_eq!(text.lines().count(), 1);
    assert_eq!((made.set.as_str(), made.hub.as_str()), ("prod", "paris"));
    assert_eq!(made.addresses[0].to_string(), "192.0.2.1:4433");
    let told = err(&answer);
    assert!(told.starts_with("Lets cluster berlin into set prod, once, until 20"), "{told}");
    assert!(told.contains(&format!("landbridge token revoke {}", made.secret.id())), "{told}");
    let kept = kept(&hub);
    assert_eq!(kept[0]["metadata"]["name"], format!("landbridge-token-{}", made.secret.id()));
    assert_eq!(kept.len(), 1);

    let listed = out(&token(&hub, &["list"]));
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], [made.secret.id().as_str(), "berlin", "open"]);
    let told = out(&token(&hub, &["revoke", &made.secret.id()]));
    assert_eq!(told, format!("token {} lets nobody in any more\n", made.secret.id()));
    assert_eq!(out(&token(&hub, &["list", "-o", "json"])), "[]\n");
    let again = token(&hub, &["revoke", &made.secret.id()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(err(&again).contains("there is no token"), "{}", err(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_told_what_a_token_holds() {
    let hub = hub().await;
    let text =
        out(&token(&hub, &["issue", "--address", "[2001:db8::1]:9", "--lasts=5m", "-o", "yaml"]));
    let told: Value = serde_norway::from_str(&text).unwrap();
    let made: Token = told["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(told["id"], made.secret.id());
    assert_eq!(told["addresses"], json!(["[2001:db8::1]:9"]));
    assert_eq!(told["rootFingerprint"], made.root.to_string());
    assert_eq!((&told["cluster"], made.cluster), (&Value::Null, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_with_what_to_do() {
    let bare = Surroundings::new().await;
    let hub = hub().await;
    hub.cluster.store().delete(MEMBER, ("", "paris")).unwrap();
    for (surroundings, arguments, code, told) in [
        (
            &bare,
            &["issue"][..],
            2,
            "error: this cluster is not the hub of a set: it has no Secret landbridge-trust/landbridge-root: name the hub's API with --context or --kubeconfig",
        ),
        (&hub, &["issue"], 2, "error: the gateways of paris tell no address"),
        (&hub, &["issue", "--lasts=2h"], 2, "error: invalid value '2h' for '--lasts <DURATION>'"),
        (
            &hub,
            &["issue", "--address=gw:1"],
            2,
            "error: invalid value 'gw:1' for '--address <IP:PORT>'",
        ),
        (&hub, &["list", "--context=other"], 2, "error: "),
    ] {
        let answer = token(surroundings, arguments);
        assert_eq!(answer.status.code(), Some(code), "{arguments:?}");
        assert!(err(&answer).starts_with(told), "{}", err(&answer));
    }
    assert_eq!(kept(&hub), Vec::<Value>::new());
    bare.cluster.pause().await;
    let away = token(&bare, &["list"]);
    assert_eq!(away.status.code(), Some(3), "{}", err(&away));
}
