//! Counterexamples that were found once, each by its name and in every order.

mod accounts;

use std::sync::Arc;
use std::time::Duration;

use smallvec::smallvec;

use crate::care::fact::Act;
use crate::care::fact::Assignment;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::Confidentiality;
use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::FieldRef;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Pair;
use crate::care::fact::PersonName;
use crate::care::fact::PersonSaid;
use crate::care::fact::Practitioner;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::care::fact::Restriction;
use crate::care::fact::SignalSaid;
use crate::care::fact::SignalSource;
use crate::care::fact::SignalsSaid;
use crate::care::fact::Stamp;
use crate::care::fact::StaySaid;
use crate::care::fact::VisitRef;
use crate::care::policy::Policy;
use crate::care::room::RoomStatus;
use crate::ids::FeedName;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::ids::PatientClass;
use crate::ids::PatientId;
use crate::ids::Role;
use crate::ids::StaffId;
use crate::ids::TriggerEvent;
use crate::ids::VisitId;
use crate::intake::law::history::START;
use crate::intake::law::history::bed;
use crate::intake::law::rooms;
use crate::intake::law::roster;
use crate::intake::law::shelf::Shelf;

fn patient(value: &str) -> PatientId {
    PatientId(Identifier::new("GHH", "MR", value))
}

fn number(value: &str) -> VisitId {
    VisitId(Identifier::new("GHH", "VN", value))
}

fn named(value: &str) -> VisitRef {
    VisitRef { id: number(value), from: FieldRef::new("PV1-19"), is_account: false, account: None, alternate: None, preadmit: None }
}

/// Something said of visit `V` of patient `P` at a minute.
pub(super) fn fact(trigger: &str, act: Act, minute: i64) -> Fact {
    let at = START.plus(Duration::from_mins(minute.unsigned_abs()));
    let mut hash = [0; 16];
    for (slot, byte) in hash.iter_mut().zip(format!("{trigger}{minute:013}").bytes()) {
        *slot = byte;
    }
    Fact {
        hash: FactHash(hash),
        stamp: Stamp { recorded: at, sent: at, arrival: JournalId(0) },
        recorded_by_sender: true,
        trigger: TriggerEvent::parse(trigger).unwrap(),
        act,
        occurred_at: None,
        movement: None,
        feed: FeedName::from("main"),
        owns: Vec::new(),
        load: false,
        patient: patient("P"),
        other_ids: Vec::new(),
        visit: (!matches!(act, Act::Person | Act::Relate)).then(|| named("V")),
        person: PersonSaid::default(),
        stay: StaySaid::default(),
        relation: None,
    }
}

fn of(visit: &str, who: &str, mut fact: Fact) -> Fact {
    fact.visit = Some(named(visit));
    fact.patient = patient(who);
    fact
}

fn doctor(id: &str) -> Practitioner {
    Practitioner { ids: smallvec![StaffId::new("GHH", "EI", id)], ..Practitioner::default() }
}

fn admit(minute: i64, unit: &str, attending: &str) -> Fact {
    let mut fact = fact("A01", Act::Open, minute);
    fact.stay.class = FieldUpdate::Set(PatientClass::from("I"));
    fact.stay.location = FieldUpdate::Set(bed(unit, "1"));
    fact.stay.attending = FieldUpdate::Set(doctor(attending));
    fact
}

fn relate(trigger: &str, kind: RelationKind, minute: i64, who: &str, patients: &[(&str, &str)], visits: &[(&str, &str)]) -> Fact {
    let mut fact = fact(trigger, Act::Relate, minute);
    fact.patient = patient(who);
    let patients = patients.iter().map(|(from, into)| Pair { from: patient(from), into: patient(into) }).collect();
    let visits = visits.iter().map(|(from, into)| Pair { from: number(from), into: number(into) }).collect();
    fact.relation = Some(Relation { kind, patients, accounts: Vec::new(), visits });
    fact
}

fn merge(minute: i64, from: &str, into: &str) -> Fact {
    relate("A42", RelationKind::Visit, minute, "P", &[], &[(from, into)])
}

fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    shorter.iter().flat_map(|order| (0..n).map(|at| [&order[..at], &[n - 1], &order[at..]].concat())).collect()
}

/// Tells messages in every order, each once in a batch of its own and once all in one; gives back the rooms an hour later, which are always the same.
fn in_every_order(messages: &[Vec<Fact>]) -> Vec<String> {
    let policy = Arc::new(Policy { grace_floor: Duration::ZERO, publish_expected: true, ..Policy::default() });
    let roster = Arc::new(roster());
    let last = messages.iter().flatten().map(|fact| fact.stamp.recorded).max().unwrap();
    let mut seen: Option<Vec<String>> = None;
    for order in orders(messages.len()) {
        for at_once in [false, true] {
            let mut shelf = Shelf::new(last.plus(Duration::from_mins(1)), &policy, &roster);
            let told: Vec<Vec<Fact>> = order.iter().map(|index| messages[*index].clone()).collect();
            told.chunks(if at_once { told.len() } else { 1 }).for_each(|batch| shelf.take(batch));
            shelf.move_to(last.plus(Duration::from_mins(90)));
            assert_eq!(shelf.n_waiting(), 0, "in order {order:?}");
            let rooms = rooms(&shelf);
            match &seen {
                Some(seen) => assert_eq!(*seen, rooms, "in order {order:?}"),
                None => seen = Some(rooms),
            }
        }
    }
    seen.unwrap()
}

fn each(facts: Vec<Fact>) -> Vec<Vec<Fact>> {
    facts.into_iter().map(|fact| vec![fact]).collect()
}

#[test]
fn two_stays_that_a_late_word_makes_one_leave_one_room() {
    let mut again = admit(200, "ICU", "d4");
    again.stay.admitted_at = FieldUpdate::Set(START.plus(Duration::from_mins(100)));
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), fact("A03", Act::End, 20), fact("A11", Act::CancelOpen, 150), again]));
    assert_eq!(rooms.len(), 1, "{rooms:?}");
}

/// Where nobody may see an expected room, one that was seen before looks the same whether the word of the expected patient came before it or late.
#[test]
fn a_room_that_is_taken_back_tells_what_the_facts_say_and_not_what_was_published() {
    let expected = fact("A05", Act::Expect, 0);
    let cancelled = fact("A11", Act::CancelOpen, 30);
    let facts = [expected, admit(20, "4N", "d3"), cancelled];
    let policy = Arc::new(Policy { grace_floor: Duration::ZERO, publish_expected: false, ..Policy::default() });
    let roster = Arc::new(roster());
    let told = [[0, 1, 2], [1, 0, 2], [1, 2, 0]].map(|order| {
        let mut shelf = Shelf::new(START.plus(Duration::from_hours(1)), &policy, &roster);
        for index in order {
            shelf.take(&[vec![facts[index].clone()]]);
        }
        shelf.rooms().pop().unwrap().state
    });
    assert!(told[0].status == RoomStatus::Cancelled && told[0].location.is_none(), "{told:?}");
    assert!(told.iter().all(|room| *room == told[0]), "{told:?}");
}

#[test]
fn an_expected_room_goes_when_an_earlier_end_comes_late() {
    let mut expected = fact("A05", Act::Expect, 60);
    expected.stay.class = FieldUpdate::Set(PatientClass::from("I"));
    assert!(in_every_order(&each(vec![fact("A03", Act::End, 10), expected])).is_empty());
}

#[test]
fn a_planned_discharge_is_still_planned_after_it_was_stored() {
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), fact("A16", Act::PlanEnd, 10), fact("A08", Act::Update, 20)]));
    assert!(rooms[0].contains("PendingDischarge"), "{rooms:?}");
}

#[test]
fn all_access_restrictions_named_at_once_end_also_those_that_come_late() {
    let person = |minute: i64, said: SignalsSaid| {
        let mut fact = fact("A31", Act::Person, minute);
        fact.person.signals = said;
        fact
    };
    let restricted = FieldUpdate::Set(Restriction { level: Confidentiality::Restricted, ..Restriction::default() });
    let source = SignalSource::AccessRestriction("x".to_owned());
    let raised = SignalsSaid { said: vec![SignalSaid { source, update: restricted }], replaces_access_restrictions: false };
    let replaced = SignalsSaid { said: Vec::new(), replaces_access_restrictions: true };
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), person(10, raised), person(20, replaced)]));
    assert!(rooms[0].contains(" Normal "), "{rooms:?}");
}

#[test]
fn a_merged_visit_adds_whom_it_names_and_not_its_unit() {
    let loser = of("L", "P", admit(5, "5S", "d4"));
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), loser, merge(10, "L", "V")]));
    assert_eq!(rooms.len(), 1, "{rooms:?}");
    assert!(rooms[0].starts_with("V Active place=Some(\"4N/1/1\")") && rooms[0].contains("d4:") && !rooms[0].contains("n15S"), "{rooms:?}");
}

#[test]
fn of_two_merges_of_one_visit_and_of_a_circle_the_newest_counts() {
    let (a, b) = (of("A", "P", admit(1, "5S", "d1")), of("B", "P", admit(2, "ICU", "d2")));
    let twice = in_every_order(&each(vec![admit(0, "4N", "d3"), a.clone(), b, merge(10, "V", "A"), merge(20, "V", "B")]));
    assert!(twice.len() == 2 && twice[0].starts_with("A ") && !twice[0].contains("d3:") && twice[1].contains("d3:"), "{twice:?}");
    let circle = in_every_order(&each(vec![admit(0, "4N", "d3"), a, merge(10, "V", "A"), merge(20, "A", "V")]));
    assert!(circle.len() == 1 && circle[0].starts_with("V "), "{circle:?}");
}

#[test]
fn a_visit_merged_into_one_that_nobody_knows_goes_on_under_its_number() {
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), merge(10, "V", "X"), fact("A08", Act::Update, 20)]));
    assert!(rooms.len() == 1 && rooms[0].starts_with("X Active"), "{rooms:?}");
}

#[test]
fn a_visit_moves_to_another_patient_also_before_anybody_knows_it() {
    let moved = relate("A45", RelationKind::VisitMove, 10, "Q", &[("P", "Q")], &[("V", "V")]);
    let mut later = fact("A08", Act::Update, 20);
    later.patient = patient("Q");
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), fact("A08", Act::Update, 5), moved, later]));
    assert!(rooms.len() == 1 && rooms[0].contains("patient=Q/"), "{rooms:?}");
}

#[test]
fn a_chain_of_merges_explains_a_message_that_waits_for_its_far_end() {
    let chain = [("A", "B", 10), ("B", "C", 20)].map(|(from, into, minute)| relate("A40", RelationKind::Patient, minute, into, &[(from, into)], &[]));
    let [first, second] = chain;
    let late = of("V", "C", fact("A08", Act::Update, 30));
    let rooms = in_every_order(&each(vec![of("V", "A", admit(0, "4N", "d3")), first, second, late]));
    assert!(rooms.len() == 1 && rooms[0].contains("patient=C/"), "{rooms:?}");
}

#[test]
fn a_message_of_two_patients_waits_for_the_one_that_held_it_up() {
    let swap = vec![of("V", "P", fact("A17", Act::Move, 30)), of("W", "Q2", fact("A17", Act::Move, 30))];
    let mut swap = swap;
    swap[1].hash = FactHash([9; 16]);
    swap[0].stay.location = FieldUpdate::Set(bed("5S", "1"));
    swap[1].stay.location = FieldUpdate::Set(bed("4N", "1"));
    let merged = relate("A40", RelationKind::Patient, 20, "Q2", &[("Q", "Q2")], &[]);
    let messages = [each(vec![admit(0, "4N", "d3"), of("W", "Q", admit(1, "5S", "d4")), merged]), vec![swap]].concat();
    let rooms = in_every_order(&messages);
    assert!(rooms[0].contains("5S/1/1") && rooms[1].contains("4N/1/1"), "{rooms:?}");
}

#[test]
fn a_fact_said_again_under_another_control_id_is_cancelled_once() {
    let mut moved = fact("A02", Act::Move, 10);
    moved.stay.location = FieldUpdate::Set(bed("ICU", "1"));
    let mut again = moved.clone();
    again.stamp.sent = again.stamp.sent.plus(Duration::from_secs(20));
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), moved, again, fact("A12", Act::CancelMove, 20)]));
    assert!(rooms[0].contains("4N/1/1"), "{rooms:?}");
}

#[test]
fn numbers_that_turn_out_to_be_of_one_visit_become_one_in_any_order() {
    let mut expected = of("PRE", "P", fact("A05", Act::Expect, 0));
    expected.stay.class = FieldUpdate::Set(PatientClass::from("I"));
    let mut opened = admit(10, "4N", "d3");
    opened.visit = Some(VisitRef { preadmit: Some(number("PRE")), account: Some(number("ACC")), ..named("V") });
    let mut by_account = fact("A08", Act::Update, 20);
    by_account.visit = Some(VisitRef { is_account: true, ..named("ACC") });
    by_account.stay.attending = FieldUpdate::Set(doctor("d4"));
    let rooms = in_every_order(&each(vec![expected, opened, by_account, fact("A08", Act::Update, 30)]));
    assert!(rooms.len() == 1 && rooms[0].contains("d4:"), "{rooms:?}");
}

#[test]
fn a_change_of_providers_leaves_the_roles_that_it_does_not_name() {
    let role = |source: &str, role: &str, id: &str| Assignment {
        source: source.into(),
        role: Some(Role::from(role)),
        from: FieldRef::new("ROL-4"),
        person: doctor(id),
        begins_at: None,
        ends_at: None,
        removed: false,
    };
    let mut opened = admit(0, "POOL", "d3");
    opened.stay.assignments = AssignmentsSaid::Snapshot(vec![role("ROL:CM", "case manager", "d0"), role("ROL:PT", "therapist", "d1")]);
    let mut changed = fact("A54", Act::ChangeProviders, 10);
    changed.stay.assignments = AssignmentsSaid::Snapshot(vec![role("ROL:PT", "therapist", "d2")]);
    let rooms = in_every_order(&each(vec![opened, changed]));
    assert!(rooms[0].contains("d0:") && rooms[0].contains("d2:") && !rooms[0].contains("d1:"), "{rooms:?}");
}

#[test]
fn a_visit_is_moved_to_the_patient_it_was_of_already() {
    let other = of("W", "Q", fact("A16", Act::PlanEnd, 15));
    let moved = relate("A45", RelationKind::VisitMove, 20, "P", &[("Q", "P")], &[("V", "V")]);
    let rooms = in_every_order(&each(vec![admit(0, "4N", "d3"), other, moved]));
    assert!(rooms.len() == 1 && rooms[0].contains("patient=P/"), "{rooms:?}");
}

#[test]
fn what_was_said_of_an_account_before_its_visit_moved_is_said_of_the_visit() {
    let mut by_account = fact("A08", Act::Update, 10);
    by_account.patient = patient("Q");
    by_account.visit = Some(VisitRef { is_account: true, ..named("ACC") });
    by_account.stay.attending = FieldUpdate::Set(doctor("d4"));
    let mut opened = admit(0, "4N", "d3");
    opened.visit = Some(VisitRef { account: Some(number("ACC")), ..named("V") });
    let moved = relate("A45", RelationKind::VisitMove, 20, "P", &[("Q", "P")], &[("V", "V")]);
    let rooms = in_every_order(&each(vec![opened, by_account, moved]));
    assert!(rooms.len() == 1 && rooms[0].contains("d4:") && rooms[0].contains("patient=P/"), "{rooms:?}");
}

#[test]
fn a_word_under_another_number_of_a_visit_waits_for_the_account_that_takes_it_along() {
    let mut opened = admit(0, "4N", "d3");
    opened.visit = Some(VisitRef { alternate: Some(number("ALT")), ..named("V") });
    let pair = Pair { from: number("ACC"), into: number("ACC") };
    let mut moved = relate("A44", RelationKind::AccountMove, 10, "Q", &[("P", "Q")], &[]);
    moved.relation.as_mut().unwrap().accounts.push(pair);
    let mut with_account = of("V", "Q", fact("A08", Act::Update, 20));
    with_account.visit = Some(VisitRef { account: Some(number("ACC")), ..named("V") });
    let mut by_alternate = of("ALT", "Q", fact("A02", Act::Move, 30));
    by_alternate.stay.location = FieldUpdate::Set(bed("5S", "2"));
    let rooms = in_every_order(&each(vec![opened, moved, with_account, by_alternate]));
    assert!(rooms.len() == 1 && rooms[0].contains("5S/1/2") && rooms[0].contains("patient=Q/"), "{rooms:?}");
}

#[test]
fn a_message_of_two_patients_is_taken_whole_though_its_first_half_takes_away_what_explained_the_second() {
    let person = |fact: &mut Fact, given: &str| {
        fact.person.name = FieldUpdate::Set(PersonName { family: "Fam".into(), given: given.into(), middle: "".into() });
        fact.person.birth_date = FieldUpdate::Set("1950-01-01".into());
        fact.person.sex = FieldUpdate::Set("F".into());
    };
    let (mut opened, mut other) = (admit(0, "4N", "d3"), of("W", "P", fact("A01", Act::Open, 5)));
    person(&mut opened, "Eve");
    other.stay = admit(5, "ICU", "d4").stay;
    // The second half agrees with the patient as she is called before the first half renames her.
    let mut swap = vec![of("W", "P", fact("A17", Act::Move, 30)), of("V", "Q", fact("A17", Act::Move, 30))];
    swap[1].hash = FactHash([9; 16]);
    swap[0].stay.location = FieldUpdate::Set(bed("4N", "1"));
    swap[1].stay.location = FieldUpdate::Set(bed("5S", "1"));
    person(&mut swap[0], "Ann");
    person(&mut swap[1], "Eve");
    let policy = Arc::new(Policy { grace_floor: Duration::ZERO, publish_expected: true, ..Policy::default() });
    let mut shelf = Shelf::new(START.plus(Duration::from_hours(1)), &policy, &Arc::new(roster()));
    for message in [vec![opened], vec![other], swap] {
        shelf.take(&[message]);
    }
    let rooms = rooms(&shelf);
    assert!(shelf.n_waiting() == 0 && rooms.iter().any(|room| room.starts_with("V ") && room.contains("5S/1/1")), "{rooms:?}");
}

#[test]
fn two_numbers_of_a_stay_that_was_expected_under_a_third_are_one_in_any_order() {
    let expected = of("PRE", "P", fact("A05", Act::Expect, 0));
    let with_it = |mut fact: Fact| {
        fact.visit = fact.visit.map(|visit| VisitRef { preadmit: Some(number("PRE")), ..visit });
        fact
    };
    let rooms = in_every_order(&each(vec![expected, with_it(admit(10, "4N", "d3")), with_it(of("W", "P", fact("A08", Act::Update, 20)))]));
    assert_eq!(rooms.len(), 1, "{rooms:?}");
}
