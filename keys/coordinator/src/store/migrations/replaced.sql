-- The session that ends when this one is first renewed.
ALTER TABLE sessions ADD COLUMN replaces TEXT;
