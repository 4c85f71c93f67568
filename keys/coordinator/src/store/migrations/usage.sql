-- Money is whole micro-cents, months are numbers (months since the year 0).

-- What a key may cost in a month, in cents. NULL: there is no limit any more. What was set by an owner (told) relays know
-- by the feed; of a budget that a child has from birth its certificate speaks.
CREATE TABLE budgets (
    serial BLOB NOT NULL PRIMARY KEY REFERENCES keys (serial),
    cents  INTEGER,
    told   INTEGER NOT NULL
) STRICT;
CREATE INDEX budgets_told ON budgets (serial) WHERE told = 1;

CREATE TABLE prices (
    version          INTEGER NOT NULL PRIMARY KEY,
    at               INTEGER NOT NULL,
    gib              INTEGER NOT NULL,
    million_requests INTEGER NOT NULL,
    tunnel_hour      INTEGER NOT NULL
) STRICT;

-- Processes of relays that tell usage, and the last message of each that was taken. Of one relay only the newest is
-- leased anything.
CREATE TABLE meters (
    incarnation BLOB NOT NULL PRIMARY KEY,
    relay       BLOB NOT NULL REFERENCES keys (serial),
    seq         INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    ended       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX meters_by_relay ON meters (relay);

-- The totals that were taken, so that what was told again or late counts once.
CREATE TABLE totals (
    incarnation    BLOB NOT NULL,
    serial         BLOB NOT NULL,
    month          INTEGER NOT NULL,
    run            INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    bytes_in       INTEGER NOT NULL,
    bytes_out      INTEGER NOT NULL,
    requests       INTEGER NOT NULL,
    tunnel_seconds INTEGER NOT NULL,
    PRIMARY KEY (incarnation, serial, month, run)
) STRICT;
CREATE INDEX totals_by_month ON totals (month);

-- What each key has cost in a month, with what its children have.
CREATE TABLE spend (
    serial BLOB NOT NULL,
    month  INTEGER NOT NULL,
    spent  INTEGER NOT NULL,
    PRIMARY KEY (serial, month)
) STRICT;

-- What a relay's process may spend on a key, or may have spent, without having told. What it left behind when it ended
-- is charged, until it should come back after all.
CREATE TABLE leases (
    serial        BLOB NOT NULL,
    incarnation   BLOB NOT NULL,
    held          INTEGER NOT NULL,
    until         INTEGER NOT NULL,
    charged       INTEGER NOT NULL DEFAULT 0,
    charged_month INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (serial, incarnation)
) STRICT;
CREATE INDEX leases_by_incarnation ON leases (incarnation);
CREATE INDEX leases_by_end ON leases (until) WHERE held > 0;

-- Use over time, by the hour, later by the day. The payer is the key's parent, or the key itself.
CREATE TABLE usage (
    serial         BLOB NOT NULL,
    at             INTEGER NOT NULL,
    span           INTEGER NOT NULL,
    payer          BLOB NOT NULL,
    tenant         TEXT NOT NULL,
    project        TEXT,
    bytes_in       INTEGER NOT NULL,
    bytes_out      INTEGER NOT NULL,
    requests       INTEGER NOT NULL,
    tunnel_seconds INTEGER NOT NULL,
    cost           INTEGER NOT NULL,
    PRIMARY KEY (serial, at, span)
) STRICT;
CREATE INDEX usage_by_tenant ON usage (tenant, at);
CREATE INDEX usage_by_payer ON usage (payer, at);
CREATE INDEX usage_by_span ON usage (span, at);
