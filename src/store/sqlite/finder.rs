//! What a batch is planned from, read at one moment.
//!
//! A batch waits for it and other batches wait for that one, so it is read as a commit is written: all statements in one go on a thread that may wait for
//! the disk, over connections of its own. It never writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::Row;
use tokio::task::spawn_blocking;

use crate::store::error::StoreError;
use crate::store::sqlite::BUSY_TIMEOUT;
use crate::store::sqlite::STATEMENTS_KEPT;
use crate::store::sqlite::hashes;
use crate::store::sqlite::ids;
use crate::store::sqlite_sql as text;
use crate::store::write::RawFind;
use crate::store::write::RawFound;

/// Connections that read for batches; as many as were ever needed at once.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    pub(super) file: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    n_statements: Arc<AtomicU64>,
}

impl Finder {
    pub(super) fn new(file: PathBuf, n_statements: Arc<AtomicU64>) -> Self {
        Self { file, idle: Arc::default(), n_statements }
    }

    pub(super) fn close(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn find(&self, request: &RawFind<'_>) -> Result<RawFound, StoreError> {
        let RawFind { dedupe, look_ups, visits, patients } = *request;
        let (dedupe, look_ups, visits, patients) = (dedupe.to_vec(), look_ups.to_vec(), visits.to_vec(), patients.to_vec());
        let finder = self.clone();
        let found = spawn_blocking(move || {
            let connection = finder.idle().pop().map_or_else(|| finder.open(), Ok)?;
            let found = finder.read(&connection, &RawFind { dedupe: &dedupe, look_ups: &look_ups, visits: &visits, patients: &patients });
            // One that failed may be in the middle of its transaction, and is not used again.
            if found.is_ok() {
                finder.idle().push(connection);
            }
            found
        });
        Ok(found.await.map_err(|_| StoreError::Closed)??)
    }

    pub(super) fn open(&self) -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        connection.pragma_update(None, "temp_store", 2)?;
        connection.pragma_update(None, "cache_size", -1024)?;
        Ok(connection)
    }

    /// One transaction, so that all statements see one state; where there is one statement only, that is one by itself.
    fn read(&self, connection: &Connection, request: &RawFind<'_>) -> Result<RawFound, rusqlite::Error> {
        let all = Statements { connection, n_statements: &self.n_statements };
        let mut found = RawFound::default();
        if request.look_ups.is_empty() && request.visits.is_empty() && request.patients.is_empty() {
            if !request.dedupe.is_empty() {
                found.known = all.rows(text::KNOWN, &hashes(request.dedupe))?;
            }
            return Ok(found);
        }
        all.run("BEGIN")?;
        if !request.dedupe.is_empty() {
            found.known = all.rows(text::KNOWN, &hashes(request.dedupe))?;
        }
        if !request.look_ups.is_empty() {
            found.look_ups = all.rows(text::LOOK_UPS, &hashes(request.look_ups))?;
        }
        let wanted = found.visits_wanted(request);
        if !wanted.is_empty() {
            found.visits = all.rows(text::VISITS, &ids(&wanted))?;
        }
        let wanted = found.patients_wanted(request);
        if !wanted.is_empty() {
            found.patients = all.rows(text::PATIENTS, &ids(&wanted))?;
            let open = all.rows(text::VISITS_OPEN, &ids(&found.patient_ids()))?;
            found.add_visits(open);
        }
        // A visit whose form is not known is told of by whoever unseals it.
        let missing = found.keys_missing().unwrap_or_default();
        if !missing.is_empty() {
            found.keys = all.rows(text::KEYS, &ids(&missing))?;
        }
        all.run("COMMIT")?;
        Ok(found)
    }
}

struct Statements<'c> {
    connection: &'c Connection,
    n_statements: &'c AtomicU64,
}

impl Statements<'_> {
    fn run(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn rows<T>(&self, sql: &str, list: &str) -> Result<Vec<T>, rusqlite::Error>
    where
        T: for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error>,
    {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        self.connection.prepare_cached(sql)?.query_map([list], |row| T::try_from(row))?.collect()
    }
}
