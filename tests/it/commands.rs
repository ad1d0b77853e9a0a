//! Commands as somebody types them: what they say, where, and with which exit code.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::support::daemon::Daemon;
use super::support::daemon::house;
use super::support::daemon::program;

const A01: &str = "MSH|^~\\&|EMR|GHH|WR|GHH|20261121080500||ADT^A01^ADT_A01|C1|P|2.5.1\rEVN|A01|20261121080500\r\
                   PID|1||100045^^^GHH^MR||FARROW^JENS||19561020|M\rPV1|1|I|4N^12^A^GHH|||||||||||||||V1045^^^GHH^VN\r";

/// What a command comes to: its exit code, standard output and standard error.
fn run(dir: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let output = program(dir).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Two frames, of which the second does not end.
fn torn() -> String {
    format!("\u{b}{A01}\u{1c}\r\u{b}{}", A01.replace("|C1|", "|C2|"))
}

#[test]
fn explain_says_that_there_is_no_message_and_that_a_frame_is_torn() {
    let dir = house("");
    for (name, text) in [("empty.hl7", ""), ("blank.hl7", "\r\n \r\n")] {
        fs::write(dir.path().join(name), text).unwrap();
        for arguments in [&["explain", name][..], &["--json", "explain", name]] {
            let (code, out, err) = run(&dir, arguments);
            assert_eq!((code, out.as_str()), (64, ""));
            assert!(err.contains("there is no message in what was named"), "{err}");
        }
    }
    fs::write(dir.path().join("torn.mllp"), torn()).unwrap();
    let (code, out, err) = run(&dir, &["--json", "explain", "torn.mllp"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["messages"].as_array().unwrap().len()), (1, 1));
    assert_eq!(err, "`torn.mllp`: frame 2 begins and does not end; it was left out\n");

    fs::write(dir.path().join("half.mllp"), format!("\u{b}{A01}")).unwrap();
    let (code, _, err) = run(&dir, &["explain", "half.mllp"]);
    assert!(code == 64 && err.contains("frame 1 begins and does not end") && err.contains("no message"), "{err}");
    assert!(!err.contains("FARROW"), "nothing of a message is told");
}

#[test]
fn what_explain_reads_stands_in_a_column_however_long_a_role_is() {
    let dir = house("");
    let message = format!("{A01}ROL|1|AD|NP|E30002^NG^MINA^^^^^^GHH^^^^EI\rROL|2|AD|CP|D200^CHEN^MEI^^^^^^GHH^^^^EI\r");
    fs::write(dir.path().join("named.hl7"), message).unwrap();
    let (code, out, err) = run(&dir, &["explain", "named.hl7"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let column = |label: &str, value: &str| {
        let line = out.lines().find(|line| line.trim_start().starts_with(label)).unwrap_or_else(|| panic!("{label}: {out}"));
        line.find(value).unwrap_or_else(|| panic!("{value}: {line}"))
    };
    let at = column("nurse practitioner  ", "E30002");
    for (label, value) in [("consulting ", "D200"), ("patient ", "100045"), ("class ", "I"), ("recorded ", "2026-11-21"), ("answer ", "AA")] {
        assert_eq!(column(label, value), at, "{label}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_says_that_a_frame_is_torn_and_does_not_wait_for_an_answer_to_an_answer() {
    let daemon = Daemon::start("").await;
    let to = daemon.mllp.to_string();
    fs::write(daemon.path("torn.mllp"), torn()).unwrap();
    let (code, out, err) = run(&daemon.dir, &["replay", "torn.mllp", "--to", &to]);
    assert!(code == 1 && out.contains("torn.mllp#1  AA") && out.contains("1 torn and left out"), "{out}");
    assert_eq!(err, "`torn.mllp`: frame 2 begins and does not end; it was left out\n");

    let answer = "MSH|^~\\&|EMR|GHH|WR|GHH|20261121080500||ACK^A01^ACK|C3|P|2.5.1\rMSA|AA|X1\r";
    fs::write(daemon.path("answer.hl7"), format!("{answer}{}", A01.replace("|C1|", "|C4|"))).unwrap();
    // A message that is not answered would be sent four times and end the run.
    let (code, out, _) = run(&daemon.dir, &["replay", "answer.hl7", "--to", &to, "--timeout", "20"]);
    assert!(code == 0 && out.contains("answer.hl7#1  --  an acknowledgement itself") && out.contains("answer.hl7#2  AA"), "{out}");
}

#[test]
fn verify_keeps_journeys_apart_that_fail_and_that_cannot_be_read() {
    let dir = house("");
    let journey = |name: &str, text: &str| {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("journey.toml"), format!("title = \"One\"\nnow = \"2026-11-21T08:00:00-05:00\"\n{text}")).unwrap();
        fs::write(dir.path().join(name).join("1.hl7"), A01).unwrap();
    };
    journey("passes", "[[step]]\nsend = \"1.hl7\"\nexpect = { ack = \"AA\" }\n");
    journey("fails", "[[step]]\nsend = \"1.hl7\"\nexpect = { ack = \"AR\" }\n");
    journey("broken", "[[step]]\nsent = \"1.hl7\"\n");
    journey("torn", "[[step]]\nsend = \"torn.mllp\"\n");
    fs::write(dir.path().join("torn/torn.mllp"), torn()).unwrap();
    let (code, out, _) = run(&dir, &["--json", "verify", "."]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["passed"], &document["failed"], &document["unreadable"]), (64, &1.into(), &1.into(), &2.into()), "{document}");
    let torn = document["journeys"].as_array().unwrap().iter().find(|journey| journey["journey"] == "./torn").unwrap();
    assert!(torn["error"].as_str().unwrap().contains("step 1: ") && torn["error"].as_str().unwrap().contains("frame 2 begins and does not end"));
    let (_, out, _) = run(&dir, &["verify", "."]);
    assert!(out.ends_with("\n1 passed, 1 failed, 2 not readable\n"), "{out}");
}

/// Standard output on a full disk is something that a command needs and cannot have; where nobody reads it, enough was read.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_takes_no_more_is_told_and_one_that_nobody_reads_is_not() {
    let dir = house("");
    fs::write(dir.path().join("one.hl7"), A01).unwrap();
    for arguments in [&["schema", "config"][..], &["check", "--offline"], &["explain", "one.hl7"], &["--json", "explain", "one.hl7"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = program(&dir).args(arguments).stdout(full).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {told}");
        assert!(told.contains("standard output cannot be written: No space left on device") && told.contains("\nhint: "), "{told}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program(&dir).args(arguments).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{arguments:?}");
    }
}
