//! The trace of a frame: one span from its arrival to its answer, whose context goes with the events it leads to (W3C Trace Context).
//!
//! A span names the feed, the connection and counts, never anything of a message.

use opentelemetry::trace::TraceContextExt as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The span of a frame.
pub(super) fn frame_span(feed: &str, connection: u64) -> Span {
    tracing::debug_span!("intake.frame", feed, connection, n_messages = tracing::field::Empty)
}

/// The `traceparent` of a span; `None` while nobody exports traces.
pub(super) fn traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8()))
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::frame_span;
    use super::traceparent;

    #[test]
    fn a_span_has_a_traceparent_while_traces_are_exported_and_none_otherwise() {
        assert_eq!(traceparent(&frame_span("main", 1)), None);
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let text = traceparent(&frame_span("main", 1)).unwrap();
            assert_eq!(text.len(), 55, "{text}");
            assert!(text.starts_with("00-"), "{text}");
        });
    }
}
