//! The objects of `deploy/manifests` on a real API server: each is taken, field by field, and the pods of each Deployment
//! are let into the namespace.

use std::{fs, path::Path};

use kube::api::{Api, DynamicObject, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::members::{Cluster, api};

const SYSTEM: &str = "landbridge-system";

fn documents(example: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests");
    let text = fs::read_to_string(folder.join(format!("{example}.yaml"))).unwrap();
    let all = serde_norway::Deserializer::from_str(&text);
    let all = all.map(|document| Value::deserialize(document).unwrap());
    // What stands above the first one is a remark.
    all.filter(|document| !document.is_null()).collect()
}

fn of(cluster: &Cluster, object: &Value) -> Api<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&object["metadata"]["namespace"]);
    api(&cluster.admin, &text(&object["apiVersion"]), &text(&object["kind"]), &namespace)
}

/// Creates an object; a field that the API server does not know is refused.
async fn create(cluster: &Cluster, object: &Value) -> DynamicObject {
    let params = PostParams { field_manager: Some("test".into()), ..PostParams::default() };
    let typed = serde_json::from_value(object.clone()).unwrap();
    let made = of(cluster, object).create(&params, &typed).await;
    made.unwrap_or_else(|error| panic!("{} {}: {error}", object["kind"], object["metadata"]))
}

/// What a real API server stored of it has every field that was sent: one that it does not know it would have dropped.
fn assert_kept(sent: &Value, stored: &Value, at: &str) {
    match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => {
            for (key, value) in sent {
                let at = format!("{at}.{key}");
                let kept = stored.get(key).unwrap_or_else(|| panic!("{at} was dropped"));
                assert_kept(value, kept, &at);
            }
        }
        (Value::Array(sent), Value::Array(stored)) => {
            assert!(sent.len() <= stored.len(), "{at}");
            for (number, (sent, stored)) in sent.iter().zip(stored).enumerate() {
                assert_kept(sent, stored, &format!("{at}[{number}]"));
            }
        }
        _ => assert_eq!(sent, stored, "{at}"),
    }
}

async fn take(name: &'static str, example: &str) {
    let cluster = Cluster::start(name).await;
    let mut pods = Vec::new();
    for object in documents(example) {
        let stored = serde_json::to_value(create(&cluster, &object).await).unwrap();
        assert_kept(&object, &stored, object["kind"].as_str().unwrap());
        if object["kind"] == "Deployment" {
            pods.push(object);
        }
    }
    assert_eq!(pods.len(), 3);
    for deployment in pods {
        let name = &deployment["metadata"]["name"];
        let template = &deployment["spec"]["template"];
        // Nobody else makes them here: no controller manager runs.
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
            "metadata": {"namespace": SYSTEM, "name": name, "labels": template["metadata"]["labels"]}});
        create(&cluster, &pod).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_takes_every_object_and_lets_the_pods_in() {
    take("manifests", "loadbalancer").await;
}

/// Ports of nodes are nothing that a namespace of restricted pods takes: ours is not one then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_with_ports_of_their_node_are_let_in_as_well() {
    take("hostport", "hostport").await;
}
