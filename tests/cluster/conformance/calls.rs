//! Who answers a call by the name of the set.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use landbridge_api::mcs::ServiceExport;
use serde_json::{Value, json};

use crate::{
    case::Case,
    objects::{self, HELLO},
    stage::{Place, Stage, calls},
};

/// Calls to a service that nobody exports.
const IN_VAIN: usize = 20;
/// Answers on end that must come from the same cluster.
const ON_END: u32 = 10;

/// That the pod of this cluster answers. Its address is not enough, as others have the same where networks overlap.
async fn answers(stage: &Stage<'_>, port: u16, place: &Place<'_>) {
    let expected = format!("pod ip {} in {}", place.pod_ip().await, place.cluster.name());
    stage.answers(port, &expected, ON_END).await;
}

#[test]
fn r14_what_is_not_exported_is_not_reached() {
    let case = Case {
        id: "R14",
        name: "Connectivity to a service that is not exported should be inaccessible",
        labels: "Required",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        let service: Service = stage.first().get(HELLO).await.unwrap();
        let families = service.spec.unwrap().ip_families.unwrap();
        let each = stage.places.iter().map(async |place| {
            // What can run no command has reached nothing, and has not tried.
            let runs =
                |said: &str| said.contains("runs").then_some(()).ok_or_else(|| "nothing".into());
            place.says("echo runs", runs).await;
            for family in families.iter().cycle().take(IN_VAIN * families.len()) {
                let said = place.sh(&calls(family, &stage.name(), 42)).await;
                assert!(!said.contains("pod ip"), "{said}");
            }
        });
        join_all(each).await;
    });
}

#[test]
fn o10_an_exported_service_answers_in_every_cluster() {
    let case = Case {
        id: "O10",
        name: "Connectivity to an exported ClusterIP service should be accessible through DNS",
        labels: "Optional, Connectivity, ClusterIP",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        stage.answers(42, "pod ip", 1).await;
    });
}

#[test]
fn o11_a_service_of_two_clusters_answers_from_the_one_that_exports_it() {
    let case = Case {
        id: "O11",
        name: "Connectivity to a ClusterIP service existing in two clusters but exported from one should only access the exporting cluster",
        labels: "Optional, Connectivity, ClusterIP",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        stage.second().deploy(objects::service()).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        answers(stage, 42, stage.first()).await;
    });
}

async fn both_export(stage: &Stage<'_>, second: Value) {
    stage.begin(objects::service()).await;
    let second = objects::service_with_ports(second);
    stage.export_both(objects::export(), second, objects::export()).await;
}

#[test]
fn o12_a_port_is_carried_to_the_cluster_that_has_its_number() {
    let case = Case {
        id: "O12",
        name: "Connectivity to exported services with same port name but different port numbers on each cluster should only route traffic to the cluster that exposes the port",
        labels: "Optional, Connectivity, ClusterIP, StrictPortConflict",
    };
    case.run(async |stage| {
        let second = json!([{"name": "tcp", "port": 4242, "protocol": "TCP", "targetPort": 42}]);
        both_export(stage, second).await;
        answers(stage, 42, stage.first()).await;
    });
}

#[test]
fn o13_ports_of_two_names_are_carried_each_to_its_cluster() {
    let case = Case {
        id: "O13",
        name: "Connectivity to exported services with different port name on each cluster should route traffic to each port only to the cluster that exposes it",
        labels: "Optional, Connectivity, ClusterIP, StrictPortConflict",
    };
    case.run(async |stage| {
        let second = json!([{"name": "tcp2", "port": 4242, "protocol": "TCP", "targetPort": 42}]);
        both_export(stage, second).await;
        answers(stage, 42, stage.first()).await;
        answers(stage, 4242, stage.second()).await;
    });
}
