-- Room ids are drawn at random: an index of all audit rows by room touched a page of its own for each row. Now a row also says for which visit's row the
-- room was made, and those grow with time, so that the rows of the rooms of today stand together; only the first row of a room, and those from before, are
-- found by its id.

ALTER TABLE audit ADD COLUMN IF NOT EXISTS made_for BIGINT;

DROP INDEX ix_audit_room;
CREATE INDEX ix_audit_room ON audit (room_id) WHERE room_id IS NOT NULL AND (made_for IS NULL OR room_version = 1);
CREATE INDEX ix_audit_made_for ON audit (made_for) WHERE made_for IS NOT NULL;
