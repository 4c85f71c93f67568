-- What coordinators on one database tell each other. It is gone when the server crashes, as a coordinator's own
-- memory is when it does, and each of them tells it anew.

-- The relays that follow a coordinator, and how far each has come.
CREATE UNLOGGED TABLE followers (
    relay       BYTEA NOT NULL PRIMARY KEY,
    coordinator BYTEA NOT NULL,
    epoch       BIGINT NOT NULL,
    connected   BIGINT NOT NULL,
    tunnels     BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL
);
CREATE INDEX followers_by_coordinator ON followers (coordinator);

-- The tunnels that a relay says are up.
CREATE UNLOGGED TABLE live (
    relay  BYTEA NOT NULL,
    tunnel BYTEA NOT NULL,
    serial BYTEA NOT NULL,
    parent BYTEA,
    PRIMARY KEY (relay, tunnel)
);

-- Request proofs that were used.
CREATE UNLOGGED TABLE proofs (
    id    BYTEA NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX proofs_by_end ON proofs (until);
