//! The write-ahead log, written back into the database beside the commits, so that none of them has to do it.
//!
//! A thread behind all others writes back what is there, pass by pass; between two commits the little that they added meanwhile follows. It says when another
//! process keeps the log from being written back. It never changes what is stored, and never takes a sync away.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::store::error::StoreError;
use crate::store::sqlite::AUTO_CHECKPOINT;
use crate::store::sqlite::BUSY_TIMEOUT;
use crate::store::sqlite::SqliteBackend;
use crate::store::sqlite::layer;
use crate::store::sqlite::place::beside;
use crate::store::sqlite::with;
use crate::store::sqlite_sql as text;

/// After how many rows the write-ahead log is written back.
const LOG_ROWS: u64 = 16384;
/// The same where its volume has little space left: what is in the log twice takes space twice.
const SHORT_LOG_ROWS: u64 = 1024;
/// The log is written back beside the commits pass by pass, each of what came during the one before, until one was of fewer pages than this: what came
/// during that is what commits wait for.
const FEW_PAGES: u64 = 128;
/// A page in the log, and what stands before it.
const FRAME_BYTES: u64 = 4096 + 24;
/// How many passes there are at the most, where commits write as fast as this.
const PASSES: usize = 16;
/// How often, and how long apart, whoever keeps the whole log from being written back is waited for: commits go on in between.
const TRIES: usize = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// How far the thread that writes the log back stands behind others (as in nice(2), which is about a thread on Linux only).
#[cfg(target_os = "linux")]
const LATER: i32 = 10;

/// What is known of the write-ahead log, and who writes it back beside the commits.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Rows written since it was last written back; each takes about a page of the log.
    n_rows: AtomicU64,
    /// Whether it is to be written back often.
    is_short: AtomicBool,
    is_written_back: AtomicBool,
    /// Whether somebody asked for all of it and could not have that yet.
    is_owed: AtomicBool,
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
    /// Somebody else stood in the way. Where that was another who writes back, the numbers are 0.
    is_busy: bool,
}

impl Log {
    /// The log of a store whose background work is counted among `tasks`.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { tasks, ..Self::default() }
    }

    /// Gives up the connection that writes it back.
    pub(super) fn close(&self) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says once that somebody keeps the log from being written back, and once that it goes on.
    fn tell(&self, n_waiting: u64) {
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

impl SqliteBackend {
    /// Has the log written back in the background once it is long, so that no commit has to do it.
    pub(super) fn write_back(&self, n_rows: u64) {
        let n_rows = self.log.n_rows.fetch_add(n_rows, Ordering::Relaxed) + n_rows;
        let is_short = self.log.is_short.load(Ordering::Relaxed) || self.log.is_owed.load(Ordering::Relaxed);
        let at_most = if is_short { SHORT_LOG_ROWS } else { LOG_ROWS };
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
        if self.owes_log() {
            self.ask_for_log().await?;
        }
        // Who cannot even look whether anything can be written back knows how long the log is: longer than this only where it is held.
        self.log.tell(if left.is_busy { self.log_bytes() / FRAME_BYTES } else { left.n_in_log.saturating_sub(left.n_back) });
        Ok(())
    }

    pub(in crate::store) fn keep_log_short(&self, is_short: bool) {
        self.log.is_short.store(is_short, Ordering::Relaxed);
    }

    /// Writes back all of the log, and gives back the space that it takes. Busy where somebody reads the store, or writes back, for two seconds; then it is
    /// done behind later commits.
    pub(in crate::store) async fn shorten_log(&self) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            if self.ask_for_log().await? {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        Err(StoreError::Busy { code: "checkpoint".to_owned() })
    }

    /// Whether all of the log was asked for and could not be had yet.
    pub(in crate::store) fn owes_log(&self) -> bool {
        self.log.is_owed.load(Ordering::Relaxed)
    }

    /// The same once, and without waiting for whoever is in the way: then it is owed. Gives back whether it was done.
    pub(in crate::store) async fn ask_for_log(&self) -> Result<bool, StoreError> {
        let Some(writer) = &self.writer else { return Ok(true) };
        let attempt = |connection: &Connection| {
            connection.busy_timeout(Duration::ZERO)?;
            let pages = written_back(connection, text::CHECKPOINT_ALL);
            connection.busy_timeout(BUSY_TIMEOUT)?;
            pages
        };
        let is_busy = with(writer, move |writer| Ok(attempt(&writer.connection)?)).await?.is_busy;
        self.log.is_owed.store(is_busy, Ordering::Relaxed);
        Ok(!is_busy)
    }

    /// How long the write-ahead log is, in bytes.
    pub(in crate::store) fn log_bytes(&self) -> u64 {
        std::fs::metadata(beside(&self.finder.file, "-wal")).map_or(0, |log| log.len())
    }
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
    let pages =
        |row: &rusqlite::Row<'_>| Ok(Pages { n_in_log: number(row.get(1)?), n_back: number(row.get(2)?), is_busy: row.get::<_, i64>(0)? != 0 });
    connection.query_row(checkpoint, [], pages)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::Log;
    use super::write_back_beside;
    use super::written_back;
    use crate::store::sqlite::AUTO_CHECKPOINT;
    use crate::store::sqlite::layer;
    use crate::store::sqlite_sql as text;

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
        assert!(written_back(&writer, text::CHECKPOINT_ALL).unwrap().is_busy, "who asks for all of it is told that it is not");
        reader.execute_batch("END").unwrap();
        let free = written_back(&writer, text::CHECKPOINT).unwrap();
        assert_eq!(free.n_in_log, free.n_back, "{free:?}");
        assert!(!written_back(&writer, text::CHECKPOINT_ALL).unwrap().is_busy);
    }

    #[test]
    fn a_log_that_is_held_is_told_of_once_and_again_when_it_goes_on() {
        let log = Log::default();
        let long = u64::from(AUTO_CHECKPOINT);
        let is_held = |n_waiting| {
            log.tell(n_waiting);
            log.is_held.load(Ordering::Relaxed)
        };
        assert!(!is_held(long - 1), "commits wait for nobody yet");
        assert!(is_held(long));
        assert!(is_held(2 * long));
        assert!(!is_held(0));
    }
}
