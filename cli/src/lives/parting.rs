//! Pure: what the hub has of a member, in the order in which it goes when the member is one no more; and whether a member
//! lives.
//!
//! ```text
//! its rights ─► its account ─► the Member (others drop it) ─► what it gave ─► its namespace
//! ```
//!
//! Rights go first, since whoever has them could make again what is taken away.

use landbridge_api::{landbridge::Member, wellknown::hub_namespace};
use landbridge_gateway::join::Listed;
use landbridge_model::ClusterId;

use crate::{init::Key, manifests::hub};

/// What a member writes in its namespace on the hub.
pub(crate) const GIVEN: [(&str, &str); 3] = [
    ("landbridge.dev/v1alpha1", "ClusterExport"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("coordination.k8s.io/v1", "Lease"),
];

/// The objects that go before what the member gave, and those that go after it.
pub(crate) fn order(cluster: &ClusterId) -> [Vec<Key>; 2] {
    let all: Vec<Key> = hub::far(cluster).iter().map(Key::of).collect();
    let of = |kinds: &[&str]| {
        let those = all.iter().filter(|key| kinds.contains(&key.kind.as_str()));
        those.cloned().collect::<Vec<Key>>()
    };
    let mut before = of(&["ClusterRoleBinding", "RoleBinding"]);
    before.extend(of(&["ServiceAccount"]));
    before.push(member(cluster));
    let mut after = of(&["ClusterRole", "ResourceQuota"]);
    after.extend(of(&["Namespace"]));
    [before, after]
}

/// The Member itself.
fn member(cluster: &ClusterId) -> Key {
    let [kind, version] = ["Member", "landbridge.dev/v1alpha1"].map(str::to_owned);
    Key { kind, version, namespace: String::new(), name: cluster.to_string() }
}

/// Every object of a kind that a member has written.
pub(crate) fn given(cluster: &ClusterId, (version, kind): (&str, &str)) -> Key {
    let [kind, version] = [kind, version].map(str::to_owned);
    Key { kind, version, namespace: hub_namespace(cluster), name: String::new() }
}

/// The tokens by which the cluster could come again: those that are for it alone, and those that it has used, which it may
/// show once more while they last.
pub(crate) fn tokens(all: &[Listed], cluster: &ClusterId) -> Vec<String> {
    let is_its = |listed: &&Listed| {
        listed.record.as_ref().is_ok_and(|record| {
            record.cluster.as_ref() == Some(cluster)
                || record.used.as_ref().is_some_and(|used| used.by == *cluster)
        })
    };
    all.iter().filter(is_its).map(|listed| listed.id.clone()).collect()
}

/// Whether a member has said something between two looks at it.
pub(crate) fn lives(before: &Member, after: &Member) -> bool {
    let said = |member: &Member| {
        member.status.as_ref().and_then(|status| status.heartbeat.as_ref()).map(|time| time.0)
    };
    said(before) != said(after)
}

/// The generation that is over.
pub(crate) fn generation(member: Option<&Member>) -> u64 {
    let generation = member.map(|member| member.spec.generation);
    generation.and_then(|generation| u64::try_from(generation).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use landbridge_gateway::join::{
        record::{Record, Used},
        token::Fingerprint,
    };
    use landbridge_model::Timestamp;
    use serde_json::json;

    use super::*;

    fn berlin() -> ClusterId {
        "berlin".parse().unwrap()
    }

    /// "Its hub streams are cut as well, since an open watch outlives its rights": and rights go before what they let
    /// write.
    #[test]
    fn rights_go_first_and_the_namespace_last() {
        let [before, after] = order(&berlin());
        let kinds = |keys: &[Key]| keys.iter().map(|key| key.kind.clone()).collect::<Vec<_>>();
        assert_eq!(
            kinds(&before),
            ["ClusterRoleBinding", "RoleBinding", "ClusterRoleBinding", "ServiceAccount", "Member"]
        );
        assert_eq!(kinds(&after), ["ResourceQuota", "ClusterRole", "Namespace"]);
        assert!(before.iter().chain(&after).all(|key| format!("{key:?}").contains("berlin")));
    }

    /// All that was made is taken away.
    #[test]
    fn nothing_of_what_a_member_has_is_forgotten() {
        let gone: Vec<Key> = order(&berlin()).into_iter().flatten().collect();
        for object in hub::far(&berlin()) {
            assert!(gone.contains(&Key::of(&object)), "{object}");
        }
    }

    #[test]
    fn tokens_are_taken_back_that_it_could_come_again_by() {
        let record = |cluster: Option<&str>, used: Option<&str>| Record {
            hash: Fingerprint::of(b"x"),
            cluster: cluster.map(|id| id.parse().unwrap()),
            issued: Timestamp::from_millis(0),
            expires: Timestamp::from_millis(1),
            used: used.map(|by| Used {
                at: Timestamp::from_millis(0),
                by: by.parse().unwrap(),
                key: Fingerprint::of(b"k"),
            }),
        };
        let all = [
            ("open-to-all", record(None, None)),
            ("its-own", record(Some("berlin"), None)),
            ("used-by-it", record(None, Some("berlin"))),
            ("anothers", record(Some("tokyo"), Some("tokyo"))),
        ];
        let all = all.map(|(id, record)| Listed { id: id.into(), record: Ok(record) });
        assert_eq!(tokens(&all, &berlin()), ["its-own", "used-by-it"]);
    }

    #[test]
    fn a_member_lives_that_says_something_new() {
        let member = |beat: Option<&str>| -> Member {
            let status = beat.map(|at| json!({"heartbeat": at}));
            serde_json::from_value(
                json!({"metadata": {"name": "berlin"}, "spec": {"generation": 3, "network": "b"},
                "status": status}),
            )
            .unwrap()
        };
        let [one, two] = ["2026-09-21T14:00:00.000000Z", "2026-09-21T14:00:03.000000Z"];
        assert!(lives(&member(Some(one)), &member(Some(two))));
        assert!(!lives(&member(Some(one)), &member(Some(one))));
        assert!(!lives(&member(None), &member(None)));
        assert_eq!(generation(Some(&member(None))), 3);
        assert_eq!(generation(None), 0);
    }
}
