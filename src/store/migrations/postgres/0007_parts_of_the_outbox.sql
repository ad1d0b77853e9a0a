-- Each daemon publishes the rooms of its share, which are known by the last byte of their id: it finds what waits of them without going past all that waits for
-- others, which may be very much where one of them lags. The depth is counted by this index too.

CREATE INDEX IF NOT EXISTS ix_outbox_part ON outbox ((get_byte(uuid_send(room_id), 15) & 15), seq) WHERE parked_reason IS NULL;
DROP INDEX IF EXISTS ix_outbox_pending;
