use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Recent;
use crate::adt::profile::Profile;
use crate::care::brake::Brake;
use crate::care::policy::Policy;
use crate::directory::Snapshot;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::intake::batch;
use crate::intake::batch::BatchContext;
use crate::intake::batch::Work;
use crate::intake::look_ups::LookUps;
use crate::intake::read::Arrived;
use crate::intake::read::read;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::form::Stored as _;
use crate::store::form::VisitDocument;
use crate::store::master_key::MasterKey;
use crate::time::Timestamp;

/// What became of a visit: its numbers, its row's status, and of each room the version and everything but its own name.
type Ended = (Vec<String>, String, Vec<Option<(u64, String)>>);

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Every message of the fixtures, in batches of `size`, and how many statements that took.
async fn walk(is_kept: bool, size: usize) -> (Vec<Ended>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let master_key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let store = Store::open(StoreOptions { url: url.into(), master_key, readers: 1, daemon: 1 }).await.unwrap();
    let (ids, look_ups, policy, profile) = (IdSource::new(1), LookUps::of(store.clone()), Policy::default(), Profile::default());
    let directory = Snapshot { revision: 1, fingerprint: [0; 32], files: Arc::default(), said: Arc::default(), roster: Arc::default() };
    let mut recent = Recent::new(is_kept);
    let now = Timestamp::from_micros(1_795_300_000_000_000);
    for paths in files(Path::new("fixtures/messages")).chunks(size) {
        let mut work = Work::default();
        for path in paths {
            let arrived = Arrived { journal: JournalId(ids.next(now)), at: now, is_retry: false };
            let read = read(std::fs::read(path).unwrap().into(), &profile, arrived, &look_ups);
            if !read.is_ack {
                work.messages.push(Arc::new(read.incoming));
            }
        }
        let context =
            BatchContext { store: &store, ids: &ids, look_ups: &look_ups, policy: &policy, directory: &directory, now, brake: &Brake::RELEASED };
        batch::run(&context, &mut recent, &work).await.unwrap();
    }
    let n_statements = store.n_statements();
    let visits = store.rooms_page(i64::MIN, 10_000).await.unwrap().found.visits;
    let mut all: Vec<Ended> = Vec::new();
    for visit in visits {
        let document = VisitDocument::read(&visit.doc).unwrap();
        let numbers = document.state.ids().iter().map(|id| id.0.value.as_str().to_owned()).collect();
        let rooms = document.rooms.iter().map(|slot| {
            let room = slot.published.as_ref()?;
            let users: Vec<&str> = room.state.members.iter().map(|member| member.user.as_str()).collect();
            let place = room.state.location.as_ref().map(|shown| shown.place.bed.clone());
            Some((room.version, format!("{:?} {users:?} {place:?} {}", room.state.status, room.state.unresolved.len())))
        });
        all.push((numbers, visit.status, rooms.collect()));
    }
    all.sort();
    store.close().await;
    (all, n_statements)
}

#[tokio::test]
async fn what_is_kept_in_memory_changes_nothing_but_the_cost() {
    let (kept, n_kept) = walk(true, 3).await;
    let (read, n_read) = walk(false, 3).await;
    assert!(kept.len() > 5, "the fixtures have several visits: {}", kept.len());
    assert_eq!(kept, read);
    assert!(n_kept < n_read, "{n_kept} statements with what is kept, {n_read} without");
}
