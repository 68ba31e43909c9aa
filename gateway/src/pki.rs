//! The certificates of a clusterset (design, "Identity and access"): the set's root signs an intermediate for each
//! member, and each member signs the leaves of its own gateways. So the hub may be away for weeks.
//!
//! ```text
//! root            spiffe://<set>                                   10 years, on the hub only
//! ├─ authority    spiffe://<set>/authority                         24 hours, of the hub's authority alone
//! └─ member       spiffe://<set>/cluster/<id>                      90 days, may sign nothing but leaves
//!    └─ gateway   spiffe://<set>/cluster/<id>/<generation>/gateway/<name>   24 hours
//! ```
//!
//! X.509 name constraints cannot say "only below this path" of a URI (RFC 5280 section 4.2.1.10 constrains the host
//! part alone, which is the set). What limits a member to its own id is that its certificate carries the id and that
//! the verifier demands it of every leaf below.

mod authority;
mod request;
mod source;

use std::{fmt, sync::Arc};

use k8s_openapi::jiff;
use landbridge_model::{ClusterId, ClusterSetId, Timestamp};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thiserror::Error;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

pub use authority::{Leaf, Member, Root};
pub use request::{MemberKey, Request};
pub use source::{Source, Texts};

use crate::identity::{GatewayId, IdentityError, SpiffeId};

/// The most certificates that a PEM file of ours may hold: a chain is two, a change of roots is two more.
const MAX_CERTIFICATES: usize = 8;

/// Why certificates cannot be made or used.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The certificates do not lead to a root that is trusted.
    #[error("the certificate chain does not lead to one of the root certificates: {problem}")]
    Chain {
        /// What the cryptographic library says.
        problem: String,
    },
    /// The certificate's URI name is not one of ours.
    #[error("{what}: {problem}")]
    Identity {
        /// Which file or certificate.
        what: &'static str,
        /// What is wrong with its name.
        problem: IdentityError,
    },
    /// The key is another certificate's.
    #[error("the private key does not belong to the certificate: {problem}")]
    Key {
        /// What the cryptographic library says.
        problem: String,
    },
    /// A certificate cannot be made.
    #[error("{what} cannot be issued: {problem}")]
    Issue {
        /// Which certificate.
        what: &'static str,
        /// What the cryptographic library says.
        problem: rcgen::Error,
    },
    /// The certificate is not of the kind that is needed there.
    #[error("{what} is {found}, but {wanted} is needed")]
    Kind {
        /// Which file or certificate.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// A PEM text cannot be read.
    #[error("{what} is not readable as PEM: {problem}")]
    Pem {
        /// Which file.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate is not valid at this time.
    #[error("the certificates are valid from {} to {}, and now it is {}: {remedy}", date(valid.from), date(valid.until), date(*now))]
    Time {
        /// When they are.
        valid: Validity,
        /// The time of this machine.
        now: Timestamp,
        /// What to do.
        remedy: &'static str,
    },
}

/// For people, to the second.
pub(crate) fn date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.as_millis().div_euclid(1000));
    at.map_or_else(|_| "never".to_owned(), |at| at.to_string())
}

/// When every certificate of a chain is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// The latest of the beginnings.
    pub from: Timestamp,
    /// The earliest of the ends.
    pub until: Timestamp,
}

impl Validity {
    /// That of a chain in DER.
    ///
    /// # Errors
    /// A sentence, where something in it is no certificate.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let mut all = Self {
            from: Timestamp::from_millis(i64::MIN),
            until: Timestamp::from_millis(i64::MAX),
        };
        for certificate in chain {
            let (_, parsed) =
                X509Certificate::from_der(certificate).map_err(|problem| problem.to_string())?;
            let validity = parsed.validity();
            let millis = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
            all.from = all.from.max(millis(validity.not_before.timestamp()));
            all.until = all.until.min(millis(validity.not_after.timestamp()));
        }
        Ok(all)
    }
}

/// What a gateway proves who it is with, and by what it knows its peers.
pub struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    id: GatewayId,
    valid: Validity,
    /// Where it is to be had again, and what was there.
    source: Option<Arc<(Source, Texts)>>,
}

impl Identity {
    /// Reads a gateway's certificate chain (the leaf, then its member's intermediate), its key, and the set's root;
    /// while roots are being changed there may be more than one.
    ///
    /// # Errors
    /// [`PkiError`] says which of the three is wrong. Whether the chain leads to the root is not checked here: that
    /// is for the peers to say.
    pub fn from_pem(chain: &str, key: &str, root: &str) -> Result<Self, PkiError> {
        let chain = certificates("the certificate chain", chain)?;
        let id = gateway_id(&chain)?;
        let roots = certificates("the root certificate", root)?;
        let set = SpiffeId::Set(id.set.clone());
        for root in &roots {
            let found = spiffe_id("the root certificate", root)?;
            if found != set {
                return Err(kind("the root certificate", &found, format!("{set}")));
            }
        }
        let valid =
            Validity::of(&chain).map_err(|problem| pem("the certificate chain", &problem))?;
        Ok(Self {
            valid,
            source: None,
            key: PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|problem| pem("the private key", &problem))?,
            chain,
            roots,
            id,
        })
    }

    /// The gateway that this is.
    #[must_use]
    pub fn id(&self) -> &GatewayId {
        &self.id
    }

    /// The cluster that it belongs to.
    #[must_use]
    pub fn cluster(&self) -> &ClusterId {
        &self.id.cluster
    }

    /// When its certificates are valid.
    #[must_use]
    pub fn valid(&self) -> Validity {
        self.valid
    }

    /// The files that it was made of, and what they held; none where it is as it is.
    pub(crate) fn source(&self) -> Option<(&Source, &Texts)> {
        self.source.as_deref().map(|(source, texts)| (source, texts))
    }

    /// Whether it may be used at `now`.
    ///
    /// # Errors
    /// [`PkiError::Time`] with what to do.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), PkiError> {
        let remedy = if now < self.valid.from {
            "compare the clock of this machine with that of the one which issued them"
        } else if now >= self.valid.until {
            "issue new ones"
        } else {
            return Ok(());
        };
        Err(PkiError::Time { valid: self.valid, now, remedy })
    }

    /// The clusterset that it belongs to.
    #[must_use]
    pub fn set(&self) -> &ClusterSetId {
        &self.id.set
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            roots: self.roots.clone(),
            id: self.id.clone(),
            valid: self.valid,
            source: self.source.clone(),
        }
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The gateway that a chain speaks for: the leaf must name a gateway and its issuer the same cluster.
pub(crate) fn gateway_id(chain: &[CertificateDer<'_>]) -> Result<GatewayId, PkiError> {
    let [leaf, issuer, ..] = chain else {
        return Err(PkiError::Kind {
            what: "the certificate chain",
            found: "one certificate".into(),
            wanted: "the gateway's followed by its member's".into(),
        });
    };
    let id = match spiffe_id("the gateway's certificate", leaf)? {
        SpiffeId::Gateway(id) => id,
        other => {
            return Err(kind("the gateway's certificate", &other, "a gateway's".into()));
        }
    };
    let wanted = SpiffeId::Member { set: id.set.clone(), cluster: id.cluster.clone() };
    let issuer = spiffe_id("the issuer's certificate", issuer)?;
    if issuer != wanted {
        return Err(kind("the issuer's certificate", &issuer, wanted.to_string()));
    }
    Ok(id)
}

fn kind(what: &'static str, found: &SpiffeId, wanted: String) -> PkiError {
    PkiError::Kind { what, found: found.to_string(), wanted }
}

fn pem(what: &'static str, problem: &dyn fmt::Display) -> PkiError {
    PkiError::Pem { what, problem: problem.to_string() }
}

/// Every certificate of a PEM text; at least one.
pub(crate) fn certificates(
    what: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).take(MAX_CERTIFICATES).collect();
    let read = read.map_err(|problem| pem(what, &problem))?;
    if read.is_empty() {
        return Err(pem(what, &"it holds no certificate"));
    }
    Ok(read)
}

/// The SPIFFE id of a certificate, its only URI name.
pub(crate) fn spiffe_id(what: &'static str, certificate: &[u8]) -> Result<SpiffeId, PkiError> {
    let names = uri_names(certificate).map_err(|problem| pem(what, &problem))?;
    let [name] = &names[..] else {
        return Err(PkiError::Kind {
            what,
            found: format!("a certificate with {} URI names", names.len()),
            wanted: "one with exactly one".into(),
        });
    };
    SpiffeId::parse(name).map_err(|problem| PkiError::Identity { what, problem })
}

/// Every URI among the alternative names of a certificate, in DER.
///
/// # Errors
/// A sentence, where it is no certificate.
pub(crate) fn uri_names(certificate: &[u8]) -> Result<Vec<String>, String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|problem| problem.to_string())?;
    let names = parsed
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten();
    Ok(names
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use landbridge_model::{Hostname, Timestamp};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn leaf(set: &str, cluster: &str) -> (Root, Leaf) {
        let root = Root::generate(&ClusterSetId::parse(set).unwrap(), NOW).unwrap();
        let member = root.issue_member(&ClusterId::parse(cluster).unwrap(), NOW).unwrap();
        let leaf = member.issue_gateway(1, &Hostname::parse("gw-0").unwrap(), NOW).unwrap();
        (root, leaf)
    }

    #[test]
    fn what_is_written_as_pem_is_read_again() {
        let (root, leaf) = leaf("demo", "paris");
        let identity =
            Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &root.cert_pem()).unwrap();
        assert_eq!(identity.id().to_string(), "spiffe://demo/cluster/paris/1/gateway/gw-0");
        let root = Root::from_pem(&root.cert_pem(), &root.key_pem()).unwrap();
        let member = root.issue_member(&ClusterId::parse("tokyo").unwrap(), NOW).unwrap();
        let member = Member::from_pem(&member.cert_pem(), &member.key_pem()).unwrap();
        assert_eq!(member.cluster().as_str(), "tokyo");
        let leaf = member.issue_gateway(7, &Hostname::parse("a").unwrap(), NOW).unwrap();
        let identity =
            Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &root.cert_pem()).unwrap();
        assert_eq!((identity.id().generation, identity.cluster().as_str()), (7, "tokyo"));
    }

    #[test]
    fn files_that_do_not_belong_together_are_told_apart() {
        let (root, paris) = leaf("demo", "paris");
        let (other, _) = leaf("prod", "paris");
        let error = Identity::from_pem(&paris.chain_pem(), &paris.key_pem(), &other.cert_pem());
        assert_eq!(
            error.unwrap_err().to_string(),
            "the root certificate is spiffe://prod, but spiffe://demo is needed"
        );
        let error = Identity::from_pem(&root.cert_pem(), &paris.key_pem(), &root.cert_pem());
        assert!(error.unwrap_err().to_string().contains("followed by its member's"));
        let error = Identity::from_pem("", &paris.key_pem(), &root.cert_pem());
        assert!(error.unwrap_err().to_string().contains("holds no certificate"));
        let error = Identity::from_pem(&paris.chain_pem(), "none", &root.cert_pem());
        assert!(error.unwrap_err().to_string().starts_with("the private key is not readable"));
        assert!(Member::from_pem(&root.cert_pem(), &root.key_pem()).is_err());
        assert!(Root::from_pem(&paris.cert_pem(), &paris.key_pem()).is_err());
    }

    #[test]
    fn no_key_is_ever_printed() {
        let (root, leaf) = leaf("demo", "paris");
        let identity =
            Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &root.cert_pem()).unwrap();
        let text = format!("{root:?} {leaf:?} {identity:?}");
        assert!(!text.contains("PRIVATE") && text.len() < 1_000, "{text}");
    }
}
