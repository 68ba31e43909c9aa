//! Clusters for benchmarks: embedded and real APIs, controllers that run as tasks, and gateways that only say that they
//! listen.

#![allow(dead_code, reason = "each benchmark uses what it needs")]

pub(crate) mod real;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::Context as _;
use kube::Client;
use landbridge_controller::{Config, Controller, Handle};
use landbridge_embedded::{Cluster, ClusterConfig};
use landbridge_model::{ClusterId, Namespace};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Where Landbridge lives.
pub(crate) const SYSTEM: &str = "landbridge-system";
/// Kinds that are written because time passes, or because there are members: no export is told by them.
const BESIDE: [&str; 5] = ["ClusterProfile", "Lease", "Member", "Namespace", "Peer"];

/// An embedded API with every kind that Landbridge reads or writes, at an address that no other cluster of this
/// machine has: one may resume where it was.
pub(crate) async fn embedded(name: &str, number: u8) -> anyhow::Result<Cluster> {
    let config = ClusterConfig {
        name: name.to_owned(),
        listen: SocketAddr::new(loopback(number, 1), 0),
        service_range_v4: "10.96.0.0/16".parse()?,
        service_range_v6: None,
        crds: landbridge_api::crds::all(),
    };
    Cluster::start(config).await.with_context(|| format!("the API of {name}"))
}

/// An address of an embedded cluster: 1 is its API's.
pub(crate) fn loopback(number: u8, last: u8) -> IpAddr {
    Ipv4Addr::new(127, 59, number, last).into()
}

/// A client of the API at `url`.
pub(crate) fn client(url: &str) -> anyhow::Result<Client> {
    Ok(Client::try_from(kube::Config::new(url.parse()?))?)
}

/// Where an embedded API is reached.
pub(crate) fn url(cluster: &Cluster) -> String {
    format!("http://{}", cluster.address())
}

/// What the controller of a member is told, whose network is its own.
pub(crate) fn config(member: &str) -> anyhow::Result<Config> {
    Ok(Config::new(
        ClusterId::parse(member)?,
        "demo".parse()?,
        member.parse()?,
        Namespace::parse(SYSTEM)?,
    ))
}

/// A member as an administrator writes it.
pub(crate) fn member(id: &str) -> Value {
    json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Member", "metadata": {"name": id},
        "spec": {"generation": 1, "network": id}})
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A controller that runs as a task.
pub(crate) struct Controlling {
    pub(crate) handle: Handle,
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Controlling {
    pub(crate) async fn start(config: Config, local: Client, hub: Client) -> anyhow::Result<Self> {
        let mut registry = Registry::with_prefix("landbridge");
        let controller = Controller::bind(config, local, hub, &mut registry).await?;
        let (handle, stop) = (controller.handle(), CancellationToken::new());
        let until = stop.clone();
        let task = tokio::spawn(async move { Ok(controller.run(until).await?) });
        Ok(Self { handle, registry, stop, task })
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.task.await?
    }

    /// How many writes of exports and imports an API has taken, by verb and kind.
    pub(crate) fn writes(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut metrics = String::new();
        encode(&mut metrics, &self.registry)?;
        let lines = metrics.lines().filter_map(|line| {
            let line = line.strip_prefix("landbridge_controller_writes_total{")?;
            let (labels, count) = line.rsplit_once("} ")?;
            let beside = BESIDE.iter().any(|kind| labels.contains(&format!("\"{kind}\"")));
            (!beside).then(|| (labels.to_owned(), count))
        });
        lines.map(|(labels, count)| Ok((labels, count.parse()?))).collect()
    }

    /// All of them.
    pub(crate) fn written(&self) -> anyhow::Result<u64> {
        Ok(self.writes()?.values().sum())
    }

    /// The sum of a metric of the controller, over all of its labels.
    pub(crate) fn count(&self, name: &str) -> anyhow::Result<u64> {
        let mut metrics = String::new();
        encode(&mut metrics, &self.registry)?;
        let name = format!("landbridge_controller_{name}");
        let samples = metrics.lines().filter(|line| line.starts_with(&name));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        samples.map(|(_, count)| Ok(count.parse::<u64>()?)).sum()
    }
}

/// The slice of a gateway at `address` that says it listens on the first `numbers` of the numbers that are allotted,
/// from the start and for as long as this process runs. Real ones follow the slices, and listen within milliseconds.
pub(crate) async fn gateway(address: IpAddr, numbers: u16) -> anyhow::Result<Value> {
    let listener = TcpListener::bind((address, 0)).await?;
    let admin = listener.local_addr()?.port();
    let listening = (10_000..10_000 + numbers).map(|n| json!({"protocol": "TCP", "port": n}));
    let body = json!({"listening": listening.collect::<Vec<_>>()}).to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Whoever asks may have gone.
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": SYSTEM, "name": "gateway-1",
            "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
        "addressType": "IPv4",
        "ports": [{"name": "link", "protocol": "UDP", "port": 4433},
            {"name": "admin", "protocol": "TCP", "port": admin}],
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
    }))
}

/// What a user has in a cluster for a service that is to be exported: the Service, and a slice with two pods.
pub(crate) fn service(namespace: &str, name: &str, pods: [&str; 2]) -> [Value; 2] {
    let endpoint = |(at, address): (usize, &&str)| {
        json!({"addresses": [address], "zone": "eu-central-1a", "nodeName": "node-1",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": format!("{name}-{at}")}})
    };
    let endpoints: Vec<Value> = pods.iter().enumerate().map(endpoint).collect();
    [
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": namespace, "name": format!("{name}-x7k2p"),
                "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]}),
    ]
}

pub(crate) fn export(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"namespace": namespace, "name": name}})
}
