//! What is read outside the way of a message: wakes, pages, the outbox, the audit chain, counts.

use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::Backend;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::lease::Share;
use crate::store::on_backend;
use crate::store::postgres_sql;
use crate::store::rows::DirectoryRow;
use crate::store::rows::Disposition;
use crate::store::rows::FindRequest;
use crate::store::rows::Found;
use crate::store::rows::OutboxDepth;
use crate::store::rows::OutboxRow;
use crate::store::rows::QuarantineRow;
use crate::store::rows::StoredAudit;
use crate::store::rows::StoredMessage;
use crate::store::rows::VisitPage;
use crate::store::sealed;
use crate::store::sealed::AuditColumns;
use crate::store::sealed::JournalColumns;
use crate::store::sealed::OutboxColumns;
use crate::store::sealed::QuarantineColumns;
use crate::store::sealing::Keys;
use crate::store::sealing::SealingKey;
use crate::store::sealing::Table;
use crate::store::sealing::WrappedKeys;
use crate::store::sealing::key_id;
use crate::store::sql;
use crate::store::sqlite_sql;
use crate::store::write::META_BEFORE;
use crate::store::write::META_EPOCH;
use crate::store::write::META_LOOK_UP_KEY;
use crate::store::write::META_OWN_KEY;
use crate::store::write::META_REPLACED;
use crate::store::write::epoch_of;
use crate::time::Timestamp;

/// The keys of the store as they stand in it at one moment, when they do.
pub(super) async fn wrapped_keys(backend: &Backend) -> Result<Option<WrappedKeys>, StoreError> {
    let rows = on_backend!(*backend, backend => sqlx::query_as::<_, (String, Vec<u8>)>(sql::META_KEYS).fetch_all(&backend.readers).await);
    let mut keys: HashMap<String, Vec<u8>> = is_there(rows)?.into_iter().collect();
    let mut take = |key: &str| keys.remove(key);
    let (own, look_up) = (take(META_OWN_KEY), take(META_LOOK_UP_KEY));
    Ok(own.zip(look_up).map(|(own, look_up)| WrappedKeys { own, look_up, before: take(META_BEFORE), replaced: take(META_REPLACED) }))
}

/// The epoch that stands.
pub(super) async fn epoch(backend: &Backend) -> Result<u32, StoreError> {
    epoch_of(meta(backend, META_EPOCH).await?.as_deref())
}

async fn meta(backend: &Backend, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    is_there(on_backend!(*backend, backend => sqlx::query_scalar(sql::META).bind(key).fetch_optional(&backend.readers).await))
}

/// A store without tables is none.
fn is_there<T>(read: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    match read {
        Err(sqlx::Error::Database(error)) if error.message().starts_with("no such table") => Err(StoreError::NotMigrated),
        read => Ok(read?),
    }
}

/// The key that a value is sealed under.
pub(super) fn key_for<'k>(own: &'k Keys, keys: &'k HashMap<i64, SealingKey>, table: Table, sealed: &[u8]) -> Result<&'k SealingKey, StoreError> {
    match key_id(table, sealed)? {
        0 => Ok(&own.own),
        id => keys.get(&id).ok_or(StoreError::Unsealed { table }),
    }
}

impl Store {
    /// The data keys that these values are sealed under; those of deleted patients are not among them.
    pub(super) async fn keys_of(&self, table: Table, sealed: impl Iterator<Item = &[u8]> + Send) -> Result<HashMap<i64, SealingKey>, StoreError> {
        let mut ids: BTreeSet<i64> = sealed.map(|sealed| key_id(table, sealed)).collect::<Result<_, _>>()?;
        ids.remove(&0);
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<i64> = ids.into_iter().collect();
        let rows = on_backend!(self.backend, backend => backend.data_keys(&ids).await?);
        rows.into_iter().map(|(id, wrapped)| Ok((id, self.keys.unwrap(id, wrapped)?))).collect()
    }

    /// What messages said of staff and units; absent while none said anything.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn directory(&self) -> Result<Option<DirectoryRow>, StoreError> {
        let row = on_backend!(self.backend, backend => sqlx::query_as(sql::DIRECTORY).fetch_optional(&backend.readers).await?);
        row.map(|row| sealed::directory(&self.keys, row)).transpose()
    }

    /// The version of what messages said of staff and units, 0 while none said anything.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn directory_version(&self) -> Result<i64, StoreError> {
        let version: Option<i64> =
            on_backend!(self.backend, backend => sqlx::query_scalar(sql::DIRECTORY_VERSION).fetch_optional(&backend.readers).await?);
        Ok(version.unwrap_or(0))
    }

    /// A value kept with [`Store::put_setting`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        meta(&self.backend, &format!("setting/{name}")).await
    }

    /// Visits of this share whose time has come, and their patients, the longest overdue first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due_wakes(&self, now: Timestamp, limit: i64, share: &Share) -> Result<Vec<(i64, i64)>, StoreError> {
        let now = now.as_micros();
        Ok(match (share.parts(), &self.backend) {
            (Some(parts), Backend::Postgres(backend)) => {
                sqlx::query_as(postgres_sql::DUE_WAKES_OF).bind(now).bind(limit).bind(parts).fetch_all(&backend.readers).await?
            }
            _ => on_backend!(self.backend, backend => sqlx::query_as(sql::DUE_WAKES).bind(now).bind(limit).fetch_all(&backend.readers).await?),
        })
    }

    /// When the next visit of this share must be planned again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_wake(&self, share: &Share) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> = match (share.parts(), &self.backend) {
            (Some(parts), Backend::Postgres(backend)) => {
                sqlx::query_scalar(postgres_sql::NEXT_WAKE_OF).bind(parts).fetch_one(&backend.readers).await?
            }
            _ => on_backend!(self.backend, backend => sqlx::query_scalar(sql::NEXT_WAKE).fetch_one(&backend.readers).await?),
        };
        Ok(at.map(Timestamp::from_micros))
    }

    /// The next open visits after this row id, with their patients; other open visits of those patients are among them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_visits_page(&self, after: i64, limit: i64) -> Result<VisitPage, StoreError> {
        self.visit_page(sql::OPEN_VISITS, after, limit).await
    }

    /// How many open visits there are of each status.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_visits_by_status(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(on_backend!(self.backend, backend => sqlx::query_as(sql::OPEN_BY_STATUS).fetch_all(&backend.readers).await?))
    }

    /// The next visits that have a room, open or not, after this row id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rooms_page(&self, after: i64, limit: i64) -> Result<VisitPage, StoreError> {
        self.visit_page(sql::ROOMS, after, limit).await
    }

    async fn visit_page(&self, statement: &'static str, after: i64, limit: i64) -> Result<VisitPage, StoreError> {
        let visits: Vec<i64> =
            on_backend!(self.backend, backend => sqlx::query_scalar(statement).bind(after).bind(limit).fetch_all(&backend.readers).await?);
        let found = self.find(&FindRequest { visits: visits.clone(), ..FindRequest::default() }).await?;
        Ok(VisitPage { visits, found })
    }

    /// The next visits after this row id whose room stands, or which were written since then.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recent_rooms_page(&self, since: Timestamp, after: i64, limit: i64) -> Result<Vec<i64>, StoreError> {
        let (statement, since) = (sql::RECENT_ROOMS, since.as_micros());
        Ok(on_backend!(self.backend, backend => {
            sqlx::query_scalar(statement).bind(after).bind(limit).bind(since).fetch_all(&backend.readers).await?
        }))
    }

    /// How many visits [`Store::recent_rooms_page`] goes through.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recent_rooms_count(&self, since: Timestamp) -> Result<i64, StoreError> {
        let (statement, since) = (sql::RECENT_ROOMS_COUNT, since.as_micros());
        Ok(on_backend!(self.backend, backend => sqlx::query_scalar(statement).bind(since).fetch_one(&backend.readers).await?))
    }

    /// The visit of a room: its row id, and everything that is found with it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn room_by_id(&self, room: CareRoomId) -> Result<Option<(i64, Found)>, StoreError> {
        let visit: Option<i64> =
            on_backend!(self.backend, backend => sqlx::query_scalar(sql::ROOM).bind(room.0).fetch_optional(&backend.readers).await?);
        let Some(visit) = visit else { return Ok(None) };
        let found = self.find(&FindRequest { visits: vec![visit], ..FindRequest::default() }).await?;
        Ok(Some((visit, found)))
    }

    /// Events that wait, in order, after this place in the order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pending_outbox(&self, limit: i64, after_seq: Option<i64>) -> Result<Vec<OutboxRow>, StoreError> {
        let Some(tail) = &self.tail else { return self.outbox(sql::OUTBOX_PENDING, limit, after_seq).await };
        match tail.first(limit, after_seq.unwrap_or(i64::MIN)) {
            Ok(rows) => Ok(rows),
            Err(n_forgotten) => {
                let rows = self.outbox(sql::OUTBOX_PENDING, limit, after_seq).await?;
                if after_seq.is_none() && i64::try_from(rows.len()).is_ok_and(|n_rows| n_rows < limit) {
                    tail.compare(n_forgotten, &rows);
                }
                Ok(rows)
            }
        }
    }

    /// Events that were parked, in order, after this place in the order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn parked_outbox(&self, limit: i64, after_seq: Option<i64>) -> Result<Vec<OutboxRow>, StoreError> {
        self.outbox(sql::OUTBOX_PARKED, limit, after_seq).await
    }

    async fn outbox(&self, statement: &'static str, limit: i64, after_seq: Option<i64>) -> Result<Vec<OutboxRow>, StoreError> {
        let after = after_seq.unwrap_or(i64::MIN);
        let rows: Vec<OutboxColumns> =
            on_backend!(self.backend, backend => sqlx::query_as(statement).bind(after).bind(limit).fetch_all(&backend.readers).await?);
        self.unseal_outbox(rows).await
    }

    async fn unseal_outbox(&self, rows: Vec<OutboxColumns>) -> Result<Vec<OutboxRow>, StoreError> {
        let keys = self.keys_of(Table::Outbox, rows.iter().map(|row| row.9.as_slice())).await?;
        rows.into_iter().map(|row| sealed::outbox_row(key_for(&self.keys, &keys, Table::Outbox, &row.9)?, row)).collect()
    }

    /// The first events of this share that wait, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn pending_share(&self, limit: i64, share: &Share) -> Result<Vec<OutboxRow>, StoreError> {
        let (Some(parts), Backend::Postgres(backend)) = (share.parts(), &self.backend) else { return self.pending_outbox(limit, None).await };
        let rows = backend.pending_of(limit, &parts).await?;
        self.unseal_outbox(rows).await
    }

    /// What is wrong with the file of a SQLite store itself, in SQLite's words, which name pages, rows and indexes: nothing where it is whole, and nothing on
    /// PostgreSQL, which sees to its files by itself. It reads all of the file.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn file_faults(&self) -> Result<Vec<String>, StoreError> {
        let Backend::Sqlite(backend) = &self.backend else { return Ok(Vec::new()) };
        match sqlx::query_scalar::<_, String>(sqlite_sql::FILE_FAULTS).fetch_all(&backend.readers).await.map_err(StoreError::from) {
            Ok(found) => Ok(found.into_iter().filter(|fault| fault != "ok").collect()),
            // So much that the search itself comes to no end.
            Err(StoreError::Damaged { code }) => Ok(vec![format!("it cannot be read (code {code})")]),
            Err(error) => Err(error),
        }
    }

    /// How much waits in the outbox.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        let n_pending: i64 = on_backend!(self.backend, backend => sqlx::query_scalar(sql::OUTBOX_COUNT).fetch_one(&backend.readers).await?);
        let n_parked: i64 = on_backend!(self.backend, backend => sqlx::query_scalar(sql::OUTBOX_COUNT_PARKED).fetch_one(&backend.readers).await?);
        let oldest: Option<i64> =
            on_backend!(self.backend, backend => sqlx::query_scalar(sql::OUTBOX_OLDEST).fetch_optional(&backend.readers).await?);
        Ok(OutboxDepth { n_pending, oldest: oldest.map(Timestamp::from_micros), n_parked })
    }

    /// The next audit rows after this id, of one room or of all; one whose body does not open is without it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit_page(&self, room: Option<CareRoomId>, after: i64, limit: i64) -> Result<Vec<StoredAudit>, StoreError> {
        let rows: Vec<AuditColumns> = match room {
            Some(room) => on_backend!(self.backend, backend => {
                sqlx::query_as(sql::AUDIT_OF_ROOM).bind(after).bind(limit).bind(room.0).fetch_all(&backend.readers).await?
            }),
            None => self.audit_columns(after, limit).await?,
        };
        self.opened(rows).await
    }

    pub(super) async fn audit_columns(&self, after: i64, limit: i64) -> Result<Vec<AuditColumns>, StoreError> {
        let query = sql::AUDIT_PAGE;
        Ok(on_backend!(self.backend, backend => sqlx::query_as(query).bind(after).bind(limit).fetch_all(&backend.readers).await?))
    }

    /// How many messages ended how, by feed, counting from this message on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn journal_counts(&self, since: JournalId) -> Result<Vec<(String, Disposition, i64)>, StoreError> {
        let rows: Vec<(String, i16, i64)> =
            on_backend!(self.backend, backend => sqlx::query_as(sql::JOURNAL_COUNTS).bind(since.0).fetch_all(&backend.readers).await?);
        let form = StoreError::Form { table: Table::Journal };
        let counts = rows.into_iter().map(|(feed, number, count)| Some((feed, Disposition::from_number(number)?, count)));
        counts.collect::<Option<_>>().ok_or(form)
    }

    /// A message as it came.
    ///
    /// # Errors
    /// When the store cannot be read, or the message's patient was deleted.
    pub async fn journal_message(&self, id: JournalId) -> Result<Option<StoredMessage>, StoreError> {
        let query = sql::JOURNAL_MESSAGE;
        let row: Option<JournalColumns> =
            on_backend!(self.backend, backend => sqlx::query_as(query).bind(id.0).fetch_optional(&backend.readers).await?);
        let Some(row) = row else { return Ok(None) };
        let keys = self.keys_of(Table::Journal, std::iter::once(row.11.as_slice())).await?;
        let key = key_for(&self.keys, &keys, Table::Journal, &row.11)?;
        Ok(Some(sealed::message(key, row)?))
    }

    /// The next messages after this one that merged patients, accounts or visits.
    ///
    /// # Errors
    /// When the store cannot be read, or a message's patient was deleted.
    pub async fn merge_messages(&self, after: JournalId, limit: i64) -> Result<Vec<StoredMessage>, StoreError> {
        let query = sql::MERGE_MESSAGES;
        let rows: Vec<JournalColumns> =
            on_backend!(self.backend, backend => sqlx::query_as(query).bind(after.0).bind(limit).fetch_all(&backend.readers).await?);
        let keys = self.keys_of(Table::Journal, rows.iter().map(|row| row.11.as_slice())).await?;
        rows.into_iter().map(|row| sealed::message(key_for(&self.keys, &keys, Table::Journal, &row.11)?, row)).collect()
    }

    /// Whether a message waits in quarantine.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn waits(&self, message: JournalId) -> Result<bool, StoreError> {
        let next = self.quarantine_page(JournalId(message.0.saturating_sub(1)), 1).await?;
        Ok(next.iter().any(|row| row.journal_id == message))
    }

    /// The next quarantined messages after this one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn quarantine_page(&self, after: JournalId, limit: i64) -> Result<Vec<QuarantineRow>, StoreError> {
        let query = sql::QUARANTINE_PAGE;
        let rows: Vec<QuarantineColumns> =
            on_backend!(self.backend, backend => sqlx::query_as(query).bind(after.0).bind(limit).fetch_all(&backend.readers).await?);
        rows.into_iter().map(sealed::quarantine_row).collect()
    }

    /// How many messages are in quarantine.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn quarantine_count(&self) -> Result<i64, StoreError> {
        Ok(on_backend!(self.backend, backend => sqlx::query_scalar(sql::QUARANTINE_COUNT).fetch_one(&backend.readers).await?))
    }
}
