//! `wardroom guard`: leaves and ends that wait because many rooms would have ended at once.
//!
//! It works beside a running daemon, which follows its word within seconds, and before the next start. Nothing of a patient is shown.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use clap::Subcommand;

use crate::cli::console::Console;
use crate::cli::rooms;
use crate::cli::rooms::viewing;
use crate::cli::setting::Setting;
use crate::intake::guard::Word;
use crate::store::Store;

/// Looks at leaves and ends that wait for an operator, and lets them go on.
#[derive(Debug, Args)]
pub struct GuardArgs {
    #[command(subcommand)]
    command: GuardCommand,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum GuardCommand {
    /// Say whether leaves and ends wait, and since when
    Status,
    /// Go on: what waited happens now
    Release,
}

/// Runs the command.
///
/// # Errors
/// When something failed that it does not expect.
pub async fn run(args: &GuardArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    let store = match rooms::open(&setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let done = act(args.command, &store, console).await;
    store.close().await;
    match done {
        Err(error) => console.fail(69, &error),
        done => done,
    }
}

async fn act(command: GuardCommand, store: &Store, console: &Console) -> anyhow::Result<ExitCode> {
    let word = Word::read(store).await?;
    let (text, code) = match (command, word) {
        (GuardCommand::Status, Word::On(since)) => {
            (format!("leaves and ends have waited since {since}; `wardroom guard release` lets them go on"), 1)
        }
        (GuardCommand::Status | GuardCommand::Release, Word::Off) => ("nothing waits".to_owned(), 0),
        (_, Word::GoOn) => ("somebody said go on; the daemon lets what waited happen within seconds, or at its next start".to_owned(), 0),
        (GuardCommand::Release, Word::On(_)) => {
            viewing::record(store, "guard.released", "guard release", Vec::new()).await.context("nothing is let go on")?;
            Word::GoOn.write(store).await?;
            ("what waited happens within seconds, or at the daemon's next start".to_owned(), 0)
        }
    };
    let since = if let Word::On(since) = word { Some(since.to_string()) } else { None };
    let json = serde_json::json!({ "waits": matches!((command, word), (GuardCommand::Status, Word::On(_))), "since": since });
    console.out(&if console.json { json.to_string() } else { text })?;
    Ok(ExitCode::from(code))
}
