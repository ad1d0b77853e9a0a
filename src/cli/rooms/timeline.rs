//! `wardroom rooms timeline`: what became of a room, change by change, from the audit trail.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::care::change::EventType;
use crate::cli::console::Console;
use crate::cli::rooms::StoredRoom;
use crate::cli::rooms::moment;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::Store;
use crate::store::rows::StoredAudit;
use crate::time::Timestamp;

/// How many audit rows are read at once.
const PAGE: i64 = 1000;

/// What an audit row tells of a change of a room.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    cause: String,
    trigger: Option<String>,
    feed: Option<String>,
    /// Who was in the room after it, and on what.
    members: Vec<(String, Vec<String>)>,
}

/// One change of a room.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) version: i64,
    pub(super) at: Timestamp,
    pub(super) event_type: EventType,
    pub(super) message: Option<JournalId>,
    pub(super) cause: String,
    pub(super) trigger: Option<String>,
    pub(super) feed: Option<String>,
    /// Who came, and on what.
    pub(super) joined: Vec<(String, Vec<String>)>,
    /// Who went.
    pub(super) left: Vec<String>,
    /// False when what is known of it was deleted with its patient.
    pub(super) is_readable: bool,
}

impl Entry {
    /// `A02 on main`, or what else caused it.
    pub(super) fn reason(&self) -> String {
        match (&self.trigger, &self.feed) {
            (Some(trigger), Some(feed)) => format!("{trigger} on {feed}"),
            (Some(trigger), None) => trigger.clone(),
            (None, _) => match self.cause.as_str() {
                "wake" => "time passed".to_owned(),
                "directory" => "staff or units changed".to_owned(),
                "policy" => "the configuration changed".to_owned(),
                cause => cause.to_owned(),
            },
        }
    }
}

/// Every change of a room that was published, in order.
pub(super) async fn entries(room: CareRoomId, store: &Store) -> anyhow::Result<Vec<Entry>> {
    let mut rows = Vec::new();
    let mut after = i64::MIN;
    loop {
        let page = store.audit_page(Some(room), after, PAGE).await?;
        let Some(last) = page.last() else { return told(rows) };
        after = last.id;
        rows.extend(page);
    }
}

/// Replicas write chains of their own, so the room's version is the order, not the row.
fn told(rows: Vec<StoredAudit>) -> anyhow::Result<Vec<Entry>> {
    let changes = rows.into_iter().filter_map(|row| Some((row.room_version?, EventType::parse(&row.kind)?, row)));
    let changes: BTreeMap<i64, (EventType, StoredAudit)> = changes.map(|(version, event_type, row)| (version, (event_type, row))).collect();
    let mut present: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut entries = Vec::with_capacity(changes.len());
    for (version, (event_type, row)) in changes {
        let body: Option<Body> = row.body.as_ref().map(|body| serde_json::from_slice(&body.bytes)).transpose().context("an audit row is not JSON")?;
        let is_readable = body.is_some();
        let body = body.unwrap_or_default();
        let members: BTreeMap<String, Vec<String>> = if is_readable { body.members.into_iter().collect() } else { present.clone() };
        entries.push(Entry {
            version,
            at: row.at,
            event_type,
            message: row.journal_id,
            cause: body.cause,
            trigger: body.trigger,
            feed: body.feed,
            joined: members.iter().filter(|(user, _)| !present.contains_key(*user)).map(|(user, from)| (user.clone(), from.clone())).collect(),
            left: present.keys().filter(|user| !members.contains_key(*user)).cloned().collect(),
            is_readable,
        });
        present = members;
    }
    Ok(entries)
}

pub(super) async fn run(stored: &StoredRoom, store: &Store, console: &Console) -> anyhow::Result<()> {
    let entries = entries(stored.room.id, store).await?;
    if console.json {
        let document = json!({ "room": stored.room.id, "entries": entries.iter().map(form).collect::<Vec<_>>() });
        return console.out(&serde_json::to_string_pretty(&document).context("cannot write JSON")?);
    }
    console.out(&format!("{}  {}", console.bold(stored.room.state.name.as_str()), console.dim(&stored.room.id.to_string())))?;
    for entry in &entries {
        let cause = if entry.is_readable { entry.reason() } else { "deleted with its patient".to_owned() };
        let message = entry.message.map(|message| console.dim(&format!("  message {message}"))).unwrap_or_default();
        console.out(&format!(
            "  {}  v{:<3} {} {cause}{message}",
            moment(&entry.at.to_string()),
            entry.version,
            console.paint_event(entry.event_type)
        ))?;
        for line in comings(entry) {
            console.out(&format!("                          {line}"))?;
        }
    }
    Ok(())
}

/// Who came and who went, those on the same grounds together.
fn comings(entry: &Entry) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (user, from) in &entry.joined {
        groups.entry(from.join(", ")).or_default().push(user);
    }
    let joined = groups.into_iter().map(|(from, users)| format!("+ {} ({from})", users.join(", ")));
    let left = (!entry.left.is_empty()).then(|| format!("- {}", entry.left.join(", ")));
    joined.chain(left).collect()
}

fn form(entry: &Entry) -> Value {
    json!({
        "version": entry.version,
        "at": entry.at.to_string(),
        "type": entry.event_type.as_str(),
        "cause": { "kind": entry.cause, "message": entry.message.map(|message| message.to_string()), "trigger": entry.trigger, "feed": entry.feed },
        "joined": entry.joined.iter().map(|(user, from)| json!({ "user": user, "from": from })).collect::<Vec<_>>(),
        "left": entry.left,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::comings;
    use super::told;
    use crate::ids::CareRoomId;
    use crate::store::rows::StoredAudit;
    use crate::store::sealing::Document;
    use crate::time::Timestamp;

    fn row(id: i64, version: i64, kind: &str, members: &serde_json::Value) -> StoredAudit {
        let body = json!({ "event_type": kind, "cause": "message", "trigger": "A02", "feed": "main", "members": members });
        StoredAudit {
            id,
            at: Timestamp::from_micros(version),
            kind: kind.to_owned(),
            room_id: Some(CareRoomId::default_for_tests()),
            room_version: Some(version),
            journal_id: None,
            body: Some(Document::new(1, body.to_string().into_bytes())),
        }
    }

    #[test]
    fn who_came_and_who_went_is_told_in_the_order_of_versions_whatever_chain_they_stand_in() {
        let unit = json!(["unit GHH/4N"]);
        let rows = vec![
            row(1, 2, "room.updated", &json!([["atembo", ["PV1-7"]], ["cvoss", unit]])),
            row(2, 1, "room.opened", &json!([["plindqvist", ["PV1-7"]], ["cvoss", unit], ["jamadi", unit]])),
            StoredAudit { kind: "rooms.viewed".to_owned(), room_version: None, ..row(3, 9, "x", &json!([])) },
        ];
        let entries = told(rows).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.version).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(comings(&entries[0]), ["+ plindqvist (PV1-7)", "+ cvoss, jamadi (unit GHH/4N)"]);
        assert_eq!(comings(&entries[1]), ["+ atembo (PV1-7)", "- jamadi, plindqvist"]);
        assert_eq!(entries[1].reason(), "A02 on main");
    }

    #[test]
    fn what_was_deleted_with_its_patient_says_nothing_of_who_came() {
        let mut rows = vec![row(1, 1, "room.opened", &json!([["cvoss", ["unit GHH/4N"]]])), row(2, 2, "room.closed", &json!([]))];
        rows[1].body = None;
        let entries = told(rows).unwrap();
        assert!(!entries[1].is_readable && entries[1].left.is_empty());
    }
}
