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
use sqlx::Connection as _;
use sqlx::PgConnection;
use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::Transaction;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::lease::PARTS;
use crate::store::look_up::LookUpHash;
use crate::store::postgres_sql as text;
use crate::store::sealed::AuditColumns;
use crate::store::sealed::FactColumns;
use crate::store::sealed::OutboxColumns;
use crate::store::sealed::QuarantineColumns;
use crate::store::sealed::VisitColumns;
use crate::store::sql;
use crate::store::write::RawFind;
use crate::store::write::RawFound;
use crate::store::write::SealedWrite;

use kept::Kept;
use session::Session;
use session::bytes;

mod kept;
mod session;

/// Connections beside those that read: the intake's, the relay's, one to spare.
const WRITERS: u32 = 3;

/// How long a transaction may stand still before the server ends it: the locks of a daemon that is stopped or cut off stand in everybody's way.
const IDLE_TRANSACTION_MS: &str = "10000";
/// How the server plans. Every statement that is run for each batch finds its rows by an index; what the server believes of a table that was empty when
/// a connection first used it must not keep it from that as long as the connection lives. A plan is made once and not for each list, and never compiled.
const PLANS: [(&str, &str); 3] = [("enable_seqscan", "off"), ("plan_cache_mode", "force_generic_plan"), ("jit", "off")];
/// Every statement sees the same state.
const ONE_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How many events more than on average a part of those that wait may have without being asked for again.
const SPREAD: i64 = 64;
/// How long a connection is waited for; the caller tries again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// One PostgreSQL database.
#[derive(Clone, Debug)]
pub(super) struct PostgresBackend {
    pub(super) readers: PgPool,
    kept: Kept,
    read_only: bool,
    n_statements: Arc<AtomicU64>,
}

/// How many of these are of rooms of a part.
fn n_of(part: i16, rows: &[OutboxColumns]) -> i64 {
    let is_of_it = |room: &Uuid| room.as_bytes().last().is_some_and(|byte| i16::from(*byte) % PARTS == part);
    i64::try_from(rows.iter().filter(|row| is_of_it(&row.1)).count()).unwrap_or(i64::MAX)
}

impl PostgresBackend {
    /// Connects, and brings the database up to date; sqlx lets only one daemon do that at a time.
    pub(super) async fn open(url: &str, readers: u32) -> Result<Self, StoreError> {
        let backend = Self::connect(url, readers, false)?;
        let mut connection = backend.readers.acquire().await?;
        sql::bring_up_to_date(&mut *connection, sql::POSTGRES_MIGRATIONS).await?;
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
        Ok(Self { readers: pool, kept: Kept::new(WRITERS), read_only, n_statements: Arc::default() })
    }

    pub(super) fn n_statements(&self) -> u64 {
        self.n_statements.load(Ordering::Relaxed)
    }

    pub(super) async fn close(&self) {
        // It waits for all of its connections; what is kept from here on is given back at once.
        let closed = self.readers.close();
        self.kept.forget();
        closed.await;
    }

    /// One write, whole. A transaction that fails is rolled back when it is dropped.
    pub(super) async fn write(&self, write: SealedWrite) -> Result<(), Trouble> {
        if self.read_only {
            return Err(StoreError::ReadOnly.into());
        }
        let mut connection = self.take().await?;
        let written = self.write_on(&mut connection, write).await;
        self.keep(connection, written.is_ok() || matches!(written, Err(Trouble::Conflict)));
        written
    }

    async fn write_on(&self, connection: &mut PgConnection, write: SealedWrite) -> Result<(), Trouble> {
        if !write.is_durable() {
            // One statement, which is a transaction of its own.
            return Session { connection, n_statements: &self.n_statements }.apply(write).await;
        }
        let mut transaction = connection.begin_with("BEGIN").await?;
        let written = Session { connection: &mut transaction, n_statements: &self.n_statements }.apply(write).await;
        match written {
            Ok(()) => transaction.commit().await?,
            Err(Trouble::Conflict) => transaction.rollback().await?,
            Err(_) => {}
        }
        written
    }

    pub(super) async fn take(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.kept.take(&self.readers).await
    }

    /// Keeps a connection that works for the next who needs one. Where it does not, the others will not either; and it is closed, for what stands in the
    /// way may be of its session.
    pub(super) fn keep(&self, mut connection: PoolConnection<Postgres>, works: bool) {
        if works {
            self.kept.keep(connection);
        } else {
            connection.close_on_drop();
        }
        if !works || self.readers.is_closed() {
            self.kept.forget();
        }
    }

    /// A transaction in which every statement sees the same state.
    pub(super) async fn one_moment(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(self.readers.begin_with(ONE_MOMENT).await?)
    }

    pub(super) async fn find(&self, request: &RawFind<'_>) -> Result<RawFound, StoreError> {
        let mut connection = self.take().await?;
        let found = self.find_on(&mut connection, request).await;
        self.keep(connection, found.is_ok());
        found
    }

    async fn find_on(&self, connection: &mut PgConnection, request: &RawFind<'_>) -> Result<RawFound, StoreError> {
        let mut found = RawFound::default();
        let mut session = Session { connection, n_statements: &self.n_statements };
        // What these say is held against the tables again by the commit, so they need not be of the same moment as the rest; often there is no rest.
        if !request.dedupe.is_empty() {
            found.known = session.by_hashes(text::KNOWN, request.dedupe).await?;
        }
        if !request.look_ups.is_empty() {
            found.look_ups = session.by_hashes(text::LOOK_UPS, request.look_ups).await?;
        }
        let wanted = found.visits_wanted(request);
        if wanted.is_empty() && found.patients_wanted(request).is_empty() {
            return Ok(found);
        }
        let mut transaction = session.connection.begin_with(ONE_MOMENT).await?;
        let mut session = Session { connection: &mut transaction, n_statements: &self.n_statements };
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

    /// How many others have the store, as far as they take part in what is shared out.
    pub(super) async fn n_others(&self, holder: Uuid) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(text::HOLDERS).bind(holder).fetch_one(&self.readers).await?)
    }

    pub(super) async fn data_keys(&self, patients: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        self.rows(sqlx::query_as(text::KEYS).bind(patients)).await
    }

    pub(super) async fn audit_rows(&self, wanted: &[i64]) -> Result<Vec<AuditColumns>, StoreError> {
        self.rows(sqlx::query_as(text::AUDIT_ROWS).bind(wanted)).await
    }

    pub(super) async fn visits_of_patients(&self, patients: &[i64]) -> Result<Vec<(i64,)>, StoreError> {
        self.rows(sqlx::query_as(text::VISITS_OF_PATIENTS).bind(patients)).await
    }

    pub(super) async fn messages_of_patients(&self, messages: &[i64], patients: &[i64]) -> Result<Vec<(i64,)>, StoreError> {
        self.rows(sqlx::query_as(text::JOURNAL_PATIENTS).bind(messages).bind(patients)).await
    }

    pub(super) async fn messages_by_age(&self, after: i64, before: i64, limit: i64) -> Result<Vec<(i64, Option<i64>)>, StoreError> {
        self.rows(sqlx::query_as(text::MESSAGES_BY_AGE).bind(after).bind(before).bind(limit)).await
    }

    pub(super) async fn messages_briefly(&self, messages: &[i64]) -> Result<Vec<(i64, Option<i64>, Option<String>)>, StoreError> {
        self.rows(sqlx::query_as(text::MESSAGES_BRIEFLY).bind(messages)).await
    }

    pub(super) async fn arrivals(&self, owners: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
        self.rows(sqlx::query_as(text::ARRIVALS).bind(owners)).await
    }

    pub(super) async fn rooms_that_wait(&self, rooms: &[Uuid]) -> Result<Vec<(Uuid,)>, StoreError> {
        self.rows(sqlx::query_as(text::ROOMS_THAT_WAIT).bind(rooms)).await
    }

    pub(super) async fn purged_patients(&self, patients: &[i64]) -> Result<Vec<(i64,)>, StoreError> {
        self.rows(sqlx::query_as(text::PURGED_AMONG).bind(patients)).await
    }

    pub(super) async fn facts(&self, owners: &[i64]) -> Result<Vec<FactColumns>, StoreError> {
        self.rows(sqlx::query_as(text::FACTS).bind(owners)).await
    }

    pub(super) async fn facts_known(&self, facts: &[(i64, LookUpHash)]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let owners: Vec<i64> = facts.iter().map(|(owner, _)| *owner).collect();
        let hashes: Vec<&[u8]> = facts.iter().map(|(_, hash)| hash.0.as_slice()).collect();
        self.rows(sqlx::query_as(text::FACTS_KNOWN).bind(owners).bind(hashes)).await
    }

    pub(super) async fn quarantine_by_hashes(&self, wanted: &[LookUpHash]) -> Result<Vec<QuarantineColumns>, StoreError> {
        self.rows(sqlx::query_as(text::QUARANTINE_BY_HASHES).bind(bytes(wanted))).await
    }

    /// The first events of these parts, of each room one after another from its first on; fewer than `limit` only where no more wait.
    pub(super) async fn pending_of(&self, limit: i64, parts: &[i16]) -> Result<Vec<OutboxColumns>, StoreError> {
        if parts.len() == usize::from(PARTS.unsigned_abs()) {
            // Nothing waits for others.
            return self.rows(sqlx::query_as(sql::OUTBOX_PENDING).bind(i64::MIN).bind(limit)).await;
        }
        let first = async |of_each: i64| self.rows(sqlx::query_as(text::OUTBOX_PENDING_OF).bind(limit).bind(parts).bind(of_each)).await;
        // Rooms are spread over the parts by chance, so that twice as many of each as there are on average will do, and not all are read for a part of them.
        let of_each = limit.min(limit / i64::try_from(parts.len()).unwrap_or(1).max(1) * 2 + SPREAD);
        let rows = first(of_each).await?;
        let has_more = parts.iter().any(|part| n_of(*part, &rows) >= of_each);
        let falls_short = i64::try_from(rows.len()).is_ok_and(|n_rows| n_rows < limit) && has_more;
        if falls_short { first(limit).await } else { Ok(rows) }
    }

    async fn rows<T>(&self, query: sqlx::query::QueryAs<'_, Postgres, T, PgArguments>) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        let mut connection = self.take().await?;
        let rows = query.fetch_all(&mut *connection).await;
        self.keep(connection, rows.is_ok());
        Ok(rows?)
    }
}
