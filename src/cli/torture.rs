//! `wardroom torture`: a daemon of its own is killed, stopped, ended and started again under the load of a made-up hospital, its broker and its database
//! restarted; then it is proved that nothing was lost.
//!
//! What must hold: every acknowledged message is in the journal, and counts once; of every room a consumer has seen versions 1, 2, 3, … in their order up
//! to the last; no event id has had two contents; the ledger balances; the audit chain is whole. It touches no store but the one it is given.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use secrecy::SecretString;
use serde::Serialize;
use tokio::process::Command;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cli::console::Console;
use crate::cli::simulate;
use crate::outbox::amqp::AmqpOptions;
use crate::outbox::amqp::consumer;
use crate::random::Random;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::master_key::MasterKey;
use crate::time::Clock as _;
use crate::time::SystemClock;

use load::Fared;
use load::Load;
use load::Signals;
use proof::Heard;
use victim::Victim;
use victim::free_address;

mod load;
mod proof;
mod victim;

const DRAIN_WITHIN: Duration = Duration::from_mins(5);
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A consumer that hears nothing for so long has heard everything.
const QUIET: Duration = Duration::from_secs(3);
/// How long before now the made-up hospital begins.
const BEGAN_AGO: Duration = Duration::from_hours(24 * 40);

/// Kill a daemon of its own under load, again and again, and prove that nothing was lost
#[derive(clap::Args, Debug)]
pub struct TortureArgs {
    /// Kill it N times
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: u32,
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
    /// A broker; default: JSON Lines in the folder
    #[arg(long, value_name = "URL")]
    amqp: Option<SecretString>,
    /// A command that restarts the database, run now and then
    #[arg(long, value_name = "COMMAND")]
    restart_store: Option<String>,
    /// A command that restarts the broker, run now and then
    #[arg(long, value_name = "COMMAND")]
    restart_broker: Option<String>,
}

/// What was done, and what came of it.
#[derive(Clone, Debug, Default, Serialize)]
struct Report {
    seconds: u64,
    kills: u32,
    stops: u32,
    ends: u32,
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
    let (feed, admin) = (free_address()?, free_address()?);
    let house = House::furnish(args, folder, feed, admin)?;
    let began = Instant::now();
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let stop_hearing = CancellationToken::new();
    let hearing = house.broker.as_ref().map(|options| {
        let (options, heard, stop) = (options.clone(), Arc::clone(&heard), stop_hearing.clone());
        async move { consumer::consume(&options, |body| heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&body), stop).await }
    });
    let start = SystemClock.now().minus(BEGAN_AGO);
    let load = Load::new(simulate::endless(args.beds.into(), args.seed, start), args.connections, args.rate);
    let signals = Signals::default();
    let mut report = Report::default();
    let sending = load.run(feed, args.connections, &signals);
    let working = async {
        let worked = work(args, &house, &signals, &mut report, console).await;
        // Whatever happened, nobody waits for ever.
        signals.stop.cancel();
        signals.give_up.cancel();
        if worked.is_ok() {
            quiet(&heard).await;
        }
        stop_hearing.cancel();
        worked
    };
    let heard_something = async {
        if let Some(hearing) = hearing {
            hearing.await;
        }
    };
    let (fared, worked, ()) = tokio::join!(sending, working, heard_something);
    let store = worked?;
    if house.broker.is_none() {
        hear_file(&folder.join("events.jsonl"), &heard)?;
    }
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    conclude(&mut report, &fared, &heard, &store).await?;
    store.close().await;
    if let Some(options) = &house.broker
        && let Err(error) = consumer::remove(options).await
    {
        console.tell(&format!("the broker still has what this run declared: {error}"));
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

/// The tortures, and then peace: the senders finish, the outbox drains, the daemon ends. Gives the store that is left.
async fn work(args: &TortureArgs, house: &House, signals: &Signals, report: &mut Report, console: &Console) -> anyhow::Result<Store> {
    let mut random = Random::new(args.seed ^ 0x7041);
    let mut victim = Victim::new(&house.folder, house.feed);
    victim.start()?;
    victim.listens().await?;
    let progress = console.progress(usize::try_from(args.kills).unwrap_or(usize::MAX).max(50), "kills");
    while report.kills < args.kills {
        if !random.one_in(4) {
            victim.listens().await?;
        }
        pause(&mut random, 20, 700).await;
        restart_others(args, report).await?;
        disturb(&mut random, &mut victim, report).await?;
        victim.kill().await;
        report.kills += 1;
        progress.inc(1);
        victim.start()?;
    }
    progress.finish_and_clear();
    victim.listens().await?;
    signals.stop.cancel();
    if tokio::time::timeout(ANSWER_WITHIN, signals.done.cancelled()).await.is_err() {
        signals.give_up.cancel();
        signals.done.cancelled().await;
    }
    let store = house.open_store().await?;
    drain(&store).await?;
    let ended = victim.end().await?;
    if !ended.success() {
        report.faults.push(format!("the daemon did not end in good order: {ended}"));
    }
    report.ended_by_itself = victim.n_ended_by_itself;
    Ok(store)
}

async fn pause(random: &mut Random, from_ms: u64, to_ms: u64) {
    sleep(Duration::from_millis(random.between(from_ms, to_ms))).await;
}

/// What it leans on is restarted every few kills, where there is a command for that.
async fn restart_others(args: &TortureArgs, report: &mut Report) -> anyhow::Result<()> {
    let (command, count) = match report.kills % 6 {
        2 => (&args.restart_broker, &mut report.broker_restarts),
        4 => (&args.restart_store, &mut report.store_restarts),
        _ => return Ok(()),
    };
    if let Some(command) = command {
        restart(command).await?;
        *count += 1;
    }
    Ok(())
}

/// What else may happen to a daemon before it is killed.
async fn disturb(random: &mut Random, victim: &mut Victim, report: &mut Report) -> anyhow::Result<()> {
    match random.below(8) {
        0 => {
            victim.signal(Signal::STOP);
            pause(random, 100, 1500).await;
            victim.signal(Signal::CONT);
            report.stops += 1;
        }
        1 => {
            victim.listens().await?;
            let ended = victim.end().await?;
            if !ended.success() {
                report.faults.push(format!("the daemon did not end in good order: {ended}"));
            }
            report.ends += 1;
            victim.start()?;
        }
        _ => return Ok(()),
    }
    pause(random, 20, 700).await;
    Ok(())
}

async fn restart(command: &str) -> anyhow::Result<()> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null());
    let status = shell.status().await.with_context(|| format!("cannot run `{command}`"))?;
    anyhow::ensure!(status.success(), "`{command}` failed: {status}");
    Ok(())
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

/// Where the daemon lives.
struct House {
    folder: PathBuf,
    feed: SocketAddr,
    url: SecretString,
    broker: Option<AmqpOptions>,
}

impl House {
    fn furnish(args: &TortureArgs, folder: &Path, feed: SocketAddr, admin: SocketAddr) -> anyhow::Result<Self> {
        use secrecy::ExposeSecret as _;
        let key = folder.join("wardroom.key");
        if args.store.is_some() {
            MasterKey::load_or_create(&key).context("cannot make a key")?;
        }
        let url = args.store.clone().unwrap_or_else(|| format!("sqlite:{}", folder.join("wardroom.db").display()).into());
        let name = format!("wardroom.torture.{}", std::process::id());
        let broker = args.amqp.clone().map(|url| AmqpOptions { exchange: name.clone(), queue: name, ..AmqpOptions::new(url) });
        let publish = match &broker {
            None => "to = \"jsonl\"\n[publish.jsonl]\npath = \"events.jsonl\"\n".to_owned(),
            Some(options) => {
                let (url, name) = (options.url.expose_secret(), &options.queue);
                format!("to = \"amqp\"\n[publish.amqp]\nurl = \"{url}\"\nexchange = \"{name}\"\nqueue = \"{name}\"\n")
            }
        };
        let configuration = format!(
            "[store]\nurl = \"{}\"\nkey = \"file:wardroom.key\"\n\n[publish]\n{publish}\n[rooms]\nmax_age = {{ default = \"3650d\" }}\n\n\
             [directory]\nstaff = \"staff.csv\"\nunits = \"units.csv\"\n\n[admin]\nlisten = \"{admin}\"\n\n\
             [[feeds]]\nname = \"main\"\nlisten = \"{feed}\"\nfacility = \"GHH\"\nauthority = \"GHH\"\ntime_zone = \"UTC\"\n",
            url.expose_secret()
        );
        let (staff, units) = simulate::directory(args.beds.into());
        for (file, text) in [("wardroom.toml", &configuration), ("staff.csv", &staff), ("units.csv", &units)] {
            fs::write(folder.join(file), text).with_context(|| format!("cannot write `{file}`"))?;
        }
        Ok(Self { folder: folder.to_owned(), feed, url, broker })
    }

    async fn open_store(&self) -> anyhow::Result<Store> {
        let master_key = MasterKey::load(&self.folder.join("wardroom.key"))?;
        let options = StoreOptions { url: self.url.clone(), master_key, readers: 2, daemon: 0 };
        Store::open_read_only(options).await.context("cannot open the store")
    }
}

fn print(report: &Report, console: &Console) -> anyhow::Result<()> {
    let line = |name: &str, value: String| console.out(&format!("{name:<22} {value}"));
    let Report { kills, stops, ends, broker_restarts, store_restarts, .. } = report;
    line("tortures", format!("{kills} kills, {stops} stops, {ends} ends, {broker_restarts} restarts of the broker, {store_restarts} of the store"))?;
    line("messages", format!("{} acknowledged, {} times sent again, {} refused", report.acknowledged, report.sent_again, report.refused))?;
    line("longest wait", format!("{:.1} s", Duration::from_millis(u64::try_from(report.longest_wait_ms).unwrap_or(u64::MAX)).as_secs_f64()))?;
    line("journal", format!("{} messages, {} of them duplicates", report.in_the_journal, report.duplicates))?;
    line("events", format!("{} of {} rooms, {} times repeated", report.events, report.rooms, report.events_repeated))?;
    line("took", format!("{} s", report.seconds))?;
    for fault in &report.faults {
        line(&console.bad("fault"), fault.clone())?;
    }
    console.out(&if report.faults.is_empty() { console.good("nothing was lost") } else { console.bad("something is wrong") })
}
