//! `wardroom bench`: how many messages a second this machine takes, and what stands in the way.
//!
//! It starts the daemon, as it is, in a folder of its own, loads it over MLLP, and measures in the same run two ceilings: a receiver that keeps nothing, and a
//! writer of the same rows that reads, seals and plans nothing. Figures of one run can be compared, since they share the machine and its hour; those of
//! two runs often cannot. It touches no store but its own and the one it is given.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use serde::Serialize;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cli::console::Console;
use crate::outbox::relay::CONFIRMS;
use crate::store::Store;
use crate::store::ceiling;

use backend::Backend;
use daemons::Daemons;
use daemons::House;
use daemons::N_UNITS;
use load::Fared;
use load::Load;

mod backend;
mod ceilings;
mod daemons;
mod fill;
mod load;
mod plot;

const DRAIN_TIMEOUT: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const DEPTH_EVERY: Duration = Duration::from_secs(1);
/// How long each point of a plot is measured.
const POINT: Duration = Duration::from_secs(4);
/// For how many seconds a receiver is loaded before another has its turn.
const TURN: u64 = 2;

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
    /// Put N visits of other patients into the store before
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "store")]
    fill: u32,
    /// Put N events that wait to be published into the store before, and measure how long the daemon takes to listen
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "store")]
    waiting: u32,
    /// Open N connections more that say nothing, and measure what they cost in memory
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    idle: u16,
    /// An empty PostgreSQL database; default: SQLite in the folder
    #[arg(long, value_name = "URL")]
    store: Option<SecretString>,
    /// Share the load out among N daemons
    #[arg(long, value_name = "N", default_value_t = 1, requires_if("2", "store"), value_parser = clap::value_parser!(u16).range(1..=16))]
    replicas: u16,
    /// Publish to this broker, where a backend takes the events out again; default: JSON Lines in the folder
    #[arg(long, value_name = "URL")]
    amqp: Option<SecretString>,
    /// Send at most N messages a second in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Load this receiver too, in turn with the daemon
    #[arg(long, value_name = "HOST:PORT")]
    against: Option<SocketAddr>,
    /// Measure with 1, 2, 4, … connections up to those, and draw latency against load into this file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    connections: u16,
    seconds: u64,
    visits_per_connection: u32,
    people_per_unit: u32,
    message_bytes: u64,
    replicas: u16,
    /// Put into the store before.
    filled_visits: u32,
    filled_events: u32,
    /// From the start of the daemons until all of them listened.
    started_in_ms: f64,
    /// Answered AA, which is on disk and planned, a second.
    messages_per_second: f64,
    /// The same, counting until the last event was published too.
    published_messages_per_second: f64,
    n_messages: u64,
    n_failed: u64,
    latency_ms: Latency,
    daemon: Usage,
    events_per_message: f64,
    /// The most events that waited at any time, and those that waited when the load ended.
    waiting_events: Waiting,
    messages_per_commit: f64,
    sync_ms: f64,
    ceilings: Option<Ceilings>,
    against: Option<Against>,
    points: Vec<Point>,
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
    /// What each of the idle connections has added to the memory.
    idle_connection_kib: Option<f64>,
    written_bytes_per_message: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Waiting {
    most: i64,
    last: i64,
}

#[derive(Debug, Serialize)]
struct Ceilings {
    /// A receiver that frames, reads MSH-10, answers, and keeps nothing.
    receiver_messages_per_second: f64,
    receiver_p50_ms: f64,
    /// A writer of the same rows in batches of the same size.
    writer_messages_per_second: f64,
}

/// Another receiver under the same load.
#[derive(Debug, Serialize)]
struct Against {
    messages_per_second: f64,
    latency_ms: Latency,
}

/// One point of the plot.
#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    connections: u16,
    messages_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
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
    let folder = match folder.context("cannot make a folder to work in (`--folder`)") {
        Ok(folder) => folder,
        Err(error) => return console.fail(64, &error),
    };
    let figures = measure(args, folder.path(), console).await?;
    if let Some(file) = &args.plot {
        plot::draw(file, &figures.points).with_context(|| format!("cannot draw `{}`", file.display()))?;
    }
    if console.json {
        console.out(&serde_json::to_string_pretty(&figures)?)?;
    } else {
        print(&figures, *console)?;
    }
    Ok(if figures.n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &BenchArgs, folder: &Path, console: &Console) -> anyhow::Result<Figures> {
    let load = Load {
        n_connections: args.connections,
        n_visits: args.visits,
        n_units: N_UNITS,
        warm_up: Duration::from_secs(args.warm_up),
        measured: Duration::from_secs(args.seconds),
        // In a fast moment of the machine both are loaded, and in a slow one too.
        n_turns: if args.against.is_some() { u32::try_from(args.seconds.div_ceil(TURN))? } else { 1 },
        rate: args.rate,
        series: 0,
    };
    let sync_ms = ceilings::sync_ms(folder)?.median;
    let house = House::furnish(folder, args.team, args.store.as_ref(), args.amqp.as_ref(), args.replicas)?;
    let backend = Backend::start(args.amqp.as_ref()).await?;
    if args.fill > 0 || args.waiting > 0 {
        fill_before(args, &house, load, console).await?;
    }
    let daemons = house.start().await?;
    let mut points = Vec::new();
    if args.plot.is_some() {
        console.tell("measuring latency against load");
        points = measure_points(&daemons, load).await?;
    }
    let idle = if args.idle > 0 { Some(open_idle(&daemons, args.idle).await?) } else { None };
    console.tell(&format!("loading for {} seconds", args.warm_up + args.seconds));
    let store = house.store().await?;
    drained(&store).await?;
    let n_published_before = daemons.metric(CONFIRMS).await?;
    let before = daemons.used()?;
    if let Some(other) = args.against {
        console.tell(&format!("and {other} in the same way, in turn"));
    }
    let (fared, against, waiting_events) = load_in_turn(&daemons, &store, load, args.against).await?;
    let loaded = load.lasts();
    let ended = Instant::now();
    let used = daemons.used()?;
    let n_batches = daemons.metric("wardroom_commit_messages_count").await?;
    let messages_per_commit = ratio(daemons.metric("wardroom_commit_messages_sum").await?, n_batches);
    drained(&store).await?;
    let published = loaded + ended.elapsed();
    let n_published = daemons.metric(CONFIRMS).await? - n_published_before;
    let started_in_ms = daemons.started_in.as_secs_f64() * 1000.0;
    daemons.end().await?;
    let idle_connection_kib = idle.map(|(kib, _connections)| kib);

    backend.end().await?;
    let ceilings = if args.no_ceilings || args.store.is_some() || args.amqp.is_some() {
        None
    } else {
        let receiver = ceilings::bare_receiver(load).await?;
        let mut sizes = store.row_sizes().await?;
        sizes.outbox.n_bytes = usize::try_from(std::fs::metadata(folder.join("events.0.jsonl"))?.len() / house.n_lines()?.max(1))?;
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
    let cpu_seconds = used.cpu_seconds - before.cpu_seconds;
    Ok(Figures {
        connections: args.connections,
        seconds: args.seconds,
        visits_per_connection: args.visits,
        people_per_unit: args.team,
        message_bytes: fared.n_bytes / fared.n_sent.max(1),
        replicas: args.replicas,
        filled_visits: args.fill,
        filled_events: args.waiting,
        started_in_ms,
        messages_per_second: rate,
        published_messages_per_second: rate * loaded.as_secs_f64() / published.as_secs_f64(),
        n_messages: fared.n_accepted,
        n_failed: fared.n_failed,
        latency_ms: latency(&fared),
        daemon: Usage {
            cpu_us_per_message: cpu_seconds * 1e6 / n_sent,
            cores: cpu_seconds / loaded.as_secs_f64(),
            peak_memory_mib: used.peak_kib / 1024.0,
            idle_connection_kib,
            written_bytes_per_message: (used.written_bytes - before.written_bytes) / n_sent,
        },
        events_per_message: n_published / n_sent,
        waiting_events,
        messages_per_commit,
        sync_ms,
        ceilings,
        against: against.map(|other| Against { messages_per_second: per_second(other.n_accepted, load.measured), latency_ms: latency(&other) }),
        points,
    })
}

/// Has a daemon make something to copy, and fills the store with it.
async fn fill_before(args: &BenchArgs, house: &House, load: Load, console: &Console) -> anyhow::Result<()> {
    let daemons = house.start().await?;
    let feeds = daemons.feeds();
    let short = Load { n_connections: 1, warm_up: Duration::ZERO, measured: Duration::from_millis(300), n_turns: 1, series: 9, rate: None, ..load };
    load::one(short, feeds).await?;
    drained(&house.store().await?).await?;
    daemons.end().await?;
    let n_rows = args.fill.max(args.waiting);
    let progress = console.progress(usize::try_from(n_rows)?, "rows put into the store");
    fill::fill(house, args.fill, args.waiting, |n_done| progress.set_position(n_done.into())).await?;
    progress.finish_and_clear();
    if !ceilings::is_calm(&house.folder).await? {
        console.tell("the disk does not come to rest: what else it does shows in the latencies");
    }
    Ok(())
}

/// Latency with one connection, with two, with four, up to all of them.
async fn measure_points(daemons: &Daemons, load: Load) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    let doubled = std::iter::successors(Some(1_u16), |n| n.checked_mul(2)).take_while(|n| *n < load.n_connections);
    for (series, n_connections) in (1..).zip(doubled.chain([load.n_connections])) {
        let feeds = daemons.feeds();
        let load = Load { n_connections, series, warm_up: Duration::from_secs(1), measured: POINT, n_turns: 1, ..load };
        let fared = load::one(load, feeds).await?;
        let (p50_ms, p99_ms) = (fared.quantile_ms(0.5), fared.quantile_ms(0.99));
        points.push(Point { connections: n_connections, messages_per_second: per_second(fared.n_accepted, POINT), p50_ms, p99_ms });
    }
    Ok(points)
}

/// Opens connections that say nothing; gives back what each of them costs in memory.
async fn open_idle(daemons: &Daemons, n_connections: u16) -> anyhow::Result<(f64, Vec<TcpStream>)> {
    let before = daemons.used()?.resident_kib;
    let mut connections = Vec::new();
    for (n, feed) in (0..n_connections).zip(daemons.feeds().into_iter().cycle()) {
        // From many addresses of this machine: a listener does not let one address have all of its places.
        let from = SocketAddr::from(([127, 0, 1, u8::try_from(n / 200 + 1)?], 0));
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        connections.push(socket.connect(feed).await?);
    }
    let opened = Instant::now();
    while daemons.metric("wardroom_connections").await? < f64::from(n_connections) && opened.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(((daemons.used()?.resident_kib - before) / f64::from(n_connections), connections))
}

/// Loads the daemons, and another receiver in turn with them; looks at the outbox meanwhile.
async fn load_in_turn(daemons: &Daemons, store: &Store, load: Load, other: Option<SocketAddr>) -> anyhow::Result<(Fared, Option<Fared>, Waiting)> {
    let (feeds, other) = (daemons.feeds(), other.map(|other| [other]));
    let mut loading = tokio::task::spawn_blocking(move || {
        // What the daemons still publish in the end is no matter of the other one's.
        let receivers: Vec<&[SocketAddr]> = other.iter().map(<[_; 1]>::as_slice).chain([feeds.as_slice()]).collect();
        load::run(load, &receivers)
    });
    let mut waiting = Waiting::default();
    let mut looks = tokio::time::interval(DEPTH_EVERY);
    let mut fared = loop {
        tokio::select! {
            fared = &mut loading => break fared??,
            _ = looks.tick() => waiting.most = waiting.most.max(store.outbox_depth().await?.n_pending),
        }
    };
    waiting.last = store.outbox_depth().await?.n_pending;
    let own = fared.pop().context("the daemons were not loaded")?;
    Ok((own, fared.pop(), waiting))
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
    let shown = |latency: &Latency| format!("p50 {:.2}  p90 {:.2}  p99 {:.2}  max {:.2}", latency.p50, latency.p90, latency.p99, latency.max);
    let load =
        format!("{} connections, {} visits each, {} bytes a message", figures.connections, figures.visits_per_connection, figures.message_bytes);
    line("load", load)?;
    if figures.replicas > 1 {
        line("daemons", figures.replicas.to_string())?;
    }
    if figures.filled_visits > 0 || figures.filled_events > 0 {
        line("in the store before", format!("{} visits, {} events that waited", figures.filled_visits, figures.filled_events))?;
    }
    line("from start to listening", format!("{:.0} ms", figures.started_in_ms))?;
    line(
        "messages a second",
        format!("{:.0} on disk and planned, {:.0} published", figures.messages_per_second, figures.published_messages_per_second),
    )?;
    line("not accepted", figures.n_failed.to_string())?;
    line("latency in ms", shown(latency_ms))?;
    line("processor time a message", format!("{:.1} us, {:.2} cores", daemon.cpu_us_per_message, daemon.cores))?;
    line("memory at its peak", format!("{:.0} MiB", daemon.peak_memory_mib))?;
    if let Some(kib) = daemon.idle_connection_kib {
        line("memory of an idle connection", format!("{kib:.1} KiB"))?;
    }
    line("written to disk a message", format!("{:.1} KiB", daemon.written_bytes_per_message / 1024.0))?;
    line("events a message", format!("{:.2}", figures.events_per_message))?;
    line("events that waited", format!("{} at the most, {} at the end", figures.waiting_events.most, figures.waiting_events.last))?;
    line("messages a commit", format!("{:.1}", figures.messages_per_commit))?;
    line("a sync of 4 KiB", format!("{:.3} ms", figures.sync_ms))?;
    let share = |other: f64| format!("{other:.0} a second; the daemon reached {:.0} %", 100.0 * ratio(figures.messages_per_second, other));
    if let Some(ceilings) = &figures.ceilings {
        line("ceiling: a receiver, nothing kept", share(ceilings.receiver_messages_per_second))?;
        line("ceiling: a writer of the same rows", share(ceilings.writer_messages_per_second))?;
    }
    if let Some(against) = &figures.against {
        line("the other receiver", share(against.messages_per_second))?;
        line("its latency in ms", shown(&against.latency_ms))?;
    }
    for point in &figures.points {
        let Point { connections, messages_per_second, p50_ms, p99_ms } = point;
        line(&format!("with {connections:>3} connections"), format!("{messages_per_second:>6.0} a second, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms"))?;
    }
    Ok(())
}

async fn drained(store: &Store) -> anyhow::Result<()> {
    let begun = Instant::now();
    while store.outbox_depth().await?.n_pending > 0 {
        anyhow::ensure!(begun.elapsed() < DRAIN_TIMEOUT, "events are not published");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
