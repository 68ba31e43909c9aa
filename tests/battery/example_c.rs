//! Worked example C: "Conditions and reasons of ours, beside the standard ones", row by row.
//!
//! Of the rows of ServiceExport, `Degraded` is held where ports and labels are, and `Pending` also where the hub is away;
//! of those of ServiceImport, `Encrypted` where networks are. `Peer` is told by gateways. `HeartbeatMissed` of a member is
//! told by those who miss it, in its ClusterProfile (the plan holds that): a member that is silent cannot say so itself, and nobody
//! else may write its Member.

use std::{collections::BTreeSet, sync::Arc};

use landbridge_controller::Config;
use landbridge_model::Namespace;
use serde_json::json;

use super::{
    case::Case,
    objects::{
        CLUSTER_EXPORT, EXPORT, IMPORT, MEMBER, SERVICE, SLICE, condition, gateways, namespace,
        pods, service,
    },
    server::SINGLE_STACK,
    stage::{SHARED, SYSTEM, Seat, Set},
};

/// What others share, and a cluster of one family in tokyo's network.
pub(crate) const SEATS: [Seat; 4] = {
    let [paris, tokyo, berlin] = SHARED;
    [paris, tokyo, berlin, Seat { name: SINGLE_STACK, network: "b", gateways: &["192.0.2.41"] }]
};

const HTTP: [&str; 1] = ["http 80->8080"];
const PODS: [&str; 1] = ["198.51.100.5"];

/// "ServiceExport Ready: NamespaceNotAllowed": "A member exports only namespaces that its `Member.spec` allows (all, by
/// default); importers check it again."
pub(crate) async fn an_export_of_a_namespace_that_is_not_allowed_is_told_so(set: &Arc<Set>) {
    let case = &Case::new(set, "not-allowed").await;
    let Case { paris, berlin, .. } = case;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    paris.export("web").await;
    case.imported(berlin, "web").await;
    // The member's own controller is away: importers take it from the Member alone.
    set.take("paris").await.stop().await;
    let only = json!({"spec": {"namespaces": ["elsewhere"]}});
    case.hub.edit(MEMBER, "paris", only).await;
    case.goes(berlin, IMPORT, "web").await;
    set.start("paris").await;
    let told = case.export_says(paris, "web", "Ready=False/NamespaceNotAllowed").await;
    assert!(condition(&told, "Ready").contains("not-allowed"), "{told}");
    assert!(condition(&told, "Valid").starts_with("Valid=True"), "it could be exported");
    case.becomes("the hub has nothing of it", async || {
        case.told_by("paris", "web").await.is_none().then_some(())
    })
    .await;
    case.hub.edit(MEMBER, "paris", json!({"spec": {"namespaces": null}})).await;
    case.export_says(paris, "web", "Ready=True/Exported").await;
    case.imported(berlin, "web").await;
}

/// "ServiceExport Ready: Failed (refused by the hub: message says why)". A hub that has its policies refuses an export
/// that becomes older; one that has none lets it be put right.
pub(crate) async fn an_export_that_the_hub_refuses_is_told_why(set: &Arc<Set>) {
    let case = &Case::new(set, "refused").await;
    let paris = &case.paris;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    paris.export("web").await;
    case.export_says(paris, "web", "Ready=True/Exported").await;
    let name = format!("{}.web", case.namespace());
    let time = json!({"spec": {"exportedAt": "2099-01-01T00:00:00Z"}});
    case.hub_of("paris").edit(CLUSTER_EXPORT, &name, time).await;
    if set.server("hub").await.has_policies() {
        let told = case.export_says(paris, "web", "Ready=False/Failed").await;
        let says = condition(&told, "Ready");
        assert!(says.contains("the time of an export cannot become earlier"), "{says}");
        // Whoever may, puts it right.
        case.hub_of("paris").delete(CLUSTER_EXPORT, &name).await;
    }
    case.becomes("the hub has the right time", async || {
        let told = case.told_by("paris", "web").await?;
        (!told["spec"]["exportedAt"].as_str()?.starts_with("2099")).then_some(())
    })
    .await;
    case.export_says(paris, "web", "Ready=True/Exported").await;
}

/// "ServiceImport Ready: Pending": without a gateway other networks cannot be reached, and the import says so; the
/// exporter, which needs none, is ready.
pub(crate) async fn an_import_without_a_gateway_is_pending(set: &Arc<Set>) {
    let case = &Case::new(set, "no-gateway").await;
    let Case { paris, berlin, .. } = case;
    let system = berlin.within(SYSTEM);
    for name in ["gateways-ipv4", "gateways-ipv6"] {
        system.delete(SLICE, name).await;
    }
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    paris.export("web").await;
    case.imported(paris, "web").await;
    let told = case.import_says(berlin, "web", "Ready=False/Pending").await;
    assert!(condition(&told, "Ready").contains("No gateway"), "{told}");
    let ips = told["spec"]["ips"].clone();
    for slice in gateways(SHARED[2].gateways) {
        system.create(slice).await;
    }
    case.imported(berlin, "web").await;
    // Gateways of one family may be found before those of the other.
    case.becomes("it has the addresses that its name had before", async || {
        (berlin.get(IMPORT, "web").await["spec"]["ips"] == ips).then_some(())
    })
    .await;
}

/// "ServiceImport Ready: Pending": "at most `--max-derived-services` […]; beyond it the import is `Ready=False/Pending`
/// with the reason."
pub(crate) async fn an_import_beyond_the_limit_is_pending(set: &Arc<Set>) {
    let case = &Case::new(set, "limit").await;
    let Case { paris, berlin, .. } = case;
    set.take("berlin").await.stop().await;
    let config = Config { max_derived_services: 1, ..set.config("berlin") };
    let limited = set.run("berlin", config).await;
    for name in ["first", "second"] {
        paris.serve(name, &HTTP, json!({}), &PODS).await;
        paris.export(name).await;
        case.becomes(&format!("berlin has {name}"), async || berlin.find(IMPORT, name).await).await;
    }
    case.imported(berlin, "first").await;
    let told = case.import_says(berlin, "second", "Ready=False/Pending").await;
    let says = condition(&told, "Ready");
    assert!(says.contains("1 Services") && says.contains("--max-derived-services"), "{says}");
    assert_eq!(told["spec"].get("ips"), None);
    paris.delete(EXPORT, "first").await;
    case.imported(berlin, "second").await;
    limited.stop().await;
}

/// "ServiceImport Ready: AddressesExhausted": "at most 256 per import (then a condition)".
pub(crate) async fn an_import_of_too_many_endpoints_says_so(set: &Arc<Set>) {
    let case = &Case::new(set, "many").await;
    let Case { paris, berlin, .. } = case;
    paris.create(service("db", &["pg 5432"], json!({"clusterIP": "None"}))).await;
    let all: Vec<String> = (0..260)
        .map(|at| format!("10.1.{}.{} as db-{at} of u{at}", at / 200, at % 200 + 1))
        .collect();
    for (part, endpoints) in all.chunks(100).enumerate() {
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let mut slice = pods("db", &["pg 5432"], &endpoints);
        slice["metadata"]["name"] = json!(format!("db-{part:05}"));
        paris.create(slice).await;
    }
    paris.export("db").await;
    let told = case.import_says(berlin, "db", "Ready=False/AddressesExhausted: 4 endpoints").await;
    assert!(condition(&told, "Ready").contains("at most 256"), "{told}");
    // "ServiceExport Degraded: TooManyEndpoints": whoever exports is the one who can split it.
    let told = case.export_says(paris, "db", "Degraded=True/TooManyEndpoints").await;
    assert!(condition(&told, "Degraded").contains("260 endpoints"), "{told}");
    case.becomes("256 have one", async || {
        let made = berlin.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
        (made.len() == 256).then_some(())
    })
    .await;
    case.imported(paris, "db").await;
    paris.delete(EXPORT, "db").await;
    case.empties(berlin).await;
}

/// "ServiceImport […] NotSelected": "A member imports only namespaces that exist there, and of those only what its
/// selector allows (all, by default)". There is no import then that could say so: the controller's snapshot does.
pub(crate) async fn a_namespace_that_is_not_selected_is_not_imported(set: &Arc<Set>) {
    let case = &Case::new(set, "selected").await;
    let other = "not-selected";
    for at in case.members() {
        at.ensure(namespace(other)).await;
    }
    set.take("berlin").await.stop().await;
    let only = BTreeSet::from([Namespace::parse(case.namespace()).unwrap()]);
    let config = Config { import_namespaces: Some(only), ..set.config("berlin") };
    let selective = set.run("berlin", config).await;
    let [paris, berlin] = [&case.paris, &case.berlin].map(|at| at.within(other));
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    paris.export("web").await;
    case.imported(&case.tokyo.within(other), "web").await;
    case.paris.serve("web", &HTTP, json!({}), &PODS).await;
    case.paris.export("web").await;
    case.imported(&case.berlin, "web").await;
    assert_eq!(berlin.find(IMPORT, "web").await, None);
    case.becomes("the snapshot says why", async || {
        let withheld =
            selective.handle.snapshot().await["imports"]["not-selected/web"]["withheld"].clone();
        (withheld == "NotSelected").then_some(())
    })
    .await;
    selective.stop().await;
}

/// "ServiceImport Ready: IPFamilyNotSupported": "importing an IPv6 only service in an IPv4 cluster" whose pods are called
/// directly. Through gateways it can be called: they carry the one to the other.
pub(crate) async fn row_an_import_of_an_unsupported_family_is_not_ready(set: &Arc<Set>) {
    let case = &Case::new(set, "family").await;
    let oslo = set.at(SINGLE_STACK, "family").await;
    oslo.ensure(namespace("family")).await;
    let Case { tokyo, paris, .. } = case;
    let six = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]});
    for at in [tokyo, paris] {
        let name = format!("of-{}", at.name);
        at.serve(&name, &HTTP, six.clone(), &["2001:db8:1::5 of u5"]).await;
        at.export(&name).await;
        case.imported(at, &name).await;
    }
    let told = case.import_says(&oslo, "of-tokyo", "Ready=False/IPFamilyNotSupported").await;
    assert!(condition(&told, "Ready").contains("served over IPv6 alone"), "{told}");
    let import = case.imported(&oslo, "of-paris").await;
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4"]));
    // When tokyo serves both, it can be called there as well.
    let name = "of-tokyo";
    let both =
        json!({"spec": {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}});
    tokyo.edit(SERVICE, name, both).await;
    tokyo.create(pods(name, &HTTP, &["198.51.100.5 of u5"])).await;
    let import = case.imported(&oslo, name).await;
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4"]));
}

/// "Member Healthy: […] RevisionTooOld": "Merge revision published and the lowest used". A member that knows no merge rules
/// which the others know is told by each of them, and nothing else changes.
pub(crate) async fn a_member_of_no_known_merge_rules_is_told(set: &Arc<Set>) {
    let case = &Case::new(set, "revision").await;
    let Case { hub, paris, berlin, .. } = case;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    paris.export("web").await;
    let import = case.imported(berlin, "web").await;
    let member = json!({"apiVersion": MEMBER.version, "kind": MEMBER.name, "metadata": {"name": "ancient"},
        "spec": {"generation": 1, "network": "elsewhere"}});
    hub.create(member).await;
    let status = json!({"heartbeat": "2026-01-01T00:00:00.000000Z", "mergeRevision": 0});
    hub.edit_status(MEMBER, "ancient", status).await;
    let says = async |wanted: &str| {
        for at in case.members() {
            case.becomes(&format!("{} says {wanted}", at.name), async || {
                let member = hub.get(MEMBER, at.name).await;
                condition(&member, "Compatible").starts_with(wanted).then_some(())
            })
            .await;
        }
    };
    says("Compatible=False/RevisionTooOld: Members ancient").await;
    assert_eq!(berlin.get(IMPORT, "web").await["spec"], import["spec"]);
    hub.delete(MEMBER, "ancient").await;
    says("Compatible=True").await;
}
