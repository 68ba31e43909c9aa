//! A namespace of its own for each test, with pods that call and pods that answer.

use std::{
    io::{self, Write as _},
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use landbridge_xtask::lab::{Cluster, Lab};
use serde_json::{Value, json};

use crate::becomes;

/// Names of the machine's images: see `xtask/src/lab/images.rs`.
const ANSWERS: &str = "alpine/socat:1.7.4.4";
const CALLS: &str = "nicolaka/netshoot:v0.15";
/// A pod runs within three seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// As the conformance suite has it: what takes longer has no answer.
const EXEC_SECONDS: u32 = 10;

/// A namespace in one cluster, gone with the test.
pub(crate) struct Space<'a> {
    lab: &'a Lab,
    pub(crate) cluster: Cluster<'a>,
    pub(crate) name: String,
}

impl<'a> Space<'a> {
    pub(crate) fn new(lab: &'a Lab, cluster: Cluster<'a>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::named(lab, cluster, format!("test-{}-{number}", process::id()))
    }

    /// The namespace of this name: it means the same in every cluster of a set.
    pub(crate) fn named(lab: &'a Lab, cluster: Cluster<'a>, name: String) -> Self {
        let space = Self { lab, cluster, name };
        space.cluster.kubectl(&["create", "namespace", &space.name]).unwrap();
        space
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let all: Vec<&str> = ["--namespace", &self.name].iter().chain(arguments).copied().collect();
        self.cluster.kubectl(&all).unwrap()
    }

    pub(crate) fn apply(&self, mut object: Value) {
        object["metadata"]["namespace"] = json!(self.name);
        self.cluster.apply(&object.to_string()).unwrap();
    }

    /// A pod that says its own address, and whose it is, to whoever calls port 42, and the Service `web` in front of it.
    pub(crate) fn answering(&self) {
        let say = json!(["TCP6-LISTEN:42,fork,reuseaddr", "SYSTEM:echo pod ip $POD_IP in $SPACE"]);
        let env = json!([
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "SPACE", "value": self.name},
        ]);
        self.pod("web", &json!([{"name": "web", "image": ANSWERS, "args": say, "env": env}]));
        self.apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ipFamilyPolicy": "PreferDualStack",
                "ports": [{"name": "tcp", "port": 42}]}}));
    }

    /// A pod that calls what a test tells it to.
    pub(crate) fn calling(&self) {
        let sleep = json!(["sleep", "infinity"]);
        self.pod("request", &json!([{"name": "request", "image": CALLS, "command": sleep}]));
    }

    fn pod(&self, name: &str, containers: &Value) {
        // Nothing in these pods would use the time that they could be given to end.
        self.apply(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": containers, "terminationGracePeriodSeconds": 0}}));
    }

    /// Waits until a pod runs; its addresses.
    pub(crate) fn runs(&self, pod: &str) -> Vec<String> {
        becomes(&format!("pod {pod} runs"), PATIENCE, || {
            let text = self.kubectl(&["get", "pod", pod, "--output", "json"]);
            let pod: Value = serde_json::from_str(&text).unwrap();
            let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
            if !ready.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True") {
                return Err(pod["status"].to_string());
            }
            let addresses = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
            Ok(addresses.iter().map(|one| one["ip"].as_str().unwrap().to_owned()).collect())
        })
    }

    /// What a shell in the calling pod prints.
    pub(crate) fn sh(&self, script: &str) -> String {
        let pod = ["--namespace", &self.name, "request"];
        let output = self.cluster.exec(&pod, EXEC_SECONDS, &["sh", "-c", script]).unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Calls until the answer holds `expected`.
    pub(crate) fn says(&self, script: &str, expected: &str) {
        becomes(script, PATIENCE, || {
            let said = self.sh(script);
            if said.contains(expected) { Ok(()) } else { Err(said) }
        });
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let folder =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster").join(&self.name);
            let gathered = self.lab.gather(&folder);
            // A test that fails twice would end all others, and hide why it failed first.
            let _ = writeln!(io::stderr(), "gathered in {}: {gathered:?}", folder.display());
        }
        // Others wait for nothing in it.
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
