-- What was counted at the moment it happened, so that a recount has something to be held against: messages by feed (`message/FEED`) and the hour of
-- their id, events put into the outbox (`event`) and those the broker confirmed (`confirmed`), by the daemon's number.

CREATE TABLE tally (
    what TEXT NOT NULL,
    lane BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (what, lane, hour)
);

INSERT INTO tally (what, lane, hour, n)
SELECT 'message/' || feed, 0, id / 3686400000000, COUNT(*) FROM journal GROUP BY feed, id / 3686400000000;

INSERT INTO tally (what, lane, hour, n)
SELECT 'event', 0, 0, COUNT(*) FROM audit WHERE kind LIKE 'room.%';

INSERT INTO tally (what, lane, hour, n)
SELECT 'confirmed', 0, 0, (SELECT COUNT(*) FROM audit WHERE kind LIKE 'room.%') - (SELECT COUNT(*) FROM outbox);

-- Dispositions are counted from the tally now; nothing reads this index any more.
DROP INDEX ix_journal_ledger;
