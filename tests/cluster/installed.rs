//! Landbridge on a lab of its own: what `cargo xtask lab install` promises, from the first object to the last one gone.

use std::{env, fs, process::Command, time::Duration};

use landbridge_xtask::lab::{
    Lab,
    install::{self, RunAs},
};
use serde_json::json;

use crate::{becomes, remains::Other, space::Space};

const CALL: &str = "echo hi | nc -v -w 2 -4 web.crossing.svc.clusterset.local 42 2>&1";
/// What all that is said of Landbridge is known by.
const OURS: [&str; 2] = ["landbridge", "multicluster.x-k8s.io"];

/// The objects of a cluster that have anything to do with Landbridge.
fn ours(lab: &Lab) -> Vec<String> {
    let kinds = "clusterrolebindings,clusterroles,crds,endpointslices,namespaces,services,validatingadmissionpolicies,validatingadmissionpolicybindings";
    let names = lab.clusters().map(|cluster| {
        cluster.kubectl(&["get", kinds, "--all-namespaces", "--output=name"]).unwrap()
    });
    let names: Vec<String> = names.collect();
    let lines = names.iter().flat_map(|text| text.lines());
    let ours =
        |line: &&str| OURS.iter().any(|word| line.contains(word)) || line.contains("/derived-");
    lines.filter(ours).map(str::to_owned).collect()
}

fn corefiles(lab: &Lab) -> Vec<String> {
    let get =
        ["get", "configmap", "coredns", "--namespace=kube-system", "--output=jsonpath={.data}"];
    lab.clusters().map(|cluster| cluster.kubectl(&get).unwrap()).collect()
}

fn pid(lab: &Lab, cluster: u8, name: &str) -> u32 {
    let pid = lab.cluster(cluster).unwrap().process(name).unwrap();
    pid.unwrap_or_else(|| panic!("{name} of c{cluster} does not run"))
}

#[test]
fn installed_on_a_lab_calls_cross_and_taken_away_nothing_is_left() {
    let other = Other::new("installed");
    let lab = Lab::up(&other.arranged()).unwrap();
    let before = corefiles(&lab);
    let program = install::built().unwrap();
    lab.install(&program, RunAs::Processes).unwrap();

    let [one, two] = [1, 2].map(|number| lab.cluster(number).unwrap());
    let spaces = [one, two].map(|cluster| Space::named(&lab, cluster, "crossing".into()));
    spaces[0].answering();
    spaces[0].apply(json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"name": "web"}}));
    spaces[1].calling();
    spaces[1].runs("request");
    spaces[1].says(CALL, "in crossing");

    // Once more: what runs goes on, and what was killed is started.
    let (controller, gateway) = ("landbridge-controller", "landbridge-gateway-v4");
    let [kept, killed] = [pid(&lab, 2, controller), pid(&lab, 2, gateway)];
    assert!(Command::new("kill").args(["-KILL", &killed.to_string()]).status().unwrap().success());
    becomes("the gateway is gone", Duration::from_secs(20), || {
        match two.process(gateway).unwrap() {
            None => Ok(()),
            Some(pid) => Err(pid.to_string()),
        }
    });
    lab.install(&program, RunAs::Processes).unwrap();
    assert_eq!(pid(&lab, 2, controller), kept);
    assert_ne!(pid(&lab, 2, gateway), killed);
    spaces[1].says(CALL, "in crossing");

    let folder = env::temp_dir().join(format!("landbridge-installed-{}", std::process::id()));
    lab.gather(&folder).unwrap();
    for (file, word) in [
        ("c1/landbridge-controller.log", "plans and writes"),
        ("c2/landbridge-gateway-v4.snapshot.json", "\"c1\""),
        ("c2/landbridge-dns.snapshot.json", "crossing"),
        ("c1/set.yaml", "kind: Member"),
        ("c2/imports-and-exports.yaml", "crossing"),
    ] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(word), "{file} without {word}:\n{text}");
    }
    fs::remove_dir_all(folder).unwrap();

    lab.uninstall().unwrap();
    assert_eq!(ours(&lab), [""; 0]);
    assert_eq!(corefiles(&lab), before);
    let status = lab.status().unwrap();
    assert!(!status.iter().any(|line| line.contains("landbridge")), "{status:?}");
}
