//! `wardroom quarantine`: the messages that were taken and wait, and what becomes of them.
//!
//! Most of them are taken up by themselves once another message explains them. A list tells no patient; showing a message does, and is written into the
//! audit trail first.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;

use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::orders;
use crate::cli::rooms::moment;
use crate::cli::setting::Setting;
use crate::cli::table::table;
use crate::cli::viewing;
use crate::cli::viewing::Seen;
use crate::cli::words::counted_as;
use crate::hl7::charset;
use crate::ids::JournalId;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::store::Store;
use crate::store::rows::QuarantineRow;

/// How many messages are read at once.
const PAGE: i64 = 500;

/// Looks at messages in quarantine, tries them again, or ends them.
#[derive(clap::Args, Debug)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(clap::Subcommand, Debug)]
enum QuarantineCommand {
    /// What waits, since when, and why; no patient is named
    List,
    /// A message as it came, and what it waits for
    Show {
        /// Its number, as `quarantine list` shows it
        #[arg(value_parser = number())]
        id: i64,
    },
    /// Take messages as if they had just come
    Retry {
        /// Their numbers
        #[arg(required = true, value_parser = number())]
        ids: Vec<i64>,
    },
    /// End a message: it is never applied, and stays in the journal
    Discard {
        /// Its number
        #[arg(value_parser = number())]
        id: i64,
        /// Why, for the audit trail
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
    },
}

/// A number that a message may have.
pub(super) fn number() -> clap::builder::RangedI64ValueParser {
    clap::value_parser!(i64).range(1..)
}

/// Runs the command.
///
/// # Errors
/// When a stored document cannot be read, or standard output cannot be written.
pub async fn run(args: &QuarantineArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let order = match &args.command {
        QuarantineCommand::List | QuarantineCommand::Show { .. } => {
            let store = match beside::open(&setting).await {
                Ok(store) => store,
                Err((code, error)) => return console.fail(code, &error),
            };
            let done = look(&args.command, &store, console).await;
            return beside::close(store, done, console).await;
        }
        QuarantineCommand::Retry { ids } => Order::Retry { messages: ids.iter().copied().map(JournalId).collect() },
        QuarantineCommand::Discard { id, reason } => Order::Discard { message: JournalId(*id), reason: reason.clone() },
    };
    match orders::give(&setting, order).await {
        Ok(outcome) => told(&args.command, &outcome, console),
        Err((code, error)) => console.fail(code, &error),
    }
}

fn told(command: &QuarantineCommand, outcome: &Outcome, console: &Console) -> anyhow::Result<ExitCode> {
    let (n_named, word) = match command {
        QuarantineCommand::Retry { ids } => (ids.iter().collect::<BTreeSet<_>>().len(), "taken"),
        QuarantineCommand::List | QuarantineCommand::Show { .. } | QuarantineCommand::Discard { .. } => (1, "discarded"),
    };
    match *outcome {
        Outcome::Done { messages, n_not_waiting } => {
            let n_waiting = n_named.saturating_sub(messages).saturating_sub(n_not_waiting);
            if console.json {
                console.out(&serde_json::to_string(&json!({ word: messages, "waiting": n_waiting, "not_waiting": n_not_waiting }))?)?;
            } else {
                let said = |n: usize, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
                let (waiting, others) = (said(n_waiting, "still waiting"), said(n_not_waiting, "not in quarantine"));
                console.out(&format!("{messages} of {n_named} {word}{waiting}{others}"))?;
            }
            Ok(if messages < n_named { ExitCode::from(1) } else { ExitCode::SUCCESS })
        }
        Outcome::NotWaiting
        | Outcome::NoSuchMessage
        | Outcome::NothingMerged
        | Outcome::NothingHeld
        | Outcome::Resynced { .. }
        | Outcome::Purged { .. }
        | Outcome::KeptLonger { .. }
        | Outcome::NoSuchRoom
        | Outcome::Let { .. }
        | Outcome::Refused { .. }
        | Outcome::InEpoch { .. }
        | Outcome::Rotating { .. }
        | Outcome::NotRotated { .. } => {
            console.fail(1, &anyhow::anyhow!("no such message waits\nhint: `wardroom quarantine list` shows those that do"))
        }
        Outcome::Failed => console.fail(69, &anyhow::anyhow!("the daemon could not do it; nothing was changed\nhint: read its log")),
    }
}

async fn look(command: &QuarantineCommand, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    match command {
        QuarantineCommand::Show { id } => show(JournalId(*id), store, console).await,
        QuarantineCommand::List | QuarantineCommand::Retry { .. } | QuarantineCommand::Discard { .. } => list(store, console).await,
    }
}

async fn list(store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let mut rows: Vec<(QuarantineRow, String, String)> = Vec::new();
    let mut after = JournalId(i64::MIN);
    loop {
        let page = store.quarantine_page(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.journal_id;
        for row in page {
            let message = store.journal_message(row.journal_id).await?;
            let (feed, trigger) = message.map(|message| (message.feed, message.trigger.unwrap_or_default())).unwrap_or_default();
            rows.push((row, feed, trigger));
        }
    }
    if console.json {
        let list: Vec<Value> = rows
            .iter()
            .map(|(row, feed, trigger)| {
                let (id, since) = (row.journal_id.0.to_string(), row.since.to_string());
                json!({"id": id, "since": since, "feed": feed, "trigger": trigger, "reason": row.reason})
            })
            .collect();
        console.out(&serde_json::to_string_pretty(&json!({ "quarantine": list })).context("cannot write JSON")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        console.tell("nothing waits in quarantine");
        return Ok(ExitCode::SUCCESS);
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(row, feed, trigger)| {
            vec![
                row.journal_id.0.to_string(),
                moment(&row.since.to_string()),
                feed.clone(),
                trigger.clone(),
                row.reason.clone(),
                advice(&row.reason).to_owned(),
            ]
        })
        .collect();
    for line in table(&["id", "since", "feed", "event", "reason", "what to do"], &cells, console.columns()) {
        console.out(&line)?;
    }
    console.out(&format!("\n{}", counted_as(rows.len(), "message waits", "messages wait")))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(id: JournalId, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let waiting = store.quarantine_page(JournalId(id.0.saturating_sub(1)), 1).await?.into_iter().find(|row| row.journal_id == id);
    let (Some(row), Some(message)) = (waiting, store.journal_message(id).await?) else {
        return console.fail(1, &anyhow::anyhow!("no such message waits\nhint: `wardroom quarantine list` shows those that do"));
    };
    viewing::record(store, "quarantine show", Seen::Messages(vec![id])).await?;
    let decoded = charset::decode(&message.raw.bytes, None);
    let segments: Vec<String> = decoded.text.split(['\r', '\n']).filter(|segment| !segment.is_empty()).map(printable).collect();
    if console.json {
        let document = json!({
            "id": id.0.to_string(), "since": row.since.to_string(), "feed": message.feed, "trigger": message.trigger, "reason": row.reason,
            "segments": segments,
        });
        console.out(&serde_json::to_string_pretty(&document).context("cannot write JSON")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    console.out(&console.bold(&format!(
        "{} of feed {}, since {}",
        message.trigger.unwrap_or_default(),
        message.feed,
        moment(&row.since.to_string())
    )))?;
    console.out(&format!("  {}: {}", row.reason, advice(&row.reason)))?;
    console.out("")?;
    for segment in segments {
        console.out(&segment)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A text that cannot speak to the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// What somebody can do about a reason to wait.
fn advice(reason: &str) -> &'static str {
    match reason {
        "identity_conflict" => {
            "the visit is known under another patient: look for a missing merge or move (A40, A44, A45); it is taken by itself once one comes"
        }
        "no_visit" => "it names no visit and the patient has not exactly one open: ask the sender for PV1-19 or PID-18",
        "several_visits" => "the account has several open visits: ask the sender for PV1-19",
        "delete_request" => "a person decides about deletions: discard it once that is done",
        "possible_unmerge" => "a number that was merged away speaks with its own name: see `wardroom merge list`, perhaps `merge undo`",
        "names_too_many" => "it names more than a thousand people or identifiers: have the sender say each of them once, then discard it",
        "unreadable_identifier" => {
            "a number in it cannot be read in the character set of MSH-18 or of the feed: set `charset` of the feed to what the sender really writes, then retry"
        }
        "internal_fault" => "a fault of wardroom: please report it with the version, then retry",
        _ => "read it with `wardroom quarantine show`, put right what it waits for, then retry",
    }
}
