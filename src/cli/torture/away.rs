//! The broker is away while many events are committed, and comes back: how long it takes until all of them are published, and what the daemons hold in
//! memory meanwhile.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::cli::console::Console;
use crate::cli::torture::load::Signals;
use crate::cli::torture::proxy::Condition;
use crate::cli::torture::proxy::Proxy;
use crate::cli::torture::replica::Replica;
use crate::store::Store;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A relay that publishes nothing for so long has got stuck.
const STUCK_AFTER: Duration = Duration::from_mins(3);
/// How many samples are kept of the way up, and of the way down.
const N_SAMPLES: i64 = 10;

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Away {
    pub(super) events: i64,
    pub(super) seconds: f64,
    pub(super) drain_seconds: f64,
    /// The most that any daemon held in memory while the broker was away.
    pub(super) peak_kib: u64,
    pub(super) drain_peak_kib: u64,
    /// A tenth of the way each.
    pub(super) samples: Vec<Sample>,
}

/// One look.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) second: u64,
    pub(super) is_away: bool,
    pub(super) pending: i64,
    /// Of the daemon that held most.
    pub(super) resident_kib: u64,
}

/// Cuts the broker off, waits until so many events are pending, lets nobody send any more, and gives the broker back.
pub(super) async fn run(n_events: i64, replicas: &[Replica], store: &Store, signals: &Signals, console: &Console) -> anyhow::Result<Away> {
    let links: Option<Vec<_>> = replicas.iter().map(|replica| replica.links.broker.as_ref()).collect();
    let links = links.context("`--broker-away` needs `--amqp` with a URL that begins with `amqp://`")?;
    let mut away = Away { events: n_events, ..Away::default() };
    let began = Instant::now();
    let progress = console.progress(usize::try_from(n_events).unwrap_or(usize::MAX), "events while the broker is away");
    set(&links, Condition::Cut);
    let mut next = 0;
    loop {
        let Some(pending) = pending(store).await else { continue };
        let resident_kib = most(replicas);
        away.peak_kib = away.peak_kib.max(resident_kib);
        progress.set_position(u64::try_from(pending).unwrap_or(0));
        if pending >= next {
            away.samples.push(Sample { second: began.elapsed().as_secs(), is_away: true, pending, resident_kib });
            next = pending + n_events / N_SAMPLES;
        }
        if pending >= n_events {
            away.events = pending;
            break;
        }
    }
    signals.stop.cancel();
    signals.done.cancelled().await;
    away.seconds = began.elapsed().as_secs_f64();
    set(&links, Condition::Open);
    let back = Instant::now();
    let (mut least, mut since, mut next) = (i64::MAX, Instant::now(), i64::MAX);
    while least > 0 {
        let Some(pending) = pending(store).await else { continue };
        let resident_kib = most(replicas);
        away.drain_peak_kib = away.drain_peak_kib.max(resident_kib);
        progress.set_position(u64::try_from(pending).unwrap_or(0));
        if pending <= next || pending == 0 {
            away.samples.push(Sample { second: began.elapsed().as_secs(), is_away: false, pending, resident_kib });
            next = pending - n_events / N_SAMPLES;
        }
        if pending < least {
            (least, since) = (pending, Instant::now());
        }
        anyhow::ensure!(since.elapsed() < STUCK_AFTER, "{pending} events wait, and none was published within {STUCK_AFTER:?}");
    }
    away.drain_seconds = back.elapsed().as_secs_f64();
    progress.finish_and_clear();
    Ok(away)
}

/// How many events wait; none when the store does not say.
async fn pending(store: &Store) -> Option<i64> {
    sleep(LOOK_EVERY).await;
    store.outbox_depth().await.ok().map(|depth| depth.n_pending)
}

fn set(links: &[&Proxy], condition: Condition) {
    for link in links {
        link.set(condition);
    }
}

fn most(replicas: &[Replica]) -> u64 {
    replicas.iter().filter_map(Replica::resident_kib).max().unwrap_or_default()
}
