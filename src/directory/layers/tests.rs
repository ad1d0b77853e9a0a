use std::path::Path;
use std::time::Duration;

use super::TooFew;
use super::combine;
use super::guard;
use crate::care::fact::BedLocation;
use crate::care::fact::FieldUpdate;
use crate::care::roster::Resolved;
use crate::care::roster::Roster;
use crate::care::roster::StaffIdPattern;
use crate::directory::change::Act;
use crate::directory::change::Affiliation;
use crate::directory::change::AffiliationKind;
use crate::directory::change::Change;
use crate::directory::change::Changes;
use crate::directory::change::StaffRecord;
use crate::directory::change::UnitRecord;
use crate::directory::files;
use crate::directory::said::Said;
use crate::ids::GroupId;
use crate::ids::StaffId;
use crate::ids::UserId;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_795_271_402_000_000);

const STAFF: &str = "user,name,ids,groups,active\n\
                     lgarcia,,GHH/EI:D100 NPI:1234567893,,true\n\
                     mchen,,GHH/EI:D200,,true\n\
                     nina,,GHH/EI:N1,g4n,true\n\
                     gone,,GHH/EI:D900,,false\n";
const UNITS: &str = "facility,point_of_care,group,name,flags\nGHH,4N,g4n,4 North,\nGHH,PSY,gpsy,,sensitive\n";

fn roster_of(staff: &str) -> Roster {
    let (staff, bad) = files::staff(Path::new("staff.csv"), staff.as_bytes());
    assert!(bad.is_empty(), "{bad:?}");
    let (units, _) = files::units(Path::new("units.csv"), UNITS.as_bytes());
    Roster::new(staff, units, false).with_services([("CAR".into(), "gcar".into())])
}

fn in_hours(n: u64) -> Timestamp {
    NOW.plus(Duration::from_hours(n))
}

fn pattern(value: &str) -> StaffIdPattern {
    StaffIdPattern { authority: Some("GHH".into()), id_type: Some("EI".to_owned()), value: value.to_owned() }
}

/// A record with ids of the hospital's own.
fn record(ids: &[&str]) -> StaffRecord {
    StaffRecord { ids: ids.iter().map(|id| pattern(id)).collect(), ..StaffRecord::default() }
}

fn change(key: &str, act: Act, record: StaffRecord) -> Change {
    Change::Staff { key: UserId::from(key), act, record }
}

fn now(changes: Vec<Change>) -> Changes {
    Changes { changes: changes.into_iter().map(|change| (None, change)).collect() }
}

/// What messages have said, one after another.
fn said(changes: Vec<Change>) -> Said {
    let mut said = Said::default();
    for change in changes {
        said.apply(&now(vec![change]), NOW);
    }
    said
}

/// Who an id of the hospital is: a user, `-` for one who may not join, `?` for nobody known, `!` for two.
fn who(roster: &Roster, value: &str) -> String {
    match roster.resolve_id(&StaffId::new("GHH", "EI", value)) {
        Resolved::User(user) => user.to_string(),
        Resolved::Inactive(_) => "-".to_owned(),
        Resolved::Unknown => "?".to_owned(),
        Resolved::Ambiguous => "!".to_owned(),
    }
}

fn after(changes: Vec<Change>, value: &str) -> String {
    who(&combine(&roster_of(STAFF), &said(changes), NOW), value)
}

#[test]
fn a_record_is_the_user_of_the_files_that_its_ids_are_of_else_its_key() {
    assert_eq!(after(vec![change("12345", Act::Add, record(&["D100", "X1"]))], "X1"), "lgarcia");
    assert_eq!(after(vec![change("lgarcia", Act::Add, record(&["X1"]))], "X1"), "lgarcia");
    assert_eq!(after(vec![change("knew", Act::Add, record(&["X1"]))], "X1"), "knew");
}

#[test]
fn ids_of_two_users_become_those_of_neither() {
    let changes = vec![change("12345", Act::Add, record(&["D100", "D200"]))];
    assert_eq!(after(changes.clone(), "D100"), "!");
    assert_eq!(after(changes, "D200"), "!");
}

#[test]
fn what_takes_somebody_out_and_what_brings_them_back() {
    for act in [Act::Deactivate, Act::Suspend, Act::Terminate, Act::Delete] {
        let out = change("lgarcia", act, record(&["D100"]));
        assert_eq!(after(vec![out.clone()], "D100"), "-", "{act:?}");
        let described = change("lgarcia", Act::Update, StaffRecord { active: Some(true), ..record(&["D100"]) });
        assert_eq!(after(vec![out.clone(), described], "D100"), "-", "an update does not bring back after {act:?}");
        assert_eq!(after(vec![out.clone(), change("lgarcia", Act::Reactivate, record(&[]))], "D100"), "lgarcia", "{act:?}");
        assert_eq!(after(vec![out, change("lgarcia", Act::Add, record(&["D100"]))], "D100"), "lgarcia", "{act:?}");
    }
}

#[test]
fn the_flag_of_an_update_is_lifted_by_the_flag_of_another() {
    let flagged = |active| change("lgarcia", Act::Update, StaffRecord { active: Some(active), ..record(&[]) });
    assert_eq!(after(vec![flagged(false)], "D100"), "-");
    assert_eq!(after(vec![flagged(false), change("lgarcia", Act::Update, record(&["D100"]))], "D100"), "-");
    assert_eq!(after(vec![flagged(false), flagged(true)], "D100"), "lgarcia");
}

#[test]
fn a_deactivation_holds_until_its_own_source_lifts_it() {
    // Messages do not lift what the files say.
    assert_eq!(after(vec![change("gone", Act::Reactivate, StaffRecord { active: Some(true), ..record(&["D900"]) })], "D900"), "-");
    // Nor do files lift what messages say, however often they are read again.
    let said = said(vec![change("lgarcia", Act::Deactivate, record(&["D100"]))]);
    let reloaded = roster_of(&format!("{STAFF}new,,GHH/EI:D7,,true\n"));
    let roster = combine(&reloaded, &said, NOW);
    assert_eq!((who(&roster, "D100"), who(&roster, "D7")), ("-".to_owned(), "new".to_owned()));
}

#[test]
fn a_reload_replaces_only_what_came_from_files() {
    let said = said(vec![change("knew", Act::Add, record(&["X1"]))]);
    let fewer = roster_of("user,ids\nmchen,GHH/EI:D200\n");
    let roster = combine(&fewer, &said, NOW);
    assert_eq!((who(&roster, "X1"), who(&roster, "D200"), who(&roster, "D100")), ("knew".to_owned(), "mchen".to_owned(), "?".to_owned()));
}

#[test]
fn a_deleted_record_takes_its_ids_along() {
    assert_eq!(after(vec![change("knew", Act::Add, record(&["X1"])), change("knew", Act::Delete, record(&[]))], "X1"), "?");
}

#[test]
fn somebody_leaves_under_every_id_that_was_ever_theirs() {
    let changes = vec![change("knew", Act::Add, record(&["X1", "X2"])), change("knew", Act::Suspend, record(&["X2"]))];
    assert_eq!(after(changes.clone(), "X1"), "-");
    assert_eq!(after(changes, "X2"), "-");
}

#[test]
fn departments_and_services_count_where_the_files_have_them() {
    let team = |kind, code: &str| Affiliation { kind, code: code.to_owned(), from: None, until: None };
    let teams = vec![
        team(AffiliationKind::Department, "4N"),
        team(AffiliationKind::Department, "nowhere"),
        team(AffiliationKind::Service, "CAR"),
        team(AffiliationKind::Service, "4N"),
        Affiliation { until: Some(in_hours(5)), ..team(AffiliationKind::Department, "gpsy") },
    ];
    let said = said(vec![change("knew", Act::Add, StaffRecord { teams: FieldUpdate::Set(teams), ..record(&["X1"]) })]);
    let groups = |at| {
        let roster = combine(&roster_of(STAFF), &said, at);
        ["g4n", "gcar", "gpsy", "nowhere"].map(|group| roster.is_in(&"knew".into(), &GroupId::from(group)))
    };
    assert_eq!(groups(NOW), [true, true, true, false]);
    assert_eq!(said.next_change(NOW), Some(in_hours(5)));
    assert_eq!(groups(in_hours(5)), [true, true, false, false]);
}

#[test]
fn what_is_for_later_waits_for_its_time() {
    let mut said = Said::default();
    said.apply(&Changes { changes: vec![(Some(in_hours(2)), change("lgarcia", Act::Deactivate, record(&["D100"])))] }, NOW);
    let at = |when| who(&combine(&roster_of(STAFF), &said, when), "D100");
    assert_eq!(said.next_change(NOW), Some(in_hours(2)));
    assert_eq!(at(in_hours(1)), "lgarcia");
    assert_eq!(at(in_hours(2)), "-");
    assert_eq!(said.next_change(in_hours(2)), None);
    assert_ne!(said.fingerprint(in_hours(1)), said.fingerprint(in_hours(2)));
    let mut later = said.clone();
    later.apply(&now(vec![change("lgarcia", Act::Reactivate, record(&[]))]), in_hours(3));
    assert_eq!(who(&combine(&roster_of(STAFF), &later, in_hours(3)), "D100"), "lgarcia");
}

#[test]
fn the_dates_of_an_employment_are_honoured() {
    let dated = |from: u64, until: u64| {
        let (from, until) = (FieldUpdate::Set(in_hours(from)), FieldUpdate::Set(in_hours(until)));
        let said = said(vec![change("knew", Act::Add, StaffRecord { from, until, ..record(&["X1"]) })]);
        [1, 3, 5].map(|hours| who(&combine(&roster_of(STAFF), &said, in_hours(hours)), "X1"))
    };
    assert_eq!(dated(2, 4), ["-", "knew", "-"]);
    assert_eq!(dated(2, 1), ["-", "knew", "knew"], "who left before they began has come back");
}

#[test]
fn a_replacement_takes_what_only_messages_gave_and_gives_nothing_back() {
    let mut said = said(vec![
        change("knew", Act::Add, record(&["X1"])),
        change("kept", Act::Add, record(&["X2"])),
        change("lgarcia", Act::Deactivate, record(&["D100"])),
    ]);
    let keys = Change::OnlyStaff([UserId::from("kept")].into());
    said.apply(&now(vec![keys, change("kept", Act::Add, record(&["X3"]))]), NOW);
    let roster = combine(&roster_of(STAFF), &said, NOW);
    assert_eq!(["X1", "X2", "X3", "D100", "D200"].map(|id| who(&roster, id)), ["?", "?", "kept", "-", "mchen"]);
}

#[test]
fn a_replacement_that_leaves_out_more_than_a_fifth_is_refused() {
    let staff: String = (0..10).fold("user,ids\n".to_owned(), |text, n| format!("{text}u{n},GHH/EI:{n}\n"));
    let files = roster_of(&staff);
    let whole = |n: usize, inactive: usize| {
        let keys: Vec<UserId> = (0..n).map(|n| UserId::new(format!("k{n}"))).collect();
        let records = (0..n).map(|at| {
            let record = StaffRecord { active: Some(at >= inactive), ..record(&[&at.to_string()]) };
            change(&format!("k{at}"), Act::Add, record)
        });
        now(std::iter::once(Change::OnlyStaff(keys.into_iter().collect())).chain(records.collect::<Vec<_>>()).collect())
    };
    let refused = |changes: &Changes| guard(&files, &Said::default(), changes, NOW);
    assert_eq!(refused(&whole(10, 0)), Ok(()));
    assert_eq!(refused(&whole(8, 0)), Ok(()));
    assert_eq!(refused(&whole(7, 0)), Err(TooFew { n_missing: 3, n_known: 10 }));
    assert_eq!(refused(&whole(10, 3)), Err(TooFew { n_missing: 3, n_known: 10 }), "named but inactive is out as well");
    assert_eq!(guard(&Roster::default(), &Said::default(), &whole(1, 0), NOW), Ok(()), "where nobody is known nobody vanishes");
}

#[test]
fn a_unit_under_another_name_has_the_team_and_the_flags_of_the_first() {
    let unit = |key: &str, record| Change::Unit { key: ("GHH".into(), key.into()), act: Act::Add, record };
    let alias = UnitRecord { alias_of: Some(("GHH".into(), "PSY".into())), ..UnitRecord::default() };
    let part = UnitRecord { name: Some("4 North annex".to_owned()), departments: vec!["4N".to_owned()], ..UnitRecord::default() };
    let alone = UnitRecord { name: Some("Nowhere".to_owned()), ..UnitRecord::default() };
    let named = UnitRecord { name: Some("Psychiatry".to_owned()), ..UnitRecord::default() };
    let said = said(vec![unit("PSX", alias), unit("4NX", part), unit("NEW", alone), unit("PSY", named)]);
    let roster = combine(&roster_of(STAFF), &said, NOW);
    let found = |point_of_care: &str| {
        let place = BedLocation { facility: "GHH".into(), point_of_care: point_of_care.into(), ..BedLocation::default() };
        roster.unit(&place).map(|unit| (unit.group.as_ref().map_or("", GroupId::as_str), unit.name.as_str(), unit.flags.sensitive))
    };
    assert_eq!(found("PSX"), Some(("gpsy", "", true)));
    assert_eq!(found("4NX"), Some(("g4n", "4 North annex", false)));
    assert_eq!(found("NEW"), None, "a unit without a team stays one that nobody knows");
    assert_eq!(found("PSY"), Some(("gpsy", "Psychiatry", true)));
}

#[test]
fn nothing_said_leaves_the_files_as_they_are() {
    let files = roster_of(STAFF);
    let roster = combine(&files, &Said::default(), NOW);
    assert_eq!(roster.staff(), files.staff());
}

#[test]
fn the_document_says_after_a_restart_what_it_said_before() {
    let mut known = said(vec![
        change("lgarcia", Act::Suspend, record(&["D100"])),
        Change::Unit { key: ("GHH".into(), "4NX".into()), act: Act::Add, record: UnitRecord::default() },
    ]);
    known.apply(&Changes { changes: vec![(Some(in_hours(2)), change("mchen", Act::Terminate, record(&[])))] }, NOW);
    let text = serde_json::to_string(&known).unwrap();
    let read: Said = serde_json::from_str(&text).unwrap();
    assert_eq!(read, known);
    assert_eq!(read.fingerprint(NOW), known.fingerprint(NOW));
    // Written once and readable for ever.
    let old = r#"{"staff":{"lgarcia":{"ids":[{"authority":"GHH","id_type":"EI","value":"D100"}],"standing":"suspended"}},
        "units":{"GHH":{"4NX":{"name":"Annex","alias_of":["GHH","4N"]}}},
        "scheduled":[[1795278602000000,{"staff":{"key":"mchen","act":"terminate","record":{"active":false}}}],
                     [1795278602000000,{"only_staff":["a"]}],[1795278602000000,{"only_units":[["GHH","4N"]]}]]}"#;
    let old: Said = serde_json::from_str(old).unwrap();
    assert_eq!(who(&combine(&roster_of(STAFF), &old, NOW), "D100"), "-");
    assert_eq!(old.next_change(NOW), Some(in_hours(2)));
}
