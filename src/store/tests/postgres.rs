//! What only a PostgreSQL server can do wrong: plan a statement, end a connection, be asked too often, be shared.

use super::OTHER_KEY;
use super::audit;
use super::message;
use super::on_a_new_postgres_database;
use super::viewing;
use super::with_messages;
use crate::ids::JournalId;
use crate::store::Backend;
use crate::store::Store;
use crate::store::StoreOptions;
use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::ledger;
use crate::store::look_up::LookUpKind;
use crate::store::master_key::MasterKey;
use crate::store::postgres_sql;
use crate::store::rows::CommitBatch;
use crate::store::rows::FindRequest;
use crate::store::sql;

#[tokio::test]
async fn a_wrong_key_is_told_every_statement_is_prepared_and_two_daemons_share_a_database() {
    use sqlx::Executor;
    use sqlx::SqlSafeStr;
    let Some(options) = on_a_new_postgres_database().await else { return };
    assert!(matches!(Store::open_read_only(options.clone()).await, Err(StoreError::NotMigrated)));
    let (one, other) = tokio::join!(Store::open(options.clone()), Store::open(StoreOptions { daemon: 4, ..options.clone() }));
    let (one, other) = (one.unwrap(), other.unwrap());
    let wrong = StoreOptions { master_key: MasterKey::from_base64(OTHER_KEY).unwrap(), ..options.clone() };
    assert!(matches!(Store::open(wrong).await, Err(StoreError::WrongKey)));
    let Backend::Postgres(backend) = &one.backend else { panic!("a PostgreSQL store") };
    for statement in sql::ALL.iter().chain(postgres_sql::ALL).chain(ledger::ALL).chain(crate::store::rotation::ALL) {
        backend.readers.prepare(statement.into_sql_str()).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    // Both meet the same new patient at the same time: one of them makes it known, the other plans again.
    let batch = |store: &Store, id: i64| {
        let mut batch = CommitBatch::default();
        message(store, &mut batch, id);
        let known = store.look_up_hash(LookUpKind::Patient, &["GHH", "MR", "the same"]);
        batch.absent_look_ups.push(known);
        batch.look_ups.push((known, LookUpKind::Patient, id));
        batch
    };
    let (first, second) = (batch(&one, 1), batch(&other, 2));
    let outcomes: [_; 2] = tokio::join!(one.commit(&first), other.commit(&second)).into();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(CommitError::Conflict))), "{outcomes:?}");
    // Who reads beside them shares one chain with others who do.
    let (view, another) = (Store::open_beside(options.clone()).await.unwrap(), Store::open_beside(options.clone()).await.unwrap());
    let look = |store: Store| async move {
        for n in 0..5 {
            store.append_audit(vec![viewing(n)]).await.unwrap();
        }
    };
    tokio::join!(look(view.clone()), look(another));
    assert!(matches!(view.put_setting("revision", vec![1]).await.unwrap_err(), StoreError::ReadOnly));
    audit::is_whole(&view, 11).await;
    // Each writes a chain of its own.
    with_messages(&one, 11..=20).await;
    with_messages(&other, 21..=30).await;
    audit::is_whole(&one, 31).await;
}

#[tokio::test]
async fn connections_that_the_server_ended_cost_one_failure_at_most() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    let Backend::Postgres(backend) = &store.backend else { panic!("a PostgreSQL store") };
    let commit = async |n: i64| {
        let mut batch = CommitBatch::default();
        message(&store, &mut batch, n);
        store.commit(&batch).await
    };
    let ask = async || store.find(&FindRequest { visits: vec![1], ..FindRequest::default() }).await;
    let (one, other) = tokio::join!(commit(1), ask());
    one.unwrap();
    other.unwrap();
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(end_all).execute(&backend.readers).await.unwrap();
    assert!(commit(2).await.is_err());
    commit(3).await.unwrap();
    assert_eq!(ask().await.unwrap().visits.len(), 1);
}

#[tokio::test]
async fn nothing_is_published_with_an_epoch_once_another_has_raised_it() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let publishing = Store::open(options.clone()).await.unwrap();
    let raising = Store::open(StoreOptions { daemon: 4, ..options }).await.unwrap();
    let n_conflicts = std::sync::atomic::AtomicUsize::new(0);
    let publish = async |numbers: std::ops::Range<i64>| {
        for n in numbers {
            loop {
                let epoch = publishing.epoch();
                let mut batch = CommitBatch { epoch: Some(epoch), ..CommitBatch::default() };
                message(&publishing, &mut batch, n);
                batch.outbox[0].event_type = format!("of epoch {epoch}");
                match publishing.commit(&batch).await {
                    Ok(()) => break,
                    Err(CommitError::Conflict) => drop(publishing.read_epoch().await.unwrap()),
                    Err(error) => panic!("{error}"),
                }
                n_conflicts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    };
    let published = async |epoch: u32| {
        let of = format!("of epoch {epoch}");
        raising.pending_outbox(10_000, None).await.unwrap().into_iter().filter(|row| row.event_type == of).count()
    };
    let raise = async || {
        let mut counted = Vec::new();
        for next in 2..12 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            raising.commit(&CommitBatch { next_epoch: Some(next), audit: vec![viewing(0)], ..CommitBatch::default() }).await.unwrap();
            counted.push((next - 1, published(next - 1).await));
        }
        counted
    };
    let ((), (), (), counted) = tokio::join!(publish(1..100), publish(101..200), publish(201..300), raise());
    for (epoch, n_then) in counted {
        assert_eq!(published(epoch).await, n_then, "no event of epoch {epoch} came after it was over");
    }
    assert!(n_conflicts.into_inner() > 0, "some must have been planned with an epoch that was over");
    assert_eq!(publishing.outbox_depth().await.unwrap().n_pending, 297);
}

#[tokio::test]
async fn nothing_is_kept_of_a_batch_whose_look_ups_lead_elsewhere_by_now() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    let number = store.look_up_hash(LookUpKind::Visit, &["GHH", "of both"]);
    let commit = async |n: i64, adapt: &dyn Fn(&mut CommitBatch)| {
        let mut batch = CommitBatch::default();
        message(&store, &mut batch, n);
        adapt(&mut batch);
        let outcome = store.commit(&batch).await;
        let is_kept = store.journal_message(JournalId(n)).await.unwrap().is_some();
        assert_eq!(outcome.is_ok(), is_kept, "message {n}");
        assert!(matches!(outcome, Ok(()) | Err(CommitError::Conflict)), "{outcome:?}");
        is_kept
    };
    let known = |targets: &'static [i64]| move |batch: &mut CommitBatch| batch.known_look_ups.extend(targets.iter().map(|target| (number, *target)));
    let lead = |target: i64| move |batch: &mut CommitBatch| batch.look_ups.push((number, LookUpKind::Visit, target));
    assert!(commit(1, &|batch| batch.absent_look_ups.push(number)).await);
    assert!(commit(2, &lead(2)).await);
    assert!(!commit(3, &|batch| batch.absent_look_ups.push(number)).await);
    assert!(commit(4, &known(&[2])).await);
    assert!(commit(5, &lead(5)).await);
    assert!(!commit(6, &known(&[2])).await);
    assert!(commit(7, &known(&[5, 2])).await);
}

#[tokio::test]
async fn a_commit_costs_few_questions() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    let mut batch = CommitBatch { epoch: Some(1), ..CommitBatch::default() };
    message(&store, &mut batch, 1);
    let before = store.n_statements();
    store.commit(&batch).await.unwrap();
    // Beside the beginning and the end of the transaction.
    assert!(store.n_statements() - before <= 3, "{}", store.n_statements() - before);
}

#[tokio::test]
async fn a_store_that_is_closed_waits_for_no_connection_that_comes_back_later() {
    let Some(options) = on_a_new_postgres_database().await else { return };
    let store = Store::open(options).await.unwrap();
    let Backend::Postgres(backend) = &store.backend else { panic!("a PostgreSQL store") };
    let in_use = backend.take().await.unwrap();
    let mut closed = Box::pin(backend.close());
    assert!(futures_util::poll!(closed.as_mut()).is_pending());
    backend.keep(in_use, true);
    tokio::time::timeout(std::time::Duration::from_secs(10), closed).await.unwrap();
}
