//! Calls that are not a TCP connection to whichever pod there is.

use landbridge_api::mcs::ServiceExport;

use crate::{
    case::Case,
    objects,
    stage::{Place, Stage},
};

/// Pods of a StatefulSet.
const REPLICAS: usize = 2;

/// Calls from each cluster, over each family, until the answer is this one.
async fn from_each(stage: &Stage<'_>, script: impl Fn(&str) -> String, expected: &str) {
    for place in &stage.places {
        for family in place.families().await {
            let flag = if family == "IPv6" { "-6" } else { "-4" };
            said(place, &script(flag), expected).await;
        }
    }
}

async fn said(place: &Place<'_>, script: &str, expected: &str) {
    let check =
        |said: &str| said.contains(expected).then_some(()).ok_or_else(|| "another answer".into());
    place.says(script, check).await;
}

#[test]
fn datagrams_are_answered_in_every_cluster() {
    let case = Case {
        id: "UDP",
        name: "UDP to an exported service is answered in every cluster",
        labels: "Beyond, Connectivity",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        let first = stage.first();
        first.create::<ServiceExport>(objects::export()).await;
        let expected = format!("pod ip {} in {}", first.pod_ip().await, first.cluster.name());
        let script = |flag: &str| format!("echo hi | nc -u -w 2 {flag} {} 42", stage.name());
        from_each(stage, script, &expected).await;
    });
}

#[test]
fn a_pod_of_a_stateful_set_is_called_by_its_name_from_every_cluster() {
    let case = Case {
        id: "StatefulSet",
        name: "Each pod of an exported headless StatefulSet answers by its own name in every cluster",
        labels: "Beyond, Connectivity, Headless",
    };
    case.run(async |stage| {
        let first = stage.first().cluster.name();
        let pods = objects::stateful_set(first, REPLICAS);
        stage.begin_with(objects::headless(), pods).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        // They start one after the other.
        stage.first().backing("IPv4", REPLICAS).await;
        for number in 0..REPLICAS {
            let host = format!("hello-ss-{number}");
            let expected = format!("in {first} as {host}");
            let name = format!("{host}.{first}.{}", stage.name());
            from_each(stage, |flag| format!("echo hi | nc -w 2 {flag} {name} 42"), &expected).await;
        }
    });
}
