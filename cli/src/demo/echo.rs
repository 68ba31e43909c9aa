//! The demo's workload: an HTTP server that says which cluster and pod it is, and who called.
//!
//! Who called it reads from the PROXY protocol header that the gateway opens a connection with when the export asks
//! for it. A call from within the cluster comes without one, and from the caller's own address.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use landbridge_gateway::proxy::{self, ProxyError, ProxyHeader};
use landbridge_model::ClusterId;
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The header in which callers number their calls, so that a call that arrives twice is noticed.
pub(super) const CALL_ID: &str = "x-call-id";

/// Call ids that are remembered: more than the demo ever makes, and a bound for what strangers send.
const MOST_REMEMBERED: usize = 100_000;

/// Connections that one pod serves at once.
const MOST_CONNECTIONS: usize = 1_000;

/// What the workload answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Reply {
    /// The cluster that it runs in.
    pub(super) cluster: String,
    /// The pod that it is.
    pub(super) pod: String,
    /// `<cluster>/<namespace>/<service account>/<pod>` of the caller, where a gateway told.
    pub(super) caller: Option<String>,
    /// The address that the call came from.
    pub(super) from: String,
}

/// Which calls have arrived at any pod of the demo, and how often.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals(Arc<Mutex<HashMap<u64, u32>>>);

impl Arrivals {
    fn note(&self, id: u64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MOST_REMEMBERED || seen.contains_key(&id) {
            *seen.entry(id).or_default() += 1;
        }
    }

    /// How many calls have arrived more than once.
    pub(super) fn duplicates(&self) -> u32 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(seen.values().filter(|&&times| times > 1).count()).unwrap_or(u32::MAX)
    }
}

/// One pod of the workload, listening.
#[derive(Debug)]
pub(super) struct Echo {
    listener: TcpListener,
    cluster: ClusterId,
    pod: String,
    arrivals: Arrivals,
}

impl Echo {
    /// Takes the pod's address.
    ///
    /// # Errors
    /// Where it cannot be taken.
    pub(super) async fn bind(
        address: SocketAddr,
        cluster: ClusterId,
        pod: String,
        arrivals: Arrivals,
    ) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, cluster, pod, arrivals })
    }

    /// Answers until told to stop.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let echo = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = echo.listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                    if let Ok((stream, peer)) = accepted {
                        let echo = Arc::clone(&echo);
                        connections.spawn(async move { echo.serve(stream, peer).await });
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Serves one connection. A caller that goes away in the middle is its own affair.
    async fn serve(&self, mut stream: TcpStream, peer: SocketAddr) {
        let Ok(told) = read_proxy_header(&mut stream).await else {
            return;
        };
        let from = told.as_ref().and_then(|told| told.addresses).map_or(peer, |(source, _)| source);
        let reply = Reply {
            cluster: self.cluster.to_string(),
            pod: self.pod.clone(),
            caller: told.and_then(|told| told.caller),
            from: from.to_string(),
        };
        let answer = service_fn(|request: Request<Incoming>| {
            let id = request.headers().get(CALL_ID).and_then(|id| id.to_str().ok()?.parse().ok());
            if let Some(id) = id {
                self.arrivals.note(id);
            }
            let mut body = serde_json::to_string(&reply).unwrap_or_default();
            body.push('\n');
            let response = Response::builder()
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body)))
                .unwrap_or_default();
            async move { Ok::<_, Infallible>(response) }
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }
}

/// Reads the header where there is one, without taking a byte that belongs to HTTP: no HTTP method begins with the
/// header's first byte.
async fn read_proxy_header(stream: &mut TcpStream) -> io::Result<Option<ProxyHeader>> {
    let mut first = [0; 1];
    if stream.peek(&mut first).await? == 0 || first[0] != b'\r' {
        return Ok(None);
    }
    let mut header = Vec::new();
    loop {
        match proxy::decode(&header) {
            Ok((told, _)) => return Ok(Some(told)),
            Err(ProxyError::Incomplete(length)) => {
                let known = header.len();
                header.resize(length, 0);
                stream.read_exact(&mut header[known..]).await?;
            }
            Err(ProxyError::Malformed) => return Err(io::Error::other(ProxyError::Malformed)),
        }
    }
}
