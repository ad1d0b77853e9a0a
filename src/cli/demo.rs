//! `wardroom demo`: a day on two wards, played over MLLP into a real daemon, for whoever sees wardroom for the first time.
//!
//! The daemon runs in this process, on free ports and in a folder of its own that is gone at the end (`--keep` keeps it). Messages are sent as a
//! hospital would send them, events are read where a backend would read them; nothing is played from a recording. Pauses are for watching only:
//! what has to come is awaited.

mod script;
mod stage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::tz::TimeZone;
use rustix::fs::Mode;
use rustix::process::umask;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::care::change::EventType;
use crate::cli::console::Console;
use crate::cli::demo::script::Recorded;
use crate::cli::demo::script::Scene;
use crate::cli::demo::script::Times;
use crate::cli::demo::script::day;
use crate::cli::demo::stage::Folder;
use crate::cli::demo::stage::Stage;
use crate::cli::interrupt::until_asked;
use crate::cli::rooms;
use crate::cli::story;
use crate::cli::story::text;
use crate::cli::table::table;
use crate::cli::words::counted;
use crate::config::environment::Environment;
use crate::telemetry;
use crate::telemetry::TelemetryOptions;
use crate::time::Clock as _;
use crate::time::SystemClock;
use crate::time::Timestamp;

/// How long a message and what it did can be read before the next.
const PAUSE: Duration = Duration::from_millis(2300);

/// See it work: play a day on two wards into a throw-away daemon and show the rooms.
#[derive(clap::Args, Debug)]
pub struct DemoArgs {
    /// Without pauses for watching
    #[arg(long)]
    fast: bool,
    /// Keep everything in this folder, which must be new or empty: configuration, store, messages, events
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// What was shown of one message.
struct Told {
    scene: Scene,
    control_id: String,
    answer: String,
    took: Duration,
    events: Vec<Value>,
}

/// Runs the command.
///
/// # Errors
/// When the daemon does not do what it must, or standard output cannot be written.
pub async fn run(args: &DemoArgs, console: &Console) -> anyhow::Result<ExitCode> {
    // What a daemon makes is for nobody else, in a demo as in a house: a folder that is kept may be gone on from.
    umask(Mode::RWXG | Mode::RWXO);
    let folder = match Folder::make(args.keep.as_deref()) {
        Ok(folder) => folder,
        Err(error) => return console.fail(64, &error),
    };
    let log_filter = Environment::of_process().log_filter().unwrap_or("error").to_owned();
    let guard = telemetry::init(&TelemetryOptions::for_stderr(Some(log_filter), None))?;
    let metrics = telemetry::metrics::install()?;
    let setting = folder.setting()?;
    let mut stage = match Box::pin(Stage::set(&folder, &setting, &metrics)).await {
        Ok(stage) => stage,
        Err(not_started) => return console.fail(not_started.code, &not_started.error),
    };
    let play = async { play(args, &folder, &mut stage, *console).await.map(|()| ExitCode::SUCCESS) };
    let played = until_asked(Box::pin(play)).await;
    let Stage { daemon, client, .. } = stage;
    drop(client);
    daemon.stop().await;
    guard.shutdown().await;
    drop(folder);
    played
}

async fn play(args: &DemoArgs, folder: &Folder, stage: &mut Stage, console: Console) -> anyhow::Result<()> {
    if !console.json {
        console.out(&format!("{}: a day on two wards", console.bold("wardroom demo")))?;
        console.out(&format!(
            "A daemon runs on throw-away defaults: HL7 over MLLP comes in at {}, events go to {}.",
            stage.daemon.feeds.first().map_or_else(String::new, ToString::to_string),
            folder.events().display(),
        ))?;
        console.out("Every person here is invented.")?;
    }
    let mut sent: HashMap<&'static str, (Timestamp, Timestamp)> = HashMap::new();
    let mut before: Vec<u8> = Vec::new();
    let mut told: Vec<Told> = Vec::new();
    for (index, scene) in day().into_iter().enumerate() {
        if !args.fast && !console.json {
            tokio::time::sleep(PAUSE).await;
        }
        let again = scene.recorded == Recorded::Again;
        let number = if again { index } else { index + 1 };
        let control_id = format!("DEMO{number:04}");
        if !again {
            let now = SystemClock.now();
            let recorded = recorded_at(&scene, &sent, now);
            let (admitted, last) = sent.entry(scene.visit_number().unwrap_or_default()).or_insert((now, now));
            *last = now;
            before = scene.message(&control_id, Times { sent: now, recorded, admitted: *admitted });
            let name = format!("{number:02}_{}.hl7", scene.trigger.to_lowercase());
            std::fs::write(folder.path().join("messages").join(name), &before).context("cannot write a message")?;
        }
        let began = Instant::now();
        stage.client.send(&before).await?;
        let answer = stage.client.receive().await?;
        let took = began.elapsed();
        let answer = acknowledgement(&answer);
        let events = stage.events().await?;
        let one = Told { scene, control_id, answer, took, events };
        if !console.json {
            show(index + 1, &one, console)?;
        }
        anyhow::ensure!(one.answer == "AA", "the daemon answered {} to a message of the demo", one.answer);
        told.push(one);
    }
    let rooms: Vec<Value> = rooms::all(&stage.daemon.store).await?.iter().map(rooms::StoredRoom::json).collect::<Result<_, _>>()?;
    if console.json { console.out(&document(folder, &told, &rooms)?) } else { close(folder, &told, &rooms, console) }
}

/// When the scene's message was recorded: now, or halfway through what was sent of its visit.
fn recorded_at(scene: &Scene, sent: &HashMap<&'static str, (Timestamp, Timestamp)>, now: Timestamp) -> Timestamp {
    let visit = scene.visit_number().and_then(|visit| sent.get(visit)).filter(|_| scene.recorded == Recorded::Earlier);
    visit.map_or(now, |(first, last)| first.plus(last.since(*first) / 2))
}

/// MSA-1 of an answer.
fn acknowledgement(answer: &[u8]) -> String {
    let segment = answer.split(|byte| *byte == b'\r').find_map(|segment| segment.strip_prefix(b"MSA|")).unwrap_or_default();
    segment.iter().take_while(|byte| byte.is_ascii_alphabetic()).map(|byte| char::from(*byte)).collect()
}

fn show(number: usize, told: &Told, console: Console) -> anyhow::Result<()> {
    console.out("")?;
    console.out(&format!(
        "{number:>2}  {}  {}  {}",
        console.bold(told.scene.trigger),
        told.scene.says,
        console.dim(&format!("{} in {} ms", told.answer, milliseconds(told.took))),
    ))?;
    for event in &told.events {
        let event_type = EventType::parse(text(event, "/type")).unwrap_or(EventType::Updated);
        for line in story::line(&console, event_type, event).lines() {
            console.out(&format!("      {line}"))?;
        }
    }
    match told.scene.recorded {
        Recorded::Again => console.out("      nothing: wardroom knows this message, answers as before, and no room changes"),
        Recorded::Earlier => console.out("      it takes its place in time: what it says counts, but for what the transfer has changed since"),
        Recorded::Now if told.events.is_empty() => console.out("      no room changes"),
        Recorded::Now => Ok(()),
    }
}

fn milliseconds(span: Duration) -> String {
    format!("{:.1}", span.as_secs_f64() * 1000.0)
}

/// The rooms, what will happen to them by itself, where the events are, and what to do next.
fn close(folder: &Folder, told: &[Told], rooms: &[Value], console: Console) -> anyhow::Result<()> {
    let zone = TimeZone::system();
    let now = SystemClock.now().to_string();
    console.out("")?;
    console.out(&console.bold("The rooms now"))?;
    let rows: Vec<Vec<String>> = rooms
        .iter()
        .map(|room| {
            let members: Vec<&str> = story::list(room, "/members").map(|member| text(member, "/user")).collect();
            vec![
                text(room, "/name").to_owned(),
                text(room, "/status").to_owned(),
                text(room, "/confidentiality").to_owned(),
                text(room, "/patient/display").to_owned(),
                format!("{}", room.pointer("/version").and_then(Value::as_u64).unwrap_or_default()),
                members.join(" "),
            ]
        })
        .collect();
    for line in table(&["room", "status", "level", "patient", "version", "members"], &rows, console.columns()) {
        console.out(&format!("  {line}"))?;
    }
    console.out("")?;
    console.out(&console.bold("What will happen by itself"))?;
    for (at, what) in by_itself(rooms) {
        console.out(&format!("  {}  {what}", story::moment(&at, &now, &zone)))?;
    }
    let n_events: usize = told.iter().map(|told| told.events.len()).sum();
    console.out("")?;
    console.out(&format!("{} in, {} out:", counted(told.len(), "message"), counted(n_events, "event")))?;
    let kept = folder.kept().is_some();
    console.out(&format!("  {}{}", folder.events().display(), if kept { "" } else { "  (gone when the demo ends; --keep DIR keeps it)" }))?;
    let program = std::env::args().next().unwrap_or_else(|| "wardroom".to_owned());
    let home = folder.kept().map_or_else(|| "demo".to_owned(), |path| path.display().to_string());
    let again = (format!("{program} demo --fast --keep {home}"), "the same again, and everything stays in ./demo");
    let serve = (format!("{program} serve --config {home}/wardroom.toml"), "the daemon, on these rooms");
    let list = (
        format!("{program} rooms list --config {home}/wardroom.toml"),
        if kept { "the rooms, beside a daemon or without" } else { "the rooms it leaves" },
    );
    let explain = (format!("{program} explain {home}/messages --config {home}/wardroom.toml"), "what each message says and does");
    next(console, &if kept { [list, explain, serve] } else { [again, list, explain] })?;
    Ok(())
}

/// What will happen to the rooms without another message, and when, the first first.
fn by_itself(rooms: &[Value]) -> Vec<(String, String)> {
    let mut coming = Vec::new();
    for room in rooms {
        let (name, closes_at) = (text(room, "/name"), text(room, "/closes_at"));
        if !closes_at.is_empty() {
            coming.push((closes_at.to_owned(), format!("{name} closes: the grace after the discharge is over")));
            continue;
        }
        for (until, users) in story::ending(story::list(room, "/members")) {
            let verb = if users.len() == 1 { "leaves" } else { "leave" };
            coming.push((until.to_owned(), format!("{} {verb} {name}: the handover after the transfer is over", users.join(", "))));
        }
    }
    coming.sort();
    coming
}

fn next(console: Console, commands: &[(String, &str)]) -> anyhow::Result<()> {
    console.out("")?;
    console.out(&console.bold("Next"))?;
    let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    for (command, what) in commands {
        console.out(&format!("  {command:<width$}  {}", console.dim(&format!("# {what}"))))?;
    }
    Ok(())
}

fn document(folder: &Folder, told: &[Told], rooms: &[Value]) -> anyhow::Result<String> {
    let n_events: usize = told.iter().map(|told| told.events.len()).sum();
    let messages: Vec<Value> = told
        .iter()
        .map(|told| {
            json!({
                "trigger": told.scene.trigger,
                "control_id": told.control_id,
                "says": told.scene.says,
                "ack": told.answer,
                "milliseconds": told.took.as_secs_f64() * 1000.0,
                "events": told.events,
            })
        })
        .collect();
    let events = json!({ "path": folder.events().display().to_string(), "n": n_events, "kept": folder.kept().is_some() });
    serde_json::to_string_pretty(&json!({ "messages": messages, "rooms": rooms, "events": events })).context("cannot write JSON")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Recorded;
    use super::acknowledgement;
    use super::day;
    use super::recorded_at;
    use crate::time::Timestamp;

    #[test]
    fn the_code_of_an_answer_is_read() {
        assert_eq!(acknowledgement(b"MSH|^~\\&|W||||20261121||ACK^A01|1|P|2.5.1\rMSA|AA|DEMO0001\r"), "AA");
        assert_eq!(acknowledgement(b"nonsense"), "");
    }

    #[test]
    fn a_late_message_was_recorded_between_the_messages_of_its_visit() {
        let at = Timestamp::from_micros;
        let late = day().into_iter().find(|scene| scene.recorded == Recorded::Earlier).unwrap();
        let sent = HashMap::from([(late.visit_number().unwrap(), (at(100), at(300)))]);
        assert_eq!(recorded_at(&late, &sent, at(500)), at(200));
        assert_eq!(recorded_at(&day().remove(0), &sent, at(500)), at(500));
    }
}
