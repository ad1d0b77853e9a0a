//! The store in one SQLite file.
//!
//! One connection writes; a pool of read-only connections reads. Every write is a `BEGIN IMMEDIATE` transaction on the one writer, in the order of
//! asking; what was published meanwhile is settled in the next commit's transaction. `synchronous` is FULL wherever an acknowledgement depends on the
//! commit. A transaction runs as a whole on a thread of its own, on rusqlite: sqlx hands each statement to a thread and back, and a commit has many.
//! Reading and migrations are sqlx's, as on PostgreSQL. Lists go in as JSON text, so that a statement's text is always the same.

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::Connection as _;
use sqlx::Sqlite;
use sqlx::SqlitePool;
use sqlx::Transaction;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::sync::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::look_up::LookUpHash;
use crate::store::sealed::AuditColumns;
use crate::store::sealed::FactColumns;
use crate::store::sealed::QuarantineColumns;
use crate::store::sealed::SealedBatch;
use crate::store::sql;
use crate::store::sqlite_sql as text;
use crate::store::write::RawFind;
use crate::store::write::RawFound;
use crate::store::write::SealedWrite;
use crate::store::write::Write;

use absent::Absent;
use finder::Finder;
use hand::Hand;
use write_back::Log;
use writer::Opening;
use writer::Writer;

mod absent;
mod finder;
mod hand;
mod layer;
pub(super) mod place;
mod write_back;
mod writer;

/// SQLite waits this long for another process; within this one the writer's turn is what is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long settled events wait for a commit that takes them along.
const SETTLE_WAIT: Duration = Duration::from_millis(10);
/// The log is written back beside the commits (see `write_back`); inside a commit only where that does not keep up.
const AUTO_CHECKPOINT: u32 = 32768;
const STATEMENTS_KEPT: usize = 256;
const ROWS_BUFFERED: usize = 256;

/// One SQLite file.
#[derive(Clone, Debug)]
pub(super) struct SqliteBackend {
    pub(super) readers: SqlitePool,
    /// Taken for each transaction by the thread that runs it.
    writer: Option<Arc<Mutex<Writer>>>,
    finder: Finder,
    /// Only where nobody else writes look-ups.
    absent: Option<Arc<Absent>>,
    settling: Settling,
    log: Arc<Log>,
    n_statements: Arc<AtomicU64>,
    /// Held as long as the one daemon has the store open.
    lock: Option<Arc<File>>,
    /// Who commits; only where that is the daemon's work.
    pub(super) hand: Option<Arc<Hand>>,
}

/// The writer, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn(OwnedMutexGuard<Writer>);

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
        let lock = place::lock(options.get_filename())?;
        is_a_store_or_none(&options).await?;
        let writing = options
            .clone()
            .create_if_missing(true)
            // Packed documents are short: on a page of 4 KiB two or three lie together, and no more than those are written again with one of them.
            .page_size(4096)
            .journal_mode(SqliteJournalMode::Wal);
        let mut connection = writing.connect().await?;
        sql::bring_up_to_date(&mut connection, sql::SQLITE_MIGRATIONS).await?;
        connection.close().await?;
        let writer = Writer::open(Opening { file: options.get_filename().to_owned(), auto_checkpoint: AUTO_CHECKPOINT })?;
        writer.can_write()?;
        let n_statements = Arc::default();
        let finder = Finder::new(options.get_filename().to_owned(), Arc::clone(&n_statements));
        Ok(Self {
            absent: Some(learn_absent(&finder, &tasks)),
            finder,
            readers: pool(options, readers),
            writer: Some(Arc::new(Mutex::new(writer))),
            settling: Settling::default(),
            log: Arc::new(Log::new(tasks)),
            n_statements,
            lock: Some(Arc::new(lock)),
            hand: Some(Arc::new(Hand::start()?)),
        })
    }

    /// Opens the file beside a daemon that may be running.
    pub(super) async fn open_read_only(url: &str, readers: u32) -> Result<Self, StoreError> {
        let options = options(url)?;
        if !options.get_filename().exists() {
            return Err(StoreError::NotMigrated);
        }
        is_a_store_or_none(&options).await?;
        let n_statements = Arc::default();
        Ok(Self {
            finder: Finder::new(options.get_filename().to_owned(), Arc::clone(&n_statements)),
            absent: None,
            readers: pool(options, readers),
            writer: None,
            settling: Settling::default(),
            log: Arc::default(),
            n_statements,
            lock: None,
            hand: None,
        })
    }

    /// Opens the file beside a daemon that may be running, with a writer of its own and without the lock: for single short writes, which take their
    /// turn with the daemon's.
    pub(super) async fn open_beside(url: &str, readers: u32) -> Result<Self, StoreError> {
        let options = options(url)?;
        if !options.get_filename().exists() {
            return Err(StoreError::NotMigrated);
        }
        is_a_store_or_none(&options).await?;
        // The write-ahead log is the daemon's to write back.
        let writer = Writer::open(Opening { file: options.get_filename().to_owned(), auto_checkpoint: 0 })?;
        let n_statements = Arc::default();
        Ok(Self {
            finder: Finder::new(options.get_filename().to_owned(), Arc::clone(&n_statements)),
            absent: None,
            readers: pool(options, readers),
            writer: Some(Arc::new(Mutex::new(writer))),
            settling: Settling::default(),
            log: Arc::default(),
            n_statements,
            lock: None,
            hand: None,
        })
    }

    /// Plays a full disk: the file may not grow any more.
    #[cfg(test)]
    pub(super) async fn limit_pages(&self, limited: bool) {
        let writer = self.writer.as_ref().unwrap().lock().await;
        let limit = if limited { 1 } else { 1_073_741_823 };
        writer.connection.pragma_update_and_check(None, "max_page_count", limit, |_| Ok(())).unwrap();
    }

    #[cfg(test)]
    pub(super) async fn synchronous(&self) -> i64 {
        let writer = self.writer.as_ref().unwrap().lock().await;
        writer.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    }

    pub(super) fn n_statements(&self) -> u64 {
        self.n_statements.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.finder.close();
        self.log.close();
        // What is in the log goes into the file, so that a copy of the file alone is whole.
        if self.lock.is_some()
            && let Err(error) = self.shorten_log().await
        {
            let hint = "until then a copy of the store is its file together with the one that ends in -wal";
            tracing::warn!(%error, hint, "the write-ahead log could not be written back; it will be at the next start");
        }
    }

    /// One write, whole: must not be cancelled, so the caller runs it in a task of its own.
    pub(super) async fn write(&self, write: SealedWrite) -> Result<(), Trouble> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        if let Write::Settle(seqs) = write.write {
            return self.settle(writer, seqs, SealedWrite { write: Write::Settle(Vec::new()), ..write }).await;
        }
        let backend = self.clone();
        with(writer, move |writer| Ok(backend.write_now(writer, write))).await?
    }

    /// The writer, where nobody else has it.
    pub(super) fn turn(&self) -> Option<Turn> {
        Arc::clone(self.writer.as_ref()?).try_lock_owned().ok().map(Turn)
    }

    /// As [`SqliteBackend::write`], for whoever has the writer and may wait for the disk.
    pub(super) fn write_in(&self, mut turn: Turn, write: SealedWrite) -> Result<(), Trouble> {
        self.write_now(&mut turn.0, write)
    }

    fn write_now(&self, writer: &mut Writer, write: SealedWrite) -> Result<(), Trouble> {
        if let (Write::Commit(batches), Some(absent)) = (&write.write, &self.absent) {
            batches.iter().flat_map(|batch| &batch.look_ups).for_each(|(hash, _, _)| absent.note(hash));
        }
        let (settles, n_rows) = match &write.write {
            Write::Commit(batches) => (self.settling.take(), batches.iter().map(SealedBatch::n_rows).sum()),
            Write::Wrap(wrap) => (Vec::new(), wrap.patients.len() as u64 + 1),
            Write::Audit(_) | Write::Settle(_) | Write::Park { .. } | Write::Put { .. } | Write::Keep(_) => (Vec::new(), 1),
        };
        let outcome = self.transact(writer, write, settles);
        self.write_back(n_rows);
        outcome
    }

    /// One transaction, which takes along what is to be settled.
    fn transact(&self, writer: &mut Writer, write: SealedWrite, settles: Vec<Settle>) -> Result<(), Trouble> {
        let seqs: Vec<i64> = settles.iter().flat_map(|settle| &settle.seqs).copied().collect();
        let outcome = writer.run(write, &seqs, &self.n_statements);
        // Before anybody else writes: whoever waits for the writer to settle something finds it either settled or waiting.
        self.settled(settles, outcome.is_ok());
        outcome
    }

    /// Leaves published events to the next commit; where none comes soon, takes them out in a transaction of its own.
    async fn settle(&self, writer: &Arc<Mutex<Writer>>, seqs: Vec<i64>, write: SealedWrite) -> Result<(), Trouble> {
        let (done, mut settled) = oneshot::channel();
        self.settling.add([Settle { seqs, done }]);
        if timeout(SETTLE_WAIT, &mut settled).await.is_ok() {
            return Ok(());
        }
        let backend = self.clone();
        let outcome = with(writer, move |writer| {
            let settles = backend.settling.take();
            // Perhaps a commit took them along while this waited for the writer.
            Ok(if settles.is_empty() { Ok(()) } else { backend.transact(writer, write, settles) })
        });
        outcome.await?
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
        let Some(absent) = &self.absent else { return self.finder.find(request).await };
        let look_ups: Vec<LookUpHash> = request.look_ups.iter().copied().filter(|hash| absent.may_be_there(hash)).collect();
        let request = RawFind { look_ups: &look_ups, ..*request };
        if request.is_empty() { Ok(RawFound::default()) } else { self.finder.find(&request).await }
    }

    /// Comes true when it is known which look-ups are not there.
    #[cfg(test)]
    pub(super) async fn absent_known(&self) {
        self.absent.as_ref().unwrap().filled().await;
    }

    pub(super) async fn data_keys(&self, patients: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::KEYS).bind(ids(patients)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn audit_rows(&self, wanted: &[i64]) -> Result<Vec<AuditColumns>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::AUDIT_ROWS).bind(ids(wanted)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn visits_of_patients(&self, patients: &[i64]) -> Result<Vec<(i64,)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::VISITS_OF_PATIENTS).bind(ids(patients)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn messages_of_patients(&self, messages: &[i64], patients: &[i64]) -> Result<Vec<(i64,)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::JOURNAL_PATIENTS).bind(ids(messages)).bind(ids(patients)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn messages_by_age(&self, after: i64, before: i64, limit: i64) -> Result<Vec<(i64, Option<i64>)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::MESSAGES_BY_AGE).bind(after).bind(before).bind(limit).fetch_all(&self.readers).await?)
    }

    pub(super) async fn messages_briefly(&self, messages: &[i64]) -> Result<Vec<(i64, Option<i64>, Option<String>)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::MESSAGES_BRIEFLY).bind(ids(messages)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn arrivals(&self, owners: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::ARRIVALS).bind(ids(owners)).fetch_all(&self.readers).await?)
    }

    pub(super) async fn rooms_that_wait(&self, rooms: &[Uuid]) -> Result<Vec<(Uuid,)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let rooms = list(rooms.iter(), |text, room| write!(text, "\"{}\"", room.simple()));
        Ok(sqlx::query_as(text::ROOMS_THAT_WAIT).bind(rooms).fetch_all(&self.readers).await?)
    }

    pub(super) async fn purged_patients(&self, patients: &[i64]) -> Result<Vec<(i64,)>, StoreError> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        Ok(sqlx::query_as(text::PURGED_AMONG).bind(ids(patients)).fetch_all(&self.readers).await?)
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

/// Begins to learn which look-ups are not there.
fn learn_absent(finder: &Finder, tasks: &TaskTracker) -> Arc<Absent> {
    let absent = Arc::new(Absent::default());
    let (learning, finder, closing) = (Arc::clone(&absent), finder.clone(), tasks.clone());
    tasks.spawn_blocking(move || {
        if let Err(error) = finder.open().and_then(|connection| learning.fill(&connection, || closing.is_closed())) {
            tracing::warn!(error = %StoreError::from(error), "what is known of the store's look-ups stays incomplete: every new patient is looked for in the file");
        }
    });
    absent
}

/// Has the writer do something on a thread where it may wait for the disk, when it is its turn.
async fn with<T: Send + 'static>(
    writer: &Arc<Mutex<Writer>>,
    work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let mut writer = Arc::clone(writer).lock_owned().await;
    spawn_blocking(move || work(&mut writer)).await.map_err(|_| StoreError::Closed)?
}

fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    Ok(SqliteConnectOptions::from_str(url)
        .map_err(|_| StoreError::Url)?
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .row_buffer_size(ROWS_BUFFERED)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-1024")
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

/// Before anything is changed in a file: a database of somebody else's is left alone.
async fn is_a_store_or_none(options: &SqliteConnectOptions) -> Result<(), StoreError> {
    if !std::fs::metadata(options.get_filename()).is_ok_and(|file| file.len() > 0) {
        return Ok(());
    }
    // A connection that may write brings the log into the file when it is the last to go.
    let mut connection = options.clone().read_only(true).connect().await?;
    let is_foreign: bool = sqlx::query_scalar(text::IS_FOREIGN).fetch_one(&mut connection).await?;
    connection.close().await?;
    if is_foreign { Err(StoreError::NotAStore) } else { Ok(()) }
}

/// `[1,2,3]`
fn ids(ids: &[i64]) -> String {
    list(ids.iter(), |text, id| write!(text, "{id}"))
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
