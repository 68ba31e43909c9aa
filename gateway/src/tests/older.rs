//! A peer of the first release, kept as it was: every byte that it says is written out here, and none of it may be
//! changed. What it says must be understood, and it must never be asked what it does not know.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use quinn::{Connection, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig};
use rustls::version::TLS13;
use tokio::net::UdpSocket;

use super::{
    strangers::Anyone,
    world::{Site, World, fresh_ip, named, until},
};
use crate::{metrics::Direction, pki::Identity, transport};

/// Control message 1: "I read headers of version 1".
const HELLO: [u8; 5] = [1, 0, 2, 1, 1];
/// A header of version 1: a service's stream, TCP, port 80, shop/web, no endpoint, a caller without a name, no address.
const HEADER: &[u8] = b"\x01\x00\x12\x01\x06\x00\x50\x04shop\x03web\x00\x00\x00\x00\x00";
/// An answer of version 1: connected, no text.
const CONNECTED: [u8; 3] = [1, 0, 0];

/// Dials as the first release did: two streams for control, no datagrams.
pub(super) async fn dial(to: SocketAddr, identity: &Identity) -> Connection {
    let mut tls = rustls::ClientConfig::builder_with_provider(transport::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .unwrap();
    tls.alpn_protocols = vec![b"landbridge/1".to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut limits = TransportConfig::default();
    limits.max_concurrent_uni_streams(2_u32.into()).datagram_receive_buffer_size(None);
    limits.keep_alive_interval(Some(std::time::Duration::from_millis(100)));
    config.transport_config(Arc::new(limits));
    let endpoint = Endpoint::client(SocketAddr::new(fresh_ip(), 0)).unwrap();
    let connection = endpoint.connect_with(config, to, "landbridge").unwrap().await.unwrap();
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&HELLO).await.unwrap();
    let mut theirs = connection.accept_uni().await.unwrap();
    let mut head = [0; 4];
    theirs.read_exact(&mut head).await.unwrap();
    assert_eq!((head[0], head[1], head[2]), (1, 0, head[3] + 1), "a hello: {head:?}");
    let mut spoken = vec![0; usize::from(head[3])];
    theirs.read_exact(&mut spoken).await.unwrap();
    assert!(spoken.contains(&1), "the first version is spoken for ever: {spoken:?}");
    // A control stream that ended would be the end of what is said, not of the link; but this one went on.
    std::mem::forget((control, theirs));
    connection
}

/// Answers calls as the first release did, with `paris` and what was asked.
async fn serve(connection: Connection, headers: Arc<Mutex<Vec<Vec<u8>>>>) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let mut prefix = [0; 3];
        recv.read_exact(&mut prefix).await.unwrap();
        let length = usize::from(u16::from_be_bytes([prefix[1], prefix[2]]));
        let mut body = vec![0; length];
        recv.read_exact(&mut body).await.unwrap();
        headers.lock().unwrap().push([&prefix[..], &body].concat());
        if prefix[0] != 1 {
            // "Not spoken here; 1 is."
            send.write_all(&[1, 8, 1, 1]).await.unwrap();
            send.finish().unwrap();
            continue;
        }
        let question = recv.read_to_end(1 << 10).await.unwrap();
        send.write_all(&[&CONNECTED[..], b"paris", &question].concat()).await.unwrap();
        send.finish().unwrap();
    }
}

async fn berlin_and_older_paris() -> (World, Site, Connection) {
    let world = World::new();
    let berlin = world.site("berlin");
    berlin.knows("paris", &[]);
    let identity = world.identity(&world.leaf("paris", 1));
    let paris = dial(berlin.link_address(), &identity).await;
    berlin.linked("paris").await;
    (world, berlin, paris)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_peer_is_called() {
    let (_world, berlin, paris) = berlin_and_older_paris().await;
    let headers = Arc::default();
    tokio::spawn(serve(paris, Arc::clone(&headers)));
    berlin.imports(&["paris"]).await;
    assert_eq!(berlin.ask("?").await.unwrap(), "paris?");
    let headers = headers.lock().unwrap();
    assert_eq!(headers[0][0], 1);
    // The caller's address, which comes last, is a client's of this test.
    assert_eq!(headers[0][3..20], HEADER[3..20], "{headers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_peer_calls() {
    let heard = Arc::default();
    let (_world, berlin, paris) = berlin_and_older_paris().await;
    berlin.exports(&[named("berlin", &heard).await], false);
    let (mut send, mut recv) = paris.open_bi().await.unwrap();
    send.write_all(&[HEADER, b"old"].concat()).await.unwrap();
    send.finish().unwrap();
    let answer = recv.read_to_end(1 << 10).await.unwrap();
    assert_eq!(answer, [&CONNECTED[..], b"berlin"].concat());
    assert_eq!(*heard.lock().unwrap(), ["old"]);
}

/// It would not know what to do with a flow, and is not asked: the client's datagrams go where they can be served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_peer_is_asked_for_no_flow() {
    let (_world, berlin, paris) = berlin_and_older_paris().await;
    let headers = Arc::default();
    tokio::spawn(serve(paris, Arc::clone(&headers)));
    berlin.imports_udp(&["paris"]).await;
    let client = UdpSocket::bind((fresh_ip(), 0)).await.unwrap();
    client.send_to(b"?", berlin.entry()).await.unwrap();
    until("told", || berlin.core.metrics.flows(Direction::Outbound, "no_route") == 1).await;
    assert!(headers.lock().unwrap().is_empty());
}
