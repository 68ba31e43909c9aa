//! What objects add up to.

use landbridge_api::{
    watch::{Malformed, ObjectKey},
    wellknown::{
        ENDPOINT, GATEWAYS, IMPORT, KUBE_SERVICE_NAME, LANDBRIDGE, MANAGED_BY, SERVICE_NAME,
        SOURCE_CLUSTER,
    },
};
use landbridge_model::{AllottedPort, PortKey, Protocol, derived};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn slice(value: Value) -> Event {
    Event::Slice(Change::Apply(object(value)))
}

fn import(name: &str, created: &str, ports: &Value) -> Event {
    Event::Import(Change::Apply(object(json!({
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": created},
        "spec": {"type": "ClusterSetIP", "ips": ["10.96.7.7"], "ports": ports},
    }))))
}

/// A derived slice that names gateways: `[["tcp-80", 10000], …]`.
fn allotment(service: &str, suffix: &str, ports: &[(&str, u16)]) -> Event {
    let derived = derived::service(&ServiceKey::parse("shop", service).unwrap());
    slice(json!({
        "metadata": {
            "namespace": "shop", "name": format!("{derived}-{suffix}"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {KUBE_SERVICE_NAME: derived.as_str(), MANAGED_BY: LANDBRIDGE},
            "annotations": {IMPORT: service, GATEWAYS: "true"},
        },
        "addressType": "IPv4",
        "ports": ports.iter().map(|(name, port)| {
            let protocol = name.split('-').next().unwrap().to_uppercase();
            json!({"name": name, "protocol": protocol, "port": port})
        }).collect::<Vec<_>>(),
        "endpoints": [{"addresses": ["10.244.3.10"], "conditions": {"ready": true}}],
    }))
}

fn mcs(service: &str, cluster: &str, ports: &[(&str, u16)], ready: bool) -> Event {
    slice(json!({
        "metadata": {
            "namespace": "shop", "name": format!("{service}-{cluster}-v4"),
            "labels": {SERVICE_NAME: service, SOURCE_CLUSTER: cluster, MANAGED_BY: LANDBRIDGE},
        },
        "addressType": "IPv4",
        "ports": ports.iter().map(|(name, port)| json!({"name": name, "protocol": "TCP", "port": port}))
            .collect::<Vec<_>>(),
        "endpoints": [{"addresses": ["10.244.3.10"], "conditions": {"ready": ready}}],
    }))
}

fn pods(service: &str, endpoints: &Value) -> Event {
    slice(json!({
        "metadata": {"namespace": "shop", "name": format!("{service}-x1"),
            "labels": {KUBE_SERVICE_NAME: service, MANAGED_BY: "endpointslice-controller.k8s.io"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "grpc", "port": 9191}],
        "endpoints": endpoints,
    }))
}

fn service(name: &str) -> Event {
    Event::Service(Box::new(Change::Apply(object(json!({
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": "10.96.0.9", "ports": [
            {"name": "http", "port": 80, "targetPort": 8080}, {"name": "grpc", "port": 9090}]},
    })))))
}

fn export(name: &str) -> Event {
    Event::Export(Change::Apply(object(json!({
        "metadata": {"namespace": "shop", "name": name, "annotations": {PROXY_PROTOCOL: "v2"}},
    }))))
}

fn pod(name: &str, ip: &str) -> Event {
    Event::Pod(Change::Apply(object(json!({
        "metadata": {"namespace": "shop", "name": name},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    }))))
}

fn peer(name: &str, generation: i64) -> Event {
    Event::Peer(Change::Apply(object(json!({
        "metadata": {"name": name},
        "spec": {"generation": generation, "network": "a", "gateways": [{"address": "192.0.2.1:4433"}]},
    }))))
}

/// Worked example A, as berlin's API holds it.
fn example() -> Vec<Event> {
    let ports = json!([
        {"name": "http", "protocol": "TCP", "port": 80},
        {"name": "grpc", "protocol": "TCP", "port": 9090},
        {"name": "admin", "protocol": "TCP", "port": 9000},
    ]);
    vec![
        import("web", "2026-01-01T00:00:00Z", &ports),
        allotment("web", "gw-v4", &[("tcp-80", 10000), ("tcp-9090", 10001), ("tcp-9000", 10002)]),
        mcs("web", "paris", &[("http", 10000), ("grpc", 10001)], true),
        mcs("web", "tokyo", &[("grpc", 10001), ("admin", 10002)], true),
    ]
}

fn build(cluster: &str, events: Vec<Event>) -> Snapshot {
    let mut state = State::new(ClusterId::parse(cluster).unwrap());
    state.apply(Event::Access(Change::Listed));
    for event in events {
        state.apply(event);
    }
    state.snapshot().unwrap()
}

/// `TCP 10000 = shop/web 80/TCP at paris`, one line a port.
fn routes(snapshot: &Snapshot) -> Vec<String> {
    let routes = snapshot.routes.iter();
    routes
        .map(|((protocol, port), route)| {
            let clusters: Vec<&str> = route.clusters.iter().map(ClusterId::as_str).collect();
            let (service, target) = (&route.target.service, route.target.port);
            format!("{protocol} {port} = {service} {target} at {}", clusters.join(","))
        })
        .collect()
}

/// "10000 = (TCP, shop/web, 80) and so on"; "web-paris-v4: only what paris serves".
#[test]
fn a_port_means_a_service_port_and_goes_to_who_serves_it() {
    assert_eq!(
        routes(&build("berlin", example())),
        [
            "TCP 10000 = shop/web 80/TCP at paris",
            "TCP 10001 = shop/web 9090/TCP at paris,tokyo",
            "TCP 10002 = shop/web 9000/TCP at tokyo",
        ]
    );
}

/// In paris itself the allotment has other numbers, and own pods are no other cluster.
#[test]
fn the_own_cluster_is_never_a_destination_of_links() {
    let mut events = example();
    events.remove(1);
    events.push(allotment("web", "gw-v4", &[("tcp-9000", 10001)]));
    events.push(allotment("web", "standby-v4", &[("tcp-9090", 10000)]));
    assert_eq!(
        routes(&build("paris", events)),
        ["TCP 10000 = shop/web 9090/TCP at tokyo", "TCP 10001 = shop/web 9000/TCP at tokyo",]
    );
}

/// "derived Service, then slices, then a probe …, then the import": a call that comes before the import is read finds
/// its way by the allotted port.
#[test]
fn before_the_import_is_read_ports_are_known_by_number() {
    let mut events = example();
    events.remove(0);
    assert_eq!(routes(&build("berlin", events))[1], "TCP 10001 = shop/web 9090/TCP at paris,tokyo");
}

#[test]
fn a_cluster_without_ready_endpoints_is_no_destination() {
    let mut events = example();
    events.push(mcs("web", "paris", &[("http", 10000), ("grpc", 10001)], false));
    assert_eq!(routes(&build("berlin", events))[0], "TCP 10000 = shop/web 80/TCP at ");
}

/// Worked example B: "stream header for 10010: {service: shop/db, endpoint: db-0, port: 6432, …}".
#[test]
fn an_endpoint_of_a_headless_service_is_in_one_cluster() {
    let event = slice(json!({
        "metadata": {
            "namespace": "shop", "name": "derived-endjhegtnc-gw-v4",
            "labels": {KUBE_SERVICE_NAME: "derived-endjhegtnc", MANAGED_BY: LANDBRIDGE},
            "annotations": {IMPORT: "db", ENDPOINT: "paris/db-0", GATEWAYS: "true"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "tcp-6432", "protocol": "TCP", "port": 10010}],
        "endpoints": [],
    }));
    let snapshot = build("berlin", vec![event]);
    assert_eq!(routes(&snapshot), ["TCP 10010 = shop/db 6432/TCP at paris"]);
    let at = (Protocol::Tcp, AllottedPort::new(10010).unwrap());
    let endpoint = snapshot.routes[&at].target.endpoint.clone().unwrap();
    assert_eq!(endpoint.hostname.as_str(), "db-0");
}

/// Design, "Import": "of two that claim one port the older import keeps it", and the other is told.
#[test]
fn of_two_that_claim_one_port_the_older_import_keeps_it() {
    let ports = || json!([{"name": "http", "protocol": "TCP", "port": 80}]);
    let snapshot = build(
        "berlin",
        vec![
            allotment("api", "gw-v4", &[("tcp-80", 10000)]),
            allotment("web", "gw-v4", &[("tcp-80", 10000)]),
            import("api", "2026-01-02T00:00:00Z", &ports()),
            import("web", "2026-01-01T00:00:00Z", &ports()),
        ],
    );
    assert_eq!(routes(&snapshot), ["TCP 10000 = shop/web 80/TCP at "]);
    let [problem] = &snapshot.problems[..] else { panic!("{:?}", snapshot.problems) };
    assert_eq!(problem.kind, "port_conflict");
    assert!(problem.message.contains("TCP port 10000 for shop/api 80/TCP"), "{}", problem.message);
}

/// Design, "Import": "Only slices whose managed-by, derived name and import agree are believed".
#[test]
fn a_slice_that_names_a_port_of_somebody_else_changes_nothing() {
    let ports = json!([{"name": "http", "protocol": "TCP", "port": 80}]);
    let derived = derived::service(&ServiceKey::parse("shop", "api").unwrap());
    let claims = |import: &str, manager: &str| {
        slice(json!({
            "metadata": {
                "namespace": "shop", "name": format!("of-{import}-by-{manager}"),
                "creationTimestamp": "2020-01-01T00:00:00Z",
                "labels": {KUBE_SERVICE_NAME: derived.as_str(), MANAGED_BY: manager},
                "annotations": {IMPORT: import, GATEWAYS: "true"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "tcp-80", "protocol": "TCP", "port": 10000}],
            "endpoints": [{"addresses": ["10.244.3.10"], "conditions": {"ready": true}}],
        }))
    };
    let honest = || {
        vec![
            allotment("web", "gw-v4", &[("tcp-80", 10000)]),
            import("web", "2026-01-01T00:00:00Z", &ports),
        ]
    };
    let expected = ["TCP 10000 = shop/web 80/TCP at "];
    // Somebody else's; of another import than its name says; of an import that is not there.
    for (import, manager) in [("api", "somebody"), ("web", LANDBRIDGE), ("api", LANDBRIDGE)] {
        for at in [0, 2] {
            let mut events = honest();
            events.insert(at, claims(import, manager));
            assert_eq!(routes(&build("berlin", events)), expected, "{import} by {manager}");
        }
    }
}

#[test]
fn what_is_not_carried_is_told() {
    let snapshot =
        build("berlin", vec![allotment("dns", "gw-v4", &[("sctp-53", 10000), ("udp-53", 10000)])]);
    assert_eq!(snapshot.problems.len(), 1);
    assert_eq!(snapshot.problems[0].kind, "protocol_not_carried");
    assert_eq!(snapshot.routes.len(), 2);
}

/// Design, "Import": a gateway that goes "listens until no slice names it".
#[test]
fn gateways_are_named_by_the_slices_that_send_clients_to_them() {
    let derived = derived::service(&ServiceKey::parse("shop", "api").unwrap());
    let standby = slice(json!({
        "metadata": {
            "namespace": "shop", "name": format!("{derived}-standby-v4"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {KUBE_SERVICE_NAME: derived.as_str(), MANAGED_BY: LANDBRIDGE},
            "annotations": {IMPORT: "api", GATEWAYS: "true"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "tcp-81", "protocol": "TCP", "port": 10001}],
        "endpoints": [{"addresses": ["10.244.3.11"], "conditions": {"ready": false}}],
    }));
    let snapshot = build("berlin", vec![allotment("web", "gw-v4", &[("tcp-80", 10000)]), standby]);
    assert_eq!(snapshot.routes.len(), 2);
    let named: Vec<String> = snapshot.gateways.iter().map(ToString::to_string).collect();
    assert_eq!(named, ["10.244.3.10"]);
}

#[test]
fn an_exported_service_has_its_ready_endpoints() {
    let endpoints = json!([
        {"addresses": ["10.244.0.5"]},
        {"addresses": ["10.244.0.6"], "conditions": {"ready": false}},
        {"addresses": ["10.244.0.7"], "hostname": "web-2", "conditions": {"ready": true}},
    ]);
    let snapshot = build(
        "paris",
        vec![
            service("web"),
            service("api"),
            export("web"),
            pods("web", &endpoints),
            pods("api", &endpoints),
        ],
    );
    assert_eq!(snapshot.exports.len(), 1, "what is not exported is not served");
    let web = &snapshot.exports[&ServiceKey::parse("shop", "web").unwrap()];
    assert!(web.proxy_protocol);
    let at = |number: u16| {
        let port = PortKey { protocol: Protocol::Tcp, number: number.try_into().unwrap() };
        let found = web.destinations(port, None).unwrap();
        found.iter().map(|pod| pod.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(at(80), ["10.244.0.5:8080", "10.244.0.7:8080"]);
    assert_eq!(at(9090), ["10.244.0.5:9191", "10.244.0.7:9191"]);
}

fn policy(name: &str, spec: &Value) -> Event {
    Event::Access(Change::Apply(object(json!({
        "metadata": {"namespace": "shop", "name": name}, "spec": spec,
    }))))
}

/// How many rules are in force for shop/web; none where everybody may call.
fn rules(state: &mut State) -> Option<usize> {
    let snapshot = state.snapshot().unwrap();
    let web = &snapshot.exports[&ServiceKey::parse("shop", "web").unwrap()];
    web.access.as_ref().map(Vec::len)
}

/// Design, "Identity and access": "checks `AccessPolicy`: none means allowed within the set."
#[test]
fn policies_for_a_service_and_for_its_namespace_add_up() {
    let mut state = State::new(ClusterId::parse("paris").unwrap());
    state.apply(service("web"));
    state.apply(export("web"));
    let exports = |state: &mut State| state.snapshot().unwrap().exports.len();
    assert_eq!(exports(&mut state), 0, "who may call is not known yet");
    state.apply(Event::Access(Change::Listed));
    assert_eq!(rules(&mut state), None);
    state.apply(policy("other", &json!({"service": "api", "allow": [{}]})));
    assert_eq!(rules(&mut state), None);
    state.apply(policy("nobody", &json!({})));
    assert_eq!(rules(&mut state), Some(0));
    state.apply(policy("web", &json!({"service": "web", "allow": [{"clusters": ["berlin"]}, {}]})));
    assert_eq!(rules(&mut state), Some(2));
    for name in ["nobody", "web"] {
        let key = ObjectKey { namespace: "shop".into(), name: name.into() };
        state.apply(Event::Access(Change::Delete(key)));
    }
    assert_eq!(rules(&mut state), None);
}

/// Nothing is open by mistake.
#[test]
fn a_policy_that_cannot_be_read_lets_nobody_in_and_is_told() {
    let mut state = State::new(ClusterId::parse("paris").unwrap());
    for event in [service("web"), export("web"), Event::Access(Change::Listed)] {
        state.apply(event);
    }
    let key = ObjectKey { namespace: "shop".into(), name: "odd".into() };
    let error = "spec.allow: not a list".to_owned();
    state.apply(Event::Access(Change::Malformed(Malformed { key: key.clone(), error })));
    assert_eq!(rules(&mut state), Some(0));
    state.apply(policy("odd", &json!({"allow": [{"ports": [{"port": 0}]}]})));
    let snapshot = state.snapshot().unwrap();
    assert!(snapshot.problems[0].message.contains("shop/odd: spec.allow[0]"), "{snapshot:?}");
    state.apply(policy("odd", &json!({"service": "api"})));
    assert_eq!(rules(&mut state), None);
    // What was known of one that cannot be read any more stands.
    let error = "spec.service: not a text".to_owned();
    state.apply(Event::Access(Change::Malformed(Malformed { key, error })));
    assert_eq!(rules(&mut state), None);
}

#[test]
fn an_address_that_two_pods_claim_is_nobodys() {
    let events = vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.1"), pod("c", "10.0.0.2")];
    let snapshot = build("paris", events);
    let known: Vec<String> = snapshot.callers.values().map(|w| w.pod.to_string()).collect();
    assert_eq!(known, ["c"]);
}

#[test]
fn the_own_cluster_is_no_peer() {
    let snapshot = build("paris", vec![peer("paris", 1), peer("tokyo", 3)]);
    let peers: Vec<(&str, u64)> =
        snapshot.peers.values().map(|peer| (peer.cluster.as_str(), peer.generation)).collect();
    assert_eq!(peers, [("tokyo", 3)]);
}

/// "One bad object hurts only itself".
#[test]
fn an_object_that_cannot_be_read_hurts_only_itself() {
    let mut events = example();
    events.push(peer("tokyo", -1));
    events.push(peer("paris", 1));
    events.push(slice(json!({
        "metadata": {"namespace": "shop", "name": "odd",
            "labels": {KUBE_SERVICE_NAME: "derived-isrlchlhrq", MANAGED_BY: LANDBRIDGE},
            "annotations": {IMPORT: "other", GATEWAYS: "true"}},
        "addressType": "IPv4", "endpoints": [], "ports": [],
    })));
    let key = ObjectKey { namespace: "shop".into(), name: "derived-isrlchlhrq-gw-v4".into() };
    let error = "spec: not a map".to_owned();
    events.push(Event::Slice(Change::Malformed(Malformed { key, error })));
    let snapshot = build("berlin", events);
    assert_eq!(routes(&snapshot).len(), 3, "what was known of a malformed object stands");
    assert_eq!(snapshot.peers.len(), 1);
    assert_eq!(snapshot.problems.len(), 3, "{:?}", snapshot.problems);
}

#[test]
fn what_says_the_same_again_is_no_change() {
    let mut state = State::new(ClusterId::parse("berlin").unwrap());
    for event in example() {
        assert!(state.apply(event));
    }
    assert!(state.snapshot().is_some());
    for event in example() {
        assert!(!state.apply(event));
    }
    assert!(state.snapshot().is_none());
}

#[test]
fn everything_is_read_once_each_kind_has_been_listed() {
    fn nothing<K>() -> Change<K> {
        Change::Listed
    }
    let mut state = State::new(ClusterId::parse("berlin").unwrap());
    state.apply(Event::Access(nothing()));
    state.apply(Event::Export(nothing()));
    state.apply(Event::Import(nothing()));
    state.apply(Event::Peer(nothing()));
    state.apply(Event::Pod(nothing()));
    state.apply(Event::Service(Box::new(nothing())));
    // What is exported could be told by now, and is not before it is known who may call.
    assert!(!state.snapshot().unwrap().synced);
    state.apply(Event::Slice(nothing()));
    state.apply(Event::Traffic(nothing()));
    assert!(state.snapshot().unwrap().synced);
}

proptest! {
    /// "Any order, or one relist, gives the same state."
    #[test]
    fn any_order_or_one_relist_gives_the_same(order in Just((0..4_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let expected = build("berlin", example());
        let mut events: Vec<Option<Event>> = example().into_iter().map(Some).collect();
        let shuffled = order.into_iter().map(|at| events[at].take().unwrap()).collect();
        let other = build("berlin", shuffled);
        prop_assert_eq!(&other.routes, &expected.routes);
        let slices = example().into_iter().filter_map(|event| match event {
            Event::Slice(Change::Apply(slice)) => Some(slice),
            _ => None,
        });
        let relist = Change::listing(slices, []).map(Event::Slice);
        let stale = allotment("gone", "gw-v4", &[("tcp-80", 10009)]);
        let before = [stale, example().remove(0)];
        let relisted = build("berlin", before.into_iter().chain(relist).collect());
        prop_assert_eq!(&relisted.routes, &expected.routes);
    }
}

fn traffic(name: &str, created: &str, spec: &Value) -> Event {
    Event::Traffic(Change::Apply(object(json!({
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": created}, "spec": spec,
    }))))
}

/// "two policies for one service: older wins".
#[test]
fn of_two_traffic_policies_for_a_service_the_older_is_in_force() {
    let mut state = State::new(ClusterId::parse("berlin").unwrap());
    for event in example() {
        state.apply(event);
    }
    let retries = |state: &mut State| {
        let routes = state.snapshot().unwrap().routes;
        routes[&(Protocol::Tcp, AllottedPort::new(10_000).unwrap())].call.retries
    };
    assert_eq!(retries(&mut state), None);
    state.apply(traffic("b", "2026-01-02T00:00:00Z", &json!({"service": "web", "retries": 2})));
    assert_eq!(retries(&mut state), Some(2));
    state.apply(traffic("a", "2026-01-03T00:00:00Z", &json!({"service": "web", "retries": 3})));
    state.apply(traffic("c", "2026-01-01T00:00:00Z", &json!({"service": "other", "retries": 1})));
    assert_eq!(retries(&mut state), Some(2));
    let key = ObjectKey { namespace: "shop".into(), name: "b".into() };
    state.apply(Event::Traffic(Change::Delete(key)));
    assert_eq!(retries(&mut state), Some(3));
}

/// A cluster whose definitions are older has no TrafficPolicies, and its gateways serve all the same.
#[test]
fn policies_that_cannot_be_listed_hold_nobody_up() {
    let mut state = State::new(ClusterId::parse("berlin").unwrap());
    state.apply(Event::Access(Change::Listed));
    state.apply(Event::Export(Change::Listed));
    state.apply(Event::Import(Change::Listed));
    state.apply(Event::Peer(Change::Listed));
    state.apply(Event::Pod(Change::Listed));
    state.apply(Event::Service(Box::new(Change::Listed)));
    state.apply(Event::Slice(Change::Listed));
    assert!(!state.is_synced());
    state.apply(Event::Traffic(Change::Interrupted("404".into())));
    assert!(state.is_synced());
}

/// The zone of a gateway is the one that its Service's slices give its address.
#[test]
fn pods_and_gateways_have_the_zones_of_their_nodes() {
    let mut state = State::new(ClusterId::parse("paris").unwrap());
    state.apply(Event::Access(Change::Listed));
    for event in [service("web"), export("web")] {
        state.apply(event);
    }
    state.apply(pods(
        "web",
        &json!([{"addresses": ["10.244.0.5"], "zone": "z1"}, {"addresses": ["10.244.0.6"]}]),
    ));
    state.apply(slice(json!({
        "metadata": {"namespace": "landbridge-system", "name": "landbridge-gateway-x1",
            "labels": {KUBE_SERVICE_NAME: "landbridge-gateway"}},
        "addressType": "IPv4", "ports": [],
        "endpoints": [{"addresses": ["10.244.3.10"], "zone": "z2"}],
    })));
    let snapshot = state.snapshot().unwrap();
    let web = &snapshot.exports[&ServiceKey::parse("shop", "web").unwrap()];
    let zones: Vec<Option<&str>> = web
        .endpoints
        .iter()
        .map(|one| one.zone.as_ref().map(landbridge_model::ZoneName::as_str))
        .collect();
    assert_eq!(zones, [Some("z1"), None]);
    assert_eq!(snapshot.gateway_zones[&"10.244.3.10".parse().unwrap()].as_str(), "z2");
}
