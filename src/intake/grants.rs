//! Grants: somebody is let into a room by an operator, or out of it again.
//!
//! A grant is kept with the room of a stay, and goes wherever that room goes. What it does is the plan's matter: here it is written down and taken away,
//! and it is seen to it that it ends with what it was given for. Whoever asked is written into the audit trail in the same commit, under the key of the
//! patient, because a reason may tell of them.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::fact::Confidentiality;
use crate::care::grant::Grant;
use crate::care::identity::PatientRecord;
use crate::care::room::Ground;
use crate::care::room::RoomStatus;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::ids::UserId;
use crate::intake::world::Need;
use crate::intake::world::Rules;
use crate::intake::world::World;
use crate::phi::Phi;
use crate::store::form::VisitDocument;
use crate::store::rows::AuditRow;
use crate::time::Timestamp;

/// The shortest time for which somebody may be let in.
pub(crate) const SHORTEST: Duration = Duration::from_hours(1);
/// The longest.
pub(crate) const LONGEST: Duration = Duration::from_hours(24);

/// Somebody is to be let into a room, or out of it.
#[derive(Clone, Debug)]
pub(crate) struct Letting {
    /// The row of the room's visit.
    pub(crate) visit: i64,
    pub(crate) room: CareRoomId,
    pub(crate) user: UserId,
    /// In, on these terms; out, where there are none.
    pub(crate) on: Option<Terms>,
    /// The row of the audit trail, for when it was done.
    pub(crate) audit: AuditRow,
}

/// On which terms somebody is let in, and by whom.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) span: Duration,
    pub(crate) reason: Phi<String>,
    pub(crate) uid: u32,
    pub(crate) login: Option<String>,
}

/// Why somebody was not let in, or not out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such room any more where it was.
    NoSuchRoom,
    /// Nobody is in a room of this status.
    NotOpen(RoomStatus),
    /// The staff directory does not know the user.
    UnknownUser,
    /// The staff directory says that the user is not active.
    Inactive,
    /// The user is the patient.
    OwnRoom,
    /// Not for so long, or so short.
    Length,
    /// Nobody let the user in, or that is over.
    NoGrant,
}

/// What was done, and in whose room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Let {
    /// The row of the patient.
    pub(crate) patient: i64,
    /// Until when the grant lasts, or would have.
    pub(crate) until: Timestamp,
}

impl World {
    /// Lets somebody into a room or out of it, and plans it again.
    pub(crate) fn let_in_or_out(&mut self, letting: &Letting, rules: &Rules<'_>) -> Result<Result<Let, Refusal>, Need> {
        let row = self.surviving_visit(letting.visit)?;
        let done = match &letting.on {
            Some(terms) => self.note_grant(row, letting, terms, rules)?,
            None => self.take_grant(row, letting, rules)?,
        };
        let done = match done {
            Ok(done) => done,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.replan_all(vec![row], &Cause::of(CauseKind::Operator), false, true, rules)?;
        if letting.on.is_some()
            && let Err(refusal) = self.is_let_in(row, letting)?
        {
            self.forget_grant(row, letting)?;
            return Ok(Err(refusal));
        }
        Ok(Ok(done))
    }

    fn note_grant(&mut self, row: i64, letting: &Letting, terms: &Terms, rules: &Rules<'_>) -> Result<Result<Let, Refusal>, Need> {
        if !(SHORTEST..=LONGEST).contains(&terms.span) {
            return Ok(Err(Refusal::Length));
        }
        let visit = self.visits.get(&row).ok_or(Need::Visit(row))?;
        let record = &self.patients.get(&visit.patient).ok_or(Need::Patient(visit.patient))?.record;
        let document = &visit.document;
        let Some(slot) = document.rooms.iter().find(|slot| slot.id == letting.room) else { return Ok(Err(Refusal::NoSuchRoom)) };
        let (Some(published), Some(patient)) = (&slot.published, document.whole().patient()) else { return Ok(Err(Refusal::NoSuchRoom)) };
        if !matches!(published.state.status, RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Grace) {
            return Ok(Err(Refusal::NotOpen(published.state.status)));
        }
        match rules.roster.staff_member(&letting.user) {
            Some(member) if !member.active => return Ok(Err(Refusal::Inactive)),
            None if !rules.roster.includes_unknown() => return Ok(Err(Refusal::UnknownUser)),
            Some(_) | None => {}
        }
        let said = document.merges.iter().map(|merge| merge.stamp.recorded).chain([document.whole().newest().recorded]);
        let heard = said.chain(record.person(patient).highest_at()).fold(rules.now, Timestamp::max);
        let until = rules.now.plus(terms.span);
        let grant = Grant {
            number: JournalId(rules.ids.next(rules.now)),
            user: letting.user.clone(),
            patient: record.resolve(patient).clone(),
            since: rules.now,
            until,
            heard,
            is_explicit: published.state.confidentiality == Confidentiality::VeryRestricted,
            reason: terms.reason.clone(),
            uid: terms.uid,
            login: terms.login.clone(),
        };
        let done = Let { patient: visit.patient, until };
        self.forget_grant(row, letting)?;
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        if let Some(slot) = visit.document.rooms.iter_mut().find(|slot| slot.id == letting.room) {
            slot.grants.push(grant);
            visit.is_dirty = true;
        }
        Ok(Ok(done))
    }

    fn take_grant(&mut self, row: i64, letting: &Letting, rules: &Rules<'_>) -> Result<Result<Let, Refusal>, Need> {
        let visit = self.visits.get(&row).ok_or(Need::Visit(row))?;
        let Some(slot) = visit.document.rooms.iter().find(|slot| slot.id == letting.room) else { return Ok(Err(Refusal::NoSuchRoom)) };
        let Some(grant) = slot.grants.iter().find(|grant| grant.user == letting.user && rules.now < grant.until) else {
            return Ok(Err(Refusal::NoGrant));
        };
        let done = Let { patient: visit.patient, until: grant.until };
        self.forget_grant(row, letting)?;
        Ok(Ok(done))
    }

    fn forget_grant(&mut self, row: i64, letting: &Letting) -> Result<(), Need> {
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        for slot in visit.document.rooms.iter_mut().filter(|slot| slot.id == letting.room) {
            visit.is_dirty |= slot.grants.extract_if(.., |grant| grant.user == letting.user).count() > 0;
        }
        Ok(())
    }

    /// Whether the room as it is published now has the user in it by a grant.
    fn is_let_in(&self, row: i64, letting: &Letting) -> Result<Result<(), Refusal>, Need> {
        let document = &self.visits.get(&row).ok_or(Need::Visit(row))?.document;
        let slot = document.rooms.iter().find(|slot| slot.id == letting.room);
        let Some(room) = slot.and_then(|slot| slot.published.as_ref()) else { return Ok(Err(Refusal::NoSuchRoom)) };
        let member = room.state.members.iter().find(|member| member.user == letting.user);
        if member.is_some_and(|member| member.grounds.iter().any(Ground::is_granted)) {
            return Ok(Ok(()));
        }
        Ok(match room.state.status {
            RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Grace => Err(Refusal::OwnRoom),
            status @ (RoomStatus::Expected
            | RoomStatus::Closed
            | RoomStatus::Cancelled
            | RoomStatus::Merged
            | RoomStatus::Held
            | RoomStatus::Purged) => Err(Refusal::NotOpen(status)),
        })
    }
}

/// Ends the grants of a visit whose time is over, or that went over to another patient or was merged into another since they were given. Gives back whether
/// any was ended.
pub(super) fn end_grants(document: &mut VisitDocument, record: &PatientRecord, now: Timestamp) -> bool {
    if document.rooms.iter().all(|slot| slot.grants.is_empty()) {
        return false;
    }
    let merges = document.merges.iter().filter(|merge| !merge.concluded && (merge.undone || document.is_merged_by(merge)));
    let merged_at = merges.map(|merge| merge.stamp.recorded).max();
    let mut rooms = std::mem::take(&mut document.rooms);
    let over = |grant: &mut Grant| {
        grant.until <= now || merged_at.is_some_and(|merged| merged > grant.heard) || grant.is_left_behind(document.whole(), record)
    };
    let n_ended: usize = rooms.iter_mut().map(|slot| slot.grants.extract_if(.., |grant| over(grant)).count()).sum();
    document.rooms = rooms;
    n_ended > 0
}
