//! What `rooms.purge_after` says, carried out every day: the daemon gives the order that `wardroom purge` gives, step by step and at its own quiet pace.
//!
//! When it was done last stands in the store, so that a restart neither forgets nor hurries it. Where several daemons share a store one of them does it; if
//! two did, they would find nothing twice. It deletes nothing itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::intake::daemon::Intake;
use crate::intake::orders::Operator;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::intake::retention::Place;
use crate::intake::retention::Purged;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::lease::Share;
use crate::time::Clock;
use crate::time::Timestamp;

/// Under this name the store remembers when it was done last.
const DONE_AT: &str = "purged_at";
const EVERY: Duration = Duration::from_hours(24);
/// How often to look whether it is time.
const LOOK_EVERY: Duration = Duration::from_mins(5);
/// How long messages have the intake for themselves between two steps.
const REST: Duration = Duration::from_millis(200);
/// How many events may wait for the broker before rooms are purged behind them.
const BACKLOG: i64 = 2_000;

/// What is to be kept, and by whom.
#[derive(Debug)]
pub(super) struct Retention<C> {
    pub(super) store: Store,
    pub(super) intake: Intake,
    pub(super) clock: Arc<C>,
    /// How long after its end a stay is kept.
    pub(super) purge_after: Duration,
}

impl<C: Clock> Retention<C> {
    /// Works until it is told to stop. `share` tells whether it is this daemon's turn.
    pub(super) async fn run(self, share: watch::Receiver<Option<Share>>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let leads = share.borrow().as_ref().is_some_and(Share::leads);
            if leads && let Err(error) = self.look(&stop).await {
                tracing::warn!(%error, "what is kept too long cannot be looked for yet");
            }
        }
    }

    /// Does it, where it is time.
    async fn look(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let done_at = self.store.setting(DONE_AT).await?.and_then(|value| Some(i64::from_be_bytes(value.try_into().ok()?)));
        let now = self.clock.now();
        if done_at.is_some_and(|at| now < Timestamp::from_micros(at).plus(EVERY)) {
            return Ok(());
        }
        if self.purge(now, stop).await? { self.store.put_setting(DONE_AT, now.as_micros().to_be_bytes().to_vec()).await } else { Ok(()) }
    }

    /// Purges what ended long enough before this instant. Gives back whether it came to the end.
    async fn purge(&self, now: Timestamp, stop: &CancellationToken) -> Result<bool, StoreError> {
        let until = now.minus(self.purge_after);
        let by = Operator { uid: rustix::process::getuid().as_raw(), login: None };
        let (mut all, mut place) = (Purged::default(), Some(Place::START));
        while let Some(at) = place {
            if self.store.outbox_depth().await?.n_pending <= BACKLOG {
                match self.intake.order(Order::Purge { until, place: at, is_daily: true }, by.clone()).await {
                    Some(Outcome::Purged { purged, next }) => {
                        all.add(&purged);
                        place = next;
                    }
                    // Why stands in the log.
                    _ => return Ok(false),
                }
            }
            if place.is_some() && stop.run_until_cancelled(tokio::time::sleep(REST)).await.is_none() {
                return Ok(false);
            }
        }
        if !all.is_nothing() || all.waiting + all.left_out > 0 {
            let Purged { visits, rooms, patients, messages, waiting, left_out, .. } = all;
            tracing::info!(visits, rooms, patients, messages, waiting, left_out, "what had ended longer ago than `rooms.purge_after` is purged");
        }
        Ok(true)
    }
}
