//! Exports, one after the other: each is timed until everything that it comes to can be read in the other cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use landbridge_model::{ServiceKey, derived};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    cluster::{BERLIN, PARIS, Set},
    world::{
        self,
        real::{EXPORT, IMPORT, Kind, LONGEST, SERVICE, SLICE},
    },
};

/// Between two exports: what the last one has set in motion comes to rest.
const PAUSE: Duration = Duration::from_millis(50);

/// When each object was first seen, by kind and name.
type Seen = Arc<Mutex<BTreeMap<(&'static str, String), Instant>>>;

/// Milliseconds that each of `count` exports took.
pub(crate) async fn exports(set: &Set, round: usize, count: usize) -> anyhow::Result<Vec<f64>> {
    let namespace = format!("single-{round}");
    set.namespace(&namespace).await?;
    let (seen, mut watches) = (Seen::default(), JoinSet::new());
    for kind in [IMPORT, SERVICE, SLICE] {
        watches.spawn(follow(set, kind, &namespace, Arc::clone(&seen)));
    }
    // Whoever looks has to be there before there is something to see.
    sleep(Duration::from_secs(1)).await;
    let mut took = Vec::new();
    for n in 0..count {
        let name = format!("web-{n}");
        let pods = [
            format!("10.1.{}.{}", n / 200, n % 200 + 1),
            format!("10.2.{}.{}", n / 200, n % 200 + 1),
        ];
        for object in world::service(&namespace, &name, [&pods[0], &pods[1]]) {
            set.paris.create(object).await?;
        }
        sleep(PAUSE).await;
        let begun = Instant::now();
        set.paris.create(world::export(&namespace, &name)).await?;
        let wanted = wanted(&namespace, &name)?;
        let last = loop {
            let found = {
                let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let found = wanted.iter().map(|(kind, name)| seen.get(&(kind.1, name.clone())));
                found.collect::<Option<Vec<_>>>().and_then(|at| at.into_iter().max().copied())
            };
            if let Some(last) = found {
                break last;
            }
            ensure!(begun.elapsed() < LONGEST, "{namespace}/{name} is not imported in {BERLIN}");
            sleep(Duration::from_millis(1)).await;
        };
        took.push((last - begun).as_secs_f64() * 1_000.0);
        // Readable, and not only told.
        for (kind, name) in wanted {
            let found = set.berlin.api(kind, &namespace).get(&name).await;
            found.with_context(|| format!("{} {namespace}/{name}", kind.1))?;
        }
    }
    watches.shutdown().await;
    ensure!(set.paris.list(EXPORT, &namespace).await?.len() == count, "every export stands");
    Ok(took)
}

/// What an export of paris comes to in berlin.
fn wanted(namespace: &str, name: &str) -> anyhow::Result<[(Kind, String); 4]> {
    let derived = derived::service(&ServiceKey::parse(namespace, name)?);
    Ok([
        (IMPORT, name.to_owned()),
        (SERVICE, derived.to_string()),
        (SLICE, format!("{derived}-gw-v4")),
        (SLICE, format!("{name}-{PARIS}-v4")),
    ])
}

fn follow(
    set: &Set,
    kind: Kind,
    namespace: &str,
    seen: Seen,
) -> impl Future<Output = ()> + Send + use<> {
    let api = set.berlin.api(kind, namespace);
    async move {
        let objects = watcher(api, watcher::Config::default()).default_backoff();
        let mut objects = std::pin::pin!(objects.applied_objects());
        while let Some(object) = objects.next().await {
            let Ok(object) = object else { continue };
            let name = object.metadata.name.unwrap_or_default();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.entry((kind.1, name)).or_insert_with(Instant::now);
        }
    }
}
