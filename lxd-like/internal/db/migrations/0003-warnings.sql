-- What administrators ought to know. One row for each thing that is wrong with
-- one object, however often it was seen.
CREATE TABLE warnings (
	id       INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	uuid     TEXT NOT NULL UNIQUE,
	type     TEXT NOT NULL,
	entity   TEXT NOT NULL, -- The path of the object in the API; empty for the server.
	severity TEXT NOT NULL,
	status   TEXT NOT NULL,
	message  TEXT NOT NULL, -- The last one.
	count    INTEGER NOT NULL,
	first    INTEGER NOT NULL,
	last     INTEGER NOT NULL,
	UNIQUE (type, entity)
);
