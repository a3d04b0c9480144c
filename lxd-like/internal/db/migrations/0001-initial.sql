-- Configurations, devices and properties are JSON objects; times are
-- nanoseconds since 1970, 0 for none. A status is "pending" from before an
-- object's resources are made until they are whole, and again from before
-- they are removed.
CREATE TABLE config (
	key   TEXT PRIMARY KEY NOT NULL,
	value TEXT NOT NULL
);
CREATE TABLE pools (
	id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	name        TEXT NOT NULL UNIQUE,
	driver      TEXT NOT NULL,
	description TEXT NOT NULL,
	config      TEXT NOT NULL,
	status      TEXT NOT NULL,
	created     INTEGER NOT NULL
);
CREATE TABLE networks (
	id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	name        TEXT NOT NULL UNIQUE,
	type        TEXT NOT NULL,
	description TEXT NOT NULL,
	config      TEXT NOT NULL,
	status      TEXT NOT NULL,
	created     INTEGER NOT NULL
);
CREATE TABLE profiles (
	id          INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	name        TEXT NOT NULL UNIQUE,
	description TEXT NOT NULL,
	config      TEXT NOT NULL,
	devices     TEXT NOT NULL
);
CREATE TABLE images (
	id           INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	fingerprint  TEXT NOT NULL UNIQUE,
	filename     TEXT NOT NULL,
	size         INTEGER NOT NULL,
	public       INTEGER NOT NULL,
	auto_update  INTEGER NOT NULL,
	cached       INTEGER NOT NULL,
	architecture TEXT NOT NULL,
	properties   TEXT NOT NULL,
	profiles     TEXT NOT NULL, -- Names, as a JSON array.
	source       TEXT NOT NULL, -- What it was built from, such as "debian:bookworm"; empty if it was not built.
	status       TEXT NOT NULL,
	created      INTEGER NOT NULL,
	expires      INTEGER NOT NULL,
	uploaded     INTEGER NOT NULL,
	last_used    INTEGER NOT NULL
);
CREATE INDEX images_source ON images (source);
CREATE TABLE image_aliases (
	name        TEXT PRIMARY KEY NOT NULL,
	image_id    INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
	description TEXT NOT NULL
);
CREATE INDEX image_aliases_image ON image_aliases (image_id);
-- The pools that hold an image's unpacked volume.
CREATE TABLE image_volumes (
	fingerprint TEXT NOT NULL,
	pool_id     INTEGER NOT NULL REFERENCES pools (id),
	status      TEXT NOT NULL,
	PRIMARY KEY (fingerprint, pool_id)
);
CREATE TABLE instances (
	id           INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	name         TEXT NOT NULL UNIQUE,
	status       TEXT NOT NULL,
	pool_id      INTEGER NOT NULL REFERENCES pools (id),
	architecture TEXT NOT NULL,
	description  TEXT NOT NULL,
	ephemeral    INTEGER NOT NULL,
	stateful     INTEGER NOT NULL,
	config       TEXT NOT NULL,
	devices      TEXT NOT NULL,
	created      INTEGER NOT NULL,
	last_used    INTEGER NOT NULL
);
CREATE TABLE instance_profiles (
	instance_id INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
	profile_id  INTEGER NOT NULL REFERENCES profiles (id),
	position    INTEGER NOT NULL,
	PRIMARY KEY (instance_id, position)
);
CREATE INDEX instance_profiles_profile ON instance_profiles (profile_id);
CREATE TABLE snapshots (
	id           INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
	instance_id  INTEGER NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
	name         TEXT NOT NULL,
	status       TEXT NOT NULL,
	architecture TEXT NOT NULL,
	description  TEXT NOT NULL,
	ephemeral    INTEGER NOT NULL,
	stateful     INTEGER NOT NULL,
	config       TEXT NOT NULL,
	devices      TEXT NOT NULL,
	profiles     TEXT NOT NULL, -- Names, as a JSON array.
	created      INTEGER NOT NULL,
	last_used    INTEGER NOT NULL,
	expires      INTEGER NOT NULL,
	UNIQUE (instance_id, name)
);
INSERT INTO profiles (name, description, config, devices) VALUES ('default', 'Default profile', '{}', '{}');
