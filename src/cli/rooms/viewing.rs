//! The record of who looked at what, and who said what from beside the daemon.

use std::os::unix::fs::MetadataExt as _;

use anyhow::Context as _;
use serde::Serialize;

use crate::config::environment::Environment;
use crate::ids::CareRoomId;
use crate::store::Store;
use crate::store::rows::AuditRow;
use crate::store::sealing::Document;
use crate::time::Clock as _;
use crate::time::SystemClock;

/// The kind of the audit row of somebody who looked at rooms.
pub(crate) const VIEWED: &str = "rooms.viewed";

#[derive(Serialize)]
struct Viewing<'a> {
    command: &'a str,
    /// The user of the operating system, which nobody can make up.
    uid: u32,
    /// The name that the session goes by; a claim.
    login: Option<String>,
    rooms: Vec<CareRoomId>,
}

/// Writes down that somebody does something of this kind with these rooms, before they do.
///
/// # Errors
/// When it cannot be written; then nothing may be shown or done.
pub(crate) async fn record(store: &Store, kind: &str, command: &str, rooms: Vec<CareRoomId>) -> anyhow::Result<()> {
    let only = if let [room] = rooms.as_slice() { Some(*room) } else { None };
    let environment = Environment::of_process();
    let login = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| environment.value(name)).map(str::to_owned);
    let viewing = Viewing { command, uid: uid().context("cannot say who you are")?, login, rooms };
    let row = AuditRow {
        at: SystemClock.now(),
        kind: kind.to_owned(),
        room_id: only,
        room_version: None,
        journal_id: None,
        key: None,
        body: Document::new(1, serde_json::to_vec(&viewing).context("cannot write JSON")?),
    };
    store.append_audit(vec![row]).await.context("cannot write down who asks, so nothing is shown or done")
}

/// The user this process runs as: the owner of a file it has just made.
fn uid() -> std::io::Result<u32> {
    Ok(tempfile::tempfile()?.metadata()?.uid())
}
