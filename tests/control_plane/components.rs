//! The DNS server and a gateway on a real API server, each with the roles of `deploy/rbac` and no others: they are
//! refused nothing, and no right is theirs that they do not use.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use k8s_openapi::jiff;
use kube::{Client, api::ListParams};
use landbridge_api::wellknown::{GATEWAYS, IMPORT, LANDBRIDGE as OURS};
use landbridge_dns::DnsServer;
use landbridge_gateway::{
    Gateway, Register,
    pki::{Identity, Root},
};
use landbridge_model::{ClusterId, Hostname, Namespace, Timestamp};
use prometheus_client::registry::Registry;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::members::{Cluster, DERIVED, LANDBRIDGE, MCS, SLICES, api, becomes};

const SYSTEM: &str = "landbridge-system";
const NAME: &str = "landbridge-gateway-gw-0";

/// An import of `shop/web` with the slice that allots a gateway port to it, a peer, and who the cluster is.
async fn objects(cluster: &Cluster) {
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
        .await;
    for (name, value) in [("cluster.clusterset.k8s.io", "berlin"), ("clusterset.k8s.io", "demo")] {
        cluster
            .create(json!({"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
                "metadata": {"name": name}, "spec": {"value": value}}))
            .await;
    }
    cluster
        .create(json!({"apiVersion": MCS, "kind": "ServiceImport",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"type": "ClusterSetIP", "ips": ["10.96.0.77"], "ipFamilies": ["IPv4"],
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}}))
        .await;
    cluster
        .create(json!({"apiVersion": SLICES, "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": format!("{DERIVED}-gw-v4"),
                "labels": {"kubernetes.io/service-name": DERIVED, "endpointslice.kubernetes.io/managed-by": OURS},
                "annotations": {IMPORT: "web", GATEWAYS: "true"}},
            "ports": [{"name": "tcp-80", "protocol": "TCP", "port": 10_000}], "endpoints": []}))
        .await;
    cluster
        .create(json!({"apiVersion": LANDBRIDGE, "kind": "Peer", "metadata": {"name": "paris"},
            "spec": {"generation": 1, "network": "a"}}))
        .await;
}

fn identity() -> Identity {
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let root = Root::generate(&"demo".parse().unwrap(), now).unwrap();
    let member = root.issue_member(&ClusterId::parse("berlin").unwrap(), now).unwrap();
    let leaf = member.issue_gateway(1, &Hostname::parse("gw-0").unwrap(), now).unwrap();
    Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &root.cert_pem()).unwrap()
}

/// What files of `deploy/rbac` grant, as `verb resource.group`.
fn granted(files: &[&str]) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rbac");
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let mut granted = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            for rule in object["rules"].as_array().into_iter().flatten() {
                for group in list(&rule["apiGroups"]) {
                    for resource in list(&rule["resources"]) {
                        let resource = format!("{resource}.{group}");
                        let verbs = list(&rule["verbs"]);
                        granted.extend(verbs.iter().map(|verb| format!("{verb} {resource}")));
                    }
                }
            }
        }
    }
    granted
}

/// What an account has asked for, in the same words.
fn asked(cluster: &Cluster, account: &str) -> BTreeSet<String> {
    let user = format!("system:serviceaccount:{SYSTEM}:{account}");
    let events = cluster.server.audited();
    let of_account = events.iter().filter(|event| event["user"]["username"] == user.as_str());
    let with_object = of_account.filter(|event| event["objectRef"]["resource"].is_string());
    with_object
        .map(|event| {
            let part = |name: &str| event["objectRef"][name].as_str().unwrap_or_default();
            let subresource = match part("subresource") {
                "" => String::new(),
                name => format!("/{name}"),
            };
            let verb = event["verb"].as_str().unwrap();
            format!("{verb} {}{subresource}.{}", part("resource"), part("apiGroup"))
        })
        .collect()
}

/// Loopback that no other process of this kind is likely to have.
fn address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (high & 0x3f), low, 201)
}

async fn start_gateway(client: Client, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let listen = address();
    let config = landbridge_gateway::Config {
        cluster: ClusterId::parse("berlin").unwrap(),
        set: "demo".parse().unwrap(),
        name: Hostname::parse("gw-0").unwrap(),
        system_namespace: Namespace::parse(SYSTEM).unwrap(),
        listen: vec![listen.into()],
        link: SocketAddr::from((listen, 0)),
        identity: identity(),
        register: Some(Register { admin_port: 9 }),
        operation: landbridge_gateway::Operation::default(),
    };
    let gateway = Gateway::bind(config, client, &mut Registry::default()).await.unwrap();
    let (handle, until) = (gateway.handle(), stop.clone());
    let running = tokio::spawn(async move { gateway.run(until).await.unwrap() });
    becomes("the gateway listens", async || handle.is_ready().then_some(())).await;
    running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_and_gateways_use_all_of_their_roles_and_nothing_else() {
    let cluster = Cluster::start("components").await;
    for file in ["controller.yaml", "dns.yaml", "gateway.yaml", "gateway-register.yaml"] {
        cluster.apply(file, "").await;
    }
    objects(&cluster).await;
    let stop = CancellationToken::new();

    let config = landbridge_dns::Config {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        ..landbridge_dns::Config::default()
    };
    let of_dns = cluster.client_of(SYSTEM, "landbridge-dns").await;
    let dns = DnsServer::bind(config, of_dns.clone(), &mut Registry::default()).await.unwrap();
    let (answers, until) = (dns.handle(), stop.clone());
    let dns = tokio::spawn(async move { dns.run(until).await.unwrap() });
    becomes("dns knows the import", async || {
        answers.snapshot().to_string().contains("10.96.0.77").then_some(())
    })
    .await;

    let of_gateway = cluster.client_of(SYSTEM, "landbridge-gateway").await;
    // The command asks who the cluster is before it starts a gateway.
    let properties = api(&of_gateway, "about.k8s.io/v1beta1", "ClusterProperty", "");
    properties.get("cluster.clusterset.k8s.io").await.unwrap();
    let gateway = start_gateway(of_gateway.clone(), &stop).await;
    // No API server takes its slice, since it listens on loopback here; that it may make one is what counts.
    let tried = "create endpointslices.discovery.k8s.io".to_owned();
    let registered = async || {
        let leases = api(&cluster.admin, "coordination.k8s.io/v1", "Lease", SYSTEM);
        leases.get_opt(NAME).await.unwrap().is_some()
    };
    becomes("the gateway registers", async || {
        let has_tried = asked(&cluster, "landbridge-gateway").contains(&tried);
        (has_tried && registered().await).then_some(())
    })
    .await;
    becomes("the gateway tells of its links", async || {
        let peers = api(&cluster.admin, LANDBRIDGE, "Peer", "");
        let peer = peers.get("paris").await.unwrap();
        let conditions = peer.data["status"]["conditions"].as_array()?.clone();
        assert_eq!(conditions[0]["observedGeneration"], 1);
        peer.data["status"]["links"].get("gw-0").is_some().then_some(())
    })
    .await;
    stop.cancel();
    gateway.await.unwrap();
    dns.await.unwrap();
    becomes("the gateway takes its registration back", async || {
        (!registered().await).then_some(())
    })
    .await;

    let forbidden = cluster.server.forbidden();
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
    assert_eq!(asked(&cluster, "landbridge-dns"), granted(&["dns.yaml"]));
    let files = ["gateway.yaml", "gateway-register.yaml"];
    let mut of_gateways = granted(&files);
    // Nobody calls here, so that nobody is kept out, which is what Events tell.
    assert!(of_gateways.remove("create events.events.k8s.io"));
    assert_eq!(asked(&cluster, "landbridge-gateway"), of_gateways);
    for client in [of_dns, of_gateway] {
        let secrets = api(&client, "v1", "Secret", "").list(&ListParams::default()).await;
        assert!(secrets.is_err(), "nobody here reads a Secret");
    }
}
