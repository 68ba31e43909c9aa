//! A small world for the tests: a root, members with a gateway each, pods, and a path that can be cut.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use landbridge_api::access::AccessRule;
use landbridge_model::{
    AllottedPort, ClusterId, ClusterSetId, GatewayAddress, Hostname, Namespace, NetworkName, Peer,
    PortKey, PortName, Protocol, RegionName, ServiceKey, Target, Timestamp,
};
use opentelemetry::global::BoxedTracer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tracing::info_span;

use crate::{
    access::Rule,
    caller::Workload,
    core::{Core, CoreConfig},
    health::LinkState,
    hub::{Access, Hub},
    metrics::Metrics,
    pki::{Identity, Leaf, Root},
    snapshot::{Callers, ExportedPort, ExportedService, ReadyEndpoint, Route, Snapshot},
    spans::Tracer,
};

/// The allotted port that `shop/web` has everywhere.
pub(super) const PORT: u16 = 10_000;

pub(super) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
}

pub(super) fn id(name: &str) -> ClusterId {
    ClusterId::parse(name).unwrap()
}

pub(super) fn web() -> ServiceKey {
    ServiceKey::parse("shop", "web").unwrap()
}

pub(super) fn key(number: u16) -> PortKey {
    PortKey { protocol: Protocol::Tcp, number: number.try_into().unwrap() }
}

/// What an allotted port of `shop/web` means.
pub(crate) fn route() -> Route {
    Route::new(Target { service: web(), port: key(80), endpoint: None }, Vec::new())
}

/// An address that no other test, in this process or beside it, listens on.
pub(super) fn fresh_ip() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let [block, last] = next.to_be_bytes();
    assert!(block < 3, "a process has 767 addresses");
    IpAddr::V4(Ipv4Addr::new(127, 64 + (high & 0x3f) + 64 * block, low, last))
}

/// Waits until something holds, at most five seconds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The usual one. What runs over TCP as well has another one in its place.
pub(super) fn world() -> World {
    World::new()
}

/// A clusterset.
pub(super) struct World {
    pub(super) root: Root,
    tracer: Tracer,
    /// Whether nothing comes of dialling over QUIC.
    udp_is_blocked: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self::named("demo")
    }

    pub(super) fn named(set: &str) -> Self {
        let set = ClusterSetId::parse(set).unwrap();
        Self { root: Root::generate(&set, now()).unwrap(), tracer: None, udp_is_blocked: false }
    }

    /// The same, where UDP does not pass.
    pub(super) fn over_tcp() -> Self {
        Self { udp_is_blocked: true, ..Self::new() }
    }

    /// The same, whose gateways make spans.
    pub(super) fn traced(tracer: BoxedTracer) -> Self {
        Self { tracer: Some(Arc::new(tracer)), ..Self::new() }
    }

    pub(super) fn leaf(&self, cluster: &str, generation: u64) -> Leaf {
        let member = self.root.issue_member(&id(cluster), now()).unwrap();
        member.issue_gateway(generation, &Hostname::parse("gw-0").unwrap(), now()).unwrap()
    }

    pub(super) fn identity(&self, leaf: &Leaf) -> Identity {
        Identity::from_pem(&leaf.chain_pem(), &leaf.key_pem(), &self.root.cert_pem()).unwrap()
    }

    /// A member with one gateway, which runs.
    pub(super) fn site(&self, cluster: &str) -> Site {
        self.site_with(cluster, &self.leaf(cluster, 1))
    }

    pub(super) fn site_with(&self, cluster: &str, leaf: &Leaf) -> Site {
        let listen = fresh_ip();
        self.try_site(cluster, leaf, listen, SocketAddr::new(listen, 0), None).unwrap()
    }

    /// A member of a region.
    pub(super) fn site_in(&self, cluster: &str, region: &RegionName) -> Site {
        let (listen, leaf) = (fresh_ip(), self.leaf(cluster, 1));
        let link = SocketAddr::new(listen, 0);
        self.try_site(cluster, &leaf, listen, link, Some(region.clone())).unwrap()
    }

    /// One of several replicas, where `link` says if it does; the one before may take a moment to let go of that.
    pub(super) async fn replica(
        &self,
        cluster: &str,
        name: &str,
        link: Option<SocketAddr>,
    ) -> Site {
        let member = self.root.issue_member(&id(cluster), now()).unwrap();
        let leaf = member.issue_gateway(1, &Hostname::parse(name).unwrap(), now()).unwrap();
        let listen = fresh_ip();
        let link = link.unwrap_or_else(|| SocketAddr::new(listen, 0));
        let mut site = None;
        until("bound", || {
            site = self.try_site(cluster, &leaf, listen, link, None).ok();
            site.is_some()
        })
        .await;
        site.unwrap()
    }

    /// A member with one gateway that proves who it is with `identity`.
    pub(super) fn site_as(&self, cluster: &str, identity: Identity) -> Site {
        let listen = fresh_ip();
        self.bind(cluster, identity, (listen, SocketAddr::new(listen, 0)), None).unwrap()
    }

    /// A member that has something to do with the hub.
    pub(super) fn site_with_hub(&self, cluster: &str, hub: Hub) -> Site {
        let (listen, leaf) = (fresh_ip(), self.leaf(cluster, 1));
        let at = (listen, SocketAddr::new(listen, 0));
        self.bind_with(cluster, self.identity(&leaf), at, None, hub).unwrap()
    }

    fn try_site(
        &self,
        cluster: &str,
        leaf: &Leaf,
        listen: IpAddr,
        link: SocketAddr,
        region: Option<RegionName>,
    ) -> std::io::Result<Site> {
        self.bind(cluster, self.identity(leaf), (listen, link), region)
    }

    fn bind(
        &self,
        cluster: &str,
        identity: Identity,
        (listen, link): (IpAddr, SocketAddr),
        region: Option<RegionName>,
    ) -> std::io::Result<Site> {
        self.bind_with(cluster, identity, (listen, link), region, Hub::default())
    }

    fn bind_with(
        &self,
        cluster: &str,
        identity: Identity,
        (listen, link): (IpAddr, SocketAddr),
        region: Option<RegionName>,
        hub: Hub,
    ) -> std::io::Result<Site> {
        let system = Namespace::parse("landbridge-system").unwrap();
        let hub = Access::bind(hub, system).map_err(|(_, error)| error)?;
        let config = CoreConfig {
            cluster: id(cluster),
            set: self.root.set().clone(),
            listen: vec![listen],
            link,
            identity,
            region,
            access_log: std::num::NonZeroU32::new(1),
            tracer: self.tracer.clone(),
            hub,
            span: info_span!("gateway", cluster),
        };
        let core = Core::bind(config, Metrics::new())?;
        core.transport.block_udp(self.udp_is_blocked);
        core.start();
        Ok(Site { core, known: Mutex::new(Snapshot { synced: true, ..Snapshot::default() }) })
    }
}

/// One member's gateway.
pub(super) struct Site {
    pub(super) core: Arc<Core>,
    known: Mutex<Snapshot>,
}

impl Site {
    pub(super) fn link_address(&self) -> SocketAddr {
        self.core.transport.local_address().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut known = self.known.lock().unwrap();
        change(&mut known);
        known.revision += 1;
        self.core.snapshots.publish(known.clone());
    }

    /// Knows its peers, and has not read everything yet.
    pub(super) fn has_just_begun(&self) {
        self.change(|known| known.synced = false);
    }

    /// Lists a peer that is dialled at `addresses`.
    pub(super) fn knows(&self, cluster: &str, addresses: &[SocketAddr]) {
        self.knows_generation(cluster, 1, addresses);
    }

    pub(super) fn knows_generation(&self, cluster: &str, generation: u64, at: &[SocketAddr]) {
        let peer = Peer {
            cluster: id(cluster),
            generation,
            network: NetworkName::parse(cluster).unwrap(),
            region: None,
            drained: false,
            gateways: at.iter().copied().map(GatewayAddress).collect(),
        };
        self.change(|known| {
            let mut peers = BTreeMap::clone(&known.peers);
            peers.insert(id(cluster), peer);
            known.peers = Arc::new(peers);
        });
    }

    /// A peer that is listed is of a region.
    pub(super) fn knows_region(&self, cluster: &str, region: &RegionName) {
        self.change(|known| {
            let mut peers = BTreeMap::clone(&known.peers);
            peers.get_mut(&id(cluster)).unwrap().region = Some(region.clone());
            known.peers = Arc::new(peers);
        });
    }

    /// A peer that is listed is drained, or is not any more.
    pub(super) fn knows_drained(&self, cluster: &str, drained: bool) {
        self.change(|known| {
            let mut peers = BTreeMap::clone(&known.peers);
            peers.get_mut(&id(cluster)).unwrap().drained = drained;
            known.peers = Arc::new(peers);
        });
    }

    pub(super) fn forgets(&self, cluster: &str) {
        self.change(|known| {
            let mut peers = BTreeMap::clone(&known.peers);
            peers.remove(&id(cluster));
            known.peers = Arc::new(peers);
        });
    }

    /// Allots [`PORT`] to `shop/web` port 80, served by `clusters`, and waits until it is listened on.
    pub(super) async fn imports(&self, clusters: &[&str]) {
        self.allots(Protocol::Tcp, clusters).await;
    }

    /// A TrafficPolicy says something of what is imported.
    pub(super) fn steers(&self, change: impl Fn(&mut Route)) {
        self.change(|known| {
            let mut routes = BTreeMap::clone(&known.routes);
            for route in routes.values_mut() {
                change(Arc::make_mut(route));
            }
            known.routes = Arc::new(routes);
        });
    }

    /// The same for UDP.
    pub(super) async fn imports_udp(&self, clusters: &[&str]) {
        self.allots(Protocol::Udp, clusters).await;
    }

    async fn allots(&self, protocol: Protocol, clusters: &[&str]) {
        let mut route =
            Route { clusters: clusters.iter().map(|cluster| id(cluster)).collect(), ..route() };
        route.target.port.protocol = protocol;
        let at = (protocol, AllottedPort::new(PORT).unwrap());
        self.change(|known| {
            let mut routes = BTreeMap::clone(&known.routes);
            routes.insert(at, Arc::new(route));
            known.routes = Arc::new(routes);
        });
        until("listening", || self.core.listeners.bound().contains(&(protocol, PORT))).await;
    }

    /// Exports `shop/web` port 80 with these pods.
    pub(super) fn exports(&self, pods: &[SocketAddr], proxy_protocol: bool) {
        self.exports_over(Protocol::Tcp, pods, proxy_protocol);
    }

    /// The same for UDP, in place of TCP.
    pub(super) fn exports_udp(&self, pods: &[SocketAddr]) {
        self.exports_over(Protocol::Udp, pods, false);
    }

    fn exports_over(&self, protocol: Protocol, pods: &[SocketAddr], proxy_protocol: bool) {
        let key = |number| PortKey { protocol, ..key(number) };
        let name = PortName::parse("http").ok();
        let endpoint = |pod: &SocketAddr| ReadyEndpoint {
            hostname: None,
            ip: pod.ip(),
            zone: None,
            ports: Arc::new([ExportedPort { name: name.clone(), key: key(pod.port()) }]),
        };
        let exported = ExportedService {
            ports: vec![ExportedPort { name: name.clone(), key: key(80) }],
            headless: false,
            endpoints: pods.iter().map(endpoint).collect(),
            proxy_protocol,
            ..ExportedService::default()
        };
        let exports = HashMap::from([(web(), Arc::new(exported))]);
        self.change(|known| known.exports = Arc::new(exports));
    }

    /// Calls of one client to what is exported stay together.
    pub(super) fn stays_together(&self) {
        self.change(|known| {
            let mut exports = HashMap::clone(&known.exports);
            for exported in exports.values_mut() {
                Arc::make_mut(exported).by_client = true;
            }
            known.exports = Arc::new(exports);
        });
    }

    /// Puts AccessPolicies with these rules in force for what is exported.
    pub(super) fn guards(&self, rules: &serde_json::Value) {
        let rules: Vec<AccessRule> = serde_json::from_value(rules.clone()).unwrap();
        let rules: Vec<Rule> = rules.iter().map(|rule| Rule::read(rule).unwrap()).collect();
        self.change(|known| {
            let mut exports = HashMap::clone(&known.exports);
            for exported in exports.values_mut() {
                Arc::make_mut(exported).access = Some(rules.clone());
            }
            known.exports = Arc::new(exports);
        });
    }

    /// Slices send clients to the gateways at these addresses.
    pub(super) fn is_named(&self, gateways: &[IpAddr]) {
        self.change(|known| known.gateways = Arc::new(gateways.iter().copied().collect()));
    }

    pub(super) fn has_pod(&self, ip: IpAddr, workload: Workload) {
        self.change(|known| known.callers = Arc::new(Callers::from([(ip, workload)])));
    }

    /// Waits until a link to `cluster` takes streams.
    pub(super) async fn linked(&self, cluster: &str) {
        until("linked", || {
            let links = self.core.links.to(&id(cluster));
            links.iter().any(|link| link.state().takes_streams())
        })
        .await;
    }

    pub(super) fn link_states(&self, cluster: &str) -> Vec<LinkState> {
        self.core.links.to(&id(cluster)).iter().map(|link| link.state()).collect()
    }

    /// Where clients of this cluster find `shop/web`.
    pub(super) fn entry(&self) -> SocketAddr {
        SocketAddr::new(self.core.listen[0], PORT)
    }

    /// Calls `shop/web` as a client of this cluster does.
    pub(super) async fn call(&self) -> TcpStream {
        TcpStream::connect(self.entry()).await.unwrap()
    }

    /// One question, one answer; where a call is refused, connecting itself may already tell.
    pub(super) async fn ask(&self, question: &str) -> std::io::Result<String> {
        let mut client = TcpStream::connect(self.entry()).await?;
        client.write_all(question.as_bytes()).await?;
        client.shutdown().await?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.core.draining.cancel();
        self.core.stop.cancel();
    }
}

/// berlin imports what paris exports, each dialling the other.
pub(super) async fn pair(pod: SocketAddr) -> (World, Site, Site) {
    pair_of(world(), pod).await
}

/// The same of a world that is there.
pub(super) async fn pair_of(world: World, pod: SocketAddr) -> (World, Site, Site) {
    let (berlin, paris) = (world.site("berlin"), world.site("paris"));
    paris.knows("berlin", &[berlin.link_address()]);
    paris.exports(&[pod], false);
    berlin.knows("paris", &[paris.link_address()]);
    berlin.imports(&["paris"]).await;
    berlin.linked("paris").await;
    (world, berlin, paris)
}

/// A pod that does `serve` with each connection.
pub(super) async fn pod<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((fresh_ip(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(tokio::spawn(serve(client))),
                // Its process may be without descriptors.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    address
}

/// A pod that reads to the end, writes down what it read, and answers with its name.
pub(super) async fn named(name: &'static str, heard: &Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let heard = Arc::clone(heard);
    pod(move |mut client| {
        let heard = Arc::clone(&heard);
        async move {
            let mut question = String::new();
            if client.read_to_string(&mut question).await.is_ok() {
                heard.lock().unwrap().push(question);
                let _ = client.write_all(name.as_bytes()).await;
            }
        }
    })
    .await
}

/// A path between two gateways that can be cut: datagrams are then dropped in both directions.
pub(super) struct Path {
    pub(super) address: SocketAddr,
    cut: Arc<AtomicBool>,
    /// Who is not let through any more.
    forgotten: Arc<Mutex<Option<SocketAddr>>>,
    client: Arc<Mutex<Option<SocketAddr>>>,
}

impl Path {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind((fresh_ip(), 0)).await.unwrap());
        let back = Arc::new(UdpSocket::bind((fresh_ip(), 0)).await.unwrap());
        let address = front.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Mutex::new(None));
        let forgotten: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let (forgotten_in, client_of_path) = (Arc::clone(&forgotten), Arc::clone(&client));
        let (cut_in, front_in, back_in, client_in) =
            (Arc::clone(&cut), Arc::clone(&front), Arc::clone(&back), Arc::clone(&client));
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((count, from)) = front_in.recv_from(&mut buffer).await {
                if *forgotten_in.lock().unwrap() == Some(from) {
                    continue;
                }
                *client_in.lock().unwrap() = Some(from);
                if !cut_in.load(Ordering::Relaxed) {
                    let _ = back_in.send_to(&buffer[..count], target).await;
                }
            }
        });
        let cut_out = Arc::clone(&cut);
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok((count, _)) = back.recv_from(&mut buffer).await {
                let to = *client.lock().unwrap();
                if let Some(to) = to.filter(|_| !cut_out.load(Ordering::Relaxed)) {
                    let _ = front.send_to(&buffer[..count], to).await;
                }
            }
        });
        Self { address, cut, forgotten, client: client_of_path }
    }

    /// Lets nothing through any more that comes from where it came from until now.
    pub(super) fn forget(&self) {
        let client = self.client.lock().unwrap().take();
        *self.forgotten.lock().unwrap() = client;
    }

    pub(super) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}
