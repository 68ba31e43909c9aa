//! The writes that exports come to, without anybody who thinks: how fast do the API servers take them?

use std::time::Instant;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    cluster::{PARIS, Set},
    world::real::{CLUSTER_EXPORT, Cluster, EXPORT, IMPORT, IN_FLIGHT, Kind, SERVICE, SLICE},
};

/// What API servers say of an object and nobody writes.
const SERVERS: [&str; 6] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// An object, and its status where that is written apart.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    kind: Kind,
    object: Value,
    status: Option<Value>,
}

/// What each API is to be given: the hub, paris, berlin.
pub(crate) type Objects = [Vec<Object>; 3];

/// What came of it.
pub(crate) struct Raw {
    pub(crate) seconds: f64,
    pub(crate) writes: u64,
}

/// What the exports of a namespace have come to: what controllers have made, what users have written to ask for it, and
/// what they were told.
pub(crate) async fn objects(set: &Set, namespace: &str) -> anyhow::Result<Objects> {
    let hub_namespace = format!("cluster-{PARIS}");
    let mut hub = Vec::new();
    for (name, object) in set.hub.list(CLUSTER_EXPORT, &hub_namespace).await? {
        if name.starts_with(&format!("{namespace}.")) {
            hub.push(Object { kind: CLUSTER_EXPORT, object, status: None });
        }
    }
    let mut members = [Vec::new(), Vec::new()];
    for (member, objects) in [&set.paris, &set.berlin].into_iter().zip(&mut members) {
        for kind in [SERVICE, SLICE, IMPORT, EXPORT] {
            for (_, mut object) in member.list(kind, namespace).await? {
                let status = object.as_object_mut().and_then(|fields| fields.remove("status"));
                let has_status = kind == IMPORT || kind == EXPORT;
                let status = status.filter(|_| has_status);
                if has_status || is_ours(&object) {
                    objects.push(Object { kind, object, status });
                }
            }
        }
    }
    let [paris, berlin] = members;
    Ok([hub, paris, berlin])
}

/// Writes all of that in a namespace of its own, in the order in which it depends on one another, with as many requests
/// in flight at each API as a controller has.
pub(crate) async fn writes(set: &Set, round: usize, objects: Objects) -> anyhow::Result<Raw> {
    let namespace = format!("raw-{round}");
    set.namespace(&namespace).await?;
    set.hub.create(crate::world::namespace(&namespace)).await?;
    let statuses = objects.iter().flatten().filter(|object| object.status.is_some()).count();
    let writes = objects.iter().map(Vec::len).sum::<usize>() + statuses;
    let objects = objects.map(|of_api| {
        of_api.into_iter().map(|object| placed(object, &namespace)).collect::<Vec<_>>()
    });
    let [hub, paris, berlin] = objects;
    let begun = Instant::now();
    futures::try_join!(
        write_all(&set.hub, hub, &namespace),
        write_all(&set.paris, paris, &namespace),
        write_all(&set.berlin, berlin, &namespace),
    )?;
    Ok(Raw { seconds: begun.elapsed().as_secs_f64(), writes: u64::try_from(writes)? })
}

async fn write_all(cluster: &Cluster, objects: Vec<Object>, namespace: &str) -> anyhow::Result<()> {
    let written = stream::iter(objects).map(|Object { kind, object, status }| async move {
        let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
        cluster.create(object).await?;
        if let Some(status) = status {
            let patch = Patch::Merge(json!({"status": status}));
            let api = cluster.api(kind, namespace);
            api.patch_status(&name, &PatchParams::default(), &patch).await?;
        }
        anyhow::Ok(())
    });
    written.buffer_unordered(IN_FLIGHT).try_collect().await
}

/// The object as it is first written, elsewhere.
fn placed(mut object: Object, namespace: &str) -> Object {
    let metadata = &mut object.object["metadata"];
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|name, _| !SERVERS.contains(&name.as_str()));
    }
    metadata["namespace"] = json!(namespace);
    if object.kind == SERVICE
        && let Some(spec) = object.object["spec"].as_object_mut()
    {
        // Those that it has are taken: the API server is to find others.
        spec.retain(|name, _| name != "clusterIP" && name != "clusterIPs");
    }
    object
}

fn is_ours(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    ["app.kubernetes.io/managed-by", "endpointslice.kubernetes.io/managed-by"]
        .iter()
        .any(|label| labels[*label] == "landbridge.dev")
}
