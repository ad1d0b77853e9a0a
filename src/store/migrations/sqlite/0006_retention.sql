-- What is deleted when its time is over, and what is left of it.

-- Since when nothing happens to a visit by itself any more and its rooms are over; null while that is not so, and for visits that were not written since
-- this column is there. The index changes when a stay ends and when an ended one goes on, and never with a message in between.
ALTER TABLE visits ADD COLUMN over_us INTEGER;
CREATE INDEX ix_visits_over ON visits (over_us) WHERE over_us IS NOT NULL;

-- Whether a message left nothing in any stay: it goes when it is old, and not with a stay. `3` is the disposition `quarantined`.
ALTER TABLE journal ADD COLUMN by_age INTEGER NOT NULL DEFAULT 0;
CREATE INDEX ix_journal_by_age ON journal (id) WHERE by_age <> 0 OR disposition <> 0;

-- Patients whose row, key and all, was deleted: what is still sealed under that key (the audit trail, a late message) stays closed for good.
CREATE TABLE purged_patients (
    id INTEGER NOT NULL PRIMARY KEY,
    at_us INTEGER NOT NULL
) STRICT;

-- How many messages were deleted, by feed and the hour of their id, counted in the transaction that deleted them.
CREATE TABLE purged_messages (
    feed TEXT NOT NULL,
    hour INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (feed, hour)
) STRICT, WITHOUT ROWID;
