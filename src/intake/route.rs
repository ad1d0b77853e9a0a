//! The route of a fact: which patient and which visit it is about, and whether it may be applied at all.
//!
//! A fact about a known visit under a patient that nothing explains is never applied: it waits, and the room stays as it is. What is named by nothing
//! goes to the patient's only open visit, if it does not contradict it.

use std::sync::Arc;

use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::fact::Act;
use crate::care::fact::Fact;
use crate::care::fact::RelationKind;
use crate::care::fact::Stamp;
use crate::care::fact::VisitRef;
use crate::care::identity::PatientRecord;
use crate::care::visit::CourseRules;
use crate::care::visit::Phase;
use crate::care::visit::VisitState;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::relate::moves_a_visit;
use crate::intake::world::Need;
use crate::intake::world::Rules;
use crate::intake::world::VisitEntry;
use crate::intake::world::World;
use crate::store::look_up::LookUpKind;

/// How long an ended visit is looked for when a cancelled discharge names none.
const RECENTLY_ENDED: std::time::Duration = std::time::Duration::from_hours(24);

/// A fact that is older than this when it arrives is catching up.
const CATCH_UP: std::time::Duration = std::time::Duration::from_mins(15);

/// Why a fact waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Waits {
    /// The visit is known under another patient, and nothing explains this one.
    IdentityConflict,
    /// The message names no visit, and there is not exactly one it could mean.
    NoVisit,
    /// The account has more than one open visit.
    SeveralVisits,
    /// Somebody asks that a record be deleted; a person decides.
    DeleteRequest,
    /// A number that was merged away speaks again, with its own name and birth date: the merge may have been an error.
    PossibleUnmerge,
}

/// Why a message waits that asks for a record to be deleted.
pub(crate) const DELETE_REQUEST: &str = "delete_request";

impl Waits {
    /// The fixed word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::IdentityConflict => "identity_conflict",
            Self::NoVisit => "no_visit",
            Self::SeveralVisits => "several_visits",
            Self::DeleteRequest => DELETE_REQUEST,
            Self::PossibleUnmerge => "possible_unmerge",
        }
    }
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// It was recorded.
    Applied,
    /// It is older than the late window and changes nothing.
    History,
}

impl World {
    /// Takes one fact: identity first, then the visit, then the rooms that may have changed.
    ///
    /// `decided` is where it was found to go before any fact of its message was taken: what those before it said of the patient undoes that no more.
    pub(crate) fn take(&mut self, fact: &Arc<Fact>, decided: Route, rules: &Rules<'_>) -> Result<Taken, Need> {
        let cause = cause_of(fact);
        let found = if speaks_of_a_visit(fact) { self.route(fact, rules)? } else { Route::None };
        let visit = if let Route::Waits(_) = found { decided } else { found };
        let row = match visit {
            Route::Known(row) => Some(self.surviving_visit(row)?),
            Route::None | Route::New | Route::Waits(_) => None,
        };
        let mut patient = self.patient(&fact.patient, rules)?;
        if let Some(relation) = &fact.relation {
            patient = self.relate_patients(relation, patient, rules)?;
        }
        if let Some(row) = row {
            // Nothing was said of it yet but that it was merged: it belongs to whom the first word names.
            let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
            if visit.document.state.patient().is_none() && visit.patient != patient {
                visit.patient = patient;
                visit.is_dirty = true;
            }
            self.join_other_numbers(row, fact, &cause, rules)?;
        }
        self.hear_of(patient, fact, rules);
        let mut touched: Vec<i64> = Vec::new();
        let mut counts = true;
        match (visit, row) {
            (Route::New, _) => {
                let row = self.new_visit(patient, rules);
                counts = self.fold(row, fact, rules)?;
                touched.push(row);
            }
            (_, Some(row)) => {
                counts = self.fold(row, fact, rules)?;
                touched.push(row);
            }
            _ => {}
        }
        if let Some(relation) = &fact.relation {
            touched.extend(self.relate_visits(fact, relation, patient, &cause, rules)?);
        }
        touched.extend(self.settle_accounts(patient, &cause, rules)?);
        self.replan_touched(touched, patient, fact, rules)?;
        Ok(if counts { Taken::Applied } else { Taken::History })
    }

    /// Takes what a fact that waits for its visit says of the person. It may be said again when the visit is found: that changes nothing.
    pub(crate) fn take_person(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<(), Need> {
        let patient = self.patient(&fact.patient, rules)?;
        self.hear_of(patient, fact, rules);
        self.replan_touched(Vec::new(), patient, fact, rules)
    }

    /// Notes at the visit that a message names under an unexplained patient that it waits; whoever is in the room is told to look.
    pub(crate) fn note_conflict(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<(), Need> {
        let Some(named) = &fact.visit else { return Ok(()) };
        let Some(row) = self.find_visits(LookUpKind::Visit, &named.id, rules)?.first().copied() else { return Ok(()) };
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        let message = fact.stamp.arrival;
        if visit.document.conflicts.contains(&message) {
            return Ok(());
        }
        visit.document.conflicts.push(message);
        visit.is_dirty = true;
        self.has_conflicts = true;
        self.replan_all(vec![row], &cause_of(fact), false, true, rules)
    }

    /// A message waits for no patient any more: it was taken, or ended.
    pub(crate) fn end_conflict(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<(), Need> {
        if !self.has_conflicts {
            return Ok(());
        }
        let message = fact.stamp.arrival;
        let has_it = |visit: &VisitEntry| visit.document.conflicts.contains(&message);
        let rows: Vec<i64> = self.visits.iter().filter(|(_, visit)| has_it(visit)).map(|(row, _)| *row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            if let Some(visit) = self.visits.get_mut(row) {
                visit.document.conflicts.retain(|known| *known != message);
                visit.is_dirty = true;
            }
        }
        self.replan_all(rows, &cause_of(fact), false, true, rules)
    }

    /// Notes what a fact says of persons and their identifiers.
    fn hear_of(&mut self, patient: i64, fact: &Fact, rules: &Rules<'_>) {
        if let Some(entry) = self.patients.get_mut(&patient) {
            entry.record.say(fact);
            // Whatever it says: another daemon that keeps this patient in memory, with every open visit, may not know of this one.
            entry.is_dirty = true;
        }
        let related = fact.relation.iter().filter(|relation| !relation.kind.is_link()).flat_map(|relation| &relation.patients);
        for id in std::iter::once(&fact.patient).chain(related.flat_map(|pair| [&pair.from, &pair.into])) {
            self.lead(rules.look_ups.patient(id), LookUpKind::Patient, patient);
        }
    }

    /// Plans the visits that a fact touched again, and every open one of its patient: what is said of the person may change them all.
    fn replan_touched(&mut self, mut touched: Vec<i64>, patient: i64, fact: &Fact, rules: &Rules<'_>) -> Result<(), Need> {
        touched.extend(self.open_visits(patient));
        for row in touched.clone() {
            touched.extend(self.merged_with(row)?);
        }
        touched.sort_unstable();
        touched.dedup();
        // What comes late is told for the record, and nobody is disturbed by it.
        let notify = !fact.load && fact.stamp.arrival.at().since(fact.stamp.recorded) < CATCH_UP;
        let rehomed = std::mem::take(&mut self.has_moved) || moves_a_visit(fact);
        self.replan_all(touched, &cause_of(fact), rehomed, notify, rules)
    }

    /// Where a fact goes, or why it has to wait. Asked for every fact of a message before any of them is taken.
    pub(crate) fn decide(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<Result<Route, Waits>, Need> {
        if matches!(fact.act, Act::DeleteVisit | Act::DeletePerson) {
            return Ok(if self.has_something_to_delete(fact, rules)? { Err(Waits::DeleteRequest) } else { Ok(Route::None) });
        }
        if !speaks_of_a_visit(fact) {
            return Ok(Ok(Route::None));
        }
        Ok(match self.route(fact, rules)? {
            Route::Waits(waits) => Err(waits),
            route @ (Route::None | Route::Known(_) | Route::New) => Ok(route),
        })
    }

    /// A23 and A29: nothing is ever deleted on a message alone. Without anything to delete there is nothing to decide.
    fn has_something_to_delete(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<bool, Need> {
        if let Some(visit) = fact.visit.as_ref().filter(|_| fact.act == Act::DeleteVisit) {
            return Ok(!self.find_visits(LookUpKind::Visit, &visit.id, rules)?.is_empty());
        }
        let patient = self.find_patient(&fact.patient, rules)?;
        Ok(patient.is_some_and(|patient| !self.open_visits(patient).is_empty()))
    }

    /// Finds the visit a fact is about.
    fn route(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<Route, Need> {
        let Some(named) = &fact.visit else { return self.route_unnamed(fact, rules) };
        let patient = self.find_patient(&fact.patient, rules)?;
        if patient.and_then(|row| self.patients.get(&row)).is_some_and(|entry| entry.record.denies_its_merge(fact)) {
            return Ok(Route::Waits(Waits::PossibleUnmerge));
        }
        let mut found = self.find_visits(LookUpKind::Visit, &named.id, rules)?;
        if named.is_account && !self.has_number(&found, &named.id)? {
            // What was said of the account alone before names a stay no more than it names the account.
            found.clear();
        }
        let mut expected_as = Vec::new();
        if found.is_empty() {
            found = self.find_visits(LookUpKind::Preadmit, &named.id, rules)?;
            // Of several that were expected under the number it goes to one that the patient explains, whichever came last.
            for at in 1..found.len() {
                let explains = |row: Option<&i64>| row.map_or(Ok(true), |row| self.is_explained(*row, patient, fact));
                if !explains(found.first())? && explains(found.get(at))? {
                    found.swap(0, at);
                }
            }
            expected_as.extend(found.iter().skip(1).copied());
        }
        if found.is_empty() && named.is_account {
            found = self.find_visits(LookUpKind::Account, &named.id, rules)?;
            if found.len() > 1 {
                let Some(only) = self.only_stay(&found, &named.id, fact.stamp)? else { return Ok(Route::Waits(Waits::SeveralVisits)) };
                found = vec![only];
            }
        }
        if found.is_empty() && !named.is_account {
            found = self.find_under_another_number(named, fact, rules)?;
        }
        let Some(mut row) = found.first().copied() else { return Ok(Route::New) };
        if !self.is_explained(row, patient, fact)? {
            // An account names none of the numbers of its stay: it is said of the one that explains it.
            let others = if named.is_account { self.other_numbers_of_stay(row)? } else { Vec::new() };
            let mut explained = None;
            for other in others {
                if explained.is_none() && self.is_explained(other, patient, fact)? {
                    explained = Some(other);
                }
            }
            let Some(other) = explained else { return Ok(Route::Waits(Waits::IdentityConflict)) };
            row = other;
        }
        for other in self.find_under_another_number(named, fact, rules)?.into_iter().chain(expected_as) {
            if !self.belong_together(row, other, fact)? && !self.is_explained(other, patient, fact)? {
                return Ok(Route::Waits(Waits::IdentityConflict));
            }
        }
        Ok(Route::Known(row))
    }

    /// Whether the first of these visits has a number of its own, or has nothing but this one.
    fn has_number(&self, found: &[i64], number: &VisitId) -> Result<bool, Need> {
        let Some(row) = found.first() else { return Ok(false) };
        let state = &self.visits.get(row).ok_or(Need::Visit(*row))?.document.state;
        Ok(!state.has_own_number() || state.is_own_number(number))
    }

    /// The only stay among several visits, or the only one that was of the account then, or of those the only one that is open; under the number that
    /// it had then.
    fn only_stay(&self, found: &[i64], account: &VisitId, at: Stamp) -> Result<Option<i64>, Need> {
        let mut stays = Vec::with_capacity(found.len());
        for row in found {
            stays.push(self.goes_on_as(*row)?);
        }
        stays.sort_unstable();
        stays.dedup();
        if stays.len() > 1 {
            let was_of_it = |visit: &VisitEntry| visit.document.whole().accounts().was_of(account, at).unwrap_or(true);
            stays.retain(|row| self.visits.get(row).is_some_and(|visit| was_of_it(visit)));
        }
        if stays.len() > 1 {
            stays.retain(|row| self.visits.get(row).is_some_and(|visit| visit.is_open));
        }
        let [only] = stays[..] else { return Ok(None) };
        let mut numbers = Vec::with_capacity(found.len());
        for row in found {
            if self.goes_on_as(*row)? == only {
                let state = &self.visits.get(row).ok_or(Need::Visit(*row))?.document.state;
                numbers.push((state.named_since(), *row));
            }
        }
        numbers.sort_unstable();
        let later = numbers.partition_point(|(since, _)| *since <= at);
        Ok(numbers.get(later.saturating_sub(1)).map(|(_, row)| *row))
    }

    /// Whether two visits that a fact names as one are of one patient. The second is not, where it is known to have been of another than the fact names.
    fn belong_together(&self, a: i64, b: i64, fact: &Fact) -> Result<bool, Need> {
        let [a, b] = [a, b].map(|row| self.visits.get(&row).ok_or(Need::Visit(row)));
        let (a, b) = (a?, b?);
        let (owner, other) = (self.surviving_patient(a.patient)?, self.surviving_patient(b.patient)?);
        let record = &self.patients.get(&owner).ok_or(Need::Patient(owner))?.record;
        let (a, b) = (&a.document.state, &b.document.state);
        let bound = a.patient().zip(b.patient());
        let was_known = b.bindings().iter().any(|(_, since)| *since <= fact.stamp);
        let was_anothers = was_known && b.patient_at(fact.stamp.recorded).is_some_and(|patient| !record.are_one(patient, &fact.patient));
        // What was said of one before the other was moved away from that patient was said of the other.
        let was_moved = |from: &VisitState, of: &VisitState| {
            of.bindings().iter().any(|(patient, since)| from.moved_next_from(*since).is_some_and(|before| record.are_one(before, patient)))
        };
        let are_one = bound.is_none_or(|(a, b)| record.are_one(a, b)) && !was_anothers;
        Ok(owner == other && (are_one || was_moved(a, b) || was_moved(b, a)))
    }

    /// Whether a fact may be about a visit, by the patient that it names.
    fn is_explained(&self, row: i64, patient: Option<i64>, fact: &Fact) -> Result<bool, Need> {
        let visit = self.visits.get(&row).ok_or(Need::Visit(row))?;
        let owner = self.surviving_patient(visit.patient)?;
        let record = &self.patients.get(&owner).ok_or(Need::Patient(owner))?.record;
        let Some(bound) = visit.document.state.patient() else { return Ok(true) };
        let is_one = |id| patient == Some(owner) && record.are_one(id, &fact.patient);
        let explained = moves_a_visit(fact)
            || is_one(bound)
            || visit.document.state.moved_from_after(fact.stamp).any(is_one)
            || visit.document.state.bindings().iter().any(|(earlier, since)| {
                let moved_later = visit.document.state.bindings().iter().any(|(_, later)| *later > fact.stamp && later > since);
                moved_later && patient == Some(owner) && record.are_one(earlier, &fact.patient)
            })
            || agrees(record, bound, fact);
        Ok(explained || self.moved_with_its_account(row, record, fact)?)
    }

    /// What a message names by several numbers is one visit: rows under the others become one with it.
    fn join_other_numbers(&mut self, row: i64, fact: &Fact, cause: &Cause, rules: &Rules<'_>) -> Result<(), Need> {
        let Some(named) = fact.visit.as_ref().filter(|named| !named.is_account) else { return Ok(()) };
        let mut others = self.find_under_another_number(named, fact, rules)?;
        let is_known = self.visits.get(&row).is_some_and(|visit| visit.document.state.ids().contains(&named.id));
        if !is_known {
            others.extend(self.find_visits(LookUpKind::Preadmit, &named.id, rules)?);
        }
        for other in others {
            let other = self.surviving_visit(other)?;
            self.join_visits(row, other, cause, rules)?;
        }
        Ok(())
    }

    /// A visit that was known by its pre-admit number, by its alternate number, or by its account alone.
    fn find_under_another_number(&mut self, named: &VisitRef, fact: &Fact, rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
        let mut others: Vec<(LookUpKind, &VisitId)> = Vec::new();
        others.extend(named.preadmit.as_ref().map(|id| (LookUpKind::Visit, id)));
        others.extend(named.alternate.as_ref().map(|id| (LookUpKind::Visit, id)));
        if let Some(relation) = &fact.relation {
            let changes = matches!(relation.kind, RelationKind::AccountChange | RelationKind::VisitChange);
            others.extend(relation.visits.iter().filter(|_| changes).map(|pair| (LookUpKind::Visit, &pair.from)));
        }
        let mut found = Vec::new();
        for (kind, id) in others {
            found.extend(self.find_visits(kind, id, rules)?);
        }
        // An account that the stay left was the stay's name only where it has no other.
        let left = fact.relation.iter().filter(|relation| relation.kind == RelationKind::AccountChange).flat_map(|relation| &relation.accounts);
        for pair in left {
            let known = self.find_visits(LookUpKind::Visit, &pair.from, rules)?;
            found.extend(known.into_iter().filter(|row| self.is_by_account_alone(*row, &pair.from)));
        }
        if let Some(account) = &named.account {
            let under_account = self.find_visits(LookUpKind::Account, account, rules)?;
            found.extend(under_account.into_iter().find(|row| self.is_by_account_alone(*row, account)));
        }
        let mut once = Vec::with_capacity(found.len());
        for row in found {
            if !once.contains(&row) {
                once.push(row);
            }
        }
        Ok(once)
    }

    /// A fact that names no visit: the only open one of the patient, or for a cancelled discharge the one that ended.
    fn route_unnamed(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<Route, Need> {
        let Some(patient) = self.find_patient(&fact.patient, rules)? else { return Ok(Route::Waits(Waits::NoVisit)) };
        let open = self.open_visits(patient);
        if fact.act == Act::CancelEnd {
            let mut ended: Vec<(bool, crate::time::Timestamp, i64)> = Vec::new();
            for row in &open {
                let Some(stay) = self.visits.get(row).and_then(|visit| visit.document.state.stays().last()) else { continue };
                let course = stay.course(rules.now, &CourseRules::default());
                let Some(at) = course.ended_at.filter(|_| course.phase == Phase::Ended) else { continue };
                let means = [fact.occurred_at, fact.stay.discharged_at.value().copied()];
                let matches = means.contains(&stay.discharged()) || means.contains(&Some(at));
                if matches || rules.now.since(at) < RECENTLY_ENDED {
                    ended.push((matches, at, *row));
                }
            }
            if let Some((_, _, row)) = ended.into_iter().max() {
                return Ok(Route::Known(row));
            }
        }
        let [row] = open[..] else { return Ok(Route::Waits(Waits::NoVisit)) };
        let stay = self.visits.get(&row).and_then(|visit| visit.document.state.stays().last());
        Ok(if stay.is_some_and(|stay| stay.contradicts(fact)) { Route::Waits(Waits::NoVisit) } else { Route::Known(row) })
    }
}

/// Where a fact goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    /// To no visit: it speaks of persons only.
    None,
    /// To this one.
    Known(i64),
    /// To one nobody has heard of.
    New,
    /// Nowhere, for now.
    Waits(Waits),
}

/// What caused the events that a fact leads to.
pub(crate) fn cause_of(fact: &Fact) -> Cause {
    Cause {
        kind: if fact.load { CauseKind::Load } else { CauseKind::Message },
        message: Some(fact.stamp.arrival),
        trigger: Some(fact.trigger),
        feed: Some(fact.feed.clone()),
    }
}

fn speaks_of_a_visit(fact: &Fact) -> bool {
    !matches!(fact.act, Act::Person | Act::Relate | Act::DeleteVisit | Act::DeletePerson)
}

/// Whether a fact under another patient id names the same person in everything else: name, birth date and sex all said and all equal.
fn agrees(record: &PatientRecord, bound: &PatientId, fact: &Fact) -> bool {
    let person = record.person(bound);
    let said = &fact.person;
    let same_name = said.name.value().zip(person.name()).is_some_and(|(a, b)| {
        let same = |a: &str, b: &str| !a.is_empty() && a.eq_ignore_ascii_case(b);
        same(a.family.as_str(), b.family.as_str()) && same(a.given.as_str(), b.given.as_str())
    });
    let same_birth = said.birth_date.value().zip(person.birth_date()).is_some_and(|(a, b)| a.as_str() == b);
    let same_sex = said.sex.value().zip(person.sex()).is_some_and(|(a, b)| a.as_str() == b);
    same_name && same_birth && same_sex
}
