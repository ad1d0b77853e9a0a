//! Identity: which identifiers are one, and who the person behind them is.
//!
//! Merges, moves and changes of identifiers are edges from an old identifier to the one that counts; they are recorded also for ids never seen, so that
//! a message under an old id finds its way whenever it comes. Edges are resolved newest first, which makes chains and corrections come out the same in
//! any order of arrival. What was said of a person stays with the id it was said of, so that a wrong merge can be taken apart again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use compact_str::CompactString;
use serde::Deserialize;
use serde::Serialize;

use crate::care::account::Accounts;
use crate::care::fact::Assignment;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::Facet;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::PersonName;
use crate::care::fact::Practitioner;
use crate::care::fact::RelationKind;
use crate::care::fact::Stamp;
use crate::care::onward::EmergencyStays;
use crate::care::runs::Register;
use crate::care::visit::Signals;
use crate::ids::PatientId;
use crate::ids::StaffId;
use crate::phi::Phi;
use crate::time::Timestamp;

/// One identifier became another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Edge<T> {
    /// The old one.
    pub from: T,
    /// The one that counts.
    pub into: T,
    /// The fact that said so.
    pub stamp: Stamp,
    /// Whether an operator took it back; the same word again does not bring it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
}

impl<T: Eq> Edge<T> {
    /// Whether it is the word that was recorded at that time.
    fn says(&self, from: &T, into: &T, recorded: Timestamp) -> bool {
        self.from == *from && self.into == *into && self.stamp.recorded == recorded
    }
}

/// Edges between identifiers, resolved by union-find: newest first, and none that would close a circle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Edges<T> {
    /// All edges ever said, newest first.
    edges: Vec<Edge<T>>,
}

impl<T> Default for Edges<T> {
    fn default() -> Self {
        Self { edges: Vec::new() }
    }
}

impl<T: Clone + Eq> Edges<T> {
    /// Records an edge, whatever the order of arrival; the same word again changes nothing.
    pub fn add(&mut self, from: T, into: T, stamp: Stamp) {
        if from == into {
            return;
        }
        let mut undone = false;
        if let Some(at) = self.edges.iter().position(|edge| edge.says(&from, &into, stamp.recorded)) {
            // Sent again: the first sending counts, whichever came first.
            if self.edges.get(at).is_some_and(|edge| edge.stamp <= stamp) {
                return;
            }
            undone = self.edges.remove(at).undone;
        }
        self.insert(Edge { from, into, stamp, undone });
    }

    fn insert(&mut self, edge: Edge<T>) {
        let at = self.edges.partition_point(|other| other.stamp > edge.stamp);
        self.edges.insert(at, edge);
    }

    /// Takes an edge back that was recorded at a time. Gives back whether it stood.
    pub fn undo(&mut self, from: &T, into: &T, recorded: Timestamp) -> bool {
        let mut stood = false;
        for edge in self.edges.iter_mut().filter(|edge| edge.says(from, into, recorded)) {
            stood |= !edge.undone;
            edge.undone = true;
        }
        stood
    }

    /// Takes over the edges of another set.
    pub fn join(&mut self, other: &Self) {
        for edge in &other.edges {
            self.add(edge.from.clone(), edge.into.clone(), edge.stamp);
            if edge.undone {
                self.undo(&edge.from, &edge.into, edge.stamp.recorded);
            }
        }
    }

    /// The identifier that counts for this one.
    pub fn resolve<'a>(&'a self, id: &'a T) -> &'a T {
        if self.edges.is_empty() {
            return id;
        }
        let standing = self.standing();
        let mut at = id;
        while let Some(edge) = standing.iter().find(|edge| edge.from == *at) {
            at = &edge.into;
        }
        at
    }

    /// Whether both are the same after all edges.
    pub fn are_one(&self, a: &T, b: &T) -> bool {
        self.resolve(a) == self.resolve(b)
    }

    /// The edges that were said before an instant.
    pub fn before(&self, stamp: Stamp) -> Self {
        Self { edges: self.edges.iter().filter(|edge| edge.stamp < stamp).cloned().collect() }
    }

    /// The edge that stands from this identifier.
    pub fn outgoing(&self, id: &T) -> Option<&Edge<T>> {
        self.standing().into_iter().find(|edge| edge.from == *id)
    }

    /// The edges that stand: of each identifier the newest outgoing one that closes no circle with newer ones.
    fn standing(&self) -> Vec<&Edge<T>> {
        let mut standing: Vec<&Edge<T>> = Vec::with_capacity(self.edges.len());
        for edge in self.edges.iter().filter(|edge| !edge.undone) {
            let mut root = &edge.into;
            while let Some(next) = standing.iter().find(|other| other.from == *root) {
                root = &next.into;
            }
            if *root != edge.from && !standing.iter().any(|other| other.from == edge.from) {
                standing.push(edge);
            }
        }
        standing
    }

    /// All edges ever said, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Edge<T>> {
        self.edges.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }
}

/// What was said of a person under one patient id; of each facet the latest word counts.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Person {
    name: Option<Register<PersonName>>,
    birth_date: Option<Register<CompactString>>,
    sex: Option<Register<CompactString>>,
    deceased: Option<Register<bool>>,
    identity_unknown: Option<Register<bool>>,
    other_ids: Option<Register<Vec<PatientId>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    primary_care: Option<Register<Vec<Practitioner>>>,
    #[serde(default, skip_serializing_if = "Assignments::is_empty")]
    assignments: Assignments,
    pub(crate) signals: Signals,
}

/// ROL and PRT of a person; the latest word of each counts, and a list that names all ends what was said of others before it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Assignments {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    said: Vec<Register<Assignment>>,
    /// The newest list that named all, and whether it was its owner's.
    #[serde(default)]
    replaced: (bool, Option<Stamp>),
}

impl Assignments {
    const fn is_empty(&self) -> bool {
        self.said.is_empty() && self.replaced.1.is_none()
    }

    fn say(&mut self, said: &AssignmentsSaid, since: Stamp, owned: bool) {
        let list = match said {
            AssignmentsSaid::Keep => return,
            AssignmentsSaid::Snapshot(list) => {
                self.replaced = self.replaced.max((owned, Some(since)));
                list
            }
            AssignmentsSaid::Delta(list) => list,
        };
        for assignment in list {
            self.put(&Register { value: Some(assignment.clone()), since, owned });
        }
    }

    /// Of the same person in the same role the word that weighs more counts. Who is the same is told by the source and the first id.
    fn put(&mut self, new: &Register<Assignment>) {
        let key = |register: &Register<Assignment>| {
            register
                .value
                .as_ref()
                .map(|one| (one.source.clone(), one.person.ids.first().cloned(), one.person.ids.is_empty().then(|| one.person.clone())))
        };
        match self.said.iter_mut().find(|known| key(known) == key(new)) {
            Some(known) if known.weight() <= new.weight() => known.clone_from(new),
            Some(_) => {}
            None => self.said.push(new.clone()),
        }
        self.said.sort_by_cached_key(key);
    }

    fn join(&mut self, other: &Self) {
        self.replaced = self.replaced.max(other.replaced);
        other.said.iter().for_each(|register| self.put(register));
    }

    fn standing(&self) -> impl Iterator<Item = (&Assignment, Stamp)> {
        let stands = |register: &&Register<Assignment>| (register.owned, Some(register.since)) >= self.replaced;
        let here = self.said.iter().filter(stands).filter_map(|register| Some((register.value.as_ref()?, register.since)));
        here.filter(|(assignment, _)| !assignment.removed)
    }
}

impl Person {
    /// Takes what a fact says of the person, whatever the order of arrival.
    pub fn say(&mut self, fact: &Fact) {
        let (said, since) = (&fact.person, fact.stamp);
        let bare = |update: &FieldUpdate<Phi<CompactString>>| update.clone().map(Phi::into_inner);
        let owns = |facet| fact.owns.contains(&facet);
        let owns_identity = owns(Facet::Identity);
        Register::say_as(&mut self.name, &said.name, since, owns_identity);
        Register::say_as(&mut self.birth_date, &bare(&said.birth_date), since, owns_identity);
        Register::say_as(&mut self.sex, &bare(&said.sex), since, owns_identity);
        Register::say(&mut self.deceased, &said.deceased, since);
        Register::say(&mut self.identity_unknown, &said.identity_unknown, since);
        if !fact.other_ids.is_empty() {
            Register::hear(&mut self.other_ids, Some(&fact.other_ids), since, false);
        }
        let owns_team = owns(Facet::Team);
        Register::say_as(&mut self.primary_care, &said.primary_care, since, owns_team);
        self.assignments.say(&said.assignments, since, owns_team);
        self.signals.say(&said.signals, since, owns(Facet::Confidentiality));
    }

    /// Takes over what was said under the very same id: of each facet the latest word.
    fn learn(&mut self, other: &Self) {
        fn latest<T: Clone>(known: &mut Option<Register<T>>, other: Option<&Register<T>>) {
            if other.map(Register::weight) > known.as_ref().map(Register::weight) {
                *known = other.cloned();
            }
        }
        latest(&mut self.name, other.name.as_ref());
        latest(&mut self.birth_date, other.birth_date.as_ref());
        latest(&mut self.sex, other.sex.as_ref());
        latest(&mut self.deceased, other.deceased.as_ref());
        latest(&mut self.identity_unknown, other.identity_unknown.as_ref());
        latest(&mut self.other_ids, other.other_ids.as_ref());
        latest(&mut self.primary_care, other.primary_care.as_ref());
        self.assignments.join(&other.assignments);
        self.signals.join(&other.signals);
    }

    /// The same person seen through another record too: this record's word counts, the other fills what it leaves open; of signals the latest word.
    fn joined(mut self, other: &Self) -> Self {
        self.name = self.name.or_else(|| other.name.clone());
        self.birth_date = self.birth_date.or_else(|| other.birth_date.clone());
        self.sex = self.sex.or_else(|| other.sex.clone());
        self.deceased = self.deceased.or_else(|| other.deceased.clone());
        self.identity_unknown = self.identity_unknown.or_else(|| other.identity_unknown.clone());
        self.other_ids = self.other_ids.or_else(|| other.other_ids.clone());
        self.primary_care = self.primary_care.or_else(|| other.primary_care.clone());
        self.assignments.join(&other.assignments);
        self.signals.join(&other.signals);
        self
    }

    /// The name.
    pub fn name(&self) -> Option<&PersonName> {
        self.name.as_ref().and_then(|register| register.value.as_ref())
    }

    /// The birth date, ISO, of the precision that was sent.
    pub fn birth_date(&self) -> Option<&str> {
        self.birth_date.as_ref().and_then(|register| register.value.as_deref())
    }

    /// The sex.
    pub fn sex(&self) -> Option<&str> {
        self.sex.as_ref().and_then(|register| register.value.as_deref())
    }

    /// Whether the person has died.
    pub fn deceased(&self) -> bool {
        self.deceased.as_ref().and_then(|register| register.value).unwrap_or(false)
    }

    /// Whether nobody knows who the person is.
    pub fn identity_unknown(&self) -> bool {
        self.identity_unknown.as_ref().and_then(|register| register.value).unwrap_or(false)
    }

    /// When a word about the person asked for the highest level last.
    pub(crate) const fn highest_at(&self) -> Option<Timestamp> {
        self.signals.highest_at()
    }

    /// Those who treat the person outside (PD1-4), and who said so.
    pub(crate) fn primary_care(&self) -> Option<(&[Practitioner], Stamp)> {
        let register = self.primary_care.as_ref()?;
        Some((register.value.as_deref()?, register.since))
    }

    /// The ROL and PRT of the person that stand, and who said each last.
    pub(crate) fn assignments(&self) -> impl Iterator<Item = (&Assignment, Stamp)> {
        self.assignments.standing()
    }

    /// The person's ids as a member of staff might have them.
    pub fn staff_ids(&self) -> impl Iterator<Item = StaffId> {
        let ids = self.other_ids.as_ref().and_then(|register| register.value.as_deref()).unwrap_or_default();
        ids.iter().filter(|id| id.0.id_type == "EI").map(|PatientId(id)| StaffId::new(id.authority.as_str(), &id.id_type, id.value.as_str()))
    }
}

/// A patient's record: every identifier that was ever said to be of the same person, or that shares a visit moved between persons.
///
/// It is the unit in which changes are serialised. It may hold more than one person: after a visit was moved, or a merge undone.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PatientRecord {
    /// What was said, by the id it was said of; as a list, because a document's keys are text.
    #[serde(with = "as_pairs")]
    persons: BTreeMap<PatientId, Person>,
    /// Merges and changes of patient ids.
    aliases: Edges<PatientId>,
    /// Accounts that were renumbered or went over to another patient.
    #[serde(default, skip_serializing_if = "Accounts::is_empty")]
    accounts: Accounts,
    /// Emergency stays that ended: an inpatient stay may go on from one.
    #[serde(default, skip_serializing_if = "EmergencyStays::is_empty")]
    pub(crate) emergencies: EmergencyStays,
    /// When something was said of them last, as it was recorded; never later than it came.
    #[serde(default, skip_serializing_if = "is_never")]
    heard: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_never(at: &Timestamp) -> bool {
    *at == Timestamp::default()
}

mod as_pairs {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;

    use super::Person;
    use crate::ids::PatientId;

    pub(super) fn serialize<S: Serializer>(persons: &BTreeMap<PatientId, Person>, serializer: S) -> Result<S::Ok, S::Error> {
        persons.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<PatientId, Person>, D::Error> {
        Ok(Vec::<(PatientId, Person)>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl PatientRecord {
    /// Takes what a fact says of persons and their identifiers, whatever the order of arrival.
    pub fn say(&mut self, fact: &Fact) {
        self.heard = self.heard.max(fact.stamp.recorded.min(fact.stamp.arrival.at()));
        self.persons.entry(fact.patient.clone()).or_default().say(fact);
        // A link leaves both persons as they are.
        let Some(relation) = fact.relation.as_ref().filter(|relation| !relation.kind.is_link()) else { return };
        self.accounts.hear(fact);
        for pair in &relation.patients {
            self.persons.entry(pair.from.clone()).or_default();
            self.persons.entry(pair.into.clone()).or_default();
            if matches!(relation.kind, RelationKind::Patient | RelationKind::PatientIdChange) {
                self.aliases.add(pair.from.clone(), pair.into.clone(), fact.stamp);
            }
        }
    }

    /// Takes over another record: the two have become one.
    pub fn absorb(&mut self, other: &Self) {
        for (id, person) in &other.persons {
            let known = self.persons.entry(id.clone()).or_default();
            known.learn(person);
        }
        self.aliases.join(&other.aliases);
        self.heard = self.heard.max(other.heard);
        self.emergencies.join(&other.emergencies);
        self.accounts.join(&other.accounts);
    }

    /// Takes back what a fact merged. Gives back whether any of it stood.
    pub fn undo(&mut self, fact: &Fact) -> bool {
        let mut stood = false;
        for pair in fact.relation.iter().flat_map(|relation| &relation.patients) {
            stood |= self.aliases.undo(&pair.from, &pair.into, fact.stamp.recorded);
        }
        stood |= self.accounts.undo(fact);
        stood
    }

    /// When something was said of them last.
    pub const fn heard(&self) -> Timestamp {
        self.heard
    }

    /// What is known of accounts.
    pub const fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The patient id that counts for this one.
    pub fn resolve<'a>(&'a self, id: &'a PatientId) -> &'a PatientId {
        self.aliases.resolve(id)
    }

    /// Whether both ids are of one person.
    pub fn are_one(&self, a: &PatientId, b: &PatientId) -> bool {
        self.aliases.are_one(a, b)
    }

    /// The person behind an id, with what was said of them under the ids merged into it.
    pub fn person(&self, id: &PatientId) -> Cow<'_, Person> {
        let root = self.resolve(id);
        let own = self.persons.get(root).map_or_else(Cow::default, Cow::Borrowed);
        let others = self.persons.iter().filter(|(other, _)| *other != root && self.resolve(other) == root);
        others.fold(own, |person, (_, other)| Cow::Owned(person.into_owned().joined(other)))
    }

    /// Whether a fact comes under an id that was merged away, and says the name and birth date that this id had of its own and the survivor has not.
    pub fn denies_its_merge(&self, fact: &Fact) -> bool {
        // What was recorded before a merge and comes late denies nothing.
        let before = self.aliases.before(fact.stamp);
        let root = before.resolve(&fact.patient);
        let (Some(own), Some(survivor)) = (self.persons.get(&fact.patient), self.persons.get(root)) else { return false };
        let (Some(name), Some(birth_date)) = (fact.person.name.value(), fact.person.birth_date.value()) else { return false };
        // What the survivor was called only later is no ground for doubt either.
        let is_newer = |since: Option<Stamp>| since.is_some_and(|since| since > fact.stamp);
        if is_newer(survivor.name.as_ref().map(|name| name.since)) || is_newer(survivor.birth_date.as_ref().map(|date| date.since)) {
            return false;
        }
        let is_own = own.name() == Some(name) && own.birth_date() == Some(birth_date.as_str());
        let is_others = survivor.name().is_some_and(|other| other != name) && survivor.birth_date().is_some_and(|other| other != birth_date.as_str());
        *root != fact.patient && is_own && is_others
    }

    /// Every id of the record.
    pub fn ids(&self) -> impl Iterator<Item = &PatientId> {
        self.persons.keys()
    }

    /// What was merged or changed.
    pub const fn aliases(&self) -> &Edges<PatientId> {
        &self.aliases
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::Assignments;
    use crate::care::fact::Assignment;
    use crate::care::fact::AssignmentsSaid;
    use crate::care::fact::FieldRef;
    use crate::care::fact::Practitioner;
    use crate::care::fact::Stamp;
    use crate::ids::JournalId;
    use crate::ids::StaffId;
    use crate::time::Timestamp;

    fn of(doctor: &str, removed: bool) -> Assignment {
        let person = Practitioner { ids: smallvec![StaffId::new("GHH", "EI", doctor)], ..Practitioner::default() };
        let (source, from) = ("ROL:PP".to_owned(), FieldRef::new("ROL-4"));
        Assignment { source: source.into(), role: None, from, person, begins_at: None, ends_at: None, removed }
    }

    #[test]
    fn assignments_of_a_person_stand_the_same_in_any_order() {
        let said = [
            (1, AssignmentsSaid::Snapshot(vec![of("d1", false), of("d2", false)])),
            (2, AssignmentsSaid::Delta(vec![of("d2", true), of("d3", false)])),
            (3, AssignmentsSaid::Snapshot(vec![of("d3", false), of("d4", false)])),
            (4, AssignmentsSaid::Delta(vec![of("d4", true), of("d1", false)])),
        ];
        for turn in 0..said.len() {
            for backwards in [false, true] {
                let mut told: Vec<_> = said.iter().cycle().skip(turn).take(said.len()).collect();
                if backwards {
                    told.reverse();
                }
                let mut assignments = Assignments::default();
                for (second, said) in told {
                    let at = Timestamp::from_micros(second * 1_000_000);
                    assignments.say(said, Stamp { recorded: at, sent: at, arrival: JournalId(0) }, false);
                }
                let standing: Vec<&str> = assignments.standing().map(|(one, _)| one.person.ids[0].value.as_str()).collect();
                assert_eq!(standing, ["d1", "d3"], "{turn} {backwards}");
            }
        }
    }
}
