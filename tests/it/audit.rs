//! `wardroom audit verify`: the audit trail is whole beside a running daemon, on both stores, and whoever changes a byte of it is found out.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::process::Output;

use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::PgConnection;
use sqlx::SqliteConnection;

use super::support::daemon::Daemon;
use super::support::daemon::house;
use super::support::daemon::program;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::postgres;

fn verify(daemon: &Daemon) -> (i32, Value) {
    let Output { status, stdout, stderr } = program(&daemon.dir).args(["--json", "audit", "verify"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    (status.code().unwrap(), serde_json::from_slice(&stdout).unwrap())
}

fn in_words(daemon: &Daemon) -> String {
    String::from_utf8(program(&daemon.dir).args(["audit", "verify"]).output().unwrap().stdout).unwrap()
}

/// A daemon that has had a few patients, and somebody who looked at them.
async fn after_some_patients(config: &str) -> Daemon {
    let daemon = Daemon::start(config).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for n in 0..12 {
        assert_eq!(peer.ask(Plain::new(format!("A{n}"), "A01", 530_001 + n, "4N", 0).text()).await, format!("AA A{n}"));
    }
    assert!(program(&daemon.dir).args(["rooms", "list"]).output().unwrap().status.success());
    let (code, report) = verify(&daemon);
    assert_eq!((code, &report["whole"], &report["faults"], &report["chains"]), (0, &Value::from(true), &Value::from(Vec::<Value>::new()), &2.into()));
    assert_eq!((&report["rows"], &report["bodies"]["open"]), (&13.into(), &13.into()), "{report:#}");
    assert!(in_words(&daemon).ends_with("\nthe audit trail is whole\n"));
    daemon
}

/// What is done to the fifth and sixth row of the daemon's chain, and what they are called then.
async fn is_found_out(daemon: &Daemon, mut ids: Vec<i64>, mut run: impl AsyncFnMut(String), flip: &str) {
    ids.retain(|id| id % 1024 != 1023);
    let (fifth, sixth, last) = (ids[4], ids[5], ids[11]);
    let cases = [
        (format!("UPDATE audit SET body = {} WHERE id = {fifth}", flip.replace("COLUMN", "body")), "changed", fifth),
        (format!("UPDATE audit SET chain = {} WHERE id = {fifth}", flip.replace("COLUMN", "chain")), "changed", fifth),
        (format!("UPDATE audit SET room_id = NULL WHERE id = {last}"), "changed", last),
        (format!("DELETE FROM audit WHERE id = {fifth}"), "gap", sixth),
        (format!("DELETE FROM audit WHERE id = {last}"), "cut_off", last),
        (
            format!(
                "UPDATE audit SET id = -1 WHERE id = {fifth}; UPDATE audit SET id = {fifth} WHERE id = {sixth}; UPDATE audit SET id = {sixth} WHERE id = -1"
            ),
            "changed",
            fifth,
        ),
        (format!("DELETE FROM meta WHERE key = 'audit_end/{}'", fifth % 1024), "beyond_end", ids[0]),
    ];
    for (statements, what, id) in cases {
        run("CREATE TABLE kept AS SELECT * FROM audit".to_owned()).await;
        run("CREATE TABLE kept_meta AS SELECT * FROM meta".to_owned()).await;
        for statement in statements.split("; ") {
            run(statement.to_owned()).await;
        }
        let (code, report) = verify(daemon);
        assert_eq!((code, &report["whole"]), (1, &Value::from(false)), "{statements}: {report:#}");
        let first = &report["faults"][0];
        assert_eq!((&first["what"], &first["id"], &first["lane"]), (&what.into(), &id.into(), &(id % 1024).into()), "{statements}: {report:#}");
        assert_eq!(first["kind"], if what == "cut_off" { Value::Null } else { "room.opened".into() });
        assert_eq!(first["at"].is_string(), what != "cut_off");
        let words = in_words(daemon);
        assert!(words.contains(&format!("\n{id}")) && words.contains("the audit trail is broken"), "{words}");
        for table in ["audit", "meta"] {
            run(format!("DELETE FROM {table}")).await;
        }
        run("INSERT INTO audit SELECT * FROM kept".to_owned()).await;
        run("INSERT INTO meta SELECT * FROM kept_meta".to_owned()).await;
        run("DROP TABLE kept".to_owned()).await;
        run("DROP TABLE kept_meta".to_owned()).await;
    }
    assert_eq!(verify(daemon).0, 0, "everything is as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_trail_is_whole_and_whoever_changes_it_is_found_out() {
    let mut daemon = after_some_patients("").await;
    assert!(daemon.terminate().await.success());
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", daemon.path("wardroom.db").display())).await.unwrap();
    let ids = sqlx::query_scalar("SELECT id FROM audit ORDER BY id").fetch_all(&mut connection).await.unwrap();
    let flip = "unhex(substr(hex(COLUMN), 1, 60) || CASE substr(hex(COLUMN), 61, 1) WHEN '0' THEN '1' ELSE '0' END || substr(hex(COLUMN), 62))";
    is_found_out(&daemon, ids, async |sql| _ = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap(), flip).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_trail_is_whole_on_postgres_and_whoever_changes_it_is_found_out() {
    let Some(url) = postgres::new_database().await else { return };
    let mut daemon = after_some_patients(&format!("[store]\nurl = \"{url}\"\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n")).await;
    assert!(daemon.terminate().await.success());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let ids = sqlx::query_scalar("SELECT id FROM audit ORDER BY id").fetch_all(&mut connection).await.unwrap();
    let flip = "set_byte(COLUMN, 30, get_byte(COLUMN, 30) # 1)";
    is_found_out(&daemon, ids, async |sql| _ = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap(), flip).await;
}

#[test]
fn without_a_store_there_is_no_trail_to_verify() {
    let dir = house("");
    let Output { status, stderr, .. } = program(&dir).args(["audit", "verify"]).output().unwrap();
    assert_eq!(status.code(), Some(69), "{}", String::from_utf8_lossy(&stderr));
    assert!(!dir.path().join("wardroom.db").exists() && !dir.path().join("wardroom.key").exists());
}
