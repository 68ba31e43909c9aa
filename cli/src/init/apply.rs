//! Does what is planned: objects by server-side apply, under a name of ours, and Secrets that are made once.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ResourceQuota, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use landbridge_api::wellknown::{
    APP_MANAGED_BY, LANDBRIDGE, SYSTEM_NAMESPACE, TRUST_NAMESPACE, hub_namespace,
};
use landbridge_gateway::{
    join::{Tokens, trust},
    pki::{Member, Root},
};
use landbridge_model::{ClusterId, ClusterSetId, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Key, MANAGER, facts};
use crate::manifests::MEMBER;

/// How long definitions take to be served, at most: a second on an idle server.
const ESTABLISHED: Duration = Duration::from_secs(60);
/// How long one that is served by one API server may be unknown to another one.
const SERVED: Duration = Duration::from_secs(10);
const ASKED: Duration = Duration::from_millis(100);
/// A member's authority lasts 90 days; one that ends within this is made anew when this is run.
const RENEWED: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Writes the fields of an object that are ours. Of several API servers one may not serve a kind yet that another one has
/// just established.
pub(crate) async fn object(client: &Client, object: &Value, force: bool) -> Result<()> {
    let key = Key::of(object);
    let api = key.api(client.clone());
    let (params, patch) =
        (PatchParams { force, ..PatchParams::apply(MANAGER) }, Patch::Apply(object));
    let begun = Instant::now();
    loop {
        match api.patch(&key.name, &params, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 && begun.elapsed() < SERVED => {
                sleep(ASKED).await;
            }
            written => {
                return written.map(drop).with_context(|| format!("{} {}", key.kind, key.place()));
            }
        }
    }
}

/// Waits until all of these kinds are served.
pub(crate) async fn established(client: &Client, names: &[String]) -> Result<()> {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    let begun = Instant::now();
    for name in names {
        loop {
            let crd =
                all.get(name).await.with_context(|| format!("CustomResourceDefinition {name}"))?;
            let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
            if conditions.iter().any(|one| one.type_ == "Established" && one.status == "True") {
                break;
            }
            if begun.elapsed() > ESTABLISHED {
                return Err(anyhow!(
                    "CustomResourceDefinition {name} is not served after {ESTABLISHED:?}: see its conditions"
                ));
            }
            sleep(ASKED).await;
        }
    }
    Ok(())
}

/// The set's root: the one that is there, or a new one. It is never written over: every member would be lost.
pub(crate) async fn root(client: &Client, set: &ClusterSetId, now: Timestamp) -> Result<Root> {
    let made = Root::generate(set, now)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), TRUST_NAMESPACE);
    match secrets.create(&PostParams::default(), &trust::to_secret(&made)).await {
        Ok(_) => Ok(made),
        // It was there, or somebody was quicker.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Ok(Tokens::new(client.clone()).root().await?)
        }
        Err(error) => Err(error).context("the set's root"),
    }
}

/// The authority of the cluster's gateways: made where there is none, or none that is of this root and lasts.
pub(crate) async fn authority(
    client: &Client,
    root: &Root,
    cluster: &ClusterId,
    now: Timestamp,
) -> Result<()> {
    let kept = facts::secret(client, SYSTEM_NAMESPACE, MEMBER.secret).await?;
    let text = |name: &str| {
        let value = kept.as_ref()?.data.as_ref()?.get(name)?;
        std::str::from_utf8(&value.0).ok()
    };
    let is_good = || {
        let member = Member::from_pem(text("member.pem")?, text("member-key.pem")?).ok()?;
        let is_ours = member.cluster() == cluster && text("root.pem")?.contains(&root.cert_pem());
        (is_ours && member.valid().ok()?.until.since(now) > RENEWED).then_some(())
    };
    if is_good().is_some() {
        return Ok(());
    }
    let made = root.issue_member(cluster, now)?;
    let data = [
        ("member.pem", made.cert_pem()),
        ("member-key.pem", made.key_pem()),
        ("root.pem", root.cert_pem()),
    ];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    let secret = Secret {
        data: Some(data.into()),
        metadata: ObjectMeta {
            labels: Some([(APP_MANAGED_BY.to_owned(), LANDBRIDGE.to_owned())].into()),
            name: Some(MEMBER.secret.into()),
            namespace: Some(SYSTEM_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    // Whoever else has written an authority there, this root did not sign it or it is about to end.
    let params = PatchParams::apply(MANAGER).force();
    let written = secrets.patch(MEMBER.secret, &params, &Patch::Apply(&secret)).await;
    written.map(drop).context("the authority of its gateways")
}

/// Says that the member has used nothing of what it may have on the hub, where nobody has counted yet. Until that is said,
/// the API server takes no export; kube-controller-manager says it up to six minutes after a kind has come. From then on
/// the API server counts by itself.
pub(crate) async fn counted(client: &Client, cluster: &ClusterId) -> Result<()> {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &hub_namespace(cluster));
    let what = || format!("the ResourceQuota of {cluster}");
    for quota in quotas.list(&ListParams::default()).await.with_context(what)? {
        let hard = quota.spec.and_then(|spec| spec.hard).unwrap_or_default();
        let counted = quota.status.and_then(|status| status.used).unwrap_or_default();
        if hard.keys().all(|resource| counted.contains_key(resource)) {
            continue;
        }
        let mut used = json!({});
        for resource in hard.keys() {
            used[resource] = counted.get(resource).map_or_else(|| json!("0"), |count| json!(count));
        }
        let status = Patch::Merge(json!({"status": {"hard": hard, "used": used}}));
        let name = quota.metadata.name.unwrap_or_default();
        let written = quotas.patch_status(&name, &PatchParams::default(), &status).await;
        written.with_context(what)?;
    }
    Ok(())
}
