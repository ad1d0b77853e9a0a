//! `wardroom simulate`: a made-up hospital and what its EMR sends, for trying out, load and tests.
//!
//! The same arguments give the same bytes on every machine. Names, numbers and places are invented; nothing is read but the arguments and, where no
//! `--start` is given for a live listener, the date.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::civil;
use jiff::tz::Offset;
use serde_json::json;

use crate::cli::console::Console;
use crate::cli::messages::InputMessage;
use crate::cli::replay;
use crate::cli::replay::SendingArgs;
use crate::cli::words::counted;
use crate::mllp::client::Endpoint;
use crate::time::Clock;
use crate::time::Timestamp;

use line::Line;
use line::Plan;
use rates::Rates;

mod hospital;
mod line;
mod message;
mod people;
mod rates;

/// Make up a hospital and what its EMR sends
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["to", "out"]))]
pub struct SimulateArgs {
    /// How many beds the wards have; those of the emergency department come on top
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=5000))]
    beds: u16,
    /// How many days to play
    #[arg(long, value_name = "D", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3660))]
    days: u16,
    /// The same seed gives the same messages
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Send the messages there over MLLP, and report what was not accepted
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<Endpoint>,
    /// Write them into this folder, one file each, named in the order in which they are sent
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also write the staff.csv and units.csv of this hospital into this folder
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The first day; default: 2026-01-05 with --out, and with --to so that the last day is yesterday
    #[arg(long, value_name = "YYYY-MM-DD")]
    start: Option<civil::Date>,
    #[command(flatten)]
    rates: Rates,
    #[command(flatten, next_help_heading = "Sending")]
    sending: SendingArgs,
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written.
pub async fn run(args: &SimulateArgs, console: &Console, clock: &impl Clock) -> anyhow::Result<ExitCode> {
    let messages = Line::new(&plan(args, clock));
    let Some(to) = &args.to else {
        let folder = args.out.as_deref().unwrap_or_else(|| Path::new("."));
        return match write_messages(folder, messages).and_then(|n| write_directory(args).map(|()| n)) {
            Ok(n_messages) => {
                let folder = folder.display().to_string();
                console.out(&if console.json {
                    json!({"folder": folder, "messages": n_messages}).to_string()
                } else {
                    format!("{} in {folder}", counted(n_messages, "message"))
                })?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => console.fail(64, &error),
        };
    };
    if let Err(error) = write_directory(args) {
        return console.fail(64, &error);
    }
    let messages = messages.zip(1..).map(|(sent, n)| InputMessage { path: name(n, sent.trigger).into(), index: 1, bytes: Bytes::from(sent.text) });
    replay::send(to, &args.sending, messages.collect(), console.json).await
}

/// What a hospital of this many beds says from this moment on, for as long as anybody listens.
pub(super) fn endless(n_beds: usize, seed: u64, start: Timestamp) -> impl Iterator<Item = String> + Send {
    let rates = Rates::usual();
    Line::new(&Plan { n_beds, n_days: 3660, seed, start, rates }).map(|record| record.text)
}

/// `staff.csv` and `units.csv` of that hospital.
pub(super) fn directory(n_beds: usize) -> (String, String) {
    (people::staff_csv(n_beds), people::units_csv(n_beds))
}

fn plan(args: &SimulateArgs, clock: &impl Clock) -> Plan {
    let offset = Offset::constant(-5);
    let first_day = args.start.unwrap_or_else(|| {
        if args.to.is_none() {
            return civil::Date::constant(2026, 1, 5);
        }
        let long_ago = Duration::from_hours(24 * u64::from(args.days));
        offset.to_datetime(clock.now().minus(long_ago).to_jiff()).date()
    });
    let midnight = first_day.to_datetime(civil::Time::midnight());
    let start = offset.to_timestamp(midnight).map_or_else(|_| Timestamp::default(), Timestamp::from);
    Plan { n_beds: args.beds.into(), n_days: args.days.into(), seed: args.seed, start, rates: args.rates }
}

fn name(n: usize, trigger: &str) -> String {
    format!("{n:07}_{trigger}.hl7")
}

/// One file for each message. What is in the folder already would be sent among them, so there must be nothing.
fn write_messages(folder: &Path, messages: Line) -> anyhow::Result<usize> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut there = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    anyhow::ensure!(there.next().is_none(), "`{}` is not empty\nhint: name a folder that is, or one that does not exist yet", folder.display());
    let mut n_messages = 0;
    for sent in messages {
        n_messages += 1;
        write(&folder.join(name(n_messages, sent.trigger)), &sent.text)?;
    }
    Ok(n_messages)
}

fn write_directory(args: &SimulateArgs) -> anyhow::Result<()> {
    let (Some(folder), n_beds) = (&args.directory, args.beds.into()) else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    write(&folder.join("staff.csv"), &people::staff_csv(n_beds))?;
    write(&folder.join("units.csv"), &people::units_csv(n_beds))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests;
