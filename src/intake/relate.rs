//! Relations: what merges, moves and changes of identifiers do to records and visits, and taking a merge back.
//!
//! Records of patients become one for good, and keep what was said by the id it was said of; visits that are merged keep their facts, so that both can
//! be split again. Numbers that turn out to be of one visit make it one. It decides nothing about rooms.

use std::sync::Arc;

use crate::care::account::hash_in_visits;
use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::fact::Act;
use crate::care::fact::Fact;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::care::visit::VisitState;
use crate::ids::VisitId;
use crate::intake::route::cause_of;
use crate::intake::world::Need;
use crate::intake::world::Rules;
use crate::intake::world::World;
use crate::store::form::VisitMerge;
use crate::store::look_up::LookUpKind;

impl World {
    /// Merges and changes of patient ids: the records become one.
    pub(super) fn relate_patients(&mut self, relation: &Relation, mut patient: i64, rules: &Rules<'_>) -> Result<i64, Need> {
        if relation.kind.is_link() {
            return Ok(patient);
        }
        for pair in &relation.patients {
            for id in [&pair.from, &pair.into] {
                if let Some(other) = self.find_patient(id, rules)? {
                    patient = self.join_patients(patient, other, rules);
                }
            }
        }
        Ok(patient)
    }

    /// What a relation does to visits: renames, moves and merges.
    pub(super) fn relate_visits(
        &mut self,
        fact: &Arc<Fact>,
        relation: &Relation,
        patient: i64,
        cause: &Cause,
        rules: &Rules<'_>,
    ) -> Result<Vec<i64>, Need> {
        let mut touched = Vec::new();
        match relation.kind {
            RelationKind::AccountMove | RelationKind::VisitMove | RelationKind::PatientMove => {
                touched.extend(self.move_visits(fact, relation, patient, cause, rules)?);
            }
            RelationKind::Visit | RelationKind::Account => {
                for pair in &relation.visits {
                    touched.extend(self.merge_visits(&pair.from, &pair.into, None, fact, patient, rules)?);
                }
                for pair in &relation.accounts {
                    touched.extend(self.merge_visits(&pair.from, &pair.into, Some(&pair.from), fact, patient, rules)?);
                }
            }
            RelationKind::VisitChange | RelationKind::AccountChange | RelationKind::Patient | RelationKind::PatientIdChange => {
                for pair in &relation.visits {
                    touched.extend(self.rename_visit(&pair.from, &pair.into, fact, patient, cause, rules)?);
                }
            }
            RelationKind::Link | RelationKind::Unlink => {}
        }
        Ok(touched)
    }

    /// The same visit has another number: both rows become one, and both numbers lead to it.
    fn rename_visit(
        &mut self,
        from: &VisitId,
        into: &VisitId,
        fact: &Arc<Fact>,
        patient: i64,
        cause: &Cause,
        rules: &Rules<'_>,
    ) -> Result<Vec<i64>, Need> {
        let old = self.find_visits(LookUpKind::Visit, from, rules)?.first().copied();
        let new = self.find_visits(LookUpKind::Visit, into, rules)?.first().copied();
        let row = match (old, new) {
            (Some(old), Some(new)) => {
                self.join_visits(new, old, cause, rules)?;
                new
            }
            (Some(row), None) | (None, Some(row)) => row,
            (None, None) if fact.act == Act::Relate => self.new_visit(patient, rules),
            (None, None) => return Ok(Vec::new()),
        };
        let is_known = self.visits.get(&row).is_some_and(|visit| visit.new_facts.iter().any(|known| known.hash == fact.hash));
        if !is_known {
            self.fold(row, fact, rules)?;
        }
        for id in [from, into] {
            self.lead(rules.look_ups.visit(LookUpKind::Visit, id), LookUpKind::Visit, row);
        }
        Ok(vec![row])
    }

    /// Visits that go over to another patient or account. Those of a whole account are only made the patient's here: what is said of an account is
    /// folded into its visits with all else that was.
    fn move_visits(&mut self, fact: &Arc<Fact>, relation: &Relation, patient: i64, cause: &Cause, rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
        let mut rows = Vec::new();
        for pair in &relation.visits {
            if pair.from == pair.into {
                let known = self.find_visits(LookUpKind::Visit, &pair.into, rules)?;
                rows.push(self.visit_or_new(known, &pair.into, patient, rules));
            } else {
                rows.extend(self.rename_visit(&pair.from, &pair.into, fact, patient, cause, rules)?);
            }
        }
        rows.sort_unstable();
        rows.dedup();
        for row in &rows {
            let known = self.visits.get(row).is_some_and(|visit| visit.new_facts.iter().any(|known| known.hash == fact.hash));
            if !known {
                self.fold(*row, fact, rules)?;
            }
        }
        if relation.visits.is_empty() {
            for pair in &relation.accounts {
                let found = self.find_by_account(&[pair.from.clone(), pair.into.clone()], rules)?;
                rows.extend(found.into_iter().filter(|row| self.visits.get(row).is_some_and(|visit| visit.document.state.accounts().go_along(fact))));
            }
        }
        for row in &rows {
            if let Some(visit) = self.visits.get_mut(row)
                && visit.patient != patient
            {
                visit.patient = patient;
                visit.is_dirty = true;
            }
        }
        Ok(rows)
    }

    /// The visit known under a number, or a new one, so that whatever comes under that number later finds it.
    fn visit_or_new(&mut self, known: impl IntoIterator<Item = i64>, id: &VisitId, patient: i64, rules: &Rules<'_>) -> i64 {
        let row = known.into_iter().next().unwrap_or_else(|| self.new_visit(patient, rules));
        self.lead(rules.look_ups.visit(LookUpKind::Visit, id), LookUpKind::Visit, row);
        row
    }

    /// Two visits become one: the survivor keeps its room, the other's leads to it.
    fn merge_visits(
        &mut self,
        from: &VisitId,
        into: &VisitId,
        account: Option<&VisitId>,
        fact: &Fact,
        patient: i64,
        rules: &Rules<'_>,
    ) -> Result<Vec<i64>, Need> {
        let loser = self.find_visits(LookUpKind::Visit, from, rules)?.first().copied();
        let winner = self.find_visits(LookUpKind::Visit, into, rules)?.first().copied();
        let loser = self.visit_or_new(loser, from, patient, rules);
        let winner = self.visit_or_new(winner, into, patient, rules);
        if loser == winner {
            return Ok(Vec::new());
        }
        if let Some(visit) = self.visits.get_mut(&loser) {
            let said = |merge: &&mut VisitMerge| !merge.concluded && merge.number == *into && merge.stamp.recorded == fact.stamp.recorded;
            if let Some(merge) = visit.document.merges.iter_mut().find(said) {
                // Sent again: the first sending counts, whichever came first.
                merge.stamp = merge.stamp.min(fact.stamp);
            } else {
                let merge =
                    VisitMerge { into: winner, number: into.clone(), stamp: fact.stamp, undone: false, concluded: false, account: account.cloned() };
                visit.document.merges.push(merge);
            }
            visit.is_dirty = true;
        }
        if let Some(visit) = self.visits.get_mut(&winner)
            && !visit.document.merged_from.contains(&loser)
        {
            visit.document.merged_from.push(loser);
            visit.is_dirty = true;
        }
        Ok(vec![winner, loser])
    }

    /// Takes back what a fact merged, of patients and of visits, and plans everything again that it had joined. Gives back whether any of it stood.
    pub(crate) fn undo(&mut self, fact: &Fact, rules: &Rules<'_>) -> Result<bool, Need> {
        let Some(relation) = fact.relation.as_ref().filter(|relation| relation.kind.is_merge()) else { return Ok(false) };
        let Some(patient) = self.find_patient(&fact.patient, rules)? else { return Ok(false) };
        let mut stood = false;
        let mut touched = self.open_visits(patient);
        if let Some(entry) = self.patients.get_mut(&patient)
            && entry.record.undo(fact)
        {
            entry.is_dirty = true;
            stood = true;
        }
        for pair in relation.visits.iter().chain(&relation.accounts) {
            for row in self.find_visits(LookUpKind::Visit, &pair.from, rules)? {
                let before = self.merged_with(row)?;
                let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
                let said = |merge: &&mut VisitMerge| !merge.undone && merge.number == pair.into && merge.stamp.recorded == fact.stamp.recorded;
                for merge in visit.document.merges.iter_mut().filter(said) {
                    merge.undone = true;
                    visit.is_dirty = true;
                    stood = true;
                }
                touched.extend(before);
            }
        }
        for account in relation.accounts.iter().flat_map(|pair| [&pair.from, &pair.into]) {
            for row in self.find_by_account(std::slice::from_ref(account), rules)? {
                touched.extend(self.take_back(row, fact)?);
            }
        }
        let cause = Cause { kind: CauseKind::Operator, ..cause_of(fact) };
        touched.extend(self.settle_accounts(patient, &cause, rules)?);
        touched.sort_unstable();
        touched.dedup();
        self.has_moved = false;
        self.replan_all(touched, &cause, true, true, rules)?;
        Ok(stood)
    }

    /// Takes what a fact said of an account out of a visit that heard it. Gives back the visit, where it had.
    fn take_back(&mut self, row: i64, fact: &Fact) -> Result<Option<i64>, Need> {
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        let hash = hash_in_visits(fact);
        if !visit.document.state.accounts().was_told(fact.stamp.recorded) || visit.document.taken_back.contains(&hash) {
            return Ok(None);
        }
        let facts = visit.facts.as_ref().ok_or(Need::Facts(row))?;
        visit.document.taken_back.push(hash);
        visit.document.state = VisitState::fold(facts.iter().map(AsRef::as_ref).filter(|fact| visit.document.counts(fact)));
        visit.is_dirty = true;
        Ok(Some(row))
    }
}

/// Whether the fact itself says that visits go over to another patient.
pub(super) fn moves_a_visit(fact: &Fact) -> bool {
    fact.relation
        .as_ref()
        .is_some_and(|relation| matches!(relation.kind, RelationKind::AccountMove | RelationKind::VisitMove) && !relation.patients.is_empty())
}
