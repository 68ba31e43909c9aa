//! A running demo, and clients of it that are not ours.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
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

/// Longer than the story takes on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Loopback addresses that no other demo uses: each takes four second octets, and test processes differ by their id.
pub(crate) fn octet(test: u32) -> String {
    (100 + (std::process::id() % 9) * 12 + test * 4).to_string()
}

pub(crate) fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
    command.arg("demo").args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// A demo that stays, and the lines that it printed to be pasted elsewhere.
pub(crate) struct Staying {
    child: Child,
    told: String,
}

impl Staying {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = demo(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (begun, mut told) = (Instant::now(), String::new());
        while !told.contains("Ctrl-C ends it") {
            assert!(begun.elapsed() < PATIENCE, "the demo does not come to its end:\n{told}");
            match lines.next() {
                Some(line) => told += &format!("{}\n", line.unwrap()),
                None => panic!("the demo ended before its time:\n{told}"),
            }
        }
        Self { child, told }
    }

    /// The words of each printed line that begins with `program`.
    pub(crate) fn lines(&self, program: &str) -> Vec<Vec<&str>> {
        let lines = self.told.lines().map(str::trim).filter(|line| line.starts_with(program));
        lines.map(|line| line.split(' ').collect()).collect()
    }

    /// The words of the first of them.
    pub(crate) fn line(&self, program: &str) -> Vec<&str> {
        let lines = self.lines(program).into_iter().next();
        lines.unwrap_or_else(|| panic!("no line for {program} in\n{}", self.told))
    }

    /// Runs a printed line as it stands; none where this machine lacks the program.
    pub(crate) fn paste(&self, line: &[&str]) -> Option<String> {
        let output = Command::new(line[0]).args(&line[1..]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{line:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(text)
    }

    /// Where it keeps the kubeconfigs.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(self.line("kubectl --kubeconfig")[2]).parent().unwrap().to_owned()
    }

    /// Ctrl-C, and how it ends.
    pub(crate) fn interrupt(&mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Staying {
    /// A test that fails leaves no demo behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// The import's address, as kube's client reads it from the cluster that calls.
pub(crate) async fn import_address(kubeconfig: &Path) -> IpAddr {
    let client = client(kubeconfig).await;
    let imports: Api<ServiceImport> = Api::namespaced(client.clone(), "demo");
    let import = imports.get("echo").await.unwrap();
    assert_eq!(import.spec.type_, "ClusterSetIP");
    let derived = &import.metadata.annotations.as_ref().unwrap()["multicluster.kubernetes.io/derived-service"];
    let service = Api::<Service>::namespaced(client, "demo").get(derived).await.unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    assert_eq!(import.spec.ips, std::slice::from_ref(&address));
    address.parse().unwrap()
}

pub(crate) async fn resolve(server: IpAddr, port: u16, name: &str) -> Vec<IpAddr> {
    let mut server = NameServerConfig::udp_and_tcp(server);
    server.connections.iter_mut().for_each(|connection| connection.port = port);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .build()
        .unwrap();
    resolver.lookup_ip(format!("{name}.")).await.unwrap().iter().collect()
}

/// A plain HTTP exchange, for machines without curl.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
