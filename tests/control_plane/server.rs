//! Real API servers: one etcd for all, and a kube-apiserver for each cluster with a prefix of its own in it.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use data_encoding::{BASE64_MIME, HEXLOWER};
use kube::Client;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{process::Program, programs::programs};

/// An API server is there after three seconds on an idle machine; five of them start at once here.
const START: Duration = Duration::from_secs(60);
/// Who asked for what and what became of it, of service accounts: what the tests themselves do is left out.
const AUDIT: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts"]
- level: None
"#;

/// What all API servers of this process share.
struct Plane {
    folder: PathBuf,
    etcd_port: u16,
    /// The token of the administrator.
    token: String,
    _etcd: Program,
}

impl Plane {
    fn shared() -> &'static Self {
        static PLANE: OnceLock<Plane> = OnceLock::new();
        PLANE.get_or_init(Self::start)
    }

    fn start() -> Self {
        let etcd = &programs().etcd;
        let folder = std::env::temp_dir().join(format!("landbridge-plane-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("audit.yaml"), AUDIT).unwrap();
        for (name, text) in signing_keys() {
            fs::write(folder.join(name), text).unwrap();
        }
        let mut random = [0; 16];
        rand::fill(&mut random).unwrap();
        let token = HEXLOWER.encode(&random);
        let tokens = format!("{token},admin,admin,\"system:masters\"\n");
        fs::write(folder.join("tokens.csv"), tokens).unwrap();
        let [etcd_port, peer_port] = [free_port(), free_port()];
        let [clients, peers] =
            [etcd_port, peer_port].map(|port| format!("http://127.0.0.1:{port}"));
        let command = [
            etcd.display().to_string(),
            format!("--data-dir={}", folder.join("etcd").display()),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ];
        let etcd = Program::start(&command, &folder.join("etcd.log"), Some(&folder));
        Self { folder, etcd_port, token, _etcd: etcd }
    }
}

/// Files with the keys that service account tokens are signed with and checked by.
fn signing_keys() -> [(&'static str, String); 2] {
    let pem = |label: &str, der: &[u8]| {
        let text = BASE64_MIME.encode(der);
        format!("-----BEGIN {label}-----\n{text}-----END {label}-----\n")
    };
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    [
        ("signing.pem", pem("PRIVATE KEY", private.as_ref())),
        ("checking.pem", pem("PUBLIC KEY", public.as_ref())),
    ]
}

/// A port that nobody listens on: below those that connections go out from, so that it stays free until it is used.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 22_000;
    const PORTS: u16 = 8_000;
    // Processes start apart, so that they seldom try for the same one.
    let start = u16::try_from(process::id().wrapping_mul(67) % u32::from(PORTS)).unwrap();
    for _ in 0..PORTS {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free")
}

/// A kube-apiserver.
#[derive(Debug)]
pub(crate) struct ApiServer {
    pub(crate) name: &'static str,
    port: u16,
    folder: PathBuf,
    program: Mutex<Option<Program>>,
}

impl ApiServer {
    /// The API server of a cluster: the same one for every test of this process.
    pub(crate) async fn shared(name: &'static str) -> &'static Self {
        static SERVERS: Mutex<BTreeMap<&'static str, &'static OnceCell<ApiServer>>> =
            Mutex::new(BTreeMap::new());
        let cell =
            *SERVERS.lock().unwrap().entry(name).or_insert_with(|| Box::leak(Box::default()));
        cell.get_or_init(|| Self::start(name)).await
    }

    async fn start(name: &'static str) -> Self {
        let folder = Plane::shared().folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let server = Self { name, port: free_port(), folder, program: Mutex::new(None) };
        server.resume().await;
        server
    }

    /// A client that may do everything.
    pub(crate) fn admin(&self) -> Client {
        self.client(&Plane::shared().token)
    }

    /// A client with a token.
    pub(crate) fn client(&self, token: &str) -> Client {
        let url = format!("https://127.0.0.1:{}", self.port);
        let mut config = kube::Config::new(url.parse().unwrap());
        // It makes its own certificate when it starts.
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(token.to_owned().into());
        Client::try_from(config).unwrap()
    }

    /// Starts the program, and waits until it is ready.
    async fn resume(&self) {
        let log = self.folder.join("log");
        *self.program.lock().unwrap() = Some(Program::start(&self.command(), &log, None));
        let begun = Instant::now();
        let client = self.admin();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            let Err(error) = client.request_text(request).await else {
                return;
            };
            if begun.elapsed() > START {
                let said = self.program.lock().unwrap().as_ref().map(Program::said);
                panic!(
                    "{} is not ready after {START:?}: {error}\n{}",
                    self.name,
                    said.unwrap_or_default()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What service accounts have asked for.
    pub(crate) fn audited(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.join("audit.log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What service accounts have been refused for want of a right.
    pub(crate) fn forbidden(&self) -> Vec<String> {
        self.audited()
            .iter()
            .filter(|event| event["responseStatus"]["code"] == 403)
            .map(|event| {
                format!(
                    "{}: {} may not {} {}",
                    self.name, event["user"]["username"], event["verb"], event["requestURI"]
                )
            })
            .collect()
    }

    fn command(&self) -> Vec<String> {
        let plane = Plane::shared();
        let file = |name: &str| plane.folder.join(name).display().to_string();
        let mut command = vec![programs().kube_apiserver.display().to_string()];
        let settings = [
            ("advertise-address", "192.0.2.1".into()),
            ("audit-log-path", self.folder.join("audit.log").display().to_string()),
            ("audit-policy-file", file("audit.yaml")),
            ("authorization-mode", "RBAC".into()),
            ("bind-address", "127.0.0.1".into()),
            ("cert-dir", self.folder.display().to_string()),
            // Nobody makes the accounts that this asks for.
            ("disable-admission-plugins", "ServiceAccount".into()),
            ("enable-admission-plugins", "OwnerReferencesPermissionEnforcement".into()),
            ("endpoint-reconciler-type", "none".into()),
            ("etcd-prefix", format!("/{}", self.name)),
            ("etcd-servers", format!("http://127.0.0.1:{}", plane.etcd_port)),
            ("profiling", "false".into()),
            ("secure-port", self.port.to_string()),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", file("checking.pem")),
            ("service-account-signing-key-file", file("signing.pem")),
            ("service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112".into()),
            ("token-auth-file", file("tokens.csv")),
        ];
        command.extend(settings.map(|(flag, value)| format!("--{flag}={value}")));
        command
    }
}
