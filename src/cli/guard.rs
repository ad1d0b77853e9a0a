//! `wardroom guard`: leaves and ends that wait because many rooms would have ended at once.
//!
//! The status is read beside a running daemon; going on is an order to it, and is written into the audit trail. Nothing of a patient is shown.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;
use serde_json::json;

use crate::cli::beside;
use crate::cli::console::Console;
use crate::cli::orders;
use crate::cli::setting::Setting;
use crate::intake::guard::Word;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;

/// Looks at leaves and ends that wait for an operator, and lets them go on.
#[derive(Debug, Args)]
pub struct GuardArgs {
    #[command(subcommand)]
    command: GuardCommand,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum GuardCommand {
    /// Say whether leaves and ends wait, and since when; the exit code is 1 when they do
    Status,
    /// Go on: what waited happens now
    Release,
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(args: &GuardArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let setting = match Setting::load(config, console)? {
        Ok(setting) => setting,
        Err(code) => return Ok(code),
    };
    match args.command {
        GuardCommand::Status => status(&setting, console).await,
        GuardCommand::Release => release(&setting, console).await,
    }
}

async fn status(setting: &Setting, console: &Console) -> anyhow::Result<ExitCode> {
    let store = match beside::open(setting).await {
        Ok(store) => store,
        Err((code, error)) => return console.fail(code, &error),
    };
    let word = Word::read(&store).await;
    store.close().await;
    let (text, since) = match word {
        Ok(Word::On(since)) => {
            (format!("leaves and ends have waited since {since}; `wardroom guard release` lets them go on"), Some(since.to_string()))
        }
        Ok(Word::Off) => ("nothing waits".to_owned(), None),
        Ok(Word::GoOn) => ("somebody said go on: what waited happens within seconds, or at the daemon's next start".to_owned(), None),
        Err(error) => return console.fail(69, &error.into()),
    };
    console.out(&if console.json { json!({ "waits": since.is_some(), "since": since }).to_string() } else { text })?;
    Ok(ExitCode::from(u8::from(since.is_some())))
}

async fn release(setting: &Setting, console: &Console) -> anyhow::Result<ExitCode> {
    let text = match orders::give(setting, Order::ReleaseGuard).await {
        Ok(Outcome::Done { .. }) => "what waited happens within seconds, or at the daemon's next start",
        Ok(Outcome::NothingHeld) => "nothing waits",
        Ok(_) => return console.fail(69, &anyhow::anyhow!("the store could not do it; nothing was changed\nhint: read the daemon's log")),
        Err((code, error)) => return console.fail(code, &error),
    };
    console.out(&if console.json { json!({ "said": text }).to_string() } else { text.to_owned() })?;
    Ok(ExitCode::SUCCESS)
}
