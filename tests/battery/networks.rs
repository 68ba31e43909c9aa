//! Members of one network reach each other's pods without a gateway: what that changes, and what takes stale endpoints
//! away.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    case::{At, Case},
    objects::{
        CLUSTER_EXPORT, EXPORT, IMPORT, MEMBER, PEER, POLICY, SERVICE, SLICE, condition, namespace,
        pods, told,
    },
};

const HTTP: [&str; 1] = ["http 80->8080"];
/// How far a clock runs ahead.
const HOUR: Duration = Duration::from_secs(3_600);

/// The derived Service of an import.
fn derived(import: &Value) -> String {
    let annotations = &import["metadata"]["annotations"];
    annotations["multicluster.kubernetes.io/derived-service"].as_str().unwrap().to_owned()
}

/// A member that is only what it says on the hub: no cluster of ours.
pub(crate) struct Stranger<'a> {
    case: &'a Case,
    pub(crate) name: &'static str,
    heart: JoinHandle<()>,
}

/// How often a stranger says that it lives: often enough for a machine that is busy.
const BEAT: Duration = Duration::from_secs(1);

impl<'a> Stranger<'a> {
    pub(crate) async fn join(case: &'a Case, name: &'static str, network: &str) -> Self {
        Self::join_ahead(case, name, network, Duration::ZERO).await
    }

    /// One whose clock runs ahead.
    async fn join_ahead(
        case: &'a Case,
        name: &'static str,
        network: &str,
        ahead: Duration,
    ) -> Self {
        let member = json!({"apiVersion": MEMBER.version, "kind": MEMBER.name, "metadata": {"name": name},
            "spec": {"generation": 1, "network": network}});
        case.hub.create(member).await;
        case.hub.ensure(namespace(&format!("cluster-{name}"))).await;
        Self { case, name, heart: tokio::spawn(live(case.hub.clone(), name, ahead)) }
    }

    /// Says nothing any more.
    fn fall_silent(&self) {
        self.heart.abort();
    }

    /// Says again that it lives.
    fn wake_up(&mut self, ahead: Duration) {
        self.heart = tokio::spawn(live(self.case.hub.clone(), self.name, ahead));
    }

    fn at(&self) -> At {
        self.case.hub_of(self.name)
    }

    /// What it exports, with whatever `spec` says besides.
    #[expect(clippy::needless_pass_by_value, reason = "callers write it on the spot")]
    pub(crate) fn export(&self, service: &str, spec: Value) -> Value {
        let namespace = self.case.namespace();
        let mut object = json!({
            "apiVersion": CLUSTER_EXPORT.version, "kind": CLUSTER_EXPORT.name,
            "metadata": {"name": format!("{namespace}.{service}")},
            "spec": {"service": {"namespace": namespace, "name": service}, "type": "ClusterSetIP",
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
                "ipFamilies": ["IPv4"], "zones": [{"ready": 1, "total": 1}]}});
        super::objects::merge(&mut object["spec"], &spec);
        object
    }

    /// The pods of what it exports.
    pub(crate) fn pods(&self, service: &str, endpoints: &[&str]) -> Value {
        let namespace = self.case.namespace();
        let mut slice = pods(service, &HTTP, endpoints);
        slice["metadata"] = json!({
            "name": format!("{namespace}.{service}-v4"),
            "labels": {"endpointslice.kubernetes.io/managed-by": "landbridge.dev",
                "landbridge.dev/cluster": self.name},
            "annotations": {"landbridge.dev/export": format!("{namespace}/{service}")}});
        slice
    }

    pub(crate) async fn create(&self, object: Value) {
        self.at().create(object).await;
    }

    /// The member is removed from the set, and what it said goes.
    pub(crate) async fn leave(self) {
        self.fall_silent();
        self.case.hub.delete(MEMBER, self.name).await;
        for kind in [CLUSTER_EXPORT, SLICE] {
            for object in self.at().list(kind, "").await {
                self.at().remove(kind, object["metadata"]["name"].as_str().unwrap()).await;
            }
        }
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

/// Says again and again that a member lives.
async fn live(hub: At, name: &'static str, ahead: Duration) {
    loop {
        let now = Timestamp::now() + ahead;
        let status =
            json!({"heartbeat": format!("{now:.6}"), "mergeRevision": 1, "version": "0.1.0"});
        // The member may be removed at any time.
        let _ = hub.try_status(MEMBER, name, status).await;
        sleep(BEAT).await;
    }
}

/// Design, "Import": "else pods of same-network members (nodeName and targetRef stripped […])"; "Direct same-network
/// traffic is told by a condition `Encrypted=False`."
pub(crate) async fn pods_of_one_network_are_called_directly_and_that_is_told(case: &Case) {
    let Case { tokyo, berlin, paris, .. } = case;
    tokyo.serve("web", &HTTP, json!({}), &["198.51.100.5", "198.51.100.6 not ready"]).await;
    tokyo.export("web").await;
    let direct = "[http -> 8080] [198.51.100.5 ready, 198.51.100.6 not ready]";
    let slice = case.slice_is(berlin, "web-tokyo-v4", direct).await;
    for endpoint in slice["endpoints"].as_array().unwrap() {
        for field in ["nodeName", "targetRef", "hints"] {
            assert_eq!(endpoint.get(field), None, "{endpoint}");
        }
    }
    let import = case.imported(berlin, "web").await;
    let remote = format!("{}-remote-v4", derived(&import));
    let for_proxy = "[tcp-80 -> 8080] [198.51.100.5 ready, 198.51.100.6 not ready]";
    case.slice_is(berlin, &remote, for_proxy).await;
    let told = case.import_says(berlin, "web", "Encrypted=False/DirectRoute").await;
    assert!(condition(&told, "Encrypted").contains("\"tokyo\""), "{told}");
    // Another network goes through gateways, and says nothing of the kind.
    let import = case.imported(paris, "web").await;
    assert_eq!(condition(&import, "Encrypted"), "");
    let through = paris.get(SLICE, "web-tokyo-v4").await;
    assert!(super::objects::told(&through).ends_with("[192.0.2.11 ready]"));
}

/// "A member whose service has an AccessPolicy counts as another network for it": pods of what is guarded are not told
/// of, and gateways, which hold the policy, are called in their place.
pub(crate) async fn what_is_guarded_is_called_through_gateways_within_its_network_too(case: &Case) {
    let Case { tokyo, berlin, .. } = case;
    tokyo.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    tokyo.export("web").await;
    case.slice_is(berlin, "web-tokyo-v4", "[http -> 8080] [198.51.100.5 ready]").await;
    let object = json!({"apiVersion": "landbridge.dev/v1alpha1", "kind": "AccessPolicy",
        "metadata": {"name": "web"}, "spec": {"service": "web", "allow": [{"clusters": ["paris"]}]}});
    tokyo.create(object).await;
    let told = case.export_says(tokyo, "web", "Guarded=True/AccessPolicy").await;
    assert!(condition(&told, "Guarded").ends_with("may call it: web."), "{told}");
    let import = case.import_says(berlin, "web", "Encrypted=True/Gateways").await;
    case.becomes("gateways stand in for the pods", async || {
        let slice = berlin.find(SLICE, &format!("{}-gw-v4", derived(&import))).await?;
        let mcs = berlin.find(SLICE, "web-tokyo-v4").await?;
        [slice, mcs].iter().all(|one| self::told(one).ends_with("[192.0.2.31 ready]")).then_some(())
    })
    .await;
    case.goes(berlin, SLICE, &format!("{}-remote-v4", derived(&import))).await;
    tokyo.delete(POLICY, "web").await;
    case.export_says(tokyo, "web", "Guarded=False/NoPolicy").await;
    case.slice_is(berlin, "web-tokyo-v4", "[http -> 8080] [198.51.100.5 ready]").await;
}

/// "ready pods of an export **here**; else pods of same-network members […]; else the local gateways […]; never mixed."
pub(crate) async fn own_pods_come_first_then_the_network_then_gateways(case: &Case) {
    let Case { paris, tokyo, berlin, .. } = case;
    for (at, pod) in [(paris, "198.51.100.5"), (tokyo, "198.51.100.6"), (berlin, "198.51.100.7")] {
        at.serve("web", &HTTP, json!({}), &[pod]).await;
        at.export("web").await;
    }
    let import = case.imported(berlin, "web").await;
    let name = |kind: &str| format!("{}-{kind}-v4", derived(&import));
    case.slice_is(berlin, &name("pods"), "[tcp-80 -> 8080] [198.51.100.7 ready]").await;
    let gateway = async |wanted: &'static str| {
        case.becomes(&format!("the gateways are {wanted}"), async || {
            for kind in ["gw", "standby"] {
                let Some(slice) = berlin.find(SLICE, &name(kind)).await else { continue };
                let is = told(&slice);
                if is.ends_with(&format!("[192.0.2.31 {wanted}]")) && is.contains("tcp-80") {
                    return Some(());
                }
            }
            None
        })
        .await;
    };
    gateway("not ready").await;
    // Its own pods are gone: the network's are next.
    berlin.replace_pods(pods("web", &HTTP, &["198.51.100.7 not ready"])).await;
    case.slice_is(berlin, &name("remote"), "[tcp-80 -> 8080] [198.51.100.6 ready]").await;
    gateway("not ready").await;
    // And when those are gone, gateways.
    tokyo.replace_pods(pods("web", &HTTP, &["198.51.100.6 not ready"])).await;
    gateway("ready").await;
    tokyo.replace_pods(pods("web", &HTTP, &["198.51.100.6"])).await;
    gateway("not ready").await;
}

/// "slices carry remote pod addresses, at most 100 endpoints a slice, stable names": one pod that goes costs one write.
pub(crate) async fn many_pods_take_many_slices_and_one_change_one_write(case: &Case) {
    let Case { tokyo, berlin, .. } = case;
    let all: Vec<String> =
        (1..=250).map(|last| format!("198.51.{}.{}", 100 + last / 200, last % 200 + 1)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    tokyo.serve("web", &HTTP, json!({}), &all).await;
    tokyo.export("web").await;
    let counted = async |wanted: usize| {
        let select = "multicluster.kubernetes.io/service-name=web";
        case.becomes(&format!("berlin has {wanted} endpoints"), async || {
            let slices = berlin.list(SLICE, select).await;
            let sizes: Vec<usize> =
                slices.iter().map(|slice| slice["endpoints"].as_array().unwrap().len()).collect();
            assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
            (sizes.iter().sum::<usize>() == wanted).then_some(sizes.len())
        })
        .await
    };
    assert_eq!(counted(250).await, 3);
    case.imported(berlin, "web").await;
    case.passes("mark").await;
    let slices = berlin.follow(SLICE).await;
    let gone = &all[1..];
    tokyo.replace_pods(pods("web", &HTTP, gone)).await;
    assert_eq!(counted(249).await, 3);
    case.passes("again").await;
    let mut counts = slices.counts();
    counts.retain(|name, _| name.starts_with("web-tokyo") || name.contains("-remote-"));
    // The MCS slice that held it, and the one that kube-proxy reads.
    assert_eq!(counts.values().sum::<usize>(), 2, "{counts:?}");
}

/// "To prevent stale endpoints from persisting in the event that the mcs-controller is unable to reach a cluster, it is
/// recommended that an implementation provide an in-cluster controller to monitor and remove stale endpoints." By the
/// observer's own clock: that of the member runs an hour ahead.
pub(crate) async fn row_stale_endpoints_of_a_silent_member_go_and_come_back(case: &Case) {
    let berlin = &case.berlin;
    let mut malmo = Stranger::join_ahead(case, "malmo", "b", HOUR).await;
    malmo.create(malmo.export("web", json!({}))).await;
    malmo.create(malmo.pods("web", &["198.51.100.9"])).await;
    let pods = "[http -> 8080] [198.51.100.9 ready]";
    case.slice_is(berlin, "web-malmo-v4", pods).await;
    malmo.fall_silent();
    let heard = Instant::now();
    case.goes(berlin, SLICE, "web-malmo-v4").await;
    let took = heard.elapsed();
    assert!(took > Duration::from_secs(5), "the heartbeat counts for ten seconds: {took:?}");
    // "A silent member's endpoints go, but its export counts in the merge until it leaves."
    let import = berlin.get(IMPORT, "web").await;
    assert_eq!(import["status"]["clusters"], json!([{"cluster": "malmo"}]));
    malmo.wake_up(HOUR);
    case.slice_is(berlin, "web-malmo-v4", pods).await;

    malmo.leave().await;
    for at in case.members() {
        case.empties(at).await;
        case.goes(at, PEER, "malmo").await;
    }
}

/// "a clock of a member that runs an hour ahead": its exports are no younger than the hub has known them, nor older. That
/// it counts as silent when it is silent, and not an hour later, is held above.
pub(crate) async fn a_clock_that_runs_an_hour_ahead_changes_nothing(case: &Case) {
    let Case { tokyo, berlin, .. } = case;
    let bergen = Stranger::join_ahead(case, "bergen", "b", HOUR).await;
    let later = Timestamp::now() + HOUR;
    let told = json!({"exportedAt": format!("{later:.0}"), "sessionAffinity": "ClientIP"});
    bergen.create(bergen.export("web", told)).await;
    bergen.create(bergen.pods("web", &["198.51.100.9"])).await;
    case.slice_is(berlin, "web-bergen-v4", "[http -> 8080] [198.51.100.9 ready]").await;
    // It was there first, whatever it says: an hour from now is not when it was exported.
    let known = case.told_by("bergen", "web").await.unwrap();
    case.older(&known).await;
    tokyo.serve("web", &HTTP, json!({}), &["198.51.100.5"]).await;
    tokyo.export("web").await;
    let order = json!([{"cluster": "bergen"}, {"cluster": "tokyo"}]);
    for at in case.members() {
        case.import_becomes(at, "web", "names the older one first", |import| {
            import["status"]["clusters"] == order && import["spec"]["sessionAffinity"] == "ClientIP"
        })
        .await;
    }
    bergen.leave().await;
    case.goes(berlin, SLICE, "web-bergen-v4").await;
    tokyo.delete(EXPORT, "web").await;
    tokyo.delete(SERVICE, "web").await;
    case.empties(berlin).await;
}
