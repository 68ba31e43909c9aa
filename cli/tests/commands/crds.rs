//! `landbridge crds`: can what it prints be read and applied?

use serde::Deserialize;
use serde_json::Value;

use crate::{landbridge, out};

const KINDS: [&str; 7] = [
    "ClusterExport",
    "ClusterProfile",
    "ClusterProperty",
    "Member",
    "Peer",
    "ServiceExport",
    "ServiceImport",
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
