//! A member's key, which never leaves the member, and what it asks to be signed.

use std::fmt;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData,
};

use super::{
    PkiError,
    authority::{generate, issue},
    pem,
};

const KEY: &str = "the member's key";
const REQUEST: &str = "the certificate signing request";

/// The key of a member's authority.
pub struct MemberKey(KeyPair);

impl MemberKey {
    /// A new one.
    ///
    /// # Errors
    /// [`PkiError::Issue`] where the cryptographic library refuses.
    pub fn generate() -> Result<Self, PkiError> {
        generate(KEY).map(Self)
    }

    /// One that was kept.
    ///
    /// # Errors
    /// [`PkiError::Pem`] where it is none.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        KeyPair::from_pem(text).map(Self).map_err(|problem| pem(KEY, &problem))
    }

    /// To be kept.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// What it asks: a certificate signing request, which proves that whoever asks has the key.
    ///
    /// # Errors
    /// [`PkiError::Issue`] where the cryptographic library refuses.
    pub fn request(&self) -> Result<String, PkiError> {
        let request = CertificateParams::default().serialize_request(&self.0);
        request.and_then(|request| request.pem()).map_err(|problem| issue(REQUEST, problem))
    }
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberKey")
    }
}

/// A certificate signing request, whose signature is right.
#[derive(Clone, Debug)]
pub struct Request(PublicKey);

impl Request {
    /// Reads what [`MemberKey::request`] has written, or another program.
    ///
    /// # Errors
    /// [`PkiError`] where it is none, its signature is wrong, or its key of another kind than ours.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let read = CertificateSigningRequestParams::from_pem(text);
        let key = read.map_err(|problem| pem(REQUEST, &problem))?.public_key;
        // One kind, whose cost is known.
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::Kind {
                what: REQUEST,
                found: format!("of a key of {:?}", key.algorithm()),
                wanted: "a key on P-256, signed with SHA-256".into(),
            });
        }
        Ok(Self(key))
    }

    pub(super) fn key(&self) -> &PublicKey {
        &self.0
    }

    /// Of the key, by which whoever asks is known again.
    #[must_use]
    pub fn key_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }
}

#[cfg(test)]
mod tests {
    use landbridge_model::Timestamp;

    use super::*;
    use crate::pki::{Member, Root};

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    #[test]
    fn a_key_that_stays_where_it_is_signs_with_what_the_root_has_signed() {
        let root = Root::generate(&"prod".parse().unwrap(), NOW).unwrap();
        let key = MemberKey::generate().unwrap();
        let kept = MemberKey::from_pem(&key.to_pem()).unwrap();
        let request = Request::from_pem(&kept.request().unwrap()).unwrap();
        assert_eq!(
            request.key_bytes(),
            Request::from_pem(&key.request().unwrap()).unwrap().key_bytes()
        );
        let signed = root.sign_member(&"berlin".parse().unwrap(), &request, NOW).unwrap();
        let member = Member::from_pem(&signed, &key.to_pem()).unwrap();
        assert_eq!(member.cluster().as_str(), "berlin");
        member.issue_gateway(1, &"gw".parse().unwrap(), NOW).unwrap();
    }

    #[test]
    fn a_request_that_somebody_has_changed_is_none() {
        let text = MemberKey::generate().unwrap().request().unwrap();
        let other = MemberKey::generate().unwrap().request().unwrap();
        for wrong in [
            "",
            "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
            &text[..90],
        ] {
            assert!(Request::from_pem(wrong).is_err(), "{wrong}");
        }
        // The signature of another one.
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        let (mut mixed, other) = (lines(&text), lines(&other));
        let last = mixed.len() - 2;
        mixed[last].clone_from(&other[last]);
        assert!(Request::from_pem(&mixed.join("\n")).is_err());
        assert_eq!(format!("{:?}", MemberKey::generate().unwrap()), "MemberKey");
    }
}
