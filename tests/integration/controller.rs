//! Controllers over embedded APIs, with gateways that answer them; whatever needs no answer is the battery's.

use std::{net::SocketAddr, time::Instant};

use landbridge_controller::Config;
use landbridge_model::{ClusterId, GatewayAddress, Namespace};
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    battery::controlling::Controlling,
    support::{Running, eventually, start},
};

pub(crate) const EXPORT: (&str, &str) = ("multicluster.x-k8s.io/v1beta1", "ServiceExport");
pub(crate) const IMPORT: (&str, &str) = ("multicluster.x-k8s.io/v1beta1", "ServiceImport");
pub(crate) const MEMBER: (&str, &str) = ("landbridge.dev/v1alpha1", "Member");
const PEER: (&str, &str) = ("landbridge.dev/v1alpha1", "Peer");
pub(crate) const SERVICE: (&str, &str) = ("v1", "Service");
pub(crate) const SLICE: (&str, &str) = ("discovery.k8s.io/v1", "EndpointSlice");
const WEB: (&str, &str) = ("shop", "web");
const DERIVED: (&str, &str) = ("shop", "derived-isrlchlhrq");
const GATEWAY_SLICE: (&str, &str) = ("shop", "derived-isrlchlhrq-gw-v4");

/// A hub and two members.
pub(crate) struct Set {
    clusters: [Running; 3],
    controllers: Vec<Controlling>,
}

/// Runs the controller of a cluster.
pub(crate) async fn control(running: &Running, hub: &Running) -> Controlling {
    control_as(running, hub, |_| {}).await
}

/// Runs one with other settings than usual.
pub(crate) async fn control_as(
    running: &Running,
    hub: &Running,
    change: impl FnOnce(&mut Config),
) -> Controlling {
    let gateway = format!("{}:4433", running.block.address(2));
    let mut config = Config {
        advertise: vec![GatewayAddress(gateway.parse().unwrap())],
        ..Config::new(
            ClusterId::parse(running.cluster.name()).unwrap(),
            "demo".parse().unwrap(),
            running.cluster.name().parse().unwrap(),
            Namespace::parse("landbridge-system").unwrap(),
        )
    };
    change(&mut config);
    Controlling::start(config, running.client.clone(), hub.client.clone()).await
}

impl Set {
    /// Starts the clusters, joins them, and waits for their controllers to be ready.
    pub(crate) async fn start() -> Self {
        let clusters = start(["hub", "paris", "berlin"]).await;
        let [hub, members @ ..] = &clusters;
        for running in members {
            let name = running.cluster.name();
            create(
                hub,
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("cluster-{name}")}}),
            );
            create(
                hub,
                json!({
                    "apiVersion": MEMBER.0, "kind": MEMBER.1, "metadata": {"name": name},
                    "spec": {"generation": 1, "network": name},
                }),
            );
            create(
                running,
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
            );
        }
        let mut set = Self { controllers: Vec::new(), clusters };
        for at in [1, 2] {
            let controller = control(&set.clusters[at], set.hub()).await;
            set.controllers.push(controller);
        }
        eventually("the controllers are ready", &set.clusters, async || {
            let ready = set.controllers.iter().all(|controller| controller.handle.is_ready());
            ready.then_some(()).ok_or_else(|| "not ready".to_owned())
        })
        .await;
        // A controller makes the namespace that gateways register in as soon as it has read its cluster.
        for member in [set.paris(), set.berlin()] {
            let namespace = ("", "landbridge-system");
            set.becomes("the namespace is there", || find(member, ("v1", "Namespace"), namespace))
                .await;
        }
        set
    }

    pub(crate) fn hub(&self) -> &Running {
        &self.clusters[0]
    }

    pub(crate) fn paris(&self) -> &Running {
        &self.clusters[1]
    }

    pub(crate) fn berlin(&self) -> &Running {
        &self.clusters[2]
    }

    pub(crate) async fn becomes<T>(&self, what: &str, check: impl Fn() -> Option<T>) -> T {
        eventually(what, &self.clusters, async || check().ok_or_else(|| "not yet".to_owned())).await
    }

    /// Paris has a Service with a ready pod and exports it.
    fn export(&self) {
        let paris = self.paris();
        create(
            paris,
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            }),
        );
        create(
            paris,
            json!({
                "apiVersion": SLICE.0, "kind": SLICE.1,
                "metadata": {"namespace": "shop", "name": "web-x7k2p", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
                "endpoints": [{"addresses": ["10.244.0.5"], "conditions": {"ready": true}}],
            }),
        );
        create(
            paris,
            json!({
                "apiVersion": EXPORT.0, "kind": EXPORT.1, "metadata": {"namespace": "shop", "name": "web"},
            }),
        );
    }

    pub(crate) async fn stop(self) {
        for controller in self.controllers {
            controller.stop().await;
        }
    }
}

pub(crate) fn create(running: &Running, object: Value) {
    running.cluster.store().create(object).unwrap();
}

pub(crate) fn find(running: &Running, kind: (&str, &str), name: (&str, &str)) -> Option<Value> {
    running.cluster.store().get(kind, name).ok().map(|object| (*object).clone())
}

/// Status and reason of a condition.
pub(crate) fn condition(object: &Value, type_: &str) -> Option<String> {
    let mut conditions = object["status"]["conditions"].as_array()?.iter();
    let found = conditions.find(|condition| condition["type"] == type_)?;
    Some(format!("{}/{}", found["status"].as_str()?, found["reason"].as_str()?))
}

fn is_ready(object: &Value, reason: &str) -> bool {
    condition(object, "Ready").as_deref() == Some(reason)
}

/// A gateway that says that it listens on the first ten ports, at a name of its own.
pub(crate) async fn gateway(running: &Running, name: &str, last: u8) {
    let address = running.block.address(last);
    let listener = TcpListener::bind(SocketAddr::new(address, 0)).await.unwrap();
    let admin = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let ports = (10_000..10_010).map(|port| json!({"protocol": "TCP", "port": port}));
        let body = json!({"listening": ports.collect::<Vec<_>>()}).to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    create(
        running,
        json!({
            "apiVersion": SLICE.0, "kind": SLICE.1,
            "metadata": {"namespace": "landbridge-system", "name": name,
                "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
            "addressType": "IPv4",
            "ports": [{"name": "link", "protocol": "UDP", "port": 4433}, {"name": "admin", "protocol": "TCP", "port": admin}],
            "endpoints": [{"addresses": [address.to_string()]}],
        }),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_becomes_an_import_in_every_cluster_and_goes_again() {
    let set = Set::start().await;
    for running in [set.paris(), set.berlin()] {
        gateway(running, "gateway", 3).await;
    }
    let start = Instant::now();
    set.export();
    set.becomes("berlin imports", || find(set.berlin(), IMPORT, WEB)).await;
    println!("from export to import: {:?}", start.elapsed());
    let import = set
        .becomes("the import is ready", || {
            find(set.berlin(), IMPORT, WEB).filter(|import| is_ready(import, "True/Ready"))
        })
        .await;
    let service = find(set.berlin(), SERVICE, DERIVED).unwrap();
    assert_eq!(import["spec"]["ips"], service["spec"]["clusterIPs"]);
    assert_eq!(import["spec"]["ports"], json!([{"name": "http", "protocol": "TCP", "port": 80}]));
    let slice = find(set.berlin(), SLICE, GATEWAY_SLICE).unwrap();
    assert_eq!(slice["ports"][0]["port"], 10_000);
    assert_eq!(slice["endpoints"][0]["addresses"][0], set.berlin().block.address(3).to_string());
    // The exporter imports too, from its own pods.
    set.becomes("paris imports", || find(set.paris(), IMPORT, WEB)).await;
    let own = find(set.paris(), SLICE, ("shop", "web-paris-v4")).unwrap();
    assert_eq!(own["endpoints"][0]["addresses"], json!(["10.244.0.5"]));
    set.becomes("the export is told", || {
        find(set.paris(), EXPORT, WEB).filter(|export| is_ready(export, "True/Exported"))
    })
    .await;
    // The gateways are told of each other's clusters.
    let peer = set
        .becomes("paris is a peer", || {
            find(set.berlin(), PEER, ("", "paris"))
                .filter(|peer| peer["spec"].get("gateways").is_some())
        })
        .await;
    assert_eq!(
        peer["spec"]["gateways"][0]["address"],
        format!("{}:4433", set.paris().block.address(2))
    );

    set.paris().cluster.store().delete(EXPORT, WEB).unwrap();
    for running in [set.berlin(), set.paris()] {
        set.becomes("everything is gone", || {
            let left = [
                (IMPORT, WEB),
                (SERVICE, DERIVED),
                (SLICE, GATEWAY_SLICE),
                (SLICE, ("shop", "web-paris-v4")),
            ];
            left.iter().all(|(kind, name)| find(running, *kind, *name).is_none()).then_some(())
        })
        .await;
    }
    let mut metrics = String::new();
    encode(&mut metrics, &set.controllers[1].registry).unwrap();
    let counted = "landbridge_export_propagation_seconds_count{stage=\"import\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(
        metrics.contains(
            "landbridge_controller_writes_total{verb=\"create\",kind=\"ServiceImport\"} 1"
        )
    );
    set.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_export_stands_beside_a_good_one() {
    let set = Set::start().await;
    let bad = json!({
        "apiVersion": EXPORT.0, "kind": EXPORT.1, "metadata": {"namespace": "shop", "name": "bad"},
        "spec": {"exportedLabels": "red"},
    });
    set.paris().cluster.insert_unchecked(bad).unwrap();
    set.export();
    set.becomes("berlin imports the good one", || find(set.berlin(), IMPORT, WEB)).await;
    eventually("the snapshot names it", &set.clusters, async || {
        let snapshot = set.controllers[0].handle.snapshot().await;
        let named = snapshot["malformed"].get("ServiceExport shop/bad").is_some();
        named.then_some(()).ok_or_else(|| snapshot.to_string())
    })
    .await;
    let mut metrics = String::new();
    encode(&mut metrics, &set.controllers[0].registry).unwrap();
    assert!(metrics.contains("landbridge_controller_problems_total 1"), "{metrics}");
    set.stop().await;
}
