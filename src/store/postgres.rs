//! The store in a PostgreSQL database, which several daemons may share.
//!
//! Lists and rows go in as arrays, so that a batch costs one statement per table. Rows that a commit depends on are locked in the order of their
//! ids while it checks their versions; identifiers nobody knew yet are guarded by advisory locks. `synchronous_commit` is on wherever an
//! acknowledgement depends on the commit.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::Transaction;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::error::migrate_error;
use crate::store::ledger;
use crate::store::postgres_sql as text;
use crate::store::rows::AuditRow;
use crate::store::sealed::FactColumns;
use crate::store::sealed::QuarantineColumns;
use crate::store::sealed::SealedBatch;
use crate::store::sealed::VisitColumns;
use crate::store::sealing::LookUpHash;
use crate::store::sql;
use crate::store::write::AuditKeys;
use crate::store::write::RawFind;
use crate::store::write::RawFound;
use crate::store::write::SealedWrite;
use crate::store::write::Write;
use crate::store::write::agree;
use crate::store::write::end_key;

/// Connections beside those that read: the intake's, the relay's, one to spare.
const WRITERS: u32 = 3;

/// How long a transaction may stand still before the server ends it: the locks of a daemon that is stopped or cut off stand in everybody's way.
const IDLE_TRANSACTION_MS: &str = "10000";
/// How the server plans. Every statement that is run for each batch finds its rows by an index; what the server believes of a table that was empty when
/// a connection first used it must not keep it from that as long as the connection lives. A plan is made once and not for each list, and never compiled.
const PLANS: [(&str, &str); 3] = [("enable_seqscan", "off"), ("plan_cache_mode", "force_generic_plan"), ("jit", "off")];
/// How long a connection is waited for; the caller tries again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// One PostgreSQL database.
#[derive(Clone, Debug)]
pub(super) struct PostgresBackend {
    pub(super) readers: PgPool,
    read_only: bool,
    n_statements: Arc<AtomicU64>,
}

/// Binds each column of some rows as an array, taking the values out of the rows.
macro_rules! bind_columns {
    ($sql:expr, $rows:expr, $($column:tt),+) => {
        sqlx::query($sql)$(.bind($rows.iter_mut().map(|row| std::mem::take(&mut row.$column)).collect::<Vec<_>>()))+
    };
}

impl PostgresBackend {
    /// Connects, and brings the database up to date; sqlx lets only one daemon do that at a time.
    pub(super) async fn open(url: &str, readers: u32) -> Result<Self, StoreError> {
        let backend = Self::connect(url, readers, false)?;
        let mut connection = backend.readers.acquire().await?;
        sql::migrator(sql::POSTGRES_MIGRATIONS).run_direct(None, &mut *connection, false).await.map_err(migrate_error)?;
        drop(connection);
        Ok(backend)
    }

    pub(super) fn open_read_only(url: &str, readers: u32) -> Result<Self, StoreError> {
        Self::connect(url, readers, true)
    }

    /// As for a daemon, but brings nothing up to date.
    pub(super) fn open_beside(url: &str, readers: u32) -> Result<Self, StoreError> {
        Self::connect(url, readers, false)
    }

    fn connect(url: &str, readers: u32, read_only: bool) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Url)?
            .options([("synchronous_commit", "on"), ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_MS)])
            .options(PLANS);
        let options = options.application_name("wardroom").disable_statement_logging();
        let pool = PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).max_connections(readers.saturating_add(WRITERS)).connect_lazy_with(options);
        Ok(Self { readers: pool, read_only, n_statements: Arc::default() })
    }

    pub(super) fn n_statements(&self) -> u64 {
        self.n_statements.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
    }

    /// One write, whole. A transaction that fails is rolled back when it is dropped.
    pub(super) async fn write(&self, write: SealedWrite) -> Result<(), Trouble> {
        if self.read_only {
            return Err(StoreError::ReadOnly.into());
        }
        let mut transaction = self.readers.begin_with("BEGIN").await?;
        let mut session = Session { connection: &mut transaction, n_statements: &self.n_statements };
        if !write.is_durable() {
            session.run(sqlx::query(text::NOT_DURABLE)).await?;
        }
        session.apply(write).await?;
        Ok(transaction.commit().await?)
    }

    /// A transaction in which every statement sees the same state.
    pub(super) async fn one_moment(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
    }

    pub(super) async fn find(&self, request: &RawFind<'_>) -> Result<RawFound, StoreError> {
        let mut transaction = self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut session = Session { connection: &mut transaction, n_statements: &self.n_statements };
        let mut found = RawFound::default();
        if !request.dedupe.is_empty() {
            found.known = session.by_hashes(text::KNOWN, request.dedupe).await?;
        }
        if !request.look_ups.is_empty() {
            found.look_ups = session.by_hashes(text::LOOK_UPS, request.look_ups).await?;
        }
        let wanted = found.visits_wanted(request);
        if !wanted.is_empty() {
            found.visits = session.by_ids(text::VISITS, &wanted).await?;
        }
        let wanted = found.patients_wanted(request);
        if !wanted.is_empty() {
            found.patients = session.by_ids(text::PATIENTS, &wanted).await?;
            let open: Vec<VisitColumns> = session.by_ids(text::VISITS_OPEN, &found.patient_ids()).await?;
            found.add_visits(open);
        }
        let missing = found.keys_missing()?;
        if !missing.is_empty() {
            found.keys = session.by_ids(text::KEYS, &missing).await?;
        }
        transaction.commit().await?;
        Ok(found)
    }

    /// A fair share of some work: its parts, and the epoch of each. One statement of its own, so that a daemon that stands still holds no lock.
    pub(super) async fn lease(&self, work: &str, holder: Uuid, lasts: Duration) -> Result<Vec<(i16, i64)>, StoreError> {
        let lasts = i64::try_from(lasts.as_micros()).unwrap_or(i64::MAX);
        Ok(sqlx::query_as(text::LEASE).bind(work).bind(holder).bind(lasts).fetch_all(&self.readers).await?)
    }

    pub(super) async fn give_up(&self, work: &str, holder: Uuid) -> Result<(), StoreError> {
        sqlx::query(text::LEASE_GIVE_UP).bind(work).bind(holder).execute(&self.readers).await?;
        Ok(())
    }

    pub(super) async fn data_keys(&self, patients: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::KEYS).bind(patients).fetch_all(&self.readers).await?)
    }

    pub(super) async fn facts(&self, owners: &[i64]) -> Result<Vec<FactColumns>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::FACTS).bind(owners).fetch_all(&self.readers).await?)
    }

    pub(super) async fn facts_known(&self, facts: &[(i64, LookUpHash)]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let owners: Vec<i64> = facts.iter().map(|(owner, _)| *owner).collect();
        let hashes: Vec<&[u8]> = facts.iter().map(|(_, hash)| hash.0.as_slice()).collect();
        Ok(sqlx::query_as(text::FACTS_KNOWN).bind(owners).bind(hashes).fetch_all(&self.readers).await?)
    }

    pub(super) async fn quarantine_by_hashes(&self, wanted: &[LookUpHash]) -> Result<Vec<QuarantineColumns>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::QUARANTINE_BY_HASHES).bind(bytes(wanted)).fetch_all(&self.readers).await?)
    }
}

fn bytes(hashes: &[LookUpHash]) -> Vec<&[u8]> {
    hashes.iter().map(|hash| hash.0.as_slice()).collect()
}

/// A connection whose statements are counted.
struct Session<'c> {
    connection: &'c mut PgConnection,
    n_statements: &'c AtomicU64,
}

impl Session<'_> {
    async fn run(&mut self, query: Query<'_>) -> Result<u64, sqlx::Error> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }

    async fn by_ids<T>(&mut self, sql: &'static str, ids: &[i64]) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        sqlx::query_as(sql).bind(ids).fetch_all(&mut *self.connection).await
    }

    async fn by_hashes<T>(&mut self, sql: &'static str, hashes: &[LookUpHash]) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        sqlx::query_as(sql).bind(bytes(hashes)).fetch_all(&mut *self.connection).await
    }

    async fn apply(&mut self, write: SealedWrite) -> Result<(), Trouble> {
        match write.write {
            Write::Commit(mut batches) => {
                let audit: Vec<AuditRow> = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.audit)).collect();
                let counted = ledger::counted(&batches);
                for batch in batches {
                    self.commit(batch).await?;
                }
                self.count(write.lane, counted).await?;
                if !audit.is_empty() {
                    self.append(write.lane, &write.keys, &audit).await?;
                }
            }
            Write::Audit(rows) => self.append(write.lane, &write.keys, &rows).await?,
            Write::Settle(seqs) => {
                let n_settled = self.run(sqlx::query(text::OUTBOX_SETTLE).bind(seqs)).await?;
                self.count(write.lane, ledger::confirmed(n_settled)).await?;
            }
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
        }
        Ok(())
    }

    async fn count(&mut self, lane: u16, counted: impl IntoIterator<Item = (String, i64, i64)>) -> Result<(), sqlx::Error> {
        for (what, hour, n) in counted {
            self.run(sqlx::query(ledger::TALLY_ADD).bind(what).bind(i64::from(lane)).bind(hour).bind(n)).await?;
        }
        Ok(())
    }

    /// Rows at the end of a chain. Comes last in a transaction, since the end of the chain is held from here to the commit.
    async fn append(&mut self, lane: u16, keys: &AuditKeys, audit: &[AuditRow]) -> Result<(), Trouble> {
        let key = end_key(lane);
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let end: Vec<u8> = sqlx::query_scalar(text::CHAIN_END).bind(&key).fetch_one(&mut *self.connection).await?;
        let end = if end.is_empty() { None } else { Some(end) };
        let (end, mut rows) = keys.seal_audit(lane, end, audit)?;
        self.run(bind_columns!(text::AUDIT, rows, 0, 1, 2, 3, 4, 5, 6, 7, 8)).await?;
        self.run(sqlx::query(sql::META_PUT).bind(key).bind(end)).await?;
        Ok(())
    }

    async fn commit(&mut self, mut batch: SealedBatch) -> Result<(), Trouble> {
        self.check(&batch).await?;
        if !batch.dedupe_released.is_empty() {
            self.run(sqlx::query(text::DEDUPE_RELEASE).bind(&batch.dedupe_released)).await?;
        }
        if !batch.journal.is_empty() {
            self.run(bind_columns!(text::JOURNAL, batch.journal, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)).await?;
        }
        if !batch.journal_settled.is_empty() {
            let n_to_settle = batch.journal_settled.len();
            let n_settled = self.run(bind_columns!(text::JOURNAL_SETTLE, batch.journal_settled, 0, 1, 2)).await?;
            if n_settled != n_to_settle as u64 {
                return Err(Trouble::Conflict);
            }
        }
        if !batch.patients.is_empty() {
            self.run(bind_columns!(text::PATIENT, batch.patients, 0, 1, 2, 3, 4)).await?;
        }
        if !batch.visits.is_empty() {
            self.run(bind_columns!(text::VISIT, batch.visits, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)).await?;
        }
        if !batch.facts.is_empty() {
            self.run(bind_columns!(text::FACT, batch.facts, 0, 1, 2, 3, 4, 5)).await?;
        }
        if !batch.look_ups.is_empty() {
            self.run(bind_columns!(text::LOOK_UP, batch.look_ups, 0, 1, 2)).await?;
        }
        if !batch.outbox.is_empty() {
            self.run(bind_columns!(text::OUTBOX, batch.outbox, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)).await?;
        }
        if !batch.quarantine.is_empty() {
            self.run(bind_columns!(text::QUARANTINE, batch.quarantine, 0, 1, 2, 3, 4, 5)).await?;
        }
        if !batch.quarantine_left.is_empty() {
            self.run(sqlx::query(text::QUARANTINE_LEAVE).bind(&batch.quarantine_left)).await?;
        }
        if let Some((version, doc)) = batch.directory
            && self.run(sqlx::query(sql::DIRECTORY_PUT).bind(version).bind(doc)).await? == 0
        {
            return Err(Trouble::Conflict);
        }
        Ok(())
    }

    /// Whether everything that the batch was planned from still stands as it was read; holds it there until the commit.
    async fn check(&mut self, batch: &SealedBatch) -> Result<(), Trouble> {
        let patients = batch.patients.iter().map(|row| (row.0, row.1 - 1)).chain(batch.patients_read.iter().copied()).collect();
        let visits = batch.visits.iter().map(|row| (row.0, row.2 - 1)).chain(batch.visits_read.iter().copied()).collect();
        for (sql, read) in [(text::PATIENT_VERSIONS, patients), (text::VISIT_VERSIONS, visits)] {
            let read: Vec<(i64, i64)> = read;
            if !read.is_empty() {
                let ids: Vec<i64> = read.iter().map(|(id, _)| *id).collect();
                let stored: Vec<(i64, i64)> = self.by_ids(sql, &ids).await?;
                agree(&read, stored.into_iter())?;
            }
        }
        if !batch.look_ups_known.is_empty() {
            let (hashes, targets): (Vec<&[u8]>, Vec<i64>) = batch.look_ups_known.iter().map(|(hash, target)| (hash.0.as_slice(), *target)).unzip();
            // Behind the locks: whoever had them before may have added some.
            if self.run(sqlx::query(text::LOOK_UPS_ELSEWHERE).bind(hashes).bind(targets)).await? > 0 {
                return Err(Trouble::Conflict);
            }
        }
        if !batch.absent.is_empty() {
            let locks: Vec<i64> = batch.absent.iter().filter_map(|hash| hash.0.first_chunk().copied().map(i64::from_be_bytes)).collect();
            self.run(sqlx::query(text::ABSENT_LOCK).bind(locks)).await?;
            let there: Vec<(i64,)> = self.by_hashes(text::LOOK_UPS_THERE, &batch.absent).await?;
            if !there.is_empty() {
                return Err(Trouble::Conflict);
            }
        }
        Ok(())
    }
}
