-- Who looked at what, and who ordered what, are few rows among very many changes of rooms: those that are no change of a room are found by their time.
-- A change of a room never touches this index.

CREATE INDEX IF NOT EXISTS ix_audit_others ON audit (at_us, id) WHERE room_version IS NULL;
