//! What a lab looks like, in one folder: for whoever has to understand a case that failed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context as _, Result};

use super::{Cluster, Lab, install};

/// What is asked on each node: the file for the answer, and the command.
const ASKED: &[(&str, &[&str])] = &[
    ("addresses", &["ip", "address"]),
    (
        "configmaps.yaml",
        &["kubectl", "get", "configmaps", "--namespace=kube-system", "--output=yaml"],
    ),
    ("connections", &["conntrack", "-L"]),
    ("containers", &["ctr", "--namespace=k8s.io", "containers", "list"]),
    (
        "endpointslices.yaml",
        &["kubectl", "get", "endpointslices", "--all-namespaces", "--output=yaml"],
    ),
    ("events", &["kubectl", "get", "events", "--all-namespaces", "--output=wide"]),
    (
        "landbridge-pods.log",
        &[
            "kubectl",
            "logs",
            "--namespace=landbridge-system",
            "--selector=app.kubernetes.io/name=landbridge",
            "--prefix",
            "--tail=-1",
            "--max-log-requests=20",
        ],
    ),
    (
        "landbridge-pods",
        &["kubectl", "describe", "pods,deployments", "--namespace=landbridge-system"],
    ),
    ("listeners", &["ss", "--listening", "--numeric", "--processes", "--tcp", "--udp"]),
    (
        "imports-and-exports.yaml",
        &["kubectl", "get", "serviceexports,serviceimports", "--all-namespaces", "--output=yaml"],
    ),
    ("nodes.yaml", &["kubectl", "get", "nodes", "--output=yaml"]),
    ("packet-filter", &["nft", "list", "ruleset"]),
    ("peers.yaml", &["kubectl", "get", "peers", "--output=yaml"]),
    ("pods.yaml", &["kubectl", "get", "pods", "--all-namespaces", "--output=yaml"]),
    ("routes", &["ip", "route"]),
    ("routes-v6", &["ip", "-6", "route"]),
    // The hub's are in the first cluster.
    (
        "set.yaml",
        &["kubectl", "get", "clusterexports,members", "--all-namespaces", "--output=yaml"],
    ),
    ("services.yaml", &["kubectl", "get", "services", "--all-namespaces", "--output=yaml"]),
];
/// An API server that is away must not hold up the rest.
const SECONDS: &str = "10";

/// Writes everything into a folder for each cluster. What cannot be asked says why in its place.
pub(crate) fn gather(lab: &Lab, folder: &Path) -> Result<()> {
    for cluster in lab.clusters() {
        let folder = folder.join(cluster.name());
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for (file, command) in ASKED {
            fs::write(folder.join(file), ask(cluster, command))?;
        }
        for (name, url) in install::snapshots(lab, cluster) {
            let command = ["curl", "--silent", "--show-error", "--max-time", SECONDS, &url];
            fs::write(folder.join(format!("{name}.snapshot.json")), ask(cluster, &command))?;
        }
        // Also of one whose processes have ended.
        for log in logs(&cluster.plan.folder.join("logs"))? {
            if let Some(name) = log.file_name() {
                fs::copy(&log, folder.join(name))?;
            }
        }
    }
    fs::write(folder.join("processes"), lab.status()?.join("\n"))?;
    Ok(())
}

fn ask(cluster: Cluster<'_>, command: &[&str]) -> Vec<u8> {
    let command = ["timeout", SECONDS].iter().chain(command).map(ToString::to_string);
    let command: Vec<String> = command.collect();
    let answer = cluster.command(&command).and_then(|mut command| Ok(command.output()?));
    match answer {
        Ok(Output { stdout, stderr, .. }) => [stdout, stderr].concat(),
        Err(error) => format!("{error:#}\n").into(),
    }
}

fn logs(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}
