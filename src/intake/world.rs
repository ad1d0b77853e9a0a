//! The world of one commit batch: the patients and visits it touches, as they stand while its messages are taken one after another.
//!
//! It is plain data and plain functions: it neither reads nor writes the store. What it lacks it names as a [`Need`]; the batch fetches that and starts
//! over. What it changed it gives away as rows. `explain` and `verify` keep one world in memory for as long as they run.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use uuid::Uuid;

use crate::care::brake;
use crate::care::brake::Brake;
use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::change::EventType;
use crate::care::diff::Difference;
use crate::care::diff::diff;
use crate::care::diff::notices;
use crate::care::fact::Fact;
use crate::care::identity::Edges;
use crate::care::identity::PatientRecord;
use crate::care::onward::EmergencyStay;
use crate::care::onward::EmergencyStays;
use crate::care::plan::PlanInput;
use crate::care::plan::plan;
use crate::care::plan::retired;
use crate::care::policy::Policy;
use crate::care::room::CareRoom;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::care::roster::Roster;
use crate::care::visit::CourseRules;
use crate::care::visit::Placement;
use crate::care::visit::Stay;
use crate::care::visit::VisitState;
use crate::ids::CareRoomId;
use crate::ids::IdSource;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::look_ups::LookUps;
use crate::outbox::envelope::About;
use crate::outbox::envelope::Event;
use crate::outbox::envelope::event;
use crate::store::form::RoomSlot;
use crate::store::form::VisitDocument;
use crate::store::form::VisitMerge;
use crate::store::sealing::LookUpHash;
use crate::store::sealing::LookUpKind;
use crate::store::sealing::SealingKey;
use crate::time::Timestamp;

/// How soon what waits for a silent feed is looked at again.
const HELD: Duration = Duration::from_mins(1);
/// The status of a visit without a room.
const NO_ROOM: &str = "none";

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

/// Where new room ids come from.
#[derive(Debug)]
pub(crate) enum RoomIds {
    /// At random, as the contract says.
    Random,
    /// Counted, so that `explain` and journeys say the same each time.
    Counted(u128),
}

impl RoomIds {
    fn mint(&mut self) -> CareRoomId {
        match self {
            Self::Random => CareRoomId(Uuid::new_v4()),
            Self::Counted(n) => {
                *n += 1;
                CareRoomId(Uuid::from_u128(*n))
            }
        }
    }
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
}

impl Rules<'_> {
    /// What the policy says about the course of a stay.
    const fn course(&self) -> CourseRules {
        CourseRules { reopen_on_admit: self.policy.reopen_on_admit, adopt_on_update: self.policy.adopt_on_update }
    }
}

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
    pub(crate) facts: Option<Vec<Fact>>,
    /// The facts of this batch.
    pub(crate) new_facts: Vec<Fact>,
    /// The room's status, `none` while there is no room.
    pub(crate) status: String,
    pub(crate) is_open: bool,
    pub(crate) wake_at: Option<Timestamp>,
    /// What the rooms of its stays are planned to be where that is not published: of an expected stay, or of one that was over when first heard of.
    pub(crate) unpublished: Vec<Option<RoomState>>,
    pub(crate) is_dirty: bool,
}

/// A change of a room, to be published and audited.
#[derive(Debug)]
pub(crate) struct RoomChange {
    pub(crate) patient: i64,
    pub(crate) event: Event,
    pub(crate) cause: Cause,
    pub(crate) room: CareRoom,
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
    pub(crate) patients: BTreeMap<i64, PatientEntry>,
    pub(crate) visits: BTreeMap<i64, VisitEntry>,
    pub(crate) targets: HashMap<LookUpHash, Vec<(LookUpKind, i64)>>,
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
    /// The trace of the message that is being taken.
    pub(crate) traceparent: Option<String>,
}

impl World {
    /// An empty world.
    pub(crate) fn new(room_ids: RoomIds) -> Self {
        Self {
            patients: BTreeMap::new(),
            visits: BTreeMap::new(),
            targets: HashMap::new(),
            new_look_ups: Vec::new(),
            absent_look_ups: HashSet::new(),
            asked: None,
            changes: Vec::new(),
            explained: Vec::new(),
            room_ids,
            ends: Ends::default(),
            has_conflicts: false,
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

    /// The visits known under any number of an account, or under the account itself, those that count, each once; also where no message at hand named it.
    pub(crate) fn find_by_account(&mut self, numbers: &[VisitId], rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
        let mut found = Vec::new();
        for number in numbers {
            for kind in [LookUpKind::Visit, LookUpKind::Account] {
                let hash = rules.look_ups.visit(kind, number);
                if !self.targets.contains_key(&hash) && self.asked.as_ref().is_some_and(|asked| !asked.contains(&hash)) {
                    return Err(Need::LookUp(hash));
                }
                found.extend(self.find_visits(kind, number, rules)?);
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Makes a look-up lead to a row from now on.
    pub(crate) fn lead(&mut self, hash: LookUpHash, kind: LookUpKind, row: i64) {
        let targets = self.targets.entry(hash).or_default();
        if !targets.contains(&(kind, row)) {
            // The newest comes first: an id that has gone over to another record is found there.
            targets.insert(0, (kind, row));
            self.new_look_ups.push((hash, kind, row));
        }
    }

    /// The record that knows a patient id, or a new one.
    pub(crate) fn patient(&mut self, id: &PatientId, rules: &Rules<'_>) -> Result<i64, Need> {
        if let Some(row) = self.find_patient(id, rules)? {
            return Ok(row);
        }
        let row = rules.ids.next(rules.now);
        let entry = PatientEntry { version: 0, absorbed_into: None, key: None, record: PatientRecord::default(), is_dirty: true };
        self.patients.insert(row, entry);
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
            unpublished: Vec::new(),
            is_dirty: true,
        };
        self.visits.insert(row, entry);
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
    pub(crate) fn fold(&mut self, row: i64, fact: &Fact, rules: &Rules<'_>) -> Result<bool, Need> {
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        match visit.document.state.placement(fact, rules.policy.late_window) {
            Placement::History => return Ok(false),
            // The same again is known.
            Placement::Last if visit.document.state.is_newest(fact) => return Ok(false),
            Placement::Last => {
                visit.document.state.apply(fact);
                if let Some(facts) = &mut visit.facts {
                    facts.push(fact.clone());
                }
            }
            Placement::Among => {
                let facts = visit.facts.as_mut().ok_or(Need::Facts(row))?;
                if facts.iter().any(|known| known.hash == fact.hash) {
                    return Ok(false);
                }
                facts.push(fact.clone());
                visit.document.state = VisitState::fold(facts.iter());
            }
        }
        visit.new_facts.push(fact.clone());
        visit.is_dirty = true;
        let patient = visit.patient;
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
        if let Some(preadmit) = named.and_then(|named| named.preadmit.as_ref()) {
            self.lead(rules.look_ups.visit(LookUpKind::Preadmit, preadmit), LookUpKind::Preadmit, row);
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
        let merges = std::mem::take(&mut loser.document.merges);
        let merged_from = std::mem::take(&mut loser.document.merged_from);
        let conflicts = std::mem::take(&mut loser.document.conflicts);
        let mut rooms = std::mem::take(&mut loser.document.rooms);
        let absorbed = std::mem::take(&mut loser.document.absorbed);
        let patient = loser.patient;
        let winner = self.visits.get_mut(&into).ok_or(Need::Visit(into))?;
        winner.document.absorbed.push(from);
        winner.document.absorbed.extend(absorbed);
        winner.document.merges.extend(merges);
        winner.document.merged_from.extend(merged_from);
        winner.document.conflicts.extend(conflicts);
        winner.document.state = VisitState::fold(facts.iter());
        winner.facts = Some(facts);
        winner.is_dirty = true;
        let ids: Vec<VisitId> = winner.document.state.ids().to_vec();
        let unpublished = |slots: &[RoomSlot]| slots.iter().all(|slot| slot.published.is_none());
        if unpublished(&winner.document.rooms) && !unpublished(&rooms) {
            std::mem::swap(&mut winner.document.rooms, &mut rooms);
        }
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

    /// Whether another open visit of the same person is in the very bed of this one: one of the two is probably a duplicate.
    fn shares_its_bed(&self, row: i64) -> bool {
        let bed_of = |visit: &VisitEntry| {
            let stay = visit.document.state.stays().last()?;
            let patient = self.patients.get(&visit.patient)?;
            let person = patient.record.resolve(visit.document.state.patient()?).clone();
            let place = stay.place().filter(|place| !place.bed.is_empty())?.clone();
            Some((person, place))
        };
        // Only a room that stands is a duplicate; whether one does is known from when it was planned last, and who is beside it is planned again after.
        let is_there = |visit: &VisitEntry| visit.status == RoomStatus::Active.as_str() || visit.status == RoomStatus::OnLeave.as_str();
        // Ids of one person are all in one record, so that only its visits need to be looked at.
        let Some(patient) = self.visits.get(&row).map(|visit| visit.patient) else { return false };
        let beside =
            |(other, visit): (&i64, &VisitEntry)| (*other != row && is_there(visit) && visit.patient == patient).then(|| bed_of(visit)).flatten();
        let mut beside = self.visits.iter().filter_map(beside).peekable();
        if beside.peek().is_none() {
            return false;
        }
        let own = self.visits.get(&row).and_then(bed_of);
        beside.any(|bed| Some(bed) == own)
    }

    /// What merges of visits make of this one. The newest word about a visit counts, and none that would close a circle.
    fn merge_of(&self, row: i64) -> Result<Merge, Need> {
        let group = self.merged_with(row)?;
        if group.len() == 1 {
            return Ok(Merge::default());
        }
        let mut edges = Edges::default();
        let mut numbers: Vec<(i64, &VisitMerge)> = Vec::new();
        for from in &group {
            for merge in self.visits.get(from).ok_or(Need::Visit(*from))?.document.merges.iter().filter(|merge| !merge.undone) {
                let into = self.surviving_visit(merge.into)?;
                edges.add(*from, into, merge.stamp);
                numbers.push((into, merge));
            }
        }
        let root = *edges.resolve(&row);
        let is_known = |row: &i64| self.visits.get(row).is_some_and(|visit| !visit.document.state.stays().is_empty());
        let merged_since = |row: i64| edges.outgoing(&row).map(|edge| edge.stamp);
        let mut known: Vec<i64> = group.into_iter().filter(|other| is_known(other) && *edges.resolve(other) == root).collect();
        known.sort_unstable_by_key(|other| (*other != root, merged_since(*other), *other));
        // Where nobody has heard of the number that survives, the visit merged into it first goes on under it.
        let Some((survivor, losers)) = known.split_first() else { return Ok(Merge::default()) };
        let number = numbers.iter().filter(|(into, _)| *into == root && *survivor != root).max_by_key(|(_, merge)| merge.stamp);
        Ok(Merge {
            survivor: Some(*survivor),
            losers: if *survivor == row { losers.to_vec() } else { Vec::new() },
            number: number.map(|(_, merge)| merge.number.clone()).filter(|_| *survivor == row),
        })
    }

    /// Every visit that is tied to this one by merges, itself among them.
    pub(crate) fn merged_with(&self, row: i64) -> Result<Vec<i64>, Need> {
        let mut found = vec![row];
        let mut next = 0;
        while let Some(row) = found.get(next).copied() {
            next += 1;
            let document = &self.visits.get(&row).ok_or(Need::Visit(row))?.document;
            for other in document.merges.iter().map(|merge| merge.into).chain(document.merged_from.iter().copied()) {
                let other = self.surviving_visit(other)?;
                if !found.contains(&other) {
                    found.push(other);
                }
            }
        }
        Ok(found)
    }

    /// Plans the rooms of visits again, and of those beside them whose patient they may share a bed with.
    pub(crate) fn replan_all(&mut self, mut rows: Vec<i64>, cause: &Cause, rehomed: bool, notify: bool, rules: &Rules<'_>) -> Result<(), Need> {
        // Twice at most: what comes or goes changes what is said of the others, and they do not come or go by that.
        for _ in 0..2 {
            // Planning one may plan another that it was merged into.
            let before: Vec<_> = rows.iter().map(|row| self.seen_beside(*row)).collect();
            for row in &rows {
                self.replan(*row, cause, rehomed, notify, rules)?;
            }
            let mut beside = Vec::new();
            for (row, before) in rows.iter().zip(before) {
                if before != self.seen_beside(*row)
                    && let Some(visit) = self.visits.get(row)
                {
                    beside.extend(self.open_visits(visit.patient).into_iter().filter(|other| other != row));
                }
            }
            beside.sort_unstable();
            beside.dedup();
            rows = beside;
        }
        Ok(())
    }

    /// What a visit shows of itself to the other visits of its patient.
    fn seen_beside(&self, row: i64) -> Option<(bool, String, EmergencyStays)> {
        let visit = self.visits.get(&row)?;
        Some((visit.is_open, visit.status.clone(), self.patients.get(&visit.patient)?.record.emergencies.clone()))
    }

    /// Plans the rooms of a visit again and notes what changed. `notify` is whether anybody is to be told.
    pub(crate) fn replan(&mut self, row: i64, cause: &Cause, rehomed: bool, notify: bool, rules: &Rules<'_>) -> Result<(), Need> {
        let merge = self.merge_of(row)?;
        let merged_into = match merge.survivor {
            Some(survivor) if survivor != row => {
                let room = |world: &Self| world.visits.get(&survivor).and_then(|visit| visit.document.rooms.last()).map(|slot| slot.id);
                if room(self).is_none() {
                    self.replan(survivor, cause, false, notify, rules)?;
                }
                room(self)
            }
            _ => None,
        };
        let also: Vec<Stay> = merge.losers.iter().filter_map(|loser| self.visits.get(loser)?.document.state.stays().last().cloned()).collect();
        let also: Vec<&Stay> = also.iter().collect();
        let shares_its_bed = self.shares_its_bed(row);
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        if visit.document.absorbed_by.is_some() {
            return Ok(());
        }
        let patient = self.patients.get(&visit.patient).ok_or(Need::Patient(visit.patient))?;
        let VisitDocument { state, rooms, conflicts, .. } = &mut visit.document;
        let has_conflict = !conflicts.is_empty();
        let (Some(number), Some(bound)) = (merge.number.as_ref().or_else(|| state.id()), state.patient()) else { return Ok(()) };
        let n_stays = state.stays().len();
        let person_id = patient.record.resolve(bound);
        let person = patient.record.person(bound);
        let (mut wake_at, mut status, mut is_open) = (None, None, false);
        let publishing = Publishing { cause, rehomed, notify, traceparent: self.traceparent.as_deref() };
        visit.unpublished.clear();
        let is_silent = state.feeds().iter().any(|feed| rules.brake.silent.contains(feed));
        let own: Vec<CareRoomId> = rooms.iter().map(|slot| slot.id).collect();
        for (index, stay) in state.stays().iter().enumerate() {
            if rooms.len() <= index {
                rooms.push(RoomSlot { id: self.room_ids.mint(), published: None });
                visit.is_dirty = true;
            }
            let Some(slot) = rooms.get_mut(index) else { continue };
            let continues = goes_on_from(stay, &own, &patient.record, person_id);
            let planned = plan(&PlanInput {
                stay,
                also: if index + 1 == n_stays { &also } else { &[] },
                visit: number,
                patient: person_id,
                person: &person,
                room: slot.id,
                merged_into,
                continues,
                has_conflict,
                shares_its_bed,
                policy: rules.policy,
                roster: rules.roster,
                now: rules.now,
            });
            wake_at = [wake_at, planned.wake_at].into_iter().flatten().min();
            status = planned.target.as_ref().map(|target| target.status);
            let is_over = matches!(status, Some(RoomStatus::Closed | RoomStatus::Cancelled)) && planned.wake_at.is_none();
            is_open |= !is_over && status != Some(RoomStatus::Merged);
            let before = slot.published.as_ref().map(|room| &room.state);
            let is_closed = stay.place().and_then(|place| rules.roster.unit(place)).is_some_and(|unit| unit.flags.closed);
            let (target, unpublished) = told(planned.target, before, is_closed, &mut self.ends, rules);
            visit.unpublished.extend(unpublished.map(Some));
            let Some(target) = target else { continue };
            let (target, is_held) = braked(slot, target, is_silent, &publishing, &mut self.ends, rules);
            if is_held {
                status = Some(target.status);
                is_open = true;
                wake_at = [wake_at, Some(rules.now.plus(HELD)).filter(|_| is_silent)].into_iter().flatten().min();
            }
            if let Some(change) = publish(slot, target, visit.patient, &publishing, rules) {
                visit.is_dirty = true;
                self.changes.push(change);
            }
        }
        // A late word may show that two stays were one.
        for slot in rooms.iter_mut().skip(n_stays) {
            let Some(before) = slot.published.as_ref().map(|room| &room.state).filter(|state| is_told(state.status)) else { continue };
            let (target, is_held) = braked(slot, retired(before), is_silent, &publishing, &mut self.ends, rules);
            is_open |= is_held;
            if let Some(change) = publish(slot, target, visit.patient, &publishing, rules) {
                visit.is_dirty = true;
                self.changes.push(change);
            }
        }
        let status = status.map_or(NO_ROOM, RoomStatus::as_str);
        if visit.wake_at != wake_at || visit.status != status || visit.is_open != is_open {
            visit.wake_at = wake_at;
            status.clone_into(&mut visit.status);
            visit.is_open = is_open;
            visit.is_dirty = true;
        }
        self.note_emergencies(row, rules);
        Ok(())
    }

    /// Notes with the person which stays of a visit another may go on from.
    fn note_emergencies(&mut self, row: i64, rules: &Rules<'_>) {
        let Some(visit) = self.visits.get(&row) else { return };
        let VisitDocument { state, rooms, .. } = &visit.document;
        let Some((entry, bound)) = self.patients.get_mut(&visit.patient).zip(state.patient()) else { return };
        for (stay, slot) in state.stays().iter().zip(rooms) {
            entry.is_dirty |= entry.record.emergencies.note(slot.id, emergency(stay, slot, bound, rules));
        }
    }
}

/// The room of an emergency stay from which an inpatient's stay goes on.
fn goes_on_from(stay: &Stay, own: &[CareRoomId], record: &PatientRecord, person: &PatientId) -> Option<CareRoomId> {
    let began = stay.began().filter(|_| stay.class().is_some_and(|class| class.as_str() == "I"))?;
    record.emergencies.before(own, began, &stay.places(), |other| record.resolve(other) == person)
}

/// An emergency stay that ended and whose room was published: another stay may go on from it.
fn emergency(stay: &Stay, slot: &RoomSlot, patient: &PatientId, rules: &Rules<'_>) -> Option<EmergencyStay> {
    let published = &slot.published.as_ref()?.state;
    let is_over = matches!(published.status, RoomStatus::Grace | RoomStatus::Closed);
    let ended = stay.course(rules.now, &rules.course()).ended?.recorded;
    let is_one = is_over && stay.class().is_some_and(|class| class.as_str() == "E");
    let facility = stay.place().map(|place| place.facility.clone()).unwrap_or_default();
    let began = stay.began()?;
    is_one.then(|| EmergencyStay { room: slot.id, patient: patient.clone(), facility, began, ended })
}

/// What is told of a room as it is planned, and what it is where that is not told: while a patient is only expected, where all was over when first heard
/// of, and in a unit that is in use no more.
fn told(
    planned: Option<RoomState>,
    before: Option<&RoomState>,
    is_closed: bool,
    ends: &mut Ends,
    rules: &Rules<'_>,
) -> (Option<RoomState>, Option<RoomState>) {
    match (planned, before) {
        // A room nobody may see yet: what was published of it is taken back, what was not stays unpublished.
        (Some(target), before) if target.status == RoomStatus::Expected && !rules.policy.publish_expected => (before.map(retired), Some(target)),
        (Some(target), None) if diff(None, &target, false).is_none() => (None, Some(target)),
        (Some(target), None) if is_closed => {
            ends.n_kept_out += 1;
            (None, Some(target))
        }
        (Some(target), _) => (Some(target), None),
        (None, Some(before)) if is_told(before.status) => (Some(retired(before)), None),
        (None, _) => (None, None),
    }
}

/// Holds back what must wait; also gives back whether anything does.
fn braked(slot: &RoomSlot, target: RoomState, is_silent: bool, publishing: &Publishing<'_>, ends: &mut Ends, rules: &Rules<'_>) -> (RoomState, bool) {
    let Some(before) = slot.published.as_ref().map(|room| &room.state) else { return (target, false) };
    let &Publishing { cause, notify, .. } = publishing;
    // What an operator lets go on is looked at already, a backlog that comes in is no haste, and day cases all end at midnight.
    let is_of_the_day = before.visit.class.as_ref().is_some_and(|class| rules.policy.day_classes.contains(class));
    let is_expected = cause.kind == CauseKind::Operator || (cause.kind == CauseKind::Wake && is_of_the_day);
    let is_end = notify && !is_expected && brake::ends(before, &target);
    ends.stopped |= is_end && !rules.brake.is_on && ends.n_ended >= rules.brake.may_end;
    let (target, is_held) = if rules.brake.is_on || ends.stopped {
        brake::hold_all(before, target, rules.roster)
    } else if is_silent && !matches!(cause.kind, CauseKind::Message | CauseKind::Load | CauseKind::Operator) {
        brake::hold_scheduled(before, target, rules.roster, rules.now)
    } else {
        (target, false)
    };
    ends.n_ended += usize::from(is_end && !is_held);
    ends.n_held += usize::from(is_held);
    (target, is_held)
}

/// Whether a room of this status stands before its users.
const fn is_told(status: RoomStatus) -> bool {
    status.is_open() || matches!(status, RoomStatus::Expected)
}

/// What an event tells besides the room.
struct Publishing<'a> {
    cause: &'a Cause,
    /// Whether an explicit move brought the room to another patient.
    rehomed: bool,
    /// Whether anybody is to be told.
    notify: bool,
    traceparent: Option<&'a str>,
}

/// What merges make of a visit.
#[derive(Debug, Default)]
struct Merge {
    /// The visit whose room goes on; absent where there is no merge.
    survivor: Option<i64>,
    /// Where it is this one: those merged into it.
    losers: Vec<i64>,
    /// The number under which it goes on, where that is of a visit nobody has heard of.
    number: Option<VisitId>,
}

/// Compares a room with its target and, where they differ, makes the next version and its event.
fn publish(slot: &mut RoomSlot, target: RoomState, patient: i64, publishing: &Publishing<'_>, rules: &Rules<'_>) -> Option<RoomChange> {
    let &Publishing { cause, rehomed, notify, traceparent } = publishing;
    let before = slot.published.as_ref();
    let Difference { event_type, changes } = diff(before.map(|room| &room.state), &target, rehomed)?;
    let notices = notices(before.map(|room| &room.state), &target, &changes);
    let is_load = cause.kind == CauseKind::Load && before.is_none();
    let event_type = if is_load { EventType::Snapshot } else { event_type };
    let room =
        CareRoom { id: slot.id, epoch: before.map_or(1, |room| room.epoch), version: before.map_or(0, |room| room.version) + 1, state: target };
    let source = format!("wardroom/{}", cause.feed.as_ref().map_or("main", |feed| feed.as_str()));
    let about = About { changes: &changes, event_type, cause, notify, notices: &notices, source: &source, time: rules.now, traceparent };
    let event = event(&room, &about);
    slot.published = Some(room.clone());
    Some(RoomChange { patient, event, cause: cause.clone(), room })
}
