//! A cluster with an older release of the Multi-Cluster Services API, which serves v1alpha1 alone, and the day on which
//! that is upgraded.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::api::{Api, ListParams, PostParams};
use landbridge_api::crds;
use landbridge_dns::DnsServer;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::members::{Cluster, DERIVED, MCS, becomes, control, export, is_ready};

pub(crate) const OLD: &str = "multicluster.x-k8s.io/v1alpha1";

/// What an older schema does not name, so that the API server drops it.
const UNKNOWN: [[&str; 2]; 4] = [
    ["spec", "internalTrafficPolicy"],
    ["spec", "ipFamilies"],
    ["spec", "trafficDistribution"],
    ["status", "endpointSliceObjects"],
];

fn forget(version: &mut CustomResourceDefinitionVersion) {
    let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
    let parts = schema.and_then(|schema| schema.properties.as_mut()).unwrap();
    for [part, field] in UNKNOWN {
        let fields = parts.get_mut(part).and_then(|part| part.properties.as_mut()).unwrap();
        fields.remove(field);
    }
}

/// The kinds as they were before there was v1beta1.
pub(crate) fn old() -> Vec<CustomResourceDefinition> {
    let mut all = crds::all();
    for crd in &mut all {
        let kind = crd.spec.names.kind.clone();
        if kind == "ServiceExport" || kind == "ServiceImport" {
            crd.metadata.labels = None;
            crd.spec.versions.retain(|version| version.name == "v1alpha1");
            crd.spec.versions[0].storage = true;
            if kind == "ServiceImport" {
                forget(&mut crd.spec.versions[0]);
            }
        }
    }
    all
}

/// Applies what `landbridge crds --installed` prints of what a cluster has.
async fn upgrade(cluster: &Cluster) {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.admin.clone());
    let installed = api.list(&ListParams::default()).await.unwrap().items;
    let (apply, kept) = crds::installed::applicable(crds::all(), &installed);
    assert_eq!(kept, [], "all of them are this program's own or older");
    for mut crd in apply {
        let name = crd.metadata.name.clone().unwrap();
        let there = installed.iter().find(|there| there.metadata.name.as_ref() == Some(&name));
        crd.metadata.resource_version = there.unwrap().metadata.resource_version.clone();
        api.replace(&name, &PostParams::default(), &crd).await.unwrap();
    }
}

async fn imported(cluster: &Cluster, version: &str, name: &str) -> Value {
    becomes("the import is ready", async || {
        is_ready(cluster.find(version, "ServiceImport", name).await?, "Ready")
    })
    .await
}

/// Design, "Objects": "v1alpha1, served: CoreDNS and Karmada read it".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_v1alpha1_is_served_it_is_used_until_there_is_more() {
    let cluster = Cluster::start_with("older", old()).await;
    cluster.apply("hub.yaml", "").await;
    let stop = CancellationToken::new();
    control(&cluster, &cluster, &stop).await;
    cluster.apply("dns.yaml", "").await;
    let client = cluster.client_of("landbridge-system", "landbridge-dns").await;
    let config = landbridge_dns::Config {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        ..landbridge_dns::Config::default()
    };
    let dns = DnsServer::bind(config, client, &mut Registry::default()).await.unwrap();
    let (handle, until) = (dns.handle(), stop.clone());
    let dns = tokio::spawn(dns.run(until));

    for object in export("web", OLD) {
        cluster.create(object).await;
    }
    let import = imported(&cluster, OLD, "web").await;
    let owner = |version: &'static str| {
        let cluster = &cluster;
        becomes("the Service belongs to the import as it is served", async move || {
            let service = cluster.find("v1", "Service", DERIVED).await?;
            let owner = service["metadata"]["ownerReferences"][0].clone();
            (owner["apiVersion"] == version).then_some(owner)
        })
    };
    assert_eq!(owner(OLD).await["uid"], import["metadata"]["uid"]);
    becomes("the export is told", async || {
        is_ready(cluster.find(OLD, "ServiceExport", "web").await?, "Ready")
    })
    .await;
    becomes("the name is there", async || {
        handle.snapshot().to_string().contains("web.shop.svc.clusterset.local").then_some(())
    })
    .await;

    assert_eq!(import["spec"].get("ipFamilies"), None, "there is no place for them");
    let written = || {
        let events = cluster.server.audited();
        let is_write = |event: &&Value| {
            let verb = event["verb"].as_str().unwrap();
            event["objectRef"]["resource"] == "serviceimports"
                && ["create", "patch", "update"].contains(&verb)
        };
        events.iter().filter(is_write).count()
    };
    // What the API does not keep is not asked for again and again.
    becomes("it comes to rest", async || {
        let before = written();
        tokio::time::sleep(Duration::from_secs(2)).await;
        (written() == before).then_some(())
    })
    .await;
    assert!(written() <= 12, "{} writes of one import", written());

    upgrade(&cluster).await;
    becomes("v1beta1 is served", async || {
        let list = cluster.admin.list_api_group_resources(MCS).await.ok()?;
        list.resources.iter().any(|kind| kind.name == "serviceimports").then_some(())
    })
    .await;
    for object in export("late", MCS) {
        cluster.create(object).await;
    }
    let late = imported(&cluster, MCS, "late").await;
    assert_eq!(late["spec"]["ipFamilies"], serde_json::json!(["IPv4"]));
    assert_eq!(late["status"]["endpointSliceObjects"], "Present");
    // Nothing was deleted and made again, and what names the version names the newer one.
    assert_eq!(owner(MCS).await["uid"], import["metadata"]["uid"]);
    stop.cancel();
    dns.await.unwrap().unwrap();
    let forbidden = cluster.server.forbidden();
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}
