//! `wardroom audit search`: the rows of the audit trail that fit what somebody asks, the newest first.
//!
//! Changes of a room that is known are found by index, and so is everything that is no change of a room. Only where neither a room, a visit nor a
//! patient is named is the trail gone through, step by step: for a user every row that may name them is opened, for anything else none is before it is
//! known to be shown. No more rows are kept than are shown. Who searches is written down first; what they were shown is what stood before that.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::ProgressBar;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use memchr::memmem::Finder;
use serde_json::Value;
use serde_json::json;

use crate::care::change::EventType;
use crate::care::plan::room_code;
use crate::cli::audit::SpanArgs;
use crate::cli::audit::subject::Named;
use crate::cli::audit::subject::Subject;
use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::quarantine::printable;
use crate::cli::rooms::moment;
use crate::cli::rooms::timeline;
use crate::cli::rooms::timeline::Entry;
use crate::cli::setting::Setting;
use crate::cli::story::list;
use crate::cli::story::text;
use crate::cli::table::table;
use crate::cli::viewing;
use crate::cli::viewing::Asked;
use crate::cli::viewing::Seen;
use crate::cli::words::counted;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::intake::orders;
use crate::store::Store;
use crate::store::rows::StoredAudit;
use crate::store::trail::Span;
use crate::time::Timestamp;

/// How many rows that are no change of a room are read at once.
const PAGE: i64 = 1000;
/// How many rooms of one row are named.
const ROOMS_NAMED: usize = 6;

/// What is looked for.
#[derive(clap::Args, Debug)]
pub(super) struct SearchArgs {
    /// What became of this room and who looked at it: its id, the beginning of it, its name, or the four letters at the end of that
    #[arg(long)]
    room: Option<String>,
    /// The same of the rooms of this visit: [AUTHORITY/]NUMBER, as `rooms show` shows it
    #[arg(long, value_name = "NUMBER")]
    visit: Option<String>,
    /// The same of every room of this patient, and who looked at or decided on their messages: [AUTHORITY/][TYPE:]ID, as `rooms show` shows it
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    /// Where this user came, went, was in a room otherwise from then on, or was let in; and what somebody with this login or uid looked at or ordered
    #[arg(long)]
    user: Option<String>,
    /// Only rows of this action, such as `room.opened`, `rooms.viewed`, or one half of it: `room`, `viewed`
    #[arg(long, value_name = "WORD", value_parser = action)]
    action: Option<Action>,
    #[command(flatten)]
    span: SpanArgs,
    /// Show no more rows than this, the newest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// What rows of the trail are called, as somebody typed it.
#[derive(Clone, Debug)]
struct Action {
    word: String,
    kinds: Vec<&'static str>,
}

fn action(word: &str) -> Result<Action, String> {
    let known: Vec<&'static str> = EventType::ALL.iter().map(|event_type| event_type.as_str()).chain(viewing::KINDS).chain(orders::KINDS).collect();
    let fits = |kind: &&'static str| *kind == word || kind.split('.').any(|half| half == word);
    let kinds: Vec<&'static str> = known.iter().copied().filter(fits).collect();
    if kinds.is_empty() { Err(format!("there are {}", known.join(", "))) } else { Ok(Action { word: word.to_owned(), kinds }) }
}

impl SearchArgs {
    fn asked(&self) -> Asked {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Asked {
            room: self.room.clone(),
            visit: self.visit.clone(),
            patient: self.patient.clone(),
            user: self.user.clone(),
            action: self.action.as_ref().map(|action| action.word.clone()),
            since: time(self.span.since),
            until: time(self.span.until),
        }
    }
}

pub(super) async fn run(args: &SearchArgs, setting: &Setting, console: &Console) -> anyhow::Result<ExitCode> {
    if let Some(fault) = args.span.fault() {
        return console.fail(64, &fault);
    }
    let store = match beside::open(setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let done = search(args, setting, &store, console).await;
    beside::close(store, done, console).await
}

async fn search(args: &SearchArgs, setting: &Setting, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let named = Named { room: args.room.as_deref(), visit: args.visit.as_deref(), patient: args.patient.as_deref() };
    let subject = match Subject::find(named, setting, store, console).await? {
        Ok(subject) => subject,
        Err(code) => return Ok(code),
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let action = args.action.as_ref().map(|action| action.kinds.as_slice());
    let mut seeker =
        Seeker { store, console, subject, user: args.user.as_deref(), action, span: args.span.span(), limit, newest: Newest::default(), n_closed: 0 };
    seeker.seek().await?;
    let rows = seeker.rows().await?;
    let rooms: BTreeSet<CareRoomId> = rows.iter().filter_map(|row| row.room).chain(seeker.subject.rooms.into_iter().flatten()).collect();
    viewing::record(store, "audit search", Seen::Audit(args.asked(), rooms.into_iter().collect())).await?;
    show(&rows, seeker.newest.n_fitting, seeker.n_closed, args.user.is_some(), console)?;
    if seeker.n_closed > 0 {
        let rows = counted(seeker.n_closed, "row");
        console.tell(&format!("{rows} more may name the user and cannot be read: their patients were purged, or `wardroom audit verify` tells why"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest rows that fit, and how many there are in all.
#[derive(Debug, Default)]
struct Newest {
    n_fitting: usize,
    rows: BTreeMap<(Timestamp, i64), Hit>,
}

/// A row that fits.
#[derive(Debug)]
enum Hit {
    /// A change of a room, whose words are read when it is known to be shown.
    Change {
        room: CareRoomId,
        kind: String,
    },
    Other(Box<StoredAudit>),
}

impl Newest {
    fn add(&mut self, at: Timestamp, id: i64, hit: Hit, limit: usize) {
        self.n_fitting += 1;
        self.rows.insert((at, id), hit);
        if self.rows.len() > limit {
            self.rows.pop_first();
        }
    }
}

/// A row as it is shown.
#[derive(Debug)]
struct Row {
    id: i64,
    at: Timestamp,
    kind: String,
    room: Option<CareRoomId>,
    message: Option<JournalId>,
    told: Told,
}

/// What a row says.
#[derive(Debug)]
enum Told {
    Change(Box<Entry>),
    Other(Value),
    /// Nothing: what is known of it was deleted with its patient, or does not open.
    Closed,
}

/// Somebody who looks for rows.
struct Seeker<'a> {
    store: &'a Store,
    console: &'a Console,
    subject: Subject,
    user: Option<&'a str>,
    action: Option<&'a [&'static str]>,
    span: Span,
    limit: usize,
    newest: Newest,
    /// How many rows may name the user and do not open.
    n_closed: usize,
}

impl Seeker<'_> {
    async fn seek(&mut self) -> anyhow::Result<()> {
        let wants = |is_change: bool| self.action.is_none_or(|kinds| kinds.iter().any(|kind| EventType::parse(kind).is_some() == is_change));
        let (changes, others) = (wants(true), wants(false));
        if others {
            self.seek_others().await?;
        }
        if !changes {
            return Ok(());
        }
        match (self.subject.rooms.clone(), self.user) {
            (Some(rooms), _) => self.seek_in(rooms).await,
            (None, Some(user)) => {
                let rooms = self.rooms_naming(user).await?;
                self.seek_in(rooms).await
            }
            (None, None) => self.seek_marks().await,
        }
    }

    fn has_kind(&self, kind: &str) -> bool {
        self.action.is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Who looked at what, who ordered what.
    async fn seek_others(&mut self) -> anyhow::Result<()> {
        let mut after = (self.span.since, i64::MIN);
        loop {
            let page = self.store.audit_others(after, self.span.until, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.at, last.id);
            let read: Vec<(StoredAudit, Value)> = page.into_iter().map(|row| (body(&row), row)).map(|(body, row)| (row, body)).collect();
            let theirs = self.messages_of_patients(&read).await?;
            for (row, body) in read {
                let is_theirs = |message: &JournalId| theirs.contains(message);
                self.n_closed += usize::from(self.user.is_some() && row.body.is_none() && self.has_kind(&row.kind));
                // Whoever took the trail out has all that it says of any room.
                let of_subject = self.subject.rooms.as_ref().is_none_or(|rooms| rooms_of(&row, &body).any(|room| rooms.contains(&room)))
                    || messages_of(&row, &body).iter().any(is_theirs)
                    || row.kind == viewing::EXPORTED;
                if of_subject && self.has_kind(&row.kind) && self.user.is_none_or(|user| is_by(&body, user) || is_about(&body, user)) {
                    self.newest.add(row.at, row.id, Hit::Other(Box::new(row)), self.limit);
                }
            }
        }
    }

    async fn messages_of_patients(&self, rows: &[(StoredAudit, Value)]) -> anyhow::Result<BTreeSet<JournalId>> {
        let messages: Vec<JournalId> = rows.iter().flat_map(|(row, body)| messages_of(row, body)).collect();
        if self.subject.patients.is_empty() || messages.is_empty() {
            return Ok(BTreeSet::new());
        }
        Ok(self.store.messages_of_patients(&messages, &self.subject.patients).await?)
    }

    /// Changes of these rooms.
    async fn seek_in(&mut self, rooms: BTreeSet<CareRoomId>) -> anyhow::Result<()> {
        let bar = self.console.progress(rooms.len(), "rooms");
        for room in rooms {
            for entry in timeline::entries(room, self.store).await? {
                let kind = entry.event_type.as_str();
                if self.span.holds(entry.at) && self.has_kind(kind) && self.user.is_none_or(|user| entry.concerns(user)) {
                    self.newest.add(entry.at, entry.id, Hit::Change { room, kind: kind.to_owned() }, self.limit);
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Changes of any room, from what stands in the clear.
    async fn seek_marks(&mut self) -> anyhow::Result<()> {
        let bar = self.bar().await?;
        let mut after = i64::MIN;
        while let Some(step) = self.store.audit_marks(self.span, after).await? {
            after = step.last;
            for mark in step.rows {
                if self.has_kind(&mark.kind) {
                    self.newest.add(mark.at, mark.id, Hit::Change { room: mark.room_id, kind: mark.kind }, self.limit);
                }
            }
            bar.inc(step.n_read);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The rooms that a user may ever have been in. Whoever leaves a room is not in the row that says so, so every row before the end counts.
    async fn rooms_naming(&mut self, user: &str) -> anyhow::Result<BTreeSet<CareRoomId>> {
        let name = serde_json::to_string(user).context("cannot write JSON")?;
        let (finder, before) = (Finder::new(&name), Span { since: Timestamp::MIN, ..self.span });
        let bar = self.bar().await?;
        let (mut rooms, mut after) = (BTreeSet::new(), i64::MIN);
        while let Some(step) = self.store.audit_changes(before, after).await? {
            after = step.last;
            self.n_closed += step.rows.iter().filter(|row| row.body.is_none() && self.span.holds(row.at) && self.has_kind(&row.kind)).count();
            let names = |row: &StoredAudit| row.body.as_ref().is_some_and(|body| finder.find(&body.bytes).is_some());
            rooms.extend(step.rows.into_iter().filter(names).filter_map(|row| row.room_id));
            bar.inc(step.n_read);
        }
        bar.finish_and_clear();
        Ok(rooms)
    }

    async fn bar(&self) -> anyhow::Result<ProgressBar> {
        let n_rows = usize::try_from(self.store.n_audit_rows().await?).unwrap_or(usize::MAX);
        Ok(self.console.progress(n_rows, "audit rows"))
    }

    /// The rows that are shown, the newest first, with what they say.
    async fn rows(&mut self) -> anyhow::Result<Vec<Row>> {
        let hits = std::mem::take(&mut self.newest.rows);
        let mut wanted: BTreeMap<CareRoomId, BTreeSet<i64>> = BTreeMap::new();
        for ((_, id), hit) in &hits {
            if let Hit::Change { room, .. } = hit {
                wanted.entry(*room).or_default().insert(*id);
            }
        }
        let mut entries: BTreeMap<i64, Entry> = BTreeMap::new();
        for (room, ids) in wanted {
            let all = timeline::entries(room, self.store).await?.into_iter().filter(|entry| ids.contains(&entry.id));
            entries.extend(all.map(|entry| (entry.id, if let Some(user) = self.user { entry.only(user) } else { entry })));
        }
        let row = |((at, id), hit)| match hit {
            Hit::Change { room, kind } => {
                let entry = entries.remove(&id).filter(|entry| entry.is_readable);
                let message = entry.as_ref().and_then(|entry| entry.message);
                Row { id, at, kind, room: Some(room), message, told: entry.map_or(Told::Closed, |entry| Told::Change(Box::new(entry))) }
            }
            Hit::Other(row) => {
                let told = if row.body.is_some() { Told::Other(body(&row)) } else { Told::Closed };
                Row { id, at, kind: row.kind, room: row.room_id, message: row.journal_id, told }
            }
        };
        Ok(hits.into_iter().rev().map(row).collect())
    }
}

/// What a row says, where it is readable; nothing else.
fn body(row: &StoredAudit) -> Value {
    row.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok()).unwrap_or_default()
}

/// The rooms that a row which is no change of a room tells of.
fn rooms_of<'a>(row: &'a StoredAudit, body: &'a Value) -> impl Iterator<Item = CareRoomId> + 'a {
    let listed = list(body, "/rooms").filter_map(|room| room.as_str()?.parse().ok().map(CareRoomId));
    row.room_id.into_iter().chain(listed)
}

/// The messages that it tells of.
fn messages_of(row: &StoredAudit, body: &Value) -> Vec<JournalId> {
    let of_order = body.pointer("/order/message").into_iter().chain(list(body, "/order/messages"));
    let listed = list(body, "/messages").chain(of_order).filter_map(Value::as_i64).map(JournalId);
    row.journal_id.into_iter().chain(listed).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Who did it, in a row which is no change of a room: the login, which is a claim, and the uid.
fn who(body: &Value) -> (Option<&str>, Option<u64>) {
    let by = body.pointer("/by").unwrap_or(body);
    (by.pointer("/login").and_then(Value::as_str), by.pointer("/uid").and_then(Value::as_u64))
}

fn is_by(body: &Value, user: &str) -> bool {
    let (login, uid) = who(body);
    login == Some(user) || uid.is_some_and(|uid| uid.to_string() == user)
}

/// Whether it was an order to let somebody into a room, or out again.
fn is_about(body: &Value, user: &str) -> bool {
    text(body, "/order/user") == user
}

fn show(rows: &[Row], n_fitting: usize, n_closed: usize, names_user: bool, console: &Console) -> anyhow::Result<()> {
    if console.json {
        let document = json!({ "fitting": n_fitting, "closed": n_closed, "rows": rows.iter().map(Row::form).collect::<Vec<_>>() });
        console.out(&serde_json::to_string_pretty(&document).context("cannot write JSON")?)?;
    } else if !rows.is_empty() {
        let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
        for (index, line) in table(&["time", "action", "room", "by", "what"], &cells, console.columns()).iter().enumerate() {
            console.out(&if index == 0 { console.bold(line) } else { line.clone() })?;
        }
    }
    if rows.is_empty() {
        let hint =
            "\nhint: a user is meant as `rooms show` shows them, letter for letter; who looked or ordered, by their login or uid, as in `--user 0`";
        console.tell(&format!("nothing in the audit trail fits{}", if names_user { hint } else { "" }));
    } else if rows.len() < n_fitting {
        console.tell(&format!("the newest {} of {n_fitting} rows that fit; --limit shows more, and --until what is older", rows.len()));
    }
    Ok(())
}

impl Row {
    fn form(&self) -> Value {
        let version = if let Told::Change(entry) = &self.told { Some(entry.version) } else { None };
        let details = match &self.told {
            Told::Change(entry) => {
                let mut form = timeline::form(entry);
                if let Some(fields) = form.as_object_mut() {
                    fields.retain(|name, _| !["at", "type", "version"].contains(&name.as_str()));
                }
                form
            }
            Told::Other(body) => body.clone(),
            Told::Closed => Value::Null,
        };
        json!({
            "id": self.id,
            "at": self.at.to_string(),
            "action": self.kind,
            "room": self.room,
            "version": version,
            "message": self.message.map(|message| message.to_string()),
            "details": details,
        })
    }

    fn cells(&self) -> Vec<String> {
        let (by, what) = match &self.told {
            Told::Change(entry) => (entry.reason(), timeline::comings(entry).join("; ")),
            Told::Other(body) => {
                let by = match who(body) {
                    (Some(login), Some(uid)) => format!("{login} ({uid})"),
                    (Some(login), None) => login.to_owned(),
                    (None, uid) => uid.map(|uid| format!("uid {uid}")).unwrap_or_default(),
                };
                (by, done(body))
            }
            Told::Closed => (String::new(), "deleted with its patient, or not readable; `wardroom audit verify` tells which".to_owned()),
        };
        let time = self.at.to_jiff().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        // A row that somebody changed may say anything.
        vec![time, printable(&self.kind), self.room.map(|room| room_code(room).to_string()).unwrap_or_default(), printable(&by), printable(&what)]
    }
}

/// An order as the command that gives it.
fn as_typed(order: &str) -> &str {
    match order {
        "undo_merge" => "merge undo",
        "retry" => "quarantine retry",
        "discard" => "quarantine discard",
        "release_guard" => "guard release",
        "resync_next" => "resync --all",
        "new_epoch" => "resync --new-epoch",
        other => other,
    }
}

/// What somebody did, in words: `rooms list: QXKD, BNTR`.
fn done(body: &Value) -> String {
    let asked: Option<Asked> = body.pointer("/asked").and_then(|asked| serde_json::from_value(asked.clone()).ok());
    let command = format!("{}{}", text(body, "/command"), asked.map(|asked| asked.arguments()).unwrap_or_default());
    let order = as_typed(text(body, "/order/order"));
    let rooms: Vec<CareRoomId> = list(body, "/rooms").filter_map(|room| room.as_str()?.parse().ok().map(CareRoomId)).collect();
    let mut named: Vec<String> = rooms.iter().take(ROOMS_NAMED).map(|room| room_code(*room).to_string()).collect();
    if rooms.len() > ROOMS_NAMED {
        named.push(format!("and {} more", rooms.len() - ROOMS_NAMED));
    }
    let messages = list(body, "/messages").chain(list(body, "/order/messages")).chain(body.pointer("/order/message"));
    named.extend(messages.filter_map(Value::as_i64).map(|message| format!("message {message}")));
    let user = text(body, "/order/user");
    if !user.is_empty() {
        let span = body.pointer("/order/seconds").and_then(Value::as_i64).map(SignedDuration::from_secs);
        named.push(span.map_or_else(|| user.to_owned(), |span| format!("{user} for {span:#}")));
    }
    if let Some(went) = body.get("went") {
        let n = |what: &str| went.get(what).and_then(Value::as_u64).unwrap_or_default();
        let parts = ["stays", "rooms", "patients", "messages"].map(|what| format!("{} {what}", n(what)));
        named.push(format!("{}, what ended before {}", parts.join(", "), moment(text(body, "/ended_before"))));
    }
    let reason = text(body, "/order/reason");
    let said = command + order;
    let named = if named.is_empty() { said } else { format!("{said}: {}", named.join(", ")) };
    if reason.is_empty() { named } else { format!("{named} ({reason})") }
}
