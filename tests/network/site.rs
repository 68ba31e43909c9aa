//! A cluster in a namespace: an embedded API, a gateway that watches it, a pod, and clients that call.
//!
//! Every cluster has the same pod network: that of one means nothing in another.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kube::Client;
use landbridge_api::wellknown::{
    GATEWAYS, IMPORT, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY, SERVICE_NAME, SOURCE_CLUSTER,
};
use landbridge_embedded::{Cluster, ClusterConfig, Store};
use landbridge_gateway::{Config, Gateway, Handle, Hub, Operation, Through, pki};
use landbridge_model::{ClusterId, Hostname, Namespace, ServiceKey, Timestamp, derived};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::space::Space;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
/// Every cluster has these.
const ADDRESSES: [&str; 2] = ["10.244.0.2/32", "10.244.0.10/32"];
/// Where the pod listens, the port of its Service, and the one that is allotted to it.
const TARGET: u16 = 8080;
const SERVICE: u16 = 80;
const ALLOTTED: u16 = 10_000;
/// Where the hub has its API, and where a member's gateway listens for its controller: on both, nobody else can come there.
const API: u16 = 16_443;
const TO_THE_HUB: u16 = 6443;
/// Where gateways are dialled.
pub(crate) const LINK: u16 = 4433;
/// How long a test waits for what should come soon: a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(12);

pub(crate) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
}

/// A cluster that runs.
pub(crate) struct Site {
    pub(crate) space: Space,
    pub(crate) gateway: Handle,
    store: Store,
    stop: CancellationToken,
    running: Option<thread::JoinHandle<()>>,
    /// What its pod was asked over TCP.
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// Starts everything. `space` is where it is, and has a way to the others.
    pub(crate) fn start(root: &pki::Root, name: &'static str, space: Space) -> Self {
        Self::start_with(root, name, space, Hub::default())
    }

    /// The same of a cluster that has something to do with the hub.
    pub(crate) fn start_with(root: &pki::Root, name: &'static str, space: Space, hub: Hub) -> Self {
        let member = root.issue_member(&name.parse().unwrap(), now()).unwrap();
        let gateway: Hostname = "gw-0".parse().unwrap();
        let leaf = member.issue_gateway(1, &gateway, now()).unwrap();
        let identity =
            pki::Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &root.cert_pem()).unwrap();
        let config = Config {
            cluster: ClusterId::parse(name).unwrap(),
            set: root.set().clone(),
            name: gateway,
            system_namespace: Namespace::parse("landbridge-system").unwrap(),
            listen: vec![GATEWAY.into()],
            link: SocketAddr::from((Ipv4Addr::UNSPECIFIED, LINK)),
            identity,
            register: None,
            operation: Operation { hub, ..Operation::default() },
        };
        let (stop, heard) = (CancellationToken::new(), Arc::default());
        let (tell, told) = mpsc::channel();
        let (until, pods) = (stop.clone(), Arc::clone(&heard));
        let running = space.start(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let cluster = Cluster::start(ClusterConfig {
                    name: name.into(),
                    listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                    service_range_v4: "10.96.0.0/16".parse().unwrap(),
                    service_range_v6: None,
                    crds: landbridge_api::crds::all(),
                })
                .await
                .unwrap();
                let url = format!("http://{}", cluster.address()).parse().unwrap();
                let client = Client::try_from(kube::Config::new(url)).unwrap();
                let gateway =
                    Gateway::bind(config, client, &mut Registry::default()).await.unwrap();
                tell.send((gateway.handle(), cluster.store().clone())).unwrap();
                gateway.run(until).await.unwrap();
                cluster.stop().await;
            });
        });
        let (gateway, store) = told.recv_timeout(PATIENCE).unwrap();
        let site = Self { space, gateway, store, stop, running: Some(running), heard };
        site.pod(name, pods);
        site.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
        site
    }

    /// A namespace for a cluster that is plugged into `switch` with this address.
    pub(crate) fn space(switch: &Space, address: &str, port: &str) -> Space {
        let space = Space::new(&ADDRESSES);
        space.cable(("wan", address), switch, port);
        switch.plug(port);
        space
    }

    /// A namespace for a cluster that has no way yet.
    pub(crate) fn apart() -> Space {
        Space::new(&ADDRESSES)
    }

    fn create(&self, object: Value) {
        self.store.create(object).unwrap();
    }

    /// A pod that answers each question with its cluster's name.
    fn pod(&self, name: &'static str, heard: Arc<Mutex<Vec<String>>>) {
        self.space.start(move || {
            let listener = TcpListener::bind((POD, TARGET)).unwrap();
            let socket = UdpSocket::bind((POD, TARGET)).unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), from);
                }
            });
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = Arc::clone(&heard);
                thread::spawn(move || {
                    let mut question = String::new();
                    let mut stream = stream;
                    if stream.read_to_string(&mut question).is_ok() {
                        heard.lock().unwrap().push(question);
                        let _ = stream.write_all(name.as_bytes());
                    }
                });
            }
        });
    }

    /// What the gateways of the hub are told of its API.
    pub(crate) fn hub() -> Hub {
        Hub { api: format!("127.0.0.1:{API}").parse().ok(), ..Hub::default() }
    }

    /// What the gateways of a member are told of the hub.
    pub(crate) fn member_of(hub: &str) -> Hub {
        let api = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, TO_THE_HUB)));
        let cluster = ClusterId::parse(hub).unwrap();
        let through = Some(Through { cluster, api, authority: None });
        Hub { through, ..Hub::default() }
    }

    /// Something that stands for the hub's API: it says hello, and then back what it hears.
    pub(crate) fn serves_an_api(&self) {
        self.space.start(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, API)).unwrap();
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let (mut read, mut write) = (stream.try_clone().unwrap(), stream);
                    let _ = write.write_all(b"hello");
                    let _ = io::copy(&mut read, &mut write);
                });
            }
        });
    }

    /// Connects as the controller of this cluster does to the hub's API, and waits for its hello.
    pub(crate) fn reaches_the_hub(&self) -> io::Result<TcpStream> {
        self.call(|| {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, TO_THE_HUB));
            let mut stream = TcpStream::connect_timeout(&to, CALL)?;
            stream.set_read_timeout(Some(CALL))?;
            stream.read_exact(&mut [0; 5])?;
            Ok(stream)
        })
    }

    /// Lists a member that is dialled at `addresses`.
    pub(crate) fn knows(&self, cluster: &str, addresses: &[&str]) {
        let gateways: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"address": format!("{address}:{LINK}")}))
            .collect();
        self.create(json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer", "metadata": {"name": cluster},
            "spec": {"generation": 1, "network": cluster, "gateways": gateways}}));
    }

    /// Exports shop/web.
    pub(crate) fn exports(&self) {
        let named = json!({"namespace": "shop", "name": "web"});
        let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": SERVICE, "targetPort": TARGET});
        self.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": named,
            "spec": {"selector": {"app": "web"}, "ports": [port("http", "TCP"), port("dns", "UDP")]}}));
        let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": TARGET});
        self.create(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": "web-x7k2p", "labels": {KUBE_SERVICE_NAME: "web"}},
            "ports": [port("http", "TCP"), port("dns", "UDP")],
            "endpoints": [{"addresses": [POD.to_string()], "conditions": {"ready": true}}]}));
        self.create(json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": named}));
    }

    /// Imports shop/web of `clusters`, as this cluster's controller would write it, and waits until the gateway listens.
    pub(crate) fn imports(&self, clusters: &[&str]) {
        let derived = derived::service(&ServiceKey::parse("shop", "web").unwrap()).to_string();
        let gateway = json!([{"addresses": [GATEWAY.to_string()], "conditions": {"ready": true}}]);
        let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": ALLOTTED});
        self.create(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": format!("{derived}-gw-v4"),
                "labels": {KUBE_SERVICE_NAME: derived, MANAGED_BY: LANDBRIDGE},
                "annotations": {IMPORT: "web", GATEWAYS: "true"}},
            "ports": [port("tcp-80", "TCP"), port("udp-80", "UDP")], "endpoints": gateway}));
        for cluster in clusters {
            self.create(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"namespace": "shop", "name": format!("web-{cluster}-v4"),
                    "labels": {SERVICE_NAME: "web", SOURCE_CLUSTER: cluster, MANAGED_BY: LANDBRIDGE}},
                "ports": [port("http", "TCP"), port("dns", "UDP")], "endpoints": gateway}));
        }
        until("it listens", || self.gateway.listening().len() == 2);
    }

    /// The state of every link to `cluster`, in words.
    pub(crate) fn links(&self, cluster: &str) -> Vec<String> {
        let snapshot = self.gateway.snapshot();
        let links = snapshot["peers"][cluster]["links"].as_array().cloned().unwrap_or_default();
        links.iter().map(|link| link["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What carries each link to `cluster`.
    pub(crate) fn transports(&self, cluster: &str) -> Vec<String> {
        let snapshot = self.gateway.snapshot();
        let links = snapshot["peers"][cluster]["links"].as_array().cloned().unwrap_or_default();
        let word = |link: &Value| link["transport"].as_str().unwrap_or_default().to_owned();
        links.iter().map(word).collect()
    }

    /// Waits until a link to `cluster` is healthy.
    pub(crate) fn linked(&self, cluster: &str) {
        let what = format!("a link to {cluster}");
        until(&what, || self.links(cluster).iter().any(|state| state == "healthy"));
    }

    /// One call of a client of this cluster.
    pub(crate) fn ask(&self, question: &str) -> io::Result<String> {
        let question = question.to_owned();
        self.call(move || ask((GATEWAY, ALLOTTED).into(), &question))
    }

    /// The same, not waited for.
    pub(crate) fn asks(&self, question: &str) -> thread::JoinHandle<io::Result<String>> {
        let question = question.to_owned();
        self.space.start(move || ask((GATEWAY, ALLOTTED).into(), &question))
    }

    /// A call that is begun.
    pub(crate) fn connect(&self) -> TcpStream {
        self.call(|| {
            let stream = TcpStream::connect_timeout(&(GATEWAY, ALLOTTED).into(), CALL).unwrap();
            stream.set_read_timeout(Some(CALL)).unwrap();
            stream
        })
    }

    /// One call to the pod of this very cluster.
    pub(crate) fn ask_own_pod(&self) -> io::Result<String> {
        self.call(|| ask((POD, TARGET).into(), "?"))
    }

    /// One question over UDP, asked until it is answered.
    pub(crate) fn ask_udp(&self) -> io::Result<String> {
        self.call(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((GATEWAY, ALLOTTED))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            let (begun, mut answer) = (Instant::now(), [0; 64]);
            loop {
                socket.send(b"?")?;
                match socket.recv(&mut answer) {
                    Ok(count) => return Ok(String::from_utf8_lossy(&answer[..count]).into_owned()),
                    Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                    Err(_) => {}
                }
            }
        })
    }

    fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.space.start(work).join().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

fn ask(to: SocketAddr, question: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, CALL)?;
    stream.set_read_timeout(Some(CALL))?;
    stream.write_all(question.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
