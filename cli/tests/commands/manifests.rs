//! `landbridge manifests`: is what it prints what is kept in `deploy/manifests`, and what does it say where it cannot?

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::{err, landbridge, out};

const PARIS: [&str; 7] = [
    "manifests",
    "--cluster=paris",
    "--cluster-set=prod",
    "--image=registry.example/landbridge:0.1.0",
    "--dns-address=10.96.0.11",
    "--region=eu-west",
    "--no-crds",
];

/// Examples, and what they are made with beside what all have.
const EXAMPLES: [(&str, &[&str]); 3] = [
    ("hostport", &["--expose=hostport", "--advertise=192.0.2.11", "--advertise=192.0.2.12"]),
    ("loadbalancer", &["--expose=loadbalancer", "--advertise=198.51.100.7", "--hub=london"]),
    ("nodeport", &["--expose=nodeport", "--advertise=192.0.2.11", "--network=europe"]),
];

/// Whoever changes the objects sees in the difference what people will apply.
#[test]
fn examples_are_what_is_printed() {
    for (name, more) in EXAMPLES {
        let arguments = [&PARIS[..], more].concat();
        let printed = out(&landbridge(&arguments));
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/manifests/{name}.yaml"));
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            printed == kept,
            "deploy/manifests/{name}.yaml is not what is printed: cargo run -- {} >deploy/manifests/{name}.yaml",
            arguments.join(" ")
        );
    }
}

#[test]
fn objects_are_yaml_documents_or_one_list() {
    let arguments: Vec<&str> = PARIS[..6].to_vec();
    let yaml = out(&landbridge(&arguments));
    let documents: Vec<Value> = serde_norway::Deserializer::from_str(&yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect();
    let list = out(&landbridge(&[&arguments[..], &["-o", "json"]].concat()));
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["items"], Value::from(documents.clone()));
    let definitions = documents.iter().filter(|one| one["kind"] == "CustomResourceDefinition");
    assert_eq!(definitions.count(), 9);
}

/// Who only dials is told so: it is right behind a NAT, and a mistake elsewhere.
#[test]
fn where_no_address_is_advertised_it_is_said_beside_the_objects() {
    let answer = landbridge(&PARIS);
    assert!(err(&answer).contains("so that paris only dials"), "{}", err(&answer));
    let answer = landbridge(&[&PARIS[..], &["--expose=192.0.2.7"]].concat());
    assert_eq!(err(&answer), "");
}

#[test]
fn what_is_wrong_is_told_with_what_would_be_right() {
    for (arguments, culprits) in [
        (
            &["manifests"][..],
            &["--cluster <ID>", "--cluster-set <NAME>", "--image <IMAGE>", "--dns-address <IP>"][..],
        ),
        (&["--cluster=Paris"], &["'Paris' for '--cluster <ID>'", "use lower-case"]),
        (
            &["--expose=cloud"],
            &["'cloud' for '--expose <WAY>'", "none of loadbalancer, nodeport and hostport"],
        ),
        (
            &["--advertise=gw.example.org"],
            &["'--advertise <IP[:PORT]>'", "names are not looked up"],
        ),
        (
            &["--dns-address=10.96.0.12"],
            &["--dns-address is given 2 times", "leave out the others"],
        ),
        (&["--image=a b"], &["--image \"a b\" is no image", "registry.example/landbridge:"]),
    ] {
        let all: Vec<&str> = if arguments[0] == "manifests" {
            arguments.to_vec()
        } else {
            // What is given twice counts once: leave out the right one.
            let flag = arguments[0].split('=').next().unwrap();
            let repeated = flag == "--dns-address";
            let kept = PARIS.iter().filter(|one| repeated || one.split('=').next() != Some(flag));
            kept.copied().chain(arguments.iter().copied()).collect()
        };
        let answer = landbridge(&all);
        assert_eq!(answer.status.code(), Some(2), "{all:?}");
        for culprit in culprits {
            assert!(err(&answer).contains(culprit), "{culprit} is not in {}", err(&answer));
        }
    }
}
