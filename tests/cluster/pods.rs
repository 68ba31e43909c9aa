//! Landbridge in pods, from what `landbridge manifests` prints, on a lab of its own: it is installed as anybody would, and
//! every Deployment is restarted while calls go on.

use std::{
    env, fs,
    process::{Child, Stdio},
    time::Duration,
};

use landbridge_xtask::lab::{
    Cluster, Lab,
    install::{self, RunAs},
    options::Stack,
};
use serde_json::{Value, json};

use crate::{becomes, remains::Other, space::Space};

const SYSTEM: &str = "landbridge-system";
const DEPLOYMENTS: [&str; 3] = ["landbridge-gateway", "landbridge-dns", "landbridge-controller"];
const NAME: &str = "echo.rolling.svc.clusterset.local";
/// How long a call may be tried again and again.
const TRIED: Duration = Duration::from_secs(20);
/// Calls in each family until a file is there, each with words of its own. What is tried again is told, and so is what
/// was not answered in all that time.
///
/// All clusters and the tests share a few processors. A gateway that has none for 0.35 s is given no new calls by its
/// peers, and that alone fails calls where nothing is restarted at all. So what is held here is that no restart leaves
/// callers alone for long, and how many were tried again is told.
const CALLS: &str = r#"
n=0 again=0 failed=0
while [ ! -e /tmp/enough ]; do
    n=$((n+1))
    for family in $2; do
        end=$(($(date +%s) + $1))
        while :; do
            said=$(echo "hi $n" | timeout 15 nc -N -v -w 10 $family echo.rolling.svc.clusterset.local 43 2>&1)
            case "$said" in *"hi $n") break ;; esac
            [ "$(date +%s)" -lt "$end" ] || { failed=$((failed+1)); echo "$(date +%T) call $n $family: $said"; break; }
            again=$((again+1))
            sleep 0.2
        done
    done
done
echo "$n rounds, $again tries more, $failed failed"
"#;

/// What answers with what it is sent: it waits for the end of its own work, however busy the machine.
fn echo(space: &Space<'_>) {
    let say = json!(["-t", "60", "TCP6-LISTEN:43,fork,reuseaddr,backlog=128", "EXEC:cat"]);
    space.apply(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "echo", "labels": {"app": "echo"}},
        "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "echo", "image": "alpine/socat:1.7.4.4", "args": say}]}}));
    space.apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"},
        "spec": {"selector": {"app": "echo"}, "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"name": "tcp", "port": 43}]}}));
    space.apply(json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"name": "echo"}}));
}

/// Starts the calls in the calling pod; what they tell goes to a file.
fn calls(space: &Space<'_>, families: &[&str]) -> (Child, std::path::PathBuf) {
    let log = env::temp_dir().join(format!("landbridge-calls-{}", std::process::id()));
    let seconds = TRIED.as_secs().to_string();
    let exec = ["kubectl", "exec", "--namespace", &space.name, "request", "--"];
    let families = families.join(" ");
    let shell = ["sh", "-c", CALLS, "calls", &seconds, &families];
    let command: Vec<String> = exec.iter().chain(&shell).map(ToString::to_string).collect();
    let mut command = space.cluster.command(&command).unwrap();
    let file = fs::File::create(&log).unwrap();
    (command.stdin(Stdio::null()).stdout(file).spawn().unwrap(), log)
}

fn pods(cluster: Cluster<'_>) -> Vec<Value> {
    let get = ["get", "pods", "--namespace", SYSTEM, "--output=json"];
    let list: Value = serde_json::from_str(&cluster.kubectl(&get).unwrap()).unwrap();
    list["items"].as_array().unwrap().clone()
}

#[test]
fn in_pods_every_deployment_is_restarted_and_callers_are_not_left_alone() {
    let other = Other::new("pods");
    let lab = Lab::up(&other.arranged()).unwrap();
    let program = install::built().unwrap();
    lab.install(&program, RunAs::Pods).unwrap();
    let [one, two] = [1, 2].map(|number| lab.cluster(number).unwrap());
    for cluster in [one, two] {
        let pods = pods(cluster);
        assert_eq!(pods.len(), 6);
        for pod in &pods {
            let container = &pod["spec"]["containers"][0];
            // The namespace takes no others, and this one was let in.
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
        }
    }

    let spaces = [one, two].map(|cluster| Space::named(&lab, cluster, "rolling".into()));
    echo(&spaces[0]);
    spaces[1].calling();
    spaces[1].runs("request");
    let families: &[&str] = match lab.options().stack {
        Stack::Dual => &["-4", "-6"],
        Stack::V4 => &["-4"],
    };
    for family in families {
        spaces[1].says(&format!("echo hello | nc -N -w 5 {family} {NAME} 43 2>&1"), "hello");
    }
    let (mut calling, log) = calls(&spaces[1], families);
    for cluster in [two, one] {
        for deployment in DEPLOYMENTS {
            let name = format!("deployment/{deployment}");
            let roll = |verb| ["rollout", verb, &name, "--namespace", SYSTEM];
            cluster.kubectl(&roll("restart")).unwrap();
            let status = [&roll("status")[..], &["--timeout=240s"]].concat();
            cluster.kubectl(&status).unwrap();
        }
    }
    // The old pods have said their farewell.
    for cluster in [one, two] {
        becomes("only new pods are there", Duration::from_secs(120), || {
            let pods = pods(cluster).len();
            if pods == 6 { Ok(()) } else { Err(pods.to_string()) }
        });
    }
    spaces[1].sh("echo >/tmp/enough");
    calling.wait().unwrap();
    let told = fs::read_to_string(&log).unwrap();
    println!("{told}");
    fs::remove_file(log).unwrap();
    assert!(told.trim_end().ends_with(" 0 failed"), "{told}");
}
