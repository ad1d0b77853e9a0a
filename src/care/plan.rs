//! The plan: what the room of a stay should look like now, and when that changes by itself.
//!
//! A pure function of the stay, the person, the policy, the roster and the time. It never looks at what was published before, so it comes out the same
//! whatever came first; only a room's own code is taken from its id.

use std::time::Duration;

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::fact::PersonName;
use crate::care::fact::Stamp;
use crate::care::grant::Grant;
use crate::care::grant::Levels;
use crate::care::identity::Person;
use crate::care::policy::NamePart;
use crate::care::policy::Policy;
use crate::care::policy::VeryRestricted;
use crate::care::policy::VisitView;
use crate::care::room::Coverage;
use crate::care::room::Flag;
use crate::care::room::RoomState;
use crate::care::room::RoomStatus;
use crate::care::room::ShownLocation;
use crate::care::room::ShownPatient;
use crate::care::room::ShownVisit;
use crate::care::roster::Resolved;
use crate::care::roster::Roster;
use crate::care::team::TeamInput;
use crate::care::team::leaves_at;
use crate::care::team::team;
use crate::care::visit::Course;
use crate::care::visit::CourseRules;
use crate::care::visit::Phase;
use crate::care::visit::Stay;
use crate::ids::CareRoomId;
use crate::ids::PatientId;
use crate::ids::UserId;
use crate::ids::VisitId;
use crate::phi::Phi;
use crate::time::Timestamp;

/// How long an expected stay waits for its patient behind the day it was expected.
const EXPECTED_AT_MOST: Duration = Duration::from_hours(30 * 24);

/// Everything a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The stay.
    pub stay: &'a Stay,
    /// The stays of visits merged into this one: they add their named clinicians and what restricts them, and nothing else.
    pub also: &'a [&'a Stay],
    /// The visit number that counts now.
    pub visit: &'a VisitId,
    /// The patient id that counts now.
    pub patient: &'a PatientId,
    /// The person behind it.
    pub person: &'a Person,
    /// The room's id, for its code.
    pub room: CareRoomId,
    /// The room this one was merged into, if it was.
    pub merged_into: Option<CareRoomId>,
    /// The room of an emergency stay that this one goes on from.
    pub continues: Option<CareRoomId>,
    /// Whether a message names the visit under another patient and waits.
    pub has_conflict: bool,
    /// Whether another open visit of the person is in the same bed.
    pub shares_its_bed: bool,
    /// Whom operators let in, as far as the room is still the patient's for whom they did.
    pub grants: &'a [&'a Grant],
    /// The policy.
    pub policy: &'a Policy,
    /// Staff and units.
    pub roster: &'a Roster,
    /// The present.
    pub now: Timestamp,
}

/// What the room should be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The room; `None` when the stay gets none.
    pub target: Option<RoomState>,
    /// What it is to those who saw it before it came to be expected again, where nobody may see an expected room: cancelled, and made from the same facts,
    /// not from what was published, which depends on what was heard first.
    pub taken_back: Option<RoomState>,
    /// The next instant at which the plan changes by itself.
    pub wake_at: Option<Timestamp>,
    /// Since when the stay is over and nothing was said of it; absent while it goes on, or something changes by itself.
    pub over_at: Option<Timestamp>,
    /// Whose grants have ended, by their time or by the level: for good.
    pub ended_grants: Vec<UserId>,
}

/// Plans the room of a stay.
pub fn plan(input: &PlanInput<'_>) -> Plan {
    let PlanInput { stay, policy, now, .. } = *input;
    let rules = CourseRules { reopen_on_admit: policy.reopen_on_admit, adopt_on_update: policy.adopt_on_update };
    let course = stay.course(now, &rules);
    let level = effective_level(input);
    let levels = Levels { level, of_person: input.person.highest_at(), stay, roster: input.roster };
    let ended_grants = input.grants.iter().filter(|grant| !grant.stands(&levels, now)).map(|grant| grant.user.clone()).collect();
    let mut wakes = Wakes { now, next: None, over: None };
    wakes.at(course.turns_at);
    for boundary in restrictions(input).flat_map(|restriction| [restriction.begins_at, restriction.ends_at]) {
        wakes.at(boundary);
    }
    let status = status(input, &course, &mut wakes);
    let view = VisitView {
        class: stay.class.standing(),
        place: stay.location.standing(),
        service: stay.service.standing(),
        status,
        confidentiality: level,
        admitted: stay.admitted_at.standing().is_some(),
        has_bed: stay.location.standing().is_some_and(|place| !place.bed.is_empty()),
    };
    let roomed = admits(policy, stay, &view) && !(level == Confidentiality::VeryRestricted && policy.very_restricted == VeryRestricted::NoRoom);
    // A patient who is only expected has the class of the expected (table 0004 `P`), or none yet.
    let may_come = view.class.is_none_or(|class| class.as_str() == "P");
    // A cancel also strikes the class, so a cancelled stay keeps the room it may have had, to be told of as cancelled.
    let Some(status) = status.filter(|status| roomed || *status == RoomStatus::Cancelled || (*status == RoomStatus::Expected && may_come)) else {
        return Plan { target: None, taken_back: None, wake_at: wakes.next, over_at: wakes.over_at(stay), ended_grants };
    };
    let status = if input.merged_into.is_some() { RoomStatus::Merged } else { status };
    let target = room_state(input, &course, status, level, &view, &ended_grants, &mut wakes);
    let is_hidden = status == RoomStatus::Expected && !policy.publish_expected;
    let taken_back = is_hidden.then(|| retired(&room_state(input, &course, RoomStatus::Cancelled, level, &view, &ended_grants, &mut wakes)));
    Plan { target: Some(target), taken_back, wake_at: wakes.next, over_at: wakes.over_at(stay), ended_grants }
}

/// What a room that was published becomes when its stay gets none any more: nobody is in it, nothing but its end is told.
pub fn retired(published: &RoomState) -> RoomState {
    let status = if published.confidentiality == Confidentiality::VeryRestricted { RoomStatus::Closed } else { RoomStatus::Cancelled };
    RoomState {
        status,
        writable: false,
        coverage: Coverage::Full,
        whereabouts: None,
        members: Vec::new(),
        unresolved: Vec::new(),
        closes_at: None,
        ..published.clone()
    }
}

/// What a room that was published becomes when everything about its stay is deleted: ids, and of the name what is the room's own.
pub fn purged(room: CareRoomId, published: &RoomState) -> RoomState {
    let ShownPatient { id, .. } = published.patient.clone();
    let patient = ShownPatient { id, display: Phi::new(None), name: None, birth_date: Phi::new(None), sex: Phi::new(None) };
    let visit = ShownVisit { id: published.visit.id.clone(), class: None, service: None, admitted_at: None, discharged_at: None };
    RoomState {
        status: RoomStatus::Purged,
        name: Phi::new(room_code(room)),
        flags: Vec::new(),
        location: None,
        patient,
        visit,
        merged_into: None,
        continues: None,
        to_say: Phi::default(),
        ..retired(published)
    }
}

/// The earliest instant behind the present.
struct Wakes {
    now: Timestamp,
    next: Option<Timestamp>,
    /// When the stay ended, where it has.
    over: Option<Timestamp>,
}

impl Wakes {
    fn at(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at.filter(|at| *at > self.now) {
            self.next = Some(self.next.map_or(at, |known| known.min(at)));
        }
    }

    /// Wakes at the end of a stay. Gives back whether that has come.
    fn end(&mut self, ends: Timestamp) -> bool {
        self.at(Some(ends));
        let is_over = self.now >= ends;
        self.over = Some(ends).filter(|_| is_over);
        is_over
    }

    fn over_at(&self, stay: &Stay) -> Option<Timestamp> {
        let over = self.over.filter(|_| self.next.is_none())?;
        Some(over.max(stay.newest.recorded))
    }
}

/// Class admits a room and never closes one: it is enough that any class that ever stood gets a room.
fn admits(policy: &Policy, stay: &Stay, view: &VisitView<'_>) -> bool {
    match &policy.when {
        Some(condition) => {
            condition.holds(view) || stay.class.values().any(|class| condition.holds(&VisitView { class: Some(class), ..view.clone() }))
        }
        // A transfer or a cancelled discharge tells of somebody in a bed, also when nobody ever said the class.
        None => stay.class.values().any(|class| policy.classes.contains(class)) || (stay.class.is_empty() && stay.was_in_a_bed()),
    }
}

/// When the grace of an ended stay ends.
fn closes_at(input: &PlanInput<'_>, course: &Course, end: Stamp) -> Timestamp {
    let grace = input.policy.discharge_grace.of(input.stay.class.standing());
    let counted = course.ended_at.unwrap_or(end.recorded).plus(grace);
    if counted.plus(input.policy.purge_after) <= input.now {
        // Nobody is in the room of a stay that may be deleted already.
        return counted;
    }
    counted.max(leaves_at(end, grace, input.policy.grace_floor))
}

fn status(input: &PlanInput<'_>, course: &Course, wakes: &mut Wakes) -> Option<RoomStatus> {
    let PlanInput { stay, policy, .. } = *input;
    let age_ends = stay.newest.recorded.plus(policy.max_age.of(stay.class.standing()).min(policy.purge_after));
    match course.phase {
        Phase::Unknown => {
            wakes.over = Some(stay.newest.recorded);
            None
        }
        Phase::Expected => {
            let expected = stay.expected_at.as_ref().and_then(|register| register.value).unwrap_or(course.since.recorded);
            let dropped = expected.max(course.since.recorded).plus(EXPECTED_AT_MOST);
            Some(if wakes.end(dropped) { RoomStatus::Cancelled } else { RoomStatus::Expected })
        }
        Phase::Active | Phase::OnLeave => {
            let day_ends = stay
                .class
                .standing()
                .filter(|class| policy.day_classes.contains(class))
                .map(|_| course.day_ends.unwrap_or_else(|| course.since.recorded.plus(Duration::from_hours(24))));
            let ends = day_ends.map_or(age_ends, |day| day.min(age_ends));
            let there = if course.phase == Phase::OnLeave { RoomStatus::OnLeave } else { RoomStatus::Active };
            Some(if wakes.end(ends) { RoomStatus::Closed } else { there })
        }
        Phase::Ended => {
            let end = course.ended.unwrap_or(course.since);
            if !course.was_active {
                wakes.over = Some(end.recorded);
                return None;
            }
            Some(if wakes.end(closes_at(input, course, end)) { RoomStatus::Closed } else { RoomStatus::Grace })
        }
        Phase::Cancelled => {
            wakes.over = Some(course.since.recorded);
            Some(RoomStatus::Cancelled)
        }
    }
}

/// The stay, and those merged into it.
fn stays<'a>(input: &PlanInput<'a>) -> impl Iterator<Item = &'a Stay> {
    std::iter::once(input.stay).chain(input.also.iter().copied())
}

/// All signals that stand, of the person and of the stay.
fn restrictions<'a>(input: &PlanInput<'a>) -> impl Iterator<Item = &'a crate::care::fact::Restriction> {
    input.person.signals.standing().chain(stays(input).flat_map(|stay| stay.signals.standing()))
}

/// Whether the patient was ever in a unit of a Part 2 program.
fn was_in_part2(input: &PlanInput<'_>) -> bool {
    let mut places = stays(input).flat_map(|stay| stay.location.values());
    places.any(|place| input.roster.unit(place).is_some_and(|unit| unit.flags.part2))
}

/// Who of the users the patient is, as far as ids tell.
fn patient_users(input: &PlanInput<'_>) -> Vec<UserId> {
    let mut users: Vec<UserId> = Vec::new();
    for id in input.person.staff_ids() {
        match input.roster.resolve_id(&id) {
            Resolved::User(std::borrow::Cow::Borrowed(user)) | Resolved::Inactive(user) => users.push(user.clone()),
            // A user made up from an unknown id is nobody's.
            Resolved::User(std::borrow::Cow::Owned(_)) | Resolved::Ambiguous | Resolved::Unknown => {}
        }
    }
    users
}

/// The highest of all that restricts: signals, the unit, and whether the patient is staff.
fn effective_level(input: &PlanInput<'_>) -> Confidentiality {
    let PlanInput { roster, now, .. } = *input;
    let live =
        restrictions(input).filter(|restriction| restriction.begins_at.is_none_or(|at| at <= now) && restriction.ends_at.is_none_or(|at| at > now));
    let mut level = Confidentiality::Normal;
    for restriction in live {
        level = level.max(restriction.level);
        if restriction.employee {
            level = level.max(Confidentiality::Restricted);
        }
        if restriction.part2 {
            level = Confidentiality::VeryRestricted;
        }
    }
    // Having been in a Part 2 program is itself the secret: it does not fall when the patient leaves the unit.
    if was_in_part2(input) {
        level = Confidentiality::VeryRestricted;
    }
    if stays(input).filter_map(|stay| roster.unit(stay.location.standing()?)).any(|unit| unit.flags.sensitive) {
        level = level.max(Confidentiality::Restricted);
    }
    if !patient_users(input).is_empty() {
        level = level.max(Confidentiality::Restricted);
    }
    level
}

fn room_state(
    input: &PlanInput<'_>,
    course: &Course,
    status: RoomStatus,
    level: Confidentiality,
    view: &VisitView<'_>,
    ended_grants: &[UserId],
    wakes: &mut Wakes,
) -> RoomState {
    let PlanInput { stay, roster, policy, now, .. } = *input;
    let users = patient_users(input);
    let staffed = matches!(status, RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Grace);
    let until = if status == RoomStatus::Grace { course.ended } else { None };
    let team = if staffed {
        // In grace the grounds that stood at the end keep their people: time stands still for them, the directory does not.
        let at = course.ended.filter(|_| status == RoomStatus::Grace).map_or(now, |end| end.recorded);
        // For grants it never does.
        let grants: SmallVec<[&Grant; 1]> = input.grants.iter().copied().filter(|grant| !ended_grants.contains(&grant.user)).collect();
        grants.iter().for_each(|grant| wakes.at(Some(grant.until)));
        let person = input.person;
        team(&TeamInput { stay, also: input.also, person, until, view, level, patient_users: &users, grants: &grants, policy, roster, now: at })
    } else {
        crate::care::team::Team::default()
    };
    if status != RoomStatus::Grace {
        wakes.at(team.changes_at);
    }
    let coverage = if !staffed || team.has_group {
        Coverage::Full
    } else if team.members.is_empty() {
        Coverage::None
    } else {
        Coverage::NamedOnly
    };
    let hides_place = level == Confidentiality::VeryRestricted || restrictions(input).any(|restriction| restriction.hides_place);
    let place = stay.location.standing();
    let location = place.filter(|_| !hides_place && status != RoomStatus::Cancelled).map(|place| shown_location(place, status, roster));
    let whereabouts = stay
        .whereabouts
        .as_ref()
        .and_then(|register| register.value.clone())
        .filter(|there| Some(there) != place && !hides_place && matches!(status, RoomStatus::Active | RoomStatus::OnLeave));
    let facility = place.map(|place| place.facility.clone()).unwrap_or_default();
    RoomState {
        status,
        name: Phi::new(room_name(input, status, level, hides_place)),
        confidentiality: level,
        writable: staffed,
        coverage,
        flags: flags(input, status, !users.is_empty()),
        whereabouts,
        facility,
        location,
        patient: shown_patient(input, level),
        visit: ShownVisit {
            id: input.visit.clone(),
            class: stay.class.standing().cloned(),
            service: stay.service.standing().filter(|_| level != Confidentiality::VeryRestricted).cloned(),
            admitted_at: stay.admitted_at.standing().copied(),
            discharged_at: stay.discharged_at.standing().copied().or_else(|| course.ended.map(|end| end.recorded)).filter(|_| course.ended.is_some()),
        },
        members: team.members,
        unresolved: team.unresolved,
        merged_into: input.merged_into,
        continues: input.continues,
        to_say: Phi::new(to_say(input)),
        closes_at: course.ended.filter(|_| status == RoomStatus::Grace).map(|end| closes_at(input, course, end)),
    }
}

/// What must be said in the room: that nothing of a Part 2 program may be passed on (42 CFR 2.32), and what messages instruct.
fn to_say(input: &PlanInput<'_>) -> Vec<String> {
    let part2 = was_in_part2(input) || restrictions(input).any(|restriction| restriction.part2);
    let mut texts: Vec<String> = part2.then(String::new).into_iter().collect();
    for text in stays(input).flat_map(|stay| stay.instructions.expose()) {
        if !texts.contains(text) {
            texts.push(text.clone());
        }
    }
    texts
}

fn shown_location(place: &BedLocation, status: RoomStatus, roster: &Roster) -> ShownLocation {
    let mut place = place.clone();
    let unit_name = roster.unit(&place).map(|unit| CompactString::from(&unit.name)).filter(|name| !name.is_empty());
    if !matches!(status, RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Expected) {
        place.room.clear();
        place.bed.clear();
    }
    ShownLocation { place, unit_name }
}

fn flags(input: &PlanInput<'_>, status: RoomStatus, employee: bool) -> Vec<Flag> {
    let PlanInput { stay, person, .. } = *input;
    let open = matches!(status, RoomStatus::Active | RoomStatus::OnLeave);
    let planned = |register: &Option<crate::care::runs::Register<bool>>| register.as_ref().is_some_and(|register| register.value == Some(true));
    let mut flags = Vec::new();
    let mut raise = |flag, when: bool| {
        if when {
            flags.push(flag);
        }
    };
    raise(Flag::OnLeave, status == RoomStatus::OnLeave);
    raise(Flag::PendingTransfer, open && planned(&stay.planned_move));
    raise(Flag::PendingDischarge, open && planned(&stay.planned_end));
    raise(Flag::Deceased, person.deceased());
    raise(Flag::IdentityUnknown, person.identity_unknown());
    raise(Flag::IdentityConflict, (open || status == RoomStatus::Grace) && input.has_conflict);
    raise(Flag::PossibleDuplicate, open && input.shares_its_bed);
    raise(Flag::Employee, employee || restrictions(input).any(|restriction| restriction.employee));
    flags
}

fn shown_patient(input: &PlanInput<'_>, level: Confidentiality) -> ShownPatient {
    let person = input.person;
    let name = person.name();
    let (display, shows) = match level {
        Confidentiality::Normal => (name.map(full_name), true),
        Confidentiality::Restricted => (name.map(initials), false),
        Confidentiality::VeryRestricted => (None, false),
    };
    ShownPatient {
        id: input.patient.clone(),
        display: Phi::new(display.filter(|text| !text.is_empty())),
        name: name.filter(|_| shows).cloned(),
        birth_date: Phi::new(person.birth_date().filter(|_| shows).map(CompactString::from)),
        sex: Phi::new(person.sex().filter(|_| level != Confidentiality::VeryRestricted).map(CompactString::from)),
    }
}

/// `SMITH, Jane Ann`: the family name in capitals, the others with a capital where the sender used nothing else.
fn full_name(name: &PersonName) -> CompactString {
    let mut shown: CompactString = name.family.as_str().chars().flat_map(char::to_uppercase).collect();
    for (index, part) in [&name.given, &name.middle].into_iter().filter(|part| !part.as_str().is_empty()).enumerate() {
        shown.push_str(match (index, shown.is_empty()) {
            (_, true) => "",
            (0, false) => ", ",
            (_, false) => " ",
        });
        if part.as_str().chars().any(char::is_lowercase) {
            shown.push_str(part.as_str());
        } else {
            capitalise(part.as_str(), &mut shown);
        }
    }
    shown
}

fn capitalise(text: &str, into: &mut CompactString) {
    let mut begins = true;
    for letter in text.chars() {
        if begins {
            into.extend(letter.to_uppercase());
        } else {
            into.extend(letter.to_lowercase());
        }
        begins = !letter.is_alphanumeric();
    }
}

fn initials(name: &PersonName) -> CompactString {
    let mut shown = CompactString::default();
    for part in [&name.given, &name.family] {
        if let Some(letter) = part.as_str().chars().next() {
            if !shown.is_empty() {
                shown.push(' ');
            }
            shown.extend(letter.to_uppercase());
            shown.push('.');
        }
    }
    shown
}

/// Four letters that tell two rooms apart, drawn from the room's id; without vowels, so that they spell nothing.
pub fn room_code(room: CareRoomId) -> CompactString {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let mut rest = u32::try_from(room.0.as_u128() & 0xFFFF_FFFF).unwrap_or(0);
    let mut code = CompactString::default();
    for _ in 0..4 {
        let index = usize::try_from(rest % 20).unwrap_or(0);
        code.push(LETTERS.get(index).copied().map_or('X', char::from));
        rest /= 20;
    }
    code
}

fn room_name(input: &PlanInput<'_>, status: RoomStatus, level: Confidentiality, hides_place: bool) -> CompactString {
    let normal = level == Confidentiality::Normal;
    let place = input.stay.location.standing().filter(|_| !hides_place);
    let in_bed = matches!(status, RoomStatus::Active | RoomStatus::OnLeave | RoomStatus::Expected);
    let unit = place.filter(|_| normal).map(|place| place.point_of_care.as_str()).unwrap_or_default();
    let room = place.filter(|_| in_bed).map(|place| place.room.as_str()).unwrap_or_default();
    let bed = place.filter(|_| in_bed).map(|place| place.bed.as_str()).unwrap_or_default();
    let mut name = CompactString::default();
    for part in &input.policy.name {
        match part {
            NamePart::Text(text) => name.push_str(text),
            NamePart::Facility => name.push_str(place.map(|place| place.facility.as_str()).unwrap_or_default()),
            NamePart::Unit => name.push_str(unit),
            NamePart::Room => name.push_str(room),
            NamePart::Bed => name.push_str(bed),
            NamePart::Place => {
                let dash = if room.is_empty() || bed.is_empty() { "" } else { "-" };
                let space = if unit.is_empty() || (room.is_empty() && bed.is_empty()) { "" } else { " " };
                name.extend([unit, space, room, dash, bed]);
            }
            NamePart::Code => name.push_str(&room_code(input.room)),
            NamePart::Service => {
                name.push_str(input.stay.service.standing().filter(|_| normal).map(crate::ids::HospitalService::as_str).unwrap_or_default());
            }
        }
    }
    let mut tidy = CompactString::default();
    for word in name.split_whitespace() {
        if !tidy.is_empty() {
            tidy.push(' ');
        }
        tidy.push_str(word);
    }
    tidy
}
