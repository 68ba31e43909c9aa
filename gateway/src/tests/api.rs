//! A whole gateway before a Kubernetes API that answers from a table: what it reads, what it writes, how it ends.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use kube::{Client, client::Body};
use landbridge_api::wellknown::{GATEWAYS, IMPORT, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY};
use landbridge_model::{Hostname, Namespace, Protocol, derived};
use prometheus_client::{encoding::text, registry::Registry};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::world::{World, fresh_ip, id, until, web};
use crate::{Config, Gateway, Register, StartError};

/// Objects by path, and every write in order.
#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
}

type Api = Arc<Mutex<Table>>;

fn client(api: &Api) -> Client {
    let api = Arc::clone(api);
    let service = tower::service_fn(move |request: Request<Body>| {
        let api = Arc::clone(&api);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let watch = parts.uri.query().is_some_and(|query| query.contains("watch=true"));
            if watch {
                // Nothing changes by itself here.
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(answer(&api, &parts.method, parts.uri.path(), &body))
        }
    });
    Client::new(service, "default")
}

fn answer(api: &Api, method: &Method, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let mut table = api.lock().unwrap();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let found = table.objects.get(path).cloned();
    let status = |code: StatusCode| {
        (code, json!({"kind": "Status", "code": code.as_u16(), "message": "", "reason": ""}))
    };
    let (code, answer) = match *method {
        Method::GET => match found {
            Some(object) => (StatusCode::OK, object),
            None if path.rsplit('/').next().is_some_and(|last| last.ends_with('s')) => {
                (StatusCode::OK, list(&table, path))
            }
            None => status(StatusCode::NOT_FOUND),
        },
        Method::POST => {
            let at = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
            table.writes.push(format!("create {at}"));
            table.objects.insert(at, body.clone());
            (StatusCode::CREATED, body)
        }
        Method::PATCH => {
            let at = path.trim_end_matches("/status").to_owned();
            match table.objects.contains_key(&at) {
                true => {
                    table.writes.push(format!("patch {path} {body}"));
                    (StatusCode::OK, table.objects[&at].clone())
                }
                false => status(StatusCode::NOT_FOUND),
            }
        }
        _ => {
            table.writes.push(format!("delete {path}"));
            table.objects.remove(path);
            status(StatusCode::OK)
        }
    };
    let body = Full::new(Bytes::from(answer.to_string()));
    Response::builder().status(code).body(body).unwrap()
}

/// All objects of the kind that a path such as `/api/v1/services` names, of every namespace.
fn list(table: &Table, path: &str) -> Value {
    let (prefix, plural) = path.rsplit_once('/').unwrap();
    let items = table.objects.iter().filter(|(at, _)| {
        let parts: Vec<&str> = at.rsplit('/').collect();
        at.starts_with(prefix) && parts[1] == plural
    });
    let items: Vec<&Value> = items.map(|(_, object)| object).collect();
    json!({"metadata": {"resourceVersion": "1"}, "items": items})
}

fn put(api: &Api, path: &str, object: Value) {
    api.lock().unwrap().objects.insert(path.to_owned(), object);
}

/// What a member's API holds when berlin imports `shop/web` from paris.
fn objects(api: &Api, paris: SocketAddr) {
    let derived = derived::service(&web()).to_string();
    let slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
    let allotment = json!({
        "metadata": {"namespace": "shop", "name": "gw",
            "labels": {KUBE_SERVICE_NAME: derived, MANAGED_BY: LANDBRIDGE},
            "annotations": {IMPORT: "web", GATEWAYS: "true"}},
        "addressType": "IPv4", "endpoints": [],
        "ports": [{"name": "tcp-80", "protocol": "TCP", "port": 10_000}],
    });
    put(api, &format!("{slices}/gw"), allotment);
    put(
        api,
        &format!("{slices}/malformed"),
        json!({"metadata": {"namespace": "shop", "name": "malformed"}, "endpoints": 7}),
    );
    let peer = json!({
        "apiVersion": "landbridge.dev/v1alpha1", "kind": "Peer",
        "metadata": {"name": "paris"},
        "spec": {"generation": 1, "network": "a", "gateways": [{"address": paris.to_string()}]},
    });
    put(api, "/apis/landbridge.dev/v1alpha1/peers/paris", peer);
}

fn config(world: &World) -> Config {
    let listen = fresh_ip();
    Config {
        cluster: id("berlin"),
        set: world.root.set().clone(),
        name: Hostname::parse("gw-0").unwrap(),
        system_namespace: Namespace::parse("landbridge-system").unwrap(),
        listen: vec![listen],
        link: SocketAddr::new(listen, 0),
        identity: world.identity(&world.leaf("berlin", 1)),
        register: Some(Register { admin_port: 9090 }),
        operation: crate::Operation::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_reads_listens_registers_tells_and_takes_it_all_back() {
    let world = World::new();
    let paris = world.site("paris");
    paris.knows("berlin", &[]);
    let api = Api::default();
    objects(&api, paris.link_address());
    let mut registry = Registry::with_prefix("landbridge");
    let gateway = Gateway::bind(config(&world), client(&api), &mut registry).await.unwrap();
    let handle = gateway.handle();
    assert!(!handle.is_ready());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(gateway.run(shutdown.clone()));
    until("ready", || handle.is_ready()).await;
    assert_eq!(handle.listening(), [(Protocol::Tcp, 10_000)]);
    let wrote = |what: &str| api.lock().unwrap().writes.iter().any(|write| write.contains(what));
    let lease =
        "/apis/coordination.k8s.io/v1/namespaces/landbridge-system/leases/landbridge-gateway-gw-0";
    let slice = "/apis/discovery.k8s.io/v1/namespaces/landbridge-system/endpointslices/landbridge-gateway-gw-0";
    until("registered", || wrote(&format!("create {lease}")) && wrote(&format!("create {slice}")))
        .await;
    let ports = api.lock().unwrap().objects[slice]["ports"].clone();
    let link = handle.link_address().port();
    assert_eq!(ports[0], json!({"name": "link", "port": link, "protocol": "UDP"}));
    assert_eq!(ports[1], json!({"name": "admin", "port": 9090, "protocol": "TCP"}));
    until("told", || wrote(r#""reason":"Connected""#) && wrote(r#""gw-0":{"#)).await;
    let snapshot = handle.snapshot();
    assert_eq!(snapshot["routes"][0]["service"], "shop/web");
    assert_eq!(snapshot["peers"]["paris"]["links"][0]["state"], "healthy");
    assert_eq!(snapshot["problems"].as_array().unwrap().len(), 1, "the malformed slice is told");
    let mut metrics = String::new();
    text::encode(&mut metrics, &registry).unwrap();
    assert!(metrics.contains("landbridge_gateway_listeners 1"), "{metrics}");
    shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(15), running).await;
    ended.unwrap().unwrap().unwrap();
    assert!(wrote(&format!("delete {lease}")) && wrote(&format!("delete {slice}")));
    assert!(wrote(r#"{"status":{"links":{"gw-0":null}}}"#));
}

#[tokio::test]
async fn a_certificate_of_another_replica_is_told_before_anything_is_bound() {
    let world = World::new();
    let other = Config { name: Hostname::parse("gw-1").unwrap(), ..config(&world) };
    let error = Gateway::bind(other, client(&Api::default()), &mut Registry::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, StartError::Identity { .. }));
    assert!(error.to_string().contains("this gateway is gw-1 of berlin in demo"), "{error}");
}
