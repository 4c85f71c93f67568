-- Who made a project's master key: an account, and its device unless it was done in a browser. What was made before is in
-- the audit log.
CREATE TABLE makers (
    serial  BLOB NOT NULL PRIMARY KEY REFERENCES keys (serial),
    account TEXT REFERENCES accounts (id),
    device  BLOB REFERENCES keys (serial)
) STRICT;
CREATE INDEX makers_by_account ON makers (account);
CREATE INDEX makers_by_device ON makers (device);
INSERT INTO makers (serial, account, device)
SELECT m.serial, d.account, d.serial
FROM keys m JOIN audit a ON a.project = m.project JOIN keys d ON d.nonce = substr(a.actor, 6)
WHERE m.kind = 'master' AND a.act = 'project.create' AND a.actor LIKE 'user:%';
INSERT INTO makers (serial, account)
SELECT m.serial, o.id
FROM keys m JOIN audit a ON a.project = m.project JOIN accounts o ON o.email = substr(a.actor, 9)
WHERE m.kind = 'master' AND a.act = 'project.create' AND a.actor LIKE 'account:%';
