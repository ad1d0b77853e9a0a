-- In the clear stand only keyed hashes, statuses, times and counters. Every `doc`, `body` and `raw` is sealed, every key is wrapped.
-- Times are microseconds since 1970. Ids are given by the caller and grow with time, so that tables grow at their end.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE journal (
    id BIGINT NOT NULL PRIMARY KEY,
    feed TEXT NOT NULL,
    received_us BIGINT NOT NULL,
    dedupe BYTEA,
    control BYTEA,
    trigger_event TEXT,
    disposition SMALLINT NOT NULL,
    reason TEXT,
    duplicate_of BIGINT,
    ack_code TEXT,
    patient_id BIGINT,
    raw BYTEA NOT NULL
);

-- Invariant: one message that is not a duplicate per dedupe hash. `2` is the disposition `duplicate`.
CREATE UNIQUE INDEX ux_journal_dedupe ON journal (dedupe) WHERE dedupe IS NOT NULL AND disposition <> 2;
CREATE INDEX ix_journal_ledger ON journal (feed, disposition);

CREATE TABLE patients (
    id BIGINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    data_key BYTEA NOT NULL,
    absorbed_into BIGINT,
    doc BYTEA NOT NULL
);

CREATE TABLE visits (
    id BIGINT NOT NULL PRIMARY KEY,
    patient_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    is_open BOOLEAN NOT NULL,
    wake_at_us BIGINT,
    room_id UUID,
    room_version BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    doc BYTEA NOT NULL
);

CREATE INDEX ix_visits_patient ON visits (patient_id, is_open);
CREATE INDEX ix_visits_open ON visits (id) WHERE is_open;
CREATE INDEX ix_visits_wake ON visits (wake_at_us) WHERE wake_at_us IS NOT NULL;
CREATE UNIQUE INDEX ux_visits_room ON visits (room_id) WHERE room_id IS NOT NULL;

CREATE TABLE look_ups (
    hash BYTEA NOT NULL,
    target BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    PRIMARY KEY (hash, target)
);

CREATE TABLE facts (
    owner BIGINT NOT NULL,
    recorded_us BIGINT NOT NULL,
    sent_us BIGINT NOT NULL,
    arrival BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    body BYTEA NOT NULL
);

-- Facts of one owner are read together and sorted in memory; this one index also keeps a fact from standing twice.
CREATE UNIQUE INDEX ux_facts_owner ON facts (owner, hash);

CREATE TABLE outbox (
    seq BIGINT NOT NULL PRIMARY KEY,
    room_id UUID NOT NULL,
    room_version BIGINT NOT NULL,
    event_id UUID NOT NULL,
    event_type TEXT NOT NULL,
    facility TEXT NOT NULL,
    traceparent TEXT,
    time_us BIGINT NOT NULL,
    parked_reason TEXT,
    body BYTEA NOT NULL
);

-- Small, so that the depth can be counted without reading the bodies.
CREATE INDEX ix_outbox_pending ON outbox (seq) WHERE parked_reason IS NULL;
CREATE INDEX ix_outbox_parked ON outbox (seq) WHERE parked_reason IS NOT NULL;

CREATE TABLE audit (
    id BIGINT NOT NULL PRIMARY KEY,
    at_us BIGINT NOT NULL,
    kind TEXT NOT NULL,
    room_id UUID,
    room_version BIGINT,
    journal_id BIGINT,
    chain BYTEA NOT NULL,
    body BYTEA NOT NULL
);

CREATE INDEX ix_audit_room ON audit (room_id) WHERE room_id IS NOT NULL;

CREATE TABLE quarantine (
    journal_id BIGINT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    patient_hash BYTEA,
    visit_hash BYTEA,
    state TEXT NOT NULL
);

CREATE INDEX ix_quarantine_patient ON quarantine (patient_hash) WHERE patient_hash IS NOT NULL;
CREATE INDEX ix_quarantine_visit ON quarantine (visit_hash) WHERE visit_hash IS NOT NULL;

-- What messages said of staff and units, as one document; there is at most one row.
CREATE TABLE directory (
    id BIGINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    doc BYTEA NOT NULL
);

-- Sealed values do not compress, so PostgreSQL need not try.
ALTER TABLE journal ALTER COLUMN raw SET STORAGE EXTERNAL;
ALTER TABLE patients ALTER COLUMN doc SET STORAGE EXTERNAL;
ALTER TABLE visits ALTER COLUMN doc SET STORAGE EXTERNAL;
ALTER TABLE facts ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE outbox ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE audit ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE directory ALTER COLUMN doc SET STORAGE EXTERNAL;

-- Rows that are written again and again find room on their own page, and their indexes stay as they are.
ALTER TABLE patients SET (fillfactor = 80);
ALTER TABLE visits SET (fillfactor = 70);
