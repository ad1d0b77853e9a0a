-- Work that several daemons on one database share out among themselves: events to publish, by room, and visits to wake, by patient. Each part has one
-- holder at a time; the epoch grows whenever a part changes hands. Times are this database's own clock, in microseconds since 1970, since those of the
-- daemons may differ.

CREATE TABLE leases (
    work TEXT NOT NULL,
    part SMALLINT NOT NULL,
    holder UUID,
    epoch BIGINT NOT NULL,
    until_us BIGINT NOT NULL,
    PRIMARY KEY (work, part)
);

INSERT INTO leases (work, part, holder, epoch, until_us)
SELECT work, part, NULL, 0, 0 FROM (VALUES ('publish'), ('wake')) AS w (work), generate_series(0, 15) AS part;

-- Who takes part, so that everybody knows what a fair share is.
CREATE TABLE lease_holders (
    work TEXT NOT NULL,
    holder UUID NOT NULL,
    until_us BIGINT NOT NULL,
    PRIMARY KEY (work, holder)
);
