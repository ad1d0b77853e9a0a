//! The demo: what a newcomer runs first has to work, say what is hard, and leave nothing behind.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use serde_json::Value;

use super::support::daemon::program;

/// Runs the demo in a folder of its own, where its temporary files go too.
fn demo(dir: &tempfile::TempDir, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = program(dir).arg("demo").arg("--fast").args(arguments).env("TMPDIR", dir.path()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(0), "{stdout}\n{stderr}");
    assert_eq!(stderr, "");
    stdout
}

fn left_in(dir: &tempfile::TempDir) -> Vec<String> {
    std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_demo_tells_a_day_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let story = demo(&dir, &[]);
    let mut rest = story.as_str();
    for line in [
        "Ruth Arden comes to the emergency department; Dr Marsh sees her.  AA in ",
        "room.opened           ED 7 ",
        "+ dmarsh (attending)",
        "+ nbaptiste, ofrith (unit)",
        "Simon is transferred to surgery",
        "place  4N 12-A → 5W 3-A",
        "+ atembo (attending)",
        "+ ibrandl, tmoreno (unit)",
        "~ cvoss, jamadi, plindqvist until ",
        "wardroom knows this message",
        "room.members_changed  5W 3-A ",
        "+ rsokol (consulting)",
        "it takes its place in time",
        "restricted: only clinicians named for this patient stay",
        "- ibrandl, tmoreno (unit)",
        "the records are merged",
        "patient is now DEAN, Victor, 70004",
        "room.closing",
        "closes 2",
        "room.reopened",
        "was grace, is active",
        "The rooms now",
        "What will happen by itself",
        "13 messages in, 12 events out:",
        "events.jsonl",
        "Next",
        "demo --fast --keep demo",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("`{line}` is not in what is left of the story:\n{rest}"));
        rest = &rest[at..];
    }
    assert!(!story.contains('\u{1b}'), "colour without a terminal");
    assert_eq!(left_in(&dir), Vec::<String>::new());
}

#[test]
fn the_demo_keeps_its_folder_when_asked_to_and_gives_one_document_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let document: Value = serde_json::from_str(&demo(&dir, &["--json", "--keep", "kept"])).unwrap();
    assert_eq!(left_in(&dir), ["kept"]);
    let messages = document["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 13);
    assert!(messages.iter().all(|message| message["ack"] == "AA" && message["milliseconds"].as_f64().is_some()));
    let events: Vec<&Value> = messages.iter().flat_map(|message| message["events"].as_array().unwrap()).collect();
    assert_eq!(document["events"]["n"], events.len());
    let written = std::fs::read_to_string(dir.path().join("kept/events.jsonl")).unwrap();
    assert_eq!(written.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>().iter().collect::<Vec<_>>(), events);
    let statuses: Vec<&Value> = document["rooms"].as_array().unwrap().iter().map(|room| &room["status"]).collect();
    assert_eq!(statuses.iter().filter(|status| **status == "active").count(), 3);
    assert_eq!(statuses.iter().filter(|status| **status == "grace").count(), 1);

    // What it leaves is a house to go on from, and for nobody else.
    let may_be_read_by_others = |file: &&str| std::fs::metadata(dir.path().join("kept").join(file)).unwrap().permissions().mode() & 0o077 != 0;
    assert_eq!(["events.jsonl", "wardroom.db", "wardroom.key"].iter().find(|file| may_be_read_by_others(file)), None);
    let listed = program(&dir).args(["rooms", "list", "--config", "kept/wardroom.toml"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().count() == 5 && listed.contains("DEAN, Victor") && !listed.contains("CRANE"), "{listed}");
    let explained = program(&dir).args(["explain", "kept/messages", "--config", "kept/wardroom.toml"]).output().unwrap();
    assert_eq!(explained.status.code(), Some(0), "{}", String::from_utf8_lossy(&explained.stderr));

    let refused = program(&dir).args(["demo", "--fast", "--keep", "kept"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(64));
}
