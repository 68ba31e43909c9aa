//! Pure: the Job by which a cluster joins, and what it may do while it runs.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Container, PodSpec, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use landbridge_api::wellknown::SYSTEM_NAMESPACE;
use landbridge_model::ClusterId;
use serde_json::Value;

use super::{roles::objects, settings::Settings, workloads};
use crate::enroll::job::{NAME, TOKEN};

const RIGHTS: &str = include_str!("../../../deploy/rbac/enroll.yaml");
/// What stands in that file for the id of the hub.
const PLACEHOLDER: &str = "HUB";
/// Where the Secret with the token is mounted.
const FOLDER: &str = "/etc/landbridge/enroll";
/// One that is forgotten goes by itself.
const KEPT: i32 = 3600;
/// How long it may try. It gives up by itself before that.
const DEADLINE: i64 = 240;

/// Its account and its rights.
pub(crate) fn rights(hub: &ClusterId) -> Vec<Value> {
    // The placeholder stands alone between brackets, so that no other word is taken for it.
    objects(&RIGHTS.replace(&format!("[{PLACEHOLDER}]"), &format!("[{hub}]")))
}

/// It tries by itself for as long as that makes sense: once it has ended, it has ended.
pub(crate) fn job(settings: &Settings) -> Job {
    let label = |name: &str, value: &str| (format!("app.kubernetes.io/{name}"), value.into());
    let labels: std::collections::BTreeMap<String, String> =
        [label("name", "landbridge"), label("component", "enroll")].into();
    let arguments = [
        "enroll".to_owned(),
        format!("--cluster={}", settings.cluster),
        format!("--network={}", settings.network),
        format!("--token-file={FOLDER}/{TOKEN}"),
    ];
    let container = Container {
        args: Some(arguments.into()),
        image: Some(settings.image.clone()),
        name: "enroll".into(),
        security_context: Some(workloads::confined()),
        // What it has written last is what people are told.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![VolumeMount {
            mount_path: FOLDER.into(),
            name: "token".into(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        enable_service_links: Some(false),
        node_selector: Some([("kubernetes.io/os".to_owned(), "linux".to_owned())].into()),
        restart_policy: Some("Never".into()),
        security_context: Some(workloads::nobody()),
        service_account_name: Some(NAME.into()),
        volumes: Some(vec![Volume {
            name: "token".into(),
            secret: Some(SecretVolumeSource {
                default_mode: Some(0o440),
                secret_name: Some(NAME.into()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    };
    Job {
        metadata: ObjectMeta {
            labels: Some(labels.clone()),
            name: Some(NAME.into()),
            namespace: Some(SYSTEM_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(DEADLINE),
            backoff_limit: Some(0),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ttl_seconds_after_finished: Some(KEPT),
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::settings::testing::settings, *};

    #[test]
    fn it_may_write_the_hub_and_no_other_peer() {
        let all = rights(&"tokyo".parse().unwrap());
        assert_eq!(all.len(), 5);
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.contains(r#""resourceNames":["tokyo"]"#) && !text.contains("HUB"), "{text}");
    }

    #[test]
    fn the_token_is_in_no_list_of_processes() {
        let job = serde_json::to_value(job(&settings("nodeport"))).unwrap();
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["args"][3], "--token-file=/etc/landbridge/enroll/token");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(job["spec"]["backoffLimit"], 0);
    }
}
