//! Another key in the place of the one that seals the store: beside a feed that goes on, through power cuts, on both databases; and no key is ever shown.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::fs;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use sqlx::Connection as _;
use sqlx::SqliteConnection;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wardroom::store::Store;
use wardroom::store::StoreOptions;
use wardroom::store::master_key::MasterKey;
use wardroom::store::rows::AuditRow;
use wardroom::store::sealing::Document;
use wardroom::store::sealing::Replaced;
use wardroom::time::Clock as _;
use wardroom::time::SystemClock;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::postgres;

const SOON: Duration = Duration::from_mins(1);
/// More than are wrapped anew in one commit.
const PATIENTS: u32 = 1100;
/// A key that stands in no file.
const GIVEN: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The exit code, what is printed, and what is said.
fn run(daemon: &Daemon, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Value, String) {
    let output = program(&daemon.dir).arg("--json").args(arguments).envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

fn status(daemon: &Daemon) -> Value {
    let (code, status, said) = run(daemon, &["keys", "status"], &[]);
    assert_eq!(code, i32::from(status["rotating"] == true), "{status} {said}");
    status
}

/// That all of it opens, is whole and adds up; and how many rooms there are.
fn is_whole(daemon: &Daemon, environment: &[(&str, &str)]) -> usize {
    for command in [["audit", "verify"].as_slice(), &["ledger"], &["quarantine", "list"], &["check"]] {
        let (code, told, said) = run(daemon, command, environment);
        assert_eq!(code, 0, "{command:?}: {told} {said}");
    }
    let (code, rooms, said) = run(daemon, &["rooms", "list", "--all"], environment);
    assert_eq!(code, 0, "{said}");
    rooms["rooms"].as_array().unwrap().len()
}

/// Keys as they stand in the files of a folder.
fn keys(daemon: &Daemon) -> Vec<String> {
    let files = fs::read_dir(daemon.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let keys = files.filter(|file| file.file_name().unwrap().to_str().unwrap().contains(".key"));
    keys.map(|file| fs::read_to_string(file).unwrap().trim().to_owned()).collect()
}

/// Admits new patients over some connections until it is told to stop or the daemon is gone; gives back how many were acknowledged.
async fn admit(daemon: &Daemon, numbers: &Arc<AtomicU32>, at_most: u32, stop: &CancellationToken) -> JoinSet<u32> {
    let mut senders = JoinSet::new();
    for _ in 0..4 {
        let mut peer = Peer::connect(daemon.mllp).await;
        let (numbers, stop) = (Arc::clone(numbers), stop.clone());
        senders.spawn(async move {
            let mut n_taken = 0;
            while !stop.is_cancelled() {
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                if number >= at_most {
                    break;
                }
                match peer.ask(Plain::new(format!("K{number}"), "A01", number, "4N", 1).text()).await.as_str() {
                    "closed" => break,
                    answer => assert_eq!(answer, format!("AA K{number}")),
                }
                n_taken += 1;
            }
            n_taken
        });
    }
    senders
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_beside_a_feed_that_goes_on_and_through_power_cuts() {
    let mut daemon = Daemon::start("").await;
    let (numbers, never) = (Arc::new(AtomicU32::new(600_000)), CancellationToken::new());
    let mut n_taken: u32 = admit(&daemon, &numbers, 600_000 + PATIENTS, &never).await.join_all().await.iter().sum();
    assert_eq!(n_taken, PATIENTS);
    let made = status(&daemon);
    assert_eq!((&made["patients"], &made["since"], &made["keys_before"]), (&PATIENTS.into(), &Value::Null, &0.into()));
    numbers.store(700_000, Ordering::SeqCst);

    // Nothing is in its way: every message is answered.
    let stop = CancellationToken::new();
    let senders = admit(&daemon, &numbers, u32::MAX, &stop).await;
    let rotating = program(&daemon.dir).args(["--json", "keys", "rotate"]).stdout(Stdio::piped()).spawn().unwrap();
    let output = tokio::task::spawn_blocking(|| rotating.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let rotated: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(rotated["patients"].as_u64().unwrap() > PATIENTS.into() && rotated["resumed"] == false, "{rotated}");
    assert!(fs::metadata(rotated["old_key"].as_str().unwrap()).is_ok());
    n_taken += admit_to_the_end(senders, &stop).await;
    let now = status(&daemon);
    assert_eq!((&now["patients"], &now["left"], &now["unopened"]), (&n_taken.into(), &0.into(), &0.into()));

    // A power cut once it has begun.
    let mut raw = SqliteConnection::connect(&format!("sqlite:{}", daemon.path("wardroom.db").display())).await.unwrap();
    let mut n_before = 1;
    for _ in 0..3 {
        let senders = admit(&daemon, &numbers, u32::MAX, &never).await;
        let mut rotating = program(&daemon.dir).args(["keys", "rotate"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("it has begun, or is over", SOON, async || {
            let n: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM meta WHERE key = 'key/before'").fetch_one(&mut raw).await.unwrap();
            (n > 0 || rotating.try_wait().unwrap().is_some()).then_some(())
        })
        .await;
        daemon.kill9();
        rotating.wait().unwrap();
        n_taken += senders.join_all().await.iter().sum::<u32>();
        daemon.up().await;
        let now = status(&daemon);
        assert!(now["keys_before"].as_i64().unwrap() >= n_before && now["is_in_place"] == true && now["unopened"] == 0, "{now}");
        n_before = now["keys_before"].as_i64().unwrap();
    }
    drop(raw);
    while run(&daemon, &["keys", "rotate"], &[]).1["resumed"] == true {}
    let now = status(&daemon);
    assert_eq!((&now["left"], &now["unopened"], &now["rotating"]), (&0.into(), &0.into(), &false.into()));
    // What was on its way when the power went may have been taken without an answer.
    assert!(is_whole(&daemon, &[]) >= usize::try_from(n_taken).unwrap());

    // The keys from before open nothing; the present one does, also after a start.
    let present = fs::read_to_string(daemon.path("wardroom.key")).unwrap().trim().to_owned();
    let old: Vec<String> = keys(&daemon).into_iter().filter(|key| *key != present).collect();
    assert_eq!(old.len(), now["old_keys"].as_array().unwrap().len());
    assert!(old.len() >= 2);
    for key in &old {
        let (code, _, said) = run(&daemon, &["keys", "status"], &[("WARDROOM_STORE__KEY", key)]);
        assert!(code == 64 && said.contains("does not open this store"), "{said}");
    }
    assert!(daemon.terminate().await.success());
    // Without a daemon the command does it itself.
    let (code, rotated, said) = run(&daemon, &["keys", "rotate"], &[]);
    assert_eq!((code, &rotated["unopened"]), (0, &0.into()), "{said}");
    assert_eq!(run(&daemon, &["keys", "status"], &[("WARDROOM_STORE__KEY", &present)]).0, 64);
    daemon.up().await;
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("K1", "A02", 600_001, "ICU", 2).text()).await, "AA K1");
    daemon.room_is("V600001", "in ICU", |room| room["location"]["point_of_care"] == "ICU").await;
    is_whole(&daemon, &[]);
}

#[tokio::test]
async fn a_daemon_goes_on_with_what_was_interrupted() {
    let mut daemon = Daemon::start("").await;
    let numbers = Arc::new(AtomicU32::new(630_000));
    admit(&daemon, &numbers, 630_005, &CancellationToken::new()).await.join_all().await;
    assert!(daemon.terminate().await.success());
    let url = format!("sqlite:{}", daemon.path("wardroom.db").display()).into();
    let options = StoreOptions { url, master_key: MasterKey::load(&daemon.path("wardroom.key")).unwrap(), readers: 1, daemon: 0 };
    let store = Store::open(options).await.unwrap();
    let replaced = Replaced { at: SystemClock.now(), uid: 0, login: None };
    let (kind, body) = ("keys.rotation_begun".to_owned(), Document::new(1, b"{}".to_vec()));
    let row = AuditRow { at: replaced.at, kind, room_id: None, room_version: None, made_for: None, journal_id: None, key: None, body };
    assert!(store.begin_rotation(None, &replaced, row).await.unwrap());
    store.close().await;
    // The lock of the file goes with it.
    drop(store);
    let now = status(&daemon);
    assert_eq!((&now["rotating"], &now["left"]), (&true.into(), &5.into()));
    daemon.up().await;
    eventually("nothing is left", SOON, async || (status(&daemon)["rotating"] == false).then_some(())).await;
    let now = status(&daemon);
    assert_eq!((&now["left"], &now["unopened"], &now["unused_key"]), (&0.into(), &0.into(), &Value::Null));
    assert_eq!(is_whole(&daemon, &[]), 5);
    // A key that was made for a rotation that did not begin is told of.
    fs::write(daemon.path("wardroom.key.next"), GIVEN).unwrap();
    assert!(status(&daemon)["unused_key"].as_str().unwrap().ends_with("wardroom.key.next"));
    assert!(daemon.terminate().await.success());
}

async fn admit_to_the_end(senders: JoinSet<u32>, stop: &CancellationToken) -> u32 {
    stop.cancel();
    senders.join_all().await.iter().sum()
}

#[tokio::test]
async fn a_key_that_stands_in_no_file_is_followed_by_one_that_does_and_none_is_shown() {
    let config = "[store]\nkey = \"env:SEALED_WITH\"\n";
    let mut daemon = Daemon::start_with(config, &[("SEALED_WITH", GIVEN), ("WARDROOM_LOG", "trace")]).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("K1", "A01", 610_001, "4N", 1).text()).await, "AA K1");
    let given = [("SEALED_WITH", GIVEN), ("WARDROOM_LOG", "trace"), ("LOGNAME", "ada")];
    let (code, _, said) = run(&daemon, &["keys", "rotate"], &given);
    assert!(code == 64 && said.contains("--to file:PATH"), "{said}");
    let (_, before, _) = run(&daemon, &["keys", "status"], &given);
    assert_eq!((&before["variable"], &before["file"], &before["by"]), (&"SEALED_WITH".into(), &Value::Null, &Value::Null));
    let (code, _, said) = run(&daemon, &["keys", "rotate", "--to", "file:gone/new.key"], &given);
    assert!(code == 69 && said.contains("nothing was changed"), "{said}");

    let (code, rotated, rotating_said) = run(&daemon, &["keys", "rotate", "--to", "file:new.key"], &given);
    assert_eq!((code, &rotated["patients"], &rotated["old_key"]), (0, &1.into(), &Value::Null), "{rotating_said}");
    // The daemon goes on with it.
    assert_eq!(peer.ask(Plain::new("K2", "A01", 610_002, "4N", 2).text()).await, "AA K2");
    assert_eq!(peer.ask(Plain::new("K3", "A02", 610_001, "ICU", 3).text()).await, "AA K3");
    assert_eq!(run(&daemon, &["keys", "status"], &given).0, 64, "the old one opens nothing");
    let new = fs::read_to_string(daemon.path("new.key")).unwrap().trim().to_owned();
    let environment = [("SEALED_WITH", new.as_str()), ("WARDROOM_LOG", "trace")];
    let (code, now, status_said) = run(&daemon, &["keys", "status"], &environment);
    assert_eq!((code, &now["patients"], &now["by"]["login"]), (0, &2.into(), &"ada".into()), "{now}");
    assert_eq!(is_whole(&daemon, &environment), 2);
    let (_, rows, _) = run(&daemon, &["audit", "search", "--action", "keys"], &environment);
    let actions: Vec<&Value> = rows["rows"].as_array().unwrap().iter().map(|row| &row["action"]).collect();
    assert_eq!(actions, ["keys.rotated", "keys.rotation_begun"], "{rows:#}");
    assert!(daemon.terminate().await.success());

    let shown = daemon.log().join("\n") + &rotating_said + &status_said + &rows.to_string() + &rotated.to_string() + &now.to_string();
    assert!(shown.contains("TRACE") || shown.contains("DEBUG"), "the log is talkative");
    for key in [GIVEN, &new] {
        assert!(!shown.contains(key.trim_end_matches('=')), "a key is shown");
    }
}

#[tokio::test]
async fn on_a_database_that_daemons_share_nothing_is_rotated_before_all_have_stopped() {
    let Some(url) = postgres::new_database().await else { return };
    let mut daemon = Daemon::start_with(&format!("[store]\nurl = \"{url}\"\nkey = \"env:SEALED_WITH\"\n"), &[("SEALED_WITH", GIVEN)]).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("K1", "A01", 620_001, "4N", 1).text()).await, "AA K1");
    let given = [("SEALED_WITH", GIVEN)];
    let rotate = || run(&daemon, &["keys", "rotate", "--to", "file:new.key"], &given);
    eventually("the daemon takes part", SOON, async || (rotate().0 == 69).then_some(())).await;
    let (code, _, said) = rotate();
    assert!(code == 69 && said.contains("1 daemon has this store") && said.contains("stop every one"), "{said}");
    assert!(!daemon.path("new.key").exists());
    assert!(daemon.terminate().await.success());
    let (code, rotated, said) = run(&daemon, &["keys", "rotate", "--to", "file:new.key"], &given);
    assert_eq!((code, &rotated["patients"]), (0, &1.into()), "{said}");
    // A daemon with the old key does not start any more.
    let output = Command::new(env!("CARGO_BIN_EXE_wardroom")).arg("serve").envs(given).current_dir(daemon.dir.path()).output().unwrap();
    assert!(output.status.code() == Some(64) && String::from_utf8_lossy(&output.stderr).contains("does not open this store"), "{output:?}");
    let new = fs::read_to_string(daemon.path("new.key")).unwrap().trim().to_owned();
    assert_eq!(is_whole(&daemon, &[("SEALED_WITH", &new)]), 1);
}
