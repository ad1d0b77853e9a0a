//! The ledger: it balances beside a running daemon, on both stores, and whatever somebody takes out of the store or changes in it is found.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::process::Output;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::PgConnection;
use sqlx::SqliteConnection;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::postgres;

/// What is done to a table, and the feed and the state that the ledger then names.
const TAMPERINGS: [(&str, &str, Option<&str>, &str); 9] = [
    ("journal", "DELETE FROM journal WHERE id = (SELECT MAX(id) FROM journal)", Some("main"), "accepted"),
    ("journal", "UPDATE journal SET disposition = 4 WHERE id = (SELECT MIN(id) FROM journal)", Some("main"), "rejected"),
    ("journal", "UPDATE journal SET duplicate_of = duplicate_of + 1 WHERE duplicate_of IS NOT NULL", Some("main"), "duplicate"),
    ("facts", "DELETE FROM facts WHERE arrival = (SELECT MAX(arrival) FROM facts)", Some("main"), "applied"),
    ("quarantine", "DELETE FROM quarantine", Some("main"), "quarantined"),
    ("quarantine", "UPDATE quarantine SET journal_id = journal_id + 1", None, "quarantined"),
    ("outbox", "DELETE FROM outbox WHERE seq = (SELECT MAX(seq) FROM outbox)", None, "events"),
    ("visits", "UPDATE visits SET room_version = room_version + 1 WHERE id = (SELECT MIN(id) FROM visits WHERE room_version > 0)", None, "rooms"),
    ("audit", "DELETE FROM audit WHERE id = (SELECT MIN(id) FROM audit)", None, "rooms"),
];

fn ledger(daemon: &Daemon, arguments: &[&str]) -> (i32, Value) {
    let Output { status, stdout, stderr } = program(&daemon.dir).args(["--json", "ledger"]).args(arguments).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    (status.code().unwrap(), serde_json::from_slice(&stdout).unwrap())
}

/// A daemon that has had a day of a hospital, something it refused and something that waits; nothing of it can be published.
async fn after_a_day(config: &str) -> Daemon {
    let daemon = Daemon::start(&format!("[publish.jsonl]\npath = \"nowhere/events.jsonl\"\n{config}")).await;
    let to = daemon.mllp.to_string();
    let simulated = program(&daemon.dir).args(["simulate", "--beds", "12", "--duplicates", "0.2", "--to", &to]).output().unwrap();
    assert!(simulated.status.success(), "{simulated:?}");
    let mut peer = Peer::connect(daemon.mllp).await;
    for (message, code) in [(Plain::new("L1", "A01", 520_001, "4N", 0), "AA L1"), (Plain::new("L2", "A23", 520_001, "4N", 5), "AA L2")] {
        assert_eq!(peer.ask(message.text()).await, code);
    }
    assert_eq!(peer.ask(Plain::new("L3", "A20", 520_001, "4N", 6).text()).await, "AA L3");
    assert_eq!(peer.ask(Plain::new("L4", "A01", 520_001, "4N", 7).with_tail("T|2.5.1")).await, "AR 202 L4");
    daemon
}

fn each_state_has_some(ledger: &Value) {
    let total = &ledger["total"];
    let count = |state: &str| total[state].as_i64().unwrap();
    let states = ["applied", "noop", "duplicate", "quarantined", "rejected"];
    assert!(states.iter().all(|state| count(state) > 0), "{ledger:#}");
    assert_eq!(states.iter().map(|state| count(state)).sum::<i64>(), count("accepted"), "{ledger:#}");
    assert!(ledger["events"]["pending"].as_i64().unwrap() > 0);
}

async fn finds_every_tampering(daemon: &Daemon, mut run: impl AsyncFnMut(String)) {
    for (table, statement, feed, state) in TAMPERINGS {
        run(format!("CREATE TABLE kept AS SELECT * FROM {table}")).await;
        run(statement.to_owned()).await;
        let (code, found) = ledger(daemon, &[]);
        assert_eq!((code, &found["balanced"]), (1, &Value::from(false)), "{statement}: {found:#}");
        let names = |fault: &Value| fault["feed"].as_str() == feed && fault["state"] == state;
        assert!(found["faults"].as_array().unwrap().iter().any(names), "{statement}: {found:#}");
        run(format!("DELETE FROM {table}")).await;
        run(format!("INSERT INTO {table} SELECT * FROM kept")).await;
        run("DROP TABLE kept".to_owned()).await;
    }
    assert_eq!(ledger(daemon, &[]).0, 0, "everything is as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_balances_and_finds_what_was_tampered_with() {
    let mut daemon = after_a_day("").await;
    let (code, beside) = ledger(&daemon, &[]);
    assert_eq!(code, 0, "{beside:#}");
    each_state_has_some(&beside);
    let (code, later) = ledger(&daemon, &["--since", "2999-01-01T00:00:00Z"]);
    assert_eq!((code, later["total"]["accepted"].as_i64()), (0, Some(0)), "{later:#}");
    assert!(daemon.terminate().await.success());
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", daemon.path("wardroom.db").display())).await.unwrap();
    finds_every_tampering(&daemon, async |sql| _ = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_balances_on_postgres_and_finds_what_was_tampered_with() {
    let Some(url) = postgres::new_database().await else { return };
    let mut daemon = after_a_day(&format!("[store]\nurl = \"{url}\"\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n")).await;
    let (code, beside) = ledger(&daemon, &[]);
    assert_eq!(code, 0, "{beside:#}");
    each_state_has_some(&beside);
    assert!(daemon.terminate().await.success());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    finds_every_tampering(&daemon, async |sql| _ = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap()).await;
}
