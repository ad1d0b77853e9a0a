//! The ledger: what was counted when it happened, and what there is to be recounted.
//!
//! Each commit counts the messages it keeps and the events it makes, and each settling the events that were confirmed, in the transaction that does
//! it. The recount looks at what is there: journal, facts, quarantine, outbox. What follows from the two is for others to say.

use std::collections::BTreeMap;

use crate::ids::FeedName;
use crate::ids::JournalId;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::on_backend;
use crate::store::read::key_for;
use crate::store::rows::Disposition;
use crate::store::rows::StoredMessage;
use crate::store::sealed;
use crate::store::sealed::JournalColumns;
use crate::store::sealed::SealedBatch;
use crate::store::sealing::Table;
use crate::store::sql::columns;
use crate::time::Timestamp;

/// Ids are microseconds times 1024.
const IDS_OF_AN_HOUR: i64 = 1024 * 3_600_000_000;
const MESSAGES: &str = "message/";
const EVENTS: &str = "event";
pub(super) const CONFIRMED: &str = "confirmed";

const TALLY: &str = "SELECT what, CAST(SUM(n) AS BIGINT) FROM tally WHERE hour >= $1 OR what NOT LIKE 'message/%' GROUP BY what ORDER BY what";
/// Messages that were deleted because their time was over.
const PURGED: &str = "SELECT feed, CAST(SUM(n) AS BIGINT) FROM purged_messages WHERE hour >= $1 GROUP BY feed";
/// A message that was repeated by one older than the oldest that is kept, or of an hour of which some were deleted, cannot be looked up any more, and
/// counts as there; so does a patient who was deleted.
const MESSAGES_LEFT: &str = "SELECT j.feed, j.disposition, j.trigger_event, \
    CASE WHEN j.reason IS NULL THEN 0 WHEN j.reason = 'discarded' THEN 2 ELSE 1 END AS reasoned, \
    CASE WHEN j.dedupe IS NULL THEN 0 ELSE 1 END AS known_again, \
    CASE WHEN q.journal_id IS NULL THEN 0 ELSE 1 END AS waits, \
    CASE WHEN j.duplicate_of IS NULL THEN 0 WHEN o.id IS NULL AND j.duplicate_of >= (SELECT MIN(id) FROM journal) \
    AND j.duplicate_of / 3686400000000 NOT IN (SELECT hour FROM purged_messages) THEN 2 ELSE 1 END AS repeats, \
    CASE WHEN p.id IS NULL AND g.id IS NULL THEN 0 ELSE 1 END AS of_patient, \
    CASE WHEN f.arrival IS NULL THEN 0 ELSE 1 END AS facts, \
    COUNT(*), MAX(j.id) \
    FROM journal j LEFT JOIN quarantine q ON q.journal_id = j.id LEFT JOIN journal o ON o.id = j.duplicate_of \
    LEFT JOIN patients p ON p.id = j.patient_id LEFT JOIN purged_patients g ON g.id = j.patient_id LEFT JOIN (SELECT DISTINCT arrival FROM facts WHERE arrival >= $1) f ON f.arrival = j.id \
    WHERE j.id >= $1 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9";
/// As above without the facts, which have no index by arrival, of the next messages only, and with the last of them: for looking often, beside everything
/// else. What is grouped is sorted in memory.
const MESSAGES_LEFT_QUICKLY: &str = "SELECT j.feed, j.disposition, j.trigger_event, \
    CASE WHEN j.reason IS NULL THEN 0 WHEN j.reason = 'discarded' THEN 2 ELSE 1 END AS reasoned, \
    CASE WHEN j.dedupe IS NULL THEN 0 ELSE 1 END AS known_again, \
    CASE WHEN q.journal_id IS NULL THEN 0 ELSE 1 END AS waits, \
    CASE WHEN j.duplicate_of IS NULL THEN 0 ELSE 1 END AS repeats, \
    0 AS of_patient, -1 AS facts, COUNT(*), MAX(j.id) \
    FROM (SELECT id, feed, disposition, trigger_event, reason, dedupe, duplicate_of FROM journal WHERE id >= $1 ORDER BY id LIMIT $2) j \
    LEFT JOIN quarantine q ON q.journal_id = j.id GROUP BY 1, 2, 3, 4, 5, 6, 7";
/// How many messages are grouped at once.
const MESSAGES_AT_ONCE: i64 = 20_000;
const STRAY_WAITING: &str = "SELECT COUNT(*) FROM quarantine q LEFT JOIN journal j ON j.id = q.journal_id WHERE j.id IS NULL AND q.journal_id >= $1";
/// Of an hour of which messages were deleted some may have been: what was said of an account is told to stays that nobody had heard of yet.
const STRAY_FACTS: &str = "SELECT COUNT(*) FROM (SELECT DISTINCT arrival FROM facts WHERE arrival >= $1) f LEFT JOIN journal j ON j.id = f.arrival \
    WHERE j.id IS NULL AND f.arrival >= (SELECT MIN(id) FROM journal) \
    AND f.arrival / 3686400000000 NOT IN (SELECT hour FROM purged_messages)";
const OUTBOX_STATES: &str = "SELECT CASE WHEN parked_reason IS NULL THEN 0 ELSE 1 END AS parked, COUNT(*) FROM outbox GROUP BY 1";
/// Rooms whose events are not those that their version says: each version once in the audit, and what waits are the last ones, without a gap.
const ROOMS_OFF: &str = "SELECT COUNT(*) FROM visits v \
    LEFT JOIN (SELECT room_id, COUNT(DISTINCT room_version) AS n, MAX(room_version) AS last FROM audit WHERE kind LIKE 'room.%' GROUP BY room_id) a \
    ON a.room_id = v.room_id \
    LEFT JOIN (SELECT x.room_id, p.first, MAX(x.room_version) AS last, COUNT(CASE WHEN x.room_version >= p.first THEN 1 END) AS n FROM outbox x \
    LEFT JOIN (SELECT room_id, MIN(room_version) AS first FROM outbox WHERE parked_reason IS NULL GROUP BY room_id) p ON p.room_id = x.room_id \
    GROUP BY x.room_id, p.first) w ON w.room_id = v.room_id \
    WHERE v.room_id IS NOT NULL AND v.room_version > 0 AND (COALESCE(a.n, 0) <> v.room_version OR COALESCE(a.last, 0) <> v.room_version \
    OR COALESCE(w.last, v.room_version) > v.room_version OR (w.first IS NOT NULL AND v.room_version - w.first + 1 <> w.n))";
const JOURNAL_PAGE: &str = concat!("SELECT ", columns!(journal), " FROM journal WHERE id > $1 ORDER BY id LIMIT $2");
/// Events that wait without a room that has them.
const STRAY_EVENTS: &str = "SELECT COUNT(*) FROM outbox x WHERE NOT EXISTS \
    (SELECT 1 FROM audit a WHERE a.room_id = x.room_id AND (a.made_for IS NULL OR a.room_version = 1) AND a.room_version = x.room_version) \
    AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.made_for IN \
    (SELECT f.made_for FROM audit f WHERE f.room_id = x.room_id AND (f.made_for IS NULL OR f.room_version = 1)) \
    AND a.room_id = x.room_id AND a.room_version = x.room_version)";

/// Every statement here, for the test that prepares them.
#[cfg(test)]
pub(super) const ALL: &[&str] =
    &[TALLY, PURGED, MESSAGES_LEFT, MESSAGES_LEFT_QUICKLY, STRAY_WAITING, STRAY_FACTS, OUTBOX_STATES, ROOMS_OFF, JOURNAL_PAGE, STRAY_EVENTS];

/// What messages have left behind, for as many of them as left the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessagesLeft {
    /// The feed they came by.
    pub feed: FeedName,
    /// How they ended, as the journal says.
    pub disposition: Disposition,
    /// Their trigger event.
    pub trigger: Option<String>,
    /// Whether a reason is given for how they ended.
    pub has_reason: bool,
    /// Whether an operator ended them.
    pub was_discarded: bool,
    /// Whether they would be known again.
    pub is_known_again: bool,
    /// Whether they wait in quarantine.
    pub waits: bool,
    /// Whether they repeat another, and whether that one is there.
    pub repeats: Option<bool>,
    /// Whether the patient they speak of is there.
    pub has_patient: bool,
    /// Whether they left facts; unknown when that was not looked for.
    pub has_facts: Option<bool>,
    /// How many.
    pub count: i64,
}

/// All of it, as of one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recount {
    /// How many messages were counted in when they were kept, by feed.
    pub accepted: BTreeMap<String, i64>,
    /// How many of them were deleted because their time was over, by feed.
    pub purged: BTreeMap<String, i64>,
    /// What the messages in the journal have left behind.
    pub messages: Vec<MessagesLeft>,
    /// Rows in quarantine whose message is not in the journal.
    pub stray_waiting: i64,
    /// Messages that left facts and are not in the journal.
    pub stray_facts: i64,
    /// How many events were ever put into the outbox.
    pub events: i64,
    /// How many of them the broker confirmed.
    pub confirmed: i64,
    /// How many wait.
    pub pending: i64,
    /// How many are set aside.
    pub parked: i64,
    /// Rooms whose version, audit rows and waiting events do not belong together.
    pub rooms_off: i64,
    /// Waiting events that no room has.
    pub stray_events: i64,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// Everything; reads whole tables.
    Thorough,
    /// What is cheap enough to be looked at every few minutes.
    Quick,
}

type LeftColumns = (String, i16, Option<String>, i32, i32, i32, i32, i32, i32);
/// The same with how many there are, and the last of them.
type CountedColumns = (String, i16, Option<String>, i32, i32, i32, i32, i32, i32, i64, i64);

/// The hour of a message.
pub(super) const fn hour_of(message: JournalId) -> i64 {
    message.0 / IDS_OF_AN_HOUR
}

/// What a batch adds to the tally: the rows to be written.
pub(super) fn counted(batches: &[SealedBatch]) -> Vec<(String, i64, i64)> {
    let mut messages: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    for row in batches.iter().flat_map(|batch| &batch.journal) {
        *messages.entry((&row.1, hour_of(JournalId(row.0)))).or_default() += 1;
    }
    let n_events: usize = batches.iter().map(|batch| batch.outbox.len()).sum();
    let messages = messages.into_iter().map(|((feed, hour), n)| (format!("{MESSAGES}{feed}"), hour, n));
    let n_events = i64::try_from(n_events).unwrap_or(i64::MAX);
    messages.chain((n_events > 0).then(|| (EVENTS.to_owned(), 0, n_events))).collect()
}

/// What settling adds to the tally.
pub(super) fn confirmed(n_settled: u64) -> Option<(String, i64, i64)> {
    let n_settled = i64::try_from(n_settled).unwrap_or(i64::MAX);
    (n_settled > 0).then(|| (CONFIRMED.to_owned(), 0, n_settled))
}

impl Store {
    /// How many messages all daemons on the store have kept since the hour of `since`, by feed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn messages_kept(&self, since: Timestamp) -> Result<BTreeMap<String, i64>, StoreError> {
        let hour = since.as_micros().saturating_mul(1024).div_euclid(IDS_OF_AN_HOUR);
        let tally: Vec<(String, i64)> = on_backend!(self.backend, backend => sqlx::query_as(TALLY).bind(hour).fetch_all(&backend.readers).await?);
        Ok(tally.into_iter().filter_map(|(what, n)| Some((what.strip_prefix(MESSAGES)?.to_owned(), n))).collect())
    }

    /// Counts again what is there, beside what was counted when it happened; all as of one moment. Messages before the hour of `since` are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recount(&self, since: Option<Timestamp>, look: Look) -> Result<Recount, StoreError> {
        let hour = since.map_or(i64::MIN, |since| since.as_micros().saturating_mul(1024).div_euclid(IDS_OF_AN_HOUR));
        let from = hour.saturating_mul(IDS_OF_AN_HOUR);
        on_backend!(self.backend, backend => {
            let mut moment = backend.one_moment().await?;
            let tally: Vec<(String, i64)> = sqlx::query_as(TALLY).bind(hour).fetch_all(&mut *moment).await?;
            let mut recount = Recount::default();
            for (what, n) in tally {
                match what.as_str() {
                    EVENTS => recount.events = n,
                    CONFIRMED => recount.confirmed = n,
                    what => drop(recount.accepted.insert(what.strip_prefix(MESSAGES).unwrap_or(what).to_owned(), n)),
                }
            }
            let purged: Vec<(String, i64)> = sqlx::query_as(PURGED).bind(hour).fetch_all(&mut *moment).await?;
            recount.purged = purged.into_iter().collect();
            let mut left = Left::default();
            if look == Look::Thorough {
                left.add(sqlx::query_as(MESSAGES_LEFT).bind(from).fetch_all(&mut *moment).await?);
            } else {
                let mut next = Some(from);
                while let Some(from) = next {
                    next = left.add(sqlx::query_as(MESSAGES_LEFT_QUICKLY).bind(from).bind(MESSAGES_AT_ONCE).fetch_all(&mut *moment).await?);
                }
            }
            recount.messages = left.0.into_iter().map(messages_left).collect::<Option<_>>().ok_or(StoreError::Form { table: Table::Journal })?;
            recount.stray_waiting = sqlx::query_scalar(STRAY_WAITING).bind(from).fetch_one(&mut *moment).await?;
            let states: Vec<(i32, i64)> = sqlx::query_as(OUTBOX_STATES).fetch_all(&mut *moment).await?;
            for (parked, n) in states {
                *(if parked == 0 { &mut recount.pending } else { &mut recount.parked }) = n;
            }
            if look == Look::Thorough {
                recount.stray_facts = sqlx::query_scalar(STRAY_FACTS).bind(from).fetch_one(&mut *moment).await?;
                recount.rooms_off = sqlx::query_scalar(ROOMS_OFF).fetch_one(&mut *moment).await?;
                recount.stray_events = sqlx::query_scalar(STRAY_EVENTS).fetch_one(&mut *moment).await?;
            }
            moment.commit().await?;
            Ok(recount)
        })
    }
}

impl Store {
    /// The next messages of the journal after this one, as they came.
    ///
    /// # Errors
    /// When the store cannot be read, or a message's patient was deleted.
    pub async fn journal_page(&self, after: JournalId, limit: i64) -> Result<Vec<StoredMessage>, StoreError> {
        let query = JOURNAL_PAGE;
        let rows: Vec<JournalColumns> =
            on_backend!(self.backend, backend => sqlx::query_as(query).bind(after.0).bind(limit).fetch_all(&backend.readers).await?);
        let keys = self.keys_of(Table::Journal, rows.iter().map(|row| row.11.as_slice())).await?;
        rows.into_iter().map(|row| sealed::message(key_for(&self.keys, &keys, Table::Journal, &row.11)?, row)).collect()
    }
}

/// How many messages have left the same behind.
#[derive(Default)]
struct Left(BTreeMap<LeftColumns, i64>);

impl Left {
    /// Adds what some messages have left; says which id comes next, where there were any.
    fn add(&mut self, rows: Vec<CountedColumns>) -> Option<i64> {
        let last = rows.iter().map(|row| row.10).max()?;
        for (feed, disposition, trigger, reasoned, known_again, waits, repeats, of_patient, facts, count, _) in rows {
            *self.0.entry((feed, disposition, trigger, reasoned, known_again, waits, repeats, of_patient, facts)).or_default() += count;
        }
        last.checked_add(1)
    }
}

fn messages_left((row, count): (LeftColumns, i64)) -> Option<MessagesLeft> {
    let (feed, disposition, trigger, reasoned, known_again, waits, repeats, of_patient, facts) = row;
    Some(MessagesLeft {
        feed: FeedName::from(feed.as_str()),
        disposition: Disposition::from_number(disposition)?,
        trigger,
        has_reason: reasoned != 0,
        was_discarded: reasoned == 2,
        is_known_again: known_again != 0,
        waits: waits != 0,
        repeats: (repeats != 0).then_some(repeats == 1),
        has_patient: of_patient != 0,
        has_facts: (facts >= 0).then_some(facts != 0),
        count,
    })
}
