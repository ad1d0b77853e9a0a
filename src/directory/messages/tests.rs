use super::Reading;
use super::Says;
use super::read;
use crate::adt::Arrival;
use crate::adt::Kind;
use crate::adt::profile::Profile;
use crate::care::fact::FieldUpdate;
use crate::care::notice::NoticeCode;
use crate::care::roster::StaffIdPattern;
use crate::directory::change::Act;
use crate::directory::change::Affiliation;
use crate::directory::change::AffiliationKind;
use crate::directory::change::Change;
use crate::directory::change::StaffRecord;
use crate::directory::change::UnitRecord;
use crate::hl7::message::Message;
use crate::ids::JournalId;
use crate::ids::TriggerEvent;
use crate::ids::UserId;
use crate::time::Timestamp;

const MFI: &str = "MFI|STF^Staff^HL70175|STAFFDIR|UPD|||AL";

fn at(text: &str) -> Timestamp {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

fn reading(event: &str, segments: &[&str]) -> Option<Reading> {
    let time_zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let profile = Profile { facility: "GHH".into(), authority: "GHH".into(), time_zone, ..Profile::default() };
    let header = format!(r"MSH|^~\&|HR|GHH|WR|GHH|20261121090000||{event}|M1|P|2.5.1");
    let text = std::iter::once(header.as_str()).chain(segments.iter().copied()).collect::<Vec<_>>().join("\r");
    let message = Message::parse(&text).unwrap();
    let arrival = Arrival { at: at("2026-11-21T14:00:02Z"), journal: JournalId(7) };
    let told = crate::adt::read(&message, &profile, arrival);
    read(&message, (told.kind, told.trigger), &profile, arrival)
}

fn changes(event: &str, segments: &[&str]) -> Vec<(Option<Timestamp>, Change)> {
    let Says::Changes(changes) = reading(event, segments).unwrap().says else { panic!("no changes") };
    changes.changes
}

fn says(event: &str, segments: &[&str]) -> Says {
    reading(event, segments).unwrap().says
}

fn staff(event: &str, segments: &[&str]) -> (UserId, Act, StaffRecord) {
    let Some((None, Change::Staff { key, act, record })) = changes(event, segments).pop() else { panic!("no change of a member of staff") };
    (key, act, record)
}

fn id(text: &str) -> StaffIdPattern {
    let (authority, rest) = text.split_once('/').map_or((None, text), |(authority, rest)| (Some(authority), rest));
    let (id_type, value) = rest.split_once(':').map_or((None, rest), |(id_type, value)| (Some(id_type), value));
    StaffIdPattern { authority: authority.map(Into::into), id_type: id_type.map(str::to_owned), value: value.to_owned() }
}

#[test]
fn a_record_is_read_with_every_id_and_no_name() {
    let (key, act, record) = staff(
        "MFN^M02^MFN_M02",
        &[
            MFI,
            "MFE|MAD|1|20261121090000|jdoe^^99X|CWE",
            "STF|jdoe|D1^^^GHH^EI~1234567893^^^^NPI~77^^^epic~UNKNOWN|Doe^Jane|RN||19700101|A|4N^4 North~5S|CAR|||20200101|2030",
            "PRA|jdoe||||CAR|A99^LN^NY~123|",
            "ORG|1|ICU|||Z9^^^ICUSYS|||20260101^20261231",
        ],
    );
    assert_eq!((key.as_str(), act), ("jdoe", Act::Add));
    assert_eq!(record.ids, ["GHH/EI:D1", "NPI:1234567893", "EPIC/77", "LN:A99", "ICUSYS/Z9"].map(id));
    assert_eq!(record.active, Some(true));
    assert_eq!(record.from, FieldUpdate::Set(at("2020-01-01T05:00:00Z")));
    assert_eq!(record.until, FieldUpdate::Set(at("2030-01-01T05:00:00Z")));
    let FieldUpdate::Set(teams) = record.teams else { panic!() };
    let shown: Vec<(&str, AffiliationKind)> = teams.iter().map(|team| (team.code.as_str(), team.kind)).collect();
    let department = AffiliationKind::Department;
    assert_eq!(shown, [("4N", department), ("5S", department), ("CAR", AffiliationKind::Service), ("ICU", department)]);
}

#[test]
fn dates_of_the_employment_and_of_a_unit_are_read_in_the_feeds_zone() {
    let (_, _, record) = staff("MFN^M02", &[MFI, "MFE|MUP|1||jdoe", "STF|jdoe|||||||||||20261201^GHH|20270101", "ORG|1|ICU|||||||20260101^20261231"]);
    assert_eq!(record.from, FieldUpdate::Set(at("2026-12-01T05:00:00Z")));
    assert_eq!(record.until, FieldUpdate::Set(at("2027-01-01T05:00:00Z")));
    let (from, until) = (Some(at("2026-01-01T05:00:00Z")), Some(at("2026-12-31T05:00:00Z")));
    let team = Affiliation { kind: AffiliationKind::Department, code: "ICU".to_owned(), from, until };
    assert_eq!(record.teams, FieldUpdate::Set(vec![team]));
}

#[test]
fn every_event_of_the_table_means_what_it_says() {
    let acts = [("MAD", Act::Add), ("MUP", Act::Update), ("MDL", Act::Delete), ("MDC", Act::Deactivate), ("MAC", Act::Reactivate)];
    for (code, act) in acts {
        assert_eq!(staff("MFN^M02", &[MFI, &format!("MFE|{code}|1||jdoe")]).1, act, "{code}");
    }
    let acts =
        [("B01", Act::Add), ("B02", Act::Update), ("B03", Act::Delete), ("B04", Act::Reactivate), ("B05", Act::Suspend), ("B06", Act::Terminate)];
    for (event, act) in acts {
        assert_eq!(staff(&format!("PMU^{event}"), &["EVN||20261121090000", "STF|jdoe|D1^^^GHH^EI"]).1, act, "{event}");
    }
    assert_eq!(says("PMU^B07", &["STF|jdoe", "CER|1"]), Says::Nothing("certificate"));
    assert_eq!(says("PMU^B08", &["STF|jdoe", "CER|1"]), Says::Nothing("certificate"));
    assert_eq!(says("MFN^M13", &[MFI, "MFE|MAD|1||x"]), Says::Nothing("other_master_file"));
    assert_eq!(says("PMU^B77", &["STF|jdoe"]), Says::UnknownEvent);
    assert!(reading("ADT^A01", &["PID|1||1"]).is_none());
}

#[test]
fn what_takes_effect_later_says_when() {
    let whens = |segments: &[&str]| changes("MFN^M02", segments).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    let later = Some(at("2026-12-01T05:00:00Z"));
    assert_eq!(whens(&[MFI, "MFE|MDC|1|20261201|jdoe", "MFE|MDC|2|20261101|kroe", "MFE|MDC|3|20261121090000|lpoe"]), [later, None, None]);
    assert_eq!(whens(&["MFI|STF||UPD||20261201|NE", "MFE|MDC|1||jdoe", "MFE|MDC|2|20261101|kroe"]), [later, None]);
    let planned = changes("PMU^B06", &["EVN||20261121090000|20261201", "STF|jdoe"]);
    assert_eq!(planned[0].0, later);
    // The sender's clock is ahead of ours, and says now.
    let text = "MSH|^~\\&|HR|GHH|WR|GHH|20261121091500||MFN^M02|M1|P|2.5.1\rMFI|STF||UPD\rMFE|MDC|1|20261121091500|jdoe";
    let message = Message::parse(text).unwrap();
    let time_zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let profile = Profile { time_zone, ..Profile::default() };
    let arrival = Arrival { at: at("2026-11-21T14:00:02Z"), journal: JournalId(7) };
    let read = read(&message, (Kind::MasterFile, TriggerEvent::parse("M02")), &profile, arrival).unwrap();
    assert!(matches!(&read.says, Says::Changes(changes) if changes.changes[0].0.is_none()));
}

#[test]
fn a_replacement_names_all_there_are() {
    let read = changes("MFN^M02", &["MFI|STF||REP|||NE", "MFE|MAD|1||a", "STF|a", "MFE|MAD|2||b", "STF|b"]);
    assert_eq!(read.len(), 3);
    assert_eq!(read[0].1, Change::OnlyStaff(["a", "b"].map(UserId::from).into()));
}

#[test]
fn a_record_that_cannot_be_used_does_not_hold_up_the_others() {
    let read = reading("MFN^M02", &[MFI, "MFE|MXX|1||a", "MFE|MAD|2||two words", "MFE|MAD|3|", "MFE|MAD|4||b"]).unwrap();
    assert!(matches!(&read.says, Says::Changes(changes) if changes.changes.len() == 1));
    assert_eq!(read.notices.iter().filter(|notice| notice.code == NoticeCode::Unreadable).count(), 3);
    assert_eq!(says("MFN^M02", &[MFI, "MFE|MXX|1||a"]), Says::Unusable);
    assert_eq!(says("MFN^M02", &["MFE|MAD|1||a"]), Says::Unusable);
    assert_eq!(says("PMU^B01", &["EVN||20261121"]), Says::Unusable);
}

#[test]
fn without_a_key_somebody_is_their_first_id() {
    let (key, ..) = staff("PMU^B01", &["STF||D1^^^GHH^EI~9^^^X^Y"]);
    assert_eq!(key.as_str(), "GHH:D1");
    let (key, ..) = staff("PMU^B01", &["PRA|jdoe"]);
    assert_eq!(key.as_str(), "jdoe");
}

#[test]
fn units_are_read_and_beds_are_not() {
    let read = changes(
        "MFN^M05",
        &[
            "MFI|LOC||UPD|||NE",
            "MFE|MAD|1||4NX^^^GHH",
            "LOC|4NX^^^GHH|4 North annex|N",
            "LRL|4NX^^^GHH|A||ALI||4N^^^GHH",
            "LDP|4NX^^^GHH|4N^4 North",
            "MFE|MAD|2||4N^12^A",
            "LOC|4N^12^A|a bed|B",
            "LDP|4N^12^A|4N",
        ],
    );
    let name = Some("4 North annex".to_owned());
    let record = UnitRecord { name, alias_of: Some(("GHH".into(), "4N".into())), departments: vec!["4N".to_owned()], in_use: None };
    assert_eq!(read[0].1, Change::Unit { key: ("GHH".into(), "4NX".into()), act: Act::Add, record });
    assert_eq!(read[1].1, Change::Unit { key: ("GHH".into(), "4N".into()), act: Act::Update, record: UnitRecord::default() });
}
