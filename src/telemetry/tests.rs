use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use super::TelemetryError;
use super::TelemetryOptions;
use super::init;
use super::log_layer;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is written of the events that `emit` makes, under a log filter.
fn logged(log_filter: &str, json: bool, emit: impl FnOnce()) -> String {
    let lines = Lines::default();
    let options = TelemetryOptions { log_filter: Some(log_filter.to_owned()), json, otlp: None };
    let subscriber = tracing_subscriber::registry().with(log_layer(&options, false, lines.clone()).unwrap());
    tracing::subscriber::with_default(subscriber, emit);
    lines.text()
}

#[test]
fn a_returned_message_is_never_logged_whatever_the_filter_says() {
    for filter in ["trace", "lapin=trace", "lapin::returned_messages=trace", "warn,lapin::returned_messages=warn", "[{message}]=trace"] {
        let text = logged(filter, false, || {
            tracing::warn!(target: "lapin::returned_messages", message = ?"PID|1||SMITH", "Server returned us a message");
            tracing::error!(target: "lapin::returned_messages", "PID|1||SMITH");
        });
        assert_eq!(text, "", "under {filter:?}");
    }
}

#[test]
fn libraries_are_heard_only_as_far_as_they_cannot_quote_a_message() {
    let text = logged("trace", false, || {
        tracing::trace!(target: "lapin::frames", "SMITH in a frame");
        tracing::debug!(target: "lapin::channel", "SMITH in a channel");
        tracing::error!(target: "hl7_parser", "SMITH in a parser");
        tracing::info!(target: "sqlx::query", "SMITH in a statement");
        tracing::warn!(target: "sqlx::postgres::notice", "SMITH in a notice");
        tracing::debug!(target: "hyper::proto", "SMITH in a request");
        tracing::warn!(target: "sqlx::query", "slow statement");
        tracing::info!(target: "lapin::io_loop", "heartbeat");
        tracing::debug!(target: "rustls::client", "handshake");
        tracing::trace!(target: "wardroom::intake", "our own");
    });
    assert!(!text.contains("SMITH"), "{text}");
    for kept in ["slow statement", "heartbeat", "handshake", "our own"] {
        assert!(text.contains(kept), "{kept} is missing from {text}");
    }
}

#[test]
fn the_filter_still_lowers_what_is_said() {
    let text = logged("warn,wardroom::mllp=debug", false, || {
        tracing::info!(target: "wardroom::intake", "quiet");
        tracing::debug!(target: "wardroom::mllp", "loud");
    });
    assert!(!text.contains("quiet") && text.contains("loud"), "{text}");
}

#[test]
fn without_a_terminal_a_line_is_a_json_object() {
    let text = logged("info", true, || tracing::info!(target: "wardroom::app", n_feeds = 2, "listening"));
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(line["message"], "listening");
    assert_eq!(line["n_feeds"], 2);
    assert_eq!(line["level"], "INFO");
}

#[test]
fn a_filter_that_does_not_parse_is_an_error_with_a_hint() {
    let options = TelemetryOptions { log_filter: Some("wardroom=loud".to_owned()), ..TelemetryOptions::default() };
    let error = init(&options).unwrap_err();
    assert!(matches!(error, TelemetryError::LogFilter { .. }), "{error}");
    assert!(error.to_string().contains("hint:"), "{error}");
}

#[test]
fn traces_need_a_runtime_and_say_so() {
    let options = TelemetryOptions { otlp: Some("http://127.0.0.1:4317".to_owned()), ..TelemetryOptions::default() };
    assert!(matches!(init(&options).unwrap_err(), TelemetryError::NoRuntime));
}

mod spans {
    use std::sync::Arc;
    use std::sync::Mutex;

    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use opentelemetry_sdk::trace::SpanData;
    use opentelemetry_sdk::trace::SpanExporter;
    use tracing_subscriber::layer::SubscriberExt;

    use crate::telemetry::Guard;
    use crate::telemetry::trace_layer;
    use crate::telemetry::tracer_provider;

    /// Keeps what is exported.
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn only_our_own_spans_are_exported() {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(trace_layer(&provider)), || {
            let _ours = tracing::info_span!(target: "wardroom::store", "store.commit", n_changes = 2).entered();
            for _ in 0..2 {
                drop(tracing::info_span!(target: "h2::client", "h2"));
                drop(tracing::error_span!(target: "lapin::returned_messages", "lapin"));
                drop(tracing::info_span!(target: "opentelemetry_sdk", "sdk"));
                tracing::warn!(target: "lapin::returned_messages", "PID|1||SMITH");
            }
        });
        let spans = exporter.0.lock().unwrap();
        assert_eq!(spans.iter().map(|span| span.name.as_ref()).collect::<Vec<_>>(), ["store.commit"]);
        assert!(spans[0].events.is_empty(), "an event of a library was exported");
    }

    /// On one thread, where a processor that blocks its runtime would never end; and nobody listens at the address.
    #[tokio::test]
    async fn a_collector_that_is_down_does_not_hold_up_the_end() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let provider = tracer_provider(&format!("http://{nobody}")).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(trace_layer(&provider)), || {
            drop(tracing::info_span!(target: "wardroom::store", "store.commit"));
        });
        let limit = std::time::Duration::from_secs(8);
        tokio::time::timeout(limit, Guard { provider: Some(provider) }.shutdown()).await.expect("shutdown has a time-out of its own");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused() {
        assert!(tracer_provider("not an address").is_err());
    }
}
