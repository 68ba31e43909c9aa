//! The service proxy with real sockets. Each test has its own third octet within 127.211.0.0/16
//! (ClusterIPs), 127.212.0.0/16 (endpoints) and 127.213.0.0/16 (clients).

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use landbridge_embedded::Cluster;
use landbridge_embedded::proxy::{Problem, Protocol, Proxy};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::support::{cluster_with, eventually};

/// The port of every Service here; unprivileged.
const PORT: u16 = 18_080;

/// A cluster, its proxy, and one Service `web` with a TCP port `tcp` and a UDP port `udp`.
struct Bed {
    octet: u8,
    cluster: Cluster,
    proxy: Proxy,
    address: SocketAddr,
}

impl Bed {
    async fn new(octet: u8, affinity: Value) -> Self {
        let cluster = cluster_with(&format!("127.211.{octet}.0/24"), Vec::new()).await;
        let proxy = Proxy::start("paris", cluster.store()).unwrap();
        let mut spec = json!({"ports": [
            {"name": "tcp", "port": PORT}, {"name": "udp", "port": PORT, "protocol": "UDP"}]});
        json_patch::merge(&mut spec, &affinity);
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"}, "spec": spec});
        let service = cluster.store().create(service).unwrap();
        let ip: IpAddr = service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
        Self { octet, cluster, proxy, address: SocketAddr::new(ip, PORT) }
    }

    /// An endpoint of the test, and a client.
    fn endpoint(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, 212, self.octet, last).into()
    }

    fn client(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, 213, self.octet, last).into()
    }

    /// Puts a slice with one endpoint beside the Service.
    fn slice(&self, name: &str, protocol: &str, endpoint: SocketAddr, ready: bool) {
        let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "default",
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": protocol.to_lowercase(), "protocol": protocol, "port": endpoint.port()}],
            "endpoints": [{"addresses": [endpoint.ip().to_string()], "conditions": {"ready": ready}}]});
        self.cluster.store().create(object).unwrap();
    }

    fn set_ready(&self, slice: &str, ready: bool) {
        let kind = ("discovery.k8s.io/v1", "EndpointSlice");
        let mut object = (*self.cluster.store().get(kind, ("default", slice)).unwrap()).clone();
        object["endpoints"][0]["conditions"] = json!({"ready": ready});
        self.cluster.store().update(object).unwrap();
    }

    /// A TCP server that greets with its name and the caller's address, then counts the bytes that
    /// come until the caller has finished, and says the number.
    async fn serve_tcp(&self, name: &'static str, last: u8) -> SocketAddr {
        let listener = TcpListener::bind((self.endpoint(last), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, from)) = listener.accept().await {
                tokio::spawn(async move {
                    let greeting = format!("{name} {}\n", from.ip());
                    stream.write_all(greeting.as_bytes()).await.unwrap();
                    let mut all = Vec::new();
                    if stream.read_to_end(&mut all).await.is_ok() {
                        let count = format!("{} bytes", all.len());
                        stream.write_all(count.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        self.slice(name, "TCP", address, true);
        address
    }

    async fn serve_udp(&self, name: &'static str, last: u8) -> SocketAddr {
        let socket = UdpSocket::bind((self.endpoint(last), 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let answer = format!("{name} {} {said}", from.ip());
                socket.send_to(answer.as_bytes(), from).await.unwrap();
            }
        });
        self.slice(name, "UDP", address, true);
        address
    }

    async fn dial(&self, client: u8) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.client(client), 0))?;
        socket.connect(self.address).await
    }

    /// One whole call: the greeting, then five bytes up, then the count.
    async fn call(&self, client: u8) -> std::io::Result<String> {
        let mut stream = self.dial(client).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said)
    }

    async fn first_call(&self, client: u8) -> String {
        eventually("a call", async || self.call(client).await.ok()).await
    }

    async fn refused(&self, client: u8) {
        eventually("a refusal", async || match self.call(client).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(()),
            _ => None,
        })
        .await;
    }

    /// A datagram and its answer, or `None` when none comes for a while.
    async fn ask(&self, socket: &UdpSocket) -> Option<String> {
        socket.send_to(b"ping", self.address).await.unwrap();
        let mut buffer = [0; 2048];
        let received = timeout(Duration::from_millis(200), socket.recv_from(&mut buffer)).await;
        let (length, from) = received.ok()?.unwrap();
        assert_eq!(from, self.address, "answers come from the address that was asked");
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

#[tokio::test]
async fn tcp_keeps_the_callers_address_and_passes_half_close_on() {
    let bed = Bed::new(1, json!({})).await;
    bed.serve_tcp("one", 1).await;
    assert_eq!(bed.first_call(7).await, "one 127.213.1.7\n5 bytes");
    assert_eq!(bed.call(8).await.unwrap(), "one 127.213.1.8\n5 bytes");
    assert!(bed.proxy.counters().connections >= 2);
    assert_eq!(bed.proxy.problems(), []);
    bed.proxy.stop().await;
}

#[tokio::test]
async fn all_ready_endpoints_of_all_slices_are_used() {
    let bed = Bed::new(2, json!({})).await;
    bed.serve_tcp("one", 1).await;
    bed.serve_tcp("two", 2).await;
    let mut seen = BTreeSet::new();
    eventually("both endpoints", async || {
        seen.insert(bed.call(1).await.ok()?);
        (seen.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_ready_endpoints_connections_are_refused() {
    let bed = Bed::new(3, json!({})).await;
    bed.serve_tcp("one", 1).await;
    bed.first_call(1).await;
    bed.set_ready("one", false);
    bed.refused(1).await;
    bed.set_ready("one", true);
    bed.first_call(1).await;
    let open = bed.dial(1).await.unwrap();
    bed.cluster.store().delete(("v1", "Service"), ("default", "web")).unwrap();
    bed.refused(1).await;
    assert_eq!(still_works(open).await, "one 127.213.3.1\n5 bytes", "open connections stay");
}

async fn still_works(mut open: TcpStream) -> String {
    open.write_all(b"hello").await.unwrap();
    open.shutdown().await.unwrap();
    let mut said = String::new();
    open.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn client_ip_affinity_keeps_a_client_with_its_endpoint() {
    let bed = Bed::new(4, json!({"sessionAffinity": "ClientIP"})).await;
    bed.serve_tcp("one", 1).await;
    bed.first_call(1).await;
    bed.serve_tcp("two", 2).await;
    // Another client draws anew each time that it is a new one, until one has met the second.
    let mut other = 2;
    eventually("the second endpoint", async || {
        other += 1;
        bed.call(other).await.ok()?.starts_with("two").then_some(())
    })
    .await;
    for _ in 0..20 {
        assert!(bed.call(1).await.unwrap().starts_with("one"));
        assert!(bed.call(other).await.unwrap().starts_with("two"));
    }
    bed.set_ready("two", false);
    eventually("the move", async || bed.call(other).await.ok()?.starts_with("one").then_some(()))
        .await;
}

#[tokio::test]
async fn resets_are_passed_on_as_resets() {
    let bed = Bed::new(5, json!({})).await;
    let listener = TcpListener::bind((bed.endpoint(1), 0)).await.unwrap();
    bed.slice("one", "TCP", listener.local_addr().unwrap(), true);
    let mut client = eventually("a connection", async || bed.dial(1).await.ok()).await;
    let (server, _) = listener.accept().await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    let error = client.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "from the server to the client");

    let client = bed.dial(1).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let error = server.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "from the client to the server");
}

#[tokio::test]
async fn an_endpoint_that_does_not_listen_resets_the_client() {
    let bed = Bed::new(6, json!({})).await;
    let port = TcpListener::bind((bed.endpoint(1), 0)).await.unwrap().local_addr().unwrap();
    bed.slice("gone", "TCP", port, true);
    let reset = eventually("a reset", async || {
        let error = bed.call(1).await.unwrap_err();
        (error.kind() != ErrorKind::ConnectionRefused).then_some(error)
    })
    .await;
    assert!([ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&reset.kind()), "{reset}");
    assert!(bed.proxy.counters().failed >= 1);
}

#[tokio::test]
async fn udp_flows_keep_their_endpoint_and_the_callers_address() {
    let bed = Bed::new(7, json!({})).await;
    bed.serve_udp("one", 1).await;
    bed.serve_udp("two", 2).await;
    let socket = UdpSocket::bind((bed.client(9), 0)).await.unwrap();
    let first = eventually("an answer", async || bed.ask(&socket).await).await;
    assert!(first.ends_with(" 127.213.7.9 ping"), "{first}");
    for _ in 0..10 {
        assert_eq!(bed.ask(&socket).await.as_ref(), Some(&first), "one flow, one endpoint");
    }
    let name = first.split(' ').next().unwrap();
    bed.set_ready(name, false);
    eventually("the other endpoint", async || {
        bed.ask(&socket).await.filter(|answer| *answer != first)
    })
    .await;
}

#[tokio::test]
async fn udp_without_ready_endpoints_is_dropped() {
    let bed = Bed::new(8, json!({})).await;
    bed.serve_udp("one", 1).await;
    let socket = UdpSocket::bind((bed.client(1), 0)).await.unwrap();
    eventually("an answer", async || bed.ask(&socket).await).await;
    bed.set_ready("one", false);
    eventually("silence", async || bed.ask(&socket).await.is_none().then_some(())).await;
    assert!(bed.proxy.counters().dropped >= 1);
    bed.set_ready("one", true);
    eventually("an answer again", async || bed.ask(&socket).await).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_problem_with_a_remedy_until_it_is_free() {
    let cluster = cluster_with("127.211.9.0/24", Vec::new()).await;
    let taken = TcpListener::bind(("127.211.9.5", PORT)).await.unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "127.211.9.5", "ports": [{"name": "tcp", "port": PORT}]}});
    cluster.store().create(service).unwrap();
    let proxy = Proxy::start("paris", cluster.store()).unwrap();
    let address = taken.local_addr().unwrap();
    let bed = Bed { octet: 9, cluster, proxy, address };
    bed.serve_tcp("one", 1).await;
    let problem: Problem =
        eventually("the problem", async || bed.proxy.problems().into_iter().next()).await;
    assert_eq!((problem.address, problem.protocol), (address, Protocol::Tcp));
    assert_eq!(problem.service, format!("default/web:{PORT}"));
    assert!(problem.remedy.contains("end the process"), "{problem:?}");
    drop(taken);
    eventually("no problem", async || bed.proxy.problems().is_empty().then_some(())).await;
    bed.first_call(1).await;
}

#[tokio::test]
async fn the_proxy_survives_forgotten_history_and_malformed_objects() {
    let bed = Bed::new(10, json!({})).await;
    bed.serve_tcp("one", 1).await;
    bed.first_call(1).await;
    let store = bed.cluster.store();
    for object in [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad", "namespace": "default"},
            "spec": {"clusterIPs": [7, "x"], "ports": "none"}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "bad", "namespace": "default", "labels": 7}, "endpoints": {"a": 1}}),
    ] {
        store.insert_unchecked(object).unwrap();
    }
    bed.cluster.compact();
    bed.set_ready("one", false);
    bed.refused(1).await;
    bed.cluster.pause().await;
    bed.set_ready("one", true);
    bed.first_call(1).await;
    let kind = ("discovery.k8s.io/v1", "EndpointSlice");
    let mut slice = (*store.get(kind, ("default", "one")).unwrap()).clone();
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": "other"});
    store.update(slice).unwrap();
    bed.refused(1).await;
}
