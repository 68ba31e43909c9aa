//! Reads the state of a hub, and writes it to another one, or to the same.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use landbridge_api::{
    crds,
    crds::installed::applicable,
    landbridge::Member,
    wellknown::{ROOT_SECRET, SYSTEM_NAMESPACE, TRUST_NAMESPACE},
};
use landbridge_gateway::join::{StoreError, Tokens, trust};
use landbridge_model::ClusterId;
use serde::Serialize;
use serde_json::{Value, json};

use super::state::{self, Returned, State};
use crate::{
    exit::Usage,
    init::{apply, facts, wanted},
    kubernetes,
    manifests::hub,
};

/// Who writes what administrators have said of members: what joining writes is another's.
const RESTORE: &str = "landbridge-restore";

/// Reads it.
///
/// # Errors
/// A cluster that is no hub, or does not say what it is called; an API that refuses.
pub(crate) async fn read(client: &Client) -> Result<State> {
    let root = Tokens::new(client.clone()).root().await.map_err(|error| match error {
        StoreError::NoRoot => anyhow::Error::from(Usage(format!(
            "{error}: name the hub's API with --context or --kubeconfig"
        ))),
        error => error.into(),
    })?;
    let Some(cluster) = kubernetes::cluster_id(client).await? else {
        return Err(Usage("the hub does not say what it is called".into()).into());
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), TRUST_NAMESPACE);
    let all = secrets.list(&ListParams::default()).await.context("the hub's trust")?;
    let named = |secret: &&Secret, is: &dyn Fn(&str) -> bool| {
        secret.metadata.name.as_deref().is_some_and(is)
    };
    let kept = all.iter().find(|secret| named(secret, &|name| name == ROOT_SECRET));
    let left = all.iter().filter(|secret| named(secret, &state::is_left));
    let members: Api<Member> = Api::all(client.clone());
    let members = members.list(&ListParams::default()).await.context("its Members")?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let choice = maps.get_opt(wanted::CHOICE).await.context("what was chosen for it")?;
    Ok(State {
        cluster: cluster.to_string(),
        cluster_set: root.set().to_string(),
        root: portable(kept)?.unwrap_or_default(),
        left: left
            .map(|secret| Ok(portable(Some(secret))?.unwrap_or_default()))
            .collect::<Result<_>>()?,
        members: members
            .iter()
            .map(|member| Ok(portable(Some(member))?.unwrap_or_default()))
            .collect::<Result<_>>()?,
        choice: portable(choice.as_ref())?,
    })
}

fn portable<T: Serialize>(object: Option<&T>) -> Result<Option<Value>> {
    let value = object.map(serde_json::to_value).transpose()?;
    Ok(value.as_ref().map(state::portable))
}

/// Writes it; the epoch that it is of from then on.
///
/// # Errors
/// A cluster that is a member of another set, or another member of this one; an API that refuses. What was written stays, and
/// the same can be done again.
pub(crate) async fn write(client: &Client, state: &State) -> Result<u64> {
    if let Some(own) =
        kubernetes::cluster_id(client).await?.filter(|own| own.as_str() != state.cluster)
    {
        return Err(Usage(format!(
            "the cluster says that it is {own}, and the backup is of {}: restore it to the cluster that takes its place",
            state.cluster
        ))
        .into());
    }
    let there = facts::secret(client, TRUST_NAMESPACE, ROOT_SECRET).await?;
    let there = portable(there.as_ref())?;
    let trust = state.trust(there.as_ref()).map_err(Usage)?;
    let raised = state.raised(there.as_ref());
    let (kinds, _) = applicable(crds::all(), &facts::definitions(client).await?);
    let mut ground = vec![serde_json::to_value(trust::namespace())?];
    for kind in &kinds {
        ground.push(serde_json::to_value(kind)?);
    }
    for object in ground.iter().chain(&trust) {
        apply::object(client, object, true).await?;
    }
    apply::established(client, &wanted::kinds(&ground)).await?;
    if let Some(choice) = state.choice() {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if namespaces.get_opt(SYSTEM_NAMESPACE).await.context("its namespaces")?.is_none() {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}});
            apply::object(client, &namespace, false).await?;
        }
        apply::object(client, &choice, true).await?;
    }
    for object in hub::all() {
        apply::object(client, &object, true).await?;
    }
    for returned in state.members() {
        member(client, &returned, returned.name == state.cluster).await?;
    }
    Ok(raised)
}

/// What the hub has of one member. What is its own cluster's is made by `landbridge init`, but for what administrators have said
/// of it.
async fn member(client: &Client, returned: &Returned, is_own: bool) -> Result<()> {
    let Returned { name, record, said, status } = returned;
    let cluster = ClusterId::parse(name).with_context(|| format!("Member {name} of the backup"))?;
    if !is_own {
        for object in hub::far(&cluster) {
            apply::object(client, &object, true).await?;
        }
        apply::counted(client, &cluster).await?;
    }
    apply::object(client, record, true).await?;
    let members: Api<Member> = Api::all(client.clone());
    let what = || format!("Member {name}");
    let params = PatchParams::apply(RESTORE).force();
    members.patch(name, &params, &Patch::Apply(said)).await.with_context(what)?;
    if let Some(status) = status {
        let patch = Patch::Merge(json!({"status": status}));
        members.patch_status(name, &PatchParams::default(), &patch).await.with_context(what)?;
    }
    Ok(())
}
