//! The record of who looked at what.

use anyhow::Context as _;
use serde::Deserialize;
use serde::Serialize;

use crate::cli::orders::operator;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::intake::orders::Operator;
use crate::store::Store;
use crate::store::rows::AuditRow;
use crate::store::sealing::Document;
use crate::time::Clock as _;
use crate::time::SystemClock;

/// What somebody looks at.
#[derive(Debug)]
pub(super) enum Seen {
    /// Rooms.
    Rooms(Vec<CareRoomId>),
    /// Messages, as they came.
    Messages(Vec<JournalId>),
    /// Rows of the audit trail: what was asked for, and the rooms that they tell of.
    Audit(Asked, Vec<CareRoomId>),
    /// The audit trail itself, or as much of it as was asked for.
    Trail(Asked),
}

const ROOMS_VIEWED: &str = "rooms.viewed";
const MESSAGES_VIEWED: &str = "messages.viewed";
const SEARCHED: &str = "audit.searched";
/// That the trail was taken out, with all that it says of any room.
pub(super) const EXPORTED: &str = "audit.exported";
/// What the audit trail calls looking.
pub(super) const KINDS: [&str; 4] = [ROOMS_VIEWED, MESSAGES_VIEWED, SEARCHED, EXPORTED];

/// What somebody asked the audit trail for, as they typed it. Sealed like the rest of a row: it may name a patient.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) room: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
}

impl Asked {
    /// As arguments of the command.
    pub(super) fn arguments(&self) -> String {
        let Self { room, visit, patient, user, action, since, until } = self;
        let all = [("room", room), ("visit", visit), ("patient", patient), ("user", user), ("action", action), ("since", since), ("until", until)];
        all.into_iter().filter_map(|(name, value)| Some(format!(" --{name} {}", value.as_ref()?))).collect()
    }
}

#[derive(Serialize)]
struct Viewing<'a> {
    command: &'a str,
    #[serde(flatten)]
    by: Operator,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<CareRoomId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<JournalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
}

/// Writes down that somebody looks at something, before they do.
///
/// # Errors
/// When it cannot be written; then nothing may be shown.
pub(super) async fn record(store: &Store, command: &str, seen: Seen) -> anyhow::Result<()> {
    let (kind, rooms, messages, asked) = match seen {
        Seen::Rooms(rooms) => (ROOMS_VIEWED, rooms, Vec::new(), None),
        Seen::Messages(messages) => (MESSAGES_VIEWED, Vec::new(), messages, None),
        Seen::Audit(asked, rooms) => (SEARCHED, rooms, Vec::new(), Some(asked)),
        Seen::Trail(asked) => (EXPORTED, Vec::new(), Vec::new(), Some(asked)),
    };
    let only = if let [room] = rooms.as_slice() { Some(*room) } else { None };
    let message = if let [message] = messages.as_slice() { Some(*message) } else { None };
    let viewing = Viewing { command, by: operator(), rooms, messages, asked };
    let row = AuditRow {
        at: SystemClock.now(),
        kind: kind.to_owned(),
        room_id: only,
        room_version: None,
        made_for: None,
        journal_id: message,
        key: None,
        body: Document::new(1, serde_json::to_vec(&viewing).context("cannot write JSON")?),
    };
    store.append_audit(vec![row]).await.context("cannot write down who looks, so nothing is shown")
}
