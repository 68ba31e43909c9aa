//! The top of the embedded API: one cluster that listens on loopback, can be made unavailable for
//! a while, and stops. The only place of the API that spawns tasks.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::{Ipv4Net, Ipv6Net};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::error::ApiError;
use crate::handler;
use crate::services::ClusterIps;
use crate::store::Store;

/// Every watch of an HTTP/1.1 client holds a connection. Ten members' components with some twenty
/// watches each, their other requests and a few `kubectl`s stay well below.
const MAX_CONNECTIONS: usize = 1024;

/// The waits of a cluster that resumes for its address: a second in all is long for a program to start.
const BIND_PAUSES: [Duration; 50] = [Duration::from_millis(20); 50];

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Names the cluster and its kubeconfig context.
    pub name: String,
    /// Where to listen; a loopback address, since nobody is asked who they are. Port 0 takes any.
    pub listen: SocketAddr,
    /// ClusterIPs come from here; the first and the last address stay free.
    pub service_range_v4: Ipv4Net,
    /// IPv6 ClusterIPs come from here; a cluster without this range is single-stack.
    pub service_range_v6: Option<Ipv6Net>,
    /// Kinds to serve from the start, beside the core ones.
    pub crds: Vec<CustomResourceDefinition>,
}

/// Why a cluster cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system refuses the address: choose another, or end who holds it.
    #[error("cannot listen on {address}: {source}; choose a free loopback address")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// A CRD of the configuration cannot be served. The caller's fault.
    #[error("the CRD {name} cannot be served: {source}")]
    Crd {
        /// The CRD's name.
        name: String,
        /// What the API says.
        source: ApiError,
    },
    /// The address is open to other machines; this API asks nobody who they are.
    #[error("{0} is not a loopback address, and the embedded API has no authentication")]
    NotLoopback(SocketAddr),
}

/// A running cluster. Dropping it ends its tasks; [`Self::stop`] also waits for them.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    address: SocketAddr,
    store: Store,
    serving: Mutex<Option<Serving>>,
}

/// The listener's tasks, while there is one.
#[derive(Debug)]
struct Serving {
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Cluster {
    /// Starts a cluster with the usual namespaces and the given CRDs.
    ///
    /// # Errors
    /// When the address is taken or not on loopback, or a CRD cannot be served.
    pub async fn start(config: ClusterConfig) -> Result<Self, StartError> {
        if !config.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(config.listen));
        }
        let (v4, v6) = (config.service_range_v4, config.service_range_v6);
        let store = Store::new(ClusterIps::new(v4, v6));
        let namespace =
            |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let namespaces =
            ["default", "kube-node-lease", "kube-public", "kube-system"].map(namespace);
        let crds = config.crds.iter().map(|crd| json!(crd));
        for object in namespaces.into_iter().chain(crds) {
            let name = object["metadata"]["name"].to_string();
            let made = store.create(object);
            made.map_err(|source| StartError::Crd { name, source })?;
        }
        let (address, listener) = bind(config.listen).await?;
        let name = config.name;
        let serving = Mutex::new(Some(serve(&name, listener, store.clone())));
        Ok(Self { name, address, store, serving })
    }

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The objects, without HTTP in between.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A kubeconfig whose only context bears the cluster's name.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let (name, address) = (&self.name, self.address);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters:\n- name: {name}\n  cluster:\n    server: http://{address}\n\
             users:\n- name: {name}\n  user: {{}}\n\
             contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n\
             \x20   namespace: default\n"
        )
    }

    /// Makes the API unreachable: open connections end, new ones are refused. The objects stay. The port is free
    /// meanwhile: whoever resumes should listen on an address of its own.
    pub async fn pause(&self) {
        if let Some(serving) = self.serving.lock().await.take() {
            serving.end().await;
        }
    }

    /// Ends a pause, at the same address. Without a pause it does nothing.
    ///
    /// # Errors
    /// When somebody else has taken the address in the meantime.
    pub async fn resume(&self) -> Result<(), StartError> {
        let mut serving = self.serving.lock().await;
        if serving.is_none() {
            // A program that this process is just starting holds copies of all its sockets until it
            // executes, so that a listener may outlive its end by a moment.
            let mut bound = bind(self.address).await;
            for pause in BIND_PAUSES {
                if bound.is_err() {
                    sleep(pause).await;
                    bound = bind(self.address).await;
                }
            }
            *serving = Some(serve(&self.name, bound?.1, self.store.clone()));
        }
        Ok(())
    }

    /// Forgets the history, so that every watch ends with 410 and has to list again.
    pub fn compact(&self) {
        self.store.compact();
    }

    /// Keeps an object without any check; see [`Store::insert_unchecked`].
    ///
    /// # Errors
    /// 400 when `apiVersion` and `kind` name nothing that is served.
    pub fn insert_unchecked(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        self.store.insert_unchecked(object)
    }

    /// Stops listening and waits until every connection has ended.
    pub async fn stop(self) {
        self.pause().await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Serving {
    async fn end(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Listens on an address, and says which one it is when any port would do.
async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let listener = TcpListener::bind(address).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    bound.map_err(|source| StartError::Bind { address, source })
}

/// Spawns the task that accepts connections.
fn serve(name: &str, listener: TcpListener, store: Store) -> Serving {
    let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
    let accept = accept(listener, store, cancel.clone(), tasks.clone());
    let accept = cancel.clone().run_until_cancelled_owned(accept);
    tasks.spawn(accept.instrument(tracing::info_span!("embedded-api", cluster = name)));
    Serving { cancel, tasks }
}

/// Accepts connections for ever, and spawns a task for each.
async fn accept(
    listener: TcpListener,
    store: Store,
    cancel: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed; without a free place clients wait in the backlog.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, store.clone(), place);
                let connection = cancel.clone().run_until_cancelled_owned(connection);
                tasks.spawn(connection.in_current_span());
            }
            Err(error) => {
                // Out of descriptors, most likely: others may be freed meanwhile.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one connection until the client ends it, and frees its place.
async fn connection(stream: TcpStream, store: Store, _place: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small answers may be late");
    }
    let service = service_fn(move |request| {
        let answer = handler::respond(store.clone(), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let server = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = server.await {
        tracing::debug!(%error, "the connection ended early");
    }
}
