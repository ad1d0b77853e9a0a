//! Accounts: the numbers above visits, and what became of them.
//!
//! An account that is renumbered, merged into another, or goes over to another patient takes its visits along. That is often said before anybody has heard
//! of a visit, or of the account as that visit's; so what was said is kept, and folded into each visit that turns out to be of the account. A stay that
//! leaves an account for another, alone, renumbers neither: that is kept with the stay, and here only which accounts they were. It knows no visit itself.

use serde::Deserialize;
use serde::Serialize;

use crate::care::fact::Act;
use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::Pair;
use crate::care::fact::PersonSaid;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::care::fact::StaySaid;
use crate::care::identity::Edges;
use crate::ids::VisitId;

/// What was said of the accounts of a patient.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Accounts {
    /// Which account became which.
    renumbered: Edges<VisitId>,
    /// What was said, each stripped of what it says of anything else.
    words: Vec<Fact>,
    /// The accounts that single stays left, and those that they went to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    of_stays: Vec<VisitId>,
    /// Which account was merged into which: stays of the one are of the other from then on, and both keep what was said of them alone.
    #[serde(default, skip_serializing_if = "Edges::is_empty")]
    merged: Edges<VisitId>,
}

/// Of what a fact says that accounts became others, or another patient's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Says {
    /// Of whole accounts, with all their stays.
    OfWholeAccounts,
    /// Of one stay, which it names by a number of its own: no other stay of either account has part in it.
    OfOneStay,
    /// Of two accounts that are one from then on. Of what is known by an account alone it says that two visits are one, and that is kept elsewhere.
    OfMergedAccounts,
}

impl Says {
    /// Nothing, where a fact says no such thing.
    pub fn of(fact: &Fact) -> Option<Self> {
        let relation = fact.relation.as_ref().filter(|relation| !relation.accounts.is_empty())?;
        // A06 and A07 are about a stay; A49 is about an account, whatever stay it names beside it.
        let leaves = relation.kind == RelationKind::AccountChange && fact.act != Act::Relate;
        let is_of_one_stay = (leaves && fact.visit.as_ref().is_some_and(|visit| !visit.is_account))
            || (relation.kind == RelationKind::VisitMove && !relation.visits.is_empty());
        Some(if relation.kind == RelationKind::Account {
            Self::OfMergedAccounts
        } else if is_of_one_stay {
            Self::OfOneStay
        } else {
            Self::OfWholeAccounts
        })
    }
}

impl Accounts {
    /// Whether nothing was said.
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty() && self.of_stays.is_empty()
    }

    /// Takes what a fact says of accounts.
    pub fn hear(&mut self, fact: &Fact) {
        match Says::of(fact) {
            Some(Says::OfWholeAccounts | Says::OfMergedAccounts) => self.keep(word(fact)),
            Some(Says::OfOneStay) => fact.relation.iter().flat_map(|relation| &relation.accounts).for_each(|pair| {
                self.note(&pair.from);
                self.note(&pair.into);
            }),
            None => {}
        }
    }

    /// Takes over those of another record.
    pub fn join(&mut self, other: &Self) {
        for word in &other.words {
            self.keep(word.clone());
        }
        for account in &other.of_stays {
            self.note(account);
        }
        self.merged.join(&other.merged);
    }

    fn note(&mut self, account: &VisitId) {
        if !self.of_stays.contains(account) {
            self.of_stays.push(account.clone());
        }
    }

    fn keep(&mut self, word: Fact) {
        let edges = if is_merge(&word) { &mut self.merged } else { &mut self.renumbered };
        for pair in word.relation.iter().flat_map(|relation| &relation.accounts) {
            edges.add(pair.from.clone(), pair.into.clone(), word.stamp);
        }
        match self.words.iter_mut().find(|known| known.hash == word.hash) {
            // Sent again: the first sending counts, whichever came first.
            Some(known) if known.stamp <= word.stamp => {}
            Some(known) => *known = word,
            None => self.words.push(word),
        }
    }

    /// Whether two numbers are of one account.
    pub fn are_one(&self, a: &VisitId, b: &VisitId) -> bool {
        a == b || self.renumbered.are_one(a, b)
    }

    /// Every number of an account, this one among them.
    fn numbers_of(&self, account: &VisitId) -> Vec<VisitId> {
        let mut numbers = vec![account.clone()];
        for edge in self.renumbered.iter() {
            for id in [&edge.from, &edge.into] {
                if !numbers.contains(id) && self.are_one(id, account) {
                    numbers.push(id.clone());
                }
            }
        }
        numbers
    }

    /// What was said of an account, and of those that it was merged with.
    pub fn words_of<'a>(&'a self, account: &'a VisitId) -> impl Iterator<Item = &'a Fact> {
        let mut tied = vec![account];
        let mut next = 0;
        while let Some(account) = tied.get(next).copied() {
            next += 1;
            for edge in self.merged.iter().filter(|edge| !edge.undone) {
                let ends = [&edge.from, &edge.into];
                if ends.into_iter().any(|end| self.are_one(end, account)) {
                    tied.extend(ends.into_iter().filter(|end| !tied.contains(end)).collect::<Vec<_>>());
                }
            }
        }
        let names = move |fact: &Fact| {
            let mut pairs = fact.relation.iter().flat_map(|relation| &relation.accounts);
            pairs.any(|pair| tied.iter().any(|account| self.are_one(&pair.from, account) || self.are_one(&pair.into, account)))
        };
        self.words.iter().filter(move |fact| !self.is_undone(fact) && names(fact))
    }

    /// Whether an operator took back what a word merged.
    fn is_undone(&self, word: &Fact) -> bool {
        let mut pairs = word.relation.iter().flat_map(|relation| &relation.accounts).filter(|_| is_merge(word));
        let is_undone = |pair: &Pair<VisitId>| {
            let mut edges = self.merged.iter().filter(|edge| edge.from == pair.from && edge.into == pair.into);
            edges.any(|edge| edge.undone && edge.stamp.recorded == word.stamp.recorded)
        };
        pairs.any(is_undone)
    }

    /// Takes back what a fact merged. Gives back whether any of it stood.
    pub fn undo(&mut self, fact: &Fact) -> bool {
        let mut stood = false;
        for pair in fact.relation.iter().flat_map(|relation| &relation.accounts).filter(|_| is_merge(fact)) {
            stood |= self.merged.undo(&pair.from, &pair.into, fact.stamp.recorded);
        }
        stood
    }

    /// The accounts of which anything was said, each with all its numbers.
    pub fn all(&self) -> Vec<Vec<VisitId>> {
        let mut accounts: Vec<Vec<VisitId>> = Vec::new();
        let pairs = self.words.iter().flat_map(|word| &word.relation).flat_map(|relation| &relation.accounts);
        for account in pairs.flat_map(|pair| [&pair.into, &pair.from]).chain(&self.of_stays) {
            if !accounts.iter().any(|numbers| numbers.contains(account)) {
                accounts.push(self.numbers_of(account));
            }
        }
        accounts
    }
}

fn is_merge(fact: &Fact) -> bool {
    fact.relation.as_ref().is_some_and(|relation| relation.kind == RelationKind::Account)
}

/// The hash under which a visit of an account has what a fact says of that.
pub fn hash_in_visits(fact: &Fact) -> FactHash {
    let mut hash = fact.hash;
    for byte in &mut hash.0 {
        *byte = !*byte;
    }
    hash
}

/// What a fact says of an account, and nothing else: it can be folded into any visit of the account, also into one that has the fact itself.
fn word(fact: &Fact) -> Fact {
    let relation = fact.relation.clone().map(|relation| Relation { visits: Vec::new(), ..relation });
    Fact {
        hash: hash_in_visits(fact),
        act: Act::Relate,
        visit: None,
        movement: None,
        occurred_at: None,
        other_ids: Vec::new(),
        person: PersonSaid::default(),
        stay: StaySaid::default(),
        relation,
        ..fact.clone()
    }
}
