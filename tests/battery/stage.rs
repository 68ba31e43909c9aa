//! The clusters that all cases of a process share: a hub and three members, started once.
//!
//! Most cases run beside each other in one set, each in a namespace of its own. A *story* has the clusters for itself:
//! it stops APIs, counts gateway ports from the first one, or has another arrangement. The set of the others ends
//! before it and is made anew after it; whatever was left over is swept away each time, so that a case which fails
//! hurts no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::join_all};
use kube::Client;
use landbridge_controller::Config;
use landbridge_model::{ClusterId, GatewayAddress, Namespace};
use serde_json::json;
use tokio::{
    runtime::Runtime,
    sync::{Mutex, OnceCell, RwLock, RwLockReadGuard},
    time::sleep,
};

use super::{
    case::{At, Case},
    controlling::Controlling,
    objects::{
        CLUSTER_EXPORT, EXPORT, IMPORT, Kind, LEASE, MEMBER, PEER, SERVICE, SLICE, gateways,
        namespace,
    },
    server::{SINGLE_STACK, Server, Start},
};

/// How long is waited for what comes within a second or two on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);
/// Where Landbridge lives.
pub(crate) const SYSTEM: &str = "landbridge-system";
/// The clusters that every case has.
const NAMES: [&str; 4] = ["hub", "paris", "tokyo", "berlin"];
/// What a set leaves in its clusters, and cases in their namespaces.
const LEFT_OVER: [Kind; 8] = [EXPORT, CLUSTER_EXPORT, MEMBER, LEASE, IMPORT, PEER, SERVICE, SLICE];

/// One runtime for all cases: what a set runs outlives the case that has started it.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

/// Waits until `check` gives something; none when that takes longer than [`PATIENCE`].
pub(crate) async fn patiently<T>(mut check: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let found = check().await;
        if found.is_some() || begun.elapsed() > PATIENCE {
            return found;
        }
        sleep(POLL).await;
    }
}

/// One member of a set: who it is, and its gateways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) name: &'static str,
    pub(crate) network: &'static str,
    pub(crate) gateways: &'static [&'static str],
}

/// What cases share: paris in a network of its own, tokyo and berlin in one.
pub(crate) const SHARED: [Seat; 3] = [
    Seat { name: "paris", network: "a", gateways: &["192.0.2.11", "2001:db8::11"] },
    Seat { name: "tokyo", network: "b", gateways: &["192.0.2.21", "2001:db8::21"] },
    Seat { name: "berlin", network: "b", gateways: &["192.0.2.31", "2001:db8::31"] },
];

/// A cluster that is started: its API and the clients of those who use it.
struct Cluster {
    server: Arc<dyn Server>,
    admin: Client,
    controller: OnceCell<Client>,
    /// Clients of the hub, by member.
    members: Mutex<BTreeMap<&'static str, Client>>,
}

/// What the clusters are used for.
enum Now {
    Nothing,
    Shared(Arc<Set>),
    Story(Arc<Set>),
}

/// The clusters of a process.
pub(crate) struct Stage {
    start: Start,
    clusters: OnceCell<BTreeMap<&'static str, Cluster>>,
    /// What few stories need is started for the first of them.
    single_stack: OnceCell<Cluster>,
    now: RwLock<Now>,
    /// What was forbidden and need not be told again.
    told: std::sync::Mutex<BTreeSet<String>>,
    /// Namespaces that cases let go. Who has not heard of that yet is refused what could be done a moment ago.
    going: std::sync::Mutex<BTreeSet<String>>,
}

/// A clusterset.
pub(crate) struct Set {
    stage: &'static Stage,
    seats: Vec<Seat>,
    controllers: Mutex<BTreeMap<&'static str, Controlling>>,
}

impl Stage {
    pub(crate) const fn new(start: Start) -> Self {
        Self {
            start,
            clusters: OnceCell::const_new(),
            single_stack: OnceCell::const_new(),
            now: RwLock::const_new(Now::Nothing),
            told: std::sync::Mutex::new(BTreeSet::new()),
            going: std::sync::Mutex::new(BTreeSet::new()),
        }
    }

    /// Runs a case beside others, in a namespace of its own.
    pub(crate) fn case(&'static self, name: &str, case: impl AsyncFnOnce(&Case)) {
        runtime().block_on(async {
            let now = self.shared().await;
            let Now::Shared(set) = &*now else { panic!("cases share a set") };
            let view = Case::new(set, name).await;
            case(&view).await;
            self.assert_allowed().await;
        });
    }

    /// Runs a story: nobody else uses the clusters meanwhile.
    pub(crate) fn story(&'static self, seats: &[Seat], story: impl AsyncFnOnce(&Arc<Set>)) {
        runtime().block_on(self.tell(seats, story));
    }

    /// Tells a story once, and shows what it has seen to every case that asks.
    pub(crate) fn recorded<T>(
        &'static self,
        record: &'static OnceCell<Option<T>>,
        seats: &[Seat],
        story: impl AsyncFnOnce(&Arc<Set>) -> T,
    ) -> &'static T {
        let told = runtime().block_on(record.get_or_init(|| async {
            // A story that has failed once is not told again for each of its cases.
            AssertUnwindSafe(self.tell(seats, story)).catch_unwind().await.ok()
        }));
        told.as_ref().expect("the story has failed: see the first of its cases")
    }

    async fn tell<T>(&'static self, seats: &[Seat], story: impl AsyncFnOnce(&Arc<Set>) -> T) -> T {
        let mut now = self.now.write().await;
        let set = self.set(&mut now, seats).await;
        let told = story(&set).await;
        self.assert_allowed().await;
        self.clear(&mut now).await;
        told
    }

    /// Lets whatever runs end, and makes a set for a story.
    async fn set(&'static self, now: &mut Now, seats: &[Seat]) -> Arc<Set> {
        self.clear(now).await;
        let (seats, controllers) = (seats.to_vec(), Mutex::default());
        let set = Arc::new(Set { stage: self, seats, controllers });
        *now = Now::Story(Arc::clone(&set));
        set.join().await;
        set
    }

    /// Whatever runs ends.
    async fn clear(&'static self, now: &mut Now) {
        match std::mem::replace(now, Now::Nothing) {
            Now::Nothing => {}
            Now::Shared(set) | Now::Story(set) => set.end().await,
        }
    }

    async fn shared(&'static self) -> RwLockReadGuard<'static, Now> {
        loop {
            let now = self.now.read().await;
            if matches!(*now, Now::Shared(_)) {
                return now;
            }
            drop(now);
            let mut now = self.now.write().await;
            if !matches!(*now, Now::Shared(_)) {
                *now = Now::Shared(self.set(&mut now, &SHARED).await);
            }
        }
    }

    async fn clusters(&self) -> &BTreeMap<&'static str, Cluster> {
        let started = async || join_all(NAMES.map(|name| self.started(name))).await;
        self.clusters
            .get_or_init(|| async { NAMES.into_iter().zip(started().await).collect() })
            .await
    }

    async fn started(&self, name: &'static str) -> Cluster {
        let server = (self.start)(name).await;
        let (admin, members) = (server.admin(), Mutex::default());
        Cluster { server, admin, controller: OnceCell::new(), members }
    }

    async fn cluster(&self, name: &str) -> &Cluster {
        if name == SINGLE_STACK {
            return self.single_stack.get_or_init(|| self.started(SINGLE_STACK)).await;
        }
        &self.clusters().await[name]
    }

    /// "components run in the tests with exactly these roles, never as admin": what they lack shows here, once.
    async fn assert_allowed(&self) {
        let forbidden = self.forbidden().await;
        assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
    }

    /// What was forbidden since this was asked last.
    async fn forbidden(&self) -> Vec<String> {
        let clusters = self.clusters().await.values().chain(self.single_stack.get());
        let all: BTreeSet<String> =
            clusters.flat_map(|cluster| cluster.server.forbidden()).collect();
        let mut told = self.told.lock().unwrap();
        let going = self.going.lock().unwrap();
        let is_going = |line: &str| going.iter().any(|going| line.contains(going.as_str()));
        let new = all.difference(&told).filter(|line| !is_going(line)).cloned().collect();
        told.extend(all);
        new
    }
}

impl Set {
    /// Sweeps the clusters, makes members of them, and waits for their controllers.
    async fn join(&self) {
        let used: BTreeSet<&'static str> =
            NAMES.into_iter().chain(self.seats.iter().map(|seat| seat.name)).collect();
        join_all(used.into_iter().map(async |name| sweep(&self.at(name, "").await).await)).await;
        let hub = self.at("hub", "").await;
        join_all(self.seats.iter().map(|seat| async {
            hub.create(json!({
                "apiVersion": MEMBER.version, "kind": MEMBER.name, "metadata": {"name": seat.name},
                "spec": {"generation": 1, "network": seat.network},
            }))
            .await;
            let member = self.at(seat.name, SYSTEM).await;
            member.ensure(namespace(SYSTEM)).await;
            for slice in gateways(seat.gateways) {
                member.create(slice).await;
            }
            self.start(seat.name).await;
        }))
        .await;
        self.ready().await;
    }

    /// A cluster as its administrator sees it, with `namespace` for whatever names none.
    pub(crate) async fn at(&self, name: &'static str, namespace: &str) -> At {
        let admin = self.stage.cluster(name).await.admin.clone();
        At::new(name, admin, namespace.to_owned())
    }

    /// What a controller of a member is told.
    pub(crate) fn config(&self, name: &'static str) -> Config {
        let seat = self.seats.iter().find(|seat| seat.name == name).unwrap();
        let address = format!("{}:4433", seat.gateways[0]).parse().unwrap();
        Config {
            advertise: vec![GatewayAddress(address)],
            ..Config::new(
                ClusterId::parse(name).unwrap(),
                "demo".parse().unwrap(),
                seat.network.parse().unwrap(),
                Namespace::parse(SYSTEM).unwrap(),
            )
        }
    }

    /// Starts the controller of a member.
    pub(crate) async fn start(&self, name: &'static str) {
        let controller = self.run(name, self.config(name)).await;
        self.controllers.lock().await.insert(name, controller);
    }

    /// Runs one more controller with the rights of `name`'s, told what `config` says.
    pub(crate) async fn run(&self, name: &'static str, config: Config) -> Controlling {
        let cluster = self.stage.cluster(name).await;
        let local = cluster.controller.get_or_init(|| cluster.server.controller()).await.clone();
        let hub = self.stage.cluster("hub").await;
        let mut seats = self.seats.iter().map(|seat| seat.name);
        let id = seats.find(|known| *known == config.cluster.as_str()).unwrap();
        let mut members = hub.members.lock().await;
        if !members.contains_key(id) {
            members.insert(id, hub.server.member(id).await);
        }
        let hub = members[id].clone();
        drop(members);
        Controlling::start(config, local, hub).await
    }

    /// Takes the controller of a member out of the set, to be stopped or killed.
    pub(crate) async fn take(&self, name: &str) -> Controlling {
        self.controllers.lock().await.remove(name).unwrap()
    }

    /// Asks the controller of a member.
    pub(crate) async fn ask<T>(&self, name: &str, ask: impl FnOnce(&Controlling) -> T) -> T {
        ask(&self.controllers.lock().await[name])
    }

    /// Waits until all controllers have read their clusters and the hub.
    pub(crate) async fn ready(&self) {
        let ready = patiently(async || {
            let controllers = self.controllers.lock().await;
            let mut all = controllers.values();
            all.all(|controller| controller.handle.is_ready() && controller.leads()).then_some(())
        });
        ready.await.expect("the controllers are not ready");
    }

    /// What serves the API of a cluster.
    pub(crate) async fn server(&self, name: &str) -> &dyn Server {
        &*self.stage.cluster(name).await.server
    }

    /// Takes note of a namespace that is about to be deleted.
    pub(crate) fn lets_go(&self, namespace: &str) {
        self.stage.going.lock().unwrap().insert(format!("/namespaces/{namespace}/"));
    }

    /// Ends a pause of a cluster's API. One that has just started knows no roles yet, and refuses everybody for a
    /// moment.
    pub(crate) async fn resume(&self, name: &str) {
        self.server(name).await.resume().await;
        self.stage.forbidden().await;
    }

    async fn end(&self) {
        let controllers = std::mem::take(&mut *self.controllers.lock().await);
        join_all(controllers.into_values().map(Controlling::stop)).await;
        // Wherever a story was left.
        join_all(NAMES.map(|name| async { self.server(name).await.resume().await })).await;
    }
}

/// Deletes what sets and cases before have left in a cluster.
async fn sweep(at: &At) {
    for kind in LEFT_OVER {
        let left = at.list(kind, "").await;
        let left = left.iter().filter(|object| {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            !namespace.starts_with("kube-") && namespace != "default"
        });
        join_all(left.map(|object| async {
            let text =
                |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
            at.within(&text("namespace")).remove(kind, &text("name")).await;
        }))
        .await;
    }
}
