//! What operators ask for: merges taken back, messages in quarantine tried again or ended, with a daemon on the store and without.

#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use wardroom::store::Store;
use wardroom::store::StoreOptions;
use wardroom::store::master_key::MasterKey;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::peer::Peer;

fn message(control: &str, trigger: &str, minute: u32, rest: &str) -> String {
    format!(
        "MSH|^~\\&|EMR|GHH|W|GHH|202611210800{minute:02}-0500||ADT^{trigger}|{control}|P|2.5.1\rEVN|{trigger}|202611210800{minute:02}-0500\r{rest}\r"
    )
}

fn admitted(control: &str, minute: u32, patient: &str, visit: &str) -> String {
    let rest = format!(
        "PID|1||{patient}^^^GHH^MR||FAM{patient}^GIVEN||19700101|F\rPV1|1|I|4N^12^A^GHH||||D100^Garcia^Luis^^^^^^GHH^^^^EI||||||||||||{visit}^^^GHH^VN"
    );
    message(control, "A01", minute, &rest)
}

fn merged(control: &str) -> String {
    message(control, "A40", 30, "PID|1||5001^^^GHH^MR||FAM5001^GIVEN\rMRG|5002^^^GHH^MR")
}

/// Runs a command beside the daemon: the exit code, what it printed, and what it said.
fn command(daemon: &Daemon, arguments: &[&str]) -> (i32, Value, String) {
    let output = program(&daemon.dir).args(arguments).arg("--json").output().unwrap();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), printed, String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn audit_kinds(daemon: &Daemon) -> Vec<String> {
    let url = format!("sqlite:{}", daemon.path("wardroom.db").display()).into();
    let options = StoreOptions { url, master_key: MasterKey::load(&daemon.path("wardroom.key")).unwrap(), readers: 1, daemon: 0 };
    let store = Store::open_read_only(options).await.unwrap();
    assert!(store.verify_audit(|_, _| {}).await.unwrap().is_whole());
    store.audit_page(None, i64::MIN, 1000).await.unwrap().into_iter().map(|row| row.kind).collect()
}

#[tokio::test]
async fn a_wrong_merge_is_taken_back_and_stays_taken_back() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for text in [admitted("M1", 1, "5001", "V5001"), admitted("M2", 2, "5002", "V5002"), merged("M3")] {
        assert!(peer.ask(text).await.starts_with("AA"));
    }
    daemon.room_is("V5002", "of the survivor", |room| room["patient"]["id"]["value"] == "5001").await;
    let (code, listed, _) = command(&daemon, &["merge", "list"]);
    assert_eq!((code, listed["merges"].as_array().unwrap().len()), (0, 1), "{listed}");
    let merge = &listed["merges"][0];
    assert_eq!((&merge["from"]["value"], &merge["into"]["value"], &merge["stands"]), (&"5002".into(), &"5001".into(), &true.into()));
    let id = merge["id"].as_str().unwrap().to_owned();

    let (code, done, said) = command(&daemon, &["merge", "undo", &id]);
    assert_eq!(code, 0, "{done} {said}");
    let event = daemon.room_is("V5002", "of its own patient again", |room| room["patient"]["id"]["value"] == "5002").await;
    assert_eq!((&event["type"], &event["data"]["cause"]["kind"]), (&"room.rehomed".into(), &"operator".into()));
    assert_eq!(event["data"]["room"]["patient"]["display"], "FAM5002, Given");

    // The same word under another control id does not bring it back, and there is nothing more to take back.
    assert!(peer.ask(merged("M4")).await.starts_with("AA"));
    assert!(peer.ask(admitted("M5", 40, "5002", "V5002")).await.starts_with("AA"));
    let (_, listed, _) = command(&daemon, &["merge", "list"]);
    assert!(listed["merges"].as_array().unwrap().iter().all(|merge| merge["stands"] == false), "{listed}");
    let (code, _, said) = command(&daemon, &["merge", "undo", &id]);
    assert!(code == 1 && said.contains("merge list"), "{said}");
    let (code, _, said) = command(&daemon, &["merge", "undo", "1"]);
    assert!(code == 1 && said.contains("no such message"), "{said}");
    let room = command(&daemon, &["rooms", "list"]).1["rooms"].as_array().unwrap().iter().any(|room| room["patient"]["id"]["value"] == "5002");
    assert!(room, "the room stays with its own patient");
    drop(peer);
    assert!(daemon.terminate().await.success());
    assert_eq!(audit_kinds(&daemon).await.iter().filter(|kind| *kind == "merge.undone").count(), 2, "also the order that changed nothing");
}

#[tokio::test]
async fn what_waits_is_shown_tried_again_and_ended() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for text in [admitted("Q1", 1, "5001", "V5001"), admitted("Q2", 2, "7777", "V5001"), admitted("Q3", 3, "8888", "V5001")] {
        assert!(peer.ask(text).await.starts_with("AA"));
    }
    let (code, listed, said) = command(&daemon, &["quarantine", "list"]);
    let waiting = listed["quarantine"].as_array().unwrap();
    assert_eq!((code, waiting.len()), (0, 2), "{said}");
    assert!(waiting.iter().all(|row| row["reason"] == "identity_conflict" && row["trigger"] == "A01") && !listed.to_string().contains("7777"));
    let ids: Vec<String> = waiting.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();

    let (code, shown, _) = command(&daemon, &["quarantine", "show", &ids[0]]);
    assert!(code == 0 && shown["segments"][2].as_str().unwrap().contains("7777"), "{shown}");
    let (code, tried, _) = command(&daemon, &["quarantine", "retry", &ids[0], &ids[1]]);
    assert_eq!((code, &tried["taken"], &tried["waiting"]), (1, &0.into(), &2.into()), "nothing explains them yet");
    let (code, tried, _) = command(&daemon, &["quarantine", "retry", "1", &ids[0], &ids[0], "2"]);
    assert_eq!((code, &tried["taken"], &tried["waiting"], &tried["not_waiting"]), (1, &0.into(), &1.into(), &2.into()), "each is told once");
    let (code, _, said) = command(&daemon, &["quarantine", "retry", "1", "2"]);
    assert!(code == 1 && said.contains("no such message waits"), "{said}");
    for wrong in
        [&["quarantine", "retry", "0"][..], &["quarantine", "discard", "0", "--reason", "x"], &["quarantine", "show", "0"], &["merge", "undo", "0"]]
    {
        let (code, _, said) = command(&daemon, wrong);
        assert!(code == 64 && said.contains("invalid value '0'"), "{said}");
    }
    let output = program(&daemon.dir).args(["quarantine", "list"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("\n\n2 messages wait\n"));
    daemon.room_is("V5001", "in doubt", |room| room["flags"][0] == "identity_conflict").await;
    let (code, ended, said) = command(&daemon, &["quarantine", "discard", &ids[0], "--reason", "sent by the training system"]);
    assert_eq!((code, &ended["discarded"]), (0, &1.into()), "{said}");
    let (code, _, _) = command(&daemon, &["quarantine", "discard", &ids[0], "--reason", "again"]);
    assert_eq!(code, 1, "it is gone");
    drop(peer);
    assert!(daemon.terminate().await.success());

    // Without a daemon the command opens the store itself.
    let (code, _, said) = command(&daemon, &["quarantine", "discard", &ids[1], "--reason", "also from there"]);
    assert_eq!(code, 0, "{said}");
    let (_, listed, _) = command(&daemon, &["quarantine", "list"]);
    assert_eq!(listed["quarantine"], Value::Array(Vec::new()));
    let (_, rooms, _) = command(&daemon, &["rooms", "list"]);
    assert_eq!(rooms["rooms"][0]["flags"], Value::Array(Vec::new()), "nothing waits for the room's visit any more");
    let kinds = audit_kinds(&daemon).await;
    let count = |of: &str| kinds.iter().filter(|kind| *kind == of).count();
    assert_eq!((count("messages.viewed"), count("quarantine.retried"), count("quarantine.discarded")), (1, 2, 2));
}
