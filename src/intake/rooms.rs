//! The rooms of the world's visits: planned, compared with what was published, and what changed noted as events.
//!
//! It plans whatever a fact, the clock, an operator or another directory has touched, and everything beside that which shows something of it. It folds
//! nothing and finds nobody: visits and records are as the world has them.

use std::time::Duration;

use crate::care::brake;
use crate::care::change::Cause;
use crate::care::change::CauseKind;
use crate::care::change::EventType;
use crate::care::change::RoomNotice;
use crate::care::change::RoomNoticeCode;
use crate::care::diff::Difference;
use crate::care::diff::diff;
use crate::care::diff::notices;
use crate::care::grant::Grant;
use crate::care::identity::Edge;
use crate::care::identity::Edges;
use crate::care::identity::PatientRecord;
use crate::care::onward::EmergencyStay;
use crate::care::onward::EmergencyStays;
use crate::care::plan::PlanInput;
use crate::care::plan::plan;
use crate::care::plan::retired;
use crate::care::room::CareRoom;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::care::visit::Stay;
use crate::care::visit::VisitState;
use crate::ids::CareRoomId;
use crate::ids::PatientId;
use crate::ids::VisitId;
use crate::intake::audited::audited;
use crate::intake::grants::end_grants;
use crate::intake::world::Ends;
use crate::intake::world::NO_ROOM;
use crate::intake::world::Need;
use crate::intake::world::RoomChange;
use crate::intake::world::Rules;
use crate::intake::world::VisitEntry;
use crate::intake::world::World;
use crate::outbox::envelope::About;
use crate::outbox::envelope::event;
use crate::store::form::RoomSlot;
use crate::store::form::VisitDocument;
use crate::store::form::VisitMerge;
use crate::time::Timestamp;

/// How soon what waits for a silent feed is looked at again.
const HELD: Duration = Duration::from_mins(1);
/// What is further away than this is planned again in good time, and not at the instant.
const FAR: Duration = Duration::from_hours(48);

impl World {
    /// Whether another open visit of the same person is in the very bed of this one: one of the two is probably a duplicate.
    fn shares_its_bed(&self, row: i64) -> bool {
        let bed_of = |visit: &VisitEntry| {
            let state = visit.document.whole();
            let stay = state.stays().last()?;
            let patient = self.patients.get(&visit.patient)?;
            let person = patient.record.resolve(state.patient()?).clone();
            let place = stay.place().filter(|place| !place.bed.is_empty())?.clone();
            Some((person, place))
        };
        // Only a room that stands is a duplicate; whether one does is known from when it was planned last, and who is beside it is planned again after.
        let is_there = |visit: &VisitEntry| visit.status == RoomStatus::Active.as_str() || visit.status == RoomStatus::OnLeave.as_str();
        // Ids of one person are all in one record, so that only its visits need to be looked at.
        let Some(patient) = self.visits.get(&row).map(|visit| visit.patient) else { return false };
        let others = self.visits.iter().filter(|(other, visit)| visit.patient == patient && **other != row && is_there(visit));
        let mut beside = others.filter_map(|(_, visit)| bed_of(visit)).peekable();
        if beside.peek().is_none() {
            return false;
        }
        let own = self.visits.get(&row).and_then(|visit| bed_of(visit));
        beside.any(|bed| Some(bed) == own)
    }

    /// What merges of visits make of this one. The newest word about a visit counts, and none that would close a circle.
    fn merge_of(&self, row: i64) -> Result<Merge, Need> {
        let group = self.merged_with(row)?;
        if group.len() == 1 {
            return Ok(Merge::default());
        }
        let mut edges = Edges::default();
        let mut numbers: Vec<(i64, &VisitMerge)> = Vec::new();
        for from in &group {
            let document = &self.visits.get(from).ok_or(Need::Visit(*from))?.document;
            for merge in document.merges.iter().filter(|merge| document.is_merged_by(merge)) {
                let into = self.surviving_visit(merge.into)?;
                edges.add(*from, into, merge.stamp);
                numbers.push((into, merge));
            }
        }
        let root = *edges.resolve(&row);
        let merged_since = |row: i64| edges.outgoing(&row).map(|edge| edge.stamp);
        let is_concluded = |edge: &&Edge<i64>| numbers.iter().any(|(into, merge)| merge.concluded && *into == edge.into && merge.stamp == edge.stamp);
        let went_on: Vec<(i64, i64)> = group.iter().filter_map(|from| Some((*from, edges.outgoing(from).filter(is_concluded)?.into))).collect();
        // What went on under another number is a part of that.
        let is_part = |row: &i64| went_on.iter().any(|(from, _)| from == row);
        let earlier = |row: i64| {
            let mut rows = vec![row];
            let mut next = 0;
            while let Some(row) = rows.get(next).copied() {
                next += 1;
                rows.extend(went_on.iter().filter(|(_, into)| *into == row).map(|(from, _)| *from));
            }
            rows.split_off(1)
        };
        let has_stays = |row: &i64| self.visits.get(row).is_some_and(|visit| !visit.document.state.stays().is_empty());
        // A number of which only history was said has the stays of those that went on under it.
        let is_known = |row: &i64| has_stays(row) || earlier(*row).iter().any(has_stays);
        let is_of_it = |other: &i64| is_known(other) && !is_part(other) && *edges.resolve(other) == root;
        let mut known: Vec<i64> = group.iter().copied().filter(is_of_it).collect();
        known.sort_unstable_by_key(|other| (*other != root, merged_since(*other), *other));
        // Where nobody has heard of the number that survives, the visit merged into it first goes on under it.
        let Some((survivor, losers)) = known.split_first() else { return Ok(Merge::default()) };
        let number = numbers.iter().filter(|(into, _)| *into == root && *survivor != root).max_by_key(|(_, merge)| merge.stamp);
        Ok(Merge {
            survivor: Some(*survivor),
            losers: if *survivor == row { losers.iter().map(|loser| (*loser, earlier(*loser))).collect() } else { Vec::new() },
            earlier: if is_part(&row) { Vec::new() } else { earlier(row) },
            number: number.map(|(_, merge)| merge.number.clone()).filter(|_| *survivor == row),
        })
    }

    /// Every visit that is tied to this one by merges, itself among them.
    pub(crate) fn merged_with(&self, row: i64) -> Result<Vec<i64>, Need> {
        let mut found = vec![row];
        let mut next = 0;
        while let Some(row) = found.get(next).copied() {
            next += 1;
            let document = &self.visits.get(&row).ok_or(Need::Visit(row))?.document;
            for other in document.merges.iter().map(|merge| merge.into).chain(document.merged_from.iter().copied()) {
                let other = self.surviving_visit(other)?;
                if !found.contains(&other) {
                    found.push(other);
                }
            }
        }
        Ok(found)
    }

    /// Plans the rooms of visits again, and of those beside them whose patient they may share a bed with.
    pub(crate) fn replan_all(&mut self, mut rows: Vec<i64>, cause: &Cause, rehomed: bool, notify: bool, rules: &Rules<'_>) -> Result<(), Need> {
        for row in &rows {
            self.fold_merged(*row)?;
        }
        // Twice at most: what comes or goes changes what is said of the others, and they do not come or go by that.
        for _ in 0..2 {
            // Planning one may plan another that it was merged into.
            let before: Vec<_> = rows.iter().map(|row| self.seen_beside(*row)).collect();
            for row in &rows {
                self.replan(*row, cause, rehomed, notify, rules)?;
            }
            let mut beside = Vec::new();
            for (row, before) in rows.iter().zip(before) {
                if before != self.seen_beside(*row)
                    && let Some(visit) = self.visits.get(row)
                {
                    beside.extend(self.open_visits(visit.patient).into_iter().filter(|other| other != row));
                }
            }
            beside.sort_unstable();
            beside.dedup();
            rows = beside;
        }
        Ok(())
    }

    /// Folds a visit, and those merged into it, with what was said under the numbers that they had before.
    fn fold_merged(&mut self, row: i64) -> Result<(), Need> {
        let document = &self.visits.get(&row).ok_or(Need::Visit(row))?.document;
        if document.merged_from.is_empty() && document.whole.is_none() {
            return Ok(());
        }
        let merge = self.merge_of(row)?;
        self.fold_whole(row, &merge.earlier)?;
        for (loser, earlier) in &merge.losers {
            self.fold_whole(*loser, earlier)?;
        }
        Ok(())
    }

    /// What a visit shows of itself to the other visits of its patient.
    fn seen_beside(&self, row: i64) -> Option<(bool, String, EmergencyStays)> {
        let visit = self.visits.get(&row)?;
        Some((visit.is_open, visit.status.clone(), self.patients.get(&visit.patient)?.record.emergencies.clone()))
    }

    /// Plans the rooms of a visit again and notes what changed. `notify` is whether anybody is to be told.
    pub(crate) fn replan(&mut self, row: i64, cause: &Cause, rehomed: bool, notify: bool, rules: &Rules<'_>) -> Result<(), Need> {
        let merge = self.merge_of(row)?;
        let merged_into = match merge.survivor {
            Some(survivor) if survivor != row => self.room_of_survivor(survivor, cause, notify, rules)?,
            _ => None,
        };
        let also: Vec<Stay> = merge.losers.iter().filter_map(|(loser, _)| self.visits.get(loser)?.document.whole().stays().last().cloned()).collect();
        let also: Vec<&Stay> = also.iter().collect();
        let shares_its_bed = self.shares_its_bed(row);
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        if visit.document.absorbed_by.is_some() {
            return Ok(());
        }
        let patient = self.patients.get(&visit.patient).ok_or(Need::Patient(visit.patient))?;
        visit.is_dirty |= end_grants(&mut visit.document, &patient.record, rules.now);
        let VisitDocument { state: own, whole, rooms, conflicts, .. } = &mut visit.document;
        let state = whole.as_ref().map_or(&*own, |whole| &whole.state);
        let has_conflict = !conflicts.is_empty() || whole.as_ref().is_some_and(|whole| whole.left_out);
        let (Some(number), Some(bound)) = (merge.number.as_ref().or_else(|| own.id()), state.patient()) else {
            // Nobody has said whose it is, or what its number is: there is nothing to plan, and nothing that ends.
            let over_at = Some(unheard_since(visit.over_at, state, rules.now));
            visit.is_dirty |= visit.over_at != over_at;
            visit.over_at = over_at;
            return Ok(());
        };
        let n_stays = state.stays().len();
        let person_id = patient.record.resolve(bound);
        let person = patient.record.person(bound);
        let (mut wake_at, mut status, mut is_open) = (None, None, false);
        let mut over_at = Some(if n_stays == 0 { unheard_since(visit.over_at, state, rules.now) } else { state.newest().recorded });
        let publishing = Publishing { cause, rehomed, notify, traceparent: self.traceparent.as_deref() };
        visit.unpublished.clear();
        let is_silent = state.feeds().iter().any(|feed| rules.brake.silent.contains(feed));
        let own: Vec<CareRoomId> = rooms.iter().map(|slot| slot.id).collect();
        for (index, stay) in state.stays().iter().enumerate() {
            if rooms.len() <= index {
                rooms.push(RoomSlot { id: self.room_ids.mint(), published: None, made_for: Some(row), grants: Vec::new() });
                visit.is_dirty = true;
            }
            let Some(slot) = rooms.get_mut(index) else { continue };
            let continues = goes_on_from(stay, &own, &patient.record, person_id);
            let grants: Vec<&Grant> = slot.grants.iter().filter(|grant| grant.is_for(bound, &patient.record)).collect();
            let planned = plan(&PlanInput {
                stay,
                also: if index + 1 == n_stays { &also } else { &[] },
                visit: number,
                patient: person_id,
                person: &person,
                room: slot.id,
                merged_into,
                continues,
                has_conflict,
                shares_its_bed,
                grants: &grants,
                policy: rules.policy,
                roster: rules.roster,
                now: rules.now,
            });
            wake_at = [wake_at, planned.wake_at].into_iter().flatten().min();
            over_at = over_at.zip(planned.over_at).map(|(one, other)| one.max(other));
            if !planned.ended_grants.is_empty() {
                slot.grants.retain(|grant| !planned.ended_grants.contains(&grant.user));
                visit.is_dirty = true;
            }
            status = planned.target.as_ref().map(|target| target.status);
            let is_over = matches!(status, Some(RoomStatus::Closed | RoomStatus::Cancelled)) && planned.wake_at.is_none();
            is_open |= !is_over && status != Some(RoomStatus::Merged);
            let before = slot.published.as_ref().map(|room| &room.state);
            let is_closed = stay.place().and_then(|place| rules.roster.unit(place)).is_some_and(|unit| unit.flags.closed);
            let (target, unpublished) = told(planned.target, planned.taken_back, before, is_closed, &mut self.ends);
            visit.unpublished.extend(unpublished.map(Some));
            let Some(target) = target else { continue };
            let (target, is_held) = braked(slot, target, is_silent, &publishing, &mut self.ends, rules);
            if is_held {
                status = Some(target.status);
                is_open = true;
                over_at = None;
                // A grant ends also in a room that waits.
                let ends = slot.grants.iter().map(|grant| grant.until);
                wake_at = [wake_at, Some(rules.now.plus(HELD)).filter(|_| is_silent)].into_iter().flatten().chain(ends).min();
            }
            if let Some(change) = publish(slot, target, visit.patient, &publishing, rules) {
                visit.is_dirty = true;
                self.changes.push(change);
            }
        }
        // A late word may show that two stays were one.
        for slot in rooms.iter_mut().skip(n_stays) {
            let Some(before) = slot.published.as_ref().map(|room| &room.state).filter(|state| is_told(state.status)) else { continue };
            let (target, is_held) = braked(slot, retired(before), is_silent, &publishing, &mut self.ends, rules);
            is_open |= is_held;
            over_at = over_at.filter(|_| !is_held);
            if let Some(change) = publish(slot, target, visit.patient, &publishing, rules) {
                visit.is_dirty = true;
                self.changes.push(change);
            }
        }
        let wake_at = wake_at.map(|at| in_good_time(at, rules.now));
        visit.stands(status.map_or(NO_ROOM, RoomStatus::as_str), is_open, wake_at, over_at);
        self.note_emergencies(row, rules);
        Ok(())
    }

    /// The room of a visit that another was merged into; where it has none yet, it is planned first.
    fn room_of_survivor(&mut self, survivor: i64, cause: &Cause, notify: bool, rules: &Rules<'_>) -> Result<Option<CareRoomId>, Need> {
        let room = |world: &Self| world.visits.get(&survivor).and_then(|visit| visit.document.rooms.last()).map(|slot| slot.id);
        if room(self).is_none() {
            self.fold_merged(survivor)?;
            self.replan(survivor, cause, false, notify, rules)?;
        }
        Ok(room(self))
    }

    /// Publishes the rooms of a visit again as they are, or one of them; those that were never published stay so.
    pub(crate) fn resync(&mut self, row: i64, room: Option<CareRoomId>, rules: &Rules<'_>) -> Result<(), Need> {
        let visit = self.visits.get_mut(&row).ok_or(Need::Visit(row))?;
        for slot in visit.document.rooms.iter_mut().filter(|slot| room.is_none_or(|room| room == slot.id)) {
            if let Some(change) = publish_again(slot, visit.patient, rules) {
                visit.is_dirty = true;
                self.changes.push(change);
            }
        }
        Ok(())
    }

    /// Notes with the person which stays of a visit another may go on from.
    fn note_emergencies(&mut self, row: i64, rules: &Rules<'_>) {
        let Some(visit) = self.visits.get(&row) else { return };
        let (state, rooms) = (visit.document.whole(), &visit.document.rooms);
        let Some((entry, bound)) = self.patients.get_mut(&visit.patient).zip(state.patient()) else { return };
        for (stay, slot) in state.stays().iter().zip(rooms) {
            entry.is_dirty |= entry.record.emergencies.note(slot.id, emergency(stay, slot, bound, rules));
        }
    }
}

impl VisitEntry {
    /// Notes how it stands now that it was planned.
    fn stands(&mut self, status: &str, is_open: bool, wake_at: Option<Timestamp>, over_at: Option<Timestamp>) {
        if self.wake_at != wake_at || self.status != status || self.is_open != is_open || self.over_at != over_at {
            (self.wake_at, self.is_open, self.over_at) = (wake_at, is_open, over_at);
            status.clone_into(&mut self.status);
            self.is_dirty = true;
        }
    }
}

/// When a visit is planned again that changes by itself at some instant. How long nothing was said begins anew with every message, and the index of what is
/// due would be written for each: what is days away is planned again up to an hour too soon, finds nothing to do, and then knows the instant itself.
fn in_good_time(at: Timestamp, now: Timestamp) -> Timestamp {
    const HOUR_MICROS: i64 = 3_600_000_000;
    if at <= now.plus(FAR) { at } else { Timestamp::from_micros(at.as_micros() - at.as_micros().rem_euclid(HOUR_MICROS)) }
}

/// Since when nothing was heard of a visit that has no stay: not from before anybody here knew of it. A merge may name it before any message of its own
/// comes, and must still be known then.
fn unheard_since(known: Option<Timestamp>, state: &VisitState, now: Timestamp) -> Timestamp {
    let heard = state.newest().recorded;
    known.filter(|known| *known >= heard).unwrap_or_else(|| heard.max(now))
}

/// The room of an emergency stay from which an inpatient's stay goes on.
fn goes_on_from(stay: &Stay, own: &[CareRoomId], record: &PatientRecord, person: &PatientId) -> Option<CareRoomId> {
    let began = stay.began().filter(|_| stay.class().is_some_and(|class| class.as_str() == "I"))?;
    record.emergencies.before(own, began, &stay.places(), |other| record.resolve(other) == person)
}

/// An emergency stay that ended and whose room was published: another stay may go on from it.
fn emergency(stay: &Stay, slot: &RoomSlot, patient: &PatientId, rules: &Rules<'_>) -> Option<EmergencyStay> {
    let published = &slot.published.as_ref()?.state;
    let is_over = matches!(published.status, RoomStatus::Grace | RoomStatus::Closed);
    let ended = stay.course(rules.now, &rules.course()).ended?.recorded;
    let is_one = is_over && stay.class().is_some_and(|class| class.as_str() == "E");
    let facility = stay.place().map(|place| place.facility.clone()).unwrap_or_default();
    let began = stay.began()?;
    is_one.then(|| EmergencyStay { room: slot.id, patient: patient.clone(), facility, began, ended })
}

/// What is told of a room as it is planned, and what it is where that is not told: while a patient is only expected, where all was over when first heard
/// of, and in a unit that is in use no more.
fn told(
    planned: Option<RoomState>,
    taken_back: Option<RoomState>,
    before: Option<&RoomState>,
    is_closed: bool,
    ends: &mut Ends,
) -> (Option<RoomState>, Option<RoomState>) {
    match (planned, before) {
        // A room nobody may see yet: what was published of it is taken back, what was not stays unpublished.
        (Some(target), before) if taken_back.is_some() => (taken_back.filter(|_| before.is_some()), Some(target)),
        (Some(target), None) if diff(None, &target, false).is_none() => (None, Some(target)),
        (Some(target), None) if is_closed => {
            ends.n_kept_out += 1;
            (None, Some(target))
        }
        (Some(target), _) => (Some(target), None),
        (None, Some(before)) if is_told(before.status) => (Some(retired(before)), None),
        (None, _) => (None, None),
    }
}

/// Holds back what must wait; also gives back whether anything does.
fn braked(slot: &RoomSlot, target: RoomState, is_silent: bool, publishing: &Publishing<'_>, ends: &mut Ends, rules: &Rules<'_>) -> (RoomState, bool) {
    let Some(before) = slot.published.as_ref().map(|room| &room.state) else { return (target, false) };
    let &Publishing { cause, notify, .. } = publishing;
    // What an operator lets go on is looked at already, a backlog that comes in is no haste, and day cases all end at midnight.
    let is_of_the_day = before.visit.class.as_ref().is_some_and(|class| rules.policy.day_classes.contains(class));
    let is_expected = cause.kind == CauseKind::Operator || (cause.kind == CauseKind::Wake && is_of_the_day);
    let is_end = notify && !is_expected && brake::ends(before, &target);
    ends.stopped |= is_end && !rules.brake.is_on && ends.n_ended >= rules.brake.may_end;
    let (target, is_held) = if rules.brake.is_on || ends.stopped {
        brake::hold_all(before, target, &slot.grants, rules.roster)
    } else if is_silent && !matches!(cause.kind, CauseKind::Message | CauseKind::Load | CauseKind::Operator) {
        brake::hold_scheduled(before, target, &slot.grants, rules.roster, rules.now)
    } else {
        (target, false)
    };
    ends.n_ended += usize::from(is_end && !is_held);
    ends.n_held += usize::from(is_held);
    (target, is_held)
}

/// Whether a room of this status stands before its users.
const fn is_told(status: RoomStatus) -> bool {
    status.is_open() || matches!(status, RoomStatus::Expected)
}

/// What an event tells besides the room.
pub(super) struct Publishing<'a> {
    pub(super) cause: &'a Cause,
    /// Whether an explicit move brought the room to another patient.
    pub(super) rehomed: bool,
    /// Whether anybody is to be told.
    pub(super) notify: bool,
    pub(super) traceparent: Option<&'a str>,
}

/// What merges make of a visit.
#[derive(Debug, Default)]
struct Merge {
    /// The visit whose room goes on; absent where there is no merge.
    survivor: Option<i64>,
    /// Where it is this one: those merged into it, with the rows of the numbers that they had before.
    losers: Vec<(i64, Vec<i64>)>,
    /// The rows of the numbers that this one had before.
    earlier: Vec<i64>,
    /// The number under which it goes on, where that is of a visit nobody has heard of.
    number: Option<VisitId>,
}

/// Compares a room with its target and, where they differ, makes the next version and its event.
pub(super) fn publish(slot: &mut RoomSlot, target: RoomState, patient: i64, publishing: &Publishing<'_>, rules: &Rules<'_>) -> Option<RoomChange> {
    let before = slot.published.as_ref();
    let Difference { event_type, changes } = diff(before.map(|room| &room.state), &target, publishing.rehomed)?;
    let notices = notices(before.map(|room| &room.state), &target, &changes);
    let is_load = publishing.cause.kind == CauseKind::Load && before.is_none();
    let event_type = if is_load { EventType::Snapshot } else { event_type };
    Some(next_version(slot, target, patient, &Difference { event_type, changes }, &notices, publishing, rules))
}

/// Publishes a room again as it is, where it was published at all: the next version and its event. Nobody is told but of what must be said in the room and
/// does not stand in it, since a consumer may have lost that as well.
fn publish_again(slot: &mut RoomSlot, patient: i64, rules: &Rules<'_>) -> Option<RoomChange> {
    let state = slot.published.as_ref()?.state.clone();
    let to_say: Vec<RoomNotice> = notices(None, &state, &[]).into_iter().filter(|notice| notice.code == RoomNoticeCode::Redisclosure).collect();
    let nothing = Difference { event_type: EventType::Snapshot, changes: Vec::new() };
    let publishing = Publishing { cause: &Cause::of(CauseKind::Operator), rehomed: false, notify: false, traceparent: None };
    Some(next_version(slot, state, patient, &nothing, &to_say, &publishing, rules))
}

/// Takes a room to its next version, and makes the event of that.
fn next_version(
    slot: &mut RoomSlot,
    state: RoomState,
    patient: i64,
    Difference { event_type, changes }: &Difference,
    notices: &[RoomNotice],
    publishing: &Publishing<'_>,
    rules: &Rules<'_>,
) -> RoomChange {
    let &Publishing { cause, notify, traceparent, .. } = publishing;
    let version = slot.published.as_ref().map_or(0, |room| room.version) + 1;
    let room = CareRoom { id: slot.id, epoch: rules.epoch, version, state };
    let source = format!("wardroom/{}", cause.feed.as_ref().map_or("main", |feed| feed.as_str()));
    let about = About { changes, event_type: *event_type, cause, notify, notices, source: &source, time: rules.now, traceparent };
    let event = event(&room, &about);
    let audited = audited(*event_type, cause, &room);
    slot.published = Some(room);
    RoomChange { patient, event, message: cause.message, made_for: slot.made_for, audited }
}
