-- More of what visitors have to pass, one of a kind: `pin` and `bearer` (a hash), `ip` (networks that may come and, behind a
-- bar, that may not), `end` (the second at which there is nothing any more).
CREATE TABLE tunnel_gates (
    tunnel     TEXT NOT NULL REFERENCES tunnels (id),
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    generation INTEGER NOT NULL,
    -- The key whose children have set it; none if the owner has.
    family     BLOB,
    PRIMARY KEY (tunnel, kind)
) STRICT;

ALTER TABLE oidc_gates ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE oidc_gates ADD COLUMN family BLOB;
