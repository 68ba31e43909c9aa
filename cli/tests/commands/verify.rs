//! `landbridge verify` and its two ends: a call that is answered; and a cluster where no pod ever starts, which is told, and has
//! nothing left in it, whether the run comes to its end or is ended. Real pods are in the lab's clusters.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{err, landbridge, out, running::Surroundings};

/// Longer than anything here takes on a busy machine; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(30);
const NAMESPACES: (&str, &str) = ("v1", "Namespace");
/// The shortest run that there is: five seconds for pods.
const SHORT: [&str; 4] =
    ["verify", "--image=registry.example/landbridge:1", "--timeout=20s", "--namespace=checked"];

fn program(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
    command.args(arguments).env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn is_there(cluster: &Surroundings) -> bool {
    cluster.cluster.store().get(NAMESPACES, ("", "checked")).is_ok()
}

fn member(cluster: &Surroundings) {
    for (name, value) in [("cluster.clusterset.k8s.io", "paris"), ("clusterset.k8s.io", "prod")] {
        let property = json!({"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
            "metadata": {"name": name}, "spec": {"value": value}});
        cluster.cluster.store().create(property).unwrap();
    }
}

fn kubeconfig(cluster: &Surroundings) -> String {
    cluster.folder.path().join("kubeconfig").display().to_string()
}

#[test]
fn one_end_answers_the_other() {
    let mut server = program(&["probe", "serve", "--cluster=berlin", "--port=0"]);
    let mut said = String::new();
    let stdout = server.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).unwrap();
    let port = said.trim().rsplit_once(' ').unwrap().1.to_owned();
    let to = format!("--to=berlin=localhost:{port}");
    let called = landbridge(&["probe", "call", "--cluster=paris", "--within=10s", &to]);
    server.kill().unwrap();
    server.wait().unwrap();
    let called: Value = serde_json::from_str(&out(&called)).unwrap();
    let call = &called["calls"][0];
    assert_eq!(call["to"], "berlin");
    for step in ["name", "tcp", "udp"] {
        assert!(call[step]["held"]["micros"].is_u64(), "{called}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_pod_starts_that_is_told_and_nothing_is_left() {
    let cluster = Surroundings::new().await;
    let file = kubeconfig(&cluster);
    let at = |arguments: &[&str]| landbridge(&[arguments, &["--kubeconfig", &file]].concat());

    // Nothing is made where nobody knows whom to call.
    let answer = at(&SHORT);
    assert_eq!(answer.status.code(), Some(2), "{}", err(&answer));
    assert!(err(&answer).starts_with("error: it is no member of a set"), "{}", err(&answer));
    member(&cluster);
    let answer = at(&["verify"]);
    assert_eq!(answer.status.code(), Some(2));
    assert!(
        err(&answer).ends_with("whose image its pods could run: give --image\n"),
        "{}",
        err(&answer)
    );
    let answer = at(&["verify", "--timeout=3s"]);
    assert_eq!(err(&answer), "error: --timeout: give 20s at least\n");
    // What is somebody's is not taken away.
    cluster
        .cluster
        .store()
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "checked"}}))
        .unwrap();
    let answer = at(&SHORT);
    assert!(err(&answer).contains("namespace checked is in paris already"), "{}", err(&answer));
    assert!(is_there(&cluster));
    cluster.cluster.store().delete(NAMESPACES, ("", "checked")).unwrap();

    let answer = at(&SHORT);
    assert_eq!(answer.status.code(), Some(1), "{}", err(&answer));
    let told = String::from_utf8(answer.stdout.clone()).unwrap();
    let expected = "\
Set prod, namespace checked
FROM    TO      NAME   TCP   UDP
paris   paris   -      -     -

paris, pod: pod answers: Pending
";
    assert!(told.starts_with(expected), "{told}");
    assert_eq!(err(&answer), "error: 1 of 1 pairs of clusters fail\n");
    assert!(!is_there(&cluster));

    // Whoever does not wait for the end has nothing left either.
    let mut run = program(&[&SHORT[..], &["--kubeconfig", &file]].concat());
    let begun = Instant::now();
    while !is_there(&cluster) && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = run.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || run.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(!is_there(&cluster));

    cluster.cluster.pause().await;
    assert_eq!(at(&SHORT).status.code(), Some(3));
}
