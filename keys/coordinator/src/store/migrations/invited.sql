-- A sign-in at a provider may be for an invitation, whose code's hash this is.
ALTER TABLE sign_ins ADD COLUMN invitation BLOB;
