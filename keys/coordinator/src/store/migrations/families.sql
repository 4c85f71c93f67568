-- The children of a key, and the keys that have no parent, a page at a time in the order in which they were made.
CREATE INDEX keys_by_family ON keys (parent, issued_at, serial);
