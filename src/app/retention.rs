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
        let by = Operator::of_this_process();
        let (mut all, mut place) = (Purged::default(), Some(Place::START));
        while let Some(at) = place {
            if self.store.outbox_depth().await?.n_pending <= BACKLOG {
                match self.intake.order(Order::Purge { until, place: at, is_daily: true, sooner: false }, by.clone()).await {
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::runtime::Handle;
    use tokio::sync::Notify;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::EVERY;
    use super::Retention;
    use crate::care::policy::Policy;
    use crate::directory::Directory;
    use crate::directory::Sources;
    use crate::directory::said::Said;
    use crate::ids::IdSource;
    use crate::ids::JournalId;
    use crate::intake::daemon;
    use crate::intake::daemon::IntakeParts;
    use crate::intake::guard::Guard;
    use crate::intake::wake_at::WakeAt;
    use crate::store::Store;
    use crate::store::StoreOptions;
    use crate::store::master_key::MasterKey;
    use crate::store::rows::CommitBatch;
    use crate::store::rows::Disposition;
    use crate::store::rows::JournalRow;
    use crate::store::sealing::Document;
    use crate::time::ManualClock;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_micros(1_795_300_000_000_000);
    const KEPT: Duration = Duration::from_hours(48);

    /// A message that had no effect.
    fn without_effect(at: Timestamp) -> CommitBatch {
        let row = JournalRow {
            id: JournalId::first_at(at),
            feed: "main".to_owned(),
            received_at: at,
            dedupe: None,
            control: None,
            trigger: Some("A20".to_owned()),
            disposition: Disposition::Noop,
            reason: Some("no_effect".to_owned()),
            duplicate_of: None,
            ack_code: None,
            patient_id: None,
            key: None,
            by_age: true,
            raw: Document::new(0, b"MSH".to_vec()),
        };
        CommitBatch { journal: vec![row], ..CommitBatch::default() }
    }

    #[tokio::test]
    async fn it_is_done_once_a_day_and_leaves_what_is_younger() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let master_key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let store = Store::open(StoreOptions { url: url.into(), master_key, readers: 1, daemon: 1 }).await.unwrap();
        let (directory, _) = Directory::open(Sources::default(), Said::default(), NOW).unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let (intake, _, task) = daemon::start(IntakeParts {
            store: store.clone(),
            ids: Arc::new(IdSource::new(1)),
            clock: Arc::clone(&clock),
            policy: Arc::new(Policy::default()),
            directory: Arc::new(directory),
            feeds: HashMap::new(),
            outbox: Arc::new(Notify::new()),
            wake: Arc::new(WakeAt::default()),
            guard: Arc::new(Guard::default()),
            connections: Handle::current(),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(task);
        let days_ago = |days: u64| NOW.minus(Duration::from_hours(24 * days));
        for days in [5, 4, 1] {
            store.commit(&without_effect(days_ago(days))).await.unwrap();
        }
        let retention = Retention { store: store.clone(), intake, clock: Arc::clone(&clock), purge_after: KEPT };
        let left = async || store.journal_page(JournalId(i64::MIN), 9).await.unwrap().iter().map(|row| row.received_at).collect::<Vec<_>>();
        let never = CancellationToken::new();
        retention.look(&never).await.unwrap();
        assert_eq!(left().await, [days_ago(1)]);
        // It was done: until tomorrow nothing is looked for.
        store.commit(&without_effect(days_ago(3))).await.unwrap();
        clock.advance(Duration::from_hours(23));
        retention.look(&never).await.unwrap();
        assert_eq!(left().await, [days_ago(3), days_ago(1)]);
        clock.advance(EVERY);
        retention.look(&never).await.unwrap();
        assert_eq!(left().await, [] as [Timestamp; 0]);
        let recount = store.recount(None, crate::store::ledger::Look::Thorough).await.unwrap();
        assert_eq!((recount.accepted["main"], recount.purged["main"]), (4, 4));
        let rows = store.audit_page(None, i64::MIN, 9).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>(), ["stays.purged"; 2]);
        drop(retention);
        tasks.close();
        tasks.wait().await;
        store.close().await;
    }
}
