//! A userspace kube-proxy for loopback: it listens on every ClusterIP and port and forwards to a
//! ready endpoint, without root and with the caller's own address as source.
//!
//! `table.rs` and `pick.rs` decide; this file follows the objects and keeps the listeners as the
//! table says; `listen.rs` spawns one task for each of them; `tcp.rs` and `udp.rs` move bytes.

mod listen;
mod pick;
mod table;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::error::ApiError;
use crate::store::{Store, Watch};
use listen::Listener;
pub use table::Protocol;
use table::{Backends, Frontend, Objects, compile};

/// How many connections are carried at a time. Each holds two descriptors; a demo with a load
/// generator has hundreds.
const MAX_CONNECTIONS: usize = 4096;

/// How soon an address that could not be listened on is tried again when nothing else changes:
/// whoever holds it may be on the way out.
const RETRY: Duration = Duration::from_secs(1);

/// A running proxy. Dropping it ends its tasks; [`Self::stop`] also waits for them.
#[derive(Debug)]
pub struct Proxy {
    context: Context,
}

/// An address that the proxy should listen on and cannot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The ClusterIP and port.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The Service and its port, as `namespace/name:port`.
    pub service: String,
    /// What the operating system says.
    pub error: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What a proxy has done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// TCP connections that reached an endpoint.
    pub connections: u64,
    /// TCP connections whose endpoint could not be reached; the client was reset.
    pub failed: u64,
    /// Datagrams dropped: no endpoint, a full socket, or an endpoint that is not there.
    pub dropped: u64,
    /// Connections and flows refused because the bounds were reached.
    pub overflow: u64,
}

/// What all the proxy's tasks share.
#[derive(Clone, Debug)]
struct Context {
    cancel: CancellationToken,
    tasks: TaskTracker,
    ledger: Arc<Mutex<Ledger>>,
    places: Arc<Semaphore>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Ledger {
    problems: BTreeMap<Frontend, Problem>,
    counters: Counters,
}

impl Proxy {
    /// Starts a proxy for a cluster's Services; `name` stands in the logs. Needs a Tokio runtime.
    ///
    /// # Errors
    /// None in practice: the store always serves Services and EndpointSlices.
    pub fn start(name: &str, store: &Store) -> Result<Self, ApiError> {
        let feed = Feed::open(store)?;
        let context = Context {
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ledger: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            started: Instant::now(),
        };
        let span = tracing::info_span!("service-proxy", cluster = name);
        context.tasks.spawn(follow(feed, context.clone()).instrument(span));
        Ok(Self { context })
    }

    /// The addresses that cannot be listened on at the moment.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.context.ledger().problems.values().cloned().collect()
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.context.ledger().counters
    }

    /// Closes every listener and connection and waits for the tasks.
    pub async fn stop(self) {
        self.context.cancel.cancel();
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.context.cancel.cancel();
    }
}

impl Context {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, counter: impl FnOnce(&mut Counters) -> &mut u64) {
        *counter(&mut self.ledger().counters) += 1;
    }

    /// Forgets the problems of ports that are not wanted any more.
    fn forget(&self, gone: impl Fn(&Frontend) -> bool) {
        self.ledger().problems.retain(|port, _| !gone(port));
    }

    /// Notes a problem, and logs it when it is new.
    fn note(&self, frontend: Frontend, service: String, error: &io::Error) {
        let (Frontend { address, protocol }, remedy) = (frontend, remedy(error.kind()));
        let known = self.ledger().problems.contains_key(&frontend);
        if !known {
            tracing::warn!(%address, %protocol, service, %error, remedy, "cannot listen");
        }
        let error = error.to_string();
        let problem = Problem { address, protocol, service, error, remedy };
        self.ledger().problems.insert(frontend, problem);
    }
}

/// The two watches that the table is made from, and what they have told.
struct Feed {
    store: Store,
    watches: [Watch; 2],
    objects: [Objects; 2],
}

impl Feed {
    fn open(store: &Store) -> Result<Self, ApiError> {
        let services = store.watch(("v1", "Service"), None)?;
        let slices = store.watch(("discovery.k8s.io/v1", "EndpointSlice"), None)?;
        let (store, watches) = (store.clone(), [services, slices]);
        let objects = <[Objects; 2]>::default();
        Ok(Self { store, watches, objects })
    }

    /// Waits for changes and takes all that are there. After a watch was lost, all is read anew:
    /// fresh watches begin with all objects.
    async fn changed(&mut self) {
        if let Err(error) = self.take().await {
            tracing::debug!(%error, "reading all Services and EndpointSlices anew");
            match Self::open(&self.store) {
                Ok(fresh) => *self = fresh,
                Err(error) => tracing::error!(%error, "the cluster serves no Services"),
            }
        }
    }

    async fn take(&mut self) -> Result<(), ApiError> {
        let [services, slices] = &mut self.watches;
        tokio::select! {
            event = services.next() => self.objects[0].apply(event?),
            event = slices.next() => self.objects[1].apply(event?),
        }
        for (watch, objects) in self.watches.iter_mut().zip(&mut self.objects) {
            while let Some(event) = watch.try_next()? {
                objects.apply(event);
            }
        }
        Ok(())
    }
}

/// Follows the objects until the proxy is stopped.
async fn follow(mut feed: Feed, context: Context) {
    let mut listeners = BTreeMap::new();
    loop {
        let failing = !context.ledger().problems.is_empty();
        tokio::select! {
            () = context.cancel.cancelled() => break,
            () = feed.changed() => {}
            () = sleep(RETRY), if failing => {}
        }
        let table = compile(&feed.objects[0], &feed.objects[1]);
        reconcile(&mut listeners, table, &context).await;
    }
    for listener in listeners.into_values() {
        listener.close().await;
    }
}

/// Makes the listeners what the table says. A TCP port without endpoints is closed, so that the
/// kernel refuses as kube-proxy's REJECT does; a UDP port stays, and its datagrams are dropped.
async fn reconcile(
    listeners: &mut BTreeMap<Frontend, Listener>,
    mut table: BTreeMap<Frontend, Backends>,
    context: &Context,
) {
    table.retain(|port, to| port.protocol == Protocol::Udp || !to.endpoints.is_empty());
    for (_, listener) in listeners.extract_if(.., |port, _| !table.contains_key(port)) {
        listener.close().await;
    }
    context.forget(|port| !table.contains_key(port));
    for (frontend, backends) in table {
        if let Some(listener) = listeners.get(&frontend) {
            listener.follow(backends);
            continue;
        }
        let service = backends.service.clone();
        match Listener::open(frontend, backends, context).await {
            Ok(listener) => {
                context.ledger().problems.remove(&frontend);
                listeners.insert(frontend, listener);
            }
            Err(error) => context.note(frontend, service, &error),
        }
    }
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let remedies = [
        (AddrInUse, "end the process that holds the address, or use another port"),
        (AddrNotAvailable, "add the address: on macOS `sudo ifconfig lo0 alias <address>`"),
        (PermissionDenied, "use a port of 1024 or more: lower ones are for root"),
    ];
    let known = remedies.iter().find(|(known, _)| *known == kind);
    known.map_or("see the operating system's message", |(_, remedy)| remedy)
}
