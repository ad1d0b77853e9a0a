//! The audit trail, looked through and read out: every row that is wanted, in its order, whatever is missing or does not open.

use std::collections::BTreeMap;

use super::House;
use super::at;
use super::document;
use super::room;
use super::viewing;
use super::with_messages;
use crate::ids::JournalId;
use crate::store::Store;
use crate::store::chain::Head;
use crate::store::chain::Link;
use crate::store::rows::AuditRow;
use crate::store::sql;
use crate::store::trail::ChainedRow;
use crate::store::trail::Span;
use crate::time::Timestamp;

/// More than one step looks at.
const N_ROWS: i64 = 6000;

fn change(micros: i64) -> AuditRow {
    AuditRow { kind: "room.updated".to_owned(), room_version: Some(micros), body: document(&micros.to_string()), ..viewing(micros) }
}

fn span(since: i64, until: i64) -> Span {
    Span { since: at(since), until: at(until) }
}

/// Changes in the chain of the store, and views in another one; at every instant there is one of both.
async fn fill(store: &Store) {
    let mut other = store.clone();
    other.lane = 7;
    store.append_audit((0..N_ROWS).filter(|n| n % 3 > 0).map(change).collect()).await.unwrap();
    other.append_audit((0..N_ROWS).filter(|n| n % 3 == 0).map(viewing).collect()).await.unwrap();
}

async fn read_out(store: &Store, span: Span) -> Vec<ChainedRow> {
    let mut told = Vec::new();
    let mut trail = store.audit_trail(span, |n_read, n_rows| told.push((n_read, n_rows))).await.unwrap();
    let mut rows = Vec::new();
    loop {
        let page = trail.next_rows(700).await.unwrap();
        if page.is_empty() {
            assert_eq!(trail.n_rows(), rows.len() as u64);
            assert!(told.iter().all(|(n_read, n_rows)| n_read <= n_rows), "{told:?}");
            return rows;
        }
        assert!(page.len() <= 700);
        rows.extend(page);
    }
}

/// Every hash is that of the row and of the one before it, which is the row before it in what was read.
fn follow(rows: &[ChainedRow]) {
    let mut ends: BTreeMap<i64, (i64, &[u8])> = BTreeMap::new();
    for chained in rows {
        let ChainedRow { row, chain, number, previous, hash, sealed } = chained;
        assert_eq!(row.id, number * 1024 + chain);
        let previous = previous.as_deref().unwrap();
        if let Some((before, end)) = ends.insert(*chain, (*number, hash)) {
            assert_eq!((number - 1, previous), (before, end));
        }
        let link = Link {
            id: row.id,
            at_us: row.at.as_micros(),
            kind: &row.kind,
            room_id: row.room_id.map(|room| room.0),
            room_version: row.room_version,
            journal_id: row.journal_id.map(|id| id.0),
            body: sealed,
        };
        let before = Head { number: number - 1, hash: previous.try_into().unwrap() };
        assert_eq!(before.extend(&link).hash.as_slice(), hash);
    }
}

pub(super) async fn the_trail_is_read_out_in_the_order_of_time_and_of_its_chains(store: &Store) {
    fill(store).await;
    let rows = read_out(store, Span::default()).await;
    assert_eq!(rows.iter().map(|row| row.row.at).collect::<Vec<_>>(), (0..N_ROWS).map(at).collect::<Vec<_>>());
    assert_eq!((rows[0].chain, rows[1].chain, rows[1].row.body.clone()), (7, 3, Some(document("1"))));
    follow(&rows);
    // A part of it goes on from the rows before.
    let rows = read_out(store, span(1000, 1004)).await;
    assert_eq!(rows.iter().map(|row| row.row.at).collect::<Vec<_>>(), (1000..1004).map(at).collect::<Vec<_>>());
    follow(&rows);
    assert!(read_out(store, span(N_ROWS, N_ROWS + 1)).await.is_empty());
    // A clock that was set back: the chain's order stands, and what is not of the time is left out.
    store.append_audit([at(9000), at(2), at(9001)].map(|at| AuditRow { at, ..change(2) }).to_vec()).await.unwrap();
    let rows = read_out(store, span(5999, 9002)).await;
    assert_eq!(rows.iter().map(|row| row.row.at).collect::<Vec<_>>(), [at(5999), at(9000), at(9001)]);
    let whole = read_out(store, Span::default()).await;
    follow(&whole);
    assert_eq!(whole.len(), usize::try_from(N_ROWS).unwrap() + 3);
}

pub(super) async fn what_is_no_change_of_a_room_is_found_by_its_time(store: &Store) {
    let mut other = store.clone();
    other.lane = 7;
    // Several at one instant, in two chains.
    store.append_audit([5, 1, 3, 3].map(viewing).to_vec()).await.unwrap();
    other.append_audit([3, 3, 9, 4].map(viewing).to_vec()).await.unwrap();
    store.append_audit((0..20).map(change).collect()).await.unwrap();
    let pages = async |since: i64, until: i64| {
        let (mut found, mut after) = (Vec::new(), (at(since), i64::MIN));
        loop {
            let page = store.audit_others(after, at(until), 2).await.unwrap();
            let Some(last) = page.last() else { return found };
            after = (last.at, last.id);
            assert!(page.len() <= 2 && page.iter().all(|row| row.kind == "rooms.viewed" && row.body == Some(document("viewed"))));
            found.extend(page.iter().map(|row| row.at.as_micros()));
        }
    };
    assert_eq!(pages(0, 100).await, [1, 3, 3, 3, 3, 4, 5, 9]);
    assert_eq!(pages(3, 5).await, [3, 3, 3, 3, 4]);
    assert_eq!(pages(6, 9).await, [0; 0]);
}

pub(super) async fn rows_are_looked_through_step_by_step_and_opened_where_that_is_wanted(store: &Store) {
    fill(store).await;
    assert_eq!(store.n_audit_rows().await.unwrap(), u64::try_from(N_ROWS).unwrap());
    let within = span(10, 5990);
    let (mut marks, mut changes, mut n_steps, mut n_read, mut after) = (Vec::new(), Vec::new(), 0, 0, i64::MIN);
    while let Some(step) = store.audit_marks(within, after).await.unwrap() {
        let opened = store.audit_changes(within, after).await.unwrap().unwrap();
        assert_eq!((opened.last, opened.n_read), (step.last, step.n_read));
        marks.extend(step.rows);
        changes.extend(opened.rows);
        (n_steps, n_read, after) = (n_steps + 1, n_read + step.n_read, step.last);
    }
    assert_eq!((n_steps, n_read), (2, u64::try_from(N_ROWS).unwrap()));
    marks.sort_unstable_by_key(|mark| mark.at);
    changes.sort_unstable_by_key(|row| row.at);
    let wanted: Vec<Timestamp> = (10..5990).filter(|n| n % 3 > 0).map(at).collect();
    assert_eq!(marks.iter().map(|mark| mark.at).collect::<Vec<_>>(), wanted);
    assert!(marks.iter().all(|mark| mark.kind == "room.updated" && mark.room_id == room(1)));
    assert_eq!(changes.iter().map(|row| (row.at, row.id)).collect::<Vec<_>>(), marks.iter().map(|mark| (mark.at, mark.id)).collect::<Vec<_>>());
    assert_eq!(changes[0].body, Some(document("10")));
}

pub(super) async fn visits_and_messages_of_patients_are_found(store: &Store) {
    with_messages(store, 1..=5).await;
    let mut visits = store.visits_of_patients(&[2, 4, 99]).await.unwrap();
    visits.sort_unstable();
    assert_eq!(visits, [2, 4]);
    let found = store.messages_of_patients(&[1, 2, 3, 99].map(JournalId), &[2, 3, 5]).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [2, 3].map(JournalId));
    assert!(store.visits_of_patients(&[]).await.unwrap().is_empty() && store.messages_of_patients(&[], &[2]).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_missing_does_not_open_or_was_put_there_stands_in_nobodys_way() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=10).await;
    store.append_audit((11..=4000).map(change).collect()).await.unwrap();
    assert!(house.tamper("DELETE FROM patients WHERE id = 3").await > 0);
    assert!(house.tamper("UPDATE audit SET body = zeroblob(80) WHERE id = 4 * 1024 + 3").await > 0);
    assert!(house.tamper("UPDATE audit SET body = x'00' WHERE id = 5 * 1024 + 3").await > 0);
    // More than are fetched at once; and one that stands where no chain will ever come to.
    assert!(house.tamper("DELETE FROM audit WHERE id BETWEEN 100 * 1024 AND 3000 * 1024").await > 2000);
    assert!(house.tamper("UPDATE audit SET id = 9007199254740995 WHERE id = 4000 * 1024 + 3").await > 0);
    let rows = read_out(&store, Span::default()).await;
    let numbers: Vec<i64> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..100).chain(3000..4000).chain([9_007_199_254_740_995 >> 10]).collect::<Vec<_>>());
    let closed: Vec<i64> = rows.iter().filter(|row| row.row.body.is_none()).map(|row| row.number).collect();
    assert_eq!(closed[..3], [3, 4, 5]);
    let unlinked: Vec<i64> = rows.iter().filter(|row| row.previous.is_none()).map(|row| row.number).collect();
    assert_eq!(unlinked, [3000, 9_007_199_254_740_995 >> 10]);
    let step = store.audit_changes(Span::default(), i64::MIN).await.unwrap().unwrap();
    assert_eq!(step.rows.iter().filter(|row| row.body.is_none()).count(), closed.len());
}

#[tokio::test]
async fn what_is_no_change_of_a_room_is_found_without_looking_at_any() {
    use sqlx::ConnectOptions;
    use sqlx::Row;
    let house = House::new();
    house.open().await.close().await;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&house.path).connect().await.unwrap();
    let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql::AUDIT_OTHERS));
    let plan = sqlx::query(explained).fetch_all(&mut connection).await.unwrap();
    let steps: Vec<String> = plan.iter().map(|row| row.get::<String, _>("detail")).collect();
    assert!(steps.len() == 1 && steps[0].contains("ix_audit_others (at_us"), "{steps:?}");
}
