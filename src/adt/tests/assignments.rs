//! ROL, PRT and the feed's own team fields.

use crate::adt::profile::Profile;
use crate::adt::profile::RolMode;
use crate::adt::tests::at;
use crate::adt::tests::event;
use crate::adt::tests::has;
use crate::adt::tests::only;
use crate::adt::tests::profile;
use crate::care::fact::Assignment;
use crate::care::fact::AssignmentsSaid;
use crate::care::notice::NoticeCode;

fn said(profile: &Profile, segments: &[&str]) -> AssignmentsSaid {
    let mut all = vec!["PV1|1|I|4N"];
    all.extend(segments);
    only(&event(profile, "A08", &all)).stay.assignments.clone()
}

fn sources(said: &AssignmentsSaid) -> (char, Vec<String>) {
    let list = |team: &[Assignment]| {
        team.iter().map(|one| format!("{}={}{}", one.source, one.person.ids[0].value, if one.removed { "-" } else { "" })).collect()
    };
    match said {
        AssignmentsSaid::Keep => ('k', Vec::new()),
        AssignmentsSaid::Snapshot(team) => ('s', list(team)),
        AssignmentsSaid::Delta(team) => ('d', list(team)),
    }
}

#[test]
fn each_message_says_whether_it_is_a_whole_set() {
    let table: [(&[&str], char, &[&str]); 7] = [
        (&[], 'k', &[]),
        (&["ROL|1|UP|RN|N1", "ROL|2|UP|NP|N2"], 's', &["ROL:RN=N1", "ROL:NP=N2"]),
        (&["ROL|1|UC|RN|N1", "ROL|2|UC|NP|N2"], 's', &["ROL:RN=N1", "ROL:NP=N2"]),
        (&["ROL|1|AD|RN|N1", "ROL|2|DE|NP|N2", "ROL|3|UC|MD|N3"], 'd', &["ROL:RN=N1", "ROL:NP=N2-"]),
        (&["PRT|1|UP||RN|N1"], 's', &["PRT:RN=N1"]),
        (&[r#"ROL|"""#], 's', &[]),
        (&["ROL|1|UP|RN|"], 'k', &[]),
    ];
    for (segments, mode, want) in table {
        let (got_mode, got) = sources(&said(&profile(), segments));
        assert_eq!((got_mode, got.iter().map(String::as_str).collect::<Vec<_>>().as_slice()), (mode, want), "{segments:?}");
    }
}

#[test]
fn a_feed_can_say_how_it_means_them() {
    let snapshot = Profile { rol_mode: RolMode::Snapshot, ..profile() };
    assert_eq!(sources(&said(&snapshot, &["ROL|1|AD|RN|N1", "ROL|2|DE|NP|N2"])), ('s', vec!["ROL:RN=N1".to_owned()]));
    let delta = Profile { rol_mode: RolMode::Delta, ..profile() };
    assert_eq!(sources(&said(&delta, &["ROL|1|UP|RN|N1"])).0, 'd');
    assert_eq!(sources(&said(&delta, &["PRT|1|SP||RN|N1"])).0, 's');
}

#[test]
fn only_what_stands_behind_the_visit_is_its_team() {
    let got = said(&profile(), &["PV2|||", "NK1|1", "ROL|1|UP|RN|N1", "PR1|1", "ROL|2|UP|SURGEON|S1", "IN1|1", "ROL|3|UP|PP|P1"]);
    assert_eq!(sources(&got), ('s', vec!["ROL:RN=N1".to_owned()]));
}

#[test]
fn who_stands_behind_a_procedure_is_of_the_team_where_the_feed_wants_that() {
    let mut own = profile();
    own.procedure_team = true;
    let got = said(&own, &["ROL|1|UP|RN|N1", "PR1|1", "ROL|2|UP|SURGEON|S1", "IN1|1", "ROL|3|UP|PP|P1"]);
    assert_eq!(sources(&got), ('s', vec!["ROL:RN=N1".to_owned(), "ROL:SURGEON=S1".to_owned()]));
}

#[test]
fn spans_are_read_with_their_sentinels_and_days() {
    let AssignmentsSaid::Snapshot(team) = said(&profile(), &["ROL|1|UP|RN|N1|19000101|99991231", "ROL|2|UP|RN|N2|20261121070000|20261121"]) else {
        panic!("not a snapshot")
    };
    assert_eq!((team[0].begins_at, team[0].ends_at), (None, None));
    assert_eq!((team[1].begins_at, team[1].ends_at), (Some(at("2026-11-21T12:00:00Z")), Some(at("2026-11-22T05:00:00Z"))));
}

#[test]
fn an_unmapped_role_is_kept_without_a_role_and_told() {
    let reading = event(&profile(), "A08", &["PV1|1|I|4N", "ROL|1|UP|QX7^Something|N1"]);
    let AssignmentsSaid::Snapshot(team) = &only(&reading).stay.assignments else { panic!("not a snapshot") };
    assert_eq!((team[0].source.as_str(), &team[0].role), ("ROL:QX7", &None));
    assert!(has(&reading, NoticeCode::UnmappedRole));
}

#[test]
fn a_feeds_own_fields_can_name_the_team() {
    let mut own = profile();
    own.z.insert("ZPV-5".to_owned(), "nurse".into());
    assert_eq!(sources(&said(&own, &["ZPV|1||||N1^A~N2^B"])), ('s', vec!["ZPV-5:NURSE=N1".to_owned(), "ZPV-5:NURSE=N2".to_owned()]));
}
