//! `wardroom merge`: what was merged from what, and taking a merge back.
//!
//! A merge keeps what it joined, so that it can be split: what was said of each patient and of each visit stays with the number it was said of. Numbers
//! that changed (A47 apart, A49, A50) and visits that moved are put right by the feed, with another change or move.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;

use crate::care::fact::Fact;
use crate::care::fact::RelationKind;
use crate::care::identity::PatientRecord;
use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::orders;
use crate::cli::quarantine::number;
use crate::cli::rooms::moment;
use crate::cli::setting::Setting;
use crate::cli::table::table;
use crate::cli::viewing;
use crate::cli::viewing::Seen;
use crate::ids::FeedName;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::intake::look_ups::LookUps;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::intake::read::Arrived;
use crate::intake::read::read;
use crate::store::Store;
use crate::store::form::Stored as _;
use crate::store::form::VisitDocument;
use crate::store::look_up::LookUpKind;
use crate::store::rows::FindRequest;
use crate::store::rows::StoredMessage;

/// How many messages are read at once.
const PAGE: i64 = 200;

/// Looks at merges, and takes them back.
#[derive(clap::Args, Debug)]
pub struct MergeArgs {
    #[command(subcommand)]
    command: MergeCommand,
}

#[derive(clap::Subcommand, Debug)]
enum MergeCommand {
    /// What was merged from what, and whether it stands
    List,
    /// Take a merge back: its rooms are planned again as if nobody had said it
    Undo {
        /// The number of the message that merged, as `merge list` shows it
        #[arg(value_parser = number())]
        id: i64,
    },
}

/// Runs the command.
///
/// # Errors
/// When a stored document cannot be read, or standard output cannot be written.
pub async fn run(args: &MergeArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    match args.command {
        MergeCommand::List => {
            let store = match beside::open(&setting).await {
                Ok(store) => store,
                Err((code, error)) => return console.fail(code, &error),
            };
            let done = list(&setting, &store, console).await;
            beside::close(store, done, console).await
        }
        MergeCommand::Undo { id } => match orders::give(&setting, Order::UndoMerge { message: JournalId(id) }).await {
            Ok(outcome) => told(&outcome, id, console),
            Err((code, error)) => console.fail(code, &error),
        },
    }
}

fn told(outcome: &Outcome, id: i64, console: &Console) -> anyhow::Result<ExitCode> {
    let why = match outcome {
        Outcome::Done { .. } if console.json => return console.out(&serde_json::to_string(&json!({"undone": id}))?).map(|()| ExitCode::SUCCESS),
        Outcome::Done { .. } => return console.out(&format!("merge {id} is taken back; its rooms are planned again")).map(|()| ExitCode::SUCCESS),
        Outcome::NoSuchMessage => "there is no such message\nhint: `wardroom merge list` shows the messages that merged something",
        Outcome::NothingMerged
        | Outcome::NotWaiting
        | Outcome::NothingHeld
        | Outcome::Resynced { .. }
        | Outcome::Purged { .. }
        | Outcome::KeptLonger { .. }
        | Outcome::NoSuchRoom
        | Outcome::Let { .. }
        | Outcome::Refused { .. }
        | Outcome::InEpoch { .. }
        | Outcome::Rotating { .. }
        | Outcome::NotRotated { .. } => "the message merged nothing that still stands\nhint: see `wardroom merge list`",
        Outcome::Failed => return console.fail(69, &anyhow::anyhow!("the daemon could not do it; nothing was changed\nhint: read its log")),
    };
    console.fail(1, &anyhow::anyhow!("{why}"))
}

/// A pair of identifiers that a message made one.
struct Merged {
    message: StoredMessage,
    kind: RelationKind,
    from: Identifier,
    into: Identifier,
    stands: bool,
}

async fn list(setting: &Setting, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let mut merges = Vec::new();
    let mut after = JournalId(i64::MIN);
    loop {
        let page = store.merge_messages(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for message in page {
            merges.extend(merged(setting, store, message).await?);
        }
    }
    viewing::record(store, "merge list", Seen::Messages(merges.iter().map(|merged| merged.message.id).collect())).await?;
    if console.json {
        let merges: Vec<Value> = merges.iter().map(json_of).collect();
        console.out(&serde_json::to_string_pretty(&json!({ "merges": merges })).context("cannot write JSON")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = merges
        .iter()
        .map(|merged| {
            vec![
                merged.message.id.0.to_string(),
                moment(&merged.message.received_at.to_string()),
                merged.message.feed.clone(),
                merged.message.trigger.clone().unwrap_or_default(),
                word(merged.kind).to_owned(),
                shown(&merged.from),
                shown(&merged.into),
                if merged.stands { "stands" } else { "undone" }.to_owned(),
            ]
        })
        .collect();
    if rows.is_empty() {
        console.tell("nothing was merged");
    }
    for line in table(&["id", "came", "feed", "event", "kind", "from", "into", ""], &rows, console.columns()) {
        console.out(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn json_of(merged: &Merged) -> Value {
    let id = |id: &Identifier| json!({"authority": id.authority.as_str(), "type": id.id_type, "value": id.value.as_str()});
    json!({
        "id": merged.message.id.0.to_string(), "received_at": merged.message.received_at.to_string(), "feed": merged.message.feed,
        "trigger": merged.message.trigger, "kind": word(merged.kind), "from": id(&merged.from), "into": id(&merged.into), "stands": merged.stands,
    })
}

fn shown(id: &Identifier) -> String {
    let authority = if id.authority.as_str().is_empty() { String::new() } else { format!("{}/", id.authority) };
    format!("{authority}{}", id.value.as_str())
}

/// The word of `explain --json`.
const fn word(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Account => "account",
        RelationKind::Visit => "visit",
        RelationKind::PatientIdChange => "patient_id_change",
        RelationKind::Patient
        | RelationKind::PatientMove
        | RelationKind::AccountMove
        | RelationKind::VisitMove
        | RelationKind::AccountChange
        | RelationKind::VisitChange
        | RelationKind::Link
        | RelationKind::Unlink => "patient",
    }
}

/// What a message merged, and whether that stands; read again under the profile of its feed as it is now.
async fn merged(setting: &Setting, store: &Store, message: StoredMessage) -> anyhow::Result<Vec<Merged>> {
    let feed = FeedName::new(message.feed.clone());
    let Some(feed) = setting.config.feeds.iter().find(|known| known.name == feed) else { return Ok(Vec::new()) };
    let look_ups = LookUps::of(store.clone());
    let arrived = Arrived { journal: message.id, at: message.received_at, is_retry: true };
    let facts = read(message.raw.bytes.clone().into(), &feed.profile, arrived, &look_ups).incoming.facts;
    let mut merges = Vec::new();
    for fact in facts {
        let Some(relation) = fact.relation.as_ref().filter(|relation| relation.kind.is_merge()) else { continue };
        for pair in &relation.patients {
            let stands = patients_stand(store, &look_ups, &fact, &pair.from, &pair.into).await?;
            merges.push(Merged { message: message.clone(), kind: relation.kind, from: pair.from.0.clone(), into: pair.into.0.clone(), stands });
        }
        let joins_visits = matches!(relation.kind, RelationKind::Visit | RelationKind::Account);
        for pair in relation.visits.iter().chain(&relation.accounts).filter(|_| joins_visits) {
            let request = FindRequest { look_ups: vec![look_ups.visit(LookUpKind::Visit, &pair.from)], ..FindRequest::default() };
            let mut stands = false;
            for visit in store.find(&request).await?.visits {
                let document = VisitDocument::read(&visit.doc)?;
                stands |=
                    document.merges.iter().any(|merge| merge.number == pair.into && merge.stamp.recorded == fact.stamp.recorded && !merge.undone);
            }
            merges.push(Merged { message: message.clone(), kind: relation.kind, from: pair.from.0.clone(), into: pair.into.0.clone(), stands });
        }
    }
    Ok(merges)
}

async fn patients_stand(
    store: &Store,
    look_ups: &LookUps,
    fact: &Fact,
    from: &crate::ids::PatientId,
    into: &crate::ids::PatientId,
) -> anyhow::Result<bool> {
    let request = FindRequest { look_ups: vec![look_ups.patient(into)], ..FindRequest::default() };
    for patient in store.find(&request).await?.patients {
        let record = PatientRecord::read(&patient.doc)?;
        let said = |edge: &&crate::care::identity::Edge<_>| edge.from == *from && edge.into == *into && edge.stamp.recorded == fact.stamp.recorded;
        if record.aliases().iter().find(said).is_some_and(|edge| !edge.undone) {
            return Ok(true);
        }
    }
    Ok(false)
}
