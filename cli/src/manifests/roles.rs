//! Pure: who may do what: the files of `deploy/rbac`, as they are.

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::{Namespace, ResourceQuota, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Gateways in pods are found by their Service: what those need that register themselves is not among them.
const FILES: [&str; 4] = [
    include_str!("../../../deploy/rbac/controller.yaml"),
    include_str!("../../../deploy/rbac/dns.yaml"),
    include_str!("../../../deploy/rbac/gateway.yaml"),
    include_str!("../../../deploy/rbac/people.yaml"),
];

/// Every object but the namespace, which has more to it.
pub(super) fn all() -> Vec<Value> {
    let objects = FILES.iter().flat_map(|file| objects(file));
    objects.filter(|object| object["kind"] != "Namespace").collect()
}

/// The objects of a file of `deploy/rbac`.
pub(super) fn objects(file: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(file);
    // The files are part of this program, and a test reads each of their documents.
    let objects = documents.filter_map(|document| Value::deserialize(document).ok());
    objects.filter_map(|object| typed(&object)).collect()
}

/// The object as Kubernetes knows its kind; what it does not know is lost.
fn typed(object: &Value) -> Option<Value> {
    fn read<T: DeserializeOwned + Serialize>(object: &Value) -> Option<Value> {
        serde_json::to_value(serde_json::from_value::<T>(object.clone()).ok()?).ok()
    }
    match object["kind"].as_str()? {
        "ClusterRole" => read::<ClusterRole>(object),
        "Namespace" => read::<Namespace>(object),
        "ResourceQuota" => read::<ResourceQuota>(object),
        "ClusterRoleBinding" => read::<ClusterRoleBinding>(object),
        "Role" => read::<Role>(object),
        "RoleBinding" => read::<RoleBinding>(object),
        "ServiceAccount" => read::<ServiceAccount>(object),
        "ValidatingAdmissionPolicy" => read::<ValidatingAdmissionPolicy>(object),
        "ValidatingAdmissionPolicyBinding" => read::<ValidatingAdmissionPolicyBinding>(object),
        _ => None,
    }
}

#[test]
fn every_document_is_an_object_that_kubernetes_knows_and_nothing_of_it_is_lost() {
    let hub = [
        include_str!("../../../deploy/rbac/authority.yaml"),
        include_str!("../../../deploy/rbac/enroll.yaml"),
        include_str!("../../../deploy/rbac/hub.yaml"),
        include_str!("../../../deploy/rbac/hub-member.yaml"),
        include_str!("../../../deploy/rbac/hub-policies.yaml"),
    ];
    for file in FILES.iter().chain(&hub) {
        let mut known = objects(file).into_iter();
        for document in serde_norway::Deserializer::from_str(file) {
            assert_eq!(known.next(), Some(Value::deserialize(document).unwrap()));
        }
        assert_eq!(known.next(), None);
    }
}
