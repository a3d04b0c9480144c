-- Custom volumes, their snapshots, and where backups go.
CREATE TABLE volumes (
	id           INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	pool_id      INTEGER NOT NULL REFERENCES pools (id),
	name         TEXT NOT NULL,
	status       TEXT NOT NULL,
	content_type TEXT NOT NULL,
	description  TEXT NOT NULL,
	config       TEXT NOT NULL,
	created      INTEGER NOT NULL,
	UNIQUE (pool_id, name)
);
CREATE TABLE volume_snapshots (
	id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	volume_id   INTEGER NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
	name        TEXT NOT NULL,
	status      TEXT NOT NULL,
	description TEXT NOT NULL,
	config      TEXT NOT NULL,
	created     INTEGER NOT NULL,
	expires     INTEGER NOT NULL,
	UNIQUE (volume_id, name)
);
-- Archives that clients asked for: of an instance or of a volume. Nothing is
-- written for them before they are read, but a hidden snapshot.
CREATE TABLE backups (
	id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	instance_id INTEGER REFERENCES instances (id) ON DELETE CASCADE,
	volume_id   INTEGER REFERENCES volumes (id) ON DELETE CASCADE,
	name        TEXT NOT NULL,
	status      TEXT NOT NULL,
	options     TEXT NOT NULL, -- A JSON object.
	created     INTEGER NOT NULL,
	expires     INTEGER NOT NULL,
	UNIQUE (instance_id, name),
	UNIQUE (volume_id, name)
);
CREATE TABLE repositories (
	id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	name        TEXT NOT NULL UNIQUE,
	description TEXT NOT NULL,
	config      TEXT NOT NULL,
	created     INTEGER NOT NULL
);
-- What this host remembers of backups that it made, beside what the
-- repository has.
CREATE TABLE repository_backups (
	repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
	backup        TEXT NOT NULL,
	added         INTEGER NOT NULL, -- Bytes.
	PRIMARY KEY (repository_id, backup)
);
-- When what is done by the clock was last done.
CREATE TABLE schedules (
	what TEXT PRIMARY KEY NOT NULL,
	done INTEGER NOT NULL
);
