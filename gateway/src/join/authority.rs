//! How a cluster and the set's authority know each other: TLS from end to end, whatever carries it.
//!
//! ```text
//! authority   chain [leaf, root]            known by the SHA-256 of its root, as a token says, or by the roots of a member
//! member      none, or [leaf, intermediate] known by the set's roots; whether it is listed is for the authority to look up
//! ```
//!
//! The leaf is signed by the root itself. So a member, whose intermediate leads to the same root, cannot stand in its place.

use std::{io, sync::Arc};

use landbridge_model::{ClusterSetId, Timestamp};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use thiserror::Error as ThisError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::token::Fingerprint;
use crate::{
    identity::{GatewayId, SpiffeId},
    pki::{Leaf, PkiError, Root, certificates, gateway_id, spiffe_id},
    transport::provider,
};

/// The protocol that is spoken inside, so that nothing else is taken for it.
const PROTOCOL: &[u8] = b"http/1.1";
/// What is dialled; nobody looks it up, and the certificate names the set instead.
const NAME: &str = "landbridge-authority";

/// By what the authority is known.
#[derive(Clone, Debug)]
pub enum Known {
    /// The SHA-256 of its root's certificate.
    Fingerprint(Fingerprint),
    /// The roots of the set, as PEM.
    Roots(String),
}

/// Why the authority is not believed, for whoever has dialled it.
#[derive(Clone, Debug, Eq, PartialEq, ThisError)]
enum Doubt {
    /// It shows another root.
    #[error("what answers there has another root than the token says: {0}")]
    Root(Fingerprint),
    /// It shows less than a leaf and a root.
    #[error("what answers there shows no root: it is no authority of a set")]
    NoRoot,
    /// It is somebody else.
    #[error("what answers there is {found}, not {wanted}")]
    Name {
        /// What its certificate says.
        found: String,
        /// What it should be.
        wanted: String,
    },
}

/// What the authority shows, and whom it believes. Its certificate lasts a day: it is made anew well before.
///
/// # Errors
/// [`PkiError`] where a root cannot be used.
pub fn server(root: &Root, roots: &str, now: Timestamp) -> Result<Arc<ServerConfig>, PkiError> {
    let (chain, key) = root.issue_authority(now)?;
    let unusable = |problem: Error| PkiError::Chain { problem: problem.to_string() };
    let roots = Arc::new(store(roots)?);
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|problem| PkiError::Chain { problem: problem.to_string() })?;
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(tls))
}

/// Shakes hands with whoever has dialled, and says which member that is; none where it has shown no certificate.
///
/// # Errors
/// A certificate that does not lead to a root of the set, or names no member; whatever is no TLS.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    tls: Arc<ServerConfig>,
    stream: S,
) -> io::Result<(server::TlsStream<S>, Option<GatewayId>)> {
    let stream = TlsAcceptor::from(tls).accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().map(|chain| match chain {
        // With exactly one intermediate there is no doubt that the chain went through it.
        [_, _] => gateway_id(chain).map_err(|problem| problem.to_string()),
        _ => Err(format!("{} certificates instead of two", chain.len())),
    });
    let id = shown.transpose().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    Ok((stream, id))
}

/// Dials the authority of `set` over `stream`, with a member's certificate or without.
///
/// # Errors
/// An authority that is not the one which is `known`; whatever is no TLS.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    known: &Known,
    set: &ClusterSetId,
    leaf: Option<&Leaf>,
) -> io::Result<client::TlsStream<S>> {
    let tls = client(known, set, leaf).map_err(io::Error::other)?;
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(plain)
}

/// A doubt of ours in its own words, and not in the library's around them.
fn plain(error: io::Error) -> io::Error {
    let doubt = error.get_ref().and_then(|inner| match inner.downcast_ref() {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => {
            other.downcast_ref::<Doubt>().cloned()
        }
        _ => None,
    });
    doubt.map_or(error, |doubt| io::Error::new(io::ErrorKind::InvalidData, doubt))
}

fn client(
    known: &Known,
    set: &ClusterSetId,
    leaf: Option<&Leaf>,
) -> Result<ClientConfig, PkiError> {
    let unusable = |problem: Error| PkiError::Chain { problem: problem.to_string() };
    let judge = match known {
        Known::Fingerprint(fingerprint) => Judge::Fingerprint(*fingerprint),
        Known::Roots(roots) => Judge::Roots(store(roots)?),
    };
    let algorithms = provider().signature_verification_algorithms;
    let verifier = Verifier { judge, wanted: SpiffeId::Authority(set.clone()), algorithms };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut tls = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let chain = certificates("the member's certificate", &leaf.chain_pem())?;
            let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes());
            let key = key.map_err(|problem| PkiError::Key { problem: problem.to_string() })?;
            builder.with_client_auth_cert(chain, key).map_err(unusable)?
        }
    };
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_sni = false;
    Ok(tls)
}

fn store(roots: &str) -> Result<RootCertStore, PkiError> {
    let mut store = RootCertStore::empty();
    for root in certificates("the root certificate", roots)? {
        let added = store.add(root);
        added.map_err(|problem| PkiError::Chain { problem: problem.to_string() })?;
    }
    Ok(store)
}

#[derive(Debug)]
enum Judge {
    Fingerprint(Fingerprint),
    Roots(RootCertStore),
}

/// Judges what answers where the authority is said to be.
#[derive(Debug)]
struct Verifier {
    judge: Judge,
    wanted: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn leads(
        &self,
        leaf: &CertificateDer<'_>,
        roots: &RootCertStore,
        now: UnixTime,
    ) -> Result<(), Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        // No intermediate counts: the root itself signs the authority.
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, &[], now, self.algorithms.all)
    }
}

fn doubt(doubt: Doubt) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(doubt))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.judge {
            Judge::Roots(roots) => self.leads(leaf, roots, now)?,
            Judge::Fingerprint(wanted) => {
                let root = others.last().ok_or_else(|| doubt(Doubt::NoRoot))?;
                let found = Fingerprint::of(root);
                if found != *wanted {
                    return Err(doubt(Doubt::Root(found)));
                }
                let mut roots = RootCertStore::empty();
                roots.add(root.clone().into_owned())?;
                self.leads(leaf, &roots, now)?;
            }
        }
        let found = match spiffe_id("its certificate", leaf) {
            Ok(found) if found == self.wanted => return Ok(ServerCertVerified::assertion()),
            Ok(found) => found.to_string(),
            Err(problem) => problem.to_string(),
        };
        Err(doubt(Doubt::Name { found, wanted: self.wanted.to_string() }))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::{join::trust::fingerprint, pki::Member};

    fn now() -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
    }

    fn set() -> ClusterSetId {
        "prod".parse().unwrap()
    }

    fn root() -> Root {
        Root::generate(&set(), now()).unwrap()
    }

    fn member(root: &Root, cluster: &str) -> Member {
        root.issue_member(&cluster.parse().unwrap(), now()).unwrap()
    }

    fn leaf(root: &Root, cluster: &str) -> Leaf {
        member(root, cluster).issue_gateway(3, &"keeper".parse().unwrap(), now()).unwrap()
    }

    /// What each end has at last: the client's view, and whom the server has seen.
    async fn meet(
        server: Arc<ServerConfig>,
        known: &Known,
        leaf: Option<&Leaf>,
    ) -> (io::Result<()>, io::Result<Option<GatewayId>>) {
        let (near, far) = duplex(16 << 10);
        let set = set();
        let dial = async {
            let mut stream = connect(near, known, &set, leaf).await?;
            stream.write_all(b"hello").await?;
            // In TLS 1.3 a client hears only afterwards that it is refused.
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.map(drop)
        };
        let answer = async {
            let (mut stream, id) = accept(server, far).await?;
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await?;
            stream.write_all(b"ok").await?;
            Ok(id)
        };
        tokio::join!(dial, answer)
    }

    fn of(root: &Root) -> Known {
        Known::Fingerprint(fingerprint(&root.cert_pem()).unwrap())
    }

    #[tokio::test]
    async fn whoever_has_a_token_knows_the_authority_by_its_root() {
        let root = root();
        let config = server(&root, &root.cert_pem(), now()).unwrap();
        let (near, far) = meet(Arc::clone(&config), &of(&root), None).await;
        near.unwrap();
        assert_eq!(far.unwrap(), None);
        let other = tests::root();
        let (near, _) = meet(config, &of(&other), None).await;
        let told = near.unwrap_err().to_string();
        assert!(told.contains("has another root than the token says"), "{told}");
    }

    #[tokio::test]
    async fn a_member_is_known_by_its_intermediate_and_knows_the_authority_by_its_roots() {
        let (root, next) = (root(), root());
        let both = format!("{}{}", root.cert_pem(), next.cert_pem());
        for (signs, member_of) in [(&root, &root), (&root, &next), (&next, &root)] {
            let config = server(signs, &both, now()).unwrap();
            let leaf = leaf(member_of, "berlin");
            let (near, far) = meet(config, &Known::Roots(both.clone()), Some(&leaf)).await;
            near.unwrap();
            let id = far.unwrap().unwrap();
            assert_eq!((id.cluster.as_str(), id.generation), ("berlin", 3));
        }
        let stranger = tests::root();
        let config = server(&root, &root.cert_pem(), now()).unwrap();
        let leaf = leaf(&stranger, "berlin");
        let (_, far) = meet(Arc::clone(&config), &of(&root), Some(&leaf)).await;
        assert!(far.is_err());
        let (near, _) = meet(config, &Known::Roots(stranger.cert_pem()), None).await;
        assert!(near.is_err());
    }

    /// Its chain leads to the same root, and it has a key that may sign.
    #[tokio::test]
    async fn no_member_can_stand_in_the_place_of_the_authority() {
        let root = root();
        let leaf = leaf(&root, "tokyo");
        let mut chain = certificates("chain", &leaf.chain_pem()).unwrap();
        chain.push(certificates("root", &root.cert_pem()).unwrap().swap_remove(0));
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let config = Arc::new(config);
        for known in [of(&root), Known::Roots(root.cert_pem())] {
            let (near, _) = meet(Arc::clone(&config), &known, None).await;
            let told = near.unwrap_err().to_string();
            assert!(told.contains("UnknownIssuer"), "{told}");
        }
    }
}
