//! Ways of calls that end somewhere: which step is the first that is wrong, and what is said of it.

use serde_json::json;

use super::*;
use crate::seen::{
    Hub, shown,
    testing::{conditions, export, healthy, peer, pod_says, read},
};

fn web() -> ServiceKey {
    "shop/web".parse().unwrap()
}

/// Slices of shop: the pod of web, and what its derived Service leads to.
fn slices() -> Vec<EndpointSlice> {
    let slice = |name: &str, service: &str, ready: bool| {
        read(
            json!({"metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.9"], "conditions": {"ready": ready}}], "ports": []}),
        )
    };
    vec![
        slice("web-abc", "web", true),
        slice("derived-isrlchlhrq-gw-v4", "derived-isrlchlhrq", true),
    ]
}

fn cluster_export(cluster: &str) -> ClusterExport {
    read(json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "ClusterExport",
        "metadata": {"namespace": format!("cluster-{cluster}"), "name": "shop.web"},
        "spec": {"service": {"namespace": "shop", "name": "web"}, "type": "ClusterSetIP",
            "zones": [{"ready": 2, "total": 3}]}}))
}

fn well() -> Facts {
    let mut facts = healthy();
    facts.hub.exports = Ok(["paris", "tokyo"].map(cluster_export).into());
    let names = json!({"names": {"web.shop.svc.clusterset.local.": {"A": ["10.96.31.4"]}}});
    pod_says(&mut facts, "dns-0", names);
    facts
}

fn told(facts: &Facts, slices: Vec<EndpointSlice>) -> String {
    shown::walk(&walk(facts, &web(), &Ok(slices)), &web())
}

#[test]
fn a_way_that_is_open_is_told_step_by_step() {
    assert_eq!(
        told(&well(), slices()),
        "\
shop/web
  ok   export     by this cluster, and by tokyo
  ok   hub        paris with 2 of 3 endpoints ready, tokyo with 2 of 3 endpoints ready
  ok   import     ClusterSetIP at 10.96.31.4, from paris, tokyo
  ok   dns        web.shop.svc.clusterset.local is known to 1 server
  ok   port       TCP 10000, TCP 10001, on 2 gateways
  ok   link       to tokyo
  ok   policy     none is in the way
  ok   endpoint   1 way ready, of which 1 pod here
Nothing is in the way, as far as this cluster can tell.
"
    );
}

#[test]
fn the_first_thing_that_is_wrong_is_named_with_what_to_do() {
    let facts = Facts {
        exports: Ok(Vec::new()),
        imports: Ok(Vec::new()),
        allotments: Ok(Vec::new()),
        ..healthy()
    };
    let facts =
        Facts { hub: Hub { members: Err(Unread::NoKind), exports: Err(Unread::NoKind) }, ..facts };
    assert_eq!(
        told(&facts, Vec::new()),
        "\
shop/web
  WRONG   export     there is no ServiceExport shop/web here, and none of another cluster is known
  ?       hub        it is another cluster
                     → name it with --hub-context to look there too
  WRONG   import     there is none, since nobody is known to export it
  ?       dns        there is no name without an import
  ?       port       there is none without an import
  ok      link       none is needed: whoever exports it is of this network
  ok      policy     none is in the way
  ?       endpoint   it is not imported
First of all: there is no ServiceExport shop/web here, and none of another cluster is known.
→ create one in each cluster that is to serve it, beside the Service of the same name
"
    );
}

/// The first step that is wrong, and what it says.
fn check(facts: &Facts, slices: Vec<EndpointSlice>, step: &str, says: &str, remedy: &str) {
    let steps = walk(facts, &web(), &Ok(slices));
    let wrong = first_wrong(&steps).unwrap_or_else(|| panic!("nothing is wrong: {steps:?}"));
    assert_eq!((wrong.step, wrong.says.as_str()), (step, says));
    assert!(wrong.remedy.starts_with(remedy), "{}", wrong.remedy);
}

fn without(change: impl Fn(&mut Facts)) -> Facts {
    let mut facts = well();
    change(&mut facts);
    facts
}

#[test]
fn each_step_can_be_the_first_that_is_wrong() {
    // The cluster exports it alone.
    let alone = |facts: &mut Facts| {
        facts.hub.exports = Ok(vec![cluster_export("paris")]);
        facts.imports.as_mut().unwrap().retain(|one| one.metadata.name.as_deref() != Some("web"));
    };
    let invalid = without(|facts| {
        alone(facts);
        let not = conditions(&[("Valid", "False", "NoService", "There is no Service \"web\".")]);
        facts.exports = Ok(vec![export("shop", "web", &not)]);
    });
    check(
        &invalid,
        slices(),
        "export",
        "here: There is no Service \"web\" (NoService)",
        "create the Service",
    );
    let lost = without(|facts| facts.hub.exports = Ok(vec![cluster_export("tokyo")]));
    check(&lost, slices(), "hub", "it has no ClusterExport of paris for it", "see `hub`");
    let no_namespace = without(|facts| {
        alone(facts);
        facts
            .namespaces
            .as_mut()
            .unwrap()
            .retain(|one| one.metadata.name.as_deref() != Some("shop"));
    });
    check(
        &no_namespace,
        slices(),
        "import",
        "there is no namespace shop here",
        "kubectl create namespace shop",
    );
    check(
        &without(alone),
        slices(),
        "import",
        "there is none",
        "see whether the controller's --import-namespaces",
    );
    let ignorant = without(|facts| pod_says(facts, "dns-0", json!({"names": {}})));
    check(
        &ignorant,
        slices(),
        "dns",
        "dns-0 does not know web.shop.svc.clusterset.local",
        "see its log",
    );
    let deaf = without(|facts| {
        for pod in ["gateway-0", "gateway-1"] {
            pod_says(facts, pod, json!({"listening": []}));
        }
    });
    check(
        &deaf,
        slices(),
        "port",
        "TCP 10000, TCP 10001 not listened on by gateway-0, gateway-1",
        "see the gateway's log",
    );
    let shut = without(|facts| {
        facts.policies = Ok(vec![read(json!({"metadata": {"namespace": "shop", "name": "deny"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}))]);
    });
    check(
        &shut,
        slices(),
        "policy",
        "no gateway is let in to its pods here by NetworkPolicy deny",
        "allow ingress",
    );
    let mut nobody = slices();
    nobody[1].endpoints.clear();
    check(
        &well(),
        nobody,
        "endpoint",
        "nobody takes calls: no endpoint is ready",
        "see whether pods",
    );
}

#[test]
fn a_link_that_is_down_is_wrong_where_nobody_else_serves() {
    let status =
        json!({"conditions": conditions(&[("Connected", "False", "Dialing", "timed out")])});
    let mut facts = without(|facts| {
        facts.peers = Ok(vec![peer("tokyo", &["198.51.100.7:4433"], &status)]);
    });
    // paris serves it itself.
    let steps = walk(&facts, &web(), &Ok(slices()));
    assert_eq!((steps[5].step, steps[5].verdict), ("link", Verdict::Note));
    facts.exports = Ok(Vec::new());
    facts.hub.exports = Ok(vec![cluster_export("tokyo")]);
    for import in facts.imports.as_mut().unwrap() {
        import.status.as_mut().unwrap().clusters.retain(|one| one.cluster == "tokyo");
    }
    check(
        &facts,
        slices(),
        "link",
        "tokyo: timed out (Dialing)",
        "let UDP and TCP through to 198.51.100.7:4433",
    );
}

#[test]
fn what_guards_a_service_is_noted() {
    let facts = without(|facts| {
        let mut tokyo = cluster_export("tokyo");
        tokyo.spec.guarded = true;
        facts.hub.exports = Ok(vec![cluster_export("paris"), tokyo]);
    });
    let steps = walk(&facts, &web(), &Ok(slices()));
    assert_eq!(steps[6].verdict, Verdict::Note);
    assert_eq!(steps[6].says, "tokyo lets in only whom its AccessPolicies allow");
    let denied =
        walk(&facts, &web(), &Err(Unread::Denied("list endpointslices.discovery.k8s.io".into())));
    assert_eq!(
        (denied[7].verdict, denied[7].says.as_str()),
        (Verdict::Unknown, "you may not list endpointslices.discovery.k8s.io")
    );
}
