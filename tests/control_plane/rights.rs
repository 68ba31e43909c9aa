//! What a member may do on the hub, every verb of every resource that a real API server serves; and that it poses as no other.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    discovery::v1::EndpointSlice,
};
use kube::{
    Client,
    api::{Api, Patch, PatchParams, PostParams},
};
use landbridge_api::convert;
use serde_json::{Value, json};

use crate::members::{Cluster, LANDBRIDGE, SLICES, api, create, join};

/// All verbs of resources, and those that only roles know.
const VERBS: [&str; 11] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
];
/// Its own namespace, another member's, the set's trust, others; and none.
const PLACES: [&str; 6] =
    ["cluster-lyon", "cluster-oslo", "landbridge-trust", "landbridge-system", "kube-system", ""];
/// How many questions are under way at a time.
const AT_ONCE: usize = 16;

type Resource = (String, String);

/// Every resource that is served, with subresources, by group and name.
async fn resources(admin: &Client) -> BTreeSet<Resource> {
    let get = async |path: String| -> Value {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        admin.request(request).await.unwrap()
    };
    let groups = get("/apis".into()).await;
    let versions = groups["groups"].as_array().unwrap().iter().map(|group| {
        let version = group["preferredVersion"]["groupVersion"].as_str().unwrap();
        (group["name"].as_str().unwrap().to_owned(), format!("/apis/{version}"))
    });
    let core = (String::new(), "/api/v1".to_owned());
    let mut all = BTreeSet::new();
    for (group, path) in versions.chain([core]) {
        for resource in get(path).await["resources"].as_array().unwrap() {
            all.insert((group.clone(), resource["name"].as_str().unwrap().to_owned()));
        }
    }
    // What is no resource of any API, and may be impersonated.
    all.extend(["users", "groups"].map(|name| (String::new(), name.to_owned())));
    all
}

/// Design, "Hub rights of a member, verb by verb: write in `cluster-<id>`, its own `Member` status, Leases of its own namespace;
/// read Members, ClusterExports and their slices."
fn is_meant((group, resource): &Resource, verb: &str, place: &str, name: &str) -> bool {
    let reads = matches!(verb, "get" | "list" | "watch");
    let writes = matches!(verb, "create" | "update" | "delete");
    let own = place == "cluster-lyon";
    match (group.as_str(), resource.as_str()) {
        ("landbridge.dev", "members") => reads,
        ("landbridge.dev", "members/status") => verb == "patch" && name == "lyon",
        ("landbridge.dev", "clusterexports") | ("discovery.k8s.io", "endpointslices") => {
            reads || own && writes
        }
        ("coordination.k8s.io", "leases") => own && (reads || writes || verb == "patch"),
        // Kubernetes lets everybody ask who he is and what he may.
        ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
        | ("authentication.k8s.io", "selfsubjectreviews") => verb == "create",
        _ => false,
    }
}

async fn may(
    client: &Client,
    (group, resource): &Resource,
    verb: &str,
    place: &str,
    name: &str,
) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.clone()),
                name: Some(name.into()),
                namespace: Some(place.into()),
                resource: Some(resource.into()),
                subresource: Some(subresource.into()),
                verb: Some(verb.into()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}

/// A hub with members lyon and oslo, and lyon's client of it.
async fn hub(name: &'static str) -> (Cluster, Client) {
    let hub = Cluster::start(name).await;
    hub.apply("hub.yaml", "").await;
    hub.apply("hub-policies.yaml", "").await;
    let lyon = join(&hub, "lyon", &json!({})).await;
    join(&hub, "oslo", &json!({})).await;
    (hub, lyon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_may_do_what_its_role_says_and_nothing_else_verb_by_verb() {
    let (hub, lyon) = hub("rights").await;
    let all = resources(&hub.admin).await;
    assert!(all.len() > 60, "all that is served was found: {all:?}");
    let asked = all.iter().flat_map(|resource| {
        VERBS.into_iter().flat_map(move |verb| {
            PLACES.into_iter().map(move |place| (resource, verb, place, "lyon"))
        })
    });
    // Of another's Member too, and of all of them.
    let members = all.iter().filter(|(group, _)| group == "landbridge.dev").flat_map(|resource| {
        VERBS.into_iter().flat_map(move |verb| ["oslo", ""].map(|name| (resource, verb, "", name)))
    });
    let asked: Vec<_> = asked.chain(members).collect();
    let count = asked.len();
    let wrong = stream::iter(asked).map(|(resource, verb, place, name)| {
        let lyon = lyon.clone();
        async move {
            let allowed = may(&lyon, resource, verb, place, name).await;
            let meant = is_meant(resource, verb, place, name);
            (allowed != meant)
                .then(|| format!("{verb} {resource:?} {name:?} in {place:?}: {allowed}"))
        }
    });
    let wrong: Vec<String> = wrong.buffered(AT_ONCE).filter_map(async |one| one).collect().await;
    println!("{} resources, {count} questions", all.len());
    assert_eq!(wrong, [""; 0], "\n{}", wrong.join("\n"));
}

/// "A member can't […] pose as another in the header, a certificate, a heartbeat or an id": on the hub, by whatever it can
/// write there. Of headers and certificates, see the gateway's own tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_poses_as_no_other_on_the_hub() {
    let (_hub, lyon) = hub("posing").await;
    let refused = |what: &str, answer: kube::Result<Value>| match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        other => panic!("{what}: {other:?}"),
    };
    // A heartbeat.
    let beat = Patch::Merge(json!({"status": {"heartbeat": "2026-09-21T14:00:00.000000Z"}}));
    let members = api(&lyon, LANDBRIDGE, "Member", "");
    let answer = members.patch_status("oslo", &PatchParams::default(), &beat).await;
    refused("oslo's heartbeat", answer.map(|_| Value::Null));
    // Its own says nothing of who it is: name and spec stay, whatever is sent with it.
    let more = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}},
        "spec": {"generation": 9, "network": "oslo", "drained": true}, "status": {"version": "9"}}));
    members.patch_status("lyon", &PatchParams::default(), &more).await.unwrap();
    let own = serde_json::to_value(members.get("lyon").await.unwrap()).unwrap();
    assert_eq!(own["spec"], json!({"generation": 1, "network": "lyon"}));
    assert_eq!(own["status"]["version"], "9");
    // An account: neither a token of another's, nor one of its own that would outlive it, nor another's name.
    for (namespace, account) in [
        ("cluster-oslo", "landbridge-member"),
        ("cluster-lyon", "landbridge-member"),
        ("cluster-lyon", "default"),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let body =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(&body).unwrap()).unwrap();
        refused(account, lyon.request::<Value>(request).await);
    }
    for user in ["system:serviceaccount:cluster-oslo:landbridge-member", "system:admin"] {
        let request = http::Request::get("/apis/landbridge.dev/v1alpha1/members");
        let request = request.header("impersonate-user", user).body(Vec::new()).unwrap();
        refused(user, lyon.request::<Value>(request).await);
    }
    // Rights of its own making.
    for object in [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"namespace": "cluster-lyon", "name": "more"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"namespace": "cluster-lyon", "name": "more",
                "annotations": {"kubernetes.io/service-account.name": "landbridge-member"}}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": "cluster-lyon", "name": "more"}}),
    ] {
        let what = object["kind"].to_string();
        refused(&what, create(&lyon, object).await.map(|_| Value::Null));
    }
    // An id: whose pods they are stands in the namespace, whatever a slice says.
    let slice = json!({"apiVersion": SLICES, "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "cluster-lyon", "name": "oslos", "annotations": {"landbridge.dev/export": "shop/web"},
            "labels": {"landbridge.dev/cluster": "oslo", "endpointslice.kubernetes.io/managed-by": "landbridge.dev"}},
        "endpoints": [{"addresses": ["198.51.100.9"]}]});
    let made = serde_json::to_value(create(&lyon, slice).await.unwrap()).unwrap();
    let made: EndpointSlice = serde_json::from_value(made).unwrap();
    let read = convert::hub_slice(&made).unwrap().unwrap();
    assert_eq!(read.cluster.as_str(), "lyon");
    let export = json!({"apiVersion": LANDBRIDGE, "kind": "ClusterExport",
        "metadata": {"namespace": "cluster-lyon", "name": "shop.web", "labels": {"landbridge.dev/cluster": "oslo"}},
        "spec": {"service": {"namespace": "shop", "name": "web"}, "type": "ClusterSetIP"}});
    let made = serde_json::to_value(create(&lyon, export).await.unwrap()).unwrap();
    let read = convert::export(&serde_json::from_value(made).unwrap()).unwrap();
    assert_eq!(read.cluster.as_str(), "lyon");
}
