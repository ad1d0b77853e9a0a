//! `wardroom ledger`: is every message that was accepted in one terminal state, and every event confirmed, waiting or set aside?
//!
//! It reads the store, also beside a running daemon, and changes nothing. It shows counts only, and looks at no content: that is `audit verify`'s.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::instant::instant;
use crate::cli::setting::Setting;
use crate::cli::table::table;
use crate::intake::ledger::FeedLedger;
use crate::intake::ledger::Ledger;
use crate::intake::ledger::draw_up;
use crate::store::ledger::Look;
use crate::time::Timestamp;

/// Accepted messages against the sum of their terminal states
#[derive(clap::Args, Debug)]
pub struct LedgerArgs {
    /// Leave out messages that came before this hour (RFC 3339, or a date in the machine's time zone); events are always counted all
    #[arg(long, value_name = "T", value_parser = instant)]
    since: Option<Timestamp>,
}

/// Runs the command: 0 it balances, 1 it does not.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(args: &LedgerArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let store = match beside::open(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let recount = store.recount(args.since, Look::Thorough).await;
    store.close().await;
    let recount = match recount {
        Ok(recount) => recount,
        Err(error) => return console.fail(69, &anyhow::Error::new(error).context("cannot read the store")),
    };
    let ledger = draw_up(&recount, setting.meant_events());
    if console.json {
        console.out(&serde_json::to_string_pretty(&ledger)?)?;
    } else {
        print(&ledger, console)?;
    }
    Ok(ExitCode::from(u8::from(!ledger.balanced)))
}

fn print(ledger: &Ledger, console: &Console) -> anyhow::Result<()> {
    let row = |of: &FeedLedger, name: &str| {
        let FeedLedger { accepted, applied, noop, duplicate, quarantined, rejected, purged, unaccounted, .. } = of;
        let counts = [accepted, applied, noop, duplicate, quarantined, rejected, purged, unaccounted];
        std::iter::once(name.to_owned()).chain(counts.into_iter().map(i64::to_string)).collect::<Vec<String>>()
    };
    let rows = ledger.feeds.iter().map(|feed| row(feed, &feed.feed)).chain([row(&ledger.total, "all feeds")]);
    let head = ["feed", "accepted", "applied", "noop", "duplicate", "quarantined", "rejected", "purged", "unaccounted"];
    for line in table(&head, &rows.collect::<Vec<_>>(), console.columns()) {
        console.out(&line)?;
    }
    let events = &ledger.events;
    console
        .out(&format!("\nevents  {} made = {} confirmed + {} pending + {} parked", events.made, events.confirmed, events.pending, events.parked))?;
    for fault in &ledger.faults {
        let feed = fault.feed.as_ref().map(|feed| format!("feed {feed}, ")).unwrap_or_default();
        console.out(&format!("{}  {feed}{}: {}", console.bad("off"), fault.state, fault.what))?;
    }
    console.out(&if ledger.balanced { console.good("it balances") } else { console.bad("it does not balance") })
}
