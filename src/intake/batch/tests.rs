use std::sync::Arc;

use crate::adt::profile::Profile;
use crate::care::brake::Brake;
use crate::care::policy::Policy;
use crate::directory::Snapshot;
use crate::ids::CareRoomId;
use crate::ids::IdSource;
use crate::ids::JournalId;
use crate::intake::batch;
use crate::intake::batch::BatchContext;
use crate::intake::batch::Done;
use crate::intake::batch::Work;
use crate::intake::look_ups::LookUps;
use crate::intake::read::Arrived;
use crate::intake::read::read;
use crate::intake::recent::Recent;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::form::Stored as _;
use crate::store::form::VisitDocument;
use crate::store::master_key::MasterKey;
use crate::store::rows::Disposition;
use crate::time::Timestamp;

/// A message by its trigger, the minute in which it was recorded, and PID-18, MRG-3, PV1-2, PV1-5 and PV1-19.
type Said<'a> = (&'a str, u32, [&'a str; 5]);

/// A new store, and what its batches are planned with.
struct House {
    folder: tempfile::TempDir,
    store: Store,
    ids: IdSource,
    look_ups: LookUps,
    recent: Recent,
}

impl House {
    const NOW: Timestamp = Timestamp::from_micros(1_795_300_000_000_000);

    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let master_key = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let store = Store::open(StoreOptions { url: url.into(), master_key, readers: 1, daemon: 1 }).await.unwrap();
        let look_ups = LookUps::of(store.clone());
        Self { folder, store, ids: IdSource::new(1), look_ups, recent: Recent::new(true) }
    }

    /// Commits messages in one batch.
    async fn commit(&mut self, texts: impl IntoIterator<Item = String>) -> Done {
        let message = |text: String| {
            let arrived = Arrived { journal: JournalId(self.ids.next(Self::NOW)), at: Self::NOW, is_retry: false };
            Arc::new(read(text.into(), &Profile::default(), arrived, &self.look_ups).incoming)
        };
        let work = Work { messages: texts.into_iter().map(message).collect(), ..Work::default() };
        let directory = Snapshot { revision: 1, fingerprint: [0; 32], files: Arc::default(), said: Arc::default(), roster: Arc::default() };
        let (store, ids, look_ups, policy) = (&self.store, &self.ids, &self.look_ups, &Policy::default());
        let context = BatchContext { store, ids, look_ups, policy, directory: &directory, now: Self::NOW, brake: &Brake::RELEASED };
        batch::run(&context, &mut self.recent, &work).await.unwrap()
    }

    async fn close(self) {
        self.store.close().await;
        self.folder.close().unwrap();
    }
}

/// Commits messages, each in a batch of its own; gives back the rooms that stand after each: the number, the id and the version.
async fn take(messages: &[Said<'_>]) -> Vec<Vec<(String, CareRoomId, u64)>> {
    let mut house = House::new().await;
    let mut standing = Vec::new();
    for (trigger, minute, [account, left, class, preadmit, number]) in messages {
        let text = format!(
            "MSH|^~\\&|EMR|GHH|W|GHH|2026112101{minute:02}00||ADT^{trigger}|C{minute}|P|2.5.1\rEVN|{trigger}|2026112101{minute:02}00\r\
             PID|1||410003^^^GHH^MR||SMITH^JANE|||||||||||||{account}\rMRG|410003^^^GHH^MR||{left}\r\
             PV1|1|{class}|4N^1^A^GHH||{preadmit}||||||||||||||{number}\r"
        );
        let done = house.commit([text]).await;
        assert_eq!(done.verdicts[0].disposition, Disposition::Applied, "{trigger} {minute}");
        let mut rooms = Vec::new();
        for visit in house.store.rooms_page(i64::MIN, 100).await.unwrap().found.visits {
            let document = VisitDocument::read(&visit.doc).unwrap();
            let open = document.rooms.iter().filter_map(|slot| slot.published.as_ref()).filter(|room| room.state.status.is_open());
            rooms.extend(open.map(|room| (room.state.visit.id.0.value.as_str().to_owned(), room.id, room.version)));
        }
        standing.push(rooms);
    }
    house.close().await;
    standing
}

#[tokio::test]
async fn a_room_goes_over_to_another_row_of_its_stay_whichever_row_is_older() {
    let numbers_change = ("A06", 30, ["B", "A", "O", "", "NEW"]);
    let told: [&[Said<'_>]; 4] = [
        // The old number is heard of first, and the other way round, where only a later word tells the account.
        &[("A04", 10, ["A", "", "E", "", "OLD"]), numbers_change],
        &[numbers_change, ("A04", 10, ["", "", "E", "", "OLD"]), ("A08", 20, ["A", "", "E", "", "OLD"])],
        // A pre-admit number that had a room, and one that had none.
        &[("A01", 10, ["", "", "I", "", "OLD"]), ("A08", 20, ["", "", "O", "", "NEW"]), ("A08", 30, ["", "", "O", "OLD", "NEW"])],
        &[("A08", 10, ["", "", "O", "", "NEW"]), ("A01", 20, ["", "", "I", "", "OLD"]), ("A08", 30, ["", "", "O", "OLD", "NEW"])],
    ];
    for messages in told {
        let rooms = take(messages).await;
        let (last, before) = rooms.split_last().unwrap();
        let [(number, id, version)] = &last[..] else { panic!("{rooms:?}") };
        let (_, first, opened) = before.iter().flatten().next().unwrap();
        assert!(number == "NEW" && id == first && version > opened, "{rooms:?}");
    }
}

/// The statements of a batch that brings an earlier word about each of so many visits.
async fn cost_of_late_words(n_visits: usize) -> u64 {
    let mut house = House::new().await;
    let mut cost = 0;
    for (trigger, minute) in [("A01", 10), ("A02", 40), ("A08", 20)] {
        let text = |n: usize| {
            format!(
                "MSH|^~\\&|EMR|GHH|W|GHH|2026112101{minute}00||ADT^{trigger}|{trigger}{n}|P|2.5.1\rEVN|{trigger}|2026112101{minute}00\r\
                 PID|1||{n}^^^GHH^MR||SMITH^JANE\rPV1|1|I|4N^{minute}^A^GHH||||||||||||||||V{n}^^^GHH^VN\r"
            )
        };
        let before = house.store.n_statements();
        house.commit((0..n_visits).map(text)).await;
        cost = house.store.n_statements() - before;
    }
    house.close().await;
    cost
}

#[tokio::test]
async fn a_batch_of_late_words_does_not_start_over_for_each_visit() {
    let few = cost_of_late_words(3).await;
    let many = cost_of_late_words(40).await;
    assert!(many <= few, "{many} statements for 40 visits, {few} for 3");
}
