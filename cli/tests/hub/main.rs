//! `landbridge init`, `landbridge token` and `landbridge join` on real API servers: kube-apiserver and etcd. Nothing runs there but them, so
//! that the tests say of Deployments what kube-controller-manager would.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod gateways;
mod leaving;
mod revoked;
mod seeing;

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        core::v1::{ConfigMap, Namespace, Secret, Service},
        rbac::v1::ClusterRole,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Client,
    api::{Api, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use landbridge_api::{
    about::ClusterProperty,
    landbridge::{ClusterExport, Member},
};
use landbridge_gateway::{
    join::{Tokens, token::Token},
    pki,
};
use landbridge_xtask::{
    apiserver::{self, ApiServer},
    rung::CONTROL_PLANE,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SYSTEM: &str = "landbridge-system";
const FIRST: [&str; 5] = [
    "--cluster=paris",
    "--cluster-set=prod",
    "--image=registry.example/landbridge:1",
    "--expose=nodeport",
    "--advertise=192.0.2.1",
];

/// A bare cluster, whose CoreDNS has the usual Corefile.
struct Bare {
    admin: Client,
    folder: TempDir,
}

impl Bare {
    async fn start(name: &'static str) -> Self {
        CONTROL_PLANE.need(&apiserver::TOOLS);
        let server = ApiServer::shared(name).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kubeconfig"), server.kubeconfig()).unwrap();
        let admin = server.admin();
        let corefile = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns"},
            "data": {"Corefile": ".:53 {\n    reload\n}\n"}});
        let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "kube-system");
        let corefile = serde_json::from_value(corefile).unwrap();
        // The namespace is made a moment after the API server is ready.
        while let Err(error) = maps.create(&PostParams::default(), &corefile).await {
            assert!(error.to_string().contains("not found"), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { admin, folder }
    }

    /// Runs the program to its end.
    async fn run(&self, arguments: &[&str]) -> Output {
        let kubeconfig = self.folder.path().join("kubeconfig").display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
        command.args(arguments).args(["--kubeconfig", &kubeconfig]).env_clear();
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// The same, while every Deployment that comes is said to be ready, and a load balancer has its address.
    async fn init(&self, arguments: &[&str]) -> Output {
        self.watched(&[&["init"], arguments].concat()).await
    }

    async fn watched(&self, arguments: &[&str]) -> Output {
        tokio::select! {
            output = self.run(arguments) => output,
            () = self.make_ready() => unreachable!(),
        }
    }

    async fn make_ready(&self) {
        let all: Api<Deployment> = Api::namespaced(self.admin.clone(), SYSTEM);
        loop {
            for deployment in all.list(&ListParams::default()).await.unwrap() {
                let status = json!({"status": {"observedGeneration": deployment.metadata.generation,
                    "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}});
                let name = deployment.metadata.name.unwrap();
                all.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
                    .await
                    .unwrap();
            }
            let services: Api<Service> = Api::namespaced(self.admin.clone(), SYSTEM);
            let link = services.get_opt("landbridge-link").await.unwrap();
            let spec = link.and_then(|link| link.spec);
            if spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer")) {
                let status =
                    json!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}});
                let patch = Patch::Merge(&status);
                services
                    .patch_status("landbridge-link", &PatchParams::default(), &patch)
                    .await
                    .unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn corefile(&self) -> String {
        let maps: Api<ConfigMap> = Api::namespaced(self.admin.clone(), "kube-system");
        maps.get("coredns").await.unwrap().data.unwrap().remove("Corefile").unwrap()
    }

    /// Whether the hub's own controller may do this in a namespace of the hub.
    async fn may(&self, verb: &str, resource: &str, namespace: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some("system:serviceaccount:landbridge-system:landbridge-controller".into()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("landbridge.dev".into()),
                    name: Some("paris".into()),
                    namespace: Some(namespace.into()),
                    resource: Some(resource.into()),
                    subresource: Some(subresource.into()),
                    verb: Some(verb.into()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.admin.clone());
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        answer.status.unwrap().allowed
    }
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The lines of a plan that say what would be made or changed.
fn changes(output: &str) -> Vec<Vec<&str>> {
    let planned = |line: &&str| line.starts_with("  create") || line.starts_with("  change");
    output.lines().filter(planned).map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_cluster_becomes_a_hub_and_is_one_ever_after() {
    let bare = Bare::start("hub").await;

    // A look changes nothing.
    let dry = out(&bare.run(&[&["init", "--dry-run"], &FIRST[..]].concat()).await);
    assert!(dry.contains("Plan for paris, hub of set prod\n"), "{dry}");
    assert!(dry.ends_with("Nothing was changed (--dry-run).\n"), "{dry}");
    let namespaces: Api<Namespace> = Api::all(bare.admin.clone());
    assert!(namespaces.get_opt(SYSTEM).await.unwrap().is_none());

    let told = out(&bare.init(&FIRST).await);
    assert!(told.starts_with("Checks\n  ok   server        Kubernetes v1."), "{told}");
    assert_eq!(changes(&told), changes(&dry));
    assert!(told.contains("Controller, DNS server and gateways are ready.\n"), "{told}");
    assert!(
        told.ends_with("Let another cluster in with what this prints:\n  landbridge token issue\n"),
        "{told}"
    );
    is_a_hub(&bare).await;

    // Again it finds nothing to do, and makes no other root.
    let before = Tokens::new(bare.admin.clone()).root().await.unwrap().cert_pem();
    let again = out(&bare.init(&[]).await);
    assert_eq!(changes(&again), Vec::<Vec<&str>>::new(), "{again}");
    let after = Tokens::new(bare.admin.clone()).root().await.unwrap().cert_pem();
    assert_eq!(before, after);

    // An upgrade changes what runs, and nothing else.
    let upgrade = out(&bare.init(&["--image=registry.example/landbridge:2"]).await);
    let changed: Vec<&str> = changes(&upgrade).iter().map(|words| words[2]).collect();
    let image =
        ["landbridge-authority", "landbridge-controller", "landbridge-dns", "landbridge-gateway"];
    let mut expected: Vec<String> = image.iter().map(|name| format!("{SYSTEM}/{name}")).collect();
    expected.insert(0, format!("{SYSTEM}/landbridge"));
    let mut changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
    changed.sort();
    expected.sort();
    assert_eq!(changed, expected, "{upgrade}");
    assert!(upgrade.contains("spec.template.spec.containers[0].image"), "{upgrade}");
    another_cluster_is_not_taken_over(&bare).await;
    nothing_of_it_is_left(&bare).await;
}

/// What it was before it was a hub, except for kinds that people may use without us.
async fn nothing_of_it_is_left(bare: &Bare) {
    let shown = out(&bare.run(&["uninstall"]).await);
    assert!(shown.ends_with("Nothing was removed: give --yes to do it.\n"), "{shown}");
    is_a_hub_still(bare, true).await;
    let removed = out(&bare.run(&["uninstall", "--yes"]).await);
    assert!(removed.ends_with("paris is a member no more.\n"), "{removed}");
    is_a_hub_still(bare, false).await;
    assert_eq!(bare.corefile().await, ".:53 {\n    reload\n}\n");
    let kinds: Api<CustomResourceDefinition> = Api::all(bare.admin.clone());
    let kinds = kinds.list(&ListParams::default()).await.unwrap();
    let names: Vec<String> = kinds
        .iter()
        .filter(|kind| kind.metadata.deletion_timestamp.is_none())
        .map(|kind| kind.metadata.name.clone().unwrap())
        .collect();
    assert!(names.iter().all(|name| !name.ends_with(".landbridge.dev")), "{names:?}");
    assert!(names.contains(&"serviceexports.multicluster.x-k8s.io".to_owned()), "{names:?}");
}

/// Whether the namespaces are there and not about to go, and the roles.
async fn is_a_hub_still(bare: &Bare, expected: bool) {
    let namespaces: Api<Namespace> = Api::all(bare.admin.clone());
    for name in [SYSTEM, "landbridge-trust", "cluster-paris"] {
        let namespace = namespaces.get_opt(name).await.unwrap();
        let stands = namespace.is_some_and(|one| one.metadata.deletion_timestamp.is_none());
        assert_eq!(stands, expected, "{name}");
    }
    let roles: Api<ClusterRole> = Api::all(bare.admin.clone());
    assert_eq!(roles.get_opt("landbridge-member-reads").await.unwrap().is_some(), expected);
    let deployments: Api<Deployment> = Api::namespaced(bare.admin.clone(), SYSTEM);
    let count = deployments.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!(count, if expected { 4 } else { 0 });
}

/// What `landbridge-system`, `landbridge-trust` and `cluster-paris` hold then.
async fn is_a_hub(bare: &Bare) {
    let root = Tokens::new(bare.admin.clone()).root().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(bare.admin.clone(), SYSTEM);
    let data = secrets.get("landbridge-member").await.unwrap().data.unwrap();
    let text = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
    let member = pki::Member::from_pem(&text("member.pem"), &text("member-key.pem")).unwrap();
    assert_eq!((member.cluster().as_str(), member.set().as_str()), ("paris", "prod"));
    assert_eq!(text("root.pem"), root.cert_pem());
    let members: Api<Member> = Api::all(bare.admin.clone());
    assert_eq!(members.get("paris").await.unwrap().spec.generation, 1);
    let properties: Api<ClusterProperty> = Api::all(bare.admin.clone());
    assert_eq!(properties.get("cluster.clusterset.k8s.io").await.unwrap().spec.value, "paris");

    let services: Api<Service> = Api::namespaced(bare.admin.clone(), SYSTEM);
    let dns = services.get("landbridge-dns").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let corefile = bare.corefile().await;
    assert!(corefile.contains(&format!("forward . {dns}")), "{corefile}");

    for (verb, resource, namespace, allowed) in [
        ("create", "clusterexports", "cluster-paris", true),
        ("list", "clusterexports", "", true),
        ("list", "members", "", true),
        ("patch", "members/status", "", true),
        ("create", "clusterexports", "cluster-berlin", false),
        ("update", "members", "", false),
    ] {
        assert_eq!(bare.may(verb, resource, namespace).await, allowed, "{verb} {resource}");
    }
    // Exports are taken at once: the quota is counted from the start.
    let exports: Api<ClusterExport> = Api::namespaced(bare.admin.clone(), "cluster-paris");
    exports.create(&PostParams::default(), &export()).await.unwrap();

    let token = bare.run(&["token", "issue", "--address=192.0.2.1:30433"]).await;
    let token: Token = out(&token).trim().parse().unwrap();
    assert_eq!((token.hub.as_str(), token.set.as_str()), ("paris", "prod"));
}

fn export() -> ClusterExport {
    let export = json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "ClusterExport", "metadata": {"name": "shop.web"},
        "spec": {"service": {"namespace": "shop", "name": "web"}, "type": "ClusterSetIP"}});
    serde_json::from_value(export).unwrap()
}

/// What stands there says who it is, and whose a field is.
async fn another_cluster_is_not_taken_over(bare: &Bare) {
    let before = bare.corefile().await;
    let told = bare.init(&["--cluster=tokyo", "--cluster-set=test"]).await;
    assert_eq!(told.status.code(), Some(2));
    let said = String::from_utf8(told.stdout.clone()).unwrap();
    assert!(said.contains("WRONG   identity"), "{said}");
    assert!(said.contains("the cluster says that it is \"paris\""), "{said}");
    assert!(said.contains("WRONG   trust"), "{said}");
    assert_eq!(
        err(&told),
        "error: 2 things stand in the way (identity, trust): nothing was changed\n"
    );
    assert_eq!(bare.corefile().await, before);

    let services: Api<Service> = Api::namespaced(bare.admin.clone(), SYSTEM);
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "landbridge-link"},
        "spec": {"ports": [{"name": "link", "port": 4433, "protocol": "UDP", "nodePort": 30500}]}});
    let params = PatchParams::apply("somebody").force();
    services.patch("landbridge-link", &params, &Patch::Apply(&theirs)).await.unwrap();
    let told = bare.init(&[]).await;
    assert_eq!(told.status.code(), Some(2), "{}", err(&told));
    let said = String::from_utf8(told.stdout.clone()).unwrap();
    assert!(said.contains("Service landbridge-system/landbridge-link"), "{said}");
    assert!(said.contains("\"somebody\"") && said.contains("--force-conflicts"), "{said}");
    out(&bare.init(&["--force-conflicts"]).await);
    let ports = services.get("landbridge-link").await.unwrap().spec.unwrap().ports.unwrap();
    assert_eq!(ports[0].node_port, Some(30433));
}

/// A hub, a token, a member: three commands, and the member's controller has what it needs and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_makes_one_cluster_a_member() {
    let (hub, berlin, tokyo) =
        tokio::join!(Bare::start("paris"), Bare::start("berlin"), Bare::start("tokyo"));
    out(&hub.init(&[&FIRST[..], &["--timeout=0s"]].concat()).await);
    let token = out(&hub.run(&["token", "issue", "--address=192.0.2.1:30433"]).await);
    let kubeconfig = hub.folder.path().join("kubeconfig").display().to_string();
    let join = |cluster: &'static str| {
        let image = "--image=registry.example/landbridge:1";
        [
            token.trim().to_owned(),
            format!("--hub-kubeconfig={kubeconfig}"),
            format!("--cluster={cluster}"),
            image.into(),
        ]
    };
    let arguments = |cluster: &'static str| -> Vec<String> {
        ["join".to_owned()].into_iter().chain(join(cluster)).collect()
    };
    let first = arguments("berlin");
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    let told = out(&berlin.watched(&first).await);
    assert!(told.contains("Other members dial the load balancer at 198.51.100.7.\n"), "{told}");
    assert!(told.contains("Plan for berlin, member of set prod\n"), "{told}");
    assert!(
        told.contains("berlin is a member of set prod.\nIts credential of the hub ends at 20"),
        "{told}"
    );

    let secrets: Api<Secret> = Api::namespaced(berlin.admin.clone(), SYSTEM);
    let data = secrets.get("landbridge-member").await.unwrap().data.unwrap();
    let text = |name: &str| String::from_utf8(data[name].0.clone()).unwrap();
    let member = pki::Member::from_pem(&text("member.pem"), &text("member-key.pem")).unwrap();
    assert_eq!(member.cluster().as_str(), "berlin");
    let data = secrets.get("landbridge-hub").await.unwrap().data.unwrap();
    let config = String::from_utf8(data["kubeconfig"].0.clone()).unwrap();
    let config = Kubeconfig::from_yaml(&config).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let there = Client::try_from(config.unwrap()).unwrap();
    let members: Api<Member> = Api::all(there.clone());
    let mut names: Vec<String> = members
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(|one| one.metadata.name.clone().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["berlin", "paris"]);
    for (namespace, taken) in [("cluster-berlin", true), ("cluster-paris", false)] {
        let exports: Api<ClusterExport> = Api::namespaced(there.clone(), namespace);
        assert_eq!(
            exports.create(&PostParams::default(), &export()).await.is_ok(),
            taken,
            "{namespace}"
        );
    }
    let secrets: Api<Secret> = Api::namespaced(there, "landbridge-trust");
    assert!(secrets.list(&ListParams::default()).await.is_err());

    // The same cluster may come again while the token lasts; nobody else may come at all.
    out(&berlin.watched(&first).await);
    let other = arguments("tokyo");
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    let told = tokyo.watched(&other).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(err(&told).starts_with("error: berlin has used the token at 20"), "{}", err(&told));
    let listed = out(&hub.run(&["token", "list"]).await);
    assert!(listed.lines().nth(1).unwrap().ends_with("berlin"), "{listed}");
    // Neither does a hub join another set, whatever token it has.
    let fresh = out(&hub.run(&["token", "issue", "--address=192.0.2.1:30433"]).await);
    let again =
        [fresh.trim(), other[2], "--cluster=paris", "--image=registry.example/landbridge:1"];
    let again = [&["join"], &again[..]].concat();
    let told = hub.run(&again).await;
    let said = String::from_utf8(told.stdout.clone()).unwrap();
    assert!(
        said.contains("WRONG   trust") && said.contains("is a hub itself"),
        "{said}{}",
        err(&told)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_do_it_is_told_what_is_missing() {
    let bare = Bare::start("rights").await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "guest"}});
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(bare.admin.clone(), "default");
    let account = serde_json::from_value(account).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request("guest", &PostParams::default(), &request).await;
    let token = token.unwrap().status.unwrap().token;
    let path = bare.folder.path().join("kubeconfig");
    let admin: Value = serde_norway::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mut guest = admin.clone();
    guest["users"][0]["user"]["token"] = token.into();
    fs::write(&path, serde_norway::to_string(&guest).unwrap()).unwrap();

    let told = bare.run(&[&["init"], &FIRST[..]].concat()).await;
    assert_eq!(told.status.code(), Some(2), "{}", err(&told));
    let said = String::from_utf8(told.stdout.clone()).unwrap();
    assert!(said.contains("WRONG   permissions   you may not create configmaps, "), "{said}");
    assert!(said.contains("patch deployments.apps"), "{said}");
    assert!(err(&told).ends_with("(permissions): nothing was changed\n"), "{}", err(&told));
}
