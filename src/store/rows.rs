//! What goes into the store and what comes out of it, row by row.
//!
//! Only ids, keyed hashes, statuses, times and counters stand here in the clear; everything else is a [`Document`].

use std::collections::HashMap;

use bytes::Bytes;
use uuid::Uuid;

use crate::ids::CareRoomId;
use crate::ids::JournalId;
use crate::store::look_up::LookUpHash;
use crate::store::look_up::LookUpKind;
use crate::store::sealing::Document;
use crate::store::sealing::SealingKey;
use crate::time::Timestamp;

/// How a message ended. The number is stored: never change one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Disposition {
    /// Facts were recorded.
    Applied = 0,
    /// There was nothing to record.
    Noop = 1,
    /// It was there already.
    Duplicate = 2,
    /// It waits for somebody.
    Quarantined = 3,
    /// It was refused.
    Rejected = 4,
}

impl Disposition {
    pub(super) const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            0 => Self::Applied,
            1 => Self::Noop,
            2 => Self::Duplicate,
            3 => Self::Quarantined,
            4 => Self::Rejected,
            _ => return None,
        })
    }

    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Noop => "noop",
            Self::Duplicate => "duplicate",
            Self::Quarantined => "quarantined",
            Self::Rejected => "rejected",
        }
    }
}

/// What a commit batch wants to see before it plans.
#[derive(Clone, Debug, Default)]
pub struct FindRequest {
    /// Dedupe hashes of the messages.
    pub dedupe: Vec<LookUpHash>,
    /// Identifiers of patients, visits and accounts.
    pub look_ups: Vec<LookUpHash>,
    /// Visits by row id.
    pub visits: Vec<i64>,
    /// Patients by row id.
    pub patients: Vec<i64>,
}

/// What there is: the patients and visits asked for, the patients that absorbed those, and every open visit of them all.
#[derive(Debug, Default)]
pub struct Found {
    /// Messages with these dedupe hashes that are in the journal, and are not duplicates themselves.
    pub duplicates: HashMap<LookUpHash, KnownMessage>,
    /// The targets of the look-ups.
    pub look_ups: Vec<(LookUpHash, LookUpKind, i64)>,
    /// Each patient once, by row id.
    pub patients: Vec<StoredPatient>,
    /// Each visit once, by row id.
    pub visits: Vec<StoredVisit>,
}

/// A message that is in the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownMessage {
    /// Its row.
    pub journal_id: JournalId,
    /// When it came.
    pub received_at: Timestamp,
    /// How it ended.
    pub disposition: Disposition,
    /// What it was answered with.
    pub ack_code: Option<String>,
}

/// A patient as stored.
#[derive(Clone, Debug)]
pub struct StoredPatient {
    /// The row.
    pub id: i64,
    /// Grows by one with each write.
    pub version: i64,
    /// The patient that this one was merged into.
    pub absorbed_into: Option<i64>,
    /// The key that everything of this patient is sealed under.
    pub key: SealingKey,
    /// The document.
    pub doc: Document,
}

/// A visit as stored.
#[derive(Clone, Debug)]
pub struct StoredVisit {
    /// The row.
    pub id: i64,
    /// The patient's row.
    pub patient_id: i64,
    /// Grows by one with each write.
    pub version: i64,
    /// The room's status, in the domain's word.
    pub status: String,
    /// Whether the stay still moves by itself: found with its patient, planned again when policy changes.
    pub is_open: bool,
    /// When it must be planned again.
    pub wake_at: Option<Timestamp>,
    /// The room, once there is one.
    pub room_id: Option<CareRoomId>,
    /// What was last published of the room; 0 when nothing was.
    pub room_version: i64,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Since when it is over, where it is and that was noted.
    pub over_at: Option<Timestamp>,
    /// The document.
    pub doc: Document,
}

/// A fact as stored.
#[derive(Clone, Debug)]
pub struct StoredFact {
    /// When the sender recorded it.
    pub recorded_at: Timestamp,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// The number of its arrival.
    pub arrival: i64,
    /// What makes it this fact.
    pub hash: LookUpHash,
    /// The fact.
    pub body: Document,
}

/// Everything that one commit changes. Either all of it happens or nothing.
///
/// The version of every patient and visit written is checked by itself: `version` is the new one, and the stored one must be one less (no row for 1).
#[derive(Clone, Debug, Default)]
pub struct CommitBatch {
    /// Patients that were read and are not written: row and version.
    pub read_patients: Vec<(i64, i64)>,
    /// Visits that were read and are not written: row and version.
    pub read_visits: Vec<(i64, i64)>,
    /// Look-ups that led nowhere when they were read, and must still lead nowhere.
    pub absent_look_ups: Vec<LookUpHash>,
    /// Look-ups with all that they led to when they were read or will lead to: the commit is a conflict when they lead elsewhere too by now.
    /// Only where other daemons write as well.
    pub known_look_ups: Vec<(LookUpHash, i64)>,
    /// Messages.
    pub journal: Vec<JournalRow>,
    /// Messages in quarantine that have ended now, or go on waiting. The commit is a conflict when one of them had ended already.
    pub journal_settled: Vec<JournalSettled>,
    /// Messages so old that the same bytes count as new: they give up their dedupe hash.
    pub dedupe_released: Vec<JournalId>,
    /// Facts; one that is known already changes nothing.
    pub facts: Vec<FactRow>,
    /// Look-ups; one that is known already changes nothing.
    pub look_ups: Vec<(LookUpHash, LookUpKind, i64)>,
    /// Patients, new and changed.
    pub patients: Vec<PatientRow>,
    /// Visits, new and changed.
    pub visits: Vec<VisitRow>,
    /// Events to be published.
    pub outbox: Vec<OutboxEvent>,
    /// Audit rows, in order.
    pub audit: Vec<AuditRow>,
    /// Messages that go into quarantine, or change their state there.
    pub quarantine: Vec<QuarantineRow>,
    /// Messages that leave quarantine.
    pub quarantine_left: Vec<JournalId>,
    /// What is deleted for good.
    pub purge: Purge,
    /// What messages said of staff and units, when the batch changed it.
    pub directory: Option<DirectoryRow>,
    /// The epoch that its events carry: the commit is a conflict when it is another by now. Looked at together with the end of the audit chain, on which
    /// each of them has a row.
    pub epoch: Option<u32>,
    /// The epoch from now on: one more than it was, else the commit is a conflict.
    pub next_epoch: Option<u32>,
}

/// What one commit deletes for good. The versions of its visits and patients are checked as those of what is only read: they stand in `read_visits` and
/// `read_patients`.
#[derive(Clone, Debug, Default)]
pub struct Purge {
    /// When; noted with the patients.
    pub at: Timestamp,
    /// Visits, with their facts.
    pub visits: Vec<i64>,
    /// Patients, with their keys: no visit may be theirs any more, else the commit is a conflict.
    pub patients: Vec<i64>,
    /// Look-ups and what they led to.
    pub look_ups: Vec<(LookUpHash, i64)>,
    /// Messages, also out of quarantine.
    pub messages: Vec<JournalId>,
}

impl Purge {
    /// How many rows are named.
    pub(super) const fn n_rows(&self) -> usize {
        self.visits.len() + self.patients.len() + self.look_ups.len() + self.messages.len()
    }
}

/// What messages said of staff and units.
#[derive(Clone, Debug)]
pub struct DirectoryRow {
    /// Grows by one with each write; to be written it is the new one: 1, or one more than was read.
    pub version: i64,
    /// The document.
    pub doc: Document,
}

/// A message, to be stored.
#[derive(Clone, Debug)]
pub struct JournalRow {
    /// Its id.
    pub id: JournalId,
    /// The feed's name.
    pub feed: String,
    /// When it came.
    pub received_at: Timestamp,
    /// What makes it this message; absent when nothing does.
    pub dedupe: Option<LookUpHash>,
    /// The keyed hash of MSH-10.
    pub control: Option<LookUpHash>,
    /// The trigger event.
    pub trigger: Option<String>,
    /// How it ended.
    pub disposition: Disposition,
    /// Why, as a fixed word.
    pub reason: Option<String>,
    /// Which message it repeats.
    pub duplicate_of: Option<JournalId>,
    /// What it was answered with.
    pub ack_code: Option<String>,
    /// The patient it is about.
    pub patient_id: Option<i64>,
    /// The patient's key; the store's own when absent.
    pub key: Option<SealingKey>,
    /// Whether it left nothing in any stay, nor may yet: it is deleted when it is old, and not with a stay.
    pub by_age: bool,
    /// The bytes as they came.
    pub raw: Document,
}

/// How a quarantined message ended, or that it did not.
#[derive(Clone, Debug)]
pub struct JournalSettled {
    /// The message.
    pub id: JournalId,
    /// How it ended.
    pub disposition: Disposition,
    /// Why, as a fixed word.
    pub reason: Option<String>,
    /// As in [`JournalRow::by_age`].
    pub by_age: bool,
}

impl JournalSettled {
    /// An operator ended it: it is never applied.
    pub(crate) fn discarded(id: JournalId) -> Self {
        Self { id, disposition: Disposition::Rejected, reason: Some("discarded".to_owned()), by_age: true }
    }
}

/// A fact, to be stored.
#[derive(Clone, Debug)]
pub struct FactRow {
    /// The visit's (or patient's) row.
    pub owner: i64,
    /// When the sender recorded it.
    pub recorded_at: Timestamp,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// The number of its arrival.
    pub arrival: i64,
    /// What makes it this fact.
    pub hash: LookUpHash,
    /// The patient's key.
    pub key: SealingKey,
    /// The fact.
    pub body: Document,
}

/// A patient, to be stored.
#[derive(Clone, Debug)]
pub struct PatientRow {
    /// The row.
    pub id: i64,
    /// The new version: 1, or one more than was read.
    pub version: i64,
    /// The patient that this one was merged into.
    pub absorbed_into: Option<i64>,
    /// This patient's key, as found, or from [`Store::new_patient_key`](crate::store::Store::new_patient_key).
    pub key: SealingKey,
    /// The document.
    pub doc: Document,
}

/// A visit, to be stored. See [`StoredVisit`] for its fields.
#[derive(Clone, Debug)]
pub struct VisitRow {
    /// The row.
    pub id: i64,
    /// The patient's row.
    pub patient_id: i64,
    /// The new version: 1, or one more than was read.
    pub version: i64,
    /// The room's status, in the domain's word.
    pub status: String,
    /// Whether the stay still moves by itself.
    pub is_open: bool,
    /// When it must be planned again.
    pub wake_at: Option<Timestamp>,
    /// The room, once there is one.
    pub room_id: Option<CareRoomId>,
    /// What was last published of the room.
    pub room_version: i64,
    /// The present.
    pub updated_at: Timestamp,
    /// Since when it is over, where it is.
    pub over_at: Option<Timestamp>,
    /// The patient's key.
    pub key: SealingKey,
    /// The document.
    pub doc: Document,
}

/// An event, to be published.
#[derive(Clone, Debug)]
pub struct OutboxEvent {
    /// Its place in the order of publishing; from an id source.
    pub seq: i64,
    /// The room.
    pub room_id: CareRoomId,
    /// The room's version.
    pub room_version: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// The facility.
    pub facility: String,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The event's time.
    pub time: Timestamp,
    /// The patient's key; the store's own when absent.
    pub key: Option<SealingKey>,
    /// The event as it is published.
    pub body: Document,
}

/// An event that waits to be published.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// Its place in the order of publishing.
    pub seq: i64,
    /// The room.
    pub room_id: CareRoomId,
    /// The room's version.
    pub room_version: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// The facility.
    pub facility: String,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The event's time.
    pub time: Timestamp,
    /// Why it is not published, when it was parked.
    pub parked_reason: Option<String>,
    /// The event as it is published.
    pub body: OutboxBody,
}

impl From<&OutboxEvent> for OutboxRow {
    fn from(event: &OutboxEvent) -> Self {
        Self {
            seq: event.seq,
            room_id: event.room_id,
            room_version: event.room_version,
            event_id: event.event_id,
            event_type: event.event_type.clone(),
            facility: event.facility.clone(),
            traceparent: event.traceparent.clone(),
            time: event.time,
            parked_reason: None,
            body: OutboxBody(event.body.bytes.clone().into()),
        }
    }
}

/// The bytes of an event; `Debug` shows their number only.
#[derive(Clone, Eq, PartialEq)]
pub struct OutboxBody(pub Bytes);

impl std::fmt::Debug for OutboxBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OutboxBody({} bytes)", self.0.len())
    }
}

/// What waits to be published.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutboxDepth {
    /// How many events wait.
    pub n_pending: i64,
    /// The time of the first of them.
    pub oldest: Option<Timestamp>,
    /// How many are parked.
    pub n_parked: i64,
}

/// Something to be kept for those who ask later, in the chain.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// When.
    pub at: Timestamp,
    /// What, as a fixed word.
    pub kind: String,
    /// Which room.
    pub room_id: Option<CareRoomId>,
    /// The room's version after it.
    pub room_version: Option<i64>,
    /// The visit for which the room was made, by its row: only for finding the rows of one room, and no part of the chain.
    pub made_for: Option<i64>,
    /// Which message.
    pub journal_id: Option<JournalId>,
    /// The patient's key; the store's own when absent.
    pub key: Option<SealingKey>,
    /// The rest.
    pub body: Document,
}

/// An audit row as stored.
#[derive(Clone, Debug)]
pub struct StoredAudit {
    /// The row; grows along each chain.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// Which room.
    pub room_id: Option<CareRoomId>,
    /// The room's version after it.
    pub room_version: Option<i64>,
    /// Which message.
    pub journal_id: Option<JournalId>,
    /// The rest; absent when its patient's key is gone.
    pub body: Option<Document>,
}

/// A quarantined message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuarantineRow {
    /// The message.
    pub journal_id: JournalId,
    /// Why, as a fixed word.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Which patient it waits for.
    pub patient_hash: Option<LookUpHash>,
    /// Which visit it waits for.
    pub visit_hash: Option<LookUpHash>,
    /// `waiting`, or another word of the caller's.
    pub state: String,
}

/// A message as stored.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its id.
    pub id: JournalId,
    /// The feed's name.
    pub feed: String,
    /// When it came.
    pub received_at: Timestamp,
    /// The trigger event.
    pub trigger: Option<String>,
    /// How it ended.
    pub disposition: Disposition,
    /// Why.
    pub reason: Option<String>,
    /// Which message it repeats.
    pub duplicate_of: Option<JournalId>,
    /// What it was answered with.
    pub ack_code: Option<String>,
    /// The patient it is about.
    pub patient_id: Option<i64>,
    /// The bytes as they came.
    pub raw: Document,
}

/// A page of visits.
#[derive(Debug, Default)]
pub struct VisitPage {
    /// The row ids of the visits that the page holds; the last one is where the next page goes on. Empty at the end.
    pub visits: Vec<i64>,
    /// They themselves, their patients, and the other open visits of those.
    pub found: Found,
}
