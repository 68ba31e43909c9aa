//! What the tests here share: a cluster on a free port, and waiting by asking again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::{KubeConfigOptions, Kubeconfig};
use landbridge_embedded::{Cluster, ClusterConfig};

/// A cluster for one case of the conventions.
pub(crate) struct Embedded {
    cluster: Cluster,
    client: kube::Client,
}

impl Embedded {
    pub(crate) async fn start() -> Self {
        let cluster = cluster_with("192.0.2.0/24", Vec::new()).await;
        let client = client(&cluster).await;
        Self { cluster, client }
    }

    pub(crate) fn client(&self) -> kube::Client {
        assert!(self.cluster.address().ip().is_loopback());
        self.client.clone()
    }
}

/// An address that no connection of another test leaves from: a cluster that pauses gives its port back, and a client
/// of 127.0.0.1 could be given it meanwhile.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = u8::try_from(std::process::id() % 251).unwrap();
    (Ipv4Addr::new(127, 214, process, NEXT.fetch_add(1, Ordering::Relaxed)), 0).into()
}

/// A cluster on a free port, with ClusterIPs from `range`.
pub(crate) async fn cluster_with(range: &str, crds: Vec<CustomResourceDefinition>) -> Cluster {
    let config = ClusterConfig {
        name: "paris".into(),
        listen: own_address(),
        service_range_v4: range.parse().unwrap(),
        service_range_v6: None,
        crds,
    };
    Cluster::start(config).await.unwrap()
}

/// A client made from the cluster's own kubeconfig, as a user would make it.
pub(crate) async fn client(cluster: &Cluster) -> kube::Client {
    let config = Kubeconfig::from_yaml(&cluster.kubeconfig()).unwrap();
    assert_eq!(config.current_context.as_deref(), Some(cluster.name()));
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// Asks until the answer is `Some`, for at most five seconds.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within five seconds: {what}");
}
