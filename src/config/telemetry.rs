//! `[telemetry]`: where traces go.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::config::endpoint::Endpoint;
use crate::config::reader::Reader;
use crate::config::tree::KeyPath;

/// Where traces go.
#[derive(Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Telemetry")]
pub(super) struct RawTelemetry {
    /// An OTLP/gRPC endpoint such as `http://127.0.0.1:4317`; empty is off.
    otlp: String,
}

/// Where traces go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TelemetryConfig {
    /// The OTLP/gRPC endpoint; none is off.
    pub otlp: Option<String>,
}

/// Reads the section.
pub(super) fn read(raw: &RawTelemetry, reader: &mut Reader<'_>) -> TelemetryConfig {
    let is_http = raw.otlp.starts_with("http://") || raw.otlp.starts_with("https://");
    let is_usable = is_http && Endpoint::of_url(&raw.otlp, 4317).is_some();
    if !raw.otlp.is_empty() && !is_usable {
        reader.problem(&KeyPath::of("telemetry").key("otlp"), "must be empty, or a URL such as `http://127.0.0.1:4317`");
    }
    TelemetryConfig { otlp: (!raw.otlp.is_empty()).then(|| raw.otlp.clone()) }
}
