//! Looking at the rooms beside a running daemon: what is shown, and that whoever looks leaves a record.

#![expect(clippy::unwrap_used, clippy::string_slice, clippy::indexing_slicing, reason = "tests")]

use std::process::Output;

use serde_json::Value;
use wardroom::store::Store;
use wardroom::store::StoreOptions;
use wardroom::store::master_key::MasterKey;

use super::support::daemon::Daemon;
use super::support::daemon::house;
use super::support::daemon::program;
use super::support::peer::Peer;

const ADMITTED: &str = "MSH|^~\\&|EMR|GHH|W|GHH|20261121080000-0500||ADT^A01^ADT_A01|R1|P|2.5.1\rEVN|A01|20261121080000-0500\r\
                        PID|1||4001^^^GHH^MR||ROOMER^RITA||19700101|F\r\
                        PV1|1|I|4N^12^A^GHH||||D100^Garcia^Luis^^^^^^GHH^^^^EI||D999^Low^Kim^^^^^^GHH^^^^EI||||||||||V4001^^^GHH^VN\r";
const MOVED: &str = "MSH|^~\\&|EMR|GHH|W|GHH|20261121080100-0500||ADT^A02^ADT_A02|R2|P|2.5.1\rEVN|A02|20261121080100-0500\r\
                     PID|1||4001^^^GHH^MR||ROOMER^RITA||19700101|F\rPV1|1|I|5S^3^A^GHH||||D100^Garcia^Luis^^^^^^GHH^^^^EI||||||||||||V4001^^^GHH^VN\r";
const OTHER: &str = "MSH|^~\\&|EMR|GHH|W|GHH|20261121080200-0500||ADT^A01^ADT_A01|R3|P|2.5.1\rEVN|A01|20261121080200-0500\r\
                     PID|1||4002^^^GHH^MR||HIDDEN^HUGO||19700101|M\rPV1|1|I|4N^13^A^GHH||||D100^Garcia^Luis^^^^^^GHH^^^^EI|||||||||VIP|||V4002^^^GHH^VN\r";

/// Runs `wardroom rooms` beside the daemon: the exit code, and what it said.
fn rooms(daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program(&daemon.dir).arg("rooms").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn document(daemon: &Daemon, arguments: &[&str]) -> Value {
    let (code, out, err) = rooms(daemon, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn rooms_are_listed_shown_and_explained_beside_the_daemon() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for message in [ADMITTED, MOVED, OTHER] {
        assert!(peer.ask(message).await.starts_with("AA"));
    }
    let listed = document(&daemon, &["list"]);
    let found: Vec<(&str, &str)> = listed["rooms"].as_array().unwrap().iter().map(|room| (display(room), room["status"].as_str().unwrap())).collect();
    assert!(found.contains(&("ROOMER, Rita", "active")) && found.contains(&("H. H.", "active")), "{found:?}");
    assert_eq!(document(&daemon, &["list", "--facility", "ELSEWHERE"])["rooms"], Value::Array(Vec::new()));
    assert_eq!(document(&daemon, &["list", "--status", "closed"])["rooms"], Value::Array(Vec::new()));
    let (_, table, _) = rooms(&daemon, &["list"]);
    assert!(table.starts_with("name ") && table.contains("GHH 5S 3-A") && !table.contains("HIDDEN"), "{table}");

    let room = listed["rooms"].as_array().unwrap().iter().find(|room| display(room) == "ROOMER, Rita").unwrap();
    let id = room["id"].as_str().unwrap();
    let code = room["name"].as_str().unwrap().rsplit(' ').next().unwrap();
    for name in [id, &id[..13], code, room["name"].as_str().unwrap()] {
        assert_eq!(document(&daemon, &["show", name]), *room, "{name}");
    }
    // What is shown is what was published.
    let mut published = daemon.room_is("V4001", "published", |room| room["version"] == 2).await["data"]["room"].take();
    published.as_object_mut().unwrap().remove("notify");
    published["epoch"] = 1.into();
    assert_eq!(published, *room);
    let (_, sheet, _) = rooms(&daemon, &["show", id]);
    assert!(sheet.contains("ROOMER, Rita, GHH/MR:4001") && sheet.contains("Kim Low"), "{sheet}");

    let timeline = document(&daemon, &["timeline", id]);
    let types: Vec<&str> = timeline["entries"].as_array().unwrap().iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["room.opened", "room.updated"]);
    assert_eq!(timeline["entries"][1]["cause"]["trigger"], "A02");
    assert!(timeline["entries"][1]["joined"].as_array().unwrap().iter().any(|joined| joined["user"] == "nurse.5s.1"), "{timeline}");

    let presence = |user: &str| timeline["presences"].as_array().unwrap().iter().find(|presence| presence["user"] == user).unwrap();
    let (left_behind, attending) = (presence("nurse.4n.1"), presence("lgarcia"));
    assert_eq!((&left_behind["from_version"], &left_behind["until"], &left_behind["on"]), (&1.into(), &Value::Null, &["unit GHH/4N"][..].into()));
    let grounds = room["members"].as_array().unwrap().iter().find(|member| member["user"] == "nurse.4n.1").unwrap()["grounds"].clone();
    assert!(left_behind["will_end"].is_string() && left_behind["will_end"] == grounds[0]["until"], "{left_behind} {grounds}");
    assert!(attending["will_end"].is_null() && attending["on"] == Value::from(&["PV1-7"][..]), "{attending}");
    let (_, table, _) = rooms(&daemon, &["timeline", id]);
    let line = |user: &str| table.lines().find(|line| line.starts_with(user)).unwrap();
    assert!(line("nurse.4n.1 ").contains("A01 on main  leaves 20") && line("lgarcia ").contains("still there"), "{table}");

    let why = document(&daemon, &["why", id, "lgarcia"]);
    assert_eq!((&why["member"], &why["grounds"][0]["from"], &why["grounds"][0]["trigger"]), (&Value::Bool(true), &"PV1-7".into(), &"A01".into()));
    let why = document(&daemon, &["why", code, "mchen"]);
    let codes: Vec<&str> = why["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect();
    assert_eq!((&why["member"], codes), (&Value::Bool(false), vec!["unresolved", "no_ground"]));

    let (code, out, err) = rooms(&daemon, &["show", "ffffffff-0000"]);
    assert!(code == 1 && out.is_empty() && err.contains("rooms list --all"), "{err}");

    // The daemon goes on writing, and so does whoever looks when it is gone.
    let again = ADMITTED.replace("4001", "4003").replace("|R1|", "|R4|");
    assert!(peer.ask(again).await.starts_with("AA"));
    drop(peer);
    assert!(daemon.terminate().await.success());
    assert_eq!(document(&daemon, &["list"])["rooms"].as_array().unwrap().len(), 3);
    who_looked_is_written_down(&daemon, id).await;
}

#[tokio::test]
async fn who_is_in_a_room_that_ends_leaves_with_it() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let discharged = ADMITTED.replace("A01", "A03").replace("|R1|", "|R5|").replace("20261121080000", "20261121090000");
    for message in [ADMITTED, &discharged] {
        assert!(peer.ask(message).await.starts_with("AA"));
    }
    let listed = document(&daemon, &["list"]);
    let room = &listed["rooms"][0];
    assert!(room["status"] == "grace" && room["closes_at"].is_string(), "{room}");
    let timeline = document(&daemon, &["timeline", room["id"].as_str().unwrap()]);
    let ends: Vec<&Value> = timeline["presences"].as_array().unwrap().iter().map(|presence| &presence["will_end"]).collect();
    assert!(!ends.is_empty() && ends.iter().all(|end| **end == room["closes_at"]), "{timeline}");
}

async fn who_looked_is_written_down(daemon: &Daemon, room: &str) {
    let url = format!("sqlite:{}", daemon.path("wardroom.db").display()).into();
    let options = StoreOptions { url, master_key: MasterKey::load(&daemon.path("wardroom.key")).unwrap(), readers: 1, daemon: 0 };
    let store = Store::open_read_only(options).await.unwrap();
    let rows = store.audit_page(None, i64::MIN, 100).await.unwrap();
    let views: Vec<(Option<String>, Value)> = rows
        .iter()
        .filter(|row| row.kind == "rooms.viewed")
        .map(|row| (row.room_id.map(|room| room.to_string()), serde_json::from_slice(&row.body.as_ref().unwrap().bytes).unwrap()))
        .collect();
    let commands =
        |of: Option<&str>| -> Vec<&Value> { views.iter().filter(|(room, _)| room.as_deref() == of).map(|(_, body)| &body["command"]).collect() };
    // A list of one room is filed under that room, any other under none.
    assert_eq!(commands(None), ["rooms list"; 5]);
    let shown = ["rooms show", "rooms show", "rooms show", "rooms show", "rooms show", "rooms timeline", "rooms timeline", "rooms why", "rooms why"];
    assert_eq!(commands(Some(room)), shown);
    assert!(views.iter().all(|(_, body)| body["uid"].is_u64()), "{views:?}");
    assert_eq!(views.last().unwrap().1["rooms"].as_array().unwrap().len(), 3);
    assert!(store.verify_audit(|_, _| {}).await.unwrap().is_whole());
}

#[test]
fn without_a_store_there_is_nothing_to_look_at() {
    let dir = house("");
    let Output { status, stderr, .. } = program(&dir).args(["rooms", "list"]).output().unwrap();
    assert_eq!(status.code(), Some(69), "{}", String::from_utf8_lossy(&stderr));
    assert!(!dir.path().join("wardroom.db").exists() && !dir.path().join("wardroom.key").exists());
}

fn display(room: &Value) -> &str {
    room["patient"]["display"].as_str().unwrap()
}
