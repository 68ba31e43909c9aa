//! What is wrong, by mistake or on purpose, hurts only itself, is told where somebody can put it right, and never ends
//! a watch: beside each bad object stands a good one.

use landbridge_model::{ClusterId, ServiceKey, derived};
use serde_json::{Value, json};

use super::{
    case::{At, Case},
    networks::Stranger,
    objects::{
        CLUSTER_EXPORT, EXPORT, IMPORT, MEMBER, PEER, SERVICE, SLICE, condition, namespace, pods,
        service, told,
    },
    stage::SYSTEM,
};

const HTTP: [&str; 1] = ["http 80->8080"];
const PODS: [&str; 1] = ["198.51.100.5"];

/// The name of the Service that is made for an import.
fn derived_of(case: &Case, name: &str) -> String {
    let key = ServiceKey::parse(case.namespace(), name).unwrap();
    derived::service(&key).to_string()
}

/// paris exports `name`, and berlin imports it.
async fn exported(case: &Case, name: &str) -> Value {
    case.paris.serve(name, &HTTP, json!({}), &PODS).await;
    case.paris.export(name).await;
    case.imported(&case.berlin, name).await
}

/// How many problems the controller of a member has told of.
async fn problems(case: &Case, at: &At) -> u64 {
    case.set.ask(at.name, |controller| controller.count("problems_total", &[])).await
}

/// The objects that the controller of a member says it cannot read.
async fn malformed(case: &Case, at: &At) -> Value {
    let handle = case.set.ask(at.name, |controller| controller.handle.clone()).await;
    handle.snapshot().await["malformed"].clone()
}

/// "an id too long": one that does not fit into names of 63 characters has no place on the hub to export from, and is
/// nobody's peer.
pub(crate) async fn a_member_whose_id_is_too_long_is_no_member(case: &Case) {
    const LONG: &str = "a-cluster-whose-id-has-more-than-fifty-five-characters-1";
    assert_eq!(LONG.len(), 56);
    assert!(ClusterId::parse(LONG).is_err());
    let member = json!({"apiVersion": MEMBER.version, "kind": MEMBER.name, "metadata": {"name": LONG},
        "spec": {"generation": 1, "network": "b"}});
    case.hub.create(member).await;
    let refused = case.hub.attempt(namespace(&format!("cluster-{LONG}"))).await;
    assert!(refused.is_err(), "its namespace's name has 64 characters");
    exported(case, "web").await;
    case.becomes("the snapshot names it", async || {
        let malformed = malformed(case, &case.berlin).await;
        malformed.get(format!("Member {LONG}")).map(|_| ())
    })
    .await;
    for at in case.members() {
        assert!(at.find(PEER, LONG).await.is_none());
    }
    case.hub.delete(MEMBER, LONG).await;
}

/// "ports that clash" within one export, which no Service can have: the first of a name or number stays, and what any
/// API would refuse is not written.
pub(crate) async fn ports_of_one_export_that_clash_are_dropped(case: &Case) {
    let stranger = Stranger::join(case, "clash", "elsewhere").await;
    let port = |name: &str, number: u16| json!({"name": name, "protocol": "TCP", "port": number});
    let ports = json!([port("http", 80), port("http", 81), port("web", 80), port("ok", 82)]);
    stranger.create(stranger.export("web", json!({ "ports": ports }))).await;
    for at in case.members() {
        let import = case.imported(at, "web").await;
        assert_eq!(import["spec"]["ports"], json!([port("http", 80), port("ok", 82)]));
    }
    stranger.leave().await;
}

/// "a 1 MiB annotation": no object can hold it, so that it is left out where it was asked for and the export stands.
pub(crate) async fn an_annotation_of_a_mebibyte_is_left_out_and_told(case: &Case) {
    let Case { paris, .. } = case;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    let huge = "x".repeat(1 << 20);
    let spec = json!({"exportedAnnotations": {"huge": huge}, "exportedLabels": {"team": "red"}});
    paris.export_with("web", spec).await;
    let told = case.export_says(paris, "web", "Degraded=True/AnnotationsTooLarge").await;
    assert!(
        condition(&told, "Degraded").contains("1048580 bytes"),
        "{}",
        condition(&told, "Degraded")
    );
    assert!(condition(&told, "Ready").starts_with("Ready=True/Exported"));
    for at in case.members() {
        let import = case.imported(at, "web").await;
        assert_eq!(import["metadata"]["labels"]["team"], "red");
        assert_eq!(import["metadata"]["annotations"].get("huge"), None);
    }
}

/// The same from a member that does not check: importers have no reason to trust it.
pub(crate) async fn what_another_member_should_have_left_out_is_left_out(case: &Case) {
    let stranger = Stranger::join(case, "careless", "elsewhere").await;
    let huge = "x".repeat(300_000);
    let spec = json!({
        "exportedLabels": {"team": "not a value!", "kubernetes.io/role": "x", "good": "yes"},
        "exportedAnnotations": {"huge": huge}});
    stranger.create(stranger.export("web", spec)).await;
    for at in case.members() {
        let import = case.imported(at, "web").await;
        let labels = &import["metadata"]["labels"];
        assert_eq!(labels["good"], "yes", "{}", at.name);
        assert_eq!(labels.get("team"), None);
        assert_eq!(labels.get("kubernetes.io/role"), None);
        assert_eq!(import["metadata"]["annotations"].get("huge"), None);
    }
    stranger.leave().await;
}

/// "a label no API takes", and keys of domains that are not the exporter's: each is left out and named.
pub(crate) async fn a_label_that_no_api_takes_is_left_out_and_told(case: &Case) {
    let Case { paris, .. } = case;
    paris.serve("web", &HTTP, json!({}), &PODS).await;
    let labels = json!({"team": "not a value!", "good": "yes",
        "topology.kubernetes.io/zone": "z", "app.kubernetes.io/name": "web"});
    let export = paris.export_with("web", json!({ "exportedLabels": labels })).await;
    assert_eq!(export["spec"]["exportedLabels"]["team"], "not a value!");
    let told =
        case.export_says(paris, "web", "Degraded=True/ReservedKeysDropped,InvalidLabelsDropped");
    let told = condition(&told.await, "Degraded");
    assert!(told.contains("topology.kubernetes.io/zone") && told.contains("team"), "{told}");
    for at in case.members() {
        let import = case.imported(at, "web").await;
        let labels = &import["metadata"]["labels"];
        assert_eq!(
            (&labels["good"], &labels["app.kubernetes.io/name"]),
            (&json!("yes"), &json!("web"))
        );
        assert_eq!(labels.get("team"), None);
        assert_eq!(labels.get("topology.kubernetes.io/zone"), None);
    }
    let good =
        json!({"spec": {"exportedLabels": {"team": "red", "topology.kubernetes.io/zone": null}}});
    paris.edit(EXPORT, "web", good).await;
    case.export_says(paris, "web", "Degraded=False/NothingLeftOut").await;
}

/// "a 5,000-endpoint service": the hub counts them for other networks, names them for its own, and no slice holds more
/// than it may.
pub(crate) async fn a_service_of_five_thousand_endpoints_is_bounded_everywhere(case: &Case) {
    let Case { tokyo, berlin, paris, .. } = case;
    tokyo.create(service("web", &HTTP, json!({}))).await;
    for part in 0..50_u32 {
        let pods_of = (0..100_u32).map(|at| {
            let number = part * 100 + at;
            format!("10.1.{}.{} of u{number}", number / 200, number % 200 + 1)
        });
        let endpoints: Vec<String> = pods_of.collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let mut slice = pods("web", &HTTP, &endpoints);
        slice["metadata"]["name"] = json!(format!("web-{part:05}"));
        tokyo.create(slice).await;
    }
    tokyo.export("web").await;
    let zones = json!([{"zone": "z1", "ready": 5000, "total": 5000}]);
    case.becomes("the hub counts them", async || {
        let told = case.told_by("tokyo", "web").await?;
        (told["spec"]["zones"] == zones).then(|| assert!(told.to_string().len() < 3_000))
    })
    .await;
    for (at, most) in [(tokyo, 1_000), (berlin, 100)] {
        let select = "multicluster.kubernetes.io/service-name=web";
        case.becomes(&format!("{} names them", at.name), async || {
            let slices = at.list(SLICE, select).await;
            let sizes = slices.iter().map(|slice| slice["endpoints"].as_array().unwrap().len());
            let sizes: Vec<usize> = sizes.collect();
            assert!(sizes.iter().all(|size| *size <= most), "{sizes:?}");
            (sizes.iter().sum::<usize>() == 5_000).then_some(())
        })
        .await;
    }
    // Another network needs its gateways' addresses, however many pods are behind them.
    let slice = case.becomes("paris", async || paris.find(SLICE, "web-tokyo-v4").await).await;
    assert_eq!(slice["endpoints"].as_array().unwrap().len(), 1);
    tokyo.delete(EXPORT, "web").await;
    case.empties(berlin).await;
}

/// "a slice with a bad address": one endpoint of another member that no pod can have is refused by itself; the rest of
/// the slice, and of the service, stands.
pub(crate) async fn a_bad_address_in_a_slice_hurts_only_itself(case: &Case) {
    let berlin = &case.berlin;
    let stranger = Stranger::join(case, "bad-address", "b").await;
    stranger.create(stranger.export("web", json!({}))).await;
    let before = problems(case, berlin).await;
    let slice = stranger.pods("web", &["198.51.100.9", "255.255.255.255", "198.51.100.10"]);
    stranger.create(slice).await;
    let good = "[http -> 8080] [198.51.100.10 ready, 198.51.100.9 ready]";
    case.slice_is(berlin, "web-bad-address-v4", good).await;
    assert!(problems(case, berlin).await > before, "it is told");
    stranger.leave().await;

    // At home: a slice of names is no slice of addresses.
    let paris = &case.paris;
    exported(case, "api").await;
    let names = json!({"apiVersion": SLICE.version, "kind": SLICE.name, "addressType": "FQDN",
        "metadata": {"name": "api-names", "labels": {"kubernetes.io/service-name": "api"}},
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": ["api.example.com"], "conditions": {"ready": true}}]});
    paris.create(names).await;
    case.passes("mark").await;
    assert_eq!(
        told(&paris.get(SLICE, "api-paris-v4").await),
        "[http -> 8080] [198.51.100.5 ready]"
    );
}

/// "foreign objects that carry our names (never overwritten: told)": a Service of somebody else.
pub(crate) async fn a_foreign_service_in_the_way_is_told_and_kept(case: &Case) {
    let berlin = &case.berlin;
    let derived = derived_of(case, "web");
    let foreign = berlin.create(service(&derived, &["x 1"], json!({}))).await;
    case.paris.serve("web", &HTTP, json!({}), &PODS).await;
    case.paris.export("web").await;
    let told = case.import_says(berlin, "web", "Ready=False/Pending").await;
    let says = condition(&told, "Ready");
    assert!(says.contains(&derived) && says.contains("rename or delete it"), "{says}");
    case.passes("mark").await;
    assert_eq!(berlin.get(SERVICE, &derived).await, foreign);
    // When it is out of the way, the import has its address.
    berlin.delete(SERVICE, &derived).await;
    let import = case.imported(berlin, "web").await;
    assert!(import["spec"]["ips"].as_array().is_some_and(|ips| !ips.is_empty()));
}

/// The same of a ServiceImport, which is another implementation's or somebody's own.
pub(crate) async fn a_foreign_import_is_told_and_kept(case: &Case) {
    let berlin = &case.berlin;
    let foreign = json!({"apiVersion": IMPORT.version, "kind": IMPORT.name, "metadata": {"name": "web"},
        "spec": {"type": "ClusterSetIP", "ips": ["10.9.9.9"], "ports": [{"port": 1, "protocol": "TCP"}]}});
    let foreign = berlin.create(foreign).await;
    let before = problems(case, berlin).await;
    case.paris.serve("web", &HTTP, json!({}), &PODS).await;
    case.paris.export("web").await;
    case.imported(&case.tokyo, "web").await;
    case.becomes("berlin tells of it", async || {
        (problems(case, berlin).await > before).then_some(())
    })
    .await;
    case.passes("mark").await;
    assert_eq!(berlin.get(IMPORT, "web").await, foreign);
    assert!(berlin.find(SERVICE, &derived_of(case, "web")).await.is_none());
    case.paris.delete(EXPORT, "web").await;
    case.passes("again").await;
    assert_eq!(berlin.get(IMPORT, "web").await, foreign, "nor is it taken away");
}

/// The same of slices: one that is another's by its labels stays as it is, and an MCS slice gets another name.
pub(crate) async fn foreign_slices_in_the_way_are_told_and_kept(case: &Case) {
    let berlin = &case.berlin;
    let gateways = format!("{}-gw-v4", derived_of(case, "web"));
    let mut kept = Vec::new();
    for name in [gateways.as_str(), "web-paris-v4"] {
        let mut slice = pods("somebody", &HTTP, &["203.0.113.1"]);
        slice["metadata"] = json!({ "name": name });
        kept.push(berlin.create(slice).await);
    }
    let before = problems(case, berlin).await;
    exported(case, "web").await;
    case.becomes("berlin tells of it", async || {
        (problems(case, berlin).await > before).then_some(())
    })
    .await;
    let select = "multicluster.kubernetes.io/service-name=web";
    let ours = berlin.list(SLICE, select).await;
    let hash = derived_of(case, "web").replace("derived-", "");
    assert_eq!(ours[0]["metadata"]["name"], format!("web-paris-v4-{hash}"));
    case.passes("mark").await;
    for slice in kept {
        let name = slice["metadata"]["name"].as_str().unwrap();
        assert_eq!(berlin.get(SLICE, name).await, slice);
    }
}

/// The same of a Peer that somebody has made by hand.
pub(crate) async fn a_foreign_peer_is_kept(case: &Case) {
    let berlin = &case.berlin;
    let peer = json!({"apiVersion": PEER.version, "kind": PEER.name, "metadata": {"name": "by-hand"},
        "spec": {"generation": 7, "network": "by-hand"}});
    let peer = berlin.create(peer).await;
    let stranger = Stranger::join(case, "by-hand", "elsewhere").await;
    case.goes_nowhere(berlin, &peer).await;
    stranger.leave().await;
    case.goes_nowhere(berlin, &peer).await;
    berlin.delete(PEER, "by-hand").await;
}

impl Case {
    /// Holds that a Peer is as it was when everything before has been taken in.
    async fn goes_nowhere(&self, at: &At, peer: &Value) {
        self.becomes("the other members know of it", async || {
            let name = peer["metadata"]["name"].as_str().unwrap();
            let there = self.hub.find(MEMBER, name).await.is_some();
            (self.paris.find(PEER, name).await.is_some() == there).then_some(())
        })
        .await;
        let name = peer["metadata"]["name"].as_str().unwrap();
        assert_eq!(&at.get(PEER, name).await, peer);
    }
}

/// "users editing our derived objects or the ServiceImport's spec (put back)".
pub(crate) async fn what_users_edit_of_ours_is_put_back(case: &Case) {
    let berlin = &case.berlin;
    exported(case, "web").await;
    let derived = derived_of(case, "web");
    let gateways = format!("{derived}-gw-v4");
    let port = json!([{"name": "x", "port": 1, "protocol": "TCP", "targetPort": 1}]);
    let cases = [
        (IMPORT, "web", json!({"spec": {"ips": ["10.0.0.1"], "type": "Headless"}})),
        (IMPORT, "web", json!({"spec": {"ports": []}})),
        (IMPORT, "web", json!({"spec": {"sessionAffinity": "ClientIP"}})),
        (
            IMPORT,
            "web",
            json!({"metadata": {"annotations": {"multicluster.kubernetes.io/derived-service": "mine"}}}),
        ),
        (SERVICE, derived.as_str(), json!({"spec": {"ports": port}})),
        (SERVICE, derived.as_str(), json!({"spec": {"internalTrafficPolicy": "Local"}})),
        (SERVICE, derived.as_str(), json!({"spec": {"selector": {"app": "mine"}}})),
        (SLICE, gateways.as_str(), json!({"endpoints": []})),
        (SLICE, "web-paris-v4", json!({"ports": []})),
    ];
    for (kind, name, change) in cases {
        let told = |object: &Value| {
            let mut object = object.clone();
            for field in ["generation", "managedFields", "resourceVersion"] {
                object["metadata"].as_object_mut().unwrap().remove(field);
            }
            // Which version a condition is about counts the edits as well.
            object.as_object_mut().unwrap().remove("status");
            object
        };
        let before = told(&berlin.get(kind, name).await);
        berlin.edit(kind, name, change.clone()).await;
        case.becomes(&format!("{} {name} is put back after {change}", kind.name), async || {
            (told(&berlin.get(kind, name).await) == before).then_some(())
        })
        .await;
    }
    let status = json!({"clusters": [{"cluster": "mine"}], "conditions": []});
    berlin.edit_status(IMPORT, "web", status).await;
    let import = case.imported(berlin, "web").await;
    assert_eq!(import["status"]["clusters"], json!([{"cluster": "paris"}]));
}

/// The same of what they delete. With the import, a garbage collector takes the Service that it owned.
pub(crate) async fn what_users_delete_of_ours_is_made_again(case: &Case) {
    let berlin = &case.berlin;
    exported(case, "web").await;
    let derived = derived_of(case, "web");
    let gateways = format!("{derived}-gw-v4");
    let numbers = told(&berlin.get(SLICE, &gateways).await);
    for (kind, name) in
        [(SLICE, gateways.as_str()), (SLICE, "web-paris-v4"), (SERVICE, &derived), (IMPORT, "web")]
    {
        let uid = berlin.get(kind, name).await["metadata"]["uid"].clone();
        berlin.delete(kind, name).await;
        case.becomes(&format!("{} {name} is there again", kind.name), async || {
            let again = berlin.find(kind, name).await?;
            (again["metadata"]["uid"] != uid).then_some(())
        })
        .await;
    }
    case.slice_is(berlin, &gateways, &numbers).await;
    case.becomes("import and Service agree", async || {
        let import = berlin.find(IMPORT, "web").await?;
        let service = berlin.find(SERVICE, &derived).await?;
        let family = import["spec"]["ips"].as_array()?.len();
        let ips: Vec<Value> =
            service["spec"]["clusterIPs"].as_array()?.iter().take(family).cloned().collect();
        let owner = &service["metadata"]["ownerReferences"][0]["uid"];
        (family > 0 && import["spec"]["ips"] == json!(ips) && *owner == import["metadata"]["uid"])
            .then_some(())
    })
    .await;
    // What it had on the hub is made again as well.
    let name = format!("{}.web", case.namespace());
    case.hub_of("paris").delete(CLUSTER_EXPORT, &name).await;
    case.becomes("the hub has it again", async || case.told_by("paris", "web").await).await;
    case.imported(berlin, "web").await;
}

/// "an object our version does not understand": an export of a later version, beside one of ours.
pub(crate) async fn what_a_later_version_writes_hurts_only_itself(case: &Case) {
    let stranger = Stranger::join(case, "later", "elsewhere").await;
    for (name, spec) in
        [("type", json!({"type": "Quantum"})), ("family", json!({"ipFamilies": ["IPv7"]}))]
    {
        stranger.create(stranger.export(name, spec)).await;
    }
    let good = stranger.export("good", json!({}));
    stranger.create(good).await;
    for at in case.members() {
        case.imported(at, "good").await;
    }
    let name = |of: &str| format!("ClusterExport cluster-later/{}.{of}", case.namespace());
    case.becomes("the snapshot names both", async || {
        let malformed = malformed(case, &case.berlin).await;
        (malformed.get(name("type")).is_some() && malformed.get(name("family")).is_some())
            .then_some(())
    })
    .await;
    for at in case.members() {
        assert!(at.find(IMPORT, "type").await.is_none());
    }
    stranger.leave().await;
}

/// A member says what it exports in its own namespace: what it writes under another service's name is not believed.
pub(crate) async fn an_export_under_another_name_is_not_believed(case: &Case) {
    let stranger = Stranger::join(case, "pretender", "elsewhere").await;
    let mut object = stranger.export("web", json!({}));
    object["metadata"]["name"] = json!(format!("{}.other", case.namespace()));
    // A hub with its policies refuses it in the first place.
    let attempt = case.hub_of("pretender").attempt(object).await;
    if let Err(kube::Error::Api(status)) = &attempt {
        assert!(status.message.contains("is named <namespace>.<name>"), "{}", status.message);
    }
    case.passes("mark").await;
    for at in case.members() {
        assert!(at.find(IMPORT, "web").await.is_none());
        assert!(at.find(IMPORT, "other").await.is_none());
    }
    stranger.leave().await;
}

/// A cluster that is no member, or whose namespace on the hub is all that is left of it, exports nothing.
pub(crate) async fn what_no_member_exports_is_not_imported(case: &Case) {
    case.hub.ensure(namespace("cluster-nobody")).await;
    let stranger = Stranger::join(case, "nobody", "elsewhere").await;
    let export = stranger.export("web", json!({}));
    stranger.create(export).await;
    for at in case.members() {
        case.imported(at, "web").await;
    }
    case.hub.delete(MEMBER, "nobody").await;
    for at in case.members() {
        case.empties(at).await;
    }
    case.hub_of("nobody").delete(CLUSTER_EXPORT, &format!("{}.web", case.namespace())).await;
}

/// A slice in the gateways' namespace that is not the gateways' Service's names no gateway.
pub(crate) async fn a_slice_of_another_service_names_no_gateway(case: &Case) {
    let system = case.berlin.within(SYSTEM);
    let mut slice = pods("somebody", &["link 4433/UDP"], &["203.0.113.66"]);
    slice["metadata"]["name"] = json!(case.namespace());
    system.create(slice).await;
    exported(case, "web").await;
    case.passes("mark").await;
    let gateways = format!("{}-gw-v4", derived_of(case, "web"));
    let slice = told(&case.berlin.get(SLICE, &gateways).await);
    assert!(slice.ends_with("[192.0.2.31 ready]"), "{slice}");
}
