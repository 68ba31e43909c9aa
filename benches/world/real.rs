//! Real API servers for benchmarks: each with every kind that Landbridge reads or writes, as its administrator sees it.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams},
};
use landbridge_xtask::apiserver::ApiServer;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::SYSTEM;

/// "with 32 requests in flight": as many as our controllers have at one API.
pub(crate) const IN_FLIGHT: usize = 32;
/// What does not come within this never will.
pub(crate) const LONGEST: Duration = Duration::from_secs(180);

pub(crate) const EXPORT: Kind = Kind("multicluster.x-k8s.io/v1beta1", "ServiceExport");
pub(crate) const IMPORT: Kind = Kind("multicluster.x-k8s.io/v1beta1", "ServiceImport");
pub(crate) const SERVICE: Kind = Kind("v1", "Service");
pub(crate) const SLICE: Kind = Kind("discovery.k8s.io/v1", "EndpointSlice");
pub(crate) const CLUSTER_EXPORT: Kind = Kind("landbridge.dev/v1alpha1", "ClusterExport");
const CRD: Kind = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition");

/// `apiVersion` and `kind`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kind(pub(crate) &'static str, pub(crate) &'static str);

/// One API server, as its administrator sees it.
pub(crate) struct Cluster {
    pub(crate) server: &'static ApiServer,
    pub(crate) admin: Client,
}

impl Cluster {
    /// The API server with this name, with nothing but the kinds in it.
    pub(crate) async fn start(name: &'static str) -> anyhow::Result<Self> {
        let server = ApiServer::shared(name).await?;
        let cluster = Self { server, admin: server.admin() };
        for crd in landbridge_api::crds::all() {
            let name = crd.metadata.name.clone().context("a CRD has a name")?;
            cluster.create(serde_json::to_value(crd)?).await?;
            let crds = cluster.api(CRD, "");
            until(&name, async || {
                let crd = crds.get(&name).await?;
                let conditions = crd.data["status"]["conditions"].as_array().cloned();
                let is_there =
                    |one: &Value| one["type"] == "Established" && one["status"] == "True";
                Ok(conditions.unwrap_or_default().iter().any(is_there).then_some(()))
            })
            .await?;
        }
        Ok(cluster)
    }

    /// Applies a file of `deploy/rbac`, for a member where it is made for one. Nobody counts what a quota allows.
    pub(crate) async fn apply(&self, file: &str, member: &str) -> anyhow::Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rbac");
        let text = fs::read_to_string(folder.join(file))?;
        for document in serde_norway::Deserializer::from_str(&text.replace("CLUSTER", member)) {
            let object = Value::deserialize(document)?;
            if object["kind"] != "ResourceQuota" {
                self.create(object).await?;
            }
        }
        Ok(())
    }

    /// A client with a token of a service account.
    pub(crate) async fn client_of(&self, namespace: &str, account: &str) -> anyhow::Result<Client> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400}});
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&body)?)?;
        let answer: Value = self.admin.request(request).await?;
        Ok(self.server.client(answer["status"]["token"].as_str().context("a token")?))
    }

    pub(crate) fn api(&self, Kind(version, kind): Kind, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if namespace.is_empty() {
            Api::all_with(self.admin.clone(), &resource)
        } else {
            Api::namespaced_with(self.admin.clone(), namespace, &resource)
        }
    }

    pub(crate) async fn create(&self, object: Value) -> anyhow::Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let namespace = text(&object["metadata"]["namespace"]);
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = if namespace.is_empty() {
            Api::all_with(self.admin.clone(), &resource)
        } else {
            Api::namespaced_with(self.admin.clone(), &namespace, &resource)
        };
        let what = format!("{kind} {}", object["metadata"]["name"]);
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await.context(what)?;
        Ok(())
    }

    /// Makes objects, so many at once as a controller would.
    pub(crate) async fn create_all(&self, objects: Vec<Value>) -> anyhow::Result<()> {
        let made = stream::iter(objects).map(|object| self.create(object));
        made.buffer_unordered(IN_FLIGHT).try_collect().await
    }

    /// Deletes every object of a kind that has to do with exports; the kind may not be served here.
    pub(crate) async fn clear(&self, kind: Kind) -> anyhow::Result<()> {
        let of_exports = |object: &DynamicObject| {
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            !["default", SYSTEM].contains(&namespace)
        };
        let found = self.api(kind, "").list(&ListParams::default()).await?;
        let found = found.items.into_iter().filter(of_exports).map(|object| async move {
            let namespace = object.metadata.namespace.unwrap_or_default();
            let name = object.metadata.name.unwrap_or_default();
            self.api(kind, &namespace).delete(&name, &DeleteParams::default()).await.map(drop)
        });
        Ok(stream::iter(found).buffer_unordered(IN_FLIGHT).try_collect().await?)
    }

    /// The objects of a kind in a namespace, by name.
    pub(crate) async fn list(
        &self,
        kind: Kind,
        namespace: &str,
    ) -> anyhow::Result<BTreeMap<String, Value>> {
        let found = self.api(kind, namespace).list(&ListParams::default()).await?;
        let named = found.items.into_iter().map(|mut object| {
            object.types = None;
            let mut value = serde_json::to_value(&object)?;
            value["apiVersion"] = json!(kind.0);
            value["kind"] = json!(kind.1);
            Ok((object.metadata.name.unwrap_or_default(), value))
        });
        named.collect()
    }
}

/// Waits until there is something.
pub(crate) async fn until<T>(
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await? {
            return Ok(found);
        }
        if begun.elapsed() > LONGEST {
            bail!("{what}: not within {LONGEST:?}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}
