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
use serde::Serialize;

use crate::care::brake::Brake;
use crate::care::change::Cause;
use crate::care::fact::Fact;
use crate::care::identity::PatientRecord;
use crate::care::notice::Notice;
use crate::care::policy::Policy;
use crate::care::room::RoomStatus;
use crate::directory::Snapshot;
use crate::directory::said::Said;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::intake::Incoming;
use crate::intake::Verdict;
use crate::intake::look_ups::LookUps;
use crate::intake::recent::Recent;
use crate::intake::route::Taken;
use crate::intake::route::Waits;
use crate::intake::staff;
use crate::intake::staff::Hearing;
use crate::intake::world::Ends;
use crate::intake::world::Need;
use crate::intake::world::PatientEntry;
use crate::intake::world::RoomChange;
use crate::intake::world::RoomIds;
use crate::intake::world::Rules;
use crate::intake::world::VisitEntry;
use crate::intake::world::World;
use crate::store::Store;
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::form::FormError;
use crate::store::form::Stored;
use crate::store::form::VisitDocument;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::Disposition;
use crate::store::rows::FactRow;
use crate::store::rows::FindRequest;
use crate::store::rows::Found;
use crate::store::rows::JournalRow;
use crate::store::rows::JournalSettled;
use crate::store::rows::OutboxEvent;
use crate::store::rows::PatientRow;
use crate::store::rows::QuarantineRow;
use crate::store::rows::VisitRow;
use crate::store::sealing::Document;
use crate::store::sealing::LookUpHash;
use crate::store::sealing::LookUpKind;
use crate::store::sealing::SealingKey;
use crate::time::Timestamp;

/// How often a batch starts over because something it needed was missing or had changed.
const TRIES: usize = 8;

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
    /// Messages whose merges are taken back.
    pub(crate) undo: Vec<Arc<Incoming>>,
    /// Messages in quarantine that an operator ends.
    pub(crate) ended: Vec<Arc<Incoming>>,
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
        Rules { policy: self.policy, roster: &self.directory.roster, now: self.now, ids: self.ids, look_ups: self.look_ups, brake: self.brake }
    }
}

/// What an audit row tells of a change of a room, sealed.
#[derive(Serialize)]
struct AuditBody<'a> {
    event_type: &'a str,
    cause: &'a str,
    trigger: Option<&'a str>,
    feed: Option<&'a str>,
    members: Vec<(&'a str, Vec<&'a str>)>,
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

/// Plans a batch while the one before it is still being committed, as if that had succeeded already: it may be committed only after it has.
///
/// What the batch before has changed is in `recent`; what is read from the store meanwhile is checked by the commit, like everything. The store is asked
/// whether the messages are new only if one `asks`: the commit finds a repeat too, and the batch is taken again then. `None` where that is not enough: the batch must be [`run`] when nothing else is being committed.
pub(crate) async fn plan_ahead(
    context: &BatchContext<'_>,
    recent: &mut Recent,
    work: &Work,
    before: &Ahead,
    asks: bool,
) -> Result<Option<Planned>, BatchError> {
    if !recent.is_kept()
        || !work.visits.is_empty()
        || !work.undo.is_empty()
        || !work.ended.is_empty()
        || !work.audit.is_empty()
        || work.messages.iter().any(|message| message.directory.is_some() || message.is_retry)
    {
        return Ok(None);
    }
    let rules = context.rules();
    let mut request = request(work, context.look_ups);
    let mut world = World::new(RoomIds::Random);
    let wanted = std::mem::take(&mut request.look_ups);
    request.look_ups = recent.take(&wanted, &mut world);
    if request.look_ups.iter().any(|hash| before.led.contains(hash)) {
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
    known.extend(before.messages.iter().map(|(hash, journal)| (*hash, *journal)));
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
    let rules = context.rules();
    let mut work = Cow::Borrowed(work);
    let speaks_of_staff = work.messages.iter().any(|message| message.directory.is_some());
    let mut request = request(&work, context.look_ups);
    let mut wanted = request.look_ups.clone();
    let mut world = World::new(RoomIds::Random);
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
                match context.store.begin(batch).await {
                    Ok(_) => {
                        recent.keep(world, &wanted, led);
                        return Ok(done);
                    }
                    Err(CommitError::Conflict) => {
                        metrics::counter!("wardroom_commit_conflicts_total").increment(1);
                        recent.was_wrong();
                        n_tries += 1;
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
                    Need::Facts(visit) => (with_facts.insert(visit), None),
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
        world = World::new(RoomIds::Random);
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
    journal(&mut batch, message, &verdict, None, &rules);
    context.store.commit(&batch).await?;
    Ok(Done { verdicts: vec![verdict], ..Done::default() })
}

/// What must be loaded for a batch: every identifier that its messages name.
fn request(work: &Work, look_ups: &LookUps) -> FindRequest {
    let mut request = FindRequest { visits: work.visits.iter().map(|(row, _)| *row).collect(), ..FindRequest::default() };
    let mut wanted: HashSet<LookUpHash> = HashSet::default();
    for message in &work.messages {
        request.dedupe.extend(message.dedupe);
    }
    for message in work.messages.iter().chain(&work.undo).chain(&work.ended) {
        for fact in &message.facts {
            name_look_ups(fact, look_ups, &mut wanted);
        }
    }
    request.look_ups = wanted.into_iter().collect();
    request
}

/// Every look-up that a fact may lead through.
pub(crate) fn name_look_ups(fact: &Fact, look_ups: &LookUps, wanted: &mut HashSet<LookUpHash>) {
    wanted.insert(look_ups.patient(&fact.patient));
    let mut visit = |id| {
        wanted.insert(look_ups.visit(LookUpKind::Visit, id));
        wanted.insert(look_ups.visit(LookUpKind::Account, id));
        wanted.insert(look_ups.visit(LookUpKind::Preadmit, id));
    };
    if let Some(named) = &fact.visit {
        visit(&named.id);
        [&named.account, &named.alternate, &named.preadmit].into_iter().flatten().for_each(&mut visit);
    }
    if let Some(relation) = &fact.relation {
        for pair in relation.visits.iter().chain(&relation.accounts) {
            visit(&pair.from);
            visit(&pair.into);
        }
        for pair in &relation.patients {
            wanted.insert(look_ups.patient(&pair.from));
            wanted.insert(look_ups.patient(&pair.into));
        }
    }
}

/// Adds what was found in the store to the world; it counts for more than what was there.
fn load(found: Found, world: &mut World) -> Result<(), FormError> {
    let mut asked: HashSet<LookUpHash> = HashSet::default();
    for patient in found.patients {
        let record = PatientRecord::read(&patient.doc)?;
        world.patients.insert(
            patient.id,
            PatientEntry { version: patient.version, absorbed_into: patient.absorbed_into, key: Some(patient.key), record, is_dirty: false },
        );
    }
    for visit in found.visits {
        let document = VisitDocument::read(&visit.doc)?;
        world.visits.insert(
            visit.id,
            VisitEntry {
                patient: visit.patient_id,
                version: visit.version,
                document,
                facts: None,
                new_facts: Vec::new(),
                status: visit.status,
                is_open: visit.is_open,
                wake_at: visit.wake_at,
                updated_at: visit.updated_at,
                unpublished: Vec::new(),
                is_dirty: false,
            },
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
async fn load_facts(store: &Store, world: &mut World, visits: &BTreeSet<i64>) -> Result<(), BatchError> {
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
                facts.push(Fact::read(&fact.body)?);
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
    let mut named = HashSet::default();
    name_look_ups(fact, rules.look_ups, &mut named);
    // A message may wait under an id that only another message tied to these.
    let patient = world.find_patient(&fact.patient, rules)?;
    let record = patient.and_then(|row| world.patients.get(&row)).map(|entry| &entry.record);
    named.extend(record.into_iter().flat_map(PatientRecord::ids).map(|id| rules.look_ups.patient(id)));
    Ok(named)
}

/// What the batch changed, as rows.
fn write_out(context: &BatchContext<'_>, rules: &Rules<'_>, world: &mut World, work: &Work, done: &Done) -> Result<CommitBatch, BatchError> {
    for (row, entry) in &mut world.patients {
        if entry.key.is_none() {
            entry.key = Some(context.store.new_patient_key(*row)?);
        }
    }
    let keys: HashMap<i64, SealingKey> = world.patients.iter().filter_map(|(row, entry)| Some((*row, entry.key.clone()?))).collect();
    let key_of = |row: i64| keys.get(&row).cloned();
    let directory = done.said.as_ref().map(staff::row);
    let mut batch = CommitBatch {
        look_ups: std::mem::take(&mut world.new_look_ups),
        directory,
        dedupe_released: done.released.clone(),
        audit: work.audit.clone(),
        ..CommitBatch::default()
    };
    for (message, verdict) in work.messages.iter().zip(&done.verdicts) {
        journal(&mut batch, message, verdict, verdict.patient.and_then(key_of), rules);
    }
    for message in &work.ended {
        batch.journal_settled.push(JournalSettled::discarded(message.journal));
        batch.quarantine_left.push(message.journal);
    }
    // After all that any daemon has put into the outbox for these visits, by whatever clock.
    let mut written = world.visits.values().map(|visit| visit.updated_at).fold(rules.now, Timestamp::max);
    for change in world.changes.drain(..) {
        let key = key_of(change.patient);
        let place = rules.ids.next_place(rules.now, written);
        written = JournalId(place).at();
        publish(&mut batch, change, place, key, rules);
    }
    let mut created = false;
    for (row, entry) in &world.patients {
        if entry.is_dirty {
            created |= entry.version == 0;
            let Some(key) = entry.key.clone() else { continue };
            batch.patients.push(PatientRow {
                id: *row,
                version: entry.version + 1,
                absorbed_into: entry.absorbed_into,
                key,
                doc: entry.record.document(),
            });
        } else {
            batch.read_patients.push((*row, entry.version));
        }
    }
    for (row, visit) in &mut world.visits {
        let Some(key) = key_of(visit.patient) else { continue };
        for fact in &visit.new_facts {
            batch.facts.push(FactRow {
                owner: *row,
                recorded_at: fact.stamp.recorded,
                sent_at: fact.stamp.sent,
                arrival: fact.stamp.arrival.0,
                hash: LookUpHash(fact.hash.0),
                key: key.clone(),
                body: fact.document(),
            });
        }
        if visit.is_dirty {
            created |= visit.version == 0;
            visit.updated_at = written;
            batch.visits.push(visit_row(*row, visit, key));
        } else {
            batch.read_visits.push((*row, visit.version));
        }
    }
    let gave_its_room_away = |row: &VisitRow| row.status == RoomStatus::Merged.as_str();
    if batch.visits.iter().any(gave_its_room_away) {
        // A room has one row at any time, also between two rows of this batch.
        batch.visits.sort_by_key(|row| !gave_its_room_away(row));
    }
    if !context.store.is_ours_alone() {
        let asked = world.targets.iter().filter(|(hash, _)| world.asked.as_ref().is_some_and(|asked| asked.contains(hash)));
        batch.known_look_ups = asked.flat_map(|(hash, targets)| targets.iter().map(|(_, target)| (*hash, *target))).collect();
    }
    if created {
        let led: HashSet<LookUpHash> = batch.look_ups.iter().map(|(hash, _, _)| *hash).collect();
        batch.absent_look_ups = world.absent_look_ups.iter().copied().filter(|hash| led.contains(hash)).collect();
    }
    Ok(batch)
}

fn visit_row(row: i64, visit: &VisitEntry, key: SealingKey) -> VisitRow {
    let last = visit.document.rooms.last();
    VisitRow {
        id: row,
        patient_id: visit.patient,
        version: visit.version + 1,
        status: visit.status.clone(),
        is_open: visit.is_open,
        wake_at: visit.wake_at,
        room_id: last.map(|slot| slot.id),
        room_version: last.and_then(|slot| slot.published.as_ref()).map_or(0, |room| i64::try_from(room.version).unwrap_or(i64::MAX)),
        updated_at: visit.updated_at,
        key,
        doc: visit.document.document(),
    }
}

/// The patient and the visit whose explanation a message in quarantine waits for: those of the fact that could not be taken.
pub(crate) fn waits_for(message: &Incoming, verdict: &Verdict, look_ups: &LookUps) -> (Option<LookUpHash>, Option<LookUpHash>) {
    let fact = message.facts.get(verdict.waiting.unwrap_or_default());
    let visit = fact.and_then(|fact| fact.visit.as_ref()).map(|visit| look_ups.visit(LookUpKind::Visit, &visit.id));
    (fact.map(|fact| look_ups.patient(&fact.patient)), visit)
}

fn journal(batch: &mut CommitBatch, message: &Incoming, verdict: &Verdict, key: Option<SealingKey>, rules: &Rules<'_>) {
    let waits = || {
        let (patient_hash, visit_hash) = waits_for(message, verdict, rules.look_ups);
        QuarantineRow {
            journal_id: message.journal,
            reason: verdict.reason.unwrap_or_default().to_owned(),
            since: message.received_at,
            patient_hash,
            visit_hash,
            state: "waiting".to_owned(),
        }
    };
    if message.is_retry {
        // It is in the journal already; only what became of it changes.
        let reason = verdict.reason.map(str::to_owned);
        batch.journal_settled.push(JournalSettled { id: message.journal, disposition: verdict.disposition, reason });
        if verdict.disposition == Disposition::Quarantined {
            // It may wait for something else now.
            batch.quarantine.push(waits());
        } else {
            batch.quarantine_left.push(message.journal);
        }
        return;
    }
    if verdict.disposition == Disposition::Quarantined {
        batch.quarantine.push(waits());
    }
    batch.journal.push(JournalRow {
        id: message.journal,
        feed: message.feed.as_str().to_owned(),
        received_at: message.received_at,
        dedupe: message.dedupe.filter(|_| verdict.disposition != Disposition::Duplicate),
        control: None,
        trigger: message.trigger.map(|trigger| trigger.to_string()),
        disposition: verdict.disposition,
        reason: verdict.reason.map(str::to_owned),
        duplicate_of: verdict.duplicate_of,
        ack_code: None,
        patient_id: verdict.patient.filter(|_| key.is_some()),
        key,
        raw: Document::new(0, message.raw.to_vec()),
    });
}

fn publish(batch: &mut CommitBatch, change: RoomChange, place: i64, key: Option<SealingKey>, rules: &Rules<'_>) {
    let RoomChange { event, cause, room, .. } = change;
    let version = i64::try_from(room.version).unwrap_or(i64::MAX);
    let members = room.state.members.iter().map(|member| {
        let grounds = member.grounds.iter().map(|ground| ground.from.as_str()).collect();
        (member.user.as_str(), grounds)
    });
    let body = AuditBody {
        event_type: event.event_type.as_str(),
        cause: cause.kind.as_str(),
        trigger: cause.trigger.as_ref().map(crate::ids::TriggerEvent::as_str),
        feed: cause.feed.as_ref().map(crate::ids::FeedName::as_str),
        members: members.collect(),
    };
    batch.audit.push(AuditRow {
        at: rules.now,
        kind: event.event_type.as_str().to_owned(),
        room_id: Some(room.id),
        room_version: Some(version),
        journal_id: cause.message,
        key: key.clone(),
        body: Document::new(1, serde_json::to_vec(&body).unwrap_or_default()),
    });
    batch.outbox.push(OutboxEvent {
        seq: place,
        room_id: room.id,
        room_version: version,
        event_id: event.id,
        event_type: event.event_type.as_str().to_owned(),
        facility: event.facility.as_str().to_owned(),
        traceparent: event.traceparent,
        time: event.time,
        key,
        body: Document::new(1, event.body),
    });
}

/// Notices of a batch's messages, for logs and metrics.
pub(crate) fn notices(work: &Work) -> impl Iterator<Item = &Notice> {
    work.messages.iter().flat_map(|message| &message.notices)
}

#[cfg(test)]
mod tests;
