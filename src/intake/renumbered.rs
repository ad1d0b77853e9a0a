//! Stays that go on under another number: a patient becomes an inpatient (A06, A07), and the stay gets another number and another account at once.
//!
//! That both numbers are of one stay nobody says then: it is concluded from MRG-3, where the account that was left had one stay and no other. What follows
//! from nothing else having been said is never final, because a late word may name another stay of that account. So each number keeps a row and facts of
//! its own, the conclusion is drawn anew with every word that touches the accounts of the patient, and only what is planned is folded from all of them.
//! Rows that a message says to be one are made one elsewhere, for good.

use std::time::Duration;

use crate::care::fact::Act;
use crate::care::fact::Fact;
use crate::care::identity::PatientRecord;
use crate::care::visit::Placement;
use crate::care::visit::VisitState;
use crate::ids::PatientId;
use crate::intake::world::Need;
use crate::intake::world::Rules;
use crate::intake::world::World;
use crate::store::form::RoomSlot;
use crate::store::form::VisitMerge;
use crate::store::form::Whole;

impl World {
    /// Concludes which of these visits, all those of the accounts of a patient, go on as which. Gives back those for which that changed.
    pub(super) fn conclude(&mut self, patient: i64, mut rows: Vec<i64>, rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
        rows.sort_unstable();
        rows.dedup();
        let concluded = self.concluded(patient, &rows)?;
        let mut changed = Vec::new();
        for row in &rows {
            let now = concluded.iter().find(|(from, _)| from == row).map(|(_, merge)| merge);
            let visit = self.visits.get_mut(row).ok_or(Need::Visit(*row))?;
            if visit.document.merges.iter().filter(|merge| merge.concluded).eq(now) {
                continue;
            }
            let before: Vec<i64> = visit.document.merges.extract_if(.., |merge| merge.concluded).map(|merge| merge.into).collect();
            let is_merged: Vec<i64> = visit.document.merges.iter().map(|merge| merge.into).collect();
            visit.document.merges.extend(now.cloned());
            visit.is_dirty = true;
            changed.push(*row);
            // The row that a word named may have become one with another since.
            let is_merged = is_merged.into_iter().map(|into| self.surviving_visit(into)).collect::<Result<Vec<_>, _>>()?;
            for into in before {
                let into = self.surviving_visit(into)?;
                changed.push(into);
                if let Some(other) = self.visits.get_mut(&into).filter(|_| !is_merged.contains(&into)) {
                    other.document.merged_from.retain(|from| from != row);
                    other.is_dirty = true;
                }
            }
            if let Some(merge) = now {
                changed.push(merge.into);
                self.go_on(*row, merge.into)?;
            }
        }
        if !changed.is_empty() {
            // What is said of an account alone is explained by either number now.
            let record = self.patients.get(&patient).map(|entry| &entry.record);
            self.explained.extend(record.into_iter().flat_map(PatientRecord::ids).map(|id| rules.look_ups.patient(id)));
        }
        Ok(changed)
    }

    /// Under which number a visit goes on: the row of the last, which may be its own.
    pub(super) fn goes_on_as(&self, mut row: i64) -> Result<i64, Need> {
        while let Some(next) = self.next_number(row)? {
            row = next;
        }
        Ok(row)
    }

    /// The row of the number under which a visit goes on next.
    fn next_number(&self, row: i64) -> Result<Option<i64>, Need> {
        let merges = &self.visits.get(&row).ok_or(Need::Visit(row))?.document.merges;
        merges.iter().find(|merge| merge.concluded).map(|merge| self.surviving_visit(merge.into)).transpose()
    }

    /// Of visits that are all of one stay the row of the number that it had first; nothing, where they are of several.
    pub(super) fn first_of_one_stay(&self, rows: &[i64]) -> Result<Option<i64>, Need> {
        let mut first = rows.to_vec();
        let mut lasts = Vec::with_capacity(rows.len());
        for row in rows {
            let mut last = *row;
            while let Some(next) = self.next_number(last)? {
                first.retain(|other| *other != next);
                last = next;
            }
            lasts.push(last);
        }
        lasts.dedup();
        Ok(first.first().copied().filter(|_| lasts.len() == 1))
    }

    /// The rows of the other numbers that are concluded to be of one stay with this one.
    pub(super) fn other_numbers_of_stay(&self, row: i64) -> Result<Vec<i64>, Need> {
        let document = &self.visits.get(&row).ok_or(Need::Visit(row))?.document;
        if document.merges.is_empty() && document.merged_from.is_empty() {
            return Ok(Vec::new());
        }
        let last = self.goes_on_as(row)?;
        let mut rows = Vec::new();
        for other in self.merged_with(row)? {
            if other != row && self.goes_on_as(other)? == last {
                rows.push(other);
            }
        }
        Ok(rows)
    }

    /// Which visits go on as which: a number that was first heard of when it left an account is the new one of the only stay
    /// that the account had then.
    fn concluded(&self, patient: i64, rows: &[i64]) -> Result<Vec<(i64, VisitMerge)>, Need> {
        let state = |row: i64| self.visits.get(&row).map(|visit| &visit.document.state).ok_or(Need::Visit(row));
        let mut first = Vec::new();
        for row in rows {
            first.extend(state(*row)?.left().iter().filter(|left| left.is_first).map(|left| (left.at, *row, &left.account)));
        }
        let mut concluded: Vec<(i64, VisitMerge)> = Vec::new();
        if first.is_empty() {
            return Ok(concluded);
        }
        first.sort_unstable_by_key(|(at, row, _)| (*at, *row));
        let record = &self.patients.get(&patient).ok_or(Need::Patient(patient))?.record;
        for (at, row, account) in first {
            let (new, recorded) = (state(row)?, at.recorded);
            let Some((number, person)) = new.id().zip(new.patient_at(recorded)) else { continue };
            let was_of_it = |other: &VisitState| {
                other.was_known_before(recorded)
                    && other.accounts().was_of(account, at).unwrap_or(false)
                    && other.patient_at(recorded).is_some_and(|other| record.are_one(other, person))
            };
            let mut stays = Vec::new();
            for other in rows.iter().filter(|other| **other != row) {
                if was_of_it(state(*other)?) {
                    let mut last = *other;
                    while let Some((_, merge)) = concluded.iter().find(|(from, _)| *from == last) {
                        last = merge.into;
                    }
                    stays.push(last);
                }
            }
            stays.sort_unstable();
            stays.dedup();
            if let [only] = stays[..] {
                concluded.push((only, VisitMerge { into: row, number: number.clone(), stamp: at, undone: false, concluded: true, account: None }));
            }
        }
        Ok(concluded)
    }

    /// The stay keeps its room under its new number.
    fn go_on(&mut self, from: i64, into: i64) -> Result<(), Need> {
        let is_published = |rooms: &[RoomSlot]| rooms.iter().any(|slot| slot.published.is_some());
        let old = self.visits.get(&from).ok_or(Need::Visit(from))?.document.rooms.clone();
        let new = self.visits.get_mut(&into).ok_or(Need::Visit(into))?;
        if !new.document.merged_from.contains(&from) {
            new.document.merged_from.push(from);
        }
        new.is_dirty = true;
        if is_published(&old) && !is_published(&new.document.rooms) {
            new.document.rooms = old;
            if let Some(old) = self.visits.get_mut(&from) {
                old.document.rooms.clear();
            }
        }
        Ok(())
    }

    /// Folds what was said of a stay under the number of a row and under those that it had before.
    pub(super) fn fold_whole(&mut self, row: i64, earlier: &[i64]) -> Result<(), Need> {
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        if earlier.is_empty() {
            visit.is_dirty |= visit.document.whole.take().is_some();
            return Ok(());
        }
        let mut of = Vec::with_capacity(earlier.len() + 1);
        for part in std::iter::once(&row).chain(earlier) {
            let document = &self.visits.get(part).ok_or(Need::Visit(*part))?.document;
            of.push((*part, document.absorbed.len(), document.state.n_facts()));
        }
        let known = self.visits.get(&row).and_then(|visit| visit.document.whole.as_deref());
        // Of one that went over to another patient who is one with whom decides what is a part of it.
        if known.is_some_and(|known| known.of == of && known.state.moves().is_empty()) {
            return Ok(());
        }
        let whole = if let Some(state) = known.and_then(|known| self.fold_onto(known, &of)) {
            Whole { state, of, left_out: false }
        } else {
            let mut facts: Vec<&Fact> = Vec::new();
            for (part, ..) in &of {
                let visit = self.visits.get(part).ok_or(Need::Visit(*part))?;
                let said = visit.facts.as_ref().ok_or(Need::Facts(*part))?;
                facts.extend(said.iter().map(AsRef::as_ref).filter(|fact| visit.document.counts(fact)));
            }
            let state = VisitState::fold(facts.iter().copied());
            let n_facts = facts.len();
            if !state.moves().is_empty() {
                let owner = self.visits.get(&row).ok_or(Need::Visit(row))?.patient;
                let owner = self.surviving_patient(owner)?;
                let record = &self.patients.get(&owner).ok_or(Need::Patient(owner))?.record;
                facts.retain(|fact| !is_of_another_since(fact, &state, record));
            }
            let left_out = facts.len() < n_facts;
            Whole { state: if left_out { VisitState::fold(facts) } else { state }, of, left_out }
        };
        if let Some(visit) = self.visits.get_mut(&row).filter(|visit| visit.document.whole.as_deref() != Some(&whole)) {
            visit.document.whole = Some(Box::new(whole));
            visit.is_dirty = true;
        }
        Ok(())
    }

    /// What stands after the facts that the rows got since, where all of them sort behind those that are folded already.
    fn fold_onto(&self, known: &Whole, of: &[(i64, usize, u64)]) -> Option<VisitState> {
        if known.of.len() != of.len() {
            return None;
        }
        let mut facts = Vec::new();
        for (before, now) in known.of.iter().zip(of) {
            let n_new = usize::try_from(now.2.checked_sub(before.2)?).ok()?;
            let new = &self.visits.get(&now.0)?.new_facts;
            facts.extend(new.get(new.len().checked_sub(n_new)?..)?);
            if (before.0, before.1) != (now.0, now.1) {
                return None;
            }
        }
        facts.sort_by_key(|fact| fact.stamp);
        let mut state = known.state.clone();
        for fact in facts {
            // What is too late to count for one number of a stay was never taken, and all that was taken counts for the whole.
            if state.placement(fact, Duration::MAX) != Placement::Last {
                return None;
            }
            state.apply(fact);
        }
        Some(state).filter(|state| state.moves().is_empty())
    }
}

/// Whether a fact speaks, under a number that a stay had, of the patient from whom the stay had gone by then under another: whichever stay that is, what
/// it says is not said of the patient whose the stay is.
fn is_of_another_since(fact: &Fact, stay: &VisitState, record: &PatientRecord) -> bool {
    let is_theirs = |patient: &PatientId| record.are_one(patient, &fact.patient);
    fact.act != Act::Relate
        && stay.moves().iter().any(|(patient, moved)| *moved <= fact.stamp && is_theirs(patient))
        && stay.patient_at(fact.stamp.recorded).is_some_and(|patient| !is_theirs(patient))
}
