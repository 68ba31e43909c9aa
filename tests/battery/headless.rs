//! Headless services: every endpoint by its name. Values stand in worked example B; here is what holds for any.

use serde_json::{Value, json};

use super::{
    case::Case,
    objects::{EXPORT, IMPORT, SERVICE, SLICE, pods, told},
};

const PG: [&str; 1] = ["pg 5432->6432"];

fn headless() -> Value {
    json!({"clusterIP": "None"})
}

/// The hostnames and readiness of an MCS slice.
fn names(slice: &Value) -> Vec<String> {
    let endpoints = slice["endpoints"].as_array().unwrap().iter();
    let mut names: Vec<String> = endpoints
        .map(|endpoint| {
            let name = endpoint["hostname"].as_str().unwrap_or("nobody");
            format!("{name} {}", endpoint["conditions"]["ready"])
        })
        .collect();
    names.sort();
    names
}

/// "necessary records will be created based on each ready endpoint's hostname and the
/// `multicluster.kubernetes.io/source-cluster` label on the `EndpointSlice`": in every cluster an endpoint has the same
/// name, whatever its address is there.
pub(crate) async fn an_endpoint_has_one_name_in_every_cluster(case: &Case) {
    let Case { tokyo, berlin, paris, .. } = case;
    let pods = ["198.51.100.7 as db-0", "198.51.100.8 not ready as db-1"];
    tokyo.serve("db", &PG, headless(), &pods).await;
    tokyo.export("db").await;
    for at in case.members() {
        case.becomes(&format!("{} names both", at.name), async || {
            let slice = at.find(SLICE, "db-tokyo-v4").await?;
            (names(&slice) == ["db-0 true", "db-1 false"]).then_some(())
        })
        .await;
        case.imported(at, "db").await;
    }
    // At home and in one network these are the pods, elsewhere addresses that work there.
    let own = "[pg -> 6432] [198.51.100.7 ready as db-0, 198.51.100.8 not ready as db-1]";
    case.slice_is(tokyo, "db-tokyo-v4", own).await;
    case.slice_is(berlin, "db-tokyo-v4", own).await;
    let far = paris.get(SLICE, "db-tokyo-v4").await;
    let made = paris.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
    assert_eq!(made.len(), 2, "one for each endpoint");
    for endpoint in far["endpoints"].as_array().unwrap() {
        let is_of = |service: &&Value| service["spec"]["clusterIP"] == endpoint["addresses"][0];
        let service = made.iter().find(is_of).expect("the address is a Service's");
        let of = format!("tokyo/{}", endpoint["hostname"].as_str().unwrap());
        assert_eq!(service["metadata"]["annotations"]["landbridge.dev/endpoint"], of);
    }
}

/// Without a hostname an endpoint has "the one made at home from its original address with dashes (a trailing dash gets
/// `0`), so that a name means the same pod in every cluster".
pub(crate) async fn an_endpoint_without_a_hostname_gets_one_at_home(case: &Case) {
    let paris = &case.paris;
    let spec = json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack"});
    let pods = ["198.51.100.9 of u9", "2001:db8:9:: of u9"];
    paris.serve("db", &PG, spec, &pods).await;
    paris.export("db").await;
    for at in case.members() {
        for (slice, name) in [("db-paris-v4", "198-51-100-9"), ("db-paris-v6", "2001-db8-9--0")] {
            case.becomes(&format!("{}: {slice} names {name}", at.name), async || {
                let slice = at.find(SLICE, slice).await?;
                (names(&slice) == [format!("{name} true")]).then_some(())
            })
            .await;
        }
    }
    // v4 and v6 of one pod are one endpoint: paired by its uid.
    let made = case.berlin.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
    assert_eq!(made.len(), 1, "{made:#?}");
    assert_eq!(made[0]["spec"]["clusterIPs"].as_array().map(Vec::len), Some(2));
}

/// A StatefulSet's pod that restarts has another address and the same name: what it is called by stays.
pub(crate) async fn a_pod_that_restarts_keeps_its_address_elsewhere(case: &Case) {
    let Case { paris, berlin, .. } = case;
    paris.serve("db", &PG, headless(), &["198.51.100.7 as db-0"]).await;
    paris.export("db").await;
    case.imported(berlin, "db").await;
    let before = berlin.get(SLICE, "db-paris-v4").await;
    paris.replace_pods(pods("db", &PG, &["198.51.100.31 as db-0"])).await;
    case.becomes("the hub has the new pod", async || {
        let name = format!("{}.db-v4", case.namespace());
        let slice = case.hub_of("paris").find(SLICE, &name).await?;
        (slice["endpoints"][0]["addresses"] == json!(["198.51.100.31"])).then_some(())
    })
    .await;
    case.passes("mark").await;
    assert_eq!(berlin.get(SLICE, "db-paris-v4").await, before, "nothing has changed here");
}

/// Two clusters with a StatefulSet of one name: "This allows naming collisions to be avoided for headless services
/// backed by identical `StatefulSets` deployed in multiple clusters."
pub(crate) async fn the_same_hostname_in_two_clusters_is_two_endpoints(case: &Case) {
    let Case { paris, tokyo, berlin, .. } = case;
    for at in [paris, tokyo] {
        at.serve("db", &PG, headless(), &["198.51.100.7 as db-0"]).await;
        at.export("db").await;
        case.export_says(at, "db", "Conflict=False/NoConflicts").await;
    }
    case.imported(berlin, "db").await;
    for slice in ["db-paris-v4", "db-tokyo-v4"] {
        case.becomes(&format!("berlin: {slice}"), async || {
            let slice = berlin.find(SLICE, slice).await?;
            (names(&slice) == ["db-0 true"]).then_some(())
        })
        .await;
    }
}

/// "publishNotReadyAddresses": Kubernetes' own controller says then that they are ready, and so does every cluster.
pub(crate) async fn addresses_that_are_published_before_they_are_ready_are_published(case: &Case) {
    let Case { paris, berlin, .. } = case;
    let spec = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
    paris.create(super::objects::service("db", &PG, spec)).await;
    let mut slice = pods("db", &PG, &["198.51.100.7 as db-0"]);
    slice["endpoints"][0]["conditions"] =
        json!({"ready": true, "serving": false, "terminating": false});
    paris.create(slice).await;
    paris.export("db").await;
    for at in [paris, berlin] {
        case.becomes(&format!("{} publishes it", at.name), async || {
            let slice = at.find(SLICE, "db-paris-v4").await?;
            (names(&slice) == ["db-0 true"]).then_some(())
        })
        .await;
    }
}

/// What an endpoint was given goes with it, and everything with the export.
pub(crate) async fn everything_goes_with_the_endpoint_and_with_the_export(case: &Case) {
    let Case { paris, berlin, .. } = case;
    let both = ["198.51.100.7 as db-0", "198.51.100.8 as db-1"];
    paris.serve("db", &PG, headless(), &both).await;
    paris.export("db").await;
    let made = async |wanted: usize| {
        case.becomes(&format!("berlin has {wanted} Services"), async || {
            let made = berlin.list(SERVICE, "app.kubernetes.io/managed-by=landbridge.dev").await;
            (made.len() == wanted).then_some(())
        })
        .await;
    };
    made(2).await;
    paris.replace_pods(pods("db", &PG, &both[..1])).await;
    made(1).await;
    case.becomes("its name goes", async || {
        let slice = berlin.find(SLICE, "db-paris-v4").await?;
        (names(&slice) == ["db-0 true"]).then_some(())
    })
    .await;
    assert!(told(&paris.get(SLICE, "db-paris-v4").await).contains("db-0"));
    paris.delete(EXPORT, "db").await;
    for at in case.members() {
        case.empties(at).await;
    }
    assert!(berlin.find(IMPORT, "db").await.is_none());
    case.becomes("the hub keeps nothing", async || {
        let name = format!("{}.db-v4", case.namespace());
        case.hub_of("paris").find(SLICE, &name).await.is_none().then_some(())
    })
    .await;
}
