//! The world of one commit batch: the patients and visits it touches, as they stand while its messages are taken one after another.
//!
//! It is plain data and plain functions: it neither reads nor writes the store. What it lacks it names as a [`Need`]; the batch fetches that and starts
//! over. What it changed it gives away as rows. `explain` and `verify` keep one world in memory for as long as they run.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use foldhash::HashSet;
use smallvec::SmallVec;

use crate::care::account::Says;
use crate::care::brake::Brake;
use crate::care::change::Cause;
use crate::care::fact::Fact;
use crate::care::identity::PatientRecord;
use crate::care::plan::retired;
use crate::care::policy::Policy;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::care::roster::Roster;
use crate::care::visit::CourseRules;
use crate::care::visit::Placement;
use crate::care::visit::VisitState;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::look_ups::LookUps;
use crate::intake::room_ids::RoomIds;
use crate::intake::rooms::Publishing;
use crate::intake::rooms::publish;
use crate::outbox::envelope::Event;
use crate::store::form::RoomSlot;
use crate::store::form::VisitDocument;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::sealing::Document;
use crate::store::sealing::SealingKey;
use crate::time::Timestamp;

/// The status of a visit without a room.
pub(super) const NO_ROOM: &str = "none";

/// Something the world lacks to go on; the batch fetches it and starts over.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Need {
    /// All facts of a visit, because one arrived late.
    Facts(i64),
    /// A visit that another one names.
    Visit(i64),
    /// A patient that another one names.
    Patient(i64),
    /// What an identifier leads to that only another message named.
    LookUp(LookUpHash),
}

/// What planning needs to know besides the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) roster: &'a Roster,
    pub(crate) now: Timestamp,
    pub(crate) ids: &'a IdSource,
    pub(crate) look_ups: &'a LookUps,
    /// What is held back now.
    pub(crate) brake: &'a Brake,
    /// The epoch of whatever is published.
    pub(crate) epoch: u32,
}

impl Rules<'_> {
    /// What the policy says about the course of a stay.
    pub(super) const fn course(&self) -> CourseRules {
        CourseRules { reopen_on_admit: self.policy.reopen_on_admit, adopt_on_update: self.policy.adopt_on_update }
    }
}

/// What a look-up leads to; mostly one row.
pub(crate) type Targets = SmallVec<[(LookUpKind, i64); 1]>;

/// A patient's record in the world.
#[derive(Debug)]
pub(crate) struct PatientEntry {
    pub(crate) version: i64,
    pub(crate) absorbed_into: Option<i64>,
    pub(crate) key: Option<SealingKey>,
    pub(crate) record: PatientRecord,
    pub(crate) is_dirty: bool,
}

/// A visit in the world.
#[derive(Debug)]
pub(crate) struct VisitEntry {
    pub(crate) patient: i64,
    pub(crate) version: i64,
    pub(crate) document: VisitDocument,
    /// Every fact, once somebody needed them.
    pub(crate) facts: Option<Vec<Arc<Fact>>>,
    /// The facts of this batch.
    pub(crate) new_facts: Vec<Arc<Fact>>,
    /// The room's status, `none` while there is no room.
    pub(crate) status: String,
    pub(crate) is_open: bool,
    pub(crate) wake_at: Option<Timestamp>,
    /// When it was written last: no event of its rooms has a later place in the outbox.
    pub(crate) updated_at: Timestamp,
    /// Since when it is over, where it is.
    pub(crate) over_at: Option<Timestamp>,
    /// What the rooms of its stays are planned to be where that is not published: of an expected stay, or of one that was over when first heard of.
    pub(crate) unpublished: Vec<Option<RoomState>>,
    pub(crate) is_dirty: bool,
}

/// A change of a room, to be published and audited.
#[derive(Debug)]
pub(crate) struct RoomChange {
    pub(crate) patient: i64,
    pub(crate) event: Event,
    /// The message that caused it.
    pub(crate) message: Option<JournalId>,
    /// The visit for which the room was made.
    pub(crate) made_for: Option<i64>,
    /// What is audited of it.
    pub(crate) audited: Document,
}

/// Which rooms ended in a batch, and which did not because of the brake; and which did not begin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// How many ended.
    pub(crate) n_ended: usize,
    /// How many changes were held back.
    pub(crate) n_held: usize,
    /// How many rooms were not opened because their unit is in use no more.
    pub(crate) n_kept_out: usize,
    /// Whether so many ended that the rest waits for an operator.
    pub(crate) stopped: bool,
}

impl Ends {
    /// Together with those of another batch.
    pub(crate) fn add(&mut self, other: Self) {
        self.n_ended += other.n_ended;
        self.n_held += other.n_held;
        self.n_kept_out += other.n_kept_out;
        self.stopped |= other.stopped;
    }
}

/// The patients and visits of a batch.
#[derive(Debug)]
pub(crate) struct World {
    /// In memory of their own, as the visits: they are large, and go from batch to batch.
    pub(crate) patients: BTreeMap<i64, Box<PatientEntry>>,
    pub(crate) visits: BTreeMap<i64, Box<VisitEntry>>,
    pub(crate) targets: HashMap<LookUpHash, Targets>,
    pub(crate) new_look_ups: Vec<(LookUpHash, LookUpKind, i64)>,
    pub(crate) absent_look_ups: HashSet<LookUpHash>,
    /// The look-ups that were loaded, whether they lead anywhere or not; absent where everything is in memory.
    pub(crate) asked: Option<HashSet<LookUpHash>>,
    pub(crate) changes: Vec<RoomChange>,
    /// Numbers that turned out to be of one visit: messages may have waited for that.
    pub(crate) explained: Vec<LookUpHash>,
    pub(crate) room_ids: RoomIds,
    /// What ended, and what was held back.
    pub(crate) ends: Ends,
    /// Whether a message may wait that names one of these visits under another patient.
    pub(crate) has_conflicts: bool,
    /// Whether a fact brought a visit to another patient, or back, without saying so itself.
    pub(crate) has_moved: bool,
    /// The trace of the message that is being taken.
    pub(crate) traceparent: Option<String>,
}

impl World {
    /// An empty world.
    pub(crate) fn new(room_ids: RoomIds) -> Self {
        Self {
            patients: BTreeMap::new(),
            visits: BTreeMap::new(),
            targets: HashMap::default(),
            new_look_ups: Vec::new(),
            absent_look_ups: HashSet::default(),
            asked: None,
            changes: Vec::new(),
            explained: Vec::new(),
            room_ids,
            ends: Ends::default(),
            has_conflicts: false,
            has_moved: false,
            traceparent: None,
        }
    }

    /// Gives visits of merged records to the record that counts.
    pub(crate) fn settle_owners(&mut self) {
        for visit in self.visits.values_mut() {
            while let Some(next) = self.patients.get(&visit.patient).and_then(|entry| entry.absorbed_into) {
                visit.patient = next;
            }
        }
    }

    /// Follows merged records to the one that counts.
    pub(crate) fn surviving_patient(&self, mut id: i64) -> Result<i64, Need> {
        loop {
            let entry = self.patients.get(&id).ok_or(Need::Patient(id))?;
            match entry.absorbed_into {
                Some(next) => id = next,
                None => return Ok(id),
            }
        }
    }

    /// Follows absorbed visits to the one that counts.
    pub(crate) fn surviving_visit(&self, mut id: i64) -> Result<i64, Need> {
        loop {
            let entry = self.visits.get(&id).ok_or(Need::Visit(id))?;
            match entry.document.absorbed_by {
                Some(next) => id = next,
                None => return Ok(id),
            }
        }
    }

    /// The record that knows a patient id.
    pub(crate) fn find_patient(&mut self, id: &PatientId, rules: &Rules<'_>) -> Result<Option<i64>, Need> {
        let hash = rules.look_ups.patient(id);
        let Some(row) = self.targets.get(&hash).and_then(|targets| targets.first()).map(|(_, row)| *row) else {
            self.absent_look_ups.insert(hash);
            return Ok(None);
        };
        self.surviving_patient(row).map(Some)
    }

    /// The visits known under a number of a kind, those that count, each once.
    pub(crate) fn find_visits(&mut self, kind: LookUpKind, id: &VisitId, rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
        let hash = rules.look_ups.visit(kind, id);
        let Some(rows) = self.targets.get(&hash) else {
            self.absent_look_ups.insert(hash);
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (_, row) in rows {
            let row = self.surviving_visit(*row)?;
            if !found.contains(&row) {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// Makes a look-up lead to a row from now on. Gives back whether it did not yet.
    pub(crate) fn lead(&mut self, hash: LookUpHash, kind: LookUpKind, row: i64) -> bool {
        let targets = self.targets.entry(hash).or_default();
        let is_new = !targets.contains(&(kind, row));
        if is_new {
            // The newest comes first: an id that has gone over to another record is found there.
            targets.insert(0, (kind, row));
            self.new_look_ups.push((hash, kind, row));
        }
        is_new
    }

    /// The record that knows a patient id, or a new one.
    pub(crate) fn patient(&mut self, id: &PatientId, rules: &Rules<'_>) -> Result<i64, Need> {
        if let Some(row) = self.find_patient(id, rules)? {
            return Ok(row);
        }
        let row = rules.ids.next(rules.now);
        let entry = PatientEntry { version: 0, absorbed_into: None, key: None, record: PatientRecord::default(), is_dirty: true };
        self.patients.insert(row, Box::new(entry));
        self.lead(rules.look_ups.patient(id), LookUpKind::Patient, row);
        Ok(row)
    }

    /// A new visit of a patient.
    pub(crate) fn new_visit(&mut self, patient: i64, rules: &Rules<'_>) -> i64 {
        let row = rules.ids.next(rules.now);
        let entry = VisitEntry {
            patient,
            version: 0,
            document: VisitDocument::default(),
            facts: Some(Vec::new()),
            new_facts: Vec::new(),
            status: NO_ROOM.to_owned(),
            is_open: true,
            wake_at: None,
            updated_at: Timestamp::from_micros(0),
            over_at: None,
            unpublished: Vec::new(),
            is_dirty: true,
        };
        self.visits.insert(row, Box::new(entry));
        row
    }

    /// Makes two records one: the older row takes over the other's persons, aliases and loaded visits.
    pub(crate) fn join_patients(&mut self, a: i64, b: i64, rules: &Rules<'_>) -> i64 {
        if a == b {
            return a;
        }
        let (into, from) = (a.min(b), a.max(b));
        let Some(loser) = self.patients.get_mut(&from) else { return into };
        loser.absorbed_into = Some(into);
        loser.is_dirty = true;
        let record = std::mem::take(&mut loser.record);
        let ids: Vec<PatientId> = record.ids().cloned().collect();
        if let Some(winner) = self.patients.get_mut(&into) {
            winner.record.absorb(&record);
            winner.is_dirty = true;
        }
        for id in ids {
            self.lead(rules.look_ups.patient(&id), LookUpKind::Patient, into);
        }
        for visit in self.visits.values_mut().filter(|visit| visit.patient == from) {
            visit.patient = into;
            visit.is_dirty = true;
        }
        into
    }

    /// Every loaded visit of a patient that still moves.
    pub(crate) fn open_visits(&self, patient: i64) -> Vec<i64> {
        let is_one = |visit: &VisitEntry| visit.patient == patient && visit.is_open && visit.document.absorbed_by.is_none();
        self.visits.iter().filter(|(_, visit)| is_one(visit)).map(|(row, _)| *row).collect()
    }

    /// Folds a fact into a visit. Gives back whether it counts: one from before the late window is history.
    pub(crate) fn fold(&mut self, row: i64, fact: &Arc<Fact>, rules: &Rules<'_>) -> Result<bool, Need> {
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        let moves = visit.document.state.moves().to_vec();
        match visit.document.state.placement(fact, rules.policy.late_window) {
            Placement::History => return Ok(false),
            // The same again is known.
            Placement::Last if visit.document.state.is_newest(fact) => return Ok(false),
            Placement::Last => {
                visit.document.state.apply(fact);
                if let Some(facts) = &mut visit.facts {
                    facts.push(Arc::clone(fact));
                }
            }
            Placement::Among => {
                let facts = visit.facts.as_mut().ok_or(Need::Facts(row))?;
                if facts.iter().any(|known| known.hash == fact.hash) {
                    return Ok(false);
                }
                facts.push(Arc::clone(fact));
                visit.document.state = VisitState::fold(facts.iter().map(AsRef::as_ref).filter(|fact| visit.document.counts(fact)));
            }
        }
        visit.new_facts.push(Arc::clone(fact));
        visit.is_dirty = true;
        let patient = visit.patient;
        let has_moved = visit.document.state.moves() != moves;
        let ids: Vec<VisitId> = visit.document.state.ids().to_vec();
        for id in ids {
            self.lead(rules.look_ups.visit(LookUpKind::Visit, &id), LookUpKind::Visit, row);
        }
        let named = fact.visit.as_ref();
        for account in named.into_iter().flat_map(|named| named.is_account.then_some(&named.id).into_iter().chain(named.account.as_ref())) {
            self.lead(rules.look_ups.visit(LookUpKind::Account, account), LookUpKind::Account, row);
        }
        if let Some(alternate) = named.and_then(|named| named.alternate.as_ref()) {
            self.lead(rules.look_ups.visit(LookUpKind::Visit, alternate), LookUpKind::Visit, row);
        }
        if let Some(preadmit) = named.and_then(|named| named.preadmit.as_ref())
            && self.lead(rules.look_ups.visit(LookUpKind::Preadmit, preadmit), LookUpKind::Preadmit, row)
        {
            // A message may wait under the number that the stay was expected with.
            self.explained.push(rules.look_ups.visit(LookUpKind::Visit, preadmit));
        }
        if Says::of(fact) == Some(Says::OfOneStay) {
            // It is found under the account that it left too, whoever names that with it.
            for pair in fact.relation.iter().flat_map(|relation| &relation.accounts) {
                for account in [&pair.from, &pair.into] {
                    self.lead(rules.look_ups.visit(LookUpKind::Account, account), LookUpKind::Account, row);
                }
            }
        }
        if has_moved {
            self.has_moved = true;
            // Messages may wait that name it under whom it has come to, or come back to.
            let record = self.patients.get(&patient).map(|entry| &entry.record);
            self.explained.extend(record.into_iter().flat_map(PatientRecord::ids).map(|id| rules.look_ups.patient(id)));
        }
        debug_assert!(self.patients.contains_key(&patient), "a visit's record is always loaded with it");
        Ok(true)
    }

    /// Makes two rows one visit: their facts are folded together, and of two rooms the surviving number's stays.
    pub(crate) fn join_visits(&mut self, into: i64, from: i64, cause: &Cause, rules: &Rules<'_>) -> Result<(), Need> {
        if into == from {
            return Ok(());
        }
        let mut facts = self.visits.get(&into).ok_or(Need::Visit(into))?.facts.clone().ok_or(Need::Facts(into))?;
        let loser = self.visits.get_mut(&from).ok_or(Need::Visit(from))?;
        facts.extend(loser.facts.clone().ok_or(Need::Facts(from))?);
        loser.document.absorbed_by = Some(into);
        loser.document.state = VisitState::default();
        loser.facts = Some(Vec::new());
        loser.is_dirty = true;
        loser.is_open = false;
        loser.wake_at = None;
        loser.over_at = None;
        let mut merges = std::mem::take(&mut loser.document.merges);
        let merged_from = std::mem::take(&mut loser.document.merged_from);
        let conflicts = std::mem::take(&mut loser.document.conflicts);
        let mut rooms = std::mem::take(&mut loser.document.rooms);
        let absorbed = std::mem::take(&mut loser.document.absorbed);
        let taken_back = std::mem::take(&mut loser.document.taken_back);
        let patient = loser.patient;
        let winner = self.visits.get_mut(&into).ok_or(Need::Visit(into))?;
        winner.document.absorbed.push(from);
        winner.document.absorbed.extend(absorbed);
        winner.document.merges.append(&mut merges);
        // What was concluded of the two is concluded anew of the one.
        winner.document.merges.retain(|merge| !merge.concluded);
        winner.document.merged_from.extend(merged_from);
        winner.document.conflicts.extend(conflicts);
        winner.document.taken_back.extend(taken_back);
        winner.document.state = VisitState::fold(facts.iter().map(AsRef::as_ref).filter(|fact| winner.document.counts(fact)));
        winner.facts = Some(facts);
        winner.is_dirty = true;
        let ids: Vec<VisitId> = winner.document.state.ids().to_vec();
        let unpublished = |slots: &[RoomSlot]| slots.iter().all(|slot| slot.published.is_none());
        if unpublished(&winner.document.rooms) && !unpublished(&rooms) {
            std::mem::swap(&mut winner.document.rooms, &mut rooms);
        }
        // The row would claim the room of the other otherwise.
        rooms.retain(|slot| slot.published.is_some());
        let survivor = winner.document.rooms.last().map(|slot| slot.id);
        for slot in &mut rooms {
            if let (Some(published), Some(survivor)) = (&slot.published, survivor) {
                let state = RoomState { merged_into: Some(survivor), ..RoomState { status: RoomStatus::Merged, ..retired(&published.state) } };
                let changed = publish(
                    slot,
                    state,
                    patient,
                    &Publishing { cause, rehomed: false, notify: false, traceparent: self.traceparent.as_deref() },
                    rules,
                );
                self.changes.extend(changed);
            }
        }
        if let Some(entry) = self.patients.get_mut(&patient) {
            for slot in &rooms {
                entry.is_dirty |= entry.record.emergencies.note(slot.id, None);
            }
        }
        if let Some(loser) = self.visits.get_mut(&from) {
            loser.document.rooms = rooms;
            RoomStatus::Merged.as_str().clone_into(&mut loser.status);
        }
        for id in ids {
            let hash = rules.look_ups.visit(LookUpKind::Visit, &id);
            self.lead(hash, LookUpKind::Visit, into);
            self.explained.push(hash);
        }
        // A message may have waited because the account of both had two visits.
        let record = self.patients.get(&patient).map(|entry| &entry.record);
        self.explained.extend(record.into_iter().flat_map(PatientRecord::ids).map(|id| rules.look_ups.patient(id)));
        Ok(())
    }
}
