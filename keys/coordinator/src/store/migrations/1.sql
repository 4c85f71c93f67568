-- Times are whole Unix seconds. Serials, keys and hashes are raw bytes.

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: where the feed and the audit log end. Everything that extends them does so through this row, in
-- the transaction of the act itself.
CREATE TABLE head (
    one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    era        INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    feed_hash  BLOB NOT NULL,
    audit_seq  INTEGER NOT NULL,
    audit_hash BLOB NOT NULL
) STRICT;

CREATE TABLE tenants (
    id         TEXT NOT NULL PRIMARY KEY,
    plan       TEXT NOT NULL DEFAULT 'pro',
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id         TEXT NOT NULL PRIMARY KEY,
    tenant     TEXT NOT NULL REFERENCES tenants (id),
    email      TEXT NOT NULL UNIQUE,
    password   TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    hash       BLOB NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE projects (
    id         TEXT NOT NULL PRIMARY KEY,
    tenant     TEXT NOT NULL REFERENCES tenants (id),
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX projects_by_name ON projects (tenant, name) WHERE deleted_at IS NULL;

-- Every credential: people's devices, master keys, children, relays. A child carries no mark of its parent's
-- revocation: the parent's own row (cascaded_at) and the project's (deleted_at) are the truth.
CREATE TABLE keys (
    serial        BLOB NOT NULL PRIMARY KEY,
    nonce         TEXT NOT NULL UNIQUE,
    kind          TEXT NOT NULL CHECK (kind IN ('user', 'master', 'child', 'relay')),
    subject       BLOB NOT NULL UNIQUE,
    tenant        TEXT NOT NULL REFERENCES tenants (id),
    project       TEXT REFERENCES projects (id),
    account       TEXT REFERENCES accounts (id),
    parent        BLOB REFERENCES keys (serial),
    label         TEXT NOT NULL,
    hosts         TEXT NOT NULL,
    scopes        TEXT NOT NULL,
    issued_at     INTEGER NOT NULL,
    not_after     INTEGER,
    max_tunnels   INTEGER NOT NULL,
    max_staleness INTEGER NOT NULL,
    bound         INTEGER NOT NULL,
    replaces      BLOB,
    revoked_at    INTEGER,
    cascaded_at   INTEGER
) STRICT;
CREATE INDEX keys_by_parent ON keys (parent, not_after);
CREATE INDEX keys_by_tenant ON keys (tenant, issued_at, serial);
CREATE INDEX keys_by_project ON keys (project, kind);
CREATE INDEX keys_revoked ON keys (not_after) WHERE revoked_at IS NOT NULL AND cascaded_at IS NULL;
CREATE INDEX keys_cascaded ON keys (cascaded_at) WHERE cascaded_at IS NOT NULL;

-- Who owns a host label: the project that registered it first.
CREATE TABLE names (
    name       TEXT NOT NULL PRIMARY KEY,
    project    TEXT NOT NULL REFERENCES projects (id),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_project ON names (project);

CREATE TABLE tunnels (
    id         TEXT NOT NULL PRIMARY KEY,
    project    TEXT NOT NULL REFERENCES projects (id),
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    serial     BLOB NOT NULL REFERENCES keys (serial),
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX tunnels_by_project ON tunnels (project, name);

CREATE TABLE relays (
    serial     BLOB NOT NULL PRIMARY KEY REFERENCES keys (serial),
    addrs      TEXT NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;

-- A token is good for the one key that used it first.
CREATE TABLE join_tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    used_by    BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE feed (
    epoch   INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    frame   BLOB NOT NULL
) STRICT;

CREATE TABLE audit (
    seq     INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    tenant  TEXT,
    actor   TEXT NOT NULL,
    act     TEXT NOT NULL,
    subject TEXT NOT NULL,
    project TEXT,
    detail  TEXT NOT NULL,
    hash    BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_subject ON audit (subject, seq);
CREATE INDEX audit_by_project ON audit (project, seq);

CREATE TRIGGER audit_is_append_only_u BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_is_append_only_d BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
