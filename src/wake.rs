//! Timers: visits whose room changes by itself are planned again when their time has come.
//!
//! The store knows when; nothing is kept in memory that a restart would lose. Where several daemons share a store, each wakes the visits of its share. A
//! wake-up decides nothing: it plans with what stands then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::intake::daemon::Intake;
use crate::intake::wake_at::WakeAt;
use crate::store::Store;
use crate::store::lease::Share;
use crate::store::lease::Work;
use crate::time::Clock;

/// How many visits are woken at once.
const PAGE: i64 = 64;
/// The longest sleep: the machine's clock may be set, and other replicas write too.
const LONGEST: Duration = Duration::from_secs(30);
/// How long to wait after the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Wakes visits until it is stopped. Tells what its share is, for other work that one daemon has to do.
pub async fn run<C: Clock>(
    store: Store,
    intake: Intake,
    wake: Arc<WakeAt>,
    clock: Arc<C>,
    shared: watch::Sender<Option<Share>>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        // What is noted before the store is asked is in its answer, or comes again behind it.
        wake.woken();
        let pause = match turn(&store, &intake, &*clock, &shared).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "rooms that are due cannot be planned yet");
                RETRY
            }
        };
        let until = wake.sleep_until(clock.now().plus(pause));
        let pause = until.since(clock.now());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wake.changed() => {}
            () = stop.cancelled() => break,
        }
    }
    if let Err(error) = store.give_up(Work::Wake).await {
        tracing::warn!(%error, "other daemons cannot be told that this one ends; they take over in a few seconds");
    }
}

/// Wakes everything that is due; says how long until the next is.
async fn turn<C: Clock>(
    store: &Store,
    intake: &Intake,
    clock: &C,
    shared: &watch::Sender<Option<Share>>,
) -> Result<Duration, crate::store::error::StoreError> {
    loop {
        let known = shared.borrow().clone();
        let share = match known.filter(|share| share.renew_in().is_none_or(|renewal| !renewal.is_zero())) {
            Some(share) => share,
            None => store.share(Work::Wake).await?,
        };
        shared.send_if_modified(|known| known.replace(share.clone()).as_ref() != Some(&share));
        let now = clock.now();
        let due = store.due_wakes(now, PAGE, &share).await?;
        if due.is_empty() {
            let next = store.next_wake(&share).await?.map_or(LONGEST, |at| at.since(clock.now()));
            // A share is renewed in time, and what others had may be due for long.
            let longest = share.renew_in().unwrap_or(LONGEST);
            return Ok(next.min(longest).clamp(Duration::from_millis(1), LONGEST));
        }
        let visits = due.into_iter().map(|(visit, _)| (visit, Cause::of(CauseKind::Wake))).collect();
        if !intake.replan(visits).await {
            return Ok(RETRY);
        }
    }
}
