//! Grants: an operator lets somebody into a room for some hours, and says why (break-glass).
//!
//! A grant is a ground like others, with an end of its own and no grace behind it. No message takes it away, but for three things that end it for good: the
//! room becomes another patient's, it is merged into another room, or it becomes very restricted. Whether they happened is told by when they were recorded,
//! so that it does not depend on what arrived first; what was recorded before the grant and comes later counts as long as it stands (a level: for good). A grant that was made
//! in a very restricted room names somebody for just that, and no level ends it.

use serde::Deserialize;
use serde::Serialize;

use crate::care::fact::Confidentiality;
use crate::care::identity::PatientRecord;
use crate::care::room::Ground;
use crate::care::roster::Roster;
use crate::care::visit::Stay;
use crate::care::visit::VisitState;
use crate::ids::JournalId;
use crate::ids::PatientId;
use crate::ids::Role;
use crate::ids::UserId;
use crate::phi::Phi;
use crate::phi::sealed_form;
use crate::time::Timestamp;

/// The rule of its ground, and the role that it gives.
const RULE: &str = "grant";
/// What its ground stands on: nothing that a message says is called so.
const FROM: &str = "operator";

/// Somebody is let into a room for some hours.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Grant {
    /// Its number, which stands where the grounds of messages have theirs.
    pub number: JournalId,
    /// Who.
    pub user: UserId,
    /// Whose room it was then.
    pub patient: PatientId,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// What was recorded up to here was known when it was made; a sender's clock may be ahead of ours.
    pub heard: Timestamp,
    /// Whether it was made in a very restricted room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_explicit: bool,
    /// Why, in the words of whoever made it.
    #[serde(with = "sealed_form")]
    pub reason: Phi<String>,
    /// The user of the operating system who made it.
    pub uid: u32,
    /// The name that their session goes by; a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
}

/// What the level of a room depends on, and has depended on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels<'a> {
    pub(super) level: Confidentiality,
    /// When a word about the person asked for the highest level last.
    pub(super) of_person: Option<Timestamp>,
    pub(super) stay: &'a Stay,
    pub(super) roster: &'a Roster,
}

impl Levels<'_> {
    /// Whether the room became very restricted by anything recorded after an instant, also where that was taken back.
    fn rose_after(&self, heard: Timestamp) -> bool {
        let said = self.of_person.max(self.stay.signals.highest_at());
        let was_in_part2 = |place| self.roster.unit(place).is_some_and(|unit| unit.flags.part2);
        said.is_some_and(|said| said > heard)
            || self.stay.milestones.iter().any(|one| one.stamp.recorded > heard && one.said.location.value().is_some_and(was_in_part2))
    }
}

impl Grant {
    /// Whether it stands in a room that is still its patient's.
    pub(super) fn stands(&self, levels: &Levels<'_>, now: Timestamp) -> bool {
        let is_shut_out = || levels.level == Confidentiality::VeryRestricted || levels.rose_after(self.heard);
        now < self.until && (self.is_explicit || !is_shut_out())
    }

    /// Whether it was given for this patient: it counts for nothing as long as nothing explains that the room shows another.
    pub fn is_for(&self, patient: &PatientId, record: &PatientRecord) -> bool {
        record.are_one(patient, &self.patient)
    }

    /// Whether the visit went over to another patient since it was given, also where it came back.
    pub fn is_left_behind(&self, state: &VisitState, record: &PatientRecord) -> bool {
        let went_to = |stamp| state.bindings().iter().find(|(_, since)| *since == stamp).map(|(patient, _)| patient);
        let mut moves = state.moves().iter().filter(|(from, moved)| moved.recorded > self.heard && self.is_for(from, record));
        moves.any(|(_, moved)| !went_to(*moved).is_some_and(|patient| self.is_for(patient, record)))
    }

    /// The ground that it is.
    pub(super) fn ground(&self) -> Ground {
        Ground { rule: role(), from: FROM.into(), message: self.number, since: self.since, until: Some(self.until) }
    }
}

/// The role of whoever is in a room on a grant.
pub(super) fn role() -> Role {
    Role::from(RULE)
}

impl Ground {
    /// Whether an operator gave it.
    pub fn is_granted(&self) -> bool {
        self.from == FROM
    }
}

#[cfg(test)]
mod tests;
