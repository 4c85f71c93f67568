-- What each list is read by, in its order, and what sweeps look for.
CREATE INDEX keys_roots ON keys (tenant, issued_at, serial) WHERE parent IS NULL;
CREATE INDEX keys_by_time ON keys (project, issued_at, serial);
CREATE INDEX keys_cascaded_by_end ON keys (not_after) WHERE cascaded_at IS NOT NULL;
CREATE INDEX projects_deleted ON projects (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX tunnels_by_name ON tunnels (name, id);
CREATE INDEX tunnels_of_project ON tunnels (project, name, id);
CREATE INDEX usage_by_project ON usage (project, at);
CREATE INDEX meters_by_time ON meters (seen_at);
CREATE INDEX leases_given_up ON leases (until) WHERE held = 0;
CREATE INDEX spend_by_month ON spend (month);
CREATE INDEX join_tokens_by_end ON join_tokens (expires_at);
CREATE INDEX join_tokens_by_user ON join_tokens (used_by);
DROP INDEX tunnels_by_project;
