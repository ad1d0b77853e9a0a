//! Somebody is let into a room by an operator: until when, what ends it, what does not, and who is told why.

#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use serde_json::json;
use wardroom::store::Store;
use wardroom::store::StoreOptions;
use wardroom::store::master_key::MasterKey;
use wardroom::time::Clock as _;
use wardroom::time::SystemClock;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::peer::Peer;
use super::support::postgres;

const REASON: &str = "covers for the attending, who is in theatre";

/// Runs a command beside the daemon: the exit code, what it printed, and what it said.
fn run(daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let output = program(&daemon.dir).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The JSON that a command prints which does what it is asked.
fn done(daemon: &Daemon, arguments: &[&str]) -> Value {
    let (code, printed, said) = run(daemon, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{arguments:?}: {said}");
    serde_json::from_str(&printed).unwrap()
}

/// The exit code and the words with which a command is refused that changes nothing.
fn refused(daemon: &Daemon, arguments: &[&str]) -> (i32, String) {
    let (code, printed, said) = run(daemon, arguments);
    assert!(printed.is_empty(), "{printed}");
    (code, said)
}

fn now() -> jiff::Timestamp {
    SystemClock.now().to_jiff()
}

/// What the machine's clock says, so many minutes ago, as HL7 writes it.
fn minutes_ago(minutes: i64) -> String {
    let at = now() - jiff::SignedDuration::from_mins(minutes);
    at.strftime("%Y%m%d%H%M%S+0000").to_string()
}

/// A message of so many minutes ago about a stay in a unit.
fn message(control: &str, trigger: &str, ago: i64, number: u32, unit: &str, rest: &str) -> String {
    let at = minutes_ago(ago);
    format!(
        "MSH|^~\\&|EMR|GHH|W|GHH|{at}||ADT^{trigger}|{control}|P|2.5.1\rEVN|{trigger}|{at}\r\
         PID|1||{number}^^^GHH^MR||FAM{number}^GIVEN||19700101|F\r{rest}\
         PV1|1|I|{unit}^12^A^GHH||||D100^Garcia^Luis^^^^^^GHH^^^^EI||||||||||||V{number}^^^GHH^VN\r"
    )
}

/// Says something and waits for the answer.
async fn say(peer: &mut Peer, text: String) {
    assert!(peer.ask(text).await.starts_with("AA"));
}

fn is_in(room: &Value, user: &str) -> bool {
    room["members"].as_array().unwrap().iter().any(|member| member["user"] == user)
}

/// The ends of what somebody stands on in a room, by what it is.
fn grounds<'a>(room: &'a Value, user: &str) -> &'a Value {
    &room["members"].as_array().unwrap().iter().find(|member| member["user"] == user).unwrap()["grounds"]
}

fn time(text: &Value) -> jiff::Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn somebody_is_let_in_stays_through_messages_and_crashes_and_leaves_when_the_time_is_up() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    say(&mut peer, message("G1", "A01", 50, 6001, "4N", "")).await;
    let opened = daemon.room_is("V6001", "open", |room| room["status"] == "active").await;
    let room = opened["subject"].as_str().unwrap();

    let (code, printed, said) = run(&daemon, &["grant", room, "mchen", "--for", "1h", "--reason", REASON]);
    assert!(
        code == 0 && printed.starts_with("mchen is in 4N 12-A ") && printed.contains(" until ") && printed.ends_with(" (1h)\n"),
        "{printed}{said}"
    );
    let event = daemon.room_is("V6001", "one with mchen", |room| is_in(room, "mchen")).await;
    let data = &event["data"];
    assert_eq!((&event["type"], &data["cause"]["kind"], &data["version"]), (&json!("room.members_changed"), &json!("operator"), &json!(2)));
    assert_eq!(data["changes"], json!([{"kind": "joined", "user": "mchen", "rule": "grant"}]));
    let ground = grounds(&data["room"], "mchen")[0].clone();
    assert_eq!((&ground["rule"], &ground["from"]), (&json!("grant"), &json!("operator")));
    assert_eq!(time(&ground["until"]).duration_since(time(&ground["since"])), jiff::SignedDuration::from_hours(1));
    assert_eq!(data["notices"], json!([{"code": "break_glass", "parameters": {"user": "mchen", "until": ground["until"]}}]));

    // Updates, transfers and a discharge leave it alone, and so does a power cut.
    say(&mut peer, message("G2", "A08", 40, 6001, "4N", "")).await;
    say(&mut peer, message("G3", "A02", 30, 6001, "5S", "")).await;
    say(&mut peer, message("G4", "A03", 20, 6001, "5S", "")).await;
    let event = daemon.room_is("V6001", "in its grace", |room| room["status"] == "grace").await;
    assert_eq!(grounds(&event["data"]["room"], "mchen")[0], ground);
    assert_eq!(event["data"]["notices"], json!([]), "what was said already is not said again");
    drop(peer);
    daemon.restart().await;
    let shown = done(&daemon, &["rooms", "show", room]);
    assert_eq!((&grounds(&shown, "mchen")[0], &shown["grants"][0]["reason"]), (&ground, &json!(REASON)));

    // Nobody waits for an hour: the daemon comes back shortly before it is over, and as its own clock goes on it ends.
    assert!(daemon.terminate().await.success());
    let left = time(&ground["until"]).duration_since(now());
    daemon.clock_skew = i64::try_from(left.as_millis()).unwrap() - 3_000;
    daemon.up().await;
    let event = daemon.room_is("V6001", "one without mchen", |room| !is_in(room, "mchen")).await;
    assert!(time(&event["time"]) >= time(&ground["until"]), "{event}");
    assert_eq!(event["data"]["cause"]["kind"], "wake");
    assert!(event["data"]["changes"].as_array().unwrap().contains(&json!({"kind": "left", "user": "mchen", "rule": "grant"})), "{event}");
    assert_eq!(event["data"]["room"]["status"], "grace", "nothing else ended with it");
    let (code, said) = refused(&daemon, &["revoke", room, "mchen"]);
    assert!(code == 1 && said.contains("no grant of `mchen`"), "{said}");
}

/// Everything that was ever logged or published.
fn told_outside(daemon: &Daemon) -> String {
    [daemon.log(), daemon.event_lines()].concat().join("\n")
}

#[tokio::test]
async fn a_grant_is_replaced_and_revoked_and_whoever_looks_is_told_why() {
    let mut daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    say(&mut peer, message("R1", "A01", 50, 6001, "4N", "")).await;
    let opened = daemon.room_is("V6001", "open", |room| room["status"] == "active").await;
    let room = opened["subject"].as_str().unwrap();
    let code = opened["data"]["room"]["name"].as_str().unwrap().rsplit(' ').next().unwrap();

    let first = done(&daemon, &["grant", code, "mchen", "--for", "24h", "--reason", "a long night"]);
    let second = done(&daemon, &["grant", code, "mchen", "--for", "4h", "--reason", REASON]);
    assert_eq!((&second["room"], &second["user"]), (&json!(room), &json!("mchen")));
    assert!(time(&second["until"]) < time(&first["until"]), "the later one counts, also where it is shorter");
    let event = daemon
        .room_is("V6001", "one with the second grant", |room| is_in(room, "mchen") && grounds(room, "mchen")[0]["until"] == second["until"])
        .await;
    assert_eq!(grounds(&event["data"]["room"], "mchen").as_array().unwrap().len(), 1);
    // Whoever is in the room already stands on one thing more.
    done(&daemon, &["grant", room, "lgarcia", "--for", "90m", "--reason", "also at home"]);
    daemon.room_is("V6001", "one with two grounds", |room| grounds(room, "lgarcia").as_array().unwrap().len() == 2).await;

    let why = done(&daemon, &["rooms", "why", room, "mchen"]);
    assert_eq!((&why["grounds"][0]["rule"], &why["grounds"][0]["reason"]), (&json!("grant"), &json!(REASON)));
    for (looking, shown) in [
        (&["rooms", "why", room, "mchen"][..], "by a grant of "),
        (&["rooms", "show", room], "because"),
        (&["rooms", "timeline", room], " let in mchen until "),
        (&["audit", "search", "--room", room, "--action", "grant"], "mchen for 4h ("),
        (&["audit", "search", "--user", "mchen", "--action", "grant.given"], "grant: mchen for 4h ("),
    ] {
        let (_, printed, said) = run(&daemon, looking);
        assert!(printed.contains(shown) && printed.contains(REASON), "{looking:?} {printed} {said}");
    }

    let revoked = done(&daemon, &["revoke", room, "mchen", "--reason", "the attending is back"]);
    assert_eq!(revoked["would_have_lasted_until"], second["until"]);
    let event = daemon.room_is("V6001", "one without mchen", |room| !is_in(room, "mchen")).await;
    assert_eq!((&event["type"], &event["data"]["cause"]["kind"]), (&json!("room.members_changed"), &json!("operator")));
    let timeline = done(&daemon, &["rooms", "timeline", room]);
    let last = timeline["grants"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["action"], &last["reason"]), (&json!("grant.revoked"), &json!("the attending is back")));
    let why = done(&daemon, &["rooms", "why", room, "mchen"])["reasons"].to_string();
    assert!(why.contains("revoked the grant: the attending is back"), "{why}");
    let (code, said) = refused(&daemon, &["revoke", room, "mchen"]);
    assert!(code == 1 && said.contains("no grant of `mchen`") && said.contains("hint:"), "{said}");

    // Without a daemon the command does it itself.
    drop(peer);
    assert!(daemon.terminate().await.success());
    done(&daemon, &["grant", room, "kosei", "--for", "2h", "--reason", REASON]);
    assert!(is_in(&done(&daemon, &["rooms", "show", room]), "kosei"));
    daemon.up().await;
    daemon.room_is("V6001", "one with kosei", |room| is_in(room, "kosei")).await;
    let outside = told_outside(&daemon);
    assert!(!outside.contains("theatre") && !outside.contains("the attending is back") && !outside.contains("long night"), "{outside}");
    assert!(daemon.terminate().await.success());
    the_trail_is_whole(&daemon).await;
}

#[tokio::test]
async fn what_a_command_planned_with_another_configuration_is_planned_again_by_the_daemon() {
    let mut daemon = Daemon::start("[[team]]\nrole = \"attending\"\nfrom = [\"PV1-7\"]\npermission = \"owner\"\n").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    say(&mut peer, message("G1", "A01", 5, 8001, "4N", "")).await;
    let room = daemon.room_is("V8001", "open", |room| is_in(room, "lgarcia")).await["data"]["room"].take();
    assert!(!is_in(&room, "nurse.4n.1"), "no rule asks for the unit: {room}");
    drop(peer);
    assert!(daemon.terminate().await.success());

    let config = std::fs::read_to_string(daemon.path("wardroom.toml")).unwrap();
    let mut other: toml::Table = config.parse().unwrap();
    other.remove("team");
    std::fs::write(daemon.path("other.toml"), other.to_string()).unwrap();
    let id = room["id"].as_str().unwrap();
    let (code, _, said) = run(&daemon, &["--config", "other.toml", "grant", id, "mchen", "--for", "1h", "--reason", REASON]);
    assert!(code == 0 && said.contains("no daemon runs"), "{said}");
    daemon.up().await;
    let back = daemon.room_is("V8001", "as the daemon's own rules have it", |room| is_in(room, "mchen") && !is_in(room, "nurse.4n.1")).await;
    let was_in = daemon.events().iter().any(|event| is_in(&event["data"]["room"], "nurse.4n.1"));
    assert!(was_in, "the command planned with its own rules: {back}");
}

async fn the_trail_is_whole(daemon: &Daemon) {
    let url = format!("sqlite:{}", daemon.path("wardroom.db").display()).into();
    let options = StoreOptions { url, master_key: MasterKey::load(&daemon.path("wardroom.key")).unwrap(), readers: 1, daemon: 0 };
    let store = Store::open_read_only(options).await.unwrap();
    assert!(store.verify_audit(|_, _| {}).await.unwrap().is_whole());
    let rows = store.audit_page(None, i64::MIN, 1000).await.unwrap();
    let count = |kind: &str| rows.iter().filter(|row| row.kind == kind && row.room_id.is_some()).count();
    assert_eq!((count("grant.given"), count("grant.revoked")), (4, 1), "what was refused is no grant");
    store.close().await;
}

#[tokio::test]
async fn who_cannot_be_let_in_is_refused_and_told_why() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    say(&mut peer, message("E1", "A01", 50, 6001, "4N", "")).await;
    let opened = daemon.room_is("V6001", "open", |room| room["status"] == "active").await;
    let room = opened["subject"].as_str().unwrap();
    let n_before = daemon.events().len();
    let grant = |user: &str, span: &str, reason: &str| refused(&daemon, &["grant", room, user, "--for", span, "--reason", reason]);
    for (user, span, reason, code, told) in [
        ("nobody", "4h", REASON, 1, "no user `nobody`"),
        ("MChen", "4h", REASON, 1, "did you mean `mchen`?"),
        ("D200", "4h", REASON, 1, "did you mean `mchen`?"),
        ("hbrandt", "4h", REASON, 1, "not active"),
        ("mchen", "59m", REASON, 64, "from 1 hour to 24 hours"),
        ("mchen", "25h", REASON, 64, "from 1 hour to 24 hours"),
        ("mchen", "soon", REASON, 64, "`4h`"),
        ("mchen", "4h", "  ", 64, "say why"),
    ] {
        let (found, said) = grant(user, span, reason);
        assert!(found == code && said.contains(told), "{user} {span}: {found} {said}");
    }
    for missing in [&["grant", room, "mchen", "--for", "4h"][..], &["grant", room, "mchen", "--reason", "x"], &["grant", room], &["revoke", room]] {
        assert_eq!(refused(&daemon, missing).0, 64, "{missing:?}");
    }
    let (code, said) = refused(&daemon, &["grant", "ffffffff-0000", "mchen", "--for", "4h", "--reason", "x"]);
    assert!(code == 1 && said.contains("no room is called"), "{said}");
    assert_eq!(daemon.events().len(), n_before, "nothing of that published anything");

    // Nobody is in a room that is over, and nobody is a member of their own.
    say(&mut peer, message("E2", "A11", 40, 6001, "4N", "")).await;
    daemon.room_is("V6001", "cancelled", |room| room["status"] == "cancelled").await;
    let (code, said) = grant("mchen", "4h", REASON);
    assert!(code == 1 && said.contains("is cancelled, so nobody is in it"), "{said}");
    let nurse = message("E3", "A01", 30, 6002, "5S", "").replace("6002^^^GHH^MR|", "6002^^^GHH^MR~N402^^^GHH^EI|");
    say(&mut peer, nurse).await;
    let own = daemon.room_is("V6002", "of a nurse", |room| room["flags"] == json!(["employee"])).await;
    let (code, said) = refused(&daemon, &["grant", own["subject"].as_str().unwrap(), "nurse.4n.2", "--for", "4h", "--reason", REASON]);
    assert!(code == 1 && said.contains("is the patient of"), "{said}");
}

#[tokio::test]
async fn a_grant_ends_with_another_patient_another_room_or_the_highest_level_and_restricted_is_what_it_is_for() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let mut rooms = Vec::new();
    for number in [6001, 6002, 6003, 6004] {
        let unit = if number == 6004 { "PSY" } else { "4N" };
        say(&mut peer, message(&format!("T{number}"), "A01", 50, number, unit, "")).await;
        let opened = daemon.room_is(&format!("V{number}"), "open", |room| room["status"] == "active").await;
        rooms.push(opened["subject"].as_str().unwrap().to_owned());
        done(&daemon, &["grant", rooms.last().unwrap(), "mchen", "--for", "4h", "--reason", REASON]);
        let event = daemon.room_is(&format!("V{number}"), "one with mchen", |room| is_in(room, "mchen")).await;
        assert_eq!(event["data"]["room"]["confidentiality"], if number == 6004 { "restricted" } else { "normal" });
    }
    // These were recorded after the grants; the clock of a sender is a little ahead.
    let moved = message("T11", "A45", -2, 6101, "4N", "MRG|6001^^^GHH^MR||||V6001^^^GHH^VN\r").replace("V6101^", "V6001^");
    say(&mut peer, moved).await;
    let event = daemon.room_is("V6001", "of another patient", |room| room["patient"]["id"]["value"] == "6101").await;
    assert!(event["type"] == "room.rehomed" && !is_in(&event["data"]["room"], "mchen"), "{event}");

    say(&mut peer, message("T12", "A02", -2, 6002, "DETOX", "")).await;
    let event = daemon.room_is("V6002", "very restricted", |room| room["confidentiality"] == "very_restricted").await;
    assert!(!is_in(&event["data"]["room"], "mchen"), "{event}");
    // A new one names somebody for just that.
    done(&daemon, &["grant", &rooms[1], "kosei", "--for", "4h", "--reason", REASON]);
    let event = daemon.room_is("V6002", "one with kosei", |room| is_in(room, "kosei")).await;
    assert!(!is_in(&event["data"]["room"], "mchen"), "{event}");
    say(&mut peer, message("T13", "A12", -3, 6002, "4N", "")).await;
    say(&mut peer, message("T14", "A08", -4, 6002, "4N", "")).await;

    let merged = message("T15", "A42", -2, 6004, "PSY", "MRG|6003^^^GHH^MR||||V6003^^^GHH^VN\r");
    say(&mut peer, merged).await;
    let event = daemon.room_is("V6003", "merged", |room| room["status"] == "merged").await;
    assert!(!is_in(&event["data"]["room"], "mchen") && event["data"]["room"]["merged_into"] == rooms[3].as_str(), "{event}");
    let survivor = done(&daemon, &["rooms", "show", &rooms[3]]);
    assert!(is_in(&survivor, "mchen"), "the survivor's own stays: {survivor}");
    let back = done(&daemon, &["rooms", "show", &rooms[1]]);
    assert!(!is_in(&back, "mchen") && is_in(&back, "kosei"), "what has ended does not come back: {back}");
}

#[tokio::test]
async fn somebody_is_let_in_beside_a_daemon_on_postgresql() {
    let Some(url) = postgres::new_database().await else { return };
    let mut daemon = Daemon::start(&format!("[store]\nurl = \"{url}\"\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n")).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    say(&mut peer, message("P1", "A01", 50, 6001, "4N", "")).await;
    let opened = daemon.room_is("V6001", "open", |room| room["status"] == "active").await;
    let room = opened["subject"].as_str().unwrap();
    let granted = done(&daemon, &["grant", room, "mchen", "--for", "1h", "--reason", REASON]);
    daemon.room_is("V6001", "one with mchen", |room| is_in(room, "mchen")).await;
    say(&mut peer, message("P2", "A02", 40, 6001, "5S", "")).await;
    daemon.room_is("V6001", "moved, with mchen", |room| room["location"]["point_of_care"] == "5S" && is_in(room, "mchen")).await;
    drop(peer);
    daemon.kill9();
    let left = time(&granted["until"]).duration_since(now());
    daemon.clock_skew = i64::try_from(left.as_millis()).unwrap() - 3_000;
    daemon.up().await;
    daemon.room_is("V6001", "one without mchen", |room| !is_in(room, "mchen")).await;
    let (code, said) = refused(&daemon, &["revoke", room, "mchen"]);
    assert!(code == 1 && said.contains("no grant"), "{said}");
}
