//! The one connection that writes: a transaction after another, each from its first statement to its last on one thread.
//!
//! A statement is prepared once and run for each row: SQLite is in this process, so a row more costs no way to anywhere. What is asked of it while it
//! works waits for its turn at the door ([`super::SqliteBackend`]); nothing here waits for anything but the file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rusqlite::CachedStatement;
use rusqlite::Connection;
use rusqlite::OptionalExtension as _;
use rusqlite::params;

use crate::store::error::StoreError;
use crate::store::error::Trouble;
use crate::store::ledger;
use crate::store::rows::AuditRow;
use crate::store::rows::Purge;
use crate::store::sealed::PatientColumns;
use crate::store::sealed::SealedBatch;
use crate::store::sealed::VisitColumns;
use crate::store::sql;
use crate::store::sqlite::BUSY_TIMEOUT;
use crate::store::sqlite::STATEMENTS_KEPT;
use crate::store::sqlite::layer;
use crate::store::sqlite_sql as text;
use crate::store::write::AuditKeys;
use crate::store::write::FIRST_EPOCH;
use crate::store::write::META_BEFORE;
use crate::store::write::META_EPOCH;
use crate::store::write::META_OWN_KEY;
use crate::store::write::SealedWrite;
use crate::store::write::Wrap;
use crate::store::write::Write;
use crate::store::write::agree_on_epoch;
use crate::store::write::end_key;
use crate::store::write::epoch_value;
use crate::store::write::wrapped_by;

/// Where the file is, and how it is written.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) file: PathBuf,
    /// After how many pages of the log a commit writes it back itself.
    pub(super) auto_checkpoint: u32,
}

impl Opening {
    pub(super) fn open(&self) -> Result<Connection, rusqlite::Error> {
        let connection = layer::open(&self.file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        // After most commits SQLite goes through all of its cache (a tree that was balanced makes it believe that the file became shorter), and what is
        // not in there the kernel has: more of it would cost more than it saves.
        let pragmas = [("synchronous", 2), ("foreign_keys", 0), ("temp_store", 2), ("cache_size", -3072), ("journal_size_limit", 134_217_728)];
        for (pragma, value) in pragmas {
            connection.pragma_update(None, pragma, value)?;
        }
        connection.pragma_update(None, "wal_autocheckpoint", self.auto_checkpoint)?;
        overwrite(&connection, false)?;
        Ok(connection)
    }
}

/// What is deleted for good is overwritten, not only given free: a key that can still be found in the file is not destroyed. And what a row leaves behind on a
/// page when it grows or moves is overwritten always, which costs no page more: it would be a copy of a key that nobody finds again to destroy it.
fn overwrite(connection: &Connection, all: bool) -> Result<(), rusqlite::Error> {
    connection.pragma_update_and_check(None, "secure_delete", if all { "on" } else { "fast" }, |_| Ok(()))
}

#[derive(Debug)]
pub(super) struct Writer {
    opening: Opening,
    pub(super) connection: Connection,
    durable: bool,
    /// Whether all that is deleted is overwritten, also where that is a page more to write.
    overwrites: bool,
}

impl Writer {
    pub(super) fn open(opening: Opening) -> Result<Self, StoreError> {
        Ok(Self { connection: opening.open()?, opening, durable: true, overwrites: false })
    }

    /// SQLite opens what it may not write all the same, and says so with the first commit only.
    pub(super) fn can_write(&self) -> Result<(), StoreError> {
        if self.connection.is_readonly("main")? { Err(StoreError::OnlyRead) } else { Ok(()) }
    }

    pub(super) const fn opening(&self) -> &Opening {
        &self.opening
    }

    /// One transaction, whole or not at all.
    pub(super) fn run(&mut self, write: SealedWrite, settled: &[i64], n_statements: &AtomicU64) -> Result<(), Trouble> {
        let outcome = self.attempt(write, settled, n_statements);
        if outcome.is_err() {
            self.recover();
        }
        outcome
    }

    fn attempt(&mut self, write: SealedWrite, settled: &[i64], n_statements: &AtomicU64) -> Result<(), Trouble> {
        let (durable, lane) = (write.is_durable(), write.lane);
        let session = Session { connection: &self.connection, n_statements };
        if durable != self.durable {
            // In WAL mode NORMAL may lose the last commits when the power fails, and never harms the file.
            n_statements.fetch_add(1, Ordering::Relaxed);
            self.connection.pragma_update(None, "synchronous", if durable { 2 } else { 1 })?;
            self.durable = durable;
        }
        let deletes = match &write.write {
            Write::Commit(batches) => batches.iter().any(|batch| batch.purge.n_rows() > 0),
            Write::Wrap(_) => true,
            Write::Audit(_) | Write::Settle(_) | Write::Park { .. } | Write::Put { .. } | Write::Keep(_) => false,
        };
        if deletes != self.overwrites {
            n_statements.fetch_add(1, Ordering::Relaxed);
            overwrite(&self.connection, deletes)?;
            self.overwrites = deletes;
        }
        session.statement("BEGIN IMMEDIATE")?.execute([])?;
        session.apply(write)?;
        if !settled.is_empty() {
            let mut settle = session.statement(text::OUTBOX_SETTLE)?;
            let mut n_settled = 0;
            for seq in settled {
                n_settled += settle.execute([seq])? as u64;
            }
            session.count(lane, ledger::confirmed(n_settled))?;
        }
        session.statement("COMMIT")?.execute([])?;
        Ok(())
    }

    /// After an error the connection is usable again, or replaced.
    fn recover(&mut self) {
        // SQLite has already rolled back after some errors.
        if self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok() {
            return;
        }
        match self.opening.open() {
            Ok(connection) => {
                self.connection = connection;
                (self.durable, self.overwrites) = (true, false);
            }
            Err(error) => tracing::error!(error = %StoreError::from(error), "the store's writer could not be opened again"),
        }
    }
}

/// A connection whose statements are counted: each once, for however many rows it is run.
struct Session<'c> {
    connection: &'c Connection,
    n_statements: &'c AtomicU64,
}

impl<'c> Session<'c> {
    fn statement(&self, sql: &str) -> Result<CachedStatement<'c>, rusqlite::Error> {
        self.n_statements.fetch_add(1, Ordering::Relaxed);
        self.connection.prepare_cached(sql)
    }

    /// Runs a statement for each row, where there are any.
    fn each<T>(
        &self,
        sql: &str,
        rows: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut run: impl FnMut(&mut CachedStatement<'c>, T) -> Result<usize, rusqlite::Error>,
    ) -> Result<(), rusqlite::Error> {
        let rows = rows.into_iter();
        if rows.len() > 0 {
            let mut statement = self.statement(sql)?;
            for row in rows {
                run(&mut statement, row)?;
            }
        }
        Ok(())
    }

    fn apply(&self, write: SealedWrite) -> Result<(), Trouble> {
        match write.write {
            Write::Commit(mut batches) => {
                for batch in &batches {
                    self.commit(batch, &write.keys)?;
                }
                self.count(write.lane, ledger::counted(&batches))?;
                let audit: Vec<AuditRow> = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.audit)).collect();
                if !audit.is_empty() {
                    let epochs: Vec<u32> = batches.iter().filter_map(|batch| batch.epoch).collect();
                    self.append(write.lane, &write.keys, &audit, &epochs)?;
                }
            }
            Write::Audit(rows) => self.append(write.lane, &write.keys, &rows, &[])?,
            // Settled events are in no list of their own here: every transaction takes along those there are.
            Write::Settle(_) => {}
            Write::Park { seq, reason } => {
                self.statement(text::OUTBOX_PARK)?.execute(params![seq, reason])?;
            }
            Write::Put { key, value } => {
                self.statement(sql::META_PUT)?.execute(params![key, value])?;
            }
            Write::Keep(values) => self.each(sql::META_KEEP, values, |keep, (key, value)| keep.execute(params![key, value]))?,
            Write::Wrap(wrap) => self.wrap(write.lane, &write.keys, &wrap)?,
        }
        Ok(())
    }

    fn own_key(&self) -> Result<Option<Vec<u8>>, rusqlite::Error> {
        self.statement(sql::META)?.query_row([META_OWN_KEY], |row| row.get(0)).optional()
    }

    /// Keys that are wrapped anew, if the master key is the one that is believed.
    fn wrap(&self, lane: u16, keys: &AuditKeys, wrap: &Wrap) -> Result<(), Trouble> {
        if self.own_key()?.as_ref() != Some(&wrap.stands) {
            return Err(Trouble::Conflict);
        }
        self.each(sql::META_PUT, &wrap.put, |put, (key, value)| put.execute(params![key, value]))?;
        if wrap.forgets {
            self.statement(sql::META_FORGET)?.execute([META_BEFORE])?;
        }
        self.each(text::PATIENT_KEY, &wrap.patients, |put, (id, stands, anew)| put.execute(params![id, stands, anew]))?;
        if wrap.audit.is_empty() { Ok(()) } else { self.append(lane, keys, &wrap.audit, &[]) }
    }

    fn count(&self, lane: u16, counted: impl IntoIterator<Item = (String, i64, i64)>) -> Result<(), rusqlite::Error> {
        let counted: Vec<_> = counted.into_iter().collect();
        self.each(text::TALLY_ADD, counted, |add, (what, hour, n)| add.execute(params![what, lane, hour, n]))
    }

    /// Rows at the end of a chain, if events were made with the epoch that stands. The end is read inside the transaction, so that another process on the
    /// same lane cannot have moved it.
    fn append(&self, lane: u16, keys: &AuditKeys, audit: &[AuditRow], epochs: &[u32]) -> Result<(), Trouble> {
        let key = end_key(lane);
        let stands = self.statement(text::CHAIN_END)?.query_row([&key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (end, epoch): (Option<Vec<u8>>, Option<Vec<u8>>) = stands;
        agree_on_epoch(epochs, epoch.as_deref())?;
        let (end, rows) = keys.seal_audit(lane, end, audit)?;
        self.each(text::AUDIT, &rows, |add, row| {
            let (id, at, kind, room, room_version, journal, chain, body, made_for) = row;
            add.execute(params![id, at, kind, room, room_version, journal, chain, body, made_for])
        })?;
        self.statement(sql::META_PUT)?.execute(params![key, end])?;
        Ok(())
    }

    fn commit(&self, batch: &SealedBatch, keys: &AuditKeys) -> Result<(), Trouble> {
        self.check(batch)?;
        let wrapped_by = wrapped_by(&batch.patients)?;
        if !wrapped_by.is_empty() {
            keys.agree_on_key(&wrapped_by, self.own_key()?.as_deref())?;
        }
        if let Some(next) = batch.next_epoch {
            self.raise_epoch(next)?;
        }
        self.each(text::DEDUPE_RELEASE, &batch.dedupe_released, |release, id| release.execute([id]))?;
        self.each(text::JOURNAL, batch.journal.iter().zip(&batch.by_age), |add, (row, by_age)| {
            let (id, feed, received, dedupe, control, trigger, disposition, reason, duplicate_of, ack_code, patient, raw) = row;
            add.execute(params![id, feed, received, dedupe, control, trigger, disposition, reason, duplicate_of, ack_code, patient, raw, by_age])
        })?;
        let mut n_settled = 0;
        self.each(text::JOURNAL_SETTLE, &batch.journal_settled, |settle, (id, disposition, reason, by_age)| {
            n_settled += settle.execute(params![id, disposition, reason, by_age])?;
            Ok(n_settled)
        })?;
        if n_settled != batch.journal_settled.len() {
            return Err(Trouble::Conflict);
        }
        self.put_patients(&batch.patients)?;
        self.put_visits(&batch.visits)?;
        self.each(text::FACT, &batch.facts, |add, row| {
            let (owner, recorded, sent, arrival, hash, body) = row;
            add.execute(params![owner, recorded, sent, arrival, hash, body])
        })?;
        self.each(text::LOOK_UP, &batch.look_ups, |add, (hash, target, kind)| add.execute(params![hash, target, kind]))?;
        self.each(text::OUTBOX, &batch.outbox, |add, row| {
            let (seq, room, version, event, event_type, facility, traceparent, time, parked, body) = row;
            add.execute(params![seq, room, version, event, event_type, facility, traceparent, time, parked, body])
        })?;
        self.each(text::QUARANTINE, &batch.quarantine, |put, row| {
            let (journal, reason, since, patient, visit, state) = row;
            put.execute(params![journal, reason, since, patient, visit, state])
        })?;
        self.each(text::QUARANTINE_LEAVE, &batch.quarantine_left, |leave, id| leave.execute([id]))?;
        if let Some((version, doc)) = &batch.directory
            && self.statement(sql::DIRECTORY_PUT)?.execute(params![version, doc])? == 0
        {
            return Err(Trouble::Conflict);
        }
        if batch.purge.n_rows() > 0 {
            self.purge(&batch.purge)?;
        }
        Ok(())
    }

    /// Deletes for good.
    fn purge(&self, purge: &Purge) -> Result<(), Trouble> {
        self.each(text::PURGE_VISIT, &purge.visits, |delete, id| delete.execute([id]))?;
        self.each(text::PURGE_FACTS, &purge.visits, |delete, owner| delete.execute([owner]))?;
        self.each(text::PURGE_LOOK_UP, &purge.look_ups, |delete, (hash, target)| delete.execute(params![hash.0, target]))?;
        self.each(text::QUARANTINE_LEAVE, &purge.messages, |leave, id| leave.execute([id.0]))?;
        let mut deleted: BTreeMap<(String, i64), i64> = BTreeMap::new();
        self.each(text::PURGE_MESSAGE, &purge.messages, |delete, id| {
            if let Some(feed) = delete.query_row([id.0], |row| row.get::<_, String>(0)).optional()? {
                *deleted.entry((feed, ledger::hour_of(*id))).or_default() += 1;
            }
            Ok(0)
        })?;
        self.each(text::PURGED_MESSAGES, &deleted, |add, ((feed, hour), n)| add.execute(params![feed, hour, n]))?;
        let mut n_deleted = 0;
        self.each(text::PURGE_PATIENT, &purge.patients, |delete, id| {
            n_deleted += delete.execute([id])?;
            Ok(0)
        })?;
        self.each(text::PURGED_PATIENT, &purge.patients, |note, id| note.execute(params![id, purge.at.as_micros()]))?;
        if n_deleted == purge.patients.len() { Ok(()) } else { Err(Trouble::Conflict) }
    }

    fn raise_epoch(&self, next: u32) -> Result<(), Trouble> {
        self.statement(sql::META_KEEP)?.execute(params![META_EPOCH, epoch_value(FIRST_EPOCH)])?;
        let n_put = self.statement(sql::EPOCH_PUT)?.execute(params![epoch_value(next), epoch_value(next.saturating_sub(1))])?;
        if n_put == 0 { Err(Trouble::Conflict) } else { Ok(()) }
    }

    /// Patients, each behind the version that it was planned from.
    fn put_patients(&self, rows: &[PatientColumns]) -> Result<(), Trouble> {
        if rows.is_empty() {
            return Ok(());
        }
        let (mut add, mut change) = (self.statement(text::PATIENT_NEW)?, self.statement(text::PATIENT)?);
        for (id, version, data_key, absorbed_into, doc) in rows {
            let put = if *version == 1 { &mut add } else { &mut change };
            if put.execute(params![id, version, data_key, absorbed_into, doc])? == 0 {
                return Err(Trouble::Conflict);
            }
        }
        Ok(())
    }

    /// Visits, each behind the version that it was planned from; in their order, in which a room leaves its row before another has it.
    fn put_visits(&self, rows: &[VisitColumns]) -> Result<(), Trouble> {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for (id, patient, version, status, is_open, wake_at, room, room_version, updated, doc, over) in rows {
            let row = params![id, patient, version, status, is_open, wake_at, room, room_version, updated, doc, over];
            let ways = if *version == 1 {
                self.prepared(&mut new, &[text::VISIT_NEW])?
            } else {
                // The one that writes the fewest indexes comes first.
                self.prepared(&mut changed, &[text::VISIT_QUIET, text::VISIT_WAKE, text::VISIT_ROOM_STAYS, text::VISIT])?
            };
            let mut n_put = 0;
            for way in ways {
                n_put = way.execute(row)?;
                if n_put > 0 {
                    break;
                }
            }
            if n_put == 0 {
                return Err(Trouble::Conflict);
            }
        }
        Ok(())
    }

    /// The statements, prepared when they are used first.
    fn prepared<'s>(&self, kept: &'s mut Vec<CachedStatement<'c>>, all: &[&str]) -> Result<&'s mut [CachedStatement<'c>], rusqlite::Error> {
        if kept.is_empty() {
            for sql in all {
                kept.push(self.statement(sql)?);
            }
        }
        Ok(kept)
    }

    /// Whether everything else that the batch was planned from still stands as it was read; no row counts as version 0.
    fn check(&self, batch: &SealedBatch) -> Result<(), Trouble> {
        let mut is_as_read = true;
        for (sql, read) in [(text::PATIENT_VERSION, &batch.patients_read), (text::VISIT_VERSION, &batch.visits_read)] {
            self.each(sql, read, |stored, (id, version)| {
                let stored: Option<i64> = stored.query_row([id], |row| row.get(0)).optional()?;
                is_as_read &= stored.unwrap_or(0) == *version;
                Ok(0)
            })?;
        }
        self.each(text::LOOK_UP_THERE, &batch.absent, |there, hash| {
            is_as_read &= !there.exists([hash.0])?;
            Ok(0)
        })?;
        if is_as_read { Ok(()) } else { Err(Trouble::Conflict) }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use rusqlite::OpenFlags;

    use super::Opening;
    use super::StoreError;
    use super::Writer;

    #[test]
    fn a_file_that_may_only_be_read_is_told_of_when_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let opening = Opening { file: folder.path().join("store.db"), auto_checkpoint: 0 };
        Connection::open(&opening.file).unwrap().execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
        let mut writer = Writer::open(opening.clone()).unwrap();
        assert!(writer.can_write().is_ok());
        writer.connection = Connection::open_with_flags(&opening.file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        assert!(matches!(writer.can_write(), Err(StoreError::OnlyRead)));
    }
}
