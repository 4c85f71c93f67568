-- What lists and sweeps look for.
CREATE INDEX audit_by_tenant ON audit (tenant, seq);
CREATE INDEX tunnels_by_serial ON tunnels (serial);
CREATE INDEX feed_by_time ON feed (at, epoch);
