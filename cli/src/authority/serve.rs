//! The authority over HTTP/1.1 over TLS: one task, few connections, each for a short time.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use landbridge_gateway::{
    identity::GatewayId,
    join::{
        authority,
        message::{Answer, JOIN, MAX_BODY, RENEW},
    },
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{Authority, allowed::Denial};
use crate::{exit::address_taken, exit::line};

/// Of all members at a time. Each asks once an hour, for a tenth of a second: more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 32;
/// How long one may last, handshake included. What a cluster joins with takes some 20 writes to the hub's API.
const LIFETIME: Duration = Duration::from_secs(30);
/// How long an answer under way may take once this ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// Request lines and headers are short here; the least that hyper takes.
const MAX_BUFFER: usize = 8 * 1024;
/// After an `accept` that failed for want of resources, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct Labels {
    asked: &'static str,
    status: u16,
}

/// What was asked, and what became of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Family<Labels, Counter>);

impl Counts {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let help = "Questions of clusters and members, by the status of the answer";
        registry.register("authority_requests", help, counts.0.clone());
        counts
    }

    fn count(&self, path: &str, status: u16) {
        let asked = match path {
            JOIN => "join",
            RENEW => "renew",
            // Whatever else is asked for is not a label for everybody to choose.
            _ => "other",
        };
        self.0.get_or_create(&Labels { asked, status }).inc();
    }
}

/// A bound listener, not yet served.
pub(crate) struct Server {
    pub(crate) authority: Arc<Authority>,
    pub(crate) counts: Counts,
    listener: TcpListener,
}

impl Server {
    /// # Errors
    /// An address that is taken.
    pub(crate) async fn bind(
        authority: Arc<Authority>,
        counts: Counts,
        address: SocketAddr,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|problem| address_taken(address, &problem))?;
        Ok(Self { authority, counts, listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the operating system has it.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("the address that is listened on")
    }

    /// Serves until `stop` is cancelled, then finishes what is under way.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self { authority, counts, listener } = self;
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(()) = open.next(), if !open.is_empty() => {}
                accepted = listener.accept(), if open.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, peer)) => {
                        let served = converse(&authority, &counts, stream);
                        open.push(async move {
                            if let Err(problem) = served.await {
                                tracing::warn!(%peer, "a question was not answered: {problem:#}");
                            }
                        }.boxed());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the authority cannot accept a connection; going on");
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        let rest = open.for_each(|()| std::future::ready(()));
        if time::timeout(FAREWELL, rest).await.is_err() {
            tracing::warn!("questions are not answered any more");
        }
    }
}

/// Answers whoever has dialled, by whatever carries it.
///
/// # Errors
/// Whatever is no TLS, a certificate that nobody vouches for, and a client that takes too long.
pub(crate) async fn converse(
    authority: &Authority,
    counts: &Counts,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<()> {
    let conversation = async {
        let keys = authority.keys().await?;
        let (stream, id) = authority::accept(Arc::clone(&keys.tls), stream).await?;
        let id = id.as_ref();
        let answer = service_fn(move |request: Request<Incoming>| async move {
            let path = request.uri().path().to_owned();
            let answered = answer(authority, id, request).await;
            let status = answered.as_ref().map_or_else(|denial| denial.status, |_| 200);
            counts.count(&path, status);
            Ok::<_, Infallible>(response(&answered))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(LIFETIME)
            .max_buf_size(MAX_BUFFER)
            // One question, one answer.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        anyhow::Ok(connection.await?)
    };
    time::timeout(LIFETIME, Box::pin(conversation)).await.context("it takes too long")?
}

async fn answer(
    authority: &Authority,
    id: Option<&GatewayId>,
    request: Request<Incoming>,
) -> Result<Answer, Denial> {
    if request.method() != Method::POST {
        return Err(Denial::new(405, "only POST is served here", ""));
    }
    let path = request.uri().path().to_owned();
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|error| {
        let problem = line(error.as_ref());
        Denial::new(413, format!("the question cannot be taken: {problem}"), "")
    })?;
    let answered = Box::pin(authority.answer(&path, id, &body.to_bytes())).await;
    answered.inspect_err(|denial| {
        let Denial { status, refused } = denial;
        let of = id.map(ToString::to_string).unwrap_or_default();
        tracing::warn!(path, status, of, "refused: {}", refused.error);
    })
}

fn response(answered: &Result<Answer, Denial>) -> Response<Full<Bytes>> {
    let (status, body) = match answered {
        Ok(answer) => (200, serde_json::to_vec(answer)),
        Err(denial) => (denial.status, serde_json::to_vec(&denial.refused)),
    };
    let mut response = Response::new(Full::new(body.unwrap_or_default().into()));
    *response.status_mut() = status.try_into().unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
