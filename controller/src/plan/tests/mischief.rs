//! What people and other programs write where only the controller should, and what other versions write that this
//! one does not know.

use serde_json::{Value, json};

use super::world::{World, merge};

const PORTS: [&str; 1] = ["http 80->8080"];
const DERIVED: &str = "shop/derived-isrlchlhrq";

/// Paris exports `names`, each with a ready pod.
fn exported(names: &[&str]) -> World {
    let mut world = World::example();
    for name in names {
        world.service("paris", name, &PORTS, json!({}));
        world.pods("paris", name, &PORTS, &[("10.244.0.5", true)]);
        world.export("paris", name, 0);
    }
    world.settle();
    world
}

fn edit(world: &mut World, at: &str, kind: &str, key: &str, change: &Value) {
    let mut object = world.object(at, kind, key);
    merge(&mut object, change);
    world.put(at, object);
}

/// What a user edits in an import's spec, a derived Service or a slice of ours is put back.
#[test]
fn what_users_edit_of_ours_is_put_back() {
    let mut world = exported(&["shop/web"]);
    let cases = [
        ("ServiceImport", "shop/web", json!({"spec": {"ips": ["10.0.0.1"], "type": "Headless"}})),
        ("ServiceImport", "shop/web", json!({"spec": {"ports": []}})),
        ("ServiceImport", "shop/web", json!({"spec": {"sessionAffinity": "ClientIP"}})),
        (
            "Service",
            DERIVED,
            json!({"spec": {"ports": [{"name": "x", "port": 1, "protocol": "TCP", "targetPort": 1}]}}),
        ),
        ("Service", DERIVED, json!({"spec": {"internalTrafficPolicy": "Local"}})),
        ("Service", DERIVED, json!({"spec": {"selector": {"app": "mine"}}})),
        ("Service", DERIVED, json!({"spec": {"externalIPs": ["192.0.2.1"]}})),
        ("EndpointSlice", "shop/derived-isrlchlhrq-gw-v4", json!({"endpoints": []})),
        ("EndpointSlice", "shop/web-paris-v4", json!({"ports": []})),
    ];
    for (kind, key, change) in cases {
        let before = world.object("berlin", kind, key);
        edit(&mut world, "berlin", kind, key, &change);
        let mut expected = vec![format!("berlin: update {kind} {key}")];
        let mut after_generation = json!(null);
        if kind == "ServiceImport" {
            expected.push(format!("berlin: status {kind} {key}"));
            let generation = before["metadata"]["generation"].as_i64().unwrap();
            after_generation = json!(generation + 2);
        }
        assert_eq!(world.settle(), expected, "{change}");
        let after = world.object("berlin", kind, key);
        for part in ["spec", "endpoints", "ports"] {
            assert_eq!(after.get(part), before.get(part), "{change}");
        }
        for part in ["annotations", "labels", "ownerReferences", "uid"] {
            assert_eq!(after["metadata"].get(part), before["metadata"].get(part), "{change}");
        }
        // What was judged is what is there now, and nothing has turned.
        if kind == "ServiceImport" {
            let mut condition = before["status"]["conditions"][0].clone();
            condition["observedGeneration"] = after_generation.clone();
            assert_eq!(after["status"]["conditions"][0], condition);
            assert_eq!(after["metadata"]["generation"], after_generation);
        }
    }
}

/// "importers check it again": a label that no API takes, from a member that has not left it out, costs the import
/// nothing but the label.
#[test]
fn labels_that_a_member_should_have_left_out_are_left_out_here() {
    let mut world = exported(&["shop/web"]);
    let mut export = world.object("hub", "ClusterExport", "cluster-paris/shop.web");
    let huge = "x".repeat(300_000);
    export["spec"]["exportedLabels"] =
        json!({"team": "not a value!", "k8s.io/a": "x", "good": "yes"});
    export["spec"]["exportedAnnotations"] = json!({ "huge": huge });
    let berlin = world.clusters.get_mut("berlin").unwrap();
    // Its own controller would put it right; here only what others make of it counts.
    berlin.news(crate::observed::Event::ClusterExport(landbridge_api::watch::Change::Apply(
        serde_json::from_value(export).unwrap(),
    )));
    world.run("berlin", &super::super::Work::Import(super::world::service("shop/web")));
    let import = world.object("berlin", "ServiceImport", "shop/web");
    let labels = json!({"good": "yes", "app.kubernetes.io/managed-by": "landbridge.dev"});
    assert_eq!(import["metadata"]["labels"], labels);
    assert!(import["metadata"]["annotations"].get("huge").is_none());
}

/// Two slices that claim one gateway port: the older import keeps it, the other is allotted anew and says so.
#[test]
fn of_two_slices_that_claim_one_port_the_older_keeps_it() {
    let mut world = exported(&["shop/web", "shop/zoo"]);
    let port = |world: &mut World, key: &str| {
        let import = world.object("berlin", "ServiceImport", key);
        let derived =
            import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
                .as_str()
                .unwrap()
                .to_owned();
        let slice = format!("shop/{derived}-gw-v4");
        let number = world.object("berlin", "EndpointSlice", &slice)["ports"][0]["port"].clone();
        (slice, number)
    };
    let (_, first) = port(&mut world, "shop/web");
    let (slice, second) = port(&mut world, "shop/zoo");
    assert_ne!(first, second);
    let mut object = world.object("berlin", "EndpointSlice", &slice);
    object["ports"][0]["port"] = first.clone();
    world.put("berlin", object);
    world.restart("berlin");
    world.settle();
    assert_eq!(port(&mut world, "shop/web").1, first);
    assert_ne!(port(&mut world, "shop/zoo").1, first);
}

/// An export of a later version with a type that this one does not know hurts only itself.
#[test]
fn an_export_that_this_version_does_not_understand_hurts_only_itself() {
    let mut world = exported(&["shop/web", "shop/zoo"]);
    let known = world.object("berlin", "ServiceImport", "shop/web");
    for change in [json!({"spec": {"type": "Quantum"}}), json!({"spec": {"ipFamilies": ["IPv7"]}})]
    {
        let berlin = world.clusters.get_mut("berlin").unwrap();
        berlin.problems.clear();
        let mut export = json!({
            "kind": "ClusterExport", "metadata": {"namespace": "cluster-tokyo", "name": "shop.new"},
            "spec": {"service": {"namespace": "shop", "name": "new"}, "type": "ClusterSetIP",
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}], "ipFamilies": ["IPv4"]},
        });
        merge(&mut export, &change);
        let read =
            serde_json::from_value::<landbridge_api::landbridge::ClusterExport>(export.clone())
                .map_err(|error| error.to_string())
                .and_then(|export| {
                    landbridge_api::convert::export(&export).map_err(|error| error.to_string())
                });
        assert!(read.is_err(), "{change} is not understood");
        // Its own controller would take it away; here only what others make of it counts.
        let berlin = world.clusters.get_mut("berlin").unwrap();
        berlin.news(crate::observed::Event::ClusterExport(landbridge_api::watch::Change::Apply(
            serde_json::from_value(export).unwrap(),
        )));
        let about = "ClusterExport cluster-tokyo/shop.new";
        assert!(berlin.problems.iter().any(|problem| problem.about == about));
        world.run("berlin", &super::super::Work::Import(super::world::service("shop/new")));
        assert_eq!(world.names("berlin", "ServiceImport"), ["web", "zoo"]);
        assert_eq!(world.object("berlin", "ServiceImport", "shop/web"), known);
    }
}

/// 5,000 endpoints of one service: the hub counts them, and no slice of ours names more than an EndpointSlice holds.
#[test]
fn a_service_of_five_thousand_endpoints_is_bounded_everywhere() {
    let mut world = World::example();
    world.service("paris", "shop/web", &PORTS, json!({}));
    world.pods("paris", "shop/web", &PORTS, &[("10.244.0.5", true)]);
    let template = world.object("paris", "EndpointSlice", "shop/web-x7k2p");
    for part in 0..50_u32 {
        let mut slice = template.clone();
        slice["metadata"]["name"] = json!(format!("web-{part:05}"));
        let endpoints = (0..100_u32).map(|at| {
            let number = part * 100 + at;
            let ip = format!("10.1.{}.{}", number / 200, number % 200 + 1);
            let mut endpoint = template["endpoints"][0].clone();
            endpoint["addresses"] = json!([ip]);
            endpoint
        });
        slice["endpoints"] = endpoints.collect();
        world.put("paris", slice);
    }
    world.delete("paris", "EndpointSlice", "shop/web-x7k2p");
    world.export("paris", "shop/web", 0);
    world.settle();
    let export = world.object("hub", "ClusterExport", "cluster-paris/shop.web");
    assert_eq!(export["spec"]["zones"][0], json!({"zone": "z1", "ready": 5000, "total": 5000}));
    assert!(export.to_string().len() < 2_000, "churn stays at home");
    let mut named = 0;
    for name in world.names("paris", "EndpointSlice") {
        let slice = world.object("paris", "EndpointSlice", &format!("shop/{name}"));
        let endpoints = slice["endpoints"].as_array().unwrap().len();
        assert!(endpoints <= 1_000, "{name}: an API server takes 1,000");
        if name.starts_with("web-paris") {
            named += endpoints;
        }
    }
    assert_eq!(named, 5_000);
}

/// Design, "Objects": `status.endpointSliceObjects` is "pruned where an older CRD is installed", and there is no end of
/// other fields that some release does not know: what an API does not keep is asked for once.
#[test]
fn what_an_older_definition_does_not_keep_is_asked_for_once() {
    let all: [(&'static str, &'static [&'static str]); 6] = [
        ("ServiceImport", &["spec", "ipFamilies"]),
        ("ServiceImport", &["spec", "internalTrafficPolicy"]),
        ("ServiceImport", &["status", "endpointSliceObjects"]),
        ("ServiceImport", &["status", "conditions"]),
        ("ServiceExport", &["status", "conditions"]),
        ("Member", &["status", "kubernetesVersion"]),
    ];
    check_pruned(&all);
    all.iter().for_each(|one| check_pruned(&[*one]));
}

fn check_pruned(pruned: &[(&'static str, &'static [&'static str])]) {
    let mut world = World::example();
    world.pruned = pruned.to_vec();
    world.service("paris", "shop/web", &PORTS, json!({}));
    world.pods("paris", "shop/web", &PORTS, &[("10.244.0.5", true)]);
    world.export("paris", "shop/web", 0);
    // Which also plans everything once more, and finds nothing to do.
    world.settle();
    let import = world.object("berlin", "ServiceImport", "shop/web");
    assert_eq!(import["spec"].get("ipFamilies").is_none(), pruned[0].1[1] == "ipFamilies");
    assert_eq!(import["spec"]["ips"], json!(["10.96.7.7"]));
    let before = world.log.len();
    world.restart("berlin");
    world.restart("paris");
    world.settle();
    let asked = &world.log[before..];
    assert!(asked.len() <= 8, "a controller that starts asks, and leaves it at that: {asked:#?}");

    // What somebody edits is put back all the same, and what changes is written.
    edit(
        &mut world,
        "berlin",
        "ServiceImport",
        "shop/web",
        &json!({"spec": {"ips": ["10.0.0.1"]}}),
    );
    world.settle();
    let import = world.object("berlin", "ServiceImport", "shop/web");
    assert_eq!(import["spec"]["ips"], json!(["10.96.7.7"]));
    world.service("paris", "shop/web", &["https 443->8443"], json!({}));
    world.settle();
    let import = world.object("berlin", "ServiceImport", "shop/web");
    assert_eq!(import["spec"]["ports"][0]["port"], 443);

    // A member says of itself what an older hub does not keep, once and then with its heartbeats.
    let paris = world.clusters.get_mut("paris").unwrap();
    paris.news(crate::observed::Event::Kubernetes("v1.34.2".to_owned()));
    let member = super::super::Work::Member;
    let mut said = |seconds: i64| {
        world.seconds += seconds;
        let before = world.log.len();
        world.run("paris", &member);
        world.log.len() - before
    };
    assert_eq!([said(0), said(1), said(1)], [1, 0, 0]);
    assert_eq!([said(3), said(0)], [1, 0], "when it is due");
}
