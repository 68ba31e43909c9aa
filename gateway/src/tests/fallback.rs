//! Links over TCP: found where UDP does not pass, left where it passes again; and what strangers find at that port.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::version::TLS13;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    strangers::Anyone,
    world::{Path, Site, World, fresh_ip, id, named, pair_of, pod, until},
};
use crate::{
    health::LinkState,
    metrics::Direction,
    pki::Identity,
    transport::{self, Carrier},
};

const FORWARD: &[u8] = b"landbridge-h2/1";

fn carriers(site: &Site, peer: &str) -> Vec<Carrier> {
    let links = site.core.links.to(&id(peer));
    links.iter().map(|link| link.connection.carrier()).collect()
}

/// A path of TCP beside one of UDP that can stand still: nothing is lost on it, and nothing comes.
struct TcpPath {
    still: Arc<AtomicBool>,
}

impl TcpPath {
    async fn beside(at: SocketAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let still = Arc::new(AtomicBool::new(false));
        let stands = Arc::clone(&still);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(pass(near_in, far_out, Arc::clone(&stands)));
                tokio::spawn(pass(far_in, near_out, Arc::clone(&stands)));
            }
        });
        Self { still }
    }

    fn stands_still(&self, still: bool) {
        self.still.store(still, Ordering::Relaxed);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    still: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        while still.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Only berlin dials, by a path that can be cut for UDP and stand still for TCP.
async fn by_a_path(world: &World, pod: SocketAddr) -> (Site, Site, Path, TcpPath) {
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    let way = Path::to(paris.link_address()).await;
    let over_tcp = TcpPath::beside(way.address, paris.link_address()).await;
    paris.knows("berlin", &[]);
    paris.exports(&[pod], false);
    berlin.knows("paris", &[way.address]);
    berlin.imports(&["paris"]).await;
    (berlin, paris, way, over_tcp)
}

/// Section 10, gateway-fallback: "found within 1 s".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_does_not_pass_tcp_is_found_within_a_second() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let world = World::new();
    let pod = named("paris", &heard).await;
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    let way = Path::to(paris.link_address()).await;
    way.cut(true);
    let _tcp = TcpPath::beside(way.address, paris.link_address()).await;
    paris.knows("berlin", &[]);
    paris.exports(&[pod], false);
    berlin.imports(&["paris"]).await;
    let begun = Instant::now();
    berlin.knows("paris", &[way.address]);
    berlin.linked("paris").await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(carriers(&berlin, "paris"), [Carrier::Tcp]);
    assert_eq!(berlin.ask("over TCP?").await.unwrap(), "paris");
    assert_eq!(carriers(&paris, "berlin"), [Carrier::Tcp]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_passes_nobody_dials_over_tcp() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, _paris) = pair_of(World::new(), named("paris", &heard).await).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(carriers(&berlin, "paris").iter().all(|over| *over == Carrier::Quic));
}

/// Design, "Gateway": "Either side may dial; streams open both ways".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_nobody_can_dial_is_called_over_tcp() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let world = World::over_tcp();
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    paris.knows("berlin", &[]);
    berlin.knows("paris", &[paris.link_address()]);
    berlin.exports(&[named("berlin", &heard).await], false);
    paris.imports(&["berlin"]).await;
    paris.linked("berlin").await;
    assert_eq!(paris.ask("who is there?").await.unwrap(), "berlin");
    assert_eq!(carriers(&paris, "berlin"), [Carrier::Tcp]);
}

/// "tried back to QUIC later": new calls go over QUIC, open ones end where they are, and then the link over TCP goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_udp_passes_again_quic_takes_the_place_of_tcp_and_cuts_nothing() {
    let echo = pod(|mut client| async move {
        let (mut read, mut write) = client.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let world = World::over_tcp();
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    paris.knows("berlin", &[]);
    paris.exports(&[echo], false);
    berlin.knows("paris", &[paris.link_address()]);
    berlin.imports(&["paris"]).await;
    berlin.linked("paris").await;
    let mut open = berlin.call().await;
    let mut byte = [0];
    open.write_all(b"1").await.unwrap();
    open.read_exact(&mut byte).await.unwrap();
    berlin.core.transport.block_udp(false);
    until("QUIC is there", || carriers(&berlin, "paris").contains(&Carrier::Quic)).await;
    let before = berlin.core.links.to(&id("paris"));
    let over_tcp = before.iter().find(|link| link.connection.carrier() == Carrier::Tcp).unwrap();
    let streams = over_tcp.view().streams;
    assert_eq!(berlin.ask("new").await.unwrap(), "new");
    assert_eq!(over_tcp.view().streams, streams, "new calls go over QUIC");
    // Longer than an idle link that was replaced has.
    tokio::time::sleep(Duration::from_secs(3)).await;
    open.write_all(b"2").await.unwrap();
    open.read_exact(&mut byte).await.unwrap();
    assert_eq!(byte, *b"2", "the open one goes on");
    open.shutdown().await.unwrap();
    assert_eq!(open.read(&mut byte).await.unwrap(), 0);
    until("TCP is gone", || carriers(&berlin, "paris") == [Carrier::Quic]).await;
    until("there too", || carriers(&paris, "berlin") == [Carrier::Quic]).await;
}

/// A flow lasts as long as both sides speak, which may be for ever: it must not hold a link over TCP for as long. Its pod sees
/// nothing of it, and what the pod says comes over QUIC though the client says no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_moves_to_quic_and_keeps_its_pod() {
    let world = World::over_tcp();
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    let pod = UdpSocket::bind((fresh_ip(), 0)).await.unwrap();
    paris.knows("berlin", &[]);
    paris.exports_udp(&[pod.local_addr().unwrap()]);
    berlin.knows("paris", &[paris.link_address()]);
    berlin.imports_udp(&["paris"]).await;
    berlin.linked("paris").await;
    let client = UdpSocket::bind((fresh_ip(), 0)).await.unwrap();
    client.connect(berlin.entry()).await.unwrap();
    client.send(b"hello").await.unwrap();
    let mut buffer = [0; 64];
    let (_, first) = pod.recv_from(&mut buffer).await.unwrap();
    berlin.core.transport.block_udp(false);
    let both = || {
        carriers(&berlin, "paris") == [Carrier::Quic]
            && carriers(&paris, "berlin") == [Carrier::Quic]
    };
    until("TCP is gone", both).await;
    pod.send_to(b"are you there?", first).await.unwrap();
    let count = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut buffer)).await;
    assert_eq!(&buffer[..count.unwrap().unwrap()], b"are you there?");
    client.send(b"yes").await.unwrap();
    let (count, second) = pod.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..count], second), (&b"yes"[..], first), "the same socket");
    assert_eq!(berlin.core.metrics.flows(Direction::Outbound, "connected"), 1, "one flow");
}

/// Design, "Gateway": "Silence of 350 ms makes a peer suspect", and "a hiccup cuts nothing".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_link_over_tcp_is_suspect_and_heals() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let world = World::over_tcp();
    let pod = named("paris", &heard).await;
    let (berlin, _paris, _way, path) = by_a_path(&world, pod).await;
    berlin.linked("paris").await;
    let mut open = berlin.call().await;
    open.write_all(b"before, ").await.unwrap();
    // Long enough for the round trip to be measured.
    tokio::time::sleep(Duration::from_millis(500)).await;
    path.stands_still(true);
    let begun = Instant::now();
    until("suspect", || berlin.link_states("paris") == [LinkState::Suspect]).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(800), "{took:?}");
    path.stands_still(false);
    until("healthy", || berlin.link_states("paris") == [LinkState::Healthy]).await;
    open.write_all(b"after").await.unwrap();
    open.shutdown().await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert_eq!((answer.as_str(), &heard.lock().unwrap()[0][..]), ("paris", "before, after"));
}

/// A peer hears why it is cut, over TCP as over QUIC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_a_close_arrives() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair_of(World::over_tcp(), named("paris", &heard).await).await;
    let link = berlin.core.links.to(&id("paris")).remove(0);
    paris.forgets("berlin");
    let by = tokio::time::timeout(Duration::from_secs(5), link.connection.closed()).await.unwrap();
    assert_eq!(by.to_string(), "refused by the peer: closed by peer: not listed");
    until("it is gone", || paris.core.links.to(&id("berlin")).is_empty()).await;
}

/// A TCP connection to the port of links whose TLS handshake is done as far as its dialler can tell.
async fn tls(
    to: SocketAddr,
    identity: Option<&Identity>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = rustls::ClientConfig::builder_with_provider(transport::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.to_vec()];
    }
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from("anyone").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Waits until the other side hangs up, whatever it says before.
async fn hangs_up(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut buffer = vec![0; 4096];
    let end = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    tokio::time::timeout(Duration::from_secs(12), end).await.expect("it hangs up");
}

async fn refused(site: &Site, identity: Option<&Identity>, reason: &'static str) {
    let before = site.core.metrics.handshake_refusals(reason);
    if let Ok(mut stream) = tls(site.link_address(), identity, FORWARD).await {
        hangs_up(&mut stream).await;
    }
    until(reason, || site.core.metrics.handshake_refusals(reason) == before + 1).await;
}

/// Design, "Identity and access": the same judgement, whatever carries the handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_over_tcp_each_with_its_reason() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (world, berlin, paris) = pair_of(World::over_tcp(), named("paris", &heard).await).await;
    let of = |world: &World, cluster, generation| world.identity(&world.leaf(cluster, generation));
    refused(&paris, None, "no_certificate").await;
    refused(&paris, Some(&of(&World::named("prod"), "berlin", 1)), "unknown_issuer").await;
    refused(&paris, Some(&of(&world, "berlin", 2)), "generation").await;
    refused(&paris, Some(&of(&world, "rome", 1)), "not_listed").await;
    let identity = of(&world, "berlin", 1);
    for (wrong, before) in [(&b"http/1.1"[..], 0), (b"h2", 1), (b"", 2)] {
        assert_eq!(paris.core.metrics.handshake_refusals("protocol"), before);
        if let Ok(mut stream) = tls(paris.link_address(), Some(&identity), wrong).await {
            hangs_up(&mut stream).await;
        }
        let counted = || paris.core.metrics.handshake_refusals("protocol") == before + 1;
        until("protocol", counted).await;
    }
    assert_eq!(berlin.ask("still there?").await.unwrap(), "paris", "the rest goes on");
}

/// What is no TLS, and what is nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_at_the_port_of_links_is_hung_up_on() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair_of(World::over_tcp(), named("paris", &heard).await).await;
    for noise in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n"] {
        let before = paris.core.metrics.handshake_refusals("protocol");
        let mut stream = TcpStream::connect(paris.link_address()).await.unwrap();
        stream.write_all(noise).await.unwrap();
        hangs_up(&mut stream).await;
        until("counted", || paris.core.metrics.handshake_refusals("protocol") > before).await;
    }
    // A load balancer that looks whether somebody listens is no stranger.
    drop(TcpStream::connect(paris.link_address()).await.unwrap());
    // Who says nothing is given up.
    let mut silent = TcpStream::connect(paris.link_address()).await.unwrap();
    hangs_up(&mut silent).await;
    until("slow", || paris.core.metrics.handshake_refusals("timeout") == 1).await;
    assert_eq!(berlin.ask("still there?").await.unwrap(), "paris", "the rest goes on");
}

/// Who has a certificate, and does not say HTTP/2, or says too much of it, or never brings its other half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_link_is_given_up() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (world, berlin, paris) = pair_of(World::over_tcp(), named("paris", &heard).await).await;
    let identity = world.identity(&world.leaf("berlin", 1));
    let refusals = |reason| paris.core.metrics.handshake_refusals(reason);
    let dialled = async || tls(paris.link_address(), Some(&identity), FORWARD).await.unwrap();
    let mut stream = dialled().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    hangs_up(&mut stream).await;
    until("no HTTP/2", || refusals("protocol") == 1).await;
    let open = async |name: String| {
        let (requests, connection) = h2::client::handshake(dialled().await).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = http::Request::builder()
            .method("CONNECT")
            .uri("tie.landbridge")
            .header("landbridge-link", name)
            .body(())
            .unwrap();
        let mut requests = requests.ready().await.unwrap();
        let (response, _send) = requests.send_request(request, false).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(12), response).await.unwrap();
        driven.abort();
        response.is_ok_and(|response| response.status() == 200)
    };
    assert!(!open("x".repeat(60_000)).await);
    assert!(!open("short".to_owned()).await);
    until("a name that is none", || refusals("protocol") >= 2).await;
    let slow = refusals("timeout");
    assert!(!open("a".repeat(32)).await);
    until("its other half", || refusals("timeout") > slow).await;
    assert_eq!(berlin.ask("still there?").await.unwrap(), "paris", "the rest goes on");
}

/// Somebody else listens at an address of a peer: it is no link, and nobody waits for it for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_says_nothing_is_no_link() {
    let world = World::over_tcp();
    let berlin = world.site("berlin");
    let silent = TcpListener::bind((fresh_ip(), 0)).await.unwrap();
    berlin.knows("paris", &[silent.local_addr().unwrap()]);
    until("told", || berlin.core.links.failure(&id("paris")).is_some()).await;
    let failure = berlin.core.links.failure(&id("paris")).unwrap().to_string();
    assert!(failure.contains("over TCP: the handshake took too long"), "{failure}");
}
