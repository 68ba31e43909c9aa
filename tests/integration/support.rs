//! Starts clusters for a test, waits for what the test expects of them, and shows them when it does not come.
//!
//! Each cluster has a /24 of loopback to itself, for its API, its components and its Services, so that tests of one
//! binary and of several, run by several people on one machine, do not meet.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use kube::Client;
use landbridge_embedded::{Cluster, ClusterConfig};

/// How long a test waits for what should come within milliseconds: a machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Held while a block of addresses is in use; above the ports that components use.
const GUARD_PORT: u16 = 65_000;
/// What is shown of a cluster when a wait was in vain.
const SHOWN: &[(&str, &str)] = &[
    ("multicluster.x-k8s.io/v1beta1", "ServiceExport"),
    ("multicluster.x-k8s.io/v1beta1", "ServiceImport"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("coordination.k8s.io/v1", "Lease"),
    ("landbridge.dev/v1alpha1", "ClusterExport"),
    ("landbridge.dev/v1alpha1", "Member"),
    ("landbridge.dev/v1alpha1", "Peer"),
];

/// 256 loopback addresses that nobody else uses while this lives.
#[derive(Debug)]
pub(crate) struct Block {
    second: u8,
    third: u8,
    _guard: TcpListener,
}

impl Block {
    /// Takes a block that is free.
    pub(crate) fn take() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Below 127.64 lies what people and other programs use by hand.
        const BLOCKS: u32 = (255 - 64) * 256;
        for _ in 0..BLOCKS {
            // Neighbouring processes start far apart, so that they seldom try for the same block.
            let at =
                process::id().wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let [second, third] =
                [64 + (at % BLOCKS) / 256, at % 256].map(|n| u8::try_from(n).unwrap());
            match TcpListener::bind((Ipv4Addr::new(127, second, third, 254), GUARD_PORT)) {
                Ok(guard) => {
                    return Self { second, third, _guard: guard };
                }
                Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => panic!(
                    "127.0.0.0/8 is not on this machine's loopback: on macOS, `sudo ifconfig lo0 alias 127.{second}.{third}.1` and so on adds single addresses, or run these tests on Linux"
                ),
                // Somebody else has it.
                Err(_) => {}
            }
        }
        panic!("no block of loopback addresses is free")
    }

    /// An address of the block: 1 is the API's, 128 and above are the Services'.
    pub(crate) fn address(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.second, self.third, last).into()
    }
}

/// A cluster with its own addresses and a client.
pub(crate) struct Running {
    /// The API.
    pub(crate) cluster: Cluster,
    /// A client of its own.
    pub(crate) client: Client,
    /// Its addresses.
    pub(crate) block: Block,
}

/// Starts a cluster for each name, with every kind that Landbridge reads or writes.
pub(crate) async fn start<const N: usize>(names: [&str; N]) -> [Running; N] {
    let mut running = Vec::new();
    for name in names {
        let block = Block::take();
        let services = format!("{}/25", block.address(128));
        let config = ClusterConfig {
            name: name.into(),
            listen: (block.address(1), 0).into(),
            service_range_v4: services.parse().unwrap(),
            service_range_v6: None,
            crds: landbridge_api::crds::all(),
        };
        let cluster = Cluster::start(config).await.unwrap();
        let url = format!("http://{}", cluster.address());
        let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        running.push(Running { cluster, client, block });
    }
    let running: Result<[Running; N], _> = running.try_into();
    running.unwrap_or_else(|_| panic!("one cluster for each name"))
}

/// What stands in the clusters, a line for each object.
pub(crate) fn state(clusters: &[Running]) -> String {
    let mut text = String::new();
    for running in clusters {
        writeln!(text, "── {}", running.cluster.name()).unwrap();
        for (version, kind) in SHOWN {
            let Ok(listing) = running.cluster.store().list((version, kind), None) else {
                continue;
            };
            for object in listing.items {
                let mut object = (*object).clone();
                let meta = &object["metadata"];
                let name =
                    [&meta["namespace"], &meta["name"]].map(|name| name.as_str().unwrap_or(""));
                let head = format!("{kind} {}", name.join("/"));
                if let Some(fields) = object.as_object_mut() {
                    fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
                }
                writeln!(text, "{head}: {object}").unwrap();
            }
        }
    }
    text
}

/// Waits until `check` gives something, and fails with what it said last and the state of `clusters` when it does not
/// within [`PATIENCE`].
pub(crate) async fn eventually<T>(
    what: &str,
    clusters: &[Running],
    check: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    within(PATIENCE, what, clusters, check).await
}

/// The same, with a patience of its own.
pub(crate) async fn within<T>(
    patience: Duration,
    what: &str,
    clusters: &[Running],
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match check().await {
            Ok(value) => return value,
            Err(said) if start.elapsed() > patience => {
                panic!("{what}: not within {patience:?}; last: {said}\n{}", state(clusters))
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// The next item of a stream that never ends.
pub(crate) async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("nothing came").expect("the stream has ended")
}

#[tokio::test]
async fn clusters_have_addresses_of_their_own_and_every_kind() {
    let clusters = start(["paris", "tokyo"]).await;
    let [paris, tokyo] = &clusters;
    assert_ne!(paris.block.address(1), tokyo.block.address(1));
    assert_eq!(paris.cluster.address().ip(), paris.block.address(1));
    let group = eventually("the kinds are discovered", &clusters, async || {
        kube::discovery::group(&paris.client, "landbridge.dev")
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    let kinds: Vec<String> =
        group.recommended_resources().into_iter().map(|(resource, _)| resource.kind).collect();
    for kind in ["ClusterExport", "Member", "Peer"] {
        assert!(kinds.iter().any(|known| known == kind), "{kinds:?}");
    }
}

#[tokio::test]
#[should_panic(expected = "ServiceExport default/web: {")]
async fn a_wait_in_vain_shows_what_was_there() {
    let clusters = start(["paris"]).await;
    let export = serde_json::json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
        "metadata": {"namespace": "default", "name": "web"},
    });
    clusters[0].cluster.store().create(export).unwrap();
    let never = async || Err::<(), _>("not yet".to_owned());
    within(Duration::ZERO, "it comes", &clusters, never).await;
}
