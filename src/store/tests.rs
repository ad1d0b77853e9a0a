//! The contract of the store: one suite, run on SQLite always and on PostgreSQL where `WARDROOM_TEST_POSTGRES` holds a URL.

use std::collections::HashSet;
use std::path::PathBuf;

use secrecy::SecretString;
use uuid::Uuid;

use super::Store;
use super::StoreOptions;
use super::error::CommitError;
use super::lease::Share;
use super::look_up::LookUpHash;
use super::look_up::LookUpKind;
use super::master_key::MasterKey;
use super::rows::AuditRow;
use super::rows::CommitBatch;
use super::rows::DirectoryRow;
use super::rows::Disposition;
use super::rows::FactRow;
use super::rows::FindRequest;
use super::rows::JournalRow;
use super::rows::JournalSettled;
use super::rows::OutboxEvent;
use super::rows::PatientRow;
use super::rows::QuarantineRow;
use super::rows::VisitRow;
use super::sealing::Document;
use super::sealing::SealingKey;
use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::time::Timestamp;

mod audit;
mod postgres;
mod retention;
mod rotation;
mod shares;
mod sqlite;
mod trail;

use retention::nothing_is_purged_that_has_changed_or_whose_patient_has_another_visit;
use retention::what_is_purged_is_gone_with_its_key_and_nothing_else_is;
use trail::rows_are_looked_through_step_by_step_and_opened_where_that_is_wanted;
use trail::the_trail_is_read_out_in_the_order_of_time_and_of_its_chains;
use trail::visits_and_messages_of_patients_are_found;
use trail::what_is_no_change_of_a_room_is_found_by_its_time;

const MARKER: &str = "SMITHMARKER^JANE";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

struct House {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wardroom.db");
        Self { _folder: folder, path }
    }

    fn options(&self, key: &str) -> StoreOptions {
        let url = SecretString::from(format!("sqlite:{}", self.path.display()));
        StoreOptions { url, master_key: MasterKey::from_base64(key).unwrap(), readers: 2, daemon: 3 }
    }

    async fn open(&self) -> Store {
        Store::open(self.options(KEY)).await.unwrap()
    }

    /// Changes the file behind the store's back.
    async fn tamper(&self, statement: &'static str) -> u64 {
        use sqlx::ConnectOptions;
        let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&self.path).connect().await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected()
    }
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn document(of: &str) -> Document {
    Document::new(2, format!("{MARKER} {of}").into_bytes())
}

fn room(n: i64) -> CareRoomId {
    CareRoomId(Uuid::from_u128(0xabc0_0000 + u128::try_from(n).unwrap()))
}

/// What one message would write: ids from `n`.
fn message(store: &Store, batch: &mut CommitBatch, n: i64) -> SealingKey {
    let key = store.new_patient_key(n).unwrap();
    let text = n.to_string();
    batch.journal.push(JournalRow {
        id: JournalId(n),
        feed: "main".to_owned(),
        received_at: at(n),
        dedupe: Some(store.look_up_hash(LookUpKind::Message, &["main", &text])),
        control: Some(store.look_up_hash(LookUpKind::ControlId, &[&text])),
        trigger: Some("A01".to_owned()),
        disposition: Disposition::Applied,
        reason: None,
        duplicate_of: None,
        ack_code: Some("AA".to_owned()),
        patient_id: Some(n),
        key: Some(key.clone()),
        by_age: false,
        raw: document("raw"),
    });
    let patient_hash = store.look_up_hash(LookUpKind::Patient, &["GHH", "MR", &text]);
    let visit_hash = store.look_up_hash(LookUpKind::Visit, &["GHH", &text]);
    batch.absent_look_ups.extend([patient_hash, visit_hash]);
    batch.look_ups.extend([(patient_hash, LookUpKind::Patient, n), (visit_hash, LookUpKind::Visit, n)]);
    batch.patients.push(PatientRow { id: n, version: 1, absorbed_into: None, key: key.clone(), doc: document("patient") });
    batch.visits.push(VisitRow {
        id: n,
        patient_id: n,
        version: 1,
        status: "active".to_owned(),
        is_open: true,
        wake_at: Some(at(1000 - n)),
        room_id: Some(room(n)),
        room_version: 1,
        updated_at: at(n),
        over_at: None,
        key: key.clone(),
        doc: document("visit"),
    });
    batch.facts.push(fact(store, &key, n, "first", at(n)));
    batch.outbox.push(OutboxEvent {
        seq: n,
        room_id: room(n),
        room_version: 1,
        event_id: Uuid::from_u128(7),
        event_type: "room.opened".to_owned(),
        facility: "GHH".to_owned(),
        traceparent: None,
        time: at(n),
        key: Some(key.clone()),
        body: document("event"),
    });
    batch.audit.push(AuditRow {
        at: at(n),
        kind: "room.opened".to_owned(),
        room_id: Some(room(n)),
        room_version: Some(1),
        made_for: Some(n),
        journal_id: Some(JournalId(n)),
        key: Some(key.clone()),
        body: document("audit"),
    });
    key
}

fn fact(store: &Store, key: &SealingKey, owner: i64, content: &str, recorded_at: Timestamp) -> FactRow {
    let hash = store.look_up_hash(LookUpKind::Fact, &[content]);
    FactRow { owner, recorded_at, sent_at: recorded_at, arrival: owner, hash, key: key.clone(), body: document(content) }
}

async fn with_messages(store: &Store, ids: std::ops::RangeInclusive<i64>) {
    let mut batch = CommitBatch::default();
    for n in ids {
        message(store, &mut batch, n);
    }
    store.commit(&batch).await.unwrap();
}

async fn what_is_written_comes_back(store: &Store) {
    with_messages(store, 1..=70).await;
    let look_up = store.look_up_hash(LookUpKind::Visit, &["GHH", "5"]);
    let dedupe = store.look_up_hash(LookUpKind::Message, &["main", "6"]);
    let request = FindRequest { dedupe: vec![dedupe, LookUpHash([0; 16])], look_ups: vec![look_up], visits: vec![7], patients: vec![8, 999] };
    let found = store.find(&request).await.unwrap();
    assert_eq!(found.duplicates.len(), 1);
    assert_eq!(found.duplicates[&dedupe].journal_id, JournalId(6));
    assert_eq!(found.duplicates[&dedupe].ack_code.as_deref(), Some("AA"));
    assert_eq!(found.look_ups, [(look_up, LookUpKind::Visit, 5)]);
    assert_eq!(found.patients.iter().map(|row| row.id).collect::<Vec<_>>(), [5, 7, 8]);
    assert_eq!(found.visits.iter().map(|row| row.id).collect::<Vec<_>>(), [5, 7, 8], "the open visit of a patient is found with them");
    let visit = &found.visits[0];
    assert_eq!((visit.doc.clone(), visit.room_id, visit.wake_at), (document("visit"), Some(room(5)), Some(at(995))));
    assert_eq!(found.patients[0].doc, document("patient"));

    let outbox = store.pending_outbox(3, Some(1)).await.unwrap();
    assert_eq!(outbox.iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(outbox[0].body.0, document("event").bytes);
    store.settle_outbox(&[1, 2]).await.unwrap();
    store.park_outbox(3, "too large").await.unwrap();
    let depth = store.outbox_depth().await.unwrap();
    assert_eq!((depth.n_pending, depth.oldest, depth.n_parked), (67, Some(at(4)), 1));
    assert_eq!(store.parked_outbox(9, None).await.unwrap()[0].parked_reason.as_deref(), Some("too large"));
    store.unpark_outbox(3).await.unwrap();
    assert_eq!(store.pending_outbox(1, None).await.unwrap()[0].seq, 3);

    assert_eq!(store.next_wake(&Share::All).await.unwrap(), Some(at(930)));
    assert_eq!(store.due_wakes(at(931), 9, &Share::All).await.unwrap(), [(70, 70), (69, 69)]);
    assert_eq!(store.journal_counts(JournalId(11)).await.unwrap(), [("main".to_owned(), Disposition::Applied, 60)]);
    let stored = store.journal_message(JournalId(9)).await.unwrap().unwrap();
    assert_eq!((stored.raw, stored.trigger.as_deref()), (document("raw"), Some("A01")));
    assert!(store.journal_message(JournalId(4711)).await.unwrap().is_none());

    let page = store.open_visits_page(60, 100).await.unwrap();
    assert_eq!((page.visits.len(), page.found.visits.len(), page.found.patients.len()), (10, 10, 10));
    assert_eq!(store.rooms_page(69, 5).await.unwrap().visits, [70]);
    let (visit, found) = store.room_by_id(room(12)).await.unwrap().unwrap();
    assert_eq!((visit, found.patients[0].id), (12, 12));
    assert!(store.room_by_id(room(4711)).await.unwrap().is_none());

    assert_eq!(store.setting("revision").await.unwrap(), None);
    store.put_setting("revision", vec![1]).await.unwrap();
    store.put_setting("revision", vec![2]).await.unwrap();
    assert_eq!(store.setting("revision").await.unwrap(), Some(vec![2]));

    let audit = store.audit_page(Some(room(5)), i64::MIN, 10).await.unwrap();
    assert_eq!((audit.len(), audit[0].body.clone()), (1, Some(document("audit"))));
    audit::is_whole(store, 70).await;
}

async fn a_stale_version_is_a_conflict_and_leaves_nothing_behind(store: &Store) {
    with_messages(store, 1..=3).await;
    let found = store.find(&FindRequest { visits: vec![1], ..FindRequest::default() }).await.unwrap();
    let (patient, visit) = (&found.patients[0], &found.visits[0]);
    let write = |version, wake_at| VisitRow {
        id: 1,
        patient_id: 1,
        version,
        status: "grace".to_owned(),
        is_open: true,
        wake_at,
        room_id: visit.room_id,
        room_version: 2,
        updated_at: at(9),
        over_at: None,
        key: patient.key.clone(),
        doc: document("again"),
    };
    let said = |version| PatientRow { id: 1, version, absorbed_into: None, key: patient.key.clone(), doc: document("again") };
    let batch = CommitBatch { visits: vec![write(2, visit.wake_at)], read_patients: vec![(1, 1)], ..CommitBatch::default() };
    store.commit(&batch).await.unwrap();
    for stale in [
        CommitBatch { visits: vec![write(2, None)], ..CommitBatch::default() },
        CommitBatch { visits: vec![write(1, None)], ..CommitBatch::default() },
        CommitBatch { visits: vec![write(4, None)], ..CommitBatch::default() },
        CommitBatch { visits: vec![VisitRow { id: 99, ..write(2, None) }], ..CommitBatch::default() },
        CommitBatch { patients: vec![said(1)], ..CommitBatch::default() },
        CommitBatch { patients: vec![said(3)], ..CommitBatch::default() },
        CommitBatch { patients: vec![PatientRow { id: 99, ..said(2) }], ..CommitBatch::default() },
        CommitBatch { visits: vec![write(3, None)], read_patients: vec![(2, 7)], ..CommitBatch::default() },
        CommitBatch { visits: vec![write(3, None)], read_visits: vec![(3, 0)], ..CommitBatch::default() },
        CommitBatch {
            visits: vec![write(3, None)],
            absent_look_ups: vec![store.look_up_hash(LookUpKind::Visit, &["GHH", "2"])],
            ..CommitBatch::default()
        },
    ] {
        let error = store.commit(&stale).await.unwrap_err();
        assert!(matches!(error, CommitError::Conflict) && !error.is_transient());
    }
    let found = store.find(&FindRequest { visits: vec![1], ..FindRequest::default() }).await.unwrap();
    let visit = &found.visits[0];
    assert_eq!((visit.version, visit.status.as_str(), visit.wake_at), (2, "grace", Some(at(999))));
    // Now with another wake and no longer open: the indexed columns follow.
    store.commit(&CommitBatch { visits: vec![VisitRow { is_open: false, ..write(3, Some(at(1))) }], ..CommitBatch::default() }).await.unwrap();
    assert_eq!(store.next_wake(&Share::All).await.unwrap(), Some(at(1)));
    assert!(store.find(&FindRequest { patients: vec![1], ..FindRequest::default() }).await.unwrap().visits.is_empty());
    assert_eq!(store.open_visits_page(0, 9).await.unwrap().visits, [2, 3]);
}

async fn a_message_is_in_the_journal_once(store: &Store) {
    with_messages(store, 1..=1).await;
    let mut again = CommitBatch::default();
    message(store, &mut again, 1);
    let mut row = again.journal.remove(0);
    row.id = JournalId(2);
    let only = |row: &JournalRow| CommitBatch { journal: vec![row.clone()], ..CommitBatch::default() };
    assert!(matches!(store.commit(&only(&row)).await, Err(CommitError::Conflict)));
    // As a duplicate it may stand there, as often as it comes.
    (row.disposition, row.duplicate_of) = (Disposition::Duplicate, Some(JournalId(1)));
    for id in [2, 3] {
        store.commit(&only(&JournalRow { id: JournalId(id), ..row.clone() })).await.unwrap();
    }
    let dedupe = row.dedupe.unwrap();
    let found = store.find(&FindRequest { dedupe: vec![dedupe], ..FindRequest::default() }).await.unwrap();
    assert_eq!(found.duplicates[&dedupe].journal_id, JournalId(1));
    // Once the first gave its hash up, the same bytes are new again.
    (row.disposition, row.id) = (Disposition::Applied, JournalId(4));
    store.commit(&CommitBatch { dedupe_released: vec![JournalId(1)], ..only(&row) }).await.unwrap();
    let counts = store.journal_counts(JournalId(0)).await.unwrap();
    assert_eq!(counts, [("main".to_owned(), Disposition::Applied, 2), ("main".to_owned(), Disposition::Duplicate, 2)]);
}

async fn facts_come_back_sorted_and_each_once(store: &Store) {
    let mut batch = CommitBatch::default();
    let key = message(store, &mut batch, 1);
    batch.facts = vec![fact(store, &key, 1, "late", at(30)), fact(store, &key, 1, "early", at(10)), fact(store, &key, 1, "mid", at(20))];
    batch.facts.push(fact(store, &key, 1, "mid", at(20)));
    store.commit(&batch).await.unwrap();
    store.commit(&CommitBatch { facts: vec![fact(store, &key, 1, "early", at(10))], ..CommitBatch::default() }).await.unwrap();
    let facts = store.facts(&[1, 2]).await.unwrap();
    assert_eq!(facts[&1].iter().map(|fact| fact.body.clone()).collect::<Vec<_>>(), ["early", "mid", "late"].map(document));
    let hash = |content| store.look_up_hash(LookUpKind::Fact, &[content]);
    let known = store.facts_known(&[(1, hash("mid")), (1, hash("new")), (2, hash("mid")), (1, hash("late"))]).await.unwrap();
    assert_eq!(known, HashSet::from([(1, hash("mid")), (1, hash("late"))]));
}

async fn a_merged_patient_leads_to_the_one_that_counts(store: &Store) {
    with_messages(store, 1..=3).await;
    let found = store.find(&FindRequest { patients: vec![1, 2, 3], ..FindRequest::default() }).await.unwrap();
    let absorbed = |n: usize, into| {
        let row = &found.patients[n];
        PatientRow { id: row.id, version: 2, absorbed_into: Some(into), key: row.key.clone(), doc: row.doc.clone() }
    };
    store.commit(&CommitBatch { patients: vec![absorbed(0, 2), absorbed(1, 3)], ..CommitBatch::default() }).await.unwrap();
    let look_ups = vec![store.look_up_hash(LookUpKind::Patient, &["GHH", "MR", "1"])];
    let found = store.find(&FindRequest { look_ups, ..FindRequest::default() }).await.unwrap();
    assert_eq!(found.patients.iter().map(|row| (row.id, row.absorbed_into)).collect::<Vec<_>>(), [(1, Some(2)), (2, Some(3)), (3, None)]);
    assert_eq!(found.visits.len(), 3);
    // A visit that was moved and not sealed anew still opens.
    let mut moved = CommitBatch::default();
    message(store, &mut moved, 1);
    let row = VisitRow { patient_id: 3, version: 2, key: found.patients[0].key.clone(), ..moved.visits.remove(0) };
    store.commit(&CommitBatch { visits: vec![row], ..CommitBatch::default() }).await.unwrap();
    let found = store.find(&FindRequest { patients: vec![3], ..FindRequest::default() }).await.unwrap();
    assert_eq!(found.visits.iter().map(|row| row.id).collect::<Vec<_>>(), [1, 3]);
}

async fn quarantine_is_entered_found_and_left(store: &Store) {
    let mut batch = CommitBatch::default();
    for n in 1..=2 {
        message(store, &mut batch, n);
    }
    batch.journal.iter_mut().for_each(|row| row.disposition = Disposition::Quarantined);
    store.commit(&batch).await.unwrap();
    let patient = store.look_up_hash(LookUpKind::Patient, &["GHH", "MR", "1"]);
    let row = |n, patient_hash| QuarantineRow {
        journal_id: JournalId(n),
        reason: "identity_conflict".to_owned(),
        since: at(5),
        patient_hash,
        visit_hash: Some(LookUpHash([9; 16])),
        state: "waiting".to_owned(),
    };
    let rows = vec![row(1, Some(patient)), row(2, None)];
    store.commit(&CommitBatch { quarantine: rows.clone(), ..CommitBatch::default() }).await.unwrap();
    assert_eq!(store.quarantine_page(JournalId(0), 9).await.unwrap(), rows);
    assert_eq!(store.quarantine_by_hashes(&[patient]).await.unwrap(), rows[..1]);
    assert_eq!(store.quarantine_by_hashes(&[LookUpHash([9; 16]), patient]).await.unwrap(), rows);
    let settled = JournalSettled { id: JournalId(1), disposition: Disposition::Rejected, reason: Some("discarded".to_owned()), by_age: true };
    let left = CommitBatch { quarantine_left: vec![JournalId(1)], journal_settled: vec![settled], ..CommitBatch::default() };
    store.commit(&left).await.unwrap();
    assert_eq!(store.quarantine_count().await.unwrap(), 1);
    let stored = store.journal_message(JournalId(1)).await.unwrap().unwrap();
    assert_eq!((stored.disposition, stored.reason.as_deref()), (Disposition::Rejected, Some("discarded")));
    assert!(!store.waits(JournalId(1)).await.unwrap() && store.waits(JournalId(2)).await.unwrap());
    // Another daemon that took it up at the same time was second: nothing of what it did with it counts.
    let taken_up = |id, disposition| JournalSettled { id: JournalId(id), disposition, reason: None, by_age: false };
    for second in [Disposition::Applied, Disposition::Quarantined] {
        let settled = vec![taken_up(2, Disposition::Quarantined), taken_up(1, second)];
        let late = CommitBatch { journal_settled: settled, quarantine: vec![row(1, None)], ..CommitBatch::default() };
        assert!(matches!(store.commit(&late).await, Err(CommitError::Conflict)));
    }
    store.commit(&CommitBatch { journal_settled: vec![taken_up(2, Disposition::Quarantined)], ..CommitBatch::default() }).await.unwrap();
    assert_eq!(store.quarantine_count().await.unwrap(), 1);
}

async fn a_visit_comes_back_as_it_was_written_whatever_of_it_has_changed(store: &Store) {
    with_messages(store, 1..=2).await;
    let now = async || store.find(&FindRequest { visits: vec![1], ..FindRequest::default() }).await.unwrap().visits.remove(0);
    let key = store.find(&FindRequest { patients: vec![1], ..FindRequest::default() }).await.unwrap().patients.remove(0).key;
    let was = now().await;
    let first = VisitRow {
        id: 1,
        patient_id: 1,
        version: 1,
        status: was.status,
        is_open: was.is_open,
        wake_at: was.wake_at,
        room_id: was.room_id,
        room_version: was.room_version,
        updated_at: was.updated_at,
        over_at: was.over_at,
        key,
        doc: was.doc,
    };
    // Statements differ by what of the indexed columns changes: each of them alone, and with the ones before it.
    let changes: [fn(&mut VisitRow); 6] = [
        |row| (row.status, row.room_version, row.updated_at) = ("grace".to_owned(), 9, at(50)),
        |row| row.wake_at = Some(at(77)),
        |row| row.wake_at = None,
        |row| row.is_open = !row.is_open,
        |row| row.patient_id = 2,
        |row| row.room_id = Some(room(77)),
    ];
    let mut row = first;
    for (n, change) in changes.into_iter().enumerate() {
        change(&mut row);
        (row.version, row.doc) = (row.version + 1, document(&n.to_string()));
        store.commit(&CommitBatch { visits: vec![row.clone()], ..CommitBatch::default() }).await.unwrap();
        let stored = now().await;
        assert_eq!(
            (
                stored.patient_id,
                stored.version,
                stored.status,
                stored.is_open,
                stored.wake_at,
                stored.room_id,
                stored.room_version,
                stored.updated_at
            ),
            (row.patient_id, row.version, row.status.clone(), row.is_open, row.wake_at, row.room_id, row.room_version, row.updated_at),
            "change {n}"
        );
        assert_eq!(stored.doc, row.doc, "change {n}");
        assert_eq!(store.room_by_id(row.room_id.unwrap()).await.unwrap().map(|(row, _)| row), Some(1), "change {n}");
    }
    assert!(store.room_by_id(room(1)).await.unwrap().is_none(), "it has another room now");
}

async fn batches_of_one_commit_stand_on_each_other_and_are_there_together_or_not_at_all(store: &Store) {
    let upon = |n: i64, version: i64| {
        let mut batch = CommitBatch::default();
        let key = message(store, &mut batch, n);
        let mut next = CommitBatch { read_patients: vec![(n, version)], ..CommitBatch::default() };
        let visit = batch.visits.first().unwrap().clone();
        next.visits.push(VisitRow { version: version + 1, doc: document("next"), key, ..visit });
        (batch, next)
    };
    let (first, second) = upon(1, 1);
    store.begin(vec![store.seal(first).unwrap(), store.seal(second).unwrap()]).await.unwrap();
    let found = store.find(&FindRequest { visits: vec![1], ..FindRequest::default() }).await.unwrap();
    assert_eq!((found.visits[0].version, found.visits[0].doc.clone()), (2, document("next")));
    let (first, second) = upon(2, 7);
    assert!(matches!(store.begin(vec![store.seal(first).unwrap(), store.seal(second).unwrap()]).await, Err(CommitError::Conflict)));
    assert!(store.journal_message(JournalId(2)).await.unwrap().is_none(), "not without the one behind it");
    audit::is_whole(store, 1).await;
}

async fn the_audit_rows_of_a_room_are_found_whether_or_not_they_say_for_whom_it_was_made(store: &Store) {
    let row = |of: i64, version: i64, made_for: Option<i64>| AuditRow {
        kind: "room.updated".to_owned(),
        room_id: Some(room(of)),
        room_version: Some(version),
        made_for,
        ..viewing(version)
    };
    // Two rooms of one visit, and between them a daemon that does not know yet what they were made for; and a room from before.
    let rows = [(1, 1, Some(9)), (1, 2, Some(9)), (2, 1, Some(9)), (1, 3, None), (2, 2, Some(9)), (1, 4, Some(9)), (3, 1, None), (3, 2, None)];
    store.append_audit(rows.map(|(of, version, made_for)| row(of, version, made_for)).to_vec()).await.unwrap();
    for (of, n_versions) in [(1, 4), (2, 2), (3, 2), (4, 0)] {
        let found = store.audit_page(Some(room(of)), i64::MIN, 10).await.unwrap();
        assert_eq!(found.iter().filter_map(|row| row.room_version).collect::<Vec<_>>(), (1..=n_versions).collect::<Vec<_>>(), "of room {of}");
        assert!(found.is_sorted_by_key(|row| row.id));
        let Some(second) = found.get(1) else { continue };
        let next = store.audit_page(Some(room(of)), second.id, 1).await.unwrap();
        assert_eq!(next.first().map(|row| row.id), found.get(2).map(|row| row.id));
    }
}

async fn a_batch_costs_as_many_statements_as_a_single_message(store: &Store) {
    let cost = async |ids: std::ops::RangeInclusive<i64>| {
        let mut batch = CommitBatch { epoch: Some(1), ..CommitBatch::default() };
        let request = FindRequest {
            dedupe: ids.clone().map(|n| LookUpHash([u8::try_from(n).unwrap(); 16])).collect(),
            look_ups: ids.clone().map(|n| store.look_up_hash(LookUpKind::Visit, &["GHH", &n.to_string()])).collect(),
            patients: vec![1],
            ..FindRequest::default()
        };
        for n in ids {
            message(store, &mut batch, n);
        }
        let before = store.n_statements();
        store.find(&request).await.unwrap();
        batch.look_ups.truncate(64);
        store.commit(&batch).await.unwrap();
        store.n_statements() - before
    };
    with_messages(store, 1..=1).await;
    let single = cost(2..=2).await;
    assert_eq!(cost(3..=66).await, single);
    assert!(single <= 18, "{single}");
}

async fn a_commit_that_nobody_waits_for_still_happens(store: &Store) {
    let mut batch = CommitBatch::default();
    message(store, &mut batch, 1);
    {
        let mut commit = Box::pin(store.commit(&batch));
        // One poll starts the write; then the waiting is given up.
        assert!(futures_util::poll!(commit.as_mut()).is_pending());
    }
    store.tasks.close();
    store.tasks.wait().await;
    assert!(store.journal_message(JournalId(1)).await.unwrap().is_some());
}

async fn concurrent_commits_lose_nothing_and_keep_the_chain(store: &Store) {
    let commits = (0..16).map(|n| async move { with_messages(store, n * 10 + 1..=n * 10 + 10).await });
    futures_util::future::join_all(commits).await;
    assert_eq!(store.outbox_depth().await.unwrap().n_pending, 160);
    audit::is_whole(store, 160).await;
}

/// A throw-away database on the server that `WARDROOM_TEST_POSTGRES` names; without that the test says so and does nothing.
#[expect(clippy::disallowed_methods, reason = "a test server is named by the environment, not by a configuration")]
pub(crate) async fn on_a_new_postgres_database() -> Option<StoreOptions> {
    use sqlx::ConnectOptions;
    use sqlx::Connection;
    let Ok(server) = std::env::var("WARDROOM_TEST_POSTGRES") else {
        println!("skipped: WARDROOM_TEST_POSTGRES names no PostgreSQL server");
        return None;
    };
    let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
    let name = format!("wardroom_{}", Uuid::new_v4().simple());
    let mut connection = options.clone().connect().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let url = SecretString::from(options.database(&name).to_url_lossy().to_string());
    Some(StoreOptions { url, master_key: MasterKey::from_base64(KEY).unwrap(), readers: 4, daemon: 3 })
}

/// Stamps out one test per part of the contract and database.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                let house = super::House::new();
                let store = house.open().await;
                super::$name(&store).await;
                store.close().await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                let Some(options) = super::on_a_new_postgres_database().await else { return };
                let store = super::Store::open(options).await.unwrap();
                super::$name(&store).await;
                store.close().await;
            })+
        }
    };
}

async fn what_messages_said_of_staff_is_kept_with_them_under_one_version(store: &Store) {
    assert!(store.directory().await.unwrap().is_none());
    assert_eq!(store.directory_version().await.unwrap(), 0);
    let with = |n: i64, version: i64| {
        let mut batch = CommitBatch::default();
        message(store, &mut batch, n);
        batch.directory = Some(DirectoryRow { version, doc: document("directory") });
        batch
    };
    store.commit(&with(1, 1)).await.unwrap();
    store.commit(&with(2, 2)).await.unwrap();
    let row = store.directory().await.unwrap().unwrap();
    assert_eq!((row.version, row.doc), (2, document("directory")));
    // Another daemon was told something else meanwhile: nothing of the batch is there, nor its message.
    for version in [1, 2, 4] {
        assert!(matches!(store.commit(&with(3, version)).await, Err(CommitError::Conflict)));
    }
    assert!(store.journal_message(JournalId(3)).await.unwrap().is_none());
    assert_eq!(store.directory_version().await.unwrap(), 2);
}

async fn events_of_another_epoch_than_the_one_that_stands_are_a_conflict(store: &Store) {
    let of = |n: i64, epoch: u32| {
        let mut batch = CommitBatch { epoch: Some(epoch), ..CommitBatch::default() };
        message(store, &mut batch, n);
        batch
    };
    let raise = async |epoch| store.commit(&CommitBatch { next_epoch: Some(epoch), audit: vec![viewing(90)], ..CommitBatch::default() }).await;
    assert_eq!(store.epoch(), 1);
    store.commit(&of(1, 1)).await.unwrap();
    for wrong in [0, 1, 3] {
        assert!(matches!(raise(wrong).await, Err(CommitError::Conflict)), "{wrong} does not follow on 1");
    }
    assert!(matches!(store.commit(&of(2, 2)).await, Err(CommitError::Conflict)), "nobody has raised it yet");
    raise(2).await.unwrap();
    assert_eq!((store.epoch(), store.read_epoch().await.unwrap(), store.epoch()), (1, 2, 2));
    assert!(matches!(store.commit(&of(2, 1)).await, Err(CommitError::Conflict)));
    assert!(store.journal_message(JournalId(2)).await.unwrap().is_none(), "nothing of it is there");
    assert!(matches!(raise(2).await, Err(CommitError::Conflict)), "another operator was sooner");
    store.commit(&of(2, 2)).await.unwrap();
    raise(3).await.unwrap();
    assert_eq!(store.read_epoch().await.unwrap(), 3);
    // Two messages, and the two that raised it.
    audit::is_whole(store, 4).await;
}

async fn rooms_that_stand_or_were_written_since_are_gone_through_in_pages(store: &Store) {
    with_messages(store, 1..=6).await;
    // The visits of the even ones are over.
    let found = store.find(&FindRequest { visits: vec![2, 4, 6], ..FindRequest::default() }).await.unwrap();
    let over = found.visits.iter().zip(&found.patients).map(|(visit, patient)| VisitRow {
        id: visit.id,
        patient_id: visit.patient_id,
        version: 2,
        status: "closed".to_owned(),
        is_open: false,
        wake_at: None,
        room_id: visit.room_id,
        room_version: 2,
        updated_at: at(100 * visit.id),
        over_at: None,
        key: patient.key.clone(),
        doc: visit.doc.clone(),
    });
    store.commit(&CommitBatch { visits: over.collect(), ..CommitBatch::default() }).await.unwrap();
    for (since, expected) in [(0, vec![1, 2, 3, 4, 5, 6]), (400, vec![1, 3, 4, 5, 6]), (601, vec![1, 3, 5])] {
        assert_eq!(store.recent_rooms_count(at(since)).await.unwrap(), i64::try_from(expected.len()).unwrap());
        let (mut paged, mut after) = (Vec::new(), i64::MIN);
        loop {
            let page = store.recent_rooms_page(at(since), after, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = *last;
            paged.extend(page);
        }
        assert_eq!(paged, expected, "since {since}");
    }
}

fn viewing(n: i64) -> AuditRow {
    AuditRow {
        at: at(n),
        kind: "rooms.viewed".to_owned(),
        room_id: Some(room(1)),
        room_version: None,
        made_for: None,
        journal_id: None,
        key: None,
        body: document("viewed"),
    }
}

contract!(
    events_of_another_epoch_than_the_one_that_stands_are_a_conflict,
    rooms_that_stand_or_were_written_since_are_gone_through_in_pages,
    what_messages_said_of_staff_is_kept_with_them_under_one_version,
    what_is_written_comes_back,
    a_stale_version_is_a_conflict_and_leaves_nothing_behind,
    a_message_is_in_the_journal_once,
    facts_come_back_sorted_and_each_once,
    a_merged_patient_leads_to_the_one_that_counts,
    quarantine_is_entered_found_and_left,
    a_visit_comes_back_as_it_was_written_whatever_of_it_has_changed,
    batches_of_one_commit_stand_on_each_other_and_are_there_together_or_not_at_all,
    the_audit_rows_of_a_room_are_found_whether_or_not_they_say_for_whom_it_was_made,
    a_batch_costs_as_many_statements_as_a_single_message,
    a_commit_that_nobody_waits_for_still_happens,
    concurrent_commits_lose_nothing_and_keep_the_chain,
    the_trail_is_read_out_in_the_order_of_time_and_of_its_chains,
    what_is_no_change_of_a_room_is_found_by_its_time,
    rows_are_looked_through_step_by_step_and_opened_where_that_is_wanted,
    visits_and_messages_of_patients_are_found,
    what_is_purged_is_gone_with_its_key_and_nothing_else_is,
    nothing_is_purged_that_has_changed_or_whose_patient_has_another_visit,
);

#[test]
fn a_migration_that_was_released_is_never_edited() {
    // A store that has it refuses a program in which it reads otherwise.
    let released = [
        (include_str!("migrations/sqlite/0001_initial.sql"), "b2deb0c1c4a232826a03845ce84be8c0fa03146a3634746045feff0d4257f69b"),
        (include_str!("migrations/postgres/0001_initial.sql"), "32d4f6e2eb5b12da1192007124ce8a70febc99874c10838c02ba9229e0382075"),
    ];
    for (text, expected) in released {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let hex = digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, expected);
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let files = |folder: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations").join(folder);
        let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(files("sqlite"), files("postgres"));
}
