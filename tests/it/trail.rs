//! `wardroom audit search` and `wardroom audit export`: what they find beside a running daemon, on both stores, and that whoever looks leaves a record.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::SHA256;
use ring::digest::digest;
use serde_json::Value;
use sqlx::ConnectOptions as _;
use tempfile::TempDir;
use wardroom::cli::schema::schema;

use super::support::daemon::Daemon;
use super::support::daemon::house;
use super::support::daemon::program;
use super::support::peer::Peer;
use super::support::postgres;

fn message(control: &str, trigger: &str, minute: u32, patient: &str, visit: &str, unit: &str) -> String {
    let at = format!("2026112108{minute:02}00-0500");
    format!(
        "MSH|^~\\&|EMR|GHH|W|GHH|{at}||ADT^{trigger}|{control}|P|2.5.1\rEVN|{trigger}|{at}\r\
         PID|1||{patient}^^^GHH^MR||FAM{patient}^GIVEN||19700101|F\r\
         PV1|1|I|{unit}^12^A^GHH||||D100^Garcia^Luis^^^^^^GHH^^^^EI||||||||||||{visit}^^^GHH^VN\r"
    )
}

/// Runs `wardroom audit`: the exit code, what it printed, and what it said.
fn audit(dir: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        program(dir).env("LOGNAME", "officer").env_remove("SUDO_USER").arg("audit").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The rows that a search finds.
fn found(daemon: &Daemon, arguments: &[&str]) -> Vec<Value> {
    let (code, out, err) = audit(&daemon.dir, &[&["search", "--json"], arguments].concat());
    assert_eq!(code, 0, "{arguments:?}: {err}");
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(err.contains("nothing in the audit trail fits"), document["fitting"] == 0, "{err}");
    document["rows"].as_array().unwrap().clone()
}

fn actions(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["action"].as_str().unwrap()).collect()
}

fn command(daemon: &Daemon, arguments: &[&str]) -> Value {
    let Output { status, stdout, stderr } =
        program(&daemon.dir).env("LOGNAME", "nosy").env_remove("SUDO_USER").args(arguments).arg("--json").output().unwrap();
    assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

/// A daemon with two patients, of whom the first was moved and then named with the second one's visit; and somebody who looked at all that.
async fn after_a_day(config: &str) -> (Daemon, String, String) {
    let daemon = Daemon::start(config).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let said = [("T1", "A01", 0, "6001", "V6001", "4N"), ("T2", "A02", 1, "6001", "V6001", "5S"), ("T3", "A01", 2, "6002", "V6002", "4N")];
    for (control, trigger, minute, patient, visit, unit) in said {
        assert_eq!(peer.ask(message(control, trigger, minute, patient, visit, unit)).await, format!("AA {control}"));
    }
    assert_eq!(peer.ask(message("T4", "A08", 3, "6001", "V6002", "4N")).await, "AA T4");
    let listed = command(&daemon, &["rooms", "list"]);
    let room = |visit: &str| {
        let room = listed["rooms"].as_array().unwrap().iter().find(|room| room["visit"]["id"]["value"] == visit).unwrap();
        room["id"].as_str().unwrap().to_owned()
    };
    let (first, second) = (room("V6001"), room("V6002"));
    command(&daemon, &["rooms", "show", &first]);
    (daemon, first, second)
}

fn search_finds_what_fits(daemon: &Daemon, first: &str, second: &str) {
    // The newest first; a list of several rooms is of each of them.
    let rows = found(daemon, &["--room", first]);
    assert_eq!(actions(&rows), ["rooms.viewed", "rooms.viewed", "room.updated", "room.opened"]);
    assert_eq!((&rows[0]["details"]["command"], &rows[0]["details"]["login"]), (&"rooms show".into(), &"nosy".into()));
    assert_eq!((&rows[1]["room"], &rows[1]["details"]["rooms"].as_array().unwrap().len()), (&Value::Null, &2));
    assert_eq!((&rows[2]["version"], &rows[2]["details"]["cause"]["trigger"], &rows[2]["room"]), (&2.into(), &"A02".into(), &first.into()));
    assert!(rows.iter().all(|row| row["at"].is_string() && row["id"].is_i64()));
    // That search is a row by now.
    let asked = found(daemon, &["--room", first, "--action", "searched"]);
    assert_eq!(actions(&asked), ["audit.searched"]);
    assert_eq!(
        (&asked[0]["details"]["asked"]["room"], &asked[0]["details"]["login"], &asked[0]["room"]),
        (&first.into(), &"officer".into(), &first.into())
    );

    let of_user = found(daemon, &["--user", "nurse.5s.1"]);
    assert_eq!((actions(&of_user), &of_user[0]["room"]), (vec!["room.updated"], &first.into()));
    let joined = of_user[0]["details"]["joined"].as_array().unwrap();
    assert_eq!((joined.len(), &joined[0]["user"], &joined[0]["from"][0]), (1, &"nurse.5s.1".into(), &"unit GHH/5S".into()));
    assert_eq!(actions(&found(daemon, &["--user", "lgarcia"])), ["room.opened", "room.opened"]);
    assert_eq!(found(daemon, &["--user", "lgarcia", "--visit", "V6002"])[0]["room"], second);
    let nosy = found(daemon, &["--user", "nosy"]);
    assert_eq!(actions(&nosy), ["rooms.viewed", "rooms.viewed"]);

    for patient in ["6001", "GHH/MR:6001", "ghh/6001"] {
        let rows = found(daemon, &["--patient", patient, "--action", "room"]);
        assert!(actions(&rows) == ["room.updated", "room.opened"] && rows.iter().all(|row| row["room"] == first), "{rows:?}");
    }
    assert_eq!(actions(&found(daemon, &["--visit", "GHH/V6002", "--action", "room"])), ["room.updated", "room.opened"]);
    assert!(found(daemon, &["--visit", "V6002", "--patient", "6001"]).is_empty(), "of another patient");
    let asked = found(daemon, &["--patient", "6001", "--action", "audit.searched"]);
    assert!(asked.iter().any(|row| row["details"]["asked"]["patient"] == "GHH/MR:6001"), "who looked at what was looked at");

    // Who looked at a message, by the patient that it is about.
    let waiting = command(daemon, &["quarantine", "list"]);
    command(daemon, &["quarantine", "show", waiting["quarantine"][0]["id"].as_str().unwrap()]);
    assert_eq!(actions(&found(daemon, &["--action", "messages.viewed"])).len(), 1);
    let of_patients = ["6001", "6002"].map(|patient| found(daemon, &["--patient", patient, "--action", "messages.viewed"]).len());
    assert_eq!(of_patients.iter().sum::<usize>(), 1, "{of_patients:?}");

    let times: Vec<Value> = found(daemon, &["--action", "room"]).iter().map(|row| row["at"].clone()).collect();
    assert_eq!(times.len(), 4);
    let middle = times[1].as_str().unwrap();
    assert_eq!(found(daemon, &["--action", "room", "--since", middle]).len(), 2);
    assert_eq!(found(daemon, &["--action", "room", "--until", middle]).len(), 2);
    assert_eq!(found(daemon, &["--user", "lgarcia", "--until", middle]).len(), 1);
    assert!(found(daemon, &["--since", "2099-01-01"]).is_empty());
}

fn search_says_what_is_wrong(daemon: &Daemon, first: &str) {
    let (code, out, err) = audit(&daemon.dir, &["search", "--limit", "2"]);
    assert!(code == 0 && out.lines().count() == 3 && out.starts_with("time ") && err.starts_with("the newest 2 of "), "{out}{err}");
    let (code, out, _) = audit(&daemon.dir, &["search", "--room", first, "--action", "room"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(code == 0 && lines.len() == 3 && lines[1].contains("A02 on main") && lines[1].contains("nurse.5s.1"), "{out}");
    assert!(!out.contains("FAM6001"), "the trail names nobody but members");
    let (code, out, err) = audit(&daemon.dir, &["search", "--since", "2099-01-01"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "nothing in the audit trail fits\n"));
    for (arguments, code, says) in [
        (&["--patient", "98765"][..], 1, "AUTHORITY/TYPE:ID"),
        (&["--visit", "ELSEWHERE/V6001"], 1, "AUTHORITY/NUMBER"),
        (&["--room", "zzzz-none"], 1, "rooms list --all"),
        (&["--action", "exploded"], 64, "room.opened, "),
        (&["--since", "2026-11-21", "--until", "2026-11-21"], 64, "--until must be later"),
        (&["--since", "soon"], 64, "expected a time"),
        (&["--limit", "0"], 64, "--limit"),
    ] {
        let (is, out, err) = audit(&daemon.dir, &[&["search"], arguments].concat());
        assert!(is == code && out.is_empty() && err.contains(says) && !err.contains("98765"), "{arguments:?}: {is} {err}");
    }
}

/// Follows every chain by nothing but the lines; how many lines each of them has.
fn follow(lines: &[Value]) -> BTreeMap<i64, usize> {
    let hex = |text: &Value| -> Vec<u8> {
        text.as_str().unwrap().as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    let mut chains: BTreeMap<i64, (Value, usize)> = BTreeMap::new();
    for line in lines {
        let optional = |number: Option<i64>| [vec![u8::from(number.is_some())], number.unwrap_or(0).to_be_bytes().to_vec()].concat();
        let kind = line["kind"].as_str().unwrap();
        let room = line["room"].as_str().map(|room| [vec![1], room.parse::<uuid::Uuid>().unwrap().as_bytes().to_vec()].concat());
        let hashed = [
            hex(&line["previous"]),
            line["id"].as_i64().unwrap().to_be_bytes().to_vec(),
            line["at_us"].as_i64().unwrap().to_be_bytes().to_vec(),
            (kind.len() as u64).to_be_bytes().to_vec(),
            kind.as_bytes().to_vec(),
            room.unwrap_or_else(|| vec![0]),
            optional(line["room_version"].as_i64()),
            optional(line["message"].as_str().map(|message| message.parse().unwrap())),
            STANDARD.decode(line["sealed"].as_str().unwrap()).unwrap(),
        ];
        assert_eq!(digest(&SHA256, &hashed.concat()).as_ref(), hex(&line["hash"]), "{line}");
        let number = line["number"].as_i64().unwrap();
        assert_eq!(line["id"].as_i64().unwrap(), number * 1024 + line["chain"].as_i64().unwrap());
        let (last, n_lines) = chains.remove(&line["chain"].as_i64().unwrap()).unwrap_or_else(|| (line["previous"].clone(), 0));
        assert_eq!(last, line["previous"]);
        chains.insert(line["chain"].as_i64().unwrap(), (line["hash"].clone(), n_lines + 1));
    }
    chains.into_iter().map(|(chain, (_, n_lines))| (chain, n_lines)).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn export_is_whole_and_takes_nobodys_place(daemon: &Daemon) {
    let (code, out, err) = audit(&daemon.dir, &["export", "--out", "trail.jsonl", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let summary: Value = serde_json::from_str(&out).unwrap();
    let text = fs::read_to_string(daemon.path("trail.jsonl")).unwrap();
    let rows = lines(&text);
    assert_eq!((&summary["rows"], &summary["chains"], &summary["file"]), (&rows.len().into(), &2.into(), &"trail.jsonl".into()));
    assert_eq!(fs::metadata(daemon.path("trail.jsonl")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_dir(daemon.dir.path()).unwrap().all(|entry| !entry.unwrap().file_name().to_str().unwrap().starts_with(".tmp")));
    let validator = jsonschema::options().should_validate_formats(true).build(&schema("audit-row").unwrap()).unwrap();
    for row in &rows {
        let errors: Vec<String> = validator.iter_errors(row).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {row}");
    }
    let chains = follow(&rows);
    assert_eq!((chains.len(), chains.values().sum::<usize>()), (2, rows.len()));
    assert!(rows.iter().filter(|row| row["number"] == 1).all(|row| row["previous"] == "0".repeat(64)));
    assert!(rows.is_sorted_by_key(|row| row["at_us"].as_i64().unwrap()), "the oldest first");
    let (first, last) = (&rows[0], rows.last().unwrap());
    assert_eq!(
        (&first["kind"], &first["body"]["trigger"], &first["body"]["members"][0][0]),
        (&"room.opened".into(), &"A01".into(), &"lgarcia".into())
    );
    assert_eq!(
        (&last["kind"], &last["body"]["command"], &last["body"]["login"]),
        (&"audit.exported".into(), &"audit export".into(), &"officer".into())
    );

    let (code, out, err) = audit(&daemon.dir, &["export", "--out", "trail.jsonl"]);
    assert!(code == 64 && out.is_empty() && err.contains("`trail.jsonl` is there already\nhint: "), "{err}");
    assert_eq!(fs::read_to_string(daemon.path("trail.jsonl")).unwrap(), text);
    let (code, out, err) = audit(&daemon.dir, &["export", "--out", "nowhere/trail.jsonl"]);
    assert!(code == 64 && out.is_empty() && err.contains("`nowhere/trail.jsonl`"), "{err}");

    // A part of it, on standard output: its chains go on from before.
    let since = rows[1]["at"].as_str().unwrap();
    let (code, out, err) = audit(&daemon.dir, &["export", "--since", since, "--until", last["at"].as_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    let part = lines(&out);
    assert_eq!(part, rows[1..rows.len() - 1]);
    follow(&part);
    let (code, out, _) = audit(&daemon.dir, &["export"]);
    assert_eq!((code, lines(&out).len()), (0, rows.len() + 2), "the exports are rows themselves");
    let (code, out, _) = audit(&daemon.dir, &["verify", "--json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["rows"].as_u64().unwrap()), (0, rows.len() as u64 + 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_is_searched_and_taken_out_beside_the_daemon() {
    let (mut daemon, first, second) = after_a_day("").await;
    search_finds_what_fits(&daemon, &first, &second);
    search_says_what_is_wrong(&daemon, &first);
    export_is_whole_and_takes_nobodys_place(&daemon);
    assert!(daemon.terminate().await.success());
    assert_eq!(actions(&found(&daemon, &["--room", &second, "--action", "room"])), ["room.updated", "room.opened"], "also when the daemon is gone");
    assert!(daemon.log().iter().all(|line| !line.contains("FAM6001")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_is_searched_and_taken_out_on_postgres() {
    let Some(url) = postgres::new_database().await else { return };
    let config = format!("[store]\nurl = \"{url}\"\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n");
    let (daemon, first, second) = after_a_day(&config).await;
    search_finds_what_fits(&daemon, &first, &second);
    export_is_whole_and_takes_nobodys_place(&daemon);
}

/// What is said of one person is not shown of another who was taken for the same by mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merged_patient_is_found_by_each_of_their_ids_until_the_merge_is_taken_back() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for (control, patient, visit) in [("M1", "7001", "V7001"), ("M2", "7002", "V7002")] {
        assert_eq!(peer.ask(message(control, "A01", 1, patient, visit, "4N")).await, format!("AA {control}"));
    }
    let merge = "MSH|^~\\&|EMR|GHH|W|GHH|20261121083000-0500||ADT^A40|M3|P|2.5.1\rEVN|A40|20261121083000-0500\rPID|1||7001^^^GHH^MR||FAM7001^GIVEN\rMRG|7002^^^GHH^MR\r";
    assert_eq!(peer.ask(merge).await, "AA M3");
    let opened = |patient: &str| found(&daemon, &["--patient", patient, "--action", "opened"]).len();
    assert_eq!((opened("7001"), opened("7002")), (2, 2));
    let id = command(&daemon, &["merge", "list"])["merges"][0]["id"].as_str().unwrap().to_owned();
    command(&daemon, &["merge", "undo", &id]);
    assert_eq!((opened("7001"), opened("7002")), (1, 1));
    assert_eq!(actions(&found(&daemon, &["--patient", "7001", "--action", "undone"])), ["merge.undone"]);
}

#[test]
fn without_a_store_there_is_nothing_to_search_or_take_out() {
    let dir = house("");
    for arguments in [&["search"][..], &["export", "--out", "trail.jsonl"]] {
        assert_eq!(audit(&dir, arguments).0, 69);
    }
    assert!(["wardroom.db", "wardroom.key", "trail.jsonl"].iter().all(|file| !dir.path().join(file).exists()));
}

#[tokio::test]
async fn a_row_that_does_not_open_hides_no_other_and_whoever_took_the_trail_out_saw_every_room() {
    let (daemon, first, _) = after_a_day("").await;
    assert_eq!(audit(&daemon.dir, &["export"]).0, 0);
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(daemon.dir.path().join("wardroom.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::query("UPDATE audit SET body = x'00' WHERE kind = 'room.updated'").execute(&mut connection).await.unwrap();
    let rows = found(&daemon, &["--room", &first]);
    assert_eq!(actions(&rows), ["audit.exported", "rooms.viewed", "rooms.viewed", "room.updated", "room.opened"]);
    assert!(rows[3]["details"].is_null() && rows[4]["details"]["joined"].is_array(), "{rows:?}");
    assert_eq!(actions(&found(&daemon, &["--user", "lgarcia"])), ["room.opened", "room.opened"]);
    let (code, table, _) = audit(&daemon.dir, &["search", "--action", "updated"]);
    assert!(code == 0 && table.contains("`wardroom audit verify` tells which"), "{table}");
    assert_eq!(actions(&found(&daemon, &["--patient", "6002", "--action", "exported"])), ["audit.exported"]);
}
