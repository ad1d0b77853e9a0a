//! A daemon under torture loses nothing: a short run on each store, and what the report says of it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use super::support::daemon::program;
use super::support::postgres;
use super::support::rabbit::Rabbit;

fn torture(dir: &TempDir, arguments: &[&str]) -> Value {
    let Output { status, stdout, stderr } =
        program(dir).args(["--json", "torture", "--beds", "60", "--rate", "100"]).args(arguments).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    let log = std::fs::read_to_string(dir.path().join("torture/replica-1/log")).unwrap_or_default();
    assert_eq!(status.code(), Some(0), "{stdout}\n{stderr}\n{log}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("acknowledged") > 50 && count("events") > 20 && count("sent_again") > 0, "{report:#}");
    assert!(count("in_the_journal") >= count("acknowledged"), "{report:#}");
    report
}

#[test]
fn on_sqlite_with_json_lines_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let report = torture(&dir, &["--kills", "8", "--seed", "3", "--folder", "torture"]);
    assert_eq!(report["kills"], 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_with_rabbitmq_nothing_is_lost() {
    let Some(url) = postgres::new_database().await else { return };
    let Some(rabbit) = Rabbit::start("on_postgres_with_rabbitmq_nothing_is_lost").await else { return };
    let dir = tempfile::tempdir().unwrap();
    // All that a restarted server would tell those who are connected to this database.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let server = url.split_once('?').map_or(url.as_str(), |(server, _)| server);
    let cut = format!("psql '{server}' -c \"{cut}\"");
    let report = torture(
        &dir,
        &[
            "--kills",
            "6",
            "--folder",
            "torture",
            "--store",
            &url,
            "--amqp",
            &rabbit.url(),
            "--restart-broker",
            &rabbit.restart_line(),
            "--restart-store",
            &cut,
        ],
    );
    assert_eq!((&report["kills"], &report["broker_restarts"], &report["store_restarts"]), (&6.into(), &1.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_replicas_with_clocks_that_differ_nothing_is_lost() {
    let Some(url) = postgres::new_database().await else { return };
    let Some(rabbit) = Rabbit::start("of_three_replicas_with_clocks_that_differ_nothing_is_lost").await else { return };
    let dir = tempfile::tempdir().unwrap();
    let report = torture(&dir, &["--replicas", "3", "--kills", "6", "--folder", "torture", "--store", &url, "--amqp", &rabbit.url()]);
    let replicas = report["replicas"].as_array().unwrap();
    assert!(replicas.len() == 3 && replicas.iter().all(|replica| replica["connections"].as_u64() > Some(0)), "{report:#}");
}
