//! Slices, and what the cluster's DNS answers for names of the set.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use landbridge_api::mcs::ServiceExport;

use crate::{
    case::Case,
    objects::{self, HELLO},
    stage::{LOOK, Place, SOON, Stage, record, within},
};

/// Pods behind a headless Service.
const REPLICAS: usize = 2;

/// Asks the cluster's DNS from the calling pod. The dot at the end keeps search names out.
fn asks(kind: &str, name: &str) -> String {
    format!("nslookup -type={kind} {name}.")
}

/// The addresses of an answer of `nslookup`, without the one of the server.
fn addresses(said: &str) -> Vec<IpAddr> {
    let (_, answer) = said.split_once("Name:").unwrap_or_default();
    let mut found: Vec<IpAddr> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("Address:")?.trim().parse().ok())
        .collect();
    found.sort_unstable();
    found
}

/// Ports and targets of an answer.
fn services(said: &str) -> Vec<(u16, String)> {
    let parse = |line: &str| {
        let (_, record) = line.split_once("service = ")?;
        let mut words = record.split_whitespace().skip(2);
        let port = words.next()?.parse().ok()?;
        Some((port, words.next()?.trim_end_matches('.').to_owned()))
    };
    said.lines().filter_map(parse).collect()
}

async fn has_addresses(place: &Place<'_>, script: &str, wanted: &[String]) {
    let mut wanted: Vec<IpAddr> = wanted.iter().map(|ip| ip.parse().unwrap()).collect();
    wanted.sort_unstable();
    place
        .says(script, |said| match addresses(said) {
            found if found == wanted => Ok(()),
            found => Err(format!("{found:?}, not {wanted:?}")),
        })
        .await;
}

async fn exported(stage: &Stage<'_>, service: serde_json::Value) {
    let pods = if service["spec"]["clusterIP"] == "None" { REPLICAS } else { 1 };
    let pods = objects::deployment(stage.first().cluster.name(), pods);
    stage.begin_with(service, pods).await;
    stage.first().create::<ServiceExport>(objects::export()).await;
}

#[test]
fn what_nslookup_prints_is_read() {
    let said = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10#53\n\nName:\ta.local\nAddress: 10.244.0.52\nName:\ta.local\nAddress: fd00::7\n";
    assert_eq!(addresses(said), ["10.244.0.52", "fd00::7"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert!(addresses("Server:\t\t10.96.0.10\nAddress:\t10.96.0.10#53\n").is_empty());
    let said = "hello.a.svc.clusterset.local\tservice = 0 50 42 hello.a.svc.clusterset.local.\n";
    assert_eq!(services(said), [(42, "hello.a.svc.clusterset.local".to_owned())]);
}

#[test]
fn o3_slices_come_with_their_labels_and_go_when_it_is_unexported() {
    let case = Case {
        id: "O3",
        name: "Exporting a service should create an MCS EndpointSlice in the service's namespace in each cluster with the required MCS labels. Unexporting should delete the EndpointSlice",
        labels: "Optional, EndpointSlice",
    };
    case.run(async |stage| {
        exported(stage, objects::service()).await;
        let mut found = Vec::new();
        for place in &stage.places {
            for family in place.families().await {
                let slice = place.slice(&family, |_| Ok(())).await;
                let labels = slice.metadata.labels.unwrap_or_default();
                let label = |name: &str| labels.get(name).map(String::as_str);
                assert_eq!(label("multicluster.kubernetes.io/service-name"), Some(HELLO));
                let by = label("endpointslice.kubernetes.io/managed-by");
                assert!(by.is_some_and(|by| by != "endpointslice-controller.k8s.io"), "{by:?}");
                found.push((place, slice.metadata.name.unwrap()));
            }
        }
        stage.first().unexport().await;
        for (place, name) in found {
            within(SOON, LOOK, format!("slice {name} is gone"), async || {
                match place.get::<EndpointSlice>(&name).await {
                    None => Ok(()),
                    Some(slice) => Err(format!("{slice:?}")),
                }
            })
            .await;
        }
    });
}

#[test]
fn o4_the_name_of_the_set_is_the_imports_address() {
    let case = Case {
        id: "O4",
        name: "A DNS lookup of the <service>.<ns>.svc.clusterset.local domain for a ClusterIP service should resolve to the clusterset IP",
        labels: "Optional, DNS, ClusterIP",
    };
    case.run(async |stage| {
        exported(stage, objects::service()).await;
        for place in &stage.places {
            let ips = place
                .import(SOON, |import| match &import.spec.ips[..] {
                    [] => Err("it has no address".into()),
                    ips => Ok(ips.to_vec()),
                })
                .await;
            for ip in ips {
                let kind = record(if ip.contains(':') { "IPv6" } else { "IPv4" });
                has_addresses(place, &asks(kind, &stage.name()), &[ip]).await;
            }
        }
    });
}

#[test]
fn o5_the_bare_name_has_one_service_record_for_each_number() {
    let case = Case {
        id: "O5",
        name: "A DNS SRV query of the <service>.<ns>.svc.clusterset.local domain for a ClusterIP service should return valid SRV records",
        labels: "Optional, DNS, ClusterIP",
    };
    case.run(async |stage| {
        exported(stage, objects::service()).await;
        let wanted = [(42, stage.name())];
        for place in &stage.places {
            place
                .says(&asks("SRV", &stage.name()), |said| match services(said) {
                    found if found == wanted => Ok(()),
                    found => Err(format!("{found:?}")),
                })
                .await;
        }
    });
}

#[test]
fn o6_the_local_name_stays_the_local_services() {
    let case = Case {
        id: "O6",
        name: "DNS lookups of the <service>.<ns>.svc.cluster.local domain for a ClusterIP service should only resolve local services",
        labels: "Optional, DNS, ClusterIP",
    };
    case.run(async |stage| {
        exported(stage, objects::service()).await;
        let service: Service = stage.first().get(HELLO).await.unwrap();
        let ip = service.spec.unwrap().cluster_ip.unwrap();
        let script = asks("A", &format!("{HELLO}.{}.svc.cluster.local", stage.namespace));
        has_addresses(stage.first(), &script, &[ip]).await;
        // Nothing of that name is in the others, whatever the set has.
        for place in &stage.places[1..] {
            let gone = |said: &str| {
                said.contains("NXDOMAIN").then_some(()).ok_or_else(|| "an answer".into())
            };
            place.says(&script, gone).await;
        }
    });
}

#[test]
fn o7_a_headless_name_is_all_ready_pods_addresses() {
    let case = Case {
        id: "O7",
        name: "A DNS query of the <service>.<ns>.svc.clusterset.local domain for a headless service should return the ready endpoint addresses of all the backing pods",
        labels: "Optional, DNS, Headless",
    };
    case.run(async |stage| {
        exported(stage, objects::headless()).await;
        for place in &stage.places {
            for family in place.families().await {
                let pods = stage.first().backing(&family, REPLICAS).await;
                let pods: Vec<String> = pods.into_iter().map(|(ip, _)| ip).collect();
                has_addresses(place, &asks(record(&family), &stage.name()), &pods).await;
            }
        }
    });
}

#[test]
fn o8_a_pod_of_a_stateful_set_has_a_name_in_every_cluster() {
    let case = Case {
        id: "O8",
        name: "A DNS query of the <hostname>.<clusterid>.<service>.<ns>.svc.clusterset.local domain for a headless StatefulSet service should return the requested pod's endpoint address",
        labels: "Optional, DNS, Headless, EndpointSlice",
    };
    case.run(async |stage| {
        let pods = objects::stateful_set(stage.first().cluster.name(), REPLICAS);
        stage.begin_with(objects::headless(), pods).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        for place in &stage.places {
            for family in place.families().await {
                let slice = place.slice(&family, all_with_names).await;
                let labels = slice.metadata.labels.unwrap_or_default();
                let cluster = &labels["multicluster.kubernetes.io/source-cluster"];
                for endpoint in slice.endpoints {
                    let host = endpoint.hostname.unwrap();
                    let name = format!("{host}.{cluster}.{}", stage.name());
                    has_addresses(place, &asks(record(&family), &name), &endpoint.addresses).await;
                }
            }
        }
    });
}

/// All pods are in one slice, ready, each with a name.
fn all_with_names(slice: &EndpointSlice) -> Result<(), String> {
    let all: Vec<_> = slice.endpoints.iter().collect();
    let names: BTreeSet<_> = all.iter().filter_map(|one| one.hostname.as_deref()).collect();
    let ready = all
        .iter()
        .all(|one| one.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    let good = ready && all.len() == REPLICAS && names.len() == REPLICAS;
    good.then_some(()).ok_or_else(|| format!("not {REPLICAS} ready ones with names"))
}

#[test]
fn o9_a_headless_name_has_a_service_record_for_each_endpoint() {
    let case = Case {
        id: "O9",
        name: "A DNS SRV query of the <service>.<ns>.svc.clusterset.local domain for a headless service should return valid SRV records",
        labels: "Optional, DNS, Headless",
    };
    case.run(async |stage| {
        exported(stage, objects::headless()).await;
        let service: Service = stage.first().get(HELLO).await.unwrap();
        let mut hosts = Vec::new();
        for family in service.spec.unwrap().ip_families.unwrap() {
            for (ip, host) in stage.first().backing(&family, REPLICAS).await {
                hosts.push(host.unwrap_or_else(|| ip.replace(['.', ':'], "-")));
            }
        }
        for place in &stage.places {
            let script = asks("SRV", &stage.name());
            let found = place
                .says(&script, |said| match services(said) {
                    found if found.len() == hosts.len() => Ok(found),
                    found => Err(format!("{found:?} for {hosts:?}")),
                })
                .await;
            for host in &hosts {
                let with = found.iter().find(|(_, target)| target.starts_with(host.as_str()));
                assert_eq!(with.map(|(port, _)| *port), Some(42), "{host} in {found:?}");
            }
        }
    });
}
