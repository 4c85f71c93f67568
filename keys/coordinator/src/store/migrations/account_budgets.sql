-- What a member's devices may cost together in a month, in cents. Each device that stands has the same in `budgets`, by which
-- relays know it.
CREATE TABLE account_budgets (
    account TEXT NOT NULL PRIMARY KEY REFERENCES accounts (id),
    cents   INTEGER NOT NULL
) STRICT;
-- What the devices of an account have cost in a month, with what their children have; whatever its role is.
CREATE TABLE account_spend (
    account TEXT NOT NULL,
    month   INTEGER NOT NULL,
    spent   INTEGER NOT NULL,
    PRIMARY KEY (account, month)
) STRICT;
CREATE INDEX account_spend_by_month ON account_spend (month);
-- Whose budget a lease is of, beside the key's own.
ALTER TABLE leases ADD COLUMN account TEXT;
CREATE INDEX leases_by_account ON leases (account) WHERE account IS NOT NULL;

INSERT INTO account_budgets (account, cents)
SELECT k.account, min(b.cents)
FROM budgets b JOIN keys k ON k.serial = b.serial JOIN accounts a ON a.id = k.account
WHERE a.role = 'member' AND a.deleted_at IS NULL AND b.cents IS NOT NULL
GROUP BY k.account;
INSERT INTO budgets (serial, cents, told)
SELECT k.serial, g.cents, 1 FROM keys k JOIN account_budgets g ON g.account = k.account
WHERE k.revoked_at IS NULL
ON CONFLICT (serial) DO UPDATE SET cents = excluded.cents, told = 1;
INSERT INTO account_spend (account, month, spent)
SELECT k.account, s.month, CAST(sum(s.spent) AS BIGINT)
FROM spend s JOIN keys k ON k.serial = s.serial
WHERE k.account IS NOT NULL
GROUP BY k.account, s.month;
UPDATE leases SET account = (SELECT keys.account FROM keys WHERE keys.serial = leases.serial);
