//! The demo as a stranger meets it: the built binary, its printed lines, and clients that are not ours.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use landbridge_api::mcs::ServiceImport;
use serde_json::Value;

/// Longer than the story takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loopback addresses that no other demo uses: each takes four second octets, and test processes differ by their id.
fn octet(test: u32) -> String {
    (100 + (std::process::id() % 15) * 8 + test * 4).to_string()
}

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
    command
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    command
}

/// `demo --once -o json` "exits 0 … and prints one JSON object", in which nothing is a constant.
#[test]
fn once_as_json_prints_what_was_measured() {
    let output = demo(&["--once", "-o", "json", "--loopback", &octet(0)])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ok"], true, "{text}");
    assert_eq!(
        report["clusters"],
        serde_json::json!(["paris", "tokyo", "berlin"])
    );
    for importing in ["tokyo", "berlin"] {
        let at = |what: &str| {
            report[what][importing]
                .as_f64()
                .unwrap_or_else(|| panic!("{what}: {text}"))
        };
        let (import, answer, call) = (at("import_ms"), at("answer_ms"), at("call_ms"));
        assert!(import > 0.0 && answer > 0.0 && call >= answer, "{text}");
    }
    let calls = report["calls"].as_object().unwrap();
    assert_eq!(
        calls
            .values()
            .map(|calls| calls.as_u64().unwrap())
            .sum::<u64>(),
        100,
        "{text}"
    );
    assert!(
        calls["paris"].as_u64() > Some(0) && calls["tokyo"].as_u64() > Some(0),
        "both exporters answer: {text}"
    );
    assert_eq!(report["caller"], "berlin/demo/client/client");
    let failover = &report["failover"];
    assert!(
        failover["ms"].as_f64() > Some(0.0) && failover["of"].as_u64() > Some(100),
        "{text}"
    );
    assert!(
        failover["failed"].as_u64() < failover["of"].as_u64(),
        "{text}"
    );
    assert_eq!(
        failover["duplicates"], 0,
        "what may have been delivered is never sent twice: {text}"
    );
    assert!(
        report["return_ms"].as_f64() > Some(0.0) && report["unexport_ms"].as_f64() > Some(0.0),
        "{text}"
    );
}

/// A demo that stays, and the lines that it printed to be pasted elsewhere.
struct Staying {
    child: Child,
    told: String,
}

impl Staying {
    fn start(arguments: &[&str]) -> Self {
        let mut child = demo(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (begun, mut told) = (Instant::now(), String::new());
        while !told.contains("Ctrl-C ends it") {
            assert!(
                begun.elapsed() < PATIENCE,
                "the demo does not come to its end:\n{told}"
            );
            match lines.next() {
                Some(line) => told += &format!("{}\n", line.unwrap()),
                None => panic!("the demo ended before its time:\n{told}"),
            }
        }
        Self { child, told }
    }

    /// The words of the printed line that begins with `program`.
    fn line(&self, program: &str) -> Vec<&str> {
        let line = self
            .told
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(program));
        line.unwrap_or_else(|| panic!("no line for {program} in\n{}", self.told))
            .split(' ')
            .collect()
    }

    /// Runs a printed line as it stands; none where this machine lacks the program.
    fn paste(&self, line: &[&str]) -> Option<String> {
        let output = Command::new(line[0]).args(&line[1..]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{line:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(text)
    }

    /// Ctrl-C, and how it ends.
    fn interrupt(mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap()
    }
}

async fn client(kubeconfig: &str) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// The import's address, as kube's client reads it from the cluster that calls.
async fn import_address(kubeconfig: &str) -> IpAddr {
    let client = client(kubeconfig).await;
    let imports: Api<ServiceImport> = Api::namespaced(client.clone(), "demo");
    let import = imports.get("echo").await.unwrap();
    assert_eq!(import.spec.type_, "ClusterSetIP");
    let derived = &import.metadata.annotations.as_ref().unwrap()["multicluster.kubernetes.io/derived-service"];
    let service = Api::<Service>::namespaced(client, "demo")
        .get(derived)
        .await
        .unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    assert_eq!(import.spec.ips, [address.clone()]);
    address.parse().unwrap()
}

async fn resolve(server: IpAddr, port: u16, name: &str) -> Vec<IpAddr> {
    let mut server = NameServerConfig::udp_and_tcp(server);
    server
        .connections
        .iter_mut()
        .for_each(|connection| connection.port = port);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .build()
        .unwrap();
    resolver
        .lookup_ip(format!("{name}."))
        .await
        .unwrap()
        .iter()
        .collect()
}

/// A plain HTTP exchange, for machines without curl.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_can_use_what_the_demo_leaves_running() {
    let demo = Staying::start(&["--loopback", &octet(1)]);
    let kubectl = demo.line("kubectl --kubeconfig");
    let address = import_address(kubectl[2]).await;

    let dig = demo.line("dig ");
    let server = dig[1].trim_start_matches('@').parse().unwrap();
    assert_eq!(
        resolve(server, dig[3].parse().unwrap(), dig[4]).await,
        [address]
    );

    let curl = demo.line("curl --interface");
    let target: SocketAddr = curl[3]
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    assert_eq!(target.ip(), address);
    assert!(get(target, "/").contains("\"cluster\":\"paris\""));

    let metrics = demo.line("curl http");
    let admin: SocketAddr = metrics[1]
        .trim_start_matches("http://")
        .trim_end_matches("/metrics")
        .parse()
        .unwrap();
    assert!(get(admin, "/metrics").contains("landbridge_gateway_"));
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200"));

    if let Some(told) = demo.paste(&kubectl) {
        assert!(
            told.contains("ClusterSetIP") && told.contains(&address.to_string()),
            "{told}"
        );
    }
    if let Some(told) = demo.paste(&dig) {
        assert!(told.contains(&address.to_string()), "{told}");
    }
    if let Some(told) = demo.paste(&curl) {
        assert!(told.contains("berlin/demo/client/client"), "{told}");
    }

    let folder = Path::new(kubectl[2]).parent().unwrap().to_owned();
    assert!(folder.exists());
    let status = demo.interrupt();
    assert!(status.success(), "Ctrl-C ends the demo cleanly: {status:?}");
    assert!(!folder.exists(), "nothing is left behind");
}

#[test]
fn a_taken_address_is_told_with_the_remedy() {
    let octet = u8::try_from(20 + std::process::id() % 30).unwrap();
    let _taken =
        std::net::TcpListener::bind((std::net::Ipv4Addr::new(127, octet, 0, 1), 6443)).unwrap();
    let output = demo(&["--once", "--loopback", &octet.to_string()])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains(&format!("127.{octet}.0.1:6443")) && told.contains("--loopback"),
        "{told}"
    );
}
