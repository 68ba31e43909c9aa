//! Spans of calls, as OpenTelemetry has them: one on each side of a link, joined by what the header carries.
//!
//! The caller's gateway decides which calls have spans; the server's follows it. Where nobody collects spans, none is made.

use std::sync::Arc;

use opentelemetry::{
    Context, KeyValue,
    global::{BoxedSpan, BoxedTracer},
    trace::{
        Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
        TraceState, Tracer as _,
    },
};

use crate::{metrics::Direction, open::About, wire::TraceParent};

/// Makes spans; none where nobody collects them.
pub type Tracer = Option<Arc<BoxedTracer>>;

/// How calls end that went well.
const DONE: &str = "done";

/// One call, or one flow, as this gateway sees it. It ends when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct CallSpan(Option<BoxedSpan>);

impl CallSpan {
    /// A call of a client of this cluster begins.
    pub(crate) fn outbound(tracer: &Tracer) -> Self {
        Self::start(tracer, SpanKind::Client, &Context::new())
    }

    /// A call of a peer begins. It has a span where it has one at the peer.
    pub(crate) fn inbound(tracer: &Tracer, parent: Option<TraceParent>) -> Self {
        let Some(parent) = parent else { return Self::default() };
        let parent = SpanContext::new(
            TraceId::from_bytes(parent.trace),
            SpanId::from_bytes(parent.span),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        if !parent.is_valid() {
            return Self::default();
        }
        Self::start(tracer, SpanKind::Server, &Context::new().with_remote_span_context(parent))
    }

    fn start(tracer: &Tracer, kind: SpanKind, parent: &Context) -> Self {
        let Some(tracer) = tracer else { return Self::default() };
        let builder = tracer.span_builder("landbridge.call").with_kind(kind);
        let span = tracer.build_with_context(builder, parent);
        // One that is not drawn costs nothing further.
        Self(span.is_recording().then_some(span))
    }

    /// What the other side's span follows.
    pub(crate) fn parent(&self) -> Option<TraceParent> {
        let context = self.0.as_ref()?.span_context();
        Some(TraceParent {
            trace: context.trace_id().to_bytes(),
            span: context.span_id().to_bytes(),
        })
    }

    /// A cluster was tried in vain.
    pub(crate) fn tried(&mut self, cluster: &str, reason: &'static str) {
        if let Some(span) = &mut self.0 {
            let cluster = KeyValue::new("landbridge.cluster", cluster.to_owned());
            let reason = KeyValue::new("landbridge.reason", reason);
            span.add_event("landbridge.tried", vec![cluster, reason]);
        }
    }

    /// The call has been brought to its end; bytes flow from now on.
    pub(crate) fn connected(&mut self) {
        if let Some(span) = &mut self.0 {
            span.add_event("landbridge.connected", Vec::new());
        }
    }

    /// The call is over: how, and what it has carried.
    pub(crate) fn ends(
        &mut self,
        about: &About,
        (sent, received): (u64, u64),
        outcome: &'static str,
    ) {
        let Some(mut span) = self.0.take() else { return };
        let text = |key: &'static str, value: String| KeyValue::new(key, value);
        span.set_attribute(KeyValue::new("landbridge.direction", about.direction.as_str()));
        span.set_attribute(text("landbridge.service", about.service.to_string()));
        span.set_attribute(text("landbridge.port", about.port.to_string()));
        span.set_attribute(text("landbridge.caller", about.caller.to_string()));
        span.set_attribute(KeyValue::new("landbridge.outcome", outcome));
        for (key, bytes) in
            [("landbridge.sent_bytes", sent), ("landbridge.received_bytes", received)]
        {
            span.set_attribute(KeyValue::new(key, i64::try_from(bytes).unwrap_or(i64::MAX)));
        }
        if let Some(client) = about.caller.source.address {
            span.set_attribute(text("client.address", client.ip().to_string()));
            span.set_attribute(KeyValue::new("client.port", i64::from(client.port())));
        }
        if let Some(cluster) = &about.cluster {
            span.set_attribute(text("landbridge.cluster", cluster.to_string()));
        }
        if let Some(pod) = about.pod {
            span.set_attribute(text("server.address", pod.ip().to_string()));
            span.set_attribute(KeyValue::new("server.port", i64::from(pod.port())));
        }
        if outcome != DONE && about.direction == Direction::Outbound {
            span.set_status(Status::error(outcome));
        }
        span.end();
    }
}
