//! The span of a batch, linked to the traces of the messages that caused its events.
//!
//! A batch carries events of many messages, so it is no child of any: each event's stored trace context becomes a link. No attribute names a room.

use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::outbox::OutboxRow;

/// The span in which a batch is published; none for an empty one.
pub(super) fn publish_span(batch: &[OutboxRow]) -> Span {
    if batch.is_empty() {
        return Span::none();
    }
    let span = tracing::info_span!("outbox.publish", n_events = batch.len());
    for cause in batch.iter().filter_map(|row| span_context(row.traceparent.as_deref()?)) {
        span.add_link(cause);
    }
    span
}

/// Reads a `traceparent` (W3C Trace Context, level 1, §3.2.2).
fn span_context(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (_version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::span_context;

    #[test]
    fn a_traceparent_is_read_and_what_is_none_is_left_out() {
        let context = span_context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled());
        for wrong in ["", "00-0-0-0", "00-xyz-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(span_context(wrong).is_none(), "{wrong}");
        }
    }
}
