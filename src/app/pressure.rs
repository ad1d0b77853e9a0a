//! Back-pressure: the intake stops before the store cannot take any more, and starts again by itself.
//!
//! Two things are watched: how many events wait for the backend, and how much space the volume of a SQLite store has left. A store that refuses to write
//! is tried again until it does, and is a reason in `/readyz` until then. Nothing here is ever deleted.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin::readiness::Readiness;
use crate::admin::readiness::Reason;
use crate::cli::words::counted_as;
use crate::config::Config;
use crate::config::store::StoreUrl;
use crate::intake::gate::Bar;
use crate::intake::gate::Gate;
use crate::store::Store;

const LOOK_EVERY: Duration = Duration::from_secs(1);
const PROBE: &str = "probe";
/// Where less than this is free beyond what is to stay free, the store's log is kept short: twice what it takes otherwise, in bytes.
const LOG_AND_MORE: u64 = 256 << 20;
/// What to do when too little is free.
pub(crate) const MAKE_SPACE: &str = "free some space on the volume of the store, or make it larger; the intake starts again by itself";

/// When the intake stops.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// So many events may wait.
    pub(super) max_pending: Option<i64>,
    /// So much space is to stay free where this file is.
    pub(super) min_free: Option<(PathBuf, u64)>,
    /// How long a message waits at the most before it is too late.
    pub(super) commit_timeout: Duration,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        let file = if let StoreUrl::Sqlite(file) = &config.store.url { Some(file.clone()) } else { None };
        Self {
            max_pending: config.max_pending,
            min_free: file.map(|file| (file, config.store.min_free.unwrap_or(0))),
            commit_timeout: config.feeds.iter().map(|feed| feed.commit_timeout).max().unwrap_or_default(),
        }
    }
}

/// Says what stands in the way.
pub(super) fn register(readiness: &Readiness, gate: &Arc<Gate>, store: &Store) {
    let late = Arc::clone(gate);
    readiness.register(move || {
        let what = |n_late| {
            let messages = counted_as(usize::try_from(n_late).unwrap_or(usize::MAX), "message was", "messages in a row were");
            format!("{messages} not committed in time; senders keep what is not answered and send it again")
        };
        let remedy =
            "look at the log, at the database and at what else runs on this machine; this goes by itself when the store writes in time again";
        Some(late.n_late()).filter(|n_late| *n_late > 0).map(|n_late| Reason::new("commit", what(n_late), remedy)).into_iter().collect()
    });
    let gate = Arc::clone(gate);
    readiness.register(move || {
        let remedy = |bar| match bar {
            Bar::Outbox => "look at the broker and at the log; the intake starts again when the events are published",
            Bar::Disk => MAKE_SPACE,
        };
        gate.reasons().into_iter().map(|(bar, what)| Reason::new(bar.as_str(), format!("messages are not taken: {what}"), remedy(bar))).collect()
    });
    let store = store.clone();
    readiness.register(move || {
        let reason = |trouble: String| {
            let (what, remedy) =
                trouble.split_once("\nhint: ").unwrap_or((&trouble, "look at the database; the daemon goes on by itself when it can write"));
            Reason::new("store", what.to_owned(), remedy.to_owned())
        };
        store.trouble().map(reason).into_iter().collect()
    });
}

/// Watches until it is told to stop.
pub(super) async fn watch(limits: Limits, gate: Arc<Gate>, store: Store, stop: CancellationToken) {
    let mut late = (0, Instant::now());
    let mut probe = None;
    loop {
        // A store without messages to write would not find out that it can write again. While messages still wait they say so themselves: a probe may get
        // through where they do not.
        let n_late = gate.n_late();
        if n_late != late.0 {
            late = (n_late, Instant::now());
        }
        let nobody_waits = late.1.elapsed() > limits.commit_timeout + LOOK_EVERY;
        let begun = probe.is_none();
        if !begun || store.trouble().is_some() || (n_late > 0 && nobody_waits) {
            // One at a time: it runs to its end, whoever waits for it.
            let probing = probe.get_or_insert_with(|| Box::pin(store.put_setting(PROBE, Vec::new())));
            if let Ok(written) = timeout(LOOK_EVERY, probing.as_mut()).await {
                probe = None;
                match written {
                    Ok(()) if begun && nobody_waits => gate.was_in_time(),
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "the store still cannot write"),
                }
            }
        }
        if let Some(max) = limits.max_pending
            && let Ok(depth) = store.outbox_depth().await
        {
            look_at_outbox(&gate, depth.n_pending, max);
        }
        if let Some((file, min_free)) = &limits.min_free
            && let Some(mut n_free) = free_bytes(file)
        {
            store.keep_log_short(n_free < min_free.saturating_add(LOG_AND_MORE));
            if n_free < *min_free {
                // Much of what is missing may be the store's own log.
                if let Err(error) = store.shorten_log().await {
                    tracing::debug!(%error, "the write-ahead log could not be written back");
                }
                n_free = free_bytes(file).unwrap_or(n_free);
            }
            look_at_disk(&gate, n_free, *min_free);
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

/// It opens a little later than it shuts, so that it does not flutter.
fn look_at_outbox(gate: &Gate, n_pending: i64, max: i64) {
    if n_pending >= max {
        gate.shut(
            Bar::Outbox,
            &format!("{}, and `publish.max_pending` is {max}", counted_as(usize::try_from(n_pending).unwrap_or(0), "event waits", "events wait")),
        );
    } else if n_pending < max - max / 10 {
        gate.open(Bar::Outbox);
    }
}

fn look_at_disk(gate: &Gate, n_free: u64, min_free: u64) {
    if n_free < min_free {
        gate.shut(Bar::Disk, &space(n_free, min_free));
    } else if n_free >= min_free + min_free / 10 {
        gate.open(Bar::Disk);
    }
}

/// How much is free and how much is to be.
pub(crate) fn space(n_free: u64, min_free: u64) -> String {
    format!("{} MiB are free, and `store.min_free` is {} MiB", n_free >> 20, min_free >> 20)
}

/// What somebody without privileges may still write on the volume of a file.
pub(crate) fn free_bytes(file: &Path) -> Option<u64> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let volume = rustix::fs::statvfs(folder).ok()?;
    Some(volume.f_bavail.saturating_mul(volume.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::look_at_disk;
    use super::look_at_outbox;
    use crate::intake::gate::Gate;

    #[test]
    fn it_shuts_at_the_limit_and_opens_only_well_below_it() {
        let gate = Gate::default();
        let after = |n| {
            look_at_outbox(&gate, n, 100);
            gate.is_shut()
        };
        assert_eq!([99, 100, 99, 90, 89, 99].map(after), [false, true, true, true, false, false]);
        let after = |n| {
            look_at_disk(&gate, n, 100);
            gate.is_shut()
        };
        assert_eq!([100, 99, 100, 109, 110, 100].map(after), [false, true, true, true, false, false]);
    }
}
