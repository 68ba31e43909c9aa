//! `landbridge status` and `landbridge check` against an API: what is shown, and with which code they end.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Output,
    thread,
};

use serde_json::{Value, json};

use crate::{err, landbridge, out, running::Surroundings};

fn at(cluster: &Surroundings, arguments: &[&str]) -> Output {
    let kubeconfig = cluster.folder.path().join("kubeconfig").display().to_string();
    landbridge(&[arguments, &["--kubeconfig", &kubeconfig]].concat())
}

/// paris beside tokyo, as their controllers and gateways have left it; nothing runs.
pub(crate) async fn member() -> Surroundings {
    let cluster = Surroundings::new().await;
    let create = |object: Value| drop(cluster.cluster.store().create(object).unwrap());
    for name in ["landbridge-system", "shop"] {
        create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    for (name, value) in [("cluster.clusterset.k8s.io", "paris"), ("clusterset.k8s.io", "prod")] {
        create(json!({"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
            "metadata": {"name": name}, "spec": {"value": value}}));
    }
    create(
        json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer", "metadata": {"name": "tokyo"},
        "spec": {"generation": 1, "network": "tokyo", "gateways": [{"address": "198.51.100.7:4433"}]}}),
    );
    let mut peer =
        (*cluster.cluster.store().get(("landbridge.dev/v1alpha1", "Peer"), ("", "tokyo")).unwrap())
            .clone();
    peer["status"] = json!({"links": {"gw-0": {"state": "Refused", "lastError": "not listed"}},
        "conditions": [{"type": "Connected", "status": "False", "reason": "NotListed", "message": "not listed",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    cluster.cluster.store().update_status(peer).unwrap();
    create(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "kube-system", "name": "coredns"}, "data": {"Corefile": ".:53 {\n}\n"}}));
    create(json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"namespace": "shop", "name": "web"}}));
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_what_is_there_and_what_is_wrong() {
    let cluster = member().await;
    let text = out(&at(&cluster, &["status"]));
    assert!(text.starts_with("paris, member of set prod, on Kubernetes v"), "{text}");
    assert!(
        text.contains("tokyo     0 of 1     -      -            -       not listed\n"),
        "{text}"
    );
    assert!(text.contains("1 export, 1 not ready; no imports\n"), "{text}");
    assert!(text.contains("  WRONG   links      tokyo: not listed (NotListed)\n"), "{text}");
    assert!(text.contains("CoreDNS is not told of our server"), "{text}");
    let told: Value = serde_json::from_str(&out(&at(&cluster, &["status", "-o", "json"]))).unwrap();
    assert_eq!((&told["cluster"], &told["isHub"]), (&json!("paris"), &json!(false)));
    assert_eq!(told["links"][0]["lastError"], "not listed");
    let problem =
        &told["problems"].as_array().unwrap().iter().find(|one| one["check"] == "links").unwrap();
    assert_eq!(problem["page"], "docs/checks.md#links");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_finds_something_ends_with_a_code_of_its_own() {
    let cluster = member().await;
    let answer = at(&cluster, &["check"]);
    assert_eq!(answer.status.code(), Some(5), "{}", err(&answer));
    assert_eq!(err(&answer), "error: gateways, links, exports, dns are not as they should be\n");
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(text.contains("→ run `landbridge dns enable`\n"), "{text}");
    let answer = at(&cluster, &["check", "-o", "json"]);
    let told: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let levels = told.as_array().unwrap().iter().filter(|one| one["check"] == "links");
    assert_eq!(levels.map(|one| &one["level"]).collect::<Vec<_>>(), ["wrong"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_no_member_has_no_state() {
    let cluster = Surroundings::new().await;
    let answer = at(&cluster, &["status"]);
    assert_eq!(answer.status.code(), Some(2), "{}", err(&answer));
    assert!(
        err(&answer)
            .starts_with("error: this cluster is no member of a set: `landbridge init` makes it"),
        "{}",
        err(&answer)
    );
    cluster.cluster.pause().await;
    for command in ["status", "check"] {
        let answer = at(&cluster, &[command]);
        assert_eq!(answer.status.code(), Some(3), "{}", err(&answer));
    }
}

/// What an API server says of its version.
fn version() -> Value {
    json!({"major": "1", "minor": "34", "gitVersion": "v1.34.2", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": ""})
}

/// A refusal, as an API server words it.
fn refusal(code: u16, reason: &str) -> (u16, String) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason,
        "code": code});
    (code, status.to_string())
}

/// Something that answers as an API server would, by the path that is asked for; a kubeconfig for it.
fn api_server(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> tempfile::TempDir {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or_default();
            let asked = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = asked.split(' ').nth(1).unwrap_or_default();
            let (code, body) = answer(path.split('?').next().unwrap_or_default());
            let _ = write!(
                stream,
                "HTTP/1.1 {code} .\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "users": [{"name": "a", "user": {}}]});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kubeconfig"), config.to_string()).unwrap();
    folder
}

fn asking(server: &tempfile::TempDir, command: &str) -> Output {
    let kubeconfig = server.path().join("kubeconfig").display().to_string();
    landbridge(&[command, "--kubeconfig", &kubeconfig])
}

/// Through the API server, so that nobody has to be where pods are reached.
#[test]
fn pods_are_asked_what_they_run_and_what_they_wait_for() {
    let server = api_server(|path| match path {
        "/version" => (200, version().to_string()),
        "/apis/about.k8s.io/v1beta1/clusterproperties" => {
            let property = |name: &str, value: &str| {
                json!({"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty", "metadata": {"name": name},
                    "spec": {"value": value}})
            };
            let items = [
                property("cluster.clusterset.k8s.io", "paris"),
                property("clusterset.k8s.io", "prod"),
            ];
            (200, json!({"kind": "ClusterPropertyList", "apiVersion": "about.k8s.io/v1beta1", "metadata": {}, "items": items}).to_string())
        }
        "/api/v1/namespaces/landbridge-system/pods" => {
            let pod = json!({"metadata": {"name": "gw-0", "labels": {"app.kubernetes.io/component": "gateway"}},
                "spec": {"containers": [{"name": "gateway", "ports": [{"name": "admin", "containerPort": 9403}]}]},
                "status": {"phase": "Running"}});
            (
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]})
                    .to_string(),
            )
        }
        "/api/v1/namespaces/landbridge-system/pods/gw-0:9403/proxy/readyz" => {
            (503, "not ready: it waits for its listeners\n".to_owned())
        }
        "/api/v1/namespaces/landbridge-system/pods/gw-0:9403/proxy/metrics" => {
            let metrics = "landbridge_build_info{version=\"99.0.0\"} 1\nlandbridge_gateway_certificate_expires_in_seconds{certificate=\"gateway\"} 3600\n";
            (200, metrics.to_owned())
        }
        _ => refusal(404, "NotFound"),
    });
    let text = out(&asking(&server, "status"));
    for told in [
        "  WRONG   components     pod gw-0 is not ready: it waits for its listeners\n",
        "  note    versions       99.0.0 runs, and this program is ",
        "  note    certificates   certificate of gw-0 ends in ",
    ] {
        assert!(text.contains(told), "{told}\nis not in\n{text}");
    }
}

#[test]
fn who_may_read_nothing_is_told_so() {
    let server = api_server(|path| match path {
        "/version" => (200, version().to_string()),
        _ => refusal(403, "Forbidden"),
    });
    for command in ["status", "check"] {
        let answer = asking(&server, command);
        assert_eq!(answer.status.code(), Some(3), "{}", err(&answer));
        assert_eq!(
            err(&answer),
            "error: you may not list clusterproperties.about.k8s.io, list deployments.apps, list peers.landbridge.dev, list serviceimports.multicluster.x-k8s.io: ask an administrator of the cluster for rights to read that, or to run this\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_thing_in_the_way_of_a_service_is_named() {
    let cluster = member().await;
    let answer = at(&cluster, &["diagnose", "shop/web"]);
    assert_eq!(answer.status.code(), Some(5), "{}", err(&answer));
    assert_eq!(
        err(&answer),
        "error: shop/web is not reached: no controller has told of the ServiceExport here\n"
    );
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(text.starts_with("shop/web\n  WRONG   export "), "{text}");
    assert!(text.contains("  WRONG   import     there is none\n"), "{text}");
    assert!(text.contains("  WRONG   dns        CoreDNS is not told of our server"), "{text}");
    let told: Value =
        serde_json::from_slice(&at(&cluster, &["diagnose", "shop/web", "-o", "json"]).stdout)
            .unwrap();
    assert_eq!((&told[0]["step"], &told[0]["verdict"]), (&json!("export"), &json!("wrong")));
    for (service, told) in [
        ("web", "error: invalid value 'web' for '<NAMESPACE/SERVICE>'"),
        ("shop/Web", "error: invalid value 'shop/Web' for '<NAMESPACE/SERVICE>'"),
    ] {
        let answer = at(&cluster, &["diagnose", service]);
        assert_eq!(answer.status.code(), Some(2), "{}", err(&answer));
        assert!(err(&answer).starts_with(told), "{}", err(&answer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_is_written_once_and_has_no_secret() {
    let cluster = member().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "landbridge-system", "name": "landbridge-hub"},
        "data": {"token": "czNjcmV0LXMzY3JldA=="}});
    cluster.cluster.store().create(secret).unwrap();
    let path = cluster.folder.path().join("all.tar.gz");
    let file = path.display().to_string();
    let told = out(&at(&cluster, &["gather", "--out", &file]));
    assert!(told.starts_with(&format!("{file}: ")) && told.contains(" files, "), "{told}");
    let mut archive =
        tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()));
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().display().to_string());
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert!(!text.contains("s3cret") && !text.contains("czNjcmV0"), "{names:?}");
    }
    let is_there = |end: &str| {
        names.iter().any(|name| name.starts_with("landbridge-paris-2") && name.ends_with(end))
    };
    for end in ["/README.txt", "/status.txt", "/checks.txt", "/objects/peers.yaml"] {
        assert!(is_there(end), "{end}: {names:?}");
    }
    let again = at(&cluster, &["gather", "--out", &file]);
    assert_eq!(again.status.code(), Some(2), "{}", err(&again));
    assert!(err(&again).contains("name another with --out"), "{}", err(&again));
}
