//! The statements that are the same text in both databases, and the columns that all of them name.
//!
//! Placeholders are `$1`: both understand them. Nothing is ever written into a statement's text.

use sqlx::SqlSafeStr;
use sqlx::migrate::Migrate;
use sqlx::migrate::Migration;
use sqlx::migrate::MigrationType;
use sqlx::migrate::Migrator;
use tokio::time::Instant;

use crate::store::error::StoreError;
use crate::store::error::migrate_error;

macro_rules! migrations {
    ($database:literal) => {
        [
            ("initial", include_str!(concat!("migrations/", $database, "/0001_initial.sql"))),
            ("tally", include_str!(concat!("migrations/", $database, "/0002_tally.sql"))),
            ("leases", include_str!(concat!("migrations/", $database, "/0003_leases.sql"))),
            ("rooms of the audit", include_str!(concat!("migrations/", $database, "/0004_rooms_of_the_audit.sql"))),
            ("looks of the audit", include_str!(concat!("migrations/", $database, "/0005_looks_of_the_audit.sql"))),
            ("retention", include_str!(concat!("migrations/", $database, "/0006_retention.sql"))),
            ("parts of the outbox", include_str!(concat!("migrations/", $database, "/0007_parts_of_the_outbox.sql"))),
        ]
    };
}

/// The migrations of each database, in order. Written ones are never edited; both databases have the same versions.
pub(super) const SQLITE_MIGRATIONS: &[(&str, &str)] = &migrations!("sqlite");
pub(super) const POSTGRES_MIGRATIONS: &[(&str, &str)] = &migrations!("postgres");

/// Brings a database up to date with the first of these migrations up to the last.
pub(super) fn migrator(migrations: &[(&'static str, &'static str)]) -> Migrator {
    let simple = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations((1..).zip(migrations).map(simple).collect());
    // While replicas are replaced one by one, an older program meets a newer scheme; migrations only ever add.
    migrator.set_ignore_missing(true);
    migrator
}

/// Brings a database up to date; says so where there is something in it, for a large one is read as a whole for some of the steps.
pub(super) async fn bring_up_to_date<C: Migrate>(connection: &mut C, migrations: &[(&'static str, &'static str)]) -> Result<(), StoreError> {
    let migrator = migrator(migrations);
    // A database without the table has nothing in it, and one that cannot be asked fails below.
    let applied = connection.list_applied_migrations(&migrator.table_name).await.unwrap_or_default();
    let (begun, has, wants) = (Instant::now(), applied.len(), migrations.len());
    let is_behind = (1..wants).contains(&has);
    if is_behind {
        tracing::info!(
            has,
            wants,
            "the store is of an earlier version and is brought up to date; with a large one that may take minutes, and messages are taken afterwards"
        );
    }
    migrator.run_direct(None, connection, false).await.map_err(migrate_error)?;
    if is_behind {
        tracing::info!(elapsed = ?begun.elapsed(), "the store is up to date");
    }
    Ok(())
}

/// Stamps out the columns of a table as a literal, for `concat!`.
macro_rules! columns {
    (journal) => {
        "id, feed, received_us, dedupe, control, trigger_event, disposition, reason, duplicate_of, ack_code, patient_id, raw"
    };
    (patients) => {
        "id, version, data_key, absorbed_into, doc"
    };
    (visits) => {
        "id, patient_id, version, status, is_open, wake_at_us, room_id, room_version, updated_us, doc, over_us"
    };
    (look_ups) => {
        "hash, target, kind"
    };
    (facts) => {
        "owner, recorded_us, sent_us, arrival, hash, body"
    };
    (outbox) => {
        "seq, room_id, room_version, event_id, event_type, facility, traceparent, time_us, parked_reason, body"
    };
    (audit) => {
        "id, at_us, kind, room_id, room_version, journal_id, chain, body, made_for"
    };
    (directory) => {
        "id, version, doc"
    };
    (quarantine) => {
        "journal_id, reason, since_us, patient_hash, visit_hash, state"
    };
}
pub(super) use columns;

pub(super) const META: &str = "SELECT value FROM meta WHERE key = $1";
pub(super) const META_KEYS: &str = "SELECT key, value FROM meta WHERE key LIKE 'key/%'";
pub(super) const META_FORGET: &str = "DELETE FROM meta WHERE key = $1";
pub(super) const META_PUT: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
pub(super) const META_KEEP: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
/// Touches no row when another epoch stands than the one before.
pub(super) const EPOCH_PUT: &str = "UPDATE meta SET value = $1 WHERE key = 'epoch' AND value = $2";
/// Patients' keys as they stand.
pub(super) const PATIENT_KEYS: &str = "SELECT id, data_key FROM patients WHERE id > $1 ORDER BY id LIMIT $2";
pub(super) const CHAIN_ENDS: &str = "SELECT key, value FROM meta WHERE key LIKE 'audit_end/%'";

pub(super) const DIRECTORY: &str = "SELECT version, doc FROM directory WHERE id = 1";
pub(super) const DIRECTORY_VERSION: &str = "SELECT version FROM directory WHERE id = 1";
/// Touches no row when another wrote a version in between.
pub(super) const DIRECTORY_PUT: &str = concat!(
    "INSERT INTO directory (",
    columns!(directory),
    ") VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE SET version = excluded.version, doc = excluded.doc ",
    "WHERE directory.version = excluded.version - 1"
);

pub(super) const DUE_WAKES: &str = "SELECT id, patient_id FROM visits WHERE wake_at_us <= $1 ORDER BY wake_at_us LIMIT $2";
pub(super) const NEXT_WAKE: &str = "SELECT MIN(wake_at_us) FROM visits WHERE wake_at_us IS NOT NULL";
pub(super) const OPEN_VISITS: &str = "SELECT id FROM visits WHERE is_open AND id > $1 ORDER BY id LIMIT $2";
pub(super) const OPEN_BY_STATUS: &str = "SELECT status, COUNT(*) FROM visits WHERE is_open GROUP BY status";
pub(super) const ROOMS: &str = "SELECT id FROM visits WHERE room_id IS NOT NULL AND id > $1 ORDER BY id LIMIT $2";
/// Rooms that stand, and those whose visit was written since.
macro_rules! recent_rooms {
    ($since:literal) => {
        concat!("FROM visits WHERE room_id IS NOT NULL AND (is_open OR updated_us >= ", $since, ")")
    };
}
/// Visits that are over since before a time, the longest first, after one of them. A wake-up that an older program noted says that one goes on.
pub(super) const OVER_VISITS: &str = "SELECT over_us, id FROM visits WHERE over_us < $1 AND (over_us, id) > ($2, $3) AND wake_at_us IS NULL \
                                      ORDER BY over_us, id LIMIT $4";
/// How many of them there are.
pub(super) const OVER_VISITS_COUNT: &str = "SELECT COUNT(*) FROM visits WHERE over_us < $1";
/// Visits of which nobody noted yet whether they are over, of those that were made before one.
pub(super) const UNNOTED_VISITS: &str =
    "SELECT id FROM visits WHERE id > $1 AND id < $2 AND over_us IS NULL AND wake_at_us IS NULL ORDER BY id LIMIT $3";
pub(super) const RECENT_ROOMS: &str = concat!("SELECT id ", recent_rooms!("$3"), " AND id > $1 ORDER BY id LIMIT $2");
pub(super) const RECENT_ROOMS_COUNT: &str = concat!("SELECT COUNT(*) ", recent_rooms!("$1"));
pub(super) const ROOM: &str = "SELECT id FROM visits WHERE room_id = $1";

pub(super) const OUTBOX_PENDING: &str =
    concat!("SELECT ", columns!(outbox), " FROM outbox WHERE parked_reason IS NULL AND seq > $1 ORDER BY seq LIMIT $2");
pub(super) const OUTBOX_PARKED: &str =
    concat!("SELECT ", columns!(outbox), " FROM outbox WHERE parked_reason IS NOT NULL AND seq > $1 ORDER BY seq LIMIT $2");
pub(super) const OUTBOX_PARK: &str = "UPDATE outbox SET parked_reason = $2 WHERE seq = $1";
pub(super) const OUTBOX_COUNT: &str = "SELECT COUNT(*) FROM outbox WHERE parked_reason IS NULL";
pub(super) const OUTBOX_COUNT_PARKED: &str = "SELECT COUNT(*) FROM outbox WHERE parked_reason IS NOT NULL";
pub(super) const OUTBOX_OLDEST: &str = "SELECT time_us FROM outbox WHERE parked_reason IS NULL ORDER BY seq LIMIT 1";

pub(super) const AUDIT_PAGE: &str = concat!("SELECT ", columns!(audit), " FROM audit WHERE id > $1 ORDER BY id LIMIT $2");
/// The first row of a room, and those from before rows said for whom their room was made, by its id; the others by that.
pub(super) const AUDIT_OF_ROOM: &str = concat!(
    "SELECT ",
    columns!(audit),
    " FROM audit WHERE room_id = $3 AND (made_for IS NULL OR room_version = 1) AND id > $1 UNION ALL SELECT ",
    columns!(audit),
    " FROM audit WHERE made_for IN (SELECT f.made_for FROM audit f WHERE f.room_id = $3 AND (f.made_for IS NULL OR f.room_version = 1)) ",
    "AND room_id = $3 AND room_version <> 1 AND id > $1 ORDER BY id LIMIT $2"
);
/// Rows that are no change of a room, after a time and a row.
pub(super) const AUDIT_OTHERS: &str = concat!(
    "SELECT ",
    columns!(audit),
    " FROM audit WHERE room_version IS NULL AND (at_us, id) > ($1, $2) AND at_us < $3 ORDER BY at_us, id LIMIT $4"
);
/// How far so many rows lead, and how many there are: the trail is read in steps, and no statement lasts.
pub(super) const AUDIT_STEP: &str = "SELECT MAX(id), COUNT(*) FROM (SELECT id FROM audit WHERE id > $1 ORDER BY id LIMIT $2) AS step";
/// Changes of rooms within a step and a span of time, without what they say.
pub(super) const AUDIT_MARKS: &str = "SELECT id, at_us, kind, room_id FROM audit \
                                      WHERE id > $1 AND id <= $2 AND at_us >= $3 AND at_us < $4 AND room_version IS NOT NULL";
/// Changes of rooms within a step and a span of time.
pub(super) const AUDIT_CHANGES: &str =
    concat!("SELECT ", columns!(audit), " FROM audit WHERE id > $1 AND id <= $2 AND at_us >= $3 AND at_us < $4 AND room_version IS NOT NULL");
/// What each chain has within a step and a span of time: the first row, the last, and how many.
pub(super) const AUDIT_STRETCHES: &str = "SELECT id & 1023, MIN(id), MAX(id), COUNT(*) FROM audit \
                                          WHERE id > $1 AND id <= $2 AND at_us >= $3 AND at_us < $4 GROUP BY id & 1023";
/// The next row of a chain. It may look at every row behind it: only for a chain in which many are missing.
pub(super) const AUDIT_NEXT_OF_CHAIN: &str = "SELECT MIN(id) FROM audit WHERE id > $1 AND (id & 1023) = $2";

pub(super) const JOURNAL_COUNTS: &str =
    "SELECT feed, disposition, COUNT(*) FROM journal WHERE id >= $1 GROUP BY feed, disposition ORDER BY feed, disposition";
pub(super) const JOURNAL_MESSAGE: &str = concat!("SELECT ", columns!(journal), " FROM journal WHERE id = $1");
/// Without an index of its own: it is asked by people, and seldom.
pub(super) const MERGE_MESSAGES: &str = concat!(
    "SELECT ",
    columns!(journal),
    " FROM journal WHERE id > $1 AND disposition = 0 AND trigger_event IN ",
    "('A18', 'A30', 'A34', 'A35', 'A36', 'A39', 'A40', 'A41', 'A42', 'A46', 'A47', 'A48') ORDER BY id LIMIT $2"
);

pub(super) const QUARANTINE_PAGE: &str =
    concat!("SELECT ", columns!(quarantine), " FROM quarantine WHERE journal_id > $1 ORDER BY journal_id LIMIT $2");
pub(super) const QUARANTINE_COUNT: &str = "SELECT COUNT(*) FROM quarantine";

/// Every statement here, for the test that prepares them.
#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    META,
    META_KEYS,
    META_FORGET,
    META_PUT,
    META_KEEP,
    EPOCH_PUT,
    PATIENT_KEYS,
    CHAIN_ENDS,
    DIRECTORY,
    DIRECTORY_VERSION,
    DIRECTORY_PUT,
    DUE_WAKES,
    NEXT_WAKE,
    OPEN_VISITS,
    OVER_VISITS,
    OVER_VISITS_COUNT,
    UNNOTED_VISITS,
    ROOMS,
    RECENT_ROOMS,
    RECENT_ROOMS_COUNT,
    ROOM,
    OUTBOX_PENDING,
    OUTBOX_PARKED,
    OUTBOX_PARK,
    OUTBOX_COUNT,
    OUTBOX_COUNT_PARKED,
    OUTBOX_OLDEST,
    AUDIT_PAGE,
    AUDIT_OF_ROOM,
    AUDIT_OTHERS,
    AUDIT_STEP,
    AUDIT_MARKS,
    AUDIT_CHANGES,
    AUDIT_STRETCHES,
    AUDIT_NEXT_OF_CHAIN,
    JOURNAL_COUNTS,
    JOURNAL_MESSAGE,
    MERGE_MESSAGES,
    QUARANTINE_PAGE,
    QUARANTINE_COUNT,
];
