//! Pure: the set's root as the hub keeps it, and what a token says of it.
//!
//! Whoever reads this Secret can make certificates of any member. So it has a namespace to itself, and never leaves the
//! hub: members are given intermediates, and the fingerprint of the root's certificate.

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, ROOT_SECRET, TRUST_NAMESPACE};
use thiserror::Error;

use super::token::Fingerprint;
use crate::pki::{PkiError, Root, certificates};

/// The names that `landbridge pki root` gives its files, so that a folder of it can be taken as it is.
pub(super) const CERTIFICATE: &str = "root.pem";
pub(super) const KEY: &str = "root-key.pem";
/// Roots that are trusted beside the one that signs: the one that is to sign next, and the one that has signed before.
pub(super) const NEXT: &str = "next.pem";
pub(super) const NEXT_KEY: &str = "next-key.pem";
pub(super) const OLD: &str = "old.pem";
/// How often the hub's state was restored: who has seen a higher one does not follow a lower one.
const EPOCH: &str = "epoch";
/// As `kubectl create secret generic` has it.
const TYPE: &str = "Opaque";

/// Why there is no root to sign with.
#[derive(Debug, Error)]
pub enum TrustError {
    /// One of the two is not in the Secret.
    #[error(
        "Secret {TRUST_NAMESPACE}/{ROOT_SECRET} has no {0}: it is what `landbridge pki root` writes"
    )]
    Missing(&'static str),
    /// What is in it is no root.
    #[error("Secret {TRUST_NAMESPACE}/{ROOT_SECRET} holds no usable root: {0}")]
    Unusable(#[from] PkiError),
}

/// The namespace of everything that makes members.
#[must_use]
pub fn namespace() -> Namespace {
    // No pod is taken here that could read what lies beside it: none is let in at all but the most harmless.
    let labels =
        [(APP_MANAGED_BY, LANDBRIDGE), ("pod-security.kubernetes.io/enforce", "restricted")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Namespace {
        metadata: ObjectMeta {
            labels: Some(labels.into()),
            name: Some(TRUST_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// The root as the hub keeps it.
#[must_use]
pub fn to_secret(root: &Root) -> Secret {
    let data = [(CERTIFICATE, root.cert_pem()), (KEY, root.key_pem())];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    Secret {
        data: Some(data.into()),
        metadata: ObjectMeta {
            labels: Some([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())].into()),
            name: Some(ROOT_SECRET.into()),
            namespace: Some(TRUST_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.into()),
        ..Secret::default()
    }
}

/// What the hub signs with, and all that its members trust.
#[derive(Debug)]
pub struct Trust {
    /// The root that signs.
    pub root: Root,
    /// That root's certificate, and those beside it while roots are changed.
    pub roots: String,
    /// How often the hub's state was restored.
    pub epoch: u64,
}

/// Reads all of it.
///
/// # Errors
/// [`TrustError`] says what is missing or wrong.
pub fn read_all(secret: &Secret) -> Result<Trust, TrustError> {
    let root = read(secret)?;
    let text = |name: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(name));
        value.and_then(|value| std::str::from_utf8(&value.0).ok()).unwrap_or_default()
    };
    let mut roots = root.cert_pem();
    for name in [NEXT, OLD] {
        if !text(name).is_empty() {
            certificates("a root certificate", text(name))?;
            roots.push_str(text(name));
        }
    }
    let epoch = text(EPOCH).trim().parse().unwrap_or_default();
    Ok(Trust { root, roots, epoch })
}

/// Reads what [`to_secret`] writes.
///
/// # Errors
/// [`TrustError`] says what is missing or wrong.
pub fn read(secret: &Secret) -> Result<Root, TrustError> {
    let text = |name: &'static str| {
        let value = secret.data.as_ref().and_then(|data| data.get(name));
        let text = value.and_then(|value| std::str::from_utf8(&value.0).ok());
        text.ok_or(TrustError::Missing(name))
    };
    Ok(Root::from_pem(text(CERTIFICATE)?, text(KEY)?)?)
}

/// By what a root is known again: the SHA-256 of its certificate.
///
/// # Errors
/// [`PkiError`] where the text holds no certificate.
pub fn fingerprint(root_pem: &str) -> Result<Fingerprint, PkiError> {
    Ok(Fingerprint::of(&certificates("the root certificate", root_pem)?[0]))
}

/// The same of each of several.
///
/// # Errors
/// [`PkiError`] where the text holds no certificate.
pub fn fingerprints(roots_pem: &str) -> Result<Vec<Fingerprint>, PkiError> {
    let all = certificates("the root certificates", roots_pem)?;
    Ok(all.iter().map(|root| Fingerprint::of(root)).collect())
}

#[cfg(test)]
mod tests {
    use landbridge_model::{ClusterSetId, Timestamp};

    use super::*;

    fn root() -> Root {
        let now = Timestamp::from_millis(1_790_000_000_000);
        Root::generate(&ClusterSetId::parse("prod").unwrap(), now).unwrap()
    }

    #[test]
    fn the_root_is_read_as_it_was_kept() {
        let root = root();
        let kept = read(&to_secret(&root)).unwrap();
        assert_eq!((kept.cert_pem(), kept.key_pem()), (root.cert_pem(), root.key_pem()));
        assert_eq!(kept.set().as_str(), "prod");
        assert_eq!(fingerprint(&kept.cert_pem()).unwrap().to_string().len(), 64);
    }

    #[test]
    fn several_roots_are_trusted_while_one_takes_the_place_of_another() {
        let (root, next) = (root(), root());
        let mut kept = to_secret(&root);
        assert_eq!(read_all(&kept).unwrap().roots, root.cert_pem());
        let data = kept.data.get_or_insert_default();
        data.insert(NEXT.into(), ByteString(next.cert_pem().into_bytes()));
        data.insert(EPOCH.into(), ByteString(b"3\n".to_vec()));
        let all = read_all(&kept).unwrap();
        assert_eq!((all.root.cert_pem(), all.epoch), (root.cert_pem(), 3));
        assert_eq!(certificates("roots", &all.roots).unwrap().len(), 2);
    }

    #[test]
    fn half_a_root_is_told() {
        for missing in [CERTIFICATE, KEY] {
            let mut kept = to_secret(&root());
            kept.data.get_or_insert_default().remove(missing);
            let told = read(&kept).unwrap_err().to_string();
            assert!(told.contains(&format!("has no {missing}")), "{told}");
        }
        let mut kept = to_secret(&root());
        let key = ByteString(root().cert_pem().into_bytes());
        kept.data.get_or_insert_default().insert(KEY.into(), key);
        assert!(read(&kept).unwrap_err().to_string().contains("holds no usable root"));
    }
}
