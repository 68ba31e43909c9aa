//! Pure: the pod in which a member takes back what it gave to the hub, as its own controller, and how that went.

use k8s_openapi::api::core::v1::Pod;
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, SYSTEM_NAMESPACE};
use landbridge_model::ClusterId;
use serde_json::{Value, json};

use crate::manifests::HUB;

/// What the pod is called.
pub(crate) const POD: &str = "landbridge-withdraw";
/// The Deployment that would give everything again, and whose account may reach the hub.
pub(crate) const CONTROLLER: &str = "landbridge-controller";
/// Where the Secret of the hub is mounted, as in the controller's own pods.
const FOLDER: &str = "/etc/landbridge/hub";
/// The user of the image, who owns nothing.
const USER: u32 = 65532;
/// A hub that has not answered in this time is away.
const LIFE: u32 = 90;

/// The pod: whatever lets the controller reach the hub lets it too.
pub(crate) fn pod(cluster: &ClusterId, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": POD, "namespace": SYSTEM_NAMESPACE, "labels": {APP_MANAGED_BY: LANDBRIDGE}},
    "spec": {
        "activeDeadlineSeconds": LIFE, "enableServiceLinks": false, "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/os": "linux"}, "serviceAccountName": CONTROLLER,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "hub", "secret": {"secretName": HUB.secret, "defaultMode": 0o440}}],
        "containers": [{
            "name": "withdraw", "image": image,
            "args": ["withdraw", format!("--cluster={cluster}"), format!("--kubeconfig={FOLDER}/kubeconfig")],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
            // What it says last is told where it fails.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "hub", "mountPath": FOLDER, "readOnly": true}],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}},
        }],
    }})
}

/// How it went, once that is known.
pub(crate) fn outcome(pod: &Pod) -> Option<Result<(), String>> {
    let status = pod.status.as_ref()?;
    match status.phase.as_deref()? {
        "Succeeded" => Some(Ok(())),
        "Failed" => {
            let ended = status.container_statuses.iter().flatten();
            let ended = ended.filter_map(|one| one.state.as_ref()?.terminated.as_ref()).next();
            let said = ended.and_then(|ended| ended.message.as_deref()?.lines().last());
            let said = said.or(status.message.as_deref());
            Some(Err(said.unwrap_or("it says nothing").trim_start_matches("error: ").to_owned()))
        }
        _ => None,
    }
}

/// What people are told once the member has left; `is_removed` says whether the hub has nothing of it any more.
pub(crate) fn told(cluster: &ClusterId, is_removed: bool, stays: bool) -> String {
    let rest = if is_removed {
        String::new()
    } else {
        format!("On the hub, what is left of it is taken away by: landbridge remove {cluster}\n")
    };
    let stays = if stays {
        "What is installed stays, with no controller: `landbridge join` brings it back.\n"
    } else {
        ""
    };
    format!("{cluster} exports nothing and imports nothing any more.\n{rest}{stays}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_one_that_kubernetes_knows_and_reaches_the_hub_as_the_controller_does() {
        let made = pod(&"berlin".parse().unwrap(), "registry.example/landbridge:1");
        let known: Pod = serde_json::from_value(made.clone()).unwrap();
        assert_eq!(serde_json::to_value(known).unwrap(), made);
        assert_eq!(made["spec"]["serviceAccountName"], "landbridge-controller");
        assert_eq!(made["spec"]["volumes"][0]["secret"]["secretName"], "landbridge-hub");
    }

    #[test]
    fn what_it_says_last_is_told_where_it_fails() {
        let pod = |status: &Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
        };
        assert_eq!(outcome(&pod(&json!({"phase": "Running"}))), None);
        assert_eq!(outcome(&pod(&json!({"phase": "Succeeded"}))), Some(Ok(())));
        let failed = json!({"phase": "Failed", "containerStatuses": [{"name": "withdraw", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 3, "message": "…\nerror: the hub is away\n"}}}]});
        assert_eq!(outcome(&pod(&failed)), Some(Err("the hub is away".into())));
        let late = json!({"phase": "Failed", "message": "Pod was active longer than 90 seconds"});
        assert_eq!(
            outcome(&pod(&late)).unwrap().unwrap_err(),
            "Pod was active longer than 90 seconds"
        );
    }

    #[test]
    fn who_leaves_is_told_what_is_left() {
        let berlin = "berlin".parse().unwrap();
        assert_eq!(
            told(&berlin, false, true),
            "berlin exports nothing and imports nothing any more.\n\
             On the hub, what is left of it is taken away by: landbridge remove berlin\n\
             What is installed stays, with no controller: `landbridge join` brings it back.\n"
        );
        assert_eq!(
            told(&berlin, true, false),
            "berlin exports nothing and imports nothing any more.\n"
        );
    }
}
