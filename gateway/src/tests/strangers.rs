//! Peers that are not who they should be, and noise from those who are: each refused with its reason, and the rest
//! goes on.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use quinn::{Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::world::{Site, World, fresh_ip, id, key, named, now, pair, until, web};
use crate::{
    caller::Source,
    identity::GatewayId,
    pki::{Identity, Leaf},
    transport::{self, ALPN, RecvStream},
    wire::{self, Answer, Header, Refusal},
};

/// Believes anyone: a stranger's client.
#[derive(Debug)]
pub(super) struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = transport::provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Dials with whatever certificate and protocol, and returns why that ended.
async fn intrude(to: SocketAddr, identity: Option<&Identity>, protocol: &[u8]) -> String {
    let builder = rustls::ClientConfig::builder_with_provider(transport::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut tls = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![protocol.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client(SocketAddr::new(fresh_ip(), 0)).unwrap();
    match endpoint.connect_with(config, to, "anyone").unwrap().await {
        Ok(connection) => connection.closed().await.to_string(),
        Err(error) => error.to_string(),
    }
}

async fn refused(site: &Site, identity: Option<&Identity>, reason: &'static str) {
    let before = site.core.metrics.handshake_refusals(reason);
    let ended =
        tokio::time::timeout(Duration::from_secs(15), intrude(site.link_address(), identity, ALPN));
    let ended = ended.await.unwrap_or_else(|_| panic!("{reason}: the stranger was not cut off"));
    assert!(ended.contains("aborted by peer"), "{reason}: {ended}");
    // Others may dial meanwhile, and be refused as well.
    until(reason, || site.core.metrics.handshake_refusals(reason) > before).await;
}

fn forged(world: &World, by: &str, cluster: &str) -> Leaf {
    let member = world.root.issue_member(&id(by), now()).unwrap();
    let id = GatewayId {
        set: world.root.set().clone(),
        cluster: id(cluster),
        generation: 1,
        gateway: landbridge_model::Hostname::parse("gw-0").unwrap(),
    };
    member.issue(id, now()).unwrap()
}

/// A certificate that speaks for two gateways, signed by the member whose one of them is.
fn of_two(world: &World) -> Identity {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
    let member = world.root.issue_member(&id("berlin"), now()).unwrap();
    let key = KeyPair::from_pem(&member.key_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&member.cert_pem(), key).unwrap();
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = ["berlin", "rome"]
        .map(|cluster| format!("spiffe://demo/cluster/{cluster}/1/gateway/gw-0"))
        .map(|uri| SanType::URI(uri.try_into().unwrap()))
        .to_vec();
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, &issuer).unwrap();
    let chain = format!("{}{}", signed.pem(), member.cert_pem());
    parts(world.identity(&world.leaf("berlin", 1)), &chain, &key.serialize_pem())
}

/// An identity from parts that [`Identity::from_pem`] would refuse to put together.
fn assembled(honest: Identity, leaf: &Leaf) -> Identity {
    parts(honest, &leaf.chain_pem(), &leaf.key_pem())
}

fn parts(honest: Identity, chain: &str, key: &str) -> Identity {
    use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
    let mut identity = honest;
    identity.chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    identity.key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    identity
}

/// Design, "Identity and access": "chain by rustls, id by the URI name, issuer's id equal to the leaf's, peer listed
/// with that generation".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_each_with_its_reason() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (world, berlin, paris) = pair(named("paris", &heard).await).await;
    let of = |world: &World, cluster, generation| {
        let leaf = world.leaf(cluster, generation);
        world.identity(&leaf)
    };
    refused(&paris, None, "no_certificate").await;
    refused(&paris, Some(&of(&World::named("prod"), "berlin", 1)), "unknown_issuer").await;
    refused(&paris, Some(&of(&World::named("demo"), "berlin", 1)), "bad_signature").await;
    refused(&paris, Some(&of(&world, "berlin", 2)), "generation").await;
    refused(&paris, Some(&of_two(&world)), "name").await;
    refused(&paris, Some(&of(&world, "rome", 1)), "not_listed").await;
    let forged_leaf = forged(&world, "rome", "berlin");
    let forged_identity = assembled(of(&world, "rome", 1), &forged_leaf);
    refused(&paris, Some(&forged_identity), "issuer").await;
    // The honest intermediate beside the one that signed must not lend its name.
    let mut lent = assembled(of(&world, "rome", 1), &forged_leaf);
    let honest = of(&world, "berlin", 1).chain.pop().unwrap();
    lent.chain.insert(1, honest);
    refused(&paris, Some(&lent), "issuer").await;
    let ended = intrude(paris.link_address(), Some(&of(&world, "berlin", 1)), b"h3").await;
    assert!(ended.contains("aborted by peer"), "{ended}");
    until("protocol", || paris.core.metrics.handshake_refusals("protocol") == 1).await;
    assert_eq!(berlin.ask("still there?").await.unwrap(), "paris", "the rest goes on");
}

/// Who has joined again leaves nothing to whoever has kept the certificate of before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_an_older_generation_is_refused() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (world, berlin, paris) = pair(named("paris", &heard).await).await;
    let old = world.identity(&world.leaf("berlin", 1));
    paris.knows_generation("berlin", 2, &[]);
    until("its link is cut", || berlin.core.links.to(&id("paris")).is_empty()).await;
    drop(berlin);
    refused(&paris, Some(&old), "generation").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_have_their_time() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (world, _berlin, paris) = pair(named("paris", &heard).await).await;
    let at = |millis: i64| {
        let when = landbridge_model::Timestamp::from_millis(now().as_millis() + millis);
        let member = world.root.issue_member(&id("berlin"), now()).unwrap();
        let name = landbridge_model::Hostname::parse("gw-0").unwrap();
        world.identity(&member.issue_gateway(1, &name, when).unwrap())
    };
    let hour = 3_600_000;
    refused(&paris, Some(&at(-25 * hour)), "expired").await;
    refused(&paris, Some(&at(hour)), "not_yet_valid").await;
}

/// Who is dialled must be the member whose address it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_one_member_at_which_another_answers_is_no_link() {
    let world = World::new();
    let (berlin, tokyo) = (world.site("berlin"), world.site("tokyo"));
    tokyo.knows("berlin", &[]);
    berlin.knows("tokyo", &[]);
    berlin.knows("paris", &[tokyo.link_address()]);
    until("refused", || berlin.core.metrics.handshake_refusals("unexpected") > 0).await;
    until("told", || berlin.core.links.failure(&id("paris")).is_some()).await;
    let failure = berlin.core.links.failure(&id("paris")).unwrap().to_string();
    assert!(failure.contains("spiffe://demo/cluster/tokyo/1/gateway/gw-0"), "{failure}");
    assert!(berlin.core.links.all().is_empty());
}

/// A dialler that is not listed finds out, though TLS tells it that the handshake was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialler_that_is_refused_has_no_link() {
    let world = World::new();
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    berlin.knows("paris", &[paris.link_address()]);
    until("refused", || paris.core.metrics.handshake_refusals("not_listed") > 0).await;
    until("told", || berlin.core.links.failure(&id("paris")).is_some()).await;
    assert!(berlin.core.links.all().is_empty());
    paris.knows("berlin", &[]);
    berlin.linked("paris").await;
}

pub(super) async fn answer(recv: &mut RecvStream) -> Answer {
    let mut prefix = [0; wire::ANSWER_PREFIX];
    recv.read_exact(&mut prefix).await.unwrap();
    let (code, length) = wire::answer_prefix(prefix);
    let mut text = vec![0; length];
    recv.read_exact(&mut text).await.unwrap();
    wire::decode_answer(code, &text)
}

/// Sends `bytes` as a stream's first ones, from berlin to paris.
pub(super) async fn say(berlin: &Site, bytes: &[u8]) -> Answer {
    let link = berlin.core.links.to(&id("paris")).remove(0);
    let (mut send, mut recv, _load) = link.open().await.unwrap();
    send.write_all(bytes).await.unwrap();
    tokio::time::timeout(Duration::from_secs(15), answer(&mut recv)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_in_a_header_hurts_only_its_stream() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    let mut open = berlin.call().await;
    let link = berlin.core.links.to(&id("paris")).remove(0).id;
    let noise = [&[1, 0, 16][..], &[0xff; 16]].concat();
    assert_eq!(say(&berlin, &noise).await, Answer::Refused(Refusal::Malformed));
    let huge = [1, 0xff, 0xff];
    assert_eq!(say(&berlin, &huge).await, Answer::Refused(Refusal::Malformed));
    let future = [9, 0, 0];
    let spoken = Refusal::UnsupportedVersion(vec![1, 2, 3]);
    assert_eq!(say(&berlin, &future).await, Answer::Refused(spoken));
    assert_eq!(paris.core.metrics.refusals("malformed"), 2);
    let stands = berlin.core.links.get(&id("paris"), link).is_some();
    assert!(stands, "the link stands");
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    open.write_all(b"still there?").await.unwrap();
    open.shutdown().await.unwrap();
    let mut rest = String::new();
    open.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "paris");
}

/// Who has not read what its cluster exports must not say that it exports nothing: no other of its gateways would be
/// asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_has_just_begun_sends_calls_to_another() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_world, berlin, paris) = pair(named("paris", &heard).await).await;
    paris.has_just_begun();
    let header = Header {
        service: web(),
        endpoint: None,
        port: key(80),
        source: Source::default(),
        trace: None,
        flow: None,
    };
    let answer = say(&berlin, &wire::encode_header(&header)).await;
    assert_eq!(answer, Answer::Refused(Refusal::Draining), "as one that goes, to every version");
    assert_eq!(paris.core.metrics.refusals("not_ready"), 1);
}

/// "A peer reaches exported service ports and nothing else", whatever a header says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_open_relay() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let pod = named("paris", &heard).await;
    let (_world, berlin, _paris) = pair(pod).await;
    let header = Header {
        service: web(),
        endpoint: None,
        port: key(80),
        source: Source::default(),
        trace: None,
        flow: None,
    };
    let not_exported = Answer::Refused(Refusal::NotExported);
    let check = async |change: &dyn Fn(&mut Header)| {
        let mut header = header.clone();
        change(&mut header);
        say(&berlin, &wire::encode_header(&header)).await
    };
    assert_eq!(check(&|_| ()).await, Answer::Connected);
    assert_eq!(check(&|header| header.port = key(81)).await, not_exported);
    assert_eq!(check(&|header| header.port = key(pod.port())).await, not_exported);
    let other = landbridge_model::ServiceKey::parse("kube-system", "web").unwrap();
    assert_eq!(check(&|header| header.service = other.clone()).await, not_exported);
    let udp = check(&|header| header.port.protocol = landbridge_model::Protocol::Udp).await;
    assert_eq!(udp, not_exported);
    let endpoint = landbridge_model::Hostname::parse("10-0-0-1").ok();
    assert_eq!(check(&|header| header.endpoint = endpoint.clone()).await, not_exported);
}
