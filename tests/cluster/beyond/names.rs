//! What pods ask besides, through the cluster's own DNS server: ports by name, over TCP, by the search list, and what is not
//! there.

use landbridge_api::mcs::ServiceExport;

use crate::{case::Case, objects, stage::Place};

/// Pods of a StatefulSet.
const REPLICAS: usize = 2;

/// Asks until these lines are said, in any order.
async fn says(place: &Place<'_>, script: &str, wanted: &[String]) {
    let sorted = |lines: Vec<String>| {
        let mut lines = lines;
        lines.sort_unstable();
        lines
    };
    let wanted = sorted(wanted.to_vec());
    place
        .says(script, |said| match sorted(said.lines().map(str::to_owned).collect()) {
            found if found == wanted => Ok(()),
            found => Err(format!("{found:?}, not {wanted:?}")),
        })
        .await;
}

#[test]
fn pods_find_ports_and_pods_of_other_clusters_by_dig_and_by_their_c_library() {
    let case = Case {
        id: "Names",
        name: "Behind the cluster's own DNS server, a pod finds named ports, pods and the schema's version, over UDP and TCP and by its search list, and no name of a cluster",
        labels: "Beyond, DNS, Headless",
    };
    case.run(async |stage| {
        let first = stage.first().cluster.name();
        let pods = objects::stateful_set(first, REPLICAS);
        stage.begin_with(objects::headless(), pods).await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        let name = stage.name();
        for place in &stage.places {
            let slice = place
                .slice("IPv4", |slice| match slice.endpoints.len() {
                    REPLICAS => Ok(()),
                    some => Err(format!("{some} endpoints")),
                })
                .await;
            let ips: Vec<String> =
                slice.endpoints.iter().flat_map(|one| one.addresses.clone()).collect();
            for over in ["+notcp", "+tcp"] {
                says(place, &format!("dig {over} +short A {name}."), &ips).await;
            }
            for protocol in ["tcp", "udp"] {
                let dig = format!("dig +short SRV _{protocol}._{protocol}.{name}.");
                let targets: Vec<String> = (0..REPLICAS)
                    .map(|pod| format!("0 100 42 hello-ss-{pod}.{first}.{name}."))
                    .collect();
                says(place, &dig, &targets).await;
            }
            // Without a dot at its end: all domains of the search list come first.
            let found = format!("getent ahostsv4 {name} | awk '{{print $1}}' | sort -u");
            says(place, &found, &ips).await;
            for pod in &slice.endpoints {
                let host = pod.hostname.as_deref().unwrap_or_default();
                let found =
                    format!("getent ahostsv4 {host}.{first}.{name} | awk '{{print $1}}' | sort -u");
                says(place, &found, &pod.addresses).await;
            }
            let version = "dig +short TXT dns-version.clusterset.local.";
            says(place, version, &["\"1.0.0\"".to_owned()]).await;
            // MCS DNS specification 2.4.4: headless services "should **NOT** have a record disambiguating to a single
            // cluster's backends".
            let none = format!("dig A {first}.{name}. | grep -o 'status: [A-Z]*'");
            says(place, &none, &["status: NXDOMAIN".to_owned()]).await;
        }
    });
}
