//! What only a SQLite file can be: lost, damaged, full, somebody else's, read by others; and what stands in it.

use uuid::Uuid;

use super::House;
use super::KEY;
use super::MARKER;
use super::OTHER_KEY;
use super::at;
use super::audit;
use super::fact;
use super::message;
use super::retention;
use super::viewing;
use super::with_messages;
use crate::ids::JournalId;
use crate::store::BESIDE_LANE;
use crate::store::Backend;
use crate::store::Store;
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::exists;
use crate::store::ledger;
use crate::store::look_up::LookUpKind;
use crate::store::rows::CommitBatch;
use crate::store::rows::FindRequest;
use crate::store::rows::VisitRow;
use crate::store::sealing::Document;
use crate::store::sql;
use crate::store::sqlite_sql;

#[tokio::test]
async fn a_key_that_was_purged_stands_in_the_file_no_more() {
    let house = House::new();
    let store = house.open().await;
    retention::with_two(&store).await;
    let keys = store.find(&FindRequest { patients: vec![1, 2], ..FindRequest::default() }).await.unwrap().patients;
    let stands = |n: usize| {
        let key = keys[n].key.wrapped();
        std::fs::read(&house.path).unwrap().windows(key.len()).any(|window| window == key)
    };
    store.commit(&retention::all_of(&store, 1)).await.unwrap();
    store.close().await;
    assert!(!stands(0) && stands(1));
}

#[tokio::test]
async fn nothing_of_a_content_stands_in_the_file() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=20).await;
    let scan = || {
        for entry in std::fs::read_dir(house.path.parent().unwrap()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(8).any(|window| MARKER.as_bytes().starts_with(window)), "a content is legible in a file of the store");
        }
    };
    scan();
    store.close().await;
    scan();
}

#[tokio::test]
async fn a_file_of_something_else_is_left_as_it_is() {
    let house = House::new();
    let other = rusqlite::Connection::open(&house.path).unwrap();
    other.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    other.close().unwrap();
    for text in [None, Some("no database at all".repeat(100))] {
        if let Some(text) = text {
            std::fs::write(&house.path, text).unwrap();
        }
        let before = std::fs::read(&house.path).unwrap();
        assert!(matches!(Store::open(house.options(KEY)).await, Err(StoreError::NotAStore)));
        assert!(matches!(Store::open_read_only(house.options(KEY)).await, Err(StoreError::NotAStore)));
        assert!(matches!(Store::open_beside(house.options(KEY)).await, Err(StoreError::NotAStore)));
        assert!(std::fs::read(&house.path).unwrap() == before);
    }
}

/// Whoever closes a file last brings the log into it, where they may: a look from outside must not.
#[tokio::test]
async fn a_log_that_was_left_behind_is_left_to_the_daemon() {
    let (house, other) = (House::new(), House::new());
    let store = house.open().await;
    with_messages(&store, 1..=20).await;
    let log = |house: &House| house.path.with_file_name(format!("{}-wal", house.path.file_name().unwrap().to_str().unwrap()));
    // As a daemon leaves it that was killed.
    std::fs::copy(&house.path, &other.path).unwrap();
    std::fs::copy(log(&house), log(&other)).unwrap();
    let before = (std::fs::read(&other.path).unwrap(), std::fs::read(log(&other)).unwrap());
    assert!(!before.1.is_empty());
    let seen = Store::open_read_only(other.options(KEY)).await.unwrap();
    assert!(seen.journal_message(JournalId(20)).await.unwrap().is_some());
    seen.close().await;
    drop(seen);
    assert!((std::fs::read(&other.path).unwrap(), std::fs::read(log(&other)).unwrap()) == before);
    store.close().await;
}

#[tokio::test]
async fn a_store_opens_again_with_its_key_and_with_no_other() {
    let house = House::new();
    assert!(!exists(&house.options(KEY).url).unwrap());
    assert!(matches!(Store::open_read_only(house.options(KEY)).await, Err(StoreError::NotMigrated)));
    let store = house.open().await;
    let hash = store.look_up_hash(LookUpKind::Visit, &["GHH", "1"]);
    with_messages(&store, 1..=1).await;
    store.close().await;
    drop(store);
    assert!(exists(&house.options(KEY).url).unwrap());
    assert!(matches!(Store::open(house.options(OTHER_KEY)).await, Err(StoreError::WrongKey)));
    let store = house.open().await;
    assert_eq!(store.look_up_hash(LookUpKind::Visit, &["GHH", "1"]), hash);
    assert_eq!(store.find(&FindRequest { look_ups: vec![hash], ..FindRequest::default() }).await.unwrap().visits.len(), 1);
}

#[tokio::test]
async fn the_log_gives_its_space_back_when_that_is_asked_for() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=20).await;
    let log = || std::fs::metadata(format!("{}-wal", house.path.display())).unwrap().len();
    assert!(log() > 0);
    store.shorten_log().await.unwrap();
    assert_eq!(log(), 0);
    assert!(store.journal_message(JournalId(20)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_look_up_that_is_not_there_is_answered_from_memory() {
    let house = House::new();
    let hashed = |store: &Store, n: i64| store.look_up_hash(LookUpKind::Visit, &["GHH", &n.to_string()]);
    // How many of these are found, and whether the file was asked.
    let find = async |store: &Store, ids: std::ops::RangeInclusive<i64>| {
        let before = store.n_statements();
        let look_ups = ids.map(|n| hashed(store, n)).collect();
        let found = store.find(&FindRequest { look_ups, ..FindRequest::default() }).await.unwrap();
        (found.look_ups.len(), store.n_statements() > before)
    };
    let known = async |store: &Store| match &store.backend {
        Backend::Sqlite(backend) => backend.absent_known().await,
        Backend::Postgres(_) => unreachable!(),
    };
    let store = house.open().await;
    known(&store).await;
    assert_eq!(find(&store, 1..=9000).await, (0, false));
    // More than are read at once when the store is opened again.
    let look_ups = (1..=9000).map(|n| (hashed(&store, n), LookUpKind::Visit, n)).collect();
    store.commit(&CommitBatch { look_ups, ..CommitBatch::default() }).await.unwrap();
    assert_eq!(find(&store, 1..=9000).await, (9000, true));
    store.close().await;
    drop(store);
    let store = house.open().await;
    assert_eq!(find(&store, 1..=9000).await, (9000, true), "also while it is still read");
    known(&store).await;
    assert_eq!(find(&store, 1..=9000).await, (9000, true));
    assert_eq!(find(&store, 9001..=9040).await, (0, false));
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_a_reader_is_not() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=1).await;
    let refused = Store::open(house.options(KEY)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    let reader = Store::open_read_only(house.options(KEY)).await.unwrap();
    assert_eq!(reader.pending_outbox(9, None).await.unwrap().len(), 1);
    assert!(matches!(reader.settle_outbox(&[1]).await, Err(StoreError::ReadOnly)));
    reader.close().await;
    store.close().await;
    drop(store);
    Store::open(house.options(KEY)).await.unwrap();
}

#[tokio::test]
async fn commits_go_on_while_the_log_is_written_back() {
    let house = House::new();
    let store = house.open().await;
    // More rows than the log has before it is written back.
    with_messages(&store, 1..=3000).await;
    with_messages(&store, 3001..=3001).await;
    audit::is_whole(&store, 3001).await;
    store.close().await;
}

#[tokio::test]
async fn who_reads_beside_the_daemon_appends_to_the_audit_trail_and_writes_nothing_else() {
    let house = House::new();
    assert!(matches!(Store::open_beside(house.options(KEY)).await.unwrap_err(), StoreError::NotMigrated));
    let daemon = house.open().await;
    let (one, other) = (Store::open_beside(house.options(KEY)).await.unwrap(), Store::open_beside(house.options(KEY)).await.unwrap());
    let views = |store: Store, from: i64| async move {
        for n in from..from + 10 {
            store.append_audit(vec![viewing(n), viewing(n)]).await.unwrap();
        }
    };
    tokio::join!(with_messages(&daemon, 1..=20), views(one.clone(), 100), views(other, 200));
    let rows = daemon.audit_page(None, i64::MIN, 100).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.id & 1023 == i64::from(BESIDE_LANE)).count(), 40);
    audit::is_whole(&daemon, 60).await;
    assert!(matches!(one.settle_outbox(&[1]).await.unwrap_err(), StoreError::ReadOnly));
    assert!(one.commit(&CommitBatch::default()).await.is_err());
    one.close().await;
    // Without a daemon too.
    daemon.close().await;
    drop(daemon);
    let alone = Store::open_beside(house.options(KEY)).await.unwrap();
    alone.append_audit(vec![viewing(300)]).await.unwrap();
    audit::is_whole(&alone, 61).await;
}

#[tokio::test]
async fn blobs_that_were_swapped_do_not_open() {
    let house = House::new();
    let store = house.open().await;
    let mut batch = CommitBatch::default();
    let key = message(&store, &mut batch, 1);
    let other = VisitRow { id: 2, room_id: None, key: key.clone(), ..batch.visits[0].clone() };
    batch.visits.push(other);
    batch.facts.push(fact(&store, &key, 1, "second", at(2)));
    store.commit(&batch).await.unwrap();
    house.tamper("UPDATE visits SET doc = (SELECT doc FROM visits v WHERE v.id = 3 - visits.id)").await;
    house.tamper("UPDATE facts SET body = (SELECT body FROM facts f WHERE f.hash <> facts.hash)").await;
    let found = store.find(&FindRequest { visits: vec![1], ..FindRequest::default() }).await;
    assert!(matches!(found, Err(StoreError::Unsealed { .. })));
    assert!(matches!(store.facts(&[1]).await, Err(StoreError::Unsealed { .. })));
    house.tamper("UPDATE outbox SET body = x'00'").await;
    assert!(matches!(store.pending_outbox(9, None).await, Err(StoreError::Form { .. })));
}

#[tokio::test]
async fn when_a_patient_key_is_gone_the_rest_stays_readable() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=2).await;
    house.tamper("DELETE FROM patients WHERE id = 1").await;
    let audit = store.audit_page(None, i64::MIN, 9).await.unwrap();
    assert_eq!(audit.iter().map(|row| row.body.is_some()).collect::<Vec<_>>(), [false, true]);
    let report = store.verify_audit(|_, _| {}).await.unwrap();
    assert_eq!((report.is_whole(), report.n_rows, report.n_opened, report.n_key_gone), (true, 2, 1, 1));
    assert!(matches!(store.journal_message(JournalId(1)).await, Err(StoreError::Unsealed { .. })));
}

#[tokio::test]
async fn after_a_full_disk_the_store_writes_again() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=1).await;
    let Backend::Sqlite(backend) = &store.backend else { panic!("a SQLite store") };
    backend.limit_pages(true).await;
    let mut batch = CommitBatch::default();
    for n in 2..=200 {
        message(&store, &mut batch, n);
    }
    let error = store.commit(&batch).await.unwrap_err();
    assert!(error.is_transient() && matches!(error, CommitError::Store(StoreError::Full { .. })), "{error}");
    backend.limit_pages(false).await;
    store.commit(&batch).await.unwrap();
    audit::is_whole(&store, 200).await;
}

#[tokio::test]
async fn what_is_acknowledged_is_synced_whatever_went_before() {
    const FULL: i64 = 2;
    let house = House::new();
    let store = house.open().await;
    let Backend::Sqlite(backend) = &store.backend else { panic!("a SQLite store") };
    assert_eq!(backend.synchronous().await, FULL);
    with_messages(&store, 1..=2).await;
    store.settle_outbox(&[1]).await.unwrap();
    assert_ne!(backend.synchronous().await, FULL, "a settled event may come back after a power cut");
    with_messages(&store, 3..=3).await;
    assert_eq!(backend.synchronous().await, FULL);
}

#[tokio::test]
async fn a_damaged_file_is_seen() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=200).await;
    assert_eq!(store.file_faults().await.unwrap(), [""; 0]);
    store.close().await;
    drop(store);
    // A page of some table, behind those of the schema.
    let file = std::fs::OpenOptions::new().write(true).open(&house.path).unwrap();
    let middle = file.metadata().unwrap().len() / 4096 / 2 * 4096;
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], middle).unwrap();
    let reader = Store::open_read_only(house.options(KEY)).await.unwrap();
    assert!(!reader.file_faults().await.unwrap().is_empty());
    reader.close().await;
}

#[tokio::test]
async fn what_is_settled_by_itself_is_seen_by_whoever_reads_however_many_pages_it_takes() {
    let house = House::new();
    let store = house.open().await;
    let mut batch = CommitBatch::default();
    for n in 1..=1200 {
        message(&store, &mut batch, n);
        // Three lie on a page.
        let noise: Vec<u8> = (0..60).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
        batch.outbox.last_mut().unwrap().body = Document::new(2, noise);
    }
    store.commit(&batch).await.unwrap();
    let reader = Store::open_read_only(house.options(KEY)).await.unwrap();
    let mut last = 0;
    for n in 20..=33 {
        // A page each; and nothing comes behind it that would bring out what was held back.
        store.settle_outbox(&(last + 1..=last + n).map(|nth| 3 * nth).collect::<Vec<_>>()).await.unwrap();
        last += n;
        assert_eq!(reader.outbox_depth().await.unwrap().n_pending, 1200 - last, "{n} at once");
        let pending = reader.pending_outbox(1200, None).await.unwrap();
        assert!(
            pending.len() == usize::try_from(1200 - last).unwrap() && pending.iter().all(|row| row.seq % 3 > 0 || row.seq > 3 * last),
            "{n} at once"
        );
    }
    reader.close().await;
}

#[tokio::test]
async fn what_was_published_is_settled_with_the_next_commit_and_by_itself_where_none_comes() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=4).await;
    let mut batch = CommitBatch::default();
    message(&store, &mut batch, 5);
    let before = store.n_statements();
    let mut settled = Box::pin(store.settle_outbox(&[1, 2]));
    // A commit begins at once; what is settled waits for it when others have had their turn.
    assert!(futures_util::poll!(settled.as_mut()).is_pending());
    tokio::task::yield_now().await;
    store.commit(&batch).await.unwrap();
    settled.await.unwrap();
    let n_together = store.n_statements() - before;
    let pending = store.pending_outbox(9, None).await.unwrap();
    assert_eq!(pending.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4, 5]);
    store.settle_outbox(&[3]).await.unwrap();
    assert_eq!(store.outbox_depth().await.unwrap().n_pending, 2);
    let mut batch = CommitBatch::default();
    message(&store, &mut batch, 6);
    let before = store.n_statements();
    store.commit(&batch).await.unwrap();
    // The first commit had two statements more, for the settled and for their number; this one turned `synchronous` on again.
    assert_eq!(store.n_statements() - before + 1, n_together);
}

#[tokio::test]
async fn every_statement_prepares_and_none_reads_a_whole_table() {
    use sqlx::ConnectOptions;
    use sqlx::Row;
    let house = House::new();
    let store = house.open().await;
    store.close().await;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&house.path).connect().await.unwrap();
    for statement in ledger::ALL.iter().chain(crate::store::retention::ALL).chain(crate::store::rotation::ALL) {
        let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::query(explained).fetch_all(&mut connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let steps: Vec<(i64, i64, String)> = plan.iter().map(|row| (row.get("id"), row.get("parent"), row.get("detail"))).collect();
        // The whole of a table is read once, and not again for each row of another.
        let again: Vec<i64> = steps.iter().filter(|(_, _, step)| step.starts_with("CORRELATED")).map(|(id, _, _)| *id).collect();
        let scans = steps.iter().any(|(_, parent, step)| again.contains(parent) && step.starts_with("SCAN"));
        assert!(!scans, "{statement}: {steps:?}");
    }
    for statement in sql::ALL.iter().chain(sqlite_sql::ALL) {
        let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::query(explained).fetch_all(&mut connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let steps: Vec<String> = plan.iter().map(|row| row.get::<String, _>("detail")).collect();
        for table in ["journal", "patients", "visits", "facts", "look_ups"] {
            let scans = steps.iter().any(|step| *step == format!("SCAN {table}"));
            assert!(!scans, "{statement}: {steps:?}");
        }
    }
}

#[tokio::test]
async fn a_store_of_the_first_scheme_is_brought_up_to_date_with_what_is_in_it() {
    use sqlx::ConnectOptions;
    let house = House::new();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&house.path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let (first, _) = sql::SQLITE_MIGRATIONS.split_first().unwrap();
    sql::migrator(&[*first]).run_direct(None, &mut connection, false).await.unwrap();
    // More than are grouped at once, every third of them otherwise.
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) \
        INSERT INTO journal (id, feed, received_us, disposition, raw) SELECT 7 * i, 'main', 1, CASE WHEN i % 3 = 0 THEN 3 ELSE 1 END, x'00' FROM n";
    sqlx::query(rows).execute(&mut connection).await.unwrap();
    drop(connection);
    let store = house.open().await;
    let recount = store.recount(None, ledger::Look::Quick).await.unwrap();
    assert_eq!(recount.accepted.get("main"), Some(&50_000));
    let counts: Vec<i64> = recount.messages.iter().map(|left| left.count).collect();
    assert_eq!(counts, [33_334, 16_666]);
    store.close().await;
}
