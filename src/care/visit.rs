//! The visit: what stands after all facts about it, folded in the order in which they were recorded.
//!
//! [`VisitState::apply`] folds a fact that sorts last; anything that arrives late is folded again with the others in its place. The state keeps what a
//! later cancel may need (milestones and runs of values), so its size follows what happened and not how often it was said. It decides nothing about
//! rooms, and knows neither policy nor staff.

use serde::Deserialize;
use serde::Serialize;

use crate::care::account::Says;
use crate::care::fact::Act;
use crate::care::fact::Assignment;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::BedLocation;
use crate::care::fact::Facet;
use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Practitioner;
use crate::care::fact::RelationKind;
use crate::care::fact::Restriction;
use crate::care::fact::SignalSource;
use crate::care::fact::SignalsSaid;
use crate::care::fact::Stamp;
use crate::care::fact::StaySaid;
use crate::care::identity::Edges;
use crate::care::owner;
use crate::care::runs::Register;
use crate::care::runs::Runs;
use crate::ids::FeedName;
use crate::ids::HospitalService;
use crate::ids::PatientClass;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::phi::Phi;
use crate::phi::sealed_form;
use crate::time::Timestamp;

mod accounts;
mod cancel;
mod course;

pub use accounts::AccountsOfVisit;
pub use course::Course;
pub use course::CourseRules;
pub use course::Phase;

/// How long after an A02 an update that still names the place before it is taken for a straggler.
const STRAGGLER: std::time::Duration = std::time::Duration::from_mins(5);

/// What a fact said that a strike takes back: place, class, service, doctors, times.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Strikable {
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) class: FieldUpdate<PatientClass>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) location: FieldUpdate<BedLocation>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) service: FieldUpdate<HospitalService>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) attending: FieldUpdate<Practitioner>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) referring: FieldUpdate<Practitioner>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) consulting: FieldUpdate<Vec<Practitioner>>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) admitting: FieldUpdate<Practitioner>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) others: FieldUpdate<Vec<Practitioner>>,
    #[serde(default, skip_serializing_if = "FieldUpdate::is_keep")]
    pub(crate) discharged_at: FieldUpdate<Timestamp>,
}

/// An opening, a move, an end, a leave or a change of providers: what a cancel can name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Milestone {
    pub(crate) act: Act,
    pub(crate) stamp: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) occurred_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) movement: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prior_location: Option<BedLocation>,
    #[serde(default)]
    pub(crate) said: Strikable,
    /// On an opening: the end of its day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) day_ends: Option<Timestamp>,
    /// On an opening: whether it may open again what has ended (its time is the sender's own).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) reopens: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) struck: bool,
}

/// An assignment that stands, and who said it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct StandingAssignment {
    pub(crate) assignment: Assignment,
    /// The fact that said it first.
    pub(crate) since: Stamp,
    /// The fact that said it last.
    pub(crate) restated: Stamp,
}

/// The signals that were said at one level; the latest word of each counts and nothing is struck.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Signals {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    said: Vec<(SignalSource, Register<Restriction>)>,
    /// The newest fact that named all access restrictions there are: what was said of others before it is over, also where it arrives later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<Stamp>,
    /// Whether that was the word of the feed whose word counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    replaced_by_owner: bool,
}

impl Signals {
    /// Takes what a fact says, whatever the order of arrival.
    pub(crate) fn say(&mut self, said: &SignalsSaid, since: Stamp, owned: bool) {
        if said.replaces_access_restrictions {
            self.replace((owned, Some(since)));
        }
        for signal in &said.said {
            let at = self.said.partition_point(|(source, _)| *source < signal.source);
            if self.said.get(at).is_none_or(|(source, _)| *source != signal.source) {
                self.said.insert(at, (signal.source.clone(), Register { value: None, since: Stamp::default(), owned: false }));
            }
            if let Some((_, register)) = self.said.get_mut(at).filter(|(_, register)| register.weight() <= (owned, since)) {
                *register = Register { value: signal.update.value().copied(), since, owned };
            }
        }
    }

    fn replace(&mut self, by: (bool, Option<Stamp>)) {
        (self.replaced_by_owner, self.replaced) = by.max((self.replaced_by_owner, self.replaced));
    }

    /// Takes over the signals of another record of the same person: of each the latest word.
    pub(crate) fn join(&mut self, other: &Self) {
        for (source, register) in &other.said {
            match self.said.iter_mut().find(|(known, _)| known == source) {
                Some((_, known)) if known.weight() < register.weight() => known.clone_from(register),
                Some(_) => {}
                None => self.said.push((source.clone(), register.clone())),
            }
        }
        self.said.sort_by(|a, b| a.0.cmp(&b.0));
        self.replace((other.replaced_by_owner, other.replaced));
    }

    /// What stands.
    pub(crate) fn standing(&self) -> impl Iterator<Item = &Restriction> {
        let over = |source: &SignalSource, register: &Register<Restriction>| {
            let is_older = (register.owned, Some(register.since)) < (self.replaced_by_owner, self.replaced);
            matches!(source, SignalSource::AccessRestriction(_)) && self.replaced.is_some() && is_older
        };
        self.said.iter().filter(move |(source, register)| !over(source, register)).filter_map(|(_, register)| register.value.as_ref())
    }
}

/// One stay: from an opening to an end. A visit number that is used again begins another.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stay {
    pub(crate) milestones: Vec<Milestone>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) class: Runs<PatientClass>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) location: Runs<BedLocation>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) service: Runs<HospitalService>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) attending: Runs<Practitioner>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) referring: Runs<Practitioner>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) consulting: Runs<Vec<Practitioner>>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) admitting: Runs<Practitioner>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) others: Runs<Vec<Practitioner>>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) admitted_at: Runs<Timestamp>,
    #[serde(default, skip_serializing_if = "Runs::is_empty")]
    pub(crate) discharged_at: Runs<Timestamp>,
    /// Discharge times that a cancel took back: one that is said again never ends the stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) struck_discharges: Vec<Timestamp>,
    /// A move that was charted late; the same place said again is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) charted_late: Option<BedLocation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) assignments: Vec<StandingAssignment>,
    #[serde(default)]
    pub(crate) signals: Signals,
    /// What must be said to whoever sees anything of it, in the order in which it was said first.
    #[serde(default, skip_serializing_if = "Phi::<Vec<String>>::is_empty", with = "sealed_form")]
    pub(crate) instructions: Phi<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) whereabouts: Option<Register<BedLocation>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) planned_move: Option<Register<bool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) planned_end: Option<Register<bool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected_at: Option<Register<Timestamp>>,
    /// The newest fact of the stay.
    pub(crate) newest: Stamp,
}

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

impl Stay {
    /// Whether an opening under the number of an ended stay begins another: it says it began after this one ended.
    fn number_is_used_again(&self, fact: &Fact) -> bool {
        let Some(admitted) = fact.stay.admitted_at.value() else { return false };
        let course = self.course(fact.stamp.recorded, &CourseRules::default());
        let ended = self.discharged_at.standing().copied().or_else(|| course.ended.map(|end| end.recorded));
        course.phase == Phase::Ended && ended.is_some_and(|ended| *admitted > ended) && self.admitted_at.standing() != Some(admitted)
    }

    /// Where the patient is.
    pub fn place(&self) -> Option<&BedLocation> {
        self.location.standing()
    }

    /// Whether something happened to the stay that only happens to somebody in a bed.
    pub fn was_in_a_bed(&self) -> bool {
        self.milestones.iter().any(|milestone| !milestone.struck && matches!(milestone.act, Act::Move | Act::CancelEnd))
    }

    /// When the beginning was recorded, as far as anything that stands tells.
    pub fn began(&self) -> Option<Timestamp> {
        self.milestones.iter().find(|milestone| !milestone.struck && milestone.act != Act::Expect).map(|milestone| milestone.stamp.recorded)
    }

    /// Every place the patient was in.
    pub fn places(&self) -> impl Iterator<Item = &BedLocation> + Clone {
        self.location.values()
    }

    /// The class that stands.
    pub fn class(&self) -> Option<&PatientClass> {
        self.class.standing()
    }

    /// When the stay ended, as the feed says.
    pub fn discharged(&self) -> Option<Timestamp> {
        self.discharged_at.standing().copied()
    }

    /// Whether a fact that names no visit speaks of another stay: it says another beginning, or another class.
    pub fn contradicts(&self, fact: &Fact) -> bool {
        let differs = |a: Option<&Timestamp>, b: Option<&Timestamp>| a.zip(b).is_some_and(|(a, b)| a != b);
        let class = fact.stay.class.value().zip(self.class.standing()).is_some_and(|(a, b)| a != b);
        differs(fact.stay.admitted_at.value(), self.admitted_at.standing()) || (class && fact.act != Act::Reclassify)
    }

    /// `opens` is whether the fact's word counts for whether the stay has begun.
    fn apply(&mut self, fact: &Fact, opens: bool) {
        self.newest = self.newest.max(fact.stamp);
        self.signals.say(&fact.stay.signals, fact.stamp, false);
        self.instruct(fact.stay.instructions.expose());
        match fact.act {
            Act::CancelOpen
            | Act::CancelMove
            | Act::CancelEnd
            | Act::CancelExpect
            | Act::CancelLeave
            | Act::CancelReturn
            | Act::CancelChangeProviders => self.cancel(fact),
            Act::Track | Act::CancelTrack => {
                let whereabouts = self.whereabouts_after(fact);
                Register::say(&mut self.whereabouts, &whereabouts, fact.stamp);
            }
            Act::PlanMove => Register::say(&mut self.planned_move, &FieldUpdate::Set(true), fact.stamp),
            Act::CancelPlanMove => Register::say(&mut self.planned_move, &FieldUpdate::Clear, fact.stamp),
            Act::PlanEnd => Register::say(&mut self.planned_end, &FieldUpdate::Set(true), fact.stamp),
            Act::CancelPlanEnd => Register::say(&mut self.planned_end, &FieldUpdate::Clear, fact.stamp),
            Act::Person | Act::Relate | Act::DeleteVisit | Act::DeletePerson => {}
            Act::End if self.ends_the_emergency_part_only(fact) => {}
            Act::Open | Act::Reclassify | Act::Expect | Act::Move | Act::End | Act::Update | Act::Leave | Act::Return | Act::ChangeProviders => {
                self.take(fact, opens);
            }
        }
    }

    fn instruct(&mut self, said: &[String]) {
        let mut known = std::mem::take(&mut self.instructions).into_inner();
        known.extend(said.iter().filter(|text| !known.contains(text)).cloned().collect::<Vec<_>>());
        self.instructions = Phi::new(known);
    }

    /// An A03 of class E while the patient is an inpatient ends the emergency part, not the stay.
    fn ends_the_emergency_part_only(&self, fact: &Fact) -> bool {
        let emergency = fact.stay.class.value().is_some_and(|class| class.as_str() == "E");
        emergency && self.class.standing().is_some_and(|class| class.as_str() == "I")
    }

    /// Where the patient is for a while, after a tracking fact: nowhere special once the place named is the bed itself.
    fn whereabouts_after(&self, fact: &Fact) -> FieldUpdate<BedLocation> {
        match (&fact.act, &fact.stay.whereabouts) {
            (_, FieldUpdate::Set(place)) if Some(place) == self.location.standing() => FieldUpdate::Clear,
            (_, FieldUpdate::Set(place)) => FieldUpdate::Set(place.clone()),
            (_, FieldUpdate::Clear) | (Act::CancelTrack, FieldUpdate::Keep) => FieldUpdate::Clear,
            (_, FieldUpdate::Keep) => FieldUpdate::Keep,
        }
    }

    /// Takes everything an ordinary fact says, and notes it as a milestone where a cancel could name it.
    fn take(&mut self, fact: &Fact, opens: bool) {
        let said = &fact.stay;
        let location = self.location_said(fact);
        let adopts = opens && fact.act == Act::Update && self.milestones.iter().all(|milestone| milestone.struck) && self.looks_begun(fact);
        if fact.act != Act::Update || adopts {
            self.milestones.push(Milestone {
                act: fact.act,
                stamp: fact.stamp,
                occurred_at: fact.occurred_at,
                movement: fact.movement.as_ref().map(|movement| movement.ids.clone()).unwrap_or_default(),
                prior_location: said.prior_location.clone(),
                said: strikable(said, location.clone()),
                day_ends: said.day_ends,
                reopens: fact.act == Act::Open && fact.recorded_by_sender,
                struck: false,
            });
        }
        self.class.say(&said.class, fact.stamp, None);
        self.location.say(&location, fact.stamp, fact.occurred_at);
        self.service.say(&said.service, fact.stamp, None);
        self.say_providers(fact);
        self.admitted_at.say(&said.admitted_at, fact.stamp, None);
        self.discharged_at.say(&said.discharged_at, fact.stamp, None);
        if let Some(at) = said.expected_at {
            Register::say(&mut self.expected_at, &FieldUpdate::Set(at), fact.stamp);
        }
        if matches!(fact.act, Act::Move) {
            Register::say(&mut self.planned_move, &FieldUpdate::Clear, fact.stamp);
            Register::say(&mut self.whereabouts, &FieldUpdate::Clear, fact.stamp);
        }
    }

    /// Takes the named clinicians.
    fn say_providers(&mut self, fact: &Fact) {
        let said = &fact.stay;
        self.attending.say(&said.attending, fact.stamp, None);
        self.referring.say(&said.referring, fact.stamp, None);
        self.admitting.say(&said.admitting, fact.stamp, None);
        self.others.say(&said.others, fact.stamp, None);
        match (&said.consulting, self.consulting.standing()) {
            (FieldUpdate::Set(new), Some(standing)) if said.consulting_adds => {
                let mut all = standing.clone();
                all.extend(new.iter().filter(|person| !standing.contains(person)).cloned());
                self.consulting.say(&FieldUpdate::Set(all), fact.stamp, None);
            }
            _ => self.consulting.say(&said.consulting, fact.stamp, None),
        }
        self.assign(&said.assignments, fact);
    }

    /// Whether an update tells of a stay that has begun and not ended, so that it may stand for an opening nobody sent us.
    fn looks_begun(&self, fact: &Fact) -> bool {
        let begun = fact.stay.admitted_at.value().or_else(|| self.admitted_at.standing()).is_some();
        let ended = fact.stay.discharged_at.value().or_else(|| self.discharged_at.standing()).is_some();
        begun && !ended
    }

    /// What the fact says of the place, after the rules for stragglers, beds left out, and movements charted late.
    fn location_said(&mut self, fact: &Fact) -> FieldUpdate<BedLocation> {
        let FieldUpdate::Set(place) = &fact.stay.location else { return fact.stay.location.clone() };
        let Some(standing) = self.location.last() else { return fact.stay.location.clone() };
        let Some(current) = &standing.value else { return fact.stay.location.clone() };
        if current.same_unit(place) && place.room.is_empty() && place.bed.is_empty() {
            return FieldUpdate::Keep;
        }
        if fact.act == Act::Update && current != place {
            let straggler = self.milestones.iter().rev().find(|milestone| !milestone.struck && milestone.act == Act::Move).is_some_and(|milestone| {
                milestone.prior_location.as_ref() == Some(place) && fact.stamp.recorded.since(milestone.stamp.recorded) < STRAGGLER
            });
            if straggler {
                return FieldUpdate::Keep;
            }
        }
        let occurred_before = fact.occurred_at.zip(standing.occurred_at).is_some_and(|(occurred, standing)| occurred < standing);
        if fact.act == Act::Move && occurred_before && current != place && self.charted_late.as_ref() != Some(place) {
            self.charted_late = Some(place.clone());
            return FieldUpdate::Keep;
        }
        fact.stay.location.clone()
    }

    fn assign(&mut self, said: &AssignmentsSaid, fact: &Fact) {
        let (list, replaces) = match said {
            AssignmentsSaid::Keep => return,
            AssignmentsSaid::Snapshot(list) => (list, true),
            AssignmentsSaid::Delta(list) => (list, false),
        };
        let stamp = fact.stamp;
        // A change of providers tells of the roles it names and of no others.
        let names_all = !matches!(fact.act, Act::ChangeProviders | Act::CancelChangeProviders);
        let mut standing = std::mem::take(&mut self.assignments);
        let mut next: Vec<StandingAssignment> = Vec::with_capacity(list.len());
        for assignment in list {
            let known = standing.iter().position(|known| same_assignment(&known.assignment, assignment));
            let known = known.map(|index| standing.remove(index));
            if !assignment.removed {
                let since = known.map_or(stamp, |known| known.since);
                next.push(StandingAssignment { assignment: assignment.clone(), since, restated: stamp });
            }
        }
        standing.retain(|known| !replaces || !(names_all || list.iter().any(|named| named.source == known.assignment.source)));
        standing.append(&mut next);
        let next = standing;
        self.assignments = next;
    }
}

/// Whether a fact names a visit by a number that is not its account's.
fn names_a_number(fact: &Fact) -> bool {
    fact.visit.as_ref().is_some_and(|visit| !visit.is_account)
}

/// Whether two segments speak of the same person in the same role.
fn same_assignment(a: &Assignment, b: &Assignment) -> bool {
    let same_person = if a.person.ids.is_empty() || b.person.ids.is_empty() {
        a.person == b.person
    } else {
        a.person.ids.iter().any(|id| b.person.ids.contains(id))
    };
    a.source == b.source && same_person
}

fn strikable(said: &StaySaid, location: FieldUpdate<BedLocation>) -> Strikable {
    Strikable {
        class: said.class.clone(),
        location,
        service: said.service.clone(),
        attending: said.attending.clone(),
        referring: said.referring.clone(),
        consulting: said.consulting.clone(),
        admitting: said.admitting.clone(),
        others: said.others.clone(),
        discharged_at: said.discharged_at.clone(),
    }
}

#[cfg(test)]
mod tests;
