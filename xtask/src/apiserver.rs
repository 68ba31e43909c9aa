//! Real API servers for tests: one etcd for all, and a kube-apiserver for each with a prefix of its own in it.
//!
//! None outlives the process that asked for it, nor does what it wrote.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use kube::Client;
use rcgen::KeyPair;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    process::Program,
    programs::{self, ETCD, KUBE_APISERVER, Tool},
};

/// What is needed to start any.
pub const TOOLS: [Tool; 2] = [ETCD, KUBE_APISERVER];
/// An API server is there after three seconds on an idle machine; five of them start at once in tests.
const START: Duration = Duration::from_secs(60);
/// What Services have addresses of, unless told otherwise: two families.
const SERVICE_RANGES: &str = "10.96.0.0/16,fd00:10:96::/112";
/// The only context of a kubeconfig.
pub const CONTEXT: &str = "own";
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

/// Why there is no API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or a process cannot be made.
    #[error("an API server cannot be prepared: {0}")]
    Io(#[from] io::Error),
    /// The keys that tokens are signed with cannot be made.
    #[error("an API server has no keys: {0}")]
    Keys(#[from] rcgen::Error),
    /// No client of it can be made.
    #[error("an API server has no client: {0}")]
    Client(#[from] kube::Error),
    /// It did not start in time: what it has said tells why.
    #[error("{name} is not ready after {START:?}: {problem}\n{said}")]
    NotReady {
        /// The API server.
        name: &'static str,
        /// The last answer.
        problem: kube::Error,
        /// The end of its log.
        said: String,
    },
    /// All ports that are tried are taken.
    #[error("no port of 127.0.0.1 is free: too much runs on this machine")]
    NoPort,
    /// It cannot be found or built.
    #[error(transparent)]
    Program(#[from] programs::Error),
}

/// What all API servers of this process share.
struct Plane {
    folder: PathBuf,
    kube_apiserver: PathBuf,
    etcd_port: u16,
    /// The token of the administrator.
    token: String,
    _etcd: Program,
}

impl Plane {
    async fn shared() -> Result<&'static Self, Error> {
        static PLANE: OnceCell<Plane> = OnceCell::const_new();
        PLANE.get_or_try_init(async || Self::start()).await
    }

    fn start() -> Result<Self, Error> {
        let [etcd, kube_apiserver] = [ETCD.find()?, KUBE_APISERVER.find()?];
        let folder = std::env::temp_dir().join(format!("landbridge-plane-{}", process::id()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("audit.yaml"), AUDIT)?;
        // Service account tokens are signed with the one and checked by the other.
        let pair = KeyPair::generate()?;
        fs::write(folder.join("signing.pem"), pair.serialize_pem())?;
        fs::write(folder.join("checking.pem"), pair.public_key_pem())?;
        let token = format!("{:032x}", rand::random::<u128>());
        let tokens = format!("{token},admin,admin,\"system:masters\"\n");
        fs::write(folder.join("tokens.csv"), tokens)?;
        let [etcd_port, peer_port] = [free_port()?, free_port()?];
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
        let etcd = Program::start(&command, &folder.join("etcd.log"), Some(&folder))?;
        Ok(Self { folder, kube_apiserver, etcd_port, token, _etcd: etcd })
    }
}

/// A port that nobody listens on: below those that connections go out from, so that it stays free until it is used.
fn free_port() -> Result<u16, Error> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 22_000;
    const PORTS: u16 = 8_000;
    // Processes start apart, so that they seldom try for the same one.
    let start =
        u16::try_from(process::id().wrapping_mul(67) % u32::from(PORTS)).unwrap_or_default();
    (0..PORTS)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or(Error::NoPort)
}

/// A kube-apiserver. Nothing else of a cluster runs: no controllers, no nodes.
#[derive(Debug)]
pub struct ApiServer {
    name: &'static str,
    port: u16,
    folder: PathBuf,
    command: Vec<String>,
    token: String,
    program: Mutex<Option<Program>>,
}

impl ApiServer {
    /// The API server with this name: the same one for every test of this process.
    ///
    /// # Errors
    /// Where the programs are not there and cannot be built, or do not start.
    pub async fn shared(name: &'static str) -> Result<&'static Self, Error> {
        Self::shared_with(name, SERVICE_RANGES).await
    }

    /// The same, whose Services have addresses of these ranges.
    ///
    /// # Errors
    /// Where the programs are not there and cannot be built, or do not start.
    pub async fn shared_with(
        name: &'static str,
        service_ranges: &'static str,
    ) -> Result<&'static Self, Error> {
        static SERVERS: Mutex<BTreeMap<&'static str, &'static OnceCell<ApiServer>>> =
            Mutex::new(BTreeMap::new());
        let cell = *SERVERS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_insert_with(|| Box::leak(Box::default()));
        cell.get_or_try_init(|| Self::start(name, service_ranges)).await
    }

    async fn start(name: &'static str, service_ranges: &str) -> Result<Self, Error> {
        let plane = Plane::shared().await?;
        let folder = plane.folder.join(name);
        fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let command = command(plane, name, port, service_ranges);
        let token = plane.token.clone();
        let server = Self { name, port, folder, command, token, program: Mutex::new(None) };
        server.resume().await?;
        Ok(server)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A client that may do everything.
    #[must_use]
    pub fn admin(&self) -> Client {
        self.client(&self.token)
    }

    /// A client with a token.
    #[must_use]
    pub fn client(&self, token: &str) -> Client {
        Client::try_from(self.config(token)).expect("the first client was made of such a config")
    }

    /// How a client with a token is made.
    fn config(&self, token: &str) -> kube::Config {
        let url = http::Uri::builder()
            .scheme("https")
            .authority(format!("127.0.0.1:{}", self.port))
            .path_and_query("/")
            .build();
        let mut config = kube::Config::new(url.expect("an address and a port are an authority"));
        // It makes its own certificate when it starts.
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(token.to_owned().into());
        config
    }

    /// How a program that may do everything is told of it.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {CONTEXT}\n\
             clusters:\n- name: own\n  cluster: {{server: \"https://127.0.0.1:{}\", insecure-skip-tls-verify: true}}\n\
             users:\n- name: admin\n  user: {{token: \"{}\"}}\n\
             contexts:\n- name: {CONTEXT}\n  context: {{cluster: own, user: admin}}\n",
            self.port, self.token
        )
    }

    /// Kills it, as a machine that fails does: open watches break, and nobody answers until [`Self::resume`].
    pub fn stop(&self) {
        if let Some(program) = self.program().take() {
            program.stop();
        }
    }

    /// Starts it where it does not run, with all the objects it had, and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not start in time.
    pub async fn resume(&self) -> Result<(), Error> {
        {
            let mut program = self.program();
            if program.is_none() {
                *program = Some(Program::start(&self.command, &self.folder.join("log"), None)?);
            }
        }
        let begun = Instant::now();
        let client = Client::try_from(self.config(&self.token))?;
        loop {
            let mut request = http::Request::new(Vec::new());
            *request.uri_mut() = http::Uri::from_static("/readyz");
            let Err(problem) = client.request_text(request).await else {
                return Ok(());
            };
            if begun.elapsed() > START {
                let said = self.program().as_ref().map(Program::said).unwrap_or_default();
                return Err(Error::NotReady { name: self.name, problem, said });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What service accounts have asked for, as audit events.
    #[must_use]
    pub fn audited(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.join("audit.log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Lets kube-controller-manager run these of its controllers, until what is given back is dropped.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn manage(&self, manager: &Path, controllers: &[&str]) -> Result<Program, Error> {
        let kubeconfig = self.folder.join("manager.yaml");
        fs::write(&kubeconfig, self.kubeconfig())?;
        let command = [
            manager.display().to_string(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--controllers={}", controllers.join(",")),
            format!("--cert-dir={}", self.folder.display()),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={}", free_port()?),
            "--leader-elect=false".into(),
        ];
        Ok(Program::start(&command, &self.folder.join("manager.log"), None)?)
    }

    /// What service accounts have been refused for want of a right.
    #[must_use]
    pub fn forbidden(&self) -> Vec<String> {
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

    fn program(&self) -> MutexGuard<'_, Option<Program>> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn command(plane: &Plane, name: &str, port: u16, service_ranges: &str) -> Vec<String> {
    let file = |name: &str| plane.folder.join(name).display().to_string();
    let folder = plane.folder.join(name);
    let mut command = vec![plane.kube_apiserver.display().to_string()];
    let settings = [
        ("advertise-address", "192.0.2.1".into()),
        ("audit-log-path", folder.join("audit.log").display().to_string()),
        ("audit-policy-file", file("audit.yaml")),
        ("authorization-mode", "RBAC".into()),
        ("bind-address", "127.0.0.1".into()),
        ("cert-dir", folder.display().to_string()),
        // Nobody makes the accounts that this asks for.
        ("disable-admission-plugins", "ServiceAccount".into()),
        ("enable-admission-plugins", "OwnerReferencesPermissionEnforcement".into()),
        ("endpoint-reconciler-type", "none".into()),
        ("etcd-prefix", format!("/{name}")),
        ("etcd-servers", format!("http://127.0.0.1:{}", plane.etcd_port)),
        ("profiling", "false".into()),
        ("secure-port", port.to_string()),
        ("service-account-issuer", "https://kubernetes.default.svc".into()),
        ("service-account-key-file", file("checking.pem")),
        ("service-account-signing-key-file", file("signing.pem")),
        ("service-cluster-ip-range", service_ranges.into()),
        ("token-auth-file", file("tokens.csv")),
    ];
    command.extend(settings.map(|(flag, value)| format!("--{flag}={value}")));
    command
}
