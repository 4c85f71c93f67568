-- The subscription by which a coordinator has a relay: an older one says nothing any more.
ALTER TABLE followers ADD COLUMN subscription BIGINT NOT NULL DEFAULT 0;
