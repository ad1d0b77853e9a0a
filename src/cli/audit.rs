//! `wardroom audit`: the record of who did what and who looked at what, searched, verified and taken out, beside a running daemon.
//!
//! `verify` writes nothing. Whoever searches the trail or takes it out is written into it before anything is shown.

pub(in crate::cli) mod export;
mod search;
mod subject;
pub(in crate::cli) mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;

use crate::cli::console::Console;
use crate::cli::instant::instant;
use crate::cli::interrupt::until_asked;
use crate::cli::setting::Setting;
use crate::store::trail::Span;
use crate::time::Timestamp;

/// The record of who did what and who looked at what.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Who came into which room, why, until when; who looked at what; who ordered what: the newest first
    ///
    /// Without anything named it shows the newest rows of the trail; what is named must all fit. Whoever searches is written into the trail before
    /// anything is shown; that row is in the next search.
    ///
    /// A row stands for a change. Somebody who was in a room all the while between --since and --until came before and shows no row: `wardroom rooms
    /// timeline ROOM` shows who was in it.
    ///
    /// Rows of a room, a visit or a patient are found at once. Without one of these the whole trail is gone through.
    Search(search::SearchArgs),
    /// Whether every row of the audit trail is there and as it was written; the exit code is 1 when one is not
    ///
    /// Each daemon writes a chain of its own, in which every row holds the SHA-256 of itself and of the row before; the end of each chain is kept
    /// apart. This reads every chain from its first row to that end, and opens every body whose key there is. A body whose patient's key was destroyed
    /// stays closed, which is no fault. Rows written while it reads are left for the next time.
    Verify,
    /// The trail as JSON Lines, the oldest row first, with what it takes to follow its chains elsewhere
    ///
    /// Each line is a row: when, what, which room and message, what it says, and the bytes and hashes of its chain, so that whoever has the lines can
    /// verify without the store that none is missing or changed but for what it says in the clear, which stands in `sealed` for whoever has the key
    /// (`wardroom schema audit-row`; docs/audit.md says how). Rows stand in the order of time, and those of one chain in
    /// the order of the chain.
    ///
    /// The lines say in the clear who was in which room: keep them as you keep the store. Whoever takes the trail out is written into it first.
    Export(export::ExportArgs),
}

/// From when until when.
#[derive(Args, Clone, Copy, Debug)]
struct SpanArgs {
    /// Only rows of this time or later (RFC 3339, or a date in the machine's time zone): when wardroom made the change, or somebody looked
    #[arg(long, value_name = "T", value_parser = instant)]
    since: Option<Timestamp>,
    /// Only rows of before this time
    #[arg(long, value_name = "T", value_parser = instant)]
    until: Option<Timestamp>,
}

impl SpanArgs {
    fn span(self) -> Span {
        let Span { since, until } = Span::default();
        Span { since: self.since.unwrap_or(since), until: self.until.unwrap_or(until) }
    }

    /// What keeps any row from being in it.
    fn fault(self) -> Option<anyhow::Error> {
        let Span { since, until } = self.span();
        (since >= until).then(|| anyhow::anyhow!("no time is at or after --since and before --until\nhint: --until must be later than --since"))
    }
}

/// Runs the command: 0 done, 1 the trail is broken or what was named is not known.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(args: &AuditArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    match &args.command {
        AuditCommand::Search(args) => search::run(args, &setting, console).await,
        AuditCommand::Verify => verify::run(&setting, console).await,
        // A file that is half written goes with it.
        AuditCommand::Export(args) => until_asked(Box::pin(export::run(args, &setting, console))).await,
    }
}
