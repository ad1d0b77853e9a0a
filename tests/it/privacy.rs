//! Nothing of a patient where it does not belong: the daemon at its most talkative, fed with every message of the fixtures and with broken ones, and
//! then its log, its metrics, its readiness and its database searched for everything that the messages said of their patients.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::support::daemon::Daemon;
use super::support::daemon::house;
use super::support::daemon::program;
use super::support::daemon::refuses_to_start;
use super::support::eventually;
use super::support::peer::Peer;
use super::support::peer::Plain;

/// The fields that say something of a patient, or name a message.
const FIELDS: &[(&str, &[usize])] = &[
    ("MSH", &[10]),
    ("PID", &[2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 18, 19, 20, 21, 23]),
    ("NK1", &[2, 4, 5]),
    ("MRG", &[1, 2, 3, 4, 5, 6, 7]),
    ("PV1", &[5, 19, 50]),
    ("GT1", &[3, 5, 6]),
    ("IN1", &[16, 36, 49]),
    ("DG1", &[3, 4]),
    ("NTE", &[3]),
];

/// What such a field may hold that is in clear elsewhere: authorities, facilities, words of ours.
const KNOWN_WORDS: &[&str] = &["GOODHEALTH", "EPIC", "CERNER", "PATIENT", "UNKNOWN", "HOSPITAL", "CURRENT"];

fn messages() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/messages")).unwrap() {
        files.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    files
}

/// The parts of such fields that are long enough to be told from other text, in upper case.
fn markers(messages: &[Vec<u8>]) -> BTreeSet<String> {
    let mut markers = BTreeSet::new();
    for message in messages {
        let text = String::from_utf8_lossy(message);
        let delimiters: Vec<char> = text.trim_start_matches('\u{feff}').chars().skip(3).take(5).collect();
        for line in text.split(['\r', '\n']) {
            let fields: Vec<&str> = line.split(delimiters[0]).collect();
            // MSH-1 is the separator itself.
            let shift = usize::from(fields[0].ends_with("MSH"));
            let of_patient = FIELDS.iter().find(|(id, _)| fields[0].ends_with(id)).map_or(&[][..], |(_, fields)| fields);
            for field in of_patient.iter().filter_map(|n| fields.get(n - shift)) {
                markers.extend(field.split(&delimiters[1..]).map(|part| part.trim().to_uppercase()));
            }
        }
    }
    markers.retain(|marker| marker.chars().count() >= 5 && marker.is_ascii() && !KNOWN_WORDS.contains(&marker.as_str()));
    markers
}

/// Fails when a text holds a marker. A number counts only by itself, since ids and times of ours are long and hold any number somewhere.
fn nothing_of(markers: &BTreeSet<String>, place: &str, text: &str) {
    let text = text.to_uppercase();
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    for marker in markers {
        let is_number = marker.bytes().all(|byte| byte.is_ascii_digit());
        let is_there = if is_number { marker.len() > 5 && words.contains(marker.as_str()) } else { text.contains(marker.as_str()) };
        let shown = text.lines().find(|line| line.contains(marker.as_str())).unwrap_or_default();
        assert!(!is_there, "{place} holds {marker}: {shown}");
    }
}

const SECRET: &str = "ZYXWVUTMARKER";

/// A message with this text wherever a sender could put it by mistake.
fn broken() -> Vec<Vec<u8>> {
    let whole = Plain::new("QQKEEPOUT1", "A01", 970_001, "4N", 1).text().replace("TESTER", SECRET).replace("TERRY", SECRET);
    let segments: Vec<&str> = whole.split('\r').collect();
    let with = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        whole.replace(from, to)
    };
    let mut all = vec![
        segments[1..].join("\r"),
        whole.replace('|', "^"),
        whole.replace('\r', " "),
        with("ADT^A01", &format!("ADT^{SECRET}")),
        with("ADT^A01", &format!("{SECRET}^A01")),
        with("|P|2.5.1", &format!("|{SECRET}|2.5.1")),
        with("|P|2.5.1", &format!("|P|{SECRET}")),
        with("|P|2.5.1", &format!("|P|2.5.1||||||{SECRET}")),
        with("|P|2.5.1", &format!("|P|2.5.1|||{SECRET}|{SECRET}")),
        with("EVN|A01|20261120080100-0500", &format!("EVN|A01|{SECRET}")),
        with("|19610401|", &format!("|{SECRET}|")),
        with("^^^GHH^MR", &format!("^^^{SECRET}^MR")),
        with("^^^GHH^MR", &format!("^^^GHH^{SECRET}")),
        with("^^^GHH^VN", &format!("^^^GHH&{SECRET}&{SECRET}^VN")),
        with("PV1|1|I|", &format!("PV1|1|{SECRET}|")),
        with("4N^12^A^GHH", &format!("4N^{SECRET}^{SECRET}^GHH^{SECRET}")),
        with("20261120080000-0500", SECRET),
        with("970001", ""),
        with("V970001", ""),
        with("970001", &format!("\\X{SECRET}\\\\H\\{SECRET}")),
        format!("{whole}ROL|1|AD|{SECRET}|{SECRET}^{SECRET}^{SECRET}|{SECRET}\rZZZ|{SECRET}\rNTE|1||{SECRET}\r"),
        format!("{whole}{SECRET}\r{SECRET}|{SECRET}\r"),
        format!("{whole}NTE|1||{}", SECRET.repeat(20_000)),
        SECRET.to_owned(),
        format!("MSH|{SECRET}"),
        format!("BHS|^~\\&|{SECRET}|{SECRET}\r{whole}BTS|{SECRET}"),
    ];
    // Another event each time, so that none is merely a repetition.
    for (n, trigger) in ["A02", "A03", "A08", "A11", "A12", "A13", "A17", "A40", "A44", "A99"].iter().enumerate() {
        let message = with("A01", trigger).replace("QQKEEPOUT1", &format!("QQKEEPOUT2{n}"));
        all.push(format!("{message}MRG|{SECRET}^^^{SECRET}^{SECRET}|||||||{SECRET}\r"));
    }
    let mut all: Vec<Vec<u8>> = all.into_iter().map(String::into_bytes).collect();
    let in_utf_16: Vec<u8> = whole.encode_utf16().flat_map(u16::to_be_bytes).collect();
    all.push(in_utf_16);
    all.push([whole.as_bytes(), b"NTE|1||\xff\xfe\x80", SECRET.as_bytes()].concat());
    all
}

#[tokio::test]
async fn nothing_of_a_patient_leaves_but_in_the_body_of_an_event() {
    let mut messages: Vec<Vec<u8>> = messages().iter().map(|file| fs::read(file).unwrap()).collect();
    let mut markers = markers(&messages);
    assert!(markers.len() > 100, "{markers:?}");
    let n_of_fixtures = markers.len();
    markers.extend([SECRET.to_owned(), "QQKEEPOUT".to_owned(), "970001".to_owned()]);
    messages.extend(broken());

    let mut daemon = Daemon::start_with(
        "[[feeds]]\nmax_frame = \"64KiB\"\n[[feeds]]\nname = \"picky\"\nstrictness = \"pam\"\nsenders = [{ application = \"NOBODY\" }]\n",
        &[("WARDROOM_LOG", "trace"), ("RUST_LOG", "trace")],
    )
    .await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for message in &messages {
        let answer = peer.ask(message).await;
        assert!(["AA", "AE", "AR", "CA", "CE", "CR", "BHS"].iter().any(|code| answer.starts_with(code)), "{answer}");
        let mut refused = Peer::connect(daemon.feed("picky")).await;
        refused.send(message).await;
        refused.send(b"hello").await;
        while refused.receive().await.is_some() {}
    }
    // What a sender leaves behind that goes away in the middle of it.
    peer.send_bytes(&[b"\x0b", messages[0].as_slice()].concat()).await;
    drop(peer);
    let mut last = Peer::connect(daemon.mllp).await;
    assert_eq!(last.ask(Plain::new("LAST", "A01", 970_002, "4N", 1).text()).await, "AA LAST");
    daemon.room_is("V970002", "open", |room| room["status"] == "active").await;
    assert!(
        daemon.event_lines().concat().to_uppercase().contains(markers.iter().find(|marker| *marker == "HALLORAN").unwrap()),
        "the search finds what is there"
    );

    let (_, metrics) = daemon.get("/metrics").await;
    nothing_of(&markers, "/metrics", &metrics);
    nothing_of(&markers, "/readyz", &daemon.get("/readyz").await.1);
    for event in daemon.events() {
        let mut outside = event.clone();
        outside.as_object_mut().unwrap().remove("data");
        nothing_of(&markers, "an event outside its data", &outside.to_string());
    }
    for name in ["wardroom.db", "wardroom.db-wal"] {
        nothing_in_clear(&markers, &daemon.path(name));
    }
    // It is all written once more: what is planned again, and what the end says.
    daemon.restart().await;
    eventually("the log has something of the start", Duration::from_secs(30), async || (daemon.log().len() > 10).then_some(())).await;
    assert!(daemon.terminate().await.success());
    nothing_in_clear(&markers, &daemon.path("wardroom.db"));
    let log = daemon.log();
    assert!(log.iter().any(|line| line.contains("\"TRACE\"") || line.contains("\"DEBUG\"")), "the log is talkative");
    for line in &log {
        nothing_of(&markers, "the log", line);
    }
    println!("{} lines of the log, {n_of_fixtures} markers", log.len());
}

fn nothing_in_clear(markers: &BTreeSet<String>, file: &Path) {
    let Ok(bytes) = fs::read(file) else { return };
    assert!(!bytes.is_empty());
    let text = String::from_utf8_lossy(&bytes).to_uppercase();
    for marker in markers {
        // A few bytes are found by chance in so much that looks random.
        assert!(marker.len() < 6 || !text.contains(marker.as_str()), "{} holds {marker} in the clear", file.display());
    }
}

#[tokio::test]
async fn what_commands_say_of_trouble_holds_nothing_of_a_patient() {
    let dir = house("");
    for (n, message) in broken().iter().enumerate() {
        fs::write(dir.path().join(format!("{n:03}.hl7")), message).unwrap();
    }
    let secrets = BTreeSet::from([SECRET.to_owned(), "QQKEEPOUT".to_owned()]);
    for arguments in [&["replay", ".", "--to", "127.0.0.1:1"][..], &["explain", "--json", "."], &["check", "--offline"]] {
        let output = program(&dir).args(arguments).env("WARDROOM_LOG", "trace").output().unwrap();
        nothing_of(&secrets, &arguments.join(" "), &String::from_utf8(output.stderr).unwrap());
    }
    // A configuration whose values are messages by mistake, and secrets in the wrong place.
    let dir = house(&format!(
        "[store]\nurl = \"postgres://user:{SECRET}@127.0.0.1:1/x\"\nkey = \"{SECRET}\"\n[publish.amqp]\nurl = \"amqp://u:{SECRET}@[:1\"\n"
    ));
    nothing_of(&secrets, "the complaint", &refuses_to_start(&dir).1);
}

#[tokio::test]
async fn what_the_daemon_writes_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    assert_eq!(peer.ask(Plain::new("MODE", "A01", 650_001, "4N", 0).text()).await, "AA MODE");
    eventually("an event", Duration::from_secs(20), async || (!daemon.events().is_empty()).then_some(())).await;
    for file in ["wardroom.db", "wardroom.db-wal", "wardroom.key", "events.jsonl"] {
        let mode = fs::metadata(daemon.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
}
