//! Where flows have been brought, by name: one that goes on by another stream, over another link, keeps its pod and the
//! address that the pod knows it by.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use landbridge_model::{ClusterId, PortKey, Protocol, ServiceKey};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::{
    pool::Taken,
    wire::{FlowName, Header},
};

/// A flow of a peer. Who calls it is the peer's to say.
type Key = (ClusterId, FlowName);

/// Where a flow has been brought.
#[derive(Debug)]
pub(super) struct Place {
    service: ServiceKey,
    port: PortKey,
    pub(super) pod: Arc<UdpSocket>,
    /// The pod that it counts for.
    pub(super) taken: Arc<Taken<(Protocol, SocketAddr)>>,
    /// Cancelled when the flow goes on elsewhere.
    pub(super) left: CancellationToken,
}

impl Place {
    pub(super) fn new(
        header: &Header,
        pod: UdpSocket,
        taken: Taken<(Protocol, SocketAddr)>,
    ) -> Self {
        Self {
            service: header.service.clone(),
            port: header.port,
            pod: Arc::new(pod),
            taken: Arc::new(taken),
            left: CancellationToken::new(),
        }
    }
}

/// The places of the flows that have a name: no more than there may be flows of peers.
#[derive(Debug, Default)]
pub(crate) struct Places {
    known: Arc<Mutex<HashMap<Key, Arc<Place>>>>,
}

impl Places {
    /// Takes over the place of the flow with this name, if it has one and asks for the same as before.
    pub(super) fn take_over(&self, cluster: &ClusterId, header: &Header) -> Option<Place> {
        let key = (cluster.clone(), header.flow?);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&key)?;
        if (&before.service, before.port) != (&header.service, header.port) {
            return None;
        }
        before.left.cancel();
        Some(Place {
            service: before.service.clone(),
            port: before.port,
            pod: Arc::clone(&before.pod),
            taken: Arc::clone(&before.taken),
            left: CancellationToken::new(),
        })
    }

    /// Remembers where a flow is, if it has a name, until what is returned is dropped.
    pub(super) fn keep(&self, cluster: &ClusterId, header: &Header, place: &Arc<Place>) -> Kept {
        let key = header.flow.map(|flow| (cluster.clone(), flow));
        if let Some(key) = &key {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(key.clone(), Arc::clone(place));
        }
        Kept { known: Arc::clone(&self.known), key, place: Arc::clone(place) }
    }
}

/// A place that is remembered.
#[derive(Debug)]
pub(super) struct Kept {
    known: Arc<Mutex<HashMap<Key, Arc<Place>>>>,
    key: Option<Key>,
    place: Arc<Place>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Another stream may have its place by now.
        if known.get(key).is_some_and(|place| Arc::ptr_eq(place, &self.place)) {
            known.remove(key);
        }
    }
}
