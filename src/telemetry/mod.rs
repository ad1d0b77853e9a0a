//! Logs, traces and metrics: how the daemon is watched.
//!
//! Logs go to standard error, for people on a terminal and as JSON Lines elsewhere. Traces go to an OpenTelemetry collector over OTLP/gRPC when the
//! configuration names one. Metrics are kept in process and shown by `admin`.
//!
//! What it never does: let PHI out. [`filter`] holds what no setting can loosen, and [`names`] the closed list of metrics with bounded labels.
//! Nothing but `app` and `cli` knows this module; everybody else emits through `tracing` and `metrics`.

pub mod filter;
pub mod metrics;
pub mod names;

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_otlp::WithTonicConfig;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime;
use opentelemetry_sdk::trace::BatchConfigBuilder;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How long one export to the collector may take, and so how long a collector that hangs can hold up the end of the daemon.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long [`Guard::shutdown`] waits for the last spans, in all.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How to log and where to send traces.
#[derive(Clone, Debug, Default)]
pub struct TelemetryOptions {
    /// Directives as in `RUST_LOG`; `None` is `info`.
    pub log_filter: Option<String>,
    /// JSON Lines instead of text for people.
    pub json: bool,
    /// The OTLP/gRPC endpoint of a collector, `http://…` or `https://…`; `None` sends no traces.
    pub otlp: Option<String>,
}

impl TelemetryOptions {
    /// Text when standard error is a terminal, JSON Lines otherwise.
    pub fn for_stderr(log_filter: Option<String>, otlp: Option<String>) -> Self {
        Self { log_filter, json: !std::io::stderr().is_terminal(), otlp }
    }
}

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The directives do not parse.
    #[error("the log filter is not valid\nhint: `WARDROOM_LOG` takes a level, or a list such as `info,wardroom::mllp=debug`")]
    LogFilter {
        /// What the parser said.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The collector's address is of no use.
    #[error("`telemetry.otlp` is not an address that traces can be sent to\nhint: write `http://HOST:4317`, or `https://HOST:4317` for TLS")]
    Otlp {
        /// What the exporter said.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Traces are sent by tasks of the runtime, and there is none.
    #[error("traces can only be sent from inside the async runtime")]
    NoRuntime,
    /// Somebody else set up logging in this process.
    #[error("logging is already set up in this process")]
    AlreadySet,
    /// The list of histogram buckets is wrong.
    #[error("the metrics recorder could not be set up")]
    Metrics {
        /// What the recorder said.
        #[source]
        source: metrics_exporter_prometheus::BuildError,
    },
}

/// Keeps the way of the spans open; end it with [`Guard::shutdown`], or the last spans are lost.
#[must_use = "the last spans are sent by `shutdown`"]
pub struct Guard {
    /// Absent when no collector is configured.
    provider: Option<SdkTracerProvider>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("traces", &self.provider.is_some()).finish()
    }
}

impl Guard {
    /// Sends what is left and closes. Takes five seconds at most, also when the collector hangs.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // The provider waits for its own task, which runs on this runtime: waiting here would stop it on a runtime with one thread.
        let flush = tokio::task::spawn_blocking(move || provider.shutdown());
        match tokio::time::timeout(SHUTDOWN_TIMEOUT, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent to the collector"),
            Ok(Err(error)) => tracing::warn!(%error, "the exporter of spans ended early"),
            Err(_) => tracing::warn!("the collector did not take the last spans in time"),
        }
    }
}

/// Sets up logging and tracing for the process. With `otlp` it has to be called inside the runtime that lives as long as the daemon.
///
/// # Errors
/// A filter or endpoint that cannot be used, no runtime for traces, or a second call in one process.
pub fn init(options: &TelemetryOptions) -> Result<Guard, TelemetryError> {
    let logs = log_layer(options, std::io::stderr().is_terminal(), std::io::stderr)?;
    let provider = options.otlp.as_deref().filter(|endpoint| !endpoint.is_empty()).map(tracer_provider).transpose()?;
    let traces = provider.as_ref().map(trace_layer);
    tracing_subscriber::registry().with(logs).with(traces).try_init().map_err(|_| TelemetryError::AlreadySet)?;
    Ok(Guard { provider })
}

/// The layer that writes log lines, behind the filter that no setting loosens. `init` uses it with standard error; tests read what it writes.
///
/// # Errors
/// A log filter that does not parse.
pub fn log_layer<S, W>(options: &TelemetryOptions, colour: bool, writer: W) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let wanted = EnvFilter::builder()
        .parse(options.log_filter.as_deref().unwrap_or("info"))
        .map_err(|source| TelemetryError::LogFilter { source })?
        .and(filter::phi_filter());
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(if options.json {
        layer.json().flatten_event(true).with_span_list(false).with_filter(wanted).boxed()
    } else if colour {
        layer.with_filter(wanted).boxed() // coloured unless NO_COLOR is set
    } else {
        layer.with_ansi(false).with_filter(wanted).boxed()
    })
}

/// The layer that hands spans to the exporter: ours only, so that sending spans never makes new ones.
fn trace_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("wardroom"))
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter::own_spans())
}

/// Builds the way to the collector. It connects when there is something to send, so a collector that is down stops nothing.
fn tracer_provider(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    tokio::runtime::Handle::try_current().map_err(|_| TelemetryError::NoRuntime)?;
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
    let exporter = if endpoint.starts_with("https://") { exporter.with_tls_config(ClientTlsConfig::new().with_native_roots()) } else { exporter };
    let exporter = exporter.build().map_err(|source| TelemetryError::Otlp { source })?;
    let processor = BatchSpanProcessor::builder(exporter, runtime::Tokio)
        .with_batch_config(BatchConfigBuilder::default().with_max_export_timeout(EXPORT_TIMEOUT).build())
        .build();
    let resource = Resource::builder().with_service_name("wardroom").with_attribute(version()).build();
    Ok(SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build())
}

fn version() -> opentelemetry::KeyValue {
    opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests;
