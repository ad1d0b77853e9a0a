//! The bench measures a daemon of its own, with full stores, idle connections and a broker too, and draws what it found.

use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio_util::task::TaskTracker;
use wardroom::outbox::amqp::AmqpError;
use wardroom::outbox::amqp::AmqpOptions;
use wardroom::outbox::amqp::AmqpPublisher;

use super::support::daemon::program;
use super::support::eventually;
use super::support::rabbit::Rabbit;

const SOON: Duration = Duration::from_secs(30);

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

#[tokio::test]
async fn a_bench_loads_another_receiver_in_turn_with_the_daemon() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap().to_string();
    let receivers = TaskTracker::new();
    let tasks = receivers.clone();
    let receiver = receivers.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn(accept_everything(stream));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["--json", "bench", "--seconds", "3", "--warm-up", "0", "--connections", "3", "--no-ceilings", "--folder", ".", "--against", &other];
    let mut program = program(&folder);
    program.args(arguments);
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    receiver.abort();
    assert!(output.status.success(), "{output:?}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap();
    assert!(number("/messages_per_second") > 0.0 && number("/n_failed") == 0.0, "{figures:#}");
    assert!(number("/against/messages_per_second") > 0.0 && number("/against/latency_ms/p50") > 0.0, "{figures:#}");
}

/// Answers AA to every message of a connection, and keeps none.
async fn accept_everything(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await? > 0 {
        if read.ends_with(b"\x1c\r") {
            let text = String::from_utf8_lossy(&read);
            let control = text.split('|').nth(9).unwrap_or_default();
            stream.write_all(format!("\x0bMSH|^~\\&|||||||ACK|1|P|2.5.1\rMSA|AA|{control}\r\x1c\r").as_bytes()).await?;
            read.clear();
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_bench_takes_its_events_out_of_the_broker_and_leaves_nothing_there() {
    let Some(rabbit) = Rabbit::start("a_bench_takes_its_events_out_of_the_broker_and_leaves_nothing_there").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = rabbit.url();
    let look = async |queue: &str| {
        let (exchange, queue) = ("wardroom.bench".to_owned(), queue.to_owned());
        let options = AmqpOptions { exchange, queue, ..AmqpOptions::new(url.clone().into()) };
        AmqpPublisher::new(options, Arc::default(), TaskTracker::new()).check().await
    };
    // Something of this name that an earlier one left, and of another kind.
    look("wardroom.bench").await.unwrap();
    let arguments = ["--json", "bench", "--seconds", "1", "--warm-up", "0", "--connections", "3", "--rate", "300", "--folder", ".", "--amqp", &url];
    let output = program(&folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap();
    assert!(number("/n_messages") > 0.0 && number("/n_failed") == 0.0 && number("/events_per_message") > 0.0, "{figures:#}");
    assert!(matches!(look("").await, Err(AmqpError::Topology { .. })), "the exchange is gone");
    look("wardroom.bench").await.expect("the queue is gone: one of another kind has room");
}

#[tokio::test]
async fn a_bench_that_is_asked_to_end_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["bench", "--seconds", "60", "--connections", "3", "--no-ceilings", "--folder", "."];
        let mut bench = program(&folder).args(arguments).stderr(Stdio::null()).spawn().unwrap();
        let inside = || {
            std::fs::read_dir(folder.path())
                .unwrap()
                .filter_map(Result::ok)
                .find(|entry| entry.file_name().to_string_lossy().starts_with("wardroom-bench"))
        };
        let feed = eventually("the daemon listens", SOON, async || {
            let config = std::fs::read_to_string(inside()?.path().join("wardroom.0.toml")).ok()?;
            let feed = config.split_once("listen = \"")?.1.split_once('"')?.0.to_owned();
            TcpStream::connect(&feed).ok().map(|_| feed)
        })
        .await;
        kill_process(Pid::from_child(&bench), signal).unwrap();
        let status = eventually("the bench ends", SOON, async || bench.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(130));
        eventually("the daemon ends", SOON, async || TcpStream::connect(&feed).is_err().then_some(())).await;
        assert!(inside().is_none(), "{signal:?}");
    }
}
