//! Who may be on the other end of a link (design, "Identity and access"): the same judgement for who dials and who is
//! dialled.
//!
//! rustls checks the chain to the set's root, dates and signatures. What is checked here is what the names say: one
//! URI, of this set, signed by that very member, which is listed with that generation, and, when dialling, the member
//! that was meant. Each refusal is a log line and a count, and hurts that handshake alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use landbridge_model::{ClusterId, ClusterSetId, Peer, Timestamp};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error as ThisError;

use crate::{
    credentials::Credentials,
    identity::{GatewayId, SpiffeId},
    metrics::Metrics,
    pki::{spiffe_id, uri_names},
    shared::Snapshots,
    transport::{Knock, provider},
};

/// Why a peer was refused.
#[derive(Clone, Debug, Eq, PartialEq, ThisError)]
#[error("a peer that claims to be {claim} is refused: {why}")]
pub(crate) struct Refused {
    /// One word for metrics.
    pub(crate) reason: &'static str,
    /// Who it says it is.
    pub(crate) claim: String,
    /// What is wrong with that, and what would be right.
    pub(crate) why: String,
}

/// What both verifiers judge by.
#[derive(Debug)]
pub(crate) struct Trust {
    set: ClusterSetId,
    snapshots: Arc<Snapshots>,
    credentials: Arc<Credentials>,
    algorithms: WebPkiSupportedAlgorithms,
    metrics: Metrics,
}

impl Trust {
    /// Trusts the roots in force to say who is of `set`, and the snapshots to say who is listed.
    pub(crate) fn new(
        set: ClusterSetId,
        credentials: Arc<Credentials>,
        snapshots: Arc<Snapshots>,
        metrics: Metrics,
    ) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { set, snapshots, credentials, algorithms, metrics }
    }

    /// Judges what a peer showed after its chain was checked with the result `chain`.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        chain: Result<(), Error>,
        expected: Option<&ClusterId>,
    ) -> Result<(), Error> {
        let snapshot = self.snapshots.load();
        let judged = chain
            .map_err(|error| chain_refused(leaf, &error))
            .and_then(|()| judge(&self.set, &snapshot.peers, leaf, intermediates, expected));
        judged.map(drop).map_err(|refused| {
            tracing::warn!(reason = refused.reason, "{refused}");
            self.metrics.handshake_refused(refused.reason);
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        })
    }
}

fn chain_refused(leaf: &[u8], error: &Error) -> Refused {
    let reason = match error {
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "expired",
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "not_yet_valid",
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => "unknown_issuer",
        // A root of another set that goes by the same name.
        Error::InvalidCertificate(CertificateError::BadSignature) => "bad_signature",
        _ => "chain",
    };
    let why = match reason {
        "expired" => {
            format!("{error}: it has to be renewed, or the clock of one of the two is wrong")
        }
        "not_yet_valid" => {
            format!("{error}: compare the clocks of both, one of them is wrong")
        }
        _ => format!("its certificate does not lead to the set's root: {error}"),
    };
    Refused { reason, claim: claim(leaf), why }
}

/// Whether a chain, a gateway's own first, leads to one of `roots` at this time.
pub(crate) fn leads_to(
    roots: &RootCertStore,
    chain: &[CertificateDer<'_>],
    at: Timestamp,
) -> Result<(), Error> {
    let [leaf, intermediates @ ..] = chain else {
        return Err(Error::NoCertificatesPresented);
    };
    let at = u64::try_from(at.as_millis()).unwrap_or_default();
    leads(roots, leaf, intermediates, UnixTime::since_unix_epoch(Duration::from_millis(at)))
}

fn leads(
    roots: &RootCertStore,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    at: UnixTime,
) -> Result<(), Error> {
    let algorithms = provider().signature_verification_algorithms.all;
    let parsed = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, at, algorithms)
}

/// Who a certificate that nobody vouches for says it is, for the log.
fn claim(leaf: &[u8]) -> String {
    match uri_names(leaf).as_deref() {
        Ok([]) => "nobody".to_owned(),
        Ok(names) => {
            let all = names.join(", ");
            all.chars().take(300).collect()
        }
        Err(_) => "something that is no certificate".to_owned(),
    }
}

/// What the names of a chain say, that of a certificate and that of its issuer.
fn judge(
    set: &ClusterSetId,
    peers: &BTreeMap<ClusterId, Peer>,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    expected: Option<&ClusterId>,
) -> Result<GatewayId, Refused> {
    let refused = |reason, why: String| Refused { reason, claim: claim(leaf), why };
    let id = match spiffe_id("its certificate", leaf) {
        Ok(SpiffeId::Gateway(id)) => id,
        Ok(_) => return Err(refused("name", "that is no gateway".to_owned())),
        Err(problem) => return Err(refused("name", problem.to_string())),
    };
    if id.set != *set {
        return Err(refused("set", format!("this is the set {set}")));
    }
    // With exactly one there is no doubt that the chain went through it: a stranger's beside it could lend its name.
    let [issuer] = intermediates else {
        let count = intermediates.len();
        return Err(refused("issuer", format!("{count} intermediates came with it, not one")));
    };
    let wanted = SpiffeId::Member { set: id.set.clone(), cluster: id.cluster.clone() };
    match spiffe_id("its issuer's certificate", issuer) {
        Ok(found) if found == wanted => {}
        Ok(found) => {
            return Err(refused("issuer", format!("{found} has issued its certificate")));
        }
        Err(problem) => return Err(refused("issuer", problem.to_string())),
    }
    if let Some(expected) = expected.filter(|expected| **expected != id.cluster) {
        return Err(refused("unexpected", format!("the address was {expected}'s")));
    }
    match peers.get(&id.cluster) {
        None => Err(refused("not_listed", format!("there is no Peer {}", id.cluster))),
        Some(peer) if peer.generation != id.generation => Err(refused(
            "generation",
            format!("the Peer {} is of generation {}", id.cluster, peer.generation),
        )),
        Some(_) => Ok(id),
    }
}

/// The gateway that an accepted chain speaks for.
pub(crate) fn accepted(chain: &[CertificateDer<'_>]) -> Option<GatewayId> {
    match spiffe_id("the peer's certificate", chain.first()?) {
        Ok(SpiffeId::Gateway(id)) => Some(id),
        _ => None,
    }
}

/// Judges who was dialled.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) trust: Arc<Trust>,
    /// The member whose address it was.
    pub(crate) expected: ClusterId,
}

impl ServerCertVerifier for Dialled {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = leads(&self.trust.credentials.load().roots, leaf, intermediates, now);
        self.trust.judge(leaf, intermediates, chain, Some(&self.expected))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// Takes whoever was dialled to be anybody: for knocking at a hub's door, where what is carried is TLS from end to end with
/// the hub's authority, and judged by the fingerprint in the token. Whoever stands between learns nothing by that.
#[derive(Debug)]
pub(crate) struct Whoever(WebPkiSupportedAlgorithms);

impl Whoever {
    pub(crate) fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Judges who dials.
#[derive(Debug)]
pub(crate) struct Dialling {
    pub(crate) trust: Arc<Trust>,
    /// What the connection has asked for, where there is a door for those without a certificate.
    pub(crate) knock: Option<Arc<Knock>>,
}

impl Dialling {
    fn joins(&self) -> bool {
        self.knock.as_ref().is_some_and(|knock| knock.joins())
    }
}

impl ClientCertVerifier for Dialling {
    fn offer_client_auth(&self) -> bool {
        !self.joins()
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.joins()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let clients = Arc::clone(&self.trust.credentials.load().clients);
        let chain = clients.verify_client_cert(leaf, intermediates, now);
        self.trust.judge(leaf, intermediates, chain.map(drop), None)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
