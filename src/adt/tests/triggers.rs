//! What counts for which event, and what is refused.

use crate::adt::Hint;
use crate::adt::Kind;
use crate::adt::NoOpReason;
use crate::adt::profile::Profile;
use crate::adt::tests::EVN;
use crate::adt::tests::MSH;
use crate::adt::tests::PID;
use crate::adt::tests::arrival;
use crate::adt::tests::event;
use crate::adt::tests::fact;
use crate::adt::tests::has;
use crate::adt::tests::only;
use crate::adt::tests::profile;
use crate::adt::tests::reading;
use crate::adt::tests::reading_at;
use crate::care::fact::Act;
use crate::care::fact::FieldRef;
use crate::care::notice::NoticeCode;
use crate::ids::TriggerEvent;

const PV1: &str = "PV1|1|I|4N^12^A|||ED^1^2|D1|D2|D3|MED|OR^7||||||D4||V1^^^GHH|||||||||||||||||||||||||20261120080000|20261121090000";

#[test]
fn what_counts_depends_on_the_event() {
    // event, act, class, place, whereabouts, attending, consulting, discharge
    let table = [
        ("A01", Act::Open, [true, true, true, true, true, true]),
        ("A02", Act::Move, [true, true, true, true, true, true]),
        ("A03", Act::End, [true, true, true, true, true, true]),
        ("A09", Act::Track, [true, false, true, true, true, true]),
        ("A11", Act::CancelOpen, [false, true, false, false, false, false]),
        ("A12", Act::CancelMove, [false, true, false, false, false, false]),
        ("A13", Act::CancelEnd, [true, true, false, false, false, false]),
        ("A28", Act::Person, [false; 6]),
        ("A31", Act::Person, [false; 6]),
        ("A32", Act::CancelTrack, [false, false, true, false, false, false]),
        ("A38", Act::CancelExpect, [false; 6]),
        ("A54", Act::ChangeProviders, [true, true, true, true, false, true]),
        ("A55", Act::CancelChangeProviders, [false, false, false, true, false, false]),
        ("A61", Act::ChangeProviders, [true, true, true, false, true, true]),
        ("A62", Act::CancelChangeProviders, [false, false, false, false, true, false]),
        ("Z99", Act::Update, [true, true, true, true, true, true]),
    ];
    for (name, act, counts) in table {
        let fact = fact(name, &[PV1]);
        let stay = &fact.stay;
        let said = [
            !stay.class.is_keep(),
            !stay.location.is_keep(),
            !stay.whereabouts.is_keep(),
            !stay.attending.is_keep(),
            !stay.consulting.is_keep(),
            !stay.discharged_at.is_keep(),
        ];
        assert_eq!((fact.act, said), (act, counts), "{name}");
    }
}

#[test]
fn person_level_events_name_no_visit() {
    for name in ["A28", "A29", "A31"] {
        assert!(fact(name, &[PV1]).visit.is_none(), "{name}");
    }
}

#[test]
fn events_without_a_meaning_for_rooms_do_nothing() {
    let npu = event(&profile(), "A20", &["NPU|4N^1^A|U"]);
    assert_eq!((npu.disposition_hint, npu.facts.len()), (Hint::NoOp(NoOpReason::BedStatus), 0));
    assert_eq!(event(&profile(), "A60", &[]).disposition_hint, Hint::NoOp(NoOpReason::Allergy));
    let unknown = event(&profile(), "A99", &[]);
    assert_eq!(unknown.disposition_hint, Hint::NoOp(NoOpReason::UnknownEvent));
    assert!(has(&unknown, NoticeCode::UnknownTrigger));
}

#[test]
fn a_strict_feed_refuses_what_it_does_not_know() {
    let strict = Profile { strict: true, ..profile() };
    let reject = |code, field| Hint::Reject { code, field: FieldRef::new(field) };
    assert_eq!(event(&strict, "A99", &[]).disposition_hint, reject(201, "MSH-9.2"));
    assert_eq!(event(&strict, "A60", &[]).disposition_hint, Hint::NoOp(NoOpReason::Allergy));
    let oru = MSH.replace("ADT^A01^ADT_A01", "ORU^R01");
    assert_eq!(reading(&strict, &[&oru, PID]).disposition_hint, reject(200, "MSH-9.1"));
    assert_eq!(reading(&profile(), &[&oru, PID]).disposition_hint, Hint::NoOp(NoOpReason::UnsupportedType));
}

#[test]
fn the_event_is_found_however_msh_9_is_written() {
    for (msh_9, evn_1, want) in [
        ("ADT^A04^ADT_A04", "A04", "A04"),
        ("ADT", "A08", "A08"),
        ("ADT^a40", "", "A40"),
        ("adt^A01", "", "A01"),
        ("ADT^A12", "A02", "A12"),
        ("ADT_A03", "", "A03"),
        ("", "A01", "A01"),
    ] {
        let header = MSH.replace("ADT^A01^ADT_A01", msh_9);
        let evn = format!("EVN|{evn_1}|20261121093010");
        let text = [header.as_str(), evn.as_str(), PID].join("\r");
        let reading = reading_at(&profile(), arrival(), &text);
        assert_eq!(reading.kind, Kind::Adt, "{msh_9}");
        assert_eq!(reading.trigger, TriggerEvent::parse(want), "{msh_9}");
        assert_eq!(has(&reading, NoticeCode::TriggerMismatch), msh_9 == "ADT^A12");
    }
}

#[test]
fn a_feeds_event_map_changes_the_meaning_and_not_the_name() {
    let mut mapped = profile();
    mapped.event_map.insert(TriggerEvent::parse("A10").unwrap(), TriggerEvent::parse("A04").unwrap());
    let reading = event(&mapped, "A10", &[PV1]);
    assert_eq!((only(&reading).act, only(&reading).trigger.as_str()), (Act::Open, "A10"));
    assert!(!only(&reading).stay.location.is_keep());
}

#[test]
fn processing_id_and_version_are_checked_and_the_facts_still_shown() {
    let test = reading(&profile(), &[&MSH.replace("|P|", "|T|"), EVN, PID, PV1]);
    assert_eq!(test.disposition_hint, Hint::Reject { code: 202, field: FieldRef::new("MSH-11") });
    assert_eq!(test.facts.len(), 1);
    assert_eq!(reading(&profile(), &[&MSH.replace("|P|", "||"), EVN, PID, PV1]).disposition_hint, Hint::Facts);
    for (version, fine) in [("2.1", true), ("2.9.1", true), ("", true), ("2.5.1^^", true), ("3", false), ("DG1", false), ("1.0", false)] {
        let hint = reading(&profile(), &[&MSH.replace("2.5.1", version), EVN, PID, PV1]).disposition_hint;
        assert_eq!(hint == Hint::Facts, fine, "{version}");
    }
    let load = reading(&profile(), &[&MSH.replace("|P|", "|P^I|"), EVN, PID, PV1]);
    assert!(only(&load).load);
}

#[test]
fn only_the_triggers_that_the_feed_names_move_a_patient() {
    let choosy = Profile { location_from: Some(vec![TriggerEvent::parse("A02").unwrap()]), ..profile() };
    assert!(only(&event(&choosy, "A08", &[PV1])).stay.location.is_keep());
    assert!(!only(&event(&choosy, "A02", &[PV1])).stay.location.is_keep());
}

#[test]
fn kinds_are_told_apart_by_the_message_type() {
    for (msh_9, want) in [
        ("MFN^M02", Kind::MasterFile),
        ("PMU^B01^PMU_B01", Kind::Personnel),
        ("ACK^A01^ACK", Kind::Ack),
        ("ACK", Kind::Ack),
        ("SIU^S12", Kind::Other),
    ] {
        let text = MSH.replace("ADT^A01^ADT_A01", msh_9);
        assert_eq!(reading_at(&profile(), arrival(), &text).kind, want, "{msh_9}");
    }
}
