//! The store: durable state, sealed at rest, the same operations on SQLite and PostgreSQL.
//!
//! It keeps documents of patients and visits, facts, the journal of messages, the outbox, the audit chain and the quarantine. Contents are opaque
//! [`Document`](sealing::Document)s that it seals when it writes and unseals when it reads; it knows no HL7 and nothing of care. Every operation is a whole transaction
//! and costs a fixed number of statements, whatever the size of its lists. A write that was begun runs to its end, also when nobody waits for it any
//! more. It never logs what it stores, and its errors quote nothing.

pub mod audit;
pub mod ceiling;
pub mod chain;
pub mod error;
pub mod form;
pub mod lease;
pub mod ledger;
pub mod look_up;
pub mod master_key;
pub mod retention;
pub mod rotation;
pub mod rows;
pub mod sealing;
pub mod trail;

mod packing;
mod postgres;
mod postgres_sql;
mod read;
mod sealed;
mod sql;
mod sqlite;
mod sqlite_sql;
mod tail;
mod wrapping;
mod write;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::store::error::CommitError;
use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::master_key::MasterKey;
use crate::store::postgres::PostgresBackend;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::FindRequest;
use crate::store::rows::Found;
use crate::store::rows::OutboxRow;
use crate::store::rows::QuarantineRow;
use crate::store::rows::StoredFact;
use crate::store::sealed::SealedBatch;
use crate::store::sealed::seal_batch;
use crate::store::sealing::Keys;
use crate::store::sealing::SealingKey;
use crate::store::sqlite::SqliteBackend;
use crate::store::tail::Tail;
use crate::store::write::AuditKeys;
use crate::store::write::META_LOOK_UP_KEY;
use crate::store::write::META_OWN_KEY;
use crate::store::write::RawFind;
use crate::store::write::RawFound;
use crate::store::write::SealedWrite;
use crate::store::write::Write;

/// The audit chain of whoever writes beside the daemons; no daemon has this number.
pub const BESIDE_LANE: u16 = 1023;

const APPEND_TRIES: usize = 4;

/// How the store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// `sqlite:FILE` or `postgres://…`; may hold a password.
    pub url: SecretString,
    /// The key that wraps all others.
    pub master_key: MasterKey,
    /// How many connections read.
    pub readers: u32,
    /// This daemon's number, the same as its id source's (0 to 1023): its audit chain.
    pub daemon: u16,
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions").field("readers", &self.readers).field("daemon", &self.daemon).finish_non_exhaustive()
    }
}

/// The two databases.
#[derive(Clone, Debug)]
enum Backend {
    Sqlite(SqliteBackend),
    Postgres(PostgresBackend),
}

/// Runs one expression on the backend, whichever it is.
macro_rules! on_backend {
    ($of:expr, $backend:ident => $expression:expr) => {
        match &$of {
            $crate::store::Backend::Sqlite($backend) => $expression,
            $crate::store::Backend::Postgres($backend) => $expression,
        }
    };
}
use on_backend;

/// An open store. Cloning it is cheap; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    keys: Arc<Keys>,
    lane: u16,
    /// What this process is called where work is shared out.
    holder: Uuid,
    only_audit: bool,
    tasks: TaskTracker,
    /// Only where nobody else changes the outbox.
    tail: Option<Arc<Tail>>,
    /// Why it could not be reached or written last; none once something was written again.
    trouble: Arc<Mutex<Option<String>>>,
    /// The epoch as it stood when it was read last.
    epoch: Arc<AtomicU32>,
}

/// Whether there is a store at this URL already. For SQLite, whether the file is there; a PostgreSQL database always is.
///
/// # Errors
/// When the URL names no store.
pub fn exists(url: &SecretString) -> Result<bool, StoreError> {
    let url = url.expose_secret();
    if is_postgres(url) { Ok(true) } else { Ok(sqlite::file_of(url)?.exists()) }
}

/// The socket on which the daemon of a store in this file takes orders.
pub(crate) fn socket_file(file: &Path) -> PathBuf {
    sqlite::place::socket_file(file)
}

/// The file that keeps other daemons out of a SQLite store.
pub(crate) fn lock_file(file: &Path) -> PathBuf {
    sqlite::place::lock_file(file)
}

/// Whether a daemon has this SQLite store; nothing where that cannot be told.
pub(crate) fn is_locked(file: &Path) -> Option<bool> {
    sqlite::place::is_locked(file)
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// A batch whose contents are sealed.
#[derive(Debug)]
pub struct Sealed {
    batch: SealedBatch,
    /// Its events, for the relay to be taken from memory.
    events: Vec<OutboxRow>,
}

/// Comes true when something was written, with when.
type Written = Pin<Box<dyn Future<Output = Result<Instant, Trouble>> + Send>>;

impl Store {
    /// Opens the store for the daemon: brings it up to date, checks the key, and keeps a second daemon out of a SQLite file. A master key that was about to
    /// take the place of the one before is put there.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::NotAStore`], [`StoreError::OnlyRead`], [`StoreError::WrongKey`], or the store cannot be reached or made.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let url = options.url.expose_secret();
        let tasks = TaskTracker::new();
        let backend = if is_postgres(url) {
            Backend::Postgres(PostgresBackend::open(url, options.readers).await?)
        } else {
            Backend::Sqlite(SqliteBackend::open(url, options.readers, tasks.clone()).await?)
        };
        let made = Keys::generate(&options.master_key)?;
        let keep = Write::Keep(vec![(META_OWN_KEY.to_owned(), made.own), (META_LOOK_UP_KEY.to_owned(), made.look_up)]);
        if read::wrapped_keys(&backend).await?.is_none() {
            // Two daemons may both do this; the first one's keys stay.
            let write = SealedWrite { write: keep, lane: options.daemon, keys: AuditKeys::default() };
            on_backend!(backend, backend => backend.write(write).await.map_err(StoreError::from)?);
        }
        let tail = matches!(backend, Backend::Sqlite(_)).then(Arc::default);
        let store = Self { tasks, tail, ..Self::with_keys(backend, &options).await? };
        store.see_to_its_key().await;
        Ok(store)
    }

    /// Opens the store beside a daemon that may be running, for whoever has to leave a record of what they read: [`Store::append_audit`] writes, every
    /// other write is refused. The rows go into a chain of their own, [`BESIDE_LANE`], whatever the options say.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`], [`StoreError::WrongKey`], or the store cannot be reached.
    pub async fn open_beside(options: StoreOptions) -> Result<Self, StoreError> {
        let url = options.url.expose_secret();
        let backend = if is_postgres(url) {
            Backend::Postgres(PostgresBackend::open_beside(url, options.readers)?)
        } else {
            Backend::Sqlite(SqliteBackend::open_beside(url, options.readers).await?)
        };
        let mut store = Self::with_keys(backend, &options).await?;
        store.lane = BESIDE_LANE;
        store.only_audit = true;
        Ok(store)
    }

    /// Opens the store beside a daemon that may be running; every write is refused.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`], [`StoreError::NotAStore`], [`StoreError::WrongKey`], or the store cannot be reached.
    pub async fn open_read_only(options: StoreOptions) -> Result<Self, StoreError> {
        let url = options.url.expose_secret();
        let backend = if is_postgres(url) {
            Backend::Postgres(PostgresBackend::open_read_only(url, options.readers)?)
        } else {
            Backend::Sqlite(SqliteBackend::open_read_only(url, options.readers).await?)
        };
        Self::with_keys(backend, &options).await
    }

    async fn with_keys(backend: Backend, options: &StoreOptions) -> Result<Self, StoreError> {
        let wrapped = read::wrapped_keys(&backend).await?.ok_or(StoreError::NotMigrated)?;
        let epoch = read::epoch(&backend).await?;
        let keys = rotation::open_keys(&options.master_key, &wrapped)?;
        Ok(Self {
            backend,
            keys: Arc::new(keys),
            lane: options.daemon,
            holder: Uuid::new_v4(),
            only_audit: false,
            tasks: TaskTracker::new(),
            tail: None,
            trouble: Arc::default(),
            epoch: Arc::new(AtomicU32::new(epoch)),
        })
    }

    /// Waits for the writes that were begun, then closes.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        on_backend!(self.backend, backend => backend.close().await);
    }

    /// The keyed hash by which something with these parts is found.
    pub fn look_up_hash(&self, kind: LookUpKind, parts: &[&str]) -> LookUpHash {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.keys.look_up.hash(kind, &parts)
    }

    /// As [`Store::look_up_hash`], for parts that need not be text.
    pub fn hash_bytes(&self, kind: LookUpKind, parts: &[&[u8]]) -> LookUpHash {
        self.keys.look_up.hash(kind, parts)
    }

    /// A new key for a new patient with this row id.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn new_patient_key(&self, patient: i64) -> Result<SealingKey, StoreError> {
        self.keys.new_patient_key(patient)
    }

    /// Whether no other process changes anything in it while it is open.
    pub const fn is_ours_alone(&self) -> bool {
        matches!(self.backend, Backend::Sqlite(_))
    }

    /// How long the write-ahead log of a SQLite file is, in bytes.
    pub fn log_bytes(&self) -> Option<u64> {
        match &self.backend {
            Backend::Sqlite(backend) => Some(backend.log_bytes()),
            Backend::Postgres(_) => None,
        }
    }

    /// The epoch that events are to carry, as far as it is known here. Another process may have raised it: whatever is published is committed only if it is
    /// still this one ([`CommitBatch::epoch`]), and who meets a conflict reads it again.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Reads the epoch again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn read_epoch(&self) -> Result<u32, StoreError> {
        let epoch = read::epoch(&self.backend).await?;
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(epoch)
    }

    /// How many statements were run, since the store was opened.
    pub fn n_statements(&self) -> u64 {
        on_backend!(self.backend, backend => backend.n_statements())
    }

    /// Everything that a batch is planned from, as of one moment.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(&self, request: &FindRequest) -> Result<Found, StoreError> {
        let request = RawFind { dedupe: &request.dedupe, look_ups: &request.look_ups, visits: &request.visits, patients: &request.patients };
        let raw = on_backend!(self.backend, backend => backend.find(&request).await);
        self.unseal_found(raw.inspect_err(|error| self.note(error))?)
    }

    /// Why the store cannot be reached or written just now, in the words of the error.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, error: &StoreError) {
        if error.is_transient() {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    }

    fn unseal_found(&self, raw: RawFound) -> Result<Found, StoreError> {
        let mut patients = Vec::with_capacity(raw.patients.len());
        let mut keys: HashMap<i64, SealingKey> = HashMap::with_capacity(raw.patients.len() + raw.keys.len());
        for row in raw.patients {
            let patient = sealed::patient(&self.keys, row)?;
            keys.insert(patient.id, patient.key.clone());
            patients.push(patient);
        }
        for (id, wrapped) in raw.keys {
            keys.insert(id, self.keys.unwrap(id, wrapped)?);
        }
        patients.sort_unstable_by_key(|patient| patient.id);
        let visits = raw.visits.into_iter().map(|row| sealed::visit(read::key_for(&self.keys, &keys, sealing::Table::Visits, &row.9)?, row));
        Ok(Found {
            visits: visits.collect::<Result<_, _>>()?,
            patients,
            duplicates: raw.known.into_iter().map(sealed::known_message).collect::<Result<_, _>>()?,
            look_ups: raw.look_ups.into_iter().map(sealed::look_up).collect::<Result<_, _>>()?,
        })
    }

    /// The facts of these owners, each owner's sorted by when they were recorded, sent, and came.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn facts(&self, owners: &[i64]) -> Result<HashMap<i64, Vec<StoredFact>>, StoreError> {
        let rows = on_backend!(self.backend, backend => backend.facts(owners).await?);
        let keys = self.keys_of(sealing::Table::Facts, rows.iter().map(|row| row.5.as_slice())).await?;
        let mut facts: HashMap<i64, Vec<StoredFact>> = HashMap::new();
        for row in rows {
            let key = read::key_for(&self.keys, &keys, sealing::Table::Facts, &row.5)?;
            let (owner, fact) = sealed::fact(key, row)?;
            facts.entry(owner).or_default().push(fact);
        }
        for facts in facts.values_mut() {
            facts.sort_unstable_by_key(|fact| (fact.recorded_at, fact.sent_at, fact.arrival));
        }
        Ok(facts)
    }

    /// Those of these facts that are stored already.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn facts_known(&self, facts: &[(i64, LookUpHash)]) -> Result<HashSet<(i64, LookUpHash)>, StoreError> {
        let rows = on_backend!(self.backend, backend => backend.facts_known(facts).await?);
        rows.into_iter().map(|(owner, hash)| Ok((owner, LookUpHash(look_up::hash_column(sealing::Table::Facts, &hash)?)))).collect()
    }

    /// Messages in quarantine that wait for one of these patients or visits.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn quarantine_by_hashes(&self, hashes: &[LookUpHash]) -> Result<Vec<QuarantineRow>, StoreError> {
        let rows = on_backend!(self.backend, backend => backend.quarantine_by_hashes(hashes).await?);
        rows.into_iter().map(sealed::quarantine_row).collect()
    }

    /// Commits a batch in one transaction; when this returns, it is on disk.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] when something read has changed, or the store cannot be written. Then nothing of the batch is there.
    pub async fn commit(&self, batch: &CommitBatch) -> Result<(), CommitError> {
        let sealed = self.seal(batch.clone()).map_err(CommitError::from)?;
        self.begin(vec![sealed]).await.map(drop)
    }

    /// Seals all that a batch writes, but for its audit rows, which are sealed when the end of their chain is known.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn seal(&self, batch: CommitBatch) -> Result<Sealed, StoreError> {
        let events = if self.tail.is_some() { batch.outbox.iter().map(OutboxRow::from).collect() } else { Vec::new() };
        Ok(Sealed { batch: seal_batch(&self.keys, batch)?, events })
    }

    /// Begins to commit batches in one transaction, each of which stands on what the ones before it leave; at once. What is given back comes true as
    /// [`Store::commit`] does, with how long it took, and the commit runs to its end without it too.
    pub fn begin(&self, batches: Vec<Sealed>) -> impl Future<Output = Result<Duration, CommitError>> + Send + Unpin + use<> {
        let (batches, events): (Vec<_>, Vec<_>) = batches.into_iter().map(|sealed| (sealed.batch, sealed.events)).unzip();
        let events = events.into_iter().flatten().collect();
        let begun = Instant::now();
        let written = self.begin_write(Write::Commit(batches), events);
        Box::pin(async move { Ok(written.await?.duration_since(begun)) })
    }

    /// Appends rows to the audit chain.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn append_audit(&self, rows: Vec<AuditRow>) -> Result<(), StoreError> {
        // On PostgreSQL two processes may begin the same chain at once; the keys let one through, and the other goes on from there.
        for _ in 1..APPEND_TRIES {
            match self.write(Write::Audit(rows.clone())).await {
                Err(Trouble::Conflict) => {}
                outcome => return Ok(outcome?),
            }
        }
        Ok(self.write(Write::Audit(rows)).await?)
    }

    /// Takes events out of the outbox that the broker has.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn settle_outbox(&self, seqs: &[i64]) -> Result<(), StoreError> {
        self.write(Write::Settle(seqs.to_vec())).await?;
        self.tail.iter().for_each(|tail| tail.remove(seqs));
        Ok(())
    }

    /// Sets an event aside that nobody can publish, so that it stands in nobody's way.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn park_outbox(&self, seq: i64, reason: &str) -> Result<(), StoreError> {
        self.write(Write::Park { seq, reason: Some(reason.to_owned()) }).await?;
        self.tail.iter().for_each(|tail| tail.remove(&[seq]));
        Ok(())
    }

    /// Puts a parked event back into the line.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn unpark_outbox(&self, seq: i64) -> Result<(), StoreError> {
        self.write(Write::Park { seq, reason: None }).await?;
        self.tail.iter().for_each(|tail| tail.forget());
        Ok(())
    }

    /// Whether the log of an SQLite store is to be written back often, for there is little space; nothing on PostgreSQL.
    pub fn keep_log_short(&self, is_short: bool) {
        if let Backend::Sqlite(backend) = &self.backend {
            backend.keep_log_short(is_short);
        }
    }

    /// Gives back the space that the log of an SQLite store takes; nothing on PostgreSQL.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn shorten_log(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(backend) => backend.shorten_log().await,
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// Keeps a small value that is not PHI under a name: revisions, marks of background work.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_setting(&self, name: &str, value: Vec<u8>) -> Result<(), StoreError> {
        Ok(self.write(Write::Put { key: format!("setting/{name}"), value }).await?)
    }

    async fn write(&self, write: Write) -> Result<(), Trouble> {
        self.begin_write(write, Vec::new()).await.map(drop)
    }

    /// One write, and the events that wait once it is done; comes true with when it ended. In a task of its own: whoever stops waiting for it does not stop it.
    fn begin_write(&self, write: Write, events: Vec<OutboxRow>) -> Written {
        let is_refused = self.only_audit && !matches!(write, Write::Audit(_));
        let write = SealedWrite { write, lane: self.lane, keys: AuditKeys(Some(Arc::clone(&self.keys))) };
        let (backend, is_durable, store) = (self.backend.clone(), write.is_durable(), self.clone());
        let closed = || Err(Trouble::Other(StoreError::Closed));
        if let Backend::Sqlite(backend) = &backend
            && matches!(write.write, Write::Commit(_))
            && !is_refused
            && let Some(hand) = &backend.hand
            && let Some(turn) = backend.turn()
        {
            // Whoever begins it may go on working for a while without letting others run: it must not wait for that.
            let (backend, is_under_way) = (backend.clone(), self.tasks.token());
            let written = hand.run(move || {
                let outcome = store.written(backend.write_in(turn, write), is_durable, events);
                drop(is_under_way);
                outcome
            });
            return Box::pin(async move { written.await.unwrap_or_else(|_| closed()) });
        }
        let written = self.tasks.spawn(async move {
            if is_refused {
                return Err(StoreError::ReadOnly.into());
            }
            let outcome = match backend {
                Backend::Sqlite(backend) => backend.write(write).await,
                Backend::Postgres(backend) => backend.write(write).await,
            };
            store.written(outcome, is_durable, events)
        });
        Box::pin(async move { written.await.unwrap_or_else(|_| closed()) })
    }

    /// Notes how a write ended, and which events wait since. Gives back when.
    fn written(&self, outcome: Result<(), Trouble>, is_durable: bool, events: Vec<OutboxRow>) -> Result<Instant, Trouble> {
        match &outcome {
            Ok(()) if is_durable => *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Err(Trouble::Other(error)) => self.note(error),
            Ok(()) | Err(Trouble::Conflict) => {}
        }
        match (&outcome, &self.tail) {
            (Ok(()), Some(tail)) => tail.add(events),
            // Nobody knows what is in the table now.
            (Err(Trouble::Other(_)), Some(tail)) => tail.forget(),
            (_, _) => {}
        }
        outcome.map(|()| Instant::now())
    }
}
