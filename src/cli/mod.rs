//! The commands: one file each, from arguments to an exit code.
//!
//! Exit codes: 0 done; 1 done, and it found what the command looks for; 64 wrong usage or configuration; 69 something it needs is not reachable; 70 a
//! bug.

pub mod audit;
pub mod bench;
mod beside;
pub mod check;
mod child;
pub mod console;
pub mod demo;
pub mod explain;
pub mod grant;
pub mod guard;
mod instant;
mod interrupt;
pub mod keys;
pub mod ledger;
pub mod merge;
pub mod messages;
pub(crate) mod orders;
pub mod purge;
pub mod plan;
pub mod quarantine;
pub mod replay;
pub mod resync;
pub mod rooms;
pub mod schema;
pub mod serve;
pub mod setting;
pub mod simulate;
pub(crate) mod story;
pub mod torture;
pub mod verify;
mod viewing;
pub(crate) mod table;
pub(crate) mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

use crate::cli::console::Console;
use crate::cli::console::OutputError;
use crate::cli::interrupt::until_asked;
use crate::config::environment::Environment;
use crate::time::SystemClock;

/// Turns a hospital's HL7 v2 ADT feed into patient-centred care-team chat rooms.
#[derive(Debug, Parser)]
#[command(name = "wardroom", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration; default: ./wardroom.toml if there is one, else the embedded defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON document on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(serve::ServeArgs),
    /// See it work: play a day on two wards into a throw-away daemon and show the rooms
    Demo(demo::DemoArgs),
    /// Say everything that is wrong with the configuration, then reach what it needs
    Check(check::CheckArgs),
    /// Say what messages say and what they would do; touches nothing
    Explain(explain::ExplainArgs),
    /// Send messages over MLLP and report every answer
    Replay(replay::ReplayArgs),
    /// Make up a hospital and what its EMR sends, into a folder or over MLLP
    Simulate(simulate::SimulateArgs),
    /// Say what a configuration (`--config NEW`) would change in the rooms now open; publishes nothing
    ///
    /// Every open room is planned under it and compared with what is published now, as the daemon does when it starts with it. How messages are read is none
    /// of it: that counts from the next message on. Where more than a tenth of the open rooms would end, the daemon would hold that back until
    /// `wardroom guard release`.
    Plan(plan::PlanArgs),
    /// Look at the rooms, beside a running daemon
    Rooms(rooms::RoomsArgs),
    /// Let somebody into a room for some hours, whatever messages say of them (break-glass)
    ///
    /// The user joins at once as a member and leaves by itself when the time is up. A later grant of the same user replaces the one before it. No message
    /// takes a grant away, but it ends when the room becomes another patient's or very restricted, or is merged into another.
    Grant(grant::GrantArgs),
    /// End a grant before its time
    Revoke(grant::RevokeArgs),
    /// Leaves and ends that wait because many rooms would have ended at once
    Guard(guard::GuardArgs),
    /// Whether every accepted message and every event is accounted for
    ///
    /// It counts rows and looks at no content: whether a row of the audit trail was changed says `wardroom audit verify`.
    Ledger(ledger::LedgerArgs),
    /// The record of who did what and who looked at what: search it, see that it is whole, take it out
    Audit(audit::AuditArgs),
    /// Look at messages in quarantine, try them again, or end them
    Quarantine(quarantine::QuarantineArgs),
    /// Look at what was merged from what, and take a merge back
    Merge(merge::MergeArgs),
    /// Publish the present state of rooms again: for a backend that lost some, or after the store came from a backup
    Resync(resync::ResyncArgs),
    /// Delete for good what ended longer ago than `rooms.purge_after`, now; the daemon does it every day
    Purge(purge::PurgeArgs),
    /// The key that seals the store: how it stands, and a new one in its place
    Keys(keys::KeysArgs),
    /// Run journeys, compare with what they expect, show the difference
    Verify(verify::VerifyArgs),
    /// Measure how many messages a second this machine takes
    Bench(bench::BenchArgs),
    /// Kill a daemon of its own under load, again and again, and prove that nothing was lost
    Torture(torture::TortureArgs),
    /// Print a JSON Schema
    Schema(schema::SchemaArgs),
}

/// Runs the command that the arguments name.
///
/// # Errors
/// When something failed that no command expects; the exit code is then 70.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let console = Console::of_process(cli.json);
    match perform(cli, console).await {
        Err(error) => match error.downcast_ref::<OutputError>() {
            Some(output) if output.is_unread() => Ok(ExitCode::SUCCESS),
            Some(_) => console.fail(69, &error),
            None => Err(error),
        },
        done => done,
    }
}

async fn perform(cli: Cli, console: Console) -> anyhow::Result<ExitCode> {
    let config = cli.config.as_deref();
    match &cli.command {
        Command::Serve(args) => serve::run(args, config, &console).await,
        Command::Demo(args) => demo::run(args, &console).await,
        Command::Ledger(args) => ledger::run(args, config, &console).await,
        Command::Audit(args) => audit::run(args, config, &console).await,
        Command::Rooms(args) => rooms::run(args, config, &console).await,
        Command::Grant(args) => grant::grant(args, config, &console).await,
        Command::Revoke(args) => grant::revoke(args, config, &console).await,
        Command::Plan(args) => until_asked(Box::pin(plan::run(args, config, &console))).await,
        Command::Guard(args) => guard::run(args, config, &console).await,
        Command::Quarantine(args) => quarantine::run(args, config, &console).await,
        Command::Merge(args) => merge::run(args, config, &console).await,
        Command::Resync(args) => until_asked(Box::pin(resync::run(args, config, &console))).await,
        Command::Purge(args) => until_asked(Box::pin(purge::run(args, config, &console))).await,
        Command::Keys(args) => until_asked(Box::pin(keys::run(args, config, &console))).await,
        Command::Explain(args) => explain::run(args, config, &console),
        Command::Check(args) => check::run(args, config, cli.json, &Environment::of_process(), &SystemClock, |_| Vec::new()).await,
        Command::Schema(args) => schema::run(args.name.as_deref(), cli.json),
        Command::Verify(args) => verify::run(args, config, &console),
        Command::Bench(args) => until_asked(Box::pin(bench::run(args, &console))).await,
        Command::Replay(args) => replay::run(args, cli.json).await,
        Command::Torture(args) => until_asked(Box::pin(torture::run(args, &console))).await,
        Command::Simulate(args) => simulate::run(args, &console, &SystemClock).await,
    }
}
