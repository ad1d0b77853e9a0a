//! Whole messages as the large vendors shape them.

use crate::adt::Hint;
use crate::adt::tests::at;
use crate::adt::tests::has;
use crate::adt::tests::level;
use crate::adt::tests::only;
use crate::adt::tests::place;
use crate::adt::tests::profile;
use crate::adt::tests::reading;
use crate::adt::tests::shown;
use crate::adt::tests::staff;
use crate::care::fact::Act;
use crate::care::fact::AssignmentsSaid;
use crate::care::fact::Confidentiality;
use crate::care::fact::FieldUpdate;
use crate::care::fact::SignalSource;
use crate::care::notice::NoticeCode;
use crate::ids::PatientClass;
use crate::ids::Role;
use crate::phi::Phi;

#[test]
fn an_epic_like_admission_is_read_whole() {
    let text = [
        r"MSH|^~\&|EPICADT|GHH|WR|GHH|20261121093015||ADT^A01^EPIC_ADT|171234|P|2.3",
        "EVN|A01|20261121093015||ADT_EVENT|U17^REGISTRAR^ANN",
        "PID|1||E100^^^EPI^EPI~12345^^^GHH^MR||SMITH^JANE^ANN^^^^L~SMITH^JANIE^^^^^N||19800131|Female||||||||||800123^^^GHH^AN",
        "ROL|1|UP|GENERAL|D900^OUTSIDE^OLAF^^^^^^GHH^^^^PROVID",
        "PV1|1|Inpatient|4N^12^A^GHH^^^^^4 NORTH^^DEPID||||D100^GARCIA^LUIS^^^^^^GHH^^^^PROVID~1234567893^GARCIA^LUIS^^^^^^NPI^^^^NPI||\
         D200^LOW^KIM^^^^^^GHH^^^^PROVID~D201^HIGH^TOM^^^^^^GHH^^^^PROVID|MED||||||N|D300^NG^AMY^^^^^^GHH^^^^PROVID||V1001^^^GHH^VN",
        "ZPV|junk",
        "ROL|2|UP|RN|N1^NIGHT^FLO^^^^^^GHH^^^^PROVID|||20261121070000|29991231",
        "ROL|3|UP|CNA||20261121|20261121",
    ];
    let reading = reading(&profile(), &text);
    let fact = only(&reading);
    assert_eq!(reading.disposition_hint, Hint::Facts);
    assert_eq!(shown(&fact.patient.0), "GHH/MR:12345");
    assert_eq!(fact.other_ids.iter().map(|id| shown(&id.0)).collect::<Vec<_>>(), ["EPI/EPI:E100"]);
    let visit = fact.visit.as_ref().unwrap();
    assert_eq!((shown(&visit.id.0).as_str(), visit.from.as_str(), visit.is_account), ("GHH/VN:V1001", "PV1-19", false));
    assert_eq!(visit.account.as_ref().map(|id| shown(&id.0)).as_deref(), Some("GHH/AN:800123"));
    assert_eq!(fact.stay.class.value().map(PatientClass::as_str), Some("I"));
    assert_eq!(place(&fact.stay.location).as_deref(), Some("GHH 4N 12 A"));
    assert_eq!(staff(fact.stay.attending.value()), ["GHH/PROVID:D100", "NPI/NPI:1234567893"]);
    assert_eq!(fact.stay.consulting.value().map(Vec::len), Some(2));
    assert_eq!(staff(fact.stay.admitting.value()), ["GHH/PROVID:D300"]);
    assert_eq!(fact.person.sex.value().map(Phi::as_str), Some("F"));
    assert_eq!(fact.person.birth_date.value().map(Phi::as_str), Some("1980-01-31"));
    let AssignmentsSaid::Snapshot(team) = &fact.stay.assignments else { panic!("{:?}", fact.stay.assignments) };
    assert_eq!(
        team.iter().map(|one| one.source.as_str()).collect::<Vec<_>>(),
        ["ROL:RN"],
        "the person's ROL and the one without a person are not in it"
    );
    assert_eq!(team[0].role.as_ref().map(Role::as_str), Some("nurse"));
    assert!(has(&reading, NoticeCode::RoleWithoutPerson));
}

#[test]
fn a_cerner_like_update_is_keyed_by_its_account() {
    let text = [
        r"MSH|^~\&|CERNER|RRL|WR|RRL|20261121093015||ADT^A08|Q123T456X789|P|2.3",
        "EVN|A08|20261121093015",
        "PID|1|998877^^^RRL MRN^MRN|998877^^^RRL MRN^MRN~1234^^^EMPI^CMRN||SMITH^JANE||19800131000000|F||||||||||O7562^^^RRL FIN^FIN NBR",
        "PV1|1|OBS|CD:16067689^^^RRL||||X1^GARCIA^LUIS^^^^^^EXTERNAL^Personnel^^^EXTERNAL IDENTIFIER~55^GARCIA^LUIS^^^^^^PERSONNEL^Personnel^^^PPID",
    ];
    let reading = reading(&profile(), &text);
    let fact = only(&reading);
    assert_eq!(shown(&fact.patient.0), "RRL MRN/MRN:998877");
    let visit = fact.visit.as_ref().unwrap();
    assert_eq!((shown(&visit.id.0).as_str(), visit.from.as_str(), visit.is_account), ("RRL FIN/FIN NBR:O7562", "PID-18", true));
    assert!(has(&reading, NoticeCode::AccountOnly));
    assert_eq!(fact.stay.class.value().map(PatientClass::as_str), Some("O"));
    assert_eq!(fact.stay.attending.value().map(|one| one.ids.len()), Some(2));
    assert_eq!(fact.person.birth_date.value().map(Phi::as_str), Some("1980-01-31"));
}

#[test]
fn a_meditech_like_discharge_uses_null_freely() {
    let text = [
        r"MSH|^~\&|MEDITECH|COC|WR|COC|202611210930||ADT^A03|7788|P|2.4|||AL|NE",
        "EVN|A03|202611210930",
        "PID|1||M000123^^^^MR||SMITH^JANE||195210150000|F||||||||||V00055",
        r#"PD1||||""||||||||Y"#,
        &format!(r#"PV1|1|I|ICU^2^1||||DOE.J^DOE^JOHN|""|""|MED||||||N|""||V00055{}202611200800|202611210900"#, "|".repeat(25)),
    ];
    let reading = reading(&profile(), &text);
    let fact = only(&reading);
    assert_eq!(fact.act, Act::End);
    assert_eq!(shown(&fact.patient.0), "GHH/MR:M000123", "the feed's own authority");
    let visit = fact.visit.as_ref().unwrap();
    assert_eq!((shown(&visit.id.0).as_str(), visit.from.as_str()), ("GHH/:V00055", "PV1-19"));
    assert!(visit.account.is_none(), "PID-18 says the same number");
    assert_eq!(place(&fact.stay.location).as_deref(), Some("COC ICU 2 1"), "the facility of MSH-4");
    assert_eq!(staff(fact.stay.attending.value()), ["GHH/:DOE.J"]);
    assert_eq!([&fact.stay.referring, &fact.stay.admitting], [&FieldUpdate::Clear, &FieldUpdate::Clear]);
    assert_eq!(fact.stay.consulting, FieldUpdate::Clear);
    assert_eq!(fact.stay.discharged_at, FieldUpdate::Set(at("2026-11-21T14:00:00Z")));
    assert_eq!(level(&fact.stay.signals, &SignalSource::Vip), FieldUpdate::Clear);
    assert_eq!(level(&fact.person.signals, &SignalSource::PatientProtection), FieldUpdate::Set(Confidentiality::Restricted));
}
