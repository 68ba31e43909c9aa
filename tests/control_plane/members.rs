//! Controllers on real API servers, each with the roles of `deploy/rbac` and no others: an export becomes an import and
//! goes again, and the hub refuses what a member has no right to.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Client,
    api::{
        Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
        PatchParams, PostParams,
    },
};
use landbridge_controller::{Config, Controller};
use landbridge_model::{ClusterId, Namespace};
use landbridge_xtask::apiserver::ApiServer;
use prometheus_client::registry::Registry;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::api_server;

pub(crate) const LANDBRIDGE: &str = "landbridge.dev/v1alpha1";
pub(crate) const MCS: &str = "multicluster.x-k8s.io/v1beta1";
pub(crate) const SLICES: &str = "discovery.k8s.io/v1";
/// The name of the Service derived from shop/web.
pub(crate) const DERIVED: &str = "derived-isrlchlhrq";
/// How long is waited for what comes within a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// A cluster, as its administrator sees it.
pub(crate) struct Cluster {
    pub(crate) server: &'static ApiServer,
    pub(crate) admin: Client,
}

pub(crate) fn api(
    client: &Client,
    version: &str,
    kind: &str,
    namespace: &str,
) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

pub(crate) async fn create(client: &Client, object: Value) -> kube::Result<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api = api(
        client,
        &text(&object["apiVersion"]),
        &text(&object["kind"]),
        &text(&object["metadata"]["namespace"]),
    );
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await
}

pub(crate) async fn becomes<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        match check().await {
            Some(value) => return value,
            None if begun.elapsed() > PATIENCE => panic!("{what}: not within {PATIENCE:?}"),
            None => sleep(Duration::from_millis(20)).await,
        }
    }
}

impl Cluster {
    /// A cluster with every kind that Landbridge reads or writes.
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::start_with(name, landbridge_api::crds::all()).await
    }

    /// A cluster with these kinds.
    pub(crate) async fn start_with(
        name: &'static str,
        crds: Vec<CustomResourceDefinition>,
    ) -> Self {
        Self::of(api_server(name).await, crds).await
    }

    /// What an API server serves, once it has these kinds.
    pub(crate) async fn of(
        server: &'static ApiServer,
        crds: Vec<CustomResourceDefinition>,
    ) -> Self {
        let cluster = Self { server, admin: server.admin() };
        for crd in crds {
            let name = crd.metadata.name.clone().unwrap();
            create(&cluster.admin, serde_json::to_value(crd).unwrap()).await.unwrap();
            becomes(&name, async || {
                let crds =
                    api(&cluster.admin, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "");
                let crd = crds.get(&name).await.unwrap();
                let conditions = crd.data["status"]["conditions"].as_array()?.clone();
                let is_there =
                    |one: &Value| one["type"] == "Established" && one["status"] == "True";
                conditions.iter().any(is_there).then_some(())
            })
            .await;
        }
        cluster
    }

    /// Applies a file of `deploy/rbac`, for a member where it is made for one.
    pub(crate) async fn apply(&self, file: &str, member: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rbac");
        let text = fs::read_to_string(folder.join(file)).unwrap();
        for document in serde_norway::Deserializer::from_str(&text.replace("CLUSTER", member)) {
            let object = Value::deserialize(document).unwrap();
            create(&self.admin, object.clone()).await.unwrap();
            if object["kind"] == "ResourceQuota" {
                self.count(&object, 0).await;
            }
        }
    }

    /// Says of a ResourceQuota what kube-controller-manager says, which does not run here: how much is allowed, and
    /// that so much is used. Until that is said, an API server takes nothing; from then on it counts by itself.
    pub(crate) async fn count(&self, quota: &Value, used: u32) {
        let text = |name: &str| quota["metadata"][name].as_str().unwrap().to_owned();
        let hard = quota["spec"]["hard"].as_object().unwrap();
        let used: BTreeMap<&String, String> =
            hard.keys().map(|resource| (resource, used.to_string())).collect();
        let status = json!({"status": {"hard": hard, "used": used}});
        let quotas = api(&self.admin, "v1", "ResourceQuota", &text("namespace"));
        let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
        quotas.patch_status(&text("name"), &params, &patch).await.unwrap();
    }

    /// A client with a token of a service account.
    pub(crate) async fn client_of(&self, namespace: &str, account: &str) -> Client {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&body).unwrap())
            .unwrap();
        let answer: Value = self.admin.request(request).await.unwrap();
        self.server.client(answer["status"]["token"].as_str().unwrap())
    }

    pub(crate) async fn find(&self, version: &str, kind: &str, name: &str) -> Option<Value> {
        let found = api(&self.admin, version, kind, "shop").get_opt(name).await;
        Some(serde_json::to_value(found.unwrap()?).unwrap())
    }

    pub(crate) async fn create(&self, object: Value) {
        create(&self.admin, object).await.unwrap();
    }
}

/// Makes a cluster a member of the set, with whatever its Member says besides; returns its client of the hub.
pub(crate) async fn join(hub: &Cluster, member: &'static str, spec: &Value) -> Client {
    let mut object = json!({"apiVersion": LANDBRIDGE, "kind": "Member", "metadata": {"name": member},
        "spec": {"generation": 1, "network": member}});
    let fields = object["spec"].as_object_mut().unwrap();
    fields.extend(spec.as_object().unwrap().clone());
    hub.create(object).await;
    hub.apply("hub-member.yaml", member).await;
    hub.client_of(&format!("cluster-{member}"), "landbridge-member").await
}

/// Runs a controller with the rights of its role until the token is cancelled.
pub(crate) async fn control(hub: &Cluster, member: &Cluster, stop: &CancellationToken) {
    let name = member.server.name();
    member.apply("controller.yaml", name).await;
    member
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
        .await;
    let local = member.client_of("landbridge-system", "landbridge-controller").await;
    let hub = join(hub, name, &json!({})).await;
    let config = Config::new(
        ClusterId::parse(name).unwrap(),
        "demo".parse().unwrap(),
        name.parse().unwrap(),
        Namespace::parse("landbridge-system").unwrap(),
    );
    let mut registry = Registry::with_prefix("landbridge");
    let controller = Controller::bind(config, local, hub, &mut registry).await.unwrap();
    let until = stop.clone();
    tokio::spawn(async move { controller.run(until).await.unwrap() });
}

/// What exports `shop/<name>`, with a pod.
pub(crate) fn export(name: &str, mcs: &str) -> [Value; 3] {
    let slice = format!("{name}-x7k2p");
    let labels = json!({"kubernetes.io/service-name": name});
    let name = json!({"namespace": "shop", "name": name});
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": name,
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": SLICES, "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": slice, "labels": labels},
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": [{"addresses": ["198.51.100.5"], "conditions": {"ready": true}}]}),
        json!({"apiVersion": mcs, "kind": "ServiceExport", "metadata": name}),
    ]
}

/// The object, where its condition of this type is true.
pub(crate) fn is_ready(object: Value, type_: &str) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array().cloned();
    let is = |one: &Value| one["type"] == type_ && one["status"] == "True";
    conditions.unwrap_or_default().iter().any(is).then_some(object)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_with_their_roles_alone_export_import_and_take_back() {
    let hub = Cluster::start("hub").await;
    hub.apply("hub.yaml", "").await;
    hub.apply("hub-policies.yaml", "").await;
    let [paris, berlin] = [Cluster::start("paris").await, Cluster::start("berlin").await];
    let stop = CancellationToken::new();
    for member in [&paris, &berlin] {
        control(&hub, member, &stop).await;
    }
    // Nobody answers there: an import is ready all the same, since the last gateway is never withdrawn.
    berlin
        .create(json!({"apiVersion": SLICES, "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "landbridge-system", "name": "gateway",
                "labels": {"kubernetes.io/service-name": "landbridge-gateway"}},
            "ports": [{"name": "link", "protocol": "UDP", "port": 4433}, {"name": "admin", "protocol": "TCP", "port": 9}],
            "endpoints": [{"addresses": ["192.0.2.3"]}]}))
        .await;
    for object in export("web", MCS) {
        paris.create(object).await;
    }
    for member in [&berlin, &paris] {
        let import = becomes("the import is ready", async || {
            is_ready(member.find(MCS, "ServiceImport", "web").await?, "Ready")
        })
        .await;
        let service = member.find("v1", "Service", DERIVED).await.unwrap();
        // The cluster is dual-stack, and the pods that serve have one family.
        assert_eq!(import["spec"]["ips"], json!([service["spec"]["clusterIP"]]));
        becomes("the Service belongs to its import", async || {
            let service = member.find("v1", "Service", DERIVED).await?;
            (service["metadata"]["ownerReferences"][0]["uid"] == import["metadata"]["uid"])
                .then_some(())
        })
        .await;
    }
    for member in ["berlin", "paris"] {
        becomes("tools are told of the member", async || {
            let profiles = api(
                &berlin.admin,
                "multicluster.x-k8s.io/v1alpha1",
                "ClusterProfile",
                "landbridge-system",
            );
            let profile = serde_json::to_value(profiles.get_opt(member).await.unwrap()?).unwrap();
            is_ready(profile, "ControlPlaneHealthy")
                .filter(|profile| profile["status"]["version"]["kubernetes"].is_string())
        })
        .await;
        let leases = api(&berlin.admin, "coordination.k8s.io/v1", "Lease", "landbridge-system");
        becomes("the member has a Lease", async || {
            leases.get_opt(&format!("landbridge-member-{member}")).await.unwrap()
        })
        .await;
    }
    becomes("the export is told", async || {
        is_ready(paris.find(MCS, "ServiceExport", "web").await?, "Ready")
    })
    .await;
    let exports = api(&paris.admin, MCS, "ServiceExport", "shop");
    exports.delete("web", &DeleteParams::default()).await.unwrap();
    for member in [&berlin, &paris] {
        becomes("everything is gone", async || {
            let import = member.find(MCS, "ServiceImport", "web").await;
            let service = member.find("v1", "Service", DERIVED).await;
            (import.is_none() && service.is_none()).then_some(())
        })
        .await;
    }
    stop.cancel();
    let forbidden: Vec<String> =
        [&hub, &paris, &berlin].iter().flat_map(|cluster| cluster.server.forbidden()).collect();
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

/// Tries until the policies are there; the message of the refusal.
async fn refused(client: &Client, object: &Value) -> String {
    becomes("the hub refuses", async || match create(client, object.clone()).await {
        Err(kube::Error::Api(status)) if status.code == 422 || status.code == 403 => {
            Some(status.message.clone())
        }
        Err(error) => panic!("{error}"),
        Ok(made) => {
            let namespace = made.metadata.namespace.clone().unwrap();
            let types = made.types.clone().unwrap();
            let api = api(client, &types.api_version, &types.kind, &namespace);
            let name = made.metadata.name.unwrap();
            api.delete(&name, &DeleteParams::default()).await.unwrap();
            None
        }
    })
    .await
}

fn cluster_export(cluster: &str, namespace: &str, name: &str) -> Value {
    json!({"apiVersion": LANDBRIDGE, "kind": "ClusterExport",
        "metadata": {"namespace": format!("cluster-{cluster}"), "name": name},
        "spec": {"service": {"namespace": namespace, "name": "web"}, "type": "ClusterSetIP",
            "exportedAt": "2026-01-02T00:00:00Z"}})
}

fn hub_slice(address: &str) -> Value {
    json!({"apiVersion": SLICES, "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "cluster-lyon", "name": "s"},
        "endpoints": [{"addresses": [address]}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_refuses_what_a_member_has_no_right_to() {
    let hub = Cluster::start("policies").await;
    hub.apply("hub.yaml", "").await;
    hub.apply("hub-policies.yaml", "").await;
    let may = json!({"namespaces": ["shop"], "ranges": {"pods": ["198.51.100.0/24"]}});
    let lyon = join(&hub, "lyon", &may).await;
    join(&hub, "oslo", &json!({})).await;

    // "ValidatingAdmissionPolicies hold what RBAC cannot: export time immutable, addresses inside declared ranges,
    // namespaces allowed".
    let said = refused(&lyon, &cluster_export("lyon", "vault", "vault.web")).await;
    assert!(said.contains("may not export services of this namespace"), "{said}");
    let said = refused(&lyon, &cluster_export("lyon", "shop", "other.web")).await;
    assert!(said.contains("is named <namespace>.<name>"), "{said}");
    let said = refused(&lyon, &hub_slice("203.0.113.9")).await;
    assert!(said.contains("outside the pod ranges"), "{said}");
    let made = create(&lyon, cluster_export("lyon", "shop", "shop.web")).await.unwrap();
    let slices_there = create(&lyon, hub_slice("198.51.100.9")).await.unwrap();
    let exports = api(&lyon, LANDBRIDGE, "ClusterExport", "cluster-lyon");
    let at = async |time: Option<&str>| {
        let mut changed = made.clone();
        changed.metadata.resource_version = None;
        let spec = changed.data["spec"].as_object_mut().unwrap();
        spec.remove("exportedAt");
        spec.extend(time.map(|time| ("exportedAt".to_owned(), json!(time))));
        let there = exports.get("shop.web").await.unwrap();
        changed.metadata.resource_version = there.metadata.resource_version;
        exports.replace("shop.web", &PostParams::default(), &changed).await
    };
    for time in [Some("2026-01-01T00:00:00Z"), None] {
        let said = at(time).await.unwrap_err().to_string();
        assert!(said.contains("cannot become earlier"), "{time:?}: {said}");
    }
    at(Some("2026-01-03T00:00:00Z")).await.unwrap();
    // What could be made cannot be changed into what could not.
    let slices = api(&lyon, SLICES, "EndpointSlice", "cluster-lyon");
    for address in ["203.0.113.9", "198.51.101.1"] {
        let mut moved = slices_there.clone();
        moved.data["endpoints"][0]["addresses"] = json!([address]);
        let answer = slices.replace("s", &PostParams::default(), &moved).await;
        let said = answer.unwrap_err().to_string();
        assert!(said.contains("outside the pod ranges"), "{said}");
    }
    let mut six = hub_slice("2001:db8::9");
    six["addressType"] = json!("IPv6");
    six["metadata"]["name"] = json!("six");
    let said = refused(&lyon, &six).await;
    assert!(said.contains("outside the pod ranges"), "{said}");
    // A range that is none lets nothing through.
    let rome = join(&hub, "rome", &json!({"ranges": {"pods": ["everything"]}})).await;
    let mut of_rome = hub_slice("198.51.100.9");
    of_rome["metadata"]["namespace"] = json!("cluster-rome");
    let said = refused(&rome, &of_rome).await;
    assert!(said.contains("landbridge-addresses"), "{said}");

    // "write in cluster-<id>, its own Member status […] of its own namespace", and nothing else.
    let said = refused(&lyon, &cluster_export("oslo", "shop", "shop.web")).await;
    assert!(said.contains("forbidden"), "{said}");
    let said = refused(
        &lyon,
        &json!({"apiVersion": LANDBRIDGE, "kind": "Member", "metadata": {"name": "mine"},
            "spec": {"generation": 1, "network": "mine"}}),
    )
    .await;
    assert!(said.contains("forbidden"), "{said}");
    let lease = |cluster: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"namespace": format!("cluster-{cluster}"), "name": "mine"}, "spec": {}})
    };
    create(&lyon, lease("lyon")).await.unwrap();
    let elsewhere = [
        lease("oslo"),
        json!({"apiVersion": SLICES, "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "cluster-oslo", "name": "s"}, "endpoints": []}),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "cluster-lyon", "name": "mine"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cluster-nowhere"}}),
    ];
    for object in &elsewhere {
        let said = refused(&lyon, object).await;
        assert!(said.contains("forbidden"), "{said}");
    }
    // "read Members, ClusterExports and their slices".
    for (version, kind, may) in [
        (LANDBRIDGE, "Member", true),
        (LANDBRIDGE, "ClusterExport", true),
        (SLICES, "EndpointSlice", true),
        ("v1", "Secret", false),
        ("v1", "ResourceQuota", false),
        ("v1", "Service", false),
    ] {
        let answer = api(&lyon, version, kind, "").list(&ListParams::default()).await;
        assert_eq!(answer.is_ok(), may, "{kind}: {:?}", answer.err());
    }
    let members = api(&lyon, LANDBRIDGE, "Member", "");
    let spec = Patch::Merge(json!({"spec": {"suspended": false, "namespaces": null}}));
    let answer = members.patch("lyon", &PatchParams::default(), &spec).await;
    assert!(answer.is_err(), "a member says nothing of what it may: {answer:?}");
    let answer = members.delete("oslo", &DeleteParams::default()).await;
    assert!(answer.is_err(), "{answer:?}");
    let status = json!({"status": {"version": "9"}});
    for (member, may) in [("lyon", true), ("oslo", false)] {
        let members = api(&lyon, LANDBRIDGE, "Member", "");
        let patch = Patch::Merge(&status);
        let answer = members.patch_status(member, &PatchParams::default(), &patch).await;
        assert_eq!(answer.is_ok(), may, "{member}: {answer:?}");
    }
    // What fails the tests of controllers is seen.
    let forbidden = hub.server.forbidden();
    assert_eq!(forbidden.len(), 12, "{forbidden:?}");
}
