//! Whole hospital histories, made at random: what a feed might say in half a day, about a few patients and their stays.
//!
//! Left out is what the law does not reach (equal stamps, messages that name no visit, and words under a patient that nothing ever explains).

mod identifiers;

use std::time::Duration;

use smallvec::smallvec;

use crate::care::fact::Act;
use crate::care::fact::Assignment;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::fact::Facet;
use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::FieldRef;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Movement;
use crate::care::fact::PersonName;
use crate::care::fact::PersonSaid;
use crate::care::fact::Practitioner;
use crate::care::fact::Restriction;
use crate::care::fact::SignalSaid;
use crate::care::fact::SignalSource;
use crate::care::fact::SignalsSaid;
use crate::care::fact::Stamp;
use crate::care::fact::StaySaid;
use crate::care::fact::VisitRef;
use crate::ids::Facility;
use crate::ids::FeedName;
use crate::ids::HospitalService;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::ids::PatientClass;
use crate::ids::PatientId;
use crate::ids::PointOfCare;
use crate::ids::Role;
use crate::ids::StaffId;
use crate::ids::TriggerEvent;
use crate::ids::VisitId;
use crate::phi::Phi;
use crate::random::Random;
use crate::time::Timestamp;

/// One message of a history.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) facts: Vec<Fact>,
}

pub(super) const UNITS: [&str; 7] = ["4N", "5S", "ICU", "PSY", "DETOX", "POOL", "NOWHERE"];
pub(super) const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

struct Patient {
    /// Every id that is theirs now; the first counts.
    ids: Vec<PatientId>,
    n: usize,
}

struct Visit {
    /// Every number that is its own now; the first counts.
    numbers: Vec<VisitId>,
    /// Whether nobody said that its numbers are of one stay.
    is_concluded: bool,
    patient: usize,
    account: Option<VisitId>,
    /// Whether another visit has the same account, so that the account alone names neither.
    shares_account: bool,
    alternate: Option<VisitId>,
    preadmit: Option<VisitId>,
    place: BedLocation,
    admitted: Timestamp,
    /// What a cancel could name.
    done: Vec<(Act, Timestamp, BedLocation)>,
}

struct Maker {
    rng: Random,
    /// Which of two feeds speaks, drawn by itself; and what the second owns, where there is one.
    feeds: Random,
    owned: Vec<Facet>,
    minute: u64,
    n_facts: u64,
    by_account: bool,
    /// Whether much of it is about the accounts of a few stays.
    about_accounts: bool,
    movements: bool,
    patients: Vec<Patient>,
    visits: Vec<Visit>,
    /// The accounts by which alone a stay was named: no other stay ever has one of them.
    named_alone: Vec<VisitId>,
    n_ids: usize,
    said: Vec<Said>,
}

/// A history, in the order in which it was recorded.
pub(super) fn history(seed: u64) -> Vec<Said> {
    let mut rng = Random::new(seed);
    let (by_account, movements) = (rng.one_in(4), rng.one_in(3));
    let mut feeds = Random::new(seed ^ 0xfeed);
    let facets = [Facet::Lifecycle, Facet::Location, Facet::Class, Facet::Service, Facet::Team, Facet::Confidentiality, Facet::Identity];
    let two = feeds.one_in(4);
    let owned = facets.into_iter().filter(|_| two && feeds.one_in(3)).collect();
    let mut maker = Maker {
        rng,
        feeds,
        owned,
        minute: 0,
        n_facts: 0,
        by_account,
        about_accounts: false,
        movements,
        patients: Vec::new(),
        visits: Vec::new(),
        named_alone: Vec::new(),
        n_ids: 0,
        said: Vec::new(),
    };
    maker.about_accounts = !by_account && maker.feeds.one_in(4);
    for n in 0..=maker.rng.below(3) {
        let id = maker.patient_id();
        maker.patients.push(Patient { ids: vec![id], n });
    }
    for _ in 0..=maker.rng.below(4) {
        let patient = maker.rng.below(maker.patients.len());
        maker.new_visit(patient);
    }
    let n = 3 + maker.rng.below(28);
    for _ in 0..n {
        maker.minute += 1 + u64::try_from(maker.rng.below(40)).unwrap();
        maker.step();
    }
    maker.said
}

pub(super) fn bed(unit: &str, bed: &str) -> BedLocation {
    BedLocation {
        facility: Facility::from("GHH"),
        point_of_care: PointOfCare::from(unit),
        room: if bed.is_empty() { "".into() } else { "1".into() },
        bed: bed.into(),
        building: "".into(),
    }
}

fn doctor(n: usize) -> Practitioner {
    Practitioner { ids: smallvec![StaffId::new("GHH", "EI", &format!("d{n}"))], ..Practitioner::default() }
}

impl Maker {
    fn now(&self) -> Timestamp {
        START.plus(Duration::from_mins(self.minute))
    }

    fn patient_id(&mut self) -> PatientId {
        self.n_ids += 1;
        PatientId(Identifier::new("GHH", "MR", &format!("P{}", self.n_ids)))
    }

    fn number(&mut self) -> VisitId {
        self.n_ids += 1;
        VisitId(Identifier::new("GHH", "VN", &format!("V{}", self.n_ids)))
    }

    fn new_visit(&mut self, patient: usize) {
        let number = self.number();
        let mut account = (!self.by_account && (self.rng.one_in(3) || self.about_accounts)).then(|| self.number());
        let mut shares_account = false;
        let with = self.visits.iter().position(|other| other.patient == patient && other.account.is_some());
        if let Some(with) = with.filter(|_| self.rng.one_in(2)) {
            account.clone_from(&self.visits[with].account);
            self.visits[with].shares_account = true;
            shares_account = true;
        }
        let alternate = (!self.by_account && self.rng.one_in(6)).then(|| self.number());
        let preadmit = (!self.by_account && self.rng.one_in(4)).then(|| self.number());
        let unit = *self.rng.pick(&UNITS).unwrap();
        let admitted = self.now();
        self.visits.push(Visit {
            numbers: vec![number],
            is_concluded: false,
            patient,
            account,
            shares_account,
            alternate,
            preadmit,
            place: bed(unit, "1"),
            admitted,
            done: Vec::new(),
        });
    }

    fn place(&mut self) -> BedLocation {
        let unit = *self.rng.pick(&UNITS).unwrap();
        let b = *self.rng.pick(&["1", "2", "3", ""]).unwrap();
        bed(unit, b)
    }

    fn fact(&mut self, trigger: &str, act: Act, patient: PatientId) -> Fact {
        self.n_facts += 1;
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&self.n_facts.to_be_bytes());
        let at = self.now();
        let owns = if self.feeds.one_in(2) { self.owned.clone() } else { Vec::new() };
        Fact {
            hash: FactHash(hash),
            stamp: Stamp { recorded: at, sent: at, arrival: JournalId(0) },
            recorded_by_sender: !self.rng.one_in(12),
            trigger: TriggerEvent::parse(trigger).unwrap(),
            act,
            occurred_at: None,
            movement: None,
            feed: FeedName::from("main"),
            owns,
            load: false,
            patient,
            other_ids: Vec::new(),
            visit: None,
            person: PersonSaid::default(),
            stay: StaySaid::default(),
            relation: None,
        }
    }

    /// Any id of a patient that is theirs by now.
    fn id_of(&mut self, patient: usize) -> PatientId {
        let ids = &self.patients[patient].ids;
        if self.rng.one_in(3) { self.rng.pick(ids).unwrap().clone() } else { ids[0].clone() }
    }

    fn person(&mut self, patient: usize) -> PersonSaid {
        let n = self.patients[patient].n;
        let mut said = PersonSaid::default();
        if self.rng.one_in(2) {
            let given = *self.rng.pick(&["Ann", "Bea", "Eve"]).unwrap();
            said.name =
                FieldUpdate::Set(PersonName { family: Phi::from(format!("Fam{n}").as_str()), given: Phi::from(given), middle: Phi::from("") });
            said.birth_date = FieldUpdate::Set(Phi::from(format!("19{}0-01-01", 5 + n).as_str()));
            said.sex = FieldUpdate::Set(Phi::from("F"));
        }
        if self.rng.one_in(12) {
            said.birth_date = FieldUpdate::Clear;
        }
        if self.rng.one_in(12) {
            said.deceased = FieldUpdate::Set(self.rng.one_in(2));
        }
        if self.rng.one_in(6) {
            let source = self.rng.pick(&[SignalSource::PatientProtection, SignalSource::AccessRestriction("x".to_owned())]).unwrap().clone();
            said.signals = self.signal(source);
        }
        said
    }

    fn signal(&mut self, source: SignalSource) -> SignalsSaid {
        let level = *self
            .rng
            .pick(&[Confidentiality::Normal, Confidentiality::Restricted, Confidentiality::Restricted, Confidentiality::VeryRestricted])
            .unwrap();
        let ends_at = self.rng.one_in(3).then(|| self.now().plus(Duration::from_hours(1)));
        let update = if self.rng.one_in(2) { FieldUpdate::Clear } else { FieldUpdate::Set(Restriction { level, ends_at, ..Restriction::default() }) };
        SignalsSaid { replaces_access_restrictions: self.rng.one_in(6), said: vec![SignalSaid { source, update }] }
    }

    fn doctors(&mut self, stay: &mut StaySaid) {
        if self.rng.one_in(2) {
            stay.attending = if self.rng.one_in(10) { FieldUpdate::Clear } else { FieldUpdate::Set(doctor(self.rng.below(7))) };
        }
        if self.rng.one_in(4) {
            stay.admitting = FieldUpdate::Set(doctor(self.rng.below(7)));
        }
        if self.rng.one_in(4) {
            let n = self.rng.below(3);
            let list = (0..n).map(|_| doctor(self.rng.below(7))).collect();
            stay.consulting = if self.rng.one_in(8) { FieldUpdate::Clear } else { FieldUpdate::Set(list) };
            stay.consulting_adds = self.rng.one_in(4);
        }
        if self.rng.one_in(5) {
            stay.assignments = self.assignments();
        }
    }

    fn assignments(&mut self) -> AssignmentsSaid {
        let delta = self.rng.one_in(2);
        let n = self.rng.below(3);
        let mut list = Vec::new();
        for _ in 0..n {
            let (source, role) =
                *self.rng.pick(&[("ROL:RN", "nurse"), ("ROL:PT", "therapist"), ("ROL:AT", "attending"), ("PRT:CM", "case manager")]).unwrap();
            list.push(Assignment {
                source: source.into(),
                role: Some(Role::from(role)),
                from: FieldRef::new(if source.starts_with("ROL") { "ROL-4" } else { "PRT-5" }),
                person: doctor(self.rng.below(7)),
                begins_at: self.rng.one_in(6).then(|| self.now().plus(Duration::from_mins(20))),
                ends_at: self.rng.one_in(5).then(|| self.now().plus(Duration::from_hours(2))),
                removed: delta && self.rng.one_in(3),
            });
        }
        if delta { AssignmentsSaid::Delta(list) } else { AssignmentsSaid::Snapshot(list) }
    }

    fn of_visit(&mut self, trigger: &str, act: Act, at: usize) -> Fact {
        let patient = self.visits[at].patient;
        let id = self.id_of(patient);
        let mut fact = self.fact(trigger, act, id);
        fact.person = self.person(patient);
        let visit = &self.visits[at];
        let number = if self.rng.one_in(4) { self.rng.pick(&visit.numbers).unwrap().clone() } else { visit.numbers[0].clone() };
        let visit = &self.visits[at];
        fact.visit = Some(VisitRef {
            id: number,
            from: FieldRef::new("PV1-19"),
            is_account: self.by_account,
            account: visit.account.clone().filter(|_| self.rng.one_in(2)),
            alternate: visit.alternate.clone().filter(|_| self.rng.one_in(3)),
            preadmit: visit.preadmit.clone().filter(|_| matches!(act, Act::Open) || self.rng.one_in(4)),
        });
        // A message may name the stay by another of its numbers alone.
        if let Some(named) = &mut fact.visit {
            let visit = &self.visits[at];
            if let Some(account) = visit.account.clone().filter(|_| !visit.shares_account && self.rng.one_in(5)) {
                self.named_alone.push(account.clone());
                *named = VisitRef { id: account, from: FieldRef::new("PID-18"), is_account: true, account: None, alternate: None, preadmit: None };
            } else if let Some(alternate) = visit.alternate.clone().filter(|_| self.rng.one_in(5)) {
                *named = VisitRef { id: alternate, from: FieldRef::new("PV1-50"), account: None, alternate: None, preadmit: None, is_account: false };
            }
        }
        if self.movements {
            let ids = vec![format!("M{}", self.n_facts)];
            fact.movement = Some(Movement { ids, begins_at: None, historic: self.rng.one_in(12) });
        }
        if self.rng.one_in(8) {
            fact.stay.signals = self.signal(SignalSource::Vip);
        }
        fact
    }

    fn step(&mut self) {
        let at = self.rng.below(self.visits.len());
        let mut what = self.rng.below(43);
        if self.about_accounts && self.feeds.one_in(2) {
            what = *self.feeds.pick(&[0, 18, 34, 38, 39, 39, 40, 40]).unwrap();
        }
        let facts = match what {
            0..=5 => vec![self.open(at)],
            6..=10 => vec![self.moved(at)],
            11..=13 => vec![self.ended(at)],
            14..=17 => vec![self.cancelled(at)],
            18..=22 => vec![self.updated(at)],
            23 => vec![self.left(at)],
            24 => vec![self.expected(at)],
            25 => vec![self.reclassified(at)],
            26 => vec![self.providers(at)],
            27 => vec![self.tracked(at)],
            28 => vec![self.planned(at)],
            29 => self.swapped(at),
            30 => vec![self.person_said()],
            31 | 32 => self.patients_merged(),
            33 => vec![self.id_changed()],
            34 | 35 => vec![self.renumbered(at)],
            36 | 37 => self.visits_merged(at),
            38 => self.visit_moved(at),
            39 => self.account_moved(at),
            40 => vec![self.reclassified_under_another_account(at)],
            41 => self.linked(),
            _ => vec![self.person_moved(at)],
        };
        if !facts.is_empty() {
            self.said.push(Said { facts });
        }
    }

    fn open(&mut self, at: usize) -> Fact {
        let mut fact = self.of_visit("A01", Act::Open, at);
        if self.rng.one_in(4) && self.visits[at].done.iter().any(|(act, ..)| *act == Act::End) {
            // The number is used again.
            self.visits[at].admitted = self.now();
        }
        fact.stay.class = FieldUpdate::Set(PatientClass::from(*self.rng.pick(&["I", "I", "I", "E", "O"]).unwrap()));
        fact.stay.location = FieldUpdate::Set(self.visits[at].place.clone());
        if !self.rng.one_in(4) {
            fact.stay.admitted_at = FieldUpdate::Set(self.visits[at].admitted);
        }
        if self.rng.one_in(4) {
            fact.stay.service = FieldUpdate::Set(HospitalService::from(*self.rng.pick(&["CAR", "MED"]).unwrap()));
        }
        self.doctors(&mut fact.stay);
        self.done(at, Act::Open);
        fact
    }

    fn done(&mut self, at: usize, act: Act) {
        let now = self.now();
        let visit = &mut self.visits[at];
        visit.done.push((act, now, visit.place.clone()));
    }

    fn moved(&mut self, at: usize) -> Fact {
        let mut fact = self.of_visit("A02", Act::Move, at);
        let to = self.place();
        let from = std::mem::replace(&mut self.visits[at].place, to.clone());
        fact.stay.location = FieldUpdate::Set(to);
        fact.stay.prior_location = self.rng.one_in(2).then_some(from);
        if self.rng.one_in(2) {
            let back = u64::try_from(self.rng.below(90)).unwrap();
            fact.occurred_at = Some(self.now().minus(Duration::from_mins(back)));
        }
        self.doctors(&mut fact.stay);
        self.done(at, Act::Move);
        fact
    }

    fn ended(&mut self, at: usize) -> Fact {
        let mut fact = self.of_visit("A03", Act::End, at);
        if self.rng.one_in(2) {
            fact.stay.discharged_at = FieldUpdate::Set(self.now().minus(Duration::from_mins(5)));
        }
        if self.rng.one_in(3) {
            fact.stay.location = FieldUpdate::Set(self.visits[at].place.clone());
        }
        if self.rng.one_in(4) {
            fact.stay.class = FieldUpdate::Set(PatientClass::from(*self.rng.pick(&["I", "E"]).unwrap()));
        }
        self.doctors(&mut fact.stay);
        self.done(at, Act::End);
        fact
    }

    fn cancelled(&mut self, at: usize) -> Fact {
        let kinds = [
            (Act::Open, "A11", Act::CancelOpen),
            (Act::Move, "A12", Act::CancelMove),
            (Act::End, "A13", Act::CancelEnd),
            (Act::Expect, "A38", Act::CancelExpect),
            (Act::Leave, "A52", Act::CancelLeave),
            (Act::Return, "A53", Act::CancelReturn),
            (Act::ChangeProviders, "A55", Act::CancelChangeProviders),
        ];
        let done = self.visits[at].done.clone();
        let meant = done.last().filter(|_| !self.rng.one_in(4)).cloned();
        let (_, trigger, act) = match &meant {
            Some((of, ..)) => *kinds.iter().find(|(kind, ..)| kind == of).unwrap_or(&kinds[0]),
            None => *self.rng.pick(&kinds).unwrap(),
        };
        let mut fact = self.of_visit(trigger, act, at);
        fact.movement = fact.movement.filter(|_| false);
        if self.rng.one_in(2) {
            fact.occurred_at = meant.map(|(_, when, _)| when);
        }
        if self.rng.one_in(3) {
            fact.stay.location = FieldUpdate::Set(self.place());
        }
        if act == Act::CancelChangeProviders || self.rng.one_in(4) {
            self.doctors(&mut fact.stay);
        }
        fact
    }

    fn updated(&mut self, at: usize) -> Fact {
        let mut fact = self.of_visit("A08", Act::Update, at);
        if self.rng.one_in(2) {
            let place = if self.rng.one_in(3) { self.place() } else { self.visits[at].place.clone() };
            fact.stay.location = FieldUpdate::Set(place);
        }
        if self.rng.one_in(4) {
            fact.stay.class = FieldUpdate::Set(PatientClass::from(*self.rng.pick(&["I", "E", "O"]).unwrap()));
        }
        if self.rng.one_in(4) {
            fact.stay.admitted_at = FieldUpdate::Set(self.visits[at].admitted);
        }
        if self.rng.one_in(6) {
            let back = Duration::from_secs(u64::try_from(self.rng.below(7200)).unwrap());
            let when = if self.rng.one_in(2) { self.now().minus(back) } else { self.now().plus(back) };
            fact.stay.discharged_at = if self.rng.one_in(4) { FieldUpdate::Clear } else { FieldUpdate::Set(when) };
        }
        self.doctors(&mut fact.stay);
        if self.feeds.one_in(8)
            && let Some((_, account)) = self.another_account(at, self.visits[at].patient)
        {
            // Nothing says that it left the one before.
            let id = self.visits[at].numbers[0].clone();
            let from = FieldRef::new("PV1-19");
            fact.visit = Some(VisitRef { id, from, is_account: false, account: Some(account), alternate: None, preadmit: None });
        }
        fact
    }

    fn left(&mut self, at: usize) -> Fact {
        let (trigger, act) = *self.rng.pick(&[("A21", Act::Leave), ("A22", Act::Return)]).unwrap();
        self.done(at, act);
        self.of_visit(trigger, act, at)
    }

    fn expected(&mut self, at: usize) -> Fact {
        let mut fact = self.of_visit("A05", Act::Expect, at);
        let preadmit = self.visits[at].preadmit.clone().filter(|_| !self.rng.one_in(3));
        if let (Some(preadmit), Some(visit)) = (preadmit, &mut fact.visit) {
            visit.id = preadmit;
            visit.preadmit = None;
            visit.is_account = false;
        }
        fact.stay.class = FieldUpdate::Set(PatientClass::from("I"));
        fact.stay.location = FieldUpdate::Set(self.visits[at].place.clone());
        fact.stay.expected_at = self.rng.one_in(2).then(|| self.now().plus(Duration::from_hours(1)));
        self.done(at, Act::Expect);
        fact
    }

    fn reclassified(&mut self, at: usize) -> Fact {
        let (trigger, class) = *self.rng.pick(&[("A06", "I"), ("A07", "O"), ("A07", "E")]).unwrap();
        let mut fact = self.of_visit(trigger, Act::Reclassify, at);
        fact.stay.class = FieldUpdate::Set(PatientClass::from(class));
        if self.rng.one_in(2) {
            fact.stay.location = FieldUpdate::Set(self.place());
        }
        self.done(at, Act::Open);
        fact
    }

    fn providers(&mut self, at: usize) -> Fact {
        let mut fact = self.of_visit("A54", Act::ChangeProviders, at);
        self.doctors(&mut fact.stay);
        fact.stay.assignments = self.assignments();
        self.done(at, Act::ChangeProviders);
        fact
    }

    fn tracked(&mut self, at: usize) -> Fact {
        let (trigger, act) = *self.rng.pick(&[("A09", Act::Track), ("A10", Act::Track), ("A33", Act::CancelTrack)]).unwrap();
        let mut fact = self.of_visit(trigger, act, at);
        if self.rng.one_in(2) {
            fact.stay.whereabouts = FieldUpdate::Set(self.place());
        }
        fact
    }

    fn planned(&mut self, at: usize) -> Fact {
        let kinds = [("A15", Act::PlanMove), ("A26", Act::CancelPlanMove), ("A16", Act::PlanEnd), ("A25", Act::CancelPlanEnd)];
        let (trigger, act) = *self.rng.pick(&kinds).unwrap();
        self.of_visit(trigger, act, at)
    }

    fn swapped(&mut self, at: usize) -> Vec<Fact> {
        let other = self.rng.below(self.visits.len());
        if other == at {
            return vec![self.moved(at)];
        }
        let (a, b) = (self.visits[at].place.clone(), self.visits[other].place.clone());
        self.visits[at].place = b.clone();
        self.visits[other].place = a.clone();
        let mut first = self.of_visit("A17", Act::Move, at);
        first.stay.location = FieldUpdate::Set(b);
        let mut second = self.of_visit("A17", Act::Move, other);
        second.stay.location = FieldUpdate::Set(a);
        vec![first, second]
    }

    fn person_said(&mut self) -> Fact {
        let patient = self.rng.below(self.patients.len());
        let id = self.id_of(patient);
        let mut fact = self.fact("A31", Act::Person, id);
        fact.person = self.person(patient);
        fact
    }
}
