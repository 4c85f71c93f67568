-- A session begins when somebody proved who they are, and lives by refresh tokens, each good once. Access and refresh
-- tokens and challenges are kept as hashes, each kind in a table and under a hash of its own.
DROP TABLE sessions;

CREATE TABLE sessions (
    id           TEXT NOT NULL PRIMARY KEY,
    account      TEXT NOT NULL REFERENCES accounts (id),
    auth_time    INTEGER NOT NULL,
    proven       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    rotations    INTEGER NOT NULL,
    address      TEXT,
    agent        TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_by_account ON sessions (account, last_used_at, id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE access_tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    session    TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX access_tokens_by_session ON access_tokens (session, expires_at);
CREATE INDEX access_tokens_by_end ON access_tokens (expires_at);

-- Spent ones stay until their session ends: using one again ends it.
CREATE TABLE refresh_tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    session    TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    spent_at   INTEGER
) STRICT;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session);

-- Who is half signed in: the second factor is due.
CREATE TABLE challenges (
    hash       BLOB NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id),
    first      TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX challenges_by_account ON challenges (account, expires_at);
CREATE INDEX challenges_by_end ON challenges (expires_at);

ALTER TABLE accounts ADD COLUMN role TEXT NOT NULL DEFAULT 'owner' CHECK (role IN ('owner', 'member'));
ALTER TABLE accounts ADD COLUMN last_login_at INTEGER;
-- The secret of the authenticator, encrypted; none while the second factor is off.
ALTER TABLE accounts ADD COLUMN totp_secret BLOB;
-- The last step of it that was used. It stays when the second factor goes, so that no code is ever good twice.
ALTER TABLE accounts ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN mfa_failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN mfa_failed_since INTEGER NOT NULL DEFAULT 0;

CREATE TABLE recovery_codes (
    hash       BLOB NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES accounts (id)
) STRICT;
CREATE INDEX recovery_codes_by_account ON recovery_codes (account);
