//! What is in a cluster that is to become a hub, and what its API server would make of our objects. Nothing is written:
//! writes are dry runs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::{
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        core::v1::{ConfigMap, Namespace, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use landbridge_api::{
    about::ClusterProperty,
    landbridge::Member,
    wellknown::{ROOT_SECRET, SYSTEM_NAMESPACE, TRUST_NAMESPACE},
};
use landbridge_gateway::join::{token::Fingerprint, trust};
use landbridge_model::{ClusterId, ClusterSetId};
use serde_json::Value;

use super::{
    Key, MANAGER,
    checks::Role,
    plan::{Change, Step, change},
    wanted::{CHOICE, CHOICE_PLACE},
};
use crate::manifests::{HUB, MEMBER};

/// How many questions are under way at the same time. An API server takes hundreds; a slow link to it is what this is for.
const AT_ONCE: usize = 8;
/// What is done with each kind of object that is applied.
const VERBS: [&str; 4] = ["create", "get", "list", "patch"];

/// The kinds that a cluster has.
pub(crate) async fn definitions(client: &Client) -> Result<Vec<CustomResourceDefinition>> {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    let listed = all.list(&ListParams::default()).await.context("its CustomResourceDefinitions")?;
    Ok(listed.items)
}

/// What it says of itself, by the names of the properties.
pub(crate) async fn properties(client: &Client) -> Result<BTreeMap<String, String>> {
    let all: Api<ClusterProperty> = Api::all(client.clone());
    let listed = match all.list(&ListParams::default()).await {
        // The kind is not there yet, and so none of it is.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(BTreeMap::new()),
        listed => listed.context("its ClusterProperties")?,
    };
    let all = listed.items.into_iter();
    Ok(all.filter_map(|one| Some((one.metadata.name?, one.spec.value))).collect())
}

/// How often it has joined, as far as it is a member of its own set; and in which network.
pub(crate) async fn member(client: &Client, cluster: &ClusterId) -> Result<Option<Member>> {
    let all: Api<Member> = Api::all(client.clone());
    match all.get_opt(cluster.as_str()).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        found => found.with_context(|| format!("Member {cluster}")),
    }
}

/// The members of the set whose hub it is.
pub(crate) async fn members(client: &Client) -> Result<Vec<String>> {
    let all: Api<Member> = Api::all(client.clone());
    let listed = all.list(&ListParams::default()).await.context("its Members")?;
    Ok(listed.items.into_iter().filter_map(|member| member.metadata.name).collect())
}

/// Those that are there.
pub(crate) async fn present(client: &Client, keys: Vec<Key>) -> Result<Vec<Key>> {
    let looked = stream::iter(keys).map(|key| async move {
        let found = match key.api(client.clone()).get_metadata_opt(&key.name).await {
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            found => found.with_context(|| format!("{} {}", key.kind, key.place()))?,
        };
        anyhow::Ok(found.map(|_| key))
    });
    let looked: Vec<Option<Key>> = looked.buffered(AT_ONCE).try_collect().await?;
    Ok(looked.into_iter().flatten().collect())
}

/// By what a cluster is told from another one of the same id.
pub(crate) async fn uid(client: &Client) -> Result<String> {
    let all: Api<Namespace> = Api::all(client.clone());
    let namespace = all.get("kube-system").await.context("namespace kube-system")?;
    Ok(namespace.metadata.uid.unwrap_or_default())
}

/// The root that is there, if there is one.
pub(crate) async fn root(
    client: &Client,
) -> Result<Option<Result<(ClusterSetId, Fingerprint), String>>> {
    Ok(secret(client, TRUST_NAMESPACE, ROOT_SECRET).await?.map(|kept| {
        let root = trust::read(&kept).map_err(|error| error.to_string())?;
        let fingerprint =
            trust::fingerprint(&root.cert_pem()).map_err(|error| error.to_string())?;
        Ok((root.set().clone(), fingerprint))
    }))
}

/// A Secret, where it is there.
pub(crate) async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>> {
    let all: Api<Secret> = Api::namespaced(client.clone(), namespace);
    all.get_opt(name).await.with_context(|| format!("Secret {namespace}/{name}"))
}

/// What was chosen when this was run before.
pub(crate) async fn chosen(client: &Client) -> Result<Option<BTreeMap<String, String>>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let found = match maps.get_opt(CHOICE).await {
        // What else is forbidden is told with it.
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(None),
        found => found.with_context(|| format!("ConfigMap {CHOICE_PLACE}"))?,
    };
    Ok(found.map(|map| map.data.unwrap_or_default()))
}

/// Whether it is a member of a set that is kept elsewhere.
pub(crate) async fn follows_a_hub(client: &Client) -> Result<bool> {
    Ok(secret(client, SYSTEM_NAMESPACE, HUB.secret).await?.is_some())
}

/// The Secrets that are made where they are not there.
pub(crate) async fn secrets(client: &Client, role: &Role) -> Result<Vec<Step>> {
    let first = match role {
        Role::Hub => (TRUST_NAMESPACE, ROOT_SECRET),
        Role::Member(_) => (SYSTEM_NAMESPACE, HUB.secret),
    };
    let mut steps = Vec::new();
    for (namespace, name) in [first, (SYSTEM_NAMESPACE, MEMBER.secret)] {
        let is_there = secret(client, namespace, name).await?.is_some();
        let [kind, version, namespace, name] = ["Secret", "v1", namespace, name].map(str::to_owned);
        let change = if is_there { Change::Keep } else { Change::Create };
        steps.push(Step { key: Key { kind, version, namespace, name }, change });
    }
    Ok(steps)
}

/// The version of its API server.
pub(crate) async fn server(client: &Client) -> Result<(u32, u32, String)> {
    let info = client.apiserver_version().await.context("the version of its API server")?;
    // Some say "34+".
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    };
    Ok((number(&info.major), number(&info.minor), info.git_version))
}

/// What whoever asks may not do of all that these objects need.
pub(crate) async fn denied(client: &Client, wanted: &[Value]) -> Result<Vec<String>> {
    let kinds = wanted.iter().map(|object| {
        let resource = Key::of(object).resource();
        (resource.group, resource.plural)
    });
    let secrets = (String::new(), "secrets".to_owned());
    let asked: BTreeSet<(String, String)> = kinds.chain([secrets]).collect();
    let everything = ("*".to_owned(), "*".to_owned());
    if may(client, &everything, "*").await? {
        return Ok(Vec::new());
    }
    let asked: Vec<((String, String), &str)> =
        asked.into_iter().flat_map(|what| VERBS.map(|verb| (what.clone(), verb))).collect();
    let answers = stream::iter(asked).map(|(what, verb)| async move {
        let allowed = may(client, &what, verb).await?;
        let (group, plural) = what;
        let dot = if group.is_empty() { "" } else { "." };
        anyhow::Ok((!allowed).then(|| format!("{verb} {plural}{dot}{group}")))
    });
    let denied: Vec<Option<String>> = answers.buffered(AT_ONCE).try_collect().await?;
    Ok(denied.into_iter().flatten().collect())
}

async fn may(client: &Client, (group, plural): &(String, String), verb: &str) -> Result<bool> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.clone()),
                resource: Some(plural.clone()),
                verb: Some(verb.into()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await;
    Ok(answer.context("what you may do there")?.status.is_some_and(|status| status.allowed))
}

/// What the cluster's own DNS is told now; none where it is not where it usually is.
pub(crate) async fn corefile(client: &Client) -> Result<Option<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get_opt("coredns").await.context("ConfigMap kube-system/coredns")?;
    Ok(map.and_then(|map| map.data?.remove("Corefile")))
}

/// What would become of each object, in their order; and those that would be refused, with the reason.
pub(crate) async fn preview(
    client: &Client,
    wanted: &[Value],
    force: bool,
) -> Result<(Vec<Step>, Vec<(Key, String)>)> {
    let looked = stream::iter(wanted).map(|object| look(client, object, force));
    let looked: Vec<Result<Step, (Key, String)>> = looked.buffered(AT_ONCE).try_collect().await?;
    let (mut steps, mut refused) = (Vec::new(), Vec::new());
    for one in looked {
        match one {
            Ok(step) => steps.push(step),
            Err(one) => refused.push(one),
        }
    }
    Ok((steps, refused))
}

async fn look(client: &Client, object: &Value, force: bool) -> Result<Result<Step, (Key, String)>> {
    let key = Key::of(object);
    let api = key.api(client.clone());
    let before = match api.get_opt(&key.name).await {
        // Of a kind that is not served there is none.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => None,
        before => before.with_context(|| format!("{} {}", key.kind, key.place()))?,
    };
    // What is not there may be in a namespace, or of a kind, that is not there either: nothing can be tried.
    let Some(before) = before else { return Ok(Ok(Step { key, change: Change::Create })) };
    let params = PatchParams { dry_run: true, force, ..PatchParams::apply(MANAGER) };
    match api.patch(&key.name, &params, &Patch::Apply(object)).await {
        Ok(after) => {
            let [before, after] = [serde_json::to_value(before)?, serde_json::to_value(after)?];
            Ok(Ok(Step { key, change: change(&before, &after) }))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let remedy = "give --force-conflicts to take it over, or let go of it there";
            Ok(Err((key, format!("{}: {remedy}", one_line(&status.message)))))
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
            Ok(Err((key, one_line(&status.message))))
        }
        Err(error) => Err(error).with_context(|| format!("{} {}", key.kind, key.place())),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
