//! The audit trail, looked through: by time, by what stands in the clear of a row, and chain by chain.
//!
//! Every reading goes step by step, so that no statement lasts and no more than a step is in memory; the rows of a step that are wanted are picked by the
//! database. A body that does not open is none, whether its patient's key was destroyed or somebody changed it: which of both it is, and whether the
//! rows are what was written, says [`Store::verify_audit`] and nothing here.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::collections::VecDeque;

use uuid::Uuid;

use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::Store;
use crate::store::chain;
use crate::store::chain::Head;
use crate::store::error::StoreError;
use crate::store::on_backend;
use crate::store::rows::StoredAudit;
use crate::store::sealed::AuditColumns;
use crate::store::sql;
use crate::time::Timestamp;

/// How many rows one statement looks at.
const STEP: i64 = 5000;
/// How many rows of a chain are fetched at once, and of all chains together.
const CHAIN_ROWS: usize = 1000;
const TRAIL_ROWS: usize = 16_384;

/// A span of time.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Its first instant.
    pub since: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
}

impl Default for Span {
    fn default() -> Self {
        Self { since: Timestamp::MIN, until: Timestamp::MAX }
    }
}

impl Span {
    /// Whether an instant is in it.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }
}

/// A step through the trail: what was wanted of it, how many rows it went over, and where the next one begins.
#[derive(Debug)]
pub struct Step<T> {
    /// What was wanted, in no order.
    pub rows: Vec<T>,
    /// How many rows were looked at.
    pub n_read: u64,
    /// The last of them.
    pub last: i64,
}

/// What stands in the clear of a change of a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark {
    /// The row.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// Which room.
    pub room_id: CareRoomId,
}

/// A row with all that its chain is made of.
#[derive(Clone, Debug)]
pub struct ChainedRow {
    /// The row.
    pub row: StoredAudit,
    /// The chain that it belongs to.
    pub chain: i64,
    /// Its number in the chain, from 1.
    pub number: i64,
    /// The hash of the row before it in its chain, zeros for the first; absent when the row before it is gone.
    pub previous: Option<Vec<u8>>,
    /// The hash of the row.
    pub hash: Vec<u8>,
    /// The body as it is hashed: sealed.
    pub sealed: Vec<u8>,
}

impl Store {
    /// How many rows the recorded ends of the chains say that there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn n_audit_rows(&self) -> Result<u64, StoreError> {
        Ok(self.chain_ends().await?.values().map(|end| u64::try_from(end.number).unwrap_or(0)).sum())
    }

    /// Where a step from this row on ends, and how many rows are in it; nothing when there are no more.
    async fn audit_step(&self, after: i64) -> Result<Option<(i64, u64)>, StoreError> {
        let (last, n_read): (Option<i64>, i64) =
            on_backend!(self.backend, backend => sqlx::query_as(sql::AUDIT_STEP).bind(after).bind(STEP).fetch_one(&backend.readers).await?);
        Ok(last.map(|last| (last, u64::try_from(n_read).unwrap_or(0))))
    }

    /// The next changes of rooms after this row, without what they say; nothing at the end of the trail.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit_marks(&self, span: Span, after: i64) -> Result<Option<Step<Mark>>, StoreError> {
        let Some((last, n_read)) = self.audit_step(after).await? else { return Ok(None) };
        let (since, until) = (span.since.as_micros(), span.until.as_micros());
        let query = sql::AUDIT_MARKS;
        let rows: Vec<(i64, i64, String, Option<Uuid>)> = on_backend!(self.backend, backend => {
            sqlx::query_as(query).bind(after).bind(last).bind(since).bind(until).fetch_all(&backend.readers).await?
        });
        let mark = |(id, at_us, kind, room): (i64, i64, String, Option<Uuid>)| {
            Some(Mark { id, at: Timestamp::from_micros(at_us), kind, room_id: CareRoomId(room?) })
        };
        Ok(Some(Step { rows: rows.into_iter().filter_map(mark).collect(), n_read, last }))
    }

    /// The next changes of rooms after this row; nothing at the end of the trail.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit_changes(&self, span: Span, after: i64) -> Result<Option<Step<StoredAudit>>, StoreError> {
        let Some((last, n_read)) = self.audit_step(after).await? else { return Ok(None) };
        let (since, until) = (span.since.as_micros(), span.until.as_micros());
        let query = sql::AUDIT_CHANGES;
        let rows: Vec<AuditColumns> = on_backend!(self.backend, backend => {
            sqlx::query_as(query).bind(after).bind(last).bind(since).bind(until).fetch_all(&backend.readers).await?
        });
        Ok(Some(Step { rows: self.opened(rows).await?, n_read, last }))
    }

    /// The next rows that are no change of a room (who looked at what, who ordered what) after this time and row, the oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit_others(&self, after: (Timestamp, i64), until: Timestamp, limit: i64) -> Result<Vec<StoredAudit>, StoreError> {
        let (at, id, until) = (after.0.as_micros(), after.1, until.as_micros());
        let query = sql::AUDIT_OTHERS;
        let rows: Vec<AuditColumns> = on_backend!(self.backend, backend => {
            sqlx::query_as(query).bind(at).bind(id).bind(until).bind(limit).fetch_all(&backend.readers).await?
        });
        self.opened(rows).await
    }

    /// The visits of these patients, open or not, by their rows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn visits_of_patients(&self, patients: &[i64]) -> Result<Vec<i64>, StoreError> {
        let rows = on_backend!(self.backend, backend => backend.visits_of_patients(patients).await?);
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Those of these messages that are about one of these patients.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn messages_of_patients(&self, messages: &[JournalId], patients: &[i64]) -> Result<BTreeSet<JournalId>, StoreError> {
        let messages: Vec<i64> = messages.iter().map(|message| message.0).collect();
        let rows = on_backend!(self.backend, backend => backend.messages_of_patients(&messages, patients).await?);
        Ok(rows.into_iter().map(|(id,)| JournalId(id)).collect())
    }

    pub(super) async fn opened(&self, rows: Vec<AuditColumns>) -> Result<Vec<StoredAudit>, StoreError> {
        let keys = self.keys_found(&rows).await?;
        Ok(rows.into_iter().map(|row| self.opened_with(&keys, row)).collect())
    }

    /// Finds the rows of a span of time; `progress` is told how many rows were looked at, of how many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit_trail(&self, span: Span, mut progress: impl FnMut(u64, u64) + Send) -> Result<Trail<'_>, StoreError> {
        let n_expected = self.n_audit_rows().await?;
        let mut trail = Trail { store: self, span, n_rows: 0, lanes: Vec::new(), fronts: BinaryHeap::new() };
        let (mut after, mut n_read) = (i64::MIN, 0);
        while let Some((last, n_in_step)) = self.audit_step(after).await? {
            let (since, until) = (span.since.as_micros(), span.until.as_micros());
            let query = sql::AUDIT_STRETCHES;
            let stretches: Vec<(i64, i64, i64, i64)> = on_backend!(self.backend, backend => {
                sqlx::query_as(query).bind(after).bind(last).bind(since).bind(until).fetch_all(&backend.readers).await?
            });
            for (lane, first, last, n_rows) in stretches {
                trail.n_rows += u64::try_from(n_rows).unwrap_or(0);
                trail.reach(lane, chain::number_of(first), chain::number_of(last));
            }
            (after, n_read) = (last, n_read + n_in_step);
            progress(n_read, n_expected.max(n_read));
        }
        trail.begin().await?;
        Ok(trail)
    }
}

/// The rows of a span of time, the oldest first, and those of each chain in the order of the chain whatever their times say.
///
/// What is in it is settled when it is made; rows that come later are not.
#[derive(Debug)]
pub struct Trail<'s> {
    store: &'s Store,
    span: Span,
    n_rows: u64,
    lanes: Vec<Lane>,
    /// The first row of each chain that is not given out yet: its time, its id, and the chain's place in `lanes`.
    fronts: BinaryHeap<Reverse<(i64, i64, usize)>>,
}

/// The part of a chain that is read out.
#[derive(Debug)]
struct Lane {
    chain: i64,
    /// The numbers of the row that is fetched next and of the last one.
    next: i64,
    last: i64,
    is_begun: bool,
    fetched: VecDeque<AuditColumns>,
    /// The number and the hash of the row before the first fetched one.
    before: Option<(i64, Vec<u8>)>,
}

impl Trail<'_> {
    /// How many rows are in it.
    pub const fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// How many chains they stand in.
    pub const fn n_chains(&self) -> usize {
        self.lanes.len()
    }

    fn reach(&mut self, chain: i64, first: i64, last: i64) {
        match self.lanes.iter_mut().find(|known| known.chain == chain) {
            Some(known) => (known.next, known.last) = (known.next.min(first), known.last.max(last)),
            None => self.lanes.push(Lane { chain, next: first, last, is_begun: false, fetched: VecDeque::new(), before: None }),
        }
    }

    /// Fetches the first row of each chain, and the one before it.
    async fn begin(&mut self) -> Result<(), StoreError> {
        let ids: Vec<i64> = self.lanes.iter().flat_map(|lane| [lane.next - 1, lane.next].map(|number| chain::id_of(lane.chain, number))).collect();
        let backend = &self.store.backend;
        for row in on_backend!(*backend, backend => backend.audit_rows(&ids).await?) {
            let number = chain::number_of(row.0);
            let Some(lane) = self.lanes.iter_mut().find(|lane| lane.chain == chain::lane_of(row.0)) else { continue };
            if number < lane.next {
                lane.before = Some((number, row.6));
            } else {
                lane.fetched.push_back(row);
            }
        }
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            if lane.next == 1 {
                lane.before = Some((0, Head::default().hash.to_vec()));
            }
            lane.next += 1;
            self.fronts.extend(lane.front(place));
        }
        Ok(())
    }

    /// The next rows, about as many as this; none at the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_rows(&mut self, n_rows: usize) -> Result<Vec<ChainedRow>, StoreError> {
        let mut links = Vec::with_capacity(n_rows);
        while links.len() < n_rows
            && let Some(Reverse((_, _, place))) = self.fronts.pop()
        {
            let n_begun = self.lanes.iter().filter(|lane| lane.is_begun && lane.next <= lane.last).count();
            let Some(lane) = self.lanes.get_mut(place) else { continue };
            lane.is_begun = true;
            if let Some(row) = lane.fetched.pop_front() {
                let number = chain::number_of(row.0);
                let previous = lane.before.replace((number, row.6.clone())).filter(|(before, _)| *before == number - 1).map(|(_, hash)| hash);
                if self.span.holds(Timestamp::from_micros(row.1)) {
                    links.push((number, previous, row));
                }
            }
            if lane.fetched.is_empty() {
                lane.fetch(self.store, (TRAIL_ROWS / n_begun.max(1)).clamp(1, CHAIN_ROWS)).await?;
            }
            self.fronts.extend(lane.front(place));
        }
        self.rows_of(links).await
    }

    async fn rows_of(&self, links: Vec<(i64, Option<Vec<u8>>, AuditColumns)>) -> Result<Vec<ChainedRow>, StoreError> {
        let keys = self.store.keys_found(links.iter().map(|(_, _, row)| row)).await?;
        let chained = |(number, previous, row): (i64, Option<Vec<u8>>, AuditColumns)| {
            let (chain, hash, sealed) = (chain::lane_of(row.0), row.6.clone(), row.7.clone());
            ChainedRow { row: self.store.opened_with(&keys, row), chain, number, previous, hash, sealed }
        };
        Ok(links.into_iter().map(chained).collect())
    }
}

impl Lane {
    fn front(&self, place: usize) -> Option<Reverse<(i64, i64, usize)>> {
        self.fetched.front().map(|row| Reverse((row.1, row.0, place)))
    }

    /// Fetches the next rows, unless there are none; where many are missing, from the next one that is there.
    async fn fetch(&mut self, store: &Store, n_rows: usize) -> Result<(), StoreError> {
        while self.fetched.is_empty() && self.next <= self.last {
            let end = self.next.saturating_add(i64::try_from(n_rows).unwrap_or(i64::MAX)).min(self.last.saturating_add(1));
            let ids: Vec<i64> = (self.next..end).map(|number| chain::id_of(self.chain, number)).collect();
            self.fetched = on_backend!(store.backend, backend => backend.audit_rows(&ids).await?).into();
            self.next = end;
            if self.fetched.is_empty() {
                let (after, query) = (chain::id_of(self.chain, end - 1), sql::AUDIT_NEXT_OF_CHAIN);
                let next: Option<i64> =
                    on_backend!(store.backend, backend => sqlx::query_scalar(query).bind(after).bind(self.chain).fetch_one(&backend.readers).await?);
                self.next = next.map_or(i64::MAX, chain::number_of);
            }
        }
        Ok(())
    }
}
