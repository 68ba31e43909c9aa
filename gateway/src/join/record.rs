//! Pure: what the hub keeps of a token, as a Secret, and what is answered when the token is shown.
//!
//! A token is used up by one write: whoever shows it first writes down that he did, on the very version of the Secret
//! that he has read. Of several at once the API server takes one write; the others read again, and are refused.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff,
};
use landbridge_api::wellknown::{APP_MANAGED_BY, JOIN_TOKEN, LANDBRIDGE, TRUST_NAMESPACE};
use landbridge_model::{ClusterId, Timestamp};
use thiserror::Error;

use super::token::{Fingerprint, TokenSecret};
use crate::pki::date;

/// The type of a token's Secret: one of our own has no form that an API server checks.
const TYPE: &str = JOIN_TOKEN;
const NAME: &str = "landbridge-token-";

const HASH: &str = "hash";
const CLUSTER: &str = "cluster";
const ISSUED: &str = "issued";
const EXPIRES: &str = "expires";
const USED_AT: &str = "used-at";
const USED_BY: &str = "used-by";
const USED_KEY: &str = "used-key";

/// The name of the Secret of a token.
#[must_use]
pub fn secret_name(id: &str) -> String {
    format!("{NAME}{id}")
}

/// The token that a Secret is of, by its name.
#[must_use]
pub fn id_of(secret: &Secret) -> Option<&str> {
    secret.metadata.name.as_deref()?.strip_prefix(NAME)
}

/// What is known of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Of its secret.
    pub hash: Fingerprint,
    /// The id that whoever uses it has to have, if it was said.
    pub cluster: Option<ClusterId>,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// What became of it.
    pub used: Option<Used>,
}

/// Who used a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Used {
    /// When.
    pub at: Timestamp,
    /// Who he is.
    pub by: ClusterId,
    /// Of what he is known again by.
    pub key: Fingerprint,
}

/// Who shows a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Who he wants to be.
    pub cluster: ClusterId,
    /// Of what he is known again by: a public key, or the uid of his cluster.
    pub key: Fingerprint,
}

/// Where a token stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It lets somebody in.
    Open,
    /// It has let somebody in.
    Used,
    /// It ended before anybody used it.
    Expired,
}

/// Why a token lets nobody in. Each is for whoever shows it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// There is none, or its secret is another.
    #[error(
        "the hub knows no such token: it was revoked, or ended a day ago or more; issue another one with `landbridge token issue`"
    )]
    Unknown,
    /// Its time is over.
    #[error("the token ended at {}: issue another one with `landbridge token issue`", date(*at))]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// Somebody was there before.
    #[error(
        "{by} has used the token at {}, and each lets in one cluster: issue another one with `landbridge token issue`; if that was not you, see who joined", date(*at)
    )]
    Used {
        /// Who.
        by: ClusterId,
        /// When.
        at: Timestamp,
    },
    /// It is another cluster's.
    #[error(
        "the token is for cluster {bound}, not for {asked}: join as {bound}, or issue another one"
    )]
    Bound {
        /// Who may use it.
        bound: ClusterId,
        /// Who tried.
        asked: ClusterId,
    },
}

/// A Secret that is no record. Somebody has changed it by hand.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("Secret {TRUST_NAMESPACE}/{name}: {field} {problem}: delete it, and issue another token")]
pub struct RecordError {
    name: String,
    field: &'static str,
    problem: String,
}

impl Record {
    /// Where it stands at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.used {
            Some(_) => State::Used,
            None if now < self.expires => State::Open,
            None => State::Expired,
        }
    }

    /// What is to be written down before `claim` is let in. The same claim once more is let in again, as long as the
    /// token lasts: an answer may be lost, and what it gives is the same.
    ///
    /// # Errors
    /// [`Refusal`]. Whether the secret is right comes first: who does not know it learns nothing else.
    pub fn admit(
        &self,
        secret: &TokenSecret,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        // How long this takes tells of the hash at most, and from the hash nobody finds the secret.
        if secret.hash() != self.hash {
            return Err(Refusal::Unknown);
        }
        let is_again = |used: &Used| used.by == claim.cluster && used.key == claim.key;
        if let Some(used) = self.used.as_ref().filter(|used| !is_again(used)) {
            return Err(Refusal::Used { by: used.by.clone(), at: used.at });
        }
        if now >= self.expires {
            return Err(Refusal::Expired { at: self.expires });
        }
        if let Some(bound) = self.cluster.as_ref().filter(|bound| **bound != claim.cluster) {
            return Err(Refusal::Bound { bound: bound.clone(), asked: claim.cluster.clone() });
        }
        let Claim { cluster: by, key } = claim.clone();
        let used = self.used.clone().unwrap_or(Used { at: now, by, key });
        Ok(Self { used: Some(used), ..self.clone() })
    }

    /// As the hub keeps it, under the name of `id`.
    #[must_use]
    pub fn to_secret(&self, id: &str) -> Secret {
        let mut data = BTreeMap::new();
        let mut put = |field: &str, text: String| {
            data.insert(field.to_owned(), ByteString(text.into_bytes()));
        };
        put(HASH, self.hash.to_string());
        put(ISSUED, written(self.issued));
        put(EXPIRES, written(self.expires));
        if let Some(cluster) = &self.cluster {
            put(CLUSTER, cluster.to_string());
        }
        if let Some(used) = &self.used {
            put(USED_AT, written(used.at));
            put(USED_BY, used.by.to_string());
            put(USED_KEY, used.key.to_string());
        }
        let labels = [(APP_MANAGED_BY, LANDBRIDGE), (JOIN_TOKEN, id)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Secret {
            data: Some(data),
            metadata: ObjectMeta {
                labels: Some(labels.into()),
                name: Some(secret_name(id)),
                namespace: Some(TRUST_NAMESPACE.into()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.into()),
            ..Secret::default()
        }
    }

    /// Reads what [`Self::to_secret`] writes.
    ///
    /// # Errors
    /// [`RecordError`] names the field.
    pub fn read(secret: &Secret) -> Result<Self, RecordError> {
        let fields = Fields(secret);
        let required = |field| fields.text(field)?.ok_or_else(|| fields.wrong(field, "is missing"));
        let used = match fields.text(USED_AT)? {
            None => None,
            Some(at) => Some(Used {
                at: fields.parse(USED_AT, at, time)?,
                by: fields.parse(USED_BY, required(USED_BY)?, ClusterId::parse)?,
                key: fields.parse(USED_KEY, required(USED_KEY)?, str::parse)?,
            }),
        };
        let cluster = fields.text(CLUSTER)?;
        Ok(Self {
            hash: fields.parse(HASH, required(HASH)?, str::parse)?,
            cluster: cluster.map(|id| fields.parse(CLUSTER, id, ClusterId::parse)).transpose()?,
            issued: fields.parse(ISSUED, required(ISSUED)?, time)?,
            expires: fields.parse(EXPIRES, required(EXPIRES)?, time)?,
            used,
        })
    }
}

/// The fields of a Secret, as text.
struct Fields<'a>(&'a Secret);

impl<'a> Fields<'a> {
    fn text(&self, field: &'static str) -> Result<Option<&'a str>, RecordError> {
        let Some(value) = self.0.data.as_ref().and_then(|data| data.get(field)) else {
            return Ok(None);
        };
        std::str::from_utf8(&value.0).map(Some).map_err(|_| self.wrong(field, "is no text"))
    }

    fn parse<T, E: ToString>(
        &self,
        field: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, RecordError> {
        parse(text).map_err(|problem| self.wrong(field, problem.to_string()))
    }

    fn wrong(&self, field: &'static str, problem: impl Into<String>) -> RecordError {
        let name = self.0.metadata.name.clone().unwrap_or_default();
        RecordError { name, field, problem: problem.into() }
    }
}

/// To the millisecond, as RFC 3339 has it.
fn written(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.as_millis());
    at.map_or_else(|_| "never".to_owned(), |at| at.to_string())
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(|at| Timestamp::from_millis(at.as_millisecond()))
        .map_err(|_| "is no time such as 2026-12-01T12:00:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const ISSUED_AT: Timestamp = Timestamp::from_millis(1_790_000_000_123);

    fn id(text: &str) -> ClusterId {
        ClusterId::parse(text).unwrap()
    }

    fn record(cluster: Option<&str>) -> Record {
        Record {
            hash: secret().hash(),
            cluster: cluster.map(id),
            issued: ISSUED_AT,
            expires: after(HOUR),
            used: None,
        }
    }

    fn secret() -> TokenSecret {
        TokenSecret::new([1; 32])
    }

    fn after(millis: i64) -> Timestamp {
        Timestamp::from_millis(ISSUED_AT.as_millis() + millis)
    }

    fn claim(cluster: &str, key: &str) -> Claim {
        Claim { cluster: id(cluster), key: Fingerprint::of(key.as_bytes()) }
    }

    #[test]
    fn a_token_lets_in_one_cluster_until_it_ends() {
        let open = record(None);
        assert_eq!(open.state(ISSUED_AT), State::Open);
        let used = open.admit(&secret(), &claim("berlin", "k"), after(1)).unwrap();
        assert_eq!(used.state(after(1)), State::Used);
        let told = used.admit(&secret(), &claim("tokyo", "k"), after(2)).unwrap_err().to_string();
        assert!(told.starts_with("berlin has used the token at 2026-09-21T14:13:20Z"), "{told}");
        // Another key of the same name is somebody else too.
        assert!(used.admit(&secret(), &claim("berlin", "other"), after(2)).is_err());
        assert_eq!(open.state(after(HOUR)), State::Expired);
        let told = open.admit(&secret(), &claim("berlin", "k"), after(HOUR)).unwrap_err();
        assert_eq!(told, Refusal::Expired { at: after(HOUR) });
    }

    /// The answer to the first may have been lost with the link that it was on its way over.
    #[test]
    fn who_was_let_in_may_ask_again_while_the_token_lasts() {
        let used = record(None).admit(&secret(), &claim("berlin", "k"), after(1)).unwrap();
        assert_eq!(used.admit(&secret(), &claim("berlin", "k"), after(9)), Ok(used.clone()));
        let late = used.admit(&secret(), &claim("berlin", "k"), after(HOUR));
        assert_eq!(late, Err(Refusal::Expired { at: after(HOUR) }));
    }

    #[test]
    fn a_token_for_one_cluster_is_for_no_other() {
        let bound = record(Some("berlin"));
        let told = bound.admit(&secret(), &claim("tokyo", "k"), after(1)).unwrap_err();
        assert_eq!(
            told.to_string(),
            "the token is for cluster berlin, not for tokyo: join as berlin, or issue another one"
        );
        assert!(bound.admit(&secret(), &claim("berlin", "k"), after(1)).is_ok());
    }

    /// Neither whether it is used nor whom it is for.
    #[test]
    fn who_does_not_know_the_secret_learns_nothing() {
        let guess = TokenSecret::new([2; 32]);
        let used = record(None).admit(&secret(), &claim("berlin", "k"), after(1)).unwrap();
        for record in [record(None), record(Some("berlin")), used] {
            for now in [after(1), after(2 * HOUR)] {
                let refused = record.admit(&guess, &claim("tokyo", "k"), now);
                assert_eq!(refused, Err(Refusal::Unknown));
            }
        }
    }

    #[test]
    fn what_the_hub_keeps_is_read_again_and_holds_no_secret() {
        let used = record(None).admit(&secret(), &claim("berlin", "k"), after(1)).unwrap();
        for record in [record(None), record(Some("berlin")), used] {
            let kept = record.to_secret(&secret().id());
            assert_eq!(id_of(&kept), Some(secret().id().as_str()));
            let kept = serde_json::to_string(&kept).unwrap();
            let kept: Secret = serde_json::from_str(&kept).unwrap();
            assert_eq!(Record::read(&kept), Ok(record));
            for value in kept.data.unwrap().values() {
                assert!(!value.0.windows(8).any(|bytes| bytes == [1; 8]));
            }
        }
    }

    #[test]
    fn a_record_that_was_changed_by_hand_names_the_field() {
        for (field, value, told) in [
            (HASH, Some("abc"), "hash is not a SHA-256 in 64 hexadecimal digits"),
            (EXPIRES, None, "expires is missing"),
            (EXPIRES, Some("tomorrow"), "expires is no time such as 2026-12-01T12:00:00Z"),
            (CLUSTER, Some("Berlin"), "cluster "),
            (USED_AT, Some("2026-12-01T12:00:00Z"), "used-by is missing"),
        ] {
            let mut kept = record(None).to_secret("abc");
            let data = kept.data.get_or_insert_default();
            match value {
                Some(value) => data.insert(field.into(), ByteString(value.into())),
                None => data.remove(field),
            };
            let error = Record::read(&kept).unwrap_err().to_string();
            let start = format!("Secret landbridge-trust/landbridge-token-abc: {told}");
            assert!(error.starts_with(&start) && error.contains("issue another"), "{error}");
        }
    }
}
