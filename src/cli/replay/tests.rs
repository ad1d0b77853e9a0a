use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use clap::Command;
use clap::FromArgMatches;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Pace;
use super::Plan;
use super::ReplayArgs;
use super::Report;
use super::headers;
use super::prepare;
use super::run;
use super::send_all;
use crate::cli::messages::InputMessage;
use crate::cli::messages::messages_in;
use crate::ids::FeedName;
use crate::mllp::client::ClientOptions;
use crate::mllp::client::Endpoint;
use crate::mllp::codec::Frame;
use crate::mllp::listener::ListenerOptions;
use crate::mllp::listener::serve;
use crate::mllp::session::Answer;
use crate::mllp::session::Answerer;
use crate::mllp::session::PeerInfo;

/// A receiver that answers as the message asks, by one of the words `refuse`, `garbage`, `other`, `both`, `NE|NE`; anything else is accepted.
#[derive(Default)]
struct Receiver {
    /// The connection is closed in place of this many answers.
    n_to_drop: AtomicUsize,
    seen: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl Answerer for Receiver {
    async fn answer(&self, peer: &PeerInfo, frame: Frame) -> Answer {
        let Frame::Message(payload) = frame else { panic!("a frame was refused") };
        self.seen.lock().unwrap().push((peer.connection, payload.to_vec()));
        if self.n_to_drop.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Answer::Close;
        }
        let id = headers(&payload).first().map(|header| String::from_utf8(header.control_id.clone()).unwrap()).unwrap_or_default();
        let asks = |what: &str| String::from_utf8_lossy(&payload).contains(what);
        let acknowledge = |code: &str, id: &str, rest: &str| Bytes::from(format!("MSH|^~\\&|\rMSA|{code}|{id}\r{rest}"));
        Answer::Frames(if asks("refuse") {
            vec![acknowledge("AR", &id, "ERR|||202^Unsupported processing id\r")]
        } else if asks("garbage") {
            vec![Bytes::from_static(b"garbage")]
        } else if asks("other") {
            vec![acknowledge("AA", "somebody else's", "")]
        } else if asks("both") {
            vec![acknowledge("CA", &id, ""), acknowledge("AA", &id, "")]
        } else if asks("NE|NE") {
            vec![]
        } else {
            headers(&payload).iter().map(|header| acknowledge("AA", std::str::from_utf8(&header.control_id).unwrap(), "")).collect()
        })
    }
}

async fn receiver(n_to_drop: usize) -> (Plan, Arc<Receiver>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint: Endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    let receiver = Arc::new(Receiver { n_to_drop: AtomicUsize::new(n_to_drop), ..Receiver::default() });
    let tracker = TaskTracker::new();
    let options = ListenerOptions::new(FeedName::from("test"));
    tracker.spawn(serve(listener, options, Arc::clone(&receiver), CancellationToken::new(), tracker.clone()));
    (Plan { endpoint, client: ClientOptions::default(), connections: 1, rate: None, retries: 3, fresh_ids: false }, receiver)
}

fn file(name: &str, messages: &[&str]) -> Vec<InputMessage> {
    let texts: Vec<String> =
        messages.iter().zip(1..).map(|(text, n)| format!("MSH|^~\\&|||||||ADT^A01|{name}{n}|P|2.5|||{text}\rEVN|{text}\r")).collect();
    messages_in(Path::new(name), &Bytes::from(texts.concat())).messages
}

async fn report(plan: &Plan, messages: Vec<InputMessage>) -> (Report, String) {
    let lines = Mutex::new(Vec::new());
    let report = send_all(plan, messages, |outcome| outcome.print(&mut *lines.lock().unwrap(), false)).await.unwrap();
    let lines = String::from_utf8(lines.into_inner().unwrap()).unwrap();
    // Times differ from run to run.
    let steady = lines.lines().map(|line| line.split("  ").filter(|part| !part.ends_with(" ms")).collect::<Vec<_>>().join("  ") + "\n");
    (report, steady.collect())
}

#[tokio::test]
async fn every_answer_is_reported_in_order() {
    let (plan, receiver) = receiver(0).await;
    let (report, lines) = report(&plan, file("f", &["", "refuse", "garbage", "other", "both", "", "NE|NE", ""])).await;
    assert_eq!(
        lines,
        "f#1  AA\nf#2  AR  202 Unsupported processing id\nf#3  --  the answer is no acknowledgement\nf#4  AA  the answer names another message\n\
         f#5  CA\nf#6  AA\nf#7  --  wants no answer\nf#8  AA\n"
    );
    assert_eq!(report.exit_code(), 1);
    assert!(receiver.seen.lock().unwrap().iter().all(|(connection, _)| *connection == 1));
}

#[tokio::test]
async fn all_accepted_is_exit_code_0() {
    let (plan, _) = receiver(0).await;
    let (report, _) = report(&plan, file("f", &["", ""])).await;
    assert_eq!(report.exit_code(), 0);
    let mut json = Vec::new();
    report.print_json(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["messages"][1]["path"], "f");
    assert_eq!(json["messages"][1]["index"], 2);
    assert_eq!(json["messages"][1]["code"], "AA");
    assert_eq!(json["summary"]["codes"]["AA"], 2);
    assert!(json["summary"]["latency_ms"]["p99"].is_number());
}

#[tokio::test]
async fn a_message_without_an_answer_is_sent_again() {
    let (plan, receiver) = receiver(2).await;
    let (report, lines) = report(&plan, file("f", &["", ""])).await;
    assert_eq!(lines, "f#1  AA  (3 attempts)\nf#2  AA\n");
    assert_eq!((report.exit_code(), receiver.seen.lock().unwrap().len()), (0, 4));
}

#[tokio::test]
async fn a_message_that_is_never_answered_ends_the_run() {
    let (mut plan, _) = receiver(usize::MAX).await;
    plan.retries = 1;
    let (report, lines) = report(&plan, file("f", &["", "", ""])).await;
    assert_eq!(lines, "f#1  --  no answer  (2 attempts)\n");
    assert_eq!(report.exit_code(), 69);
    let mut summary = Vec::new();
    report.print_summary(&mut summary).unwrap();
    let summary = String::from_utf8(summary).unwrap();
    assert!(summary.contains("3 messages: 0 accepted, 0 refused, 1 unanswered, 2 not sent"));
    assert!(summary.contains(", 0 messages a second"), "what is not answered is no pace: {summary}");
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_exit_code_69() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let (mut plan, _) = receiver(0).await;
    plan.endpoint = closed.to_string().parse().unwrap();
    plan.retries = 1;
    let (report, _) = report(&plan, file("f", &[""])).await;
    assert_eq!(report.exit_code(), 69);
    assert!(report.failure.as_deref().is_some_and(|failure| failure.starts_with("cannot connect to 127.0.0.1:")));
}

#[tokio::test]
async fn the_messages_of_one_file_stay_on_one_connection() {
    let (mut plan, receiver) = receiver(0).await;
    plan.connections = 3;
    let messages = ["a", "b", "c", "d", "e"].iter().flat_map(|name| file(name, &["", "", "", ""])).collect();
    let (report, _) = report(&plan, messages).await;
    assert_eq!(report.exit_code(), 0);
    let seen = receiver.seen.lock().unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        let of_file: Vec<(u64, String)> = seen
            .iter()
            .map(|(connection, payload)| (*connection, String::from_utf8(headers(payload)[0].control_id.clone()).unwrap()))
            .filter(|(_, id)| id.starts_with(name))
            .collect();
        assert!(of_file.iter().all(|(connection, _)| *connection == of_file[0].0), "{of_file:?}");
        assert_eq!(of_file.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>(), [1, 2, 3, 4].map(|n| format!("{name}{n}")));
    }
}

#[tokio::test]
async fn fresh_ids_differ_from_each_other_and_are_matched() {
    let (mut plan, receiver) = receiver(0).await;
    plan.fresh_ids = true;
    let (report, _) = report(&plan, file("f", &["", ""])).await;
    assert_eq!(report.exit_code(), 0);
    let ids: Vec<Vec<u8>> = receiver.seen.lock().unwrap().iter().map(|(_, payload)| headers(payload)[0].control_id.clone()).collect();
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 20), "{} ids", ids.len());
}

#[tokio::test]
async fn a_frame_with_several_messages_waits_for_all_answers() {
    let (plan, _) = receiver(0).await;
    let frames = messages_in(
        Path::new("f"),
        &Bytes::from_static(
            b"\x0bMSH|^~\\&|||||||ADT^A01|1|P|2.5\rMSH|^~\\&|||||||ADT^A02|2|P|2.5\r\x1c\r\x0bMSH|^~\\&|||||||ADT^A03|3|P|2.5\r\x1c\r",
        ),
    )
    .messages;
    let (report, lines) = report(&plan, frames).await;
    assert_eq!((lines.as_str(), report.exit_code()), ("f#1  AA\nf#2  AA\n", 0));
}

#[tokio::test]
async fn an_acknowledgement_among_the_messages_is_sent_and_no_answer_is_waited_for() {
    let (plan, receiver) = receiver(0).await;
    let text = "MSH|^~\\&|||||||ADT^A01|1|P|2.5\rMSH|^~\\&|||||||ACK^A01|NE|NE|2.5\rMSA|AA|1\rMSH|^~\\&|||||||ADT^A02|3|P|2.5\r";
    let messages = messages_in(Path::new("f"), &Bytes::from_static(text.as_bytes())).messages;
    let (report, lines) = report(&plan, messages).await;
    assert_eq!(lines, "f#1  AA\nf#2  --  an acknowledgement itself: nobody answers it\nf#3  AA\n");
    assert_eq!((report.exit_code(), receiver.seen.lock().unwrap().len()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_kept_and_made_good_for_a_second_only() {
    let start = Instant::now();
    let mut pace = Pace { interval: Duration::from_millis(100), next: start };
    let turns: Vec<u128> = (0..3).map(|_| pace.take(start).duration_since(start).as_millis()).collect();
    assert_eq!(turns, [0, 100, 200]);
    let late = start + Duration::from_secs(9);
    assert_eq!(pace.take(late), late - Duration::from_secs(1));
}

fn parse(arguments: &[&str]) -> Result<ReplayArgs, clap::Error> {
    let command = ReplayArgs::augment_args(Command::new("replay").no_binary_name(true));
    ReplayArgs::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

#[test]
fn wrong_usage_is_told_before_anything_is_sent() {
    assert!(parse(&["f.hl7", "--to", "localhost:2575", "--rate", "0.5", "--connections", "4", "--fresh-ids"]).is_ok());
    assert!(parse(&["f.hl7", "--to", "[::1]:2575", "--tls", "--tls-certificate", "c.pem", "--tls-key", "k.pem", "--tls-name", "ward"]).is_ok());
    for wrong in [
        &["--to", "localhost:2575"][..],
        &["f.hl7"],
        &["f.hl7", "--to", "localhost"],
        &["f.hl7", "--to", "::1:2575"],
        &["f.hl7", "--to", "h:1", "--rate", "0"],
        &["f.hl7", "--to", "h:1", "--rate", "NaN"],
        &["f.hl7", "--to", "h:1", "--connections", "0"],
        &["f.hl7", "--to", "h:1", "--tls-ca", "ca.pem"],
        &["f.hl7", "--to", "h:1", "--tls", "--tls-key", "k.pem"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[tokio::test]
async fn nothing_to_send_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "nothing here").unwrap();
    let args = parse(&[folder.path().to_str().unwrap(), "--to", "localhost:2575"]).unwrap();
    assert!(prepare(&args).is_err());
    assert_eq!(format!("{:?}", run(&args, true).await.unwrap()), format!("{:?}", std::process::ExitCode::from(64)));
}
