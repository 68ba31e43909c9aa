//! Pure: what is made in each cluster to find out whether it is called and can call. All of it is in one namespace, and goes
//! with that.

use std::time::Duration;

use landbridge_api::{
    landbridge::Peer,
    wellknown::{APP_MANAGED_BY, LANDBRIDGE},
};
use serde_json::{Value, json};

use super::LABEL;
use crate::probe::PORT;

/// The pod that answers, and the one that calls.
pub(crate) const SERVER: &str = "answers";
pub(crate) const CALLER: &str = "calls";
/// The user of the image, who owns nothing.
const USER: u32 = 65532;
/// When pods end that nobody has taken away: whoever made them was killed.
const LIFE: u32 = 300;

/// What the pods run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Image {
    pub(crate) name: String,
    /// As the cluster's own components have it.
    pub(crate) policy: Option<String>,
}

/// The Service of a cluster. Each has a name of its own, so that a call says whom it is to.
pub(crate) fn service(cluster: &str) -> String {
    format!("at-{cluster}")
}

/// The name by which pods of the whole set call it.
pub(crate) fn host(cluster: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc.clusterset.local", service(cluster))
}

/// The namespace. It takes pods of the strictest kind, so that ours are seen to be that.
pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
        LABEL: "true", APP_MANAGED_BY: LANDBRIDGE, "pod-security.kubernetes.io/enforce": "restricted"}}})
}

/// What is in it, in an order in which it can be made. Pods come last: they wait for an account that Kubernetes makes.
pub(crate) fn all(
    cluster: &str,
    others: &[String],
    namespace: &str,
    image: &Image,
    within: Duration,
) -> Vec<Value> {
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": PORT, "targetPort": PORT});
    let metadata = json!({"name": service(cluster), "namespace": namespace});
    let targets = others.iter().map(|to| format!("--to={to}={}:{PORT}", host(to, namespace)));
    let within = format!("--within={}s", within.as_secs());
    let common = ["probe".to_owned(), "call".to_owned(), format!("--cluster={cluster}"), within];
    let calls: Vec<String> = common.into_iter().chain(targets).collect();
    let serves = ["probe".to_owned(), "serve".to_owned(), format!("--cluster={cluster}")];
    let mut server = pod(SERVER, namespace, image, &serves);
    let container = &mut server["spec"]["containers"][0];
    container["ports"] = json!([{"containerPort": PORT, "protocol": "TCP"}, {"containerPort": PORT, "protocol": "UDP"}]);
    container["readinessProbe"] =
        json!({"tcpSocket": {"port": PORT}, "periodSeconds": 1, "timeoutSeconds": 2});
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
            "ipFamilyPolicy": "PreferDualStack", "selector": {LABEL: SERVER},
            "ports": [port("tcp", "TCP"), port("udp", "UDP")]}}),
        json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": metadata}),
        server,
        pod(CALLER, namespace, image, &calls),
    ]
}

fn pod(name: &str, namespace: &str, image: &Image, arguments: &[String]) -> Value {
    let mut container = json!({
        "name": "probe", "image": image.name, "args": arguments,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}},
    });
    if let Some(policy) = &image.policy {
        container["imagePullPolicy"] = policy.as_str().into();
    }
    json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": name, "namespace": namespace, "labels": {LABEL: name}},
    "spec": {
        "activeDeadlineSeconds": LIFE, "automountServiceAccountToken": false, "containers": [container],
        "enableServiceLinks": false, "nodeSelector": {"kubernetes.io/os": "linux"}, "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
    }})
}

/// What a Peer says of its links: the condition `Connected`, as one line.
pub(crate) fn link(peer: &Peer) -> (bool, String) {
    let status = peer.status.clone().unwrap_or_default();
    let condition = status.conditions.iter().find(|one| one.type_ == "Connected");
    let Some(condition) = condition else {
        return (false, "no gateway has said anything of its link".into());
    };
    let errors = status.links.values().filter_map(|link| link.last_error.as_deref());
    let mut errors: Vec<&str> = errors.collect();
    errors.sort_unstable();
    errors.dedup();
    let holds = condition.status == "True";
    let said = match (holds, errors.first()) {
        (false, Some(error)) => format!("{}: {error}", condition.reason),
        _ => format!("{}: {}", condition.reason, condition.message),
    };
    (holds, said)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, Service};
    use landbridge_api::mcs::ServiceExport;

    use super::*;

    fn made() -> Vec<Value> {
        let image = Image { name: "registry.example/landbridge:1".into(), policy: None };
        let both = ["paris".to_owned(), "berlin".to_owned()];
        all("paris", &both, "verify-x", &image, Duration::from_secs(40))
    }

    #[test]
    fn every_object_is_one_that_kubernetes_knows() {
        let made = made();
        let service: Service = serde_json::from_value(made[0].clone()).unwrap();
        assert_eq!(serde_json::to_value(&service).unwrap(), made[0]);
        let _: ServiceExport = serde_json::from_value(made[1].clone()).unwrap();
        for pod in &made[2..] {
            let known: Pod = serde_json::from_value(pod.clone()).unwrap();
            assert_eq!(serde_json::to_value(&known).unwrap(), *pod);
        }
    }

    #[test]
    fn a_pod_has_no_right_that_it_does_not_need() {
        for pod in &made()[2..] {
            let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
            assert_eq!(spec["automountServiceAccountToken"], false);
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
            assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
            assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        }
    }

    #[test]
    fn a_caller_calls_every_cluster_and_its_own_by_the_sets_names() {
        let made = made();
        assert_eq!(
            made[3]["spec"]["containers"][0]["args"],
            json!([
                "probe",
                "call",
                "--cluster=paris",
                "--within=40s",
                "--to=paris=at-paris.verify-x.svc.clusterset.local:8080",
                "--to=berlin=at-berlin.verify-x.svc.clusterset.local:8080",
            ])
        );
    }

    #[test]
    fn a_link_that_does_not_stand_says_why() {
        let peer = |status: Value| {
            let object = json!({"metadata": {"name": "berlin"}, "spec": {"generation": 1, "network": "b"}, "status": status});
            link(&serde_json::from_value(object).unwrap())
        };
        let condition = |status: &str, reason: &str| {
            json!([{"type": "Connected", "status": status, "reason": reason,
            "message": "All gateways.", "lastTransitionTime": "2026-09-21T14:00:00Z"}])
        };
        let lost = json!({"conditions": condition("False", "Dialing"),
            "links": {"a": {"state": "Dialing", "lastError": "192.0.2.7:4433: no answer"}}});
        assert_eq!(peer(lost), (false, "Dialing: 192.0.2.7:4433: no answer".into()));
        let stands = json!({"conditions": condition("True", "Connected")});
        assert_eq!(peer(stands), (true, "Connected: All gateways.".into()));
        assert!(!peer(json!({})).0);
    }
}
