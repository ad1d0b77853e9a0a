//! The relay against an outbox in memory and a publisher that follows a script.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::ProptestConfig;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::proptest;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Relay;
use super::RelayOptions;
use crate::outbox::Outbox;
use crate::outbox::OutboxRow;
use crate::outbox::Outcome;
use crate::outbox::PublishError;
use crate::outbox::Publisher;
use crate::outbox::jsonl::JsonlError;
use crate::outbox::status::RelayStatus;
use crate::outbox::tests::row;
use crate::store::lease::Share;
use crate::time::ManualClock;
use crate::time::Timestamp;

/// An outbox in memory.
struct Pending {
    rows: Mutex<BTreeMap<i64, OutboxRow>>,
    n_left: watch::Sender<usize>,
    /// The part and the epoch that are the relay's share whenever it asks; all when empty.
    shares: Mutex<VecDeque<(i16, i64)>>,
    /// What the relay asked of the store, in order.
    asked: Mutex<Vec<&'static str>>,
    /// Whether it cannot be read.
    is_away: AtomicBool,
}

impl Pending {
    fn of(rows: impl IntoIterator<Item = OutboxRow>) -> Arc<Self> {
        let rows: BTreeMap<i64, OutboxRow> = rows.into_iter().map(|row| (row.seq, row)).collect();
        Arc::new(Self {
            n_left: watch::Sender::new(rows.len()),
            rows: Mutex::new(rows),
            shares: Mutex::default(),
            asked: Mutex::default(),
            is_away: AtomicBool::default(),
        })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<i64, OutboxRow>)) {
        let mut rows = self.rows.lock().unwrap();
        change(&mut rows);
        self.n_left.send_replace(rows.len());
    }

    async fn empty(&self) {
        self.n_left.subscribe().wait_for(|n_left| *n_left == 0).await.unwrap();
    }
}

impl Outbox for Pending {
    type Error = io::Error;

    async fn share(&self) -> Result<Share, io::Error> {
        self.asked.lock().unwrap().push("share");
        Ok(self.shares.lock().unwrap().pop_front().map_or(Share::All, |part| Share::of([part])))
    }

    async fn give_up(&self) -> Result<(), io::Error> {
        self.asked.lock().unwrap().push("give up");
        Ok(())
    }

    async fn pending(&self, limit: usize, _: &Share) -> Result<Vec<OutboxRow>, io::Error> {
        self.asked.lock().unwrap().push("pending");
        if self.is_away.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.rows.lock().unwrap().values().take(limit).cloned().collect())
    }

    async fn settle(&self, seqs: &[i64]) -> Result<(), io::Error> {
        self.change(|rows| rows.retain(|seq, _| !seqs.contains(seq)));
        Ok(())
    }

    async fn park(&self, seq: i64, _: &'static str) -> Result<(), io::Error> {
        self.change(|rows| drop(rows.remove(&seq)));
        Ok(())
    }
}

/// What a script says of one batch.
type Step = Box<dyn FnOnce(&[OutboxRow]) -> Result<Vec<Outcome>, PublishError> + Send>;

/// A publisher that follows a script, then confirms everything; it notes what arrived.
#[derive(Default)]
struct Scripted {
    steps: VecDeque<Step>,
    arrived: Arc<Mutex<Vec<i64>>>,
    closed: Arc<Mutex<bool>>,
    /// Batches wait here before anything becomes of them.
    gate: Option<Arc<Notify>>,
}

impl Publisher for Scripted {
    async fn publish(&mut self, batch: &[OutboxRow]) -> Result<Vec<Outcome>, PublishError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let outcomes = self.steps.pop_front().map_or_else(|| Ok(vec![Outcome::Confirmed; batch.len()]), |step| step(batch))?;
        let confirmed = batch.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Confirmed).map(|(row, _)| row.seq);
        self.arrived.lock().unwrap().extend(confirmed);
        Ok(outcomes)
    }

    async fn close(&mut self) {
        *self.closed.lock().unwrap() = true;
    }
}

struct Running {
    wake: Arc<Notify>,
    status: Arc<RelayStatus>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn start(outbox: &Arc<Pending>, publisher: Scripted, options: RelayOptions) -> Running {
    let running = Running { wake: Arc::default(), status: Arc::default(), stop: CancellationToken::new(), tasks: TaskTracker::new() };
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(42)));
    let relay = Relay::new(Arc::clone(outbox), publisher, Arc::clone(&running.wake), Arc::clone(&running.status), clock, options);
    running.tasks.spawn(relay.run(running.stop.clone()));
    running.tasks.close();
    running
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

fn broken() -> PublishError {
    PublishError::from(JsonlError::Write { source: io::Error::from(io::ErrorKind::StorageFull) })
}

#[tokio::test(start_paused = true)]
async fn who_cannot_publish_gives_its_share_up_and_asks_again_only_when_it_can() {
    let outbox = Pending::of([row(1, 1, 1)]);
    outbox.shares.lock().unwrap().extend([(3, 1), (3, 2)]);
    let publisher = Scripted { steps: [Box::new(|_: &[OutboxRow]| Err(broken())) as Step].into(), ..Scripted::default() };
    let running = start(&outbox, publisher, RelayOptions::default());
    outbox.empty().await;
    running.stop().await;
    let asked = outbox.asked.lock().unwrap();
    assert_eq!(asked.first(), Some(&"share"), "{asked:?}");
    let lost = asked.iter().position(|what| *what == "give up").unwrap();
    assert_eq!(asked[lost + 1], "share", "a new share before anything is read: {asked:?}");
    assert_eq!(asked.last(), Some(&"give up"), "and at the end: {asked:?}");
    drop(asked);
}

#[tokio::test(start_paused = true)]
async fn a_share_is_renewed_in_time_and_one_that_changed_hands_meanwhile_is_looked_at_anew() {
    let outbox = Pending::of([]);
    outbox.shares.lock().unwrap().extend([(3, 1), (3, 1)]);
    let running = start(&outbox, Scripted::default(), RelayOptions { look_for_others: Duration::from_secs(1), ..RelayOptions::default() });
    tokio::time::sleep(Duration::from_secs(4)).await;
    let n_shares = outbox.asked.lock().unwrap().iter().filter(|what| **what == "share").count();
    assert_eq!(n_shares, 2, "once at the start, once when three seconds were over");
    running.stop().await;
    assert!(!Share::of([(3, 1)]).is_continued_by(&Share::of([(3, 2)])), "another held it meanwhile");
    assert!(Share::of([(3, 1)]).is_continued_by(&Share::of([(3, 1)])));
    let share = Share::of([(0, 1)]);
    assert!(share.leads() && share.holds());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!share.leads() && !share.holds(), "it has run out");
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_at_the_start_is_published_in_order_per_room() {
    let outbox = Pending::of([row(1, 1, 1), row(2, 2, 1), row(3, 1, 2), row(4, 1, 3)]);
    let publisher = Scripted::default();
    let arrived = Arc::clone(&publisher.arrived);
    let running = start(&outbox, publisher, RelayOptions::default());
    outbox.empty().await;
    assert_eq!(*arrived.lock().unwrap(), [1, 2, 3, 4]);
    assert_eq!(running.status.now().last_confirm_at, Some(Timestamp::from_micros(42)));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_wakes_the_relay() {
    let outbox = Pending::of([]);
    let publisher = Scripted::default();
    let arrived = Arc::clone(&publisher.arrived);
    // Nobody looks by himself.
    let running = start(&outbox, publisher, RelayOptions { look_again: Duration::from_secs(1_000_000), ..RelayOptions::default() });
    for seq in 1..4 {
        outbox.change(|rows| drop(rows.insert(seq, row(seq, 1, seq.unsigned_abs()))));
        running.wake.notify_one();
        outbox.empty().await;
    }
    assert_eq!(*arrived.lock().unwrap(), [1, 2, 3]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_that_follow_on_each_other_are_sent_together() {
    for shares in [Vec::new(), vec![(3, 1)]] {
        let outbox = Pending::of([]);
        outbox.shares.lock().unwrap().extend(shares);
        let publisher = Scripted::default();
        let arrived = Arc::clone(&publisher.arrived);
        let running = start(&outbox, publisher, RelayOptions::default());
        for seq in 1..=50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            outbox.change(|rows| drop(rows.insert(seq, row(seq, 1, seq.unsigned_abs()))));
            running.wake.notify_one();
        }
        outbox.empty().await;
        assert!(arrived.lock().unwrap().iter().copied().eq(1..=50));
        running.stop().await;
        let n_looks = outbox.asked.lock().unwrap().iter().filter(|what| **what == "pending").count();
        assert!((4..12).contains(&n_looks), "{n_looks} looks for 50 events");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_behind_a_pause_is_sent_at_once() {
    let outbox = Pending::of([]);
    let running = start(&outbox, Scripted::default(), RelayOptions::default());
    for seq in 1..=5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = tokio::time::Instant::now();
        outbox.change(|rows| drop(rows.insert(seq, row(seq, 1, seq.unsigned_abs()))));
        running.wake.notify_one();
        outbox.empty().await;
        assert!(begun.elapsed() < Duration::from_millis(2), "{:?}", begun.elapsed());
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_everything_is_sent_again() {
    let outbox = Pending::of([row(1, 1, 1), row(2, 2, 1), row(3, 1, 2)]);
    let mut publisher = Scripted::default();
    publisher.steps.extend([Box::new(|_: &[_]| Err(broken())) as Step, Box::new(|_: &[_]| Err(broken()))]);
    let arrived = Arc::clone(&publisher.arrived);
    let running = start(&outbox, publisher, RelayOptions::default());
    outbox.empty().await;
    assert_eq!(*arrived.lock().unwrap(), [1, 2, 3]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shown_until_something_works_again() {
    let outbox = Pending::of([row(1, 1, 1)]);
    let mut publisher = Scripted { gate: Some(Arc::default()), ..Scripted::default() };
    let gate = publisher.gate.clone().unwrap();
    publisher.steps.push_back(Box::new(|_| Err(broken())));
    let running = start(&outbox, publisher, RelayOptions::default());
    gate.notify_one();
    while running.status.now().last_error.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.status.now().last_error.map(|trouble| trouble.kind), Some("file_write"));
    gate.notify_one();
    outbox.empty().await;
    while running.status.now().last_error.is_some() {
        tokio::task::yield_now().await;
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_cannot_be_read_is_shown_until_it_can() {
    let outbox = Pending::of([row(1, 1, 1)]);
    outbox.is_away.store(true, Ordering::SeqCst);
    let running = start(&outbox, Scripted::default(), RelayOptions::default());
    while running.status.now().last_error.map(|trouble| trouble.kind) != Some("outbox") {
        tokio::task::yield_now().await;
    }
    outbox.is_away.store(false, Ordering::SeqCst);
    outbox.empty().await;
    while running.status.now().last_error.is_some() {
        tokio::task::yield_now().await;
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_returned_event_holds_back_its_room_and_no_other() {
    for outcome in [Outcome::Returned, Outcome::Refused] {
        let outbox = Pending::of([row(1, 1, 1), row(2, 2, 1), row(3, 1, 2), row(4, 2, 2)]);
        let mut publisher = Scripted::default();
        publisher.steps.push_back(Box::new(move |batch: &[OutboxRow]| {
            assert_eq!(batch.len(), 2);
            Ok(vec![outcome, Outcome::Confirmed])
        }));
        let arrived = Arc::clone(&publisher.arrived);
        let running = start(&outbox, publisher, RelayOptions::default());
        outbox.empty().await;
        assert_eq!(*arrived.lock().unwrap(), [2, 4, 1, 3]);
        while running.status.now().n_held_rooms > 0 {
            tokio::task::yield_now().await;
        }
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_that_wait_do_not_crowd_out_others() {
    // Far more waiting rooms than one look into the outbox shows.
    let outbox = Pending::of((1..=60).map(|seq| row(seq, seq.unsigned_abs().into(), 1)).chain([row(61, 61, 1)]));
    let mut publisher = Scripted::default();
    for _ in 0..16 {
        publisher.steps.push_back(Box::new(|batch: &[OutboxRow]| {
            Ok(batch.iter().map(|row| if row.seq == 61 { Outcome::Confirmed } else { Outcome::Returned }).collect())
        }));
    }
    let arrived = Arc::clone(&publisher.arrived);
    let options = RelayOptions { window: 4, first_retry: Duration::from_mins(10), last_retry: Duration::from_mins(10), ..RelayOptions::default() };
    let running = start(&outbox, publisher, options);
    while arrived.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*arrived.lock().unwrap(), [61]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_no_broker_takes_is_parked_and_its_room_goes_on() {
    let outbox = Pending::of([row(1, 1, 1), row(2, 1, 2)]);
    let mut publisher = Scripted::default();
    publisher.steps.push_back(Box::new(|_| Ok(vec![Outcome::Unpublishable("too large")])));
    let arrived = Arc::clone(&publisher.arrived);
    let running = start(&outbox, publisher, RelayOptions::default());
    outbox.empty().await;
    assert_eq!(*arrived.lock().unwrap(), [2]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_when_it_stops_is_finished_and_settled() {
    let outbox = Pending::of([row(1, 1, 1), row(2, 1, 2)]);
    let publisher = Scripted { gate: Some(Arc::default()), ..Scripted::default() };
    let (gate, closed) = (publisher.gate.clone().unwrap(), Arc::clone(&publisher.closed));
    let running = start(&outbox, publisher, RelayOptions::default());
    tokio::task::yield_now().await;
    running.stop.cancel();
    gate.notify_one();
    running.stop().await;
    assert_eq!(outbox.rows.lock().unwrap().keys().copied().collect::<Vec<_>>(), [2]);
    assert!(*closed.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_arrive_within_the_grace_stays_pending() {
    let outbox = Pending::of([row(1, 1, 1)]);
    let publisher = Scripted { gate: Some(Arc::default()), ..Scripted::default() };
    let running = start(&outbox, publisher, RelayOptions::default());
    tokio::task::yield_now().await;
    running.stop().await;
    assert_eq!(outbox.rows.lock().unwrap().len(), 1);
}

/// What becomes of one event (or, at the end, of a whole batch) in a world where anything goes wrong.
fn any_step(fates: Vec<u8>, fails: bool, arrived: Arc<Mutex<Vec<i64>>>) -> Step {
    Box::new(move |batch: &[OutboxRow]| {
        let outcome = |n: usize| match fates[n % fates.len()] {
            0 => Outcome::Returned,
            1 => Outcome::Refused,
            _ => Outcome::Confirmed,
        };
        let outcomes: Vec<Outcome> = (0..batch.len()).map(outcome).collect();
        if fails {
            // Some of them arrived, and nobody knows.
            let there = batch.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Confirmed).map(|(row, _)| row.seq);
            arrived.lock().unwrap().extend(there);
            return Err(broken());
        }
        Ok(outcomes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_goes_wrong_each_room_arrives_in_order_and_complete(
        rooms in vec(0_u128..6, 1..60),
        steps in vec((vec(0_u8..5, 1..5), any::<bool>()), 0..30),
        window in 1_usize..9,
    ) {
        let mut versions = [0_u64; 6];
        let mut number = |room: u128| {
            let version = &mut versions[usize::try_from(room).unwrap()];
            *version += 1;
            *version
        };
        let rows: Vec<OutboxRow> = (1..).zip(&rooms).map(|(seq, room)| row(seq, *room, number(*room))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut publisher = Scripted::default();
        let arrived = Arc::clone(&publisher.arrived);
        publisher.steps.extend(steps.into_iter().map(|(fates, fails)| any_step(fates, fails, Arc::clone(&arrived))));
        runtime.block_on(async {
            let outbox = Pending::of(rows.clone());
            let running = start(&outbox, publisher, RelayOptions { window, ..RelayOptions::default() });
            outbox.empty().await;
            running.stop().await;
        });
        let arrived = arrived.lock().unwrap();
        for room in 0..6 {
            let mut first = Vec::new();
            for row in arrived.iter().map(|seq| &rows[usize::try_from(*seq).unwrap() - 1]) {
                if row.room_id.0.as_u128() == room && !first.contains(&row.room_version) {
                    first.push(row.room_version);
                }
            }
            prop_assert_eq!(first, (1..=versions[usize::try_from(room).unwrap()]).collect::<Vec<_>>());
        }
    }
}
