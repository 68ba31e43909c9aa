//! The door for those that have no certificate yet: they reach the authority, and nothing that is for peers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use landbridge_model::GatewayAddress;
use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use rustls::version::TLS13;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    strangers::Anyone,
    world::{Path, Site, World, fresh_ip, key, named, pod, until, web},
};
use crate::{
    caller::Source,
    hub::Hub,
    join,
    transport::{self, ALPN, ALPN_JOIN},
    wire::{self, Header},
};

const LONG: Duration = Duration::from_secs(15);

/// An authority that says back what it hears until the one who asks has ended, and then that it was all.
async fn authority() -> SocketAddr {
    pod(|mut client| async move {
        let (mut read, mut write) = client.split();
        if tokio::io::copy(&mut read, &mut write).await.is_ok() {
            let _ = write.write_all(b" was all").await;
        }
    })
    .await
}

/// paris is the hub, and berlin a member of it that serves `shop/web` there too.
fn hub(world: &World, authority: SocketAddr) -> Site {
    let authority = Some(authority.to_string().parse().unwrap());
    world.site_with_hub("paris", Hub { authority, ..Hub::default() })
}

async fn knock(at: SocketAddr) -> Result<impl AsyncRead + AsyncWrite + Unpin, String> {
    let dialled = tokio::time::timeout(LONG, join::dial(&[GatewayAddress(at)])).await;
    dialled.unwrap().map_err(|error| error.to_string())
}

/// Says something, and returns all that is said back.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let asked = async {
        let (mut read, mut write) = tokio::io::split(stream);
        let say = async {
            let _ = write.write_all(words).await;
            let _ = write.shutdown().await;
        };
        let _ = tokio::join!(say, read.read_to_end(&mut heard));
    };
    tokio::time::timeout(LONG, asked).await.expect("it ends");
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_certificate_is_brought_to_the_authority() {
    let world = World::new();
    let paris = hub(&world, authority().await);
    let mut stream = knock(paris.link_address()).await.unwrap();
    let large = vec![b'x'; 100_000];
    let heard = ask(&mut stream, &large).await;
    assert_eq!(heard.len(), large.len() + 8);
    assert!(heard.ends_with(b" was all"));
    until("counted", || paris.core.metrics.hub.joins("done") == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_does_not_pass_the_door_is_found_over_tcp() {
    let world = World::new();
    let paris = hub(&world, authority().await);
    let path = Path::to(paris.link_address()).await;
    path.cut(true);
    let over_tcp = tokio::net::TcpListener::bind(path.address).await.unwrap();
    let target = paris.link_address();
    tokio::spawn(async move {
        let (mut near, _) = over_tcp.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let mut stream = knock(path.address).await.unwrap();
    assert_eq!(ask(&mut stream, b"this").await, b"this was all");
}

/// "Gateways without `--authority` do not offer that ALPN."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_has_no_authority_has_no_door() {
    let world = World::new();
    let berlin = world.site("berlin");
    let at = berlin.link_address();
    let told = knock(at).await.err().unwrap();
    assert!(
        told.contains(&at.to_string()) && told.contains("it is no gateway of the hub"),
        "{told}"
    );
    let told = transport::knock_over_tcp(at).await.err().unwrap().to_string();
    assert!(told.contains("it is no gateway of the hub"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_where_nobody_is_is_told_and_the_next_one_tried() {
    let world = World::new();
    let paris = hub(&world, authority().await);
    let nobody = std::net::TcpListener::bind((fresh_ip(), 0)).unwrap().local_addr().unwrap();
    let told = knock(nobody).await.err().unwrap();
    assert!(told.contains(&format!("{nobody}: over QUIC: ")), "{told}");
    assert!(told.contains("; over TCP: "), "{told}");
    let both = [nobody, paris.link_address()].map(GatewayAddress);
    let mut stream = tokio::time::timeout(LONG, join::dial(&both)).await.unwrap().unwrap();
    assert_eq!(ask(&mut stream, b"this").await, b"this was all");
}

fn client(protocols: &[&[u8]]) -> rustls::ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(transport::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    tls
}

async fn over_quic(to: SocketAddr, protocols: &[&[u8]]) -> Result<quinn::Connection, String> {
    let tls = QuicClientConfig::try_from(client(protocols)).unwrap();
    let endpoint = Endpoint::client(SocketAddr::new(fresh_ip(), 0)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, to, "anyone").unwrap();
    connecting.await.map_err(|error| error.to_string())
}

async fn over_tcp(
    to: SocketAddr,
    protocols: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(to).await?;
    let name = ServerName::try_from("anyone").unwrap();
    TlsConnector::from(Arc::new(client(protocols))).connect(name, tcp).await
}

/// Whatever a stranger offers beside the protocol of the door, or in place of it, he has to show a certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_names_a_protocol_of_links_has_to_show_a_certificate() {
    const FORWARD: &[u8] = b"landbridge-h2/1";
    const BACK: &[u8] = b"landbridge-h2-back/1";
    let world = World::new();
    let paris = hub(&world, authority().await);
    let at = paris.link_address();
    let refusals = || paris.core.metrics.handshake_refusals("no_certificate");
    // Somebody who may join is inside all the time, so that what he was let in with could be mistaken for another's.
    let mut joins = knock(at).await.unwrap();
    joins.write_all(b"this").await.unwrap();
    let quic: [&[&[u8]]; 4] =
        [&[ALPN], &[ALPN, ALPN_JOIN], &[ALPN_JOIN, ALPN], &[ALPN_JOIN, ALPN_JOIN]];
    for protocols in quic {
        let before = refusals();
        if let Ok(connection) = over_quic(at, protocols).await {
            let opened = connection.open_bi().await;
            let ended = tokio::time::timeout(LONG, connection.closed()).await.expect("cut off");
            assert!(ended.to_string().contains("aborted by peer"), "{ended}: {opened:?}");
        }
        until("refused", || refusals() == before + 1).await;
    }
    let tcp: [&[&[u8]]; 5] = [
        &[FORWARD],
        &[BACK],
        &[FORWARD, ALPN_JOIN],
        &[ALPN_JOIN, BACK],
        &[ALPN_JOIN, b"h2", FORWARD],
    ];
    for protocols in tcp {
        let before = refusals();
        if let Ok(mut stream) = over_tcp(at, protocols).await {
            let mut nothing = Vec::new();
            let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut nothing)).await.unwrap();
        }
        until("refused", || refusals() == before + 1).await;
    }
    assert_eq!(ask(&mut joins, b" again").await, b"this again was all");
    assert!(paris.core.links.all().is_empty());
}

/// What comes through the door is for the authority, though it be what a peer would say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_calls_a_service_through_the_door() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let world = World::new();
    let paris = hub(&world, authority().await);
    paris.exports(&[named("paris", &heard).await], false);
    let header = wire::encode_header(&Header {
        service: web(),
        endpoint: None,
        port: key(80),
        source: Source::default(),
        trace: None,
        flow: None,
    });
    let mut stream = knock(paris.link_address()).await.unwrap();
    let echoed = ask(&mut stream, &header).await;
    assert_eq!(echoed, [&header[..], b" was all"].concat());
    assert!(heard.lock().unwrap().is_empty());
    assert!(paris.core.opened.shown()["connections"].as_array().is_none_or(Vec::is_empty));
}

/// One stream, and no more under way than a joining takes; the rest is never read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_has_one_stream() {
    let world = World::new();
    let paris = hub(&world, authority().await);
    let connection = over_quic(paris.link_address(), &[ALPN_JOIN]).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(b"this").await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(300), connection.open_bi()).await;
    assert!(second.is_err(), "a second stream was opened");
    // What nobody reads is bounded by what the connection may have under way.
    let mut aside = connection.open_uni().await.unwrap();
    let flood = vec![0; 4 << 20];
    let flooded = tokio::time::timeout(Duration::from_millis(300), aside.write_all(&flood)).await;
    assert!(flooded.is_err(), "so much was taken");
    send.finish().unwrap();
    let heard = tokio::time::timeout(LONG, recv.read_to_end(1 << 20)).await.unwrap().unwrap();
    assert_eq!(heard, b"this was all");
    let ended = tokio::time::timeout(LONG, connection.closed()).await.unwrap();
    assert!(ended.to_string().contains("closed by peer"), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_too_much_is_cut_off() {
    let world = World::new();
    let paris = hub(&world, authority().await);
    let at = paris.link_address();
    let too_much = vec![0; 300 << 10];
    let mut stream = knock(at).await.unwrap();
    assert!(ask(&mut stream, &too_much).await.len() <= 256 << 10);
    until("counted", || paris.core.metrics.hub.joins("too_large") == 1).await;
    let mut stream = over_tcp(at, &[ALPN_JOIN]).await.unwrap();
    assert!(ask(&mut stream, &too_much).await.len() <= 256 << 10);
    until("counted", || paris.core.metrics.hub.joins("too_large") == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_stands_there_leaves_room_for_others() {
    let world = World::new();
    let paris = hub(&world, authority().await);
    let at = paris.link_address();
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut stream = over_tcp(at, &[ALPN_JOIN]).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        inside.push(stream);
    }
    // Whoever dials hears it at once, or when it has said something.
    match knock(at).await {
        Ok(mut third) => assert_eq!(ask(&mut third, b"third").await, b""),
        Err(told) => assert!(told.contains("too many connections"), "{told}"),
    }
    until("counted", || paris.core.metrics.hub.joins("too_many") == 1).await;
    // From another address there is room.
    let connection = over_quic(at, &[ALPN_JOIN]).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(b"fourth").await.unwrap();
    send.finish().unwrap();
    let heard = tokio::time::timeout(LONG, recv.read_to_end(1 << 20)).await.unwrap().unwrap();
    assert_eq!(heard, b"fourth was all");
    assert_eq!(ask(&mut inside.remove(0), b"y").await, b"y was all");
    until("a place is free", || paris.core.metrics.hub.joins("done") == 2).await;
    let mut again = knock(at).await.unwrap();
    assert_eq!(ask(&mut again, b"again").await, b"again was all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_away_is_told() {
    let world = World::new();
    let nobody = std::net::TcpListener::bind((fresh_ip(), 0)).unwrap().local_addr().unwrap();
    let paris = hub(&world, nobody);
    let mut stream = knock(paris.link_address()).await.unwrap();
    assert_eq!(ask(&mut stream, b"is anybody there?").await, b"");
    until("counted", || paris.core.metrics.hub.joins("authority_away") == 1).await;
}

/// With a door, links are what they are without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_a_door_is_a_peer_like_others() {
    for world in [World::new(), World::over_tcp()] {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let paris = hub(&world, authority().await);
        let berlin = world.site("berlin");
        paris.knows("berlin", &[]);
        paris.exports(&[named("paris", &heard).await], false);
        berlin.knows("paris", &[paris.link_address()]);
        berlin.imports(&["paris"]).await;
        berlin.linked("paris").await;
        // More streams at once, and more under way, than somebody who joins may have.
        let calls = (0..64).map(|_| berlin.ask("hello"));
        for answer in futures::future::join_all(calls).await {
            assert_eq!(answer.unwrap(), "paris");
        }
        let long = "x".repeat(8 << 20);
        assert_eq!(berlin.ask(&long).await.unwrap(), "paris");
        assert_eq!(heard.lock().unwrap().last().map(String::len), Some(long.len()));
    }
}
