-- Which relays have served which keys, by their reports: of any other key a relay is not believed what it tells of use.
CREATE TABLE served (
    serial BLOB NOT NULL,
    relay  BLOB NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (serial, relay)
) STRICT;
CREATE INDEX served_by_time ON served (at);
