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
