//! One cluster of a run: makes what is to be made, reads how it went, and takes all of it away again.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Pod},
    },
    jiff,
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, LogParams, PostParams},
};
use landbridge_api::{
    landbridge::Peer,
    mcs::{ServiceExport, ServiceImport},
    served,
    wellknown::{CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY, SYSTEM_NAMESPACE},
};
use landbridge_model::{ClusterId, ClusterSetId};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    LABEL,
    objects::{self, CALLER, Image, SERVER},
    seen::{self, Other, Seen},
};
use crate::{
    config::common::Reach,
    exit::Usage,
    init::{Key, facts},
    kubernetes::{self, answered},
    probe::Called,
};

/// Where the image is read from: what every member runs.
const CONTROLLER: &str = "landbridge-controller";
/// How often a cluster is asked how far it is.
const ASKED: Duration = Duration::from_millis(250);
/// Kubernetes makes the account of a new namespace's pods a moment after it.
const ACCOUNT: Duration = Duration::from_secs(15);
/// How old a namespace of ours is that nobody can be using any more.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A cluster, and who it is.
pub(crate) struct Place {
    pub(crate) cluster: ClusterId,
    pub(crate) set: ClusterSetId,
    client: Client,
    context: String,
    image: Image,
}

impl Place {
    /// Asks a cluster who it is and what it runs. Nothing is changed.
    ///
    /// # Errors
    /// An API that cannot be asked; a cluster that is no member of a set, or whose image is not known.
    pub(crate) async fn at(reach: &Reach, image: Option<&str>) -> Result<Self> {
        let context = reach.context.clone().unwrap_or_default();
        let asked = async {
            let (client, _) = served::adapt(kubernetes::client(reach).await?);
            let (cluster, set) = identity(&client).await?;
            let image = match image {
                Some(name) => Image { name: name.to_owned(), policy: None },
                None => own_image(&client).await?,
            };
            Ok(Self { cluster, set, client, context: context.clone(), image })
        };
        let place = answered(Box::pin(asked)).await;
        if context.is_empty() { place } else { place.with_context(|| format!("context {context}")) }
    }

    /// Takes away what a run that was killed has left. It is of no use to anybody, and so no failure where it stays.
    pub(crate) async fn sweep(&self) {
        let all: Api<Namespace> = Api::all(self.client.clone());
        let params = ListParams::default().labels(LABEL);
        let Ok(listed) = all.list(&params).await else { return };
        let now = jiff::Timestamp::now();
        for namespace in listed {
            let made = namespace.metadata.creation_timestamp.map(|time| time.0);
            let age = made.and_then(|made| Duration::try_from(now.duration_since(made)).ok());
            let name = namespace.metadata.name.unwrap_or_default();
            if age.is_some_and(|age| age > FORGOTTEN) {
                let _ = all.delete(&name, &DeleteParams::background()).await;
            }
        }
    }

    /// Makes sure that the namespace is not there: what is not ours is not to be taken away.
    ///
    /// # Errors
    /// Where it is.
    pub(crate) async fn vacant(&self, namespace: &str) -> Result<()> {
        let all: Api<Namespace> = Api::all(self.client.clone());
        let found = all.get_opt(namespace).await;
        if found.with_context(|| format!("{}: Namespace {namespace}", self.cluster))?.is_some() {
            let problem = format!("namespace {namespace} is in {} already", self.cluster);
            return Err(
                Usage(format!("{problem}: leave --namespace out, or give another one")).into()
            );
        }
        Ok(())
    }

    /// Makes the namespace.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(crate) async fn begin(&self, namespace: &str) -> Result<()> {
        self.create(&objects::namespace(namespace)).await
    }

    /// Makes what is in it, and waits until its pods have reported, or for `within`.
    pub(crate) async fn run(&self, all: &[String], namespace: &str, within: Duration) -> Seen {
        let deadline = Instant::now() + within;
        let mut seen = Seen {
            cluster: self.cluster.to_string(),
            context: self.context.clone(),
            ..Seen::default()
        };
        let made = objects::all(self.cluster.as_str(), all, namespace, &self.image, within);
        for object in &made {
            if let Err(error) = self.create(object).await {
                seen.server = Some(crate::exit::line(error.as_ref()));
                return seen;
            }
        }
        while Instant::now() < deadline {
            let caller = self.pod(namespace, CALLER).await;
            if matches!(&caller, Ok(Some(pod)) if seen::is_over(pod)) {
                break;
            }
            sleep(ASKED).await;
        }
        if let Err(error) = self.look(all, namespace, &mut seen).await {
            seen.server = Some(crate::exit::line(error.as_ref()));
        }
        seen
    }

    async fn create(&self, object: &Value) -> Result<()> {
        let key = Key::of(object);
        let api = key.api(self.client.clone());
        let written: DynamicObject = serde_json::from_value(object.clone())?;
        let begun = Instant::now();
        loop {
            match api.create(&PostParams::default(), &written).await {
                Err(kube::Error::Api(status))
                    if key.kind == "Pod"
                        && status.message.contains("serviceaccount")
                        && begun.elapsed() < ACCOUNT =>
                {
                    sleep(ASKED).await;
                }
                made => {
                    let what = || format!("{}: {} {}", self.cluster, key.kind, key.place());
                    return made.map(drop).with_context(what);
                }
            }
        }
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        pods.get_opt(name).await.with_context(|| format!("Pod {namespace}/{name}"))
    }

    /// Reads everything that can be known of how it went.
    async fn look(&self, all: &[String], namespace: &str, seen: &mut Seen) -> Result<()> {
        let [server, caller] =
            [self.pod(namespace, SERVER).await?, self.pod(namespace, CALLER).await?];
        seen.server = seen::unready(server.as_ref());
        seen.caller = seen::unfinished(caller.as_ref());
        if seen.caller.is_none() {
            match self.reported(namespace).await {
                Ok(called) => seen.called = Some(called),
                Err(error) => seen.caller = Some(crate::exit::line(error.as_ref())),
            }
        }
        let exports: Api<ServiceExport> = Api::namespaced(self.client.clone(), namespace);
        let service = objects::service(self.cluster.as_str());
        let export = exports.get_opt(&service).await.context("its ServiceExport")?;
        let conditions = export.as_ref().map_or(&[][..], ServiceExport::conditions);
        seen.export = seen::untrue(conditions, &["Valid", "Ready"]);
        seen.others = self.others(all, namespace).await?;
        Ok(())
    }

    async fn reported(&self, namespace: &str) -> Result<Called> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let log = pods.logs(CALLER, &LogParams::default()).await.context("the log of its pod")?;
        let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("the report of its pod: {last:?}"))
    }

    async fn others(&self, all: &[String], namespace: &str) -> Result<BTreeMap<String, Other>> {
        let imports: Api<ServiceImport> = Api::namespaced(self.client.clone(), namespace);
        let peers: Api<Peer> = Api::all(self.client.clone());
        let mut others = BTreeMap::new();
        for cluster in all {
            let import = imports.get_opt(&objects::service(cluster)).await;
            let import = import.context("its ServiceImports")?;
            let conditions = import.as_ref().map(|import| import.conditions().to_vec());
            let peer = peers.get_opt(cluster).await.context("its Peers")?;
            let other = Other {
                is_imported: import.is_some(),
                import: conditions.and_then(|all| seen::untrue(&all, &["Ready"])),
                link: peer.as_ref().map(objects::link),
            };
            others.insert(cluster.clone(), other);
        }
        Ok(others)
    }

    /// Takes it away, and waits until it is gone; what it says where it is not.
    pub(crate) async fn end(&self, namespace: &str, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        let all: Api<Namespace> = Api::all(self.client.clone());
        let mut says = "it is still going".to_owned();
        loop {
            match all.delete(namespace, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => return None,
                Err(error) => says = error.to_string(),
                Ok(_) => {}
            }
            if Instant::now() > deadline {
                return Some(format!("{}: namespace {namespace}: {says}", self.cluster));
            }
            sleep(ASKED).await;
        }
    }
}

async fn identity(client: &Client) -> Result<(ClusterId, ClusterSetId)> {
    let said = facts::properties(client).await?;
    let [cluster, set] = [CLUSTER_ID_PROPERTY, CLUSTER_SET_PROPERTY].map(|name| said.get(name));
    let (Some(cluster), Some(set)) = (cluster, set) else {
        let problem = "it is no member of a set, since it does not say who it is";
        return Err(Usage(format!("{problem}: see `landbridge init` and `landbridge join`")).into());
    };
    Ok((ClusterId::parse(cluster)?, ClusterSetId::parse(set)?))
}

async fn own_image(client: &Client) -> Result<Image> {
    let all: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let found = all.get_opt(CONTROLLER).await.context("its Deployment")?;
    let spec = found.and_then(|deployment| deployment.spec?.template.spec);
    let container = spec.and_then(|spec| spec.containers.into_iter().next());
    let image = container.and_then(|one| Some((one.image?, one.image_pull_policy)));
    let Some((name, policy)) = image else {
        let problem = format!(
            "there is no Deployment {SYSTEM_NAMESPACE}/{CONTROLLER} whose image its pods could run"
        );
        return Err(Usage(format!("{problem}: give --image")).into());
    };
    Ok(Image { name, policy })
}
