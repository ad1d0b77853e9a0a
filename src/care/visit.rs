//! The visit: what stands after all facts about it, folded in the order in which they were recorded.
//!
//! [`VisitState::apply`] folds a fact that sorts last; anything that arrives late is folded again with the others in its place. The state keeps what a
//! later cancel may need (milestones and runs of values), so its size follows what happened and not how often it was said. It decides nothing about
//! rooms, and knows neither policy nor staff.

use serde::Deserialize;
use serde::Serialize;

use crate::care::account::Says;
use crate::care::fact::Act;
use crate::care::fact::Facet;
use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::RelationKind;
use crate::care::fact::Stamp;
use crate::care::identity::Edges;
use crate::care::owner;
use crate::ids::FeedName;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::time::Timestamp;

mod accounts;
mod cancel;
mod course;
mod stay;

pub use accounts::AccountsOfVisit;
pub use course::Course;
pub use course::CourseRules;
pub use course::Phase;
pub(crate) use stay::Milestone;
pub(crate) use stay::Signals;
pub(crate) use stay::StandingAssignment;
pub use stay::Stay;
pub(crate) use stay::Strikable;

/// A visit left an account for another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeftAccount {
    /// The account that it left.
    pub account: VisitId,
    /// The fact that said so.
    pub at: Stamp,
    /// Whether the visit had no number of its own before, and none was said to have become that one: it may be a new number of a known stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_first: bool,
}

/// A visit: its numbers, whose it is, and its stays.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct VisitState {
    /// The stays under this number, oldest first; more than one only where the number was used again.
    pub(crate) stays: Vec<Stay>,
    /// Every number the visit was named by, in the order of the facts; those that are only its account's behind the others.
    pub(crate) ids: Vec<VisitId>,
    /// How many of them are the visit's own.
    #[serde(default)]
    pub(crate) n_own_ids: usize,
    /// Which number became which.
    #[serde(default)]
    pub(crate) renames: Edges<VisitId>,
    /// Of which account it was, and when; a list of them, without when, in documents from before.
    #[serde(default, alias = "accounts")]
    pub(crate) of_accounts: AccountsOfVisit,
    /// The accounts that it was said to have left for another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left: Vec<LeftAccount>,
    /// To whom the visit was bound, by whom: the first fact, and every explicit move to another patient.
    pub(crate) bindings: Vec<(PatientId, Stamp)>,
    /// From whom explicit moves took the visit: what they were said to say of it before is believed whenever it comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) moved_from: Vec<(PatientId, Stamp)>,
    /// The facts recorded at the very time of the newest: the same one again, sent later, is none of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) newest_hashes: Vec<FactHash>,
    /// The facets whose owners have spoken, sorted: for these nobody else's word counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) owned: Vec<Facet>,
    /// The feeds that spoke of it, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) feeds: Vec<FeedName>,
    /// The newest fact folded.
    pub(crate) newest: Stamp,
    /// How many facts were folded.
    pub(crate) n_facts: u64,
    /// The numbers of its own that only moves and changes of numbers named it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) related: Vec<VisitId>,
    /// The first fact that named it by a number of its own; absent in documents from before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) named_since: Option<Stamp>,
    /// Whether a fact named it by a number of its own, wherever that stands among the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_numbered: bool,
}

/// Where a fact belongs among those already folded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placement {
    /// Behind all others: fold it onto the state.
    Last,
    /// Among them: fold all again.
    Among,
    /// Before the late window: it changes nothing.
    History,
}

impl VisitState {
    /// Folds facts in the order in which they were recorded. The law of the core: the order of the slice does not matter.
    pub fn fold<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Self {
        let mut sorted: Vec<&Fact> = facts.into_iter().collect();
        sorted.sort_by_key(|fact| fact.stamp);
        let mut seen = std::collections::HashSet::new();
        sorted.retain(|fact| seen.insert(fact.hash));
        let mut state = Self::default();
        for fact in &sorted {
            state.hear_owner(fact);
        }
        state.is_numbered = sorted.iter().any(|fact| names_a_number(fact));
        state.of_accounts = AccountsOfVisit::heard(sorted.iter().copied());
        for fact in sorted {
            state.apply_heard(fact);
        }
        state
    }

    /// Where a fact belongs among those already folded. `late_window` is how long before the newest a plain update still counts.
    pub fn placement(&self, fact: &Fact, late_window: std::time::Duration) -> Placement {
        // The first word of an owner makes history of what others said before.
        let is_news = fact.owns.iter().any(|facet| !self.owned.contains(facet));
        // The first account that it was named with was its account before that too, and may have been moved then.
        let is_news = is_news || (!self.moved_from.is_empty() && self.of_accounts.is_first_named_by(fact));
        // What names the account alone says whose the visit is only as long as nothing names the visit.
        let is_news = is_news || (!self.is_numbered && self.n_own_ids == 0 && !self.ids.is_empty() && names_a_number(fact));
        if self.n_facts == 0 || (fact.stamp > self.newest && !is_news) {
            Placement::Last
        } else if matches!(fact.act, Act::Update | Act::Track | Act::CancelTrack) && fact.stamp.recorded < self.newest.recorded.minus(late_window) {
            Placement::History
        } else {
            Placement::Among
        }
    }

    /// The number that counts now.
    pub fn id(&self) -> Option<&VisitId> {
        let first = self.ids.first()?;
        // What a move named is a number of its own, and what came before that is its account's.
        let id = self.related.first().filter(|_| self.n_own_ids == 0).unwrap_or(first);
        Some(self.renames.resolve(id))
    }

    /// Whose visit it is, before merges of patients are resolved.
    pub fn patient(&self) -> Option<&PatientId> {
        self.bindings.iter().max_by_key(|(_, stamp)| *stamp).map(|(patient, _)| patient)
    }

    /// From whom the visit was moved after an instant.
    pub fn moved_from_after(&self, stamp: Stamp) -> impl Iterator<Item = &PatientId> {
        self.moved_from.iter().filter(move |(_, moved)| *moved > stamp).map(|(patient, _)| patient)
    }

    /// From whom explicit moves took the visit.
    pub fn moves(&self) -> &[(PatientId, Stamp)] {
        &self.moved_from
    }

    /// Of which account it was, and when.
    pub const fn accounts(&self) -> &AccountsOfVisit {
        &self.of_accounts
    }

    /// The accounts that it was said to have left for another.
    pub fn left(&self) -> &[LeftAccount] {
        &self.left
    }

    /// Whether it had a number of its own before an instant, as far as is known.
    pub fn was_known_before(&self, recorded: Timestamp) -> bool {
        let named = || self.left.iter().find(|left| left.is_first).map(|left| left.at.recorded);
        let bound = || self.bindings.iter().map(|(_, since)| since.recorded).min();
        let known = self.named_since.map(|since| since.recorded).or_else(named).or_else(bound);
        self.has_own_number() && known.is_some_and(|known| known < recorded)
    }

    /// Whose visit it was at an instant; where nothing was said of it before, from whom it was moved next, or to whom it was bound next.
    pub fn patient_at(&self, recorded: Timestamp) -> Option<&PatientId> {
        let until = self.bindings.iter().filter(|(_, since)| since.recorded <= recorded).max_by_key(|(_, since)| *since);
        // From whom it was moved it was before, and what says so comes first.
        let next = || self.moved_from.iter().chain(&self.bindings).filter(|(_, since)| since.recorded > recorded).min_by_key(|(_, since)| *since);
        until.or_else(next).map(|(patient, _)| patient)
    }

    /// From whom the visit was moved next after an instant: whose it was then, as the move says.
    pub fn moved_next_from(&self, stamp: Stamp) -> Option<&PatientId> {
        self.moved_from.iter().filter(|(_, moved)| *moved > stamp).min_by_key(|(_, moved)| *moved).map(|(patient, _)| patient)
    }

    /// Everybody the visit was ever bound to, with the stamp of the binding.
    pub fn bindings(&self) -> &[(PatientId, Stamp)] {
        &self.bindings
    }

    /// Every number the visit was named by.
    pub fn ids(&self) -> &[VisitId] {
        &self.ids
    }

    /// Every number that it was named by, or that moves and changes of numbers named.
    pub fn numbers(&self) -> impl Iterator<Item = &VisitId> {
        self.ids.iter().chain(&self.related)
    }

    /// Whether a number is one of its own.
    pub fn is_own_number(&self, id: &VisitId) -> bool {
        self.ids.iter().take(self.n_own_ids).chain(&self.related).any(|own| own == id)
    }

    /// The first word that named it by a number of its own, as far as is known.
    pub fn named_since(&self) -> Stamp {
        self.named_since.unwrap_or_default()
    }

    /// Whether it was ever named by more than an account.
    pub const fn has_own_number(&self) -> bool {
        self.n_own_ids > 0 || !self.related.is_empty()
    }

    /// The feeds that spoke of it.
    pub fn feeds(&self) -> &[FeedName] {
        &self.feeds
    }

    /// Whether the fact is one of those recorded last, sent again.
    pub fn is_newest(&self, fact: &Fact) -> bool {
        fact.stamp.recorded == self.newest.recorded && self.newest_hashes.contains(&fact.hash)
    }

    /// How many facts were folded.
    pub const fn n_facts(&self) -> u64 {
        self.n_facts
    }

    /// The newest fact folded.
    pub const fn newest(&self) -> Stamp {
        self.newest
    }

    /// The stays, oldest first.
    pub fn stays(&self) -> &[Stay] {
        &self.stays
    }

    /// Folds a fact that sorts behind all others; one that is known already changes nothing.
    pub fn apply(&mut self, fact: &Fact) {
        if fact.stamp.recorded > self.newest.recorded {
            self.newest_hashes.clear();
        }
        if self.newest_hashes.contains(&fact.hash) {
            return;
        }
        self.hear_owner(fact);
        self.is_numbered |= names_a_number(fact);
        self.of_accounts.hear(fact);
        self.apply_heard(fact);
    }

    /// Whether a fact names the account alone of a visit that has a number of its own: that it is said of this one is a guess.
    fn is_guessed(&self, fact: &Fact) -> bool {
        self.is_numbered && fact.visit.as_ref().is_some_and(|visit| visit.is_account)
    }

    /// Folds a fact of which is known already who owns what it says, and what it says of accounts.
    fn apply_heard(&mut self, fact: &Fact) {
        if fact.stamp.recorded > self.newest.recorded {
            self.newest_hashes.clear();
        }
        self.newest_hashes.push(fact.hash);
        self.n_facts += 1;
        self.newest = self.newest.max(fact.stamp);
        if let Err(at) = self.feeds.binary_search(&fact.feed) {
            self.feeds.insert(at, fact.feed.clone());
        }
        self.name(fact);
        if fact.movement.as_ref().is_some_and(|movement| movement.historic) {
            return;
        }
        let opens = owner::counts(fact, Facet::Lifecycle, &self.owned);
        let heard = owner::heard(fact, &self.owned);
        let fact = &*heard;
        let begins_another = fact.act == Act::Open && self.stays.last().is_some_and(|stay| stay.number_is_used_again(fact));
        if self.stays.is_empty() || begins_another {
            self.stays.push(Stay::default());
        }
        if let Some(stay) = self.stays.last_mut() {
            stay.apply(fact, opens);
        }
    }

    fn hear_owner(&mut self, fact: &Fact) {
        for facet in &fact.owns {
            if let Err(at) = self.owned.binary_search(facet) {
                self.owned.insert(at, *facet);
            }
        }
    }

    /// Takes the numbers and the patient that the fact names.
    fn name(&mut self, fact: &Fact) {
        let is_new = !self.has_own_number();
        if let Some(visit) = &fact.visit {
            let known = self.ids.iter().position(|id| *id == visit.id);
            if !visit.is_account && known.is_none_or(|at| at >= self.n_own_ids) {
                // What was thought to be an account's number turns out to be the visit's own.
                self.ids.retain(|id| *id != visit.id);
                self.ids.insert(self.n_own_ids, visit.id.clone());
                self.n_own_ids += 1;
            } else if known.is_none() {
                self.ids.push(visit.id.clone());
            }
            if let Some(preadmit) = visit.preadmit.as_ref().filter(|preadmit| **preadmit != visit.id)
                && self.ids.contains(preadmit)
            {
                self.renames.add(preadmit.clone(), visit.id.clone(), fact.stamp);
            }
        }
        if let Some(relation) = &fact.relation {
            // A relation is folded into the visits it concerns and into no others.
            let renames = !matches!(relation.kind, RelationKind::Visit | RelationKind::Account) && !relation.kind.is_link();
            for pair in relation.visits.iter().chain(&relation.accounts).filter(|_| renames) {
                self.renames.add(pair.from.clone(), pair.into.clone(), fact.stamp);
            }
            for id in relation.visits.iter().filter(|_| renames).flat_map(|pair| [&pair.into, &pair.from]) {
                if !self.related.contains(id) {
                    self.related.push(id.clone());
                }
            }
            if relation.kind == RelationKind::AccountChange && Says::of(fact) == Some(Says::OfOneStay) {
                let is_first = is_new && relation.visits.is_empty();
                self.left.extend(relation.accounts.iter().map(|pair| LeftAccount { account: pair.from.clone(), at: fact.stamp, is_first }));
            }
        }
        if is_new && self.has_own_number() {
            self.named_since = Some(fact.stamp);
        }
        let names_it = fact.relation.as_ref().is_some_and(|relation| !relation.visits.is_empty());
        let is_moved = fact.relation.as_ref().is_some_and(|relation| {
            let moves = matches!(relation.kind, RelationKind::AccountMove | RelationKind::VisitMove) && !relation.patients.is_empty();
            // One that names no stay moves those that are of the account.
            moves && (names_it || self.of_accounts.go_along(fact))
        });
        if is_moved {
            // Where its account went before anything was said of the visit, the first word of it says whose it is since.
            if names_it || !self.bindings.is_empty() {
                self.bindings.retain(|(patient, stamp)| *stamp <= fact.stamp || *patient != fact.patient);
                self.bindings.push((fact.patient.clone(), fact.stamp));
            }
            let pairs = fact.relation.iter().flat_map(|relation| &relation.patients);
            self.moved_from.extend(pairs.map(|pair| (pair.from.clone(), fact.stamp)));
        } else if self.bindings.is_empty() && fact.act != Act::Relate && !self.is_guessed(fact) {
            self.bindings.push((fact.patient.clone(), fact.stamp));
        }
    }
}

/// Whether a fact names a visit by a number that is not its account's.
fn names_a_number(fact: &Fact) -> bool {
    fact.visit.as_ref().is_some_and(|visit| !visit.is_account)
}

#[cfg(test)]
mod tests;
