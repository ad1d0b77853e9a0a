//! `wardroom bench`: how many messages a second this machine takes, and what stands in the way.
//!
//! It starts the daemon, as it is, in a folder of its own, loads it over MLLP, and measures in the same run two ceilings: a receiver that keeps nothing, and a
//! writer of the same rows that reads, seals and plans nothing. Figures of one run can be compared, since they share the machine and its hour; those of
//! two runs often cannot. It touches no store but its own.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::Instant;

use crate::cli::console::Console;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::ceiling;
use crate::store::master_key::MasterKey;

use load::Fared;
use load::Load;

mod ceilings;
mod load;

/// Ticks of the clock that `/proc` counts processor time in: 100 on every Linux.
const TICKS: f64 = 100.0;
const START_TIMEOUT: Duration = Duration::from_secs(20);
const DRAIN_TIMEOUT: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const N_UNITS: u32 = 8;
const N_DOCTORS: u32 = 40;

/// Measure how many messages a second this machine takes
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// Keep one message in flight on each of N connections
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=999))]
    connections: u16,
    /// Measure for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Send for this many seconds before anything counts
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warm_up: u64,
    /// Keep N visits open on each connection, in turn
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    visits: u32,
    /// How many people the team of each unit has
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=200))]
    team: u32,
    /// Work in this folder, on the disk that is to be measured; default: the folder for temporary files
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Leave the ceilings out
    #[arg(long)]
    no_ceilings: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    connections: u16,
    seconds: u64,
    visits_per_connection: u32,
    people_per_unit: u32,
    message_bytes: u64,
    /// Answered AA, which is on disk and planned, a second.
    messages_per_second: f64,
    /// The same, counting until the last event was published too.
    published_messages_per_second: f64,
    n_messages: u64,
    n_failed: u64,
    latency_ms: Latency,
    daemon: Usage,
    events_per_message: f64,
    messages_per_commit: f64,
    sync_ms: f64,
    ceilings: Option<Ceilings>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Usage {
    cpu_us_per_message: f64,
    cores: f64,
    peak_memory_mib: f64,
    written_bytes_per_message: f64,
}

#[derive(Debug, Serialize)]
struct Ceilings {
    /// A receiver that frames, reads MSH-10, answers, and keeps nothing.
    receiver_messages_per_second: f64,
    receiver_p50_ms: f64,
    /// A writer of the same rows in batches of the same size.
    writer_messages_per_second: f64,
}

/// Runs the command.
///
/// # Errors
/// When the daemon does not start, or the folder cannot be written.
pub async fn run(args: &BenchArgs, console: &Console) -> anyhow::Result<ExitCode> {
    let folder = match &args.folder {
        Some(folder) => tempfile::Builder::new().prefix("wardroom-bench").tempdir_in(folder),
        None => tempfile::Builder::new().prefix("wardroom-bench").tempdir(),
    };
    let folder = folder.context("cannot make a folder to work in")?;
    let load = Load {
        n_connections: args.connections,
        n_visits: args.visits,
        n_units: N_UNITS,
        warm_up: Duration::from_secs(args.warm_up),
        measured: Duration::from_secs(args.seconds),
    };
    console.tell(&format!("loading a daemon of its own for {} seconds", args.warm_up + args.seconds));
    let figures = measure(args, load, folder.path()).await?;
    if console.json {
        console.out(&serde_json::to_string_pretty(&figures)?)?;
    } else {
        print(&figures, *console)?;
    }
    Ok(if figures.n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &BenchArgs, load: Load, folder: &Path) -> anyhow::Result<Figures> {
    let sync_ms = ceilings::sync_ms(folder)?;
    let mut daemon = Daemon::start(folder, args.team).await?;
    let begun = Instant::now();
    let to = daemon.feed;
    let fared = tokio::task::spawn_blocking(move || load::run(load, to)).await??;
    let loaded = begun.elapsed();
    let used = daemon.usage()?;
    let metrics = daemon.metrics().await?;
    let store = daemon.store().await?;
    drained(&store).await?;
    let published = begun.elapsed();
    daemon.child.kill().await?;

    let n_events = count_lines(&folder.join("events.jsonl"))?;
    let messages_per_commit = ratio(metric(&metrics, "wardroom_commit_messages_sum"), metric(&metrics, "wardroom_commit_messages_count"));
    let ceilings = if args.no_ceilings {
        None
    } else {
        let receiver = ceilings::bare_receiver(load).await?;
        let mut sizes = store.row_sizes().await?;
        sizes.outbox.n_bytes = usize::try_from(std::fs::metadata(folder.join("events.jsonl"))?.len() / n_events.max(1))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a batch has a few hundred messages at the most")]
        let n_messages = messages_per_commit.round().max(1.0) as u32;
        Some(Ceilings {
            receiver_messages_per_second: per_second(receiver.n_accepted, load.measured),
            receiver_p50_ms: receiver.quantile_ms(0.5),
            writer_messages_per_second: ceiling::bare_writes(&folder.join("bare.db"), &sizes, n_messages, load.measured).await?,
        })
    };
    let n_sent = float(fared.n_sent);
    let rate = per_second(fared.n_accepted, load.measured);
    Ok(Figures {
        connections: args.connections,
        seconds: args.seconds,
        visits_per_connection: args.visits,
        people_per_unit: args.team,
        message_bytes: fared.n_bytes / fared.n_sent.max(1),
        messages_per_second: rate,
        published_messages_per_second: rate * loaded.as_secs_f64() / published.as_secs_f64(),
        n_messages: fared.n_accepted,
        n_failed: fared.n_failed,
        latency_ms: latency(&fared),
        daemon: Usage {
            cpu_us_per_message: used.cpu_seconds * 1e6 / n_sent,
            cores: used.cpu_seconds / loaded.as_secs_f64(),
            peak_memory_mib: used.peak_kib / 1024.0,
            written_bytes_per_message: used.written_bytes / n_sent,
        },
        events_per_message: float(n_events) / n_sent,
        messages_per_commit,
        sync_ms,
        ceilings,
    })
}

fn latency(fared: &Fared) -> Latency {
    Latency { p50: fared.quantile_ms(0.5), p90: fared.quantile_ms(0.9), p99: fared.quantile_ms(0.99), max: fared.quantile_ms(1.0) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below where a float loses any")]
const fn float(n: u64) -> f64 {
    n as f64
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn per_second(n: u64, span: Duration) -> f64 {
    float(n) / span.as_secs_f64()
}

fn print(figures: &Figures, console: Console) -> anyhow::Result<()> {
    let Figures { latency_ms, daemon, .. } = figures;
    let line = |name: &str, value: String| console.out(&format!("{name:<34} {value}"));
    let load =
        format!("{} connections, {} visits each, {} bytes a message", figures.connections, figures.visits_per_connection, figures.message_bytes);
    line("load", load)?;
    line(
        "messages a second",
        format!("{:.0} on disk and planned, {:.0} published", figures.messages_per_second, figures.published_messages_per_second),
    )?;
    line("not accepted", figures.n_failed.to_string())?;
    line("latency in ms", format!("p50 {:.2}  p90 {:.2}  p99 {:.2}  max {:.2}", latency_ms.p50, latency_ms.p90, latency_ms.p99, latency_ms.max))?;
    line("processor time a message", format!("{:.1} us, {:.2} cores", daemon.cpu_us_per_message, daemon.cores))?;
    line("memory at its peak", format!("{:.0} MiB", daemon.peak_memory_mib))?;
    line("written to disk a message", format!("{:.1} KiB", daemon.written_bytes_per_message / 1024.0))?;
    line("events a message", format!("{:.2}", figures.events_per_message))?;
    line("messages a commit", format!("{:.1}", figures.messages_per_commit))?;
    line("a sync of 4 KiB", format!("{:.3} ms", figures.sync_ms))?;
    if let Some(ceilings) = &figures.ceilings {
        let share = |ceiling: f64| format!("{ceiling:.0} a second; the daemon reached {:.0} %", 100.0 * ratio(figures.messages_per_second, ceiling));
        line("ceiling: a receiver, nothing kept", share(ceilings.receiver_messages_per_second))?;
        line("ceiling: a writer of the same rows", share(ceilings.writer_messages_per_second))?;
    }
    Ok(())
}

fn metric(text: &str, name: &str) -> f64 {
    let value = |line: &str| line.strip_prefix(name)?.split_whitespace().last()?.parse().ok();
    text.lines().find_map(value).unwrap_or_default()
}

fn count_lines(file: &Path) -> anyhow::Result<u64> {
    let bytes = std::fs::read(file)?;
    Ok(bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum())
}

async fn drained(store: &Store) -> anyhow::Result<()> {
    let begun = Instant::now();
    while store.outbox_depth().await?.n_pending > 0 {
        anyhow::ensure!(begun.elapsed() < DRAIN_TIMEOUT, "events are not published");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// A daemon in a process of its own.
struct Daemon {
    child: Child,
    feed: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
}

/// What a process has used since it started.
struct Used {
    cpu_seconds: f64,
    peak_kib: f64,
    written_bytes: f64,
}

impl Daemon {
    async fn start(folder: &Path, team: u32) -> anyhow::Result<Self> {
        let (feed, admin) = (free_address()?, free_address()?);
        std::fs::write(folder.join("wardroom.toml"), configuration(feed, admin))?;
        std::fs::write(folder.join("staff.csv"), staff(team))?;
        std::fs::write(folder.join("units.csv"), units())?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--config", "wardroom.toml", "serve"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the daemon")?;
        let daemon = Self { child, feed, admin, folder: folder.to_owned() };
        let begun = Instant::now();
        while TcpStream::connect(daemon.feed).await.is_err() {
            if begun.elapsed() > START_TIMEOUT {
                anyhow::bail!("the daemon did not start: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(daemon)
    }

    async fn metrics(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    async fn store(&self) -> anyhow::Result<Store> {
        let master_key = MasterKey::load(&self.folder.join("wardroom.key"))?;
        let url = format!("sqlite:{}", self.folder.join("wardroom.db").display()).into();
        Ok(Store::open_read_only(StoreOptions { url, master_key, readers: 1, daemon: 0 }).await?)
    }

    fn usage(&self) -> anyhow::Result<Used> {
        let folder = PathBuf::from(format!("/proc/{}", self.child.id().context("the daemon has ended")?));
        let (stat, status) = (std::fs::read_to_string(folder.join("stat"))?, std::fs::read_to_string(folder.join("status"))?);
        let io = std::fs::read_to_string(folder.join("io"))?;
        let after = |text: &str, name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or_default()
        };
        // The fields behind the name in brackets, which may hold blanks; the times are the 14th and 15th of all.
        let times: f64 =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(Used { cpu_seconds: times / TICKS, peak_kib: after(&status, "VmHWM:"), written_bytes: after(&io, "write_bytes:") })
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn configuration(feed: SocketAddr, admin: SocketAddr) -> String {
    format!(
        "[[feeds]]\nname = \"main\"\nlisten = \"{feed}\"\nfacility = \"GHH\"\nauthority = \"GHH\"\ntime_zone = \"UTC\"\n\n[directory]\nstaff = \"staff.csv\"\n\
         units = \"units.csv\"\n\n[rooms]\nmass_guard = false\n\n[publish]\nto = \"jsonl\"\njsonl.path = \"events.jsonl\"\n\n[admin]\nlisten = \"{admin}\"\n"
    )
}

fn staff(team: u32) -> String {
    let doctors = (0..N_DOCTORS).map(|doctor| format!("doctor.{doctor:03},Doctor {doctor},GHH/EI:D{doctor:03},,true\n"));
    let nurses = (0..N_UNITS).flat_map(|unit| {
        (0..team).map(move |nurse| format!("nurse.{unit:02}.{nurse:03},Nurse {nurse},GHH/EI:N{unit:02}{nurse:03},nurse.{unit:02},true\n"))
    });
    ["user,name,ids,groups,active\n".to_owned()].into_iter().chain(doctors).chain(nurses).collect()
}

fn units() -> String {
    let units = (0..N_UNITS).map(|unit| format!("GHH,U{unit:02},nurse.{unit:02},Unit {unit},\n"));
    ["facility,point_of_care,group,name,flags\n".to_owned()].into_iter().chain(units).collect()
}
