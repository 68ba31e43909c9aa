//! What the lab promises: clusters that are clusters, in the arrangement that was asked for.

use std::{env, fs, process, time::Duration};

use landbridge_xtask::lab::options::{Network, Stack};
use serde_json::Value;

use crate::{becomes, gate, space::Space, the_lab};

#[test]
fn every_node_is_ready_and_has_an_address_of_each_family() {
    let lab = the_lab();
    let families = if lab.options().stack == Stack::Dual { 2 } else { 1 };
    for cluster in lab.clusters() {
        let nodes = cluster.kubectl(&["get", "nodes", "--output", "json"]).unwrap();
        let nodes: Value = serde_json::from_str(&nodes).unwrap();
        let [node] = &nodes["items"].as_array().unwrap()[..] else { panic!("one node: {nodes}") };
        assert_eq!(node["metadata"]["name"], cluster.node());
        let conditions = node["status"]["conditions"].as_array().unwrap();
        assert!(conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
        let addresses = node["status"]["addresses"].as_array().unwrap();
        let internal = addresses.iter().filter(|one| one["type"] == "InternalIP").count();
        assert_eq!(internal, families, "{node}");
        assert_eq!(node["spec"]["podCIDRs"].as_array().unwrap().len(), families, "{node}");
    }
}

#[test]
fn pods_call_a_service_by_its_cluster_local_name_over_each_family() {
    let lab = the_lab();
    for cluster in lab.clusters() {
        let space = Space::new(&lab, cluster);
        space.answering();
        space.calling();
        let address = space.runs("web").remove(0);
        space.runs("request");
        let service = space.kubectl(&["get", "service", "web", "--output", "json"]);
        let service: Value = serde_json::from_str(&service).unwrap();
        let ips: Vec<&str> = service["spec"]["clusterIPs"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(Value::as_str)
            .collect();
        assert_eq!(ips.len(), if lab.options().stack == Stack::Dual { 2 } else { 1 });
        let name = format!("web.{}.svc.cluster.local", space.name);
        for (ip, family) in ips.iter().zip(["A", "AAAA"]) {
            space.says(&format!("nslookup -type={family} {name}."), ip);
            let flag = if family == "A" { 4 } else { 6 };
            let expected = format!("pod ip {address}");
            space.says(&format!("echo hi | nc -w 2 -{flag} {name} 42"), &expected);
        }
        // The short name is found by the search list that the kubelet wrote.
        space.says("echo hi | nc -w 2 web 42", "pod ip");
    }
}

#[test]
fn pods_of_two_clusters_reach_each_other_in_one_network_only() {
    let lab = the_lab();
    let [one, two] = [1, 2].map(|number| Space::new(&lab, lab.cluster(number).unwrap()));
    one.calling();
    two.answering();
    let address = two.runs("web").remove(0);
    one.runs("request");
    let script = format!("echo hi | nc -w 2 {address} 42");
    match lab.options().network {
        Network::Shared => one.says(&script, &format!("pod ip {address} in {}", two.name)),
        // Another test's pod may have the same address in this cluster.
        Network::Overlapping => {
            let said = one.sh(&script);
            assert!(!said.contains(&two.name), "{said}");
        }
    }
}

#[test]
fn the_clusters_dns_follows_its_config_map() {
    let lab = the_lab();
    // Others put something into the same file.
    let _nobody = gate::alone();
    let cluster = lab.cluster(1).unwrap();
    let space = Space::new(&lab, cluster);
    space.calling();
    space.runs("request");
    // The world outside has an answer for every name, which is that there is none.
    let asks = "dig +time=2 +tries=1 probe.example.org";
    space.says(asks, "status: NXDOMAIN");
    let read = || {
        let flags = ["--namespace", "kube-system", "--output", "jsonpath={.data.Corefile}"];
        cluster.kubectl(&[&["get", "configmap", "coredns"][..], &flags].concat()).unwrap()
    };
    let write = |corefile: &str| {
        let map = serde_json::json!({"data": {"Corefile": corefile}}).to_string();
        let flags = ["--namespace", "kube-system", "--type=merge", "--patch", &map];
        cluster.kubectl(&[&["patch", "configmap", "coredns"][..], &flags].concat()).unwrap();
    };
    let before = read();
    write(&format!(
        "{before}\nexample.org:53 {{\n    hosts {{\n        192.0.2.77 probe.example.org\n    }}\n}}\n"
    ));
    space.says(asks, "192.0.2.77");
    write(&before);
    becomes("the old file counts again", Duration::from_secs(90), || {
        let said = space.sh(asks);
        if said.contains("status: NXDOMAIN") { Ok(()) } else { Err(said) }
    });
}

#[test]
fn what_a_lab_looks_like_is_gathered_in_one_folder() {
    let lab = the_lab();
    let folder = env::temp_dir().join(format!("landbridge-gathered-{}", process::id()));
    lab.gather(&folder).unwrap();
    let holds = |file: &str, word: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(word), "{file} without {word}:\n{text}");
    };
    holds("processes", "c1/kubelet");
    holds("c2/nodes.yaml", "name: c2-node");
    holds("c1/endpointslices.yaml", "kube-dns-ipv4");
    holds("c1/configmaps.yaml", "Corefile");
    holds("c1/packet-filter", "10.96.0.10");
    holds("c1/addresses", "192.0.2.11");
    holds("c1/listeners", "coredns");
    holds("c1/kubelet.log", "c1-node");
    fs::remove_dir_all(folder).unwrap();
}
