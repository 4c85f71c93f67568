-- Domains of tenants' own that lead to tunnels. Any tenant may have asked for one; whose it is was shown by a TXT record
-- with the token, and one at a time has it.
CREATE TABLE domains (
    domain        TEXT NOT NULL,
    tenant        TEXT NOT NULL REFERENCES tenants (id),
    tunnel        TEXT NOT NULL REFERENCES tunnels (id),
    token         TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    -- Since when it is shown to be the tenant's.
    verified_at   INTEGER,
    -- When the record was looked for last.
    checked_at    INTEGER NOT NULL DEFAULT 0,
    -- Since when the record is missing, of one that was shown.
    missing_since INTEGER,
    PRIMARY KEY (tenant, domain)
) STRICT;

CREATE UNIQUE INDEX domains_shown ON domains (domain) WHERE verified_at IS NOT NULL;
CREATE INDEX domains_due ON domains (checked_at, domain) WHERE verified_at IS NOT NULL;
CREATE INDEX domains_by_tunnel ON domains (tunnel);
