//! The recorder behind the `metrics` crate: counts in process, shown as Prometheus text.
//!
//! It holds the last guard of bounded labels: a trigger event comes off the wire, so one that no table has is counted as `other`, whoever emits it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use metrics::Counter;
use metrics::Gauge;
use metrics::Histogram;
use metrics::Key;
use metrics::KeyName;
use metrics::Label;
use metrics::Metadata;
use metrics::Recorder;
use metrics::SharedString;
use metrics::Unit;
use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::PrometheusRecorder;
use tokio_util::sync::CancellationToken;

use crate::telemetry::TelemetryError;
use crate::telemetry::names::Kind;
use crate::telemetry::names::METRICS;

/// How often histograms are folded, so that they do not grow while nobody asks for `/metrics`.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the process has counted so far. A clone shows the same.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// As Prometheus reads it (text format 0.0.4).
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// The same as a function, which is all that `admin` needs to know.
    pub fn renderer(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let handle = self.clone();
        Arc::new(move || handle.render())
    }

    /// Folds histograms every few seconds until it is told to stop.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut every = tokio::time::interval(UPKEEP);
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            self.0.run_upkeep();
        }
    }
}

/// Sets up the recorder of this process and describes every metric. Asking again gives the same one.
///
/// # Errors
/// A recorder that somebody else has set up, or buckets that cannot be used.
pub fn install() -> Result<Metrics, TelemetryError> {
    static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);

    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(metrics) = installed.as_ref() {
        return Ok(metrics.clone());
    }
    let (recorder, handle) = recorder()?;
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::AlreadySet)?;
    let metrics = Metrics(handle);
    *installed = Some(metrics.clone());
    Ok(metrics)
}

fn recorder() -> Result<(Bounded, PrometheusHandle), TelemetryError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .map_err(|source| TelemetryError::Metrics { source })?;
        }
    }
    let recorder = Bounded(builder.build_recorder());
    for metric in METRICS {
        let (name, help) = (KeyName::from(metric.name), SharedString::from(metric.help));
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, Some(metric.unit), help),
            Kind::Gauge => recorder.describe_gauge(name, Some(metric.unit), help),
            Kind::Histogram(_) => recorder.describe_histogram(name, Some(metric.unit), help),
        }
    }
    metrics::with_local_recorder(&recorder, || metrics::gauge!("wardroom_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0));
    let handle = recorder.0.handle();
    Ok((recorder, handle))
}

/// A recorder whose `trigger` label cannot grow with what peers send.
struct Bounded(PrometheusRecorder);

impl Recorder for Bounded {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match bounded(key) {
            Some(key) => self.0.register_counter(&key, metadata),
            None => self.0.register_counter(key, metadata),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}

/// The key to count under instead, when this one names a trigger event that is in no table.
fn bounded(key: &Key) -> Option<Key> {
    let is_stray = |label: &Label| label.key() == "trigger" && !is_known_trigger(label.value());
    if !key.labels().any(is_stray) {
        return None;
    }
    let labels: Vec<Label> =
        key.labels().map(|label| if is_stray(label) { Label::from_static_parts("trigger", "other") } else { label.clone() }).collect();
    Some(Key::from_parts(key.name().to_owned(), labels))
}

/// HL7 table 0003, as far as ADT, MFN and PMU go: A01 to A62, B01 to B08, M01 to M17; empty where a message names none.
fn is_known_trigger(trigger: &str) -> bool {
    let (letter, number) = match trigger.as_bytes() {
        [] => return true,
        [letter, tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => (*letter, (tens - b'0') * 10 + (ones - b'0')),
        _ => return false,
    };
    let last = match letter {
        b'A' => 62,
        b'B' => 8,
        b'M' => 17,
        _ => return false,
    };
    (1..=last).contains(&number)
}

#[cfg(test)]
mod tests {
    use metrics::counter;
    use metrics::histogram;

    use super::is_known_trigger;
    use super::recorder;

    #[test]
    fn triggers_that_no_table_has_are_counted_together() {
        let (recorder, handle) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            for trigger in ["A01", "Z99", "Q17", "A99"] {
                counter!("wardroom_messages_total", "feed" => "main", "trigger" => trigger, "disposition" => "applied").increment(1);
            }
        });
        let text = handle.render();
        assert!(text.contains(r#"wardroom_messages_total{feed="main",trigger="A01",disposition="applied"} 1"#), "{text}");
        assert!(text.contains(r#"wardroom_messages_total{feed="main",trigger="other",disposition="applied"} 3"#), "{text}");
        assert!(!text.contains("Z99"), "{text}");
    }

    #[test]
    fn table_0003_is_known_and_nothing_near_it() {
        for known in ["", "A01", "A62", "B08", "M02"] {
            assert!(is_known_trigger(known), "{known}");
        }
        for stray in ["A00", "A63", "A1", "A+1", "A001", "a01", "ÄA1", "Z01"] {
            assert!(!is_known_trigger(stray), "{stray}");
        }
    }

    #[test]
    fn histograms_have_buckets_and_help() {
        let (recorder, handle) = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || histogram!("wardroom_ack_seconds").record(0.003));
        let text = handle.render();
        assert!(text.contains("# HELP wardroom_ack_seconds From the last byte"), "{text}");
        assert!(text.contains(r#"wardroom_ack_seconds_bucket{le="0.005"} 1"#), "{text}");
        assert!(text.contains("wardroom_build_info{version="), "{text}");
    }
}
