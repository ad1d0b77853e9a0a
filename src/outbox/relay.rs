//! The relay: carries committed events from the outbox to the publisher.
//!
//! It is woken by commits, sends what is pending in batches, and settles an event only after the publisher said that it arrived. Per room strictly
//! in order (see `backlog`). When publishing fails the events stay pending and are tried again, later each time; an event that the broker returned
//! or refused holds back its room and no other. Where several daemons share a store, it publishes only the rooms that are its share, and gives them up
//! while it cannot publish. It never drops an event and never looks into one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::outbox::Outbox;
use crate::outbox::OutboxRow;
use crate::outbox::Outcome;
use crate::outbox::Publisher;
use crate::outbox::backlog::Backlog;
use crate::outbox::backlog::Backoff;
use crate::outbox::status::RelayStatus;
use crate::outbox::status::Trouble;
use crate::outbox::trace::publish_span;
use crate::store::lease::Share;
use crate::time::Clock;

/// Counter: events that the publisher confirmed.
pub const CONFIRMS: &str = "wardroom_publish_confirms_total";
/// Counter: events that the broker returned because no queue is bound for them.
pub const RETURNS: &str = "wardroom_publish_returns_total";
/// Counter: events that the broker refused.
pub const REFUSALS: &str = "wardroom_publish_refusals_total";
/// Counter: events that were parked because no broker would ever take them.
pub const PARKED: &str = "wardroom_publish_parked_total";
/// Counter, by `kind`: batches of which nobody knows what became, and attempts to connect that failed.
pub const FAILURES: &str = "wardroom_publish_failures_total";
/// Histogram: seconds from sending a batch to knowing what became of it.
pub const SECONDS: &str = "wardroom_publish_seconds";

/// How long events gather behind a batch of few: each look at a shared outbox is work for a server that all daemons share, and each batch written to a
/// file is synced on the disk that commits wait for too. What comes when nothing was sent for so long is sent at once.
const REST: Duration = Duration::from_millis(10);

/// The store fails, so that nobody knows what waits.
const UNREADABLE: Trouble = Trouble { kind: "outbox", hint: "look at the store's disk or server; events wait in it, and nothing is lost" };

/// How the relay paces itself.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// How many events may be in flight.
    pub window: usize,
    /// The wait after a first failure; it doubles.
    pub first_retry: Duration,
    /// The longest wait.
    pub last_retry: Duration,
    /// How often to look when nobody wakes it: the connection may be gone.
    pub look_again: Duration,
    /// How often to look where other daemons commit what is this one's to publish.
    pub look_for_others: Duration,
    /// How long what is in flight may take to arrive after the relay was told to stop.
    pub grace: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            window: 256,
            first_retry: Duration::from_millis(500),
            last_retry: Duration::from_secs(30),
            look_again: Duration::from_secs(1),
            look_for_others: Duration::from_millis(200),
            grace: Duration::from_secs(5),
        }
    }
}

/// Carries events from an outbox to a publisher.
pub struct Relay<O, P> {
    outbox: O,
    publisher: P,
    wake: Arc<Notify>,
    status: Arc<RelayStatus>,
    clock: Arc<dyn Clock>,
    options: RelayOptions,
    backlog: Backlog,
    limit: usize,
    /// Whether the publisher took something since it last failed.
    is_ready: bool,
    /// What is this relay's to publish; none before it was asked for.
    share: Option<Share>,
}

/// What to do after a round.
enum Next {
    /// There may be more.
    Again,
    /// There may be more, and soon there will be.
    Rest,
    /// Nothing can be sent before then, unless something is committed.
    WaitFor(Duration),
    /// It failed.
    BackOff,
    /// It was told to stop, and the grace is over.
    Stop,
}

/// What is written to the outbox.
#[derive(Clone, Copy)]
enum Write<'a> {
    Settle(&'a [i64]),
    Park(i64, &'static str),
}

impl<O, P> std::fmt::Debug for Relay<O, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<O: Outbox, P: Publisher> Relay<O, P> {
    /// A relay that is woken by `wake`: call `notify_one` after each commit that added events.
    pub fn new(outbox: O, publisher: P, wake: Arc<Notify>, status: Arc<RelayStatus>, clock: Arc<dyn Clock>, options: RelayOptions) -> Self {
        let backlog = Backlog::new(Backoff { first: options.first_retry, last: options.last_retry });
        Self { outbox, publisher, wake, status, clock, options, backlog, limit: 0, is_ready: false, share: None }
    }

    /// Works until it is told to stop; then finishes what is in flight, settles it and closes the publisher.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut n_failures = 0_u32;
        while !stop.is_cancelled() {
            match self.round(&stop).await {
                Next::Again => n_failures = 0,
                Next::Rest => {
                    n_failures = 0;
                    stop.run_until_cancelled(tokio::time::sleep(REST)).await;
                }
                Next::WaitFor(wait) => {
                    n_failures = 0;
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Next::BackOff => {
                    back_off(self.backoff(), n_failures, &stop).await;
                    n_failures = n_failures.saturating_add(1);
                }
                Next::Stop => break,
            }
        }
        self.give_up().await;
        if tokio::time::timeout(self.options.grace, self.publisher.close()).await.is_err() {
            tracing::warn!("the publisher did not close in time");
        }
    }

    /// Sends one batch.
    async fn round(&mut self, stop: &CancellationToken) -> Next {
        let Some(batch) = self.next_batch().await else { return Next::BackOff };
        let span = publish_span(&batch);
        let sent_at = Instant::now();
        let published = tokio::select! {
            biased;
            published = self.publisher.publish(&batch).instrument(span) => published,
            () = grace_over(stop, self.options.grace) => return Next::Stop,
        };
        match published {
            Err(error) => {
                self.backlog.forget();
                self.is_ready = false;
                self.give_up().await;
                self.status.failed(&error);
                metrics::counter!(FAILURES, "kind" => error.kind()).increment(1);
                if error.is_transient() {
                    tracing::warn!(%error, hint = error.hint(), "events cannot be published; they wait in the outbox");
                } else {
                    tracing::error!(%error, hint = error.hint(), "events cannot be published until somebody mends this; they wait in the outbox");
                }
                Next::BackOff
            }
            Ok(_) if !self.is_ready => {
                self.is_ready = true;
                Next::Again
            }
            Ok(_) if batch.is_empty() => {
                self.status.works();
                let due = self.backlog.next_due().map(|due| due.saturating_duration_since(Instant::now()));
                let renewal = self.share.as_ref().and_then(Share::renew_in);
                let look = if renewal.is_some() { self.options.look_for_others } else { self.options.look_again };
                Next::WaitFor([due, renewal].into_iter().flatten().fold(look, Duration::min))
            }
            Ok(outcomes) => {
                metrics::histogram!(SECONDS).record(sent_at.elapsed().as_secs_f64());
                self.apply(&batch, &outcomes, stop).await
            }
        }
    }

    /// Asks for a share, or renews it in time. `false` when the store cannot say.
    async fn renew(&mut self) -> bool {
        let is_due = |share: &Share| share.renew_in().is_some_and(|renewal| renewal.is_zero());
        if self.share.as_ref().is_some_and(|share| !is_due(share)) {
            return true;
        }
        match self.outbox.share().await {
            Ok(share) => {
                if !self.share.as_ref().is_some_and(|known| known.holds() && known.is_continued_by(&share)) {
                    // Others may have published from the same rooms meanwhile.
                    self.backlog.forget();
                }
                self.share = Some(share);
                true
            }
            Err(error) => {
                tracing::error!(%error, hint = UNREADABLE.hint, "the store cannot say which events are this daemon's to publish");
                self.status.trouble(UNREADABLE);
                // Until it has run out, nobody else publishes them.
                self.share.as_ref().is_some_and(Share::holds)
            }
        }
    }

    async fn give_up(&mut self) {
        if self.share.take().is_some_and(|share| share.renew_in().is_some())
            && let Err(error) = self.outbox.give_up().await
        {
            tracing::warn!(%error, "other daemons cannot be told yet that this one does not publish; they take over in a few seconds");
        }
    }

    /// What can be sent now; `None` when the outbox cannot be read.
    async fn next_batch(&mut self) -> Option<Vec<OutboxRow>> {
        if !self.is_ready {
            // Nobody claims events before they can be sent.
            return Some(Vec::new());
        }
        if !self.renew().await {
            return None;
        }
        let share = self.share.clone()?;
        let window = self.options.window.max(1);
        let base = window.saturating_mul(4);
        loop {
            let batch = self.backlog.pick(window, Instant::now());
            if batch.len() >= window || !(batch.is_empty() || self.woken()) {
                return Some(batch);
            }
            let limit = self.limit.max(base);
            let rows = match self.outbox.pending(limit, &share).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::error!(%error, hint = UNREADABLE.hint, "the outbox cannot be read; events wait in it");
                    self.status.trouble(UNREADABLE);
                    return None;
                }
            };
            let complete = rows.len() < limit;
            self.backlog.refill(rows, complete);
            let batch = self.backlog.pick(window, Instant::now());
            // When rooms that wait crowd the view, look further, so that they stop nobody else.
            let crowded = !complete && batch.len() < window && limit < base.saturating_mul(16);
            self.limit = if complete { base } else { limit.saturating_mul(if crowded { 2 } else { 1 }) };
            if !(crowded && batch.is_empty()) {
                return Some(batch);
            }
        }
    }

    /// Whether something was committed since it was last asked.
    fn woken(&self) -> bool {
        self.wake.notified().now_or_never().is_some()
    }

    async fn apply(&mut self, batch: &[OutboxRow], outcomes: &[Outcome], stop: &CancellationToken) -> Next {
        let (mut confirmed, mut parked, mut n_returned, mut n_refused) = (Vec::new(), Vec::new(), 0_u64, 0_u64);
        let now = Instant::now();
        for (row, outcome) in batch.iter().zip(outcomes) {
            match outcome {
                Outcome::Confirmed => confirmed.push(row),
                Outcome::Unpublishable(reason) => parked.push((row, *reason)),
                Outcome::Returned => {
                    n_returned += 1;
                    self.backlog.hold(row.room_id, now, chance());
                }
                Outcome::Refused => {
                    n_refused += 1;
                    self.backlog.hold(row.room_id, now, chance());
                }
            }
        }
        metrics::counter!(CONFIRMS).increment(confirmed.len() as u64);
        metrics::counter!(RETURNS).increment(n_returned);
        metrics::counter!(REFUSALS).increment(n_refused);
        if !confirmed.is_empty() {
            self.status.confirmed(self.clock.now());
            let seqs: Vec<i64> = confirmed.iter().map(|row| row.seq).collect();
            if !store(&self.outbox, Write::Settle(&seqs), self.backoff(), stop).await {
                return Next::Stop;
            }
            self.backlog.done(&confirmed);
        }
        for (row, reason) in parked {
            metrics::counter!(PARKED).increment(1);
            tracing::error!(room_id = %row.room_id, room_version = row.room_version, reason, "an event that no broker will take was parked");
            if !store(&self.outbox, Write::Park(row.seq, reason), self.backoff(), stop).await {
                return Next::Stop;
            }
            self.backlog.done(&[row]);
        }
        self.status.held(self.backlog.n_held());
        self.report(n_returned, n_refused);
        if batch.len() < self.options.window { Next::Rest } else { Next::Again }
    }

    fn report(&self, n_returned: u64, n_refused: u64) {
        if n_returned > 0 {
            let hint = "bind a queue to the exchange for every event type (`#`)";
            tracing::error!(n_returned, hint, "the broker knows no queue for events; they wait in the outbox");
            self.status.trouble(Trouble { kind: "unroutable", hint });
        } else if n_refused > 0 {
            let hint = "look at the length limit and the health of the broker's queue";
            tracing::error!(n_refused, hint, "the broker refused events; they wait in the outbox");
            self.status.trouble(Trouble { kind: "refused", hint });
        } else {
            self.status.works();
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff { first: self.options.first_retry, last: self.options.last_retry }
    }
}

/// Writes to the outbox, again and again until it works. `false` when told to stop meanwhile: what was not settled is published again.
async fn store<O: Outbox>(outbox: &O, write: Write<'_>, backoff: Backoff, stop: &CancellationToken) -> bool {
    let mut n_failures = 0_u32;
    loop {
        let written = match write {
            Write::Settle(seqs) => outbox.settle(seqs).await,
            Write::Park(seq, reason) => outbox.park(seq, reason).await,
        };
        let Err(error) = written else { return true };
        tracing::error!(%error, "what became of published events cannot be stored; trying again");
        if stop.is_cancelled() {
            return false;
        }
        back_off(backoff, n_failures, stop).await;
        n_failures = n_failures.saturating_add(1);
    }
}

async fn back_off(backoff: Backoff, n_failures: u32, stop: &CancellationToken) {
    stop.run_until_cancelled(tokio::time::sleep(backoff.wait(n_failures, chance()))).await;
}

async fn grace_over(stop: &CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Jitter.
fn chance() -> u8 {
    Uuid::new_v4().as_bytes().first().copied().unwrap_or_default()
}

impl<O: Outbox> Outbox for Arc<O> {
    type Error = O::Error;

    fn share(&self) -> impl Future<Output = Result<Share, Self::Error>> + Send {
        O::share(self)
    }

    fn give_up(&self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        O::give_up(self)
    }

    fn pending(&self, limit: usize, share: &Share) -> impl Future<Output = Result<Vec<OutboxRow>, Self::Error>> + Send {
        O::pending(self, limit, share)
    }

    fn settle(&self, seqs: &[i64]) -> impl Future<Output = Result<(), Self::Error>> + Send {
        O::settle(self, seqs)
    }

    fn park(&self, seq: i64, reason: &'static str) -> impl Future<Output = Result<(), Self::Error>> + Send {
        O::park(self, seq, reason)
    }
}

#[cfg(test)]
mod tests;
