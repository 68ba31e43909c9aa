//! kubectl against the embedded API, where there is a kubectl on the PATH.

use std::process::Stdio;
use std::time::Duration;

use landbridge_embedded::Cluster;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::support::cluster_with;

/// There are no OpenAPI documents for kubectl to check objects by.
const CREATE: &str = "create --validate=false -f -";

struct Kubectl {
    home: TempDir,
    cluster: Cluster,
}

impl Kubectl {
    /// `None`, and a line that says so, on a machine without kubectl.
    async fn new() -> Option<Self> {
        let found = Command::new("kubectl").args(["version", "--client"]).output().await;
        if !found.is_ok_and(|output| output.status.success()) {
            println!("skipped: there is no kubectl on the PATH");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let cluster = cluster_with("192.0.2.0/24", Vec::new()).await;
        std::fs::write(home.path().join("config"), cluster.kubeconfig()).unwrap();
        Some(Self { home, cluster })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("kubectl");
        command.args(arguments.split(' ')).env("HOME", self.home.path());
        command.env("KUBECONFIG", self.home.path().join("config")).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs kubectl to its end; returns what it printed, columns parted by single blanks.
    async fn run(&self, arguments: &str, stdin: &str) -> String {
        let mut child = self.command(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {error}");
        squeeze(&String::from_utf8_lossy(&output.stdout))
    }
}

fn squeeze(text: &str) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

const OBJECTS: &str = r#"---
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
---
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
 "spec": {"ports": [{"name": "http", "port": 80}], "selector": {"app": "web"}}}
---
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"},
 "data": {"a": "1", "b": "2"}}
---
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "shop"},
 "type": "Opaque", "data": {"a": "MQ=="}}
---
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop"},
 "spec": {"containers": [{"name": "web", "image": "example.com/web"}]}}
---
{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
 "metadata": {"name": "lead", "namespace": "shop"}, "spec": {"holderIdentity": "one"}}
---
{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
 "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
 "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
 "endpoints": [{"addresses": ["192.0.2.101"]}, {"addresses": ["192.0.2.102"]}]}
"#;

#[tokio::test]
async fn get_everything_wide() {
    let Some(kubectl) = Kubectl::new().await else {
        return;
    };
    kubectl.run(CREATE, OBJECTS).await;
    let kinds = "svc,cm,secrets,pods,leases,endpointslices";
    let shown = kubectl.run(&format!("get {kinds} -A -o wide"), "").await;
    for row in [
        "NAMESPACE NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR",
        "shop service/web ClusterIP 192.0.2.1 <none> 80/TCP 0s app=web",
        "shop configmap/settings 2 0s",
        "shop secret/key Opaque 1 0s",
        "NAMESPACE NAME STATUS AGE IP",
        "shop pod/web-1 Pending 0s <none>",
        "shop lease.coordination.k8s.io/lead one 0s",
        "shop endpointslice.discovery.k8s.io/web-1 IPv4 8080 192.0.2.101,192.0.2.102 0s",
    ] {
        // A slow machine may be a second or two late.
        let ages = [" 0s", " 1s", " 2s", " 3s"];
        let found = ages.iter().any(|age| shown.contains(&row.replace(" 0s", age)));
        assert!(found, "no «{row}» in\n{shown}");
    }
    assert!(kubectl.run("get all -n shop", "").await.contains("service/web"));
    assert!(kubectl.run("get ns", "").await.contains("shop Active"));
    kubectl.cluster.stop().await;
}

#[tokio::test]
async fn watch_create_patch_and_delete() {
    let Some(kubectl) = Kubectl::new().await else {
        return;
    };
    let mut watch = kubectl.command("get cm -n default --watch -o wide").spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let object = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}"#;
    assert_eq!(kubectl.run(CREATE, object).await, "configmap/m created");
    let patch = r#"patch cm m --type=merge -p {"data":{"a":"1"}}"#;
    assert_eq!(kubectl.run(patch, "").await, "configmap/m patched");
    let patch = r#"patch cm m --type=json -p [{"op":"remove","path":"/data/a"}]"#;
    assert_eq!(kubectl.run(patch, "").await, "configmap/m patched");
    assert_eq!(kubectl.run("label cm m a=b", "").await, "configmap/m labeled");
    assert_eq!(kubectl.run("get cm -l a=b -o name", "").await, "configmap/m");
    assert!(kubectl.run("delete cm m", "").await.starts_with("configmap \"m\" deleted"));
    let mut rows = Vec::new();
    while rows.len() < 6 {
        let line = tokio::time::timeout(Duration::from_secs(10), lines.next_line());
        rows.push(squeeze(&line.await.unwrap().unwrap().unwrap()));
    }
    let data: Vec<&str> = rows.iter().map(|row| row.split(' ').nth(1).unwrap()).collect();
    assert_eq!(rows[0], "NAME DATA AGE");
    assert_eq!(data[1..], ["0", "1", "0", "0", "0"], "{rows:?}");
    watch.kill().await.unwrap();
}

#[tokio::test]
async fn crds_are_created_shown_and_used() {
    let Some(kubectl) = Kubectl::new().await else {
        return;
    };
    let crd = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: things, kind: Thing, shortNames: [th]}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: string}}}}}}
    additionalPrinterColumns: [{name: Size, type: string, jsonPath: .spec.size}]
"#;
    kubectl.run(CREATE, crd).await;
    assert!(kubectl.run("get crd", "").await.contains("NAME AGE\nthings.example.com"));
    let thing = r#"{"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": "big"}}"#;
    assert_eq!(kubectl.run(CREATE, thing).await, "thing.example.com/t created");
    assert_eq!(kubectl.run("get th", "").await, "NAME SIZE\nt big");
    kubectl.run("delete crd things.example.com", "").await;
    assert_eq!(kubectl.run("get crd -o name", "").await, "");
}
