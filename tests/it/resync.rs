//! Rooms that are published again: one or all, in another epoch after a backup, with a daemon on the store and without.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use sqlx::Connection as _;
use uuid::Uuid;
use wardroom::ids::CareRoomId;
use wardroom::outbox::envelope::event_id;
use wardroom::store::Store;
use wardroom::store::StoreOptions;
use wardroom::store::master_key::MasterKey;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::postgres;

const SOON: std::time::Duration = std::time::Duration::from_mins(1);

fn resync(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = program(&daemon.dir);
    command.arg("resync").args(arguments);
    command
}

/// Runs the command beside the daemon: the exit code, what it printed, and what it said.
fn run(daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let output = resync(daemon, arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// As it is done by a command that says what it did.
fn done(daemon: &Daemon, arguments: &[&str]) -> Value {
    let (code, printed, said) = run(daemon, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&printed).unwrap()
}

/// The visit, the version, the epoch and the type of each event.
fn events(daemon: &Daemon) -> Vec<(String, u64, u64, String)> {
    let of = |event: Value| {
        let data = &event["data"];
        let visit = data["room"]["visit"]["id"]["value"].as_str().unwrap().to_owned();
        let event_type = event["type"].as_str().unwrap().to_owned();
        (visit, data["version"].as_u64().unwrap(), data["epoch"].as_u64().unwrap(), event_type)
    };
    daemon.events().into_iter().map(of).collect()
}

/// Waits until so many events of an epoch are snapshots.
async fn has_snapshots(daemon: &Daemon, n: usize, epoch: u64) {
    let count = || events(daemon).iter().filter(|(_, _, of, event_type)| *of == epoch && event_type == "room.snapshot").count();
    eventually(&format!("{n} snapshots in epoch {epoch}"), SOON, async || (count() >= n).then_some(())).await;
    assert_eq!(count(), n);
}

/// Every room has the versions 1, 2, 3, …, its epoch never goes back, and each event has the id of its epoch and version.
fn is_in_order(daemon: &Daemon) {
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for event in daemon.events() {
        let (room, data) = (event["subject"].as_str().unwrap().to_owned(), &event["data"]);
        let (epoch, version) = (data["epoch"].as_u64().unwrap(), data["version"].as_u64().unwrap());
        let id = event_id(CareRoomId(Uuid::parse_str(&room).unwrap()), u32::try_from(epoch).unwrap(), version);
        assert_eq!(event["id"], id.to_string());
        let (before, known) = last.insert(room, (epoch, version)).unwrap_or((1, 0));
        assert!(version == known + 1 && epoch >= before, "{event}");
    }
}

async fn say(peer: &mut Peer, trigger: &'static str, number: u32, unit: &'static str, minute: u32) {
    let message = Plain::new(format!("S{number}-{minute}"), trigger, number, unit, minute);
    assert!(peer.ask(message.text()).await.starts_with("AA"));
}

#[tokio::test]
async fn rooms_are_published_again_as_they_are_and_in_another_epoch_when_the_store_was_restored() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for (trigger, number) in [("A01", 6001), ("A01", 6002), ("A05", 6004), ("A03", 6005)] {
        say(&mut peer, trigger, number, "4N", 1).await;
    }
    let private = Plain::new("S6003-1", "A01", 6003, "4N", 1).text().replace("||||||||||||V6003", "|||||||||VIP|||V6003");
    assert!(peer.ask(private).await.starts_with("AA"));
    say(&mut peer, "A11", 6002, "4N", 2).await;
    daemon.room_is("V6002", "cancelled", |room| room["status"] == "cancelled").await;
    let before = daemon.room_is("V6001", "open", |room| room["status"] == "active").await;
    daemon.room_is("V6003", "one that tells initials only", |room| room["patient"]["display"] == "T. T.").await;
    let n_before = daemon.events().len();

    // One room, by the beginning of its id and by its id, is still one.
    let id = before["subject"].as_str().unwrap();
    assert_eq!(done(&daemon, &["--room", id, "--room", id.split_at(13).0]), serde_json::json!({"rooms": 1, "left_out": 0, "epoch": null}));
    has_snapshots(&daemon, 1, 1).await;
    let again = daemon.events().pop().unwrap();
    let (mut room, mut expected) = (again["data"]["room"].clone(), before["data"]["room"].clone());
    assert_eq!((&again["data"]["version"], &again["data"]["changes"]), (&2.into(), &Value::Array(Vec::new())));
    assert_eq!((&again["data"]["cause"]["kind"], &again["source"]), (&"operator".into(), &"wardroom/main".into()));
    assert_eq!(room["notify"], false);
    for (room, version) in [(&mut room, 2), (&mut expected, 1)] {
        let fields = room.as_object_mut().unwrap();
        assert_eq!(fields.remove("version"), Some(version.into()));
        fields.remove("notify");
    }
    assert_eq!(room, expected);

    // What is not there, was never published, or is asked for in the wrong way.
    let (code, printed, said) = run(&daemon, &["--room", id, "--room", "ffffffff-ffff-ffff-ffff-ffffffffffff"]);
    assert!(code == 1 && printed.is_empty() && said.contains("no room is called `ffffffff-"), "{said}");
    for wrong in [&[][..], &["--all", "--room", id], &["--new-epoch"], &["--new-epoch", "--room", id]] {
        assert_eq!(run(&daemon, wrong).0, 64, "{wrong:?}");
    }
    assert_eq!(daemon.events().len(), n_before + 1, "nothing of that published anything");

    // All three that were ever published: neither who is only expected nor a stay that was over when first heard of.
    let (code, printed, _) = run(&daemon, &["--all"]);
    assert_eq!((code, printed.as_str()), (0, "3 rooms published again\n"));
    has_snapshots(&daemon, 4, 1).await;
    assert_eq!(done(&daemon, &["--all", "--new-epoch"]), serde_json::json!({"rooms": 3, "left_out": 0, "epoch": 2}));
    has_snapshots(&daemon, 3, 2).await;
    let hidden = daemon.room_is("V6003", "published again as far as its level allows", |room| room["version"] == 3).await;
    assert_eq!((&hidden["data"]["room"]["patient"]["display"], &hidden["data"]["room"]["patient"]["family"]), (&"T. T.".into(), &Value::Null));

    // Whatever follows is of that epoch, also after a restart; and what comes again is still known.
    say(&mut peer, "A02", 6001, "5S", 3).await;
    daemon.room_is("V6001", "in 5S", |room| room["location"]["point_of_care"] == "5S").await;
    drop(peer);
    assert!(daemon.terminate().await.success());
    daemon.up().await;
    let mut peer = Peer::connect(daemon.mllp).await;
    say(&mut peer, "A01", 6006, "4N", 4).await;
    say(&mut peer, "A02", 6001, "4N", 5).await;
    daemon.room_is("V6001", "in 4N again", |room| room["location"]["point_of_care"] == "4N").await;
    let last: Vec<_> = events(&daemon).into_iter().rev().take(2).map(|(visit, version, epoch, _)| (visit, version, epoch)).collect();
    assert_eq!(last, [("V6001".to_owned(), 6, 2), ("V6006".to_owned(), 1, 2)]);
    drop(peer);
    assert!(daemon.terminate().await.success());

    // Without a daemon the command opens the store itself, and the next daemon publishes.
    let (code, printed, said) = run(&daemon, &["--all", "--new-epoch"]);
    assert_eq!((code, printed.as_str()), (0, "4 rooms published again in epoch 3, as soon as a daemon runs\n"), "{said}");
    assert_eq!(done(&daemon, &["--room", id])["rooms"], 1);
    daemon.up().await;
    has_snapshots(&daemon, 5, 3).await;
    is_in_order(&daemon);
    assert!(daemon.terminate().await.success());

    let url = format!("sqlite:{}", daemon.path("wardroom.db").display()).into();
    let options = StoreOptions { url, master_key: MasterKey::load(&daemon.path("wardroom.key")).unwrap(), readers: 1, daemon: 0 };
    let store = Store::open_read_only(options).await.unwrap();
    assert!(store.epoch() == 3 && store.verify_audit(|_, _| {}).await.unwrap().is_whole());
    let rows = store.audit_page(None, i64::MIN, 1000).await.unwrap();
    let of = |kind: &str| rows.iter().filter(|row| row.kind == kind).collect::<Vec<_>>();
    assert_eq!((of("rooms.resynced").len(), of("epoch.raised").len(), of("room.snapshot").len()), (5, 2, 12));
    let raised = of("epoch.raised").into_iter().map(|row| serde_json::from_slice::<Value>(&row.body.as_ref().unwrap().bytes).unwrap());
    let mut epochs: Vec<u64> = raised
        .inspect(|record| assert!(record["by"]["uid"].is_u64() && record["order"]["order"] == "new_epoch", "{record}"))
        .map(|record| record["epoch"].as_u64().unwrap())
        .collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [2, 3]);
    assert_eq!(of("rooms.resynced")[0].room_id.unwrap().to_string(), id);
}

#[tokio::test]
async fn all_rooms_are_published_again_some_at_a_time_while_messages_come() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let numbers = 7_000..7_150;
    for number in numbers.clone() {
        say(&mut peer, "A01", number, "4N", 1).await;
    }
    let child = resync(&daemon, &["--all", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    for number in numbers.clone() {
        say(&mut peer, "A02", number, "5S", 2).await;
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["rooms"], 150);
    daemon.room_is("V7149", "in 5S", |room| room["location"]["point_of_care"] == "5S").await;
    has_snapshots(&daemon, 150, 1).await;
    drop(peer);
    assert!(daemon.terminate().await.success());
    is_in_order(&daemon);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    last.extend(events(&daemon).into_iter().map(|(visit, version, ..)| (visit, version)));
    assert!(last.len() == 150 && last.values().all(|version| *version == 3), "{last:?}");

    // A room that cannot be read is in the way of no other, and is told.
    let store = rusqlite::Connection::open(daemon.path("wardroom.db")).unwrap();
    assert_eq!(store.execute("UPDATE visits SET doc = zeroblob(64) WHERE id = (SELECT MIN(id) FROM visits)", []).unwrap(), 1);
    drop(store);
    let (code, printed, said) = run(&daemon, &["--all", "--json"]);
    assert!(code == 1 && said.contains("the rooms of 1 visit could not be published again"), "{said}");
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), serde_json::json!({"rooms": 149, "left_out": 1, "epoch": null}));
}

#[tokio::test]
async fn every_daemon_on_a_shared_store_goes_over_to_the_epoch_that_one_command_raised() {
    let Some(url) = postgres::new_database().await else { return };
    let configuration = format!("[store]\nurl = \"{url}\"\nkey = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n");
    let mut daemons = [Daemon::start(&configuration).await, Daemon::start(&configuration).await];
    let mut peers = [Peer::connect(daemons[0].mllp).await, Peer::connect(daemons[1].mllp).await];
    for (peer, number) in peers.iter_mut().zip([8001, 8002]) {
        say(peer, "A01", number, "4N", 1).await;
    }
    assert_eq!(done(&daemons[0], &["--all", "--new-epoch"]), serde_json::json!({"rooms": 2, "left_out": 0, "epoch": 2}));
    for (peer, number) in peers.iter_mut().zip([8002, 8001]) {
        say(peer, "A02", number, "5S", 2).await;
        say(peer, "A01", number + 10, "4N", 3).await;
    }
    drop(peers);
    // Who publishes which room is their own affair.
    let all = || {
        let mut all: Vec<_> = daemons.iter().flat_map(events).collect();
        all.sort();
        all
    };
    eventually("all is published", SOON, async || (all().len() >= 8).then_some(())).await;
    let (mut first, later): (Vec<_>, Vec<_>) = all().into_iter().partition(|(_, version, ..)| *version == 1);
    first.retain(|(visit, ..)| visit == "V8001" || visit == "V8002");
    assert!(first.iter().all(|(.., epoch, _)| *epoch == 1), "{first:?}");
    let of_new: Vec<_> = all().into_iter().filter(|(visit, ..)| visit == "V8011" || visit == "V8012").collect();
    assert!(later.iter().chain(&of_new).all(|(.., epoch, _)| *epoch == 2), "{later:?} {of_new:?}");
    assert_eq!((later.len(), of_new.len()), (4, 2));
    for daemon in &mut daemons {
        assert!(daemon.terminate().await.success());
    }
}

#[tokio::test]
async fn a_trail_that_takes_no_more_rows_keeps_the_epoch_as_it_is_and_blocks_no_message() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    say(&mut peer, "A01", 996_001, "4N", 1).await;
    // Where the next row of the daemon's chain would stand.
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite:{}", daemon.path("wardroom.db").display())).await.unwrap();
    let taken = "INSERT INTO audit SELECT id + 1024, at_us, kind, room_id, room_version, journal_id, chain, body, made_for FROM audit WHERE id & 1023 <> 1023";
    sqlx::query(taken).execute(&mut connection).await.unwrap();
    let (code, _, said) = run(&daemon, &["--all", "--new-epoch"]);
    assert_eq!(code, 69, "{said}");
    assert_eq!(peer.ask(Plain::new("NOOP", "A20", 996_001, "4N", 2).text()).await, "AA NOOP");
    let epoch: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'epoch'").fetch_optional(&mut connection).await.unwrap();
    assert_eq!(epoch, None);
}
