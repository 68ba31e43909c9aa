//! TrafficPolicies: what becomes of slices, and what policies are told.

use serde_json::{Value, json};

use super::{
    case::Case,
    objects::{SLICE, TRAFFIC},
};

const HTTP: [&str; 1] = ["http 80->8080"];

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": TRAFFIC.version, "kind": TRAFFIC.name, "metadata": {"name": name}, "spec": spec})
}

/// Design, "Import": "A TrafficPolicy that weighs clusters makes the slice name gateways only, which then dial local pods
/// too."
pub(crate) async fn where_clusters_are_weighed_only_gateways_are_called(case: &Case) {
    let Case { tokyo, berlin, .. } = case;
    for (at, pod) in [(tokyo, "198.51.100.5"), (berlin, "198.51.100.7")] {
        at.serve("web", &HTTP, json!({}), &[pod]).await;
        at.export("web").await;
    }
    let import = case.imported(berlin, "web").await;
    let annotations = &import["metadata"]["annotations"];
    let derived = annotations["multicluster.kubernetes.io/derived-service"].as_str().unwrap();
    let pods = format!("{derived}-pods-v4");
    let direct = "[tcp-80 -> 8080] [198.51.100.7 ready]";
    case.slice_is(berlin, &pods, direct).await;
    let weights = json!([{"cluster": "berlin", "weight": 70}, {"cluster": "tokyo", "weight": 30}]);
    let spec = json!({"service": "web", "clusters": weights, "spillOver": {"healthyPercent": 70}});
    berlin.create(policy("web", &spec)).await;
    case.policy_says(berlin, "web", "InForce=True/Weighed").await;
    case.goes(berlin, SLICE, &pods).await;
    case.becomes("gateways stand in for the pods", async || {
        let slice = berlin.find(SLICE, &format!("{derived}-gw-v4")).await?;
        super::objects::told(&slice).ends_with("[192.0.2.31 ready]").then_some(())
    })
    .await;
    case.becomes("gateways are told how many endpoints are ready", async || {
        let slice = berlin.find(SLICE, "web-tokyo-v4").await?;
        (slice["metadata"]["annotations"]["landbridge.dev/endpoints"] == "1/1").then_some(())
    })
    .await;
    // A younger one changes nothing, and is told so.
    berlin.create(policy("younger", &json!({"service": "web", "retries": 0}))).await;
    case.policy_says(berlin, "younger", "InForce=False/Superseded").await;
    berlin.delete(TRAFFIC, "web").await;
    case.policy_says(berlin, "younger", "InForce=True/Gateways").await;
    case.slice_is(berlin, &pods, direct).await;
    berlin.delete(TRAFFIC, "younger").await;
}

/// What a policy may say, the API server checks.
pub(crate) async fn a_policy_that_makes_no_sense_is_refused(case: &Case) {
    let berlin = &case.berlin;
    for wrong in [
        json!({}),
        json!({"service": "Web"}),
        json!({"service": "web", "locality": "Zone"}),
        json!({"service": "web", "clusters": [{"cluster": "paris", "weight": 101}]}),
        json!({"service": "web", "retries": 5}),
        json!({"service": "web", "timeouts": {"connectSeconds": 0}}),
        json!({"service": "web", "spillOver": {"healthyPercent": 0}}),
    ] {
        let refused = berlin.attempt(policy("web", &wrong)).await;
        assert!(refused.is_err(), "{wrong} is taken");
    }
}
