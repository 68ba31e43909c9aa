//! A headless service over two networks: what berlin's API holds is read back as gateways and the DNS server read it.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::convert;
use serde_json::{Value, json};

use crate::controller::{EXPORT, IMPORT, SERVICE, SLICE, Set, create, find, gateway};

/// Names that worked example B gives: `shop/db/paris/db-0` and `shop/db/paris/db-1`.
const SERVICES: [(&str, &str); 2] =
    [("shop", "derived-endjhegtnc"), ("shop", "derived-iip7hlvkla")];
const MCS: (&str, &str) = ("shop", "db-paris-v4");
const GATEWAYS: (&str, &str) = ("shop", "derived-endjhegtnc-gw-v4");

fn endpoints(first: &str) -> Value {
    json!([
        {"addresses": [first], "hostname": "db-0", "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "uid": first}},
        {"addresses": ["10.244.0.8"], "hostname": "db-1", "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "uid": "u1"}},
    ])
}

fn export(set: &Set) {
    create(
        set.paris(),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "db"},
            "spec": {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"name": "pg", "port": 5432, "targetPort": 6432}]},
        }),
    );
    create(
        set.paris(),
        json!({
            "apiVersion": SLICE.0, "kind": SLICE.1,
            "metadata": {"namespace": "shop", "name": "db-x7k2p", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "pg", "protocol": "TCP", "port": 6432}],
            "endpoints": endpoints("10.244.0.7"),
        }),
    );
    create(
        set.paris(),
        json!({"apiVersion": EXPORT.0, "kind": EXPORT.1, "metadata": {"namespace": "shop", "name": "db"}}),
    );
}

fn slice(object: Value) -> EndpointSlice {
    serde_json::from_value(object).unwrap()
}

/// Worked example B: "stream header for 10010: {service: shop/db, endpoint: db-0, port: 6432, …}"; "db-0 restarts …:
/// same hostname, so same Service, ClusterIPs, 10010 and name; only the hub slice changes".
#[tokio::test]
async fn an_endpoint_of_another_network_has_an_address_and_keeps_it() {
    let set = Set::start().await;
    gateway(set.berlin(), "g1", 2).await;
    export(&set);
    set.becomes("berlin has the import", || find(set.berlin(), IMPORT, ("shop", "db"))).await;
    let services = SERVICES.map(|name| find(set.berlin(), SERVICE, name).unwrap());
    let ips = services.each_ref().map(|service| service["spec"]["clusterIP"].clone());
    let import = find(set.berlin(), IMPORT, ("shop", "db")).unwrap();
    assert_eq!(import["spec"]["type"], "Headless");
    assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4"]));
    assert!(import["spec"].get("ips").is_none());

    let read = convert::mcs_slice(&slice(find(set.berlin(), SLICE, MCS).unwrap()));
    let read = read.unwrap().unwrap();
    let told: Vec<Value> = read.endpoints.iter().map(|at| json!(at.address)).collect();
    assert_eq!(told, ips);
    let names: Vec<_> = read
        .endpoints
        .iter()
        .map(|at| (at.hostname.as_ref().unwrap().as_str(), at.ready))
        .collect();
    assert_eq!(names, [("db-0", true), ("db-1", false)]);
    assert_eq!(read.ports[0].key.number.get(), 6432);

    let allotted = slice(find(set.berlin(), SLICE, GATEWAYS).unwrap());
    let allotted = convert::allotment(&allotted).unwrap().unwrap();
    let (number, target) = allotted.targets.first_key_value().unwrap();
    let endpoint = target.endpoint.as_ref().unwrap();
    assert_eq!((endpoint.cluster.as_str(), endpoint.hostname.as_str()), ("paris", "db-0"));
    assert_eq!((target.service.to_string().as_str(), target.port.number.get()), ("shop/db", 6432));

    let store = set.paris().cluster.store();
    let mut pods = find(set.paris(), SLICE, ("shop", "db-x7k2p")).unwrap();
    pods["endpoints"] = endpoints("10.244.0.31");
    store.update(pods).unwrap();
    set.becomes("the hub has the new pod", || {
        let slice = find(set.hub(), SLICE, ("cluster-paris", "shop.db-v4"))?;
        slice.to_string().contains("10.244.0.31").then_some(())
    })
    .await;
    let again = SERVICES.map(|name| find(set.berlin(), SERVICE, name).unwrap());
    assert_eq!(again.each_ref().map(|service| service["spec"]["clusterIP"].clone()), ips);
    let after = slice(find(set.berlin(), SLICE, GATEWAYS).unwrap());
    let after = convert::allotment(&after).unwrap().unwrap();
    assert_eq!(after.targets.first_key_value().unwrap().0, number);

    store.delete(EXPORT, ("shop", "db")).unwrap();
    set.becomes("everything is gone", || {
        let gone = |kind, name| find(set.berlin(), kind, name).is_none();
        let services = SERVICES.iter().all(|name| gone(SERVICE, *name));
        let hub = find(set.hub(), SLICE, ("cluster-paris", "shop.db-v4")).is_none();
        (services
            && hub
            && gone(IMPORT, ("shop", "db"))
            && gone(SLICE, MCS)
            && gone(SLICE, GATEWAYS))
        .then_some(())
    })
    .await;
    set.stop().await;
}
