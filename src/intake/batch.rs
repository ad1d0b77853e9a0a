//! The commit batch: what arrived from all connections, taken in order and committed at once.
//!
//! Everything that the batch touches is loaded with a fixed number of statements, folded and planned in memory, and written in one transaction. The
//! messages are answered by that commit and by nothing else. Nothing here parses a message or builds an answer.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use foldhash::HashMap;
use foldhash::HashSet;

use crate::care::brake::Brake;
use crate::care::change::Cause;
use crate::care::fact::Fact;
use crate::care::identity::PatientRecord;
use crate::care::notice::Notice;
use crate::care::policy::Policy;
use crate::directory::Snapshot;
use crate::directory::said::Said;
use crate::ids::CareRoomId;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::intake::Incoming;
use crate::intake::Verdict;
use crate::intake::batch::rows::journal;
use crate::intake::batch::rows::write_out;
use crate::intake::grants::Let;
use crate::intake::grants::Letting;
use crate::intake::grants::Refusal;
use crate::intake::look_ups::LookUps;
use crate::intake::recent::Recent;
use crate::intake::room_ids::RoomIds;
use crate::intake::route::Taken;
use crate::intake::route::Waits;
use crate::intake::staff;
use crate::intake::staff::Hearing;
use crate::intake::world::Ends;
use crate::intake::world::Need;
use crate::intake::world::PatientEntry;
use crate::intake::world::Rules;
use crate::intake::world::VisitEntry;
use crate::intake::world::World;
use crate::store::Store;
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::form::FormError;
use crate::store::form::Stored;
use crate::store::form::VisitDocument;
use crate::store::look_up::LookUpHash;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::Disposition;
use crate::store::rows::FindRequest;
use crate::store::rows::Found;
use crate::store::rows::StoredPatient;
use crate::time::Timestamp;

pub(crate) mod rows;

/// How often a batch starts over because something it needed was missing or had changed.
pub(super) const TRIES: usize = 8;

/// Why a batch was not committed. Nothing of it is in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A stored document could not be read.
    #[error(transparent)]
    Form(#[from] FormError),
    /// Planning failed by a fault of ours.
    #[error("a fault in planning; the message is kept and waits\nhint: please report it, with the version")]
    Fault,
    /// Others kept changing what the batch needed.
    #[error("the commit batch did not come to an end after {TRIES} tries")]
    Contended,
}

/// What a batch is to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work {
    /// Messages, in the order of their arrival.
    pub(crate) messages: Vec<Arc<Incoming>>,
    /// Visits to be planned again, and why.
    pub(crate) visits: Vec<(i64, Cause)>,
    /// Visits whose published rooms are published again as they are: one of them, or all.
    pub(crate) resync: Vec<(i64, Option<CareRoomId>)>,
    /// Messages whose merges are taken back.
    pub(crate) undo: Vec<Arc<Incoming>>,
    /// Messages in quarantine that an operator ends.
    pub(crate) ended: Vec<Arc<Incoming>>,
    /// Somebody whom an operator lets into a room or out of it.
    pub(crate) letting: Option<Box<Letting>>,
    /// What is written into the audit trail besides the changes of rooms.
    pub(crate) audit: Vec<AuditRow>,
}

/// What a batch did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// What became of each message, in their order.
    pub(crate) verdicts: Vec<Verdict>,
    /// How many events were put into the outbox.
    pub(crate) n_events: usize,
    /// The earliest instant at which a visit of this batch must be planned again.
    pub(crate) wake_at: Option<Timestamp>,
    /// What messages have said of staff and units, where the batch changed it.
    pub(crate) said: Option<Said>,
    /// Patients and visits that messages in quarantine may have waited for.
    pub(crate) explained: Vec<LookUpHash>,
    /// Messages that are known again no more.
    pub(crate) released: Vec<JournalId>,
    /// Which rooms ended, and which did not because of the brake.
    pub(crate) ends: Ends,
    /// Whether anything that was to be taken back stood.
    pub(crate) has_undone: bool,
    /// What became of whom an operator lets into a room or out of it.
    pub(crate) letting: Option<Result<Let, Refusal>>,
}

/// Everything a batch needs besides its work.
#[derive(Debug)]
pub(crate) struct BatchContext<'a> {
    pub(crate) store: &'a Store,
    pub(crate) ids: &'a IdSource,
    pub(crate) look_ups: &'a LookUps,
    pub(crate) policy: &'a Policy,
    pub(crate) directory: &'a Snapshot,
    pub(crate) now: Timestamp,
    pub(crate) brake: &'a Brake,
}

impl<'a> BatchContext<'a> {
    fn rules(&self) -> Rules<'a> {
        let Self { store, ids, look_ups, policy, directory, now, brake } = *self;
        Rules { policy, roster: &directory.roster, now, ids, look_ups, brake, epoch: store.epoch() }
    }
}

/// A batch that was planned ahead of the commit before it.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) done: Done,
    pub(crate) batch: CommitBatch,
    pub(crate) ahead: Ahead,
}

/// What a batch that is being committed will have added: whoever plans before that is done must know of it.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Its messages, by what makes them themselves.
    messages: HashMap<LookUpHash, JournalId>,
    /// Look-ups that lead further with it.
    led: HashSet<LookUpHash>,
}

/// Plans a batch while those before it are still being committed, as if that had succeeded already: it may be committed only after it has.
///
/// What the batches before have changed is in `recent`; what is read from the store meanwhile is checked by the commit, like everything. The store is asked
/// whether the messages are new only if one `asks`: the commit finds a repeat too, and the batch is taken again then. `None` where that is not enough: the batch must be [`run`] when nothing else is being committed.
pub(crate) async fn plan_ahead(
    context: &BatchContext<'_>,
    recent: &mut Recent,
    work: &Work,
    before: &[&Ahead],
    asks: bool,
) -> Result<Option<Planned>, BatchError> {
    if !recent.is_kept()
        || !work.visits.is_empty()
        || !work.resync.is_empty()
        || !work.undo.is_empty()
        || !work.ended.is_empty()
        || work.letting.is_some()
        || !work.audit.is_empty()
        || work.messages.iter().any(|message| message.directory.is_some() || message.is_retry)
    {
        return Ok(None);
    }
    let rules = context.rules();
    let mut request = request(work);
    let mut world = World::new(RoomIds::random());
    let wanted = std::mem::take(&mut request.look_ups);
    request.look_ups = recent.take(&wanted, &mut world);
    if request.look_ups.iter().any(|hash| before.iter().any(|ahead| ahead.led.contains(hash))) {
        return Ok(None);
    }
    if !asks {
        request.dedupe.clear();
    }
    let mut found = if asks || !request.look_ups.is_empty() { context.store.find(&request).await? } else { Found::default() };
    // What is in memory is newer.
    found.patients.retain(|patient| !world.patients.contains_key(&patient.id));
    found.visits.retain(|visit| !world.visits.contains_key(&visit.id));
    let mut known: HashMap<LookUpHash, JournalId> = found.duplicates.iter().map(|(hash, message)| (*hash, message.journal_id)).collect();
    known.extend(before.iter().flat_map(|ahead| &ahead.messages).map(|(hash, journal)| (*hash, *journal)));
    load(found, &mut world)?;
    world.asked = Some(wanted.iter().copied().collect());
    let mut hearing = Hearing::new(&context.directory.files, Said::default());
    let taken = catch_unwind(AssertUnwindSafe(|| take_all(&mut world, &mut hearing, work, &known, &rules)));
    let Ok(done) = taken.map_err(|_| BatchError::Fault)? else { return Ok(None) };
    let batch = write_out(context, &rules, &mut world, work, &done)?;
    let ahead = Ahead {
        messages: batch.journal.iter().filter_map(|row| Some((row.dedupe?, row.id))).collect(),
        led: batch.look_ups.iter().map(|(hash, _, _)| *hash).collect(),
    };
    recent.keep(world, &wanted, ahead.led.iter().copied());
    Ok(Some(Planned { done, batch, ahead }))
}

/// Takes everything the batch is to do, commits it, and says what became of it: of messages in quarantine, only of those that still waited.
pub(crate) async fn run(context: &BatchContext<'_>, recent: &mut Recent, work: &Work) -> Result<Done, BatchError> {
    let mut rules = context.rules();
    let mut work = Cow::Borrowed(work);
    let speaks_of_staff = work.messages.iter().any(|message| message.directory.is_some());
    let mut request = request(&work);
    let mut wanted = request.look_ups.clone();
    let mut world = World::new(RoomIds::random());
    request.look_ups = recent.take(&wanted, &mut world);
    let mut with_facts: BTreeSet<i64> = BTreeSet::new();
    let mut n_tries = 0;
    while n_tries < TRIES {
        let found = context.store.find(&request).await?;
        let duplicates: HashMap<LookUpHash, JournalId> = found.duplicates.iter().map(|(hash, known)| (*hash, known.journal_id)).collect();
        load(found, &mut world)?;
        world.asked = Some(wanted.iter().copied().collect());
        load_facts(context.store, &mut world, &with_facts).await?;
        let said = if speaks_of_staff { staff::stored(context.store).await? } else { Said::default() };
        let mut hearing = Hearing::new(&context.directory.files, said);
        let taken = catch_unwind(AssertUnwindSafe(|| take_all(&mut world, &mut hearing, &work, &duplicates, &rules)));
        match taken.map_err(|_| BatchError::Fault)? {
            Ok(done) => {
                let done = Done { said: hearing.changed(), ..done };
                let batch = write_out(context, &rules, &mut world, &work, &done)?;
                let led: Vec<LookUpHash> = batch.look_ups.iter().map(|(hash, _, _)| *hash).collect();
                match context.store.begin(vec![context.store.seal(batch)?]).await {
                    Ok(_) => {
                        recent.keep(world, &wanted, led);
                        return Ok(done);
                    }
                    Err(CommitError::Conflict) => {
                        metrics::counter!("wardroom_commit_conflicts_total").increment(1);
                        recent.was_wrong();
                        n_tries += 1;
                        rules.epoch = context.store.read_epoch().await?;
                        if let Some(left) = still_to_do(context.store, &work).await? {
                            work = Cow::Owned(left);
                        }
                    }
                    Err(error) => {
                        recent.forget();
                        return Err(error.into());
                    }
                }
            }
            Err(need) => {
                // What is fetched once is there from then on, so that only needing it again counts as a try.
                let (is_new, list) = match need {
                    Need::Facts(visit) => {
                        let is_new = !with_facts.contains(&visit);
                        // Where a second visit needs its facts too, messages have come out of order, and the batch need not start over for each of them.
                        if !with_facts.is_empty() {
                            with_facts.extend(world.visits.keys());
                        }
                        with_facts.insert(visit);
                        (is_new, None)
                    }
                    Need::Visit(visit) => (!request.visits.contains(&visit), Some((visit, &mut request.visits))),
                    Need::Patient(patient) => (!request.patients.contains(&patient), Some((patient, &mut request.patients))),
                    Need::LookUp(hash) => {
                        let is_new = !wanted.contains(&hash);
                        wanted.push(hash);
                        (is_new, None)
                    }
                };
                if let Some((row, rows)) = list.filter(|_| is_new) {
                    rows.push(row);
                }
                n_tries += usize::from(!is_new);
            }
        }
        // From here on everything comes from the store: what was taken from memory has been worked on.
        world = World::new(RoomIds::random());
        request.look_ups.clone_from(&wanted);
    }
    Err(BatchError::Contended)
}

/// The work without messages that do not wait in quarantine any more: another daemon took or ended them meanwhile. `None` when that is all of it.
async fn still_to_do(store: &Store, work: &Work) -> Result<Option<Work>, StoreError> {
    let mut gone: HashSet<JournalId> = HashSet::default();
    for message in work.messages.iter().filter(|message| message.is_retry).chain(&work.ended) {
        if !store.waits(message.journal).await? {
            gone.insert(message.journal);
        }
    }
    let mut left = work.clone();
    left.messages.retain(|message| !gone.contains(&message.journal));
    left.ended.retain(|message| !gone.contains(&message.journal));
    Ok((!gone.is_empty()).then_some(left))
}

/// Keeps a message that cannot be taken, and nothing else of it: it waits in quarantine.
pub(crate) async fn set_aside(context: &BatchContext<'_>, message: &Incoming) -> Result<Done, BatchError> {
    let verdict = Verdict::quarantined("internal_fault");
    let rules = context.rules();
    let mut batch = CommitBatch::default();
    journal(&mut batch, message, &verdict, true, None, &rules);
    context.store.commit(&batch).await?;
    Ok(Done { verdicts: vec![verdict], ..Done::default() })
}

/// What must be loaded for a batch: every identifier that its messages name.
pub(super) fn request(work: &Work) -> FindRequest {
    let named: HashSet<LookUpHash> =
        work.messages.iter().chain(&work.undo).chain(&work.ended).flat_map(|message| message.named.iter().copied()).collect();
    FindRequest {
        visits: (work.visits.iter().map(|(row, _)| *row))
            .chain(work.resync.iter().map(|(row, _)| *row))
            .chain(work.letting.iter().map(|letting| letting.visit))
            .collect(),
        dedupe: work.messages.iter().filter_map(|message| message.dedupe).collect(),
        look_ups: named.into_iter().collect(),
        ..FindRequest::default()
    }
}

/// Adds what was found in the store to the world; it counts for more than what was there.
pub(super) fn load(found: Found, world: &mut World) -> Result<(), FormError> {
    let mut asked: HashSet<LookUpHash> = HashSet::default();
    for patient in found.patients {
        let record = PatientRecord::read(&patient.doc)?;
        let StoredPatient { id, version, absorbed_into, key, .. } = patient;
        world.patients.insert(id, Box::new(PatientEntry { version, absorbed_into, key: Some(key), record, is_dirty: false }));
    }
    for visit in found.visits {
        let document = VisitDocument::read(&visit.doc)?;
        world.visits.insert(
            visit.id,
            Box::new(VisitEntry {
                patient: visit.patient_id,
                version: visit.version,
                document,
                facts: None,
                new_facts: Vec::new(),
                status: visit.status,
                is_open: visit.is_open,
                wake_at: visit.wake_at,
                updated_at: visit.updated_at,
                over_at: visit.over_at,
                unpublished: Vec::new(),
                is_dirty: false,
            }),
        );
    }
    for (hash, kind, target) in found.look_ups {
        let targets = world.targets.entry(hash).or_default();
        if asked.insert(hash) {
            targets.clear();
        }
        // The newest row comes first; rows that were absorbed lead on to the one that counts.
        targets.push((kind, target));
        targets.sort_unstable_by_key(|(_, target)| std::cmp::Reverse(*target));
    }
    world.settle_owners();
    Ok(())
}

/// Loads every fact of the visits that need theirs, those of rows they absorbed among them.
pub(super) async fn load_facts(store: &Store, world: &mut World, visits: &BTreeSet<i64>) -> Result<(), BatchError> {
    if visits.is_empty() {
        return Ok(());
    }
    let mut owners: Vec<i64> = Vec::new();
    for row in visits {
        owners.push(*row);
        owners.extend(world.visits.get(row).map(|visit| visit.document.absorbed.as_slice()).unwrap_or_default());
    }
    let mut stored = store.facts(&owners).await?;
    for row in visits {
        let Some(visit) = world.visits.get_mut(row) else { continue };
        let mut facts = Vec::new();
        for owner in std::iter::once(row).chain(&visit.document.absorbed) {
            for fact in stored.remove(owner).unwrap_or_default() {
                facts.push(Arc::new(Fact::read(&fact.body)?));
            }
        }
        visit.facts = Some(facts);
    }
    Ok(())
}

/// Takes every message and every visit to be planned again.
pub(crate) fn take_all(
    world: &mut World,
    hearing: &mut Hearing<'_>,
    work: &Work,
    duplicates: &HashMap<LookUpHash, JournalId>,
    rules: &Rules<'_>,
) -> Result<Done, Need> {
    let mut done = Done::default();
    world.has_conflicts |= world.visits.values().any(|visit| !visit.document.conflicts.is_empty());
    let mut seen: HashMap<LookUpHash, JournalId> = HashMap::default();
    for message in &work.messages {
        let known = message.dedupe.and_then(|hash| seen.get(&hash).or_else(|| duplicates.get(&hash))).copied();
        let is_old = |known: &JournalId| message.received_at.since(known.at()) >= message.known_for;
        // What came so long ago gives its place up to what comes now; its facts stay, and say the same.
        done.released.extend(known.filter(|known| is_old(known) && !done.released.contains(known)));
        let verdict = match known.filter(|known| *known != message.journal && !is_old(known)) {
            Some(known) => Verdict::duplicate(known),
            None => take_message(world, hearing, message, rules, &mut done.explained)?,
        };
        if verdict.disposition != Disposition::Duplicate
            && let Some(hash) = message.dedupe
        {
            seen.insert(hash, message.journal);
        }
        done.verdicts.push(verdict);
    }
    world.traceparent = None;
    for fact in work.ended.iter().filter_map(|message| message.facts.first()) {
        world.end_conflict(fact, rules)?;
    }
    for fact in work.undo.iter().flat_map(|message| &message.facts) {
        done.has_undone |= world.undo(fact, rules)?;
        done.explained.extend(explained_by(world, fact, rules)?);
    }
    for (row, cause) in &work.visits {
        let row = world.surviving_visit(*row)?;
        world.replan_all(vec![row], cause, false, true, rules)?;
    }
    for (row, room) in &work.resync {
        world.resync(*row, *room, rules)?;
    }
    if let Some(letting) = &work.letting {
        done.letting = Some(world.let_in_or_out(letting, rules)?);
    }
    done.n_events = world.changes.len();
    done.ends = world.ends;
    done.wake_at = world.visits.values().filter(|visit| visit.is_dirty).filter_map(|visit| visit.wake_at).min();
    Ok(done)
}

/// Takes one message: its facts one after another. If one of them waits, so does the message, and none of them counts.
pub(crate) fn take_message(
    world: &mut World,
    hearing: &mut Hearing<'_>,
    message: &Incoming,
    rules: &Rules<'_>,
    explained: &mut Vec<LookUpHash>,
) -> Result<Verdict, Need> {
    if let Some(verdict) = &message.decided {
        return Ok(verdict.clone());
    }
    if let Some(changes) = &message.directory {
        return Ok(hearing.take(changes, rules.now));
    }
    let mut routes = Vec::with_capacity(message.facts.len());
    for (index, fact) in message.facts.iter().enumerate() {
        let decided = world.decide(fact, rules)?;
        if let Err(waits) = decided {
            world.traceparent.clone_from(&message.traceparent);
            match waits {
                Waits::NoVisit => world.take_person(fact, rules)?,
                Waits::IdentityConflict => world.note_conflict(fact, rules)?,
                Waits::SeveralVisits | Waits::DeleteRequest | Waits::PossibleUnmerge => {}
            }
            let patient = world.find_patient(&fact.patient, rules)?;
            return Ok(Verdict { patient, waiting: Some(index), ..Verdict::quarantined(waits.as_str()) });
        }
        routes.extend(decided.ok());
    }
    let mut verdict = Verdict::noop("history");
    world.traceparent.clone_from(&message.traceparent);
    if let Some(fact) = message.facts.first() {
        world.end_conflict(fact, rules)?;
    }
    for (fact, decided) in message.facts.iter().zip(routes) {
        if world.take(fact, decided, rules)? == Taken::Applied {
            verdict.disposition = Disposition::Applied;
            verdict.reason = None;
        }
        verdict.patient = verdict.patient.or(world.find_patient(&fact.patient, rules)?);
        if fact.relation.is_some() {
            explained.extend(explained_by(world, fact, rules)?);
        }
    }
    explained.append(&mut world.explained);
    Ok(verdict)
}

/// Everything that a message may wait for which this fact relates.
fn explained_by(world: &mut World, fact: &Fact, rules: &Rules<'_>) -> Result<HashSet<LookUpHash>, Need> {
    let mut named: HashSet<LookUpHash> = rules.look_ups.named([fact]).into_iter().collect();
    // A message may wait under an id that only another message tied to these.
    let patient = world.find_patient(&fact.patient, rules)?;
    let record = patient.and_then(|row| world.patients.get(&row)).map(|entry| &entry.record);
    named.extend(record.into_iter().flat_map(PatientRecord::ids).map(|id| rules.look_ups.patient(id)));
    Ok(named)
}

/// Notices of a batch's messages, for logs and metrics.
pub(crate) fn notices(work: &Work) -> impl Iterator<Item = &Notice> {
    work.messages.iter().flat_map(|message| &message.notices)
}

#[cfg(test)]
mod tests;
