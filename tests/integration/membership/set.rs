//! The clusters of the soak: paris is the hub, berlin calls, oslo serves, tokyo does both and is revoked.

use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;
use landbridge_gateway::{
    Config, Gateway, Handle, Hub, Operation, Register, Through,
    pki::{self, Source, Texts},
};
use landbridge_model::{ClusterId, GatewayAddress, Hostname, Namespace};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    battery::controlling::Controlling,
    calls::{now, tell_listening},
    controller::{EXPORT, MEMBER, SLICE, control_as, create, find},
    support::{PATIENCE, Running, eventually, start},
};

pub(super) const HUB: usize = 0;
pub(super) const BERLIN: usize = 1;
pub(super) const OSLO: usize = 2;
pub(super) const TOKYO: usize = 3;
/// Those that call.
pub(super) const MEMBERS: [usize; 2] = [BERLIN, TOKYO];
const NAMES: [&str; 4] = ["paris", "berlin", "oslo", "tokyo"];
/// The last numbers of addresses in a cluster's block.
const GATEWAY: u8 = 2;
const POD: u8 = 10;
const LINK: u16 = 4_433;
const ADMIN: u16 = 9_090;
/// Where a member's gateway listens for its controller.
const TO_THE_HUB: u16 = 6_443;
const TARGET: u16 = 8_080;
/// How long a call may take: as long as a gateway tries.
const CALL: Duration = Duration::from_secs(12);

/// A gateway that runs.
struct Gate {
    handle: Handle,
    task: JoinHandle<()>,
}

pub(super) struct Set {
    pub(super) clusters: [Running; 4],
    /// The roots that are trusted, the one that signs last.
    roots: Mutex<Vec<pki::Root>>,
    /// A folder for each cluster.
    folder: PathBuf,
    gates: Mutex<Vec<Option<Gate>>>,
    controllers: Mutex<Vec<Controlling>>,
    stop: CancellationToken,
}

fn new_root() -> pki::Root {
    pki::Root::generate(&"demo".parse().unwrap(), now()).unwrap()
}

fn namespace(running: &Running, name: &str) {
    create(running, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
}

impl Set {
    pub(super) async fn start() -> Self {
        let clusters = start(NAMES).await;
        let folder = std::env::temp_dir().join(format!("landbridge-soak-{}", std::process::id()));
        let set = Self {
            clusters,
            roots: Mutex::new(vec![new_root()]),
            folder,
            gates: Mutex::new(NAMES.map(|_| None).into()),
            controllers: Mutex::default(),
            stop: CancellationToken::new(),
        };
        set.trust();
        set.issue();
        let hub = &set.clusters[HUB];
        for (number, name) in NAMES.into_iter().enumerate() {
            namespace(hub, &format!("cluster-{name}"));
            create(
                hub,
                json!({"apiVersion": MEMBER.0, "kind": MEMBER.1, "metadata": {"name": name},
                    "spec": {"generation": 1, "network": name}}),
            );
            let running = &set.clusters[number];
            namespace(running, "shop");
            namespace(running, "landbridge-system");
            if number != HUB {
                // What joining leaves behind: without it there would be no link to the hub, which tells the rest.
                create(running, set.peer_of_the_hub());
            }
            set.start_gateway(number).await;
        }
        for number in 0..NAMES.len() {
            let controller = set.control(number).await;
            set.controllers.lock().unwrap_or_else(PoisonError::into_inner).push(controller);
        }
        set.pod(OSLO).await;
        set.pod(TOKYO).await;
        set.export(OSLO, "web");
        set.export(TOKYO, "zoo");
        eventually("everybody listens", &set.clusters, async || {
            let listens = MEMBERS.into_iter().all(|member| set.port(member).is_some());
            listens.then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        set
    }

    fn link(&self, number: usize) -> SocketAddr {
        SocketAddr::new(self.clusters[number].block.address(GATEWAY), LINK)
    }

    /// Where the controller of a member reaches the hub's API.
    pub(super) fn to_the_hub(&self, number: usize) -> SocketAddr {
        SocketAddr::new(self.clusters[number].block.address(GATEWAY), TO_THE_HUB)
    }

    fn peer_of_the_hub(&self) -> serde_json::Value {
        json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer", "metadata": {"name": NAMES[HUB]},
            "spec": {"generation": 1, "network": NAMES[HUB],
                "gateways": [{"address": self.link(HUB).to_string()}]}})
    }

    fn hub(&self, number: usize) -> Hub {
        if number == HUB {
            let api = self.clusters[HUB].cluster.address().to_string();
            return Hub { api: api.parse().ok(), ..Hub::default() };
        }
        let cluster = ClusterId::parse(NAMES[HUB]).unwrap();
        let api = Some(self.to_the_hub(number));
        Hub { through: Some(Through { cluster, api, authority: None }), ..Hub::default() }
    }

    fn file(&self, number: usize, name: &str) -> PathBuf {
        self.folder.join(NAMES[number]).join(name)
    }

    async fn start_gateway(&self, number: usize) {
        let running = &self.clusters[number];
        let name = Hostname::parse("gw-0").unwrap();
        let [cert, key, roots] =
            ["member.pem", "member-key.pem", "root.pem"].map(|name| self.file(number, name));
        let texts = [&cert, &key, &roots].map(|path| fs::read_to_string(path).unwrap());
        let source = Source::Member { cert, key, roots, generation: 1, name: name.clone() };
        let listen = running.block.address(GATEWAY);
        let config = Config {
            cluster: ClusterId::parse(NAMES[number]).unwrap(),
            set: "demo".parse().unwrap(),
            name,
            system_namespace: Namespace::parse("landbridge-system").unwrap(),
            listen: vec![listen],
            link: self.link(number),
            identity: source.identity(Texts(texts), now()).unwrap(),
            register: Some(Register { admin_port: ADMIN }),
            operation: Operation { hub: self.hub(number), ..Operation::default() },
        };
        // The one before may take a moment to let go of its address.
        let begun = Instant::now();
        let gateway = loop {
            let (client, mut registry) = (running.client.clone(), Registry::default());
            match Gateway::bind(config.clone(), client, &mut registry).await {
                Ok(gateway) => break gateway,
                Err(why) => assert!(begun.elapsed() < PATIENCE, "a gateway is not bound: {why}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        let (handle, until) = (gateway.handle(), self.stop.clone());
        if number != HUB {
            tell_listening(SocketAddr::new(listen, ADMIN), handle.clone(), self.stop.clone()).await;
        }
        let task = tokio::spawn(async move { gateway.run(until).await.unwrap() });
        let gate = Gate { handle, task };
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(gate);
    }

    async fn control(&self, number: usize) -> Controlling {
        let (running, hub) = (&self.clusters[number], &self.clusters[HUB]);
        let advertise = vec![GatewayAddress(self.link(number))];
        let change = |config: &mut landbridge_controller::Config| config.advertise = advertise;
        if number == HUB {
            return control_as(running, hub, change).await;
        }
        let url = format!("http://{}", self.to_the_hub(number)).parse().unwrap();
        let client = Client::try_from(kube::Config::new(url)).unwrap();
        let mut config = landbridge_controller::Config::new(
            ClusterId::parse(NAMES[number]).unwrap(),
            "demo".parse().unwrap(),
            NAMES[number].parse().unwrap(),
            Namespace::parse("landbridge-system").unwrap(),
        );
        change(&mut config);
        Controlling::start(config, running.client.clone(), client).await
    }

    /// The hub's cluster is gone: nobody says goodbye.
    pub(super) async fn end_hub(&self) {
        let gate = self.gates.lock().unwrap_or_else(PoisonError::into_inner)[HUB].take().unwrap();
        gate.task.abort();
        let _ = gate.task.await;
        self.clusters[HUB].cluster.pause().await;
    }

    pub(super) async fn begin_hub(&self) {
        self.clusters[HUB].cluster.resume().await.unwrap();
        self.start_gateway(HUB).await;
    }

    /// A pod that answers with what it heard.
    async fn pod(&self, number: usize) {
        let address = (self.clusters[number].block.address(POD), TARGET);
        let listener = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
    }

    /// Exports a service with the pod.
    pub(super) fn export(&self, number: usize, name: &str) {
        let running = &self.clusters[number];
        let named = json!({"namespace": "shop", "name": name});
        create(
            running,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": named,
                "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": TARGET}]}}),
        );
        create(
            running,
            json!({"apiVersion": SLICE.0, "kind": SLICE.1, "addressType": "IPv4",
                "metadata": {"namespace": "shop", "name": format!("{name}-x7k2p"),
                    "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"name": "http", "protocol": "TCP", "port": TARGET}],
                "endpoints": [{"addresses": [running.block.address(POD).to_string()],
                    "conditions": {"ready": true}}]}),
        );
        create(running, json!({"apiVersion": EXPORT.0, "kind": EXPORT.1, "metadata": named}));
    }

    /// Where a member's gateway listens for `shop/web`, once it does.
    fn port(&self, number: usize) -> Option<u16> {
        // The hash of its name.
        let slice = find(&self.clusters[number], SLICE, ("shop", "derived-isrlchlhrq-gw-v4"))?;
        let port = u16::try_from(slice["ports"][0]["port"].as_u64()?).ok()?;
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let listening = gates[number].as_ref()?.handle.listening();
        listening.iter().any(|(_, listened)| *listened == port).then_some(port)
    }

    /// One call of `shop/web`.
    pub(super) async fn call(&self, number: usize) -> io::Result<()> {
        const QUESTION: &[u8] = b"are you there?";
        let at = self.port(number).ok_or(io::ErrorKind::NotFound)?;
        let at = SocketAddr::new(self.clusters[number].block.address(GATEWAY), at);
        let call = async {
            let mut stream = TcpStream::connect(at).await?;
            stream.write_all(QUESTION).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            if answer == QUESTION { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        };
        timeout(CALL, call).await?
    }

    /// Writes the roots that are trusted for every gateway.
    fn trust(&self) {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let all: String = roots.iter().map(pki::Root::cert_pem).collect();
        for number in 0..NAMES.len() {
            self.write(number, "root.pem", &all);
        }
    }

    /// Issues an authority for each member by the newest root.
    pub(super) fn issue(&self) {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, name) in NAMES.into_iter().enumerate() {
            let id = ClusterId::parse(name).unwrap();
            let member = roots.last().unwrap().issue_member(&id, now()).unwrap();
            self.write(number, "member.pem", &member.cert_pem());
            self.write(number, "member-key.pem", &member.key_pem());
        }
    }

    pub(super) fn trust_another_root(&self) {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).push(new_root());
        self.trust();
    }

    pub(super) fn forget_the_old_root(&self) {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).remove(0);
        self.trust();
    }

    fn write(&self, number: usize, name: &str, text: &str) {
        let path = self.file(number, name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) async fn stop(&self) {
        let controllers =
            std::mem::take(&mut *self.controllers.lock().unwrap_or_else(PoisonError::into_inner));
        for controller in controllers {
            controller.stop().await;
        }
        self.stop.cancel();
        let gates = std::mem::take(&mut *self.gates.lock().unwrap_or_else(PoisonError::into_inner));
        for gate in gates.into_iter().flatten() {
            gate.task.abort();
            let _ = gate.task.await;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
