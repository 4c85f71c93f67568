-- What relays had only said themselves.
DELETE FROM served;
