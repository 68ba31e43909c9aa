//! Getting connections: by dialling every address of every peer, and by being dialled.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use landbridge_model::ClusterId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    hold::hold,
    run::{News, run},
};
use crate::{
    core::Core,
    door,
    health::Backoff,
    transport::{Carrier, Incoming, Shaken},
};

/// Addresses that are dialled for one peer: more replicas than that need not all be held.
const MAX_ADDRESSES: usize = 16;
/// Handshakes of dialling peers at once, over QUIC and over TCP each: whoever fills one leaves the other alone. Each costs
/// two signatures, about 0.2 ms.
const MAX_HANDSHAKES: usize = 256;
/// From so many on, a dialler must first show that it is where it says.
const VALIDATE_FROM: usize = 32;

/// A link that stood so long was worth dialling.
const STOOD: Duration = Duration::from_secs(5);

/// An address of a peer. A peer that has joined anew is dialled anew.
type Destination = (ClusterId, u64, SocketAddr);

/// Keeps one task dialling each address of each peer that is listed, and cuts the links of those that are not.
pub(crate) async fn dial(core: Arc<Core>) {
    let mut dialling: HashMap<Destination, CancellationToken> = HashMap::new();
    let mut revision = core.snapshots.subscribe();
    loop {
        let snapshot = core.snapshots.load();
        core.links.cut(|cluster| snapshot.peers.get(cluster).map(|peer| peer.generation));
        let wanted = |(cluster, generation, address): &Destination| {
            snapshot.peers.get(cluster).is_some_and(|peer| {
                let addresses = peer.gateways.iter().take(MAX_ADDRESSES);
                peer.generation == *generation && addresses.into_iter().any(|own| own.0 == *address)
            })
        };
        dialling.retain(|destination, token| {
            let wanted = wanted(destination);
            if !wanted {
                token.cancel();
            }
            wanted
        });
        for peer in snapshot.peers.values() {
            for address in peer.gateways.iter().take(MAX_ADDRESSES) {
                let destination = (peer.cluster.clone(), peer.generation, address.0);
                dialling.entry(destination.clone()).or_insert_with(|| {
                    let token = core.stop.child_token();
                    core.tasks.spawn("dial", keep(Arc::clone(&core), destination, token.clone()));
                    token
                });
            }
        }
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            () = core.stop.cancelled() => return,
        }
    }
}

/// Dials one address until it need not any more. A link that stands is left alone when its address goes: it is cut
/// with its peer.
async fn keep(core: Arc<Core>, destination: Destination, token: CancellationToken) {
    let (cluster, _, address) = destination;
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let dialled = tokio::select! {
            dialled = core.transport.dial(address, &cluster) => dialled,
            () = token.cancelled() => return,
        };
        let result = match dialled {
            Ok(connection) => hold(&core, connection, &cluster, address, &token).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) if begun.elapsed() >= STOOD => backoff.reset(),
            // Whoever is about to go may be all that there is at the address.
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(peer = %cluster, %address, "not connected: {error}");
                core.links.failed(&cluster, error);
            }
        }
        let wait = backoff.next(rand::random());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = token.cancelled() => return,
            () = core.leaving.cancelled() => return,
        }
    }
}

/// Takes the connections of peers that dial.
pub(crate) async fn accept(core: Arc<Core>) {
    let handshakes = || Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let (over_quic, over_tcp) = (handshakes(), handshakes());
    loop {
        let incoming = tokio::select! {
            incoming = core.transport.accept() => incoming,
            () = core.stop.cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        let handshakes = match incoming.carrier() {
            Carrier::Quic => &over_quic,
            Carrier::Tcp => &over_tcp,
        };
        let busy = MAX_HANDSHAKES - handshakes.available_permits();
        let incoming = if busy < VALIDATE_FROM { Some(incoming) } else { incoming.validated() };
        let Some(incoming) = incoming else { continue };
        match Arc::clone(handshakes).try_acquire_owned() {
            Ok(permit) => {
                let core_of_task = Arc::clone(&core);
                core.tasks.spawn("dialled", async move {
                    dialled(&core_of_task, incoming, permit).await;
                });
            }
            Err(_) => {
                core.metrics.handshake_refused("overloaded");
                incoming.refuse();
            }
        }
    }
}

async fn dialled(core: &Arc<Core>, incoming: Incoming, permit: tokio::sync::OwnedSemaphorePermit) {
    let address = incoming.remote_address();
    let shaken = tokio::select! {
        shaken = incoming.handshake() => shaken,
        () = core.stop.cancelled() => return,
    };
    drop(permit);
    match shaken {
        Ok(Shaken::Nothing) => {}
        Ok(Shaken::Joins(joining)) => door::knocks(core, joining, address).await,
        Ok(Shaken::Link(connection)) => {
            if let Err(error) = run(core, connection, None, News::default()).await {
                tracing::info!(%address, "a peer that dialled has gone again: {error}");
            }
        }
        Err((reason, error)) => {
            // What was wrong with a certificate has been counted where it was judged.
            if let Some(reason) = reason {
                core.metrics.handshake_refused(reason);
            }
            tracing::warn!(%address, reason, "a connection is refused: {error}");
        }
    }
}
