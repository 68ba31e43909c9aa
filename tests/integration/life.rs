//! Gateways that die: what is withdrawn, and how few writes that costs; and a cluster that has no address left.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kube::Client;
use landbridge_embedded::{Cluster, ClusterConfig};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    controller::{IMPORT, MEMBER, SLICE, control, create, find},
    support::{Block, Running, eventually},
};

/// A hub and one member, with room for more imports than a test's own loopback addresses: nothing is called here.
async fn set(services: &str) -> [Running; 2] {
    let mut running = Vec::new();
    for name in ["hub", "berlin"] {
        let block = Block::take();
        let config = ClusterConfig {
            name: name.into(),
            listen: (block.address(1), 0).into(),
            service_range_v4: services.parse().unwrap(),
            service_range_v6: None,
            crds: landbridge_api::crds::all(),
        };
        let cluster = Cluster::start(config).await.unwrap();
        let url = format!("http://{}", cluster.address());
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        running.push(Running { cluster, client, block });
    }
    let running: [Running; 2] = running.try_into().map_err(|_| ()).unwrap();
    let [hub, berlin] = &running;
    for name in ["paris", "berlin"] {
        namespace(hub, &format!("cluster-{name}"));
        create(
            hub,
            json!({
                "apiVersion": MEMBER.0, "kind": MEMBER.1, "metadata": {"name": name},
                "spec": {"generation": 1, "network": name},
            }),
        );
    }
    namespace(berlin, "shop");
    namespace(berlin, "landbridge-system");
    running
}

fn namespace(running: &Running, name: &str) {
    create(running, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
}

/// What paris's controller writes on the hub for a service with a ready endpoint.
fn exported(hub: &Running, name: &str) {
    create(
        hub,
        json!({
            "apiVersion": "landbridge.dev/v1alpha1", "kind": "ClusterExport",
            "metadata": {"namespace": "cluster-paris", "name": format!("shop.{name}")},
            "spec": {
                "service": {"namespace": "shop", "name": name}, "type": "ClusterSetIP",
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
                "ipFamilies": ["IPv4"], "zones": [{"ready": 1, "total": 1}],
            },
        }),
    );
}

async fn becomes<T>(what: &str, running: &[Running], check: impl Fn() -> Option<T>) -> T {
    eventually(what, running, async || check().ok_or_else(|| "not yet".to_owned())).await
}

/// A gateway that answers whoever asks, until it is dropped.
struct Gateway {
    address: String,
    admin: u16,
    answers: JoinHandle<()>,
}

impl Gateway {
    /// One at the given last byte of the cluster's addresses, at the port that all gateways of a slice share.
    async fn start(running: &Running, last: u8, admin: u16) -> Self {
        let address = running.block.address(last);
        let listener = TcpListener::bind(SocketAddr::new(address, admin)).await;
        let listener = listener.unwrap();
        let admin = listener.local_addr().unwrap().port();
        let answers = tokio::spawn(async move {
            let ports = (10_000..10_300).map(|port| json!({"protocol": "TCP", "port": port}));
            let body = json!({"listening": ports.collect::<Vec<_>>()}).to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address: address.to_string(), admin, answers }
    }
}

fn gateway_slice(gateways: &[&Gateway]) -> Value {
    let endpoints = gateways
        .iter()
        .map(|gateway| json!({"addresses": [gateway.address], "conditions": {"ready": true}}));
    json!({
        "apiVersion": SLICE.0, "kind": SLICE.1,
        "metadata": {"namespace": "landbridge-system", "name": "landbridge-gateway-x",
            "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
        "addressType": "IPv4",
        "ports": [{"name": "link", "protocol": "UDP", "port": 4433},
            {"name": "admin", "protocol": "TCP", "port": gateways[0].admin}],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

/// The addresses that every derived slice of a gateway names, where all of them agree.
fn named(running: &Running) -> Option<Vec<String>> {
    let slices = running.cluster.store().list(SLICE, Some("shop")).unwrap();
    let mut all: Vec<Vec<String>> = Vec::new();
    for slice in &slices.items {
        let name = slice["metadata"]["name"].as_str().unwrap();
        if name.starts_with("derived-") && name.ends_with("-gw-v4") {
            let endpoints = slice["endpoints"].as_array().unwrap().iter();
            let mut addresses: Vec<String> = endpoints
                .map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned())
                .collect();
            addresses.sort();
            all.push(addresses);
        }
    }
    all.dedup();
    (all.len() == 1).then(|| all.remove(0))
}

/// "One silent for 1 s leaves the slices, never the last one"; "rolled in batches so that a rolling restart costs few
/// writes".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_costs_one_write_of_each_slice() {
    const IMPORTS: u64 = 200;
    let running = set("10.96.0.0/16").await;
    let [hub, berlin] = &running;
    let one = Gateway::start(berlin, 3, 0).await;
    let two = Gateway::start(berlin, 4, one.admin).await;
    create(berlin, gateway_slice(&[&one, &two]));
    for number in 0..IMPORTS {
        exported(hub, &format!("web-{number}"));
    }
    let controller = control(berlin, hub).await;
    let both = Some(vec![one.address.clone(), two.address.clone()]);
    becomes("everything is imported", &running, || {
        let imports = berlin.cluster.store().list(IMPORT, Some("shop")).unwrap();
        let ready = imports
            .items
            .iter()
            .filter(|import| import["status"]["conditions"][0]["status"] == json!("True"));
        (ready.count() as u64 == IMPORTS && named(berlin) == both).then_some(())
    })
    .await;
    let updates = || controller.count("writes_total", &["update", "EndpointSlice"]);
    // Whatever a busy machine has made of the beginning.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = updates();

    two.answers.abort();
    let dead = Instant::now();
    let only_one = Some(vec![one.address.clone()]);
    becomes("the dead one is withdrawn", &running, || (named(berlin) == only_one).then_some(()))
        .await;
    println!("withdrawn from {IMPORTS} imports after {:?}", dead.elapsed());
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Of each import the derived slice and the MCS slice.
    assert_eq!(updates() - before, 2 * IMPORTS);

    // Both are replaced while neither is known to be silent: that is one write of each slice, not four.
    let three = Gateway::start(berlin, 5, one.admin).await;
    let four = Gateway::start(berlin, 6, one.admin).await;
    let before = updates();
    let store = berlin.cluster.store();
    for gateways in [&[&one, &three][..], &[&one, &three, &four], &[&three, &four]] {
        let name = ("landbridge-system", "landbridge-gateway-x");
        let mut slice = (*store.get(SLICE, name).unwrap()).clone();
        slice["endpoints"] = gateway_slice(gateways)["endpoints"].clone();
        store.update(slice).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let new = Some(vec![three.address.clone(), four.address.clone()]);
    becomes("the new ones are named", &running, || (named(berlin) == new).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(updates() - before, 2 * IMPORTS);

    // The last ones stay, whoever is asked.
    let before = updates();
    three.answers.abort();
    four.answers.abort();
    one.answers.abort();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(named(berlin), new);
    assert_eq!(updates(), before);
    controller.stop().await;
}

/// An API server that has no address left is told of as such, asked again, and believed when it has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_for_which_there_is_no_address_waits_for_one() {
    let running = set("10.96.0.0/29").await;
    let [hub, berlin] = &running;
    let mut taken = 0;
    let user = |number: u32| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "shop", "name": format!("user-{number}")},
            "spec": {"ports": [{"port": 80}]},
        })
    };
    while berlin.cluster.store().create(user(taken)).is_ok() {
        taken += 1;
    }
    let controller = control(berlin, hub).await;
    exported(hub, "web");
    let reason = |wanted: &'static str| {
        move || {
            find(berlin, IMPORT, ("shop", "web"))
                .filter(|import| import["status"]["conditions"][0]["reason"] == json!(wanted))
        }
    };
    let import = becomes("it is told", &running, reason("AddressesExhausted")).await;
    let message = import["status"]["conditions"][0]["message"].as_str();
    assert!(message.unwrap().contains("range is full"), "{message:?}");
    assert_eq!(import["spec"].get("ips"), None);
    let store = berlin.cluster.store();
    store.delete(("v1", "Service"), ("shop", "user-0")).unwrap();
    let import = becomes("it has an address", &running, || {
        find(berlin, IMPORT, ("shop", "web")).filter(|import| import["spec"].get("ips").is_some())
    })
    .await;
    assert_eq!(import["spec"]["ips"].as_array().map(Vec::len), Some(1));
    controller.stop().await;
}
