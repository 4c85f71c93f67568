-- The session whose place the new one takes, when the second factor was given.
ALTER TABLE challenges ADD COLUMN replaces TEXT;
