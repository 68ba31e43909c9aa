//! `landbridge init`, `join` and `uninstall` where they cannot do anything: what is said, and with which code. What they do
//! where they can is seen on real API servers, in `cli/tests/hub`.

use serde::Deserialize;
use serde_json::Value;

use crate::{err, landbridge, out, running::Surroundings};

const FIRST: [&str; 3] =
    ["--cluster=paris", "--cluster-set=prod", "--image=registry.example/landbridge:1"];
/// What `landbridge token issue` has printed once, cut off.
const HALF: &str = "landbridge1-AHHw3tC0";

/// Runs a command against the cluster.
fn at(cluster: &Surroundings, arguments: &[&str]) -> std::process::Output {
    let kubeconfig = cluster.folder.path().join("kubeconfig").display().to_string();
    landbridge(&[arguments, &["--kubeconfig", &kubeconfig]].concat())
}

#[test]
fn what_init_would_apply_is_printed_without_a_cluster() {
    let print = [&["init", "--print"], &FIRST[..]].concat();
    let yaml = out(&landbridge(&print));
    assert!(yaml.starts_with("# Landbridge "), "{yaml}");
    assert!(yaml.contains(" for paris, the hub of set prod.\n"), "{yaml}");
    let documents: Vec<Value> = serde_norway::Deserializer::from_str(&yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect();
    let of = |kind: &str| documents.iter().filter(|one| one["kind"] == kind).count();
    let counts =
        ["Namespace", "CustomResourceDefinition", "Deployment", "Member", "Secret"].map(of);
    assert_eq!(counts, [3, 9, 4, 1, 0]);
    // The hub's own controller needs no credential of the hub.
    assert!(!yaml.contains("--hub-kubeconfig"), "{yaml}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_told_before_anything_is_asked() {
    let cluster = Surroundings::new().await;
    for (arguments, told) in [
        (&["init"][..], "error: the first time, give --cluster, --cluster-set, --image\n"),
        (&["init", "--print"], "error: the first time, give --cluster, --cluster-set, --image\n"),
        (
            &["init", "--image=a b"],
            "error: invalid value 'a b' for '--image <IMAGE>': is no image: give a reference such as registry.example/landbridge:",
        ),
        (
            &["join", "secret", "--hub-context=hub"],
            "error: this is no join token: one begins with landbridge1-, as `landbridge token issue` prints it\n",
        ),
        (
            &["join", "landbridge2-AAAA", "--hub-context=hub"],
            "error: this is a join token of another version: take the `landbridge` of the hub's version",
        ),
        (
            &["join", HALF, "--hub-context=hub"],
            "error: the join token has 20 characters of 171: copy the whole of it\n",
        ),
        (
            &["uninstall"],
            "error: there is no ConfigMap landbridge-system/landbridge: neither `landbridge init` nor `landbridge join` has made this cluster a member\n",
        ),
    ] {
        let answer = at(&cluster, arguments);
        assert_eq!(answer.status.code(), Some(2), "{arguments:?}: {}", err(&answer));
        assert!(err(&answer).starts_with(told), "{arguments:?}: {}", err(&answer));
    }
    // The same where the hub is reached through its gateways.
    let answer = at(&cluster, &["join", HALF]);
    assert_eq!(answer.status.code(), Some(2));
    let told = "error: the join token has 20 characters of 171: copy the whole of it\n";
    assert_eq!(err(&answer), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_away_is_another_kind_of_failure() {
    let cluster = Surroundings::new().await;
    cluster.cluster.pause().await;
    for command in ["init", "uninstall"] {
        let flags: &[&str] = if command == "init" { &FIRST } else { &[] };
        let answer = at(&cluster, &[&[command], flags].concat());
        assert_eq!(answer.status.code(), Some(3), "{}", err(&answer));
        assert!(
            err(&answer).starts_with("error: ConfigMap landbridge-system/landbridge"),
            "{}",
            err(&answer)
        );
    }
}
