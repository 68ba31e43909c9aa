//! Pure: who may do what: the files of `deploy/rbac`, as they are.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
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
    let documents = FILES.iter().flat_map(|file| serde_norway::Deserializer::from_str(file));
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
        "ClusterRoleBinding" => read::<ClusterRoleBinding>(object),
        "Role" => read::<Role>(object),
        "RoleBinding" => read::<RoleBinding>(object),
        "ServiceAccount" => read::<ServiceAccount>(object),
        _ => None,
    }
}

#[test]
fn every_document_is_an_object_that_kubernetes_knows_and_nothing_of_it_is_lost() {
    let mut objects = 0;
    for document in FILES.iter().flat_map(|file| serde_norway::Deserializer::from_str(file)) {
        let object = Value::deserialize(document).unwrap();
        if object["kind"] != "Namespace" {
            assert_eq!(typed(&object), Some(object));
            objects += 1;
        }
    }
    assert_eq!(all().len(), objects);
}
