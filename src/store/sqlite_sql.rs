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
/// Every page, every tree, and every index against its table; at the most so many faults.
pub(super) const FILE_FAULTS: &str = "PRAGMA integrity_check(20)";
/// Whether a file is the database of something else: it has tables, and none of ours.
pub(super) const IS_FOREIGN: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name NOT LIKE '%sqlx%' AND name NOT LIKE 'sqlite_%') \
     AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'look_ups')";
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
pub(super) const AUDIT_ROWS: &str = concat!("SELECT ", columns!(audit), " FROM audit WHERE id IN ", ids!(), " ORDER BY id");
pub(super) const VISITS_OF_PATIENTS: &str = concat!("SELECT id FROM visits WHERE patient_id IN ", ids!());
pub(super) const JOURNAL_PATIENTS: &str =
    concat!("SELECT id FROM journal WHERE id IN ", ids!(), " AND patient_id IN (SELECT value FROM json_each($2))");
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
pub(super) const VISIT_VERSION: &str = "SELECT version FROM visits WHERE id = ?1";
pub(super) const LOOK_UP_THERE: &str = "SELECT 1 FROM look_ups WHERE hash = ?1";
pub(super) const DEDUPE_RELEASE: &str = "UPDATE journal SET dedupe = NULL WHERE id = ?1";
pub(super) const JOURNAL: &str =
    concat!("INSERT INTO journal (", columns!(journal), ", by_age) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
/// Of one that is in quarantine: whoever ends a message second has planned with what stands no more.
pub(super) const JOURNAL_SETTLE: &str = "UPDATE journal SET disposition = ?2, reason = ?3, by_age = ?4 WHERE id = ?1 AND disposition = 3";
/// Of a version that follows on none.
pub(super) const PATIENT_NEW: &str = concat!("INSERT INTO patients (", columns!(patients), ") VALUES (?1, ?2, ?3, ?4, ?5)");
/// Writes only where the version before stands.
pub(super) const PATIENT: &str = "UPDATE patients SET version = ?2, absorbed_into = ?4, doc = ?5 WHERE id = ?1 AND version = ?2 - 1";
/// Where the key stands that is believed to.
pub(super) const PATIENT_KEY: &str = "UPDATE patients SET data_key = ?3 WHERE id = ?1 AND data_key = ?2";
/// Of a version that follows on none.
pub(super) const VISIT_NEW: &str = concat!("INSERT INTO visits (", columns!(visits), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
/// Writes only where the version before stands and the indexed columns stay as they are: then no index is touched.
pub(super) const VISIT_QUIET: &str = "UPDATE visits SET version = ?3, status = ?4, room_version = ?8, updated_us = ?9, doc = ?10 \
                                      WHERE id = ?1 AND version = ?3 - 1 AND patient_id = ?2 AND is_open = ?5 AND wake_at_us IS ?6 AND room_id IS ?7 \
                                      AND over_us IS ?11";
/// Writes only where the version before stands and of the indexed columns the wake-up alone changes: an index of a column that is set is written, also
/// where the value stays.
pub(super) const VISIT_WAKE: &str = "UPDATE visits SET version = ?3, status = ?4, wake_at_us = ?6, room_version = ?8, updated_us = ?9, doc = ?10 \
                                     WHERE id = ?1 AND version = ?3 - 1 AND patient_id = ?2 AND is_open = ?5 AND room_id IS ?7 AND over_us IS ?11";
/// Writes only where the version before stands and the room stays.
pub(super) const VISIT_ROOM_STAYS: &str = "UPDATE visits SET patient_id = ?2, version = ?3, status = ?4, is_open = ?5, wake_at_us = ?6, \
                                           room_version = ?8, updated_us = ?9, doc = ?10, over_us = ?11 WHERE id = ?1 AND version = ?3 - 1 AND room_id IS ?7";
/// Writes only where the version before stands.
pub(super) const VISIT: &str = "UPDATE visits SET patient_id = ?2, version = ?3, status = ?4, is_open = ?5, wake_at_us = ?6, room_id = ?7, \
                                room_version = ?8, updated_us = ?9, doc = ?10, over_us = ?11 WHERE id = ?1 AND version = ?3 - 1";
pub(super) const FACT: &str = concat!("INSERT INTO facts (", columns!(facts), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING");
pub(super) const LOOK_UP: &str = concat!("INSERT INTO look_ups (", columns!(look_ups), ") VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING");
pub(super) const OUTBOX: &str = concat!("INSERT INTO outbox (", columns!(outbox), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
pub(super) const OUTBOX_SETTLE: &str = "DELETE FROM outbox WHERE seq = ?1";
pub(super) const OUTBOX_PARK: &str = "UPDATE outbox SET parked_reason = ?2 WHERE seq = ?1";
/// The end of a chain, and the epoch.
pub(super) const CHAIN_END: &str = "SELECT (SELECT value FROM meta WHERE key = ?1), (SELECT value FROM meta WHERE key = 'epoch')";
pub(super) const AUDIT: &str = concat!("INSERT INTO audit (", columns!(audit), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
pub(super) const QUARANTINE: &str = concat!(
    "INSERT INTO quarantine (",
    columns!(quarantine),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (journal_id) DO UPDATE SET ",
    "reason = excluded.reason, patient_hash = excluded.patient_hash, visit_hash = excluded.visit_hash, state = excluded.state"
);
pub(super) const QUARANTINE_LEAVE: &str = "DELETE FROM quarantine WHERE journal_id = ?1";
/// All messages that left nothing in any stay, between two ids. The index is named, since the rows around are many more than those in it.
pub(super) const MESSAGES_BY_AGE: &str = "SELECT id, patient_id FROM journal INDEXED BY ix_journal_by_age \
    WHERE (by_age <> 0 OR disposition <> 0) AND disposition <> 3 AND id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";
pub(super) const MESSAGES_BRIEFLY: &str = concat!("SELECT id, patient_id, trigger_event FROM journal WHERE id IN ", ids!());
pub(super) const ARRIVALS: &str = concat!("SELECT owner, arrival FROM facts WHERE owner IN ", ids!());
pub(super) const ROOMS_THAT_WAIT: &str = "SELECT DISTINCT room_id FROM outbox WHERE room_id IN (SELECT unhex(value) FROM json_each($1))";
pub(super) const PURGED_AMONG: &str = concat!("SELECT id FROM purged_patients WHERE id IN ", ids!());
pub(super) const PURGE_VISIT: &str = "DELETE FROM visits WHERE id = ?1";
pub(super) const PURGE_FACTS: &str = "DELETE FROM facts WHERE owner = ?1";
pub(super) const PURGE_LOOK_UP: &str = "DELETE FROM look_ups WHERE hash = ?1 AND target = ?2";
/// Of whom no visit is left.
pub(super) const PURGE_PATIENT: &str = "DELETE FROM patients WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM visits v WHERE v.patient_id = ?1)";
pub(super) const PURGED_PATIENT: &str = "INSERT INTO purged_patients (id, at_us) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
pub(super) const PURGE_MESSAGE: &str = "DELETE FROM journal WHERE id = ?1 RETURNING feed";
pub(super) const PURGED_MESSAGES: &str =
    "INSERT INTO purged_messages (feed, hour, n) VALUES (?1, ?2, ?3) ON CONFLICT (feed, hour) DO UPDATE SET n = purged_messages.n + excluded.n";
pub(super) const TALLY_ADD: &str =
    "INSERT INTO tally (what, lane, hour, n) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (what, lane, hour) DO UPDATE SET n = tally.n + excluded.n";

/// Every statement here, for the test that prepares them.
#[cfg(test)]
pub(super) const ALL: &[&str] = &[
    KNOWN,
    LOOK_UPS,
    VISITS,
    VISITS_OPEN,
    PATIENTS,
    KEYS,
    AUDIT_ROWS,
    VISITS_OF_PATIENTS,
    JOURNAL_PATIENTS,
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
    PATIENT_NEW,
    PATIENT,
    PATIENT_KEY,
    VISIT_NEW,
    VISIT_QUIET,
    VISIT_WAKE,
    VISIT_ROOM_STAYS,
    VISIT,
    FACT,
    LOOK_UP,
    OUTBOX,
    OUTBOX_SETTLE,
    OUTBOX_PARK,
    CHAIN_END,
    AUDIT,
    QUARANTINE,
    QUARANTINE_LEAVE,
    MESSAGES_BY_AGE,
    MESSAGES_BRIEFLY,
    ARRIVALS,
    ROOMS_THAT_WAIT,
    PURGED_AMONG,
    PURGE_VISIT,
    PURGE_FACTS,
    PURGE_LOOK_UP,
    PURGE_PATIENT,
    PURGED_PATIENT,
    PURGE_MESSAGE,
    PURGED_MESSAGES,
    TALLY_ADD,
];
