//! Pure: what the hub has beside what every member has: the files of `deploy/rbac` that are for it, and for each member of
//! the set a namespace, rights and a `Member`.

use landbridge_api::{
    landbridge::{Member, MemberSpec},
    wellknown::SYSTEM_NAMESPACE,
};
use landbridge_model::{ClusterId, NetworkName};
use serde_json::{Value, json};

use super::{Part, roles::objects};

const HUB: [&str; 3] = [
    include_str!("../../../deploy/rbac/authority.yaml"),
    include_str!("../../../deploy/rbac/hub.yaml"),
    include_str!("../../../deploy/rbac/hub-policies.yaml"),
];
const MEMBER: &str = include_str!("../../../deploy/rbac/hub-member.yaml");
/// What stands in that file for the id of the member.
const PLACEHOLDER: &str = "CLUSTER";

/// What members may do, and what is refused of them.
pub(crate) fn all() -> Vec<Value> {
    HUB.iter().flat_map(|file| objects(file)).collect()
}

/// What a member has there: a namespace, an account, and rights.
pub(crate) fn far(cluster: &ClusterId) -> Vec<Value> {
    objects(&MEMBER.replace(PLACEHOLDER, cluster.as_str()))
}

/// What the hub's own cluster has there as a member: what every member has, by the account of its controller, which needs no
/// token that could end.
pub(crate) fn own(cluster: &ClusterId) -> Vec<Value> {
    let all = far(cluster).into_iter().filter(|object| object["kind"] != "ServiceAccount");
    all.map(by_its_own_account).collect()
}

fn by_its_own_account(mut object: Value) -> Value {
    if object["subjects"].is_array() {
        object["subjects"] = json!([{
            "kind": "ServiceAccount",
            "namespace": SYSTEM_NAMESPACE,
            "name": Part::Controller.name(),
        }]);
    }
    object
}

/// The member itself. What administrators say of it besides is not ours to write.
pub(crate) fn record(
    cluster: &ClusterId,
    network: &NetworkName,
    generation: u64,
) -> serde_json::Result<Value> {
    let spec = MemberSpec {
        generation: i64::try_from(generation).unwrap_or(i64::MAX),
        network: network.to_string(),
        ..MemberSpec::default()
    };
    serde_json::to_value(Member::new(cluster.as_str(), spec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paris() -> ClusterId {
        ClusterId::parse("paris").unwrap()
    }

    #[test]
    fn a_member_has_its_id_wherever_one_stands() {
        for object in own(&paris()).into_iter().chain(far(&paris())) {
            let text = object.to_string();
            assert!(text.contains("paris") && !text.contains(PLACEHOLDER), "{text}");
        }
    }

    #[test]
    fn the_hubs_own_controller_needs_no_token() {
        let all = own(&paris());
        assert!(all.iter().all(|object| object["kind"] != "ServiceAccount"));
        let subjects: Vec<&Value> =
            all.iter().map(|object| &object["subjects"]).filter(|one| !one.is_null()).collect();
        assert_eq!(subjects.len(), 3);
        for subject in subjects {
            assert_eq!(subject[0]["namespace"], "landbridge-system");
            assert_eq!(subject[0]["name"], "landbridge-controller");
        }
    }

    #[test]
    fn a_record_says_nothing_that_administrators_say() {
        let record = record(&paris(), &"europe".parse().unwrap(), 2).unwrap();
        assert_eq!(record["spec"], json!({"generation": 2, "network": "europe"}));
    }
}
