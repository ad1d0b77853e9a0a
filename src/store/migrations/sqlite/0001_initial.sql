-- In the clear stand only keyed hashes, statuses, times and counters. Every `doc`, `body` and `raw` is sealed, every key is wrapped.
-- Times are microseconds since 1970. Ids are given by the caller and grow with time, so that tables grow at their end.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    id INTEGER NOT NULL PRIMARY KEY,
    feed TEXT NOT NULL,
    received_us INTEGER NOT NULL,
    dedupe BLOB,
    control BLOB,
    trigger_event TEXT,
    disposition INTEGER NOT NULL,
    reason TEXT,
    duplicate_of INTEGER,
    ack_code TEXT,
    patient_id INTEGER,
    raw BLOB NOT NULL
) STRICT;

-- Invariant: one message that is not a duplicate per dedupe hash. `2` is the disposition `duplicate`.
CREATE UNIQUE INDEX ux_journal_dedupe ON journal (dedupe) WHERE dedupe IS NOT NULL AND disposition <> 2;
CREATE INDEX ix_journal_ledger ON journal (feed, disposition);

CREATE TABLE patients (
    id INTEGER NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    data_key BLOB NOT NULL,
    absorbed_into INTEGER,
    doc BLOB NOT NULL
) STRICT;

CREATE TABLE visits (
    id INTEGER NOT NULL PRIMARY KEY,
    patient_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    wake_at_us INTEGER,
    room_id BLOB,
    room_version INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    doc BLOB NOT NULL
) STRICT;

CREATE INDEX ix_visits_patient ON visits (patient_id, is_open);
CREATE INDEX ix_visits_open ON visits (id) WHERE is_open;
CREATE INDEX ix_visits_wake ON visits (wake_at_us) WHERE wake_at_us IS NOT NULL;
CREATE UNIQUE INDEX ux_visits_room ON visits (room_id) WHERE room_id IS NOT NULL;

CREATE TABLE look_ups (
    hash BLOB NOT NULL,
    target INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    PRIMARY KEY (hash, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE facts (
    owner INTEGER NOT NULL,
    recorded_us INTEGER NOT NULL,
    sent_us INTEGER NOT NULL,
    arrival INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Facts of one owner are read together and sorted in memory; this one index also keeps a fact from standing twice.
CREATE UNIQUE INDEX ux_facts_owner ON facts (owner, hash);

CREATE TABLE outbox (
    seq INTEGER NOT NULL PRIMARY KEY,
    room_id BLOB NOT NULL,
    room_version INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    event_type TEXT NOT NULL,
    facility TEXT NOT NULL,
    traceparent TEXT,
    time_us INTEGER NOT NULL,
    parked_reason TEXT,
    body BLOB NOT NULL
) STRICT;

-- Small, so that the depth can be counted without reading the bodies.
CREATE INDEX ix_outbox_pending ON outbox (seq) WHERE parked_reason IS NULL;
CREATE INDEX ix_outbox_parked ON outbox (seq) WHERE parked_reason IS NOT NULL;

CREATE TABLE audit (
    id INTEGER NOT NULL PRIMARY KEY,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL,
    room_id BLOB,
    room_version INTEGER,
    journal_id INTEGER,
    chain BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX ix_audit_room ON audit (room_id) WHERE room_id IS NOT NULL;

CREATE TABLE quarantine (
    journal_id INTEGER NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    since_us INTEGER NOT NULL,
    patient_hash BLOB,
    visit_hash BLOB,
    state TEXT NOT NULL
) STRICT;

CREATE INDEX ix_quarantine_patient ON quarantine (patient_hash) WHERE patient_hash IS NOT NULL;
CREATE INDEX ix_quarantine_visit ON quarantine (visit_hash) WHERE visit_hash IS NOT NULL;

-- What messages said of staff and units, as one document; there is at most one row.
CREATE TABLE directory (
    id INTEGER NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    doc BLOB NOT NULL
) STRICT;
