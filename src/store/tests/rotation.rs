//! Another master key in the place of the first: wherever it is interrupted one key opens the store, and in the end the old one opens nothing.

use std::path::Path;
use std::path::PathBuf;

use super::House;
use super::KEY;
use super::Store;
use super::StoreOptions;
use super::at;
use super::audit;
use super::message;
use super::on_a_new_postgres_database;
use super::viewing;
use super::with_messages;
use crate::ids::JournalId;
use crate::store::Backend;
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::lease::Work;
use crate::store::master_key::MasterKey;
use crate::store::master_key::old_file;
use crate::store::master_key::old_files;
use crate::store::rotation::KeyCounts;
use crate::store::rotation::Progress;
use crate::store::rotation::RotationError;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::FindRequest;
use crate::store::rows::PatientRow;
use crate::store::rows::StoredPatient;
use crate::store::sealing::Document;
use crate::store::sealing::Replaced;
use crate::store::sqlite::SqliteBackend;

fn by() -> Replaced {
    Replaced { at: at(1_795_461_600_000_000), uid: 7, login: Some("ada".to_owned()) }
}

/// The lock of a file goes with the store.
async fn end(store: Store) {
    store.close().await;
}

async fn begin(store: &Store, to: Option<&Path>) -> Result<bool, RotationError> {
    store.begin_rotation(to, &by(), viewing(1)).await
}

async fn go_on(store: &Store) -> Progress {
    store.go_on_rotating(viewing(2)).await.unwrap()
}

/// How many of all patients' keys the present master key opens, how many the one before, how many neither.
async fn counts(store: &Store) -> [usize; 3] {
    let (KeyCounts { n_keys, n_left, n_unopened }, _) = store.try_keys(i64::MIN).await.unwrap();
    [n_keys - n_left - n_unopened, n_left, n_unopened]
}

/// That all of it can be read: patients, visits, facts, messages, events, the trail.
async fn all_opens(store: &Store, n: i64, n_audit: u64) {
    let ids: Vec<i64> = (1..=n).collect();
    let found = store.find(&FindRequest { visits: ids.clone(), patients: ids.clone(), ..FindRequest::default() }).await.unwrap();
    assert_eq!((found.patients.len(), found.visits.len()), (ids.len(), ids.len()));
    assert_eq!(store.facts(&ids).await.unwrap().len(), ids.len());
    for id in ids {
        assert!(store.journal_message(JournalId(id)).await.unwrap().is_some());
    }
    assert!(!store.pending_outbox(1000, None).await.unwrap().is_empty());
    audit::is_whole(store, n_audit).await;
    assert!(store.audit_page(None, i64::MIN, 1000).await.unwrap().iter().all(|row| row.body.is_some()));
}

/// A store's options, with its key in a file that a test may look at; and the same key in no file.
fn in_a_file(options: StoreOptions, folder: &Path) -> (StoreOptions, PathBuf, MasterKey) {
    let path = folder.join("wardroom.key");
    let master_key = MasterKey::load_or_create(&path).unwrap();
    let given = MasterKey::from_base64(&std::fs::read_to_string(&path).unwrap()).unwrap();
    (StoreOptions { master_key, ..options }, path, given)
}

/// On either database, from every state that an interruption leaves.
async fn is_rotated_whenever_it_is_interrupted(options: StoreOptions) {
    let folder = tempfile::tempdir().unwrap();
    let (options, path, first) = in_a_file(options, folder.path());
    let again = || StoreOptions { master_key: MasterKey::load(&path).unwrap(), ..options.clone() };
    let store = Store::open(options.clone()).await.unwrap();
    with_messages(&store, 1..=5).await;
    // A new key lies there, and nothing else has happened.
    let next = options.master_key.successor(None).unwrap().unwrap();
    end(store).await;
    let store = Store::open(again()).await.unwrap();
    assert!(!store.key_standing().await.unwrap().is_beside);
    all_opens(&store, 5, 5).await;
    let patient = |store: &Store, n| {
        let mut batch = CommitBatch::default();
        message(store, &mut batch, n);
        batch
    };
    let planned_before = patient(&store, 6);

    // The switch is made, and the file could not be put in its place.
    let aside = old_file(&path, by().at);
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    assert!(begin(&store, None).await.unwrap());
    std::fs::rename(folder.path().join("away"), &path).unwrap();
    assert!(store.key_standing().await.unwrap().is_beside && MasterKey::load(&path).unwrap().is_same(&options.master_key));
    assert_eq!(counts(&store).await, [0, 5, 0]);
    // What was planned with the old key is planned again; what is planned now is wrapped by the new one.
    assert!(matches!(store.commit(&planned_before).await, Err(CommitError::Conflict)));
    store.commit(&patient(&store, 6)).await.unwrap();
    assert_eq!(counts(&store).await, [1, 5, 0]);
    all_opens(&store, 6, 7).await;
    end(store).await;

    // Who only reads finds the new key beside the old one, and leaves it there.
    let reading = Store::open_read_only(again()).await.unwrap();
    assert!(reading.key_standing().await.unwrap().is_beside && reading.key_standing().await.unwrap().is_under_way);
    all_opens(&reading, 6, 7).await;
    end(reading).await;
    assert!(MasterKey::load(&path).unwrap().is_same(&options.master_key) && old_files(&path).is_empty());
    // Who opens it puts it in its place.
    let store = Store::open(again()).await.unwrap();
    assert!(MasterKey::load(&path).unwrap().is_same(&next) && MasterKey::load(&aside).unwrap().is_same(&options.master_key));
    end(store).await;
    assert!(matches!(Store::open(StoreOptions { master_key: first, ..options.clone() }).await, Err(StoreError::WrongKey)));
    // It goes on with what was begun, under the key that was begun with.
    let store = Store::open(again()).await.unwrap();
    assert!(!begin(&store, None).await.unwrap(), "one is under way");
    assert_eq!(counts(&store).await, [1, 5, 0]);
    let done = go_on(&store).await;
    assert_eq!((done.n_keys, done.n_unopened, done.is_done, done.since), (6, 0, true, Some(by().at)));
    assert_eq!(counts(&store).await, [6, 0, 0]);
    assert!(go_on(&store).await.is_done, "nothing is under way");
    all_opens(&store, 6, 8).await;
    let standing = store.key_standing().await.unwrap();
    assert_eq!((standing.n_before, standing.replaced, standing.is_under_way, standing.is_beside), (1, Some(by()), false, false));
    end(store).await;

    // None that the store had before.
    let store = Store::open(again()).await.unwrap();
    assert!(matches!(begin(&store, Some(&aside)).await, Err(RotationError::Same)));
    end(store).await;

    // A second one, to a file that is named.
    let named = folder.path().join("other.key");
    let store = Store::open(again()).await.unwrap();
    assert!(matches!(begin(&store, Some(&path)).await, Err(RotationError::Same)));
    assert!(matches!(begin(&store, Some(folder.path())).await, Err(RotationError::File(_))));
    assert!(begin(&store, Some(&named)).await.unwrap() && go_on(&store).await.is_done);
    with_messages(&store, 7..=7).await;
    assert_eq!(counts(&store).await, [7, 0, 0]);
    end(store).await;
    assert!(matches!(Store::open_read_only(again()).await, Err(StoreError::WrongKey)), "what stands in the old file opens nothing");
    let store = Store::open(StoreOptions { master_key: MasterKey::load(&named).unwrap(), ..options.clone() }).await.unwrap();
    assert_eq!(store.key_standing().await.unwrap().n_before, 2);
    all_opens(&store, 7, 11).await;
    end(store).await;
}

#[tokio::test]
async fn a_key_takes_the_place_of_another_whenever_that_is_interrupted() {
    let house = House::new();
    is_rotated_whenever_it_is_interrupted(house.options(KEY)).await;
}

#[tokio::test]
async fn a_key_takes_the_place_of_another_whenever_that_is_interrupted_on_postgres() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    is_rotated_whenever_it_is_interrupted(options).await;
}

/// How many of these keys stand in a file, as they are wrapped.
fn n_standing(file: &Path, wrapped: &[Vec<u8>]) -> usize {
    let bytes = std::fs::read(file).unwrap();
    wrapped.iter().filter(|key| bytes.windows(key.len()).any(|window| window == key.as_slice())).count()
}

async fn patients_keys(store: &Store) -> Vec<Vec<u8>> {
    store.patient_keys(0, 100).await.unwrap().into_iter().map(|(_, key)| key).collect()
}

/// Content that cannot be packed.
fn noise(n_bytes: usize) -> Document {
    let mut bytes = vec![0; n_bytes];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    Document::new(1, bytes)
}

#[tokio::test]
async fn what_the_old_key_wrapped_stands_in_the_file_no_more() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let (options, ..) = in_a_file(house.options(KEY), folder.path());
    let store = Store::open(options).await.unwrap();
    with_messages(&store, 1..=30).await;
    let mut wrapped = patients_keys(&store).await;
    let meta = store.wrapped_keys().await.unwrap();
    wrapped.extend([meta.own, meta.look_up]);
    store.shorten_log().await.unwrap();
    assert_eq!(n_standing(&house.path, &wrapped), 32);
    assert!(begin(&store, None).await.unwrap());
    wrapped.push(store.wrapped_keys().await.unwrap().before.unwrap());
    store.shorten_log().await.unwrap();
    assert_eq!(n_standing(&house.path, &wrapped), 31, "patients' keys, and the old key itself");
    assert!(go_on(&store).await.is_done);
    assert_eq!(n_standing(&house.path, &wrapped), 0);
    // Rows that grow are moved, and what is left of them on pages that were laid out anew goes when the whole file is.
    let found = store.find(&FindRequest { patients: (1..=30).collect(), ..FindRequest::default() }).await.unwrap();
    let grown = |version: i64, row: &StoredPatient| PatientRow {
        id: row.id,
        version,
        absorbed_into: None,
        key: row.key.clone(),
        doc: noise(usize::try_from(version * row.id % 7 * 200).unwrap()),
    };
    for version in 2..=6 {
        let patients = found.patients.iter().map(|row| grown(version, row)).collect();
        store.commit(&CommitBatch { patients, ..CommitBatch::default() }).await.unwrap();
    }
    let wrapped = patients_keys(&store).await;
    let later = Replaced { at: at(7), ..by() };
    assert!(store.begin_rotation(None, &later, viewing(1)).await.unwrap() && go_on(&store).await.is_done);
    end(store).await;
    house.tamper("VACUUM").await;
    house.tamper("PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert_eq!(n_standing(&house.path, &wrapped), 0);
}

#[tokio::test]
async fn what_somebody_keeps_in_the_file_by_reading_on_and_on_is_told_of_and_goes_when_they_end() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let (options, ..) = in_a_file(house.options(KEY), folder.path());
    let store = Store::open(options).await.unwrap();
    with_messages(&store, 1..=5).await;
    store.shorten_log().await.unwrap();
    let wrapped = patients_keys(&store).await;
    let is_standing = || n_standing(&house.path, &wrapped) > 0;
    let reader = rusqlite::Connection::open(&house.path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM patients").unwrap();
    assert!(begin(&store, None).await.unwrap());
    let done = go_on(&store).await;
    assert!(done.is_done && done.is_in_file && is_standing());
    assert!(go_on(&store).await.is_in_file, "whoever asks again is told so");
    reader.execute_batch("END").unwrap();
    for n in 6..2000 {
        if !is_standing() {
            break;
        }
        with_messages(&store, n..=n).await;
    }
    assert!(!is_standing(), "it goes behind later commits");
    // Or when it is asked for again.
    reader.execute_batch("BEGIN; SELECT * FROM patients").unwrap();
    let later = Replaced { at: at(7), ..by() };
    assert!(store.begin_rotation(None, &later, viewing(1)).await.unwrap());
    while !go_on(&store).await.is_done {}
    assert!(go_on(&store).await.is_in_file);
    reader.execute_batch("END").unwrap();
    assert!(!go_on(&store).await.is_in_file);
    end(store).await;
}

#[tokio::test]
async fn a_key_that_cannot_be_opened_is_in_the_way_of_no_other() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let (options, ..) = in_a_file(house.options(KEY), folder.path());
    let store = Store::open(options).await.unwrap();
    with_messages(&store, 1..=3).await;
    house.tamper("UPDATE patients SET data_key = zeroblob(70) WHERE id = 2").await;
    house.tamper("UPDATE patients SET data_key = x'01' WHERE id = 3").await;
    assert!(begin(&store, None).await.unwrap());
    let done = go_on(&store).await;
    assert_eq!((done.n_keys, done.n_unopened, done.is_done), (3, 2, true));
    assert_eq!(counts(&store).await, [1, 0, 2]);
    end(store).await;
}

#[tokio::test]
async fn a_full_disk_leaves_one_key_that_opens_the_store() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let (options, path, _) = in_a_file(house.options(KEY), folder.path());
    let again = || StoreOptions { master_key: MasterKey::load(&path).unwrap(), ..options.clone() };
    let store = Store::open(options.clone()).await.unwrap();
    with_messages(&store, 1..=5).await;
    let Backend::Sqlite(backend) = &store.backend else { panic!("a SQLite store") };
    // An order as long as this needs pages that there are not.
    let long = || AuditRow { body: noise(1 << 16), ..viewing(1) };
    backend.limit_pages(true).await;
    assert!(matches!(store.begin_rotation(None, &by(), long()).await, Err(RotationError::Store(StoreError::Full { .. }))));
    assert!(!store.key_standing().await.unwrap().is_under_way && MasterKey::load(&path).unwrap().is_same(&options.master_key));
    with_room(backend, &store, 6).await;
    assert!(begin(&store, None).await.unwrap());
    backend.limit_pages(true).await;
    assert!(matches!(store.go_on_rotating(long()).await, Err(RotationError::Store(StoreError::Full { .. }))));
    assert!(store.key_standing().await.unwrap().is_under_way);
    with_room(backend, &store, 7).await;
    assert_eq!(counts(&store).await, [1, 6, 0]);
    end(store).await;
    let store = Store::open(again()).await.unwrap();
    assert!(go_on(&store).await.is_done);
    all_opens(&store, 7, 9).await;
    end(store).await;
}

/// There is space again.
async fn with_room(backend: &SqliteBackend, store: &Store, n: i64) {
    backend.limit_pages(false).await;
    with_messages(store, n..=n).await;
}

#[tokio::test]
async fn nobody_on_a_shared_database_writes_a_key_that_the_old_master_key_wraps() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (options, ..) = in_a_file(options, folder.path());
    let rotating = Store::open(options.clone()).await.unwrap();
    let other = Store::open(StoreOptions { daemon: 4, ..options.clone() }).await.unwrap();
    with_messages(&other, 1..=3).await;
    other.share(Work::Wake).await.unwrap();
    assert!(matches!(begin(&rotating, None).await, Err(RotationError::Shared { n: 1 })));
    other.give_up(Work::Wake).await.unwrap();

    // As many as can while the key is replaced; with an audit row in the same commit, and without.
    let n_taken = std::sync::atomic::AtomicI64::new(0);
    let add = async |numbers: std::ops::Range<i64>, has_audit: bool| {
        for n in numbers {
            let mut batch = CommitBatch::default();
            message(&other, &mut batch, n);
            if !has_audit {
                batch.audit.clear();
            }
            match other.commit(&batch).await {
                Ok(()) => n_taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
                Err(CommitError::Store(StoreError::KeyReplaced)) => return,
                Err(error) => panic!("{error}"),
            };
        }
        panic!("it was never told that the key is another");
    };
    let rotate = async {
        while n_taken.load(std::sync::atomic::Ordering::SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
        assert!(begin(&rotating, None).await.unwrap());
        while !go_on(&rotating).await.is_done {}
    };
    tokio::join!(add(1000..100_000, true), add(200_000..300_000, false), rotate);
    let n_taken = usize::try_from(n_taken.into_inner()).unwrap();
    assert_eq!(counts(&rotating).await, [3 + n_taken, 0, 0], "nothing that it wrote is lost, and nothing is wrapped by the old key");
    // It reads no key that was wrapped since, and says so; a conflict would be tried again for ever.
    let found = other.find(&FindRequest { patients: vec![1], ..FindRequest::default() }).await;
    assert!(matches!(found, Err(StoreError::KeyReplaced)));
    assert!(matches!(begin(&other, None).await, Err(RotationError::Store(_))));
    for store in [rotating, other] {
        end(store).await;
    }
    let store = Store::open(StoreOptions { master_key: MasterKey::load(&folder.path().join("wardroom.key")).unwrap(), ..options }).await.unwrap();
    assert!(!store.key_standing().await.unwrap().is_under_way);
    end(store).await;
}
