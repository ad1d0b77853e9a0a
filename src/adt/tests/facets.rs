//! What the fields of PV1 say.

use crate::adt::profile::Consultants;
use crate::adt::profile::EmptyClears;
use crate::adt::profile::Profile;
use crate::adt::tests::EVN;
use crate::adt::tests::MSH;
use crate::adt::tests::PID;
use crate::adt::tests::at;
use crate::adt::tests::event;
use crate::adt::tests::fact;
use crate::adt::tests::has;
use crate::adt::tests::only;
use crate::adt::tests::place;
use crate::adt::tests::profile;
use crate::adt::tests::reading;
use crate::adt::tests::staff;
use crate::care::fact::FieldUpdate;
use crate::care::fact::StaySaid;
use crate::care::notice::NoticeCode;
use crate::ids::PatientClass;
use crate::ids::TriggerEvent;

fn stay(pv1: &str) -> StaySaid {
    fact("A08", &[pv1]).stay
}

#[test]
fn empty_keeps_null_clears_and_a_value_sets() {
    assert_eq!(stay("PV1|1|I|4N||||").attending, FieldUpdate::Keep);
    assert_eq!(stay("PV1|1|I|4N||||^^").attending, FieldUpdate::Keep);
    assert_eq!(stay("PV1|1|I|4N||||UNKNOWN").attending, FieldUpdate::Keep);
    assert_eq!(stay(r#"PV1|1|I|4N||||"""#).attending, FieldUpdate::Clear);
    assert!(stay("PV1|1|I|4N||||D1").attending.value().is_some());
    assert_eq!(stay(r#"PV1|1|I|4N||||||""|""|"#).consulting, FieldUpdate::Clear);
}

#[test]
fn a_feed_can_say_that_empty_clears() {
    let rule = EmptyClears { field: "PV1-9".to_owned(), triggers: vec![TriggerEvent::parse("A08").unwrap()] };
    let clears = Profile { empty_clears: vec![rule], ..profile() };
    assert_eq!(only(&event(&clears, "A08", &["PV1|1|I|4N"])).stay.consulting, FieldUpdate::Clear);
    assert_eq!(only(&event(&clears, "A02", &["PV1|1|I|4N"])).stay.consulting, FieldUpdate::Keep);
    assert_eq!(only(&event(&clears, "A08", &[])).stay.consulting, FieldUpdate::Keep, "without a PV1 nothing is said");
}

#[test]
fn a_place_without_a_unit_says_nothing() {
    for (pv1, want) in [
        ("PV1|1|I|4N^12^A", Some("GHH 4N 12 A")),
        ("PV1|1|I|4N^12^A^WEST&1.2&ISO", Some("WEST 4N 12 A")),
        ("PV1|1|I|^12^A^WEST", None),
        ("PV1|1|I|^^^^^N", None),
        ("PV1|1|I|UNKNOWN^12", None),
        ("PV1|1|I|4N&1.2&ISO", Some("GHH 4N  ")),
    ] {
        assert_eq!(place(&stay(pv1).location).as_deref(), want, "{pv1}");
    }
    assert_eq!(stay(r#"PV1|1|I|"""#).location, FieldUpdate::Clear);
}

#[test]
fn the_facility_is_looked_for_in_four_places() {
    let pv1_39 = format!("PV1|1|I|4N{}EAST", "|".repeat(36));
    assert_eq!(place(&stay(&pv1_39).location).as_deref(), Some("EAST 4N  "));
    let nowhere = MSH.replace("|EMR|GHH|", "|EMR||");
    let evn_7 = reading(&profile(), &[&nowhere, &format!("{EVN}|||||SOUTH"), PID, "PV1|1|I|4N"]);
    assert_eq!(place(&only(&evn_7).stay.location).as_deref(), Some("SOUTH 4N  "));
    let none = reading(&Profile { facility: "FEED".into(), ..profile() }, &[&nowhere, EVN, PID, "PV1|1|I|4N"]);
    assert_eq!(place(&only(&none).stay.location).as_deref(), Some("FEED 4N  "));
}

#[test]
fn an_unknown_class_is_taken_as_the_event_suggests() {
    for (name, want) in [("A01", "I"), ("A06", "I"), ("A04", "O"), ("A08", "O")] {
        let reading = event(&profile(), name, &["PV1|1|ZZ|4N"]);
        assert_eq!(only(&reading).stay.class.value().map(PatientClass::as_str), Some(want), "{name}");
        assert!(has(&reading, NoticeCode::UnknownClass));
    }
    assert!(stay("PV1|1||4N").class.is_keep());
}

#[test]
fn tracking_says_where_and_not_which_bed() {
    let away = fact("A09", &["PV1|1|I|4N^1^A||||||||OR^2"]);
    assert!(away.stay.location.is_keep());
    assert_eq!(place(&away.stay.whereabouts).as_deref(), Some("GHH OR 2 "));
    let back = fact("A32", &["PV1|1|I|4N^1^A"]);
    assert_eq!(place(&back.stay.whereabouts).as_deref(), Some("GHH 4N 1 A"));
}

#[test]
fn an_expected_stay_may_have_its_place_in_pv1_42() {
    let pv1 = format!("PV1|1|P|{}5S^1^B", "|".repeat(39));
    assert_eq!(place(&fact("A14", &[&pv1]).stay.location).as_deref(), Some("GHH 5S 1 B"));
    assert!(fact("A15", &[&pv1]).stay.location.is_keep(), "where somebody may go is not where they are");
}

#[test]
fn times_that_mean_never_are_open_and_no_mistake() {
    let with = |pv1_45: &str| event(&profile(), "A08", &[&format!("PV1|1|I{}20261120080000|{pv1_45}", "|".repeat(42))]);
    assert_eq!(only(&with("20261121090000")).stay.discharged_at, FieldUpdate::Set(at("2026-11-21T14:00:00Z")));
    assert_eq!(only(&with("99991231")).stay.discharged_at, FieldUpdate::Keep);
    assert_eq!(only(&with(r#""""#)).stay.discharged_at, FieldUpdate::Clear);
    assert!(!has(&with("29991231"), NoticeCode::Unreadable) && has(&with("soon"), NoticeCode::Unreadable));
}

#[test]
fn consultants_are_one_a_repetition_and_an_attending_is_one_in_all() {
    let said = stay("PV1|1|I|4N||||D1^A^B^^^^^^GHH^^^^EI~1234567893^A^B^^^^^^NPI^^^^NPI||C1^X~C2^Y~C1^X");
    assert_eq!(staff(said.attending.value()), ["GHH/EI:D1", "NPI/NPI:1234567893"]);
    assert_eq!(said.consulting.value().map(Vec::len), Some(2));
    let adds = Profile { pv1_9: Consultants::Add, ..profile() };
    assert!(only(&event(&adds, "A08", &["PV1|1|I|4N||||||C1"])).stay.consulting_adds);
    assert!(staff(stay("PV1|1|I|4N||||^GARCIA^LUIS").attending.value()).is_empty(), "a name is no id");
}
