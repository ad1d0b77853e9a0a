//! Work shared out among daemons on one PostgreSQL database, and a database brought up to date under a daemon that works.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::at;
use super::message;
use super::on_a_new_postgres_database;
use super::with_messages;
use crate::store::Backend;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::lease::PARTS;
use crate::store::lease::Share;
use crate::store::lease::Work;
use crate::store::postgres::PostgresBackend;
use crate::store::postgres_sql;
use crate::store::rows::CommitBatch;
use crate::store::sql;

const LONG: Duration = Duration::from_mins(10);

fn backend(store: &Store) -> &PostgresBackend {
    let Backend::Postgres(backend) = &store.backend else { panic!("a PostgreSQL store") };
    backend
}

async fn lease(store: &Store, holder: u128, lasts: Duration) -> BTreeMap<i16, i64> {
    backend(store).lease("publish", Uuid::from_u128(holder), lasts).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn parts_are_shared_out_fairly_and_taken_up_when_a_holder_is_gone() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    let all: BTreeSet<i16> = (0..PARTS).collect();
    let first = lease(&store, 1, LONG).await;
    assert_eq!(first.keys().copied().collect::<BTreeSet<_>>(), all);
    assert_eq!(lease(&store, 1, LONG).await, first, "who renews keeps the epoch");
    assert!(lease(&store, 2, LONG).await.is_empty(), "nothing is free yet");
    let half = lease(&store, 1, LONG).await;
    assert_eq!(half.len(), 8, "it gives up what is more than its share");
    let other = lease(&store, 2, LONG).await;
    assert_eq!(half.keys().chain(other.keys()).copied().collect::<BTreeSet<_>>(), all);
    assert!(other.values().all(|epoch| *epoch == 2), "what changed hands has another epoch: {other:?}");
    // One renews for no time at all: it is dead from then on.
    lease(&store, 2, Duration::ZERO).await;
    let whole = lease(&store, 1, LONG).await;
    assert_eq!(whole.keys().copied().collect::<BTreeSet<_>>(), all);
    assert!(half.iter().all(|(part, epoch)| whole.get(part) == Some(epoch)), "what it kept keeps its epoch");
    assert!(other.keys().all(|part| whole[part] == 3));
    backend(&store).give_up("publish", Uuid::from_u128(1)).await.unwrap();
    assert_eq!(lease(&store, 3, LONG).await.len(), 16, "what was given up is free at once");
    store.close().await;
}

#[tokio::test]
async fn however_many_ask_at_once_no_part_has_two_holders() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    let mut held: BTreeMap<u128, BTreeMap<i16, i64>> = BTreeMap::new();
    for round in 0..12 {
        let asking = (1..=5_u128).map(|holder| {
            let store = &store;
            async move { (holder, lease(store, holder, LONG).await) }
        });
        held = futures_util::future::join_all(asking).await.into_iter().collect();
        let parts: Vec<i16> = held.values().flat_map(BTreeMap::keys).copied().collect();
        assert_eq!(parts.iter().collect::<BTreeSet<_>>().len(), parts.len(), "round {round}: {held:?}");
    }
    let mut shares: Vec<usize> = held.values().map(BTreeMap::len).collect();
    shares.sort_unstable();
    assert_eq!(shares.iter().sum::<usize>(), 16, "{shares:?}");
    assert!(shares.iter().all(|n| *n <= 4), "no share is more than fair: {shares:?}");
    store.close().await;
}

#[tokio::test]
async fn two_shares_are_all_events_and_all_wakes_and_nothing_twice() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let one = Store::open(options.clone()).await.unwrap();
    let other = Store::open(StoreOptions { daemon: 4, ..options }).await.unwrap();
    with_messages(&one, 1..=64).await;
    // Rooms and patients of these messages are numbered, so one share of each follows from the number.
    for work in [Work::Publish, Work::Wake] {
        one.share(work).await.unwrap();
        other.share(work).await.unwrap();
    }
    let mut seqs = Vec::new();
    let mut visits = Vec::new();
    for store in [&one, &other] {
        let (publish, wake) = (store.share(Work::Publish).await.unwrap(), store.share(Work::Wake).await.unwrap());
        assert!(publish.holds() && publish.renew_in().is_some());
        let pending: Vec<i64> = store.pending_share(1000, &publish).await.unwrap().iter().map(|row| row.seq).collect();
        assert!(pending.is_sorted());
        seqs.extend(pending);
        visits.extend(store.due_wakes(at(1_000_000), 1000, &wake).await.unwrap().iter().map(|(visit, _)| *visit));
        let next = store.next_wake(&wake).await.unwrap();
        assert_eq!(next.is_some(), !store.due_wakes(at(1_000_000), 1, &wake).await.unwrap().is_empty());
    }
    seqs.sort_unstable();
    visits.sort_unstable();
    let all_seqs: Vec<i64> = one.pending_outbox(1000, None).await.unwrap().iter().map(|row| row.seq).collect();
    let mut all_visits: Vec<i64> = one.due_wakes(at(1_000_000), 1000, &Share::All).await.unwrap().iter().map(|(visit, _)| *visit).collect();
    all_visits.sort_unstable();
    assert!(!all_seqs.is_empty() && !all_visits.is_empty());
    assert_eq!((seqs, visits), (all_seqs, all_visits));
}

#[tokio::test]
async fn what_waits_for_others_is_in_nobodys_way() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    with_messages(&store, 1..=64).await;
    let explain = format!("EXPLAIN (ANALYZE) {}", postgres_sql::OUTBOX_PENDING_OF);
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).bind(1000_i64).bind(vec![3_i16, 7]).bind(1000_i64);
    let plan: Vec<String> = query.fetch_all(&backend(&store).readers).await.unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("Index Scan using ix_outbox_part") && !plan.contains("Removed by Filter"), "{plan}");
}

#[tokio::test]
async fn a_share_is_read_to_its_end_however_unevenly_it_waits() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    // Nearly all of one part: the last byte of a room is its number.
    for of_a_part in 0..150 {
        with_messages(&store, of_a_part * 16 + 3..=of_a_part * 16 + 3).await;
    }
    with_messages(&store, 5..=5).await;
    let all: Vec<i64> = store.pending_outbox(1000, None).await.unwrap().iter().map(|row| row.seq).collect();
    assert_eq!(all.len(), 151);
    let (most, whole): (Vec<i16>, Vec<i16>) = ((0..PARTS - 1).collect(), (0..PARTS).collect());
    for limit in [1, 100, 150, 151, 152, 300, 1000] {
        for parts in [&most, &whole] {
            let found: Vec<i64> = backend(&store).pending_of(limit, parts).await.unwrap().iter().map(|row| row.0).collect();
            assert_eq!(found, all.iter().copied().take(usize::try_from(limit).unwrap()).collect::<Vec<_>>(), "the first {limit}");
        }
    }
}

#[tokio::test]
async fn a_database_of_the_scheme_before_is_brought_up_to_date_while_a_daemon_works_on_it() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    // Made and used by a daemon that knows all but the last migration.
    let url = secrecy::ExposeSecret::expose_secret(&options.url).to_owned();
    let before = PostgresBackend::open_beside(&url, 2).unwrap();
    let (_, earlier) = sql::POSTGRES_MIGRATIONS.split_last().unwrap();
    sql::migrator(earlier).run_direct(None, &mut *before.readers.acquire().await.unwrap(), false).await.unwrap();
    let made = crate::store::sealing::Keys::generate(&options.master_key).unwrap();
    for (key, value) in [("key/own", made.own), ("key/look_up", made.look_up)] {
        sqlx::query(sql::META_KEEP).bind(key).bind(value).execute(&before.readers).await.unwrap();
    }
    before.close().await;
    let old = Store { only_audit: false, lane: 5, ..Store::open_beside(options.clone()).await.unwrap() };
    with_messages(&old, 1..=5).await;
    // It goes on while another brings the scheme up to date, and afterwards.
    let works = async {
        for n in 6..=40 {
            with_messages(&old, n..=n).await;
        }
    };
    let (new, ()) = tokio::join!(Store::open(options), works);
    let new = new.unwrap();
    let mut batch = CommitBatch::default();
    message(&new, &mut batch, 41);
    new.commit(&batch).await.unwrap();
    with_messages(&old, 42..=43).await;
    let settled: Vec<i64> = old.pending_outbox(3, None).await.unwrap().iter().map(|row| row.seq).collect();
    old.settle_outbox(&settled).await.unwrap();
    assert_eq!(new.share(Work::Publish).await.unwrap().renew_in().map(|renewal| renewal.is_zero()), Some(false));
    assert_eq!(new.pending_outbox(1000, None).await.unwrap().len(), 40);
    assert_eq!(new.journal_counts(crate::ids::JournalId(0)).await.unwrap().iter().map(|(.., n)| n).sum::<i64>(), 43);
}
