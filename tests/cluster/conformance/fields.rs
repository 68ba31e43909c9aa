//! What the import of a Service with an address says: affinity, policies, addresses and ports.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use landbridge_api::mcs::{ServiceExport, ServiceImport};
use serde_json::{Value, json};

use crate::{
    case::Case,
    objects::{self, HELLO},
    stage::{SOON, Stage},
};

/// Exports a Service, and waits until a field of the import is as it is in the Service, in every cluster.
async fn taken_over(stage: &Stage<'_>, service: Value, fields: &[&str]) {
    stage.begin(service).await;
    stage.first().create::<ServiceExport>(objects::export()).await;
    let service: Service = stage.first().get(HELLO).await.unwrap();
    let service = serde_json::to_value(service.spec.unwrap()).unwrap();
    for place in &stage.places {
        for field in fields {
            assert!(!service[field].is_null(), "{field} of {service}");
            place
                .import(SOON, |import| {
                    let import = serde_json::to_value(&import.spec).unwrap();
                    if import[field] == service[field] { Ok(()) } else { Err(field.to_string()) }
                })
                .await;
        }
    }
}

#[test]
fn r3_affinity_is_that_of_the_service() {
    let case = Case {
        id: "R3",
        name: "The SessionAffinity for a ClusterSetIP ServiceImport should match the exported service's SessionAffinity",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        taken_over(stage, objects::service(), &["sessionAffinity", "sessionAffinityConfig"]).await;
    });
}

#[test]
fn r4_the_internal_policy_is_that_of_the_service() {
    let case = Case {
        id: "R4",
        name: "The InternalTrafficPolicy for a ClusterSetIP ServiceImport should match the exported service's InternalTrafficPolicy",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        let service = objects::service_with("internalTrafficPolicy", json!("Cluster"));
        taken_over(stage, service, &["internalTrafficPolicy"]).await;
    });
}

#[test]
fn r5_the_distribution_is_that_of_the_service() {
    let case = Case {
        id: "R5",
        name: "The TrafficDistribution for a ClusterSetIP ServiceImport should match the exported service's TrafficDistribution",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        let service = objects::service_with("trafficDistribution", json!("PreferClose"));
        taken_over(stage, service, &["trafficDistribution"]).await;
    });
}

#[test]
fn r6_an_import_has_an_address_for_each_family_in_their_order() {
    let case = Case {
        id: "R6",
        name: "An IP should be allocated for a ClusterSetIP ServiceImport for each IP family",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        for place in &stage.places {
            place
                .import(SOON, |import| {
                    let family = |ip: &String| match ip.parse() {
                        Ok(IpAddr::V4(_)) => "IPv4",
                        Ok(IpAddr::V6(_)) => "IPv6",
                        Err(_) => "neither",
                    };
                    let families: Vec<&str> = import.spec.ips.iter().map(family).collect();
                    let good = !families.is_empty() && families == import.spec.ip_families;
                    good.then_some(()).ok_or_else(|| format!("addresses of {families:?}"))
                })
                .await;
        }
    });
}

/// The ports of an import, or of a Service with what only it has taken away: in one order.
fn ports(spec: &Value) -> Vec<Value> {
    let all = spec["ports"].as_array().cloned().unwrap_or_default();
    let fields = ["name", "protocol", "port", "appProtocol"];
    let bare = |port: &Value| fields.iter().map(|field| port[field].clone()).collect::<Value>();
    let mut all: Vec<Value> = all.iter().map(bare).collect();
    all.sort_by_key(|port| port[0].to_string());
    all
}

fn has_ports(import: &ServiceImport, wanted: &[Value]) -> Result<(), String> {
    let found = ports(&serde_json::to_value(&import.spec).unwrap());
    if found == wanted { Ok(()) } else { Err(format!("{found:?}, not {wanted:?}")) }
}

#[test]
fn r7_ports_are_those_of_the_service() {
    let case = Case {
        id: "R7",
        name: "The ports for a ClusterSetIP ServiceImport should match those of the exported service",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        let mut service = objects::service();
        service["spec"]["ports"][0]["appProtocol"] = json!("example.com/custom");
        let wanted = ports(&service["spec"]);
        stage.begin(service).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        for place in &stage.places {
            place.import(SOON, |import| has_ports(import, &wanted)).await;
        }
    });
}

#[test]
fn r8_ports_of_two_exports_are_joined_and_both_are_told_that_they_differ() {
    let case = Case {
        id: "R8",
        name: "A ClusterIP service exported on two clusters should expose the union of the constituent service ports and raise a conflict",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        let stcp = json!({"name": "stcp", "port": 142, "protocol": "SCTP"});
        let second = json!([{"name": "tcp", "port": 42, "protocol": "TCP"}, stcp]);
        let union = json!({"ports": [
            {"name": "tcp", "port": 42, "protocol": "TCP"},
            {"name": "udp", "port": 42, "protocol": "UDP"},
            stcp,
        ]});
        let second = objects::service_with_ports(second);
        stage.export_both(objects::export(), second, objects::export()).await;
        stage.both_disagree().await;
        for place in &stage.places {
            place.import(SOON, |import| has_ports(import, &ports(&union))).await;
        }
    });
}

#[test]
fn r9_the_older_export_decides_the_number_of_a_port() {
    let case = Case {
        id: "R9",
        name: "A ClusterIP service exported on two clusters with conflicting ports should apply the conflict resolution policy and report a Conflict condition on each ServiceExport",
        labels: "Required, ClusterIP",
    };
    case.run(async |stage| {
        stage.begin(objects::service()).await;
        let second = json!([{"name": "tcp", "port": 43, "protocol": "TCP"}]);
        let second = objects::service_with_ports(second);
        stage.export_both(objects::export(), second, objects::export()).await;
        stage.both_disagree().await;
        let wanted = ports(&objects::service()["spec"]);
        for place in &stage.places {
            place.import(SOON, |import| has_ports(import, &wanted)).await;
        }
    });
}
