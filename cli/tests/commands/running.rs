//! The long-running commands against an embedded Kubernetes API: ready, observable, and ended by a signal.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use landbridge_embedded::{Cluster, ClusterConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{err, landbridge, pki::certificates};

/// Longer than anything here takes on a busy machine; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// An embedded Kubernetes API, its kubeconfig, and certificates for a gateway.
pub(crate) struct Surroundings {
    pub(crate) cluster: Cluster,
    pub(crate) folder: TempDir,
}

impl Surroundings {
    pub(crate) async fn new() -> Self {
        let config = ClusterConfig {
            name: "paris".into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            service_range_v4: "127.96.0.0/24".parse().unwrap(),
            service_range_v6: None,
            crds: landbridge_api::crds::all(),
        };
        let cluster = Cluster::start(config).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kubeconfig"), cluster.kubeconfig()).unwrap();
        Self { cluster, folder }
    }

    /// Says who the cluster is, and makes it the hub with itself as a member.
    fn join(&self) {
        let create = |object| self.cluster.store().create(object).unwrap();
        for (name, value) in [("cluster.clusterset.k8s.io", "paris"), ("clusterset.k8s.io", "demo")]
        {
            create(json!({
                "apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
                "metadata": {"name": name}, "spec": {"value": value},
            }));
        }
        for name in ["cluster-paris", "landbridge-system"] {
            create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        }
        create(json!({
            "apiVersion": "landbridge.dev/v1alpha1", "kind": "Member",
            "metadata": {"name": "paris"}, "spec": {"generation": 1, "network": "paris"},
        }));
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let common = ["--kubeconfig", &self.path("kubeconfig"), "--log-format", "json"];
        arguments.iter().copied().chain(common).map(str::to_owned).collect()
    }
}

/// A component in a process of its own, killed when the test is done with it.
pub(crate) struct Running {
    admin: SocketAddr,
    child: Child,
    log: thread::JoinHandle<String>,
}

impl Running {
    /// Starts it and waits until it says where its admin endpoint is.
    pub(crate) fn start(arguments: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
            .args(arguments)
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, said) = mpsc::channel();
        let log = thread::spawn(move || {
            let mut log = String::new();
            for line in stderr.lines() {
                let line = line.unwrap();
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "running" {
                    sender.send(event["admin"].as_str().unwrap().parse().unwrap()).unwrap();
                }
                log.push_str(&line);
                log.push('\n');
            }
            log
        });
        match said.recv_timeout(PATIENCE) {
            Ok(admin) => Self { admin, child, log },
            Err(_) => {
                let _ = child.kill();
                panic!("{arguments:?} did not start: {}", log.join().unwrap());
            }
        }
    }

    /// Starts it with somewhere else to write its log to. Nothing tells then where its admin endpoint is: `admin` does.
    pub(crate) fn start_logging(
        arguments: &[String],
        admin: SocketAddr,
        log: impl Into<Stdio>,
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
            .args(arguments)
            .env_clear()
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(admin).is_err() {
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("{arguments:?} did not start");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Self { admin, child, log: thread::spawn(String::new) }
    }

    /// `(status line, body)`.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    pub(crate) fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get("/readyz");
            if status == "HTTP/1.1 200 OK" {
                return;
            }
            assert!(body.starts_with("not ready: it waits for"), "{status} {body}");
            assert!(Instant::now() < deadline, "{body}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Checks what all components serve, and returns the metrics.
    fn observe(&self) -> String {
        self.wait_until_ready();
        assert_eq!(self.get("/healthz").0, "HTTP/1.1 200 OK");
        let snapshot: Value = serde_json::from_str(&self.get("/debug/snapshot").1).unwrap();
        assert!(snapshot.is_object(), "{snapshot}");
        let metrics = self.get("/metrics").1;
        assert!(metrics.contains("landbridge_build_info{version="), "{metrics}");
        metrics
    }

    /// Ends it as Kubernetes does, and returns how it ended and what it logged.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("it did not end: {}", self.log.join().unwrap());
            }
            thread::sleep(Duration::from_millis(10));
        };
        (status, self.log.join().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_becomes_ready_tells_of_itself_and_ends_on_a_signal() {
    let around = Surroundings::new().await;
    let dns = Running::start(&around.arguments(&[
        "dns",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]));
    let metrics = dns.observe();
    assert!(metrics.contains("landbridge_dns_"), "{metrics}");
    assert!(dns.get("/listening").0.contains("404"));
    let (status, log) = dns.terminate();
    assert!(status.success(), "{status} {log}");
    assert!(log.contains("SIGTERM"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_learns_who_its_cluster_is_from_the_cluster() {
    let around = Surroundings::new().await;
    around.join();
    let controller =
        Running::start(&around.arguments(&["controller", "--admin-listen", "127.0.0.1:0"]));
    let metrics = controller.observe();
    assert!(metrics.contains("landbridge_controller_"), "{metrics}");
    let (status, log) = controller.terminate();
    assert!(status.success(), "{status} {log}");
    assert!(log.contains("\"cluster\":\"paris\""), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_says_what_it_listens_on() {
    let around = Surroundings::new().await;
    around.join();
    certificates(around.folder.path());
    let gateway = Running::start(&around.arguments(&[
        "gateway",
        "--name",
        "gw-0",
        "--listen",
        "127.0.0.1",
        "--link-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--tls-cert",
        &around.path("gateway/tls.crt"),
        "--tls-key",
        &around.path("gateway/tls.key"),
        "--tls-ca",
        &around.path("gateway/ca.crt"),
    ]));
    let metrics = gateway.observe();
    assert!(metrics.contains("landbridge_gateway_"), "{metrics}");
    let connections: Value = serde_json::from_str(&gateway.get("/debug/connections").1).unwrap();
    assert_eq!(connections, serde_json::json!({"connections": [], "notShown": 0}));
    assert_eq!(gateway.get("/listening").1, "{\"listening\":[]}\n");
    let (status, log) = gateway.terminate();
    assert!(status.success(), "{status} {log}");
}

/// Runs a command that cannot start: `(exit code, last line of standard error)`.
fn refused(arguments: &[String]) -> (Option<i32>, String) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = landbridge(&arguments);
    let last = err(&output).lines().last().unwrap_or_default().to_owned();
    (output.status.code(), last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_say_who_it_is_is_told_how_to() {
    let around = Surroundings::new().await;
    let (code, line) = refused(&around.arguments(&["controller", "--admin-listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(2), "{line}");
    assert_eq!(
        line,
        "error: this cluster does not say who it is: give --cluster, or create ClusterProperty cluster.clusterset.k8s.io"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_was_told_another_cluster_than_the_api_says_does_not_start() {
    let around = Surroundings::new().await;
    around.join();
    let arguments = ["controller", "--admin-listen", "127.0.0.1:0", "--cluster", "tokyo"];
    let (code, line) = refused(&around.arguments(&arguments));
    assert_eq!(code, Some(2), "{line}");
    assert_eq!(
        line,
        "error: this cluster says that it is \"paris\" (ClusterProperty cluster.clusterset.k8s.io), not \"tokyo\": correct --cluster, or the kubeconfig that leads to it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_cluster_is_told_before_anything_is_bound() {
    let around = Surroundings::new().await;
    around.join();
    certificates(around.folder.path());
    let elsewhere = around.path("elsewhere");
    for arguments in [
        [
            "pki",
            "member",
            "--root",
            &around.path("root"),
            "--cluster",
            "tokyo",
            "--out",
            &elsewhere,
        ],
        ["pki", "gateway", "--member", &elsewhere, "--name", "gw-0", "--out", &elsewhere],
    ] {
        assert!(landbridge(&arguments).status.success());
    }
    let tls = |name: &str| format!("{elsewhere}/{name}");
    let (code, line) = refused(&around.arguments(&[
        "gateway",
        "--name",
        "gw-0",
        "--listen",
        "127.0.0.1",
        "--tls-cert",
        &tls("tls.crt"),
        "--tls-key",
        &tls("tls.key"),
        "--tls-ca",
        &tls("ca.crt"),
    ]));
    assert_eq!(code, Some(2), "{line}");
    assert!(
        line.starts_with("error: the certificate is spiffe://demo/cluster/tokyo/1/gateway/gw-0, but this is cluster paris"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_cannot_be_reached_is_a_kind_of_its_own() {
    let around = Surroundings::new().await;
    let path: PathBuf = around.path("kubeconfig").into();
    around.cluster.pause().await;
    let (code, line) = refused(&around.arguments(&["controller", "--admin-listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(3), "{line}");
    assert!(line.contains("the Kubernetes API cannot be asked"), "{line}");
    fs::write(&path, "no kubeconfig").unwrap();
    let (code, line) = refused(&around.arguments(&["dns", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(2), "{line}");
    assert!(names(&line, &path) && line.contains("the kubeconfig cannot be used"), "{line}");
    let arguments = around.arguments(&["dns", "--listen", "127.0.0.1:0", "--context", "x"]);
    fs::write(&path, around.cluster.kubeconfig()).unwrap();
    let (code, line) = refused(&arguments);
    assert_eq!(code, Some(2), "{line}");
    assert!(names(&line, &path) && line.contains("kubectl config get-contexts"), "{line}");
}

fn names(line: &str, path: &Path) -> bool {
    line.contains(&path.display().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_a_kind_of_its_own() {
    let around = Surroundings::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, line) =
        refused(&around.arguments(&["dns", "--listen", "127.0.0.1:0", "--admin-listen", &address]));
    assert_eq!(code, Some(4), "{line}");
    let expected = format!(
        "error: the admin endpoint cannot listen on {address}: choose another with --admin-listen"
    );
    assert!(line.starts_with(&expected), "{line}");
    let (code, line) =
        refused(&around.arguments(&["dns", "--listen", &address, "--admin-listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(4), "{line}");
    assert!(line.contains(&address), "{line}");
}
