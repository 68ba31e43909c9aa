//! Spans of calls: what a collector sees of both sides.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry::{
    global::BoxedTracer,
    trace::{SpanKind, Status, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};
use serde_json::json;

use super::{
    failure::nobody,
    world::{Site, World, named, pair_of, until},
};
use crate::metrics::Direction;

/// berlin imports what paris exports, and both make spans of the calls that `sampler` draws.
async fn traced(sampler: Sampler, pod: SocketAddr) -> (World, Site, Site, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .with_sampler(sampler)
        .build();
    let tracer = BoxedTracer::new(Box::new(provider.tracer("gateway")));
    let (world, berlin, paris) = pair_of(World::traced(tracer), pod).await;
    (world, berlin, paris, exporter)
}

fn spans(exporter: &InMemorySpanExporter, kind: &SpanKind) -> Vec<SpanData> {
    let spans = exporter.get_finished_spans().unwrap();
    spans.into_iter().filter(|span| span.span_kind == *kind).collect()
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.to_string())
}

/// Design, "Surfaces": "OpenTelemetry traces". A call has a span at each gateway; the server's follows the caller's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_has_one_trace_through_both_gateways() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let pod = named("paris", &heard).await;
    let (_world, berlin, _paris, exporter) = traced(Sampler::AlwaysOn, pod).await;
    assert_eq!(berlin.ask("?").await.unwrap(), "paris");
    until("both have ended", || exporter.get_finished_spans().unwrap().len() == 2).await;
    let (out, within) =
        (&spans(&exporter, &SpanKind::Client)[0], &spans(&exporter, &SpanKind::Server)[0]);
    assert_eq!(out.span_context.trace_id(), within.span_context.trace_id());
    assert_eq!(within.parent_span_id, out.span_context.span_id());
    for span in [out, within] {
        assert_eq!(attribute(span, "landbridge.service").unwrap(), "shop/web");
        assert_eq!(attribute(span, "landbridge.cluster").unwrap(), "paris");
        assert_eq!(attribute(span, "landbridge.outcome").unwrap(), "done");
        assert_eq!(span.status, Status::Unset);
    }
    // Whether it went ahead of the answer or after it.
    assert_eq!(attribute(out, "landbridge.sent_bytes").unwrap(), "1");
    assert_eq!(berlin.core.metrics.bytes(Direction::Outbound, "paris").get(), 1);
    assert_eq!(attribute(within, "server.address").unwrap(), pod.ip().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_says_why_a_call_was_not_connected_and_what_was_tried() {
    let (_world, berlin, paris, exporter) = traced(Sampler::AlwaysOn, nobody().await).await;
    assert!(berlin.ask("?").await.is_err());
    paris.guards(&json!([{"clusters": ["tokyo"]}]));
    assert!(berlin.ask("?").await.is_err());
    until("all have ended", || exporter.get_finished_spans().unwrap().len() >= 4).await;
    let out = spans(&exporter, &SpanKind::Client);
    for (span, reason) in out.iter().zip(["connect_failed", "denied"]) {
        assert_eq!(span.status, Status::error(reason));
        assert_eq!(span.events.iter().next().unwrap().name, "landbridge.tried");
    }
    let within = spans(&exporter, &SpanKind::Server);
    assert_eq!(attribute(&within[1], "landbridge.outcome").unwrap(), "denied");
}

/// The caller's gateway decides which calls have spans.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_drawn_has_no_span_on_either_side() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let pod = named("paris", &heard).await;
    let (_world, berlin, paris, exporter) = traced(Sampler::AlwaysOff, pod).await;
    assert_eq!(berlin.ask("?").await.unwrap(), "paris");
    until("it is over", || paris.core.open_connections() == 0).await;
    assert!(exporter.get_finished_spans().unwrap().is_empty());
}
