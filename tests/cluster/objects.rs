//! Pure: the objects of a conformance case, as its suite has them, and what is changed in them from case to case.

use serde_json::{Value, json};

/// Names of the machine's images: see `xtask/src/lab/images.rs`.
const ANSWERS: &str = "alpine/socat:1.7.4.4";
const CALLS: &str = "nicolaka/netshoot:v0.15";

/// What everything that is exported is called.
pub(crate) const HELLO: &str = "hello";
/// The pod that calls.
pub(crate) const REQUEST: &str = "request";

/// What is in a pod that answers: it says its first address to whoever calls port 42, and who it is.
fn answering(cluster: &str) -> Value {
    let from = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let env = json!([
        from("POD_IP", "status.podIP"),
        from("POD_NAME", "metadata.name"),
        {"name": "CLUSTER", "value": cluster},
    ]);
    // It takes what it is sent before it answers: `socat` ends without an answer where nobody takes that any more.
    let say = "SYSTEM:read -r said; echo pod ip $POD_IP in $CLUSTER as $POD_NAME";
    let container = |name: &str, listen: &str| json!({"name": name, "image": ANSWERS, "args": [listen, say], "env": env});
    let containers = [
        container("hello-tcp", "TCP6-LISTEN:42,reuseaddr,fork"),
        container("hello-udp", "UDP6-RECVFROM:42,reuseaddr,fork"),
    ];
    // Nothing in these pods would use the time that they could be given to end.
    json!({"metadata": {"labels": {"app": HELLO}},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 0}})
}

/// The Deployment behind the Service, in this cluster.
pub(crate) fn deployment(cluster: &str, replicas: usize) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": HELLO},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": HELLO}},
            "template": answering(cluster)}})
}

/// The StatefulSet that some cases have in place of it: its pods have names.
pub(crate) fn stateful_set(cluster: &str, replicas: usize) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "hello-ss"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": HELLO}},
            "serviceName": HELLO, "template": answering(cluster)}})
}

/// The Service, before a case changes it.
pub(crate) fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
    "metadata": {"name": HELLO, "annotations": {"dummy-svc": "dummy"}, "labels": {"dummy-svc": "dummy"}},
    "spec": {
        "selector": {"app": HELLO},
        "ports": [
            {"name": "tcp", "port": 42, "protocol": "TCP"},
            {"name": "udp", "port": 42, "protocol": "UDP"},
        ],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
        "ipFamilyPolicy": "PreferDualStack",
    }})
}

/// The Service with another value for a field of its spec.
pub(crate) fn service_with(field: &str, value: Value) -> Value {
    let mut service = service();
    service["spec"][field] = value;
    service
}

/// The Service without an address of its own. Affinity would be refused.
pub(crate) fn headless() -> Value {
    service_with("clusterIP", json!("None"))
}

/// The Service with other ports.
pub(crate) fn service_with_ports(ports: Value) -> Value {
    service_with("ports", ports)
}

/// An export of the Service.
pub(crate) fn export() -> Value {
    json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"name": HELLO, "annotations": {"dummy-svcexport": "dummy"},
            "labels": {"dummy-svcexport": "dummy"}}})
}

/// An export that gives imports a label and an annotation.
pub(crate) fn export_with(label: &str, annotation: &str) -> Value {
    let mut export = export();
    export["spec"] =
        json!({"exportedLabels": {label: "true"}, "exportedAnnotations": {annotation: "true"}});
    export
}

/// The pod that calls what a case tells it to.
pub(crate) fn request() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": REQUEST, "labels": {"app": REQUEST}},
        "spec": {"containers": [{"name": REQUEST, "image": CALLS, "command": ["sleep", "infinity"]}],
            "terminationGracePeriodSeconds": 0}})
}
