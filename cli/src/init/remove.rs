//! Removes what was applied, and what the controller has written. What is gone already is no failure.

use anyhow::{Context, Result};
use kube::{
    Client,
    api::{DeleteParams, DynamicObject, ListParams},
};
use landbridge_api::wellknown::{APP_MANAGED_BY, LANDBRIDGE, MANAGED_BY};

use super::Key;

/// What the controller writes beside objects of our own kinds, and the label that it is known by. An import comes first: with
/// it its name goes.
const WRITTEN: [(&str, &str, &str); 4] = [
    ("multicluster.x-k8s.io/v1beta1", "ServiceImport", APP_MANAGED_BY),
    ("discovery.k8s.io/v1", "EndpointSlice", MANAGED_BY),
    ("v1", "Service", APP_MANAGED_BY),
    ("multicluster.x-k8s.io/v1alpha1", "ClusterProfile", APP_MANAGED_BY),
];

/// Removes these in their order; what the controller has written goes once nobody can write it again.
pub(crate) async fn all(client: &Client, keys: &[Key]) -> Result<()> {
    let is_early = |key: &&Key| {
        matches!(key.kind.as_str(), "Deployment" | "ClusterRoleBinding" | "RoleBinding")
    };
    let (early, late): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(is_early);
    for key in early {
        one(client, key).await?;
    }
    all_written(client).await?;
    for key in late {
        one(client, key).await?;
    }
    Ok(())
}

/// Removes what the controller has written.
pub(crate) async fn all_written(client: &Client) -> Result<()> {
    for (version, kind, label) in WRITTEN {
        written(client, version, kind, label).await?;
    }
    Ok(())
}

/// Removes one object.
pub(crate) async fn one(client: &Client, key: &Key) -> Result<()> {
    match key.api(client.clone()).delete(&key.name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop).with_context(|| format!("{} {}", key.kind, key.place())),
    }
}

async fn written(client: &Client, version: &str, kind: &str, label: &str) -> Result<()> {
    let [kind, version] = [kind, version].map(str::to_owned);
    let everywhere = Key { kind, version, namespace: String::new(), name: String::new() };
    let params = ListParams::default().labels(&format!("{label}={LANDBRIDGE}"));
    let listed = match everywhere.api(client.clone()).list(&params).await {
        // The kind is not there, and so none of it is.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        listed => listed.with_context(|| everywhere.kind.clone())?,
    };
    for object in listed {
        let DynamicObject { metadata, .. } = object;
        let namespace = metadata.namespace.unwrap_or_default();
        let name = metadata.name.unwrap_or_default();
        one(client, &Key { namespace, name, ..everywhere.clone() }).await?;
    }
    Ok(())
}
