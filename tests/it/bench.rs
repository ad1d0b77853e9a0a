//! The bench measures a daemon of its own, full stores and idle connections too, and draws what it found.

use serde_json::Value;

use super::support::daemon::program;

#[tokio::test]
async fn a_bench_measures_a_store_that_is_full_already_and_draws_latency_against_load() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--json", "bench", "--seconds", "1", "--warm-up", "0", "--connections", "3", "--no-ceilings", "--folder", "."];
    let more = ["--fill", "700", "--waiting", "600", "--idle", "20", "--plot", "latency.svg"];
    let output = program(&folder).args(arguments).args(more).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap();
    assert!(number("/n_messages") > 0.0 && number("/n_failed") == 0.0, "{figures:#}");
    assert!(number("/events_per_message") < 2.0, "what was put in before counts for nothing: {figures:#}");
    assert!(number("/started_in_ms") > 0.0 && number("/daemon/idle_connection_kib") < 64.0, "{figures:#}");
    let connections: Vec<u64> =
        figures.pointer("/points").unwrap().as_array().unwrap().iter().filter_map(|point| point.pointer("/connections")?.as_u64()).collect();
    assert_eq!(connections, [1, 2, 3]);
    let drawn = std::fs::read_to_string(folder.path().join("latency.svg")).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("p99"), "{drawn}");
}
