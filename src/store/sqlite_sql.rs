//! The statements of SQLite alone: those that read take lists as JSON, those that write are for one row.

use crate::store::sql::columns;

/// A list of ids, bound as JSON text.
macro_rules! ids {
    () => {
        "(SELECT value FROM json_each($1))"
    };
}
/// A list of hashes, bound as JSON text of hexadecimal strings.
macro_rules! hashes {
    () => {
        "(SELECT unhex(value) FROM json_each($1))"
    };
}

pub(super) const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";
pub(super) const CHECKPOINT_ALL: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
pub(super) const KNOWN: &str = concat!(
    "SELECT dedupe, id, received_us, disposition, ack_code FROM journal WHERE dedupe IS NOT NULL AND disposition <> 2 AND dedupe IN ",
    hashes!()
);
pub(super) const LOOK_UPS: &str = concat!("SELECT ", columns!(look_ups), " FROM look_ups WHERE hash IN ", hashes!());
/// A look-up that leads to several rows may be told of twice.
pub(super) const LOOK_UPS_PAGE: &str = "SELECT hash FROM look_ups WHERE hash > ?1 ORDER BY hash LIMIT ?2";
pub(super) const VISITS: &str = concat!("SELECT ", columns!(visits), " FROM visits WHERE id IN ", ids!());
pub(super) const VISITS_OPEN: &str = concat!("SELECT ", columns!(visits), " FROM visits WHERE is_open AND patient_id IN ", ids!());
pub(super) const PATIENTS: &str = concat!(
    "WITH RECURSIVE wanted (id) AS (SELECT value FROM json_each($1) UNION ",
    "SELECT p.absorbed_into FROM wanted w JOIN patients p ON p.id = w.id WHERE p.absorbed_into IS NOT NULL) SELECT ",
    columns!(patients),
    " FROM patients WHERE id IN (SELECT id FROM wanted)"
);
pub(super) const KEYS: &str = concat!("SELECT id, data_key FROM patients WHERE id IN ", ids!());
pub(super) const FACTS: &str = concat!("SELECT ", columns!(facts), " FROM facts WHERE owner IN ", ids!());
pub(super) const FACTS_KNOWN: &str = "SELECT f.owner, f.hash FROM json_each($1) o JOIN json_each($2) h ON h.key = o.key \
                                      JOIN facts f ON f.owner = o.value AND f.hash = unhex(h.value)";
pub(super) const QUARANTINE_BY_HASHES: &str = concat!(
    "SELECT ",
    columns!(quarantine),
    " FROM quarantine WHERE patient_hash IN ",
    hashes!(),
    " OR visit_hash IN ",
    hashes!(),
    " ORDER BY journal_id"
);

pub(super) const PATIENT_VERSION: &str = "SELECT version FROM patients WHERE id = ?1";
pub(super) const VISIT_VERSION: &str = "SELECT version, patient_id, is_open, wake_at_us, room_id FROM visits WHERE id = ?1";
pub(super) const LOOK_UP_THERE: &str = "SELECT 1 FROM look_ups WHERE hash = ?1";
pub(super) const DEDUPE_RELEASE: &str = "UPDATE journal SET dedupe = NULL WHERE id = ?1";
pub(super) const JOURNAL: &str = concat!("INSERT INTO journal (", columns!(journal), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
/// Of one that is in quarantine: whoever ends a message second has planned with what stands no more.
pub(super) const JOURNAL_SETTLE: &str = "UPDATE journal SET disposition = ?2, reason = ?3 WHERE id = ?1 AND disposition = 3";
pub(super) const PATIENT: &str = concat!(
    "INSERT INTO patients (",
    columns!(patients),
    ") VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET ",
    "version = excluded.version, absorbed_into = excluded.absorbed_into, doc = excluded.doc"
);
pub(super) const VISIT: &str = concat!(
    "INSERT INTO visits (",
    columns!(visits),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET patient_id = excluded.patient_id, version = excluded.version, ",
    "status = excluded.status, is_open = excluded.is_open, wake_at_us = excluded.wake_at_us, room_id = excluded.room_id, ",
    "room_version = excluded.room_version, updated_us = excluded.updated_us, doc = excluded.doc"
);
/// As `VISIT`, for rows whose indexed columns stay as they are.
pub(super) const VISIT_QUIET: &str = concat!(
    "INSERT INTO visits (",
    columns!(visits),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET version = excluded.version, status = excluded.status, ",
    "room_version = excluded.room_version, updated_us = excluded.updated_us, doc = excluded.doc"
);
pub(super) const FACT: &str = concat!("INSERT INTO facts (", columns!(facts), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING");
pub(super) const LOOK_UP: &str = concat!("INSERT INTO look_ups (", columns!(look_ups), ") VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING");
pub(super) const OUTBOX: &str = concat!("INSERT INTO outbox (", columns!(outbox), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
pub(super) const OUTBOX_SETTLE: &str = "DELETE FROM outbox WHERE seq = ?1";
pub(super) const OUTBOX_PARK: &str = "UPDATE outbox SET parked_reason = ?2 WHERE seq = ?1";
pub(super) const AUDIT: &str = concat!("INSERT INTO audit (", columns!(audit), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
pub(super) const QUARANTINE: &str = concat!(
    "INSERT INTO quarantine (",
    columns!(quarantine),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (journal_id) DO UPDATE SET ",
    "reason = excluded.reason, patient_hash = excluded.patient_hash, visit_hash = excluded.visit_hash, state = excluded.state"
);
pub(super) const QUARANTINE_LEAVE: &str = "DELETE FROM quarantine WHERE journal_id = ?1";

/// Every statement here, for the test that prepares them.
#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    KNOWN,
    LOOK_UPS,
    VISITS,
    VISITS_OPEN,
    PATIENTS,
    KEYS,
    FACTS,
    FACTS_KNOWN,
    QUARANTINE_BY_HASHES,
    PATIENT_VERSION,
    VISIT_VERSION,
    LOOK_UP_THERE,
    LOOK_UPS_PAGE,
    DEDUPE_RELEASE,
    JOURNAL,
    JOURNAL_SETTLE,
    PATIENT,
    VISIT,
    VISIT_QUIET,
    FACT,
    LOOK_UP,
    OUTBOX,
    OUTBOX_SETTLE,
    OUTBOX_PARK,
    AUDIT,
    QUARANTINE,
    QUARANTINE_LEAVE,
];
