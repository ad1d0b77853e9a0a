//! The difference between a room as it was published last and as it should be now.
//!
//! No difference, no event: repeated messages, replays and rewritten plans publish nothing. A room that was never published and is already over is not
//! published at all.

use std::collections::BTreeMap;

use crate::care::change::Change;
use crate::care::change::EventType;
use crate::care::change::RoomNotice;
use crate::care::change::RoomNoticeCode;
use crate::care::room::Coverage;
use crate::care::room::Flag;
use crate::care::room::Ground;
use crate::care::room::Member;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::ids::Role;
use crate::ids::UserId;
use crate::phi::Phi;
use crate::time::Timestamp;

/// What changed, and the event that is named by it.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The heaviest change.
    pub event_type: EventType,
    /// Everything that changed.
    pub changes: Vec<Change>,
}

/// Compares a room as published with its target. `rehomed` says that an explicit move brought the room to another patient.
pub fn diff(before: Option<&RoomState>, after: &RoomState, rehomed: bool) -> Option<Difference> {
    let mut changes = Vec::new();
    let mut event_type = EventType::MembersChanged;
    let mut name_it = |candidate: EventType, is: bool| {
        if is && candidate < event_type {
            event_type = candidate;
        }
    };
    let Some(before) = before else {
        if matches!(after.status, RoomStatus::Closed | RoomStatus::Cancelled | RoomStatus::Merged | RoomStatus::Purged) {
            return None;
        }
        changes.push(Change::Status { from: None, to: after.status });
        changes.extend(after.members.iter().map(|member| Change::Joined { user: member.user.clone(), rule: first_rule(member) }));
        name_it(EventType::Opened, true);
        name_it(EventType::Closing, after.status == RoomStatus::Grace);
        return Some(Difference { event_type, changes });
    };
    if before.status == RoomStatus::Cancelled && after.status == RoomStatus::Cancelled {
        // Nobody looks at a stay that was an error; what is still said of it changes nothing for anyone.
        return None;
    }
    if before.status != after.status {
        changes.push(Change::Status { from: Some(before.status), to: after.status });
        name_it(status_event(before.status, after.status), true);
    }
    if before.patient != after.patient || before.flags != after.flags {
        let moved = rehomed && before.patient.id != after.patient.id;
        changes.push(if moved { Change::Rehomed } else { Change::Patient });
        name_it(if moved { EventType::Rehomed } else { EventType::Updated }, true);
    }
    if before.merged_into != after.merged_into {
        changes.push(Change::Merged);
        name_it(EventType::Merged, after.merged_into.is_some());
        name_it(EventType::Updated, true);
    }
    if before.location != after.location || before.whereabouts != after.whereabouts {
        changes.push(Change::Location { from: before.location.clone().map(Box::new), to: after.location.clone().map(Box::new) });
    }
    if before.name != after.name {
        changes.push(Change::Name { from: Some(before.name.clone()), to: after.name.clone() });
    }
    if before.visit.class != after.visit.class {
        changes.push(Change::Class { from: before.visit.class.clone(), to: after.visit.class.clone() });
    }
    if before.confidentiality != after.confidentiality {
        changes.push(Change::Confidentiality { from: before.confidentiality, to: after.confidentiality });
    }
    let visit_changed = before.visit.id != after.visit.id
        || before.visit.service != after.visit.service
        || before.visit.admitted_at != after.visit.admitted_at
        || before.visit.discharged_at != after.visit.discharged_at
        || before.facility != after.facility
        || before.closes_at != after.closes_at
        || before.continues != after.continues;
    if visit_changed {
        changes.push(Change::Visit);
    }
    name_it(EventType::Updated, !changes.is_empty());
    let room_changes = changes.len();
    diff_members(&before.members, &after.members, &mut changes);
    if before.unresolved != after.unresolved {
        changes.push(Change::Unresolved);
    }
    if room_changes == 0 && changes.is_empty() && before.coverage == after.coverage {
        return None;
    }
    Some(Difference { event_type, changes })
}

/// What is to be said in the room of a change.
pub fn notices(before: Option<&RoomState>, after: &RoomState, changes: &[Change]) -> Vec<RoomNotice> {
    let mut notices = Vec::new();
    let mut say = |code, when: bool| {
        if when {
            notices.push(RoomNotice::of(code));
        }
    };
    let raised = |flag| after.flags.contains(&flag) && before.is_none_or(|before| !before.flags.contains(&flag));
    say(RoomNoticeCode::Rehomed, changes.contains(&Change::Rehomed));
    say(RoomNoticeCode::PossibleDuplicate, raised(Flag::PossibleDuplicate));
    say(RoomNoticeCode::IdentityConflict, raised(Flag::IdentityConflict));
    let nobody = |state: &RoomState| state.status.is_open() && state.coverage == Coverage::None;
    say(RoomNoticeCode::NobodyLeft, nobody(after) && !before.is_some_and(nobody));
    if let Some(into) = after.merged_into.filter(|into| before.is_none_or(|before| before.merged_into != Some(*into))) {
        notices.push(RoomNotice { code: RoomNoticeCode::Merged, parameters: BTreeMap::from([("room", Phi::new(into.to_string()))]) });
    }
    for (user, until) in granted(after) {
        if before.is_none_or(|before| !granted(before).any(|known| known == (user, until))) {
            let parameters = BTreeMap::from([("user", Phi::from(user.as_str())), ("until", Phi::new(until.to_string()))]);
            notices.push(RoomNotice { code: RoomNoticeCode::BreakGlass, parameters });
        }
    }
    let said = before.map(|before| before.to_say.expose().as_slice()).unwrap_or_default();
    for text in after.to_say.expose().iter().filter(|text| !said.contains(text)) {
        let parameters = if text.is_empty() { BTreeMap::new() } else { BTreeMap::from([("text", Phi::from(text.as_str()))]) };
        notices.push(RoomNotice { code: RoomNoticeCode::Redisclosure, parameters });
    }
    notices
}

/// Whom an operator let in, and until when.
fn granted(state: &RoomState) -> impl Iterator<Item = (&UserId, Timestamp)> {
    let grounds = state.members.iter().flat_map(|member| member.grounds.iter().map(move |ground| (&member.user, ground)));
    grounds.filter(|(_, ground)| ground.is_granted()).filter_map(|(user, ground)| Some((user, ground.until?)))
}

fn status_event(before: RoomStatus, after: RoomStatus) -> EventType {
    match (before, after) {
        (_, RoomStatus::Purged) => EventType::Purged,
        (_, RoomStatus::Merged) => EventType::Merged,
        (_, RoomStatus::Held) => EventType::Held,
        (RoomStatus::Held, RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Grace) => EventType::Released,
        (_, RoomStatus::Cancelled) => EventType::Cancelled,
        (_, RoomStatus::Closed) => EventType::Closed,
        (RoomStatus::Closed | RoomStatus::Cancelled | RoomStatus::Merged, RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Grace)
        | (RoomStatus::Grace, RoomStatus::Active | RoomStatus::OnLeave) => EventType::Reopened,
        (_, RoomStatus::Grace) => EventType::Closing,
        (RoomStatus::Expected, RoomStatus::Active | RoomStatus::OnLeave) => EventType::Opened,
        (RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Purged, RoomStatus::Active | RoomStatus::OnLeave) | (_, RoomStatus::Expected) => {
            EventType::Updated
        }
    }
}

/// Both lists are sorted by user.
fn diff_members(before: &[Member], after: &[Member], changes: &mut Vec<Change>) {
    let mut old = before.iter().peekable();
    let mut new = after.iter().peekable();
    loop {
        match (old.peek(), new.peek()) {
            (Some(was), Some(is)) if was.user == is.user => {
                if was.permission != is.permission || was.roles != is.roles || !same_grounds(&was.grounds, &is.grounds) {
                    changes.push(Change::MemberUpdated { user: is.user.clone() });
                }
                old.next();
                new.next();
            }
            (Some(was), Some(is)) if was.user > is.user => {
                changes.push(Change::Joined { user: is.user.clone(), rule: first_rule(is) });
                new.next();
            }
            (Some(was), _) => {
                changes.push(Change::Left { user: was.user.clone(), rule: first_rule(was) });
                old.next();
            }
            (None, Some(is)) => {
                changes.push(Change::Joined { user: is.user.clone(), rule: first_rule(is) });
                new.next();
            }
            (None, None) => return,
        }
    }
}

/// Which message said so, and since when, may be learned better by a late message; that alone is not worth an event.
fn same_grounds(a: &[Ground], b: &[Ground]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.rule == b.rule && a.from == b.from && a.until == b.until)
}

fn first_rule(member: &Member) -> Role {
    member.grounds.first().map(|ground| ground.rule.clone()).unwrap_or_default()
}
