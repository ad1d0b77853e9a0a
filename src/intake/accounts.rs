//! Accounts: the numbers above visits. One that is renumbered, or goes over to another patient, takes its visits along, whenever they turn out to be of it.
//!
//! What was said of accounts is kept with the patient; here it reaches the visits, also those that only a later message names with the account. What was
//! known by a number of an account alone is one visit, and the account's only one.

use std::sync::Arc;

use crate::care::account::Says;
use crate::care::change::Cause;
use crate::care::fact::Fact;
use crate::care::fact::Stamp;
use crate::care::identity::PatientRecord;
use crate::care::visit::AccountsOfVisit;
use crate::care::visit::VisitState;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::relate::moves_a_visit;
use crate::intake::world::Need;
use crate::intake::world::Rules;
use crate::intake::world::World;
use crate::store::look_up::LookUpKind;
use crate::time::Timestamp;

impl World {
    /// The visits known under any number of an account, or under the account itself, those that count, each once; also where no message at hand named it.
    pub(super) fn find_by_account(&mut self, numbers: &[VisitId], rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
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

    /// Visits of accounts that were renumbered or went over to another patient have part in it, whenever they turn out to be of them; what was known by
    /// a number of an account alone is one, and is the account's only visit. Gives back those that changed.
    pub(super) fn settle_accounts(&mut self, patient: i64, cause: &Cause, rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
        let accounts = self.patients.get(&patient).ok_or(Need::Patient(patient))?.record.accounts().all();
        let mut changed = Vec::new();
        // What turned out to be of an account, and whose it is, may say more.
        while !accounts.is_empty() {
            let news = self.settle_once(patient, &accounts, cause, rules)?;
            if news.is_empty() {
                break;
            }
            changed.extend(news);
        }
        Ok(changed)
    }

    /// Has every visit of these accounts hear what was said of them, and then concludes and joins once what follows from that.
    fn settle_once(&mut self, patient: i64, accounts: &[Vec<VisitId>], cause: &Cause, rules: &Rules<'_>) -> Result<Vec<i64>, Need> {
        let (mut visits, mut changed) = (Vec::with_capacity(accounts.len()), Vec::new());
        for numbers in accounts {
            let Some(account) = numbers.first() else { continue };
            let mut rows = Vec::new();
            for row in self.find_by_account(numbers, rules)? {
                let owner = self.visits.get(&row).ok_or(Need::Visit(row))?.patient;
                if self.surviving_patient(owner)? == patient {
                    if self.settle_account(row, patient, account, numbers, rules)? {
                        changed.push(row);
                    }
                    rows.push(row);
                }
            }
            visits.push((numbers, rows));
        }
        changed.extend(self.conclude(patient, visits.iter().flat_map(|(_, rows)| rows).copied().collect(), rules)?);
        for (numbers, rows) in visits {
            let mut rows = rows.into_iter().map(|row| self.surviving_visit(row)).collect::<Result<Vec<_>, _>>()?;
            rows.sort_unstable();
            rows.dedup();
            let state = |row: &i64| self.visits.get(row).map(|visit| &visit.document.state);
            let is_own = |row: &i64| state(row).is_some_and(|state| is_under_no_other(state, numbers));
            let (own, numbered): (Vec<i64>, Vec<i64>) = rows.iter().partition(|row| is_own(row));
            // What is concluded may be concluded otherwise later; what becomes one here is one for good, and goes to the number that was of the account.
            let only = self.first_of_one_stay(&numbered)?.filter(|only| own.iter().all(|row| self.may_be_of(*row, *only)));
            if let Some(into) = only.or_else(|| own.first().copied()).filter(|_| own.len() + usize::from(only.is_some()) > 1) {
                for row in own {
                    self.join_visits(into, row, cause, rules)?;
                }
                changed.push(into);
            }
        }
        Ok(changed)
    }

    /// Whether what was known by an account alone was said of the patient whose a visit was then.
    fn may_be_of(&self, alone: i64, row: i64) -> bool {
        let Some((alone, visit)) = self.visits.get(&alone).zip(self.visits.get(&row)) else { return false };
        let Some(record) = self.patients.get(&visit.patient).map(|entry| &entry.record) else { return false };
        let (alone, visit) = (&alone.document.state, &visit.document.state);
        alone.bindings().iter().min_by_key(|(_, since)| *since).is_none_or(|(patient, since)| {
            let theirs = |other: &PatientId| record.are_one(other, patient);
            visit.patient_at(since.recorded).is_none_or(theirs) || visit.moved_next_from(*since).is_some_and(theirs)
        })
    }

    /// One visit of an account that has these numbers. Gives back whether anything changed.
    fn settle_account(&mut self, row: i64, patient: i64, account: &VisitId, numbers: &[VisitId], rules: &Rules<'_>) -> Result<bool, Need> {
        let record = &self.patients.get(&patient).ok_or(Need::Patient(patient))?.record;
        let state = &self.visits.get(&row).ok_or(Need::Visit(row))?.document.state;
        let is_own = is_under_no_other(state, numbers);
        // Two that are known by accounts alone are merged, and neither is of the other's account.
        let concerns = |word: &&Fact| state.has_own_number() || Says::of(word) != Some(Says::OfMergedAccounts);
        let is_new = |word: &&Fact| !state.accounts().was_told(word.stamp.recorded) && concerns(word);
        let words: Vec<Arc<Fact>> = record.accounts().words_of(account).filter(is_new).cloned().map(Arc::new).collect();
        for number in numbers {
            self.lead(rules.look_ups.visit(LookUpKind::Account, number), LookUpKind::Account, row);
            if is_own {
                self.lead(rules.look_ups.visit(LookUpKind::Visit, number), LookUpKind::Visit, row);
            }
        }
        let mut has_changed = false;
        for word in &words {
            has_changed |= self.fold(row, word, rules)?;
        }
        if has_changed {
            let ids = self.visits.get(&row).map(|visit| visit.document.state.ids().to_vec()).unwrap_or_default();
            self.explained.extend(ids.iter().map(|id| rules.look_ups.visit(LookUpKind::Visit, id)));
            // A message may wait that names the visit by another number than these.
            let record = self.patients.get(&patient).map(|entry| &entry.record);
            self.explained.extend(record.into_iter().flat_map(PatientRecord::ids).map(|id| rules.look_ups.patient(id)));
        }
        Ok(has_changed)
    }

    /// Whether an account that a fact names, and that the visit was of, went over from the patient of the visit to the one that the fact names, sooner or
    /// later, or from that one after the fact.
    pub(super) fn moved_with_its_account(&self, row: i64, record: &PatientRecord, fact: &Fact) -> Result<bool, Need> {
        let named = fact.visit.iter().filter_map(|named| named.account.as_ref());
        let left = fact.relation.iter().filter(|_| Says::of(fact) == Some(Says::OfOneStay)).flat_map(|relation| &relation.accounts);
        let mut words: Vec<&Fact> = Vec::new();
        for account in named.chain(left.map(|pair| &pair.from)) {
            words.extend(record.accounts().words_of(account));
        }
        if !words.iter().any(|word| moves_a_visit(word)) {
            return Ok(false);
        }
        let visit = self.visits.get(&row).ok_or(Need::Visit(row))?;
        // Of which account the visit was when depends on what the fact itself says.
        let facts = visit.facts.as_ref().ok_or(Need::Facts(row))?;
        let mut said: Vec<&Fact> = facts.iter().map(AsRef::as_ref).chain(words).chain([fact]).collect();
        said.sort_by_key(|fact| fact.stamp);
        said.dedup_by_key(|fact| fact.hash);
        let accounts = AccountsOfVisit::heard(said.iter().copied());
        let moves: Vec<&Fact> = said.into_iter().filter(|word| moves_a_visit(word) && accounts.go_along(word)).collect();
        let from =
            |word: &Fact, id: &PatientId| word.relation.iter().flat_map(|relation| &relation.patients).any(|pair| record.are_one(&pair.from, id));
        let bindings = visit.document.state.bindings();
        let goes_on = |(start, since): &'_ (PatientId, Stamp), until: Stamp| {
            let later = moves.iter().filter(|word| word.stamp > *since && word.stamp <= until);
            later.fold(start.clone(), |at, word| if from(word, &at) { word.patient.clone() } else { at })
        };
        // Whose a stay was that was expected under another number says nothing of this number yet.
        let is_of_another_number = |since: Stamp| {
            let number = fact.visit.as_ref().filter(|named| !named.is_account).map(|named| &named.id);
            let said_then = facts.iter().filter(|known| known.stamp == since).filter_map(|known| known.visit.as_ref());
            said_then.filter(|named| !named.is_account).any(|named| number.is_some_and(|number| named.id != *number))
        };
        let was_known = |(_, since): &&(PatientId, Stamp)| *since <= fact.stamp && !is_of_another_number(*since);
        let is_theirs = match bindings.iter().filter(was_known).max_by_key(|(_, since)| *since) {
            // Whose it was then is known.
            Some(before) => record.are_one(&goes_on(before, fact.stamp), &fact.patient),
            None => moves.iter().any(|word| word.stamp > fact.stamp && from(word, &fact.patient)),
        };
        if is_theirs {
            return Ok(true);
        }
        let last = bindings.iter().max_by_key(|(_, since)| *since);
        Ok(last.is_some_and(|last| record.are_one(&goes_on(last, Stamp { recorded: Timestamp::MAX, ..fact.stamp }), &fact.patient)))
    }

    /// Whether nothing but numbers of an account ever named a visit.
    pub(super) fn is_by_account_alone(&self, row: i64, account: &VisitId) -> bool {
        let Some(visit) = self.visits.get(&row) else { return false };
        let record = self.surviving_patient(visit.patient).ok().and_then(|patient| self.patients.get(&patient)).map(|entry| &entry.record);
        record.is_some_and(|record| is_of_account_alone(&visit.document.state, account, record))
    }
}

/// Whether nothing but numbers of an account ever named a visit.
fn is_of_account_alone(state: &VisitState, account: &VisitId, record: &PatientRecord) -> bool {
    !state.ids().is_empty() && state.numbers().all(|id| record.accounts().are_one(id, account))
}

/// Whether a visit was named by these numbers and by no other. One that was only moved so far has a number that is none of them.
fn is_under_no_other(state: &VisitState, numbers: &[VisitId]) -> bool {
    !state.ids().is_empty() && state.numbers().all(|id| numbers.contains(id))
}
