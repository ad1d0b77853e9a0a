//! `wardroom verify`: runs journeys and shows where they go another way than they expect.
//!
//! A journey is a folder with `journey.toml` and message files. It runs in a rehearsal, so nothing outside is touched, and its clock moves only by
//! messages and by `advance`.

mod journey;
mod outcome;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::console::Console;
use crate::cli::verify::journey::Journey;
use crate::cli::verify::journey::JourneyError;

pub use journey::schema;

/// Run journeys, compare with what they expect, show the difference
#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    /// Folders that hold journeys, at any depth
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Write what happened into the journeys as what they expect; only keys that are there already are changed
    #[arg(long)]
    bless: bool,
}

/// One journey that was run.
struct Ran {
    folder: PathBuf,
    title: String,
    result: Result<Vec<String>, JourneyError>,
}

/// Runs the command: 0 when every journey goes as it expects, 1 when one does not, 64 when one cannot be read.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &VerifyArgs, config: Option<&Path>, console: &Console) -> anyhow::Result<ExitCode> {
    let mut folders = Vec::new();
    for dir in &args.dirs {
        if let Err(error) = find(dir, &mut folders) {
            return console.fail(64, &anyhow::Error::new(error).context(format!("cannot read `{}`", dir.display())));
        }
    }
    if folders.is_empty() {
        return console.fail(64, &anyhow::anyhow!("there is no `journey.toml` here\nhint: name a folder that holds journeys"));
    }
    let progress = console.progress(folders.len(), "journeys");
    let mut ran = Vec::with_capacity(folders.len());
    for folder in folders {
        let read = Journey::read(&folder, config);
        let title = read.as_ref().map(|journey| journey.title().to_owned()).unwrap_or_default();
        let result = read.and_then(|journey| if args.bless { journey.bless() } else { journey.run() });
        ran.push(Ran { folder, title, result });
        progress.inc(1);
    }
    progress.finish_and_clear();
    report(console, &ran, args.bless)
}

fn report(console: &Console, ran: &[Ran], blessed: bool) -> anyhow::Result<ExitCode> {
    let n_failed = ran.iter().filter(|ran| ran.result.as_ref().is_ok_and(|differences| !differences.is_empty())).count();
    let n_broken = ran.iter().filter(|ran| ran.result.is_err()).count();
    if console.json {
        let journeys: Vec<_> = ran
            .iter()
            .map(|ran| {
                json!({
                    "journey": ran.folder.display().to_string(),
                    "title": ran.title,
                    "passed": ran.result.as_ref().is_ok_and(Vec::is_empty),
                    "differences": ran.result.as_ref().ok(),
                    "error": ran.result.as_ref().err().map(ToString::to_string),
                })
            })
            .collect();
        let n_passed = ran.len() - n_failed - n_broken;
        console
            .out(&serde_json::to_string_pretty(&json!({ "journeys": journeys, "passed": n_passed, "failed": n_failed, "unreadable": n_broken }))?)?;
    } else {
        for ran in ran {
            let name = ran.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match &ran.result {
                Ok(differences) if differences.is_empty() => console.out(&format!("{} {name:<44} {}", console.good("ok  "), ran.title))?,
                Ok(differences) => {
                    console.out(&format!("{} {name:<44} {}", console.bad("FAIL"), ran.title))?;
                    for difference in differences {
                        console.out(&format!("       {difference}"))?;
                    }
                }
                Err(error) => console.out(&format!("{} {name:<44} {error}", console.bad("ERR ")))?,
            }
        }
        let how = if blessed { "blessed" } else { "passed" };
        console.out(&format!("\n{} {how}, {n_failed} failed, {n_broken} not readable", ran.len() - n_failed - n_broken))?;
    }
    Ok(ExitCode::from(if n_broken > 0 { 64 } else { u8::from(n_failed > 0) }))
}

/// Every folder with a journey, in name order.
fn find(dir: &Path, folders: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if dir.join("journey.toml").is_file() {
        folders.push(dir.to_owned());
        return Ok(());
    }
    let mut entries = std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    for entry in entries.iter().filter(|entry| entry.is_dir()) {
        find(entry, folders)?;
    }
    Ok(())
}
