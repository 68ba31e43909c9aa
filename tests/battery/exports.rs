//! KEP-1645 "Exporting Services" and "Service Types": what is an export, and what its owner is told.

use serde_json::{Value, json};

use super::{
    case::{Case, What},
    objects::{EXPORT, IMPORT, SERVICE, condition, export, service},
};

const HTTP: [&str; 1] = ["http 80->8080"];
const PODS: [&str; 1] = ["198.51.100.5"];

/// "Services will not be visible to other clusters in the clusterset by default. They must be explicitly marked for
/// export by the user."
pub(crate) async fn a_service_is_not_visible_before_it_is_exported(case: &Case) {
    case.paris.serve("web", &HTTP, json!({}), &PODS).await;
    case.passes("mark").await;
    for at in case.members() {
        assert!(at.find(IMPORT, "web").await.is_none(), "{}", at.name);
    }
    assert_eq!(case.told_by("paris", "web").await, None);
}

/// "A `Service` without a corresponding `ServiceExport` in its local cluster will not be exported even if other
/// clusters are exporting a `Service` with the same namespaced name."
pub(crate) async fn a_service_without_an_export_of_its_own_is_not_exported(case: &Case) {
    for at in [&case.paris, &case.tokyo] {
        at.serve("web", &HTTP, json!({}), &PODS).await;
    }
    case.paris.export("web").await;
    for at in case.members() {
        case.imported(at, "web").await;
    }
    case.passes("mark").await;
    for at in case.members() {
        let import = at.get(IMPORT, "web").await;
        assert_eq!(import["status"]["clusters"], json!([{"cluster": "paris"}]), "{}", at.name);
        let tokyo = "multicluster.kubernetes.io/source-cluster=tokyo,multicluster.kubernetes.io/service-name=web";
        assert_eq!(at.list(super::objects::SLICE, tokyo).await, [Value::Null; 0]);
    }
    assert_eq!(case.told_by("tokyo", "web").await, None);
}

/// "This will be false if the service is found to be unexportable (ExternalName, not found)."
pub(crate) async fn an_export_without_a_service_is_invalid_until_there_is_one(case: &Case) {
    let paris = &case.paris;
    paris.export("web").await;
    let told = case.export_says(paris, "web", "Valid=False/NoService").await;
    assert!(condition(&told, "Ready").starts_with("Ready=False/Pending"), "{told}");
    assert!(paris.find(IMPORT, "web").await.is_none());

    paris.serve("web", &HTTP, json!({}), &PODS).await;
    case.export_says(paris, "web", "Valid=True/Valid").await;
    case.imported(&case.berlin, "web").await;

    // And when it goes, what it exported goes as well, whether or not the ServiceExport stays.
    paris.delete(SERVICE, "web").await;
    case.export_says(paris, "web", "Valid=False/NoService").await;
    for at in case.members() {
        case.empties(at).await;
    }
}

/// R12: "Exporting an ExternalName service should set ServiceExport Valid condition to False". KEP-1645: "It doesn't
/// make sense to export an `ExternalName` service. […] a condition type `Valid` with reason `InvalidServiceType` and
/// status `false` will be set on the `ServiceExport`."
pub(crate) async fn r12_a_mere_name_is_refused_and_never_imported(case: &Case) {
    let mut following = Vec::new();
    for at in case.members() {
        following.push((at, at.follow(IMPORT).await));
    }
    let name = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"},
        "spec": {"type": "ExternalName", "externalName": "example.com"}});
    case.paris.create(name).await;
    case.paris.export("hello").await;
    case.export_says(&case.paris, "hello", "Valid=False/InvalidServiceType").await;
    case.passes("mark").await;
    for (at, following) in &following {
        let seen = following.of(at, IMPORT, "hello").await;
        assert!(seen.is_empty(), "{}: {seen:#?}", at.name);
    }
    assert_eq!(case.told_by("paris", "hello").await, None);
}

/// "if you export a `NodePort` service, the resulting cross-cluster service will still be a clusterset IP type. The
/// local service will not be affected."
pub(crate) async fn node_ports_and_load_balancers_become_clusterset_ips(case: &Case) {
    for (name, type_) in [("node", "NodePort"), ("load", "LoadBalancer")] {
        case.paris.serve(name, &HTTP, json!({ "type": type_ }), &PODS).await;
        let before = case.paris.get(SERVICE, name).await;
        case.paris.export(name).await;
        for at in case.members() {
            let import = case.imported(at, name).await;
            assert_eq!(import["spec"]["type"], "ClusterSetIP", "{}: {type_}", at.name);
            assert_eq!(
                import["spec"]["ports"],
                json!([{"name": "http", "protocol": "TCP", "port": 80}])
            );
        }
        assert_eq!(case.paris.get(SERVICE, name).await["spec"], before["spec"], "{type_}");
    }
}

/// "Deleting a `ServiceExport` will stop exporting the name-mapped `Service`": that of this cluster, and the others
/// go on.
pub(crate) async fn an_export_that_is_deleted_takes_its_own_share_away(case: &Case) {
    let Case { paris, tokyo, berlin, .. } = case;
    for at in [paris, tokyo] {
        at.serve("web", &HTTP, json!({}), &PODS).await;
        at.export("web").await;
    }
    case.import_becomes(berlin, "web", "names both", |import| {
        import["status"]["clusters"].as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    tokyo.delete(EXPORT, "web").await;
    for at in case.members() {
        case.import_becomes(at, "web", "names paris alone", |import| {
            import["status"]["clusters"] == json!([{"cluster": "paris"}])
        })
        .await;
    }
    case.becomes("the hub has forgotten it", async || {
        case.told_by("tokyo", "web").await.is_none().then_some(())
    })
    .await;
}

/// `observedGeneration` says which version of the spec a condition is about, and a condition that stays as it is keeps
/// the time of its last transition: nothing flaps.
pub(crate) async fn conditions_name_the_generation_and_turn_only_when_they_turn(case: &Case) {
    let paris = &case.paris;
    let exports = paris.follow(EXPORT).await;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    paris.export("web").await;
    case.export_says(paris, "web", "Ready=True/Exported").await;
    let first = case.export_says(paris, "web", "Conflict=False").await;
    let times = |object: &Value| -> Vec<Value> {
        let mut all = object["status"]["conditions"].as_array().unwrap().clone();
        all.sort_by_key(|one| one["type"].as_str().unwrap().to_owned());
        all.iter().map(|one| json!([one["type"], one["lastTransitionTime"]])).collect()
    };
    case.older(&first).await;
    paris.edit(EXPORT, "web", json!({"spec": {"exportedLabels": {"team": "red"}}})).await;
    let after = case
        .becomes("the conditions are about the new spec", async || {
            let export = paris.get(EXPORT, "web").await;
            let generation = &export["metadata"]["generation"];
            let mut all = export["status"]["conditions"].as_array()?.iter();
            all.all(|one| one["observedGeneration"] == *generation).then_some(export)
        })
        .await;
    assert_eq!(after["metadata"]["generation"], 2);
    assert_eq!(times(&after), times(&first), "nothing has turned");
    let seen = exports.of(paris, EXPORT, "web").await;
    let ready: Vec<String> = seen.iter().map(|seen| condition(&seen.object, "Ready")).collect();
    let first_ready = ready.iter().position(|told| told.starts_with("Ready=True")).unwrap();
    let flaps = ready[first_ready..].iter().any(|told| !told.starts_with("Ready=True"));
    assert!(!flaps, "{ready:#?}");
}

/// The ServiceExport is its owner's: what we write there is its status, and nothing else of it.
pub(crate) async fn an_export_belongs_to_whoever_made_it(case: &Case) {
    let paris = &case.paris;
    let exports = paris.follow(EXPORT).await;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    let mut object = export("web");
    object["metadata"]["annotations"] = json!({"example.com/owner": "red"});
    let made = paris.create(object).await;
    case.export_says(paris, "web", "Ready=True/Exported").await;
    for seen in exports.of(paris, EXPORT, "web").await {
        assert_ne!(seen.what, What::Deleted);
        for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
            assert_eq!(seen.object["metadata"].get(field), made["metadata"].get(field), "{field}");
        }
        assert_eq!(seen.object.get("spec"), made.get("spec"));
    }
}

/// A Service that we made for an import cannot be exported under its own name: it would be exported in a circle.
pub(crate) async fn a_derived_service_cannot_be_exported(case: &Case) {
    case.paris.serve("web", &HTTP, json!({}), &PODS).await;
    case.paris.export("web").await;
    let import = case.imported(&case.berlin, "web").await;
    let derived = &import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"];
    let derived = derived.as_str().unwrap();
    case.berlin.export(derived).await;
    let told = case.export_says(&case.berlin, derived, "Valid=False/InvalidServiceType").await;
    assert!(condition(&told, "Valid").contains("was made for the import"), "{told}");
}

/// A ServiceExport and its Service may come in either order, and a Service that changes is exported as it is now.
pub(crate) async fn an_export_follows_its_service(case: &Case) {
    let Case { paris, berlin, .. } = case;
    paris.export("web").await;
    paris.create(service("web", &["http 80"], json!({}))).await;
    case.imported(berlin, "web").await;
    let ports = json!({"spec": {"ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]}});
    paris.edit(SERVICE, "web", ports).await;
    let wanted = json!([
        {"name": "http", "protocol": "TCP", "port": 8080},
        {"name": "dns", "protocol": "UDP", "port": 53},
    ]);
    for at in case.members() {
        case.import_becomes(at, "web", "has the new ports", |import| {
            import["spec"]["ports"] == wanted
        })
        .await;
    }
}
