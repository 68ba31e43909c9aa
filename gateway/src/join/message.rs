//! Pure: what a cluster and the set's authority say to each other, as JSON.
//!
//! | asked | by | with |
//! | --- | --- | --- |
//! | `POST /v1/join` | whoever has a token | [`Join`] |
//! | `POST /v1/renew` | a member, by its certificate | [`Renew`] |
//!
//! The answer to both is [`Answer`], or [`Refused`] with a status of 4xx; 5xx where the hub's API does not answer.

use data_encoding::BASE64URL_NOPAD;
use landbridge_model::{ClusterId, NetworkName};
use serde::{Deserialize, Serialize};

use super::{
    record::Claim,
    token::{Fingerprint, TokenSecret},
};
use crate::pki::Request;

/// Where a cluster joins.
pub const JOIN: &str = "/v1/join";
/// Where a member renews what it has.
pub const RENEW: &str = "/v1/renew";
/// The most that is read of a question or an answer. A chain of two certificates is a twentieth of it.
pub const MAX_BODY: usize = 64 << 10;

/// Lets a cluster in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// The token's, in base64url.
    pub secret: Secret,
    /// The id that the cluster wants to have.
    pub cluster: String,
    /// The uid of its namespace `kube-system`, by which it is told from another one of the same id.
    pub uid: String,
    /// Its network.
    pub network: String,
    /// What is to be signed, as PEM.
    pub csr: String,
}

/// A secret as text, which is not printed.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl From<&TokenSecret> for Secret {
    fn from(secret: &TokenSecret) -> Self {
        Self(BASE64URL_NOPAD.encode(secret.bytes()))
    }
}

/// A [`Join`] that makes sense.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The token's.
    pub secret: TokenSecret,
    /// Who it wants to be.
    pub cluster: ClusterId,
    /// The uid of its namespace `kube-system`.
    pub uid: String,
    /// Its network.
    pub network: NetworkName,
    /// Whose signature is right.
    pub request: Request,
}

impl Join {
    /// Reads every field.
    ///
    /// # Errors
    /// A sentence that names the one which is wrong.
    pub fn check(&self) -> Result<Joining, String> {
        let secret = BASE64URL_NOPAD.decode(self.secret.0.as_bytes()).ok();
        let secret: Option<[u8; 32]> = secret.and_then(|bytes| bytes.try_into().ok());
        let wrong = |field: &str, problem: &dyn std::fmt::Display| format!("{field}: {problem}");
        // As long as a UUID at least in some form, and as the API writes it.
        let is_uid = (1..=64).contains(&self.uid.len())
            && self.uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_uid {
            return Err(wrong("uid", &"is not the uid of a namespace"));
        }
        Ok(Joining {
            secret: TokenSecret::new(
                secret.ok_or_else(|| wrong("secret", &"is not 32 bytes in base64url"))?,
            ),
            cluster: ClusterId::parse(&self.cluster).map_err(|error| wrong("cluster", &error))?,
            uid: self.uid.clone(),
            network: NetworkName::parse(&self.network).map_err(|error| wrong("network", &error))?,
            request: Request::from_pem(&self.csr).map_err(|error| wrong("csr", &error))?,
        })
    }
}

impl Joining {
    /// Who shows the token: known again by its key, which nobody else has.
    #[must_use]
    pub fn claim(&self) -> Claim {
        let key = Fingerprint::of(self.request.key_bytes());
        Claim { cluster: self.cluster.clone(), key }
    }
}

/// Renews what a member has.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Renew {
    /// What is to be signed, where a new intermediate is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<String>,
    /// The roots that it trusts already, by their SHA-256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// The root that has signed its intermediate, the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// What a member is given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// How often it has joined.
    pub generation: u64,
    /// Its intermediate as PEM, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The roots to be trusted from now on, as PEM.
    pub roots: String,
    /// The SHA-256 of the root that signs now: an intermediate of another one is to be replaced.
    pub signer: String,
    /// How often the hub's state was restored.
    pub epoch: u64,
    /// How the hub's API is reached.
    pub hub: Hub,
}

/// The hub, as a member's controller and gateways need it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hub {
    /// Its id.
    pub cluster: String,
    /// Its network.
    pub network: String,
    /// How often it has joined.
    pub generation: u64,
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where its gateways are dialled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What the certificate of its API leads to, as PEM.
    pub ca: String,
    /// What that certificate is called.
    pub server_name: String,
    /// A bearer token for it; none for the hub's own cluster, which needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// For how many seconds it lasts: clocks of two clusters disagree.
    #[serde(default)]
    pub token_lasts: u64,
}

impl Secret {
    /// A bearer token, which the API server has as text.
    #[must_use]
    pub fn bearer(text: String) -> Self {
        Self(text)
    }

    /// The text, to be kept.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Why something is refused, and what to do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refused {
    /// What is wrong.
    pub error: String,
    /// What whoever asked can do.
    pub remedy: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::MemberKey;

    fn join() -> Join {
        Join {
            secret: Secret::from(&TokenSecret::new([7; 32])),
            cluster: "berlin".into(),
            uid: "7d0a1f7e-11f5-4d7b-9b5f-1f4a3c8a9b10".into(),
            network: "europe".into(),
            csr: MemberKey::generate().unwrap().request().unwrap(),
        }
    }

    #[test]
    fn what_is_said_is_read_again_and_a_secret_is_not_printed() {
        let text = serde_json::to_string(&join()).unwrap();
        let read: Join = serde_json::from_str(&text).unwrap();
        let joining = read.check().unwrap();
        assert_eq!(joining.secret, TokenSecret::new([7; 32]));
        assert_eq!(joining.claim().cluster.as_str(), "berlin");
        let shown = format!("{read:?}{joining:?}");
        assert!(!shown.contains("BwcHBw") && !shown.contains("7, 7, 7, 7"), "{shown}");
    }

    #[test]
    fn each_field_that_makes_no_sense_is_named() {
        for (told, join) in [
            ("secret: is not 32 bytes", Join { secret: Secret("AAAA".into()), ..join() }),
            ("cluster: ", Join { cluster: "Berlin".into(), ..join() }),
            ("uid: is not", Join { uid: String::new(), ..join() }),
            ("uid: is not", Join { uid: "a/b".into(), ..join() }),
            ("network: ", Join { network: "../a".into(), ..join() }),
            ("csr: ", Join { csr: "-----BEGIN".into(), ..join() }),
        ] {
            let found = join.check().unwrap_err();
            assert!(found.starts_with(told), "{found}");
        }
    }

    /// An older member hears of things that it does not know yet.
    #[test]
    fn what_a_later_version_says_more_does_no_harm() {
        let renew: Renew = serde_json::from_str(r#"{"later": 1}"#).unwrap();
        assert_eq!(renew, Renew::default());
    }
}
