//! What the roles for people allow, by a real API server's judgement: exporting where a team may, reading, and no more.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::members::{Cluster, MCS, api, create};

fn object(kind: &str, namespace: &str, more: &Value) -> Value {
    let mut object = json!({"apiVersion": MCS, "kind": kind,
        "metadata": {"namespace": namespace, "name": "web"}});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

fn is_forbidden<T>(answer: kube::Result<T>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code == 403)
}

/// KEP-1645 on RBAC: who may export is restricted by namespace; whoever is no administrator must not make or change
/// ServiceImports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_exports_from_its_own_namespace_and_writes_no_import() {
    let cluster = Cluster::start("people").await;
    cluster.apply("people.yaml", "").await;
    let import =
        json!({"spec": {"type": "ClusterSetIP", "ports": [{"port": 80, "protocol": "TCP"}]}});
    for name in ["shop", "bank"] {
        cluster
            .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .await;
        cluster.create(object("ServiceImport", name, &import)).await;
    }
    cluster
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": "shop", "name": "team"}}))
        .await;
    let bindings =
        [("shop", "landbridge-exporter"), ("shop", "landbridge-view"), ("bank", "landbridge-view")];
    for (namespace, role) in bindings {
        let group = "rbac.authorization.k8s.io";
        cluster
            .create(json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
                "metadata": {"namespace": namespace, "name": role},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "namespace": "shop", "name": "team"}]}))
            .await;
    }
    let team = cluster.client_of("shop", "team").await;
    create(&team, object("ServiceExport", "shop", &json!({}))).await.unwrap();
    assert!(is_forbidden(create(&team, object("ServiceExport", "bank", &json!({}))).await));
    let (params, patch) =
        (PatchParams::default(), Patch::Merge(json!({"status": {"conditions": []}})));
    let exports = api(&team, MCS, "ServiceExport", "shop");
    assert!(is_forbidden(exports.patch_status("web", &params, &patch).await));
    for namespace in ["shop", "bank"] {
        let imports = api(&team, MCS, "ServiceImport", namespace);
        imports.get("web").await.unwrap();
        let patch = Patch::Merge(json!({"spec": {"type": "Headless"}}));
        assert!(is_forbidden(imports.patch("web", &params, &patch).await));
        assert!(is_forbidden(imports.delete("web", &DeleteParams::default()).await));
        let mut other = object("ServiceImport", namespace, &import);
        other["metadata"]["name"] = json!("other");
        assert!(is_forbidden(create(&team, other).await));
    }
    exports.delete("web", &DeleteParams::default()).await.unwrap();
}
