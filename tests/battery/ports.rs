//! KEP-1645 "Service Port": the union of ports, in every form that Services have.

use serde_json::{Value, json};

use super::{
    case::Case,
    objects::{EXPORT, HELLO, HELLO_PODS, SLICE, condition, hello, told},
};

const PODS: [&str; 1] = ["198.51.100.5"];

/// Waits until every member's import has these ports, in this order.
async fn all_have(case: &Case, name: &str, wanted: &Value) {
    for at in case.members() {
        let what = format!("has the ports {wanted}");
        case.import_becomes(at, name, &what, |import| import["spec"]["ports"] == *wanted).await;
    }
}

fn port(name: &str, protocol: &str, number: u16) -> Value {
    json!({"name": name, "protocol": protocol, "port": number})
}

/// R8: "A ServiceImport for a service exported on two clusters should expose the union of the constituent service ports
/// and raise a conflict". KEP-1645: "the clusterset service will expose the union of service ports declared on its
/// constituent services and raise a `PortConflict` conflict condition."
pub(crate) async fn r8_row_ports_the_union_is_exposed_and_the_difference_told(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    paris.serve("hello", &HELLO, hello(), &HELLO_PODS).await;
    tokyo.serve("hello", &["tcp 42", "stcp 142/SCTP"], hello(), &HELLO_PODS).await;
    paris.export("hello").await;
    case.imported(paris, "hello").await;
    tokyo.export("hello").await;
    let union = json!([port("tcp", "TCP", 42), port("udp", "UDP", 42), port("stcp", "SCTP", 142)]);
    all_have(case, "hello", &union).await;
    let wanted = "Conflict=True/PortConflict: Conflicting ports. Using the union of all exports: \"udp 42/UDP\" from oldest service export in \"paris\" is not exported by \"tokyo\". 1/2 clusters disagree.";
    for at in [paris, tokyo] {
        case.export_says(at, "hello", wanted).await;
    }
}

/// R9: "A ServiceImport for a service exported on two clusters with conflicting ports should apply the conflict
/// resolution policy". KEP-1645: "merge ports from constituent services first based on port name".
pub(crate) async fn r9_row_ports_of_two_with_one_name_the_oldest_wins(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    paris.serve("hello", &HELLO, hello(), &HELLO_PODS).await;
    tokyo.serve("hello", &["tcp 43"], hello(), &HELLO_PODS).await;
    paris.export("hello").await;
    case.imported(paris, "hello").await;
    tokyo.export("hello").await;
    let wanted = "Conflict=True/PortConflict: Conflicting ports. Using \"tcp 42/TCP\" from oldest service export in \"paris\", not \"tcp 43/TCP\" from \"tokyo\". 1/2 clusters disagree.";
    for at in [paris, tokyo] {
        case.export_says(at, "hello", wanted).await;
    }
    all_have(case, "hello", &json!([port("tcp", "TCP", 42), port("udp", "UDP", 42)])).await;
}

/// "[…] then by the protocol and port number pair": "Two ports must not have the same protocol and port number".
pub(crate) async fn row_ports_of_two_with_one_number_the_oldest_wins(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    paris.serve("web", &["http 80->8080"], json!({}), &PODS).await;
    tokyo.serve("web", &["web 80->8080", "admin 81"], json!({}), &PODS).await;
    paris.export("web").await;
    case.imported(paris, "web").await;
    tokyo.export("web").await;
    let wanted = "Conflict=True/PortConflict: Conflicting ports. Using \"http 80/TCP\" from oldest service export in \"paris\", not \"web 80/TCP\" from \"tokyo\". 1/2 clusters disagree.";
    for at in [paris, tokyo] {
        case.export_says(at, "web", wanted).await;
    }
    all_have(case, "web", &json!([port("http", "TCP", 80), port("admin", "TCP", 81)])).await;
}

/// "Have no duplicated names (including unnamed/empty name)": of two ports without a name the older one stays.
pub(crate) async fn row_ports_without_a_name_are_one_name(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    paris.serve("web", &["80->8080"], json!({}), &PODS).await;
    tokyo.serve("web", &["81->8080"], json!({}), &PODS).await;
    paris.export("web").await;
    case.imported(paris, "web").await;
    tokyo.export("web").await;
    let wanted = "Conflict=True/PortConflict: Conflicting ports. Using \"80/TCP\" from oldest service export in \"paris\", not \"81/TCP\" from \"tokyo\".";
    for at in [paris, tokyo] {
        case.export_says(at, "web", wanted).await;
    }
    all_have(case, "web", &json!([{"protocol": "TCP", "port": 80}])).await;
}

/// "network traffic to a conflicting port should only be directed to endpoints from constituent services that actually
/// expose the port": whoever's Service has the protocol and number serves it, whatever its name there.
pub(crate) async fn row_ports_lead_only_to_clusters_that_expose_them(case: &Case) {
    let Case { paris, tokyo, berlin, .. } = case;
    paris.serve("web", &["http 80->8080", "grpc 9090"], json!({}), &PODS).await;
    tokyo.serve("web", &["http 81->8080", "rpc 9090->9191"], json!({}), &PODS).await;
    paris.export("web").await;
    case.imported(paris, "web").await;
    tokyo.export("web").await;
    all_have(case, "web", &json!([port("http", "TCP", 80), port("grpc", "TCP", 9090)])).await;
    // tokyo shares berlin's network, so that its slice names pods.
    case.slice_is(berlin, "web-tokyo-v4", "[grpc -> 9191] [198.51.100.5 ready]").await;
    case.slice_is(tokyo, "web-tokyo-v4", "[grpc -> 9191] [198.51.100.5 ready]").await;
    let paris = berlin.get(SLICE, "web-paris-v4").await;
    let names: Vec<&str> = paris["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["http", "grpc"]);
}

/// Named and unnamed, one number over TCP and UDP, two ports on one target: each is exported as it is.
pub(crate) async fn ports_of_every_form_are_imported_as_they_are(case: &Case) {
    let paris = &case.paris;
    paris.serve("one", &["80->8080"], json!({}), &PODS).await;
    paris.serve("two", &["tcp 53", "udp 53/UDP"], json!({}), &PODS).await;
    paris.serve("target", &["http 80->8080", "alt 8080->8080"], json!({}), &PODS).await;
    for name in ["one", "two", "target"] {
        paris.export(name).await;
    }
    all_have(case, "one", &json!([{"protocol": "TCP", "port": 80}])).await;
    all_have(case, "two", &json!([port("tcp", "TCP", 53), port("udp", "UDP", 53)])).await;
    all_have(case, "target", &json!([port("http", "TCP", 80), port("alt", "TCP", 8080)])).await;
    case.slice_is(paris, "one-paris-v4", "[ -> 8080] [198.51.100.5 ready]").await;
    case.slice_is(paris, "two-paris-v4", "[tcp -> 53, udp -> 53] [198.51.100.5 ready]").await;
    let target = "[http -> 8080, alt -> 8080] [198.51.100.5 ready]";
    case.slice_is(paris, "target-paris-v4", target).await;
    // Gateways have a number for each of them, and TCP and UDP count apart.
    for name in ["one", "two", "target"] {
        let import = case.imported(&case.berlin, name).await;
        let derived =
            import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
                .as_str()
                .unwrap();
        let slice = case.berlin.get(SLICE, &format!("{derived}-gw-v4")).await;
        let numbers: Vec<(String, u64)> = slice["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| (port["protocol"].to_string(), port["port"].as_u64().unwrap()))
            .collect();
        let mut distinct = numbers.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), numbers.len(), "{}", told(&slice));
        assert!(numbers.iter().all(|(_, number)| (10_000..30_000).contains(number)));
    }
}

/// "A portless export, or SCTP across networks, gets a condition and no gateway endpoint."
pub(crate) async fn what_gateways_cannot_carry_is_told_and_imported_all_the_same(case: &Case) {
    let Case { paris, berlin, .. } = case;
    paris.serve("signal", &["sctp 132/SCTP", "http 80"], json!({}), &PODS).await;
    paris.export("signal").await;
    let told = case.export_says(paris, "signal", "Degraded=True/PortNotCarried").await;
    assert!(condition(&told, "Degraded").contains("sctp 132/SCTP"), "{told}");
    all_have(case, "signal", &json!([port("sctp", "SCTP", 132), port("http", "TCP", 80)])).await;
    let slice = berlin.get(SLICE, "signal-paris-v4").await;
    assert_eq!(slice["ports"].as_array().unwrap().len(), 1, "{slice}");
    assert_eq!(slice["ports"][0]["name"], "http");

    // A headless Service may have no port at all.
    let portless = json!({"clusterIP": "None", "ports": null});
    paris.serve("quiet", &[], portless, &["198.51.100.5 as quiet-0"]).await;
    paris.export("quiet").await;
    case.export_says(paris, "quiet", "Degraded=True/PortNotCarried").await;
    for at in case.members() {
        let import = case
            .import_becomes(at, "quiet", "is there", |import| import["spec"]["ports"] == json!([]))
            .await;
        assert_eq!(import["spec"]["type"], "Headless");
    }
    // What was left out comes back with the Service.
    let ports = json!({"spec": {"ports": [{"name": "http", "port": 80}]}});
    paris.edit(super::objects::SERVICE, "signal", ports).await;
    case.export_says(paris, "signal", "Degraded=False/NothingLeftOut").await;
    paris.delete(EXPORT, "quiet").await;
    case.goes(berlin, super::objects::IMPORT, "quiet").await;
}

/// A port that is added is imported, one that is removed is not any more, and those that stay keep their numbers.
pub(crate) async fn a_port_that_stays_keeps_its_gateway_port(case: &Case) {
    let Case { paris, berlin, .. } = case;
    paris.serve("web", &["http 80", "grpc 9090"], json!({}), &PODS).await;
    paris.export("web").await;
    let import = case.imported(berlin, "web").await;
    let derived = import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
        .as_str()
        .unwrap()
        .to_owned();
    let numbers = async || {
        let slice = berlin.get(SLICE, &format!("{derived}-gw-v4")).await;
        let ports = slice["ports"].as_array().unwrap().clone();
        ports
            .iter()
            .map(|port| (port["name"].as_str().unwrap().to_owned(), port["port"].clone()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = numbers().await;
    let ports = json!({"spec": {"ports": [{"name": "grpc", "port": 9090}, {"name": "admin", "port": 9000}]}});
    paris.edit(super::objects::SERVICE, "web", ports).await;
    all_have(case, "web", &json!([port("grpc", "TCP", 9090), port("admin", "TCP", 9000)])).await;
    let after = case
        .becomes("the slice follows", async || {
            let after = numbers().await;
            after.contains_key("tcp-9000").then_some(after)
        })
        .await;
    assert_eq!(after["tcp-9090"], before["tcp-9090"]);
    assert!(!after.contains_key("tcp-80"));
    assert_ne!(after["tcp-9000"], before["tcp-80"], "it rests before it is used again");
}
