//! The administrative endpoint that each component serves over HTTP:
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | OpenMetrics text |
//! | `/healthz` | 200 while the process turns |
//! | `/readyz` | 200 once ready, else 503 and why not |
//! | `/debug/snapshot` | what the component believes, as sorted JSON without secrets |
//! | `/debug/connections` | gateways only: what is open, the oldest first, within a bound |
//! | `/listening` | gateways only: the allotted ports that are listened on; the controller asks before it publishes a name |
//!
//! It lives here and not in the components, which hand in a registry and closures: one process may serve many.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use landbridge_model::Protocol;
use prometheus_client::{encoding::text::encode, metrics::info::Info, registry::Registry};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

/// Of the name of every metric.
pub(crate) const PREFIX: &str = "landbridge";
/// Prometheus, a kubelet, the controllers of a set-up's replicas and a few people: more than 64 at a time is somebody's
/// mistake. They wait in the kernel's backlog, so nothing is dropped and nothing grows.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send the head of its next request; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may last, so that a client that does not read its answer gives its place back.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// How long an answer under way may take once the endpoint ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Request lines and headers are short here; the least that hyper takes.
const MAX_BUFFER: usize = 8 * 1024;
/// After an `accept` that failed for want of resources, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Why the endpoint cannot be served.
#[derive(Debug, Error)]
pub(crate) enum AdminError {
    /// The address is in use, is not this machine's, or may not be bound.
    #[error("the admin endpoint cannot listen on {address}: choose another with --admin-listen")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// As the operating system has it.
        source: io::Error,
    },
}

type Ready = dyn Fn() -> bool + Send + Sync;
type Snapshot = dyn Fn() -> BoxFuture<'static, Value> + Send + Sync;
type Connections = dyn Fn() -> Value + Send + Sync;
type Listening = dyn Fn() -> Vec<(Protocol, u16)> + Send + Sync;

/// What is served: a registry, and closures over a component's handle.
pub(crate) struct Admin {
    registry: Registry,
    awaited: &'static str,
    ready: Arc<Ready>,
    snapshot: Box<Snapshot>,
    listening: Option<Box<Listening>>,
    connections: Option<Box<Connections>>,
    ending: CancellationToken,
}

impl Admin {
    /// That of a controller.
    pub(crate) fn controller(handle: landbridge_controller::Handle, registry: Registry) -> Self {
        let shown = handle.clone();
        Self::new(
            registry,
            "the first full reading of this cluster and of the hub",
            move || handle.is_ready(),
            move || {
                let shown = shown.clone();
                async move { shown.snapshot().await }.boxed()
            },
        )
    }

    /// That of the set's authority, which knows nothing of its own.
    pub(crate) fn authority(
        registry: Registry,
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::new(registry, "the set's root", ready, || future::ready(json!({})).boxed())
    }

    /// That of a DNS server.
    pub(crate) fn dns(handle: landbridge_dns::Handle, registry: Registry) -> Self {
        let shown = handle.clone();
        Self::new(
            registry,
            "the first full reading of imports and endpoints",
            move || handle.is_ready(),
            move || future::ready(shown.snapshot()).boxed(),
        )
    }

    /// That of a gateway.
    pub(crate) fn gateway(handle: landbridge_gateway::Handle, registry: Registry) -> Self {
        let (shown, listening, open) = (handle.clone(), handle.clone(), handle.clone());
        Self::new(
            registry,
            "the first full reading of imports, peers and pods, and for its listeners",
            move || handle.is_ready(),
            move || future::ready(shown.snapshot()).boxed(),
        )
        .with_listening(move || listening.listening())
        .with_connections(move || open.connections())
    }

    /// Serves `registry`, to which it adds what version is running; whether the component is ready, and if it is not,
    /// that it waits for `awaited`; and what the component believes.
    fn new(
        mut registry: Registry,
        awaited: &'static str,
        ready: impl Fn() -> bool + Send + Sync + 'static,
        snapshot: impl Fn() -> BoxFuture<'static, Value> + Send + Sync + 'static,
    ) -> Self {
        registry.register(
            "build",
            "The version that is running",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let lost = "Lines of the log that standard error did not take";
        registry.register("log_lines_lost", lost, crate::telemetry::lost());
        Self {
            registry,
            awaited,
            ready: Arc::new(ready),
            snapshot: Box::new(snapshot),
            listening: None,
            connections: None,
            ending: CancellationToken::new(),
        }
    }

    /// Serves the ports that a gateway listens on as well.
    fn with_listening(
        mut self,
        listening: impl Fn() -> Vec<(Protocol, u16)> + Send + Sync + 'static,
    ) -> Self {
        self.listening = Some(Box::new(listening));
        self
    }

    /// Serves the connections that a gateway has open as well.
    fn with_connections(mut self, connections: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.connections = Some(Box::new(connections));
        self
    }

    /// Says "not ready" from when `ending` is cancelled: the component drains, nobody should begin anything with it.
    pub(crate) fn until(mut self, ending: CancellationToken) -> Self {
        self.ending = ending;
        self
    }

    /// Whether the component is ready, for whoever waits for it in this process.
    pub(crate) fn readiness(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let ready = Arc::clone(&self.ready);
        Box::new(move || ready())
    }

    /// Binds `address`; port 0 lets the system choose.
    ///
    /// # Errors
    /// [`AdminError::Bind`], most often because the address is taken.
    pub(crate) async fn bind(self, address: SocketAddr) -> Result<Endpoint, AdminError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) =
            bound.await.map_err(|source| AdminError::Bind { address, source })?;
        Ok(Endpoint { address, admin: Arc::new(self), listener })
    }

    fn not_ready(&self) -> Option<String> {
        if self.ending.is_cancelled() {
            Some("it is ending".into())
        } else if (self.ready)() {
            None
        } else {
            Some(format!("it waits for {}", self.awaited))
        }
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut refusal = response(
                StatusCode::METHOD_NOT_ALLOWED,
                PLAIN,
                "only GET and HEAD are served here\n".into(),
            );
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match (path, &self.listening) {
            ("/metrics", _) => self.metrics(),
            ("/healthz", _) => response(StatusCode::OK, PLAIN, "ok\n".into()),
            ("/readyz", _) => match self.not_ready() {
                None => response(StatusCode::OK, PLAIN, "ready\n".into()),
                Some(reason) => response(
                    StatusCode::SERVICE_UNAVAILABLE,
                    PLAIN,
                    format!("not ready: {reason}\n"),
                ),
            },
            ("/debug/snapshot", _) => shown((self.snapshot)().await),
            ("/debug/connections", _) if self.connections.is_some() => {
                shown(self.connections.as_ref().map_or(Value::Null, |connections| connections()))
            }
            ("/listening", Some(listening)) => {
                let ports: Vec<_> = listening()
                    .into_iter()
                    .map(|(protocol, port)| json!({"protocol": protocol.to_string(), "port": port}))
                    .collect();
                response(StatusCode::OK, JSON, format!("{}\n", json!({ "listening": ports })))
            }
            _ => {
                let more = match (&self.listening, &self.connections) {
                    (None, _) => "",
                    (Some(_), None) => ", /listening",
                    (Some(_), Some(_)) => ", /debug/connections, /listening",
                };
                response(
                    StatusCode::NOT_FOUND,
                    PLAIN,
                    format!(
                        "not served here: use /metrics, /healthz, /readyz, /debug/snapshot{more}\n"
                    ),
                )
            }
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(fmt::Error) => response(
                StatusCode::INTERNAL_SERVER_ERROR,
                PLAIN,
                "a metric could not be written\n".into(),
            ),
        }
    }
}

/// An address that is bound and not yet served: that it is free is known before anything runs.
pub(crate) struct Endpoint {
    address: SocketAddr,
    admin: Arc<Admin>,
    listener: TcpListener,
}

impl Endpoint {
    /// The address as bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled, then finishes what is under way.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            match accepted {
                Ok((stream, peer, place)) => {
                    let (admin, stop) = (Arc::clone(&self.admin), stop.clone());
                    let connection = async move {
                        converse(stream, admin, stop).await;
                        drop(place);
                    };
                    connections.spawn(connection.instrument(info_span!("admin", %peer)));
                }
                Err(error) => {
                    warn!(%error, "the admin endpoint cannot accept a connection; going on");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// Answers the requests of one client, within bounds.
async fn converse(stream: TcpStream, admin: Arc<Admin>, stop: CancellationToken) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move {
            let response = admin.answer(request.method(), request.uri().path()).await;
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = time::sleep(CONNECTION_LIFETIME) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            let Ok(ended) = time::timeout(FAREWELL, connection).await else {
                return;
            };
            ended
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to the admin endpoint ended early");
    }
}

fn shown(mut value: Value) -> Response<Full<Bytes>> {
    value.sort_all_objects();
    response(StatusCode::OK, JSON, format!("{value:#}\n"))
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Served {
        address: SocketAddr,
        ready: Arc<AtomicBool>,
        ending: CancellationToken,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn admin(ready: Arc<AtomicBool>) -> Admin {
        Admin::new(
            Registry::with_prefix(PREFIX),
            "the hub",
            move || ready.load(Ordering::Relaxed),
            || future::ready(json!({"peers": ["b", "a"], "imports": {"z": 1, "a": 2}})).boxed(),
        )
        .with_listening(|| vec![(Protocol::Tcp, 10_000), (Protocol::Udp, 10_001)])
    }

    async fn serve() -> Served {
        let (ready, ending) = (Arc::<AtomicBool>::default(), CancellationToken::new());
        let admin = admin(Arc::clone(&ready)).until(ending.clone());
        let endpoint = admin.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (endpoint.address(), CancellationToken::new());
        Served { address, ready, ending, task: tokio::spawn(endpoint.run(stop.clone())), stop }
    }

    /// Sends one request as text and reads until the server closes: `(head, body)`.
    async fn ask(address: SocketAddr, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn metrics_are_open_metrics_and_tell_the_version() {
        let served = serve().await;
        let (head, body) = ask(served.address, "GET /metrics").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(
            head.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{head}"
        );
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            body.contains(&format!("landbridge_build_info{{version=\"{version}\"}} 1")),
            "{body}"
        );
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn ready_says_why_not_until_it_is() {
        let served = serve().await;
        let (head, body) = ask(served.address, "GET /readyz").await;
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert_eq!(body, "not ready: it waits for the hub\n");
        assert!(ask(served.address, "GET /healthz").await.0.starts_with("HTTP/1.1 200"));
        served.ready.store(true, Ordering::Relaxed);
        assert!(ask(served.address, "GET /readyz").await.0.starts_with("HTTP/1.1 200"));
        served.ending.cancel();
        assert_eq!(ask(served.address, "GET /readyz").await.1, "not ready: it is ending\n");
        assert!(ask(served.address, "GET /healthz").await.0.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn the_snapshot_is_sorted_and_the_ports_are_as_the_controller_reads_them() {
        let served = serve().await;
        let (_, body) = ask(served.address, "GET /debug/snapshot").await;
        assert!(body.find("\"imports\"") < body.find("\"peers\""), "{body}");
        assert!(body.find("\"a\": 2") < body.find("\"z\": 1"), "{body}");
        let (_, body) = ask(served.address, "GET /listening?new=1").await;
        let listening: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            listening,
            json!({"listening": [{"protocol": "TCP", "port": 10_000}, {"protocol": "UDP", "port": 10_001}]})
        );
    }

    #[tokio::test]
    async fn only_reading_is_served_and_only_known_paths() {
        let served = serve().await;
        let (head, _) = ask(served.address, "POST /metrics").await;
        assert!(head.starts_with("HTTP/1.1 405") && head.contains("allow: GET, HEAD"), "{head}");
        let (head, body) = ask(served.address, "GET /").await;
        assert!(head.starts_with("HTTP/1.1 404") && body.contains("/readyz"), "{head} {body}");
        let (head, body) = ask(served.address, "HEAD /healthz").await;
        assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head} {body}");
    }

    #[tokio::test]
    async fn noise_is_refused_and_the_rest_goes_on() {
        let served = serve().await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(&[0, 159, 146, 150, 13, 10, 13, 10]).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let huge = format!("GET /{} HTTP/1.1\r\n", "a".repeat(2 * MAX_BUFFER));
        stream.write_all(huge.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server may close before it has read everything, which some systems report as a reset.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        assert!(ask(served.address, "GET /healthz").await.0.starts_with("HTTP/1.1 200"));
    }

    /// A client that never asks holds a place for as long as a head may take, and no longer.
    #[tokio::test(start_paused = true)]
    async fn clients_that_say_nothing_give_their_place_back() {
        let served = serve().await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(served.address).await.unwrap());
        }
        let begun = time::Instant::now();
        let (head, _) = ask(served.address, "GET /healthz").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(begun.elapsed() <= HEAD_TIMEOUT + FAREWELL, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn it_ends_when_it_is_told_to_and_leaves_the_address() {
        let served = serve().await;
        let idle = TcpStream::connect(served.address).await.unwrap();
        ask(served.address, "GET /healthz").await;
        served.stop.cancel();
        served.task.await.unwrap();
        drop(idle);
        admin(served.ready).bind(served.address).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_with_the_remedy() {
        let served = serve().await;
        let error = admin(served.ready).bind(served.address).await.err().unwrap();
        let address = served.address;
        assert_eq!(
            error.to_string(),
            format!(
                "the admin endpoint cannot listen on {address}: choose another with --admin-listen"
            )
        );
        let error = anyhow::Error::from(error);
        assert_eq!(crate::exit::Exit::of(&error), crate::exit::Exit::Address);
    }
}
