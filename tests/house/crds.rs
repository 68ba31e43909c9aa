//! The definitions in `deploy/crds` are what the Rust types say.
//!
//! People apply those files, and read them in reviews: a kind that changes shows there what it changes for a cluster.

use std::collections::BTreeMap;

use landbridge_api::crds;
use serde_json::Value;

use crate::workspace::{Finding, files, none, read};

const FOLDER: &str = "deploy/crds/";
const REMEDY: &str = "run `cargo run --bin landbridge -- crds --directory deploy/crds`";

/// What differs between the files, by name, and the definitions that they are made from.
fn check(files: &BTreeMap<String, Value>, definitions: &BTreeMap<String, Value>) -> Vec<Finding> {
    let finding = |name: &str, says: &str| {
        let path = format!("{FOLDER}{name}.yaml");
        Finding::new(&path, 1, format!("{says}: {REMEDY}"))
    };
    let missing = definitions
        .keys()
        .filter(|name| !files.contains_key(*name))
        .map(|name| finding(name, "is missing"));
    let wrong = files.iter().filter_map(|(name, file)| match definitions.get(name) {
        None => Some(finding(name, "no such kind is defined, remove it")),
        Some(definition) if definition != file => Some(finding(name, "is out of date")),
        Some(_) => None,
    });
    missing.chain(wrong).collect()
}

#[test]
fn the_definitions_to_apply_are_up_to_date() {
    let kept = files()
        .iter()
        .filter_map(|path| {
            let name = path.strip_prefix(FOLDER)?.strip_suffix(".yaml")?;
            Some((name.to_owned(), serde_norway::from_str(&read(path)).unwrap()))
        })
        .collect();
    let definitions = crds::all()
        .iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().unwrap();
            (name, serde_json::to_value(crd).unwrap())
        })
        .collect();
    none("definitions differ", check(&kept, &definitions));
}

#[test]
fn files_that_are_missing_old_or_left_over_are_found() {
    let [old, new] = [1, 2].map(Value::from);
    let files = [("left", &old), ("old", &old), ("same", &new)];
    let definitions = [("missing", &new), ("old", &new), ("same", &new)];
    let [files, definitions] =
        [files, definitions].map(|all| all.map(|(name, value)| (name.to_owned(), value.clone())));
    let found = check(&files.into(), &definitions.into());
    let paths: Vec<&str> = found.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(
        paths,
        ["deploy/crds/missing.yaml", "deploy/crds/left.yaml", "deploy/crds/old.yaml"]
    );
}
