//! The audit trail, tampered with in every way there is: each is seen, and is called what it is.

use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::SqliteConnection;

use super::House;
use super::at;
use super::viewing;
use super::with_messages;
use crate::store::Store;
use crate::store::chain::Checked;
use crate::store::chain::Head;
use crate::store::chain::Misfit;
use crate::store::chain::Verification;
use crate::store::sealed;
use crate::store::sealed::AuditColumns;

/// The rows of the daemon's chain.
const N_ROWS: i64 = 20;

/// Every row is there and as it was written, and there are so many.
pub(super) async fn is_whole(store: &Store, n_rows: u64) {
    let report = store.verify_audit(|_, _| {}).await.unwrap();
    assert_eq!((report.faults.as_slice(), report.n_faults, report.n_rows, report.n_opened), (&[][..], 0, n_rows, n_rows));
}

/// The id of a row of the daemon's chain.
const fn id(number: i64) -> i64 {
    number * 1024 + 3
}

/// A store with a chain of twenty rows, and one of whoever looked beside the daemon.
async fn house() -> (House, Store) {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=N_ROWS).await;
    let beside = Store::open_beside(house.options(super::KEY)).await.unwrap();
    beside.append_audit((0..30).map(viewing).collect()).await.unwrap();
    beside.close().await;
    is_whole(&store, 50).await;
    (house, store)
}

async fn connection(house: &House) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new().filename(&house.path).connect().await.unwrap()
}

async fn rows(house: &House) -> Vec<AuditColumns> {
    let mut connection = connection(house).await;
    let statement = "SELECT id, at_us, kind, room_id, room_version, journal_id, chain, body, made_for FROM audit WHERE (id & 1023) = 3 ORDER BY id";
    let rows = sqlx::query_as(statement).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows
}

async fn put(house: &House, id: i64, column: &str, bytes: &[u8]) {
    let statement = if column == "body" { "UPDATE audit SET body = ? WHERE id = ?" } else { "UPDATE audit SET chain = ? WHERE id = ?" };
    let mut connection = connection(house).await;
    assert_eq!(sqlx::query(statement).bind(bytes).bind(id).execute(&mut connection).await.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();
}

async fn found(store: &Store) -> Vec<(Misfit, i64)> {
    let report = store.verify_audit(|_, _| {}).await.unwrap();
    assert!(report.n_faults == report.faults.len() as u64 && report.is_whole() == report.faults.is_empty(), "{report:?}");
    report.faults.iter().map(|fault| (fault.misfit, fault.id)).collect()
}

#[tokio::test]
async fn every_single_byte_of_a_body_and_of_a_chain_value_counts() {
    let (house, store) = house().await;
    for number in [1, 9, N_ROWS] {
        let row = rows(&house).await.swap_remove(usize::try_from(number - 1).unwrap());
        for (column, bytes) in [("chain", row.6), ("body", row.7)] {
            for at in [0, 1, 9, 10, bytes.len() / 2, bytes.len() - 1] {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                put(&house, id(number), column, &flipped).await;
                // Of a chain value alone the rows after it say that they were written after what should be there: no second fault.
                assert_eq!(found(&store).await, [(Misfit::Changed, id(number))], "byte {at} of {column} of row {number}");
            }
            put(&house, id(number), column, &bytes[1..]).await;
            assert_eq!(found(&store).await, [(Misfit::Changed, id(number))]);
            put(&house, id(number), column, &bytes).await;
        }
    }
    is_whole(&store, 50).await;
}

#[tokio::test]
async fn a_row_changed_taken_out_swapped_or_put_there_is_seen() {
    let cases: &[(&[&'static str], &[(Misfit, i64)])] = &[
        (&["UPDATE audit SET at_us = at_us + 1 WHERE id = 5123"], &[(Misfit::Changed, id(5))]),
        (&["UPDATE audit SET kind = 'x' WHERE id = 1027"], &[(Misfit::Changed, id(1))]),
        (&["UPDATE audit SET room_id = NULL WHERE id = 9219"], &[(Misfit::Changed, id(9))]),
        (&["UPDATE audit SET room_version = 2 WHERE id = 9219"], &[(Misfit::Changed, id(9))]),
        (&["UPDATE audit SET journal_id = NULL WHERE id = 9219"], &[(Misfit::Changed, id(9))]),
        (&["DELETE FROM audit WHERE id = 1027"], &[(Misfit::Gap { n_missing: 1 }, id(2))]),
        (&["DELETE FROM audit WHERE id IN (5123, 6147, 8195)"], &[(Misfit::Gap { n_missing: 2 }, id(7)), (Misfit::Gap { n_missing: 1 }, id(9))]),
        (&["DELETE FROM audit WHERE id = 20483"], &[(Misfit::CutOff { n_missing: 1 }, id(20))]),
        (&["DELETE FROM audit WHERE id > 18435 AND (id & 1023) = 3"], &[(Misfit::CutOff { n_missing: 2 }, id(19))]),
        (&["DELETE FROM audit WHERE (id & 1023) = 3"], &[(Misfit::CutOff { n_missing: 20 }, id(1))]),
        // Two rows that change places.
        (
            &["UPDATE audit SET id = -1 WHERE id = 5123", "UPDATE audit SET id = 5123 WHERE id = 6147", "UPDATE audit SET id = 6147 WHERE id = -1"],
            &[(Misfit::Changed, id(5)), (Misfit::Changed, id(6)), (Misfit::Changed, id(7))],
        ),
        // A row that moves into another chain.
        (&["UPDATE audit SET id = id + 1 WHERE id = 20483"], &[(Misfit::CutOff { n_missing: 1 }, id(20)), (Misfit::BeyondEnd, id(20) + 1)]),
        // A row before the first.
        (&["UPDATE audit SET id = 3 WHERE id = 1027"], &[(Misfit::Changed, id(0)), (Misfit::Gap { n_missing: 1 }, id(2))]),
        // The recorded end is set back, taken out, or another.
        (
            &["UPDATE meta SET value = unhex('0000000000000012' || hex(substr(value, 9))) WHERE key = 'audit_end/3'"],
            &[(Misfit::OtherEnd, id(18)), (Misfit::BeyondEnd, id(19))],
        ),
        (&["DELETE FROM meta WHERE key = 'audit_end/3'"], &[(Misfit::BeyondEnd, id(1))]),
        (&["UPDATE meta SET value = x'01' WHERE key = 'audit_end/3'"], &[(Misfit::BeyondEnd, id(1))]),
        (&["UPDATE meta SET value = unhex('0000000000000014' || hex(zeroblob(32))) WHERE key = 'audit_end/3'"], &[(Misfit::OtherEnd, id(20))]),
    ];
    for (statements, expected) in cases {
        let (house, store) = house().await;
        for statement in *statements {
            assert!(house.tamper(statement).await > 0, "{statement}");
        }
        assert_eq!(found(&store).await, *expected, "{statements:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn whoever_writes_a_chain_anew_without_the_keys_is_found_by_the_bodies() {
    let (house, store) = house().await;
    let mut head = Head::default();
    for mut row in rows(&house).await {
        if row.0 == id(7) {
            *row.7.last_mut().unwrap() ^= 1;
        }
        head = head.extend(&sealed::link(&row));
        put(&house, row.0, "chain", &head.hash).await;
        put(&house, row.0, "body", &row.7).await;
    }
    let mut connection = connection(&house).await;
    sqlx::query("UPDATE meta SET value = ? WHERE key = 'audit_end/3'").bind(head.to_bytes()).execute(&mut connection).await.unwrap();
    assert_eq!(found(&store).await, [(Misfit::Body, id(7))]);
}

#[tokio::test]
async fn a_destroyed_key_is_no_fault_and_a_changed_one_is() {
    let (house, store) = house().await;
    house.tamper("DELETE FROM patients WHERE id IN (3, 4)").await;
    house.tamper("UPDATE patients SET data_key = (SELECT data_key FROM patients WHERE id = 9) WHERE id = 8").await;
    let report = store.verify_audit(|_, _| {}).await.unwrap();
    assert_eq!((report.n_rows, report.n_opened, report.n_key_gone, report.n_chains), (50, 47, 2, 2));
    let [fault] = report.faults.as_slice() else { panic!("{report:?}") };
    assert_eq!((fault.misfit, fault.id, fault.lane(), fault.at, fault.kind.as_deref()), (Misfit::Body, id(8), 3, Some(at(8)), Some("room.opened")));
}

#[tokio::test]
async fn of_many_faults_all_are_counted_and_a_hundred_are_named() {
    let house = House::new();
    let store = house.open().await;
    with_messages(&store, 1..=1200).await;
    house.tamper("UPDATE audit SET kind = 'room.closed'").await;
    let mut told = Vec::new();
    let report = store.verify_audit(|n_read, n_rows| told.push((n_read, n_rows))).await.unwrap();
    assert_eq!((report.n_faults, report.faults.len(), report.faults[0].id), (1200, 100, id(1)));
    assert_eq!(told, [(1000, 1200), (1200, 1200)]);
}

#[tokio::test]
async fn rows_that_are_written_while_it_reads_are_no_fault_wherever_they_come() {
    let (house, _store) = house().await;
    let rows = rows(&house).await;
    let lane = 3;
    let early = |number: i64| {
        let head = rows[..usize::try_from(number).unwrap()].iter().fold(Head::default(), |head, row| head.extend(&sealed::link(row)));
        [(lane, head)].into()
    };
    let walk = |skip: std::ops::Range<usize>| {
        let mut verification = Verification::new(early(10));
        let left = rows.iter().enumerate().filter(|(n, _)| !skip.contains(n)).map(|(_, row)| verification.check(&sealed::link(row), &row.6));
        let checked: Vec<Checked> = left.collect();
        (checked, verification)
    };
    // Other daemons' rows have led the reading on; of those that came meanwhile some stand behind it and some before.
    let (checked, verification) = walk(10..15);
    assert_eq!(checked, [[Checked::Fits; 10].as_slice(), &[Checked::Later; 5]].concat());
    assert!(verification.finish(&early(N_ROWS)).is_empty());
    // Nobody has recorded that they were written.
    let faults = walk(10..15).1.finish(&early(10));
    assert_eq!(faults.iter().map(|fault| (fault.misfit, fault.id)).collect::<Vec<_>>(), [(Misfit::BeyondEnd, id(16))]);
}
