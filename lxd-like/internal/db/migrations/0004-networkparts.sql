-- What belongs to a network: forwards, load balancers, peers. The document is
-- that of the API.
CREATE TABLE network_parts (
	id         INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
	kind       TEXT NOT NULL,
	name       TEXT NOT NULL, -- For a forward the address that it listens on.
	document   TEXT NOT NULL,
	UNIQUE (network_id, kind, name)
);

-- What networks share: ACLs, address sets, zones.
CREATE TABLE network_objects (
	id       INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	kind     TEXT NOT NULL,
	name     TEXT NOT NULL,
	document TEXT NOT NULL,
	UNIQUE (kind, name)
);
