//! What changes during a soak, and since when who serves what.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::set::{CHURNED, PARIS, Set, TOKYO};
use crate::controller::create;

const POLICY: (&str, &str) = ("landbridge.dev/v1alpha1", "AccessPolicy");
const PEER: (&str, &str) = ("landbridge.dev/v1alpha1", "Peer");
/// Between two changes.
const CHANGE: Duration = Duration::from_millis(300);
/// Between two restarts: each lets connections end before, for some seconds.
const RESTART: Duration = Duration::from_secs(4);
/// What was told so long ago is known, on a busy machine too.
const KNOWN: Duration = Duration::from_secs(5);

/// Since when a cluster must not serve something, and when that was last otherwise.
#[derive(Default)]
pub(super) struct Serving(Mutex<HashMap<String, Instant>>);

impl Serving {
    /// `what` is over, as every gateway will know before long.
    fn ends(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what, Instant::now());
    }

    /// `what` is about to begin.
    fn begins(&self, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    /// Whether an answer of `cluster`, for a call to `service` that began at `begun` and has just ended, can be right.
    pub(super) fn may_answer(&self, cluster: &str, service: &str, begun: Instant) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = [cluster.to_owned(), format!("{cluster}/{service}")];
        keys.iter().all(|key| ended.get(key).is_none_or(|since| *since + KNOWN > begun))
    }
}

/// Takes something away, and brings back something that was taken away before: each is away for about six seconds.
pub(super) async fn objects(set: Arc<Set>, serving: Arc<Serving>, stop: CancellationToken) {
    let mut draw = StdRng::seed_from_u64(1);
    let mut away: Vec<Change> = Vec::new();
    while !stop.is_cancelled() {
        let change = Change::drawn(&mut draw);
        if !away.contains(&change) {
            change.take(&set, &serving);
            away.push(change);
        }
        if away.len() > 6 {
            let at = draw.random_range(0..away.len());
            away.swap_remove(at).restore(&set, &serving);
        }
        sleep(CHANGE + Duration::from_millis(draw.next_u64() % 300)).await;
    }
    for change in away {
        change.restore(&set, &serving);
    }
}

/// Something that can be taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    /// The right to call a service of paris.
    Access(&'static str),
    /// The pod of a service of tokyo.
    Pod(&'static str),
    /// All of tokyo.
    Peer,
}

impl Change {
    fn drawn(draw: &mut StdRng) -> Self {
        let service = CHURNED[draw.random_range(0..CHURNED.len())];
        match draw.random_range(0..9) {
            0 => Self::Peer,
            1..5 => Self::Access(service),
            _ => Self::Pod(service),
        }
    }

    fn take(self, set: &Set, serving: &Serving) {
        match self {
            Self::Access(service) => {
                create(
                    &set.clusters[PARIS],
                    json!({"apiVersion": POLICY.0, "kind": POLICY.1,
                        "metadata": {"namespace": "shop", "name": service},
                        "spec": {"service": service, "allow": [{"clusters": ["oslo"]}]}}),
                );
                serving.ends(format!("paris/{service}"));
            }
            Self::Pod(service) => {
                ready(set, service, false);
                serving.ends(format!("tokyo/{service}"));
            }
            Self::Peer => {
                set.delete(0, PEER, ("", "tokyo"));
                serving.ends("tokyo".to_owned());
            }
        }
    }

    fn restore(self, set: &Set, serving: &Serving) {
        match self {
            Self::Access(service) => {
                serving.begins(&format!("paris/{service}"));
                set.delete(PARIS, POLICY, ("shop", service));
            }
            Self::Pod(service) => {
                serving.begins(&format!("tokyo/{service}"));
                ready(set, service, true);
            }
            Self::Peer => {
                serving.begins("tokyo");
                create(set.berlin(), set.peer_of(TOKYO));
            }
        }
    }
}

fn ready(set: &Set, service: &str, ready: bool) {
    let store = set.clusters[TOKYO].cluster.store();
    let mut slice = set.slice(TOKYO, service, ready);
    let (kind, name) = (("discovery.k8s.io/v1", "EndpointSlice"), format!("{service}-x7k2p"));
    let current = store.get(kind, ("shop", &name)).unwrap();
    slice["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
    store.update(slice).unwrap();
}

/// Restarts paris's gateway with a new certificate, as it is restarted before the old one expires.
pub(super) async fn restarts(set: Arc<Set>, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(RESTART)).await.is_some() {
        set.end_gateway(PARIS, true).await;
        set.start_gateway(PARIS).await;
    }
}
