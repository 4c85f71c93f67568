-- Names that were given up with their project: until then they are for their last tenant alone.
CREATE TABLE kept_names (
    name   TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    until  INTEGER NOT NULL
) STRICT;

CREATE INDEX kept_names_by_tenant ON kept_names (tenant);
CREATE INDEX kept_names_due ON kept_names (until, name);
