//! One stay: what was said of it, from an opening to an end.
//!
//! A fact is folded onto what stands; milestones and runs of values are kept as far as a later cancel may need them. Whose stay it is, and by which numbers
//! it is known, is the visit's matter.

use crate::care::fact::Act;
use crate::care::fact::Assignment;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::BedLocation;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Practitioner;
use crate::care::fact::Restriction;
use crate::care::fact::SignalSource;
use crate::care::fact::SignalsSaid;
use crate::care::fact::Stamp;
use crate::care::fact::StaySaid;
use crate::care::runs::Register;
use crate::care::runs::Runs;
use crate::care::visit::CourseRules;
use crate::care::visit::Phase;
use crate::ids::HospitalService;
use crate::ids::PatientClass;
use crate::phi::Phi;
use crate::phi::sealed_form;
use crate::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;

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
    /// When a word asked for the highest level last, whatever became of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    highest_at: Option<Timestamp>,
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
            if signal.update.value().is_some_and(|asked| asked.is_highest(since.recorded)) {
                self.highest_at = self.highest_at.max(Some(since.recorded));
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
        self.highest_at = self.highest_at.max(other.highest_at);
    }

    /// When a word asked for the highest level last, whatever became of that.
    pub(crate) const fn highest_at(&self) -> Option<Timestamp> {
        self.highest_at
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

impl Stay {
    /// Whether an opening under the number of an ended stay begins another: it says it began after this one ended.
    pub(super) fn number_is_used_again(&self, fact: &Fact) -> bool {
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
    pub(super) fn apply(&mut self, fact: &Fact, opens: bool) {
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
    pub(super) fn say_providers(&mut self, fact: &Fact) {
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
