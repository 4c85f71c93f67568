-- Several keys may serve a tunnel at one relay. Relays tell anew what they have up; what is written here is a cache.
ALTER TABLE live DROP CONSTRAINT live_pkey;
ALTER TABLE live ADD PRIMARY KEY (relay, tunnel, serial);
