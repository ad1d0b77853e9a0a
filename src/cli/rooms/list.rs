//! `wardroom rooms list`: the rooms, one a line.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;
use serde_json::json;

use crate::care::room::RoomStatus;
use crate::cli::console::Console;
use crate::cli::rooms::StoredRoom;
use crate::cli::rooms::all;
use crate::cli::rooms::moment;
use crate::cli::story::list;
use crate::cli::story::place;
use crate::cli::story::text;
use crate::cli::table::table;
use crate::cli::viewing;
use crate::cli::viewing::Seen;
use crate::store::Store;

const STATUSES: [RoomStatus; 9] = [
    RoomStatus::Expected,
    RoomStatus::Active,
    RoomStatus::OnLeave,
    RoomStatus::Grace,
    RoomStatus::Closed,
    RoomStatus::Cancelled,
    RoomStatus::Merged,
    RoomStatus::Held,
    RoomStatus::Purged,
];

/// Which rooms.
#[derive(clap::Args, Debug)]
pub(super) struct ListArgs {
    /// Only rooms of this status: expected, active, `on_leave`, grace, closed, cancelled, merged, held, purged
    #[arg(long, value_parser = status, conflicts_with = "all")]
    status: Option<RoomStatus>,
    /// Only rooms of this facility
    #[arg(long)]
    facility: Option<String>,
    /// Closed ones too
    #[arg(long)]
    all: bool,
}

fn status(word: &str) -> Result<RoomStatus, String> {
    let known = STATUSES.into_iter().find(|status| status.as_str() == word);
    known.ok_or_else(|| format!("there are {}", STATUSES.map(RoomStatus::as_str).join(", ")))
}

impl ListArgs {
    fn wants(&self, stored: &StoredRoom) -> bool {
        let state = &stored.room.state;
        let by_status = self.status.map_or_else(|| self.all || state.status.is_open(), |status| state.status == status);
        by_status && self.facility.as_ref().is_none_or(|facility| state.facility.as_str() == facility)
    }
}

pub(super) async fn run(args: &ListArgs, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let mut rooms: Vec<StoredRoom> = all(store).await?.into_iter().filter(|stored| args.wants(stored)).collect();
    rooms.sort_by(|one, other| one.room.state.name.cmp(&other.room.state.name));
    viewing::record(store, "rooms list", Seen::Rooms(rooms.iter().map(|stored| stored.room.id).collect())).await?;
    let shown: Vec<Value> = rooms.iter().map(StoredRoom::json).collect::<Result<_, _>>()?;
    if console.json {
        console.out(&serde_json::to_string_pretty(&json!({ "rooms": shown })).context("cannot write JSON")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if rooms.is_empty() {
        console.tell(if args.all || args.status.is_some() { "no room" } else { "no room is open; --all shows the others too" });
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = rooms.iter().zip(&shown).map(|(stored, room)| row(stored, room)).collect();
    let lines = table(&["name", "status", "place", "patient", "members", "since", "updated", "version", "id"], &rows, console.columns());
    for (index, line) in lines.iter().enumerate() {
        console.out(&if index == 0 { console.bold(line) } else { line.clone() })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(stored: &StoredRoom, room: &Value) -> Vec<String> {
    let facility = text(room, "/location/facility");
    let spot = place(room.pointer("/location"));
    let patient = text(room, "/patient/display");
    vec![
        text(room, "/name").to_owned(),
        text(room, "/status").to_owned(),
        if facility.is_empty() { spot } else { format!("{facility} {spot}") },
        if patient.is_empty() { "—".to_owned() } else { patient.to_owned() },
        list(room, "/members").count().to_string(),
        moment(text(room, "/visit/admitted_at")),
        moment(&stored.updated_at.to_string()),
        stored.room.version.to_string(),
        stored.room.id.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn a_status_is_one_of_those_there_are() {
        assert_eq!(status("grace").unwrap().as_str(), "grace");
        assert!(status("open").unwrap_err().contains("active"));
    }
}
