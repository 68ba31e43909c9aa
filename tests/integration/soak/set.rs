//! The clusters of a soak: berlin calls; paris and tokyo serve what changes, osaka what does not.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use landbridge_api::wellknown::{
    GATEWAYS, IMPORT, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY, SERVICE_NAME, SOURCE_CLUSTER,
};
use landbridge_gateway::{Config, Gateway, Handle, pki};
use landbridge_model::{ClusterId, Hostname, Namespace, ServiceKey, derived};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    calls::now,
    controller::{SLICE, create},
    support::{PATIENCE, Running, eventually, start},
};

/// What paris and tokyo serve, at these ports of berlin's gateway.
pub(super) const CHURNED: [&str; 4] = ["web-0", "web-1", "web-2", "web-3"];
/// What osaka serves.
pub(super) const STEADY: &str = "steady";
const FIRST: u16 = 10_000;
const BERLIN: usize = 0;
pub(super) const PARIS: usize = 1;
pub(super) const TOKYO: usize = 2;
const OSAKA: usize = 3;
/// The last number of a gateway's address in a cluster's block; pods come later.
const GATEWAY: u8 = 2;
const PODS: u8 = 10;
const LINK: u16 = 4_433;
const TARGET: u16 = 8_080;
/// Asks a pod for more than anybody reads.
pub(super) const FLOOD: &str = "flood\n";

/// A gateway that runs.
struct Gate {
    handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub(super) struct Set {
    pub(super) clusters: [Running; 4],
    root: pki::Root,
    gateways: Mutex<Vec<Option<Gate>>>,
}

/// Where berlin's gateway listens for a service, by its place.
pub(super) fn port(service: &str) -> u16 {
    let place = CHURNED.iter().position(|churned| *churned == service).unwrap_or(CHURNED.len());
    FIRST + u16::try_from(place).unwrap()
}

impl Set {
    pub(super) async fn start() -> Self {
        let clusters = start(["berlin", "paris", "tokyo", "osaka"]).await;
        let root = pki::Root::generate(&"demo".parse().unwrap(), now()).unwrap();
        let gateways = Mutex::new((0..clusters.len()).map(|_| None).collect());
        let set = Self { clusters, root, gateways };
        for cluster in 0..set.clusters.len() {
            let name = "shop";
            create(
                &set.clusters[cluster],
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            );
            set.start_gateway(cluster).await;
        }
        for cluster in [PARIS, TOKYO, OSAKA] {
            create(&set.clusters[cluster], peer("berlin", &[]));
            create(&set.clusters[BERLIN], set.peer_of(cluster));
            let services = if cluster == OSAKA { &[STEADY][..] } else { &CHURNED };
            for service in services {
                set.pod(cluster, service).await;
                set.export(cluster, service);
            }
        }
        for service in CHURNED {
            set.import(service, &["paris", "tokyo"]);
        }
        set.import(STEADY, &["osaka"]);
        set
    }

    /// Starts a gateway with a certificate that was not there before.
    pub(super) async fn start_gateway(&self, cluster: usize) {
        let running = &self.clusters[cluster];
        let id = ClusterId::parse(running.cluster.name()).unwrap();
        let name = Hostname::parse("gw-0").unwrap();
        let member = self.root.issue_member(&id, now()).unwrap();
        let leaf = member.issue_gateway(1, &name, now()).unwrap();
        let root = self.root.cert_pem();
        let identity = pki::Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &root).unwrap();
        let listen = running.block.address(GATEWAY);
        let config = Config {
            cluster: id,
            set: self.root.set().clone(),
            name,
            system_namespace: Namespace::parse("landbridge-system").unwrap(),
            listen: vec![listen],
            link: SocketAddr::new(listen, LINK),
            identity,
            register: None,
            operation: landbridge_gateway::Operation::default(),
        };
        // The one before may take a moment to let go of its address.
        let begun = Instant::now();
        let gateway = loop {
            let (client, mut registry) = (running.client.clone(), Registry::default());
            let bound = Gateway::bind(config.clone(), client, &mut registry).await;
            match bound.map_err(|error| error.to_string()) {
                Ok(gateway) => break gateway,
                Err(why) => assert!(begun.elapsed() < PATIENCE, "a gateway is not bound: {why}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        let (handle, stop) = (gateway.handle(), CancellationToken::new());
        let until = stop.clone();
        let task = tokio::spawn(async move { gateway.run(until).await.unwrap() });
        let started = Gate { handle, stop, task };
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)[cluster] = Some(started);
    }

    /// Ends a gateway: in order, or at once where nobody waits for its address.
    pub(super) async fn end_gateway(&self, cluster: usize, in_order: bool) {
        let gateway = self.gateways.lock().unwrap_or_else(PoisonError::into_inner)[cluster].take();
        let gateway = gateway.unwrap();
        if in_order {
            gateway.stop.cancel();
            gateway.task.await.unwrap();
        } else {
            gateway.task.abort();
            let _ = gateway.task.await;
        }
    }

    fn handles(&self) -> Vec<(&str, Handle)> {
        let gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let named = self.clusters.iter().zip(gateways.iter());
        named
            .filter_map(|(running, gateway)| {
                Some((running.cluster.name(), gateway.as_ref()?.handle.clone()))
            })
            .collect()
    }

    /// What goes through gateways, in words; streams are connections', and those of flows of datagrams.
    pub(super) fn left(&self, with_streams: bool) -> Vec<String> {
        let mut left = Vec::new();
        for (name, handle) in self.handles() {
            let snapshot = handle.snapshot();
            let connections = snapshot["connections"].as_u64().unwrap();
            let peers = snapshot["peers"].as_object().unwrap().values();
            let links = peers.flat_map(|peer| peer["links"].as_array().unwrap());
            let streams: u64 = links.filter_map(|link| link["streams"].as_u64()).sum();
            if connections > 0 || with_streams && streams > 0 {
                left.push(format!("{name}: {connections} connections, {streams} streams"));
            }
        }
        left
    }

    /// Waits until every cluster that should answer does.
    pub(super) async fn settled(&self) {
        for (service, clusters) in CHURNED
            .map(|name| (name, &["paris", "tokyo"][..]))
            .into_iter()
            .chain([(STEADY, &["osaka"][..])])
        {
            for cluster in clusters {
                let what = format!("{cluster} serves {service}");
                eventually(&what, &self.clusters, async || {
                    let answer = timeout(PATIENCE, self.ask(service, "?\n")).await;
                    let answer = answer.map_err(|_| "stuck")?.map_err(|error| error.to_string())?;
                    if answer.starts_with(&format!("{cluster}/")) { Ok(()) } else { Err(answer) }
                })
                .await;
            }
        }
    }

    pub(super) fn entry(&self, service: &str) -> SocketAddr {
        SocketAddr::new(self.clusters[BERLIN].block.address(GATEWAY), port(service))
    }

    /// One question, one answer.
    pub(super) async fn ask(&self, service: &str, question: &str) -> std::io::Result<String> {
        let mut stream = BufReader::new(TcpStream::connect(self.entry(service)).await?);
        stream.get_mut().write_all(question.as_bytes()).await?;
        let mut answer = String::new();
        if stream.read_line(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    }

    /// A cluster as berlin lists it.
    pub(super) fn peer_of(&self, cluster: usize) -> Value {
        let running = &self.clusters[cluster];
        let link = SocketAddr::new(running.block.address(GATEWAY), LINK);
        peer(running.cluster.name(), &[link])
    }

    /// Takes an object out of a cluster.
    pub(super) fn delete(&self, cluster: usize, kind: (&str, &str), at: (&str, &str)) {
        self.clusters[cluster].cluster.store().delete(kind, at).unwrap();
    }

    pub(super) fn berlin(&self) -> &Running {
        &self.clusters[BERLIN]
    }

    fn address(&self, cluster: usize, service: &str) -> std::net::IpAddr {
        let place = u8::try_from(port(service) - FIRST).unwrap();
        self.clusters[cluster].block.address(PODS + place)
    }

    /// A pod that answers each line with its cluster, its service and the line.
    async fn pod(&self, cluster: usize, service: &'static str) {
        let name = format!("{}/{service}", self.clusters[cluster].cluster.name());
        let address = self.address(cluster, service);
        let listener = TcpListener::bind((address, TARGET)).await.unwrap();
        let socket = UdpSocket::bind((address, TARGET)).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..count], from).await;
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, name.clone()));
            }
        });
    }

    /// A service's slice, with its pod or without.
    pub(super) fn slice(&self, cluster: usize, service: &str, ready: bool) -> Value {
        let ports = ["TCP", "UDP"].map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": TARGET}));
        let pod = self.address(cluster, service).to_string();
        json!({"apiVersion": SLICE.0, "kind": SLICE.1, "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": format!("{service}-x7k2p"),
                "labels": {KUBE_SERVICE_NAME: service}},
            "ports": ports, "endpoints": [{"addresses": [pod], "conditions": {"ready": ready}}]})
    }

    fn export(&self, cluster: usize, service: &str) {
        let named = json!({"namespace": "shop", "name": service});
        let ports = ["TCP", "UDP"].map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": 80, "targetPort": TARGET}));
        let running = &self.clusters[cluster];
        create(
            running,
            json!({"apiVersion": "v1", "kind": "Service", "metadata": named,
            "spec": {"selector": {"app": service}, "ports": ports}}),
        );
        create(running, self.slice(cluster, service, true));
        create(
            running,
            json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": named}),
        );
    }

    /// What berlin's controller would write.
    fn import(&self, service: &str, clusters: &[&str]) {
        let berlin = self.berlin();
        let derived = derived::service(&ServiceKey::parse("shop", service).unwrap()).to_string();
        let endpoints = json!([{"addresses": [berlin.block.address(GATEWAY).to_string()], "conditions": {"ready": true}}]);
        let ports = |names: [&str; 2]| {
            json!([
            {"name": names[0], "protocol": "TCP", "port": port(service)},
            {"name": names[1], "protocol": "UDP", "port": port(service)}])
        };
        create(
            berlin,
            json!({"apiVersion": SLICE.0, "kind": SLICE.1, "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": format!("{derived}-gw-v4"),
                "labels": {KUBE_SERVICE_NAME: derived, MANAGED_BY: LANDBRIDGE},
                "annotations": {IMPORT: service, GATEWAYS: "true"}},
            "ports": ports(["tcp-80", "udp-80"]), "endpoints": endpoints}),
        );
        for cluster in clusters {
            create(
                berlin,
                json!({"apiVersion": SLICE.0, "kind": SLICE.1, "addressType": "IPv4",
                "metadata": {"namespace": "shop", "name": format!("{service}-{cluster}-v4"),
                    "labels": {SERVICE_NAME: service, SOURCE_CLUSTER: cluster, MANAGED_BY: LANDBRIDGE}},
                "ports": ports(["tcp", "udp"]), "endpoints": endpoints}),
            );
        }
    }

    pub(super) async fn stop(&self) {
        for cluster in 0..self.clusters.len() {
            self.end_gateway(cluster, false).await;
        }
    }
}

fn peer(cluster: &str, links: &[SocketAddr]) -> Value {
    let gateways: Vec<Value> =
        links.iter().map(|link| json!({"address": link.to_string()})).collect();
    json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer", "metadata": {"name": cluster},
        "spec": {"generation": 1, "network": cluster, "gateways": gateways}})
}

async fn answer(stream: TcpStream, name: String) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let mut line = String::new();
    while matches!(lines.read_line(&mut line).await, Ok(count) if count > 0) {
        if line == FLOOD {
            // Until nobody reads, or nobody is there.
            while write.write_all(&[b'x'; 65_536]).await.is_ok() {}
            return;
        }
        let answer = format!("{name} {line}");
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}
