//! The record of who looked at what.

use anyhow::Context as _;
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
}

/// Writes down that somebody looks at something, before they do.
///
/// # Errors
/// When it cannot be written; then nothing may be shown.
pub(super) async fn record(store: &Store, command: &str, seen: Seen) -> anyhow::Result<()> {
    let (kind, rooms, messages) = match seen {
        Seen::Rooms(rooms) => ("rooms.viewed", rooms, Vec::new()),
        Seen::Messages(messages) => ("messages.viewed", Vec::new(), messages),
    };
    let only = if let [room] = rooms.as_slice() { Some(*room) } else { None };
    let message = if let [message] = messages.as_slice() { Some(*message) } else { None };
    let viewing = Viewing { command, by: operator(), rooms, messages };
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
