-- What a person had proved when it began: a sign-in at a provider may rest on a proof of long ago.
-- The sign-in is to prove once more who has the session.
ALTER TABLE sign_ins ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
-- When the identity behind a code, and the person who signed a device in, last proved who they are.
ALTER TABLE sign_in_codes ADD COLUMN proven_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN proven_at INTEGER;
