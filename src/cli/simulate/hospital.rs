//! A hospital that is made up as time goes by: who comes, moves, is seen by whom, and goes, and what its EMR records of that.
//!
//! Everything follows from the seed. What is recorded is recorded at a time of its own, in growing order; when it reaches the line is for
//! [`super::line`] to say.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message;
use super::message::Heading;
use super::message::Role;
use super::message::Stay;
use super::people;
use super::people::Kind;
use super::people::Person;
use super::people::Unit;
use super::rates::Rates;
use crate::random::Random;
use crate::time::Timestamp;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// How full the hospital is when the first day begins, in a hundred.
const CENSUS: usize = 75;
/// How long an admitted patient stays in the mean.
const STAY: u64 = 3 * DAY;

/// What the EMR records at one moment.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// MSH-9.2.
    pub(super) trigger: &'static str,
    /// The whole message.
    pub(super) text: String,
}

/// Where a bed is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Bed {
    unit: usize,
    bed: usize,
}

/// One patient's stay.
#[derive(Clone, Debug)]
struct Visit {
    person: Person,
    class: &'static str,
    bed: Option<Bed>,
    prior: Option<Bed>,
    attending: usize,
    admitting: usize,
    consulting: Vec<usize>,
    roles: Vec<Role>,
    service: &'static str,
    admitted: Option<u64>,
    discharged: Option<u64>,
    whereabouts: &'static str,
    /// When it was last recorded where they lie.
    placed: u64,
    /// Nothing new begins before something else is done.
    busy: bool,
}

/// What is to happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Somebody comes to the emergency department.
    Emergency,
    /// Somebody is to come on another day.
    Planned,
    /// Somebody is admitted who was to come.
    Comes(u32),
    /// The emergency department is done with somebody.
    Seen(u32),
    /// A day of somebody who lies here.
    Day(u32),
    Transfer(u32),
    Consult(u32),
    Correct(u32),
    /// Somebody is away for an examination.
    Examined(u32),
    Back(u32),
    Discharge(u32),
    /// It turns out who somebody is.
    Identify(u32),
    TakeBackAdmit(u32),
    TakeBackTransfer(u32, Bed, u64),
    TakeBackDischarge(u32, u64),
    /// The nurses change.
    Shift,
}

/// The hospital.
#[derive(Debug)]
pub(super) struct Hospital {
    random: Random,
    /// What the numbers of patients, visits and messages begin with: those of two seeds may come to one daemon.
    series: String,
    rates: Rates,
    start: Timestamp,
    units: Vec<Unit>,
    n_doctors: usize,
    /// Milliseconds since the start.
    now: u64,
    recorded: u64,
    n_steps: u64,
    steps: BTreeMap<(u64, u64), Step>,
    visits: BTreeMap<u32, Visit>,
    /// Who was here and may come again.
    former: Vec<Person>,
    n_people: u32,
    n_visits: u32,
    n_messages: u32,
    shift: usize,
    emergency_gap: u64,
    planned_gap: u64,
    records: Vec<Record>,
}

/// The seed in a few letters and digits, so that with what is counted after it no number is longer than HL7 lets it be.
fn series(seed: u64) -> String {
    let mut rest = seed % 36_u64.pow(6);
    let mut letters = Vec::new();
    loop {
        letters.extend(u32::try_from(rest % 36).ok().and_then(|digit| char::from_digit(digit, 36)));
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    letters.iter().rev().collect::<String>().to_ascii_uppercase()
}

impl Hospital {
    /// A hospital on its first morning.
    pub(super) fn new(n_beds: usize, seed: u64, start: Timestamp, rates: Rates) -> Self {
        // So many come a day that most beds are taken; six of ten come through the emergency department, which admits three of ten.
        let n_admitted = u64::try_from(n_beds).unwrap_or(u64::MAX).saturating_mul(DAY * 85 / 100) / STAY;
        let a_day = |n: u64| DAY / n.max(1);
        let mut hospital = Self {
            random: Random::new(seed),
            series: series(seed),
            rates,
            start,
            units: people::units(n_beds),
            n_doctors: people::n_doctors(n_beds),
            now: 0,
            recorded: 0,
            n_steps: 0,
            steps: BTreeMap::new(),
            visits: BTreeMap::new(),
            former: Vec::new(),
            n_people: 0,
            n_visits: 0,
            n_messages: 0,
            shift: 0,
            emergency_gap: a_day(n_admitted * 2),
            planned_gap: a_day(n_admitted * 4 / 10),
            records: Vec::new(),
        };
        hospital.take_in_who_is_here(n_beds);
        hospital.after(0, hospital.emergency_gap, Step::Emergency);
        hospital.after(0, hospital.planned_gap, Step::Planned);
        hospital.at(7 * HOUR, Step::Shift);
        hospital
    }

    /// Lets the next thing happen, unless that is later than `end`; gives the time at which it did, and what was recorded.
    pub(super) fn go_on(&mut self, end: u64) -> Option<(u64, Vec<Record>)> {
        let (at, step) = self.steps.first_key_value().map(|((at, _), step)| (*at, *step)).filter(|(at, _)| *at < end)?;
        self.steps.pop_first();
        self.now = at;
        self.take(step);
        Some((at, std::mem::take(&mut self.records)))
    }

    fn at(&mut self, at: u64, step: Step) {
        self.n_steps += 1;
        self.steps.insert((at, self.n_steps), step);
    }

    /// After a time between these two.
    fn after(&mut self, from: u64, to: u64, step: Step) {
        let at = self.now + self.random.between(from, to);
        self.at(at, step);
    }

    fn time(&self, at: u64) -> Timestamp {
        self.start.plus(Duration::from_millis(at))
    }

    /// Those who lie here when the feed begins are told of in its first hour.
    fn take_in_who_is_here(&mut self, n_beds: usize) {
        for _ in 0..n_beds * CENSUS / 100 {
            let intensive = self.random.one_in(8);
            let Some(bed) = self.free_bed(if intensive { Kind::Intensive } else { Kind::Ward }) else { continue };
            let person = self.somebody();
            let number = self.new_visit(person, "I", Some(bed));
            let at = self.random.between(0, HOUR);
            self.at(at, Step::Comes(number));
        }
    }

    /// Somebody new, or somebody who was here before.
    fn somebody(&mut self) -> Person {
        if !self.former.is_empty() && self.random.one_in(3) {
            let at = self.random.below(self.former.len());
            return self.former.swap_remove(at);
        }
        self.n_people += 1;
        Person::new(&self.series, self.n_people, &mut self.random)
    }

    fn new_visit(&mut self, person: Person, class: &'static str, bed: Option<Bed>) -> u32 {
        self.n_visits += 1;
        let attending = self.random.below(self.n_doctors);
        let service = bed.map_or("MED", |bed| self.service(bed));
        let visit = Visit {
            person,
            class,
            bed,
            prior: None,
            attending,
            admitting: attending,
            consulting: Vec::new(),
            roles: Vec::new(),
            service,
            admitted: None,
            discharged: None,
            whereabouts: "",
            placed: 0,
            busy: false,
        };
        self.visits.insert(self.n_visits, visit);
        self.n_visits
    }

    fn service(&self, bed: Bed) -> &'static str {
        self.units.get(bed.unit).map_or("MED", |unit| unit.service)
    }

    /// Takes a bed in a unit of this kind.
    fn free_bed(&mut self, kind: Kind) -> Option<Bed> {
        let n = self.units.len();
        let from = self.random.below(n);
        let unit = (0..n)
            .map(|step| (from + step) % n)
            .find(|at| self.units.get(*at).is_some_and(|unit| unit.kind == kind && unit.taken.contains(&false)))?;
        let taken = &mut self.units.get_mut(unit)?.taken;
        let first = self.random.below(taken.len());
        let bed = (0..taken.len()).map(|step| (first + step) % taken.len()).find(|at| taken.get(*at) == Some(&false))?;
        *taken.get_mut(bed)? = true;
        Some(Bed { unit, bed })
    }

    fn give_back(&mut self, bed: Option<Bed>) {
        if let Some(bed) = bed
            && let Some(taken) = self.units.get_mut(bed.unit).and_then(|unit| unit.taken.get_mut(bed.bed))
        {
            *taken = false;
        }
    }

    /// PV1-3: a room of a ward has two beds, others have one.
    fn place(&self, bed: Option<Bed>) -> String {
        let Some((bed, unit)) = bed.and_then(|bed| Some((bed.bed, self.units.get(bed.unit)?))) else { return String::new() };
        match unit.kind {
            Kind::Ward => format!("{}^{:02}^{}^GHH", unit.code, bed / 2 + 1, if bed.is_multiple_of(2) { "A" } else { "B" }),
            Kind::Emergency | Kind::Intensive => format!("{}^{:02}^^GHH", unit.code, bed + 1),
        }
    }

    /// Records an event of one stay. What occurred, occurred a little before it is recorded.
    fn record(&mut self, trigger: &'static str, number: u32, occurred: Option<u64>) {
        let (recorded, control) = self.next_stamp();
        if let Some(visit) = self.visits.get_mut(&number).filter(|_| matches!(trigger, "A01" | "A02" | "A04" | "A06" | "A12" | "A13")) {
            visit.placed = recorded;
        }
        let Some(visit) = self.visits.get(&number) else { return };
        let heading = self.heading(trigger, &control, recorded, occurred);
        let text = message::of_stays(&heading, &[self.stay(number, visit)]);
        self.keep(recorded, trigger, text);
    }

    fn record_person(&mut self, trigger: &'static str, person: &Person, merged: Option<&Person>) {
        let (recorded, control) = self.next_stamp();
        let text = message::of_person(&self.heading(trigger, &control, recorded, None), person, merged);
        self.keep(recorded, trigger, text);
    }

    /// No two records have one time.
    fn next_stamp(&mut self) -> (u64, String) {
        let recorded = self.now.max(self.recorded + 1);
        self.n_messages += 1;
        (recorded, format!("EMR{}-{:09}", self.series, self.n_messages))
    }

    fn heading<'a>(&self, trigger: &'static str, control: &'a str, recorded: u64, occurred: Option<u64>) -> Heading<'a> {
        Heading { trigger, control, sent: self.time(recorded + 40), recorded: self.time(recorded), occurred: occurred.map(|at| self.time(at)) }
    }

    fn keep(&mut self, recorded: u64, trigger: &'static str, text: String) {
        self.recorded = recorded;
        self.records.push(Record { trigger, text });
    }

    fn stay<'a>(&self, number: u32, visit: &'a Visit) -> Stay<'a> {
        Stay {
            person: &visit.person,
            number: format!("{}-{number:07}", self.series),
            class: visit.class,
            place: self.place(visit.bed),
            prior: self.place(visit.prior),
            whereabouts: visit.whereabouts,
            attending: people::doctor(visit.attending),
            admitting: people::doctor(visit.admitting),
            consulting: visit.consulting.iter().map(|doctor| people::doctor(*doctor)).collect(),
            service: visit.service,
            admitted: visit.admitted.map(|at| self.time(at)),
            discharged: visit.discharged.map(|at| self.time(at)),
            roles: &visit.roles,
        }
    }

    /// The nurse of the shift, and the consultants; whoever was there before is told of once more, with an end.
    fn assign(&mut self, number: u32) {
        let now = self.time(self.now);
        let nurse_number = self.random.below(8);
        let Some(visit) = self.visits.get_mut(&number) else { return };
        let Some(unit) = visit.bed.and_then(|bed| self.units.get(bed.unit)) else { return };
        visit.roles.retain(|role| role.ends.is_none());
        for role in &mut visit.roles {
            if role.what.starts_with("RN") {
                role.ends = Some(now);
            }
        }
        visit.roles.push(Role { what: "RN^Registered Nurse", person: people::nurse(unit, nurse_number), begins: now, ends: None });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Emergency => self.emergency(),
            Step::Planned => self.planned(),
            Step::Comes(number) => self.comes(number),
            Step::Seen(number) => self.seen(number),
            Step::Day(number) => self.day(number),
            Step::Transfer(number) => self.transfer(number),
            Step::Consult(number) => self.consult(number),
            Step::Correct(number) => self.correct(number),
            Step::Examined(number) => self.examined(number),
            Step::Back(number) => self.back(number),
            Step::Discharge(number) => self.discharge(number),
            Step::Identify(number) => self.identify(number),
            Step::TakeBackAdmit(number) => self.take_back_admit(number),
            Step::TakeBackTransfer(number, bed, moved) => self.take_back_transfer(number, bed, moved),
            Step::TakeBackDischarge(number, discharged) => self.take_back_discharge(number, discharged),
            Step::Shift => self.change_shift(),
        }
    }

    fn emergency(&mut self) {
        // At night it is quieter.
        let gap = if (7 * HOUR..22 * HOUR).contains(&(self.now % DAY)) { self.emergency_gap * 5 / 6 } else { self.emergency_gap * 3 / 2 };
        self.after(0, 2 * gap, Step::Emergency);
        let Some(bed) = self.free_bed(Kind::Emergency) else { return };
        let is_unknown = self.random.in_a_million(self.rates.merges.0);
        let person = if is_unknown {
            self.n_people += 1;
            Person::unknown(&self.series, self.n_people, &mut self.random)
        } else {
            self.somebody()
        };
        let number = self.new_visit(person, "E", Some(bed));
        if let Some(visit) = self.visits.get_mut(&number) {
            visit.admitted = Some(self.now);
        }
        self.assign(number);
        self.record("A04", number, None);
        if is_unknown {
            self.after(HOUR, 4 * HOUR, Step::Identify(number));
        }
        self.after(90 * MINUTE, 6 * HOUR, Step::Seen(number));
    }

    fn seen(&mut self, number: u32) {
        if self.visits.get(&number).is_none_or(|visit| visit.busy || !visit.person.is_known) {
            self.after(HOUR, 2 * HOUR, Step::Seen(number));
            return;
        }
        if !self.random.in_a_million(300_000) {
            return self.discharge(number);
        }
        let kind = if self.random.one_in(6) { Kind::Intensive } else { Kind::Ward };
        let Some(bed) = self.free_bed(kind) else {
            // They wait where they are until a bed is free.
            self.after(30 * MINUTE, 90 * MINUTE, Step::Seen(number));
            return;
        };
        let (doctor, service) = (self.random.below(self.n_doctors), self.service(bed));
        if let Some(visit) = self.visits.get_mut(&number) {
            visit.prior = visit.bed.replace(bed);
            (visit.class, visit.service) = ("I", service);
            visit.admitting = std::mem::replace(&mut visit.attending, doctor);
        }
        self.assign(number);
        let moved = self.just_before(number);
        self.record("A06", number, Some(moved));
        self.moved(number);
        self.after(6 * HOUR, DAY, Step::Day(number));
    }

    /// When a movement happened that is recorded now: a little earlier, and after the one before it.
    fn just_before(&self, number: u32) -> u64 {
        let placed = self.visits.get(&number).map_or(0, |visit| visit.placed);
        self.now.saturating_sub(4 * MINUTE).max(placed + 1000)
    }

    /// The bed they came from is free again.
    fn moved(&mut self, number: u32) {
        let prior = self.visits.get_mut(&number).and_then(|visit| visit.prior.take());
        self.give_back(prior);
    }

    fn planned(&mut self) {
        let gap = self.planned_gap;
        self.after(0, 2 * gap, Step::Planned);
        let person = self.somebody();
        let number = self.new_visit(person, "I", None);
        self.record("A05", number, None);
        if self.random.in_a_million(self.rates.cancels.0) {
            self.after(HOUR, 8 * HOUR, Step::TakeBackAdmit(number));
        } else {
            self.after(2 * HOUR, 20 * HOUR, Step::Comes(number));
        }
    }

    fn comes(&mut self, number: u32) {
        let has_bed = self.visits.get(&number).is_some_and(|visit| visit.bed.is_some());
        let was_here = has_bed && self.now < HOUR;
        if !has_bed {
            let Some(bed) = self.free_bed(Kind::Ward) else {
                self.after(2 * HOUR, 6 * HOUR, Step::Comes(number));
                return;
            };
            let service = self.service(bed);
            if let Some(visit) = self.visits.get_mut(&number) {
                (visit.bed, visit.service) = (Some(bed), service);
            }
        }
        if let Some(visit) = self.visits.get_mut(&number) {
            visit.admitted = Some(self.now);
        }
        self.assign(number);
        self.record("A01", number, None);
        if !was_here && self.random.in_a_million(self.rates.cancels.0) {
            self.busy(number, true);
            self.after(5 * MINUTE, 40 * MINUTE, Step::TakeBackAdmit(number));
        } else {
            self.after(2 * HOUR, DAY, Step::Day(number));
        }
    }

    fn busy(&mut self, number: u32, busy: bool) {
        if let Some(visit) = self.visits.get_mut(&number) {
            visit.busy = busy;
        }
    }

    fn is_free(&self, number: u32) -> bool {
        self.visits.get(&number).is_some_and(|visit| !visit.busy && visit.discharged.is_none())
    }

    fn take_back_admit(&mut self, number: u32) {
        let trigger = if self.visits.get(&number).is_some_and(|visit| visit.bed.is_some()) { "A11" } else { "A38" };
        let occurred = self.visits.get(&number).and_then(|visit| visit.admitted);
        self.record(trigger, number, occurred);
        self.gone(number);
    }

    fn gone(&mut self, number: u32) {
        if let Some(visit) = self.visits.remove(&number) {
            self.give_back(visit.bed);
            if visit.person.is_known {
                self.former.push(visit.person);
            }
        }
    }

    /// What a day brings to somebody who lies here.
    fn day(&mut self, number: u32) {
        if !self.visits.contains_key(&number) {
            return;
        }
        let Rates { transfers, consults, corrections, .. } = self.rates;
        if self.random.in_a_million(transfers.0) {
            self.after(0, 20 * HOUR, Step::Transfer(number));
        }
        if self.random.in_a_million(consults.0) {
            self.after(0, 20 * HOUR, Step::Consult(number));
        }
        if self.random.in_a_million(corrections.0) {
            self.after(0, 20 * HOUR, Step::Correct(number));
        }
        if self.random.one_in(4) {
            self.after(0, 20 * HOUR, Step::Examined(number));
        }
        if self.random.between(0, STAY / DAY) == 0 {
            if self.random.one_in(2) && self.is_free(number) {
                self.record("A16", number, None);
            }
            self.after(2 * HOUR, 12 * HOUR, Step::Discharge(number));
        } else {
            self.after(20 * HOUR, 28 * HOUR, Step::Day(number));
        }
    }

    fn transfer(&mut self, number: u32) {
        if !self.is_free(number) {
            return;
        }
        let to_intensive = self.random.one_in(6);
        let Some(bed) = self.free_bed(if to_intensive { Kind::Intensive } else { Kind::Ward }) else { return self.swap(number) };
        let service = self.service(bed);
        let Some(visit) = self.visits.get_mut(&number) else { return };
        visit.prior = visit.bed.replace(bed);
        visit.service = service;
        let prior = visit.prior;
        let moved = self.just_before(number);
        self.assign(number);
        self.record("A02", number, Some(moved));
        match prior {
            Some(prior) if self.random.in_a_million(self.rates.cancels.0) => {
                self.busy(number, true);
                self.after(5 * MINUTE, 50 * MINUTE, Step::TakeBackTransfer(number, prior, moved));
            }
            Some(_) | None => self.moved(number),
        }
    }

    /// No bed is free: two patients change places.
    fn swap(&mut self, number: u32) {
        let others: Vec<u32> = self
            .visits
            .iter()
            .filter(|(other, visit)| **other != number && visit.class == "I" && visit.bed.is_some())
            .map(|(other, _)| *other)
            .collect();
        let Some(other) = self.random.pick(&others).copied().filter(|other| self.is_free(*other)) else { return };
        let bed_of = |hospital: &Self, number| hospital.visits.get(&number).and_then(|visit| visit.bed);
        let (one, two) = (bed_of(self, number), bed_of(self, other));
        for (number, from, to) in [(number, one, two), (other, two, one)] {
            if let Some(visit) = self.visits.get_mut(&number) {
                (visit.prior, visit.bed) = (from, to);
            }
        }
        let moved = self.just_before(number).max(self.just_before(other));
        let (recorded, control) = self.next_stamp();
        let heading = self.heading("A17", &control, recorded, Some(moved));
        let stays: Vec<Stay<'_>> = [number, other].iter().filter_map(|n| self.visits.get(n).map(|visit| self.stay(*n, visit))).collect();
        let text = message::of_stays(&heading, &stays);
        self.keep(recorded, "A17", text);
        for number in [number, other] {
            if let Some(visit) = self.visits.get_mut(&number) {
                (visit.prior, visit.placed) = (None, recorded);
            }
        }
    }

    fn take_back_transfer(&mut self, number: u32, back_to: Bed, moved: u64) {
        let service = self.service(back_to);
        let Some(visit) = self.visits.get_mut(&number) else { return };
        visit.prior = visit.bed.replace(back_to);
        visit.service = service;
        visit.busy = false;
        self.assign(number);
        self.record("A12", number, Some(moved));
        self.moved(number);
    }

    fn consult(&mut self, number: u32) {
        if !self.is_free(number) {
            return;
        }
        let (doctor, now) = (self.random.below(self.n_doctors), self.time(self.now));
        let Some(visit) = self.visits.get_mut(&number) else { return };
        if doctor != visit.attending && !visit.consulting.contains(&doctor) {
            visit.consulting.push(doctor);
            visit.roles.push(Role { what: "CP^Consulting Provider", person: people::doctor(doctor), begins: now, ends: None });
            self.record("A08", number, None);
        }
    }

    /// Something was wrong: the doctor, the birth date, or how the name is spelt.
    fn correct(&mut self, number: u32) {
        if !self.is_free(number) {
            return;
        }
        let (doctor, kind, day) = (self.random.below(self.n_doctors), self.random.below(3), self.random.between(1, 29));
        let Some(visit) = self.visits.get_mut(&number) else { return };
        match kind {
            0 => {
                visit.attending = doctor;
                self.record("A54", number, None);
            }
            1 => {
                visit.person.born.truncate(6);
                visit.person.born += &format!("{day:02}");
                self.record("A08", number, None);
            }
            _ => {
                visit.person.family += "-Lane";
                let person = visit.person.clone();
                self.record_person("A31", &person, None);
            }
        }
    }

    fn examined(&mut self, number: u32) {
        if !self.is_free(number) {
            return;
        }
        if let Some(visit) = self.visits.get_mut(&number) {
            (visit.whereabouts, visit.busy) = ("RAD^^^GHH", true);
        }
        self.record("A09", number, None);
        self.after(20 * MINUTE, 90 * MINUTE, Step::Back(number));
    }

    fn back(&mut self, number: u32) {
        if let Some(visit) = self.visits.get_mut(&number) {
            (visit.whereabouts, visit.busy) = ("", false);
            self.record("A10", number, None);
        }
    }

    fn discharge(&mut self, number: u32) {
        let (left, now) = (self.now.saturating_sub(3 * MINUTE), self.time(self.now));
        let Some(visit) = self.visits.get_mut(&number) else { return };
        if visit.busy {
            self.after(HOUR, 2 * HOUR, Step::Discharge(number));
            return;
        }
        visit.discharged = Some(left);
        let is_inpatient = visit.class == "I";
        for role in &mut visit.roles {
            role.ends = role.ends.or(Some(now));
        }
        self.record("A03", number, Some(left));
        if is_inpatient && self.random.in_a_million(self.rates.cancels.0) {
            self.busy(number, true);
            self.after(10 * MINUTE, 2 * HOUR, Step::TakeBackDischarge(number, left));
        } else {
            self.gone(number);
        }
    }

    fn take_back_discharge(&mut self, number: u32, left: u64) {
        let Some(visit) = self.visits.get_mut(&number) else { return };
        (visit.discharged, visit.busy) = (None, false);
        self.assign(number);
        self.record("A13", number, Some(left));
        self.after(12 * HOUR, DAY, Step::Discharge(number));
    }

    /// The record made for somebody unknown is merged into their own.
    fn identify(&mut self, number: u32) {
        let person = self.somebody();
        let Some(visit) = self.visits.get_mut(&number) else { return };
        let unknown = std::mem::replace(&mut visit.person, person.clone());
        self.record_person("A40", &person, Some(&unknown));
        self.record("A08", number, None);
    }

    fn change_shift(&mut self) {
        self.shift += 1;
        self.after(12 * HOUR, 12 * HOUR, Step::Shift);
        let here: Vec<u32> =
            self.visits.iter().filter(|(_, visit)| visit.bed.is_some() && visit.admitted.is_some()).map(|(number, _)| *number).collect();
        for number in here {
            if self.is_free(number) {
                self.assign(number);
                self.record("A08", number, None);
                // The desk needs a moment for each.
                self.now += self.random.between(500, 4000);
            }
        }
    }
}
