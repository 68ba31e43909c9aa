//! Traces: spans go to a collector over OTLP (HTTP, protobuf), in batches, beside everything else.
//!
//! A collector that is away or slow costs spans and never a call: what does not fit a bounded queue is dropped.

use std::{pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, Uri, body::Bytes};
use hyper_util::rt::TokioIo;
use landbridge_gateway::Tracer;
use opentelemetry::{KeyValue, global::BoxedTracer, trace::TracerProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tokio::{net::TcpStream, runtime::Handle, time::timeout};
use tracing::warn;

/// Where spans go that a collector takes by the name of its host alone (OTLP 1.x, OTLP/HTTP).
const PATH: &str = "/v1/traces";
/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read: it says how many spans were refused.
const MAX_ANSWER: usize = 64 << 10;

/// A collector of spans.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Collector(Uri);

impl Collector {
    /// Parses `http://host:port`, with or without a path.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "is not a collector: give its OTLP address, such as http://otel-collector.observability:4318";
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        match uri.scheme_str() {
            Some("http") if uri.host().is_some() => {}
            Some("https") => {
                return Err("is encrypted, which is not spoken here: name a collector of this cluster, which sends on by TLS"
                    .into());
            }
            _ => return Err(wrong().into()),
        }
        if uri.path() != "/" {
            return Ok(Self(uri));
        }
        let whole = format!("{}{PATH}", text.trim_end_matches('/'));
        whole.parse().map(Self).map_err(|_| wrong().into())
    }
}

/// Which calls have spans, and who gets them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Traces {
    pub(crate) collector: Collector,
    /// One of so many.
    pub(crate) one_in: u32,
}

/// Spans are collected until this is ended.
#[derive(Debug)]
pub(crate) struct Collecting(SdkTracerProvider);

impl Traces {
    /// Begins to collect spans of this process, whose replica has a name. Must be called where tasks can be started.
    ///
    /// # Errors
    /// What the exporter does not like.
    pub(crate) fn start(&self, cluster: &str, name: &str) -> Result<Collecting> {
        let client = Client { runtime: Handle::current() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(self.collector.0.to_string())
            .with_timeout(PATIENCE)
            .build()
            .context("cannot send traces")?;
        let attribute = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
        let resource = Resource::builder_empty()
            .with_attributes([
                attribute("service.name", "landbridge-gateway"),
                attribute("service.version", env!("CARGO_PKG_VERSION")),
                attribute("service.instance.id", name),
                attribute("k8s.cluster.name", cluster),
            ])
            .build();
        let share = Sampler::TraceIdRatioBased(1.0 / f64::from(self.one_in));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(share)))
            .with_resource(resource)
            .build();
        Ok(Collecting(provider))
    }
}

impl Collecting {
    /// What makes spans.
    pub(crate) fn tracer(&self) -> Tracer {
        Some(Arc::new(BoxedTracer::new(Box::new(self.0.tracer("landbridge")))))
    }

    /// Sends what there is, and ends.
    pub(crate) async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(PATIENCE));
        if let Ok(Err(error)) = ended.await {
            warn!("the last spans were not sent: {error}");
        }
    }
}

/// Sends from a thread that has no runtime of its own.
#[derive(Debug)]
struct Client {
    runtime: Handle,
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sent<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let sent = self.runtime.spawn(async move {
            let sent = timeout(PATIENCE, send(request)).await;
            sent.map_err(|_| HttpError::from("the collector does not answer"))?
        });
        Box::pin(async { sent.await.map_err(HttpError::from)? })
    }
}

/// A connection for each batch: there is one in five seconds.
async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri().clone();
    let authority = uri.authority().ok_or("the collector has no host")?.clone();
    let tcp = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    let (mut parts, body) = request.into_parts();
    parts.uri = uri.path().parse()?;
    parts.headers.insert(hyper::header::HOST, authority.as_str().parse()?);
    let exchange = async {
        let (head, body) =
            sender.send_request(Request::from_parts(parts, Full::new(body))).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok::<_, HttpError>(Response::from_parts(head, body))
    };
    tokio::pin!(connection);
    tokio::select! {
        // An answer that is there counts, whatever became of the connection.
        biased;
        answer = exchange => answer,
        ended = &mut connection => {
            Err(ended.err().map_or_else(|| "the collector has hung up".into(), HttpError::from))
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span, Tracer};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn a_collector_is_named_by_its_host_or_by_a_whole_address() {
        let parsed = |text| Collector::parse(text).map(|Collector(uri)| uri.to_string());
        assert_eq!(parsed("http://collector:4318").unwrap(), "http://collector:4318/v1/traces");
        assert_eq!(parsed("http://[::1]:4318/").unwrap(), "http://[::1]:4318/v1/traces");
        assert_eq!(parsed("http://collector/of/ours").unwrap(), "http://collector/of/ours");
        for (text, part) in [
            ("https://collector:4318", "sends on by TLS"),
            ("collector:4318", "http://otel-collector"),
            ("http://", "http://otel-collector"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    /// OTLP 1.x, OTLP/HTTP: "The client MUST send HTTP POST", to `/v1/traces`, as `application/x-protobuf`.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_span_that_has_ended_reaches_the_collector() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Collector::parse(&format!("http://{address}")).unwrap();
        let collecting = Traces { collector, one_in: 1 }.start("berlin", "gw-0").unwrap();
        collecting.tracer().unwrap().start("one").end();
        let received = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let parts = [
                "application/x-protobuf",
                "landbridge-gateway",
                "k8s.cluster.name",
                "berlin",
                "gw-0",
            ];
            let is_whole = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes);
                parts.iter().all(|part| text.contains(part))
            };
            while !is_whole(&bytes) {
                let count = tcp.read_buf(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "something is not there: {}", String::from_utf8_lossy(&bytes));
            }
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        collecting.end().await;
        let received = received.await.unwrap();
        assert!(received.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{received}");
    }
}
