//! Imports and slices of another implementation of the Multi-Cluster Services API: its own addresses, no derived Service,
//! and no controller of ours anywhere.

use std::net::{Ipv4Addr, SocketAddr};

use kube::api::{Patch, PatchParams};
use landbridge_dns::{Config, DnsServer, Handle};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    members::{Cluster, SLICES, api, becomes},
    older,
};

/// What the other one writes: an address of the whole set for one service, endpoints for another.
fn objects(version: &str) -> [Value; 3] {
    let import = |name: &str, spec: Value| {
        json!({"apiVersion": version, "kind": "ServiceImport",
            "metadata": {"namespace": "shop", "name": name, "labels": {"app.kubernetes.io/managed-by": "another"}},
            "spec": spec})
    };
    let port = |name: &str, number: u16| json!([{"name": name, "protocol": "TCP", "port": number}]);
    let pod = |address: &str, hostname: Value, ready: bool| json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": ready}});
    [
        import(
            "web",
            json!({"type": "ClusterSetIP", "ips": ["243.0.0.7"], "ports": port("http", 80)}),
        ),
        import("db", json!({"type": "Headless", "ports": port("pg", 5432)})),
        json!({"apiVersion": SLICES, "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": "db-tokyo", "labels": {
                "multicluster.kubernetes.io/service-name": "db",
                "multicluster.kubernetes.io/source-cluster": "tokyo",
                "endpointslice.kubernetes.io/managed-by": "another.example.org",
            }},
            "ports": port("pg", 5432),
            "endpoints": [pod("10.1.0.1", json!("db-0"), true), pod("10.1.0.2", Value::Null, true),
                pod("10.1.0.3", json!("db-2"), false)]}),
    ]
}

/// The records of a name below the namespace; null where it does not exist.
fn records(handle: &Handle, name: &str) -> Value {
    handle.snapshot()["names"][format!("{name}.shop.svc.clusterset.local.")].clone()
}

/// Design, "The picture": "dns serves other MCS controllers' imports too". What they have in common is the API's: the
/// import, its `spec.ips`, and the labels of its slices.
async fn are_answered(cluster: &Cluster, version: &str) {
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
        .await;
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "landbridge-system"}}))
        .await;
    cluster.apply("dns.yaml", "").await;
    for object in objects(version) {
        cluster.create(object).await;
    }
    let client = cluster.client_of("landbridge-system", "landbridge-dns").await;
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let config = Config { listen, ..Config::default() };
    let dns = DnsServer::bind(config, client, &mut Registry::default()).await.unwrap();
    let (handle, stop) = (dns.handle(), CancellationToken::new());
    let dns = tokio::spawn(dns.run(stop.clone()));
    becomes("it is ready", async || handle.is_ready().then_some(())).await;

    assert_eq!(records(&handle, "web")["A"], json!(["243.0.0.7"]));
    assert_eq!(records(&handle, "_http._tcp.web")["SRV"].as_array().unwrap().len(), 1);
    assert_eq!(records(&handle, "db")["A"], json!(["10.1.0.1", "10.1.0.2"]));
    assert_eq!(records(&handle, "db-0.tokyo.db")["A"], json!(["10.1.0.1"]));
    assert_eq!(records(&handle, "10-1-0-2.tokyo.db")["A"], json!(["10.1.0.2"]));
    for none in ["db-2.tokyo.db", "tokyo.db", "tokyo.web"] {
        assert_eq!(records(&handle, none), Value::Null, "{none}");
    }

    let imports = api(&cluster.admin, version, "ServiceImport", "shop");
    let patch = Patch::Merge(json!({"spec": {"ips": ["243.0.0.8"]}}));
    imports.patch("web", &PatchParams::default(), &patch).await.unwrap();
    becomes("the new address is answered", async || {
        (records(&handle, "web")["A"] == json!(["243.0.0.8"])).then_some(())
    })
    .await;
    imports.delete("web", &Default::default()).await.unwrap();
    becomes("the name is gone", async || records(&handle, "web").is_null().then_some(())).await;
    stop.cancel();
    dns.await.unwrap().unwrap();
    let forbidden = cluster.server.forbidden();
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_of_another_implementation_are_answered() {
    are_answered(&Cluster::start("others").await, "multicluster.x-k8s.io/v1beta1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_of_another_implementation_are_answered_where_only_v1alpha1_is_served() {
    are_answered(&Cluster::start_with("others-older", older::old()).await, older::OLD).await;
}
