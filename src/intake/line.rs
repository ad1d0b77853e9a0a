//! The line of planned batches: all that stand in it when a commit ends are the next commit, and are answered together.
//!
//! A batch is planned while those before it are committed, and stands on what they leave; so when one fails, nothing behind it may be committed either: all
//! of them go back to whoever planned them, and the line is shut until that has taken them again. Whoever commits from it seals what stands in it, too,
//! meanwhile: whoever plans has the most to do. It plans nothing, and it takes nothing by itself.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::care::brake::Brake;
use crate::intake::Verdict;
use crate::intake::aftermath::account;
use crate::intake::aftermath::count_commit;
use crate::intake::aftermath::look_at_ends;
use crate::intake::batch::Done;
use crate::intake::batch::Work;
use crate::intake::daemon::IntakeParts;
use crate::intake::guard::Guard;
use crate::intake::world::Ends;
use crate::store::Sealed;
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::look_up::LookUpHash;
use crate::store::rows::CommitBatch;
use crate::time::Clock;
use crate::time::Timestamp;

/// A batch, and those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) work: Work,
    pub(super) receipts: Vec<oneshot::Sender<Verdict>>,
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    pub(super) n_jobs: usize,
}

impl Load {
    /// Answers those who wait for a batch that is on disk.
    ///
    /// Senders hear of it on the thread that their connections are served on: from any other each answer would wake that thread anew, which is a call to the
    /// system for every message, and so it is one for all of them.
    pub(super) fn answer<C>(&mut self, parts: &IntakeParts<C>, done: &Done) {
        let receipts = std::mem::take(&mut self.receipts).into_iter().zip(done.verdicts.clone());
        let answering = async move {
            for (receipt, verdict) in receipts {
                // A connection that is gone does not need its answer; its message is kept all the same.
                drop(receipt.send(verdict));
            }
        };
        // It ends at once; and when the thread has ended, so have its connections.
        drop(parts.connections.spawn(answering));
        for done in self.waiting.drain(..) {
            // Whoever asked may have been stopped meanwhile.
            done.send(()).ok();
        }
    }
}

/// A batch that was planned.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) load: Load,
    pub(super) done: Done,
    pub(super) batch: CommitBatch,
}

/// A batch that is sealed, or could not be.
struct Ready {
    load: Load,
    done: Done,
    batch: Result<Sealed, StoreError>,
}

/// What became of the batches that stood first.
#[derive(Debug)]
pub(super) enum Landed {
    /// So many are on disk, with so many jobs, and answered.
    Committed { n_batches: usize, n_jobs: usize, took: Duration, explained: Vec<LookUpHash> },
    /// Nothing of those in the commit is on disk; those that stood behind them were not tried.
    Failed { error: CommitError, loads: Vec<Load>, behind: Vec<Load> },
}

impl Landed {
    /// Whether somebody waits for what whoever plans does about it.
    const fn is_waited_for(&self) -> bool {
        match self {
            Self::Committed { explained, .. } => !explained.is_empty(),
            Self::Failed { .. } => true,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Which rooms end in the batches that are not on disk yet, those of the commit that is on its way first.
    ends: VecDeque<Ends>,
    is_shut: bool,
    is_over: bool,
}

/// The line. One task plans into it, one commits from it.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<State>,
    changed: Notify,
    /// Told when whoever plans is waited for.
    call: Notify,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch at the end; gives its load back where the line is shut.
    pub(super) fn push(&self, waiting: Waiting) -> Option<Load> {
        let mut state = self.state();
        if state.is_shut {
            return Some(waiting.load);
        }
        state.ends.push_back(waiting.done.ends);
        state.waiting.push(waiting);
        drop(state);
        self.changed.notify_one();
        None
    }

    /// Opens the line again: nothing that was planned into it before counts any more.
    pub(super) fn open(&self) {
        self.state().is_shut = false;
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_one();
    }

    /// Comes true when somebody waits for whoever plans: a commit failed, or explains what waits in quarantine, or nobody commits any more.
    pub(super) async fn called(&self) {
        self.call.notified().await;
    }

    /// What is held back now: what is on its way to the disk has ended rooms already.
    pub(super) fn brake(&self, guard: &Guard, now: Timestamp) -> Brake {
        let state = self.state();
        let mut brake = guard.brake(now);
        for ends in &state.ends {
            brake.may_end = brake.may_end.saturating_sub(ends.n_ended);
            brake.is_on |= ends.stopped;
        }
        brake
    }

    /// All that stand in it, once there are any; nothing once it is over.
    async fn next(&self) -> Vec<Waiting> {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                if !state.waiting.is_empty() || state.is_over {
                    return std::mem::take(&mut state.waiting);
                }
            }
            changed.await;
        }
    }

    /// Notes what ended in the first batches, at the same moment as they leave the line. Whether leaves and ends wait from now on.
    fn landed(&self, n_batches: usize, guard: &Guard, now: Timestamp) -> (Ends, bool) {
        let mut state = self.state();
        let mut all = Ends::default();
        let n_batches = n_batches.min(state.ends.len());
        state.ends.drain(..n_batches).for_each(|ends| all.add(ends));
        (all, guard.note(now, all.n_ended, all.stopped))
    }

    /// Shuts the line, and takes out who stands in it.
    fn shut(&self) -> Vec<Load> {
        let mut state = self.state();
        state.is_shut = true;
        state.ends.clear();
        state.waiting.drain(..).map(|waiting| waiting.load).collect()
    }
}

/// Tells whoever plans when nobody commits any more.
struct Calling(Arc<Line>);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.call.notify_one();
    }
}

/// Commits what stands in the line, one commit after another, until it is over; `landed` is told of each.
pub(super) async fn commit_all<C: Clock>(parts: Arc<IntakeParts<C>>, line: Arc<Line>, landed: mpsc::UnboundedSender<Landed>) {
    // Before its sender is: whoever hears the call finds it gone.
    let (_calling, landed) = (Calling(Arc::clone(&line)), landed);
    let mut flight = begin(&parts, seal(&parts, line.next().await));
    while let Some(commit) = flight.take() {
        let (told, next) = land(&parts, &line, commit).await;
        let is_waited_for = told.is_waited_for();
        if landed.send(told).is_err() {
            // Nobody plans any more: what is on its way ends by itself, and nobody is answered.
            return;
        }
        if is_waited_for {
            line.call.notify_one();
        }
        flight = if next.is_some() { next } else { begin(&parts, seal(&parts, line.next().await)) };
    }
}

fn seal<C>(parts: &IntakeParts<C>, waiting: Vec<Waiting>) -> Vec<Ready> {
    waiting.into_iter().map(|Waiting { load, done, batch }| Ready { load, done, batch: parts.store.seal(batch) }).collect()
}

/// Waits for a commit and seals what comes meanwhile, begins the next one where there is something, and answers those of the first.
async fn land<C: Clock>(parts: &IntakeParts<C>, line: &Line, commit: Flight) -> (Landed, Option<Flight>) {
    let Flight { mut loads, begun, mut committed } = commit;
    let (mut next, mut is_over) = (Vec::new(), false);
    let committed = loop {
        tokio::select! {
            biased;
            committed = &mut committed => break committed,
            waiting = line.next(), if !is_over => {
                is_over = waiting.is_empty();
                next.extend(seal(parts, waiting));
            }
        }
    };
    let took = match committed {
        Ok(took) => took,
        Err(error) => {
            let behind = next.into_iter().map(|ready| ready.load).chain(line.shut()).collect();
            return (Landed::Failed { error, loads: loads.into_iter().map(|(load, _)| load).collect(), behind }, None);
        }
    };
    let (ends, is_stopped) = line.landed(loads.len(), &parts.guard, parts.clock.now());
    // Before those of the last one are answered: it has nothing to wait for any more, and answering takes a while.
    let next = begin(parts, next);
    look_at_ends(parts, ends, is_stopped).await;
    for (load, done) in &mut loads {
        load.answer(parts, done);
    }
    let (mut n_jobs, mut n_messages, mut explained) = (0, 0, Vec::new());
    for (load, done) in &mut loads {
        account(parts, &load.work, done);
        n_jobs += load.n_jobs;
        n_messages += load.work.messages.len();
        explained.append(&mut done.explained);
    }
    count_commit(n_messages, begun.elapsed());
    (Landed::Committed { n_batches: loads.len(), n_jobs, took, explained }, next)
}

/// A commit that is on its way.
struct Flight {
    loads: Vec<(Load, Done)>,
    begun: Instant,
    committed: Committed,
}

/// Comes true when a commit has ended, with how long it took.
type Committed = Pin<Box<dyn Future<Output = Result<Duration, CommitError>> + Send>>;

/// Begins the next commit, where there is anything to commit.
fn begin<C: Clock>(parts: &IntakeParts<C>, next: Vec<Ready>) -> Option<Flight> {
    if next.is_empty() {
        return None;
    }
    let (mut loads, mut batches) = (Vec::with_capacity(next.len()), Vec::with_capacity(next.len()));
    for Ready { load, done, batch } in next {
        loads.push((load, done));
        batches.push(batch);
    }
    // Sealing fails for want of random numbers alone, and then for all.
    let committed: Committed = match batches.into_iter().collect::<Result<Vec<Sealed>, StoreError>>() {
        Ok(batches) => Box::pin(parts.store.begin(batches)),
        Err(error) => Box::pin(std::future::ready(Err(error.into()))),
    };
    Some(Flight { loads, begun: Instant::now(), committed })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use tokio::runtime::Handle;
    use tokio::sync::Notify;
    use tokio::sync::mpsc;
    use tokio::sync::oneshot;

    use super::Landed;
    use super::Line;
    use super::Load;
    use super::Waiting;
    use super::begin;
    use super::commit_all;
    use super::land;
    use super::seal;
    use crate::care::policy::Policy;
    use crate::directory::Directory;
    use crate::directory::Sources;
    use crate::directory::said::Said;
    use crate::ids::IdSource;
    use crate::ids::JournalId;
    use crate::intake::Verdict;
    use crate::intake::batch::Done;
    use crate::intake::daemon::IntakeParts;
    use crate::intake::guard::Guard;
    use crate::intake::wake_at::WakeAt;
    use crate::intake::world::Ends;
    use crate::store::Store;
    use crate::store::StoreOptions;
    use crate::store::error::CommitError;
    use crate::store::look_up::LookUpHash;
    use crate::store::master_key::MasterKey;
    use crate::store::rows::CommitBatch;
    use crate::store::rows::Disposition;
    use crate::store::rows::JournalRow;
    use crate::store::sealing::Document;
    use crate::time::SystemClock;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_micros(1_795_300_000_000_000);

    async fn house() -> (tempfile::TempDir, Arc<IntakeParts<SystemClock>>) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let master_key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let (directory, _) = Directory::open(Sources::default(), Said::default(), NOW).unwrap();
        let parts = IntakeParts {
            store: Store::open(StoreOptions { url: url.into(), master_key, readers: 1, daemon: 1 }).await.unwrap(),
            ids: Arc::new(IdSource::new(1)),
            clock: Arc::new(SystemClock),
            policy: Arc::new(Policy::default()),
            directory: Arc::new(directory),
            feeds: HashMap::new(),
            outbox: Arc::new(Notify::new()),
            wake: Arc::new(WakeAt::default()),
            guard: Arc::new(Guard::default()),
            connections: Handle::current(),
        };
        (folder, Arc::new(parts))
    }

    /// A batch that keeps one message, and what its sender waits for. Two of the same number are the same message.
    fn waiting(id: i64, number: u8) -> (Waiting, oneshot::Receiver<Verdict>) {
        let row = JournalRow {
            id: JournalId(id),
            feed: "main".to_owned(),
            received_at: NOW,
            dedupe: Some(LookUpHash([number; 16])),
            control: None,
            trigger: None,
            disposition: Disposition::Applied,
            reason: None,
            duplicate_of: None,
            ack_code: None,
            patient_id: None,
            key: None,
            by_age: false,
            raw: Document::new(0, b"MSH".to_vec()),
        };
        let (answer, answered) = oneshot::channel();
        let load = Load { receipts: vec![answer], n_jobs: 1, ..Load::default() };
        let done = Done { verdicts: vec![Verdict::applied()], ..Done::default() };
        let batch = CommitBatch { journal: vec![row], ..CommitBatch::default() };
        (Waiting { load, done, batch }, answered)
    }

    #[tokio::test]
    async fn all_that_stand_in_the_line_are_committed_and_answered_together() {
        let (folder, parts) = house().await;
        let (line, (told, mut landed)) = (Arc::new(Line::default()), mpsc::unbounded_channel());
        let mut answers = Vec::new();
        for number in 1..=3 {
            let (batch, answered) = waiting(i64::from(number), number);
            assert!(line.push(batch).is_none());
            answers.push(answered);
        }
        line.end();
        commit_all(Arc::clone(&parts), line, told).await;
        assert!(matches!(landed.recv().await, Some(Landed::Committed { n_batches: 3, n_jobs: 3, .. })));
        for answered in answers {
            assert_eq!(answered.await.unwrap().disposition, Disposition::Applied);
        }
        assert!(parts.store.journal_message(JournalId(3)).await.unwrap().is_some());
        parts.store.close().await;
        folder.close().unwrap();
    }

    #[tokio::test]
    async fn behind_a_commit_that_failed_nothing_is_committed_until_all_was_taken_again() {
        let (folder, parts) = house().await;
        let line = Arc::new(Line::default());
        let [(kept, kept_answer), (repeat, repeat_answer), (behind, behind_answer), (late, _)] =
            [(1, 1), (2, 1), (3, 3), (4, 4)].map(|(id, number)| waiting(id, number));
        assert!(line.push(kept).is_none());
        assert!(line.push(repeat).is_none());
        let commit = begin(&parts, seal(&parts, line.next().await)).unwrap();
        assert!(line.push(behind).is_none());
        let (failed, next) = land(&parts, &line, commit).await;
        assert!(next.is_none());
        let Landed::Failed { error: CommitError::Conflict, loads, behind } = failed else { panic!("{failed:?}") };
        assert_eq!((loads.len(), behind.len()), (2, 1));
        let late = line.push(late).unwrap();
        assert!(parts.store.journal_message(JournalId(1)).await.unwrap().is_none(), "they are there together, or not at all");
        drop((loads, behind, late));
        for answered in [kept_answer, repeat_answer, behind_answer] {
            assert!(answered.await.is_err(), "nobody is answered for what is not on disk");
        }

        line.open();
        let (again, answered) = waiting(5, 1);
        assert!(line.push(again).is_none());
        line.end();
        commit_all(Arc::clone(&parts), line, mpsc::unbounded_channel().0).await;
        answered.await.unwrap();
        assert!(parts.store.journal_message(JournalId(5)).await.unwrap().is_some());
        parts.store.close().await;
        folder.close().unwrap();
    }

    #[tokio::test]
    async fn rooms_that_end_in_the_line_count_once() {
        let (folder, parts) = house().await;
        let (line, guard) = (Line::default(), Guard::new(true));
        let may_end = guard.brake(NOW).may_end;
        for n_ended in [2, 3] {
            let (mut batch, _) = waiting(1, 1);
            batch.done.ends = Ends { n_ended, ..Ends::default() };
            assert!(line.push(batch).is_none());
        }
        assert_eq!(line.brake(&guard, NOW).may_end, may_end - 5);
        line.landed(1, &guard, NOW);
        assert_eq!((guard.brake(NOW).may_end, line.brake(&guard, NOW).may_end), (may_end - 2, may_end - 5));
        drop(line.shut());
        assert_eq!(line.brake(&guard, NOW).may_end, may_end - 2);
        parts.store.close().await;
        folder.close().unwrap();
    }
}
