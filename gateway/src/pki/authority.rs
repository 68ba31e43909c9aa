//! Who issues: the root of a set, the intermediate of a member, and the leaf of a gateway.

use std::{fmt, time::Duration};

use landbridge_model::{ClusterId, ClusterSetId, Hostname, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{PkiError, Request, Validity, certificates, kind, pem, spiffe_id};
use crate::identity::{GatewayId, SpiffeId};

const MEMBER: &str = "the member's certificate";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a root lasts. Changing one means touching every member, so it outlives most clusters.
const ROOT_LIFETIME: Duration = DAY.saturating_mul(3650);
/// How long a member's intermediate lasts: the hub may be away for weeks.
const MEMBER_LIFETIME: Duration = DAY.saturating_mul(90);
/// How long a gateway's leaf lasts: so short that a stolen one needs no revocation list.
const LEAF_LIFETIME: Duration = DAY;
/// Certificates are valid from a little before they are made, since clocks of two machines disagree.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// The root of a set: signs the intermediates of its members.
pub struct Root {
    authority: Authority,
    set: ClusterSetId,
}

impl Root {
    /// Makes a new root for `set`, valid for ten years from `now`.
    ///
    /// # Errors
    /// [`PkiError::Issue`] where the cryptographic library refuses.
    pub fn generate(set: &ClusterSetId, now: Timestamp) -> Result<Self, PkiError> {
        const WHAT: &str = "the root certificate";
        let id = SpiffeId::Set(set.clone());
        let mut params = params(WHAT, &id, now, ROOT_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyCertSign];
        let key = generate(WHAT)?;
        let issued = params.self_signed(&key).map_err(|problem| issue(WHAT, problem))?;
        Ok(Self {
            authority: Authority::new(WHAT, issued.der(), issued.pem(), key)?,
            set: set.clone(),
        })
    }

    /// Reads a root and its key.
    ///
    /// # Errors
    /// [`PkiError`] says which is wrong, and how.
    pub fn from_pem(cert: &str, key: &str) -> Result<Self, PkiError> {
        const WHAT: &str = "the root certificate";
        let (authority, id) = Authority::from_pem(WHAT, cert, key)?;
        match id {
            SpiffeId::Set(set) => Ok(Self { authority, set }),
            other => Err(kind(WHAT, &other, "a set's root".into())),
        }
    }

    /// The set.
    #[must_use]
    pub fn set(&self) -> &ClusterSetId {
        &self.set
    }

    /// Signs an intermediate for the member `cluster`, valid for 90 days from `now`.
    ///
    /// # Errors
    /// [`PkiError::Issue`] where the cryptographic library refuses.
    pub fn issue_member(&self, cluster: &ClusterId, now: Timestamp) -> Result<Member, PkiError> {
        let key = generate(MEMBER)?;
        let issued = self.member(cluster, &key, now)?;
        Ok(Member {
            authority: Authority::new(MEMBER, issued.der(), issued.pem(), key)?,
            set: self.set.clone(),
            cluster: cluster.clone(),
        })
    }

    /// The same for a key that stays with the member. Of what it asks for its key alone counts.
    ///
    /// # Errors
    /// [`PkiError::Issue`] where the cryptographic library refuses.
    pub fn sign_member(
        &self,
        cluster: &ClusterId,
        request: &Request,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        Ok(self.member(cluster, request.key(), now)?.pem())
    }

    fn member(
        &self,
        cluster: &ClusterId,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<rcgen::Certificate, PkiError> {
        let id = SpiffeId::Member { set: self.set.clone(), cluster: cluster.clone() };
        let mut params = params(MEMBER, &id, now, MEMBER_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.signed_by(key, &self.authority.issuer).map_err(|problem| issue(MEMBER, problem))
    }

    /// The certificate of the set's authority, followed by the root's, and its key. It is signed by the root itself, which
    /// tells it from whatever a member may sign.
    pub(crate) fn issue_authority(
        &self,
        now: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        const WHAT: &str = "the authority's certificate";
        let id = SpiffeId::Authority(self.set.clone());
        let mut params = params(WHAT, &id, now, LEAF_LIFETIME)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = generate(WHAT)?;
        let issued = params
            .signed_by(&key, &self.authority.issuer)
            .map_err(|problem| issue(WHAT, problem))?;
        let root = certificates(WHAT, &self.authority.cert_pem)?.swap_remove(0);
        Ok((vec![issued.der().clone(), root], PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        self.authority.cert_pem.clone()
    }

    /// The private key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.authority.key_pem.clone()
    }
}

impl fmt::Debug for Root {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("set", &self.set).finish_non_exhaustive()
    }
}

/// The intermediate of one member: signs the leaves of its gateways.
pub struct Member {
    authority: Authority,
    set: ClusterSetId,
    cluster: ClusterId,
}

impl Member {
    /// Reads an intermediate and its key.
    ///
    /// # Errors
    /// [`PkiError`] says which is wrong, and how.
    pub fn from_pem(cert: &str, key: &str) -> Result<Self, PkiError> {
        let (authority, id) = Authority::from_pem(MEMBER, cert, key)?;
        match id {
            SpiffeId::Member { set, cluster } => Ok(Self { authority, set, cluster }),
            other => Err(kind(MEMBER, &other, "a member's".into())),
        }
    }

    /// The set that it belongs to.
    #[must_use]
    pub fn set(&self) -> &ClusterSetId {
        &self.set
    }

    /// The cluster, the only one for whose gateways it may sign.
    #[must_use]
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// When it may sign.
    ///
    /// # Errors
    /// [`PkiError::Pem`] where its certificate cannot be read again.
    pub fn valid(&self) -> Result<Validity, PkiError> {
        let chain = certificates(MEMBER, &self.authority.cert_pem)?;
        Validity::of(&chain).map_err(|problem| pem(MEMBER, &problem))
    }

    /// Signs a certificate for the gateway replica `name` of this member, valid for 24 hours from `now`, for
    /// dialling and for being dialled. `generation` counts how often the member has joined.
    ///
    /// # Errors
    /// [`PkiError::Issue`] where the cryptographic library refuses.
    pub fn issue_gateway(
        &self,
        generation: u64,
        name: &Hostname,
        now: Timestamp,
    ) -> Result<Leaf, PkiError> {
        self.issue(
            GatewayId {
                set: self.set.clone(),
                cluster: self.cluster.clone(),
                generation,
                gateway: name.clone(),
            },
            now,
        )
    }

    /// Signs whatever it is asked to: tests forge with it what no honest member issues.
    pub(crate) fn issue(&self, id: GatewayId, now: Timestamp) -> Result<Leaf, PkiError> {
        const WHAT: &str = "the gateway's certificate";
        let mut params = params(WHAT, &SpiffeId::Gateway(id.clone()), now, LEAF_LIFETIME)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = generate(WHAT)?;
        let issued = params
            .signed_by(&key, &self.authority.issuer)
            .map_err(|problem| issue(WHAT, problem))?;
        Ok(Leaf {
            id,
            cert_pem: issued.pem(),
            issuer_pem: self.authority.cert_pem.clone(),
            key_pem: key.serialize_pem(),
        })
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        self.authority.cert_pem.clone()
    }

    /// The private key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.authority.key_pem.clone()
    }
}

impl fmt::Debug for Member {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("set", &self.set)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// The certificate and key of one gateway replica.
pub struct Leaf {
    id: GatewayId,
    cert_pem: String,
    issuer_pem: String,
    key_pem: String,
}

impl Leaf {
    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &GatewayId {
        &self.id
    }

    /// The certificate alone as PEM.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        self.cert_pem.clone()
    }

    /// The certificate followed by its member's, as a gateway shows them to its peers.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        format!("{}{}", self.cert_pem, self.issuer_pem)
    }

    /// The private key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key_pem.clone()
    }
}

impl fmt::Debug for Leaf {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A certificate that signs others, and its key.
struct Authority {
    cert_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(
        what: &'static str,
        cert: &CertificateDer<'_>,
        cert_pem: String,
        key: KeyPair,
    ) -> Result<Self, PkiError> {
        Ok(Self {
            cert_pem,
            key_pem: key.serialize_pem(),
            issuer: Issuer::from_ca_cert_der(cert, key).map_err(|problem| issue(what, problem))?,
        })
    }

    fn from_pem(what: &'static str, cert: &str, key: &str) -> Result<(Self, SpiffeId), PkiError> {
        let certificate = certificates(what, cert)?.swap_remove(0);
        let id = spiffe_id(what, &certificate)?;
        let key = KeyPair::from_pem(key).map_err(|problem| pem("its private key", &problem))?;
        Ok((Self::new(what, &certificate, cert.to_owned(), key)?, id))
    }
}

pub(super) fn issue(what: &'static str, problem: rcgen::Error) -> PkiError {
    PkiError::Issue { what, problem }
}

/// A new key on the curve that every TLS library has and that is cheap to sign with.
pub(super) fn generate(what: &'static str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|problem| issue(what, problem))
}

fn params(
    what: &'static str,
    id: &SpiffeId,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, PkiError> {
    let uri = id.to_string();
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now + lifetime;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Landbridge");
    // RFC 5280 allows 64 characters here; the URI name is what counts, this is for people.
    let common: String = uri.trim_start_matches("spiffe://").chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, common);
    let uri = uri.try_into().map_err(|problem| issue(what, problem))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}
