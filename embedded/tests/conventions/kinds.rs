//! What is particular to kinds: custom ones and their schemas, Services and their addresses,
//! slices, Events, Leases, and the limits of all.

use serde_json::{Value, json};

use super::{Case, config_map, widget};

/// "The same stored object is served in every version."
pub(crate) async fn a_crd_is_served_in_all_its_versions(case: &Case) {
    case.serve_widgets().await;
    let made = case.post(&case.widgets(), &widget(case, "w", &json!({"size": "S"}))).await.ok();
    let older = case.path(&format!("{}/v1beta1", case.group), "widgets");
    let mut read = case.get(&format!("{older}/w")).await.ok();
    assert_eq!(read["apiVersion"], format!("{}/v1beta1", case.group));
    assert_eq!(
        (&read["metadata"]["uid"], &read["spec"]),
        (&made["metadata"]["uid"], &made["spec"])
    );
    let list = case.get(&older).await.ok();
    assert_eq!(list["items"][0]["apiVersion"], read["apiVersion"]);
    read["spec"]["size"] = json!("L");
    case.put(&format!("{older}/w"), &read).await.ok();
    let newer = case.get(&format!("{}/w", case.widgets())).await.ok();
    assert_eq!((&newer["apiVersion"], &newer["spec"]["size"]), (&made["apiVersion"], &json!("L")));
    let wrong = case.put(&format!("{older}/w"), &newer).await;
    wrong.refused(400, "BadRequest");
    let unserved = case.path(&format!("{}/v2", case.group), "widgets");
    assert_eq!(case.get(&unserved).await.code, 404);
}

pub(crate) async fn custom_objects_are_checked_against_their_schema(case: &Case) {
    case.serve_widgets().await;
    for (spec, field) in [
        (json!({}), "spec.size"),
        (json!({"size": "XL"}), "spec.size"),
        (json!({"size": 3}), "spec.size"),
        (json!({"size": "S", "code": "A1"}), "spec.code"),
        (json!({"size": "S", "code": "a"}), "spec.code"),
        (json!({"size": "S", "code": "abcde"}), "spec.code"),
        (json!({"size": "S", "ips": ["a", "b", "c"]}), "spec.ips"),
        (json!({"size": "S", "ips": [1]}), "spec.ips[0]"),
        (json!({"size": "S", "count": "many"}), "spec.count"),
    ] {
        let answer = case.post(&case.widgets(), &widget(case, "w", &spec)).await;
        let causes = answer.body["details"]["causes"].as_array().cloned().unwrap_or_default();
        assert!(causes.iter().any(|cause| cause["field"] == field), "{spec}: {}", answer.body);
        assert_eq!(answer.body["details"]["kind"], "Widget");
        answer.refused(422, "Invalid");
    }
    let mut none = widget(case, "w", &json!({}));
    none.as_object_mut().unwrap().remove("spec");
    case.post(&case.widgets(), &none).await.refused(422, "Invalid");
    case.post(&case.widgets(), &widget(case, "w", &json!({"size": "S"}))).await.ok();
    let bad = json!({"status": {"conditions": [{"type": "Ready"}]}});
    case.merge(&format!("{}/w/status", case.widgets()), &bad).await.refused(422, "Invalid");
}

/// "unspecified fields […] are pruned".
pub(crate) async fn unknown_fields_are_pruned(case: &Case) {
    case.serve_widgets().await;
    let object = widget(case, "w", &json!({"size": "S", "colour": "red", "count": null}));
    let made = case.post(&case.widgets(), &object).await.ok();
    assert_eq!(made["spec"], json!({"size": "S"}));
    let mut map = config_map("a");
    map["colour"] = json!("red");
    assert_eq!(case.post(&case.core("configmaps"), &map).await.ok().get("colour"), None);
}

pub(crate) async fn a_crd_that_goes_takes_its_kind_along(case: &Case) {
    case.serve_widgets().await;
    case.post(&case.widgets(), &widget(case, "w", &json!({"size": "S"}))).await.ok();
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    case.delete(&format!("{crds}/widgets.{}", case.group), &json!({})).await.ok();
    for _ in 0..500 {
        if case.get(&case.widgets()).await.code == 404 {
            case.serve_widgets().await;
            let left = case.get(&case.widgets()).await.ok();
            assert_eq!(left["items"], json!([]), "the objects went as well");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("still served ten seconds after the CRD went");
}

fn service(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

pub(crate) async fn services_get_what_they_left_out(case: &Case) {
    let spec = json!({"ports": [{"port": 80}], "selector": {"a": "b"}});
    let made = case.post(&case.core("services"), &service("web", &spec)).await.ok();
    let spec = &made["spec"];
    assert_eq!(spec["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
    for (field, value) in [
        ("type", json!("ClusterIP")),
        ("sessionAffinity", json!("None")),
        ("internalTrafficPolicy", json!("Cluster")),
        ("ipFamilyPolicy", json!("SingleStack")),
        ("ipFamilies", json!(["IPv4"])),
        ("clusterIPs", json!([spec["clusterIP"]])),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    let sticky = json!({"ports": [{"port": 80}], "sessionAffinity": "ClientIP"});
    let made = case.post(&case.core("services"), &service("sticky", &sticky)).await.ok();
    let config = &made["spec"]["sessionAffinityConfig"];
    assert_eq!(*config, json!({"clientIP": {"timeoutSeconds": 10_800}}));
}

pub(crate) async fn cluster_ips_are_unique_stable_and_released(case: &Case) {
    let services = case.core("services");
    let spec = json!({"ports": [{"port": 80}]});
    let first = case.post(&services, &service("first", &spec)).await.ok();
    let second = case.post(&services, &service("second", &spec)).await.ok();
    let ip = first["spec"]["clusterIP"].as_str().unwrap();
    assert!(ip.parse::<std::net::Ipv4Addr>().is_ok(), "{ip}");
    assert_ne!(first["spec"]["clusterIP"], second["spec"]["clusterIP"]);
    let path = format!("{services}/first");
    let mut bare = service("first", &json!({"ports": [{"port": 81}]}));
    bare["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"].clone();
    assert_eq!(case.put(&path, &bare).await.ok()["spec"]["clusterIP"], ip, "an update keeps it");
    let moved = json!({"spec": {"clusterIP": second["spec"]["clusterIP"], "clusterIPs": [second["spec"]["clusterIP"]]}});
    assert!(case.merge(&path, &moved).await.refused(422, "Invalid").contains("spec.clusterIP"));
    let asked = json!({"ports": [{"port": 80}], "clusterIP": ip});
    let taken = case.post(&services, &service("third", &asked)).await;
    assert!(taken.refused(422, "Invalid").contains("already allocated"));
    let outside = json!({"ports": [{"port": 80}], "clusterIP": "203.0.113.77"});
    case.post(&services, &service("third", &outside)).await.refused(422, "Invalid");
    case.delete(&path, &json!({})).await.ok();
    let again = case.post(&services, &service("third", &asked)).await.ok();
    assert_eq!(again["spec"]["clusterIP"], ip, "released with its Service");
}

pub(crate) async fn headless_and_external_services_have_no_cluster_ip(case: &Case) {
    let spec = json!({"clusterIP": "None", "ports": [{"port": 80}], "selector": {"a": "b"}});
    let headless = case.post(&case.core("services"), &service("headless", &spec)).await.ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "SingleStack");
    // "headless services without selectors default to both families", whatever the cluster has.
    let spec = json!({"clusterIP": "None"});
    let bare = case.post(&case.core("services"), &service("bare", &spec)).await.ok();
    assert_eq!(bare["spec"]["ipFamilyPolicy"], "RequireDualStack");
    assert_eq!(bare["spec"]["ipFamilies"].as_array().unwrap().len(), 2);
    let spec = json!({"type": "ExternalName", "externalName": "example.com"});
    let external = case.post(&case.core("services"), &service("external", &spec)).await.ok();
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"] {
        assert_eq!(external["spec"].get(field), None, "{field}");
    }
}

pub(crate) async fn malformed_services_are_refused(case: &Case) {
    for (spec, field) in [
        (json!({}), "spec.ports"),
        (json!({"ports": [{"port": 0}]}), "spec.ports[0].port"),
        (json!({"ports": [{"port": 70_000}]}), "spec.ports[0].port"),
        (json!({"ports": [{"port": 1}, {"name": "b", "port": 2}]}), "spec.ports[0].name"),
        (
            json!({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}),
            "spec.ports[1].name",
        ),
        (json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}), "spec.ports[1]"),
        (json!({"ports": [{"port": 1, "protocol": "X"}]}), "spec.ports[0].protocol"),
        (json!({"ports": [{"port": 1}], "type": "Other"}), "spec.type"),
        (json!({"ports": [{"port": 1}], "sessionAffinity": "Other"}), "spec.sessionAffinity"),
    ] {
        let answer = case.post(&case.core("services"), &service("web", &spec)).await;
        let causes = answer.body["details"]["causes"].as_array().cloned().unwrap_or_default();
        assert!(causes.iter().any(|cause| cause["field"] == field), "{spec}: {}", answer.body);
        answer.refused(422, "Invalid");
    }
    let name =
        case.post(&case.core("services"), &service("1web", &json!({"ports": [{"port": 1}]}))).await;
    name.refused(422, "Invalid");
}

pub(crate) async fn slices_are_checked(case: &Case) {
    let slices = case.path("discovery.k8s.io/v1", "endpointslices");
    let slice = |family: &str, endpoints: Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "s"}, "addressType": family, "endpoints": endpoints,
            "ports": [{"name": "a", "port": 80}]})
    };
    let good = slice("IPv4", json!([{"addresses": ["192.0.2.1"], "hostname": "a"}]));
    for bad in [
        slice("IPv4", json!([{"addresses": ["2001:db8::1"]}])),
        slice("IPv4", json!([{"addresses": []}])),
        slice("Other", json!([{"addresses": ["192.0.2.1"]}])),
        slice("IPv4", json!([{"addresses": ["192.0.2.1"], "hostname": "Not_A_Label"}])),
    ] {
        case.post(&slices, &bad).await.refused(422, "Invalid");
    }
    let made = case.post(&slices, &good).await.ok();
    assert_eq!(made["ports"][0]["protocol"], "TCP");
}

/// "the total size of all keys and values" of the annotations "must not exceed 256 KiB".
pub(crate) async fn metadata_has_limits(case: &Case) {
    let maps = case.core("configmaps");
    let mut object = config_map("a");
    object["metadata"]["annotations"] = json!({"example.com/x": "x".repeat(256 * 1024)});
    let refused = case.post(&maps, &object).await;
    assert!(refused.refused(422, "Invalid").contains("metadata.annotations"));
    object["metadata"]["annotations"] = json!({"example.com/x": "x".repeat(255 * 1024)});
    case.post(&maps, &object).await.ok();
    let patch = json!({"metadata": {"labels": {"a": 1}}});
    assert!((400..500).contains(&case.merge(&format!("{maps}/a"), &patch).await.code));
}

pub(crate) async fn bodies_have_limits(case: &Case) {
    let mut object = config_map("a");
    object["data"]["a"] = json!("x".repeat(3 * 1024 * 1024 + 1));
    let refused = case.post(&case.core("configmaps"), &object).await;
    refused.refused(413, "RequestEntityTooLarge");
}

pub(crate) async fn events_can_be_told(case: &Case) {
    let about = json!({"kind": "ConfigMap", "name": "a", "namespace": case.namespace});
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"generateName": "e-"}, "regarding": about, "note": "hello", "type": "Normal",
        "reason": "Said", "action": "Say", "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/teller", "reportingInstance": "teller-0"});
    let events = case.path("events.k8s.io/v1", "events");
    let made = case.post(&events, &event).await.ok();
    let name = made["metadata"]["name"].as_str().unwrap();
    let read = case.get(&format!("{events}/{name}")).await.ok();
    assert_eq!((&read["note"], &read["regarding"]["name"]), (&json!("hello"), &json!("a")));
}

/// Leader election: who writes with the version that it read holds the lease; the other one is
/// told so.
pub(crate) async fn leases_are_taken_by_one(case: &Case) {
    let leases = case.path("coordination.k8s.io/v1", "leases");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15,
        "renewTime": "2026-01-01T00:00:00.000000Z"}});
    let mut made = case.post(&leases, &lease).await.ok();
    assert_eq!(made["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
    made["spec"]["holderIdentity"] = json!("b");
    case.put(&format!("{leases}/l"), &made).await.ok();
    made["spec"]["holderIdentity"] = json!("c");
    case.put(&format!("{leases}/l"), &made).await.refused(409, "Conflict");
    assert_eq!(case.get(&format!("{leases}/l")).await.ok()["spec"]["holderIdentity"], "b");
}

pub(crate) async fn new_pods_and_namespaces_start_with_a_status(case: &Case) {
    let space = case.get(&format!("/api/v1/namespaces/{}", case.namespace)).await.ok();
    assert_eq!(space["status"]["phase"], "Active");
    assert_eq!(space["metadata"]["labels"]["kubernetes.io/metadata.name"], case.namespace.as_str());
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "example.com/c"}], "automountServiceAccountToken": false},
        "status": {"phase": "Running"}});
    let made = case.post(&case.core("pods"), &pod).await.ok();
    assert_eq!(made["status"]["phase"], "Pending");
    let path = format!("{}/p", case.core("pods"));
    let running = json!({"status": {"phase": "Running", "podIP": "192.0.2.7", "podIPs": [{"ip": "192.0.2.7"}]}});
    let status = case.merge(&format!("{path}/status"), &running).await.ok();
    assert_eq!(status["status"]["podIP"], "192.0.2.7");
    case.get(&format!("{path}/status")).await.ok();
}
