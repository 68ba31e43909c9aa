//! The server over an API that changes, goes away and forgets, among noise: `cargo xtask soak dns`.
//!
//! Each service's address tells which version of its import is answered. An answer is wrong if that is older than one
//! that was answered before, or was never written; and in the end all answers are those of the pure function. A usual
//! run is two seconds long; `LANDBRIDGE_SOAK_SECONDS` makes it longer, and has memory watched.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use landbridge_api::mcs::ServiceImport;
use landbridge_embedded::{Cluster, ClusterConfig};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::{fixture::Draw, state::State, zone};

const SERVICES: usize = 50;
/// Between two changes.
const CHANGE: Duration = Duration::from_millis(4);
/// Between two packets of noise: few enough that a server which is not scheduled for a second loses none.
const NOISE: Duration = Duration::from_millis(10);
/// The API is there for so long, and then away.
const THERE: Duration = Duration::from_millis(700);
const AWAY: Duration = Duration::from_millis(150);
/// From when on memory is watched: what a shorter run takes says nothing.
const WATCHED: Duration = Duration::from_secs(20);
/// What may come on top of what is held after a third of the time: caches of the allocator, and of this test.
const GROWTH: u64 = 24 << 20;

struct Soak {
    address: SocketAddr,
    asked: AtomicU64,
    cluster: Cluster,
    /// The newest version that was answered.
    seen: Vec<AtomicU32>,
    stop: CancellationToken,
    wrong: Mutex<Vec<String>>,
    /// The newest version that was written.
    written: Vec<AtomicU32>,
}

fn object(service: usize, version: u32, current: Option<&Value>) -> Value {
    let [_, _, high, low] = version.to_be_bytes();
    let mut object = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
        "metadata": {"namespace": "shop", "name": format!("web-{service}")},
        "spec": {
            "type": "ClusterSetIP", "ips": [format!("10.{service}.{high}.{low}")], "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
        },
    });
    if let Some(current) = current {
        object["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    }
    object
}

impl Soak {
    /// Changes one import after another.
    async fn churn(self: Arc<Self>) {
        let mut draw = Draw::new(1);
        let kind = ("multicluster.x-k8s.io/v1beta1", "ServiceImport");
        while !self.stop.is_cancelled() {
            let service = draw.below(SERVICES);
            // It is told of before it is written: an answer may overtake this task.
            let version = self.written[service].fetch_add(1, SeqCst) + 1;
            let name = format!("web-{service}");
            let current = self.cluster.store().get(kind, ("shop", &name)).unwrap();
            self.cluster.store().update(object(service, version, Some(&current))).unwrap();
            sleep(CHANGE).await;
        }
    }

    /// Takes the API away and brings it back, each second time without its history.
    async fn restarts(self: Arc<Self>) {
        for turn in 0_u32.. {
            sleep(THERE).await;
            self.cluster.pause().await;
            sleep(AWAY).await;
            if turn % 2 == 1 {
                self.cluster.compact();
            }
            self.cluster.resume().await.unwrap();
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    async fn noise(self: Arc<Self>) {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut draw = Draw::new(2);
        while !self.stop.is_cancelled() {
            let mut packet = fixture::packet("web-1.shop.svc A", Some(1232));
            for _ in 0..draw.below(6) {
                let at = draw.below(packet.len());
                packet[at] = u8::try_from(draw.below(256)).unwrap();
            }
            socket.send_to(&packet, self.address).await.unwrap();
            sleep(NOISE).await;
        }
    }

    /// A question, and the number of the service that it is about.
    fn question(draw: &mut Draw) -> (usize, &'static str, Vec<u8>) {
        let service = draw.below(SERVICES);
        let (kind, question) = match draw.below(8) {
            0 => ("none", format!("none-{service}.shop.svc A")),
            1 => ("nodata", format!("web-{service}.shop.svc AAAA")),
            2 => ("srv", format!("_http._tcp.web-{service}.shop.svc SRV")),
            _ => ("a", format!("web-{service}.shop.svc A")),
        };
        let mut packet = fixture::packet(&question, Some(1232));
        packet[..2].copy_from_slice(&u16::try_from(draw.below(65_536)).unwrap().to_be_bytes());
        (service, kind, packet)
    }

    /// Judges an answer to a question that was asked when `floor` was the newest version that had been answered.
    fn judge(&self, service: usize, kind: &str, floor: u32, answer: &[u8]) {
        self.asked.fetch_add(1, SeqCst);
        let told = fixture::told(answer);
        let good = match kind {
            "none" => is_negative(&told, "NXDOMAIN aa"),
            "nodata" => is_negative(&told, "NOERROR aa"),
            "srv" => told.iter().any(|line| line.contains(" SRV 0 100 80 ")),
            _ => {
                let prefix = format!("answer web-{service}.shop.svc 5 A 10.{service}.");
                let version =
                    told.get(1).and_then(|line| line.strip_prefix(&prefix)).and_then(|rest| {
                        let (high, low) = rest.split_once('.')?;
                        Some(high.parse::<u32>().ok()? << 8 | low.parse::<u32>().ok()?)
                    });
                let good = version.is_some_and(|version| {
                    self.seen[service].fetch_max(version, SeqCst);
                    floor <= version && version <= self.written[service].load(SeqCst)
                });
                good && told.len() == 2
            }
        };
        if !good {
            self.wrong
                .lock()
                .unwrap()
                .push(format!("{kind} of {service}, not before {floor}: {told:?}"));
        }
    }

    async fn ask_over_udp(self: Arc<Self>, seed: u64) {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(self.address).await.unwrap();
        let mut draw = Draw::new(seed);
        let mut answer = vec![0; 1_500];
        while !self.stop.is_cancelled() {
            let (service, kind, packet) = Self::question(&mut draw);
            let floor = self.seen[service].load(SeqCst);
            socket.send(&packet).await.unwrap();
            match timeout(PATIENCE, socket.recv(&mut answer)).await {
                Ok(length) => self.judge(service, kind, floor, &answer[..length.unwrap()]),
                Err(_) => {
                    self.wrong.lock().unwrap().push(format!("{kind} of {service}: no answer"))
                }
            }
        }
    }

    async fn ask_over_tcp(self: Arc<Self>) {
        let mut draw = Draw::new(5);
        while !self.stop.is_cancelled() {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let asked: Vec<_> = (0..20)
                .map(|_| {
                    let (service, kind, packet) = Self::question(&mut draw);
                    (service, kind, self.seen[service].load(SeqCst), packet)
                })
                .collect();
            for (.., packet) in &asked {
                let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], packet].concat()).await.unwrap();
            }
            for (service, kind, floor, _) in &asked {
                self.judge(*service, kind, *floor, &receive(&mut stream).await);
            }
        }
    }

    /// Every name and its records as the pure functions have them for what the API holds.
    fn expected(&self, handle: &Handle) -> Value {
        let store = self.cluster.store();
        let list = |version: &str, kind: &str| {
            let items = store.list((version, kind), None).unwrap().items;
            items.iter().map(|object| Value::clone(object)).collect::<Vec<Value>>()
        };
        let read = |objects: Vec<Value>| {
            objects
                .into_iter()
                .map(|object| serde_json::from_value::<ServiceImport>(object).unwrap())
                .collect::<Vec<_>>()
        };
        let mut state = State::default();
        let imports = read(list("multicluster.x-k8s.io/v1beta1", "ServiceImport"));
        for change in Change::listing(imports, []) {
            state.apply(Event::Import(change));
        }
        for change in Change::<EndpointSlice>::listing(vec![], []) {
            state.apply(Event::Slice(change));
        }
        let own = BTreeSet::from([self.address.ip()]);
        let mut builder = Builder::new(&Zone::default(), Ttl::default().into(), &own);
        for key in state.take_touched() {
            let (import, slices) = state.service(&key).unwrap();
            builder.set(&key, &zone::service(&Zone::default(), import, slices));
        }
        let snapshot = builder.snapshot(true, 1, Instant::now());
        Value::Object(dump::names(&snapshot, &handle.served.rules))
    }
}

/// What this process holds, in octets; nothing where the system does not say.
fn held() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
        * 1_024_u64
}

async fn soak(time: Duration) -> (Arc<Soak>, Handle, CancellationToken) {
    let cluster = Cluster::start(ClusterConfig {
        name: "soak".into(),
        listen: "127.62.0.1:0".parse().unwrap(),
        service_range_v4: "10.96.0.0/16".parse().unwrap(),
        service_range_v6: None,
        crds: landbridge_api::crds::all(),
    });
    let cluster = cluster.await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    cluster.store().create(namespace).unwrap();
    for service in 0..SERVICES {
        cluster.store().create(object(service, 0, None)).unwrap();
    }
    let uri = format!("http://{}", cluster.address()).parse().unwrap();
    let client = Client::try_from(kube::Config::new(uri)).unwrap();
    let config = Config { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()], ..Config::default() };
    let server = DnsServer::bind(config, client, &mut Registry::default()).await.unwrap();
    let (handle, stop) = (server.handle(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    let ready = timeout(PATIENCE, async {
        while !handle.is_ready() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    ready.await.expect("the server never became ready");
    let numbers = || (0..SERVICES).map(|_| AtomicU32::new(0)).collect();
    let soak = Arc::new(Soak {
        address: handle.addresses()[0],
        asked: AtomicU64::new(0),
        cluster,
        seen: numbers(),
        stop: CancellationToken::new(),
        wrong: Mutex::default(),
        written: numbers(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&soak).churn());
    tasks.spawn(Arc::clone(&soak).restarts());
    tasks.spawn(Arc::clone(&soak).noise());
    tasks.spawn(Arc::clone(&soak).ask_over_udp(3));
    tasks.spawn(Arc::clone(&soak).ask_over_udp(4));
    tasks.spawn(Arc::clone(&soak).ask_over_tcp());
    sleep(time / 3).await;
    let before = held();
    sleep(time - time / 3).await;
    soak.stop.cancel();
    let after = held();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    println!(
        "soak: {} answers, {} MiB, then {} MiB",
        soak.asked.load(SeqCst),
        before >> 20,
        after >> 20
    );
    assert!(time < WATCHED || after <= before + GROWTH, "{before} octets became {after}");
    (soak, handle, stop)
}

/// No wrong answer, none lost, and in the end what the API holds.
#[tokio::test(flavor = "multi_thread")]
async fn soak_no_answer_is_wrong_or_lost_whatever_happens_behind_it() {
    let seconds = std::env::var("LANDBRIDGE_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(2);
    let (soak, handle, stop) = soak(Duration::from_secs(seconds)).await;
    let wrong = soak.wrong.lock().unwrap().clone();
    assert!(wrong.is_empty(), "{} wrong, such as {}", wrong.len(), wrong[0]);
    let settled = timeout(2 * PATIENCE, async {
        while handle.snapshot()["names"] != soak.expected(&handle) {
            sleep(Duration::from_millis(20)).await;
        }
    });
    settled.await.expect("what is answered never became what the API holds");
    assert!(soak.asked.load(SeqCst) > 100);
    stop.cancel();
}
