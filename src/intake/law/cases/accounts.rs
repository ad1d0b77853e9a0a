//! Counterexamples about accounts: which stays of one go along when it is renumbered, is left, or goes over to another patient.

use std::sync::Arc;
use std::time::Duration;

use crate::care::fact::Act;
use crate::care::fact::Facet;
use crate::care::fact::Fact;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Movement;
use crate::care::fact::Pair;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::care::fact::VisitRef;
use crate::care::policy::Policy;
use crate::ids::PatientClass;
use crate::intake::law::cases::admit;
use crate::intake::law::cases::doctor;
use crate::intake::law::cases::each;
use crate::intake::law::cases::fact;
use crate::intake::law::cases::in_every_order;
use crate::intake::law::cases::merge;
use crate::intake::law::cases::named;
use crate::intake::law::cases::number;
use crate::intake::law::cases::of;
use crate::intake::law::cases::patient;
use crate::intake::law::cases::relate;
use crate::intake::law::history::START;
use crate::intake::law::history::bed;
use crate::intake::law::rooms;
use crate::intake::law::roster;
use crate::intake::law::shelf::Shelf;

/// A06 that says of a stay of a patient that it has another account now.
fn leaves(visit: &str, who: &str, minute: i64, from: &str, into: &str) -> Fact {
    let mut fact = under(into, of(visit, who, fact("A06", Act::Reclassify, minute)));
    fact.stay.class = FieldUpdate::Set(PatientClass::from("I"));
    let accounts = vec![Pair { from: number(from), into: number(into) }];
    fact.relation = Some(Relation { kind: RelationKind::AccountChange, patients: Vec::new(), accounts, visits: Vec::new() });
    fact
}

fn under(account: &str, mut fact: Fact) -> Fact {
    fact.visit = fact.visit.map(|visit| VisitRef { account: Some(number(account)), ..visit });
    fact
}

fn by_account(account: &str, who: &str, mut fact: Fact) -> Fact {
    fact.visit = Some(VisitRef { is_account: true, ..named(account) });
    fact.patient = patient(who);
    fact
}

#[test]
fn a_stay_that_gets_another_number_and_another_account_goes_on_as_one() {
    let old = under("ACC", of("OLD", "P", admit(0, "5S", "d3")));
    let mut late = of("OLD", "P", fact("A08", Act::Update, 20));
    late.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let rooms = in_every_order(&each(vec![old, leaves("NEW", "P", 10, "ACC", "ACC2"), late]));
    assert!(rooms.len() == 1 && rooms[0].starts_with("NEW Active place=Some(\"5S/1/1\")"), "{rooms:?}");
    assert!(rooms[0].contains("d3:") && rooms[0].contains("d4:") && rooms[0].contains("n15S"), "{rooms:?}");
}

#[test]
fn a_stay_that_leaves_an_account_leaves_the_other_stays_of_it() {
    let (stay, other) = (under("ACC", admit(0, "5S", "d3")), under("ACC", of("W", "P", fact("A05", Act::Expect, 5))));
    let rooms = in_every_order(&each(vec![stay, other, leaves("V", "P", 10, "ACC", "ACC2")]));
    assert!(rooms.len() == 2 && rooms[0].starts_with("V Active") && rooms[1].starts_with("W Expected"), "{rooms:?}");
}

#[test]
fn of_two_stays_of_an_account_neither_is_taken_for_one_that_leaves_it_under_another_number() {
    let old = |number: &str, minute: i64, unit: &str| under("ACC", of(number, "P", admit(minute, unit, "d3")));
    let rooms = in_every_order(&each(vec![old("A", 0, "5S"), old("B", 5, "4N"), leaves("NEW", "P", 10, "ACC", "ACC2")]));
    assert!(rooms.len() == 3 && rooms[0].contains("5S/1/1") && rooms[1].contains("4N/1/1"), "{rooms:?}");
}

#[test]
fn what_was_said_of_an_account_alone_is_said_of_the_stay_that_got_another_number_twice() {
    let mut alone = by_account("ACC", "P", fact("A08", Act::Update, 0));
    alone.stay.attending = FieldUpdate::Set(doctor("d3"));
    let old = under("ACC", of("OLD", "P", fact("A08", Act::Update, 5)));
    let rooms = in_every_order(&each(vec![alone, old, leaves("MID", "P", 10, "ACC", "ACC2"), leaves("NEW", "P", 20, "ACC2", "ACC3")]));
    assert!(rooms.len() == 1 && rooms[0].starts_with("NEW ") && rooms[0].contains("d3:"), "{rooms:?}");
}

#[test]
fn what_was_said_of_an_account_before_its_stay_moved_is_said_of_the_stay_that_got_another_number_since() {
    let old = under("ACC", of("OLD", "Q", admit(0, "5S", "d3")));
    let mut alone = by_account("ACC", "Q", fact("A08", Act::Update, 5));
    alone.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let moved = relate("A45", RelationKind::VisitMove, 10, "P", &[("Q", "P")], &[("OLD", "OLD")]);
    let rooms = in_every_order(&each(vec![old, alone, moved, leaves("NEW", "P", 20, "ACC", "ACC2")]));
    assert!(rooms.len() == 1 && rooms[0].contains("patient=P/") && rooms[0].contains("d4:"), "{rooms:?}");
}

#[test]
fn nothing_is_left_of_two_numbers_having_been_one_for_a_while() {
    // Until the first word of B comes, B seems to be the new number of A.
    let a = under("ACC", of("A", "P", admit(0, "5S", "d3")));
    let mut first = of("B", "P", fact("A08", Act::Update, 5));
    first.stay.location = FieldUpdate::Set(bed("5S", ""));
    let rooms = in_every_order(&each(vec![a, first, leaves("B", "P", 10, "ACC", "ACC2")]));
    assert!(rooms.len() == 2 && !rooms[0].contains("Duplicate") && !rooms[1].contains("Duplicate"), "{rooms:?}");
}

#[test]
fn two_stays_that_leave_one_account_are_two_also_where_one_of_the_words_comes_twice() {
    let (first, second) = (leaves("A", "P", 10, "ACC", "ACC2"), leaves("B", "P", 20, "ACC", "ACC3"));
    let mut again = second.clone();
    again.stamp.sent = again.stamp.sent.plus(Duration::from_secs(7));
    let rooms = in_every_order(&each(vec![first, second, again]));
    assert_eq!(rooms.len(), 2, "{rooms:?}");
}

/// A44 that says of an account that it is another patient's now.
fn goes_over(account: &str, minute: i64, from: &str, into: &str) -> Fact {
    let mut fact = relate("A44", RelationKind::AccountMove, minute, into, &[(from, into)], &[]);
    fact.relation.as_mut().unwrap().accounts.push(Pair { from: number(account), into: number(account) });
    fact
}

/// A49 that says of an account that it has another number now.
fn renumbered(minute: i64, who: &str, from: &str, into: &str) -> Fact {
    let mut fact = relate("A49", RelationKind::AccountChange, minute, who, &[], &[]);
    fact.relation.as_mut().unwrap().accounts.push(Pair { from: number(from), into: number(into) });
    fact
}

/// Two stays of P under one account, each opened under it.
fn two_stays() -> [Fact; 2] {
    [under("ACC", admit(0, "5S", "d3")), under("ACC", of("W", "P", admit(5, "4N", "d4")))]
}

/// Whose the rooms are, in the order of their visits.
fn whose(rooms: &[String]) -> Vec<String> {
    let between = |room: &str| room.split("patient=").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
    rooms.iter().map(|room| format!("{} {}", room.split(' ').next().unwrap_or_default(), between(room))).collect()
}

#[test]
fn the_account_that_a_stay_went_to_takes_along_that_stay_alone() {
    let [stay, other] = two_stays();
    let rooms = in_every_order(&each(vec![stay, other, leaves("V", "P", 10, "ACC", "ACC2"), goes_over("ACC2", 20, "P", "Q")]));
    assert_eq!(whose(&rooms), ["V Q", "W P"]);
}

#[test]
fn the_account_that_a_stay_left_leaves_it_behind() {
    let [stay, other] = two_stays();
    let rooms = in_every_order(&each(vec![stay, other, leaves("V", "P", 10, "ACC", "ACC2"), goes_over("ACC", 20, "P", "Q")]));
    assert_eq!(whose(&rooms), ["V P", "W Q"]);
}

#[test]
fn a_stay_that_leaves_an_account_which_went_over_has_gone_with_it() {
    let [stay, other] = two_stays();
    let said = vec![stay, other, goes_over("ACC", 10, "P", "Q"), leaves("V", "Q", 20, "ACC", "ACC2"), goes_over("ACC2", 30, "Q", "R")];
    assert_eq!(whose(&in_every_order(&each(said))), ["V R", "W Q"]);
}

#[test]
fn a_stay_that_comes_to_an_account_has_not_gone_where_that_was_taken_before() {
    let (stay, other) = (under("ACC2", admit(0, "5S", "d3")), under("ACC", of("W", "P", admit(5, "4N", "d4"))));
    let [there, back] = [goes_over("ACC", 10, "P", "Q"), goes_over("ACC", 20, "Q", "P")];
    let said = vec![stay.clone(), other.clone(), there.clone(), back, leaves("V", "P", 30, "ACC2", "ACC")];
    assert_eq!(whose(&in_every_order(&each(said))), ["V P", "W P"]);
    let mut moved = relate("A45", RelationKind::VisitMove, 30, "Q", &[("P", "Q")], &[("V", "V")]);
    moved.relation.as_mut().unwrap().accounts.push(Pair { from: number("ACC2"), into: number("ACC") });
    let said = vec![stay, other, there, moved, goes_over("ACC", 40, "Q", "R")];
    assert_eq!(whose(&in_every_order(&each(said))), ["V R", "W R"]);
}

#[test]
fn a_stay_that_leaves_an_account_and_comes_back_goes_along_again() {
    let [stay, other] = two_stays();
    let [left, back] = [leaves("V", "P", 10, "ACC", "ACC2"), leaves("V", "P", 20, "ACC2", "ACC")];
    let rooms = in_every_order(&each(vec![stay, other, left, back, goes_over("ACC", 30, "P", "Q")]));
    assert_eq!(whose(&rooms), ["V Q", "W Q"]);
}

#[test]
fn a_stay_that_is_moved_to_another_account_and_patient_moves_no_other() {
    let [stay, other] = two_stays();
    let mut moved = relate("A45", RelationKind::VisitMove, 10, "Q", &[("P", "Q")], &[("V", "V")]);
    moved.relation.as_mut().unwrap().accounts.push(Pair { from: number("ACC"), into: number("ACC2") });
    let rooms = in_every_order(&each(vec![stay, other, moved, goes_over("ACC2", 20, "Q", "R")]));
    assert_eq!(whose(&rooms), ["V R", "W P"]);
}

#[test]
fn a_stay_that_is_named_with_another_account_has_left_the_one_before() {
    let [stay, other] = two_stays();
    let silently = under("ACC2", fact("A08", Act::Update, 10));
    let rooms = in_every_order(&each(vec![stay, other, silently, goes_over("ACC", 20, "P", "Q")]));
    assert_eq!(whose(&rooms), ["V P", "W Q"]);
}

#[test]
fn a_stay_leaves_an_account_under_whichever_number_that_had_then() {
    let [stay, other] = two_stays();
    let said = vec![stay, other, renumbered(10, "P", "ACC", "NEWACC"), leaves("V", "P", 20, "NEWACC", "ACC2"), goes_over("NEWACC", 30, "P", "Q")];
    assert_eq!(whose(&in_every_order(&each(said))), ["V P", "W Q"]);
}

#[test]
fn the_account_that_a_stay_got_with_another_number_takes_it_along_and_the_old_one_does_not() {
    let stay = || vec![under("ACC", of("OLD", "P", admit(0, "5S", "d3"))), leaves("NEW", "P", 10, "ACC", "ACC2")];
    let rooms = in_every_order(&each([stay(), vec![goes_over("ACC2", 20, "P", "Q")]].concat()));
    assert_eq!(whose(&rooms), ["NEW Q"]);
    let rooms = in_every_order(&each([stay(), vec![goes_over("ACC", 20, "P", "Q")]].concat()));
    assert_eq!(whose(&rooms), ["NEW P"]);
}

#[test]
fn a_word_that_waits_because_its_stay_seemed_to_have_gone_with_an_account_is_taken_when_the_stay_turns_out_to_have_left() {
    let [stay, other] = two_stays();
    let mut word = fact("A02", Act::Move, 25);
    word.stay.location = FieldUpdate::Set(bed("ICU", "1"));
    let left = [leaves("V", "P", 10, "ACC", "ACC2"), under("ACC2", fact("A08", Act::Update, 10))];
    for left in left {
        let rooms = in_every_order(&each(vec![stay.clone(), other.clone(), left, goes_over("ACC", 20, "P", "Q"), word.clone()]));
        assert_eq!(whose(&rooms), ["V P", "W Q"]);
        assert!(rooms[0].contains("ICU/1/1"), "{rooms:?}");
    }
}

#[test]
fn a_stay_whose_number_is_that_of_its_account_goes_on_under_both_new_ones() {
    let numbered = |account: &str, fact: Fact| under(account, of(account, "P", fact));
    let old = numbered("ACC", admit(0, "5S", "d3"));
    let new = leaves("ACC2", "P", 10, "ACC", "ACC2");
    let rooms = in_every_order(&each(vec![old, new, numbered("ACC2", fact("A08", Act::Update, 15)), goes_over("ACC2", 20, "P", "Q")]));
    assert_eq!(whose(&rooms), ["ACC2 Q"]);
}

#[test]
fn what_was_said_of_an_account_alone_is_said_of_the_number_that_was_of_it_and_not_of_a_later_one() {
    let alone = by_account("ACC", "P", admit(0, "5S", "d3"));
    let mut moved = relate("A45", RelationKind::VisitMove, 10, "Q", &[("P", "Q")], &[("V", "V")]);
    moved.relation.as_mut().unwrap().accounts.push(Pair { from: number("ACC"), into: number("ACC2") });
    let opened = under("ACC2", of("V", "Q", fact("A08", Act::Update, 20)));
    let rooms = in_every_order(&each(vec![alone, moved, opened, leaves("NEW", "Q", 30, "ACC2", "ACC3")]));
    assert_eq!(whose(&rooms), ["NEW Q"]);
    assert!(rooms[0].contains("d3:"), "{rooms:?}");
}

#[test]
fn what_was_said_of_an_account_alone_of_one_patient_waits_for_its_stay_and_is_not_said_of_one_that_left_under_another() {
    let alone = by_account("ACC", "P", admit(0, "5S", "d3"));
    let stay = under("ACC", of("V", "P", fact("A08", Act::Update, 5)));
    let moved = relate("A45", RelationKind::VisitMove, 10, "Q", &[("P", "Q")], &[("V", "V")]);
    let left = leaves("NEW", "Q", 20, "ACC", "ACC2");
    let back = relate("A45", RelationKind::VisitMove, 30, "P", &[("Q", "P")], &[("NEW", "LAST")]);
    let rooms = in_every_order(&each(vec![alone, stay, moved, left, back]));
    assert_eq!(whose(&rooms), ["LAST P"]);
    assert!(rooms[0].contains("d3:"), "{rooms:?}");
}

#[test]
fn what_is_said_of_an_account_alone_is_said_of_the_stay_that_is_of_it_then() {
    let [stay, other] = two_stays();
    let mut alone = by_account("ACC", "P", fact("A08", Act::Update, 20));
    alone.stay.consulting = FieldUpdate::Set(vec![doctor("d1")]);
    let policy = Arc::new(Policy { grace_floor: Duration::ZERO, ..Policy::default() });
    let mut shelf = Shelf::new(START.plus(Duration::from_hours(1)), &policy, &Arc::new(roster()));
    for message in [stay, other, leaves("V", "P", 10, "ACC", "ACC2"), alone] {
        shelf.take(&[vec![message]]);
    }
    let rooms = rooms(&shelf);
    assert!(shelf.n_waiting() == 0 && !rooms[0].contains("d1:") && rooms[1].starts_with("W ") && rooms[1].contains("d1:"), "{rooms:?}");
}

/// A45 that says of a stay that it is another patient's, and of another account.
fn moves_over(visit: &str, minute: i64, from: &str, into: &str, accounts: (&str, &str)) -> Fact {
    let mut fact = relate("A45", RelationKind::VisitMove, minute, into, &[(from, into)], &[(visit, visit)]);
    fact.relation.as_mut().unwrap().accounts.push(Pair { from: number(accounts.0), into: number(accounts.1) });
    fact
}

#[test]
fn a_stay_merged_into_one_that_it_seemed_to_go_on_as_stays_merged_when_that_turns_out_to_have_had_a_number() {
    let loser = under("ACC", of("LOSER", "P", admit(0, "5S", "d3")));
    let known = of("KNOWN", "P", admit(5, "4N", "d4"));
    let renumbered = relate("A50", RelationKind::VisitChange, 30, "P", &[], &[("V", "KNOWN")]);
    let rooms = in_every_order(&each(vec![loser, merge(10, "LOSER", "V"), known, leaves("V", "P", 20, "ACC", "ACC2"), renumbered]));
    assert!(rooms.len() == 1 && rooms[0].starts_with("KNOWN ") && rooms[0].contains("d3:") && rooms[0].contains("d4:"), "{rooms:?}");
}

#[test]
fn what_was_said_of_an_account_alone_under_its_new_number_and_patient_is_said_of_the_stay_that_went_along() {
    let stay = under("ACC", admit(0, "5S", "d3"));
    let mut over = goes_over("ACC", 10, "P", "Q");
    over.relation.as_mut().unwrap().accounts = vec![Pair { from: number("ACC"), into: number("ACC2") }];
    let mut alone = by_account("ACC2", "Q", fact("A08", Act::Update, 20));
    alone.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let rooms = in_every_order(&each(vec![stay, over, alone]));
    assert_eq!(whose(&rooms), ["V Q"]);
    assert!(rooms[0].contains("d4:"), "{rooms:?}");
}

#[test]
fn a_stay_that_was_expected_under_a_number_of_two_goes_to_the_one_whose_account_explains_it() {
    let with_it = |mut fact: Fact| {
        fact.visit = fact.visit.map(|visit| VisitRef { preadmit: Some(number("PRE")), ..visit });
        fact
    };
    let expected = of("PRE", "P", fact("A05", Act::Expect, 0));
    let stay = with_it(under("ACC", of("V", "Q", admit(20, "5S", "d3"))));
    let later = with_it(of("W", "Q", fact("A08", Act::Update, 30)));
    let rooms = in_every_order(&each(vec![expected, goes_over("ACC", 10, "P", "Q"), stay, later]));
    assert_eq!(whose(&rooms), ["W Q"]);
}

#[test]
fn a_stay_of_which_only_a_move_was_heard_is_the_one_that_its_account_means() {
    let alone = by_account("ACC2", "Q", admit(20, "5S", "d3"));
    let said = vec![moves_over("V", 10, "P", "Q", ("ACC", "ACC2")), alone, leaves("NEW", "Q", 30, "ACC2", "ACC3")];
    let rooms = in_every_order(&each(said));
    assert_eq!(whose(&rooms), ["NEW Q"]);
    assert!(rooms[0].contains("d3:"), "{rooms:?}");
}

#[test]
fn a_new_number_of_a_stay_has_not_gone_where_its_account_was_taken_before_anybody_used_it() {
    let stay = under("ACC", admit(0, "5S", "d3"));
    let back = relate("A45", RelationKind::VisitMove, 20, "P", &[("Q", "P")], &[("V", "V")]);
    let mut late = of("NEW", "P", fact("A08", Act::Update, 40));
    late.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let rooms = in_every_order(&each(vec![stay, goes_over("ACC", 10, "P", "Q"), back, leaves("NEW", "P", 30, "ACC", "ACC2"), late]));
    assert_eq!(whose(&rooms), ["NEW P"]);
    assert!(rooms[0].contains("d3:") && rooms[0].contains("d4:"), "{rooms:?}");
}

#[test]
fn a_word_under_the_number_that_a_stay_had_is_not_shown_to_the_patient_to_whom_it_went_under_another_until_both_are_one() {
    let stay = under("ACC", of("OLD", "P", admit(0, "5S", "d3")));
    let mut late = of("OLD", "P", fact("A08", Act::Update, 30));
    late.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let mut said = vec![stay, leaves("NEW", "P", 10, "ACC", "ACC2"), goes_over("ACC2", 20, "P", "Q"), late];
    let rooms = in_every_order(&each(said.clone()));
    assert_eq!(whose(&rooms), ["NEW Q"]);
    assert!(rooms[0].contains("d3:") && !rooms[0].contains("d4:") && rooms[0].contains("IdentityConflict"), "{rooms:?}");
    said.push(relate("A40", RelationKind::Patient, 40, "Q", &[("P", "Q")], &[]));
    let rooms = in_every_order(&each(said));
    assert_eq!(whose(&rooms), ["NEW Q"]);
    assert!(rooms[0].contains("d3:") && rooms[0].contains("d4:") && !rooms[0].contains("IdentityConflict"), "{rooms:?}");
}

#[test]
fn what_is_said_of_an_account_alone_is_said_of_no_stay_that_has_left_it_though_such_words_were_its_own_before() {
    let [stay, other] = two_stays();
    let [mut before, mut after] = [8, 20].map(|minute| by_account("ACC", "P", fact("A08", Act::Update, minute)));
    before.stay.consulting = FieldUpdate::Set(vec![doctor("d0")]);
    after.stay.consulting = FieldUpdate::Set(vec![doctor("d1")]);
    let policy = Arc::new(Policy { grace_floor: Duration::ZERO, ..Policy::default() });
    let mut shelf = Shelf::new(START.plus(Duration::from_hours(1)), &policy, &Arc::new(roster()));
    for message in [stay, before, leaves("V", "P", 10, "ACC", "ACC2"), other, after] {
        shelf.take(&[vec![message]]);
    }
    let rooms = rooms(&shelf);
    assert!(shelf.n_waiting() == 0 && rooms[0].contains("d0:") && !rooms[0].contains("d1:"), "{rooms:?}");
    assert!(rooms[1].starts_with("W ") && rooms[1].contains("d1:"), "{rooms:?}");
}

#[test]
fn what_is_said_of_an_account_alone_is_said_of_the_number_that_its_stay_had_then() {
    let first = under("ACC", of("A", "P", fact("A08", Act::Update, 0)));
    let alone = by_account("ACC", "P", admit(5, "5S", "d3"));
    let moved = |visit: &str, minute: i64| relate("A45", RelationKind::VisitMove, minute, "Q", &[("P", "Q")], &[(visit, visit)]);
    let said = vec![first, leaves("B", "P", 10, "ACC", "ACC2"), moved("B", 20), leaves("C", "Q", 30, "ACC2", "ACC3"), moved("C", 40), alone];
    let rooms = in_every_order(&each(said));
    assert_eq!(whose(&rooms), ["C Q"]);
    assert!(rooms[0].contains("d3:"), "{rooms:?}");
}

/// A41 that says of two accounts that they are one.
fn merges(minute: i64, from: &str, into: &str) -> Fact {
    let mut fact = relate("A41", RelationKind::Account, minute, "P", &[], &[]);
    fact.relation.as_mut().unwrap().accounts.push(Pair { from: number(from), into: number(into) });
    fact
}

#[test]
fn an_account_that_goes_over_takes_along_the_stays_of_one_that_was_merged_into_it_before() {
    let said = vec![under("ACC", admit(0, "5S", "d3")), merges(10, "ACC", "ACC2"), goes_over("ACC2", 20, "P", "Q")];
    assert_eq!(whose(&in_every_order(&each(said))), ["V Q"]);
    let mut word = under("ACC2", of("V", "Q", fact("A02", Act::Move, 40)));
    word.stay.location = FieldUpdate::Set(bed("ICU", "1"));
    let chain = [merges(10, "ACC", "MID"), merges(20, "MID", "ACC2"), goes_over("ACC2", 30, "P", "Q"), word];
    let rooms = in_every_order(&each([vec![under("ACC", admit(0, "5S", "d3"))], chain.to_vec()].concat()));
    assert!(whose(&rooms) == ["V Q"] && rooms[0].contains("ICU/1/1"), "{rooms:?}");
}

#[test]
fn a_stay_of_a_merged_account_keeps_its_number_and_hears_what_is_said_of_that_account_alone() {
    let mut alone = by_account("ACC", "P", fact("A08", Act::Update, 20));
    alone.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let rooms = in_every_order(&each(vec![under("ACC", admit(0, "5S", "d3")), merges(10, "ACC", "ACC2"), alone]));
    assert_eq!(whose(&rooms), ["V P"]);
    assert!(rooms[0].contains("d4:"), "{rooms:?}");
}

#[test]
fn a_merge_of_accounts_that_is_taken_back_takes_no_stay_along_also_when_it_is_said_again() {
    let said = [under("ACC", admit(0, "5S", "d3")), merges(10, "ACC", "ACC2"), goes_over("ACC2", 20, "P", "Q")];
    let policy = Arc::new(Policy { grace_floor: Duration::ZERO, ..Policy::default() });
    let mut shelf = Shelf::new(START.plus(Duration::from_hours(1)), &policy, &Arc::new(roster()));
    for fact in &said {
        shelf.take(&[vec![fact.clone()]]);
    }
    assert_eq!(whose(&rooms(&shelf)), ["V Q"]);
    shelf.undo(&said[1..2]);
    assert_eq!(whose(&rooms(&shelf)), ["V P"]);
    for fact in &said {
        shelf.take(&[vec![fact.clone()]]);
    }
    assert_eq!(whose(&rooms(&shelf)), ["V P"]);
}

#[test]
fn a_word_said_of_an_account_alone_makes_its_patient_not_that_of_a_number_which_the_stay_got_later() {
    let moved = relate("A45", RelationKind::VisitMove, 10, "Q", &[("P", "Q")], &[("V", "V")]);
    let mut alone = by_account("ACC", "P", fact("A08", Act::Update, 5));
    alone.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let said = vec![under("ACC", admit(0, "5S", "d3")), alone, moved, leaves("NEW", "Q", 20, "ACC", "ACC2"), goes_over("ACC2", 30, "Q", "P")];
    let rooms = in_every_order(&each(said));
    assert_eq!(whose(&rooms), ["NEW P"]);
    assert!(rooms[0].contains("d3:") && rooms[0].contains("d4:"), "{rooms:?}");
}

#[test]
fn an_account_that_a_stay_left_had_its_earlier_numbers_also_where_the_stay_was_heard_of_only_then() {
    let (alone, stay) = (by_account("ACC", "P", admit(0, "5S", "d3")), under("ACC2", of("V", "Q", fact("A08", Act::Update, 20))));
    let mut over = goes_over("ACC", 10, "P", "Q");
    over.relation.as_mut().unwrap().accounts = vec![Pair { from: number("ACC"), into: number("ACC2") }];
    let rooms = in_every_order(&each(vec![alone, over, stay, leaves("NEW", "Q", 30, "ACC2", "ACC3")]));
    assert_eq!(whose(&rooms), ["NEW Q"]);
    assert!(rooms[0].contains("d3:"), "{rooms:?}");
}

#[test]
fn that_an_account_left_somebody_later_explains_no_word_of_theirs_about_a_stay_that_was_anothers() {
    let policy = Arc::new(Policy { grace_floor: Duration::ZERO, ..Policy::default() });
    let mut shelf = Shelf::new(START.plus(Duration::from_hours(1)), &policy, &Arc::new(roster()));
    let other = relate("A45", RelationKind::VisitMove, 5, "Q", &[("P", "Q")], &[("W", "W")]);
    for message in [admit(0, "5S", "d3"), other, leaves("V", "Q", 20, "ACC2", "ACC3"), goes_over("ACC3", 30, "Q", "R")] {
        shelf.take(&[vec![message]]);
    }
    assert_eq!((whose(&rooms(&shelf)), shelf.n_waiting()), (vec!["V P".to_owned()], 1));
}

#[test]
fn who_owns_the_place_of_a_stay_owns_it_under_each_of_its_numbers_though_one_has_but_history() {
    let old = under("ACC", of("OLD", "P", fact("A26", Act::CancelPlanMove, 0)));
    let alone = by_account("ACC", "P", fact("A03", Act::End, 10));
    let mut renumbered = leaves("NEW", "P", 20, "ACC", "ACC2");
    renumbered.owns = vec![Facet::Location];
    renumbered.movement = Some(Movement { ids: vec!["M1".into()], begins_at: None, historic: true });
    let again = under("ACC2", of("OLD", "P", admit(40, "5S", "d3")));
    let rooms = in_every_order(&each(vec![old, alone, renumbered, again]));
    assert!(rooms.len() == 1 && rooms[0].starts_with("NEW Active place=None"), "{rooms:?}");
}

#[test]
fn whose_a_stay_was_that_was_expected_under_another_number_does_not_say_whose_this_number_was() {
    let expected = of("PRE", "Q", fact("A05", Act::Expect, 0));
    let stay = under("ACC", of("V", "P", admit(10, "5S", "d3")));
    let mut late = under("ACC2", of("V", "Q", fact("A08", Act::Update, 30)));
    late.visit = late.visit.map(|visit| VisitRef { preadmit: Some(number("PRE")), ..visit });
    late.stay.consulting = FieldUpdate::Set(vec![doctor("d4")]);
    let rooms = in_every_order(&each(vec![expected, stay, goes_over("ACC", 20, "P", "Q"), late]));
    assert_eq!(whose(&rooms), ["V Q"]);
    assert!(rooms[0].contains("d3:") && rooms[0].contains("d4:"), "{rooms:?}");
}
