-- Who was asked to join, by the hash of the code that lets them.
CREATE TABLE invitations (
    id         TEXT NOT NULL PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    tenant     TEXT NOT NULL REFERENCES tenants (id),
    email      TEXT NOT NULL UNIQUE,
    role       TEXT NOT NULL CHECK (role IN ('owner', 'member')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX invitations_by_tenant ON invitations (tenant, created_at, id);
CREATE INDEX invitations_by_end ON invitations (expires_at);

-- The row of a deleted account stays, without its address and secrets, because keys and the log name it.
ALTER TABLE accounts ADD COLUMN deleted_at INTEGER;
-- When the password was last set: a link to a new one that was made before is void.
ALTER TABLE accounts ADD COLUMN password_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX accounts_by_tenant ON accounts (tenant, created_at, id);

CREATE INDEX keys_by_account ON keys (account) WHERE account IS NOT NULL;
CREATE INDEX keys_devices ON keys (tenant, issued_at, serial) WHERE kind = 'user';
