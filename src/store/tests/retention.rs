//! What is deleted is gone with all that is only its own, and nothing else is; and what it stood on must still stand.

use super::Store;
use super::at;
use super::document;
use super::message;
use crate::ids::JournalId;
use crate::store::error::CommitError;
use crate::store::look_up::LookUpKind;
use crate::store::rows::CommitBatch;
use crate::store::rows::FindRequest;
use crate::store::rows::Purge;
use crate::store::rows::VisitRow;

/// Everything of the message `n` that [`message`] writes.
pub(super) fn all_of(store: &Store, n: i64) -> CommitBatch {
    let text = n.to_string();
    let hashes = [store.look_up_hash(LookUpKind::Patient, &["GHH", "MR", &text]), store.look_up_hash(LookUpKind::Visit, &["GHH", &text])];
    let look_ups = hashes.map(|hash| (hash, n)).to_vec();
    let purge = Purge { at: at(99), visits: vec![n], patients: vec![n], look_ups, messages: vec![JournalId(n)] };
    CommitBatch { read_visits: vec![(n, 1)], read_patients: vec![(n, 1)], purge, ..CommitBatch::default() }
}

pub(super) async fn with_two(store: &Store) {
    let mut batch = CommitBatch::default();
    for n in [1, 2] {
        message(store, &mut batch, n);
    }
    for visit in &mut batch.visits {
        (visit.wake_at, visit.over_at) = (None, Some(at(10 * visit.id)));
    }
    store.commit(&batch).await.unwrap();
}

pub(super) async fn what_is_purged_is_gone_with_its_key_and_nothing_else_is(store: &Store) {
    with_two(store).await;
    assert_eq!(store.over_visits(at(30), (at(i64::MIN), i64::MIN), 9).await.unwrap(), [(at(10), 1), (at(20), 2)]);
    assert_eq!(store.over_visits(at(20), (at(i64::MIN), i64::MIN), 9).await.unwrap(), [(at(10), 1)]);
    assert_eq!(store.over_visits(at(30), (at(10), 1), 9).await.unwrap(), [(at(20), 2)]);
    assert_eq!(store.over_visits_count(at(20)).await.unwrap(), 1);
    assert_eq!(store.arrivals(&[1, 2]).await.unwrap().len(), store.facts(&[1, 2]).await.unwrap().values().map(Vec::len).sum::<usize>());
    assert_eq!(store.rooms_that_wait(&[super::room(1), super::room(7)]).await.unwrap().into_iter().collect::<Vec<_>>(), [super::room(1)]);
    store.commit(&all_of(store, 1)).await.unwrap();
    let found = store.find(&FindRequest { visits: vec![1, 2], patients: vec![1, 2], ..FindRequest::default() }).await.unwrap();
    assert_eq!((found.visits.len(), found.visits[0].id, found.patients.len(), found.patients[0].id), (1, 2, 1, 2));
    let look_ups = all_of(store, 1).purge.look_ups.into_iter().map(|(hash, _)| hash).collect();
    assert!(store.find(&FindRequest { look_ups, ..FindRequest::default() }).await.unwrap().look_ups.is_empty());
    assert!(store.facts(&[1]).await.unwrap().is_empty() && !store.facts(&[2]).await.unwrap().is_empty());
    assert!(store.journal_message(JournalId(1)).await.unwrap().is_none() && store.journal_message(JournalId(2)).await.unwrap().is_some());
    assert_eq!(store.over_visits_count(at(99)).await.unwrap(), 1);
    // What the trail has of it stays, closed, and is known to have been purged.
    let report = store.verify_audit(|_, _| {}).await.unwrap();
    assert!(report.is_whole() && report.n_purged > 0 && report.n_key_gone == 0, "{report:?}");
    let recount = store.recount(None, crate::store::ledger::Look::Thorough).await.unwrap();
    assert_eq!((recount.accepted["main"], recount.purged["main"], recount.stray_facts), (2, 1, 0));
    // Again: there is nothing that it stands on.
    assert!(matches!(store.commit(&all_of(store, 1)).await, Err(CommitError::Conflict)));
}

pub(super) async fn nothing_is_purged_that_has_changed_or_whose_patient_has_another_visit(store: &Store) {
    with_two(store).await;
    let found = store.find(&FindRequest { visits: vec![1, 2], ..FindRequest::default() }).await.unwrap();
    let key = found.patients[0].key.clone();
    let mut other = CommitBatch::default();
    // Behind what was read: the second visit is the first one's patient's.
    other.visits.push(VisitRow {
        id: 2,
        patient_id: 1,
        version: 2,
        status: "closed".to_owned(),
        is_open: false,
        wake_at: None,
        room_id: Some(super::room(2)),
        room_version: 1,
        updated_at: at(50),
        over_at: Some(at(20)),
        key,
        doc: document("moved"),
    });
    store.commit(&other).await.unwrap();
    assert!(matches!(store.commit(&all_of(store, 1)).await, Err(CommitError::Conflict)), "the patient has a visit");
    assert!(matches!(store.commit(&all_of(store, 2)).await, Err(CommitError::Conflict)), "the visit has another version");
    let found = store.find(&FindRequest { visits: vec![1, 2], ..FindRequest::default() }).await.unwrap();
    assert_eq!(found.visits.len(), 2, "nothing of either is gone");
    assert!(store.journal_message(JournalId(1)).await.unwrap().is_some());
    assert!(store.recount(None, crate::store::ledger::Look::Thorough).await.unwrap().purged.is_empty());
}
