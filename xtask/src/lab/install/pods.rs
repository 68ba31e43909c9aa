//! Landbridge in pods: from what `landbridge manifests` prints, with an image of the program, as anybody would run it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    super::{Cluster, Lab, host, images, up::replace},
    PROGRAM, objects, pki,
};
use crate::image::Image;

/// A free one in every lab's range of Services.
pub(crate) const DNS_SERVICE: &str = "10.96.0.53";
const DEPLOYMENTS: [&str; 3] = ["landbridge-controller", "landbridge-dns", "landbridge-gateway"];
/// Pods wait for each other's images on two busy cores.
const ROLLED_OUT: &str = "--timeout=180s";

/// Gives every node the image of a build; its name, by which nobody takes it for another.
pub(crate) fn image(lab: &Lab, build: &str) -> Result<String> {
    let name = format!("landbridge.dev/lab/landbridge:{build}");
    let archive = lab.plan.places.folder.join("images").join(format!("{PROGRAM}-{build}.tar"));
    if !archive.exists() {
        let image = Image::landbridge(&name, &lab.plan.places.bin().join(PROGRAM))?;
        let half = archive.with_extension("half");
        fs::write(&half, image.archive()?)?;
        fs::rename(half, &archive)?;
    }
    for cluster in lab.clusters() {
        let imported = cluster.plan.folder.join(format!("imported-{build}"));
        if !imported.exists() {
            images::import(&cluster.room()?, &archive)?;
            replace(&imported, "")?;
        }
    }
    Ok(name)
}

/// Where the objects of a cluster are kept, for when they are to go.
fn file(cluster: Cluster<'_>) -> PathBuf {
    cluster.plan.folder.join("landbridge.yaml")
}

/// What `landbridge manifests` prints for a cluster.
fn manifests(lab: &Lab, cluster: Cluster<'_>, image: &str) -> Result<String> {
    let program = lab.plan.places.bin().join(PROGRAM);
    let flags = [
        ("cluster", cluster.name().to_owned()),
        ("cluster-set", objects::SET.into()),
        ("image", image.into()),
        ("network", objects::network(&lab.plan, cluster.plan)),
        // Two gateways on one node cannot have one port of it.
        ("expose", "nodeport".into()),
        ("advertise", cluster.plan.v4.node.to_string()),
        ("dns-address", DNS_SERVICE.into()),
    ];
    let mut command = Command::new(program);
    command.arg("manifests").arg("--no-crds");
    host::run(command.args(flags.map(|(flag, value)| format!("--{flag}={value}"))))
}

/// Applies everything, and changes what runs to a newer image.
pub(crate) fn apply(lab: &Lab, image: &str) -> Result<()> {
    for cluster in lab.clusters() {
        let objects = manifests(lab, cluster, image)?;
        replace(&file(cluster), &objects)?;
        cluster.apply(&objects)?;
        cluster.apply(&secrets(lab, cluster)?)?;
    }
    Ok(())
}

/// The two Secrets that are somebody else's to make.
fn secrets(lab: &Lab, cluster: Cluster<'_>) -> Result<String> {
    let read =
        |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let member = pki(&lab.plan.places).join(cluster.name());
    let mut authority = serde_json::Map::new();
    for name in ["member.pem", "member-key.pem", "root.pem"] {
        authority.insert(name.into(), read(member.join(name))?.into());
    }
    let hub = read(objects::HUB_USER.kubeconfig(cluster.plan))?;
    let secret = |name: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "Secret", "stringData": data,
            "metadata": {"namespace": objects::SYSTEM, "name": name}})
    };
    let all = [
        secret("landbridge-member", Value::Object(authority)),
        secret("landbridge-hub", json!({"kubeconfig": hub})),
    ];
    Ok(all.map(|secret| secret.to_string()).join("\n---\n"))
}

/// Waits until every pod is ready.
pub(crate) fn ready(lab: &Lab) -> Result<()> {
    for cluster in lab.clusters() {
        for deployment in DEPLOYMENTS {
            let name = format!("deployment/{deployment}");
            let wait = ["rollout", "status", &name, "--namespace", objects::SYSTEM, ROLLED_OUT];
            if let Err(error) = cluster.kubectl(&wait) {
                let pods = ["describe", "pods", "--namespace", objects::SYSTEM];
                return Err(error.context(cluster.kubectl(&pods)?));
            }
        }
    }
    Ok(())
}

/// Where the cluster's DNS finds the component.
pub(crate) fn servers() -> Vec<String> {
    vec![DNS_SERVICE.into()]
}

/// Takes the objects away.
pub(crate) fn delete(cluster: Cluster<'_>) -> Result<()> {
    let file = file(cluster);
    if let Ok(objects) = fs::read_to_string(&file) {
        cluster.delete(&objects)?;
        fs::remove_file(&file)?;
    }
    Ok(())
}

/// Where `/debug/snapshot` of each pod is asked for, by the pod's name.
pub(crate) fn snapshots(cluster: Cluster<'_>) -> Result<Vec<(String, String)>> {
    let get = ["get", "pods", "--namespace", objects::SYSTEM, "--output=json"];
    let pods: Value = serde_json::from_str(&cluster.kubectl(&get)?)?;
    let of = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str()?;
        let address = pod["status"]["podIP"].as_str()?;
        let port = &pod["spec"]["containers"][0]["ports"][0]["containerPort"];
        Some((name.to_owned(), format!("http://{address}:{port}/debug/snapshot")))
    };
    Ok(pods["items"].as_array().into_iter().flatten().filter_map(of).collect())
}
