//! Stock clients ask `landbridge dns` what a pod would ask, with the search list and the options of a pod.
//!
//! A client that is not installed is skipped with a line; `LANDBRIDGE_CLIENTS=required` demands all of them. Resolvers of
//! languages and C libraries know no port but 53 and read one `resolv.conf`: that takes root and a mount namespace.

use std::{
    env, fs,
    io::ErrorKind,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{Name, RData},
};
use serde_json::{Value, json};

use crate::running::{Running, Surroundings};

const WEB: &str = "web.shop.svc.clusterset.local";
const DB: &str = "db.shop.svc.clusterset.local";
/// One pod of it.
const DB_0: &str = "db-0.paris.db.shop.svc.clusterset.local";
const NONE: &str = "none.shop.svc.clusterset.local";
/// What the kubelet gives a pod of the namespace `shop`. `web.shop.svc.clusterset.local` has four dots, so that it is
/// looked for below each of these before it is tried as it is.
const SEARCH: [&str; 3] = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"];
const NDOTS: usize = 5;
/// What resolvers that look for both families find, by name.
const FOUND: [(&str, &str); 5] = [
    (WEB, "10.96.7.7 fd00:10:96::7"),
    ("web.shop.svc.clusterset.local.", "10.96.7.7 fd00:10:96::7"),
    (DB, "10.96.8.1 10.96.8.2"),
    (DB_0, "10.96.8.1"),
    (NONE, "none"),
];

/// A server for the names of the set that asks another for the cluster's own, of which there are none.
struct Server {
    address: SocketAddr,
    around: Surroundings,
    dns: Running,
    own: Running,
    _own: Surroundings,
}

impl Server {
    async fn start(listen: &str) -> Self {
        let (_own, around) = (Surroundings::new().await, Surroundings::new().await);
        let create = |object| around.cluster.store().create(object).unwrap();
        create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        let port = |name, port| json!([{"name": name, "protocol": "TCP", "port": port}]);
        for (name, spec) in [
            (
                "web",
                json!({"type": "ClusterSetIP", "ips": ["10.96.7.7", "fd00:10:96::7"],
                    "ipFamilies": ["IPv4", "IPv6"], "ports": port("http", 80)}),
            ),
            ("db", json!({"type": "Headless", "ipFamilies": ["IPv4"], "ports": port("pg", 5432)})),
        ] {
            create(json!({
                "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
                "metadata": {"namespace": "shop", "name": name}, "spec": spec,
            }));
        }
        let pod = |hostname, address| json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": true}});
        create(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "shop", "name": "db-paris", "labels": {
                "multicluster.kubernetes.io/service-name": "db",
                "multicluster.kubernetes.io/source-cluster": "paris",
            }},
            "addressType": "IPv4", "ports": port("pg", 6432),
            "endpoints": [pod("db-0", "10.96.8.1"), pod("db-1", "10.96.8.2")],
        }));
        let (own, address) = serve(&_own, "127.0.0.1:0", &["--zone", "cluster.local"]);
        let (dns, address) = serve(&around, listen, &["--upstream", &address.to_string()]);
        Self { address, around, dns, own, _own }
    }

    fn end(self) {
        for server in [self.dns, self.own] {
            assert!(server.terminate().0.success());
        }
    }
}

fn serve(around: &Surroundings, listen: &str, more: &[&str]) -> (Running, SocketAddr) {
    let common = ["dns", "--listen", listen, "--admin-listen", "127.0.0.1:0", "--lame-duck", "0s"];
    let dns = Running::start(&around.arguments(&[&common[..], more].concat()));
    dns.wait_until_ready();
    let snapshot: Value = serde_json::from_str(&dns.get("/debug/snapshot").1).unwrap();
    let address = snapshot["addresses"][0].as_str().unwrap().parse().unwrap();
    (dns, address)
}

/// What cannot be asked here is told, or is a failure where everything is demanded.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn skip(why: &str) {
    let demanded = env::var("LANDBRIDGE_CLIENTS").is_ok_and(|value| value == "required");
    assert!(!demanded, "stock clients are required, but {why}");
    println!("skipped: {why}");
}

/// What a program says; none where it is not installed.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(Output { stdout, stderr, .. }) => {
            Some(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip(&format!("there is no {program} here"));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dig_and_kdig_resolve() {
    let server = Server::start("127.0.0.1:0").await;
    let (at, port) = (format!("@{}", server.address.ip()), server.address.port().to_string());
    let (web_port, db_port) = (format!("_http._tcp.{WEB}"), format!("_pg._tcp.{DB}"));
    for program in ["dig", "kdig"] {
        let common = [at.as_str(), "-p", &port, "+time=10", "+short"];
        for (more, expected) in [
            (&[WEB, "A"][..], "10.96.7.7"),
            (&[WEB, "AAAA"], "fd00:10:96::7"),
            (&["+tcp", WEB, "A"], "10.96.7.7"),
            (&["+noedns", WEB, "A"], "10.96.7.7"),
            (&[&web_port, "SRV"], "0 100 80 web.shop.svc.clusterset.local."),
            (&[DB, "A"], "10.96.8.1\n10.96.8.2"),
            (&[DB, "AAAA"], ""),
            (&[DB_0, "A"], "10.96.8.1"),
            (
                &[&db_port, "SRV"],
                "0 100 6432 db-0.paris.db.shop.svc.clusterset.local.\n0 100 6432 db-1.paris.db.shop.svc.clusterset.local.",
            ),
            (&["dns-version.clusterset.local", "TXT"], "\"1.0.0\""),
            (&[NONE, "A"], ""),
        ] {
            let Some(answer) = said(program, &[&common[..], more].concat()) else {
                break;
            };
            let mut lines: Vec<&str> = answer.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines.join("\n"), expected, "{program} {more:?}");
        }
        for (name, status) in [(WEB, "NOERROR"), (NONE, "NXDOMAIN")] {
            let ask = [at.as_str(), "-p", &port, "+time=10", "+cookie", name, "A"];
            let Some(whole) = said(program, &ask) else {
                break;
            };
            let good = whole.contains(status) && whole.to_lowercase().contains("cookie:");
            assert!(good, "{program}: {whole}");
            assert!(program != "dig" || whole.contains("(good)"), "{whole}");
        }
    }
    server.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nslookup_resolves() {
    let server = Server::start("127.0.0.1:0").await;
    let (host, port) =
        (server.address.ip().to_string(), format!("-port={}", server.address.port()));
    let srv = format!("_http._tcp.{WEB}.");
    for (kind, name, expected) in [
        ("-type=A", WEB, "10.96.7.7"),
        ("-type=AAAA", WEB, "fd00:10:96::7"),
        ("-type=SRV", &srv, "service = 0 100 80 web.shop.svc.clusterset.local."),
        ("-type=A", NONE, "NXDOMAIN"),
    ] {
        let Some(answer) = said("nslookup", &[&port, "-timeout=10", kind, name, &host]) else {
            break;
        };
        assert!(answer.contains(expected), "{kind} {name}: {answer}");
    }
    server.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hickory_resolves_by_the_search_list_of_a_pod() {
    let server = Server::start("127.0.0.1:0").await;
    let mut upstream = NameServerConfig::udp_and_tcp(server.address.ip());
    for connection in &mut upstream.connections {
        connection.port = server.address.port();
    }
    let search = SEARCH.map(|name| Name::from_ascii(format!("{name}.")).unwrap()).to_vec();
    let config = ResolverConfig::from_parts(None, search, vec![upstream]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().ndots = NDOTS;
    builder.options_mut().timeout = Duration::from_secs(10);
    let resolver = builder.build().unwrap();
    for (name, expected) in [(WEB, "10.96.7.7"), (DB, "10.96.8.1 10.96.8.2"), (DB_0, "10.96.8.1")] {
        let found = resolver.ipv4_lookup(name).await;
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut addresses: Vec<String> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(address) => Some(address.to_string()),
                _ => None,
            })
            .collect();
        addresses.sort_unstable();
        assert_eq!(addresses.join(" "), expected, "{name}");
    }
    assert!(resolver.ipv4_lookup(NONE).await.unwrap_err().is_no_records_found());
    server.end();
}

/// A server on port 53 of an address that no other test of this machine has, and the `resolv.conf` that names it.
/// None where this is not root's.
async fn as_in_a_pod() -> Option<Server> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let probe = Command::new("unshare").args(["-m", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        skip("a resolv.conf of one's own takes root and a mount namespace");
        return None;
    }
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = format!("127.{}.{high}.{low}", 90 + NEXT.fetch_add(1, Ordering::Relaxed));
    let server = Server::start(&format!("{ip}:53")).await;
    let resolv =
        format!("nameserver {ip}\nsearch {}\noptions ndots:{NDOTS} timeout:10\n", SEARCH.join(" "));
    fs::write(server.around.folder.path().join("resolv.conf"), resolv).unwrap();
    Some(server)
}

/// Lets a program resolve all names, and tells what it says, with the addresses of a name sorted.
fn resolved(server: &Server, program: &Path) -> Vec<String> {
    let resolv = server.around.folder.path().join("resolv.conf");
    let names = FOUND.map(|(name, _)| name);
    let script = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
    let [resolv, program] = [resolv.display().to_string(), program.display().to_string()];
    let command = [&["-m", "sh", "-c", script, &resolv, &program][..], &names].concat();
    let said = said("unshare", &command).unwrap();
    let sorted = said.lines().map(|line| match line.split_once(": ") {
        Some((name, found)) => {
            let mut found: Vec<&str> = found.split(' ').collect();
            found.sort_unstable();
            format!("{name}: {}", found.join(" "))
        }
        None => line.to_owned(),
    });
    sorted.collect()
}

fn expected() -> Vec<String> {
    FOUND.iter().map(|(name, found)| format!("{name}: {found}")).collect()
}

/// Builds a program; none where there is nothing to build it with.
fn built(server: &Server, compiler: &str, arguments: &[&str], source: (&str, &str)) -> bool {
    let folder = server.around.folder.path();
    let (from, to) = (folder.join(source.0), folder.join("resolve"));
    fs::write(&from, source.1).unwrap();
    let [from, to] = [from.display().to_string(), to.display().to_string()];
    let Some(said) = said(compiler, &[arguments, &["-o", &to, &from]].concat()) else {
        return false;
    };
    assert!(Path::new(&to).exists(), "{compiler}: {said}");
    true
}

/// glibc's resolver, by which most programs of Debian and its kin resolve, and musl's, which Alpine has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_c_libraries_resolve_by_the_search_list_of_a_pod() {
    for (compiler, arguments) in [("cc", &[][..]), ("musl-gcc", &["-static"])] {
        let Some(server) = as_in_a_pod().await else {
            return;
        };
        let source = ("resolve.c", include_str!("clients/resolve.c"));
        if built(&server, compiler, arguments, source) {
            let program = server.around.folder.path().join("resolve");
            assert_eq!(resolved(&server, &program), expected(), "{compiler}");
        }
        server.end();
    }
}

/// Go's own resolver, which most programs of this field have in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_resolves_by_the_search_list_of_a_pod() {
    let Some(server) = as_in_a_pod().await else {
        return;
    };
    if built(&server, "go", &["build"], ("main.go", include_str!("clients/resolve.go"))) {
        let program = server.around.folder.path().join("resolve");
        let ports = ["web.shop.svc.clusterset.local.:80".to_owned()];
        assert_eq!(resolved(&server, &program), [&expected()[..], &ports].concat());
    }
    server.end();
}
