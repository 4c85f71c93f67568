-- Epochs begin again with an era.
ALTER TABLE followers ADD COLUMN era BIGINT NOT NULL DEFAULT 0;

-- A request that one coordinator took is refused by the others also after the server crashed, but for its last moments.
ALTER TABLE proofs SET LOGGED;
