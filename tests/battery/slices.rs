//! KEP-1645 "Using `EndpointSlice` objects to track endpoints": what Gateway API controllers and DNS servers read.

use serde_json::{Value, json};

use super::{
    case::Case,
    objects::{EXPORT, HELLO, HELLO_PODS, SLICE, hello, pods, told},
};

const HTTP: [&str; 1] = ["http 80->8080"];
const SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";
const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const KUBE_SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The derived Service of an import.
fn derived(import: &Value) -> String {
    let annotations = &import["metadata"]["annotations"];
    annotations["multicluster.kubernetes.io/derived-service"].as_str().unwrap().to_owned()
}

/// O3: "Exporting a service should create an MCS EndpointSlice in the service's namespace in each cluster with the
/// required MCS labels. Unexporting should delete the EndpointSlice." KEP-1645: "When a service is un-exported, the
/// associated EndpointSlices will be deleted."
pub(crate) async fn o3_every_cluster_has_slices_with_the_mcs_labels(case: &Case) {
    case.paris.serve("hello", &HELLO, hello(), &HELLO_PODS).await;
    case.paris.export("hello").await;
    let mut found = Vec::new();
    for at in case.members() {
        for family in ["IPv4", "IPv6"] {
            let select = format!("{SERVICE_NAME}=hello,{SOURCE_CLUSTER}=paris");
            let slice = case
                .becomes(&format!("{} has an {family} slice", at.name), async || {
                    let slices = at.list(SLICE, &select).await;
                    slices.into_iter().find(|slice| slice["addressType"] == family)
                })
                .await;
            assert!(!slice["endpoints"].as_array().unwrap().is_empty(), "{slice}");
            let by = slice["metadata"]["labels"][MANAGED_BY].as_str().unwrap();
            assert_eq!(by, "landbridge.dev");
            found.push((at, slice["metadata"]["name"].as_str().unwrap().to_owned()));
        }
    }
    case.paris.delete(EXPORT, "hello").await;
    for (at, name) in found {
        case.goes(at, SLICE, &name).await;
    }
}

/// "An `EndpointSlice` created by an mcs-controller must be marked as managed by the mcs-controller, not the default
/// `EndpointSlice` controller", and "each slice is guaranteed to map only to a single source cluster". What kube-proxy
/// reads and what MCS readers read are apart: neither takes the other's for its own.
pub(crate) async fn slices_are_of_one_cluster_and_for_one_kind_of_reader(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    paris.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    tokyo.serve("web", &HTTP, json!({}), &["198.51.100.6"]).await;
    for at in [paris, tokyo] {
        at.export("web").await;
    }
    for at in case.members() {
        for cluster in ["paris", "tokyo"] {
            let name = format!("web-{cluster}-v4");
            let what = format!("{}: {name}", at.name);
            case.becomes(&what, async || at.find(SLICE, &name).await).await;
        }
        let ours = at.list(SLICE, &format!("{MANAGED_BY}=landbridge.dev")).await;
        let (mcs, derived): (Vec<_>, Vec<_>) =
            ours.iter().partition(|slice| slice["metadata"]["labels"].get(SERVICE_NAME).is_some());
        assert!(mcs.len() >= 2, "{}", at.name);
        for slice in mcs {
            let labels = &slice["metadata"]["labels"];
            let of = labels[SOURCE_CLUSTER].as_str().unwrap();
            let name = slice["metadata"]["name"].as_str().unwrap();
            assert!(name.starts_with(&format!("web-{of}-")), "{slice}");
            assert_eq!(labels[SERVICE_NAME], "web");
            assert_eq!(labels.get(KUBE_SERVICE_NAME), None, "kube-proxy would take it: {slice}");
        }
        assert!(!derived.is_empty());
        for slice in derived {
            let labels = &slice["metadata"]["labels"];
            assert!(labels[KUBE_SERVICE_NAME].as_str().unwrap().starts_with("derived-"));
            assert_eq!(labels.get(SOURCE_CLUSTER), None, "an MCS reader would take it: {slice}");
        }
    }
}

/// "Implementations must publish whether imported `EndpointSlice` objects are present through
/// `ServiceImport.Status.EndpointSliceObjects`."
pub(crate) async fn imports_say_whether_there_are_slices(case: &Case) {
    let Case { paris, berlin, .. } = case;
    paris.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    // Gateways carry nothing of it.
    paris.serve("signal", &["sctp 132/SCTP"], json!({}), &["198.51.100.5"]).await;
    let objects = |wanted: &'static str| {
        move |import: &Value| import["status"]["endpointSliceObjects"] == wanted
    };
    for name in ["web", "signal"] {
        paris.export(name).await;
        case.import_becomes(paris, name, "has slices", objects("Present")).await;
    }
    case.import_becomes(berlin, "web", "has slices", objects("Present")).await;
    case.import_becomes(berlin, "signal", "has none", objects("Absent")).await;
}

/// What is ready is told, and pods come and go without the slices being made anew.
pub(crate) async fn slices_follow_the_pods(case: &Case) {
    let Case { paris, berlin, .. } = case;
    let ports = &HTTP;
    paris.serve("web", ports, json!({}), &["198.51.100.5"]).await;
    paris.export("web").await;
    case.slice_is(paris, "web-paris-v4", "[http -> 8080] [198.51.100.5 ready]").await;
    let uid = paris.get(SLICE, "web-paris-v4").await["metadata"]["uid"].clone();
    let before = told(&berlin.get(SLICE, "web-paris-v4").await);
    assert!(before.ends_with("[192.0.2.31 ready]"), "{before}");

    // Churn stays at home: between networks only whether anybody is ready matters.
    paris.replace_pods(pods("web", ports, &["198.51.100.5", "198.51.100.6 not ready"])).await;
    let two = "[http -> 8080] [198.51.100.5 ready, 198.51.100.6 not ready]";
    case.slice_is(paris, "web-paris-v4", two).await;
    paris.replace_pods(pods("web", ports, &["198.51.100.6 not ready"])).await;
    case.slice_is(paris, "web-paris-v4", "[http -> 8080] [198.51.100.6 not ready]").await;
    let nobody = before.replace("31 ready", "31 not ready");
    case.slice_is(berlin, "web-paris-v4", &nobody).await;
    paris.replace_pods(pods("web", ports, &["198.51.100.6"])).await;
    case.slice_is(berlin, "web-paris-v4", &before).await;
    assert_eq!(paris.get(SLICE, "web-paris-v4").await["metadata"]["uid"], uid);
}

/// What an exporting cluster's own slices say of a pod is kept: its node, its zone, and which pod it is.
pub(crate) async fn own_pods_keep_what_is_known_of_them(case: &Case) {
    let paris = &case.paris;
    paris.serve("web", &HTTP, json!({}), &["198.51.100.5 of u5"]).await;
    paris.export("web").await;
    let import = case.imported(paris, "web").await;
    for name in [format!("{}-pods-v4", derived(&import)), "web-paris-v4".to_owned()] {
        let slice = paris.get(SLICE, &name).await;
        let endpoint = &slice["endpoints"][0];
        assert_eq!(endpoint["nodeName"], "node-1", "{name}");
        assert_eq!(endpoint["zone"], "z1", "{name}");
        assert_eq!(endpoint["targetRef"]["uid"], "u5", "{name}");
    }
}

/// The suite asks for endpoints in every family that the import has: v4 and v6 have slices of their own.
pub(crate) async fn each_family_has_slices_of_its_own(case: &Case) {
    case.paris.serve("hello", &HELLO, hello(), &HELLO_PODS).await;
    case.paris.export("hello").await;
    let v4 = "[tcp -> 42, udp -> 42] [198.51.100.42 ready]";
    let v6 = "[tcp -> 42, udp -> 42] [2001:db8:1::42 ready]";
    case.slice_is(&case.paris, "hello-paris-v4", v4).await;
    case.slice_is(&case.paris, "hello-paris-v6", v6).await;
    for (suffix, gateway) in [("v4", "192.0.2.31"), ("v6", "2001:db8::31")] {
        let name = format!("hello-paris-{suffix}");
        let slice = case
            .becomes(&format!("berlin: {name}"), async || case.berlin.find(SLICE, &name).await)
            .await;
        assert!(told(&slice).ends_with(&format!("[{gateway} ready]")), "{}", told(&slice));
    }
    // The status is written after what it tells of.
    let has_slices = |import: &Value| import["status"]["endpointSliceObjects"] == "Present";
    case.import_becomes(&case.berlin, "hello", "has slices", has_slices).await;
}
