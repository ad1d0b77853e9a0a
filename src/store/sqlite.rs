//! The store in one SQLite file.
//!
//! One connection writes; a pool of read-only connections reads. Every write is a `BEGIN IMMEDIATE` transaction on the one writer, in the order of
//! asking; what was published meanwhile is settled in the next commit's transaction. `synchronous` is FULL wherever an acknowledgement depends on the
//! commit. Lists go in as JSON text and rows as padded multi-row `VALUES`, so that a batch costs a few statements, whose text is always the same.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::fs::TryLockError;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::Sqlite;
use sqlx::SqliteConnection;
use sqlx::SqlitePool;
use sqlx::Transaction;
use sqlx::sqlite::SqliteArguments;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteRow;
use sqlx::sqlite::SqliteSynchronous;
use tokio::sync::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::error::migrate_error;
use crate::store::ledger;
use crate::store::rows::AuditRow;
use crate::store::sealed::FactColumns;
use crate::store::sealed::QuarantineColumns;
use crate::store::sealed::SealedBatch;
use crate::store::sealed::VisitColumns;
use crate::store::sealed::VisitIndexed;
use crate::store::sealing::LookUpHash;
use crate::store::sql;
use crate::store::sqlite_sql as text;
use crate::store::sqlite_sql::Rows;
use crate::store::write::AuditKeys;
use crate::store::write::RawFind;
use crate::store::write::RawFound;
use crate::store::write::SealedWrite;
use crate::store::write::Stored;
use crate::store::write::Write;
use crate::store::write::agree;
use crate::store::write::end_key;

/// SQLite waits this long for another process; within this one the writer's turn is what is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long settled events wait for a commit that takes them along.
const SETTLE_WAIT: Duration = Duration::from_millis(10);
/// After how many rows the write-ahead log is written back.
const LOG_ROWS: u64 = 4096;
const STATEMENTS_KEPT: usize = 256;
const ROWS_BUFFERED: usize = 256;

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// One SQLite file.
#[derive(Clone, Debug)]
pub(super) struct SqliteBackend {
    pub(super) readers: SqlitePool,
    writer: Option<Arc<Mutex<Writer>>>,
    settling: Settling,
    log: Arc<Log>,
    n_statements: Arc<AtomicU64>,
    /// Held as long as the one daemon has the store open.
    lock: Option<Arc<File>>,
}

#[derive(Debug)]
struct Writer {
    options: SqliteConnectOptions,
    connection: SqliteConnection,
    durable: bool,
}

/// What is known of the write-ahead log, and who writes it back beside the commits.
#[derive(Debug, Default)]
struct Log {
    /// Rows written since it was last written back; each takes about a page of the log.
    n_rows: AtomicU64,
    is_written_back: AtomicBool,
    connection: Mutex<Option<SqliteConnection>>,
    tasks: TaskTracker,
}

/// Events that were published, until some transaction takes them out of the outbox.
#[derive(Clone, Debug, Default)]
struct Settling(Arc<std::sync::Mutex<Vec<Settle>>>);

#[derive(Debug)]
struct Settle {
    seqs: Vec<i64>,
    done: oneshot::Sender<()>,
}

impl Settling {
    fn add(&self, settles: impl IntoIterator<Item = Settle>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(settles);
    }

    fn take(&self) -> Vec<Settle> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where the file is, for somebody who wants to know whether it exists.
pub(super) fn file_of(url: &str) -> Result<PathBuf, StoreError> {
    Ok(SqliteConnectOptions::from_str(url).map_err(|_| StoreError::Url)?.get_filename().to_owned())
}

impl SqliteBackend {
    /// Opens the file for the one daemon that writes it, and brings it up to date.
    pub(super) async fn open(url: &str, readers: u32, tasks: TaskTracker) -> Result<Self, StoreError> {
        let options = options(url)?;
        let lock = lock(&options)?;
        let writing = options
            .clone()
            .create_if_missing(true)
            // Packed documents are short: on a page of 4 KiB two or three lie together, and no more than those are written again with one of them.
            .page_size(4096)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // The log is written back beside the commits (see `Log`); inside a commit only where that does not keep up.
            .pragma("wal_autocheckpoint", "32768")
            .pragma("journal_size_limit", "134217728")
            .pragma("cache_size", "-32768");
        let mut connection = writing.connect().await?;
        sql::migrator(sql::SQLITE_MIGRATIONS).run_direct(None, &mut connection, false).await.map_err(migrate_error)?;
        let writer = Writer { options: writing, connection, durable: true };
        Ok(Self {
            readers: pool(options, readers),
            writer: Some(Arc::new(Mutex::new(writer))),
            settling: Settling::default(),
            log: Arc::new(Log { tasks, ..Log::default() }),
            n_statements: Arc::default(),
            lock: Some(Arc::new(lock)),
        })
    }

    /// Opens the file beside a daemon that may be running.
    pub(super) fn open_read_only(url: &str, readers: u32) -> Result<Self, StoreError> {
        let options = options(url)?;
        if !options.get_filename().exists() {
            return Err(StoreError::NotMigrated);
        }
        Ok(Self {
            readers: pool(options, readers),
            writer: None,
            settling: Settling::default(),
            log: Arc::default(),
            n_statements: Arc::default(),
            lock: None,
        })
    }

    /// Opens the file beside a daemon that may be running, with a writer of its own and without the lock: for single short writes, which take their
    /// turn with the daemon's.
    pub(super) async fn open_beside(url: &str, readers: u32) -> Result<Self, StoreError> {
        let options = options(url)?;
        if !options.get_filename().exists() {
            return Err(StoreError::NotMigrated);
        }
        // The write-ahead log is the daemon's to write back.
        let writing = options.clone().synchronous(SqliteSynchronous::Full).pragma("wal_autocheckpoint", "0");
        let connection = writing.connect().await?;
        let writer = Writer { options: writing, connection, durable: true };
        Ok(Self {
            readers: pool(options, readers),
            writer: Some(Arc::new(Mutex::new(writer))),
            settling: Settling::default(),
            log: Arc::default(),
            n_statements: Arc::default(),
            lock: None,
        })
    }

    /// Plays a full disk: the file may not grow any more.
    #[cfg(test)]
    pub(super) async fn limit_pages(&self, limited: bool) {
        let mut writer = self.writer.as_ref().unwrap().lock().await;
        let limit = if limited { "PRAGMA max_page_count = 1" } else { "PRAGMA max_page_count = 1073741823" };
        sqlx::query(limit).execute(&mut writer.connection).await.unwrap();
    }

    #[cfg(test)]
    pub(super) async fn synchronous(&self) -> i64 {
        let mut writer = self.writer.as_ref().unwrap().lock().await;
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut writer.connection).await.unwrap()
    }

    pub(super) fn n_statements(&self) -> u64 {
        self.n_statements.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        *self.log.connection.lock().await = None;
        if self.lock.is_some()
            && let Some(writer) = &self.writer
        {
            let mut writer = writer.lock().await;
            // What is in the log goes into the file, so that a copy of the file alone is whole.
            let tidied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.connection).await;
            if let Err(error) = tidied.map_err(StoreError::from) {
                tracing::warn!(%error, "the write-ahead log could not be written back; it will be at the next start");
            }
        }
    }

    /// One write, whole: must not be cancelled, so the caller runs it in a task of its own.
    pub(super) async fn write(&self, write: SealedWrite) -> Result<(), Trouble> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        if let Write::Settle(seqs) = write.write {
            return self.settle(writer, seqs, SealedWrite { write: Write::Settle(Vec::new()), ..write }).await;
        }
        let mut writer = writer.lock().await;
        let (settles, n_rows) = if let Write::Commit(batch) = &write.write { (self.settling.take(), batch.n_rows()) } else { (Vec::new(), 1) };
        let seqs: Vec<i64> = settles.iter().flat_map(|settle| &settle.seqs).copied().collect();
        let outcome = writer.run(write, &seqs, &self.n_statements).await;
        // Before anybody else writes: whoever waits for the writer to settle something finds it either settled or waiting.
        self.settled(settles, outcome.is_ok());
        drop(writer);
        self.write_back(n_rows);
        outcome
    }

    /// Has the log written back in the background once it is long, so that no commit has to do it.
    fn write_back(&self, n_rows: u64) {
        let n_rows = self.log.n_rows.fetch_add(n_rows, Ordering::Relaxed) + n_rows;
        if self.lock.is_some() && n_rows >= LOG_ROWS && !self.log.is_written_back.swap(true, Ordering::Relaxed) {
            self.log.n_rows.store(0, Ordering::Relaxed);
            let backend = self.clone();
            self.log.tasks.spawn(async move {
                if let Err(error) = backend.checkpoint().await.map_err(StoreError::from) {
                    tracing::warn!(%error, "the write-ahead log could not be written back; it will be later");
                }
                backend.log.is_written_back.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Writes back what is in the log now beside the commits, and then, between two of them, the little that they added: only where all of it was written
    /// back does the log begin again from its start.
    async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let mut own = self.log.connection.lock().await;
        let connection = match own.take() {
            Some(connection) => connection,
            None => writer.lock().await.options.clone().connect().await?,
        };
        let connection = own.insert(connection);
        sqlx::query(text::CHECKPOINT).execute(connection).await?;
        sqlx::query(text::CHECKPOINT).execute(&mut writer.lock().await.connection).await?;
        Ok(())
    }

    /// Leaves published events to the next commit; where none comes soon, takes them out in a transaction of its own.
    async fn settle(&self, writer: &Mutex<Writer>, seqs: Vec<i64>, write: SealedWrite) -> Result<(), Trouble> {
        let (done, mut settled) = oneshot::channel();
        self.settling.add([Settle { seqs, done }]);
        if timeout(SETTLE_WAIT, &mut settled).await.is_ok() {
            return Ok(());
        }
        let mut writer = writer.lock().await;
        let settles = self.settling.take();
        if settles.is_empty() {
            // A commit took them along while this waited for the writer.
            return Ok(());
        }
        let seqs: Vec<i64> = settles.iter().flat_map(|settle| &settle.seqs).copied().collect();
        let outcome = writer.run(write, &seqs, &self.n_statements).await;
        self.settled(settles, outcome.is_ok());
        outcome
    }

    /// Tells those who wait that their events are settled; those of a transaction that failed stay for the next one.
    fn settled(&self, settles: Vec<Settle>, are_settled: bool) {
        if are_settled {
            // Whoever stopped waiting need not know.
            for settle in settles {
                settle.done.send(()).unwrap_or_default();
            }
        } else {
            self.settling.add(settles);
        }
    }

    /// A transaction in which every statement sees the same state.
    pub(super) async fn one_moment(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.readers.begin_with("BEGIN").await?)
    }

    pub(super) async fn find(&self, request: &RawFind<'_>) -> Result<RawFound, StoreError> {
        if request.look_ups.is_empty() && request.visits.is_empty() && request.patients.is_empty() {
            return self.find_known(request.dedupe).await;
        }
        // One transaction, so that all statements see one state.
        let mut transaction = self.readers.begin_with("BEGIN").await?;
        let mut session = Session { connection: &mut transaction, n_statements: &self.n_statements };
        let mut found = RawFound::default();
        if !request.dedupe.is_empty() {
            found.known = session.all(text::KNOWN, hashes(request.dedupe)).await?;
        }
        if !request.look_ups.is_empty() {
            found.look_ups = session.all(text::LOOK_UPS, hashes(request.look_ups)).await?;
        }
        let wanted = found.visits_wanted(request);
        if !wanted.is_empty() {
            found.visits = session.all(text::VISITS, ids(&wanted)).await?;
        }
        let wanted = found.patients_wanted(request);
        if !wanted.is_empty() {
            found.patients = session.all(text::PATIENTS, ids(&wanted)).await?;
            let open: Vec<VisitColumns> = session.all(text::VISITS_OPEN, ids(&found.patient_ids())).await?;
            found.add_visits(open);
        }
        let missing = found.keys_missing()?;
        if !missing.is_empty() {
            found.keys = session.all(text::KEYS, ids(&missing)).await?;
        }
        transaction.commit().await?;
        Ok(found)
    }

    /// Which of these messages are known, and nothing else.
    async fn find_known(&self, dedupe: &[LookUpHash]) -> Result<RawFound, StoreError> {
        let mut found = RawFound::default();
        if !dedupe.is_empty() {
            self.n_statements.fetch_add(1, Ordering::Relaxed);
            found.known = sqlx::query_as(text::KNOWN).bind(hashes(dedupe)).fetch_all(&self.readers).await?;
        }
        Ok(found)
    }

    pub(super) async fn data_keys(&self, patients: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::KEYS).bind(ids(patients)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn facts(&self, owners: &[i64]) -> Result<Vec<FactColumns>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::FACTS).bind(ids(owners)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn facts_known(&self, facts: &[(i64, LookUpHash)]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let owners: Vec<i64> = facts.iter().map(|(owner, _)| *owner).collect();
        let hashed: Vec<LookUpHash> = facts.iter().map(|(_, hash)| *hash).collect();
        Ok(sqlx::query_as(text::FACTS_KNOWN).bind(ids(&owners)).bind(hashes(&hashed)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn quarantine_by_hashes(&self, wanted: &[LookUpHash]) -> Result<Vec<QuarantineColumns>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::QUARANTINE_BY_HASHES).bind(hashes(wanted)).fetch_all(&self.readers).await?)
    }
}

impl Writer {
    async fn run(&mut self, write: SealedWrite, settled: &[i64], n_statements: &AtomicU64) -> Result<(), Trouble> {
        let outcome = self.attempt(write, settled, n_statements).await;
        if outcome.is_err() {
            self.recover().await;
        }
        outcome
    }

    async fn attempt(&mut self, write: SealedWrite, settled: &[i64], n_statements: &AtomicU64) -> Result<(), Trouble> {
        let (durable, lane) = (write.is_durable(), write.lane);
        let mut session = Session { connection: &mut self.connection, n_statements };
        if durable != self.durable {
            // In WAL mode NORMAL may lose the last commits when the power fails, and never harms the file.
            let level = if durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            session.run(sqlx::query(level)).await?;
            self.durable = durable;
        }
        session.run(sqlx::query("BEGIN IMMEDIATE")).await?;
        session.apply(write).await?;
        if !settled.is_empty() {
            let n_settled = session.run(sqlx::query(text::OUTBOX_SETTLE).bind(ids(settled))).await?;
            session.count(lane, ledger::confirmed(n_settled)).await?;
        }
        session.run(sqlx::query("COMMIT")).await?;
        Ok(())
    }

    /// After an error the connection is usable again, or replaced.
    async fn recover(&mut self) {
        // SQLite has already rolled back after some errors, and then refuses with SQLITE_ERROR: that is fine too.
        let usable = match sqlx::query("ROLLBACK").execute(&mut self.connection).await {
            Ok(_) => true,
            Err(sqlx::Error::Database(error)) => error.code().is_some_and(|code| code == "1"),
            Err(_) => false,
        };
        if usable {
            return;
        }
        match self.options.connect().await {
            Ok(connection) => {
                self.connection = connection;
                self.durable = true;
            }
            Err(error) => tracing::error!(error = %StoreError::from(error), "the store's writer could not be opened again"),
        }
    }
}

/// A connection whose statements are counted.
struct Session<'c> {
    connection: &'c mut SqliteConnection,
    n_statements: &'c AtomicU64,
}

impl Session<'_> {
    async fn run(&mut self, query: Query<'_>) -> Result<u64, sqlx::Error> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }

    async fn all<T>(&mut self, sql: &'static str, list: String) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> sqlx::FromRow<'r, SqliteRow> + Send + Unpin,
    {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        sqlx::query_as(sql).bind(list).fetch_all(&mut *self.connection).await
    }

    /// Writes rows in as few statements as fit, each padded with rows of NULL that the statement leaves out.
    async fn rows<T>(
        &mut self,
        rows_sql: &'static Rows,
        rows: Vec<T>,
        bind: impl Fn(Query<'static>, T) -> Query<'static>,
    ) -> Result<u64, sqlx::Error> {
        let mut rows = rows.into_iter();
        let mut n_affected = 0;
        while rows.len() > 0 {
            let (sql, n) = rows_sql.fitting(rows.len());
            let query = rows.by_ref().take(n).fold(sqlx::query(sql), &bind);
            n_affected += self.run(query).await?;
        }
        Ok(n_affected)
    }

    async fn apply(&mut self, write: SealedWrite) -> Result<(), Trouble> {
        match write.write {
            Write::Commit(mut batch) => {
                let audit = std::mem::take(&mut batch.audit);
                let counted = ledger::counted(&batch.journal, batch.outbox.len());
                self.commit(*batch).await?;
                self.count(write.lane, counted).await?;
                if !audit.is_empty() {
                    self.append(write.lane, &write.keys, &audit).await?;
                }
            }
            Write::Audit(rows) => self.append(write.lane, &write.keys, &rows).await?,
            // Settled events are in no list of their own here: every transaction takes along those there are.
            Write::Settle(_) => {}
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

    /// Rows at the end of a chain. The end is read inside the transaction, so that another process on the same lane cannot have moved it.
    async fn append(&mut self, lane: u16, keys: &AuditKeys, audit: &[AuditRow]) -> Result<(), Trouble> {
        let key = end_key(lane);
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let end: Option<Vec<u8>> = sqlx::query_scalar(sql::META).bind(&key).fetch_optional(&mut *self.connection).await?;
        let (end, rows) = keys.seal_audit(lane, end, audit)?;
        self.rows(&text::AUDIT, rows, |q, r| q.bind(r.0).bind(r.1).bind(r.2).bind(r.3).bind(r.4).bind(r.5).bind(r.6).bind(r.7)).await?;
        self.run(sqlx::query(sql::META_PUT).bind(key).bind(end)).await?;
        Ok(())
    }

    async fn commit(&mut self, batch: SealedBatch) -> Result<(), Trouble> {
        let visits = self.check(&batch).await?;
        if !batch.dedupe_released.is_empty() {
            self.run(sqlx::query(text::DEDUPE_RELEASE).bind(ids(&batch.dedupe_released))).await?;
        }
        self.rows(&text::JOURNAL, batch.journal, |q, r| {
            let q = q.bind(r.0).bind(r.1).bind(r.2).bind(r.3).bind(r.4).bind(r.5);
            q.bind(r.6).bind(r.7).bind(r.8).bind(r.9).bind(r.10).bind(r.11)
        })
        .await?;
        let n_to_settle = batch.journal_settled.len();
        if self.rows(&text::JOURNAL_SETTLE, batch.journal_settled, |q, r| q.bind(r.0).bind(r.1).bind(r.2)).await? != n_to_settle as u64 {
            return Err(Trouble::Conflict);
        }
        self.rows(&text::PATIENT, batch.patients, |q, r| q.bind(r.0).bind(r.1).bind(r.2).bind(r.3).bind(r.4)).await?;
        // A write that leaves the indexed columns as they are need not touch the indexes.
        let (quiet, other): (Vec<_>, Vec<_>) = batch.visits.into_iter().partition(|row| visits.indexed_alike(row));
        for (sql, rows) in [(&text::VISIT, other), (&text::VISIT_QUIET, quiet)] {
            self.rows(sql, rows, |q, r| {
                let q = q.bind(r.0).bind(r.1).bind(r.2).bind(r.3).bind(r.4);
                q.bind(r.5).bind(r.6).bind(r.7).bind(r.8).bind(r.9)
            })
            .await?;
        }
        self.rows(&text::FACT, batch.facts, |q, r| q.bind(r.0).bind(r.1).bind(r.2).bind(r.3).bind(r.4).bind(r.5)).await?;
        self.rows(&text::LOOK_UP, batch.look_ups, |q, r| q.bind(r.0).bind(r.1).bind(r.2)).await?;
        self.rows(&text::OUTBOX, batch.outbox, |q, r| {
            let q = q.bind(r.0).bind(r.1).bind(r.2).bind(r.3).bind(r.4);
            q.bind(r.5).bind(r.6).bind(r.7).bind(r.8).bind(r.9)
        })
        .await?;
        self.rows(&text::QUARANTINE, batch.quarantine, |q, r| q.bind(r.0).bind(r.1).bind(r.2).bind(r.3).bind(r.4).bind(r.5)).await?;
        if !batch.quarantine_left.is_empty() {
            self.run(sqlx::query(text::QUARANTINE_LEAVE).bind(ids(&batch.quarantine_left))).await?;
        }
        if let Some((version, doc)) = batch.directory
            && self.run(sqlx::query(sql::DIRECTORY_PUT).bind(version).bind(doc)).await? == 0
        {
            return Err(Trouble::Conflict);
        }
        Ok(())
    }

    /// Whether everything that the batch was planned from still stands as it was read.
    async fn check(&mut self, batch: &SealedBatch) -> Result<Stored, Trouble> {
        if !batch.patients_checked.is_empty() {
            let stored: Vec<(i64, i64)> = self.all(text::PATIENT_VERSIONS, first_ids(&batch.patients_checked)).await?;
            agree(&batch.patients_checked, stored.into_iter())?;
        }
        let mut visits = Stored::default();
        if !batch.visits_checked.is_empty() {
            let stored: Vec<VisitIndexed> = self.all(text::VISIT_VERSIONS, first_ids(&batch.visits_checked)).await?;
            agree(&batch.visits_checked, stored.iter().map(|row| (row.0, row.1)))?;
            visits = Stored::new(stored);
        }
        if !batch.absent.is_empty() {
            let there: Vec<(i64,)> = self.all(text::LOOK_UPS_THERE, hashes(&batch.absent)).await?;
            if !there.is_empty() {
                return Err(Trouble::Conflict);
            }
        }
        Ok(visits)
    }
}

fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    Ok(SqliteConnectOptions::from_str(url)
        .map_err(|_| StoreError::Url)?
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .row_buffer_size(ROWS_BUFFERED)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-4096")
        .disable_statement_logging())
}

fn pool(options: SqliteConnectOptions, readers: u32) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(readers.max(1))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options.read_only(true))
}

/// The file beside the database that one daemon holds locked; the lock ends with its process, however that ends.
fn lock(options: &SqliteConnectOptions) -> Result<File, StoreError> {
    let mut name = OsString::from(options.get_filename());
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| StoreError::LockFile { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(StoreError::LockFile { path, source }),
    }
}

/// `[1,2,3]`
fn ids(ids: &[i64]) -> String {
    list(ids.iter(), |text, id| write!(text, "{id}"))
}

fn first_ids(rows: &[(i64, i64)]) -> String {
    list(rows.iter(), |text, (id, _)| write!(text, "{id}"))
}

/// `["00ff…","…"]`
fn hashes(hashes: &[LookUpHash]) -> String {
    list(hashes.iter(), |text, hash| write!(text, "\"{:032x}\"", u128::from_be_bytes(hash.0)))
}

fn list<T>(items: impl ExactSizeIterator<Item = T>, mut add: impl FnMut(&mut String, T) -> std::fmt::Result) -> String {
    let mut text = String::with_capacity(2 + items.len() * 36);
    text.push('[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            text.push(',');
        }
        // Writing into a string cannot fail.
        add(&mut text, item).unwrap_or_default();
    }
    text.push(']');
    text
}
