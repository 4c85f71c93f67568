-- What visitors of a tunnel have to pass. A tunnel without a row in either table is open.
CREATE TABLE basic_gates (
    tunnel     TEXT NOT NULL PRIMARY KEY REFERENCES tunnels (id),
    username   TEXT NOT NULL,
    hash       TEXT NOT NULL,
    generation INTEGER NOT NULL,
    -- The key whose children have set it; none if the owner has.
    family     BLOB
) STRICT;

-- Domains and addresses are words with a blank between them.
CREATE TABLE oidc_gates (
    tunnel          TEXT NOT NULL PRIMARY KEY REFERENCES tunnels (id),
    provider        TEXT NOT NULL,
    allowed_domains TEXT NOT NULL,
    allowed_emails  TEXT NOT NULL
) STRICT;

-- The epoch in which a tunnel was closed by its owner. Relays that were away then are told for as long as they may
-- still serve it.
CREATE TABLE closings (
    tunnel TEXT NOT NULL PRIMARY KEY,
    epoch  INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT;
CREATE INDEX closings_by_time ON closings (at);

ALTER TABLE tenants ADD COLUMN trial_ends_at INTEGER;
