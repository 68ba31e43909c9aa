//! The Job by which a cluster joins from inside: what it is made of, and how it is seen to its end.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use landbridge_api::wellknown::SYSTEM_NAMESPACE;
use landbridge_gateway::join::token::Token;
use landbridge_model::ClusterId;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::kept;
use crate::{
    exit::Usage,
    init::{Key, MANAGER, apply, progress::problem},
    manifests::{self, settings::Settings},
};

/// The Job, its account, its rights, and the Secret with the token and the key.
pub(crate) const NAME: &str = "landbridge-enroll";
/// In that Secret.
pub(crate) const TOKEN: &str = "token";
pub(crate) const KEY: &str = "key.pem";
/// How often it is looked at.
const ASKED: Duration = Duration::from_millis(250);
/// How long one that was there before takes to go.
const GONE: Duration = Duration::from_secs(30);
/// What pods of a Job are known by.
const OF: &str = "batch.kubernetes.io/controller-uid";

/// What there is while it runs: whoever joins has to be allowed to make it.
pub(crate) fn objects(settings: &Settings, hub: &ClusterId) -> Result<Vec<Value>> {
    let mut all = manifests::enroll::rights(hub);
    all.push(serde_json::to_value(manifests::enroll::job(settings))?);
    Ok(all)
}

/// Runs it to its end, and takes away all that was made for it; `tell` hears what is waited for.
///
/// # Errors
/// Why the cluster has not joined, as the Job has said it; what keeps it from running; an API that refuses.
pub(crate) async fn run(
    client: &Client,
    settings: &Settings,
    token: &Token,
    timeout: Duration,
    mut tell: impl FnMut(&str),
) -> Result<u64> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    gone(&jobs).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let secret = kept::secret(NAME, [(TOKEN, token.to_string())]);
    let params = PatchParams::apply(MANAGER).force();
    let written = secrets.patch(NAME, &params, &Patch::Apply(&secret)).await;
    written.with_context(|| format!("Secret {SYSTEM_NAMESPACE}/{NAME}"))?;
    let rights = manifests::enroll::rights(&token.hub);
    for object in &rights {
        apply::object(client, object, true).await?;
    }
    let job = jobs.create(&PostParams::default(), &manifests::enroll::job(settings)).await;
    let job = job.with_context(|| format!("Job {SYSTEM_NAMESPACE}/{NAME}"))?;
    let ended = Box::pin(ended(client, &jobs, &job, timeout, &mut tell)).await;
    // What it may do goes whatever has become of it; the key stays, by which it is known again, unless it has joined.
    let rights: Vec<Key> = rights.iter().map(Key::of).collect();
    for key in rights.iter().rev() {
        removed(client, key).await?;
    }
    ended?;
    gone(&jobs).await?;
    let deleted = secrets.delete(NAME, &DeleteParams::default()).await;
    deleted.with_context(|| format!("Secret {SYSTEM_NAMESPACE}/{NAME}"))?;
    generation(client)
        .await?
        .context("the Job has ended well, and has not said how often this cluster has joined")
}

/// How often the cluster has joined, as the authority has said; none where it has never joined this way.
pub(crate) async fn generation(client: &Client) -> Result<Option<u64>> {
    let secret =
        crate::init::facts::secret(client, SYSTEM_NAMESPACE, manifests::HUB.secret).await?;
    let text = secret.as_ref().and_then(|secret| kept::text(secret, kept::GENERATION));
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Takes away one that was there before.
async fn gone(jobs: &Api<Job>) -> Result<()> {
    let begun = Instant::now();
    loop {
        match jobs.delete(NAME, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            deleted => drop(deleted.with_context(|| format!("Job {SYSTEM_NAMESPACE}/{NAME}"))?),
        }
        if begun.elapsed() > GONE {
            return Err(anyhow!("Job {SYSTEM_NAMESPACE}/{NAME} does not go: see its finalizers"));
        }
        sleep(ASKED).await;
    }
}

async fn removed(client: &Client, key: &Key) -> Result<()> {
    match key.api(client.clone()).delete(&key.name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop).with_context(|| format!("{} {}", key.kind, key.place())),
    }
}

/// Waits for its end.
async fn ended(
    client: &Client,
    jobs: &Api<Job>,
    job: &Job,
    timeout: Duration,
    tell: &mut impl FnMut(&str),
) -> Result<()> {
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let params = ListParams::default().labels(&format!("{OF}={uid}"));
    let begun = Instant::now();
    loop {
        let status = jobs.get(NAME).await.with_context(|| format!("Job {NAME}"))?.status;
        let status = status.unwrap_or_default();
        if status.succeeded.unwrap_or_default() > 0 {
            return Ok(());
        }
        let listed = pods.list(&params).await.context("the pods of the Job")?;
        let is_failed = status.failed.unwrap_or_default() > 0
            || status
                .conditions
                .iter()
                .flatten()
                .any(|one| one.type_ == "Failed" && one.status == "True");
        if is_failed {
            return Err(listed.iter().find_map(words).unwrap_or_else(|| {
                anyhow!(
                    "the Job {SYSTEM_NAMESPACE}/{NAME} has failed, and its pod has left no word"
                )
            }));
        }
        let why = listed.iter().find_map(problem);
        if begun.elapsed() > timeout {
            let why = why.unwrap_or_else(|| {
                format!("see `kubectl --namespace {SYSTEM_NAMESPACE} get pods`")
            });
            return Err(anyhow!(
                "the Job that joins has not ended after {} s: {why}. Run this again with the same token while it lasts",
                timeout.as_secs()
            ));
        }
        tell(&why.unwrap_or_else(|| "the hub lets this cluster in".to_owned()));
        sleep(ASKED).await;
    }
}

/// The last line that a pod has written, as an error of the kind that its exit code says.
fn words(pod: &Pod) -> Option<anyhow::Error> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = statuses.iter().find_map(|one| one.state.as_ref()?.terminated.as_ref())?;
    if ended.exit_code == 0 {
        return None;
    }
    let text = ended.message.as_deref().unwrap_or_default().trim();
    let last = text.lines().last().unwrap_or_default();
    let last = last.strip_prefix("error: ").unwrap_or(last).to_owned();
    let last = if last.is_empty() {
        let reason = ended.reason.as_deref().unwrap_or("no reason");
        format!("the Job has ended with code {}, {reason}", ended.exit_code)
    } else {
        last
    };
    Some(if ended.exit_code == 2 { Usage(last).into() } else { anyhow!(last) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exit::Exit;

    fn pod(code: i32, message: &str) -> Pod {
        let ended =
            json!({"terminated": {"exitCode": code, "message": message, "reason": "Error"}});
        let object = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "enroll",
            "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": ended}]}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_last_words_of_a_job_reach_whoever_has_asked_for_it() {
        let told = words(&pod(1, "warning\nerror: the token ended\n")).unwrap();
        assert_eq!(
            (told.to_string().as_str(), Exit::of(&told)),
            ("the token ended", Exit::Failure)
        );
        let told = words(&pod(2, "error: give another --cluster")).unwrap();
        assert_eq!(Exit::of(&told), Exit::Usage);
        let told = words(&pod(137, "")).unwrap();
        assert_eq!(told.to_string(), "the Job has ended with code 137, Error");
        assert!(words(&pod(0, "")).is_none());
    }
}
