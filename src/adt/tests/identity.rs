//! Patients and visits by their numbers.

use crate::adt::Hint;
use crate::adt::QuarantineReason;
use crate::adt::profile::Profile;
use crate::adt::profile::VisitIdSource;
use crate::adt::tests::EVN;
use crate::adt::tests::MSH;
use crate::adt::tests::event;
use crate::adt::tests::has;
use crate::adt::tests::only;
use crate::adt::tests::profile;
use crate::adt::tests::reading;
use crate::adt::tests::shown;
use crate::care::notice::NoticeCode;

fn patient(profile: &Profile, pid: &str) -> Option<String> {
    event(profile, "A08", &[pid]).facts.first().map(|fact| shown(&fact.patient.0))
}

#[test]
fn the_patient_key_is_the_repetition_of_the_feeds_type() {
    let table = [
        ("PID|1||9^^^SSA^SS~12^^^GHH^MR", Some("GHH/MR:12")),
        ("PID|1||7^^^OTHER^MR~12^^^GHH^MR", Some("GHH/MR:12")),
        ("PID|1||E1^^^EPI^EPI~77^^^GHH^PI", Some("GHH/PI:77")),
        ("PID|1||E1^^^EPI^EPI", Some("EPI/EPI:E1")),
        ("PID|1||123456789^^^SSA^SS~E1^^^EPI^EPI", Some("EPI/EPI:E1")),
        ("PID|1||0012^5^M11^ghh&1.2.3&ISO^mr", Some("GHH/MR:0012")),
        ("PID|1||12^^^&1.2.3&ISO^MR", Some("1.2.3&ISO/MR:12")),
        ("PID|1||12", Some("GHH/MR:12")),
        // A social security number is no record number, also where only its authority tells.
        ("PID|1||12^^^ADT1^GENERAL~123456789^^^^^USSSA^", Some("ADT1/GENERAL:12")),
        ("PID|1||123456789^^^SSA~12", Some("GHH/MR:12")),
        ("PID|1||UNKNOWN^^^GHH^MR", None),
        (r#"PID|1||"""#, None),
        ("PID|1|12", None),
    ];
    for (pid, want) in table {
        assert_eq!(patient(&profile(), pid).as_deref(), want, "{pid}");
    }
}

#[test]
fn an_authority_has_one_name() {
    let mut mapped = profile();
    mapped.authority_map.insert("1.2.3".to_owned(), "GHH".into());
    assert_eq!(patient(&mapped, "PID|1||12^^^&1.2.3&ISO^MR").as_deref(), Some("GHH/MR:12"));
}

#[test]
fn the_external_id_stands_in_before_version_2_3() {
    let old = MSH.replace("2.5.1", "2.2");
    let reading = reading(&profile(), &[&old, EVN, "PID|1|12"]);
    assert_eq!(shown(&only(&reading).patient.0), "GHH/MR:12");
}

#[test]
fn a_patient_without_a_usable_id_is_quarantined() {
    let reading = event(&profile(), "A01", &["PID|1||||SMITH^JANE"]);
    assert_eq!(reading.disposition_hint, Hint::Quarantine(QuarantineReason::NoPatientId));
}

#[test]
fn a_value_that_was_cut_short_is_no_id() {
    let header = MSH.replace(r"^~\&", r"^~\&#");
    let reading = reading(&profile(), &[&header, EVN, "PID|1||12345678901#^^^GHH^PI~12^^^GHH^EPI", "PV1|1|I|4N||||||||||||||||V100#"]);
    assert_eq!(shown(&only(&reading).patient.0), "GHH/EPI:12");
    assert!(only(&reading).visit.is_none() && has(&reading, NoticeCode::Truncated));
}

#[test]
fn the_visit_is_named_by_the_first_number_that_the_feed_trusts() {
    let pid = "PID|1||12345^^^GHH^MR|||||||||||||||A9^^^GHH^AN";
    let pv1 = "PV1|1|I|||P7||||||||||||||V1^^^GHH^VN|||||||||||||||||||||||||||||||T5";
    let number = only(&event(&profile(), "A08", &[pid, pv1])).visit.clone().unwrap();
    assert_eq!(shown(&number.id.0), "GHH/VN:V1");
    assert_eq!(number.account.as_ref().map(|id| shown(&id.0)).as_deref(), Some("GHH/AN:A9"));
    assert_eq!(number.alternate.as_ref().map(|id| shown(&id.0)).as_deref(), Some("GHH/:T5"));
    assert_eq!(number.preadmit.as_ref().map(|id| shown(&id.0)).as_deref(), Some("GHH/:P7"));
    let by_account = Profile { visit_id: vec![VisitIdSource::Account], ..profile() };
    let account = only(&event(&by_account, "A08", &[pid, pv1])).visit.clone().unwrap();
    assert_eq!((shown(&account.id.0).as_str(), account.is_account), ("GHH/AN:A9", false), "the feed says that an account is a visit");
    assert!(only(&event(&profile(), "A08", &["PV1|1|I"])).visit.is_none());
}
