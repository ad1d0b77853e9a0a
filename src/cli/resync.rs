//! `wardroom resync`: publishes the present state of rooms again, for a backend that lost some, or after the store was restored from a backup.
//!
//! It plans nothing: each room is published as it was published last, as its next version. All of them go through the intake some at a time, and no faster
//! than they are published, so that neither messages nor their events wait long behind them. What was interrupted is repeated from the beginning: a
//! consumer takes a room that it has for what it is.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgGroup;
use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::orders::Orders;
use crate::cli::rooms;
use crate::cli::rooms::StoredRoom;
use crate::cli::setting::Setting;
use crate::cli::words::counted;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::store::Store;
use crate::time::Clock as _;
use crate::time::SystemClock;
use crate::time::Timestamp;

/// How many events may wait for the broker before rooms are added behind them: what a message changes waits for these, and no more.
pub(super) const BACKLOG: i64 = 2_000;
/// How soon it is looked again whether they have become fewer.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long they may go on without becoming fewer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes the present state of rooms again.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("which").required(true).args(["rooms", "all"])))]
pub struct ResyncArgs {
    /// A room: its id, the beginning of it, its name, or the four letters at the end of that; may be given several times
    #[arg(long = "room", value_name = "ROOM")]
    rooms: Vec<String>,
    /// Every room that stands, and those that ended or changed within `rooms.late_window`
    #[arg(long)]
    all: bool,
    /// With --all, where the store was restored from a backup: from now on events carry the next epoch, so that consumers take them for newer than all they have
    #[arg(long, requires = "all", conflicts_with = "rooms")]
    new_epoch: bool,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    n_rooms: usize,
    /// Of how many visits the rooms cannot be read.
    n_left_out: usize,
    /// The epoch, where it was raised.
    epoch: Option<u32>,
}

/// Runs the command.
///
/// # Errors
/// When a stored document cannot be read, or standard output cannot be written.
pub async fn run(args: &ResyncArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let since = SystemClock.now().minus(setting.policy().late_window);
    let store = match beside::open(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let sought = seek(args, since, &store, console).await;
    store.close().await;
    let sought = match sought {
        Ok(Ok(sought)) => sought,
        Ok(Err(code)) => return Ok(code),
        Err(error) => return console.fail(69, &error),
    };
    let (mut orders, mut done) = (Orders::of(&setting), Done::default());
    let carried_out = match sought {
        Sought::Rooms(rooms) => these(&rooms, &mut orders, &mut done).await,
        Sought::All(n_visits) => {
            let most = setting.config.max_pending.map_or(BACKLOG, |max| BACKLOG.min(max / 2));
            all(args.new_epoch, since, n_visits, most, &mut orders, &mut done, console).await
        }
    };
    let waits_for_daemon = carried_out.is_ok() && matches!(orders.n_unpublished().await, Ok(None));
    orders.end().await;
    match carried_out {
        Ok(()) => told(done, waits_for_daemon, console),
        Err((code, error)) => stopped(done, code, &error, console),
    }
}

/// What is to be published again.
enum Sought {
    Rooms(Vec<StoredRoom>),
    /// All rooms, of so many visits.
    All(usize),
}

/// Finds the rooms that were named: all of them, or nothing is done.
async fn seek(args: &ResyncArgs, since: Timestamp, store: &Store, console: &Console) -> anyhow::Result<Result<Sought, ExitCode>> {
    if args.all {
        return Ok(Ok(Sought::All(usize::try_from(store.recent_rooms_count(since).await?)?)));
    }
    let mut found: Vec<StoredRoom> = Vec::new();
    for given in &args.rooms {
        match rooms::named(given, store, console).await? {
            Ok(one) => found.extend(found.iter().all(|other| other.room.id != one.room.id).then_some(*one)),
            Err(code) => return Ok(Err(code)),
        }
    }
    Ok(Ok(Sought::Rooms(found)))
}

async fn these(rooms: &[StoredRoom], orders: &mut Orders<'_>, done: &mut Done) -> Result<(), (u8, anyhow::Error)> {
    for StoredRoom { visit, room, .. } in rooms {
        let outcome = orders.give(Order::Resync { visit: *visit, room: room.id }).await?;
        if outcome == Outcome::NoSuchRoom {
            return Err((69, anyhow::anyhow!("room {} went over to another visit meanwhile\nhint: repeat the command", room.id)));
        }
        let Outcome::Resynced { n_rooms, .. } = outcome else { return Err(not_done()) };
        done.n_rooms += n_rooms;
    }
    Ok(())
}

async fn all(
    new_epoch: bool,
    since: Timestamp,
    n_visits: usize,
    most: i64,
    orders: &mut Orders<'_>,
    done: &mut Done,
    console: &Console,
) -> Result<(), (u8, anyhow::Error)> {
    if new_epoch {
        let Outcome::InEpoch { epoch } = orders.give(Order::NewEpoch).await? else { return Err(not_done()) };
        done.epoch = Some(epoch);
    }
    let progress = console.progress(n_visits, "visits whose rooms are published again");
    let mut after = None;
    loop {
        wait_for_publishing(orders, most).await?;
        let outcome = orders.give(Order::ResyncNext { after, since }).await?;
        let Outcome::Resynced { n_rooms, n_visits, n_left_out, after: next } = outcome else { return Err(not_done()) };
        done.n_rooms += n_rooms;
        done.n_left_out += n_left_out;
        progress.inc(u64::try_from(n_visits).unwrap_or(0));
        if next.is_none() {
            progress.finish_and_clear();
            return Ok(());
        }
        after = next;
    }
}

/// Waits until no more than so many events wait for whoever publishes them.
pub(super) async fn wait_for_publishing(orders: &mut Orders<'_>, most: i64) -> Result<(), (u8, anyhow::Error)> {
    let (mut least, mut since) = (i64::MAX, Instant::now());
    while let Some(n_waiting) = orders.n_unpublished().await?.filter(|n_waiting| *n_waiting > most) {
        if n_waiting < least {
            (least, since) = (n_waiting, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            let waited = PATIENCE.as_secs();
            let why = format!("{n_waiting} events wait to be published and have not become fewer for {waited} seconds, so no more are added");
            return Err((69, anyhow::anyhow!("{why}\nhint: does a daemon run, and what does its `/readyz` say?")));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

fn not_done() -> (u8, anyhow::Error) {
    (69, anyhow::anyhow!("the store could not do it; nothing of this step was changed\nhint: read the daemon's log"))
}

fn told(done: Done, waits_for_daemon: bool, console: &Console) -> anyhow::Result<ExitCode> {
    let Done { n_rooms, n_left_out, epoch } = done;
    if console.json {
        console.out(&json!({ "rooms": n_rooms, "left_out": n_left_out, "epoch": epoch }).to_string())?;
    } else {
        let epoch = epoch.map(|epoch| format!(" in epoch {epoch}")).unwrap_or_default();
        let when = if waits_for_daemon && n_rooms > 0 { ", as soon as a daemon runs" } else { "" };
        console.out(&format!("{} published again{epoch}{when}", counted(n_rooms, "room")))?;
    }
    if n_left_out > 0 {
        let visits = counted(n_left_out, "visit");
        return console.fail(1, &anyhow::anyhow!("the rooms of {visits} could not be published again\nhint: read the daemon's log"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what stopped it, how far it came, and how to go on.
fn stopped(done: Done, code: u8, error: &anyhow::Error, console: &Console) -> anyhow::Result<ExitCode> {
    if let Some(epoch) = done.epoch {
        console.tell(&format!("this is epoch {epoch} from now on: go on with `wardroom resync --all`, without `--new-epoch`"));
    }
    if done.n_rooms > 0 {
        console.tell(&format!("{} published again before it stopped; the command may be repeated", counted(done.n_rooms, "room")));
    }
    console.fail(code, error)
}
