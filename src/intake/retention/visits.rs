//! Visits whose time is over, with everything that is tied to them: together, or not at all.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use foldhash::HashSet;

use crate::care::fact::Fact;
use crate::care::identity::PatientRecord;
use crate::care::room::RoomStatus;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::ids::VisitId;
use crate::intake::batch::BatchError;
use crate::intake::retention::Finder;
use crate::intake::retention::Finding;
use crate::intake::retention::Going;
use crate::intake::route::DELETE_REQUEST;
use crate::store::form::Stored as _;
use crate::store::form::VisitDocument;
use crate::store::look_up::LookUpHash;
use crate::store::rows::FindRequest;
use crate::store::rows::StoredPatient;
use crate::store::rows::StoredVisit;
use crate::time::Timestamp;

/// What was read of visits and of everything that is tied to them.
#[derive(Debug, Default)]
struct Known {
    visits: BTreeMap<i64, (StoredVisit, VisitDocument)>,
    patients: BTreeMap<i64, StoredPatient>,
}

/// The visits that go.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Their rows.
    pub(super) rows: BTreeSet<i64>,
    /// The records of those whose they were.
    pub(super) patients: BTreeSet<i64>,
    /// The rooms of theirs that were ever known.
    pub(super) rooms: Vec<CareRoomId>,
    /// The messages that left facts with them.
    pub(super) messages: BTreeSet<JournalId>,
    /// Every look-up through which they may be found.
    pub(super) named: HashSet<LookUpHash>,
}

impl Known {
    /// The record that counts of a patient's.
    fn patient(&self, mut row: i64) -> i64 {
        while let Some(next) = self.patients.get(&row).and_then(|patient| patient.absorbed_into) {
            row = next;
        }
        row
    }

    /// The rows that a visit names.
    fn tied(document: &VisitDocument) -> impl Iterator<Item = i64> {
        let merged = document.merges.iter().map(|merge| merge.into).chain(document.merged_from.iter().copied());
        merged.chain(document.absorbed.iter().copied()).chain(document.absorbed_by)
    }

    /// Everything that is tied to a visit, itself among it.
    fn together(&self, row: i64) -> BTreeSet<i64> {
        let (mut all, mut left) = (BTreeSet::new(), vec![row]);
        while let Some(row) = left.pop() {
            if let Some((_, document)) = self.visits.get(&row).filter(|_| all.insert(row)) {
                left.extend(Self::tied(document));
            }
        }
        all
    }
}

/// Since when a visit is over, and nothing was said of it; nothing while it is not.
fn over_at(visit: &StoredVisit, document: &VisitDocument) -> Option<Timestamp> {
    let is_over = |status| matches!(status, RoomStatus::Closed | RoomStatus::Cancelled | RoomStatus::Merged);
    let rooms_are_over = document.rooms.iter().filter_map(|slot| slot.published.as_ref()).all(|room| is_over(room.state.status));
    if visit.wake_at.is_some() || !rooms_are_over {
        return None;
    }
    // What was absorbed has no end of its own; who absorbed it has.
    let noted = if document.absorbed_by.is_some() { Timestamp::MIN } else { visit.over_at.unwrap_or(visit.updated_at) };
    let merged = document.merges.iter().map(|merge| merge.stamp.recorded);
    Some(merged.chain([document.state.newest().recorded, document.whole().newest().recorded]).fold(noted, Timestamp::max))
}

impl Finder<'_> {
    /// Those of these visits that go, and what they are tied to.
    pub(super) async fn visits(&self, wanted: &[i64], finding: &mut Finding) -> Result<Group, BatchError> {
        let known = self.known(wanted).await?;
        let mut groups: Vec<BTreeSet<i64>> = Vec::new();
        let mut seen: HashSet<i64> = HashSet::default();
        for row in wanted.iter().filter(|row| !self.gone.contains(*row)) {
            if !known.visits.contains_key(row) || seen.contains(row) {
                continue;
            }
            let group = known.together(*row);
            seen.extend(&group);
            let ends = group.iter().filter_map(|row| known.visits.get(row)).map(|(visit, document)| over_at(visit, document));
            let over_at = ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
            if over_at.is_some_and(|over_at| over_at < self.until) {
                groups.push(group);
            } else if known.visits.get(row).and_then(|(visit, document)| self::over_at(visit, document)).is_some_and(|own| own < self.until) {
                finding.purged.waiting += 1;
            }
        }
        self.those_that_may_go(&known, groups, finding).await
    }

    /// The visits, and all that they are tied to, as of one moment after another: the commit checks that all of it still stands.
    async fn known(&self, wanted: &[i64]) -> Result<Known, BatchError> {
        let mut known = Known::default();
        let mut left: BTreeSet<i64> = wanted.iter().copied().collect();
        let mut asked: BTreeSet<i64> = BTreeSet::new();
        while !left.is_empty() {
            let request = FindRequest { visits: left.iter().copied().collect(), ..FindRequest::default() };
            asked.append(&mut left);
            let found = self.store.find(&request).await?;
            known.patients.extend(found.patients.into_iter().map(|patient| (patient.id, patient)));
            // Other open visits of the same patients are found with them.
            for visit in found.visits.into_iter().filter(|visit| asked.contains(&visit.id)) {
                let document = VisitDocument::read(&visit.doc)?;
                left.extend(Known::tied(&document).filter(|row| !asked.contains(row)));
                known.visits.insert(visit.id, (visit, document));
            }
        }
        Ok(known)
    }

    /// Leaves out the groups of which an event waits to be published, or a message to be looked at.
    async fn those_that_may_go(&self, known: &Known, groups: Vec<BTreeSet<i64>>, finding: &mut Finding) -> Result<Group, BatchError> {
        let rows: Vec<i64> = groups.iter().flatten().copied().collect();
        let mut facts = self.store.facts(&rows).await?;
        let mut named: BTreeMap<i64, HashSet<LookUpHash>> = BTreeMap::new();
        let mut arrivals: BTreeMap<i64, BTreeSet<JournalId>> = BTreeMap::new();
        for row in &rows {
            let stored = facts.remove(row).unwrap_or_default();
            arrivals.insert(*row, stored.iter().map(|fact| JournalId(fact.arrival)).collect());
            let facts = stored.iter().map(|fact| Fact::read(&fact.body)).collect::<Result<Vec<_>, _>>()?;
            let mut look_ups = self.look_ups_of(known, *row, &facts)?;
            if facts.is_empty() {
                // It was only ever named as what another was merged with, and keeps no word that says so.
                look_ups.extend(self.store.look_ups_to(*row).await?);
            }
            named.insert(*row, look_ups);
        }
        let rooms_of = |group: &BTreeSet<i64>| -> Vec<Going> {
            let slots = group.iter().filter_map(|row| known.visits.get(row)).flat_map(|(_, document)| &document.rooms);
            let mut rooms: BTreeMap<CareRoomId, Going> = BTreeMap::new();
            for slot in slots {
                let Some(room) = slot.published.clone() else { continue };
                let known = rooms.get(&slot.id).map_or(0, |known| known.room.version);
                if room.version > known {
                    rooms.insert(slot.id, Going { room, made_for: slot.made_for });
                }
            }
            rooms.into_values().collect()
        };
        let rooms: Vec<Vec<Going>> = groups.iter().map(rooms_of).collect();
        let ids: Vec<CareRoomId> = rooms.iter().flatten().map(|going| going.room.id).collect();
        let unpublished = self.store.rooms_that_wait(&ids).await?;
        let hashes: Vec<LookUpHash> = named.values().flatten().copied().collect();
        let quarantined = self.store.quarantine_by_hashes(&hashes).await?;
        let mut all = Group::default();
        for (group, rooms) in groups.into_iter().zip(rooms) {
            let is_named =
                |hash: Option<LookUpHash>| hash.is_some_and(|hash| group.iter().any(|row| named.get(row).is_some_and(|named| named.contains(&hash))));
            let waiting = || quarantined.iter().filter(|row| is_named(row.visit_hash));
            // Whoever asks for the deletion does not stand in its way.
            let is_waited_for = waiting().any(|row| row.since >= self.until && row.reason != DELETE_REQUEST);
            if is_waited_for || rooms.iter().any(|going| unpublished.contains(&going.room.id)) {
                finding.purged.waiting += 1;
                continue;
            }
            finding.purge.messages.extend(waiting().map(|row| row.journal_id));
            for (visit, document) in group.iter().filter_map(|row| known.visits.get(row)) {
                finding.read_visits.push((visit.id, visit.version));
                finding.written = finding.written.max(visit.updated_at);
                over_at(visit, document).filter(|_| document.absorbed_by.is_none()).into_iter().for_each(|at| finding.purged.saw_end(at));
                all.patients.insert(known.patient(visit.patient_id));
                all.rooms.extend(document.rooms.iter().map(|slot| slot.id));
                all.named.extend(named.remove(&visit.id).unwrap_or_default());
                all.messages.extend(arrivals.remove(&visit.id).unwrap_or_default());
            }
            finding.rooms.extend(rooms);
            all.rows.extend(group);
        }
        finding.purge.visits.extend(&all.rows);
        self.look_ups_to(&all.named, &all.rows, finding).await?;
        Ok(all)
    }

    /// Every look-up that may lead to a visit: what its facts name, what it is known by, and the numbers of its patient's accounts.
    fn look_ups_of(&self, known: &Known, row: i64, facts: &[Fact]) -> Result<HashSet<LookUpHash>, BatchError> {
        let mut named: HashSet<LookUpHash> = self.look_ups.named(facts).into_iter().collect();
        let Some((visit, document)) = known.visits.get(&row) else { return Ok(named) };
        let merged = document.merges.iter().flat_map(|merge| std::iter::once(&merge.number).chain(&merge.account));
        let numbers: HashSet<&VisitId> = document.state.numbers().chain(document.whole().numbers()).chain(merged).collect();
        named.extend(numbers.into_iter().flat_map(|number| self.look_ups.visit_kinds(number)));
        if let Some(patient) = known.patients.get(&known.patient(visit.patient_id)) {
            let record = PatientRecord::read(&patient.doc)?;
            named.extend(record.accounts().all().iter().flatten().flat_map(|number| self.look_ups.visit_kinds(number)));
        }
        Ok(named)
    }

    /// Those of these look-ups that lead to one of these rows.
    pub(super) async fn look_ups_to(&self, named: &HashSet<LookUpHash>, rows: &BTreeSet<i64>, finding: &mut Finding) -> Result<(), BatchError> {
        if !rows.is_empty() {
            let found = self.store.find(&FindRequest { look_ups: named.iter().copied().collect(), ..FindRequest::default() }).await?;
            finding
                .purge
                .look_ups
                .extend(found.look_ups.iter().filter(|(.., target)| rows.contains(target)).map(|(hash, _, target)| (*hash, *target)));
        }
        Ok(())
    }
}
