//! Signals of restriction.

use crate::adt::tests::EVN;
use crate::adt::tests::MSH;
use crate::adt::tests::PID;
use crate::adt::tests::at;
use crate::adt::tests::fact;
use crate::adt::tests::level;
use crate::adt::tests::only;
use crate::adt::tests::profile;
use crate::adt::tests::reading;
use crate::care::fact::Confidentiality;
use crate::care::fact::FieldUpdate;
use crate::care::fact::SignalSource;

fn vip(pv1_16: &str) -> FieldUpdate<Confidentiality> {
    let pv1 = format!("PV1|1|I|4N{}{pv1_16}", "|".repeat(13));
    level(&fact("A08", &[&pv1]).stay.signals, &SignalSource::Vip)
}

#[test]
fn a_vip_indicator_raises_clears_or_says_nothing() {
    assert_eq!(vip(""), FieldUpdate::Keep);
    assert_eq!(vip("N"), FieldUpdate::Clear);
    assert_eq!(vip(r#""""#), FieldUpdate::Clear);
    assert_eq!(vip("VIP"), FieldUpdate::Set(Confidentiality::Restricted));
    assert_eq!(vip("Q"), FieldUpdate::Set(Confidentiality::Restricted), "what nobody knows restricts");
}

#[test]
fn a_cancel_never_lowers_a_level() {
    let pv1 = |code: &str| format!("PV1|1|I|4N{}{code}", "|".repeat(13));
    assert!(fact("A13", &[&pv1("N")]).stay.signals.is_keep());
    assert_eq!(level(&fact("A13", &[&pv1("VIP")]).stay.signals, &SignalSource::Vip), FieldUpdate::Set(Confidentiality::Restricted));
}

#[test]
fn protection_is_of_the_person_or_of_the_visit() {
    let said = fact("A08", &["PD1||||||||||||Y", "PV1|1|I|4N", &format!("PV2|{}N", "|".repeat(21))]);
    assert_eq!(level(&said.person.signals, &SignalSource::PatientProtection), FieldUpdate::Set(Confidentiality::Restricted));
    assert_eq!(level(&said.stay.signals, &SignalSource::VisitProtection), FieldUpdate::Clear);
}

#[test]
fn an_access_restriction_holds_where_it_stands() {
    let said = fact("A08", &["ARV|1|A|PSY", "PV1|1|I|4N", "ARV|1|A|LOC|PHY|Do not tell|20261121^20261122", "ARV|2|A|42CFRPart2"]);
    let key = |value: &str| SignalSource::AccessRestriction(value.to_owned());
    assert_eq!(level(&said.person.signals, &key("PSY")), FieldUpdate::Set(Confidentiality::VeryRestricted));
    assert_eq!(level(&said.stay.signals, &key("42CFRPART2")), FieldUpdate::Set(Confidentiality::VeryRestricted));
    let hidden = said.stay.signals.said.iter().find(|signal| signal.source == key("LOC")).and_then(|signal| signal.update.value()).unwrap();
    assert!(hidden.hides_place && hidden.ends_at == Some(at("2026-11-23T05:00:00Z")));
}

#[test]
fn access_restrictions_are_deleted_one_by_one_or_all() {
    let signals = |arv: &str| fact("A08", &["PV1|1|I|4N", arv]).stay.signals;
    assert_eq!(level(&signals("ARV|1|D|HIV"), &SignalSource::AccessRestriction("HIV".to_owned())), FieldUpdate::Clear);
    assert_eq!(
        level(&signals("ARV|1|A|HIV|||||||R7^GHH"), &SignalSource::AccessRestriction("R7/GHH".to_owned())),
        FieldUpdate::Set(Confidentiality::Restricted)
    );
    assert!(signals("ARV|1|X|HIV").is_keep());
    for all in ["ARV|1|A|NO", r#"ARV|1|A|"""#, r#"ARV|"""#, "ARV|1|D|"] {
        assert!(signals(all).replaces_access_restrictions, "{all}");
    }
    let one_and_only = signals("ARV|1|S|HIV");
    assert!(one_and_only.replaces_access_restrictions && one_and_only.said.len() == 1);
}

#[test]
fn a_pseudonym_restricts_until_names_say_otherwise() {
    let name = |pid_5: &str| level(&fact("A31", &[&format!("PID|1||12^^^GHH^MR||{pid_5}")]).person.signals, &SignalSource::Pseudonym);
    assert_eq!(name("DOE^JANE^^^^^L~NOVA^STELLA^^^^^S"), FieldUpdate::Set(Confidentiality::Restricted));
    assert_eq!(name("DOE^JANE^^^^^L"), FieldUpdate::Clear);
    assert_eq!(name("DOE^JANE"), FieldUpdate::Keep);
}

#[test]
fn the_classification_of_a_message_is_a_high_water_mark() {
    let message = |msh_26: &str| {
        let header = format!("{MSH}{}{msh_26}", "|".repeat(14));
        level(&only(&reading(&profile(), &[&header, EVN, PID, "PV1|1|I|4N"])).stay.signals, &SignalSource::Message)
    };
    assert_eq!(message(""), FieldUpdate::Keep);
    assert_eq!(message("N"), FieldUpdate::Clear);
    assert_eq!(message("R"), FieldUpdate::Set(Confidentiality::Restricted));
    assert_eq!(message("V"), FieldUpdate::Set(Confidentiality::VeryRestricted));
}
