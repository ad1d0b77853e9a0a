//! What histories say of identifiers: merges, moves and other numbers, of patients, accounts and visits.

use crate::care::fact::Act;
use crate::care::fact::Fact;
use crate::care::fact::FieldRef;
use crate::care::fact::Pair;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::care::fact::VisitRef;
use crate::ids::Identifier;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::law::history::Maker;
use crate::intake::law::history::Patient;
use crate::intake::law::history::Visit;

impl Visit {
    /// It is another patient's from now on, under the number that counts and those that were said to be of one stay with it.
    fn go_over(&mut self, patient: usize) {
        self.patient = patient;
        self.numbers.truncate(if self.is_concluded { 1 } else { usize::MAX });
    }
}

impl Maker {
    fn relate(&mut self, trigger: &str, kind: RelationKind, patient: PatientId) -> Fact {
        let mut fact = self.fact(trigger, Act::Relate, patient);
        fact.relation = Some(Relation { kind, patients: Vec::new(), accounts: Vec::new(), visits: Vec::new() });
        fact
    }

    pub(super) fn patients_merged(&mut self) -> Vec<Fact> {
        let into = self.rng.below(self.patients.len());
        let mut from = self.rng.below(self.patients.len());
        let old = if from == into {
            // An id that nobody has heard of, or one of their own that counts again no more.
            from = into;
            if self.rng.one_in(3) { self.id_of(into) } else { self.patient_id() }
        } else {
            self.patients[from].ids[0].clone()
        };
        let new = self.id_of(into);
        if old == new {
            return Vec::new();
        }
        if from == into && self.patients[into].ids.contains(&old) && old == self.patients[into].ids[0] {
            // The merge is turned round.
            self.patients[into].ids.retain(|id| *id != new);
            self.patients[into].ids.insert(0, new.clone());
        } else if from == into {
            if self.patients[into].ids.contains(&old) {
                return Vec::new();
            }
            self.patients[into].ids.push(old.clone());
        } else {
            let ids = self.patients[from].ids.clone();
            self.patients[into].ids.extend(ids);
            for visit in &mut self.visits {
                if visit.patient == from {
                    visit.patient = into;
                }
            }
            // Whoever they were, they go on as a new patient.
            let id = self.patient_id();
            self.patients[from] = Patient { ids: vec![id], n: self.patients[from].n };
        }
        let mut fact = self.relate("A40", RelationKind::Patient, new.clone());
        if let Some(relation) = &mut fact.relation {
            relation.patients.push(Pair { from: old, into: new });
        }
        vec![fact]
    }

    pub(super) fn id_changed(&mut self) -> Fact {
        let patient = self.rng.below(self.patients.len());
        let (old, new) = (self.patients[patient].ids[0].clone(), self.patient_id());
        self.patients[patient].ids.insert(0, new.clone());
        let mut fact = self.relate("A47", RelationKind::PatientIdChange, new.clone());
        if let Some(relation) = &mut fact.relation {
            relation.patients.push(Pair { from: old, into: new });
        }
        fact
    }

    pub(super) fn renumbered(&mut self, at: usize) -> Fact {
        if let Some(fact) = self.feeds.one_in(3).then(|| self.account_renumbered(at)).flatten() {
            return fact;
        }
        let patient = self.visits[at].patient;
        let id = self.id_of(patient);
        let (old, new) = (self.visits[at].numbers[0].clone(), self.number());
        self.visits[at].numbers.insert(0, new.clone());
        let (trigger, kind) = if self.by_account { ("A49", RelationKind::AccountChange) } else { ("A50", RelationKind::VisitChange) };
        let mut fact = self.relate(trigger, kind, id);
        let pair = Pair { from: old, into: new };
        if let Some(relation) = &mut fact.relation {
            if self.by_account { relation.accounts.push(pair) } else { relation.visits.push(pair) }
        }
        fact
    }

    pub(super) fn visits_merged(&mut self, at: usize) -> Vec<Fact> {
        let patient = self.visits[at].patient;
        let others: Vec<usize> = (0..self.visits.len()).filter(|other| *other != at && self.visits[*other].patient == patient).collect();
        if others.is_empty() {
            return Vec::new();
        }
        let into = *self.rng.pick(&others).unwrap();
        let id = self.id_of(patient);
        let (trigger, kind) = if self.by_account { ("A41", RelationKind::Account) } else { ("A42", RelationKind::Visit) };
        let mut fact = self.relate(trigger, kind, id);
        let pair = Pair { from: self.visits[at].numbers[0].clone(), into: self.visits[into].numbers[0].clone() };
        if let Some(relation) = &mut fact.relation {
            if self.by_account { relation.accounts.push(pair) } else { relation.visits.push(pair) }
        }
        vec![fact]
    }

    pub(super) fn visit_moved(&mut self, at: usize) -> Vec<Fact> {
        let from = self.visits[at].patient;
        let into = self.rng.below(self.patients.len());
        if from == into {
            return Vec::new();
        }
        let (old, new) = (self.id_of(from), self.id_of(into));
        let (trigger, kind) = if self.by_account { ("A44", RelationKind::AccountMove) } else { ("A45", RelationKind::VisitMove) };
        let number = self.visits[at].numbers[0].clone();
        let mut pair = Pair { from: number.clone(), into: number };
        if self.rng.one_in(4) {
            let new = self.number();
            pair.into = new.clone();
            self.visits[at].numbers.insert(0, new);
        }
        // The others of the account are not the other patient's.
        let leaves = self.visits[at].shares_account || self.feeds.one_in(2);
        let account = leaves.then(|| self.another_account(at, into)).flatten();
        self.visits[at].go_over(into);
        let mut fact = self.relate(trigger, kind, new.clone());
        if let Some(relation) = &mut fact.relation {
            relation.patients.push(Pair { from: old, into: new });
            if self.by_account {
                relation.accounts.push(pair);
            } else {
                relation.visits.push(pair);
            }
            relation.accounts.extend(account.map(|(from, into)| Pair { from, into }));
        }
        vec![fact]
    }

    /// A44 of an account that may have several visits.
    pub(super) fn account_moved(&mut self, at: usize) -> Vec<Fact> {
        let from = self.visits[at].patient;
        let into = self.rng.below(self.patients.len());
        let Some(account) = self.visits[at].account.clone().filter(|_| from != into) else { return Vec::new() };
        let (old, new) = (self.id_of(from), self.id_of(into));
        let mut pair = Pair { from: account.clone(), into: account.clone() };
        if self.rng.one_in(4) {
            pair.into = self.number();
        }
        for visit in self.visits.iter_mut().filter(|visit| visit.account.as_ref() == Some(&account)) {
            visit.go_over(into);
            visit.account = Some(pair.into.clone());
        }
        let mut fact = self.relate("A44", RelationKind::AccountMove, new.clone());
        if let Some(relation) = &mut fact.relation {
            relation.patients.push(Pair { from: old, into: new });
            relation.accounts.push(pair);
        }
        vec![fact]
    }

    /// A06 that gives the stay another account, and says so in MRG-3; where the account is its number, another number. Some give it both, and say of
    /// the number that it had nothing. The other stays of the account stay there.
    pub(super) fn reclassified_under_another_account(&mut self, at: usize) -> Fact {
        let mut fact = self.reclassified(at);
        let (old, new) = if self.by_account {
            let (old, new) = (self.visits[at].numbers[0].clone(), self.number());
            self.visits[at].numbers.insert(0, new.clone());
            (old, new)
        } else {
            let was_alone = !self.visits[at].shares_account;
            let Some((old, new)) = self.another_account(at, self.visits[at].patient) else { return fact };
            if was_alone && !self.visits[at].shares_account && self.feeds.one_in(2) {
                let number = self.number();
                self.visits[at].numbers.insert(0, number);
                self.visits[at].is_concluded = true;
            }
            (old, new)
        };
        let visit = &self.visits[at];
        fact.visit = Some(VisitRef {
            id: visit.numbers[0].clone(),
            from: FieldRef::new("PV1-19"),
            is_account: self.by_account,
            account: visit.account.clone(),
            alternate: None,
            preadmit: None,
        });
        let pair = Pair { from: old, into: new };
        fact.relation = Some(Relation { kind: RelationKind::AccountChange, patients: Vec::new(), accounts: vec![pair], visits: Vec::new() });
        fact
    }

    /// Gives a stay, alone, another account: one that nobody has heard of, or that of another stay of a patient. Gives back the old one and the new.
    pub(super) fn another_account(&mut self, at: usize, patient: usize) -> Option<(VisitId, VisitId)> {
        let old = self.visits[at].account.clone()?;
        let beside = self.visits.iter().filter(|other| other.patient == patient).filter_map(|other| other.account.clone());
        let beside = beside.into_iter().find(|account| *account != old && !self.named_alone.contains(account));
        let beside = beside.filter(|_| self.feeds.one_in(3));
        let shares = beside.is_some();
        let new = beside.unwrap_or_else(|| self.number());
        self.visits[at].account = Some(new.clone());
        for visit in self.visits.iter_mut().filter(|visit| visit.account.as_ref() == Some(&new)) {
            visit.shares_account = shares;
        }
        Some((old, new))
    }

    /// A49: an account has another number, with all its stays.
    pub(super) fn account_renumbered(&mut self, at: usize) -> Option<Fact> {
        let old = self.visits[at].account.clone()?;
        let id = self.id_of(self.visits[at].patient);
        let new = self.number();
        for visit in self.visits.iter_mut().filter(|visit| visit.account.as_ref() == Some(&old)) {
            visit.account = Some(new.clone());
        }
        let mut fact = self.relate("A49", RelationKind::AccountChange, id);
        if let Some(relation) = &mut fact.relation {
            relation.accounts.push(Pair { from: old, into: new });
        }
        Some(fact)
    }

    /// A24 or A37, which say something of two patients and change no room.
    pub(super) fn linked(&mut self) -> Vec<Fact> {
        let (a, b) = (self.rng.below(self.patients.len()), self.rng.below(self.patients.len()));
        if a == b {
            return Vec::new();
        }
        let (a, b) = (self.id_of(a), self.id_of(b));
        let (trigger, kind) = *self.rng.pick(&[("A24", RelationKind::Link), ("A37", RelationKind::Unlink)]).unwrap();
        let pairs = [(a.clone(), b.clone()), (b, a)];
        pairs
            .into_iter()
            .map(|(of, other)| {
                let mut fact = self.relate(trigger, kind, of.clone());
                if let Some(relation) = &mut fact.relation {
                    relation.patients.push(Pair { from: other, into: of });
                }
                fact
            })
            .collect()
    }

    /// A43: the record goes over to another person under the same medical record number.
    pub(super) fn person_moved(&mut self, at: usize) -> Fact {
        let id = self.id_of(self.visits[at].patient);
        let enterprise = |n: usize| PatientId(Identifier::new("HIE", "PE", &format!("E{n}")));
        let mut fact = self.relate("A43", RelationKind::PatientMove, id);
        if let Some(relation) = &mut fact.relation {
            relation.patients.push(Pair { from: enterprise(1), into: enterprise(2) });
        }
        fact
    }
}
