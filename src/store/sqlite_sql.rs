//! The statements that only SQLite understands: lists as JSON, rows as padded `VALUES`.

use std::sync::LazyLock;

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
pub(super) const KNOWN: &str = concat!(
    "SELECT dedupe, id, received_us, disposition, ack_code FROM journal WHERE dedupe IS NOT NULL AND disposition <> 2 AND dedupe IN ",
    hashes!()
);
pub(super) const LOOK_UPS: &str = concat!("SELECT ", columns!(look_ups), " FROM look_ups WHERE hash IN ", hashes!());
pub(super) const LOOK_UPS_THERE: &str = concat!("SELECT target FROM look_ups WHERE hash IN ", hashes!(), " LIMIT 1");
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

pub(super) const PATIENT_VERSIONS: &str = concat!("SELECT id, version FROM patients WHERE id IN ", ids!());
pub(super) const VISIT_VERSIONS: &str = concat!("SELECT id, version, patient_id, is_open, wake_at_us, room_id FROM visits WHERE id IN ", ids!());
pub(super) const DEDUPE_RELEASE: &str = concat!("UPDATE journal SET dedupe = NULL WHERE id IN ", ids!());
pub(super) const OUTBOX_SETTLE: &str = concat!("DELETE FROM outbox WHERE seq IN ", ids!());
pub(super) const QUARANTINE_LEAVE: &str = concat!("DELETE FROM quarantine WHERE journal_id IN ", ids!());

/// A statement that writes many rows, in some sizes, each text made once.
pub(super) struct Rows(LazyLock<[String; SIZES.len()]>);

const SIZES: [usize; 4] = [4, 16, 32, 64];

impl Rows {
    /// The smallest statement that all rows fit into, else the largest, and how many rows the statement takes.
    pub(super) fn fitting(&'static self, n_rows: usize) -> (&'static str, usize) {
        let mut sizes = self.0.iter().map(String::as_str).zip(SIZES);
        let last = sizes.next_back().unwrap_or_default();
        sizes.find(|(_, size)| n_rows <= *size).unwrap_or(last)
    }
}

/// Puts the values in the place of `@` in a statement. A row that was not bound is NULL throughout, and the statement leaves it out.
///
/// The placeholders have no numbers here: SQLite finds the name of a numbered one by going through all of them, at every binding.
fn text(statement: &str, n_columns: usize, n_rows: usize) -> String {
    let row = format!("({})", vec!["?"; n_columns].join(","));
    statement.replace('@', &format!("(VALUES {})", vec![row; n_rows].join(",")))
}

macro_rules! rows {
    ($(#[$doc:meta])* $name:ident, $n_columns:literal, $($statement:expr),+) => {
        $(#[$doc])*
        pub(super) static $name: Rows = Rows(LazyLock::new(|| SIZES.map(|n| text(concat!($($statement),+), $n_columns, n))));
    };
}

rows!(JOURNAL, 12, "INSERT INTO journal (", columns!(journal), ") SELECT * FROM @ WHERE column1 IS NOT NULL");
rows!(
    JOURNAL_SETTLE,
    3,
    "UPDATE journal SET disposition = v.column2, reason = v.column3 FROM @ AS v \
     WHERE v.column1 IS NOT NULL AND journal.id = v.column1 AND journal.disposition = 3"
);
rows!(
    PATIENT,
    5,
    "INSERT INTO patients (",
    columns!(patients),
    ") SELECT * FROM @ WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET ",
    "version = excluded.version, absorbed_into = excluded.absorbed_into, doc = excluded.doc"
);
rows!(
    VISIT,
    10,
    "INSERT INTO visits (",
    columns!(visits),
    ") SELECT * FROM @ WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET patient_id = excluded.patient_id, version = excluded.version, ",
    "status = excluded.status, is_open = excluded.is_open, wake_at_us = excluded.wake_at_us, room_id = excluded.room_id, ",
    "room_version = excluded.room_version, updated_us = excluded.updated_us, doc = excluded.doc"
);
rows!(
    /// As `VISIT`, for rows whose indexed columns stay as they are.
    VISIT_QUIET,
    10,
    "INSERT INTO visits (",
    columns!(visits),
    ") SELECT * FROM @ WHERE column1 IS NOT NULL ON CONFLICT (id) DO UPDATE SET version = excluded.version, status = excluded.status, ",
    "room_version = excluded.room_version, updated_us = excluded.updated_us, doc = excluded.doc"
);
rows!(FACT, 6, "INSERT INTO facts (", columns!(facts), ") SELECT * FROM @ WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING");
rows!(LOOK_UP, 3, "INSERT INTO look_ups (", columns!(look_ups), ") SELECT * FROM @ WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING");
rows!(OUTBOX, 10, "INSERT INTO outbox (", columns!(outbox), ") SELECT * FROM @ WHERE column1 IS NOT NULL");
rows!(AUDIT, 8, "INSERT INTO audit (", columns!(audit), ") SELECT * FROM @ WHERE column1 IS NOT NULL");
rows!(
    QUARANTINE,
    6,
    "INSERT INTO quarantine (",
    columns!(quarantine),
    ") SELECT * FROM @ WHERE column1 IS NOT NULL ON CONFLICT (journal_id) DO UPDATE SET ",
    "reason = excluded.reason, patient_hash = excluded.patient_hash, visit_hash = excluded.visit_hash, state = excluded.state"
);

/// Every statement here, for the test that prepares them.
#[cfg(test)]
pub(super) fn all() -> Vec<&'static str> {
    let lists = [
        KNOWN,
        LOOK_UPS,
        LOOK_UPS_THERE,
        VISITS,
        VISITS_OPEN,
        PATIENTS,
        KEYS,
        FACTS,
        FACTS_KNOWN,
        QUARANTINE_BY_HASHES,
        PATIENT_VERSIONS,
        VISIT_VERSIONS,
        DEDUPE_RELEASE,
        OUTBOX_SETTLE,
        QUARANTINE_LEAVE,
    ];
    let rows = [&JOURNAL, &JOURNAL_SETTLE, &PATIENT, &VISIT, &VISIT_QUIET, &FACT, &LOOK_UP, &OUTBOX, &AUDIT, &QUARANTINE];
    lists.into_iter().chain(rows.into_iter().flat_map(|rows| SIZES.map(|n| rows.fitting(n).0))).collect()
}
