//! `landbridge crds`: can what it prints be read and applied?

use serde::Deserialize;
use serde_json::Value;

use crate::{err, landbridge, out};

const KINDS: [&str; 9] = [
    "AccessPolicy",
    "ClusterExport",
    "ClusterProfile",
    "ClusterProperty",
    "Member",
    "Peer",
    "ServiceExport",
    "ServiceImport",
    "TrafficPolicy",
];

fn kinds<'a>(definitions: impl IntoIterator<Item = &'a Value>) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = definitions
        .into_iter()
        .map(|definition| {
            assert_eq!(definition["kind"], "CustomResourceDefinition");
            assert_eq!(definition["apiVersion"], "apiextensions.k8s.io/v1");
            definition["spec"]["names"]["kind"].as_str().unwrap()
        })
        .collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn crds_are_yaml_documents_or_one_list() {
    let yaml = out(&landbridge(&["crds"]));
    let documents: Vec<Value> = serde_norway::Deserializer::from_str(&yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .collect();
    assert_eq!(kinds(&documents), KINDS);
    let list: Value = serde_json::from_str(&out(&landbridge(&["crds", "-o", "json"]))).unwrap();
    assert_eq!(list["kind"], "List");
    assert_eq!(kinds(list["items"].as_array().unwrap()), KINDS);
}

/// `kubectl apply -f FOLDER` takes a folder of files, one for each definition.
#[test]
fn crds_are_written_as_files_named_by_the_definition() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("deploy/crds");
    out(&landbridge(&["crds", "--directory", made.to_str().unwrap()]));
    let mut written: Vec<Value> = Vec::new();
    for entry in std::fs::read_dir(&made).unwrap() {
        let path = entry.unwrap().path();
        let definition: Value =
            serde_norway::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(name.strip_suffix(".yaml"), definition["metadata"]["name"].as_str());
        written.push(definition);
    }
    assert_eq!(kinds(&written), KINDS);
}

/// `kubectl get crds -o json | landbridge crds --installed - | kubectl apply -f -` takes no newer definition away.
#[test]
fn crds_that_are_newer_in_the_cluster_are_left_out_and_named() {
    let list: Value = serde_json::from_str(&out(&landbridge(&["crds", "-o", "json"]))).unwrap();
    let mut installed = list.clone();
    let items = installed["items"].as_array_mut().unwrap();
    let mut newer = |kind: &str, label: &str, value: &str| {
        let mut items = items.iter_mut();
        let crd = items.find(|crd| crd["spec"]["names"]["kind"] == kind).unwrap();
        crd["metadata"]["labels"][label] = Value::from(value);
        // As an API server adds it.
        crd["status"] = serde_json::json!({"storedVersions": ["v1beta1"]});
    };
    newer("ServiceExport", "multicluster.x-k8s.io/release-version", "v0.6.0");
    newer("ServiceImport", "multicluster.x-k8s.io/crd-schema-revision", "7");
    newer("Peer", "app.kubernetes.io/version", "0.0.1");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("installed.json");
    std::fs::write(&file, installed.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let answer = landbridge(&["crds", "-o", "json", "--installed", file]);
    let applied: Value = serde_json::from_str(&out(&answer)).unwrap();
    let wanted = KINDS.iter().filter(|kind| !matches!(**kind, "ServiceExport" | "ServiceImport"));
    let wanted: Vec<&str> = wanted.copied().collect();
    assert_eq!(kinds(applied["items"].as_array().unwrap()), wanted);
    let told = err(&answer);
    let sentence = "serviceexports.multicluster.x-k8s.io is newer: release v0.6.0, schema revision 0: it is left as it is";
    assert!(told.contains(sentence), "{told}");
    assert!(told.contains("release v0.5.2, schema revision 7"), "{told}");

    std::fs::write(file, "no resources found").unwrap();
    let answer = landbridge(&["crds", "--installed", file]);
    assert_eq!(answer.status.code(), Some(2));
    assert!(err(&answer).contains("is not what `kubectl get crds -o json` prints"));
}
