//! `wardroom purge`: deletes what ended longer ago than `rooms.purge_after`, now; the daemon does the same every day.
//!
//! It goes through the intake some stays at a time, so that messages hardly wait, and no faster than the backend is told of the rooms that go. What is
//! purged is purged: interrupted, it is taken up by repeating it. A dry run opens the store to read, beside whoever has it, and counts.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use foldhash::HashSet;
use jiff::SignedDuration;
use serde_json::json;

use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::orders::Orders;
use crate::cli::resync::BACKLOG;
use crate::cli::resync::wait_for_publishing;
use crate::cli::rooms::moment;
use crate::cli::setting::Setting;
use crate::cli::setting::feed;
use crate::cli::words::counted;
use crate::intake::look_ups::LookUps;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::intake::retention::Finder;
use crate::intake::retention::Place;
use crate::intake::retention::Purged;
use crate::store::Store;
use crate::time::Clock as _;
use crate::time::SystemClock;
use crate::time::Timestamp;

/// Deletes what ended longer ago than `rooms.purge_after`.
#[derive(Args, Debug)]
pub struct PurgeArgs {
    /// Say how much would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete also what the daemon on this store keeps for longer than this configuration says
    #[arg(long)]
    sooner: bool,
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(args: &PurgeArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let until = SystemClock.now().minus(setting.config.rooms.purge_after);
    let store = match beside::open_read_only(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let counted = if args.dry_run { count(&setting, &store, until, console).await } else { Ok(None) };
    let n_over = store.over_visits_count(until).await;
    store.close().await;
    let n_over = match (counted, n_over) {
        (Ok(Some(would_go)), _) => return told(&would_go, until, Told::WouldGo, console),
        (Ok(None), Ok(n_over)) => usize::try_from(n_over).unwrap_or(0),
        (Err(error), _) => return console.fail(69, &error),
        (Ok(None), Err(error)) => return console.fail(69, &anyhow::Error::new(error).context("cannot read the store")),
    };
    let most = setting.config.max_pending.map_or(BACKLOG, |max| BACKLOG.min(max / 2));
    let (mut orders, mut purged) = (Orders::of(&setting), Purged::default());
    let carried_out = purge((until, args.sooner), n_over, most, &mut orders, &mut purged, console).await;
    let waits_for_daemon = carried_out.is_ok() && purged.rooms > 0 && matches!(orders.n_unpublished().await, Ok(None));
    orders.end().await;
    match carried_out {
        Ok(()) if waits_for_daemon => told(&purged, until, Told::GoneOnceADaemonRuns, console),
        Ok(()) => told(&purged, until, Told::Gone, console),
        Err((code, error)) => {
            if !purged.is_nothing() {
                console.tell(&format!("{} purged before it stopped; the command may be repeated", what(&purged)));
            }
            console.fail(code, &error)
        }
    }
}

async fn count(setting: &Setting, store: &Store, until: Timestamp, console: &Console) -> anyhow::Result<Option<Purged>> {
    let feeds: HashMap<_, _> = setting.config.feeds.iter().map(|config| (config.name.clone(), Arc::new(feed(config)))).collect();
    let look_ups = LookUps::of(store.clone());
    let progress = console.progress(usize::try_from(store.over_visits_count(until).await?)?, "stays looked at");
    let mut finder = Finder { store, look_ups: &look_ups, feeds: &feeds, until, gone: HashSet::default() };
    let counted = finder.count(|so_far| progress.set_position(u64::try_from(so_far.visits + so_far.waiting).unwrap_or(0))).await;
    progress.finish_and_clear();
    Ok(Some(counted?))
}

async fn purge(
    (until, sooner): (Timestamp, bool),
    n_over: usize,
    most: i64,
    orders: &mut Orders<'_>,
    purged: &mut Purged,
    console: &Console,
) -> Result<(), (u8, anyhow::Error)> {
    let progress = console.progress(n_over, "stays purged");
    let mut place = Some(Place::START);
    while let Some(at) = place {
        wait_for_publishing(orders, most).await?;
        let outcome = orders.give(Order::Purge { until, place: at, is_daily: false, sooner }).await?;
        if let Outcome::KeptLonger { seconds } = outcome {
            let keeps = SignedDuration::try_from(Duration::from_secs(seconds)).unwrap_or_default();
            return Err((
                64,
                anyhow::anyhow!(
                    "the daemon on this store keeps stays for {keeps:#} (`rooms.purge_after`), which is longer than this configuration does; nothing was deleted\n\
                     hint: name the daemon's configuration with `--config`, or say `--sooner`"
                ),
            ));
        }
        let Outcome::Purged { purged: step, next } = outcome else {
            return Err((69, anyhow::anyhow!("the store could not do it; nothing of this step was changed\nhint: read the daemon's log")));
        };
        purged.add(&step);
        progress.set_position(u64::try_from(purged.visits + purged.waiting).unwrap_or(0));
        place = next;
    }
    progress.finish_and_clear();
    Ok(())
}

/// What is told of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    WouldGo,
    Gone,
    /// The backend does not know yet.
    GoneOnceADaemonRuns,
}

/// `2 stays with 1 room, 1 patient and 7 messages`.
fn what(purged: &Purged) -> String {
    let Purged { visits, rooms, patients, messages, .. } = *purged;
    let (stays, rooms) = (counted(visits, "stay"), counted(rooms, "room"));
    format!("{stays} with {rooms}, {} and {}", counted(patients, "patient"), counted(messages, "message"))
}

fn told(purged: &Purged, until: Timestamp, told: Told, console: &Console) -> anyhow::Result<ExitCode> {
    let Purged { visits, rooms, patients, messages, waiting, left_out, oldest, newest } = *purged;
    if console.json {
        let document = json!({
            "dry_run": told == Told::WouldGo,
            "until": until.to_string(),
            "stays": visits,
            "rooms": rooms,
            "patients": patients,
            "messages": messages,
            "waiting": waiting,
            "left_out": left_out,
            "oldest": oldest.map(|at| at.to_string()),
            "newest": newest.map(|at| at.to_string()),
        });
        console.out(&document.to_string())?;
    } else {
        for line in lines(purged, until, told) {
            console.out(&line)?;
        }
    }
    if left_out > 0 {
        let visits = counted(left_out, "stay");
        return console.fail(1, &anyhow::anyhow!("{visits} cannot be read and stayed\nhint: read the daemon's log"));
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(purged: &Purged, until: Timestamp, told: Told) -> Vec<String> {
    let shown = |at: Timestamp| moment(&at.to_string());
    let until = shown(until);
    let mut lines = match told {
        Told::WouldGo => vec![format!("{} would go: what ended before {until}", what(purged))],
        Told::Gone => vec![format!("{} purged: what ended before {until}", what(purged))],
        Told::GoneOnceADaemonRuns => {
            vec![format!("{} purged: what ended before {until}; the backend is told as soon as a daemon runs", what(purged))]
        }
    };
    if let Some((oldest, newest)) = purged.oldest.zip(purged.newest) {
        lines.push(format!("the first of them ended {}, the last {}", shown(oldest), shown(newest)));
    }
    if purged.waiting > 0 {
        let stays = counted(purged.waiting, "stay");
        lines.push(format!(
            "{stays} whose time is over must wait: for an event, for a message in quarantine, or for another stay that was merged with it"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::Told;
    use super::lines;
    use crate::intake::retention::Purged;
    use crate::time::Timestamp;

    #[test]
    fn what_went_is_counted_and_what_could_not_go_is_told() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let purged = Purged { visits: 2, rooms: 1, patients: 1, messages: 7, waiting: 1, left_out: 0, oldest: Some(at(1)), newest: Some(at(2)) };
        let shown = |seconds: i64| super::moment(&at(seconds).to_string());
        let expected = [
            &format!("2 stays with 1 room, 1 patient and 7 messages would go: what ended before {}", shown(9)),
            &format!("the first of them ended {}, the last {}", shown(1), shown(2)),
            "1 stay whose time is over must wait: for an event, for a message in quarantine, or for another stay that was merged with it",
        ];
        assert_eq!(lines(&purged, at(9), Told::WouldGo), expected);
        let none = lines(&Purged::default(), at(9), Told::Gone);
        assert_eq!(none, [format!("0 stays with 0 rooms, 0 patients and 0 messages purged: what ended before {}", shown(9))]);
    }
}
