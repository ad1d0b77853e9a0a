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
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::master_key::MasterKey;
use crate::store::master_key::old_file;
use crate::store::master_key::old_files;
use crate::store::rotation::KeyCounts;
use crate::store::rotation::Progress;
use crate::store::rotation::RotationError;
use crate::store::rows::CommitBatch;
use crate::store::rows::FindRequest;
use crate::store::sealing::Replaced;

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
