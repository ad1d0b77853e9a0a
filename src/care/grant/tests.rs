use smallvec::smallvec;

use crate::care::brake;
use crate::care::fact::Act;
use crate::care::fact::BedLocation;
use crate::care::fact::Confidentiality;
use crate::care::fact::Fact;
use crate::care::fact::FactHash;
use crate::care::fact::FieldRef;
use crate::care::fact::FieldUpdate;
use crate::care::fact::Pair;
use crate::care::fact::PersonSaid;
use crate::care::fact::Relation;
use crate::care::fact::RelationKind;
use crate::care::fact::Restriction;
use crate::care::fact::SignalSaid;
use crate::care::fact::SignalSource;
use crate::care::fact::SignalsSaid;
use crate::care::fact::Stamp;
use crate::care::fact::StaySaid;
use crate::care::fact::VisitRef;
use crate::care::grant::Grant;
use crate::care::identity::PatientRecord;
use crate::care::plan::Plan;
use crate::care::plan::PlanInput;
use crate::care::plan::plan;
use crate::care::policy::Policy;
use crate::care::room::Permission;
use crate::care::room::RoomStatus;
use crate::care::roster::Roster;
use crate::care::roster::StaffIdPattern;
use crate::care::roster::StaffMember;
use crate::care::roster::Unit;
use crate::care::visit::VisitState;
use crate::ids::CareRoomId;
use crate::ids::Facility;
use crate::ids::FeedName;
use crate::ids::Identifier;
use crate::ids::JournalId;
use crate::ids::PatientClass;
use crate::ids::PatientId;
use crate::ids::PointOfCare;
use crate::ids::TriggerEvent;
use crate::ids::UserId;
use crate::ids::VisitId;
use crate::phi::Phi;
use crate::time::Timestamp;

/// Minutes behind an arbitrary morning.
fn at(minutes: i64) -> Timestamp {
    Timestamp::from_micros((1_800_000_000 + minutes * 60) * 1_000_000)
}

fn patient(value: &str) -> PatientId {
    PatientId(Identifier::new("GHH", "MR", value))
}

fn number(value: &str) -> VisitId {
    VisitId(Identifier::new("GHH", "VN", value))
}

fn fact(trigger: &str, act: Act, minutes: i64) -> Fact {
    let mut hash = [0_u8; 16];
    for (slot, byte) in hash.iter_mut().zip(format!("{trigger}{minutes:013}").bytes()) {
        *slot = byte;
    }
    Fact {
        hash: FactHash(hash),
        stamp: Stamp { recorded: at(minutes), sent: at(minutes), arrival: JournalId(at(minutes).as_micros() * 1024) },
        recorded_by_sender: true,
        trigger: TriggerEvent::parse(trigger).unwrap(),
        act,
        occurred_at: None,
        movement: None,
        feed: FeedName::from("main"),
        owns: Vec::new(),
        load: false,
        patient: patient("1"),
        other_ids: Vec::new(),
        visit: Some(VisitRef { id: number("V1"), from: FieldRef::new("PV1-19"), is_account: false, account: None, alternate: None, preadmit: None }),
        person: PersonSaid::default(),
        stay: StaySaid::default(),
        relation: None,
    }
}

fn in_unit(mut fact: Fact, unit: &str) -> Fact {
    let place = BedLocation {
        facility: Facility::from("GHH"),
        point_of_care: PointOfCare::from(unit),
        room: "1".into(),
        bed: "A".into(),
        building: "".into(),
    };
    fact.stay.class = FieldUpdate::Set(PatientClass::from("I"));
    fact.stay.location = FieldUpdate::Set(place);
    fact
}

fn admit() -> Fact {
    in_unit(fact("A01", Act::Open, 0), "4N")
}

/// What a message says of the level, of the stay; `None` clears it.
fn level(minutes: i64, level: Option<Confidentiality>) -> Fact {
    let mut fact = fact("A08", Act::Update, minutes);
    let update = level.map_or(FieldUpdate::Clear, |level| FieldUpdate::Set(Restriction { level, ..Restriction::default() }));
    fact.stay.signals = SignalsSaid { said: vec![SignalSaid { source: SignalSource::Vip, update }], replaces_access_restrictions: false };
    fact
}

/// The visit goes over from one patient to another.
fn moved(minutes: i64, from: &str, into: &str) -> Fact {
    let mut fact = fact("A45", Act::Relate, minutes);
    fact.patient = patient(into);
    let (patients, visits) = (vec![Pair { from: patient(from), into: patient(into) }], vec![Pair { from: number("V1"), into: number("V1") }]);
    fact.relation = Some(Relation { kind: RelationKind::VisitMove, patients, accounts: Vec::new(), visits });
    fact
}

fn roster() -> Roster {
    let member = |user: &str, value: &str, active| StaffMember {
        user: UserId::from(user),
        ids: vec![StaffIdPattern { authority: None, id_type: None, value: value.to_owned() }],
        groups: std::collections::BTreeSet::new(),
        active,
    };
    let unit = |name: &str, part2| {
        let mut unit = Unit::default();
        unit.flags.part2 = part2;
        ((Facility::from("GHH"), PointOfCare::from(name)), unit)
    };
    let staff = [member("guest", "D1", true), member("gone", "D2", false), member("jane", "J1", true)];
    Roster::new(staff, [unit("4N", false), unit("DETOX", true)], false)
}

/// A grant from minute 60 to 180.
fn grant(user: &str) -> Grant {
    Grant {
        number: JournalId(77),
        user: UserId::from(user),
        patient: patient("1"),
        since: at(60),
        until: at(180),
        heard: at(60),
        is_explicit: false,
        reason: Phi::from("in an emergency"),
        uid: 0,
        login: None,
    }
}

fn planned(facts: &[Fact], grants: &[Grant], minutes: i64) -> Plan {
    let (state, mut record) = (VisitState::fold(facts), PatientRecord::default());
    for fact in facts {
        record.say(fact);
    }
    let bound = state.patient().unwrap();
    plan(&PlanInput {
        stay: state.stays().last().unwrap(),
        also: &[],
        visit: state.id().unwrap(),
        patient: bound,
        person: &record.person(bound),
        room: CareRoomId::default_for_tests(),
        merged_into: None,
        continues: None,
        has_conflict: false,
        shares_its_bed: false,
        grants: &grants.iter().collect::<Vec<_>>(),
        policy: &Policy::default(),
        roster: &roster(),
        now: at(minutes),
    })
}

/// Who is in the room at a minute, when it is planned again, and whose grants are over for good.
fn check(facts: &[Fact], grant: &Grant, minutes: i64, members: &str, ended: &str) {
    let planned = planned(facts, std::slice::from_ref(grant), minutes);
    let users = |users: Vec<&UserId>| users.into_iter().map(UserId::as_str).collect::<Vec<_>>().join(" ");
    let target = planned.target.unwrap();
    let (found, over) = (users(target.members.iter().map(|member| &member.user).collect()), users(planned.ended_grants.iter().collect()));
    assert_eq!((found.as_str(), over.as_str()), (members, ended), "at {minutes}");
    assert_eq!(planned.wake_at == Some(at(180)), !members.is_empty(), "at {minutes}: {:?}", planned.wake_at);
}

#[test]
fn a_grant_is_a_ground_until_it_says_and_has_no_grace() {
    let (facts, grant) = ([admit()], grant("guest"));
    check(&facts, &grant, 60, "guest", "");
    check(&facts, &grant, 179, "guest", "");
    check(&facts, &grant, 180, "", "guest");
    let target = planned(&facts, &[grant], 61).target.unwrap();
    let member = &target.members[0];
    let ground = &member.grounds[0];
    assert_eq!((member.permission, member.roles.as_slice()), (Permission::Member, &["grant".into()][..]));
    assert_eq!((ground.rule.as_str(), ground.from.as_str(), ground.message), ("grant", "operator", JournalId(77)));
    assert_eq!((ground.since, ground.until), (at(60), Some(at(180))));
}

#[test]
fn whoever_is_the_patient_or_not_active_is_not_let_in() {
    let mut of_staff = admit();
    of_staff.other_ids = vec![PatientId(Identifier::new("GHH", "EI", "J1"))];
    let members = |facts: &[Fact], user: &str| planned(facts, &[grant(user)], 61).target.unwrap().members.len();
    assert_eq!((members(&[of_staff], "jane"), members(&[admit()], "jane"), members(&[admit()], "gone")), (0, 1, 0));
}

#[test]
fn after_a_discharge_a_grant_goes_on_by_the_clock_and_nobody_is_in_a_closed_room() {
    let facts = [admit(), fact("A03", Act::End, 70)];
    check(&facts, &grant("guest"), 100, "guest", "");
    check(&facts, &grant("guest"), 180, "", "guest");
    let day = Grant { until: at(60 + 24 * 60), ..grant("guest") };
    let mut late = facts;
    late[1] = fact("A03", Act::End, -60 * 23);
    late[0] = in_unit(fact("A01", Act::Open, -60 * 24), "4N");
    assert_eq!(planned(&late, std::slice::from_ref(&day), 59).target.unwrap().status, RoomStatus::Grace);
    let closed = planned(&late, &[day], 61);
    let target = closed.target.unwrap();
    assert!(target.status == RoomStatus::Closed && target.members.is_empty() && closed.ended_grants.is_empty() && closed.wake_at.is_none());
}

#[test]
fn very_restricted_ends_a_grant_for_good_and_restricted_does_not() {
    let (highest, grant) = (Confidentiality::VeryRestricted, grant("guest"));
    check(&[admit(), level(70, Some(Confidentiality::Restricted))], &grant, 100, "guest", "");
    check(&[admit(), level(70, Some(highest))], &grant, 100, "", "guest");
    // Also where it is lowered again before anybody looked, and where it was said before the grant and came later.
    check(&[admit(), level(70, Some(highest)), level(80, None)], &grant, 100, "", "guest");
    check(&[admit(), level(50, Some(highest))], &grant, 100, "", "guest");
    // What was raised and lowered before it was given is over.
    check(&[admit(), level(40, Some(highest)), level(50, None)], &grant, 100, "guest", "");
    let explicit = Grant { is_explicit: true, ..grant };
    check(&[admit(), level(50, Some(highest)), level(70, Some(highest))], &explicit, 100, "guest", "");
}

#[test]
fn a_unit_of_a_part_2_program_ends_a_grant_also_when_the_transfer_is_taken_back() {
    let transfer = in_unit(fact("A02", Act::Move, 70), "DETOX");
    check(&[admit(), transfer.clone()], &grant("guest"), 100, "", "guest");
    check(&[admit(), transfer, fact("A12", Act::CancelMove, 80)], &grant("guest"), 100, "", "guest");
}

#[test]
fn a_grant_stays_behind_when_the_visit_goes_over_to_another_patient() {
    // Whether it counts for nothing while that stands, and whether it has ended for good.
    let left = |facts: &[Fact]| {
        let mut record = PatientRecord::default();
        for fact in facts {
            record.say(fact);
        }
        let (state, grant) = (VisitState::fold(facts), grant("guest"));
        (!grant.is_for(state.patient().unwrap(), &record), grant.is_left_behind(&state, &record))
    };
    assert_eq!(left(&[admit()]), (false, false));
    assert_eq!(left(&[admit(), moved(70, "1", "2")]), (true, true));
    assert_eq!(left(&[admit(), moved(70, "1", "2"), moved(80, "2", "1")]), (false, true), "for good");
    assert_eq!(left(&[admit(), moved(50, "1", "2")]), (true, false), "said before the grant, and heard later");
    assert_eq!(left(&[admit(), moved(40, "1", "2"), moved(50, "2", "1")]), (false, false), "that was over when it was given");
    let mut merged = fact("A40", Act::Relate, 75);
    let patients = vec![Pair { from: patient("1"), into: patient("2") }];
    (merged.visit, merged.patient) = (None, patient("2"));
    merged.relation = Some(Relation { kind: RelationKind::Patient, patients, accounts: Vec::new(), visits: Vec::new() });
    assert_eq!(left(&[admit(), merged]), (false, false), "a merge of patients brings no room to another patient");
}

#[test]
fn what_waits_because_of_the_brake_keeps_nobody_whose_grant_is_over() {
    let mut before = planned(&[admit()], &[grant("guest"), grant("jane")], 61).target.unwrap();
    let unit = crate::care::room::Ground { rule: "unit".into(), from: "unit GHH/4N".into(), message: JournalId(1), since: at(0), until: None };
    let jane = before.members.iter_mut().find(|member| member.user.as_str() == "jane").unwrap();
    (jane.roles, jane.grounds) = (smallvec!["grant".into(), "unit".into()], smallvec![unit, jane.grounds[0].clone()]);
    let closed = planned(&[admit(), fact("A11", Act::CancelOpen, 90)], &[], 200).target.unwrap();
    for (target, status) in [(closed, RoomStatus::Active), (planned(&[admit()], &[], 200).target.unwrap(), RoomStatus::Active)] {
        let (held, is_held) = brake::hold_all(&before, target, &[], &roster());
        let members: Vec<(&str, usize, usize)> =
            held.members.iter().map(|member| (member.user.as_str(), member.grounds.len(), member.roles.len())).collect();
        assert_eq!((is_held, held.status, members.as_slice()), (true, status, &[("jane", 1, 1)][..]));
    }
}
