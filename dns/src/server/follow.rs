//! From watches to snapshots: the one task that owns what is known.
//!
//! Events are taken in by a state that decides nothing about time; what becomes one snapshot is whatever has come
//! by the time that the last one was built.

use std::{sync::Arc, time::Instant};

use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use landbridge_api::{
    mcs::ServiceImport,
    served,
    watch::{WatchConfig, watch},
    wellknown::SERVICE_NAME,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Served, seconds};
use crate::{
    snapshot::Builder,
    state::{Event, Problem, State},
    zone::{self, Zone},
};

/// The most events that become one snapshot: a burst is one, and a steady stream cannot keep the next from coming.
const MAX_BATCH: usize = 256;

/// The watches that feed the server: all imports, and the slices that say that they are an import's.
pub(super) fn events(client: Client) -> BoxStream<'static, Event> {
    let (client, _) = served::adapt(client);
    let imports = Api::<ServiceImport>::all(client.clone());
    let slices = Api::<EndpointSlice>::all(client);
    let imports = watch(imports, WatchConfig::default()).map(Event::Import);
    let slices = watch(slices, WatchConfig::default().labels(SERVICE_NAME)).map(Event::Slice);
    stream::select(imports, slices).boxed()
}

/// Takes in what the watches tell and replaces the snapshot when something changed.
pub(super) async fn follow(
    mut events: BoxStream<'static, Event>,
    zone: Zone,
    mut builder: Builder,
    served: Arc<Served>,
    stop: CancellationToken,
) {
    let mut state = State::default();
    let mut published = false;
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        // A watch never ends; one that did would leave a server with an ageing picture.
        let Some(event) = event else { return };
        let news = Instant::now();
        told(state.apply(event), &served);
        for _ in 1..MAX_BATCH {
            let Some(Some(event)) = events.next().now_or_never() else {
                break;
            };
            told(state.apply(event), &served);
        }
        served.current.set_away(state.is_away(), news);
        let touched = state.take_touched();
        for key in &touched {
            let described =
                state.service(key).map(|(import, slices)| zone::service(&zone, import, slices));
            let described = described.unwrap_or_default();
            for problem in &described.problems {
                warn!(service = %key, problem, "not all of a service can be resolved");
                served.metrics.problems.inc();
            }
            builder.set(key, &described);
        }
        if state.is_synced() && !(published && touched.is_empty()) {
            // A serial that grows with time, whichever replica is asked.
            let snapshot = builder.snapshot(true, seconds(), Instant::now());
            if !published {
                info!(names = snapshot.names(), "ready");
            }
            served.current.snapshot.store(Arc::new(snapshot));
            if published {
                served.metrics.propagation.observe(news.elapsed().as_secs_f64());
            }
            published = true;
        }
    }
}

fn told(problems: Vec<Problem>, served: &Served) {
    for problem in problems {
        match problem {
            Problem::Interrupted(reason) => {
                served.metrics.interruptions.inc();
                warn!(reason, "the Kubernetes API cannot be read; what was known stands");
            }
            Problem::Malformed(problem) => {
                served.metrics.problems.inc();
                warn!(problem, "an object cannot be read; what was known of it stands");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _, pin::pin};

    use futures::channel::mpsc;
    use landbridge_api::watch::Change;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{config::Config, fixture, server::served, snapshot::Snapshot};

    const OTHERS: usize = 500;

    /// No clock runs here: what waited for one would never come.
    #[test]
    fn a_change_that_comes_alone_is_answered_at_once_and_nothing_else_is_made_anew() {
        let (told, events) = mpsc::unbounded();
        let (config, zone) = (Config::default(), Zone::default());
        let mut builder = Builder::new(&zone, config.ttl.into(), &BTreeSet::new());
        let unknown = builder.snapshot(false, 1, Instant::now());
        let (waiting, _jobs) = tokio::sync::mpsc::channel(1);
        let served = served(&config, unknown, waiting, &mut Registry::default()).unwrap();
        let (served, stop) = (Arc::new(served), CancellationToken::new());
        let following = follow(events.boxed(), zone, builder, Arc::clone(&served), stop);
        let mut following = pin!(following);
        let mut after = |events: Vec<Event>| {
            events.into_iter().for_each(|event| told.unbounded_send(event).unwrap());
            assert!(following.as_mut().now_or_never().is_none(), "it goes on");
            served.current.snapshot.load_full()
        };
        let mut all = String::new();
        for number in 0..OTHERS {
            writeln!(all, "import shop/web-{number} ClusterSetIP 10.96.7.7 | http=80/TCP").unwrap();
        }
        let before = after(fixture::events(&all));
        let mut change = fixture::events("import shop/web-7 ClusterSetIP 10.96.7.8 | http=80/TCP");
        change.retain(|event| matches!(event, Event::Import(Change::Apply(_))));
        let now = after(change);
        assert_eq!((now.generation, now.names()), (before.generation + 1, before.names()));
        let places = |snapshot: &Snapshot| -> BTreeSet<usize> {
            snapshot.sorted().iter().map(|entry| entry.name().as_ptr().addr()).collect()
        };
        let anew = places(&now).difference(&places(&before)).count();
        assert_eq!(anew, 2, "the name, and that of its port, which tells the address beside it");
    }
}
