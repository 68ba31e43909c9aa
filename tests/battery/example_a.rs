//! Worked example A: "ClusterSetIP across networks, one port conflict", line by line.
//!
//! "Networks: paris = a, tokyo = b, berlin = c (imports only). IPv4 shown; […] Gateways: paris 10.244.1.10 · tokyo
//! 10.244.1.20 · berlin 10.244.3.10 and 10.244.3.11." ClusterIPs are the API server's to choose; every other value is the
//! example's.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::convert;
use serde_json::{Value, json};

use super::{
    case::{Case, Seen, What},
    objects::{CLUSTER_EXPORT, EXPORT, IMPORT, SERVICE, SLICE, conditions, namespace, pods},
    recording::Recording,
    stage::{Seat, Set},
};

pub(crate) const SEATS: [Seat; 3] = [
    Seat { name: "paris", network: "a", gateways: &["10.244.1.10"] },
    Seat { name: "tokyo", network: "b", gateways: &["10.244.1.20"] },
    Seat { name: "berlin", network: "c", gateways: &["10.244.3.10", "10.244.3.11"] },
];

const DERIVED: &str = "derived-isrlchlhrq";
const GATEWAYS: &str = "[10.244.3.10 ready, 10.244.3.11 ready]";
const PARIS: [&str; 2] = ["http 80->8080", "grpc 9090->9090"];
const TOKYO: [&str; 3] = ["http 81->8080", "grpc 9090->9191", "admin 9000->9000"];
/// "same address, on purpose"
const POD: [&str; 1] = ["10.244.0.5"];

/// What was seen when both had exported, when paris's pod was unready, and when paris had un-exported.
pub(crate) struct Told {
    both: Recording,
    unready: Recording,
    tokyo_alone: Recording,
    /// What became of berlin's objects from the second export on.
    berlin: Vec<Seen>,
}

pub(crate) async fn tell(set: &Arc<Set>) -> Told {
    let case = &Case::within(set, "shop").await;
    let Case { paris, tokyo, berlin, .. } = case;
    for at in case.members() {
        at.ensure(namespace("shop")).await;
    }
    // "paris: export: shop/web 10:00:00Z", "tokyo: export: shop/web 10:00:05Z"
    paris.serve("web", &PARIS, json!({}), &POD).await;
    let first = paris.export("web").await;
    case.older(&first).await;
    tokyo.serve("web", &TOKYO, json!({}), &POD).await;
    tokyo.export("web").await;
    for at in [paris, tokyo] {
        case.export_says(at, "web", "Conflict=True").await;
    }
    for at in case.members() {
        case.imported(at, "web").await;
        case.import_becomes(at, "web", "has three ports", |import| {
            import["spec"]["ports"].as_array().is_some_and(|ports| ports.len() == 3)
        })
        .await;
    }
    settled(case).await;
    let both = Recording::take(case).await;

    let mut following = Vec::new();
    for kind in [IMPORT, SERVICE, SLICE] {
        following.push((kind, berlin.follow(kind).await));
    }
    paris.replace_pods(pods("web", &PARIS, &["10.244.0.5 not ready"])).await;
    let standby = format!("{DERIVED}-standby-v4");
    case.slice_is(paris, &standby, "[tcp-9090 -> 10000] [10.244.1.10 ready]").await;
    let through =
        format!("[http -> 10000, grpc -> 10001] {}", GATEWAYS.replace(" ready", " not ready"));
    case.slice_is(berlin, "web-paris-v4", &through).await;
    settled(case).await;
    let unready = Recording::take(case).await;
    paris.replace_pods(pods("web", &PARIS, &POD)).await;
    case.slice_is(berlin, "web-paris-v4", &through.replace("not ready", "ready")).await;

    // "then paris un-exports"
    paris.delete(EXPORT, "web").await;
    for at in case.members() {
        case.goes(at, SLICE, "web-paris-v4").await;
        case.import_becomes(at, "web", "has tokyo's ports", |import| {
            import["spec"]["ports"][0]["port"] == 81
                && import["status"]["clusters"] == json!([{"cluster": "tokyo"}])
        })
        .await;
    }
    case.export_says(tokyo, "web", "Conflict=False").await;
    settled(case).await;
    let tokyo_alone = Recording::take(case).await;
    let mut seen = Vec::new();
    for (kind, following) in &following {
        for name in following.counts().into_keys() {
            seen.extend(following.of(berlin, *kind, &name).await);
        }
    }
    Told { both, unready, tokyo_alone, berlin: seen }
}

/// Waits until every derived Service has its owner, which is the last thing that is written.
async fn settled(case: &Case) {
    for at in case.members() {
        case.becomes("the derived Service has its owner", async || {
            let service = at.find(SERVICE, DERIVED).await?;
            service["metadata"].get("ownerReferences").map(|_| ())
        })
        .await;
        case.becomes("slices name what ports name", async || {
            let import = at.find(IMPORT, "web").await?;
            let service = at.find(SERVICE, DERIVED).await?;
            let count = |object: &Value| object["spec"]["ports"].as_array().map(Vec::len);
            (count(&import) == count(&service)).then_some(())
        })
        .await;
    }
}

fn import_port(name: &str, port: u16) -> Value {
    json!({"name": name, "protocol": "TCP", "port": port})
}

/// "ServiceExport.status (paris AND tokyo)": three conditions, to the letter.
pub(crate) fn both_exports_are_told_of_the_conflict(told: &Told) {
    for at in ["paris", "tokyo"] {
        let export = told.both.get(at, EXPORT, "web");
        assert_eq!(
            conditions(export),
            [
                "Conflict=True/PortConflict: Conflicting ports. Using \"http 80/TCP\" from oldest service export in \"paris\", not \"http 81/TCP\" from \"tokyo\". 1/2 clusters disagree.",
                "Ready=True/Exported",
                "Valid=True/Valid",
            ],
            "{at}"
        );
    }
}

/// "merge: oldest export first; a port is dropped when its name is taken, then when its (protocol, number) is taken":
/// the hub has what each exports, and no pod of it.
pub(crate) fn the_hub_has_what_each_exports(told: &Told) {
    for (member, ports) in [
        ("paris", json!([import_port("http", 80), import_port("grpc", 9090)])),
        (
            "tokyo",
            json!([import_port("http", 81), import_port("grpc", 9090), import_port("admin", 9000)]),
        ),
    ] {
        let name = format!("cluster-{member}/shop.web");
        let expected = json!({"spec": {"type": "ClusterSetIP", "ports": ports,
            "service": {"namespace": "shop", "name": "web"},
            "zones": [{"zone": "z1", "ready": 1, "total": 1}]}});
        told.both.has("hub", CLUSTER_EXPORT, &name, &expected);
    }
    assert_eq!(told.both.names("hub", SLICE, "shop/web"), [""; 0], "churn stays at home");
}

/// "in berlin: ServiceImport shop/web: metadata, spec, status": nothing more and nothing less in the spec.
pub(crate) fn the_import_in_berlin(told: &Told) {
    let import = told.both.get("berlin", IMPORT, "web");
    let annotations = &import["metadata"]["annotations"];
    assert_eq!(annotations["multicluster.kubernetes.io/derived-service"], DERIVED);
    let service = told.both.get("berlin", SERVICE, DERIVED);
    let spec = json!({
        "type": "ClusterSetIP",
        "ips": [service["spec"]["clusterIP"]],
        "ipFamilies": ["IPv4"],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ports": [import_port("http", 80), import_port("grpc", 9090), import_port("admin", 9000)],
    });
    assert_eq!(import["spec"], spec);
    assert_eq!(import["status"]["clusters"], json!([{"cluster": "paris"}, {"cluster": "tokyo"}]));
    assert_eq!(conditions(import), ["Ready=True/Ready"]);
}

/// "Service shop/derived-isrlchlhrq: no selector; ownerReference: the import; affinity copied from the import".
pub(crate) fn the_derived_service_in_berlin(told: &Told) {
    let import = told.both.get("berlin", IMPORT, "web");
    let service = told.both.get("berlin", SERVICE, DERIVED);
    assert_eq!(service["spec"].get("selector"), None);
    let owner = &service["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], import["metadata"]["uid"]);
    assert_eq!(owner["kind"], "ServiceImport");
    let ports: Vec<Value> = [80, 9090, 9000]
        .map(|port| json!({"name": format!("tcp-{port}"), "port": port, "protocol": "TCP", "targetPort": port}))
        .to_vec();
    told.both.has(
        "berlin",
        SERVICE,
        DERIVED,
        &json!({"spec": {"internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ports": ports}}),
    );
}

/// "EndpointSlice derived-isrlchlhrq-gw-v4: the allotment", with labels for kube-proxy and "no MCS labels".
pub(crate) fn the_allotment_in_berlin(told: &Told) {
    let name = format!("{DERIVED}-gw-v4");
    let ports = "[tcp-80 -> 10000, tcp-9090 -> 10001, tcp-9000 -> 10002]";
    told.both.slice_is("berlin", &name, &format!("{ports} {GATEWAYS}"));
    let slice = told.both.get("berlin", SLICE, &name);
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"kubernetes.io/service-name": DERIVED,
            "endpointslice.kubernetes.io/managed-by": "landbridge.dev"})
    );
}

/// "EndpointSlice web-paris-v4", "web-tokyo-v4: never kubernetes.io/service-name; the import's names; only what paris
/// serves; 10001 again: a port means a service port, not a cluster".
pub(crate) fn the_mcs_slices_in_berlin(told: &Told) {
    for (cluster, ports) in
        [("paris", "[http -> 10000, grpc -> 10001]"), ("tokyo", "[grpc -> 10001, admin -> 10002]")]
    {
        let name = format!("web-{cluster}-v4");
        told.both.slice_is("berlin", &name, &format!("{ports} {GATEWAYS}"));
        let slice = told.both.get("berlin", SLICE, &name);
        assert_eq!(
            slice["metadata"]["labels"],
            json!({"multicluster.kubernetes.io/service-name": "web",
                "multicluster.kubernetes.io/source-cluster": cluster,
                "endpointslice.kubernetes.io/managed-by": "landbridge.dev"})
        );
    }
}

/// "stream header for a call to 10000: {service: shop/web, port: 80, protocol: TCP, source: …}": what berlin's gateways
/// read in the allotment.
pub(crate) fn what_gateways_read_in_the_allotment(told: &Told) {
    let slice = told.both.get("berlin", SLICE, &format!("{DERIVED}-gw-v4")).clone();
    let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
    let allotment = convert::allotment(&slice).unwrap().unwrap();
    let read: Vec<String> = allotment
        .targets
        .iter()
        .map(|((protocol, number), target)| {
            assert_eq!(target.endpoint, None);
            format!("{number}/{} {} {}", protocol.as_str(), target.service, target.port.number)
        })
        .collect();
    assert_eq!(
        read,
        ["10000/TCP shop/web 80", "10001/TCP shop/web 9090", "10002/TCP shop/web 9000"]
    );
}

/// "in paris (exporter). Import as above but ips: [10.96.3.3]; its own allotment".
pub(crate) fn what_the_exporter_has_in_paris(told: &Told) {
    let both = &told.both;
    let own = |kind: &str| format!("{DERIVED}-{kind}-v4");
    both.slice_is("paris", &own("pods"), "[tcp-80 -> 8080, tcp-9090 -> 9090] [10.244.0.5 ready]");
    both.slice_is("paris", &own("gw"), "[tcp-9000 -> 10001] [10.244.1.10 ready]");
    both.slice_is("paris", &own("standby"), "[tcp-9090 -> 10000] [10.244.1.10 not ready]");
    let standby = both.get("paris", SLICE, &own("standby"));
    assert_eq!(
        standby["endpoints"][0]["conditions"],
        json!({"ready": false, "serving": false, "terminating": false})
    );
    both.slice_is("paris", "web-paris-v4", "[http -> 8080, grpc -> 9090] [10.244.0.5 ready]");
    both.slice_is("paris", "web-tokyo-v4", "[grpc -> 10000, admin -> 10001] [10.244.1.10 ready]");
    let pod = &both.get("paris", SLICE, &own("pods"))["endpoints"][0];
    for field in ["nodeName", "targetRef", "zone"] {
        assert!(pod.get(field).is_some(), "{field} is kept: own pods");
    }
    let spec = |at| {
        let mut spec = both.get(at, IMPORT, "web")["spec"].clone();
        spec.as_object_mut().unwrap().remove("ips");
        spec
    };
    assert_eq!(spec("paris"), spec("berlin"));
}

/// "in tokyo: pods-v4 […]; gw-v4 […]; standby-v4 […]; MCS web-tokyo-v4 […] (its http 81 is nowhere); MCS web-paris-v4".
pub(crate) fn what_the_exporter_has_in_tokyo(told: &Told) {
    let both = &told.both;
    let own = |kind: &str| format!("{DERIVED}-{kind}-v4");
    both.slice_is("tokyo", &own("pods"), "[tcp-9090 -> 9191, tcp-9000 -> 9000] [10.244.0.5 ready]");
    both.slice_is("tokyo", &own("gw"), "[tcp-80 -> 10000] [10.244.1.20 ready]");
    both.slice_is("tokyo", &own("standby"), "[tcp-9090 -> 10001] [10.244.1.20 not ready]");
    both.slice_is("tokyo", "web-tokyo-v4", "[grpc -> 9191, admin -> 9000] [10.244.0.5 ready]");
    both.slice_is("tokyo", "web-paris-v4", "[http -> 10000, grpc -> 10001] [10.244.1.20 ready]");
    let ours = both.names("tokyo", SLICE, "landbridge.dev");
    for name in ours {
        let slice = both.get("tokyo", SLICE, name).to_string();
        assert!(!slice.contains("tcp-81"), "http 81 is nowhere: {slice}");
    }
}

/// "then paris un-exports: berlin: same import UID, ips and Service; nothing is deleted and made again".
pub(crate) fn losing_the_oldest_changes_the_import_in_place(told: &Told) {
    let (before, after) = (&told.both, &told.tokyo_alone);
    let [was, is] = [before, after].map(|seen| seen.get("berlin", IMPORT, "web"));
    assert_eq!(is["metadata"]["uid"], was["metadata"]["uid"]);
    assert_eq!(is["spec"]["ips"], was["spec"]["ips"]);
    // "tokyo's order and numbers"
    let ports =
        json!([import_port("http", 81), import_port("grpc", 9090), import_port("admin", 9000)]);
    assert_eq!(is["spec"]["ports"], ports);
    assert_eq!(is["status"]["clusters"], json!([{"cluster": "tokyo"}]));
    let uid = |seen: &Recording| seen.get("berlin", SERVICE, DERIVED)["metadata"]["uid"].clone();
    assert_eq!(uid(after), uid(before));
    let gone: Vec<&str> = told
        .berlin
        .iter()
        .filter(|seen| seen.what == What::Deleted)
        .map(|seen| seen.name.as_str())
        .collect();
    assert_eq!(gone, ["web-paris-v4"]);
}

/// "kept ones keep their number; 10000 rests before it is used again".
pub(crate) fn kept_ports_keep_their_numbers(told: &Told) {
    let ports = "[tcp-81 -> 10003, tcp-9090 -> 10001, tcp-9000 -> 10002]";
    told.tokyo_alone.slice_is(
        "berlin",
        &format!("{DERIVED}-gw-v4"),
        &format!("{ports} {GATEWAYS}"),
    );
    let mcs = "[http -> 10003, grpc -> 10001, admin -> 10002]";
    told.tokyo_alone.slice_is("berlin", "web-tokyo-v4", &format!("{mcs} {GATEWAYS}"));
}

/// "web-paris-v4: deleted · status.clusters: [tokyo] · tokyo's export: Conflict=False/NoConflicts".
pub(crate) fn who_is_left_has_no_conflict(told: &Told) {
    for at in ["paris", "tokyo", "berlin"] {
        assert_eq!(told.tokyo_alone.find(at, SLICE, "web-paris-v4"), None, "{at}");
    }
    let export = told.tokyo_alone.get("tokyo", EXPORT, "web");
    assert_eq!(
        conditions(export),
        ["Conflict=False/NoConflicts", "Ready=True/Exported", "Valid=True/Valid"]
    );
}

/// "paris's pod turns unready: pods-v4 endpoint ready: false, standby-v4 endpoint ready: true (10000 stays); tcp-80 has
/// nobody: kube-proxy rejects".
pub(crate) fn when_the_pod_is_unready_the_standby_serves(told: &Told) {
    let own = |kind: &str| format!("{DERIVED}-{kind}-v4");
    let unready = &told.unready;
    let pods = "[tcp-80 -> 8080, tcp-9090 -> 9090] [10.244.0.5 not ready]";
    unready.slice_is("paris", &own("pods"), pods);
    unready.slice_is("paris", &own("standby"), "[tcp-9090 -> 10000] [10.244.1.10 ready]");
    unready.slice_is("paris", &own("gw"), "[tcp-9000 -> 10001] [10.244.1.10 ready]");
}
