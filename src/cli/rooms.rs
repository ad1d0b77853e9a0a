//! `wardroom rooms`: what the store knows of the rooms, beside a running daemon.
//!
//! It reads and never plans: what it shows is what was published last. Whoever looks is written into the audit trail before anything is shown; where
//! that cannot be written, nothing is shown.

mod list;
mod show;
pub(super) mod timeline;
mod why;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use jiff::tz::TimeZone;
use serde_json::Value;
use serde_json::json;

use crate::care::grant::Grant;
use crate::care::plan::room_code;
use crate::care::room::CareRoom;
use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::setting::Setting;
use crate::cli::story;
use crate::cli::viewing;
use crate::cli::viewing::Seen;
use crate::ids::CareRoomId;
use crate::intake::guard::Word;
use crate::outbox::envelope::room_json;
use crate::store::Store;
use crate::store::form::RoomSlot;
use crate::store::form::Stored as _;
use crate::store::form::VisitDocument;
use crate::store::rows::Found;
use crate::time::Timestamp;

/// How many rooms are listed that somebody may have meant.
const MOST_LISTED: usize = 20;
/// How many visits are read at once.
const PAGE: i64 = 500;

/// Looks at the rooms, beside a running daemon.
#[derive(clap::Args, Debug)]
pub struct RoomsArgs {
    #[command(subcommand)]
    command: RoomsCommand,
}

#[derive(clap::Subcommand, Debug)]
enum RoomsCommand {
    /// The rooms, one a line; open ones unless told otherwise
    List(list::ListArgs),
    /// Everything about a room
    ///
    /// Since when and until when somebody is in it counts from what the messages say (EVN-2, else MSH-7), not from when they came.
    Show(RoomArgs),
    /// What became of a room, change by change, and who was in it, why, from when and until when
    ///
    /// The times are when wardroom made the change: when the message came, or the time was up. `show` and `why` count from what the messages say, and so
    /// do the ends that are shown here.
    Timeline(RoomArgs),
    /// Why somebody is in a room, or why not
    ///
    /// Since when and until when counts from what the messages say (EVN-2, else MSH-7); when they came is shown beside it.
    Why(WhyArgs),
}

#[derive(clap::Args, Debug)]
struct RoomArgs {
    /// The room's id, the beginning of it, its name, or the four letters at the end of that
    room: String,
}

#[derive(clap::Args, Debug)]
struct WhyArgs {
    #[command(flatten)]
    room: RoomArgs,
    /// The user, as the staff directory names them
    user: String,
}

/// A room as the store has it.
#[derive(Clone, Debug)]
pub(crate) struct StoredRoom {
    /// The row of its visit.
    pub(crate) visit: i64,
    /// As it was published last.
    pub(crate) room: CareRoom,
    /// When its visit was last written.
    pub(crate) updated_at: Timestamp,
    /// Whom operators let in; one may be over by now.
    pub(crate) grants: Vec<Grant>,
}

impl StoredRoom {
    fn is_called(&self, given: &str) -> bool {
        fits(self.room.id, self.room.state.name.as_str(), given)
    }

    /// As it is published, with its epoch, but for whether people were told: that belongs to an event.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        let mut room: Value = serde_json::from_slice(&room_json(&self.room)).context("a room is not JSON")?;
        if let Some(fields) = room.as_object_mut() {
            fields.remove("notify");
            fields.insert("epoch".to_owned(), self.room.epoch.into());
        }
        Ok(room)
    }
}

/// A grant as it stands in JSON.
pub(in crate::cli) fn grant_form(grant: &Grant) -> Value {
    json!({
        "user": grant.user.as_str(),
        "since": grant.since.to_string(),
        "until": grant.until.to_string(),
        "by": { "uid": grant.uid, "login": grant.login },
        "reason": grant.reason.as_str(),
    })
}

/// Who gave an order: `root (0)`.
pub(in crate::cli) fn who_gave(by: Option<&Value>) -> String {
    let login = by.map(|by| story::text(by, "/login")).unwrap_or_default();
    let uid = by.and_then(|by| by.pointer("/uid")).and_then(Value::as_u64).unwrap_or_default();
    if login.is_empty() { format!("uid {uid}") } else { format!("{login} ({uid})") }
}

/// Runs the command.
///
/// # Errors
/// When a stored document cannot be read, or standard output cannot be written.
pub async fn run(args: &RoomsArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let store = match beside::open(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let done = look(args, &setting, &store, console).await;
    // Without that, times that are over would be read as when somebody left.
    if done.is_ok()
        && let Ok(Word::On(since)) = Word::read(&store).await
    {
        console.tell(&format!("leaves and ends have waited since {since}, also those whose time is over; see `wardroom guard status`"));
    }
    beside::close(store, done, console).await
}

async fn look(args: &RoomsArgs, setting: &Setting, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let (command, given) = match &args.command {
        RoomsCommand::List(args) => return list::run(args, store, console).await,
        RoomsCommand::Show(room) => ("rooms show", &room.room),
        RoomsCommand::Timeline(room) => ("rooms timeline", &room.room),
        RoomsCommand::Why(why) => ("rooms why", &why.room.room),
    };
    let room = match named(given, store, console).await? {
        Ok(room) => room,
        Err(code) => return Ok(code),
    };
    viewing::record(store, command, Seen::Rooms(vec![room.room.id])).await?;
    match &args.command {
        RoomsCommand::List(_) => {}
        RoomsCommand::Show(_) => show::run(&room, console)?,
        RoomsCommand::Timeline(_) => timeline::run(&room, store, console).await?,
        RoomsCommand::Why(why) => return why::run(&room, &why.user, setting, store, console).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Every room that was ever published, in the order of their visits.
pub(crate) async fn all(store: &Store) -> anyhow::Result<Vec<StoredRoom>> {
    let mut rooms = Vec::new();
    let mut after = i64::MIN;
    loop {
        let page = store.rooms_page(after, PAGE).await?;
        let Some(last) = page.visits.last() else { return Ok(rooms) };
        after = *last;
        for visit in &page.visits {
            rooms_of(*visit, &page.found, &mut rooms)?;
        }
    }
}

/// The published rooms of one visit's stays.
pub(super) fn rooms_of(visit: i64, found: &Found, rooms: &mut Vec<StoredRoom>) -> anyhow::Result<()> {
    for stored in found.visits.iter().filter(|stored| stored.id == visit) {
        let slots = VisitDocument::read(&stored.doc)?.rooms.into_iter();
        let stored = |slot: RoomSlot| Some(StoredRoom { visit, room: slot.published?, updated_at: stored.updated_at, grants: slot.grants });
        rooms.extend(slots.filter_map(stored));
    }
    Ok(())
}

/// The room that somebody means; what is wrong with it has been said when this gives an exit code.
pub(super) async fn named(given: &str, store: &Store, console: &Console) -> anyhow::Result<Result<Box<StoredRoom>, ExitCode>> {
    let said = match find(store, given).await? {
        Sought::Found(room) => return Ok(Ok(room)),
        Sought::Nothing => {
            let hint =
                "hint: `wardroom rooms list --all` shows every room; name one by its id, the beginning of it, its four letters, or its whole name";
            console.fail(1, &anyhow::anyhow!("no room is called `{given}`\n{hint}"))
        }
        Sought::Several(mut ids) => {
            ids.sort_unstable();
            let listed: Vec<String> = ids.iter().take(MOST_LISTED).map(ToString::to_string).collect();
            let (n_rooms, listed) = (ids.len(), listed.join("\n  "));
            let begins = if n_rooms > MOST_LISTED { format!("the first {MOST_LISTED} are") } else { "they are".to_owned() };
            let hint = "hint: type more of the id; `wardroom rooms list --all` shows every room";
            console.fail(64, &anyhow::anyhow!("`{given}` may be any of {n_rooms} rooms; {begins}\n  {listed}\n{hint}"))
        }
    };
    said.map(Err)
}

/// What was found under what somebody typed.
enum Sought {
    Found(Box<StoredRoom>),
    Nothing,
    Several(Vec<CareRoomId>),
}

async fn find(store: &Store, given: &str) -> anyhow::Result<Sought> {
    if let Ok(id) = given.parse::<uuid::Uuid>()
        && let Some((visit, found)) = store.room_by_id(CareRoomId(id)).await?
    {
        let mut rooms = Vec::new();
        rooms_of(visit, &found, &mut rooms)?;
        if let Some(room) = rooms.into_iter().find(|stored| stored.room.id.0 == id) {
            return Ok(Sought::Found(Box::new(room)));
        }
    }
    let mut rooms: Vec<StoredRoom> = all(store).await?.into_iter().filter(|stored| stored.is_called(given)).collect();
    Ok(match (rooms.pop(), rooms.as_slice()) {
        (None, _) => Sought::Nothing,
        (Some(room), []) => Sought::Found(Box::new(room)),
        (Some(room), others) => Sought::Several(others.iter().map(|other| other.room.id).chain([room.room.id]).collect()),
    })
}

/// Whether a room's id begins like this, or its four letters or its name are this.
fn fits(id: CareRoomId, name: &str, given: &str) -> bool {
    let given = given.trim().to_lowercase();
    let is_said = |known: &str| known.to_lowercase() == given;
    !given.is_empty() && (id.to_string().starts_with(&given) || is_said(&room_code(id)) || is_said(name))
}

/// A time for people, in the zone of this machine.
pub(in crate::cli) fn moment(at: &str) -> String {
    if at.is_empty() { "—".to_owned() } else { story::moment(at, "", &TimeZone::system()) }
}

/// A line of a sheet, unless there is nothing to say.
fn entry(label: &str, value: &str) -> Option<String> {
    (!value.is_empty()).then(|| format!("  {label:<12} {value}"))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::fits;
    use crate::care::plan::room_code;
    use crate::ids::CareRoomId;

    #[test]
    fn a_room_is_named_by_its_id_the_beginning_of_it_its_letters_or_its_name() {
        let id = CareRoomId(Uuid::from_u128(0x0f6e_1c1d_64a4_4d0e_9a3b_3d6f_2b0e_71c5));
        let code = room_code(id);
        for given in ["0f6e1c1d-64a4-4d0e-9a3b-3d6f2b0e71c5", "0F6E", "0f6e1c1d-64", &code, &code.to_lowercase(), "4n 12-A WXYZ"] {
            assert!(fits(id, "4N 12-A WXYZ", given), "{given}");
        }
        for given in ["", "6e1c", "0f6f", " ", "4N 12-A", "WXYZ"] {
            assert!(!fits(id, "4N 12-A WXYZ", given), "{given}");
        }
    }
}
