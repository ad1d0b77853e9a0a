//! `wardroom torture`: daemons of its own, on one store and behind a balancer, are killed, stopped, ended and started again under the load of a made-up
//! hospital; their network is cut, their broker and their database restarted; then it is proved that nothing was lost.
//!
//! What must hold: every acknowledged message is in the journal, and counts once; of every room a consumer has first seen versions 1, 2, 3, … in their
//! order up to the last; no event id has had two contents; the ledger balances; the audit chain is whole. It touches no store but the one it is given.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use serde::Serialize;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::console::Console;
use crate::cli::simulate;
use crate::outbox::amqp::consumer;
use crate::store::Store;
use crate::time::Clock as _;
use crate::time::SystemClock;

use away::Away;
use house::House;
use load::Fared;
use load::Load;
use load::Signals;
use proof::Heard;
use replica::Replica;
use replica::Tally;
use tortures::Tortures;

mod away;
mod house;
mod load;
mod proof;
mod proxy;
mod replica;
mod tortures;

const DRAIN_WITHIN: Duration = Duration::from_mins(5);
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A consumer that hears nothing for so long has heard everything.
const QUIET: Duration = Duration::from_secs(3);
/// How long before now the made-up hospital begins.
const BEGAN_AGO: Duration = Duration::from_hours(24 * 40);
/// How often a replica is killed when nobody says how often.
const KILLS: u32 = 50;

/// Kill daemons of its own under load, again and again, and prove that nothing was lost
#[derive(clap::Args, Debug)]
pub struct TortureArgs {
    /// Kill N times in all; default: 50, and never with `--broker-away`
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// Run N daemons on one store; more than one needs `--store` and `--amqp`
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    replicas: u8,
    /// The same seed sends the same messages and chooses the same tortures
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many beds the hospital has
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=5000))]
    beds: u16,
    /// Send over N connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
    /// Send at most N messages a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Work in this folder, and leave it; default: a temporary one
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// An empty PostgreSQL database; default: SQLite in the folder
    #[arg(long, value_name = "URL")]
    store: Option<SecretString>,
    /// A broker, or once for each node of a cluster; default: JSON Lines in the folder
    #[arg(long, value_name = "URL")]
    amqp: Vec<SecretString>,
    /// A command that restarts the database, run now and then
    #[arg(long, value_name = "COMMAND")]
    restart_store: Option<String>,
    /// A command that restarts the broker, or a node of the cluster, run now and then
    #[arg(long, value_name = "COMMAND")]
    restart_broker: Option<String>,
    /// Before any kill, cut the broker off until N events wait for it, and measure how they drain
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    broker_away: Option<i64>,
}

/// What was done, and what came of it.
#[derive(Clone, Debug, Default, Serialize)]
struct Report {
    seconds: u64,
    kills: u32,
    stops: u32,
    long_stops: u32,
    ends: u32,
    cuts: u32,
    broker_restarts: u32,
    store_restarts: u32,
    ended_by_itself: u32,
    acknowledged: usize,
    refused: u64,
    sent_again: u64,
    never_answered: u64,
    longest_wait_ms: u128,
    in_the_journal: u64,
    duplicates: u64,
    events: usize,
    events_repeated: u64,
    rooms: usize,
    replicas: Vec<Tally>,
    broker_away: Option<Away>,
    /// Everything that must not be.
    faults: Vec<String>,
}

/// Runs the command: 0 nothing was lost, 1 something was.
///
/// # Errors
/// When the run itself cannot be carried out.
pub async fn run(args: &TortureArgs, console: &Console) -> anyhow::Result<ExitCode> {
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = args.folder.as_deref().unwrap_or_else(|| temporary.path());
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("cannot enter `{}`", folder.display()))?;
    let report = Box::pin(torture(args, &folder, console)).await?;
    if console.json {
        console.out(&serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&report, console)?;
    }
    if !report.faults.is_empty() && args.folder.is_none() {
        // What is left of it is what explains it.
        console.tell(&format!("what is left is in {}", temporary.keep().display()));
    }
    Ok(ExitCode::from(u8::from(!report.faults.is_empty())))
}

async fn torture(args: &TortureArgs, folder: &Path, console: &Console) -> anyhow::Result<Report> {
    let tasks = TaskTracker::new();
    let (house, mut replicas) = House::furnish(args, folder, &tasks).await?;
    if let Some(broker) = house.brokers.first() {
        consumer::declare(broker).await.context("cannot declare a queue")?;
    }
    let began = Instant::now();
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let stop_hearing = CancellationToken::new();
    let hearing = consumer::consume(&house.brokers, |body| heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&body), stop_hearing.clone());
    let start = SystemClock.now().minus(BEGAN_AGO);
    let load = Load::new(simulate::endless(args.beds.into(), args.seed, start), args.connections, args.rate);
    let signals = Signals::default();
    let mut report = Report::default();
    let sending = load.run(house.balancer.address, args.connections, &signals);
    let working = async {
        let worked = work(args, &house, &mut replicas, &tasks, &signals, &mut report, console).await;
        // Whatever happened, nobody waits for ever.
        signals.stop.cancel();
        signals.give_up.cancel();
        if worked.is_ok() {
            quiet(&heard).await;
        }
        stop_hearing.cancel();
        worked
    };
    let (fared, worked, _) = tokio::join!(sending, working, hearing);
    let store = worked?;
    if house.brokers.is_empty() {
        hear_file(&folder.join("events.jsonl"), &heard)?;
    }
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    for (replica, n_connections) in replicas.into_iter().zip(house.balancer.n_connections()) {
        report.ended_by_itself += replica.tally.ended_by_itself;
        report.replicas.push(Tally { connections: n_connections, ..replica.tally });
    }
    conclude(&mut report, &fared, &heard, &store).await?;
    store.close().await;
    for options in &house.brokers {
        match consumer::remove(options).await {
            Ok(()) => break,
            Err(error) => console.tell(&format!("a broker still has what this run declared: {error}")),
        }
    }
    report.seconds = began.elapsed().as_secs();
    Ok(report)
}

async fn conclude(report: &mut Report, fared: &Fared, heard: &Heard, store: &Store) -> anyhow::Result<()> {
    let (journal, faults) = proof::prove(store, &fared.acknowledged, heard).await.context("cannot read the store")?;
    report.faults.extend(faults);
    report.acknowledged = fared.acknowledged.len();
    report.refused = fared.n_refused;
    report.sent_again = fared.n_unanswered;
    report.never_answered = fared.n_given_up;
    report.longest_wait_ms = fared.longest.as_millis();
    report.in_the_journal = journal.n_messages;
    report.duplicates = journal.n_duplicates;
    report.events = heard.n_distinct();
    report.events_repeated = heard.n_events - u64::try_from(heard.n_distinct()).unwrap_or_default();
    report.rooms = heard.n_rooms();
    for (n, what) in [(report.refused, "messages were refused"), (report.never_answered, "messages were never answered")] {
        if n > 0 {
            report.faults.push(format!("{n} {what}"));
        }
    }
    Ok(())
}

/// Waits until the consumer hears nothing any more.
async fn quiet(heard: &Mutex<Heard>) {
    let n_heard = || heard.lock().unwrap_or_else(PoisonError::into_inner).n_events;
    let (mut last, mut since) = (n_heard(), Instant::now());
    while since.elapsed() < QUIET {
        sleep(LOOK_EVERY).await;
        if n_heard() != last {
            (last, since) = (n_heard(), Instant::now());
        }
    }
}

fn hear_file(file: &Path, heard: &Mutex<Heard>) -> anyhow::Result<()> {
    let bytes = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        heard.hear(line);
    }
    drop(heard);
    Ok(())
}

/// The tortures, and then peace: the senders finish, the outbox drains, the daemons end. Gives the store that is left.
async fn work(
    args: &TortureArgs,
    house: &House,
    replicas: &mut [Replica],
    tasks: &TaskTracker,
    signals: &Signals,
    report: &mut Report,
    console: &Console,
) -> anyhow::Result<Store> {
    for replica in replicas.iter_mut() {
        replica.start()?;
        // One after the other, as a rollout does: the first makes the tables.
        replica.listens().await?;
    }
    let store = house.open_store().await?;
    if let Some(n_events) = args.broker_away {
        report.broker_away = Some(away::run(n_events, replicas, &store, signals, console).await?);
    }
    let n_kills = args.kills.unwrap_or_else(|| if args.broker_away.is_some() { 0 } else { KILLS });
    Tortures::new(args, replicas, tasks, report).run(n_kills, console).await?;
    signals.stop.cancel();
    if tokio::time::timeout(ANSWER_WITHIN, signals.done.cancelled()).await.is_err() {
        signals.give_up.cancel();
        signals.done.cancelled().await;
    }
    drain(&store).await?;
    for replica in replicas.iter_mut() {
        report.faults.extend(replica.end().await?);
    }
    Ok(store)
}

async fn drain(store: &Store) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        // A store that was restarted a moment ago may not be there yet.
        if store.outbox_depth().await.is_ok_and(|depth| depth.n_pending == 0) {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < DRAIN_WITHIN, "events were not published within {DRAIN_WITHIN:?}");
        sleep(LOOK_EVERY).await;
    }
}

fn print(report: &Report, console: &Console) -> anyhow::Result<()> {
    let line = |name: &str, value: String| console.out(&format!("{name:<22} {value}"));
    let Report { kills, stops, long_stops, ends, cuts, broker_restarts, store_restarts, .. } = report;
    line("tortures", format!("{kills} kills, {ends} ends, {stops} stops and {long_stops} long ones, {cuts} times a network disturbed"))?;
    line("servers", format!("{broker_restarts} restarts of the broker, {store_restarts} of the store"))?;
    line("messages", format!("{} acknowledged, {} times sent again, {} refused", report.acknowledged, report.sent_again, report.refused))?;
    line("longest wait", format!("{:.1} s", Duration::from_millis(u64::try_from(report.longest_wait_ms).unwrap_or(u64::MAX)).as_secs_f64()))?;
    line("journal", format!("{} messages, {} of them duplicates", report.in_the_journal, report.duplicates))?;
    line("events", format!("{} of {} rooms, {} times repeated", report.events, report.rooms, report.events_repeated))?;
    for (number, tally) in (1..).zip(&report.replicas) {
        let Tally { clock_skew_ms, kills, connections, published, conflicts, .. } = tally;
        let did = format!("{connections} connections, {published} events published, planned again {conflicts} times");
        line(&format!("replica {number}"), format!("clock wrong by {clock_skew_ms} ms, {kills} kills, {did}"))?;
    }
    if let Some(Away { events, seconds, drain_seconds, peak_kib, drain_peak_kib, samples }) = &report.broker_away {
        line("broker away", format!("{seconds:.0} s, {events} events; drained in {drain_seconds:.0} s"))?;
        line("memory", format!("at most {} MiB while it was away, {} MiB while they drained", peak_kib / 1024, drain_peak_kib / 1024))?;
        for sample in samples {
            line("", format!("{:>6} s {:>8} events wait, {:>5} MiB", sample.second, sample.pending, sample.resident_kib / 1024))?;
        }
    }
    line("took", format!("{} s", report.seconds))?;
    for fault in &report.faults {
        line(&console.bad("fault"), fault.clone())?;
    }
    console.out(&if report.faults.is_empty() { console.good("nothing was lost") } else { console.bad("something is wrong") })
}
