//! Merges, moves, changes, links and swaps.

use crate::adt::Hint;
use crate::adt::NoOpReason;
use crate::adt::QuarantineReason;
use crate::adt::tests::event;
use crate::adt::tests::fact;
use crate::adt::tests::pairs;
use crate::adt::tests::place;
use crate::adt::tests::profile;
use crate::adt::tests::shown;
use crate::care::fact::Act;
use crate::care::fact::FieldUpdate;
use crate::care::fact::RelationKind;

type Shown = Vec<(&'static str, &'static str)>;

fn check(name: &str, segments: &[&str], kind: RelationKind, patients: Shown, accounts: Shown, visits: Shown) {
    let said = fact(name, segments);
    let relation = said.relation.as_ref().unwrap();
    let own = |pairs: Shown| pairs.into_iter().map(|(from, into)| (from.to_owned(), into.to_owned())).collect::<Vec<_>>();
    assert_eq!(relation.kind, kind, "{name}");
    assert_eq!(pairs(&relation.patients, |id| &id.0), own(patients), "{name}");
    assert_eq!(pairs(&relation.accounts, |id| &id.0), own(accounts), "{name}");
    assert_eq!(pairs(&relation.visits, |id| &id.0), own(visits), "{name}");
}

#[test]
fn merges_pair_the_old_with_the_new() {
    let pid = "PID|1|P2^^^EMPI^PE|1^^^GHH^MR~9^^^GHH^PI|||||||||||||||A1";
    let pv1 = "PV1|1|I|||||||||||||||||V1";
    let merged = vec![("GHH/MR:2", "GHH/MR:1")];
    check("A40", &[pid, "MRG|2^^^GHH^MR"], RelationKind::Patient, merged.clone(), vec![], vec![]);
    check("A34", &[pid, "MRG|2"], RelationKind::Patient, merged.clone(), vec![], vec![]);
    check(
        "A40",
        &[pid, "MRG|8^^^GHH^PI~2^^^GHH^MR"],
        RelationKind::Patient,
        vec![("GHH/MR:2", "GHH/MR:1"), ("GHH/PI:8", "GHH/PI:9")],
        vec![],
        vec![],
    );
    check("A40", &[pid, "MRG|2^^^GHH^MR||A2"], RelationKind::Patient, merged.clone(), vec![("GHH/:A2", "GHH/:A1")], vec![]);
    check("A39", &[pid, "MRG||||P1^^^EMPI^PE"], RelationKind::Patient, vec![("EMPI/PE:P1", "EMPI/PE:P2")], vec![], vec![]);
    check("A41", &[pid, "MRG|1^^^GHH^MR||A2"], RelationKind::Account, vec![], vec![("GHH/:A2", "GHH/:A1")], vec![]);
    check("A42", &[pid, "MRG|1^^^GHH^MR||A1||V2", pv1], RelationKind::Visit, vec![], vec![], vec![("GHH/:V2", "GHH/:V1")]);
    check("A44", &[pid, "MRG|2^^^GHH^MR||A1"], RelationKind::AccountMove, merged.clone(), vec![("GHH/:A1", "GHH/:A1")], vec![]);
    check("A45", &[pid, "MRG|2^^^GHH^MR||||V1", pv1], RelationKind::VisitMove, merged.clone(), vec![], vec![("GHH/:V1", "GHH/:V1")]);
    check("A47", &[pid, "MRG|2^^^GHH^MR"], RelationKind::PatientIdChange, merged.clone(), vec![], vec![]);
    check("A49", &[pid, "MRG|||A2"], RelationKind::AccountChange, vec![], vec![("GHH/:A2", "GHH/:A1")], vec![]);
    check("A50", &[pid, "MRG|1^^^GHH^MR||||V9", pv1], RelationKind::VisitChange, vec![], vec![], vec![("GHH/:V9", "GHH/:V1")]);
    check("A06", &[pid, "MRG|||X1", pv1], RelationKind::AccountChange, vec![], vec![("GHH/:X1", "GHH/:A1")], vec![]);
    check("A18", &[pid, "MRG|1^^^GHH^MR||A2"], RelationKind::Account, vec![], vec![("GHH/:A2", "GHH/:A1")], vec![]);
    check("A18", &[pid, "MRG|2^^^GHH^MR"], RelationKind::Patient, merged, vec![], vec![]);
}

#[test]
fn a_class_change_without_a_new_number_relates_nothing() {
    assert!(fact("A06", &["PV1|1|I|4N|||||||||||||||||V1"]).relation.is_none());
    assert!(fact("A06", &["PV1|1|I|4N", "MRG|1"]).relation.is_none(), "its MRG-1 is no merge");
}

#[test]
fn a_merge_into_itself_does_nothing_and_one_without_a_source_waits() {
    assert_eq!(event(&profile(), "A40", &["MRG|12345^^^GHH^MR"]).disposition_hint, Hint::NoOp(NoOpReason::SelfMerge));
    assert_eq!(event(&profile(), "A40", &["MRG||"]).disposition_hint, Hint::Quarantine(QuarantineReason::NothingToRelate));
    assert_eq!(event(&profile(), "A50", &["MRG|1"]).disposition_hint, Hint::Quarantine(QuarantineReason::NothingToRelate));
}

#[test]
fn repeated_groups_are_a_fact_each() {
    let two = event(&profile(), "A40", &["PID|1||1^^^GHH^MR", "MRG|2^^^GHH^MR", "PV1|1|N", "PID|2||3^^^GHH^MR", "PD1|", "MRG|4^^^GHH^MR"]);
    let got: Vec<_> = two.facts.iter().flat_map(|fact| pairs(&fact.relation.as_ref().unwrap().patients, |id| &id.0)).collect();
    assert_eq!(got, [("GHH/MR:2".to_owned(), "GHH/MR:1".to_owned()), ("GHH/MR:4".to_owned(), "GHH/MR:3".to_owned())]);
    assert_ne!(two.facts[0].hash, two.facts[1].hash);
    let visits =
        event(&profile(), "A45", &["MRG|2^^^GHH^MR||||V1", "PV1|1|I|||||||||||||||||V1", "MRG|2^^^GHH^MR||||V2", "PV1|1|I|||||||||||||||||V2"]);
    let got: Vec<_> = visits.facts.iter().filter_map(|fact| fact.visit.as_ref()).map(|visit| shown(&visit.id.0)).collect();
    assert_eq!(got, ["GHH/:V1", "GHH/:V2"]);
}

#[test]
fn a_group_that_says_nothing_does_not_hold_up_the_others() {
    let two = event(&profile(), "A40", &["PID|1||1^^^GHH^MR", "MRG|2^^^GHH^MR", "PID|2||3^^^GHH^MR", "MRG|"]);
    assert_eq!((two.disposition_hint.clone(), two.facts.len()), (Hint::Facts, 1));
}

#[test]
fn two_patients_are_two_facts() {
    let swap = event(
        &profile(),
        "A17",
        &["PID|1||1^^^GHH^MR", "PV1|1|I|4N^1^A|||5S^2^B|||||||||||||V1", "PID|2||2^^^GHH^MR", "PV1|1|I|5S^2^B|||4N^1^A|||||||||||||V2"],
    );
    let got: Vec<_> = swap.facts.iter().map(|fact| (shown(&fact.patient.0), place(&fact.stay.location).unwrap_or_default())).collect();
    assert_eq!(got, [("GHH/MR:1".to_owned(), "GHH 4N 1 A".to_owned()), ("GHH/MR:2".to_owned(), "GHH 5S 2 B".to_owned())]);
    assert!(swap.facts.iter().all(|fact| fact.act == Act::Move));
    let link = event(&profile(), "A24", &["PID|1||1^^^GHH^MR", "PID|2||2^^^GHH^MR"]);
    assert_eq!(link.facts.len(), 2);
    assert!(link.facts.iter().all(|fact| fact.relation.as_ref().is_some_and(|relation| relation.kind == RelationKind::Link)));
}

#[test]
fn a_merge_never_clears_what_its_pid_leaves_out() {
    let said = fact("A40", &[r#"PID|1||1^^^GHH^MR||SMITH^JANE||""|F"#, "MRG|2^^^GHH^MR"]);
    assert!(said.person.birth_date.is_keep() && said.person.name.value().is_some());
    assert_eq!(fact("A08", &[r#"PID|1||1^^^GHH^MR||SMITH^JANE||""|F"#]).person.birth_date, FieldUpdate::Clear);
}
