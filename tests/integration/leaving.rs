//! A member that is removed from the set and comes back: what it gave goes and nothing else, and comes again of itself.

use serde_json::{Value, json};

use crate::{
    controller::{EXPORT, IMPORT, MEMBER, SERVICE, SLICE, Set, condition, create, find},
    support::Running,
};

const CLUSTER_EXPORT: (&str, &str) = ("landbridge.dev/v1alpha1", "ClusterExport");
const LEASE: (&str, &str) = ("coordination.k8s.io/v1", "Lease");
const PEER: (&str, &str) = ("landbridge.dev/v1alpha1", "Peer");
const PROFILE: (&str, &str) = ("multicluster.x-k8s.io/v1alpha1", "ClusterProfile");

/// A Service with a pod, exported.
fn export(running: &Running, name: &str) {
    let key = json!({"namespace": "shop", "name": name});
    create(
        running,
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": key,
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}]},
        }),
    );
    create(
        running,
        json!({
            "apiVersion": SLICE.0, "kind": SLICE.1, "addressType": "IPv4",
            "metadata": {"namespace": "shop", "name": format!("{name}-x7k2p"),
                "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
            "endpoints": [{"addresses": ["10.244.0.5"], "conditions": {"ready": true}}],
        }),
    );
    create(running, json!({"apiVersion": EXPORT.0, "kind": EXPORT.1, "metadata": key}));
}

/// Everything in namespace `shop` that is not in `but`, by kind and name.
fn shop(running: &Running, but: &str) -> Vec<Value> {
    let kinds = [IMPORT, SERVICE, SLICE].into_iter();
    let lists = kinds.map(|kind| running.cluster.store().list(kind, Some("shop")).unwrap().items);
    let objects = lists.flatten().map(|object| (*object).clone());
    objects.filter(|object| but.is_empty() || !object.to_string().contains(but)).collect()
}

/// Design, "Joining, liveness, leaving": "all that the member gave goes, and nothing else"; "A member that returns is
/// restored from its own state."
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_takes_all_that_it_gave_and_brings_it_again() {
    let set = Set::start().await;
    export(set.paris(), "web");
    export(set.berlin(), "zoo");
    let imported = |running, name| {
        find(running, IMPORT, ("shop", name)).filter(|import| condition(import, "Ready").is_some())
    };
    for name in ["web", "zoo"] {
        set.becomes("both import both", || {
            imported(set.berlin(), name).and_then(|_| imported(set.paris(), name))
        })
        .await;
    }
    let system = |name| ("landbridge-system", name);
    set.becomes("tools are told of paris", || {
        let lease = system("landbridge-member-paris");
        find(set.berlin(), PROFILE, system("paris")).and_then(|_| find(set.berlin(), LEASE, lease))
    })
    .await;
    let published = ("cluster-paris", "shop.web");
    set.becomes("the hub has it", || find(set.hub(), CLUSTER_EXPORT, published)).await;
    set.becomes("berlin is at rest", || {
        // Its last write for a service is that of the owner.
        let owned = |object: &Value| object["metadata"].get("ownerReferences").is_some();
        let services = set.berlin().cluster.store().list(SERVICE, Some("shop")).unwrap().items;
        let derived = services.iter().filter(|service| {
            service["metadata"]["name"].as_str().unwrap().starts_with("derived-")
        });
        (derived.filter(|service| owned(service)).count() == 2).then_some(())
    })
    .await;
    let others = shop(set.berlin(), "web");
    assert!(!others.is_empty());
    let member = find(set.hub(), MEMBER, ("", "paris")).unwrap();

    set.hub().cluster.store().delete(MEMBER, ("", "paris")).unwrap();
    set.becomes("all that paris gave is gone from berlin", || {
        let gone = find(set.berlin(), PEER, ("", "paris")).is_none()
            && find(set.berlin(), PROFILE, system("paris")).is_none()
            && find(set.berlin(), LEASE, system("landbridge-member-paris")).is_none();
        (gone && shop(set.berlin(), "").len() == others.len()).then_some(())
    })
    .await;
    assert_eq!(shop(set.berlin(), ""), others, "and nothing else was touched");
    set.becomes("paris takes back what it wrote on the hub", || {
        find(set.hub(), CLUSTER_EXPORT, published).is_none().then_some(())
    })
    .await;
    set.becomes("its team is told", || {
        let export = find(set.paris(), EXPORT, ("shop", "web"))?;
        let is_told = export["status"].to_string().contains("is no member of the set");
        (is_told && condition(&export, "Ready").as_deref() == Some("False/Pending")).then_some(())
    })
    .await;

    let again = json!({"apiVersion": MEMBER.0, "kind": MEMBER.1, "metadata": {"name": "paris"},
        "spec": member["spec"]});
    create(set.hub(), again);
    set.becomes("what paris has is there again", || {
        imported(set.berlin(), "web").and_then(|_| find(set.berlin(), PEER, ("", "paris")))
    })
    .await;
    set.becomes("and told", || {
        let export = find(set.paris(), EXPORT, ("shop", "web"))?;
        (condition(&export, "Ready").as_deref() == Some("True/Exported")).then_some(())
    })
    .await;
    assert_eq!(shop(set.berlin(), "web"), others);
    set.stop().await;
}
