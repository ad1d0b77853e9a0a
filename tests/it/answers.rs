//! What a sending system is answered, on the wire: every frame of the fixtures, every mode, every refusal.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;

use super::support::daemon::Daemon;
use super::support::daemon::program;
use super::support::peer::Peer;
use super::support::peer::Plain;
use super::support::peer::framed;
use super::support::peer::in_short;

const FEEDS: &str = r#"
[[feeds]]
name = "main"
max_frame = "64KiB"
[[feeds]]
name = "pam"
strictness = "pam"
[[feeds]]
name = "each"
batch_ack = "each"
[[feeds]]
name = "original"
ack_mode = "original"
[[feeds]]
name = "enhanced"
ack_mode = "enhanced"
[[feeds]]
name = "none"
ack_mode = "none"
[[feeds]]
name = "warns"
warn_quarantined = true
"#;

/// The answers to each file of `fixtures/mllp`, frame by frame.
const FIXTURES: &[(&str, &[&str])] = &[
    ("one-message", &["AA M01-1"]),
    ("two-frames-in-one-read", &["AA M02-1", "AA M02-2"]),
    ("enhanced-mode", &["CA M03-1"]),
    ("junk-before-vt", &["AA M04-1"]),
    ("missing-final-cr", &["AA M05-1"]),
    ("missing-final-cr-then-frame", &["AA M06-1", "AA M06-2"]),
    ("vt-inside-a-frame", &["AA M07-2"]),
    ("empty-frame", &["AA M08-1"]),
    ("several-msh-in-a-frame", &["AA M09-1, AA M09-2, AA M09-3"]),
    ("batch-bhs", &["BHS, AA M10-1, AA M10-2, BTS"]),
    ("batch-fhs", &["BHS, AA M11-1, BTS"]),
    ("batch-empty", &["BHS, BTS"]),
    ("no-msh", &["AR 100"]),
    ("segments-without-msh", &["AR 100"]),
    ("no-frame-at-all", &[]),
    ("missing-msh-10", &["AE 101"]),
    ("utf8-bom", &["AA M16-1"]),
    ("latin1-undeclared", &["AA M17-1"]),
    ("charset-in-no-table", &["AA M18-1"]),
    ("lf-only", &["AA M19-1"]),
    ("crlf", &["AA M20-1"]),
    ("processing-id-test", &["AR 202 M21-1"]),
    ("version-3", &["AR 203 M22-1"]),
    ("version-garbage", &["AR 203 M23-1"]),
    ("inbound-ack", &["AA M24-2"]),
    ("unsupported-type", &["AA M25-1"]),
    ("unknown-trigger", &["AA M26-1"]),
    ("resent", &["AA M27-1", "AA M27-1"]),
    ("control-id-odd-bytes", &["AA  M28 \\T\\\u{fffd}#1"]),
    ("odd-delimiters", &["AA M29-1"]),
    ("segment-terminators-doubled", &["AA M30-1"]),
];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/fixtures/mllp/{name}.bin", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A message whose answer shows that nothing else was answered before it.
async fn nothing_more(peer: &mut Peer) {
    assert_eq!(peer.ask(Plain::new("LAST", "A08", 990_001, "4N", 1).with_tail("P|2.5.1|||AL")).await, "CA LAST");
}

async fn check(daemon: &Daemon, feed: &str, bytes: &[u8], expected: &[&str]) {
    let mut peer = Peer::connect(daemon.feed(feed)).await;
    peer.send_bytes(bytes).await;
    for (n, expected) in expected.iter().enumerate() {
        let answer = peer.receive().await.map(|frame| in_short(&frame));
        assert_eq!(answer.as_deref(), Some(*expected), "answer {n} of feed {feed}");
    }
    if feed != "original" && feed != "none" {
        nothing_more(&mut peer).await;
    }
}

#[tokio::test]
async fn every_frame_of_the_fixtures_is_answered_as_its_page_says() {
    let there: BTreeSet<String> = fs::read_dir(format!("{}/fixtures/mllp", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".bin")?.to_owned()))
        .collect();
    assert_eq!(there, FIXTURES.iter().map(|(name, _)| (*name).to_owned()).collect(), "each file has its line in the table");
    let daemon = Daemon::start(FEEDS).await;
    for (name, expected) in FIXTURES {
        println!("{name}");
        check(&daemon, "main", &fixture(name), expected).await;
    }
    check(&daemon, "pam", &fixture("unsupported-type"), &["AR 200 M25-1"]).await;
    check(&daemon, "pam", &fixture("unknown-trigger"), &["AR 201 M26-1"]).await;
    check(&daemon, "each", &fixture("several-msh-in-a-frame"), &["AA M09-1", "AA M09-2", "AA M09-3"]).await;
    check(&daemon, "each", &fixture("batch-bhs"), &["BHS, AA M10-1, AA M10-2, BTS"]).await;
}

#[tokio::test]
async fn the_control_id_comes_back_byte_for_byte() {
    let daemon = Daemon::start(FEEDS).await;
    let ids: &[&[u8]] = &[b" M28 \\T\\\xfc#1 ", b"\xc3\xa4\xe2\x82\xac", b"a^b&c~d", b"-", b"0", &[b'x'; 300]];
    for id in ids {
        let message = Plain::new("@", "A08", 990_002, "4N", 2).text().into_bytes();
        let at = message.windows(3).position(|three| three == b"|@|").unwrap() + 1;
        let message = [&message[..at], id, &message[at + 1..]].concat();
        let mut peer = Peer::connect(daemon.mllp).await;
        peer.send(&message).await;
        let answer = peer.receive().await.unwrap();
        let msa = answer.split(|byte| *byte == b'\r').nth(1).unwrap().to_vec();
        assert_eq!(msa, [b"MSA|AA|", *id].concat());
        let others: Vec<u8> = answer.split(|byte| *byte == b'\r').enumerate().filter(|(n, _)| *n != 1).flat_map(|(_, line)| line.to_vec()).collect();
        assert!(others.is_ascii());
    }
}

#[tokio::test]
async fn answers_come_when_the_sender_asks_for_them() {
    let daemon = Daemon::start(FEEDS).await;
    // MSH-15 and MSH-16; what is answered to a message that is kept, and to one that is refused.
    let asked: &[(&str, &str, &str, &str)] = &[
        ("", "", "AA", "AR 202"),
        ("AL", "", "CA", "CR 202"),
        ("AL", "NE", "CA", "CR 202"),
        ("AL", "AL", "CA", "CR 202"),
        ("NE", "NE", "", ""),
        ("NE", "AL", "AA", "AR 202"),
        ("", "AL", "AA", "AR 202"),
        ("ER", "NE", "", "CR 202"),
        ("SU", "NE", "CA", ""),
        ("NE", "ER", "", "AR 202"),
        ("NE", "SU", "AA", ""),
    ];
    for (n, (accept, application, kept, refused)) in asked.iter().enumerate() {
        for (processing_id, expected) in [("P", kept), ("T", refused)] {
            let id = format!("E{n}{processing_id}");
            let message = Plain::new(&id, "A08", 990_003, "4N", 3).with_tail(&format!("{processing_id}|2.5.1|||{accept}|{application}"));
            let expected: Vec<String> = if expected.is_empty() { Vec::new() } else { vec![format!("{expected} {id}")] };
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            check(&daemon, "main", &framed(&message), &expected).await;
        }
    }
}

#[tokio::test]
async fn a_feed_may_be_answered_in_one_mode_whatever_the_sender_asks() {
    let daemon = Daemon::start(FEEDS).await;
    let asks = |id: &str, tail: &str| Plain::new(id, "A08", 990_004, "4N", 4).with_tail(tail);
    let mut original = Peer::connect(daemon.feed("original")).await;
    assert_eq!(original.ask(asks("O1", "P|2.5.1|||AL|NE")).await, "AA O1");
    assert_eq!(original.ask(asks("O2", "P|2.5.1|||NE|NE")).await, "AA O2");
    assert_eq!(original.ask(asks("O3", "D|2.5.1|||AL|NE")).await, "AR 202 O3");
    let mut enhanced = Peer::connect(daemon.feed("enhanced")).await;
    assert_eq!(enhanced.ask(asks("N1", "P|2.5.1")).await, "CA N1");
    assert_eq!(enhanced.ask(asks("", "P|2.5.1")).await, "CE 101");
    assert_eq!(enhanced.ask(asks("N2", "P|3")).await, "CR 203 N2");
    assert_eq!(enhanced.ask("hello").await, "CR 100");
    let mut none = Peer::connect(daemon.feed("none")).await;
    none.send(Plain::new("U1", "A01", 990_005, "4N", 5).text()).await;
    daemon.room_is("V990005", "open", |room| room["status"] == "active").await;
    none.send(Plain::new("U2", "A03", 990_005, "4N", 6).text()).await;
    daemon.room_is("V990005", "closing", |room| room["status"] == "grace").await;
    // Everything above was taken on this connection, which has heard nothing: the end is the first thing it hears.
    let mut daemon = daemon;
    daemon.signal("TERM");
    assert_eq!(none.receive().await, None);
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn a_feed_may_be_warned_of_a_message_that_waits() {
    let daemon = Daemon::start(FEEDS).await;
    // Nobody can say whose message this is.
    let waits = |id: &str, version: &str, tail: &str| {
        let msh = format!("MSH|^~\\&|EMR|GHH|WARDROOM|GHH|20261121080500||ADT^A08|{id}|P|{version}{tail}");
        format!("{msh}\rEVN|A08|20261121080500\rPID|1||||DOE^JANE\rPV1|1|I|4N^1^A^GHH|||||||||||||||||{id}\r")
    };
    let mut quiet = Peer::connect(daemon.feed("main")).await;
    assert_eq!(quiet.ask(waits("W0", "2.5.1", "")).await, "AA W0");
    let mut warned = Peer::connect(daemon.feed("warns")).await;
    for (id, version, err) in [("W1", "2.3", "ERR|^^^207&Application error&HL70357"), ("W2", "2.5.1", "ERR|||207^Application error^HL70357|W")] {
        warned.send(waits(id, version, "")).await;
        let answer = String::from_utf8(warned.receive().await.unwrap()).unwrap();
        assert!(answer.contains(&format!("\rMSA|AA|{id}\r{err}\r")), "{answer}");
    }
    // A commit answer says that it is kept, which it is.
    assert_eq!(warned.ask(waits("W3", "2.5.1", "|||AL|NE")).await, "CA W3");
    assert_eq!(warned.ask(Plain::new("W4", "A08", 990_007, "4N", 7).text()).await, "AA W4");
}

#[tokio::test]
async fn refusals_follow_the_version_of_the_message() {
    let daemon = Daemon::start(FEEDS).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    for version in ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8.2", "2.9"] {
        let message = |id: &str, processing: &str| Plain::new(id, "A08", 990_006, "4N", 7).with_tail(&format!("{processing}|{version}"));
        assert_eq!(peer.ask(message("K", "P")).await, "AA K", "{version}");
        assert_eq!(peer.ask(message("B", "")).await, "AA B", "{version}: a blank MSH-11 counts as P");
        assert_eq!(peer.ask(message("R", "T")).await, "AR 202 R", "{version}");
    }
}

#[tokio::test]
async fn a_duplicate_is_answered_as_the_first_one() {
    let daemon = Daemon::start(FEEDS).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let kept = Plain::new("D1", "A01", 990_007, "4N", 8);
    let refused = Plain::new("D2", "A01", 990_008, "4N", 8).with_tail("T|2.5.1");
    for _ in 0..3 {
        assert_eq!(peer.ask(kept.text()).await, "AA D1");
        assert_eq!(peer.ask(&refused).await, "AR 202 D2");
    }
    let replayed = Plain { control_id: "D3".to_owned(), ..kept.clone() };
    assert_eq!(peer.ask(replayed.text()).await, "AA D3");
    daemon.room_is("V990007", "open", |room| room["status"] == "active").await;
    assert_eq!(daemon.events().len(), 1, "three more of the same change nothing");
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let daemon = Daemon::start(FEEDS).await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let long = |id: &str, tail: &str| Plain::new(id, "A08", 990_009, "4N", 9).with_tail(tail) + &format!("NTE|1||{}\r", "x".repeat(200_000));
    assert_eq!(peer.ask(long("L1", "P|2.5.1")).await, "AE 207 L1");
    assert_eq!(peer.ask(long("L2", "P|2.5.1|||AL|NE")).await, "CE 207 L2");
    assert_eq!(peer.ask("y".repeat(200_000)).await, "AR 207");
    nothing_more(&mut peer).await;
}

#[tokio::test]
async fn an_acknowledgement_of_our_acknowledgement_is_swallowed() {
    let daemon = Daemon::start(FEEDS).await;
    let ack = "MSH|^~\\&|EMR|GHH|WARDROOM|GHH|20261121080501||ACK|Q1|P|2.5.1|||AL|AL\rMSA|CA|W1\r";
    let message = Plain::new("Q2", "A08", 990_010, "4N", 10).text();
    check(&daemon, "main", &framed(ack), &[]).await;
    check(&daemon, "main", &framed(format!("{ack}{message}{ack}")), &["AA Q2"]).await;
    let (_, metrics) = daemon.get("/metrics").await;
    assert!(metrics.lines().any(|line| line.starts_with("wardroom_inbound_acks_total{") && line.ends_with(" 3")), "{metrics}");
}

#[tokio::test]
async fn a_message_that_names_thousands_waits_and_holds_nobody_up() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let roles: Vec<String> = (0..20_000).map(|n| format!("ROL|{n}|AD|AT^Attending^HL70443|D{n:05}^LOW^KIM^^^^^^GHH^L^^^EI\r")).collect();
    assert_eq!(peer.ask(Plain::new("BIG", "A01", 640_001, "4N", 0).text() + &roles.concat()).await, "AA BIG");
    // The same patient's next message, and the room that it opens.
    assert_eq!(peer.ask(Plain::new("NEXT", "A01", 640_001, "4N", 1).text()).await, "AA NEXT");
    daemon.room_is("V640001", "open", |room| room["status"] == "active").await;
    let listed = program(&daemon.dir).args(["--json", "quarantine", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("names_too_many"), "{listed}");
    let (code, ready) = daemon.get("/readyz").await;
    assert_eq!(code, 200, "{ready}");
}

/// Whether a message is new is found out by its commit once messages have been new for long: that commit fails, with nobody else there to plan for.
#[tokio::test]
async fn a_repeat_that_comes_alone_behind_many_that_were_new_is_answered_at_once() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let new: Vec<String> = (0..80).map(|n| Plain::new(format!("N{n}"), "A08", 643_001, "4N", n).text()).collect();
    for (n, message) in new.iter().enumerate() {
        assert_eq!(peer.ask(message.clone()).await, format!("AA N{n}"));
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(peer.ask(new[79].clone()).await, "AA N79");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "the sender would have given up: {:?}", begun.elapsed());
    let (_, metrics) = daemon.get("/metrics").await;
    assert!(metrics.lines().any(|line| line.starts_with("wardroom_commit_conflicts_total ") && line.ends_with(" 1")), "{metrics}");
}

#[tokio::test]
async fn numbers_that_cannot_be_read_wait_and_make_no_two_patients_one() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let tail = "P|2.5.1||||||UNICODE UTF-8";
    let unread = |control: &str, number: &str| Plain::new(control, "A01", 642_001, "4N", 0).with_tail(tail).replace("642001", number);
    for (control, number) in [("BYTE1", b"64\xe91"), ("BYTE2", b"64\xe81")] {
        let message = unread(control, "UNREAD").into_bytes();
        let at: Vec<usize> = message.windows(6).enumerate().filter(|(_, window)| window == b"UNREAD").map(|(at, _)| at).collect();
        assert!(at.len() >= 2, "patient and visit");
        let mut bytes = message.clone();
        at.iter().rev().for_each(|at| drop(bytes.splice(at..&(at + 6), number.iter().copied())));
        assert_eq!(peer.ask(bytes).await, format!("AA {control}"));
    }
    for (control, number) in [("ESC1", "64\\X01\\1"), ("ESC2", "64\\X02\\1")] {
        assert_eq!(peer.ask(unread(control, number)).await, format!("AA {control}"));
    }
    assert_eq!(peer.ask(Plain::new("READ", "A01", 642_002, "4N", 1).text()).await, "AA READ");
    daemon.room_is("V642002", "open", |room| room["status"] == "active").await;
    let json =
        |args: &[&str]| serde_json::from_slice::<serde_json::Value>(&program(&daemon.dir).arg("--json").args(args).output().unwrap().stdout).unwrap();
    let waiting = json(&["quarantine", "list"]).to_string();
    assert_eq!(waiting.matches("unreadable_identifier").count(), 4, "{waiting}");
    let rooms = json(&["rooms", "list", "--all"]);
    assert_eq!(rooms["rooms"].as_array().map(Vec::len), Some(1), "{rooms}");
}

#[tokio::test]
async fn names_are_one_line_that_any_terminal_can_show() {
    let daemon = Daemon::start("").await;
    let mut peer = Peer::connect(daemon.mllp).await;
    let message = Plain::new("ESC", "A01", 641_001, "4\\X1B\\[7MN\\X0A\\E", 0).text();
    assert_eq!(peer.ask(message).await, "AA ESC");
    let room = daemon.room_is("V641001", "open", |room| room["status"] == "active").await;
    assert_eq!(room["data"]["room"]["location"]["point_of_care"], "4\u{fffd}[7MN E");
    let listed = program(&daemon.dir).args(["rooms", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.chars().all(|letter| letter == '\n' || !letter.is_control()), "{listed:?}");
}
