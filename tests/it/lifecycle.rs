//! How the daemon starts, refuses to start, tells what is wrong, stops, and takes up what became due while it was down.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use sqlx::ConnectOptions as _;
use tokio::time::Instant;

use super::support::daemon::Daemon;
use super::support::daemon::house;
use super::support::daemon::refuses_to_start;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::peer::framed;
use super::support::peer::in_short;

#[tokio::test]
async fn it_ends_in_time_with_idle_peers_and_half_a_frame() {
    let mut daemon = Daemon::start("").await;
    let mut idle = Vec::new();
    for n in 0..20 {
        let mut peer = Peer::connect(daemon.mllp).await;
        if n % 2 == 0 {
            assert_eq!(peer.ask(Plain::new("I", "A08", 610_000, "4N", n).text()).await, "AA I");
        }
        idle.push(peer);
    }
    let mut half = Peer::connect(daemon.mllp).await;
    assert_eq!(half.ask(Plain::new("I", "A08", 610_001, "4N", 1).text()).await, "AA I");
    half.send_bytes(b"\x0bMSH|^~\\&|EMR|GHH").await;
    let begun = Instant::now();
    let status = daemon.terminate().await;
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for peer in &mut idle {
        assert_eq!(peer.receive().await, None);
    }
    assert_eq!(half.receive().await, None);
}

#[tokio::test]
async fn that_a_store_of_an_earlier_version_is_brought_up_to_date_is_in_the_log() {
    const TELLS: &str = "the store is of an earlier version and is brought up to date";
    let mut daemon = Daemon::start("").await;
    assert!(daemon.terminate().await.success());
    assert!(!daemon.log().iter().any(|line| line.contains(TELLS)), "a new one is of no version before");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(daemon.path("wardroom.db"));
    let mut store = options.connect().await.unwrap();
    // The last step changes nothing of what it finds.
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)").execute(&mut store).await.unwrap();
    sqlx::Connection::close(store).await.unwrap();
    daemon.up().await;
    daemon.says(TELLS).await;
    daemon.says("the store is up to date").await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_by_the_limit_and_its_key() {
    let daemon = Daemon::start("[[feeds]]\nmax_connections_per_address = 2").await;
    let mut peers = Vec::new();
    for n in 0..2 {
        let mut peer = Peer::connect(daemon.mllp).await;
        assert_eq!(peer.ask(Plain::new(format!("T{n}"), "A08", 612_000, "4N", 1).text()).await, format!("AA T{n}"));
        peers.push(peer);
    }
    let mut third = Peer::connect(daemon.mllp).await;
    assert_eq!(third.receive().await, None);
    daemon.says("refused, because `max_connections_per_address` of the feed is 2").await;
    let (status, report) = daemon.get("/readyz").await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let reason = report["reasons"].as_array().unwrap().iter().find(|reason| reason["part"] == "connections").unwrap();
    assert_eq!(status, 503);
    assert!(reason["what"].as_str().unwrap().contains("feed main: 1 connection was refused since the start"), "{reason}");
    assert!(reason["what"].as_str().unwrap().ends_with("because `max_connections_per_address` of the feed is 2"), "{reason}");
    assert!(reason["do"].as_str().unwrap().contains("raise this key"), "{reason}");
    let is_counted = async || daemon.get("/metrics").await.1.contains("wardroom_connections_refused_total{feed=\"main\"} 1").then_some(());
    eventually("it is counted", Duration::from_secs(30), is_counted).await;
    assert_eq!(peers.pop().unwrap().ask(Plain::new("T3", "A08", 612_000, "4N", 1).text()).await, "AA T3");
}

#[tokio::test]
async fn a_frame_in_flight_is_answered_before_the_end() {
    let mut daemon = Daemon::start("").await;
    // Enough messages in one frame that they are being worked on when the signal comes.
    let many: String = (0..600).map(|n| Plain::new(format!("F{n}"), "A01", 611_000 + n, "4N", 1).text()).collect();
    let mut peer = Peer::connect(daemon.mllp).await;
    peer.send_bytes(&framed(many)).await;
    daemon.says("first frame of a connection").await;
    daemon.signal("TERM");
    let answer = peer.receive().await.unwrap();
    assert_eq!(in_short(&answer).matches("AA F").count(), 600);
    assert_eq!(peer.receive().await, None);
    assert!(daemon.ended().await.success());
    daemon.up().await;
    eventually("everything is published", Duration::from_mins(1), async || (daemon.events().len() == 600).then_some(())).await;
}

#[tokio::test]
async fn it_ends_in_time_also_while_it_waits_for_its_store() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://wardroom@{}/wardroom", silent.local_addr().unwrap());
    let mut daemon = Daemon::begin(&format!("[store]\nurl = \"{url}\"\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n"));
    let _connection = silent.accept().await.unwrap();
    let begun = Instant::now();
    daemon.signal("TERM");
    assert!(daemon.ended().await.success());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut daemon = Daemon::start("[[feeds]]\ncommit_timeout = \"60s\"\n").await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(daemon.path("wardroom.db")).busy_timeout(Duration::from_secs(20));
    let mut held = options.connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut held).await.unwrap();
    let mut peer = Peer::connect(daemon.mllp).await;
    peer.send(Plain::new("W1", "A01", 612_001, "4N", 1).text()).await;
    daemon.says("first frame of a connection").await;
    daemon.signal("TERM");
    daemon.says("a second signal ends it at once").await;
    let begun = Instant::now();
    daemon.signal("TERM");
    let status = daemon.ended().await;
    assert_eq!(status.code(), Some(1), "it says that it did not end in good order");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(peer.receive().await, None, "what is not kept is not acknowledged");
}

#[tokio::test]
async fn after_the_signal_nobody_is_let_in() {
    let mut daemon = Daemon::start("").await;
    let address = daemon.mllp;
    assert!(daemon.terminate().await.success());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (config, key) in [
        (format!("[[feeds]]\nlisten = \"127.0.0.1:{port}\""), "feeds.main.listen"),
        (format!("[admin]\nlisten = \"127.0.0.1:{port}\""), "admin.listen"),
    ] {
        let dir = house(&config);
        let (code, said) = refuses_to_start(&dir);
        assert_eq!(code, 69, "{said}");
        assert!(said.contains("hint: see what uses the port"), "{said}");
        let said = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(said.contains(key) && said.contains(&port.to_string()) && said.contains("in use"), "{said}");
        let mut files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["staff.csv", "units.csv", "wardroom.toml"], "nothing is made where a port cannot be had");
    }
}

#[tokio::test]
async fn a_second_daemon_in_the_same_folder_is_told_that_one_runs() {
    let daemon = Daemon::start("").await;
    let mut config: toml::Table = fs::read_to_string(daemon.path("wardroom.toml")).unwrap().parse().unwrap();
    config["admin"]["listen"] = daemon.admin.to_string().into();
    fs::write(daemon.path("wardroom.toml"), config.to_string()).unwrap();
    let (code, said) = refuses_to_start(&daemon.dir);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("hint: a wardroom runs on this store already"), "{said}");
}

#[tokio::test]
async fn a_store_that_cannot_be_made_is_named() {
    let dir = house("[store]\nurl = \"sqlite:nowhere/wardroom.db\"");
    let (code, said) = refuses_to_start(&dir);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("nowhere"), "{said}");

    let dir = house("[store]\nurl = \"postgres://wardroom@127.0.0.1:1/wardroom\"\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"");
    let (code, said) = refuses_to_start(&dir);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("cannot open the store"), "{said}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_one_matter_whatever_was_to_be_made_in_it() {
    let key = "key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"";
    for (key, file) in [("key = \"file:gone/wardroom.key\"", "gone/wardroom.key"), (key, "gone/wardroom.db.lock")] {
        let (code, said) = refuses_to_start(&house(&format!("[store]\nurl = \"sqlite:gone/wardroom.db\"\n{key}")));
        assert_eq!(code, 69, "{said}");
        assert!(said.contains(file) && said.contains("must be allowed to write in it"), "{said}");
    }
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_the_operators_matter() {
    let mut daemon = Daemon::start("").await;
    daemon.kill9();
    let key = daemon.path("wardroom.key");
    let kept = daemon.path("kept.key");
    fs::copy(&key, &kept).unwrap();
    fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let (code, said) = refuses_to_start(&daemon.dir);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("the key does not open this store"), "{said}");

    fs::write(&key, "not a key").unwrap();
    let (code, said) = refuses_to_start(&daemon.dir);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("wardroom.key") && !said.contains("not a key"), "{said}");

    fs::remove_file(&key).unwrap();
    let (code, said) = refuses_to_start(&daemon.dir);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("wardroom.key"), "{said}");
    assert!(!key.exists(), "no new key is made beside a store that has one");

    fs::rename(&kept, &key).unwrap();
    daemon.up().await;
}

#[tokio::test]
async fn everything_wrong_with_a_configuration_is_said_at_once() {
    let dir = house("[rooms]\nhandover = \"soon\"\nclases = [\"I\"]\n[[feeds]]\ntime_zone = \"Mars/Olympus\"\nstrictness = \"very\"\n");
    let (code, said) = refuses_to_start(&dir);
    assert_eq!(code, 64, "{said}");
    for part in ["handover", "clases", "classes", "time_zone", "strictness", "wardroom.toml"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[tokio::test]
async fn a_second_daemon_on_the_same_file_is_kept_out() {
    let daemon = Daemon::start("").await;
    let (code, said) = refuses_to_start(&daemon.dir);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("wardroom.db.lock"), "{said}");
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("L", "A01", 612_000, "4N", 1).text()).await, "AA L");
}

#[tokio::test]
async fn without_a_broker_it_takes_messages_and_says_why_it_is_not_ready() {
    let daemon = Daemon::start("[publish]\nto = \"amqp\"\n[publish.amqp]\nurl = \"amqp://guest:very-secret@127.0.0.1:1/%2f\"\n").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("B", "A01", 613_000, "4N", 1).text()).await, "AA B");
    let report = eventually("readiness tells of the broker", Duration::from_secs(30), async || {
        let (status, body) = daemon.get("/readyz").await;
        (status == 503).then(|| serde_json::from_str::<Value>(&body).unwrap())
    });
    let report = report.await;
    assert_eq!((&report["ready"], &report["reasons"][0]["part"]), (&false.into(), &"publish".into()), "{report}");
    assert!(report["reasons"][0]["do"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{report}");
    assert_eq!(daemon.get("/livez").await.0, 200);
    assert!(!daemon.log().concat().contains("very-secret"));
}

#[tokio::test]
async fn a_daemon_that_is_well_is_ready() {
    let daemon = Daemon::start("").await;
    assert_eq!(daemon.get("/readyz").await.0, 200);
    assert_eq!(daemon.get("/livez").await.0, 200);
    assert_eq!(daemon.get("/nothing").await.0, 404);
}

/// The time of `seconds` before now, as HL7 writes it.
fn ago(seconds: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the daemon under test has the real clock")]
    let now = jiff::Timestamp::now();
    (now - jiff::SignedDuration::from_secs(seconds)).strftime("%Y%m%d%H%M%S+0000").to_string()
}

fn stamped(message: &Plain, at: &str) -> String {
    let old = message.text();
    let stamp = old.split('|').nth(6).unwrap().to_owned();
    old.replace(&stamp, at)
}

#[tokio::test]
async fn a_team_leaves_when_the_handover_ends_also_when_no_daemon_runs_then() {
    let mut daemon = Daemon::start("[rooms]\nhandover = \"3s\"\ngrace_floor = \"0s\"\n").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let users = |room: &Value| -> Vec<String> {
        room["members"].as_array().unwrap().iter().map(|member| member["user"].as_str().unwrap().to_owned()).collect()
    };
    let has_4n = |room: &Value| users(room).iter().any(|user| user.starts_with("nurse.4n"));
    let has_icu = |room: &Value| users(room).iter().any(|user| user.starts_with("nurse.icu"));

    // While it runs.
    assert_eq!(peer.ask(stamped(&Plain::new("W1", "A01", 614_001, "4N", 1), &ago(60))).await, "AA W1");
    assert_eq!(peer.ask(stamped(&Plain::new("W2", "A02", 614_001, "ICU", 2), &ago(0))).await, "AA W2");
    daemon.room_is("V614001", "shared by both teams", |room| has_4n(room) && has_icu(room)).await;
    daemon.room_is("V614001", "with its new team only", |room| !has_4n(room) && has_icu(room)).await;

    // While it does not: killed before the handover ends, started after it.
    assert_eq!(peer.ask(stamped(&Plain::new("W3", "A01", 614_002, "4N", 1), &ago(60))).await, "AA W3");
    assert_eq!(peer.ask(stamped(&Plain::new("W4", "A02", 614_002, "ICU", 2), &ago(0))).await, "AA W4");
    let moved = daemon.room_is("V614002", "shared by both teams", |room| has_4n(room) && has_icu(room)).await;
    daemon.restart().await;
    let left = daemon.room_is("V614002", "with its new team only", |room| !has_4n(room) && has_icu(room)).await;
    assert_eq!(left["data"]["version"], moved["data"]["version"].as_u64().unwrap() + 1);
    assert_eq!(left["type"], "room.members_changed");
    assert_ne!(left["data"]["cause"]["kind"], "message");
}

#[tokio::test]
async fn new_staff_join_the_rooms_that_are_open_also_when_no_daemon_ran_then() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("N", "A01", 615_000, "4N", 1).text()).await, "AA N");
    daemon.room_is("V615000", "open", |room| room["status"] == "active").await;
    let has = |room: &Value, user: &str| room["members"].as_array().unwrap().iter().any(|member| member["user"] == user);
    let staff = daemon.path("staff.csv");
    let before = fs::read_to_string(&staff).unwrap();
    daemon.kill9();
    fs::write(&staff, format!("{before}new.one,New One,GHH/EI:N1,nurse.4n,true\n")).unwrap();
    daemon.up().await;
    daemon.room_is("V615000", "joined by the first", |room| has(room, "new.one")).await;
    fs::write(&staff, format!("{before}new.one,New One,GHH/EI:N1,nurse.4n,true\nnew.two,New Two,GHH/EI:N2,nurse.4n,true\n")).unwrap();
    daemon.room_is("V615000", "joined by the second", |room| has(room, "new.two")).await;
}
