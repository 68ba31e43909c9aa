//! Pure: who may join under which id, and who is still a member; each refusal with what to do.

use landbridge_api::landbridge::Member;
use landbridge_gateway::{
    identity::GatewayId,
    join::{StoreError, message::Joining, message::Refused, record::Record},
};
use landbridge_model::{ClusterId, Timestamp};

use crate::init::joined;

/// A refusal, and the status that it has in HTTP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Denial {
    pub(crate) status: u16,
    pub(crate) refused: Refused,
}

impl Denial {
    pub(crate) fn new(status: u16, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, refused: Refused { error: error.into(), remedy: remedy.into() } }
    }

    /// Something that cannot be read, whoever asks.
    pub(crate) fn unreadable(problem: &str) -> Self {
        Self::new(400, problem, "take the `landbridge` of the hub's version")
    }

    /// The hub's own trouble.
    pub(crate) fn trouble(problem: impl Into<String>) -> Self {
        Self::new(503, problem, "ask again; if it goes on, see the log of landbridge-authority")
    }
}

impl From<StoreError> for Denial {
    /// What a token is refused for says what to do itself.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => Self::new(403, refusal.to_string(), ""),
            StoreError::Contended => Self::new(409, error.to_string(), ""),
            StoreError::Api { .. }
            | StoreError::Full
            | StoreError::NoRoot
            | StoreError::Record(_)
            | StoreError::Trust(_) => Self::trouble(error.to_string()),
        }
    }
}

/// How often the cluster has joined, this time included. `record` is that of the token as it would be used up `now`, and
/// `before` what the hub knows under that id.
///
/// # Errors
/// An id that is another cluster's.
pub(crate) fn joins(
    joining: &Joining,
    record: &Record,
    before: Option<&Member>,
    hub: &ClusterId,
    now: Timestamp,
) -> Result<u64, Denial> {
    let cluster = &joining.cluster;
    if cluster == hub {
        let error = format!("{cluster} is the id of the hub's own cluster");
        return Err(Denial::new(409, error, "give this one another --cluster"));
    }
    // The same cluster asks again: the Member may be of the first time.
    let is_again = record.used.as_ref().is_some_and(|used| used.at < now);
    // Everybody in the set knows an id and a uid: to come again as a member needs a token that says so.
    if before.is_some() && record.cluster.is_none() && !is_again {
        let error = format!("{cluster} is a member of the set already");
        let remedy = format!(
            "give this cluster another --cluster; if it is {cluster} itself that joins again, issue a token with --cluster {cluster}"
        );
        return Err(Denial::new(409, error, remedy));
    }
    let generation = joined::generation(before, cluster, &joining.uid);
    let generation = generation.map_err(|problem| Denial::new(409, problem, ""))?;
    Ok(u64::try_from(generation).unwrap_or(1))
}

/// Whether whoever has shown a certificate is a member now. `member` is what the hub knows under that id.
///
/// # Errors
/// One that is listed no more, or was listed anew since.
pub(crate) fn renews<'a>(
    id: Option<&'a GatewayId>,
    member: Option<&Member>,
) -> Result<&'a GatewayId, Denial> {
    let Some(id) = id else {
        let error = "no certificate of a member was shown";
        return Err(Denial::new(401, error, "join with a token first"));
    };
    let again = "join again with a token of `landbridge token issue`";
    let Some(member) = member else {
        let error = format!("{} is no member of the set any more", id.cluster);
        return Err(Denial::new(403, error, again));
    };
    if u64::try_from(member.spec.generation).ok() != Some(id.generation) {
        let error = format!(
            "{} has joined again since, or was revoked: generation {} counts, not {}",
            id.cluster, member.spec.generation, id.generation
        );
        return Err(Denial::new(403, error, again));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use landbridge_api::landbridge::{MemberSpec, MemberStatus};
    use landbridge_gateway::{
        join::{record::Used, token::TokenSecret},
        pki::{MemberKey, Request},
    };

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const EARLIER: Timestamp = Timestamp::from_millis(1_789_999_999_000);

    fn joining(cluster: &str, uid: &str) -> Joining {
        Joining {
            secret: TokenSecret::new([1; 32]),
            cluster: cluster.parse().unwrap(),
            uid: uid.into(),
            network: "europe".parse().unwrap(),
            request: Request::from_pem(&MemberKey::generate().unwrap().request().unwrap()).unwrap(),
        }
    }

    /// A token as it is once it is used at `at`, for `bound` alone or for anybody.
    fn record(joining: &Joining, bound: Option<&str>, at: Timestamp) -> Record {
        let claim = joining.claim();
        Record {
            hash: joining.secret.hash(),
            cluster: bound.map(|id| id.parse().unwrap()),
            issued: EARLIER,
            expires: Timestamp::from_millis(NOW.as_millis() + 1000),
            used: Some(Used { at, by: claim.cluster, key: claim.key }),
        }
    }

    fn member(uid: Option<&str>) -> Member {
        let spec = MemberSpec { generation: 4, ..MemberSpec::default() };
        let mut member = Member::new("berlin", spec);
        let cluster_uid = uid.map(str::to_owned);
        member.status = Some(MemberStatus { cluster_uid, ..MemberStatus::default() });
        member
    }

    fn check(bound: Option<&str>, at: Timestamp, before: Option<&Member>) -> Result<u64, Denial> {
        let joining = joining("berlin", "u1");
        let hub = "paris".parse().unwrap();
        joins(&joining, &record(&joining, bound, at), before, &hub, NOW)
    }

    #[test]
    fn a_new_id_is_taken_and_one_that_is_there_needs_a_token_of_its_own() {
        assert_eq!(check(None, NOW, None), Ok(1));
        assert_eq!(check(Some("berlin"), NOW, None), Ok(1));
        let told = check(None, NOW, Some(&member(Some("u1")))).unwrap_err();
        assert_eq!(told.status, 409);
        assert!(told.refused.remedy.ends_with("issue a token with --cluster berlin"), "{told:?}");
        assert_eq!(check(Some("berlin"), NOW, Some(&member(Some("u1")))), Ok(4));
        // An answer was lost, and the Member is of the first time.
        assert_eq!(check(None, EARLIER, Some(&member(None))), Ok(4));
    }

    #[test]
    fn the_id_of_another_cluster_is_refused() {
        let told = check(Some("berlin"), NOW, Some(&member(Some("u2")))).unwrap_err();
        assert!(told.refused.error.contains("is the id of another cluster"), "{told:?}");
        let joining = joining("paris", "u1");
        let hub = "paris".parse().unwrap();
        let told = joins(&joining, &record(&joining, None, NOW), None, &hub, NOW).unwrap_err();
        assert_eq!(told.refused.error, "paris is the id of the hub's own cluster");
    }

    #[test]
    fn a_member_is_one_as_long_as_it_is_listed_with_that_generation() {
        let id = |generation| GatewayId {
            set: "prod".parse().unwrap(),
            cluster: "berlin".parse().unwrap(),
            generation,
            gateway: "keeper".parse().unwrap(),
        };
        let member = member(None);
        assert!(renews(Some(&id(4)), Some(&member)).is_ok());
        for (id, member, status, told) in [
            (None, Some(&member), 401, "no certificate"),
            (Some(id(4)), None, 403, "is no member of the set any more"),
            (Some(id(3)), Some(&member), 403, "generation 4 counts, not 3"),
        ] {
            let denial = renews(id.as_ref(), member).unwrap_err();
            assert_eq!(denial.status, status);
            assert!(denial.refused.error.contains(told), "{denial:?}");
        }
    }
}
