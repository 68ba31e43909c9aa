//! Pods that become ready and stop being so, each timed until everybody has been told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use landbridge_embedded::{Store, Watch};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::set::{CLUSTER_EXPORT, Exporting, SLICE, Set, id};

/// 200 a second.
const EVERY: Duration = Duration::from_millis(5);
/// What has not been told by then is lost.
const LONGEST: Duration = Duration::from_secs(20);

/// What came of it.
pub(crate) struct Churn {
    pub(crate) flips: usize,
    pub(crate) took: Duration,
    /// Milliseconds until the hub had it.
    pub(crate) hub: Vec<f64>,
    /// Milliseconds until both slices at home had it.
    pub(crate) home: Vec<f64>,
}

/// A pod that has turned, and who was not told yet.
#[derive(Clone, Copy, Debug)]
struct Flip {
    at: Instant,
    ready: bool,
    hub: bool,
    derived: bool,
    mcs: bool,
}

/// Where a flip has arrived.
#[derive(Clone, Copy, Debug)]
enum Place {
    Derived,
    Hub,
    Mcs,
}

#[derive(Debug, Default)]
struct Told {
    /// By member, namespace and service.
    open: BTreeMap<(usize, String, String), Flip>,
    hub: Vec<f64>,
    home: Vec<f64>,
}

type Shared = Arc<Mutex<Told>>;

/// Turns pods, one export after the other, for so long, and waits until all of that is told.
pub(crate) async fn churn(set: &Set, lasts: Duration) -> anyhow::Result<Churn> {
    let told = Shared::default();
    let mut watchers = JoinSet::new();
    watchers.spawn(follow_hub(set.hub.store().watch(CLUSTER_EXPORT, None)?, Arc::clone(&told)));
    for (at, member) in set.members.iter().enumerate() {
        let watch = member.store().watch(SLICE, None)?;
        watchers.spawn(follow_home(at, watch, Arc::clone(&told)));
    }
    // Each hears first of all that there is.
    sleep(Duration::from_secs(1)).await;
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut flips) = (Instant::now(), 0);
    while begun.elapsed() < lasts {
        pace.tick().await;
        let export = &set.exports[flips % set.exports.len()];
        let ready = (flips / set.exports.len()) % 2 == 1;
        flip(export, ready, set.members[export.member].store(), &told)?;
        flips += 1;
    }
    let took = begun.elapsed();
    while !lock(&told).open.is_empty() {
        sleep(Duration::from_millis(10)).await;
        let lost = lock(&told).open.len();
        ensure!(begun.elapsed() < lasts + LONGEST, "{lost} flips were never told");
    }
    watchers.shutdown().await;
    let Told { hub, home, .. } = std::mem::take(&mut *lock(&told));
    ensure!(hub.len() == flips && home.len() == flips, "every flip is timed once");
    Ok(Churn { flips, took, hub, home })
}

fn lock(told: &Shared) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flip(export: &Exporting, ready: bool, store: &Store, told: &Shared) -> anyhow::Result<()> {
    let name = format!("{}-x7k2p", export.service);
    let mut slice = (*store.get(SLICE, (&export.namespace, &name))?).clone();
    slice["endpoints"][0]["conditions"]["ready"] = json!(ready);
    slice["endpoints"][0]["conditions"]["serving"] = json!(ready);
    let key = (export.member, export.namespace.clone(), export.service.clone());
    let flip = Flip { at: Instant::now(), ready, hub: false, derived: false, mcs: false };
    let before = lock(told).open.insert(key, flip);
    ensure!(before.is_none(), "{export:?} turns again before it was told");
    store.update(slice)?;
    Ok(())
}

async fn follow_hub(mut watch: Watch, told: Shared) -> anyhow::Result<()> {
    loop {
        let event = watch.next().await?;
        let object = &event.object;
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let member = text("/metadata/namespace").strip_prefix("cluster-member-");
        let member = member.context("a member's namespace")?.parse()?;
        let (namespace, service) =
            text("/metadata/name").split_once('.').context("the name of a ClusterExport")?;
        let ready = object["spec"]["zones"][0]["ready"] == 2;
        let key = (member, namespace.to_owned(), service.to_owned());
        lock(&told).arrives(Place::Hub, &key, ready);
    }
}

async fn follow_home(member: usize, mut watch: Watch, told: Shared) -> anyhow::Result<()> {
    let own = id(member);
    loop {
        let event = watch.next().await?;
        let metadata = &event.object["metadata"];
        let labels = &metadata["labels"];
        if labels["endpointslice.kubernetes.io/managed-by"] != "landbridge.dev" {
            continue;
        }
        let name = metadata["name"].as_str().unwrap_or_default();
        let place = if labels["multicluster.kubernetes.io/source-cluster"] == own {
            Place::Mcs
        } else if name.contains("-pods-") {
            Place::Derived
        } else {
            continue;
        };
        let service = match place {
            Place::Mcs => &labels["multicluster.kubernetes.io/service-name"],
            _ => &metadata["annotations"]["landbridge.dev/import"],
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let endpoints = event.object["endpoints"].as_array();
        let is_ready = |endpoint: &Value| endpoint["conditions"]["ready"] == true;
        let ready = endpoints.is_some_and(|all| all.iter().all(is_ready));
        let key = (member, text(&metadata["namespace"]), text(service));
        lock(&told).arrives(place, &key, ready);
    }
}

impl Told {
    fn arrives(&mut self, place: Place, key: &(usize, String, String), ready: bool) {
        let Some(flip) = self.open.get_mut(key).filter(|flip| flip.ready == ready) else {
            return;
        };
        let millis = flip.at.elapsed().as_secs_f64() * 1_000.0;
        let was_home = flip.derived && flip.mcs;
        match place {
            Place::Derived => flip.derived = true,
            Place::Hub if !flip.hub => {
                flip.hub = true;
                self.hub.push(millis);
            }
            Place::Hub => {}
            Place::Mcs => flip.mcs = true,
        }
        if flip.derived && flip.mcs && !was_home {
            self.home.push(millis);
        }
        if flip.hub && flip.derived && flip.mcs {
            self.open.remove(key);
        }
    }
}
