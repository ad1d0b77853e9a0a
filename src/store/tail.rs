//! The tail of the outbox: events of the last commits, in memory until they are settled, so that publishing them need not read and unseal what was
//! written a moment before.
//!
//! It answers only while it is known to hold everything that waits; else the table is asked. That is so from when a whole view of the table was in it,
//! until more waits than it holds or somebody else changes what waits.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::store::rows::OutboxRow;

/// How many events it holds at the most.
const ROWS: usize = 4096;

/// The last events.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    rows: BTreeMap<i64, OutboxRow>,
    is_whole: bool,
    /// How often everything was forgotten.
    n_forgotten: u64,
}

impl Held {
    fn forget(&mut self) {
        *self = Self { n_forgotten: self.n_forgotten + 1, ..Self::default() };
    }
}

impl Tail {
    fn held<T>(&self, work: impl FnOnce(&mut Held) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what was committed.
    pub(super) fn add(&self, rows: Vec<OutboxRow>) {
        self.held(|held| {
            held.rows.extend(rows.into_iter().map(|row| (row.seq, row)));
            if held.rows.len() > ROWS {
                held.forget();
            }
        });
    }

    /// Takes out what does not wait any more.
    pub(super) fn remove(&self, seqs: &[i64]) {
        self.held(|held| seqs.iter().for_each(|seq| drop(held.rows.remove(seq))));
    }

    /// Forgets everything: something waits that was not committed here.
    pub(super) fn forget(&self) {
        self.held(Held::forget);
    }

    /// The first events after this place, where all that wait are here; else what [`Tail::compare`] must be told.
    pub(super) fn first(&self, limit: i64, after: i64) -> Result<Vec<OutboxRow>, u64> {
        let limit = usize::try_from(limit).unwrap_or_default();
        self.held(|held| {
            let first = || held.rows.range(after.saturating_add(1)..).map(|(_, row)| row.clone()).take(limit).collect();
            if held.is_whole { Ok(first()) } else { Err(held.n_forgotten) }
        })
    }

    /// Learns from a view of everything that waits in the table, taken after it was asked.
    pub(super) fn compare(&self, n_forgotten: u64, rows: &[OutboxRow]) {
        self.held(|held| held.is_whole = held.n_forgotten == n_forgotten && rows.iter().all(|row| held.rows.contains_key(&row.seq)));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::ROWS;
    use super::Tail;
    use crate::ids::CareRoomId;
    use crate::store::rows::OutboxBody;
    use crate::store::rows::OutboxRow;
    use crate::time::Timestamp;

    fn row(seq: i64) -> OutboxRow {
        OutboxRow {
            seq,
            room_id: CareRoomId(Uuid::from_u128(1)),
            room_version: 1,
            event_id: Uuid::from_u128(2),
            event_type: "room.updated".to_owned(),
            facility: "GHH".to_owned(),
            traceparent: None,
            time: Timestamp::from_micros(seq),
            parked_reason: None,
            body: OutboxBody(Bytes::from_static(b"{}")),
        }
    }

    fn seqs(tail: &Tail, limit: i64, after: i64) -> Option<Vec<i64>> {
        Some(tail.first(limit, after).ok()?.iter().map(|row| row.seq).collect())
    }

    #[test]
    fn it_answers_only_once_all_that_waits_was_seen_to_be_in_it() {
        let tail = Tail::default();
        tail.add(vec![row(5), row(6)]);
        assert_eq!(seqs(&tail, 9, i64::MIN), None);
        tail.compare(0, &[row(4), row(5), row(6)]);
        assert_eq!(seqs(&tail, 9, i64::MIN), None, "4 was there before");
        tail.compare(0, &[row(5), row(6)]);
        tail.add(vec![row(7)]);
        assert_eq!(seqs(&tail, 2, i64::MIN), Some(vec![5, 6]));
        assert_eq!(seqs(&tail, 9, 5), Some(vec![6, 7]));
        tail.remove(&[5, 7]);
        assert_eq!(seqs(&tail, 9, i64::MIN), Some(vec![6]));
        tail.forget();
        assert_eq!(seqs(&tail, 9, i64::MIN), None);
    }

    #[test]
    fn more_than_it_holds_is_left_to_the_table() {
        let tail = Tail::default();
        tail.compare(0, &[]);
        tail.add((1..=i64::try_from(ROWS).unwrap()).map(row).collect());
        assert!(seqs(&tail, 1, i64::MIN).is_some());
        tail.add(vec![row(1_000_000)]);
        assert_eq!(seqs(&tail, 1, i64::MIN), None);
        tail.compare(0, &[]);
        assert_eq!(seqs(&tail, 1, i64::MIN), None, "the view may be older than what was forgotten");
        tail.compare(1, &[]);
        assert_eq!(seqs(&tail, 1, i64::MIN), Some(Vec::new()));
    }
}
