-- Since when the name server of a domain that was shown has not answered.
ALTER TABLE domains ADD COLUMN unknown_since INTEGER;
