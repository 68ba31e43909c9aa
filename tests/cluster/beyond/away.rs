//! What goes on while a part is away: components, API servers, pods.

use std::{env, process::Command, time::Duration};

use landbridge_api::mcs::ServiceExport;
use landbridge_xtask::lab::{Lab, install::RunAs, options::Network};
use serde_json::{Value, json};

use super::load::{Load, now, pass};
use crate::{
    case::Case,
    gate, objects,
    stage::{MINUTE, SOON, Stage},
};

/// How long after a component is back the last call may fail.
const BACK: Duration = Duration::from_secs(5);
/// How long an API server is away, and how long where all is run.
const AWAY: Duration = Duration::from_secs(15);
const LONG_AWAY: Duration = Duration::from_secs(60);
/// Is set where all is run.
const ALL: &str = "LANDBRIDGE_ALL";

/// Something exported by the first cluster, and called from the second: by its name, and by its address.
async fn loads<'a>(stage: &'a Stage<'a>) -> [Load<'a>; 2] {
    stage.begin(objects::service()).await;
    stage.first().create::<ServiceExport>(objects::export()).await;
    let ip = stage
        .second()
        .import(SOON, |import| import.spec.ips.first().cloned().ok_or_else(|| "no address".into()))
        .await;
    let by_name = Load::begin(stage.second(), "name", &stage.name()).await;
    [by_name, Load::begin(stage.second(), "address", &ip).await]
}

fn kill(lab: &Lab, cluster: u8, process: &str, signal: &str) {
    let pid = lab.cluster(cluster).unwrap().process(process).unwrap();
    let pid = pid.unwrap_or_else(|| panic!("{process} of c{cluster} does not run"));
    let status = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_component_that_is_killed_hurts_only_what_it_does_itself() {
    let case = Case {
        id: "Killed",
        name: "While controller, DNS server and gateways are killed by turns, calls fail only where nobody else does their work, and are good again when they are back",
        labels: "Beyond, Failure",
    };
    let otherwise = "there are two of each component, and kubelet starts what was killed";
    case.run_alone_as(RunAs::Processes, otherwise, async |stage| {
        let lab = gate::the_set();
        let [by_name, by_address] = loads(stage).await;
        for cluster in [1, 2] {
            for component in ["controller", "dns", "gateway-v4"] {
                let killed = now();
                kill(&lab, cluster, &format!("landbridge-{component}"), "-KILL");
                pass(Duration::from_secs(2)).await;
                lab.resume().unwrap();
                let back = now();
                by_name.is_good_since(back).await;
                by_address.is_good_since(back).await;
                let carries =
                    component == "gateway-v4" && lab.options().network == Network::Overlapping;
                let answers = component == "dns" && cluster == 2;
                let what = format!("{component} of c{cluster}");
                for (load, suffers) in [(&by_name, carries || answers), (&by_address, carries)] {
                    let failed = load.failed_since(killed).await;
                    let allowed = if suffers { back - killed + BACK } else { Duration::ZERO };
                    let late: Vec<_> =
                        failed.iter().filter(|(after, _)| *after > allowed).collect();
                    assert!(
                        late.is_empty() && (suffers || failed.is_empty()),
                        "{what}: {failed:?}"
                    );
                }
            }
        }
        by_name.end().await;
        by_address.end().await;
    });
}

#[test]
fn no_call_fails_while_everything_is_rolled() {
    let case = Case {
        id: "Roll",
        name: "While every Deployment of Landbridge is restarted, one after the other, no call fails",
        labels: "Beyond, Failure",
    };
    let otherwise = "there is one of each component, and nobody who starts another first";
    case.run_alone_as(RunAs::Pods, otherwise, async |stage| {
        let [by_name, by_address] = loads(stage).await;
        for place in &stage.places {
            let system = |words: &[&str]| {
                let namespace = ["--namespace", "landbridge-system"];
                place.cluster.kubectl(&[&namespace[..], words].concat()).unwrap()
            };
            let deployments = system(&["get", "deployments", "--output=name"]);
            assert!(deployments.lines().count() >= 3, "{deployments}");
            for deployment in deployments.lines() {
                let begun = now();
                system(&["rollout", "restart", deployment]);
                system(&["rollout", "status", deployment, "--timeout=120s"]);
                for load in [&by_name, &by_address] {
                    load.is_good_since(now()).await;
                    let failed = load.failed_since(begun).await;
                    assert!(failed.is_empty(), "{deployment}: {failed:?}");
                }
            }
        }
        by_name.end().await;
        by_address.end().await;
    });
}

#[test]
fn calls_go_on_while_an_api_server_or_the_hub_is_away() {
    let case = Case {
        id: "API",
        name: "While the API server of a cluster, or that of the hub, is away, no call fails, and what is exported after that is imported",
        labels: "Beyond, Failure",
    };
    case.run_alone(async |stage| {
        let lab = gate::the_set();
        let away = if env::var_os(ALL).is_some() { LONG_AWAY } else { AWAY };
        let [by_name, by_address] = loads(stage).await;
        // The first one's is the hub's too.
        for cluster in [2, 1] {
            let killed = now();
            kill(&lab, cluster, "kube-apiserver", "-KILL");
            // Where it is elected it ends ten seconds later, and the next one has a clock of its own. The lab's is not: it would
            // hold the time in which nobody could renew a Lease against the node, and take its pods out of every Service.
            kill(&lab, cluster, "kube-controller-manager", "-KILL");
            pass(away).await;
            Lab::up(lab.options()).unwrap();
            for load in [&by_name, &by_address] {
                load.is_good_since(now()).await;
                let failed = load.failed_since(killed).await;
                assert!(failed.is_empty(), "c{cluster}: {failed:?}");
            }
        }
        by_name.end().await;
        by_address.end().await;
        stage.first().unexport().await;
        stage.second().no_import().await;
        stage.first().create::<ServiceExport>(objects::export()).await;
        // An API server that was started anew looks up every half minute which kind a policy's parameters are of, and
        // refuses until then what the hub's policies are to judge.
        for place in &stage.places {
            place.import(MINUTE, |_| Ok(())).await;
        }
        // kube-proxy asks again as all of Kubernetes does: up to a minute after its API server is back.
        stage.answers_within(2 * MINUTE, 42, "pod ip", 1).await;
    });
}

/// Pods that go as people's do: they are taken out of the Service before they end.
fn graceful(cluster: &str) -> Value {
    let mut deployment = objects::deployment(cluster, 2);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = json!(10);
    for container in pod["containers"].as_array_mut().unwrap() {
        container["lifecycle"] = json!({"preStop": {"exec": {"command": ["sleep", "5"]}}});
    }
    deployment
}

#[test]
fn no_call_fails_while_pods_are_replaced() {
    let case = Case {
        id: "Pods",
        name: "While all pods behind an exported Service are replaced by others, no call from another cluster fails",
        labels: "Beyond, Failure",
    };
    // Others take the processors' time, without which a gateway is silent.
    case.run_alone(async |stage| {
        let first = stage.first();
        let mut service = objects::service_with("sessionAffinity", json!("None"));
        service["spec"]["sessionAffinityConfig"] = Value::Null;
        stage.begin_with(service, graceful(first.cluster.name())).await;
        first.create::<ServiceExport>(objects::export()).await;
        first.backing("IPv4", 2).await;
        let load = Load::begin(stage.second(), "name", &stage.name()).await;
        let begun = now();
        let namespace = ["--namespace", &stage.namespace];
        for words in [
            &["rollout", "restart", "deployment/hello"][..],
            &["rollout", "status", "deployment/hello", "--timeout=90s"],
        ] {
            first.cluster.kubectl(&[&namespace[..], words].concat()).unwrap();
        }
        // Those that were replaced have ended too.
        first.backing("IPv4", 2).await;
        load.is_good_since(now()).await;
        let failed = load.failed_since(begun).await;
        assert!(failed.is_empty(), "{failed:?}");
        load.end().await;
    });
}
