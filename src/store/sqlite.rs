//! The store in one SQLite file.
//!
//! One connection writes; a pool of read-only connections reads. Every write is a `BEGIN IMMEDIATE` transaction on the one writer, in the order of
//! asking; what was published meanwhile is settled in the next commit's transaction. `synchronous` is FULL wherever an acknowledgement depends on the
//! commit. A transaction runs as a whole on a thread of its own, on rusqlite: sqlx hands each statement to a thread and back, and a commit has many.
//! Reading and migrations are sqlx's, as on PostgreSQL. Lists go in as JSON text, so that a statement's text is always the same.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
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

use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::error::migrate_error;
use crate::store::look_up::LookUpHash;
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
use writer::Opening;
use writer::Writer;

mod absent;
mod finder;
mod layer;
mod hand;
mod writer;

/// SQLite waits this long for another process; within this one the writer's turn is what is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long settled events wait for a commit that takes them along.
const SETTLE_WAIT: Duration = Duration::from_millis(10);
/// The log is written back beside the commits (see `Log`); inside a commit only where that does not keep up.
const AUTO_CHECKPOINT: u32 = 32768;
/// After how many rows the write-ahead log is written back.
const LOG_ROWS: u64 = 16384;
/// The same where its volume has little space left: what is in the log twice takes space twice.
const SHORT_LOG_ROWS: u64 = 1024;
/// The log is written back beside the commits pass by pass, each of what came during the one before, until one was of fewer pages than this: what came
/// during that is what commits wait for.
const FEW_PAGES: u64 = 128;
/// How many passes there are at the most, where commits write as fast as this.
const PASSES: usize = 16;
/// How far the thread that writes the log back stands behind others (as in nice(2), which is about a thread on Linux only).
#[cfg(target_os = "linux")]
const LATER: i32 = 10;
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

/// What is known of the write-ahead log, and who writes it back beside the commits.
#[derive(Debug, Default)]
struct Log {
    /// Rows written since it was last written back; each takes about a page of the log.
    n_rows: AtomicU64,
    /// Whether it is to be written back often.
    is_short: AtomicBool,
    is_written_back: AtomicBool,
    /// Whether it was said that somebody keeps it from being written back.
    is_held: AtomicBool,
    connection: std::sync::Mutex<Option<Connection>>,
    tasks: TaskTracker,
}

/// How long the log is, and how much of it is in the database too.
#[derive(Clone, Copy, Debug)]
struct Pages {
    n_in_log: u64,
    n_back: u64,
}

impl Log {
    /// Says once that somebody keeps the log from being written back, and once that it goes on.
    fn tell(&self, pages: &Pages) {
        let n_waiting = pages.n_in_log.saturating_sub(pages.n_back);
        let is_held = n_waiting >= u64::from(AUTO_CHECKPOINT);
        if self.is_held.swap(is_held, Ordering::Relaxed) == is_held {
            return;
        }
        if is_held {
            let hint = "end whatever reads the store without an end; until then the log grows, and nothing else is in danger";
            tracing::warn!(n_pages = n_waiting, hint, "another process keeps the write-ahead log from being written back");
        } else {
            tracing::info!("the write-ahead log is written back again");
        }
    }
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
        is_a_store_or_none(&options).await?;
        let writing = options
            .clone()
            .create_if_missing(true)
            // Packed documents are short: on a page of 4 KiB two or three lie together, and no more than those are written again with one of them.
            .page_size(4096)
            .journal_mode(SqliteJournalMode::Wal);
        let mut connection = writing.connect().await?;
        sql::migrator(sql::SQLITE_MIGRATIONS).run_direct(None, &mut connection, false).await.map_err(migrate_error)?;
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
            log: Arc::new(Log { tasks, ..Log::default() }),
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
    pub(super) fn open_beside(url: &str, readers: u32) -> Result<Self, StoreError> {
        let options = options(url)?;
        if !options.get_filename().exists() {
            return Err(StoreError::NotMigrated);
        }
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

    /// How long the write-ahead log is, in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        std::fs::metadata(beside(&self.finder.file, "-wal")).map_or(0, |log| log.len())
    }

    pub(super) fn n_statements(&self) -> u64 {
        self.n_statements.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.finder.close();
        *self.log.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // What is in the log goes into the file, so that a copy of the file alone is whole.
        if self.lock.is_some()
            && let Err(error) = self.shorten_log().await
        {
            tracing::warn!(%error, "the write-ahead log could not be written back; it will be at the next start");
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
        let (settles, n_rows) = if let Write::Commit(batches) = &write.write {
            (self.settling.take(), batches.iter().map(SealedBatch::n_rows).sum())
        } else {
            (Vec::new(), 1)
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

    /// Has the log written back in the background once it is long, so that no commit has to do it.
    fn write_back(&self, n_rows: u64) {
        let n_rows = self.log.n_rows.fetch_add(n_rows, Ordering::Relaxed) + n_rows;
        let at_most = if self.log.is_short.load(Ordering::Relaxed) { SHORT_LOG_ROWS } else { LOG_ROWS };
        if self.lock.is_some() && n_rows >= at_most && !self.log.is_written_back.swap(true, Ordering::Relaxed) {
            self.log.n_rows.store(0, Ordering::Relaxed);
            let backend = self.clone();
            self.log.tasks.spawn(async move {
                if let Err(error) = backend.checkpoint().await {
                    tracing::warn!(%error, "the write-ahead log could not be written back; it will be later");
                }
                backend.log.is_written_back.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Writes back what is in the log now beside the commits, and then, between two of them, the little that they added: only where all of it was written
    /// back does the log begin again from its start.
    async fn checkpoint(&self) -> Result<(), StoreError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let opening = writer.lock().await.opening().clone();
        let log = Arc::clone(&self.log);
        let (done, beside) = oneshot::channel();
        let work = move || {
            // It reads and writes for as long as some commits take together; they go first where processors are short.
            #[cfg(target_os = "linux")]
            rustix::process::nice(LATER).ok();
            let mut own = log.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = match own.take() {
                Some(connection) => connection,
                None => opening.open()?,
            };
            let own = own.insert(connection);
            layer::in_parts(|| write_back_beside(own))
        };
        // A thread of its own: one of the runtime's would stay behind all others for whatever it does next.
        let thread = std::thread::Builder::new().name("write-back".to_owned());
        thread.spawn(move || done.send(work())).map_err(|_| StoreError::Closed)?;
        beside.await.map_err(|_| StoreError::Closed)??;
        let left = with(writer, |writer| Ok(written_back(&writer.connection, text::CHECKPOINT)?)).await?;
        self.log.tell(&left);
        Ok(())
    }

    pub(super) fn keep_log_short(&self, is_short: bool) {
        self.log.is_short.store(is_short, Ordering::Relaxed);
    }

    /// Writes back all of the log, and gives back the space that it takes.
    pub(super) async fn shorten_log(&self) -> Result<(), StoreError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        with(writer, |writer| Ok(written_back(&writer.connection, text::CHECKPOINT_ALL)?)).await?;
        Ok(())
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

/// Writes the log back until what came meanwhile is little.
fn write_back_beside(connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut n_before = 0;
    for _ in 0..PASSES {
        let n_back = written_back(connection, text::CHECKPOINT)?.n_back;
        if n_back.saturating_sub(n_before) < FEW_PAGES {
            break;
        }
        n_before = n_back;
    }
    Ok(())
}

/// Writes back what nobody keeps from it.
fn written_back(connection: &Connection, checkpoint: &str) -> Result<Pages, rusqlite::Error> {
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    connection.query_row(checkpoint, [], |row| Ok(Pages { n_in_log: number(row.get(1)?), n_back: number(row.get(2)?) }))
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

/// The file that keeps other daemons out of a store.
pub(super) fn lock_file(file: &Path) -> PathBuf {
    beside(file, ".lock")
}

/// The file of this name with something more at its end.
fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(end);
    PathBuf::from(name)
}

/// The file beside the database that one daemon holds locked; the lock ends with its process, however that ends.
fn lock(options: &SqliteConnectOptions) -> Result<File, StoreError> {
    let path = lock_file(options.get_filename());
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| StoreError::LockFile { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(StoreError::LockFile { path, source }),
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::AUTO_CHECKPOINT;
    use super::Log;
    use super::Pages;
    use super::layer;
    use super::text;
    use super::write_back_beside;
    use super::written_back;

    #[test]
    fn what_somebody_reads_on_and_on_is_not_written_back_and_is_when_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        let reader = rusqlite::Connection::open(&file).unwrap();
        reader.pragma_update(None, "journal_mode", "wal").unwrap();
        reader.execute_batch("CREATE TABLE notes (note BLOB); BEGIN; SELECT * FROM notes").unwrap();
        let writer = layer::open(&file).unwrap();
        writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        writer.execute("INSERT INTO notes VALUES (zeroblob(4000000))", []).unwrap();
        write_back_beside(&writer).unwrap();
        let held = written_back(&writer, text::CHECKPOINT).unwrap();
        assert!(held.n_in_log > 900 && held.n_back < 10, "{held:?}");
        reader.execute_batch("END").unwrap();
        let free = written_back(&writer, text::CHECKPOINT).unwrap();
        assert_eq!(free.n_in_log, free.n_back, "{free:?}");
    }

    #[test]
    fn a_log_that_is_held_is_told_of_once_and_again_when_it_goes_on() {
        let log = Log::default();
        let long = u64::from(AUTO_CHECKPOINT);
        let is_held = |n_in_log, n_back| {
            log.tell(&Pages { n_in_log, n_back });
            log.is_held.load(Ordering::Relaxed)
        };
        assert!(!is_held(long - 1, 0), "commits wait for nobody yet");
        assert!(is_held(long, 0));
        assert!(is_held(3 * long, long));
        assert!(!is_held(3 * long, 3 * long));
    }
}
