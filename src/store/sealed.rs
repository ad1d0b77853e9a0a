//! Between the rows that the crate knows and the columns that a database knows: sealing on the way in, unsealing on the way out.
//!
//! Both databases bind and read the same tuples, in the order of the columns.

use uuid::Uuid;

use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::chain::Head;
use crate::store::chain::Link;
use crate::store::error::StoreError;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::look_up::hash_column;
use crate::store::rows::AuditRow;
use crate::store::rows::CommitBatch;
use crate::store::rows::DirectoryRow;
use crate::store::rows::Disposition;
use crate::store::rows::KnownMessage;
use crate::store::rows::OutboxBody;
use crate::store::rows::OutboxRow;
use crate::store::rows::Purge;
use crate::store::rows::QuarantineRow;
use crate::store::rows::StoredAudit;
use crate::store::rows::StoredFact;
use crate::store::rows::StoredMessage;
use crate::store::rows::StoredPatient;
use crate::store::rows::StoredVisit;
use crate::store::sealing::Document;
use crate::store::sealing::Keys;
use crate::store::sealing::Place;
use crate::store::sealing::Sealer;
use crate::store::sealing::SealingKey;
use crate::store::sealing::Table;
use crate::store::sealing::unseal;
use crate::time::Timestamp;

/// id, feed, received, dedupe, control, trigger, disposition, reason, duplicate of, ack code, patient, raw.
pub(super) type JournalColumns =
    (i64, String, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>, i16, Option<String>, Option<i64>, Option<String>, Option<i64>, Vec<u8>);
/// dedupe, id, received, disposition, ack code.
pub(super) type KnownColumns = (Vec<u8>, i64, i64, i16, Option<String>);
/// id, version, data key, absorbed into, doc.
pub(super) type PatientColumns = (i64, i64, Vec<u8>, Option<i64>, Vec<u8>);
/// id, patient, version, status, open, wake, room, room version, updated, doc, over.
pub(super) type VisitColumns = (i64, i64, i64, String, bool, Option<i64>, Option<Uuid>, i64, i64, Vec<u8>, Option<i64>);
/// hash, target, kind.
pub(super) type LookUpColumns = (Vec<u8>, i64, i16);
/// owner, recorded, sent, arrival, hash, body.
pub(super) type FactColumns = (i64, i64, i64, i64, Vec<u8>, Vec<u8>);
/// seq, room, version, event, type, facility, traceparent, time, parked, body.
pub(super) type OutboxColumns = (i64, Uuid, i64, Uuid, String, String, Option<String>, i64, Option<String>, Vec<u8>);
/// id, at, kind, room, room version, journal, chain, body, made for.
pub(super) type AuditColumns = (i64, i64, String, Option<Uuid>, Option<i64>, Option<i64>, Vec<u8>, Vec<u8>, Option<i64>);
/// journal, reason, since, patient, visit, state.
pub(super) type QuarantineColumns = (i64, String, i64, Option<Vec<u8>>, Option<Vec<u8>>, String);

/// A commit batch as it is written.
#[derive(Debug, Default)]
pub(super) struct SealedBatch {
    /// Row and version that must stand there, 0 for no row; of those that are written it is the version before.
    pub(super) patients_read: Vec<(i64, i64)>,
    pub(super) visits_read: Vec<(i64, i64)>,
    pub(super) absent: Vec<LookUpHash>,
    /// Look-ups and all that they may lead to.
    pub(super) look_ups_known: Vec<(LookUpHash, i64)>,
    pub(super) dedupe_released: Vec<i64>,
    pub(super) journal: Vec<JournalColumns>,
    /// Of each of them, whether it goes by its age.
    pub(super) by_age: Vec<i16>,
    pub(super) journal_settled: Vec<(i64, i16, Option<String>, i16)>,
    pub(super) patients: Vec<PatientColumns>,
    pub(super) visits: Vec<VisitColumns>,
    pub(super) facts: Vec<FactColumns>,
    pub(super) look_ups: Vec<LookUpColumns>,
    pub(super) outbox: Vec<OutboxColumns>,
    /// Sealed only when the end of the chain is known.
    pub(super) audit: Vec<AuditRow>,
    pub(super) quarantine: Vec<QuarantineColumns>,
    pub(super) quarantine_left: Vec<i64>,
    pub(super) purge: Purge,
    /// The new version, which must follow on the one that stands.
    pub(super) directory: Option<(i64, Vec<u8>)>,
    /// That which must stand.
    pub(super) epoch: Option<u32>,
    /// The new one, which must follow on the one that stands.
    pub(super) next_epoch: Option<u32>,
}

impl SealedBatch {
    /// How many rows it writes.
    pub(super) fn n_rows(&self) -> u64 {
        let n_rows =
            [self.journal.len(), self.patients.len(), self.visits.len(), self.facts.len(), self.look_ups.len(), self.outbox.len(), self.audit.len()];
        n_rows.into_iter().chain([self.purge.n_rows()]).sum::<usize>() as u64
    }
}

fn column(hash: Option<LookUpHash>) -> Option<Vec<u8>> {
    hash.map(|hash| hash.0.to_vec())
}

pub(super) fn seal_batch(keys: &Keys, mut batch: CommitBatch) -> Result<SealedBatch, StoreError> {
    let mut sealer = Sealer::new(keys);
    let mut seal = |key: Option<&SealingKey>, place: Place, document: &Document| sealer.seal(key.unwrap_or(&keys.own), place, document);
    let mut columns = SealedBatch {
        patients_read: batch.read_patients,
        visits_read: batch.read_visits,
        absent: batch.absent_look_ups,
        look_ups_known: batch.known_look_ups,
        dedupe_released: batch.dedupe_released.iter().map(|id| id.0).collect(),
        journal_settled: batch.journal_settled.into_iter().map(|row| (row.id.0, row.disposition as i16, row.reason, i16::from(row.by_age))).collect(),
        look_ups: batch.look_ups.iter().map(|(hash, kind, target)| (hash.0.to_vec(), *target, *kind as i16)).collect(),
        audit: batch.audit,
        epoch: batch.epoch,
        next_epoch: batch.next_epoch,
        quarantine_left: batch.quarantine_left.iter().map(|id| id.0).collect(),
        purge: batch.purge,
        ..SealedBatch::default()
    };
    // At the end of their table: connections number their messages beside each other.
    batch.journal.sort_unstable_by_key(|row| row.id);
    columns.journal.reserve(batch.journal.len());
    for row in batch.journal {
        let raw = seal(row.key.as_ref(), Place::row(Table::Journal, row.id.0), &row.raw)?;
        columns.journal.push((
            row.id.0,
            row.feed,
            row.received_at.as_micros(),
            column(row.dedupe),
            column(row.control),
            row.trigger,
            row.disposition as i16,
            row.reason,
            row.duplicate_of.map(|id| id.0),
            row.ack_code,
            row.patient_id,
            raw,
        ));
        columns.by_age.push(i16::from(row.by_age));
    }
    columns.patients.reserve(batch.patients.len());
    for row in &batch.patients {
        let doc = seal(Some(&row.key), Place::row(Table::Patients, row.id), &row.doc)?;
        columns.patients.push((row.id, row.version, row.key.wrapped().to_vec(), row.absorbed_into, doc));
    }
    columns.visits.reserve(batch.visits.len());
    for row in batch.visits {
        let doc = seal(Some(&row.key), Place::row(Table::Visits, row.id), &row.doc)?;
        columns.visits.push((
            row.id,
            row.patient_id,
            row.version,
            row.status,
            row.is_open,
            row.wake_at.map(Timestamp::as_micros),
            row.room_id.map(|room| room.0),
            row.room_version,
            row.updated_at.as_micros(),
            doc,
            row.over_at.map(Timestamp::as_micros),
        ));
    }
    columns.facts.reserve(batch.facts.len());
    for row in &batch.facts {
        let place = fact_place(row.owner, row.hash.0);
        let body = seal(Some(&row.key), place, &row.body)?;
        columns.facts.push((row.owner, row.recorded_at.as_micros(), row.sent_at.as_micros(), row.arrival, row.hash.0.to_vec(), body));
    }
    columns.outbox.reserve(batch.outbox.len());
    for row in batch.outbox {
        let body = seal(row.key.as_ref(), Place::row(Table::Outbox, row.seq), &row.body)?;
        columns.outbox.push((
            row.seq,
            row.room_id.0,
            row.room_version,
            row.event_id,
            row.event_type,
            row.facility,
            row.traceparent,
            row.time.as_micros(),
            None,
            body,
        ));
    }
    columns.quarantine.extend(batch.quarantine.iter().map(quarantine_columns));
    if let Some(row) = &batch.directory {
        columns.directory = Some((row.version, seal(None, DIRECTORY_PLACE, &row.doc)?));
    }
    Ok(columns)
}

const DIRECTORY_PLACE: Place = Place::row(Table::Directory, 1);

/// What messages said of staff and units, with its version.
pub(super) fn directory(keys: &Keys, (version, doc): (i64, Vec<u8>)) -> Result<DirectoryRow, StoreError> {
    Ok(DirectoryRow { version, doc: unseal(&keys.own, DIRECTORY_PLACE, doc)? })
}

const fn fact_place(owner: i64, hash: [u8; 16]) -> Place {
    Place { table: Table::Facts, row: owner, detail: hash }
}

fn quarantine_columns(row: &QuarantineRow) -> QuarantineColumns {
    (row.journal_id.0, row.reason.clone(), row.since.as_micros(), column(row.patient_hash), column(row.visit_hash), row.state.clone())
}

/// Seals audit rows onto the end of their chain, and says where it ends now.
pub(super) fn seal_audit(keys: &Keys, lane: u16, mut head: Head, rows: &[AuditRow]) -> Result<(Head, Vec<AuditColumns>), StoreError> {
    let mut sealer = Sealer::new(keys);
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        let id = head.next_id(lane);
        let body = sealer.seal(row.key.as_ref().unwrap_or(&keys.own), Place::row(Table::Audit, id), &row.body)?;
        let (room_id, journal_id) = (row.room_id.map(|room| room.0), row.journal_id.map(|id| id.0));
        let at_us = row.at.as_micros();
        head = head.extend(&Link { id, at_us, kind: &row.kind, room_id, room_version: row.room_version, journal_id, body: &body });
        columns.push((id, at_us, row.kind.clone(), room_id, row.room_version, journal_id, head.hash.to_vec(), body, row.made_for));
    }
    Ok((head, columns))
}

/// The row as it is hashed into its chain.
pub(super) fn link(row: &AuditColumns) -> Link<'_> {
    Link { id: row.0, at_us: row.1, kind: &row.2, room_id: row.3, room_version: row.4, journal_id: row.5, body: &row.7 }
}

fn disposition(number: i16) -> Result<Disposition, StoreError> {
    Disposition::from_number(number).ok_or(StoreError::Form { table: Table::Journal })
}

pub(super) fn known_message(row: KnownColumns) -> Result<(LookUpHash, KnownMessage), StoreError> {
    let (dedupe, id, received_us, number, ack_code) = row;
    let message =
        KnownMessage { journal_id: JournalId(id), received_at: Timestamp::from_micros(received_us), disposition: disposition(number)?, ack_code };
    Ok((LookUpHash(hash_column(Table::Journal, &dedupe)?), message))
}

pub(super) fn look_up((hash, target, kind): LookUpColumns) -> Result<(LookUpHash, LookUpKind, i64), StoreError> {
    let kind = LookUpKind::from_number(kind).ok_or(StoreError::Form { table: Table::LookUps })?;
    Ok((LookUpHash(hash_column(Table::LookUps, &hash)?), kind, target))
}

pub(super) fn patient(keys: &Keys, row: PatientColumns) -> Result<StoredPatient, StoreError> {
    let (id, version, data_key, absorbed_into, doc) = row;
    let key = keys.unwrap(id, data_key)?;
    let doc = unseal(&key, Place::row(Table::Patients, id), doc)?;
    Ok(StoredPatient { id, version, absorbed_into, key, doc })
}

pub(super) fn visit(key: &SealingKey, row: VisitColumns) -> Result<StoredVisit, StoreError> {
    let (id, patient_id, version, status, is_open, wake_us, room_id, room_version, updated_us, doc, over_us) = row;
    Ok(StoredVisit {
        id,
        patient_id,
        version,
        status,
        is_open,
        wake_at: wake_us.map(Timestamp::from_micros),
        room_id: room_id.map(CareRoomId),
        room_version,
        updated_at: Timestamp::from_micros(updated_us),
        over_at: over_us.map(Timestamp::from_micros),
        doc: unseal(key, Place::row(Table::Visits, id), doc)?,
    })
}

pub(super) fn fact(key: &SealingKey, row: FactColumns) -> Result<(i64, StoredFact), StoreError> {
    let (owner, recorded_us, sent_us, arrival, hash, body) = row;
    let hash = hash_column(Table::Facts, &hash)?;
    let fact = StoredFact {
        recorded_at: Timestamp::from_micros(recorded_us),
        sent_at: Timestamp::from_micros(sent_us),
        arrival,
        hash: LookUpHash(hash),
        body: unseal(key, fact_place(owner, hash), body)?,
    };
    Ok((owner, fact))
}

pub(super) fn outbox_row(key: &SealingKey, row: OutboxColumns) -> Result<OutboxRow, StoreError> {
    let (seq, room_id, room_version, event_id, event_type, facility, traceparent, time_us, parked_reason, body) = row;
    let body = unseal(key, Place::row(Table::Outbox, seq), body)?;
    Ok(OutboxRow {
        seq,
        room_id: CareRoomId(room_id),
        room_version,
        event_id,
        event_type,
        facility,
        traceparent,
        time: Timestamp::from_micros(time_us),
        parked_reason,
        body: OutboxBody(body.bytes.into()),
    })
}

/// The body stays closed when there is no key any more, and when the key does not open it.
pub(super) fn audit_row(key: Option<&SealingKey>, row: AuditColumns) -> StoredAudit {
    let (id, at_us, kind, room_id, room_version, journal_id, _chain, sealed, _made_for) = row;
    StoredAudit {
        id,
        at: Timestamp::from_micros(at_us),
        kind,
        room_id: room_id.map(CareRoomId),
        room_version,
        journal_id: journal_id.map(JournalId),
        body: key.and_then(|key| unseal(key, Place::row(Table::Audit, id), sealed).ok()),
    }
}

pub(super) fn quarantine_row(row: QuarantineColumns) -> Result<QuarantineRow, StoreError> {
    let (journal_id, reason, since_us, patient_hash, visit_hash, state) = row;
    let hash = |column: Option<Vec<u8>>| column.map(|bytes| hash_column(Table::Quarantine, &bytes).map(LookUpHash)).transpose();
    Ok(QuarantineRow {
        journal_id: JournalId(journal_id),
        reason,
        since: Timestamp::from_micros(since_us),
        patient_hash: hash(patient_hash)?,
        visit_hash: hash(visit_hash)?,
        state,
    })
}

pub(super) fn message(key: &SealingKey, row: JournalColumns) -> Result<StoredMessage, StoreError> {
    let (id, feed, received_us, _dedupe, _control, trigger, number, reason, duplicate_of, ack_code, patient_id, raw) = row;
    Ok(StoredMessage {
        id: JournalId(id),
        feed,
        received_at: Timestamp::from_micros(received_us),
        trigger,
        disposition: disposition(number)?,
        reason,
        duplicate_of: duplicate_of.map(JournalId),
        ack_code,
        patient_id,
        raw: unseal(key, Place::row(Table::Journal, id), raw)?,
    })
}
