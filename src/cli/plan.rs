//! `wardroom plan`: what a configuration would change in the rooms now open. It publishes nothing.
//!
//! Every open visit is planned again under the policy, the team rules and the directory of that configuration, page by page, and compared with what is
//! published now: what the daemon does when it starts with it. It changes nothing but the audit trail, which tells who looked; how messages are read is
//! none of it, because what they said is taken as it was read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;

use crate::care::change::EventType;
use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::rooms::moment;
use crate::cli::setting::Setting;
use crate::cli::story::list;
use crate::cli::story::place;
use crate::cli::story::text;
use crate::cli::table::table;
use crate::cli::viewing;
use crate::cli::viewing::Seen;
use crate::cli::words::counted;
use crate::cli::words::counted_as;
use crate::directory::Directory;
use crate::ids::CareRoomId;
use crate::intake::foresee::Foresight;
use crate::intake::guard::at_most;
use crate::intake::staff;
use crate::outbox::envelope::Event;
use crate::store::Store;
use crate::time::Clock as _;
use crate::time::SystemClock;

/// How many visits are planned at once.
const PAGE: i64 = 64;
/// The statuses of rooms that people are in.
const OPEN: [&str; 4] = ["active", "on_leave", "grace", "held"];

/// Says what a configuration would change.
#[derive(clap::Args, Debug)]
pub struct PlanArgs {}

/// Runs the command.
///
/// # Errors
/// When a stored document cannot be read, or standard output cannot be written.
pub async fn run(_: &PlanArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let store = match beside::open(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let done = plan(&setting, &store, console).await;
    beside::close(store, done, console).await
}

async fn plan(setting: &Setting, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let said = staff::stored(store).await?;
    let directory = match Directory::open(setting.sources(), said, SystemClock.now()) {
        Ok((directory, _)) => directory.current(),
        Err(error) => return console.fail(64, &anyhow::Error::new(error)),
    };
    let policy = setting.policy();
    let by_status = store.open_visits_by_status().await?;
    let n_visits: i64 = by_status.iter().map(|(_, n)| n).sum();
    let n_open: i64 = by_status.iter().filter(|(status, _)| OPEN.contains(&status.as_str())).map(|(_, n)| n).sum();
    let progress = console.progress(usize::try_from(n_visits).unwrap_or(usize::MAX), "visits planned");
    let mut rooms: BTreeMap<CareRoomId, Changed> = BTreeMap::new();
    let mut after = i64::MIN;
    loop {
        let page = store.open_visits_page(after, PAGE).await?.visits;
        let Some(last) = page.last() else { break };
        after = *last;
        let foresight = Foresight { store, policy: &policy, directory: &directory, now: SystemClock.now() };
        for event in foresight.of(&page).await? {
            // One that was planned beside another comes again with its own page.
            rooms.insert(event.room_id, Changed::of(&event)?);
        }
        progress.inc(u64::try_from(page.len()).unwrap_or(0));
    }
    progress.finish_and_clear();
    viewing::record(store, "plan", Seen::Rooms(rooms.keys().copied().collect())).await?;
    show(&rooms, n_open, setting.config.rooms.mass_guard, console)?;
    Ok(ExitCode::from(u8::from(!rooms.is_empty())))
}

/// A room that would change.
#[derive(Debug)]
struct Changed {
    /// As it is called now.
    name: String,
    event_type: EventType,
    status: String,
    /// When it would close, where that is known.
    closes_at: String,
    /// How many people messages name for it whom the staff directory would not know.
    n_unresolved: usize,
    changes: Vec<Value>,
}

impl Changed {
    fn of(event: &Event) -> anyhow::Result<Self> {
        let body: Value = serde_json::from_slice(&event.body).context("an event is not JSON")?;
        let changes: Vec<Value> = list(&body, "/data/changes").cloned().collect();
        let before = changes.iter().find(|change| text(change, "/kind") == "name").map(|change| text(change, "/from"));
        let name = before.filter(|name| !name.is_empty()).unwrap_or_else(|| text(&body, "/data/room/name")).to_owned();
        let (status, closes_at) = (text(&body, "/data/room/status").to_owned(), text(&body, "/data/room/closes_at").to_owned());
        let n_unresolved = list(&body, "/data/room/unresolved").count();
        Ok(Self { name, event_type: event.event_type, status, closes_at, n_unresolved, changes })
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.changes.iter().filter(move |change| text(change, "/kind") == kind)
    }

    /// Whether nobody would be in it any more.
    fn closes(&self) -> bool {
        self.of_kind("status").next().is_some() && !OPEN.contains(&self.status.as_str())
    }

    /// Whether it would be new, or be open again.
    fn opens(&self) -> bool {
        matches!(self.event_type, EventType::Opened | EventType::Reopened) && !self.closes()
    }

    /// Everything that would change, under the kind by which it is shown.
    fn lines(&self) -> Vec<(Kind, String)> {
        let mut lines = Vec::new();
        let arrow = |change: &Value| format!("{} → {}", or_dash(text(change, "/from")), or_dash(text(change, "/to")));
        for change in self.of_kind("status") {
            let kind = if self.closes() {
                Kind::Closes
            } else if self.opens() {
                Kind::Opens
            } else {
                Kind::Status
            };
            lines.push((kind, arrow(change)));
        }
        for (kind, of) in [(Kind::Level, "confidentiality"), (Kind::Name, "name")] {
            lines.extend(self.of_kind(of).map(|change| (kind, arrow(change))));
        }
        lines.extend(self.of_kind("location").map(|change| (Kind::Place, moved(change))));
        for (kind, of) in [(Kind::Leaves, "left"), (Kind::Joins, "joined")] {
            let users: Vec<String> = self.of_kind(of).map(|change| format!("{} ({})", text(change, "/user"), text(change, "/rule"))).collect();
            lines.extend((!users.is_empty()).then(|| (kind, users.join(", "))));
        }
        let members: Vec<&str> = self.of_kind("member_updated").map(|change| text(change, "/user")).collect();
        lines.extend((!members.is_empty()).then(|| (Kind::Member, format!("{}: what they may do, as what, or until when", members.join(", ")))));
        let known = ["status", "confidentiality", "name", "location", "left", "joined", "member_updated"];
        let others = self.changes.iter().map(|change| text(change, "/kind")).filter(|kind| !known.contains(kind));
        lines.extend(others.map(|kind| (Kind::Other, self.in_words(kind))));
        if lines.is_empty() {
            lines.push((Kind::Other, "how well the team covers the patient".to_owned()));
        }
        lines
    }

    /// What a change says that comes without a before and an after.
    fn in_words(&self, kind: &str) -> String {
        match kind {
            "visit" if self.closes_at.is_empty() => "what is shown of the visit".to_owned(),
            "visit" => format!("what is shown of the visit, or when the room closes: {}", moment(&self.closes_at)),
            "patient" => "what is shown of the patient, or the flags".to_owned(),
            "unresolved" => match self.n_unresolved {
                0 => "everybody whom messages name is known".to_owned(),
                n => format!("{} whom messages name and the staff directory does not know", counted_as(n, "person", "people")),
            },
            kind => kind.to_owned(),
        }
    }

    fn form(&self, id: CareRoomId) -> Value {
        json!({ "room": id, "name": self.name, "type": self.event_type.as_str(), "status": self.status, "changes": self.changes })
    }
}

/// A kind of change, in the order in which they are shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Closes,
    Opens,
    Status,
    Level,
    Leaves,
    Joins,
    Name,
    Place,
    Member,
    Other,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Closes => "closes",
            Self::Opens => "opens",
            Self::Status => "status",
            Self::Level => "level",
            Self::Leaves => "leave",
            Self::Joins => "join",
            Self::Name => "name",
            Self::Place => "place",
            Self::Member => "member",
            Self::Other => "other",
        }
    }
}

/// From where to where; of a place that stays, how its unit is called.
fn moved(change: &Value) -> String {
    let (from, to) = (place(change.pointer("/from")), place(change.pointer("/to")));
    if from == to {
        return format!("{to}: {} → {}", or_dash(text(change, "/from/unit_name")), or_dash(text(change, "/to/unit_name")));
    }
    format!("{from} → {to}")
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "—" } else { text }
}

fn show(rooms: &BTreeMap<CareRoomId, Changed>, n_open: i64, has_guard: bool, console: &Console) -> anyhow::Result<()> {
    let count = |kind| rooms.values().map(|room| room.of_kind(kind).count()).sum::<usize>();
    let (n_joins, n_leaves) = (count("joined"), count("left"));
    let n_close = rooms.values().filter(|room| room.closes()).count();
    let n_opens = rooms.values().filter(|room| room.opens()).count();
    let may_close = at_most(usize::try_from(n_open).unwrap_or_default());
    let n_held = if has_guard { n_close.saturating_sub(may_close) } else { 0 };
    if console.json {
        let document = json!({
            "open": n_open, "changed": rooms.len(), "joins": n_joins, "leaves": n_leaves, "would_close": n_close, "would_open": n_opens,
            "held_by_the_guard": n_held,
            "rooms": rooms.iter().map(|(id, room)| room.form(*id)).collect::<Vec<_>>(),
        });
        return console.out(&serde_json::to_string_pretty(&document).context("cannot write JSON")?);
    }
    let mut lines: Vec<(Kind, &str, String)> =
        rooms.values().flat_map(|room| room.lines().into_iter().map(|(kind, what)| (kind, room.name.as_str(), what))).collect();
    lines.sort();
    let rows: Vec<Vec<String>> = lines.into_iter().map(|(kind, name, what)| vec![kind.as_str().to_owned(), name.to_owned(), what]).collect();
    if !rows.is_empty() {
        for (index, line) in table(&["change", "room", "what"], &rows, console.columns()).iter().enumerate() {
            console.out(&if index == 0 { console.bold(line) } else { line.clone() })?;
        }
        console.out("")?;
    }
    let counts = [
        (n_joins > 0).then(|| counted(n_joins, "join")),
        (n_leaves > 0).then(|| counted_as(n_leaves, "leave", "leaves")),
        (n_close > 0).then(|| format!("{n_close} would close")),
        (n_opens > 0).then(|| format!("{n_opens} would open")),
    ];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    console.out(&format!("{} of {n_open} would change{counts}", counted(rooms.len(), "room")))?;
    if n_held > 0 {
        console.out(&format!(
            "of those that would close the guard lets {may_close} go; the other {n_held}, and all leaves, would wait until `wardroom guard release`"
        ))?;
    }
    Ok(())
}
