//! KEP-1645 "Importing Services" and "ClusterSetIP": what appears in each cluster, and for how long.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    case::{Case, Seen, What},
    objects::{
        EXPORT, HELLO, HELLO_PODS, IMPORT, Kind, NAMESPACE, SERVICE, SLICE, export, hello,
        namespace, service,
    },
};

const HTTP: [&str; 1] = ["http 80->8080"];

/// Whether an import names these clusters, in this order.
fn names(clusters: &[&str]) -> impl Fn(&Value) -> bool + use<> {
    let clusters: Vec<Value> = clusters.iter().map(|name| json!({ "cluster": name })).collect();
    move |import| import["status"]["clusters"] == json!(clusters)
}

/// R1: "A ServiceImport should only exist as long as there's at least one exporting cluster". KEP-1645 "Importing
/// Services": "If all `ServiceExport` instances are deleted, each `ServiceImport` will also be deleted from all
/// clusters."
pub(crate) async fn r1_an_import_exists_as_long_as_one_cluster_exports(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    for at in [paris, tokyo] {
        at.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    }
    let mut following = Vec::new();
    for at in case.members() {
        following.push((at, at.follow(IMPORT).await));
    }
    paris.export("web").await;
    let mut first = Vec::new();
    for at in case.members() {
        first.push(case.imported(at, "web").await);
    }
    tokyo.export("web").await;
    for at in case.members() {
        case.import_becomes(at, "web", "names both", names(&["paris", "tokyo"])).await;
    }
    // The oldest one leaves: what is there is changed, and not made anew.
    paris.delete(EXPORT, "web").await;
    for (at, first) in case.members().into_iter().zip(&first) {
        let now = case.import_becomes(at, "web", "names tokyo alone", names(&["tokyo"])).await;
        assert_eq!(now["metadata"]["uid"], first["metadata"]["uid"], "{}", at.name);
        assert_eq!(now["spec"]["ips"][0], first["spec"]["ips"][0], "{}", at.name);
    }
    for (at, following) in &following {
        let seen = following.of(at, IMPORT, "web").await;
        assert!(seen.iter().all(|seen| seen.what != What::Deleted), "{}: {seen:#?}", at.name);
    }
    tokyo.delete(EXPORT, "web").await;
    for at in case.members() {
        case.empties(at).await;
    }
}

/// R2: "Exporting a ClusterIP service should create a ServiceImport of type ClusterSetIP in the service's namespace in
/// each cluster. Unexporting should delete the ServiceImport". KEP-1645 "Service Types": "They will be imported to the
/// cluster behind the clusterset IP, with a `ServiceImport` of type `ClusterSetIP`."
pub(crate) async fn r2_a_cluster_ip_service_is_imported_as_clusterset_ip(case: &Case) {
    case.paris.serve("hello", &HELLO, hello(), &HELLO_PODS).await;
    case.paris.export("hello").await;
    case.export_says(&case.paris, "hello", "Valid=True/Valid").await;
    for at in case.members() {
        let import = case.imported(at, "hello").await;
        assert_eq!(import["spec"]["type"], "ClusterSetIP", "{}", at.name);
    }
    case.paris.delete(EXPORT, "hello").await;
    for at in case.members() {
        case.empties(at).await;
    }
}

/// A property of the exported Service that every import has.
async fn is_copied(case: &Case, spec: Value, wanted: &Value) {
    case.paris.serve("hello", &HELLO, spec, &HELLO_PODS).await;
    case.paris.export("hello").await;
    for at in case.members() {
        let import = case.imported(at, "hello").await;
        super::objects::has(&import, &json!({ "spec": wanted }));
    }
}

/// R3: "The SessionAffinity for a ClusterSetIP ServiceImport should match the exported service's SessionAffinity".
pub(crate) async fn r3_the_session_affinity_matches(case: &Case) {
    let wanted = json!({"sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}});
    is_copied(case, hello(), &wanted).await;
    // kube-proxy reads it from the Service that gives the import its address.
    for at in case.members() {
        let derived = at.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
        super::objects::has(&derived[0], &json!({ "spec": wanted }));
    }
}

/// R4: "The InternalTrafficPolicy for a ClusterSetIP ServiceImport should match the exported service's
/// InternalTrafficPolicy".
pub(crate) async fn r4_the_internal_traffic_policy_matches(case: &Case) {
    let mut spec = hello();
    spec["internalTrafficPolicy"] = json!("Cluster");
    is_copied(case, spec, &json!({"internalTrafficPolicy": "Cluster"})).await;
}

/// The same with the other value, which the derived Service does not get: "else kube-proxy drops what has no local
/// endpoint".
pub(crate) async fn a_local_traffic_policy_is_told_and_not_enforced(case: &Case) {
    let mut spec = hello();
    spec["internalTrafficPolicy"] = json!("Local");
    is_copied(case, spec, &json!({"internalTrafficPolicy": "Local"})).await;
    for at in case.members() {
        let derived = at.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
        assert_eq!(derived[0]["spec"]["internalTrafficPolicy"], "Cluster");
    }
}

/// R5: "The TrafficDistribution for a ClusterSetIP ServiceImport should match the exported service's
/// TrafficDistribution".
pub(crate) async fn r5_the_traffic_distribution_matches(case: &Case) {
    let mut spec = hello();
    spec["trafficDistribution"] = json!("PreferClose");
    is_copied(case, spec, &json!({"trafficDistribution": "PreferClose"})).await;
}

/// R6: "An IP should be allocated for a ClusterSetIP ServiceImport for each IP family". KEP-1645: "it must not have
/// duplicated families […] and the IPs should eventually be in the same order as what is defined in `ipFamilies`".
pub(crate) async fn r6_there_is_an_address_for_each_family_in_the_same_order(case: &Case) {
    case.paris.serve("hello", &HELLO, hello(), &HELLO_PODS).await;
    case.paris.export("hello").await;
    for at in case.members() {
        let import = case
            .import_becomes(at, "hello", "has two families", |import| {
                import["spec"]["ipFamilies"].as_array().is_some_and(|all| all.len() == 2)
            })
            .await;
        let ips = import["spec"]["ips"].as_array().unwrap();
        let families: Vec<&str> = ips
            .iter()
            .map(|ip| {
                let ip: IpAddr = ip.as_str().unwrap().parse().unwrap();
                if ip.is_ipv4() { "IPv4" } else { "IPv6" }
            })
            .collect();
        assert_eq!(json!(families), import["spec"]["ipFamilies"], "{}", at.name);
        let derived = at.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
        assert_eq!(import["spec"]["ips"], derived[0]["spec"]["clusterIPs"], "{}", at.name);
    }
}

/// R7: "The ports for a ClusterSetIP ServiceImport should match those of the exported service": name, protocol,
/// number and appProtocol.
pub(crate) async fn r7_the_ports_match(case: &Case) {
    let mut object = service("hello", &HELLO, hello());
    object["spec"]["ports"][0]["appProtocol"] = json!("kubernetes.io/h2c");
    case.paris.create(object).await;
    case.paris.export("hello").await;
    for at in case.members() {
        let import = case.imported(at, "hello").await;
        let wanted = json!([
            {"name": "tcp", "protocol": "TCP", "port": 42, "appProtocol": "kubernetes.io/h2c"},
            {"name": "udp", "protocol": "UDP", "port": 42},
        ]);
        assert_eq!(import["spec"]["ports"], wanted, "{}", at.name);
    }
}

/// R10: "Exporting a headless service should create a ServiceImport of type Headless in the service's namespace in each
/// cluster. Unexporting should delete the ServiceImport". R11: "No clusterset IP should be allocated for a Headless
/// ServiceImport": "do not configure a VIP and must be consumed via DNS".
pub(crate) async fn r10_a_headless_service_is_imported_as_headless(case: &Case) {
    let spec = json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"});
    case.paris.serve("hello", &HELLO, spec, &HELLO_PODS).await;
    case.paris.export("hello").await;
    for at in case.members() {
        let import = case.imported(at, "hello").await;
        assert_eq!(import["spec"]["type"], "Headless", "{}", at.name);
    }
    case.paris.delete(EXPORT, "hello").await;
    for at in case.members() {
        case.empties(at).await;
    }
}

/// R11: "No clusterset IP should be allocated for a Headless ServiceImport", at no time.
pub(crate) async fn r11_a_headless_import_has_no_address_at_any_time(case: &Case) {
    let mut following = Vec::new();
    for at in case.members() {
        following.push((at, at.follow(IMPORT).await));
    }
    let spec = json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"});
    case.paris.serve("hello", &HELLO, spec, &HELLO_PODS).await;
    case.paris.export("hello").await;
    for at in case.members() {
        // The families are there all the same: the suite waits for them.
        case.import_becomes(at, "hello", "has two families", |import| {
            import["spec"]["ipFamilies"] == json!(["IPv4", "IPv6"])
        })
        .await;
    }
    case.passes("mark").await;
    for (at, following) in &following {
        let seen = following.of(at, IMPORT, "hello").await;
        let has_ips = |seen: &Seen| seen.object["spec"].get("ips").is_some();
        assert!(!seen.iter().any(has_ips), "{}: {seen:#?}", at.name);
    }
}

/// "A multi-cluster service will be imported only by clusters in which the service's namespace exists. All clusters
/// containing the service's namespace will import the service. This means that all exporting clusters will also import
/// the multi-cluster service."
pub(crate) async fn only_clusters_with_the_namespace_import_the_exporter_included(case: &Case) {
    let other = format!("{}-2", case.namespace());
    let [paris, tokyo, berlin] = case.members().map(|at| at.within(&other));
    for at in [&paris, &berlin] {
        at.create(namespace(&other)).await;
    }
    paris.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    paris.export("web").await;
    for at in [&paris, &berlin] {
        case.imported(at, "web").await;
    }
    case.passes("mark").await;
    assert_eq!(tokyo.find(NAMESPACE, &other).await, None, "nobody makes namespaces");

    // "a namespace that appears later gets its imports"
    tokyo.create(namespace(&other)).await;
    case.imported(&tokyo, "web").await;
}

/// "one that goes loses them without error": Kubernetes' own controller empties it where there is one, nothing of ours
/// holds it up, and the other clusters keep theirs.
pub(crate) async fn a_namespace_that_goes_loses_its_imports(case: &Case) {
    let other = format!("{}-2", case.namespace());
    let [paris, tokyo, berlin] = case.members().map(|at| at.within(&other));
    let is_managed = case.set.server("berlin").await.manage().await;
    for at in [&paris, &tokyo, &berlin] {
        at.create(namespace(&other)).await;
    }
    for name in ["web", "api"] {
        paris.serve(name, &HTTP, json!({}), &["198.51.100.5"]).await;
        paris.export(name).await;
        case.imported(&berlin, name).await;
    }
    case.set.lets_go(&other);
    berlin.delete(NAMESPACE, &other).await;
    case.empties(&berlin).await;
    case.goes(&berlin, NAMESPACE, &other).await;
    case.passes("mark").await;
    for name in ["web", "api"] {
        assert!(berlin.find(IMPORT, name).await.is_none());
        assert!(tokyo.find(IMPORT, name).await.is_some());
    }
    // One of the same name gets them again.
    berlin.create(namespace(&other)).await;
    case.imported(&berlin, "web").await;
    // Where garbage is collected, what an import owns stays as long as the import.
    let derived = berlin.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
    assert!(!derived.is_empty(), "managed: {is_managed}");
}

/// "is expected to be consistent for the life of a `ServiceImport` from the perspective of the importing cluster",
/// whatever is exported meanwhile.
pub(crate) async fn the_clusterset_ip_stays_for_the_life_of_an_import(case: &Case) {
    let Case { paris, tokyo, berlin, .. } = case;
    for at in [paris, tokyo] {
        at.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    }
    paris.export("web").await;
    let first = case.imported(berlin, "web").await;
    tokyo.export("web").await;
    case.import_becomes(berlin, "web", "names both", names(&["paris", "tokyo"])).await;
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080},
        {"name": "more", "port": 81, "targetPort": 8081}]);
    let affinity = json!({"spec": {"ports": ports, "sessionAffinity": "ClientIP"}});
    paris.edit(SERVICE, "web", affinity).await;
    let has_both = |import: &Value| {
        import["spec"]["ports"].as_array().is_some_and(|all| all.len() == 2)
            && import["spec"]["sessionAffinity"] == "ClientIP"
    };
    let last = case.import_becomes(berlin, "web", "has the new port", has_both).await;
    assert_eq!(last["spec"]["ips"], first["spec"]["ips"]);
    assert_eq!(last["metadata"]["uid"], first["metadata"]["uid"]);
}

/// The version in which an object of the case's namespace was made.
async fn made(case: &Case, kind: Kind, seen: &[Seen]) -> Vec<(String, u64)> {
    let added = seen.iter().filter(|seen| seen.what == What::Added);
    let added = added.map(|seen| {
        let version = seen.object["metadata"]["resourceVersion"].as_str().unwrap();
        (format!("{} {}", kind.name, seen.name), version.parse().unwrap())
    });
    let added: Vec<_> = added.collect();
    assert!(!added.is_empty(), "{}: nothing was made of {}", case.namespace(), kind.name);
    added
}

/// Design, "Import": "It is written last: derived Service, then slices, […] then the import and with it the name".
pub(crate) async fn the_import_comes_last_and_goes_first(case: &Case) {
    let berlin = &case.berlin;
    let services = berlin.follow(SERVICE).await;
    let slices = berlin.follow(SLICE).await;
    let imports = berlin.follow(IMPORT).await;
    case.paris.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    case.paris.export("web").await;
    let import = case.imported(berlin, "web").await;
    let derived = import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
        .as_str()
        .unwrap()
        .to_owned();
    let gateways = format!("{derived}-gw-v4");
    let mut before = made(case, SERVICE, &services.of(berlin, SERVICE, &derived).await).await;
    for name in [gateways.as_str(), "web-paris-v4"] {
        before.extend(made(case, SLICE, &slices.of(berlin, SLICE, name).await).await);
    }
    let imported = made(case, IMPORT, &imports.of(berlin, IMPORT, "web").await).await;
    let [(_, imported)] = imported[..] else { panic!("{imported:?}") };
    for (what, version) in before {
        assert!(version < imported, "{what} came after the import");
    }

    case.paris.delete(EXPORT, "web").await;
    case.empties(berlin).await;
    let gone = async |following: &super::case::Following, kind: Kind, name: &str| {
        let seen = following.of(berlin, kind, name).await;
        let last = seen.last().unwrap();
        assert_eq!(last.what, What::Deleted);
        let version = last.object["metadata"]["resourceVersion"].as_str().unwrap();
        version.parse::<u64>().unwrap()
    };
    let import = gone(&imports, IMPORT, "web").await;
    assert!(import < gone(&slices, SLICE, &gateways).await);
    assert!(import < gone(&services, SERVICE, &derived).await);
}

/// "Works where only v1alpha1 is served" by those who read: CoreDNS and Karmada read imports in that version.
pub(crate) async fn an_import_is_read_in_both_versions(case: &Case) {
    const OLDER: Kind = Kind { version: "multicluster.x-k8s.io/v1alpha1", name: "ServiceImport" };
    case.paris.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    let mut object = export("web");
    object["apiVersion"] = json!("multicluster.x-k8s.io/v1alpha1");
    case.paris.create(object).await;
    let import = case.imported(&case.berlin, "web").await;
    let older = case.berlin.get(OLDER, "web").await;
    assert_eq!(older["spec"], import["spec"]);
    assert_eq!(older["status"]["clusters"], import["status"]["clusters"]);
}
