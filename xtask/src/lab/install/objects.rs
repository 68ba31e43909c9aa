//! Pure: what makes a lab's clusters a set: who each is, who its components are, and what the hub knows of it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::{
    options::Network,
    plan::{ClusterPlan, Plan},
};

/// What the set is called.
pub(crate) const SET: &str = "lab";
pub(crate) const SYSTEM: &str = "landbridge-system";

/// In each member, and on the hub: everybody's files, as they are told to apply them.
const MEMBER: [&str; 4] = [
    include_str!("../../../../deploy/rbac/controller.yaml"),
    include_str!("../../../../deploy/rbac/dns.yaml"),
    include_str!("../../../../deploy/rbac/gateway.yaml"),
    include_str!("../../../../deploy/rbac/gateway-register.yaml"),
];
const HUB: [&str; 2] = [
    include_str!("../../../../deploy/rbac/hub.yaml"),
    include_str!("../../../../deploy/rbac/hub-policies.yaml"),
];
/// For each member, with its id in place of a word.
const HUB_MEMBER: &str = include_str!("../../../../deploy/rbac/hub-member.yaml");
const HUB_MEMBER_ID: &str = "CLUSTER";
/// How much a member may keep on the hub.
pub(crate) const QUOTA: &str = "landbridge-member";

/// What the controller writes beside objects of our own kinds: the kind, and the label that it is known by.
pub(crate) const WRITTEN: [(&str, &str); 2] = [
    ("endpointslices", "endpointslice.kubernetes.io/managed-by=landbridge.dev"),
    ("services", "app.kubernetes.io/managed-by=landbridge.dev"),
];

/// An account that a component has, and the kubeconfig with its token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) account: &'static str,
    /// Whether it is one of the hub's, and not of the cluster itself.
    pub(crate) of_hub: bool,
}

/// By which a controller is known to the hub.
pub(crate) const HUB_USER: User = User { account: "landbridge-member", of_hub: true };
/// That one, and one for each component.
pub(crate) const USERS: [User; 4] = [
    User { account: "landbridge-controller", of_hub: false },
    User { account: "landbridge-dns", of_hub: false },
    User { account: "landbridge-gateway", of_hub: false },
    HUB_USER,
];

impl User {
    pub(crate) fn namespace(self, cluster: &ClusterPlan) -> String {
        if self.of_hub { hub_namespace(cluster) } else { SYSTEM.into() }
    }

    pub(crate) fn kubeconfig(self, cluster: &ClusterPlan) -> PathBuf {
        cluster.folder.join(format!("{}.kubeconfig", self.account))
    }
}

/// What a member has to itself on the hub.
pub(crate) fn hub_namespace(cluster: &ClusterPlan) -> String {
    format!("cluster-{}", cluster.name)
}

/// The status of a quota that says of everything how much is used, where it does not say it yet.
pub(crate) fn counted(quota: &Value) -> Option<String> {
    let hard = quota["spec"]["hard"].as_object()?;
    let missing = |used: &Value| hard.keys().any(|resource| used.get(resource).is_none());
    let mut used = quota["status"]["used"].clone();
    if !missing(&used) {
        return None;
    }
    for resource in hard.keys() {
        if used.get(resource).is_none() {
            used[resource] = "0".into();
        }
    }
    Some(json!({"status": {"hard": hard, "used": used}}).to_string())
}

/// Members of one network say so by its name; one that is alone is called like the cluster.
pub(crate) fn network(plan: &Plan, cluster: &ClusterPlan) -> String {
    match plan.options.network {
        Network::Overlapping => cluster.name.clone(),
        Network::Shared => SET.into(),
    }
}

/// What a cluster holds of its own.
pub(crate) fn member(cluster: &ClusterPlan) -> String {
    let property = |name: &str, value: &str| json!({"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty", "metadata": {"name": name}, "spec": {"value": value}});
    let properties =
        [property("cluster.clusterset.k8s.io", &cluster.name), property("clusterset.k8s.io", SET)];
    documents(MEMBER.map(str::to_owned).into_iter().chain(properties.iter().map(Value::to_string)))
}

/// What the hub holds.
pub(crate) fn hub(plan: &Plan) -> String {
    let members = plan.clusters.iter().flat_map(|cluster| {
        let member = json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "Member",
            "metadata": {"name": cluster.name},
            "spec": {"generation": 1, "network": network(plan, cluster)}});
        [member.to_string(), HUB_MEMBER.replace(HUB_MEMBER_ID, &cluster.name)]
    });
    documents(HUB.map(str::to_owned).into_iter().chain(members))
}

fn documents(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join("\n---\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::options::Options;

    #[test]
    fn members_of_one_network_have_one_name_for_it() {
        let networks = |network| {
            let plan = Plan::new(Options { network, ..Options::default() });
            plan.clusters.iter().map(|cluster| super::network(&plan, cluster)).collect::<Vec<_>>()
        };
        assert_eq!(networks(Network::Shared), ["lab", "lab"]);
        assert_eq!(networks(Network::Overlapping), ["c1", "c2"]);
    }

    #[test]
    fn every_member_has_an_account_and_a_namespace_on_the_hub() {
        let plan = Plan::new(Options::default());
        let hub = hub(&plan);
        for cluster in &plan.clusters {
            let namespace = USERS[3].namespace(cluster);
            assert!(hub.contains(&format!("name: {namespace}\n")), "{hub}");
        }
        assert!(!hub.contains(HUB_MEMBER_ID), "{hub}");
    }

    #[test]
    fn what_is_known_of_a_quota_stays() {
        let quota =
            |used: Value| json!({"spec": {"hard": {"a": "5", "b": "6"}}, "status": {"used": used}});
        let said = counted(&quota(json!({"a": "3"}))).unwrap();
        assert_eq!(said, r#"{"status":{"hard":{"a":"5","b":"6"},"used":{"a":"3","b":"0"}}}"#);
        assert!(counted(&json!({"spec": {"hard": {"a": "5"}}})).is_some());
        assert_eq!(counted(&quota(json!({"a": "3", "b": "1"}))), None);
    }
}
