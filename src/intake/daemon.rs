//! The intake as a running part: one task that gathers messages, time and changes of policy into commit batches.
//!
//! One commit is on its way at a time; whatever arrives meanwhile is in the next one, so that commits grow with the load and one of them serves many
//! connections. Where commits are work of this process, batches are planned already while one is committed, and stand in a line; all that stand in it are
//! the next commit. Should one fail, all behind it are taken again. A message that cannot be taken is set aside by itself and stops neither its batch nor
//! anything behind it.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use crate::care::change::Cause;
use crate::care::policy::Policy;
use crate::directory::Directory;
use crate::ids::FeedName;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::intake::Incoming;
use crate::intake::Verdict;
use crate::intake::aftermath::account;
use crate::intake::aftermath::count_commit;
use crate::intake::aftermath::look_at_ends;
use crate::intake::aftermath::tell;
use crate::intake::answer::Feed;
use crate::intake::batch;
use crate::intake::batch::Ahead;
use crate::intake::batch::BatchContext;
use crate::intake::batch::BatchError;
use crate::intake::batch::Done;
use crate::intake::batch::Planned;
use crate::intake::batch::Work;
use crate::intake::guard::Guard;
use crate::intake::line::Landed;
use crate::intake::line::Line;
use crate::intake::line::Load;
use crate::intake::line::Waiting;
use crate::intake::line::commit_all;
use crate::intake::look_ups::LookUps;
use crate::intake::orders::Hands;
use crate::intake::orders::Operator;
use crate::intake::orders::Order;
use crate::intake::orders::Outcome;
use crate::intake::orders::carry_out;
use crate::intake::pace::BATCH;
use crate::intake::pace::Pace;
use crate::intake::read::Arrived;
use crate::intake::read::read;
use crate::intake::recent::Recent;
use crate::intake::wake_at::WakeAt;
use crate::store::Store;
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::look_up::LookUpHash;
use crate::store::rows::Disposition;
use crate::time::Clock;

/// How many messages may wait for the next batch before connections do.
const QUEUE: usize = 1024;
/// For how many batches the store is asked whether messages are new after one was not.
const ASKS: usize = 64;
/// What waits for a batch.
#[derive(Debug)]
enum Job {
    Message(Arc<Incoming>, oneshot::Sender<Verdict>),
    Visits(Vec<(i64, Cause)>, oneshot::Sender<()>),
    Quarantined(Vec<JournalId>, oneshot::Sender<()>),
    Order(Box<(Order, Operator)>, oneshot::Sender<Outcome>),
}

/// The way into the intake. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Intake {
    jobs: mpsc::Sender<Job>,
}

impl Intake {
    /// Hands a message in. The receipt comes true with the commit; it is broken when there was none.
    pub(crate) async fn submit(&self, message: Incoming) -> Option<oneshot::Receiver<Verdict>> {
        let (done, receipt) = oneshot::channel();
        self.jobs.send(Job::Message(Arc::new(message), done)).await.ok()?;
        Some(receipt)
    }

    /// Has visits planned again, and waits for it.
    pub(crate) async fn replan(&self, visits: Vec<(i64, Cause)>) -> bool {
        let (done, receipt) = oneshot::channel();
        self.jobs.send(Job::Visits(visits, done)).await.is_ok() && receipt.await.is_ok()
    }
}

impl Intake {
    /// Has an operator's order carried out. `None` when the intake has ended.
    pub async fn order(&self, order: Order, by: Operator) -> Option<Outcome> {
        let (done, receipt) = oneshot::channel();
        self.jobs.send(Job::Order(Box::new((order, by)), done)).await.ok()?;
        receipt.await.ok()
    }

    /// Has messages in quarantine tried again, and waits for it.
    pub(super) async fn retry(&self, messages: Vec<JournalId>) -> bool {
        let (done, receipt) = oneshot::channel();
        self.jobs.send(Job::Quarantined(messages, done)).await.is_ok() && receipt.await.is_ok()
    }
}

/// Everything the intake runs with.
#[derive(Debug)]
pub struct IntakeParts<C> {
    /// The store.
    pub store: Store,
    /// Where new row ids come from.
    pub ids: Arc<IdSource>,
    /// The present.
    pub clock: Arc<C>,
    /// The policy in force.
    pub policy: Arc<Policy>,
    /// Staff and units as they are now.
    pub directory: Arc<Directory>,
    /// The feeds, for messages that come back from quarantine.
    pub feeds: HashMap<FeedName, Arc<Feed>>,
    /// Told when there is something to publish.
    pub outbox: Arc<Notify>,
    /// Told when a visit must be planned earlier than anybody waited for.
    pub wake: Arc<WakeAt>,
    /// What says that leaves and ends wait.
    pub guard: Arc<Guard>,
    /// The runtime that connections are served on.
    pub connections: Handle,
}

/// Makes the intake; the second part is its task, to be run by whoever owns the tasks. It ends when all handles are gone.
pub(crate) fn start<C: Clock>(parts: IntakeParts<C>) -> (Intake, LookUps, impl Future<Output = ()> + Send) {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let look_ups = LookUps::of(parts.store.clone());
    (Intake { jobs }, look_ups.clone(), run(parts, look_ups, queue))
}

async fn run<C: Clock>(parts: IntakeParts<C>, look_ups: LookUps, mut queue: mpsc::Receiver<Job>) {
    let is_ours_alone = parts.store.is_ours_alone();
    let (parts, line) = (Arc::new(parts), Arc::new(Line::default()));
    let (told, landed) = mpsc::unbounded_channel();
    let commits = TaskTracker::new();
    commits.spawn(commit_all(Arc::clone(&parts), Arc::clone(&line), told));
    let (recent, pace) = (Recent::new(is_ours_alone), Pace::new(is_ours_alone));
    let mut intake =
        Running { parts, look_ups, recent, line, landed, aheads: VecDeque::new(), n_unlanded: 0, pace, n_asks: ASKS, unexplained: Vec::new() };
    let mut jobs: Vec<Job> = Vec::with_capacity(BATCH);
    loop {
        let n_wanted = intake.pace.n_wanted();
        let may_plan = intake.aheads.is_empty() || (intake.pace.is_divided() && intake.n_unlanded < BATCH);
        tokio::select! {
            biased;
            // That a commit ended well is heard of with the next messages, where nothing waits for it: being woken takes longer than what there is to do.
            () = intake.line.called(), if may_plan => {
                if !intake.hear().await {
                    break;
                }
            }
            landed = intake.landed.recv(), if !may_plan => {
                let Some(landed) = landed else { break };
                intake.heed(landed).await;
            }
            n_jobs = queue.recv_many(&mut jobs, n_wanted), if may_plan => {
                if n_jobs == 0 {
                    break;
                }
                gather(&mut queue, &mut jobs, &intake.pace).await;
                if !intake.hear().await {
                    break;
                }
                intake.pace.saw(intake.n_unlanded + jobs.len() + queue.len());
                intake.take(jobs.drain(..)).await;
            }
        }
        if !intake.unexplained.is_empty() {
            intake.settle().await;
            intake.take_up().await;
        }
    }
    intake.settle().await;
    intake.line.end();
    commits.close();
    commits.wait().await;
}

/// The intake at work.
struct Running<C> {
    parts: Arc<IntakeParts<C>>,
    look_ups: LookUps,
    recent: Recent,
    line: Arc<Line>,
    landed: mpsc::UnboundedReceiver<Landed>,
    /// Of each batch that is not known to be on disk, what it will have added; and how many jobs are in all of them.
    aheads: VecDeque<Ahead>,
    n_unlanded: usize,
    pace: Pace,
    /// For how many batches more the store is asked whether messages are new: who repeats one often repeats many.
    n_asks: usize,
    /// What messages in quarantine may have waited for.
    unexplained: Vec<LookUpHash>,
}

impl<C: Clock> Running<C> {
    /// Takes what has come: ahead of the commits before it where that is possible, else after them.
    async fn take(&mut self, jobs: impl Iterator<Item = Job>) {
        let mut load = Load::default();
        let mut quarantined = Vec::new();
        let mut orders = Vec::new();
        for job in jobs {
            load.n_jobs += 1;
            match job {
                Job::Message(message, receipt) => {
                    load.work.messages.push(message);
                    load.receipts.push(receipt);
                }
                Job::Visits(visits, done) => {
                    load.work.visits.extend(visits);
                    load.waiting.push(done);
                }
                Job::Quarantined(messages, done) => quarantined.push((messages, done)),
                Job::Order(order, done) => orders.push((order, done)),
            }
        }
        if !load.work.messages.is_empty() || !load.work.visits.is_empty() {
            let n_jobs = load.n_jobs;
            let left = match self.plan(&load.work).await {
                Some(Planned { done, batch, ahead }) => {
                    self.aheads.push_back(ahead);
                    self.n_unlanded += n_jobs;
                    self.line.push(Waiting { load, done, batch })
                }
                None => Some(load),
            };
            if let Some(load) = left {
                self.settle().await;
                self.take_now(load).await;
            }
        }
        if !quarantined.is_empty() || !orders.is_empty() || !self.unexplained.is_empty() {
            self.settle().await;
            self.retake(quarantined).await;
            self.carry_out(orders).await;
            self.take_up().await;
        }
    }

    /// Plans a batch ahead. What fails here is found again by whoever takes it afterwards.
    async fn plan(&mut self, work: &Work) -> Option<Planned> {
        let before: Vec<&Ahead> = self.aheads.iter().collect();
        let directory = self.parts.directory.current();
        let (now, parts) = (self.parts.clock.now(), &self.parts);
        let brake = self.line.brake(&parts.guard, now);
        let (store, ids, policy) = (&parts.store, &*parts.ids, &*parts.policy);
        let context = BatchContext { store, ids, look_ups: &self.look_ups, policy, directory: &directory, now, brake: &brake };
        let asks = self.n_asks > 0;
        self.n_asks = self.n_asks.saturating_sub(1);
        batch::plan_ahead(&context, &mut self.recent, work, &before, asks).await.ok().flatten()
    }

    /// Heeds the commits that have ended meanwhile. `false` when nobody commits any more.
    async fn hear(&mut self) -> bool {
        loop {
            match self.landed.try_recv() {
                Ok(landed) => self.heed(landed).await,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Waits until all that was planned is on disk, or was taken again.
    async fn settle(&mut self) {
        while !self.aheads.is_empty() {
            let Some(landed) = self.landed.recv().await else { return };
            self.heed(landed).await;
        }
    }

    /// A commit has ended: what was in it stands, or is taken again with all that was planned upon it.
    async fn heed(&mut self, landed: Landed) {
        let (error, loads, behind) = match landed {
            Landed::Committed { n_batches, n_jobs, took, mut explained } => {
                self.aheads.drain(..n_batches.min(self.aheads.len()));
                self.n_unlanded = self.n_unlanded.saturating_sub(n_jobs);
                self.pace.committed(took);
                self.unexplained.append(&mut explained);
                return;
            }
            Landed::Failed { error, loads, behind } => (BatchError::from(error), loads, behind),
        };
        if matches!(error, BatchError::Commit(CommitError::Conflict)) {
            metrics::counter!("wardroom_commit_conflicts_total").increment(1);
        }
        // What was planned with it in mind is wrong now.
        self.aheads.clear();
        self.n_unlanded = 0;
        self.recent.was_wrong();
        if is_about_content(&error) {
            self.n_asks = ASKS;
            for load in loads {
                self.take_now(load).await;
            }
        } else {
            tell(&error);
        }
        for load in behind {
            self.take_now(load).await;
        }
        self.line.open();
    }

    /// Takes a batch by itself, with nothing on its way.
    async fn take_now(&mut self, mut load: Load) {
        let begun = Instant::now();
        match commit(&self.parts, &self.look_ups, &mut self.recent, &load.work).await {
            Ok(mut done) => {
                self.pace.committed(begun.elapsed());
                load.answer(&self.parts, &done);
                account(&self.parts, &load.work, &mut done);
                count_commit(load.work.messages.len(), begun.elapsed());
                self.unexplained.append(&mut done.explained);
            }
            Err(error) => tell(&error),
        }
    }

    async fn retake(&mut self, quarantined: Vec<(Vec<JournalId>, oneshot::Sender<()>)>) {
        for (messages, done) in quarantined {
            match retake(&self.parts, &self.look_ups, &mut self.recent, &messages).await {
                Ok(explained) => {
                    self.unexplained.extend(explained);
                    done.send(()).ok();
                }
                Err(error) => tracing::warn!(%error, "messages in quarantine could not be tried again"),
            }
        }
    }

    async fn carry_out(&mut self, orders: Vec<(Box<(Order, Operator)>, oneshot::Sender<Outcome>)>) {
        for (order, done) in orders {
            let mut hands = Hands { parts: &self.parts, look_ups: &self.look_ups, recent: &mut self.recent };
            let (outcome, explained) = carry_out(&mut hands, &order.0, &order.1).await;
            self.unexplained.extend(explained);
            // Whoever asked may be gone; the order was carried out all the same.
            done.send(outcome).ok();
        }
    }

    /// Takes up messages in quarantine that something explains now, with nothing on its way.
    async fn take_up(&mut self) {
        // What could not be looked for now is looked for after the next batch, and at the next start.
        if let Err(error) = take_up(&self.parts, &self.look_ups, &mut self.recent, &mut self.unexplained).await {
            tracing::error!(%error, "messages in quarantine that may be explained now could not be taken up yet");
        }
    }
}

/// Waits a moment for those whose last messages were answered together, so that their next ones are committed together too; a connection that is alone
/// never waits.
async fn gather(queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>, pace: &Pace) {
    let begun = Instant::now();
    let (n_wanted, patience) = (pace.n_wanted(), pace.patience());
    while jobs.len() < n_wanted {
        if let Ok(job) = queue.try_recv() {
            jobs.push(job);
        } else if begun.elapsed() >= patience {
            return;
        } else if pace.is_divided() {
            // Too short for a timer; everybody else goes on meanwhile, other threads too.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        } else if let Ok(Some(job)) = timeout_at(begun + patience, queue.recv()).await {
            jobs.push(job);
        }
    }
}

/// Commits a batch; where one of several messages is what fails it, each goes by itself.
pub(super) async fn commit<C: Clock>(parts: &IntakeParts<C>, look_ups: &LookUps, recent: &mut Recent, work: &Work) -> Result<Done, BatchError> {
    let done = commit_what_can_be(parts, look_ups, recent, work).await?;
    let is_stopped = parts.guard.note(parts.clock.now(), done.ends.n_ended, done.ends.stopped);
    look_at_ends(parts, done.ends, is_stopped).await;
    Ok(done)
}

async fn commit_what_can_be<C: Clock>(parts: &IntakeParts<C>, look_ups: &LookUps, recent: &mut Recent, work: &Work) -> Result<Done, BatchError> {
    let directory = parts.directory.current();
    let now = parts.clock.now();
    let brake = parts.guard.brake(now);
    let context = BatchContext { store: &parts.store, ids: &parts.ids, look_ups, policy: &parts.policy, directory: &directory, now, brake: &brake };
    let error = match batch::run(&context, recent, work).await {
        Ok(done) => return Ok(done),
        Err(error) if is_about_content(&error) => error,
        Err(error) => return Err(error),
    };
    if work.messages.len() <= 1 && work.visits.is_empty() {
        let Some(message) = work.messages.first() else { return Err(error) };
        tracing::error!(%error, journal = %message.journal, "this message cannot be taken and waits in quarantine");
        return batch::set_aside(&context, message).await;
    }
    let mut all = Done::default();
    for message in &work.messages {
        let alone = Work { messages: vec![Arc::clone(message)], ..Work::default() };
        let done = match batch::run(&context, recent, &alone).await {
            Err(error) if is_about_content(&error) => {
                tracing::error!(%error, journal = %message.journal, "this message cannot be taken and waits in quarantine");
                batch::set_aside(&context, message).await?
            }
            done => done?,
        };
        all.verdicts.extend(done.verdicts);
        all.n_events += done.n_events;
        all.wake_at = [all.wake_at, done.wake_at].into_iter().flatten().min();
        all.explained.extend(done.explained);
        all.said = done.said.or(all.said);
        all.ends.add(done.ends);
    }
    for visit in &work.visits {
        let alone = Work { visits: vec![visit.clone()], ..Work::default() };
        match batch::run(&context, recent, &alone).await {
            Ok(done) => {
                all.n_events += done.n_events;
                all.ends.add(done.ends);
            }
            Err(error) if is_about_content(&error) => tracing::error!(%error, "a visit cannot be planned again and keeps its room as it is"),
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Whether a failure is about what a message or a row says, rather than about the store as a whole.
pub(super) const fn is_about_content(error: &BatchError) -> bool {
    match error {
        BatchError::Form(_) | BatchError::Contended | BatchError::Fault => true,
        BatchError::Store(error) => matches!(error, StoreError::Unsealed { .. } | StoreError::Form { .. }),
        BatchError::Commit(error) => matches!(error, CommitError::Conflict),
    }
}

/// Takes up the messages in quarantine that wait for what has become known, and those that they explain in turn.
async fn take_up<C: Clock>(
    parts: &IntakeParts<C>,
    look_ups: &LookUps,
    recent: &mut Recent,
    explained: &mut Vec<LookUpHash>,
) -> Result<(), BatchError> {
    while !explained.is_empty() {
        let rows = parts.store.quarantine_by_hashes(explained).await?;
        let messages: Vec<JournalId> = rows.into_iter().map(|row| row.journal_id).collect();
        *explained = retake(parts, look_ups, recent, &messages).await?;
    }
    Ok(())
}

/// Reads messages in quarantine again and takes those that are explained now. Gives back what that explains in turn; nothing, when all still wait.
async fn retake<C: Clock>(
    parts: &IntakeParts<C>,
    look_ups: &LookUps,
    recent: &mut Recent,
    messages: &[JournalId],
) -> Result<Vec<LookUpHash>, BatchError> {
    let mut work = Work::default();
    for id in messages {
        let Some(message) = parts.store.journal_message(*id).await? else { continue };
        let Some(feed) = parts.feeds.get(&FeedName::new(message.feed)) else { continue };
        let arrived = Arrived { journal: message.id, at: message.received_at, is_retry: true };
        let read = read(message.raw.bytes.into(), &feed.profile, arrived, look_ups);
        work.messages.push(Arc::new(read.incoming));
    }
    if work.messages.is_empty() {
        return Ok(Vec::new());
    }
    work.messages.sort_by_key(|message| message.journal);
    let mut done = commit(parts, look_ups, recent, &work).await?;
    let freed = done.verdicts.iter().any(|verdict| verdict.disposition != Disposition::Quarantined);
    account(parts, &work, &mut done);
    Ok(if freed { done.explained } else { Vec::new() })
}
