//! Replicas that are restarted one after the other, under load: no call fails, and none is delivered twice.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::world::{Site, World, id, named, until};

/// How much later than the controller kube-proxies hear that a gateway goes.
const BEHIND: Duration = Duration::from_millis(300);

/// The replicas of one member's gateway, and where its clients are sent.
#[derive(Default)]
struct Replicas {
    sites: Mutex<BTreeMap<usize, Arc<Site>>>,
    named: Mutex<Vec<SocketAddr>>,
}

impl Replicas {
    fn all(&self) -> Vec<Arc<Site>> {
        self.sites.lock().unwrap().values().cloned().collect()
    }

    fn replica(&self, index: usize) -> Arc<Site> {
        Arc::clone(&self.sites.lock().unwrap()[&index])
    }

    /// Sends clients to every replica but `without`: gateways hear of it at once, kube-proxies later.
    async fn name(&self, without: Option<IpAddr>) {
        let entries: Vec<SocketAddr> = self.all().iter().map(|site| site.entry()).collect();
        let entries: Vec<SocketAddr> =
            entries.into_iter().filter(|entry| Some(entry.ip()) != without).collect();
        let addresses: Vec<IpAddr> = entries.iter().map(SocketAddr::ip).collect();
        for site in self.all() {
            site.is_named(&addresses);
        }
        tokio::time::sleep(BEHIND).await;
        *self.named.lock().unwrap() = entries;
    }

    /// One of the replicas goes as it does when its process is told to. Returns where it was dialled.
    async fn ends(&self, index: usize) -> SocketAddr {
        let site = self.replica(index);
        let (own, link) = (site.entry().ip(), site.link_address());
        tokio::join!(site.core.leave(), self.name(Some(own)));
        site.core.drain().await;
        self.sites.lock().unwrap().remove(&index);
        link
    }
}

/// paris serves, berlin calls; each has two replicas, and only berlin's dial.
struct Both {
    world: World,
    berlin: Replicas,
    paris: Replicas,
    pod: SocketAddr,
}

impl Both {
    async fn start(pod: SocketAddr) -> Self {
        let (berlin, paris) = (Replicas::default(), Replicas::default());
        let both = Self { world: World::new(), berlin, paris, pod };
        for index in 0..2 {
            both.add_paris(index, None).await;
        }
        for index in 0..2 {
            both.add_berlin(index).await;
        }
        both.berlin.name(None).await;
        until("linked", || {
            let linked = |site: &Arc<Site>| site.core.links.to(&id("paris")).len() == 2;
            both.berlin.all().iter().all(linked)
        })
        .await;
        both
    }

    async fn add_paris(&self, index: usize, link: Option<SocketAddr>) {
        let site = self.world.replica("paris", &format!("gw-{index}"), link).await;
        site.knows("berlin", &[]);
        site.exports(&[self.pod], false);
        self.paris.sites.lock().unwrap().insert(index, Arc::new(site));
    }

    async fn add_berlin(&self, index: usize) {
        let site = self.world.replica("berlin", &format!("gw-{index}"), None).await;
        let links: Vec<SocketAddr> =
            self.paris.all().iter().map(|site| site.link_address()).collect();
        site.knows("paris", &links);
        site.imports(&["paris"]).await;
        self.berlin.sites.lock().unwrap().insert(index, Arc::new(site));
    }

    /// Restarts every replica, one after the other. Whoever does that waits until one is ready, and for nothing else:
    /// not until anybody holds a link to it.
    async fn roll(&self) {
        for index in 0..2 {
            let link = self.paris.ends(index).await;
            self.add_paris(index, Some(link)).await;
        }
        for index in 0..2 {
            self.berlin.ends(index).await;
            self.add_berlin(index).await;
            self.berlin.name(None).await;
        }
    }
}

async fn ask(to: SocketAddr, question: &str) -> std::io::Result<String> {
    let mut client = TcpStream::connect(to).await?;
    client.write_all(question.as_bytes()).await?;
    client.shutdown().await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Design, "Gateway": "Draining starts by leaving the slices and telling peers, then refuses, then ends old streams
/// within a bound"; section 10, gateway-roll: "rolling restart of 2 replicas […] under load: 0 failed calls".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_two_replicas_fails_no_call() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let both = Arc::new(Both::start(named("paris", &heard).await).await);
    let rolled = tokio::spawn({
        let both = Arc::clone(&both);
        async move { both.roll().await }
    });
    let mut calls = JoinSet::new();
    let mut asked = 0;
    while !rolled.is_finished() {
        let entries = both.berlin.named.lock().unwrap().clone();
        let (to, question) = (entries[asked % entries.len()], format!("call {asked}"));
        calls.spawn(async move {
            let answer = ask(to, &question).await;
            (answer.is_ok_and(|answer| answer == "paris"), question)
        });
        asked += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rolled.await.unwrap();
    let all = calls.join_all().await;
    let failed: Vec<&String> = all.iter().filter(|(good, _)| !good).map(|(_, call)| call).collect();
    assert_eq!(failed, Vec::<&String>::new(), "of {asked}");
    let heard = heard.lock().unwrap();
    let distinct: HashSet<&String> = heard.iter().collect();
    assert_eq!((heard.len(), distinct.len()), (asked, asked), "each was delivered once");
}

/// "tells peers so that they open no new streams": while it leaves, what comes is served all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_leaves_is_the_last_to_be_asked_and_serves_what_comes() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let both = Both::start(named("paris", &heard).await).await;
    let berlin = both.berlin.replica(0);
    let [first, second] = [0, 1].map(|index| both.paris.replica(index));
    let going = |most: usize| {
        let links = berlin.core.links.to(&id("paris"));
        links.iter().filter(|link| link.view().draining).count() == most
    };
    let leaving = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.core.leave().await }
    });
    until("berlin is told", || going(1)).await;
    for n in 0..10 {
        assert_eq!(ask(berlin.entry(), &n.to_string()).await.unwrap(), "paris");
    }
    let opened = |site: &Site| site.core.metrics.connected_inbound();
    assert_eq!((opened(&first), opened(&second)), (0, 10));
    let both_leave = tokio::spawn({
        let second = Arc::clone(&second);
        async move { second.core.leave().await }
    });
    until("berlin is told again", || going(2)).await;
    assert_eq!(ask(berlin.entry(), "last").await.unwrap(), "paris");
    leaving.await.unwrap();
    both_leave.await.unwrap();
}

/// A gateway that nobody could take the place of, and that nobody calls, does not keep anyone waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_alone_leaves_at_once() {
    let world = World::new();
    let berlin = world.site("berlin");
    berlin.imports(&["paris"]).await;
    berlin.is_named(&[berlin.entry().ip()]);
    tokio::time::timeout(Duration::from_secs(2), berlin.core.leave()).await.unwrap();
}
