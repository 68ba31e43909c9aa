//! What pods of ours have logged last, through the API server.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use landbridge_api::wellknown::SYSTEM_NAMESPACE;

use super::{
    Asked,
    archive::Logs,
    ask::{late, unread},
};

/// How many pods are asked, and how many at the same time.
const MOST: usize = 32;
const AT_ONCE: usize = 4;
/// The end of a log is what counts: this many lines, and no more than this of them.
const LINES: i64 = 10_000;
const BYTES: i64 = 4 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(15);

/// Of each pod; and of what ran in it before, where that has ended.
pub(crate) async fn all(client: &Client, pods: &[Pod]) -> Logs {
    let mut asked = Vec::new();
    for pod in pods.iter().take(MOST) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let statuses =
            pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        if statuses.map(|one| one.restart_count).max().unwrap_or_default() > 0 {
            asked.push((name.clone(), true));
        }
        asked.push((name, false));
    }
    let answers = stream::iter(asked).map(|(pod, is_before)| async move {
        let log = one(client, &pod, is_before).await;
        (if is_before { format!("{pod}-before") } else { pod }, log)
    });
    answers.buffered(AT_ONCE).collect().await
}

async fn one(client: &Client, pod: &str, previous: bool) -> Asked<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let params = LogParams {
        limit_bytes: Some(BYTES),
        previous,
        tail_lines: Some(LINES),
        timestamps: true,
        ..LogParams::default()
    };
    let answer =
        tokio::time::timeout(PATIENCE, pods.logs(pod, &params)).await.map_err(|_| late())?;
    answer.map_err(|error| unread(&error, "get pods/log"))
}
