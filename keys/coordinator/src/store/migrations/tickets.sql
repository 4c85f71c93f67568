-- Who may come to a private share once, by the digest of the secret that lets them. The right is the parent's at the moment
-- of use. used_by is the serial of the guest's key.
CREATE TABLE tickets (
    id         TEXT NOT NULL PRIMARY KEY,
    digest     BLOB NOT NULL UNIQUE,
    tenant     TEXT NOT NULL REFERENCES tenants (id),
    parent     BLOB NOT NULL REFERENCES keys (serial),
    project    TEXT NOT NULL REFERENCES projects (id),
    name       TEXT NOT NULL,
    ttl        INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_by    BLOB
) STRICT;
CREATE INDEX tickets_by_tenant ON tickets (tenant, created_at, id);
CREATE INDEX tickets_by_end ON tickets (expires_at);
