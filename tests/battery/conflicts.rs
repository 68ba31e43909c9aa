//! KEP-1645 "Constraints and Conflict Resolution", property by property: who wins, who is told, and what does not
//! change. How ports are merged is [`ports`](super::ports)'s.

use serde_json::{Value, json};

use super::{
    case::{At, Case},
    objects::{EXPORT, HELLO, IMPORT, SERVICE, SLICE, condition, has, hello, told},
};

const HTTP: [&str; 1] = ["http 80->8080"];
const PODS: [&str; 1] = ["198.51.100.5"];

/// Two exporters: paris is the older one.
async fn both(case: &Case, specs: [Value; 2]) {
    let Case { paris, tokyo, .. } = case;
    let [first, second] = specs;
    paris.serve("web", &HTTP, first, &PODS).await;
    tokyo.serve("web", &HTTP, second, &PODS).await;
    paris.export("web").await;
    case.imported(paris, "web").await;
    tokyo.export("web").await;
}

/// Both exports tell the same conflict, with this reason and message.
async fn both_say(case: &Case, reason: &str, message: &str) {
    let wanted = format!("Conflict=True/{reason}: {message}");
    for at in [&case.paris, &case.tokyo] {
        case.export_says(at, "web", &wanted).await;
    }
}

/// Both exports say that they agree.
async fn both_agree(case: &Case) {
    for at in [&case.paris, &case.tokyo] {
        case.export_says(at, "web", "Conflict=False/NoConflicts").await;
    }
}

/// Every import comes to have this spec.
async fn all_have(case: &Case, wanted: &Value) {
    let wanted = json!({ "spec": wanted });
    for at in case.members() {
        let import = case
            .import_becomes(at, "web", &format!("has {wanted}"), |import| {
                import["status"]["clusters"].as_array().is_some_and(|all| !all.is_empty())
                    && includes(import, &wanted)
            })
            .await;
        has(&import, &wanted);
    }
}

fn includes(object: &Value, wanted: &Value) -> bool {
    let mut merged = object.clone();
    super::objects::merge(&mut merged, wanted);
    merged == *object
}

/// One property of which the older export's value wins. When the older one leaves, the younger one's is used and nobody
/// disagrees any more.
async fn the_oldest_wins(
    case: &Case,
    specs: [Value; 2],
    wanted: [Value; 2],
    (reason, field, values): (&str, &str, [&str; 2]),
) {
    both(case, specs).await;
    let [winner, loser] = values;
    let message = format!(
        "Conflicting {field}. Using \"{winner}\" from oldest service export in \"paris\", not \"{loser}\" from \"tokyo\". 1/2 clusters disagree."
    );
    both_say(case, reason, &message).await;
    let [older, younger] = wanted;
    all_have(case, &older).await;
    case.paris.delete(EXPORT, "web").await;
    case.export_says(&case.tokyo, "web", "Conflict=False/NoConflicts").await;
    all_have(case, &younger).await;
}

/// "Whether or not a derived service is headless will be decided according to the conflict resolution policy."
/// R13: "A ServiceImport of conflicting headlessness should apply the conflict resolution policy".
pub(crate) async fn r13_row_headlessness_the_oldest_export_wins(case: &Case) {
    let specs = [json!({}), json!({"clusterIP": "None"})];
    both(case, specs).await;
    let message = "Conflicting type. Using \"ClusterSetIP\" from oldest service export in \"paris\", not \"Headless\" from \"tokyo\". 1/2 clusters disagree.";
    both_say(case, "TypeConflict", message).await;
    all_have(case, &json!({"type": "ClusterSetIP"})).await;
    // "Exporting a non-headless service to an otherwise headless service can dynamically change the clusterset service
    // type when an old export is removed".
    case.paris.delete(EXPORT, "web").await;
    case.export_says(&case.tokyo, "web", "Conflict=False/NoConflicts").await;
    for at in case.members() {
        let headless = |import: &Value| {
            import["spec"]["type"] == "Headless" && import["spec"].get("ips").is_none()
        };
        case.import_becomes(at, "web", "turns headless", headless).await;
    }
}

/// "The derived service's session affinity will be decided according to the conflict resolution policy." Who has none
/// has no timeout either, so that both are told.
pub(crate) async fn row_session_affinity_the_oldest_export_wins(case: &Case) {
    let none = json!({"sessionAffinity": "None"});
    let by_client = json!({"sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}});
    both(case, [json!({}), by_client.clone()]).await;
    let message = "Conflicting session affinity. Using \"None\" from oldest service export in \"paris\", not \"ClientIP\" from \"tokyo\". 1/2 clusters disagree. Conflicting session affinity timeout. Using \"none\" from oldest service export in \"paris\", not \"10s\" from \"tokyo\". 1/2 clusters disagree.";
    both_say(case, "SessionAffinityConflict,SessionAffinityConfigConflict", message).await;
    all_have(case, &none).await;
    case.paris.delete(EXPORT, "web").await;
    case.export_says(&case.tokyo, "web", "Conflict=False/NoConflicts").await;
    all_have(case, &by_client).await;
}

/// The same of its configuration: "SessionAffinityConfigConflict".
pub(crate) async fn row_session_affinity_config_the_oldest_export_wins(case: &Case) {
    let affinity = |seconds: u32| {
        json!({"sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}})
    };
    the_oldest_wins(
        case,
        [affinity(10), affinity(20)],
        [affinity(10), affinity(20)],
        ("SessionAffinityConfigConflict", "session affinity timeout", ["10s", "20s"]),
    )
    .await;
}

/// "The derived service's internal traffic policy will be decided according to the conflict resolution policy."
pub(crate) async fn row_internal_traffic_policy_the_oldest_export_wins(case: &Case) {
    let [local, cluster] =
        ["Local", "Cluster"].map(|policy| json!({ "internalTrafficPolicy": policy }));
    the_oldest_wins(
        case,
        [local.clone(), cluster.clone()],
        [local, cluster],
        ("InternalTrafficPolicyConflict", "internal traffic policy", ["Local", "Cluster"]),
    )
    .await;
}

/// "The derived service's traffic distribution will be decided according to the conflict resolution policy."
pub(crate) async fn row_traffic_distribution_the_oldest_export_wins(case: &Case) {
    let close = json!({"trafficDistribution": "PreferClose"});
    both(case, [close.clone(), json!({})]).await;
    let message = "Conflicting traffic distribution. Using \"PreferClose\" from oldest service export in \"paris\", not \"none\" from \"tokyo\". 1/2 clusters disagree.";
    both_say(case, "TrafficDistributionConflict", message).await;
    all_have(case, &close).await;
    case.paris.delete(EXPORT, "web").await;
    case.export_says(&case.tokyo, "web", "Conflict=False/NoConflicts").await;
    for at in case.members() {
        case.import_becomes(at, "web", "has no preference", |import| {
            import["spec"].get("trafficDistribution").is_none()
        })
        .await;
    }
}

/// O1: "Only labels and annotations specified as exported in the ServiceExport should be propagated to the
/// ServiceImport". KEP-1645: "annotations or labels must not be exported from the `metadata` of the `Service` or
/// `ServiceExport` resources."
pub(crate) async fn o1_only_exported_labels_and_annotations_are_propagated(case: &Case) {
    let dummy = json!({"dummy-svc": "dummy"});
    let mut object = super::objects::service("hello", &HELLO, hello());
    object["metadata"]["labels"] = dummy.clone();
    object["metadata"]["annotations"] = dummy.clone();
    case.paris.create(object).await;
    let mut export = super::objects::export("hello");
    export["metadata"]["labels"] = json!({"dummy-export": "dummy"});
    export["metadata"]["annotations"] = json!({"dummy-export": "dummy"});
    export["spec"] = json!({"exportedLabels": {"label": "red"},
        "exportedAnnotations": {"annotation": "any text, of any length"}});
    case.paris.create(export).await;
    for at in case.members() {
        let import = case.imported(at, "hello").await;
        let metadata = &import["metadata"];
        assert_eq!(metadata["labels"]["label"], "red", "{}", at.name);
        assert_eq!(metadata["annotations"]["annotation"], "any text, of any length");
        for dummy in ["dummy-svc", "dummy-export"] {
            assert_eq!(metadata["labels"].get(dummy), None);
            assert_eq!(metadata["annotations"].get(dummy), None);
        }
    }
}

/// O2: "The labels and annotations […] should apply the conflict resolution policy". KEP-1645: they "will be decided
/// according to the conflict resolution if the set of name/value pairs are not identical between the constituent
/// clusters": the whole set of the oldest, nothing is merged.
pub(crate) async fn o2_row_labels_and_annotations_the_whole_set_of_the_oldest_wins(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    let spec = |colour: &str, own: &str| {
        json!({"exportedLabels": {"team": colour, own: "x"},
            "exportedAnnotations": {"note": colour, own: "x"}})
    };
    for (at, colour, own) in [(paris, "red", "of-paris"), (tokyo, "blue", "of-tokyo")] {
        at.serve("web", &HTTP, json!({}), &PODS).await;
        at.export_with("web", spec(colour, own)).await;
        case.imported(at, "web").await;
    }
    let message = "Conflicting labels. Using \"of-paris=x,team=red\" from oldest service export in \"paris\", not \"of-tokyo=x,team=blue\" from \"tokyo\". 1/2 clusters disagree. Conflicting annotations. Using \"note=red,of-paris=x\" from oldest service export in \"paris\", not \"note=blue,of-tokyo=x\" from \"tokyo\". 1/2 clusters disagree.";
    both_say(case, "LabelsConflict,AnnotationsConflict", message).await;
    let of = |import: &Value, own: &str, colour: &str, other: &str| {
        let metadata = &import["metadata"];
        metadata["labels"]["team"] == colour
            && metadata["labels"][own] == "x"
            && metadata["labels"].get(other).is_none()
            && metadata["annotations"]["note"] == colour
            && metadata["annotations"][own] == "x"
            && metadata["annotations"].get(other).is_none()
    };
    for at in case.members() {
        case.import_becomes(at, "web", "has the set of paris", |import| {
            of(import, "of-paris", "red", "of-tokyo")
        })
        .await;
    }
    paris.delete(EXPORT, "web").await;
    for at in case.members() {
        case.import_becomes(at, "web", "has the set of tokyo", |import| {
            of(import, "of-tokyo", "blue", "of-paris")
        })
        .await;
    }
}

/// "If conflicting `ipFamilies` are found among the constituent Services, implementations must raise an
/// `IPFamilyConflict` condition when this might result in network traffic reaching only a subset of the backends".
pub(crate) async fn row_ip_families_that_differ_are_told(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    let dual = json!({"ipFamilyPolicy": "RequireDualStack"});
    tokyo.serve("web", &HTTP, dual, &["198.51.100.5 of u5", "2001:db8:1::5 of u5"]).await;
    paris.export("web").await;
    case.imported(paris, "web").await;
    tokyo.export("web").await;
    let message = "Conflicting IP families. Using \"IPv4\" from oldest service export in \"paris\", not \"IPv4,IPv6\" from \"tokyo\". 1/2 clusters disagree.";
    both_say(case, "IPFamilyConflict", message).await;
}

/// Which family a cluster prefers is its own affair: the same families in another order reach the same backends.
pub(crate) async fn row_ip_families_in_another_order_are_no_conflict(case: &Case) {
    let Case { paris, tokyo, .. } = case;
    let pods = ["198.51.100.5 of u5", "2001:db8:1::5 of u5"];
    for (at, families) in [(paris, ["IPv4", "IPv6"]), (tokyo, ["IPv6", "IPv4"])] {
        let spec = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": families});
        at.serve("web", &HTTP, spec, &pods).await;
        at.export("web").await;
    }
    both_agree(case).await;
}

/// "The conflict will be resolved by assigning precedence based on each `ServiceExport`'s `creationTimestamp`, from
/// oldest to newest": not by name, nor by who came to the hub first.
pub(crate) async fn the_oldest_export_wins_whatever_its_cluster_is_called(case: &Case) {
    let Case { berlin, tokyo, .. } = case;
    tokyo.serve("web", &HTTP, json!({"sessionAffinity": "ClientIP"}), &PODS).await;
    let oldest = tokyo.export("web").await;
    case.older(&oldest).await;
    berlin.serve("web", &HTTP, json!({}), &PODS).await;
    berlin.export("web").await;
    for at in [tokyo, berlin] {
        let told = case.export_says(at, "web", "Conflict=True/SessionAffinityConflict").await;
        let says = "Using \"ClientIP\" from oldest service export in \"tokyo\", not \"None\" from \"berlin\".";
        assert!(condition(&told, "Conflict").contains(says), "{told}");
    }
    all_have(case, &json!({"sessionAffinity": "ClientIP"})).await;
    let import = case.berlin.get(IMPORT, "web").await;
    let order = json!([{"cluster": "tokyo"}, {"cluster": "berlin"}]);
    assert_eq!(import["status"]["clusters"], order);
}

/// "a `Conflict` condition with a `true` status will be set on all `ServiceExport`s for the conflicted service": on
/// those that agree as well, with one count and one sentence; and on all or on none.
pub(crate) async fn a_conflict_is_on_all_exports_or_on_none(case: &Case) {
    let Case { paris, tokyo, berlin, .. } = case;
    for at in case.members() {
        at.serve("web", &HTTP, json!({}), &PODS).await;
    }
    let oldest = paris.export("web").await;
    case.older(&oldest).await;
    tokyo.export("web").await;
    berlin.export("web").await;
    for at in case.members() {
        case.export_says(at, "web", "Conflict=False/NoConflicts").await;
    }
    tokyo.edit(SERVICE, "web", json!({"spec": {"internalTrafficPolicy": "Local"}})).await;
    let wanted = "Conflict=True/InternalTrafficPolicyConflict: Conflicting internal traffic policy. Using \"Cluster\" from oldest service export in \"paris\", not \"Local\" from \"tokyo\". 1/3 clusters disagree.";
    for at in case.members() {
        case.export_says(at, "web", wanted).await;
    }
    tokyo.edit(SERVICE, "web", json!({"spec": {"internalTrafficPolicy": "Cluster"}})).await;
    for at in case.members() {
        case.export_says(at, "web", "Conflict=False/NoConflicts").await;
    }
}

/// "When a `ServiceExport`'s conflict condition changes from `False` to `True` due to this resolution policy, runtime
/// traffic remains unaffected. The oldest cluster will win the conflict and continue to be referenced in the
/// `ServiceImport`".
pub(crate) async fn a_conflict_that_arises_does_not_disturb_traffic(case: &Case) {
    let Case { paris, tokyo, berlin, .. } = case;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    paris.export("web").await;
    let before = case.imported(berlin, "web").await;
    let slice = async |at: &At, name: &str| told(&at.get(SLICE, name).await);
    let through = slice(berlin, "web-paris-v4").await;
    tokyo.serve("web", &["http 81->8080"], json!({"clusterIP": "None"}), &PODS).await;
    tokyo.export("web").await;
    both_say_any(case).await;
    case.passes("mark").await;
    let after = berlin.get(IMPORT, "web").await;
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(slice(berlin, "web-paris-v4").await, through);
}

async fn both_say_any(case: &Case) {
    for at in [&case.paris, &case.tokyo] {
        let told = case.export_says(at, "web", "Conflict=True/").await;
        let conflict = condition(&told, "Conflict");
        assert!(conflict.starts_with("Conflict=True/PortConflict,TypeConflict: "), "{conflict}");
    }
}
