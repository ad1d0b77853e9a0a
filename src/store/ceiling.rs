//! The bare writer: what SQLite does on this machine with rows as large and as many as those of a store, when nothing is read, sealed or planned.
//!
//! It is for `bench` only, which sets it beside what the daemon reached. It writes random bytes into a file of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SecureRandom as _;
use ring::rand::SystemRandom;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::Backend;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::look_up::LookUpKind;
use crate::store::master_key::MasterKey;
use crate::store::on_backend;
use crate::store::rows::AuditRow;
use crate::store::sealed::SealedBatch;
use crate::store::sealing::Document;
use crate::store::sealing::Keys;
use crate::store::sealing::Place;
use crate::store::sealing::Sealer;
use crate::store::sealing::SealingKey;
use crate::store::sealing::Table;
use crate::store::sqlite::SqliteBackend;
use crate::store::write::AuditKeys;
use crate::store::write::SealedWrite;
use crate::store::write::Write;
use crate::time::Timestamp;

const TABLES: [(&str, &str); 5] = [
    ("journal", "SELECT COUNT(*), COALESCE(SUM(LENGTH(raw)), 0) FROM journal"),
    ("facts", "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM facts"),
    ("visits", "SELECT COUNT(*), COALESCE(SUM(LENGTH(doc)), 0) FROM visits"),
    ("patients", "SELECT COUNT(*), COALESCE(SUM(LENGTH(doc)), 0) FROM patients"),
    ("audit", "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM audit"),
];
/// Only the rows of the audit chain are sealed, since they are hashed as they are written.
const ANY_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const LOOK_UPS: &str = "SELECT COUNT(*) FROM look_ups";

/// How many rows there are, and how long one is on average.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowSize {
    /// How many.
    pub n_rows: i64,
    /// The sealed part of one, in bytes.
    pub n_bytes: usize,
}

/// The rows of a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowSizes {
    /// Messages.
    pub journal: RowSize,
    /// Facts.
    pub facts: RowSize,
    /// Visits.
    pub visits: RowSize,
    /// Patients.
    pub patients: RowSize,
    /// Audit rows, one for each event.
    pub audit: RowSize,
    /// Events; nothing is known of them here, they are gone when they were published.
    pub outbox: RowSize,
    /// Look-ups.
    pub n_look_ups: i64,
}

impl Store {
    /// How many rows there are of each kind, and how long they are. Reads every table.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn row_sizes(&self) -> Result<RowSizes, StoreError> {
        let mut sizes = [RowSize::default(); TABLES.len()];
        for (size, (_, statement)) in sizes.iter_mut().zip(TABLES) {
            let (n_rows, sum): (i64, i64) = on_backend!(self.backend, backend => sqlx::query_as(statement).fetch_one(&backend.readers).await?);
            *size = RowSize { n_rows, n_bytes: usize::try_from(sum / n_rows.max(1)).unwrap_or_default() };
        }
        let n_look_ups: i64 = on_backend!(self.backend, backend => sqlx::query_scalar(LOOK_UPS).fetch_one(&backend.readers).await?);
        let [journal, facts, visits, patients, audit] = sizes;
        Ok(RowSizes { journal, facts, visits, patients, audit, outbox: RowSize { n_rows: audit.n_rows, n_bytes: 0 }, n_look_ups })
    }
}

/// Writes batches of `n_messages` for some time, and says how many messages that were in a second.
///
/// # Errors
/// When the file cannot be made or written.
pub async fn bare_writes(file: &Path, sizes: &RowSizes, n_messages: u32, span: Duration) -> Result<f64, StoreError> {
    let backend = Backend::Sqlite(SqliteBackend::open(&format!("sqlite:{}", file.display()), 1, TaskTracker::new()).await?);
    let master = MasterKey::from_base64(ANY_KEY).map_err(|_| StoreError::WrongKey)?;
    let keys = AuditKeys(Some(Arc::new(Keys::open(&master, Keys::generate(&master)?)?)));
    let mut noise = vec![0; 1 << 20];
    SystemRandom::new().fill(&mut noise).map_err(|_| StoreError::Random)?;
    let mut maker = Maker { sizes: *sizes, noise, next_id: 1, n_drawn: 0, visits: Vec::new() };
    let mut unsettled: Vec<i64> = Vec::new();
    let (mut n_written, begun) = (0_u32, Instant::now());
    while begun.elapsed() < span {
        let batch = maker.batch(n_messages);
        let settled = std::mem::replace(&mut unsettled, batch.outbox.iter().map(|row| row.0).collect());
        let [settle, commit] = [Write::Settle(settled), Write::Commit(vec![batch])].map(|write| SealedWrite { write, lane: 0, keys: keys.clone() });
        on_backend!(backend, backend => tokio::try_join!(backend.write(settle), backend.write(commit)).map_err(StoreError::from)?);
        n_written += n_messages;
    }
    let took = begun.elapsed().as_secs_f64();
    on_backend!(backend, backend => backend.close().await);
    Ok(f64::from(n_written) / took)
}

/// Seals documents as the store does, under a key that means nothing.
#[derive(Debug)]
pub struct BareSealer {
    keys: Keys,
    patient: SealingKey,
}

impl BareSealer {
    /// A sealer with keys of its own.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn new() -> Result<Self, StoreError> {
        let master = MasterKey::from_base64(ANY_KEY).map_err(|_| StoreError::WrongKey)?;
        let keys = Keys::open(&master, Keys::generate(&master)?)?;
        let patient = keys.new_patient_key(1)?;
        Ok(Self { keys, patient })
    }

    /// Seals documents, and gives back how many bytes they take.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn seal(&self, documents: &[Document]) -> Result<usize, StoreError> {
        let mut sealer = Sealer::new(&self.keys);
        documents.iter().try_fold(0, |sum, document| Ok(sum + sealer.seal(&self.patient, Place::row(Table::Visits, 1), document)?.len()))
    }
}

/// Makes batches of rows that mean nothing.
struct Maker {
    sizes: RowSizes,
    noise: Vec<u8>,
    next_id: i64,
    n_drawn: usize,
    /// Visits that are written again.
    visits: Vec<(i64, i64)>,
}

impl Maker {
    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    fn bytes(&mut self, n_bytes: usize) -> Vec<u8> {
        self.n_drawn = (self.n_drawn + 7919) % (self.noise.len() / 2);
        self.noise.iter().skip(self.n_drawn).take(n_bytes).copied().collect()
    }

    fn hash(&mut self) -> Vec<u8> {
        let id = self.id();
        // Spread like the hashes of numbers, neighbours beside each other, and never the same twice.
        (id / 100).wrapping_mul(0x6c07_96d9_3b4e_1b35).to_be_bytes().into_iter().chain(id.to_be_bytes()).collect()
    }

    /// How many rows of a kind so many messages bring.
    fn share(&self, n_rows: i64, n_messages: u32) -> i64 {
        (n_rows * i64::from(n_messages)).div_euclid(self.sizes.journal.n_rows.max(1)).max(1)
    }

    fn batch(&mut self, n_messages: u32) -> SealedBatch {
        let sizes = self.sizes;
        let mut batch = SealedBatch::default();
        for _ in 0..n_messages {
            let (id, dedupe, raw) = (self.id(), self.hash(), self.bytes(sizes.journal.n_bytes));
            batch.journal.push((id, "main".to_owned(), id, Some(dedupe), None, Some("A08".to_owned()), 0, None, None, None, Some(1), raw));
            batch.by_age.push(0);
        }
        let n_new = self.share(sizes.visits.n_rows, n_messages);
        for _ in 0..n_new {
            let id = self.id();
            self.visits.push((id, 0));
        }
        let n_open = usize::try_from(n_messages).unwrap_or_default();
        let from = self.visits.len().saturating_sub(n_open.max(1024));
        let step = ((self.visits.len() - from) / n_open.max(1)).max(1);
        let rows: Vec<(i64, i64)> = self
            .visits
            .iter_mut()
            .skip(from)
            .step_by(step)
            .take(n_open)
            .map(|row| {
                row.1 += 1;
                *row
            })
            .collect();
        for (id, version) in rows {
            let doc = self.bytes(sizes.visits.n_bytes);
            batch.visits.push((
                id,
                id,
                version,
                "active".to_owned(),
                true,
                Some(id),
                Some(Uuid::from_u128(u128::from(id.unsigned_abs()))),
                version,
                id,
                doc,
                None,
            ));
        }
        for _ in 0..self.share(sizes.patients.n_rows, n_messages) {
            let (id, key, doc) = (self.id(), self.bytes(70), self.bytes(sizes.patients.n_bytes));
            batch.patients.push((id, 1, key, None, doc));
        }
        for _ in 0..self.share(sizes.facts.n_rows, n_messages) {
            let (id, hash, body) = (self.id(), self.hash(), self.bytes(sizes.facts.n_bytes));
            batch.facts.push((id, id, id, id, hash, body));
        }
        for _ in 0..self.share(sizes.n_look_ups, n_messages) {
            let (id, hash) = (self.id(), self.hash());
            batch.look_ups.push((hash, id, LookUpKind::Visit as i16));
        }
        for _ in 0..self.share(sizes.outbox.n_rows, n_messages) {
            let (id, body) = (self.id(), self.bytes(sizes.outbox.n_bytes));
            let room = Uuid::from_u128(u128::from(id.unsigned_abs()));
            batch.outbox.push((id, room, 1, room, "room.updated".to_owned(), "GHH".to_owned(), None, id, None, body));
        }
        for _ in 0..self.share(sizes.audit.n_rows, n_messages) {
            let (id, body) = (self.id(), self.bytes(sizes.audit.n_bytes));
            batch.audit.push(AuditRow {
                at: Timestamp::from_micros(id),
                kind: "room.updated".to_owned(),
                room_id: Some(CareRoomId(Uuid::from_u128(u128::from(id.unsigned_abs())))),
                room_version: Some(2),
                made_for: Some(id),
                journal_id: Some(JournalId(id)),
                key: None,
                body: Document::new(1, body),
            });
        }
        batch
    }
}
