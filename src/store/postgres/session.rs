//! A transaction's statements: each table's rows as arrays, all rows of a commit with one statement.
//!
//! It begins and ends no transaction, and never looks at what is sealed.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgRow;

use crate::store::error::Trouble;
use crate::store::ledger;
use crate::store::look_up::LookUpHash;
use crate::store::postgres_sql as text;
use crate::store::rows::AuditRow;
use crate::store::rows::Purge;
use crate::store::sealed::SealedBatch;
use crate::store::sql;
use crate::store::write::AuditKeys;
use crate::store::write::FIRST_EPOCH;
use crate::store::write::META_BEFORE;
use crate::store::write::META_EPOCH;
use crate::store::write::META_OWN_KEY;
use crate::store::write::SealedWrite;
use crate::store::write::Wrap;
use crate::store::write::Write;
use crate::store::write::agree;
use crate::store::write::agree_on_epoch;
use crate::store::write::end_key;
use crate::store::write::epoch_value;
use crate::store::write::wrapped_by;

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// Binds each column of some rows as an array, taking the values out of the rows.
macro_rules! bind_columns {
    ($query:expr, $rows:expr, $($column:tt),+) => {
        $query$(.bind($rows.iter_mut().map(|row| std::mem::take(&mut row.$column)).collect::<Vec<_>>()))+
    };
}

pub(super) fn bytes(hashes: &[LookUpHash]) -> Vec<&[u8]> {
    hashes.iter().map(|hash| hash.0.as_slice()).collect()
}

/// What a commit has to agree with, behind the locks that guard it.
#[derive(Default)]
struct Stands {
    /// The end of the chain, where one is asked for that has rows.
    end: Option<Vec<u8>>,
    epoch: Option<Vec<u8>>,
    /// The store's own key.
    own: Option<Vec<u8>>,
}

impl Stands {
    /// From what a statement gave back; not where a look-up leads to what nobody knew of.
    fn of((end, epoch, own, elsewhere): (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, bool)) -> Result<Self, Trouble> {
        let end = end.filter(|end| !end.is_empty());
        if elsewhere { Err(Trouble::Conflict) } else { Ok(Self { end, epoch, own }) }
    }
}

/// A connection whose statements are counted.
pub(super) struct Session<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) n_statements: &'c AtomicU64,
}

impl Session<'_> {
    async fn run(&mut self, query: Query<'_>) -> Result<u64, sqlx::Error> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }

    pub(super) async fn by_ids<T>(&mut self, sql: &'static str, ids: &[i64]) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        sqlx::query_as(sql).bind(ids).fetch_all(&mut *self.connection).await
    }

    pub(super) async fn by_hashes<T>(&mut self, sql: &'static str, hashes: &[LookUpHash]) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        sqlx::query_as(sql).bind(bytes(hashes)).fetch_all(&mut *self.connection).await
    }

    pub(super) async fn apply(&mut self, write: SealedWrite) -> Result<(), Trouble> {
        match write.write {
            Write::Commit(mut batches) => {
                let audit: Vec<AuditRow> = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.audit)).collect();
                let epochs: Vec<u32> = batches.iter().filter_map(|batch| batch.epoch).collect();
                let wrapped_by = batches.iter().map(|batch| wrapped_by(&batch.patients)).collect::<Result<Vec<_>, _>>()?.concat();
                let chain = (!audit.is_empty()).then(|| end_key(write.lane));
                let mut stands = Stands::default();
                let n_batches = batches.len();
                for (n, batch) in batches.into_iter().enumerate() {
                    let chain = chain.as_deref().filter(|_| n + 1 == n_batches);
                    stands = self.commit(write.lane, batch, chain).await?.unwrap_or(stands);
                }
                write.keys.agree_on_key(&wrapped_by, stands.own.as_deref())?;
                agree_on_epoch(&epochs, stands.epoch.as_deref())?;
                if let Some(chain) = chain {
                    self.append_to(stands, (write.lane, chain), &write.keys, &audit).await?;
                }
            }
            Write::Audit(rows) => self.append(write.lane, &write.keys, &rows).await?,
            Write::Settle(seqs) => self.settle(write.lane, &seqs).await?,
            Write::Park { seq, reason } => {
                self.run(sqlx::query(sql::OUTBOX_PARK).bind(seq).bind(reason)).await?;
            }
            Write::Put { key, value } => {
                self.run(sqlx::query(sql::META_PUT).bind(key).bind(value)).await?;
            }
            Write::Keep(values) => {
                for (key, value) in values {
                    self.run(sqlx::query(sql::META_KEEP).bind(key).bind(value)).await?;
                }
            }
            Write::Wrap(wrap) => self.wrap(write.lane, &write.keys, wrap).await?,
        }
        Ok(())
    }

    async fn own_key(&mut self) -> Result<Option<Vec<u8>>, sqlx::Error> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        sqlx::query_scalar(sql::META).bind(META_OWN_KEY).fetch_optional(&mut *self.connection).await
    }

    /// Keys that are wrapped anew, if the master key is the one that is believed; another one stands once all that add patients under that one have committed.
    async fn wrap(&mut self, lane: u16, keys: &AuditKeys, mut wrap: Wrap) -> Result<(), Trouble> {
        if !wrap.patients.is_empty() {
            self.run(bind_columns!(sqlx::query(text::PATIENT_KEYS_ANEW), wrap.patients, 0, 1, 2)).await?;
        }
        if wrap.put.is_empty() && !wrap.forgets {
            return Ok(());
        }
        // Behind the rows, as whoever commits a batch takes them.
        self.run(sqlx::query(text::EPOCH_LOCK)).await?;
        if self.own_key().await?.as_ref() != Some(&wrap.stands) {
            return Err(Trouble::Conflict);
        }
        for (key, value) in wrap.put {
            self.run(sqlx::query(sql::META_PUT).bind(key).bind(value)).await?;
        }
        if wrap.forgets {
            self.run(sqlx::query(sql::META_FORGET).bind(META_BEFORE)).await?;
        }
        if wrap.audit.is_empty() { Ok(()) } else { self.append(lane, keys, &wrap.audit).await }
    }

    /// Takes events out of the outbox and counts them.
    async fn settle(&mut self, lane: u16, seqs: &[i64]) -> Result<(), sqlx::Error> {
        self.run(sqlx::query(text::OUTBOX_SETTLE).bind(seqs).bind(ledger::CONFIRMED).bind(i64::from(lane))).await.map(drop)
    }

    /// Rows at the end of the lane's chain.
    async fn append(&mut self, lane: u16, keys: &AuditKeys, audit: &[AuditRow]) -> Result<(), Trouble> {
        let chain = end_key(lane);
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let stands = sqlx::query_as(text::CHAIN_END).bind(&chain).fetch_one(&mut *self.connection).await?;
        self.append_to(Stands::of(stands)?, (lane, chain), keys, audit).await
    }

    /// Rows at the end of a chain that is held. Comes last in a transaction.
    async fn append_to(&mut self, stands: Stands, (lane, chain): (u16, String), keys: &AuditKeys, audit: &[AuditRow]) -> Result<(), Trouble> {
        let (end, mut rows) = keys.seal_audit(lane, stands.end, audit)?;
        self.run(bind_columns!(sqlx::query(text::AUDIT), rows, 0, 1, 2, 3, 4, 5, 6, 7, 8).bind(chain).bind(end)).await?;
        Ok(())
    }

    /// Writes a batch, and gives back what stands beside it: where a chain is named, its end too, which is held from here to the commit.
    async fn commit(&mut self, lane: u16, mut batch: SealedBatch, chain: Option<&str>) -> Result<Option<Stands>, Trouble> {
        if let Some(epoch) = batch.next_epoch {
            self.raise_epoch(epoch).await?;
        }
        self.check(&batch).await?;
        if !batch.dedupe_released.is_empty() {
            self.run(sqlx::query(text::DEDUPE_RELEASE).bind(&batch.dedupe_released)).await?;
        }
        let stands = self.rows(lane, &mut batch, chain).await?;
        if !batch.journal_settled.is_empty() {
            let n_to_settle = batch.journal_settled.len();
            let n_settled = self.run(bind_columns!(sqlx::query(text::JOURNAL_SETTLE), batch.journal_settled, 0, 1, 2, 3)).await?;
            if n_settled != n_to_settle as u64 {
                return Err(Trouble::Conflict);
            }
        }
        if !batch.quarantine.is_empty() {
            self.run(bind_columns!(sqlx::query(text::QUARANTINE), batch.quarantine, 0, 1, 2, 3, 4, 5)).await?;
        }
        if !batch.quarantine_left.is_empty() {
            self.run(sqlx::query(text::QUARANTINE_LEAVE).bind(&batch.quarantine_left)).await?;
        }
        if let Some((version, doc)) = batch.directory
            && self.run(sqlx::query(sql::DIRECTORY_PUT).bind(version).bind(doc)).await? == 0
        {
            return Err(Trouble::Conflict);
        }
        if batch.purge.n_rows() > 0 {
            self.purge(&batch.purge).await?;
        }
        Ok(stands)
    }

    /// Deletes for good.
    async fn purge(&mut self, purge: &Purge) -> Result<(), Trouble> {
        let (hashes, targets): (Vec<&[u8]>, Vec<i64>) = purge.look_ups.iter().map(|(hash, target)| (hash.0.as_slice(), *target)).unzip();
        let messages: Vec<i64> = purge.messages.iter().map(|message| message.0).collect();
        self.run(sqlx::query(text::PURGE).bind(&purge.visits).bind(hashes).bind(targets).bind(messages)).await?;
        if purge.patients.is_empty() {
            return Ok(());
        }
        if self.run(sqlx::query(text::PURGE_PATIENTS).bind(&purge.patients)).await? != purge.patients.len() as u64 {
            return Err(Trouble::Conflict);
        }
        self.run(sqlx::query(text::PURGED_PATIENTS).bind(&purge.patients).bind(purge.at.as_micros())).await?;
        Ok(())
    }

    /// Makes another epoch stand, once all that publish with the one before have committed.
    async fn raise_epoch(&mut self, next: u32) -> Result<(), Trouble> {
        self.run(sqlx::query(text::EPOCH_LOCK)).await?;
        self.run(sqlx::query(sql::META_KEEP).bind(META_EPOCH).bind(epoch_value(FIRST_EPOCH).as_slice())).await?;
        let (next, before) = (epoch_value(next), epoch_value(next.saturating_sub(1)));
        let n_put = self.run(sqlx::query(sql::EPOCH_PUT).bind(next.as_slice()).bind(before.as_slice())).await?;
        if n_put == 0 { Err(Trouble::Conflict) } else { Ok(()) }
    }

    /// What every commit writes, if no look-up leads to what the batch was not planned with.
    async fn rows(&mut self, lane: u16, batch: &mut SealedBatch, chain: Option<&str>) -> Result<Option<Stands>, Trouble> {
        if batch.n_rows() == 0 && batch.absent.is_empty() && batch.look_ups_known.is_empty() && chain.is_none() {
            return Ok(None);
        }
        let mut counted = ledger::counted(std::slice::from_ref(batch));
        let (known, targets): (Vec<&[u8]>, Vec<i64>) = batch.look_ups_known.iter().map(|(hash, target)| (hash.0.as_slice(), *target)).unzip();
        let query = bind_columns!(sqlx::query_as(text::ROWS), batch.journal, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
        let query = bind_columns!(query, batch.patients, 0, 1, 2, 3, 4);
        let query = bind_columns!(query, batch.visits, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
        let query = bind_columns!(query, batch.facts, 0, 1, 2, 3, 4, 5);
        let query = bind_columns!(query, batch.look_ups, 0, 1, 2);
        let query = bind_columns!(query, batch.outbox, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
        let query = bind_columns!(query, counted, 0, 1, 2).bind(i64::from(lane));
        let query = bind_columns!(query.bind(std::mem::take(&mut batch.by_age)), batch.visits, 10);
        let query = query.bind(bytes(&batch.absent)).bind(known).bind(targets).bind(chain);
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Stands::of(query.fetch_one(&mut *self.connection).await?).map(Some)
    }

    /// Whether everything that the batch was planned from still stands as it was read, but its look-ups; holds it there until the commit.
    async fn check(&mut self, batch: &SealedBatch) -> Result<(), Trouble> {
        let patients: Vec<_> = batch.patients.iter().map(|row| (row.0, row.1 - 1)).chain(batch.patients_read.iter().copied()).collect();
        let visits: Vec<_> = batch.visits.iter().map(|row| (row.0, row.2 - 1)).chain(batch.visits_read.iter().copied()).collect();
        let locks: Vec<i64> = batch.absent.iter().filter_map(|hash| hash.0.first_chunk().copied().map(i64::from_be_bytes)).collect();
        let shares = batch.epoch.is_some() || batch.patients.iter().any(|row| row.1 == 1);
        if patients.is_empty() && visits.is_empty() && locks.is_empty() && !shares {
            return Ok(());
        }
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let query = sqlx::query_as(text::VERSIONS).bind(ids(&patients)).bind(ids(&visits)).bind(locks).bind(shares);
        let stored: Vec<(i64, bool, i64)> = query.fetch_all(&mut *self.connection).await?;
        let stored_of = |visits: bool| stored.iter().filter(move |row| row.1 == visits).map(|row| (row.0, row.2));
        agree(&patients, stored_of(false))?;
        agree(&visits, stored_of(true))
    }
}

fn ids(rows: &[(i64, i64)]) -> Vec<i64> {
    rows.iter().map(|(id, _)| *id).collect()
}
