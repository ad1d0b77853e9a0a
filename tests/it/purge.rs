//! What ended long enough ago is deleted for good: rows, look-ups and keys, on both stores, also when it is interrupted; and the backend is told.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "helpers of tests")]

use std::process::Command;

use serde_json::Value;
use sqlx::Connection as _;
use sqlx::PgConnection;
use sqlx::SqliteConnection;

use super::crash::histories;
use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::postgres;

const SOON: std::time::Duration = std::time::Duration::from_mins(1);
/// Stays that end at once; what is purged is said by whoever gives the order.
const ENDS_AT_ONCE: &str =
    "[rooms]\nmass_guard = false\ngrace_floor = \"0s\"\ndischarge_grace = { E = \"1s\", default = \"1s\" }\n[[feeds]]\nclock = \"arrival\"\n";
/// Whatever refers to a row that is not there; and what a purged patient may not leave.
const LEFT_BEHIND: [(&str, &str); 6] = [
    ("facts", "SELECT COUNT(*) FROM facts WHERE owner NOT IN (SELECT id FROM visits)"),
    ("look_ups", "SELECT COUNT(*) FROM look_ups WHERE target NOT IN (SELECT id FROM visits UNION ALL SELECT id FROM patients)"),
    ("visits", "SELECT COUNT(*) FROM visits WHERE patient_id NOT IN (SELECT id FROM patients)"),
    ("patients", "SELECT COUNT(*) FROM patients WHERE id IN (SELECT id FROM purged_patients)"),
    ("quarantine", "SELECT COUNT(*) FROM quarantine WHERE journal_id NOT IN (SELECT id FROM journal)"),
    ("outbox", "SELECT COUNT(*) FROM outbox"),
];

fn wardroom(daemon: &Daemon, arguments: &[&str], keeps: &str) -> Command {
    let mut command = program(&daemon.dir);
    // The daemon keeps all of it for a year, and is not to close rooms sooner.
    let sooner = arguments.contains(&"purge") && !arguments.contains(&"--dry-run") && keeps != "365d";
    command.args(arguments).args(sooner.then_some("--sooner")).env("WARDROOM_ROOMS__PURGE_AFTER", keeps);
    command
}

/// The exit code, and the document that is printed.
fn run(daemon: &Daemon, arguments: &[&str], keeps: &str) -> (i32, Value) {
    let output = wardroom(daemon, &[&["--json"], arguments].concat(), keeps).output().unwrap();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), printed)
}

fn counts(document: &Value) -> [u64; 5] {
    ["stays", "rooms", "patients", "messages", "waiting"].map(|what| document[what].as_u64().unwrap_or_else(|| panic!("{document}")))
}

/// The configuration of a store on a server.
fn store_at(url: &str) -> String {
    format!("[store]\nurl = \"{url}\"\nkey = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n")
}

async fn say(peer: &mut Peer, text: impl AsRef<[u8]>) {
    assert!(peer.ask(text).await.starts_with("AA"));
}

fn text(trigger: &'static str, number: u32, minute: u32) -> String {
    Plain::new(format!("P{number}-{minute}"), trigger, number, "4N", minute).text()
}

/// The store as it is, whatever database it is in.
enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Raw {
    async fn open(daemon: &Daemon, url: Option<&str>) -> Self {
        match url {
            Some(url) => Self::Postgres(PgConnection::connect(url).await.unwrap()),
            None => Self::Sqlite(SqliteConnection::connect(&format!("sqlite:{}", daemon.path("wardroom.db").display())).await.unwrap()),
        }
    }

    async fn count(&mut self, query: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(query.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(connection).await.unwrap(),
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_one(connection).await.unwrap(),
        }
    }

    async fn is_whole(&mut self) {
        for (table, query) in LEFT_BEHIND {
            assert_eq!(self.count(query).await, 0, "{table}");
        }
    }
}

/// The trail is whole, the ledger balances; gives back how many rows of the trail are closed for good.
fn still_adds_up(daemon: &Daemon) -> u64 {
    let (code, ledger) = run(daemon, &["ledger"], "365d");
    assert_eq!((code, &ledger["balanced"]), (0, &Value::from(true)), "{ledger:#}");
    let (code, trail) = run(daemon, &["audit", "verify"], "365d");
    assert_eq!((code, &trail["bodies"]["key_gone"]), (0, &Value::from(0)), "{trail:#}");
    trail["bodies"]["purged"].as_u64().unwrap()
}

/// Waits until so much would go.
async fn would_go(daemon: &Daemon, expected: [u64; 5]) {
    let look = async || {
        let (code, found) = run(daemon, &["purge", "--dry-run"], "1s");
        (code == 0 && counts(&found) == expected).then_some(())
    };
    eventually(&format!("{expected:?} would go"), SOON, look).await;
}

#[tokio::test]
async fn a_merge_that_came_before_its_visits_is_still_known_after_a_purge() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let merge = text("A42", 7101, 3).trim_end_matches('\r').to_owned() + "\rMRG|7102^^^GHH^MR||||V7102^^^GHH^VN\r";
    say(&mut peer, merge).await;
    let (code, purged) = run(&daemon, &["purge"], "365d");
    assert_eq!((code, counts(&purged)), (0, [0; 5]), "{purged}");
    say(&mut peer, text("A01", 7101, 1)).await;
    say(&mut peer, text("A01", 7102, 2)).await;
    daemon.room_is("V7101", "open", |room| room["status"] == "active").await;
    let (_, listed) = run(&daemon, &["rooms", "list", "--all"], "365d");
    let open: Vec<&Value> =
        listed["rooms"].as_array().unwrap().iter().filter(|room| room["status"] == "active").map(|room| &room["visit"]["id"]["value"]).collect();
    assert_eq!(open, ["V7101"], "{listed:#}");
}

async fn goes_when_its_time_is_over(config: &str, url: Option<&str>) {
    let daemon = Daemon::start(&format!("{config}{ENDS_AT_ONCE}")).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    // 7001 ends, 7002 goes on, 7003 was over when first heard of, 7004 ends and comes again, of 7005 a message waits that names it under somebody else.
    for (trigger, number) in [("A01", 7001), ("A01", 7002), ("A01", 7004), ("A01", 7005)] {
        say(&mut peer, text(trigger, number, 1)).await;
    }
    say(&mut peer, text("A01", 7001, 1)).await;
    for number in [7001, 7003, 7004, 7005] {
        say(&mut peer, text("A03", number, 2)).await;
    }
    say(&mut peer, text("A23", 7001, 3)).await;
    say(&mut peer, text("A01", 7004, 4).replace("V7004", "V7994")).await;
    say(&mut peer, text("A08", 7005, 5).replace("7005^^^GHH^MR", "7995^^^GHH^MR").replace("TESTER^TERRY", "OTHER^ONE")).await;
    for visit in ["V7001", "V7004"] {
        daemon.room_is(visit, "closed", |room| room["status"] == "closed").await;
    }
    // 7004 has a visit that goes on. Of 7005 nobody is told any more that a message waits: it is as old.
    would_go(&daemon, [4, 3, 3, 10, 0]).await;
    let mut raw = Raw::open(&daemon, url).await;
    let n_visits = raw.count("SELECT COUNT(*) FROM visits").await;
    assert_eq!(counts(&run(&daemon, &["purge"], "365d").1), [0; 5], "nothing is so old");
    assert_eq!(raw.count("SELECT COUNT(*) FROM visits").await, n_visits);

    let refused = program(&daemon.dir).arg("purge").env("WARDROOM_ROOMS__PURGE_AFTER", "1s").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && said.contains("--sooner"), "the daemon keeps it for a year: {said}");
    assert_eq!(raw.count("SELECT COUNT(*) FROM visits").await, n_visits);

    let (code, purged) = run(&daemon, &["purge"], "1s");
    assert_eq!((code, counts(&purged)), (0, [4, 3, 3, 10, 0]), "{purged}");
    let (_, found) = run(&daemon, &["audit", "search", "--action", "stays.purged"], "365d");
    let went = found["rows"].as_array().unwrap().iter().map(|row| row["details"]["went"]["stays"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(went, 4, "{found:#}");
    let (_, found) = run(&daemon, &["audit", "search", "--user", "lgarcia"], "365d");
    assert!(found["closed"].as_u64().unwrap() > 0, "what cannot be read is not passed over in silence: {found:#}");
    for (visit, version) in [("V7001", 4), ("V7004", 4)] {
        let event = daemon.room_is(visit, "purged", |room| room["status"] == "purged").await;
        let room = &event["data"]["room"];
        assert_eq!(
            (&event["type"], &event["data"]["version"], &event["data"]["cause"]["kind"]),
            (&"room.purged".into(), &version.into(), &"operator".into())
        );
        assert!(room["name"].as_str().is_some_and(|name| name.len() == 4), "{room}");
        assert_eq!(event["data"]["changes"], serde_json::json!([{"kind": "status", "from": "closed", "to": "purged"}]));
        for field in ["/location", "/patient/display", "/patient/family", "/patient/birth_date", "/visit/admitted_at", "/visit/service"] {
            assert_eq!(room.pointer(field), Some(&Value::Null), "{field}");
        }
        assert_eq!(
            (&room["patient"]["id"]["value"], &room["visit"]["id"]["value"], &room["members"]),
            (&visit[1..].into(), &visit.into(), &serde_json::json!([]))
        );
    }
    histories(&daemon.event_lines());
    eventually("all is published", SOON, async || (raw.count("SELECT COUNT(*) FROM outbox").await == 0).then_some(())).await;
    raw.is_whole().await;
    assert_eq!(raw.count("SELECT COUNT(*) FROM visits").await, n_visits - 4);
    assert_eq!(raw.count("SELECT COUNT(*) FROM purged_patients").await, 3);
    assert!(still_adds_up(&daemon) > 0, "rows of the trail of purged patients");
    assert_eq!(counts(&run(&daemon, &["purge"], "1s").1)[..3], [0, 0, 0], "what is purged is purged");

    // The trail says it kindly: who looks for the room finds that it was purged, and by whose order.
    let room = daemon.events().into_iter().find(|event| event["type"] == "room.purged").unwrap()["subject"].as_str().unwrap().to_owned();
    let (code, found) = run(&daemon, &["audit", "search", "--room", &room], "365d");
    assert_eq!(code, 0, "{found}");
    assert!(found["rows"].as_array().unwrap().iter().any(|row| row["action"] == "room.purged"), "{found:#}");
    let (code, orders) = run(&daemon, &["audit", "search", "--action", "purged"], "365d");
    assert!(code == 0 && orders["rows"].as_array().unwrap().iter().any(|row| row["action"] == "stays.purged"), "{orders:#}");

    // What goes on goes on, and who comes again under a number that was purged has another room.
    say(&mut peer, text("A02", 7002, 8)).await;
    say(&mut peer, text("A01", 7001, 9)).await;
    let again = daemon.room_is("V7001", "another", |room| room["status"] == "active").await;
    assert!(again["data"]["version"] == 1 && again["subject"].as_str() != Some(room.as_str()), "{again}");
    still_adds_up(&daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_long_enough_ago_goes_for_good_and_the_backend_is_told() {
    goes_when_its_time_is_over("", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_long_enough_ago_goes_for_good_on_postgres() {
    let Some(url) = postgres::new_database().await else { return };
    goes_when_its_time_is_over(&store_at(&url), Some(&url)).await;
}

#[tokio::test]
async fn an_old_message_sent_again_opens_no_room_of_a_stay_that_was_purged() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let old = |trigger, minute| text(trigger, 7101, minute).replace("20261120", "20240110");
    for (trigger, minute) in [("A01", 1), ("A02", 2), ("A08", 3), ("A03", 4)] {
        say(&mut peer, old(trigger, minute)).await;
    }
    assert_eq!(counts(&run(&daemon, &["purge", "--dry-run"], "365d").1), [1, 0, 1, 4, 0]);
    let (code, purged) = run(&daemon, &["purge"], "365d");
    assert_eq!((code, counts(&purged)), (0, [1, 0, 1, 4, 0]), "{purged}");
    assert!(purged["oldest"].as_str().unwrap().starts_with("2024-01-11T") && purged["oldest"] == purged["newest"], "{purged}");
    // Of all that was said only what says least that it is over.
    for (trigger, minute) in [("A08", 3), ("A01", 1)] {
        say(&mut peer, old(trigger, minute)).await;
        let (_, rooms) = run(&daemon, &["rooms", "list"], "365d");
        assert_eq!(rooms["rooms"].as_array().map(Vec::len), Some(0), "{rooms}");
    }
    assert!(daemon.events().is_empty());
    // It is recorded, and goes again.
    assert_eq!(counts(&run(&daemon, &["purge"], "365d").1), [1, 0, 1, 2, 0]);
    still_adds_up(&daemon);
    Raw::open(&daemon, None).await.is_whole().await;

    // As long as somebody has to look at a message of it, it stays.
    say(&mut peer, old("A03", 4)).await;
    say(&mut peer, old("A08", 5).replace("7101^^^GHH^MR", "7199^^^GHH^MR").replace("TESTER^TERRY", "OTHER^ONE").replace("19610401", "19700101"))
        .await;
    assert_eq!(counts(&run(&daemon, &["purge"], "365d").1), [0, 0, 0, 0, 1]);
    let (_, waiting) = run(&daemon, &["quarantine", "list"], "365d");
    let id = waiting["quarantine"][0]["id"].as_str().unwrap_or_else(|| panic!("{waiting}")).to_owned();
    assert_eq!(run(&daemon, &["quarantine", "discard", &id, "--reason", "too late"], "365d").0, 0);
    assert_eq!(counts(&run(&daemon, &["purge"], "365d").1), [1, 0, 1, 1, 0]);
    still_adds_up(&daemon);
}

async fn ends_with_a_power_cut(store: &str, url: Option<&str>) {
    const STAYS: u32 = 200;
    let mut daemon = Daemon::start(&format!("{ENDS_AT_ONCE}{store}")).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for number in 8000..8000 + STAYS {
        say(&mut peer, text("A01", number, 1)).await;
    }
    for number in 8000..8000 + STAYS {
        say(&mut peer, text("A03", number, 2)).await;
    }
    drop(peer);
    let n_stays = u64::from(STAYS);
    would_go(&daemon, [n_stays, n_stays, n_stays, 2 * n_stays, 0]).await;
    let mut raw = Raw::open(&daemon, url).await;
    let mut n_killed = 0;
    while n_killed < 3 {
        let mut purge = wardroom(&daemon, &["purge"], "1s").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let before = raw.count("SELECT COUNT(*) FROM visits").await;
        eventually("some are gone", SOON, async || (raw.count("SELECT COUNT(*) FROM visits").await < before).then_some(())).await;
        daemon.kill9();
        assert!(!purge.wait().unwrap().success() || raw.count("SELECT COUNT(*) FROM visits").await == 0, "it says that it was not done");
        n_killed += 1;
        daemon.up().await;
        let n_left = raw.count("SELECT COUNT(*) FROM visits").await;
        assert_eq!(raw.count("SELECT COUNT(*) FROM patients").await, n_left);
        assert_eq!(raw.count("SELECT COUNT(*) FROM facts").await, 2 * n_left);
        let told = async || {
            let n_told = daemon
                .events()
                .iter()
                .filter(|event| event["type"] == "room.purged")
                .map(|event| event["id"].to_string())
                .collect::<std::collections::BTreeSet<_>>()
                .len();
            (i64::try_from(n_told).unwrap() == i64::from(STAYS) - n_left).then_some(())
        };
        eventually("the backend knows of each room that is gone", SOON, told).await;
        if n_left == 0 {
            break;
        }
    }
    let (code, purged) = run(&daemon, &["purge"], "1s");
    assert_eq!(code, 0, "{purged}");
    let is_told = || daemon.events().iter().filter(|event| event["data"]["room"]["status"] == "purged").count() >= STAYS as usize;
    eventually("every room is purged", SOON, async || is_told().then_some(())).await;
    let rooms = histories(&daemon.event_lines());
    assert_eq!(rooms.len(), STAYS as usize);
    eventually("all is settled", SOON, async || (raw.count("SELECT COUNT(*) FROM outbox").await == 0).then_some(())).await;
    raw.is_whole().await;
    for table in ["visits", "patients", "facts", "look_ups", "journal"] {
        assert_eq!(raw.count(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    assert!(still_adds_up(&daemon) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_a_power_cut_ends_leaves_nothing_half_done() {
    ends_with_a_power_cut("", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_a_power_cut_ends_leaves_nothing_half_done_on_postgres() {
    let Some(url) = postgres::new_database().await else { return };
    ends_with_a_power_cut(&store_at(&url), Some(&url)).await;
}

/// Of each visit and patient whatever messages may have said: merged, moved, renumbered, swapped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_whatever_was_said_nothing_is_left_behind_that_leads_nowhere() {
    let daemon = Daemon::start("[rooms]\nmass_guard = false\ngrace_floor = \"0s\"\npurge_after = \"1h\"\n").await;
    let to = daemon.mllp.to_string();
    let messages = format!("{}/fixtures/messages", env!("CARGO_MANIFEST_DIR"));
    let replayed = program(&daemon.dir).args(["replay", &messages, "--fresh-ids", "--to", &to]).output().unwrap();
    assert!(replayed.status.code().is_some_and(|code| code <= 1), "{replayed:?}");
    let simulated = program(&daemon.dir).args(["simulate", "--beds", "12", "--days", "3", "--duplicates", "0.1", "--to", &to]).output().unwrap();
    assert!(simulated.status.success(), "{simulated:?}");
    still_adds_up(&daemon);
    let mut raw = Raw::open(&daemon, None).await;
    let n_visits = raw.count("SELECT COUNT(*) FROM visits").await;
    let (code, counted) = run(&daemon, &["purge", "--dry-run"], "1h");
    assert_eq!(code, 0, "{counted}");
    let (code, purged) = run(&daemon, &["purge"], "1h");
    assert_eq!((code, counts(&purged)[0], &purged["left_out"]), (0, counts(&counted)[0], &Value::from(0)), "{purged}");
    assert!(counts(&purged)[0] > 20, "{purged}");
    assert_eq!(raw.count("SELECT COUNT(*) FROM visits").await, n_visits - i64::try_from(counts(&purged)[0]).unwrap());
    eventually("all is published", SOON, async || (raw.count("SELECT COUNT(*) FROM outbox").await == 0).then_some(())).await;
    raw.is_whole().await;
    still_adds_up(&daemon);
    // What came a moment ago and left nothing in any stay goes by its own age.
    let (code, purged) = run(&daemon, &["purge"], "1s");
    assert_eq!(code, 0, "{purged}");
    eventually("all is published", SOON, async || (raw.count("SELECT COUNT(*) FROM outbox").await == 0).then_some(())).await;
    raw.is_whole().await;
    still_adds_up(&daemon);
    histories(&daemon.event_lines());
}
