-- Who somebody is at another provider. Issuer and subject name one person for ever; the address is for showing.
CREATE TABLE identities (
    id           TEXT NOT NULL PRIMARY KEY,
    account      TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    provider     TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    email        TEXT,
    linked_at    INTEGER NOT NULL,
    last_used_at INTEGER,
    UNIQUE (issuer, subject)
) STRICT;
CREATE INDEX identities_by_account ON identities (account, linked_at, id);

-- Who is at a provider at this moment. State and cookie are kept as hashes; nonce and verifier never leave this side
-- before the provider has answered. A link is for an account and a session of it, a terminal has its challenge.
CREATE TABLE sign_ins (
    state      BLOB NOT NULL PRIMARY KEY,
    cookie     BLOB NOT NULL,
    provider   TEXT NOT NULL,
    nonce      TEXT NOT NULL,
    verifier   TEXT NOT NULL,
    session    TEXT REFERENCES sessions (id) ON DELETE CASCADE,
    challenge  BLOB,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sign_ins_by_end ON sign_ins (expires_at, state);
CREATE INDEX sign_ins_by_session ON sign_ins (session);

-- Codes that people carry from the browser to the terminal whose challenge it is.
CREATE TABLE sign_in_codes (
    hash       BLOB NOT NULL PRIMARY KEY,
    challenge  BLOB NOT NULL,
    account    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sign_in_codes_by_account ON sign_in_codes (account);
CREATE INDEX sign_in_codes_by_end ON sign_in_codes (expires_at);
