//! The statements that only PostgreSQL understands: lists and rows as arrays.

use crate::store::sql::columns;

pub(super) const KNOWN: &str = "SELECT dedupe, id, received_us, disposition, ack_code FROM journal \
                                WHERE dedupe IS NOT NULL AND disposition <> 2 AND dedupe = ANY($1)";
pub(super) const LOOK_UPS: &str = concat!("SELECT ", columns!(look_ups), " FROM look_ups WHERE hash = ANY($1)");
pub(super) const VISITS: &str = concat!("SELECT ", columns!(visits), " FROM visits WHERE id = ANY($1)");
pub(super) const VISITS_OPEN: &str = concat!("SELECT ", columns!(visits), " FROM visits WHERE is_open AND patient_id = ANY($1)");
pub(super) const PATIENTS: &str = concat!(
    "WITH RECURSIVE wanted (id) AS (SELECT * FROM UNNEST($1::bigint[]) UNION ",
    "SELECT p.absorbed_into FROM wanted w JOIN patients p ON p.id = w.id WHERE p.absorbed_into IS NOT NULL) SELECT ",
    columns!(patients),
    " FROM patients WHERE id IN (SELECT id FROM wanted)"
);
pub(super) const KEYS: &str = "SELECT id, data_key FROM patients WHERE id = ANY($1)";
pub(super) const AUDIT_ROWS: &str = concat!("SELECT ", columns!(audit), " FROM audit WHERE id = ANY($1) ORDER BY id");
pub(super) const VISITS_OF_PATIENTS: &str = "SELECT id FROM visits WHERE patient_id = ANY($1)";
pub(super) const JOURNAL_PATIENTS: &str = "SELECT id FROM journal WHERE id = ANY($1) AND patient_id = ANY($2)";
pub(super) const FACTS: &str = concat!("SELECT ", columns!(facts), " FROM facts WHERE owner = ANY($1)");
pub(super) const FACTS_KNOWN: &str = "SELECT f.owner, f.hash FROM UNNEST($1::bigint[], $2::bytea[]) AS w (owner, hash) \
                                      JOIN facts f ON f.owner = w.owner AND f.hash = w.hash";
pub(super) const QUARANTINE_BY_HASHES: &str =
    concat!("SELECT ", columns!(quarantine), " FROM quarantine WHERE patient_hash = ANY($1) OR visit_hash = ANY($1) ORDER BY journal_id");

/// Where the keys stand that are believed to.
pub(super) const PATIENT_KEYS_ANEW: &str = "UPDATE patients SET data_key = v.anew FROM UNNEST($1::bigint[], $2::bytea[], $3::bytea[]) AS v (id, stands, anew) \
    WHERE patients.id = v.id AND patients.data_key = v.stands";
/// How many others have the store.
pub(super) const HOLDERS: &str = "SELECT COUNT(DISTINCT holder) FROM lease_holders \
    WHERE until_us > (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint AND holder <> $1";
/// What guards the epoch and the master key: whoever publishes or adds a patient shares it until the commit, whoever raises the epoch or puts another key in
/// the place of the master key has it alone. Of two numbers, as no identifier's is.
macro_rules! epoch_lock {
    () => {
        "1463898692, 1"
    };
}
pub(super) const EPOCH_LOCK: &str = concat!("SELECT pg_advisory_xact_lock(", epoch_lock!(), ")");
/// What a commit stands on, locked until it ends: patients and visits with their versions, and in between whether it is a visit; a lock for each identifier
/// that nobody knew, which is made known by one daemon at a time: the other then sees it, and plans again; and, where there is something to publish or a
/// patient to add, a share of what guards the epoch and the master key. All commits take them in this order.
pub(super) const VERSIONS: &str = concat!(
    "WITH p AS (SELECT id, version FROM patients WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE), ",
    "v AS (SELECT id, version FROM visits WHERE id = ANY($2) ORDER BY id FOR NO KEY UPDATE), ",
    "locks AS (SELECT pg_advisory_xact_lock(k) FROM (SELECT k FROM UNNEST($3::bigint[]) AS k ORDER BY k) AS sorted), ",
    "epoch AS (SELECT pg_advisory_xact_lock_shared(",
    epoch_lock!(),
    ") WHERE $4::boolean) ",
    "SELECT id, FALSE, version FROM p UNION ALL SELECT id, TRUE, version FROM v ",
    "UNION ALL SELECT 0, TRUE, COUNT(locks.*) FROM locks UNION ALL SELECT 0, TRUE, COUNT(epoch.*) FROM epoch"
);
/// The end of a chain, held until the commit, empty for a chain that has no row yet; nothing where no chain is named.
macro_rules! chain_end {
    ($key:literal) => {
        concat!(
            "INSERT INTO meta (key, value) SELECT ",
            $key,
            ", ''::bytea WHERE ",
            $key,
            " IS NOT NULL ON CONFLICT (key) DO UPDATE SET value = meta.value RETURNING value"
        )
    };
}
/// With it the epoch and the store's own key, behind the lock that guards them.
pub(super) const CHAIN_END: &str = concat!(
    "WITH chain AS (",
    chain_end!("$1::text"),
    ") SELECT (SELECT value FROM chain), (SELECT value FROM meta WHERE key = 'epoch'), (SELECT value FROM meta WHERE key = 'key/own'), FALSE"
);
pub(super) const DEDUPE_RELEASE: &str = "UPDATE journal SET dedupe = NULL WHERE id = ANY($1)";
/// A transaction of its own, which waits for no disk: a settled event that comes back after a power cut is only sent once more.
pub(super) const OUTBOX_SETTLE: &str = "WITH soon AS (SELECT set_config('synchronous_commit', 'off', true)), \
    gone AS (DELETE FROM outbox WHERE seq = ANY($1) RETURNING seq) \
    INSERT INTO tally (what, lane, hour, n) SELECT $2::text, $3::bigint, 0, COUNT(*) FROM gone, soon HAVING COUNT(*) > 0 \
    ON CONFLICT (what, lane, hour) DO UPDATE SET n = tally.n + excluded.n";
pub(super) const QUARANTINE_LEAVE: &str = "DELETE FROM quarantine WHERE journal_id = ANY($1)";

/// The parts of the holder's share, and the epoch of each: keeps what it has up to a fair share, gives the rest up, and takes what nobody holds until it has
/// that share. `$1` the work, `$2` the holder, `$3` how long, in microseconds of this database's clock.
pub(super) const LEASE: &str = "WITH clock AS (SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint AS now), \
    gone AS (DELETE FROM lease_holders WHERE work = $1 AND holder <> $2 AND until_us <= (SELECT now FROM clock)), \
    me AS (INSERT INTO lease_holders (work, holder, until_us) SELECT $1, $2, now + $3 FROM clock \
        ON CONFLICT (work, holder) DO UPDATE SET until_us = excluded.until_us), \
    others AS (SELECT COUNT(*) AS n FROM lease_holders WHERE work = $1 AND holder <> $2 AND until_us > (SELECT now FROM clock)), \
    fair AS (SELECT (COUNT(*) + (SELECT n FROM others)) / ((SELECT n FROM others) + 1) AS n FROM leases WHERE work = $1), \
    mine AS (SELECT part, ROW_NUMBER() OVER (ORDER BY part) AS place FROM leases \
        WHERE work = $1 AND holder = $2 AND until_us > (SELECT now FROM clock)), \
    free AS (SELECT part FROM leases WHERE work = $1 AND (holder IS NULL OR until_us <= (SELECT now FROM clock)) ORDER BY part \
        LIMIT GREATEST((SELECT n FROM fair) - (SELECT COUNT(*) FROM mine), 0) FOR UPDATE SKIP LOCKED), \
    next AS (SELECT part, CASE WHEN place <= (SELECT n FROM fair) THEN 0 END AS grown FROM mine UNION ALL SELECT part, 1 FROM free), \
    done AS (UPDATE leases SET holder = CASE WHEN next.grown IS NOT NULL THEN $2 END, epoch = leases.epoch + COALESCE(next.grown, 0), \
        until_us = CASE WHEN next.grown IS NOT NULL THEN (SELECT now FROM clock) + $3 ELSE 0 END \
        FROM next WHERE leases.work = $1 AND leases.part = next.part AND (leases.holder = $2 OR next.grown = 1) \
        RETURNING leases.part, leases.epoch, leases.holder) \
    SELECT part, epoch FROM done WHERE holder = $2 ORDER BY part";
pub(super) const LEASE_GIVE_UP: &str = "WITH gone AS (DELETE FROM lease_holders WHERE work = $1 AND holder = $2) \
    UPDATE leases SET holder = NULL, until_us = 0 WHERE work = $1 AND holder = $2";
/// As in `sql`, of the parts that are held, and of each so many at the most (`$3`); a room's part is in the last byte of its id, which is random. Each part is
/// looked through by itself, so that what waits for others is in nobody's way.
pub(super) const OUTBOX_PENDING_OF: &str = concat!(
    "SELECT w.* FROM UNNEST($2::smallint[]) AS p (part), LATERAL (SELECT ",
    columns!(outbox),
    " FROM outbox WHERE parked_reason IS NULL AND get_byte(uuid_send(room_id), 15) & 15 = p.part::integer ORDER BY seq LIMIT $3) AS w ",
    "ORDER BY w.seq LIMIT $1"
);
/// As in `sql`, of the parts that are held; a patient's part is in the microsecond at which its row was made.
pub(super) const DUE_WAKES_OF: &str = "SELECT id, patient_id FROM visits WHERE wake_at_us <= $1 AND ((patient_id >> 10) & 15)::smallint = ANY($3) \
                                       ORDER BY wake_at_us LIMIT $2";
pub(super) const NEXT_WAKE_OF: &str =
    "SELECT MIN(wake_at_us) FROM visits WHERE wake_at_us IS NOT NULL AND ((patient_id >> 10) & 15)::smallint = ANY($1)";

/// Of those that are in quarantine (`Disposition::Quarantined`): whoever ends a message second has planned with what stands no more.
pub(super) const JOURNAL_SETTLE: &str = "UPDATE journal SET disposition = v.disposition, reason = v.reason, by_age = v.by_age \
                                         FROM UNNEST($1::bigint[], $2::smallint[], $3::text[], $4::smallint[]) \
                                         AS v (id, disposition, reason, by_age) \
                                         WHERE journal.id = v.id AND journal.disposition = 3";
/// All rows of a commit that are only added, or put in the place of what was checked, and what is counted of them (`$47` to `$50`);
/// what came to messages and visits later is behind that. Gives back what [`CHAIN_END`] does, and whether a look-up of those that nobody knew (`$53`) leads
/// somewhere, or one of those that are known (`$54`, `$55`) somewhere else too: with locks that [`VERSIONS`] has taken, so that whoever had them before is seen.
pub(super) const ROWS: &str = concat!(
    "WITH journal_rows AS (INSERT INTO journal (",
    columns!(journal),
    ", by_age) SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::text[], $7::smallint[], $8::text[], ",
    "$9::bigint[], $10::text[], $11::bigint[], $12::bytea[], $51::smallint[])), ",
    "patient_rows AS (INSERT INTO patients (",
    columns!(patients),
    ") SELECT * FROM UNNEST($13::bigint[], $14::bigint[], $15::bytea[], $16::bigint[], $17::bytea[]) ON CONFLICT (id) DO UPDATE SET ",
    "version = excluded.version, absorbed_into = excluded.absorbed_into, doc = excluded.doc), ",
    "visit_rows AS (INSERT INTO visits (",
    columns!(visits),
    ") SELECT * FROM UNNEST($18::bigint[], $19::bigint[], $20::bigint[], $21::text[], $22::boolean[], $23::bigint[], $24::uuid[], $25::bigint[], ",
    "$26::bigint[], $27::bytea[], $52::bigint[]) ON CONFLICT (id) DO UPDATE SET patient_id = excluded.patient_id, version = excluded.version, ",
    "status = excluded.status, is_open = excluded.is_open, wake_at_us = excluded.wake_at_us, room_id = excluded.room_id, ",
    "room_version = excluded.room_version, updated_us = excluded.updated_us, doc = excluded.doc, over_us = excluded.over_us), ",
    "fact_rows AS (INSERT INTO facts (",
    columns!(facts),
    ") SELECT * FROM UNNEST($28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[], $32::bytea[], $33::bytea[]) ON CONFLICT DO NOTHING), ",
    "look_up_rows AS (INSERT INTO look_ups (",
    columns!(look_ups),
    ") SELECT * FROM UNNEST($34::bytea[], $35::bigint[], $36::smallint[]) ON CONFLICT DO NOTHING), ",
    "outbox_rows AS (INSERT INTO outbox (",
    columns!(outbox),
    ") SELECT * FROM UNNEST($37::bigint[], $38::uuid[], $39::bigint[], $40::uuid[], $41::text[], $42::text[], $43::text[], $44::bigint[], ",
    "$45::text[], $46::bytea[])), ",
    "tally_rows AS (INSERT INTO tally (what, lane, hour, n) SELECT what, $50::bigint, hour, n FROM UNNEST($47::text[], $48::bigint[], $49::bigint[]) ",
    "AS v (what, hour, n) ON CONFLICT (what, lane, hour) DO UPDATE SET n = tally.n + excluded.n), ",
    "chain AS (",
    chain_end!("$56::text"),
    ") SELECT (SELECT value FROM chain), (SELECT value FROM meta WHERE key = 'epoch'), (SELECT value FROM meta WHERE key = 'key/own'), ",
    "EXISTS (SELECT FROM look_ups WHERE hash = ANY($53)) OR EXISTS (SELECT FROM look_ups ",
    "WHERE hash = ANY($54) AND (hash, target) NOT IN (SELECT * FROM UNNEST($54::bytea[], $55::bigint[])))"
);
/// Rows at the end of a chain, and its new end.
pub(super) const AUDIT: &str = concat!(
    "WITH audit_rows AS (INSERT INTO audit (",
    columns!(audit),
    ") SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::text[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bytea[], ",
    "$9::bigint[])) UPDATE meta SET value = $11 WHERE key = $10"
);
pub(super) const QUARANTINE: &str = concat!(
    "INSERT INTO quarantine (",
    columns!(quarantine),
    ") SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::text[]) ON CONFLICT (journal_id) DO UPDATE SET ",
    "reason = excluded.reason, patient_hash = excluded.patient_hash, visit_hash = excluded.visit_hash, state = excluded.state"
);

/// All messages that left nothing in any stay, between two ids.
pub(super) const MESSAGES_BY_AGE: &str = "SELECT id, patient_id FROM journal \
    WHERE (by_age <> 0 OR disposition <> 0) AND disposition <> 3 AND id > $1 AND id < $2 ORDER BY id LIMIT $3";
pub(super) const MESSAGES_BRIEFLY: &str = "SELECT id, patient_id, trigger_event FROM journal WHERE id = ANY($1)";
pub(super) const ARRIVALS: &str = "SELECT owner, arrival FROM facts WHERE owner = ANY($1)";
pub(super) const ROOMS_THAT_WAIT: &str = "SELECT DISTINCT room_id FROM outbox WHERE room_id = ANY($1)";
pub(super) const PURGED_AMONG: &str = "SELECT id FROM purged_patients WHERE id = ANY($1)";
/// Visits with all that is only theirs, look-ups, and messages, which are counted.
pub(super) const PURGE: &str = "WITH visit_rows AS (DELETE FROM visits WHERE id = ANY($1)), \
    fact_rows AS (DELETE FROM facts WHERE owner = ANY($1)), \
    look_up_rows AS (DELETE FROM look_ups l USING UNNEST($2::bytea[], $3::bigint[]) AS v (hash, target) WHERE l.hash = v.hash AND l.target = v.target), \
    quarantine_rows AS (DELETE FROM quarantine WHERE journal_id = ANY($4)), \
    journal_rows AS (DELETE FROM journal WHERE id = ANY($4) RETURNING feed, id) \
    INSERT INTO purged_messages (feed, hour, n) SELECT feed, id / 3686400000000, COUNT(*) FROM journal_rows GROUP BY 1, 2 \
    ON CONFLICT (feed, hour) DO UPDATE SET n = purged_messages.n + excluded.n";
/// Of whom no visit is left; behind the lock on their rows, so that whoever gave them one before is seen.
pub(super) const PURGE_PATIENTS: &str =
    "DELETE FROM patients p WHERE p.id = ANY($1) AND NOT EXISTS (SELECT 1 FROM visits v WHERE v.patient_id = p.id)";
pub(super) const PURGED_PATIENTS: &str = "INSERT INTO purged_patients (id, at_us) SELECT UNNEST($1::bigint[]), $2 ON CONFLICT DO NOTHING";

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
    PATIENT_KEYS_ANEW,
    HOLDERS,
    EPOCH_LOCK,
    VERSIONS,
    CHAIN_END,
    DEDUPE_RELEASE,
    OUTBOX_SETTLE,
    QUARANTINE_LEAVE,
    LEASE,
    LEASE_GIVE_UP,
    OUTBOX_PENDING_OF,
    DUE_WAKES_OF,
    NEXT_WAKE_OF,
    JOURNAL_SETTLE,
    ROWS,
    AUDIT,
    QUARANTINE,
    MESSAGES_BY_AGE,
    MESSAGES_BRIEFLY,
    ARRIVALS,
    ROOMS_THAT_WAIT,
    PURGED_AMONG,
    PURGE,
    PURGE_PATIENTS,
    PURGED_PATIENTS,
];
