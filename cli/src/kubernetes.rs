//! Clients of Kubernetes APIs, and what a cluster says of itself.

use std::{error::Error, time::Duration};

use anyhow::{Context, Result};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use landbridge_api::{
    about::ClusterProperty,
    wellknown::{CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY},
};
use landbridge_model::{ClusterId, ClusterSetId};

use crate::{
    config::common::{Membership, Reach},
    exit::{Unanswered, Usage, line},
};

/// How long an API may take to say who its cluster is. Longer than the connect timeout of a slow network, shorter than
/// the patience of whatever started the process.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client for the API that `reach` names. Nothing is sent yet.
///
/// # Errors
/// Says which file or context is wrong, or that there is none.
pub(crate) async fn client(reach: &Reach) -> Result<Client> {
    connect(config(reach).await?)
}

/// How the API that `reach` names is reached.
///
/// # Errors
/// Says which file or context is wrong, or that there is none.
pub(crate) async fn config(reach: &Reach) -> Result<Config> {
    let context = reach.context.as_deref();
    match (&reach.kubeconfig, context) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).map_err(|error| unusable(&error));
            let config = match file {
                Ok(file) => config_from(file, context).await,
                Err(error) => Err(error),
            };
            config.with_context(|| path.display().to_string())
        }
        (None, Some(_)) => {
            let file = Kubeconfig::read().map_err(|error| unusable(&error))?;
            config_from(file, context).await
        }
        (None, None) => {
            Config::infer().await.map_err(|error| {
                // Its source is the kubeconfig's problem; that this is not a pod is rarely news.
                let problem = error.source().map(brief).unwrap_or_default();
                let remedy = "give --kubeconfig FILE, or set KUBECONFIG";
                Usage(format!(
                    "no kubeconfig can be used and this is not a pod ({problem}): {remedy}"
                ))
                .into()
            })
        }
    }
}

/// A client for one context of a kubeconfig, its current one unless named. Nothing is sent yet.
///
/// # Errors
/// Says what in it cannot be used.
pub(crate) async fn client_from(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Client> {
    connect(config_from(kubeconfig, context).await?)
}

async fn config_from(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Config> {
    let options =
        KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| unusable(&error))
}

/// A client of it. Nothing is sent yet.
///
/// # Errors
/// Where none can be made.
pub(crate) fn connect(config: Config) -> Result<Client> {
    let server = config.cluster_url.clone();
    Client::try_from(config)
        .with_context(|| format!("no client can be made for the Kubernetes API at {server}"))
}

fn unusable(error: &KubeconfigError) -> anyhow::Error {
    let problem = brief(error);
    usage(format!("the kubeconfig cannot be used ({problem}): see `kubectl config get-contexts`"))
}

/// What is wrong with a kubeconfig, on one line: what does not parse is otherwise quoted with the lines around it.
fn brief(error: &(dyn Error + 'static)) -> String {
    line(error).lines().next().unwrap_or_default().to_owned()
}

/// Who this cluster is: as it was told, else as its ClusterProperties say (KEP-2149).
///
/// # Errors
/// Where the API does not answer, or neither says.
pub(crate) async fn identity(
    client: &Client,
    membership: &Membership,
) -> Result<(ClusterId, ClusterSetId)> {
    let cluster = match &membership.cluster {
        Some(cluster) => cluster.clone(),
        None => property(client, CLUSTER_ID_PROPERTY, "cluster", ClusterId::parse).await?,
    };
    let set = match &membership.set {
        Some(set) => set.clone(),
        None => property(client, CLUSTER_SET_PROPERTY, "cluster-set", ClusterSetId::parse).await?,
    };
    Ok((cluster, set))
}

async fn property<T, E: std::fmt::Display>(
    client: &Client,
    name: &str,
    setting: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T> {
    let properties: Api<ClusterProperty> = Api::all(client.clone());
    let found = tokio::time::timeout(PATIENCE, properties.get_opt(name))
        .await
        .map_err(|_| anyhow::Error::from(Unanswered(PATIENCE)))
        .and_then(|answer| Ok(answer?))
        .with_context(|| format!("the Kubernetes API cannot be asked for ClusterProperty {name}, and --{setting} is not given"))?;
    let Some(property) = found else {
        return Err(usage(format!(
            "this cluster does not say who it is: give --{setting}, or create ClusterProperty {name}"
        )));
    };
    parse(&property.spec.value).map_err(|error| {
        usage(format!(
            "ClusterProperty {name} cannot be used ({error}): correct it, or give --{setting}"
        ))
    })
}

/// What a cluster is called, as its ClusterProperty says; none where it says nothing.
///
/// # Errors
/// Where the API does not answer, or says something that is no id.
pub(crate) async fn cluster_id(client: &Client) -> Result<Option<ClusterId>> {
    let properties: Api<ClusterProperty> = Api::all(client.clone());
    let found = match properties.get_opt(CLUSTER_ID_PROPERTY).await {
        // Where the kind is not installed, there is none of it.
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        found => found.with_context(|| format!("ClusterProperty {CLUSTER_ID_PROPERTY}"))?,
    };
    let Some(property) = found else { return Ok(None) };
    ClusterId::parse(&property.spec.value).map(Some).map_err(|error| {
        usage(format!("ClusterProperty {CLUSTER_ID_PROPERTY} cannot be used ({error}): correct it"))
    })
}

/// What a command asks of an API. People do not wait for one that is not there for longer than they must.
///
/// # Errors
/// [`Unanswered`] after some seconds, and whatever went wrong.
pub(crate) async fn answered<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| Unanswered(PATIENCE))?
}

fn usage(message: String) -> anyhow::Error {
    Usage(message).into()
}
