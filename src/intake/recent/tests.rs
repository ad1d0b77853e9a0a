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
use crate::intake::batch::Ahead;
use crate::intake::batch::BatchContext;
use crate::intake::batch::Work;
use crate::intake::law::spoken::messages;
use crate::intake::look_ups::LookUps;
use crate::intake::read::Arrived;
use crate::intake::read::read;
use crate::random::Random;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::error::CommitError;
use crate::store::form::Stored as _;
use crate::store::form::VisitDocument;
use crate::store::master_key::MasterKey;
use crate::store::rows::CommitBatch;
use crate::store::rows::Disposition;
use crate::store::tests::on_a_new_postgres_database;
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

async fn store(folder: &Path) -> Store {
    let url = format!("sqlite:{}", folder.join("store.db").display());
    let master_key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    Store::open(StoreOptions { url: url.into(), master_key, readers: 1, daemon: 1 }).await.unwrap()
}

/// How batches are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// Everything is read from the store.
    Read,
    /// What was used last is in memory.
    Kept,
    /// That too, and each batch is planned before the one before it is committed.
    Ahead,
}

/// Every message of the fixtures, in batches of `size`, and how many statements that took and how many batches were planned ahead.
async fn walk(way: Way, size: usize) -> (Vec<Ended>, u64, usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let (ids, look_ups, policy, profile) = (IdSource::new(1), LookUps::of(store.clone()), Policy::default(), Profile::default());
    let directory = Snapshot { revision: 1, fingerprint: [0; 32], files: Arc::default(), said: Arc::default(), roster: Arc::default() };
    let mut recent = Recent::new(true);
    let mut flight: Option<(Ahead, CommitBatch, Work)> = None;
    let mut n_ahead = 0;
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
        if way == Way::Read {
            recent.forget();
        }
        let before: Vec<&Ahead> = flight.iter().map(|(ahead, ..)| ahead).collect();
        let mut planned = if way == Way::Ahead { batch::plan_ahead(&context, &mut recent, &work, &before, size > 1).await.unwrap() } else { None };
        if let Some((_, batch, before)) = flight.take()
            && store.begin(vec![store.seal(batch).unwrap()]).await.is_err()
        {
            // As the daemon does it: one of its messages was not new.
            recent.forget();
            planned = None;
            batch::run(&context, &mut recent, &before).await.unwrap();
        }
        match planned {
            Some(planned) => {
                n_ahead += 1;
                flight = Some((planned.ahead, planned.batch, work));
            }
            None => drop(batch::run(&context, &mut recent, &work).await.unwrap()),
        }
    }
    if let Some((_, batch, _)) = flight.take() {
        store.begin(vec![store.seal(batch).unwrap()]).await.unwrap();
    }
    let (n_statements, all) = (store.n_statements(), ended(&store).await);
    store.close().await;
    (all, n_statements, n_ahead)
}

/// What became of all visits.
async fn ended(store: &Store) -> Vec<Ended> {
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
    all
}

#[tokio::test]
async fn what_is_kept_in_memory_changes_nothing_but_the_cost() {
    let (kept, n_kept, _) = walk(Way::Kept, 3).await;
    let (read, n_read, _) = walk(Way::Read, 3).await;
    assert!(kept.len() > 5, "the fixtures have several visits: {}", kept.len());
    assert_eq!(kept, read);
    assert!(n_kept < n_read, "{n_kept} statements with what is kept, {n_read} without");
}

#[tokio::test]
async fn what_is_planned_while_the_batch_before_is_committed_comes_out_the_same() {
    for size in [1, 3] {
        let (ahead, _, n_ahead) = walk(Way::Ahead, size).await;
        let (read, _, _) = walk(Way::Read, size).await;
        assert_eq!(ahead, read);
        assert!(n_ahead > 10, "most batches can be planned ahead: {n_ahead}");
    }
}

#[tokio::test]
async fn what_was_planned_on_a_batch_that_was_not_committed_cannot_be_committed_and_a_repeat_is_known_before_its_first_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let (ids, look_ups, policy, profile) = (IdSource::new(1), LookUps::of(store.clone()), Policy::default(), Profile::default());
    let directory = Snapshot { revision: 1, fingerprint: [0; 32], files: Arc::default(), said: Arc::default(), roster: Arc::default() };
    let now = Timestamp::from_micros(1_795_300_000_000_000);
    let context =
        BatchContext { store: &store, ids: &ids, look_ups: &look_ups, policy: &policy, directory: &directory, now, brake: &Brake::RELEASED };
    let work = |trigger: &str, second: u32| {
        let text = format!(
            "MSH|^~\\&|EMR|GHH|W|GHH|202611210101{second:02}||ADT^{trigger}|C{second}|P|2.5.1\rEVN|{trigger}|202611210101{second:02}\r\
             PID|1||410003^^^GHH^MR||SMITH^JANE\rPV1|1|I|4N^{second}^A^GHH||||||||||||||||V1^^^GHH^VN\r"
        );
        let arrived = Arrived { journal: JournalId(ids.next(now)), at: now, is_retry: false };
        Work { messages: vec![Arc::new(read(text.into(), &profile, arrived, &look_ups).incoming)], ..Work::default() }
    };
    let mut recent = Recent::new(true);
    let first = batch::plan_ahead(&context, &mut recent, &work("A01", 1), &[], false).await.unwrap().unwrap();
    let repeat = batch::plan_ahead(&context, &mut recent, &work("A01", 1), &[&first.ahead], false).await.unwrap().unwrap();
    assert_eq!(repeat.done.verdicts[0].disposition, Disposition::Duplicate);
    let second = batch::plan_ahead(&context, &mut recent, &work("A02", 2), &[&first.ahead], false).await.unwrap().unwrap();
    assert!(matches!(store.begin(vec![store.seal(second.batch).unwrap()]).await, Err(CommitError::Conflict)), "the visit it moves is not there");
    recent.forget();
    let again = batch::plan_ahead(&context, &mut recent, &work("A02", 2), &[], false).await.unwrap().unwrap();
    store.begin(vec![store.seal(again.batch).unwrap()]).await.unwrap();
    assert!(
        matches!(store.begin(vec![store.seal(first.batch).unwrap()]).await, Err(CommitError::Conflict)),
        "its visit was made by another meanwhile"
    );
}

/// Tells a history to these stores in turn, by chance; each remembers what it used last, where it may.
async fn tell(seed: u64, stores: &[Store], remember: bool) -> (Vec<Ended>, usize) {
    let (messages, now) = messages(seed);
    let (policy, profile) = (Policy::default(), Profile::default());
    let directory = Snapshot { revision: 1, fingerprint: [0; 32], files: Arc::default(), said: Arc::default(), roster: Arc::default() };
    let mut daemons: Vec<_> =
        stores.iter().zip(1..).map(|(store, n)| (store, IdSource::new(n), LookUps::of(store.clone()), Recent::new(store.is_ours_alone()))).collect();
    let (mut random, mut n_wrong) = (Random::new(seed), 0);
    for message in messages {
        let at = random.below(daemons.len());
        let (store, ids, look_ups, recent) = &mut daemons[at];
        let context = BatchContext { store, ids, look_ups, policy: &policy, directory: &directory, now, brake: &Brake::RELEASED };
        let arrived = Arrived { journal: JournalId(ids.next(now)), at: now, is_retry: false };
        let work = Work { messages: vec![Arc::new(read(message, &profile, arrived, look_ups).incoming)], ..Work::default() };
        let planned = if remember { batch::plan_ahead(&context, recent, &work, &[], false).await.unwrap() } else { None };
        let is_done = match planned {
            Some(planned) => match store.begin(vec![store.seal(planned.batch).unwrap()]).await {
                Ok(_) => true,
                Err(CommitError::Conflict) => {
                    // As the daemon does it, but that it goes on remembering.
                    *recent = Recent::new(false);
                    n_wrong += 1;
                    false
                }
                Err(error) => panic!("{error}"),
            },
            None => false,
        };
        if !is_done {
            if !remember {
                recent.forget();
            }
            batch::run(&context, recent, &work).await.unwrap();
        }
    }
    (ended(&stores[0]).await, n_wrong)
}

#[tokio::test]
async fn what_another_daemon_has_changed_meanwhile_is_never_planned_with() {
    let mut n_wrong = 0;
    for seed in 1..=24 {
        let Some(options) = on_a_new_postgres_database().await else { return };
        let both = [Store::open(options.clone()).await.unwrap(), Store::open(StoreOptions { daemon: 4, ..options }).await.unwrap()];
        let (shared, n) = tell(seed, &both, true).await;
        n_wrong += n;
        let folder = tempfile::tempdir().unwrap();
        let alone = store(folder.path()).await;
        let (read, _) = tell(seed, std::slice::from_ref(&alone), false).await;
        assert_eq!(shared, read, "history {seed}");
        for store in both.iter().chain([&alone]) {
            store.close().await;
        }
    }
    assert!(n_wrong > 24, "what is remembered must be wrong now and then: {n_wrong}");
}

#[tokio::test]
async fn a_visit_or_a_number_that_another_daemon_has_added_refuses_what_was_planned_without_it() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let (one, other) = (Store::open(options.clone()).await.unwrap(), Store::open(StoreOptions { daemon: 4, ..options }).await.unwrap());
    let now = Timestamp::from_micros(1_795_300_000_000_000);
    let (policy, profile, brake) = (Policy::default(), Profile::default(), Brake::RELEASED);
    let directory = Snapshot { revision: 1, fingerprint: [0; 32], files: Arc::default(), said: Arc::default(), roster: Arc::default() };
    let (one_ids, other_ids) = (IdSource::new(1), IdSource::new(4));
    let (one_look_ups, other_look_ups) = (LookUps::of(one.clone()), LookUps::of(other.clone()));
    let context = |store, ids, look_ups| BatchContext { store, ids, look_ups, policy: &policy, directory: &directory, now, brake: &brake };
    let here = context(&one, &one_ids, &one_look_ups);
    let there = context(&other, &other_ids, &other_look_ups);
    let work = |context: &BatchContext<'_>, trigger: &str, time: &str, patient: &str, account: &str, visit: &str| {
        let text = format!(
            "MSH|^~\\&|EMR|GHH|W|GHH|20261121{time}||ADT^{trigger}|C{time}|P|2.5.1\rEVN|{trigger}|20261121{time}\r\
             PID|1||{patient}^^^GHH^MR||SMITH^JANE|||||||||||||{account}\rPV1|1|I|4N^1^A^GHH||||||||||||||||{visit}\r"
        );
        let arrived = Arrived { journal: JournalId(context.ids.next(now)), at: now, is_retry: false };
        Work { messages: vec![Arc::new(read(text.into(), &profile, arrived, context.look_ups).incoming)], ..Work::default() }
    };
    // The other daemon hears of an earlier stay of this patient; and that the account of that one is also a stranger's.
    for (patient, account, added, spoken_of) in
        [("1", "", ("1", "", "V2^^^GHH^VN"), ("1", "", "")), ("5", "X^^^GHH^AN", ("6", "X^^^GHH^AN", "V6^^^GHH^VN"), ("5", "X^^^GHH^AN", ""))]
    {
        let mut recent = Recent::new(false);
        batch::run(&here, &mut recent, &work(&here, "A01", "1000", patient, account, &format!("V{patient}^^^GHH^VN"))).await.unwrap();
        batch::run(&there, &mut Recent::new(false), &work(&there, "A01", "0900", added.0, added.1, added.2)).await.unwrap();
        let late = work(&here, "A08", "1005", spoken_of.0, spoken_of.1, spoken_of.2);
        let planned = batch::plan_ahead(&here, &mut recent, &late, &[], false).await.unwrap().unwrap();
        assert!(matches!(one.begin(vec![one.seal(planned.batch).unwrap()]).await, Err(CommitError::Conflict)), "of patient {patient}");
    }
}
