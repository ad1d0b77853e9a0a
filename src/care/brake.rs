//! The brake: what is planned to end stays as it was published for a while.
//!
//! Two things pull it. While a feed is silent beyond its rhythm, leaves that only the clock brings wait, because the word that would undo them may be on
//! its way. And when many rooms end at once, leaves and ends wait until an operator says go on, because no hospital empties like that. Joining goes on
//! in both, and so does whatever narrows who may know; a grant ends when it says in any case. What is planned is not changed by it: once it is released, planning again tells the truth.

use crate::care::grant;
use crate::care::grant::Grant;
use crate::care::room::Ground;
use crate::care::room::Member;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::care::roster::Roster;
use crate::ids::FeedName;
use crate::time::Timestamp;

/// What is held back now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Brake {
    /// Whether leaves and ends wait for an operator.
    pub is_on: bool,
    /// How many rooms may still end before they do.
    pub may_end: usize,
    /// The feeds that are silent beyond their rhythm.
    pub silent: Vec<FeedName>,
}

impl Brake {
    /// Nothing is held back.
    pub const RELEASED: Self = Self { is_on: false, may_end: usize::MAX, silent: Vec::new() };
}

/// Whether a room loses its people: it closes, is cancelled or merged. A discharge alone takes nobody out; its grace does, and that comes later.
pub const fn ends(before: &RoomState, target: &RoomState) -> bool {
    before.status.is_open() && !target.status.is_open()
}

/// Holds back every leave and every end; also gives back whether there was any.
pub fn hold_all(before: &RoomState, target: RoomState, grants: &[Grant], roster: &Roster) -> (RoomState, bool) {
    let is_over = ends(before, &target);
    hold(before, target, grants, roster, is_over, |_| true)
}

/// Holds back what only the clock brought: members whose grounds had an end that has come, and the end of the grace.
pub fn hold_scheduled(before: &RoomState, target: RoomState, grants: &[Grant], roster: &Roster, now: Timestamp) -> (RoomState, bool) {
    let has_come = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    let is_over = before.status == RoomStatus::Grace && target.status == RoomStatus::Closed && has_come(before.closes_at);
    hold(before, target, grants, roster, is_over, |member| member.grounds.iter().all(|ground| has_come(ground.until)))
}

/// `grants` are those that stand.
fn hold(
    before: &RoomState,
    target: RoomState,
    grants: &[Grant],
    roster: &Roster,
    is_over: bool,
    stays: impl Fn(&Member) -> bool,
) -> (RoomState, bool) {
    // Whoever may not know leaves at once, whatever else waits.
    if !before.status.is_open() || target.confidentiality > before.confidentiality || target.patient.id != before.patient.id {
        return (target, false);
    }
    let mut held = if is_over { before.clone() } else { target };
    if !is_over && !held.status.is_open() {
        return (held, false);
    }
    held.members.retain(|member| roster.may_join(&member.user));
    let gone = before.members.iter().filter(|member| held.members.iter().all(|other| other.user != member.user));
    let mut kept: Vec<Member> = gone.filter(|member| roster.may_join(&member.user) && stays(member)).cloned().collect();
    for members in [&mut held.members, &mut kept] {
        members.retain_mut(|member| still_stands(member, grants));
    }
    let is_held = is_over || !kept.is_empty();
    if is_held {
        held.coverage = before.coverage;
        held.members.extend(kept);
        held.members.sort_by(|a, b| a.user.cmp(&b.user));
    }
    (held, is_held)
}

/// Takes a grant that ended from somebody who is kept. Gives back whether they stand on anything else.
fn still_stands(member: &mut Member, grants: &[Grant]) -> bool {
    if member.grounds.iter().any(Ground::is_granted) && grants.iter().all(|grant| grant.user != member.user) {
        member.grounds.retain(|ground| !ground.is_granted());
        member.roles.retain(|role| *role != grant::role());
    }
    !member.grounds.is_empty()
}
