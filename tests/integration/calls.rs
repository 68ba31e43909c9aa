//! Calls over the whole path: controllers, gateways and service proxies of several clusters, and pods that answer.

use std::{io, net::SocketAddr, time::Duration};

use landbridge_embedded::proxy::Proxy;
use landbridge_gateway::{Config, Gateway, Handle, Register, pki};
use landbridge_model::{ClusterId, Hostname, Namespace, ServiceKey, Timestamp, derived};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, UdpSocket},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    battery::controlling::Controlling,
    controller::{EXPORT, IMPORT, MEMBER, SERVICE, SLICE, control_as, create, find},
    support::{Running, eventually, start},
};

/// The last numbers of addresses in a cluster's block.
const GATEWAY: u8 = 2;
pub(crate) const CLIENT: u8 = 100;
/// Where pods are called from by a gateway, which leaves the choice of its address to the system.
pub(crate) const BY_GATEWAY: &str = "127.0.0.1";

/// The clusters of a set, all of whose parts run; paris has a network to itself, berlin and oslo share one.
pub(crate) struct Set {
    pub(crate) clusters: [Running; 4],
    proxies: Vec<Proxy>,
    controllers: Vec<Controlling>,
    /// Gateways and what stands beside them run until this goes.
    _gateways: DropGuard,
}

fn network(cluster: &str) -> &str {
    if cluster == "paris" { "south" } else { "north" }
}

pub(crate) fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
}

fn namespace(running: &Running, name: &str) {
    create(running, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
}

/// Says which ports a gateway listens on, as its admin endpoint does.
pub(crate) async fn tell_listening(address: SocketAddr, handle: Handle, stop: CancellationToken) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let ports = handle
                .listening()
                .into_iter()
                .map(|(protocol, port)| json!({"protocol": protocol.to_string(), "port": port}));
            let body = json!({"listening": ports.collect::<Vec<_>>()}).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }));
}

async fn run_gateway(running: &Running, root: &pki::Root, stop: &CancellationToken) {
    let cluster = ClusterId::parse(running.cluster.name()).unwrap();
    let name = Hostname::parse("gw-0").unwrap();
    let member = root.issue_member(&cluster, now()).unwrap();
    let leaf = member.issue_gateway(1, &name, now()).unwrap();
    let identity =
        pki::Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &root.cert_pem()).unwrap();
    let listen = running.block.address(GATEWAY);
    let admin = SocketAddr::new(listen, 9_090);
    let config = Config {
        cluster,
        set: root.set().clone(),
        name,
        system_namespace: Namespace::parse("landbridge-system").unwrap(),
        listen: vec![listen],
        link: SocketAddr::new(listen, 4433),
        identity,
        register: Some(Register { admin_port: admin.port() }),
        operation: landbridge_gateway::Operation::default(),
    };
    let mut registry = Registry::with_prefix("landbridge");
    let gateway = Gateway::bind(config, running.client.clone(), &mut registry).await.unwrap();
    tell_listening(admin, gateway.handle(), stop.clone()).await;
    let until = stop.clone();
    tokio::spawn(async move { gateway.run(until).await.unwrap() });
}

impl Set {
    pub(crate) async fn start() -> Self {
        let clusters = start(["hub", "paris", "berlin", "oslo"]).await;
        let [hub, members @ ..] = &clusters;
        let root = pki::Root::generate(&"demo".parse().unwrap(), now()).unwrap();
        let stop = CancellationToken::new();
        let (mut proxies, mut controllers) = (Vec::new(), Vec::new());
        for running in members {
            let name = running.cluster.name();
            namespace(hub, &format!("cluster-{name}"));
            create(
                hub,
                json!({"apiVersion": MEMBER.0, "kind": MEMBER.1, "metadata": {"name": name},
                    "spec": {"generation": 1, "network": network(name)}}),
            );
            namespace(running, "shop");
            namespace(running, "landbridge-system");
            proxies.push(Proxy::start(name, running.cluster.store()).unwrap());
            run_gateway(running, &root, &stop).await;
            let network = network(name).parse().unwrap();
            let controller = control_as(running, hub, |config| config.network = network).await;
            controllers.push(controller);
        }
        Self { clusters, proxies, controllers, _gateways: stop.drop_guard() }
    }

    pub(crate) fn member(&self, name: &str) -> &Running {
        self.clusters.iter().find(|running| running.cluster.name() == name).unwrap()
    }

    /// Waits until a client in `from` that calls `to` is answered so.
    pub(crate) async fn answers(&self, from: &str, to: SocketAddr, expected: &str) {
        let what = format!("{from} that calls {to} is answered {expected:?}");
        let client = SocketAddr::new(self.member(from).block.address(CLIENT), 0);
        eventually(&what, &self.clusters, async || match ask(client, to).await {
            Ok(answer) if answer == expected => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// The ClusterIP of a Service of shop in `cluster`, once it is there.
    pub(crate) async fn address(&self, cluster: &str, service: &str, port: u16) -> SocketAddr {
        let what = format!("{cluster} has {service}");
        let ip = eventually(&what, &self.clusters, async || {
            let service = find(self.member(cluster), SERVICE, ("shop", service));
            let ip =
                service.and_then(|service| service["spec"]["clusterIP"].as_str()?.parse().ok());
            ip.ok_or_else(|| "not yet".to_owned())
        });
        SocketAddr::new(ip.await, port)
    }

    pub(crate) async fn stop(self) {
        for controller in self.controllers {
            controller.stop().await;
        }
        for proxy in self.proxies {
            proxy.stop().await;
        }
    }
}

/// One question and its answer.
pub(crate) async fn ask(from: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(b"who?").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A pod that says its name, and from which address it was called.
pub(crate) async fn pod(running: &Running, last: u8, port: u16, name: &'static str) -> Value {
    let address = running.block.address(last);
    let listener = TcpListener::bind((address, port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            tokio::spawn(async move {
                let mut question = String::new();
                if stream.read_to_string(&mut question).await.is_ok() {
                    let answer = format!("{name} to {}", peer.ip());
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    json!({"addresses": [address.to_string()], "conditions": {"ready": true},
        "targetRef": {"kind": "Pod", "uid": format!("uid-of-{name}")}})
}

pub(crate) fn slice(service: &str, port: &Value, endpoints: &[Value]) -> Value {
    json!({"apiVersion": SLICE.0, "kind": SLICE.1, "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": format!("{service}-x7k2p"),
            "labels": {"kubernetes.io/service-name": service}},
        "ports": [port], "endpoints": endpoints})
}

pub(crate) fn export(running: &Running, service: Value, slice: Value) {
    let metadata = service["metadata"].clone();
    create(running, service);
    create(running, slice);
    create(running, json!({"apiVersion": EXPORT.0, "kind": EXPORT.1, "metadata": metadata}));
}

/// A web server in `cluster` that is exported.
pub(crate) async fn export_web(running: &Running, name: &'static str) {
    let pod = pod(running, 10, 8080, name).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    let port = json!({"name": "http", "protocol": "TCP", "port": 8080});
    export(running, service, slice("web", &port, &[pod]));
}

/// Design, "Import": "Headless across networks: every remote endpoint gets an address that works here […] so that a
/// name means the same pod in every cluster"; worked example B: "db-0 restarts […] same Service, ClusterIPs, 10010 and
/// name".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_headless_endpoint_of_another_network_answers_at_its_own_address() {
    let set = Set::start().await;
    let paris = set.member("paris");
    let mut endpoints = Vec::new();
    for (last, name) in [(10, "db-0"), (11, "db-1")] {
        let mut endpoint = pod(paris, last, 6432, name).await;
        endpoint["hostname"] = json!(name);
        endpoints.push(endpoint);
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "db"},
        "spec": {"clusterIP": "None", "selector": {"app": "db"},
            "ports": [{"name": "pg", "port": 5432, "targetPort": 6432}]}});
    let port = json!({"name": "pg", "protocol": "TCP", "port": 6432});
    export(paris, service, slice("db", &port, &endpoints));

    let [first, second] = ["derived-endjhegtnc", "derived-iip7hlvkla"];
    let first = set.address("berlin", first, 6432).await;
    let second = set.address("berlin", second, 6432).await;
    set.answers("berlin", first, &format!("db-0 to {BY_GATEWAY}")).await;
    set.answers("berlin", second, &format!("db-1 to {BY_GATEWAY}")).await;

    endpoints[0] = pod(paris, 31, 6432, "db-0 again").await;
    endpoints[0]["hostname"] = json!("db-0");
    let mut moved = find(paris, SLICE, ("shop", "db-x7k2p")).unwrap();
    moved["endpoints"] = json!(endpoints);
    paris.cluster.store().update(moved).unwrap();
    set.answers("berlin", first, &format!("db-0 again to {BY_GATEWAY}")).await;
    set.answers("berlin", second, &format!("db-1 to {BY_GATEWAY}")).await;
    set.stop().await;
}

/// Design, "Import": "ready pods of an export here; else pods of same-network members […]; else the local gateways at
/// the port allotted to this service port; never mixed".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_one_network_call_pods_directly_and_gateways_where_none_is_ready() {
    let set = Set::start().await;
    let [paris, berlin] = ["paris", "berlin"].map(|name| set.member(name));
    export_web(berlin, "berlin's pod").await;
    let [oslo, far] = [
        set.address("oslo", "derived-isrlchlhrq", 80).await,
        set.address("paris", "derived-isrlchlhrq", 80).await,
    ];
    let client = set.member("oslo").block.address(CLIENT);
    set.answers("oslo", oslo, &format!("berlin's pod to {client}")).await;
    let import = find(set.member("oslo"), IMPORT, ("shop", "web"));
    let import =
        import.map(|import| import["status"]["conditions"].to_string()).unwrap_or_default();
    assert!(import.contains("DirectRoute"), "direct traffic is told: {import}");
    set.answers("paris", far, &format!("berlin's pod to {BY_GATEWAY}")).await;

    export_web(paris, "paris's pod").await;
    let client = paris.block.address(CLIENT);
    set.answers("paris", far, &format!("paris's pod to {client}")).await;
    let mut unready = find(berlin, SLICE, ("shop", "web-x7k2p")).unwrap();
    unready["endpoints"][0]["conditions"] = json!({"ready": false});
    berlin.cluster.store().update(unready).unwrap();
    set.answers("oslo", oslo, &format!("paris's pod to {BY_GATEWAY}")).await;
    let berlin = set.address("berlin", "derived-isrlchlhrq", 80).await;
    set.answers("berlin", berlin, &format!("paris's pod to {BY_GATEWAY}")).await;
    set.stop().await;
}

/// "A member whose service has an AccessPolicy counts as another network for it": the exporter's gateways hold it for
/// whoever calls, of its own network too, and its own pods call each other as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_guards_is_called_by_whom_it_allows_and_nobody_else() {
    let set = Set::start().await;
    let berlin = set.member("berlin");
    export_web(berlin, "berlin's pod").await;
    let [near, far, own] = [
        set.address("oslo", "derived-isrlchlhrq", 80).await,
        set.address("paris", "derived-isrlchlhrq", 80).await,
        set.address("berlin", "derived-isrlchlhrq", 80).await,
    ];
    let client = set.member("oslo").block.address(CLIENT);
    set.answers("oslo", near, &format!("berlin's pod to {client}")).await;
    create(
        berlin,
        json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "AccessPolicy",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"service": "web", "allow": [{"clusters": ["oslo"]}]}}),
    );
    // Through gateways from now on.
    set.answers("oslo", near, &format!("berlin's pod to {BY_GATEWAY}")).await;
    let client = SocketAddr::new(set.member("paris").block.address(CLIENT), 0);
    eventually("paris is refused", &set.clusters, async || match ask(client, far).await {
        Err(_) => Ok(()),
        Ok(answer) => Err(answer),
    })
    .await;
    let client = berlin.block.address(CLIENT);
    set.answers("berlin", own, &format!("berlin's pod to {client}")).await;
    let policy = ("landbridge.dev/v1alpha1", "AccessPolicy");
    let mut policy = find(berlin, policy, ("shop", "web")).unwrap();
    policy["spec"]["allow"] = json!([{"clusters": ["oslo", "paris"]}]);
    berlin.cluster.store().update(policy).unwrap();
    set.answers("paris", far, &format!("berlin's pod to {BY_GATEWAY}")).await;
    set.stop().await;
}

/// A pod that says its name to every datagram, in `cluster`.
async fn udp_pod(running: &Running, last: u8, port: u16, name: &'static str) -> Value {
    let address = running.block.address(last);
    let socket = UdpSocket::bind((address, port)).await.unwrap();
    tokio::spawn(async move {
        let mut question = [0; 64];
        while let Ok((count, from)) = socket.recv_from(&mut question).await {
            let answer = [name.as_bytes(), &question[..count]].concat();
            let _ = socket.send_to(&answer, from).await;
        }
    });
    json!({"addresses": [address.to_string()], "conditions": {"ready": true}})
}

/// Asks once over UDP; only what comes from where was asked is an answer.
async fn ask_udp(from: SocketAddr, to: SocketAddr) -> Result<String, String> {
    let socket = UdpSocket::bind(from).await.map_err(|error| error.to_string())?;
    socket.connect(to).await.map_err(|error| error.to_string())?;
    socket.send(b"?").await.map_err(|error| error.to_string())?;
    let mut answer = [0; 64];
    match timeout(Duration::from_millis(500), socket.recv(&mut answer)).await {
        Ok(Ok(count)) => Ok(String::from_utf8_lossy(&answer[..count]).into_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// "It carries TCP and UDP": a port number that both protocols have is two services for a gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_cross_two_gateways_beside_connections_of_the_same_number() {
    let set = Set::start().await;
    let paris = set.member("paris");
    let mut endpoint = udp_pod(paris, 10, 8053, "udp").await;
    endpoint["targetRef"] = pod(paris, 10, 8053, "tcp").await["targetRef"].clone();
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 5353, "targetPort": 8053});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "dns"},
        "spec": {"selector": {"app": "dns"}, "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]}});
    let of_pod =
        |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 8053});
    let mut slice = slice("dns", &of_pod("dns", "UDP"), &[endpoint]);
    slice["ports"] = json!([of_pod("dns", "UDP"), of_pod("dns-tcp", "TCP")]);
    export(paris, service, slice);

    let derived = derived::service(&ServiceKey::parse("shop", "dns").unwrap()).to_string();
    let to = set.address("berlin", &derived, 5353).await;
    set.answers("berlin", to, &format!("tcp to {BY_GATEWAY}")).await;
    let client = SocketAddr::new(set.member("berlin").block.address(CLIENT), 0);
    eventually("berlin is answered over UDP", &set.clusters, async || {
        match ask_udp(client, to).await {
            Ok(answer) if answer == "udp?" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    set.stop().await;
}
